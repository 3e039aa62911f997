//! What travels and is merged as one: a batch is all of one write, or all that one node lacks of a scope. Unverified on
//! the wire ([`RawFacts`], raw intents), checked as a [`Batch`].

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, Scope};
use crate::keyring::{Certify, Keyring, certified_key};
use crate::record::{Fact, Head, Intent};
use crate::signed::{Raw, Signed, SignedError};

/// Facts of one origin in one scope, and the head that they lead to: either those that follow what the receiver
/// holds, or the whole set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactBatch {
    head: Signed<Head>,
    facts: Vec<Signed<Fact>>,
}

/// Versions of objects of one scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntentBatch {
    scope: Scope,
    versions: Vec<Signed<Intent>>,
}

/// What `merge` takes: signatures are good and the parts belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batch {
    /// Of one host about itself.
    Facts(FactBatch),
    /// Of any node.
    Intents(IntentBatch),
}

/// Why received records are not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Its records can be judged only once the system scope brought its node record.
    #[error("node {0} is not known yet")]
    UnknownOrigin(NodeId),
    /// A record is ill-formed, or not signed by whom it says.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// The records do not belong together.
    #[error("a batch is inconsistent: {0}")]
    Inconsistent(&'static str),
}

/// A [`FactBatch`] as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawFacts {
    /// The head.
    pub head: Raw,
    /// The facts, ascending by seq.
    pub facts: Vec<Raw>,
}

impl FactBatch {
    /// Puts checked parts together: one origin, scope and epoch, ascending, none after the head, each chained to the
    /// one before where that one is here too.
    pub fn new(head: Signed<Head>, facts: Vec<Signed<Fact>>) -> Result<Self, BatchError> {
        let of = head.value();
        if of.floor > of.seq {
            return Err(BatchError::Inconsistent("the floor is above the head"));
        }
        let belongs = |fact: &Fact| fact.origin == of.origin && fact.scope == of.scope && fact.epoch == of.epoch;
        if !facts.iter().all(|fact| belongs(fact.value())) {
            return Err(BatchError::Inconsistent(
                "a fact is not of its head's origin, scope and epoch",
            ));
        }
        for pair in facts.windows(2) {
            check_pair(&pair[0], &pair[1])?;
        }
        let newest = facts
            .last()
            .map_or((of.seq, of.chain), |fact| (fact.value().seq, fact.digest()));
        if newest != (of.seq, of.chain) {
            return Err(BatchError::Inconsistent("the newest fact is not the head's"));
        }
        Ok(Self { head, facts })
    }

    /// What the origin signed about the result.
    #[must_use]
    pub fn head(&self) -> &Signed<Head> {
        &self.head
    }

    /// The facts, ascending by seq.
    #[must_use]
    pub fn facts(&self) -> &[Signed<Fact>] {
        &self.facts
    }

    /// As it travels.
    #[must_use]
    pub fn to_raw(&self) -> RawFacts {
        RawFacts {
            head: self.head.raw().clone(),
            facts: self.facts.iter().map(|fact| fact.raw().clone()).collect(),
        }
    }
}

fn check_pair(before: &Signed<Fact>, after: &Signed<Fact>) -> Result<(), BatchError> {
    let (seq, next) = (before.value().seq, after.value().seq);
    if next <= seq {
        return Err(BatchError::Inconsistent("facts are not ascending"));
    }
    if next == seq.saturating_add(1) && after.value().previous != before.digest() {
        return Err(BatchError::Inconsistent("facts are not chained"));
    }
    Ok(())
}

impl RawFacts {
    /// Checks signatures. An origin that is not known yet is accepted if the batch certifies it; its public key is
    /// then returned beside the batch.
    pub fn verify(self, keyring: &Keyring, certify: &dyn Certify) -> Result<(FactBatch, Option<[u8; 32]>), BatchError> {
        let origin = Signed::<Head>::trust(self.head.clone())?.value().origin;
        let mut learned = None;
        let mut known = Keyring::default();
        let key = match keyring.key(origin) {
            Some(key) => key,
            None => {
                let public = self.certified(certify).ok_or(BatchError::UnknownOrigin(origin))?;
                learned = Some(public);
                known.insert(&public);
                known.key(origin).ok_or(BatchError::UnknownOrigin(origin))?
            }
        };
        let head = Signed::verify(self.head, key)?;
        let facts = self
            .facts
            .into_iter()
            .map(|raw| Signed::verify(raw, key))
            .collect::<Result<_, _>>()?;
        Ok((FactBatch::new(head, facts)?, learned))
    }

    fn certified(&self, certify: &dyn Certify) -> Option<[u8; 32]> {
        let facts = self
            .facts
            .iter()
            .rev()
            .filter_map(|raw| Signed::<Fact>::trust(raw.clone()).ok());
        let system = facts.filter(|fact| fact.value().scope == Scope::System);
        system.into_iter().find_map(|fact| certified_key(fact.value(), certify))
    }
}

impl IntentBatch {
    /// Puts checked versions together: all of one scope, and none that claims to have seen itself.
    pub fn new(scope: Scope, versions: Vec<Signed<Intent>>) -> Result<Self, BatchError> {
        for version in &versions {
            let intent = version.value();
            if intent.scope != scope {
                return Err(BatchError::Inconsistent("a version is of another scope"));
            }
            if intent.context.contains(intent.dot) {
                return Err(BatchError::Inconsistent("a version's context contains the version"));
            }
        }
        Ok(Self { scope, versions })
    }

    /// Checks the signatures of received versions.
    pub fn verify(scope: Scope, versions: Vec<Raw>, keyring: &Keyring) -> Result<Self, BatchError> {
        let verify = |raw: Raw| {
            let writer = Signed::<Intent>::trust(raw.clone())?.value().dot.writer;
            let key = keyring.key(writer).ok_or(BatchError::UnknownOrigin(writer))?;
            Ok(Signed::verify(raw, key)?)
        };
        Self::new(
            scope,
            versions.into_iter().map(verify).collect::<Result<_, BatchError>>()?,
        )
    }

    /// Their scope.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The versions.
    #[must_use]
    pub fn versions(&self) -> &[Signed<Intent>] {
        &self.versions
    }

    /// As they travel.
    #[must_use]
    pub fn to_raw(&self) -> Vec<Raw> {
        self.versions.iter().map(|version| version.raw().clone()).collect()
    }
}

impl Batch {
    /// The scope it changes.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        match self {
            Self::Facts(batch) => &batch.head.value().scope,
            Self::Intents(batch) => &batch.scope,
        }
    }
}
