//! Which version an object has, and whether that is the one that a client asks for before it writes.

use membership::id::Scope;
use membership::record::{Digest, Intent, Key};
use membership::replica::{Replica, Siblings};
use membership::service::{Saw, WriteError};
use membership::signed::Signed;
use overlay::object::Kind;

use super::node::Node;
use super::objects::{self, rfc3339};
use crate::api::error::{ApiError, Code, Detail};
use crate::api::version::{Precondition, Version};

/// The version of an object: that of its one record, or, while several disagree, one made from all of them.
pub(super) fn of(siblings: &Siblings) -> Version {
    let mut digests: Vec<Digest> = siblings.versions().map(Signed::digest).collect();
    digests.sort_unstable();
    match &digests[..] {
        [one] => Version::of(*one),
        several => {
            let parts: Vec<&[u8]> = several.iter().map(|digest| digest.0.as_slice()).collect();
            Version::of(Digest::of(&parts))
        }
    }
}

/// The version of one record.
pub(super) fn of_record(record: &Signed<Intent>) -> Version {
    Version::of(record.digest())
}

/// The version that an object has at this moment.
pub(super) fn held(node: &Node, scope: &Scope, key: &Key) -> Option<Version> {
    node.membership.read(|replica| replica.intent(scope, key).map(of))
}

/// An object about to be written, and what the client asked to hold of it.
#[derive(Debug, Clone)]
pub(super) struct Guarded {
    pub(super) scope: Scope,
    pub(super) key: Key,
    pub(super) asked: Precondition,
    /// Says in refusals where it was written.
    pub(super) place: Detail,
}

/// What was seen of the guarded objects, for a write that is done only if it is still so; or why it is not done.
pub(super) fn check(node: &Node, guarded: &[Guarded]) -> Result<Vec<Saw>, ApiError> {
    let (saw, wrong) = node.membership.read(|replica| {
        let held: Vec<_> = guarded
            .iter()
            .map(|it| (it, replica.intent(&it.scope, &it.key)))
            .collect();
        let wrong: Vec<Guarded> = held
            .iter()
            .filter(|(it, held)| !holds(&it.asked, *held))
            .map(|(it, _)| (*it).clone())
            .collect();
        let saw = |(it, held): (&Guarded, Option<&Siblings>)| Saw {
            key: it.key.clone(),
            versions: held.map(Siblings::digest),
        };
        (held.into_iter().map(saw).collect(), wrong)
    });
    match wrong.is_empty() {
        true => Ok(saw),
        false => {
            let refusal = refusal(node, &wrong);
            let message = format!("{}; nothing was changed", refusal.message);
            Err(ApiError { message, ..refusal })
        }
    }
}

fn holds(asked: &Precondition, held: Option<&Siblings>) -> bool {
    let lives = |siblings: &Siblings| siblings.all().any(|version| version.body.is_some());
    match asked {
        Precondition::Version(versions) => held.is_some_and(|held| versions.contains(&of(held))),
        Precondition::Present => held.is_some_and(|held| held.shown().body.is_some()),
        Precondition::Absent => !held.is_some_and(lives),
    }
}

/// Why a write was not taken; what came in between its check and itself is told as the check would have.
pub(super) fn unwritten(node: &Node, error: WriteError, guarded: &[Guarded]) -> ApiError {
    match &error {
        WriteError::Changed(key) => {
            let wrong: Vec<Guarded> = guarded.iter().filter(|it| it.key == *key).cloned().collect();
            refusal(node, &wrong)
        }
        _ => error.into(),
    }
}

/// Tells of each object what is there.
fn refusal(node: &Node, wrong: &[Guarded]) -> ApiError {
    ApiError {
        code: Code::PreconditionFailed,
        message:
            "changed by somebody else: look at what is there (`fabricctl get … -o yaml`) and repeat the change on that"
                .to_owned(),
        details: wrong.iter().map(|it| detail(node, it)).collect(),
    }
}

fn detail(node: &Node, it: &Guarded) -> Detail {
    let message = node.membership.read(|replica| {
        let held = replica.intent(&it.scope, &it.key);
        told(&it.asked, held)
    });
    let current = match (&it.scope, Kind::of_key(&it.key)) {
        (Scope::Domain(domain), Some((kind, name))) => objects::find(node, kind, domain, &name),
        (Scope::Domain(_) | Scope::System, _) => None,
    };
    Detail {
        message,
        current: current.map(Box::new),
        ..it.place.clone()
    }
}

fn told(asked: &Precondition, held: Option<&Siblings>) -> String {
    let Some(held) = held else {
        return format!("it is not there; asked for was {asked}");
    };
    let shown = held.shown();
    let what = if shown.body.is_some() { "written" } else { "deleted" };
    let others = match held.all().count() {
        1 => String::new(),
        count => format!(", and {count} versions disagree (`fabricctl conflicts`)"),
    };
    format!(
        "its version is {}, {what} {} by {}{others}; asked for was {asked}",
        of(held),
        rfc3339(shown.stamp),
        shown.author
    )
}

/// Whether the versions of an object disagree.
pub(super) fn disagree(replica: &Replica, scope: &Scope, key: &Key) -> bool {
    replica.intent(scope, key).is_some_and(|held| held.all().count() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::fixture::Writer;

    #[test]
    fn who_names_one_of_several_versions_does_not_settle_the_others() {
        let (mut here, mut there) = (Writer::new(), Writer::new());
        let first = here.writes(1, Some("10.0.0.0/24"));
        there.hears(&first);
        let mine = here.writes(2, Some("10.0.1.0/24"));
        let theirs = there.writes(3, Some("10.0.2.0/24"));
        let asks = |version: Version| Precondition::Version(vec![version]);
        let alone = here.lan();
        assert_eq!(of(&alone), of_record(&mine));
        assert!(holds(&asks(of_record(&mine)), Some(&alone)));
        assert!(!holds(&asks(of_record(&first)), Some(&alone)));

        here.hears(&theirs);
        there.hears(&mine);
        let both = here.lan();
        assert_eq!(of(&both), of(&there.lan()), "it is the same on every node");
        for one in [&first, &mine, &theirs] {
            assert!(!holds(&asks(of_record(one)), Some(&both)));
        }
        assert!(holds(&asks(of(&both)), Some(&both)) && holds(&Precondition::Present, Some(&both)));
        let said = told(&asks(of_record(&mine)), Some(&both));
        assert!(
            said.contains("2 versions disagree") && said.contains(&of(&both).to_string()),
            "{said}"
        );

        let settled = here.writes(4, Some("10.0.1.0/24"));
        assert_eq!(of(&here.lan()), of_record(&settled));
        assert!(!holds(&asks(of(&both)), Some(&here.lan())));
    }

    #[test]
    fn what_is_deleted_is_absent_unless_another_version_lives() {
        let (mut here, mut there) = (Writer::new(), Writer::new());
        assert!(holds(&Precondition::Absent, None) && !holds(&Precondition::Present, None));
        let first = here.writes(1, Some("10.0.0.0/24"));
        assert!(!holds(&Precondition::Absent, Some(&here.lan())));
        there.hears(&first);
        let change = there.writes(2, Some("10.0.1.0/24"));
        let deletion = here.writes(3, None);
        let gone = here.lan();
        assert!(holds(&Precondition::Absent, Some(&gone)) && !holds(&Precondition::Present, Some(&gone)));
        assert!(holds(&Precondition::Version(vec![of_record(&deletion)]), Some(&gone)));
        assert!(told(&Precondition::Present, Some(&gone)).contains("deleted 1970-01-01T00:00:00.003Z by alice@h1"));
        here.hears(&change);
        assert!(
            !holds(&Precondition::Absent, Some(&here.lan())),
            "somebody changed it meanwhile"
        );
    }
}
