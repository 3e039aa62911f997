//! Whether objects may be written, and as what: rules between objects, checked against all objects of all domains, and
//! the values that the fabric chooses where a manifest leaves them out. A domain's part of an apply is written whole or
//! refused whole; another domain's part is not touched by that.
//!
//! What concurrent writes on two nodes break of these rules, [`crate::compile()`] settles: the older object stays.
//!
//! `fill` chooses values, `rules` and `routing` check, [`delete()`] says what goes with an object and what stands in its way.

pub mod delete;
mod fill;
pub mod refusal;
mod routing;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use membership::hlc::Stamp;
use membership::record::{BATCH_RECORDS_MAX, RECORD_MAX};

use crate::catalogue::{Catalogue, Contents};
use crate::name::DomainName;
use crate::object::{Object, Spec};
use crate::vni::{Owner, Owners};

pub use delete::{DeleteError, delete};
pub use refusal::{Refusal, Rule};

/// Largest body of an object, in bytes: what else a record holds is under a kilobyte, but for the causal context.
pub const BODY_MAX: usize = RECORD_MAX - 4096;

/// What happens to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It did not exist.
    Created,
    /// It said something else.
    Configured,
    /// It is as asked; nothing is written.
    Unchanged,
}

impl Outcome {
    /// The word that operators see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// An admitted object, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which of the objects given, from 0.
    pub index: usize,
    /// What it is to be, with the values that the fabric chose.
    pub object: Object,
    /// What that is compared with what it was.
    pub outcome: Outcome,
}

/// What an apply comes to, by domain: all changes in the order given, or all refusals.
pub type Verdicts = BTreeMap<DomainName, Result<Vec<Change>, Vec<Refusal>>>;

/// Decides about the objects of one apply. What is to be written are the changes that are not [`Outcome::Unchanged`], of
/// each domain as one batch.
#[must_use]
pub fn admit(catalogue: &Catalogue, objects: &[Object]) -> Verdicts {
    let mut parts: BTreeMap<&DomainName, Vec<(usize, &Object)>> = BTreeMap::new();
    for (index, object) in objects.iter().enumerate() {
        parts.entry(&object.domain).or_default().push((index, object));
    }
    let mut vnis = catalogue.vnis();
    let empty = Contents::default();
    let mut verdicts = Verdicts::new();
    for (domain, part) in parts {
        let before = catalogue.domain(domain).unwrap_or(&empty);
        let verdict = admit_domain(domain, before, &part, &vnis);
        if let Ok(changes) = &verdict {
            changes.iter().for_each(|change| use_vni(&mut vnis, &change.object));
        }
        verdicts.insert(domain.clone(), verdict);
    }
    verdicts
}

/// Takes note of a network's VNI, weaker than any that was agreed before.
fn use_vni(vnis: &mut Owners, object: &Object) {
    if let Spec::Network(spec) = &object.spec
        && let Some(vni) = spec.vni
    {
        let stamp = Stamp {
            millis: u64::MAX,
            logical: u32::MAX,
        };
        vnis.insert(
            vni,
            Owner {
                stamp,
                domain: object.domain.clone(),
                network: object.name.clone(),
            },
        );
    }
}

fn admit_domain(
    domain: &DomainName,
    before: &Contents,
    part: &[(usize, &Object)],
    vnis: &Owners,
) -> Result<Vec<Change>, Vec<Refusal>> {
    let refusals = repeated(part);
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let after = fill::fill(domain, before, part, vnis);
    let mut refusals = rules::check(domain, before, &after, part, vnis);
    let changes: Vec<Change> = part
        .iter()
        .filter_map(|(index, given)| change(*index, given, before, &after))
        .collect();
    let written = changes
        .iter()
        .filter(|change| change.outcome != Outcome::Unchanged)
        .count();
    if let Some((index, _)) = part.get(BATCH_RECORDS_MAX).filter(|_| written > BATCH_RECORDS_MAX) {
        refusals.push(Refusal::new(*index, "", Rule::TooMany { written }));
    }
    if refusals.is_empty() {
        Ok(changes)
    } else {
        Err(refusals)
    }
}

fn repeated(part: &[(usize, &Object)]) -> Vec<Refusal> {
    let mut seen = BTreeSet::new();
    let again = part
        .iter()
        .filter(|(_, object)| !seen.insert((object.kind(), &object.name)));
    again
        .map(|(index, _)| Refusal::new(*index, "name", Rule::Repeated))
        .collect()
}

fn change(index: usize, given: &Object, before: &Contents, after: &Contents) -> Option<Change> {
    let (kind, name) = (given.kind(), &given.name);
    let spec = after.get(kind, name)?;
    let outcome = match before.get(kind, name) {
        None => Outcome::Created,
        Some(old) if old == spec => Outcome::Unchanged,
        Some(_) => Outcome::Configured,
    };
    Some(Change {
        index,
        object: Object { spec, ..given.clone() },
        outcome,
    })
}

#[cfg(test)]
mod routing_tests;
#[cfg(test)]
mod tests;
