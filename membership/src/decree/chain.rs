//! The decrees that a node holds, from a version that it trusts to the highest that it could check. What is older than
//! the window is folded into the trusted version.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::{Sealed, Standing, encoded};
use crate::record::Digest;
use crate::wire::versions::FIRST;

/// Steps that are kept: who missed more cannot check the next one.
pub(super) const WINDOW: usize = 256;
/// Versions side by side that are followed; more than one means that a majority of anchors sealed two.
const BRANCHES_MAX: usize = 4;
/// Candidates for one version that are looked at.
const CANDIDATES_MAX: usize = 64;
/// Steps that did not check, remembered so that they are not checked again.
const REFUSED_MAX: usize = 1_024;

/// What looking at decrees came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Another version holds.
    pub changed: bool,
    /// The anchors sealed two decrees for one version: a disk of theirs was copied or restored.
    pub forked: Option<u64>,
    /// A version that is further on than anything that leads there: this one was seen, those between are missing.
    pub missing: Option<u64>,
}

/// The cluster record as a chain.
#[derive(Debug, Clone)]
pub struct Chain {
    base: Standing,
    steps: Vec<Sealed>,
    now: Standing,
    refused: BTreeSet<Digest>,
}

/// The form on disk and towards who joins, always the last thing there: software from before wire versions were decreed
/// reads it up to the steps, and what that software wrote ends there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    base: Standing,
    steps: Vec<Sealed>,
    /// The wire version at the base.
    wire: u16,
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("Kept", &["base", "steps", "wire"], KeptVisitor)
    }
}

struct KeptVisitor;

impl<'de> de::Visitor<'de> for KeptVisitor {
    type Value = Kept;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a chain of decrees")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut parts: A) -> Result<Kept, A::Error> {
        let missing = |place| move || de::Error::invalid_length(place, &Self);
        let base: Standing = parts.next_element()?.ok_or_else(missing(0))?;
        let steps = parts.next_element()?.ok_or_else(missing(1))?;
        // Nothing there is the first version: all that has another one was written with it.
        let wire = parts.next_element().ok().flatten().unwrap_or(FIRST);
        let base = base.with_wire(wire);
        Ok(Kept { base, steps, wire })
    }
}

#[derive(Debug, Clone)]
struct Branch {
    standing: Standing,
    steps: Vec<Sealed>,
}

impl Chain {
    /// Starts from a version that is trusted.
    #[must_use]
    pub fn new(base: Standing) -> Self {
        Self {
            now: base.clone(),
            base,
            steps: Vec::new(),
            refused: BTreeSet::new(),
        }
    }

    /// Reads back what `keep` gave. Steps that do not follow are left out.
    #[must_use]
    pub fn restore(kept: Kept) -> Self {
        let mut chain = Self::new(kept.base);
        chain.take(&kept.steps);
        chain
    }

    /// What is to be kept.
    #[must_use]
    pub fn keep(&self) -> Kept {
        Kept {
            base: self.base.clone(),
            steps: self.steps.clone(),
            wire: self.base.wire(),
        }
    }

    /// What holds.
    #[must_use]
    pub fn now(&self) -> &Standing {
        &self.now
    }

    /// The steps that are kept, ascending.
    #[must_use]
    pub fn steps(&self) -> &[Sealed] {
        &self.steps
    }

    /// The steps above a version.
    #[must_use]
    pub fn since(&self, version: u64) -> Vec<Sealed> {
        let later = self.steps.iter().filter(|step| step.decree.version > version);
        later.cloned().collect()
    }

    /// Looks at decrees, in whatever order, whoever hands them on. The highest version counts to which checked steps lead;
    /// of two such the one with the higher digest, so that all settle on one.
    pub fn take<'a>(&mut self, found: impl IntoIterator<Item = &'a Sealed>) -> Taken {
        let mut fresh: BTreeMap<u64, Vec<&Sealed>> = BTreeMap::new();
        for sealed in found.into_iter().filter(|sealed| self.is_fresh(sealed)) {
            let same = fresh.entry(sealed.decree.version).or_default();
            if same.len() < CANDIDATES_MAX {
                same.push(sealed);
            }
        }
        let (Some((&lowest, _)), Some((&highest, _))) = (fresh.first_key_value(), fresh.last_key_value()) else {
            return Taken::default();
        };
        let (best, forked) = self.follow(&fresh, lowest, highest);
        let missing = (highest > best.standing.version().saturating_add(1)).then_some(highest);
        let changed = best.standing.digest() != self.now.digest();
        (self.now, self.steps) = (best.standing, best.steps);
        self.fold();
        Taken {
            changed,
            forked,
            missing,
        }
    }

    /// Whether a step is none of those that are kept, and was not refused before.
    fn is_fresh(&self, sealed: &Sealed) -> bool {
        let version = sealed.decree.version;
        if version <= self.base.version() {
            return false;
        }
        let place = usize::try_from(version - self.base.version() - 1).ok();
        let held = place.and_then(|place| self.steps.get(place));
        held.is_none_or(|held| held.decree != sealed.decree) && !self.refused.contains(&name(sealed))
    }

    fn follow(&mut self, fresh: &BTreeMap<u64, Vec<&Sealed>>, lowest: u64, highest: u64) -> (Branch, Option<u64>) {
        let mut branches = vec![self.up_to(lowest.saturating_sub(1))];
        let mut forked = None;
        let mut version = branches.first().map_or(lowest, |branch| branch.standing.version());
        while version < highest.max(self.now.version()) {
            version += 1;
            let own = self.steps.iter().find(|step| step.decree.version == version).cloned();
            let known = own.is_some();
            let candidates: Vec<&Sealed> = own
                .iter()
                .chain(fresh.get(&version).into_iter().flatten().copied())
                .collect();
            let mut next: BTreeMap<Digest, Branch> = BTreeMap::new();
            for (place, candidate) in candidates.into_iter().enumerate() {
                for branch in &branches {
                    if candidate.decree.previous != branch.standing.digest() {
                        continue;
                    }
                    let checked = if known && place == 0 {
                        branch.standing.after(&candidate.decree)
                    } else {
                        branch.standing.accept(candidate)
                    };
                    match checked {
                        Ok(standing) => drop(
                            next.entry(standing.digest())
                                .or_insert_with(|| branch.with(standing, candidate)),
                        ),
                        Err(_) if self.refused.len() < REFUSED_MAX => drop(self.refused.insert(name(candidate))),
                        Err(_) => {}
                    }
                }
            }
            if next.is_empty() {
                break;
            }
            if next.len() > 1 {
                forked = Some(version);
            }
            branches = next.into_values().rev().take(BRANCHES_MAX).collect();
        }
        // There was one at the start, and only as many as there are next ones take its place.
        let best = branches.into_iter().max_by_key(|branch| branch.standing.digest());
        (best.unwrap_or_else(|| self.up_to(u64::MAX)), forked)
    }

    /// The own chain up to a version.
    fn up_to(&self, version: u64) -> Branch {
        let steps = self.steps.iter().filter(|step| step.decree.version <= version).cloned();
        if version >= self.now.version() {
            return Branch {
                standing: self.now.clone(),
                steps: steps.collect(),
            };
        }
        let mut branch = Branch {
            standing: self.base.clone(),
            steps: Vec::new(),
        };
        for step in steps {
            if let Ok(standing) = branch.standing.after(&step.decree) {
                branch = branch.with(standing, &step);
            }
        }
        branch
    }

    fn fold(&mut self) {
        while self.steps.len() > WINDOW {
            let oldest = self.steps.remove(0);
            if let Ok(base) = self.base.after(&oldest.decree) {
                self.base = base;
            }
        }
    }
}

impl Branch {
    fn with(&self, standing: Standing, step: &Sealed) -> Self {
        let mut steps = self.steps.clone();
        steps.push(step.clone());
        Self { standing, steps }
    }
}

fn name(sealed: &Sealed) -> Digest {
    Digest::of(&[&encoded(sealed)])
}
