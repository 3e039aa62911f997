//! Which rules are in force, and what happens where none speaks.

use crate::condition::{Cause, Report};
use crate::object::Kind;
use crate::object::domain::DefaultPolicy;
use crate::ruleset::Ruleset;
use crate::view::{PolicyVersion, View};

/// The rules, unless they are more than a host holds: then nothing is let through.
pub(super) fn in_force<'a>(view: &'a View, report: &mut Report) -> (DefaultPolicy, Ruleset<'a>) {
    for (name, versions) in &view.policies {
        if versions.len() > 1 {
            report.policy(name, &Cause::PolicyConflict(versions.len()));
        }
        if versions.contains(&PolicyVersion::Unreadable) {
            report.policy(name, &Cause::PolicyUnreadable);
        }
    }
    match Ruleset::of(&view.policies) {
        Ok(ruleset) => (view.spec.default_policy, ruleset),
        Err(size) => {
            let (rules, groups) = (size.rules, size.groups);
            report.add(
                Kind::Domain,
                view.domain.as_str(),
                &Cause::TooManyRules { rules, groups },
            );
            (DefaultPolicy::Deny, Ruleset::default())
        }
    }
}
