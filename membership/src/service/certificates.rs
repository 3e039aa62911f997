//! Certificates as an operator and the owner of the peer see them: the roots, who has a certificate of which, and what is
//! left of it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::rotation::{self, Goes, RotateError};
use super::state::State;
use super::{Member, Membership, authority};
use crate::decree::root_digest;
use crate::id::NodeId;
use crate::pki::{self, Leaf};

/// The cluster's CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ca {
    /// The trusted roots, in the order in which they came: one, or two while one takes the place of the other.
    pub roots: Vec<Root>,
    /// How many members there are.
    pub members: usize,
    /// Members without a certificate of the root that issues, ascending.
    pub pending: Vec<NodeId>,
}

/// A trusted root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Its certificate (DER).
    pub certificate: Bytes,
    /// From when it is good, since 1970-01-01 UTC.
    pub not_before: Duration,
    /// Until when it is good, since 1970-01-01 UTC.
    pub not_after: Duration,
    /// Members that have a certificate of it, as far as is known here.
    pub leaves: usize,
    /// Whether certificates are made with it.
    pub issues: bool,
    /// Whether its key lies on this node.
    pub held: bool,
}

impl Membership {
    /// The CA as this node has it.
    #[must_use]
    pub fn ca(&self) -> Ca {
        ca(&self.0.state)
    }

    /// Has a root trusted beside the one that is; every node gets a certificate of it. Only an anchor can.
    pub async fn rotate_ca(&self) -> Result<(), RotateError> {
        rotation::begin(&self.0.state, &self.0.mesh).await
    }

    /// Has the former one of two roots trusted no more. Unless `force`, all members must have certificates of the latter;
    /// gives those who have not. Only an anchor can.
    pub async fn finish_ca_rotation(&self, force: bool) -> Result<Vec<NodeId>, RotateError> {
        rotation::end(&self.0.state, &self.0.mesh, Goes::Former, force).await
    }

    /// Has the latter one of two roots trusted no more: nodes get certificates of the former again; gives those who have
    /// one of the latter. Only an anchor can.
    pub async fn cancel_ca_rotation(&self) -> Result<Vec<NodeId>, RotateError> {
        rotation::end(&self.0.state, &self.0.mesh, Goes::Latter, true).await
    }

    /// Told when [`Membership::api_tls`] would answer differently: the certificate was renewed, or the roots changed.
    #[must_use]
    pub fn credentials_changed(&self) -> watch::Receiver<u64> {
        self.0.state.credentials_changed.subscribe()
    }

    /// What is left of the life of this node's certificate; zero behind its end. `now` is the time since 1970-01-01 UTC.
    #[must_use]
    pub fn certificate_left(&self, now: Duration) -> Duration {
        self.0.state.identity().leaf.not_after.saturating_sub(now)
    }
}

impl Member {
    /// What is left of the life of its certificate as far as it is known here; zero behind its end, `None` if it cannot
    /// be read. `now` is the time since 1970-01-01 UTC.
    #[must_use]
    pub fn certificate_left(&self, now: Duration) -> Option<Duration> {
        let leaf = Leaf::parse(&self.record.certificate).ok()?;
        Some(leaf.not_after.saturating_sub(now))
    }
}

pub(super) fn ca(state: &State) -> Ca {
    let roots = state.roster().standing().roots().to_vec();
    let signers = signers(state);
    let issuing = roots.last().cloned();
    let root = |certificate: &Bytes| {
        let (not_before, not_after) = pki::root_validity(certificate).unwrap_or_default();
        Root {
            certificate: certificate.clone(),
            not_before,
            not_after,
            leaves: signers
                .iter()
                .filter(|(_, root)| root.as_ref() == Some(certificate))
                .count(),
            issues: issuing.as_ref() == Some(certificate),
            held: authority::held(state, root_digest(certificate)).is_some(),
        }
    };
    Ca {
        roots: roots.iter().map(root).collect(),
        members: signers.len(),
        pending: others(&signers, issuing.as_ref()),
    }
}

/// The members without a certificate of this root.
pub(super) fn without(state: &State, root: &Bytes) -> Vec<NodeId> {
    others(&signers(state), Some(root))
}

fn others(signers: &[(NodeId, Option<Bytes>)], root: Option<&Bytes>) -> Vec<NodeId> {
    let others = signers.iter().filter(|(_, signer)| signer.as_ref() != root);
    others.map(|(node, _)| *node).collect()
}

/// All members by id, each with the root that signed its certificate, if one did that is trusted.
fn signers(state: &State) -> Vec<(NodeId, Option<Bytes>)> {
    let roots = state.trust.roots();
    let members = state.roster().members(&BTreeMap::new());
    let signer = |member: Member| (member.id, roots.signer(&member.record.certificate).cloned());
    members.into_iter().map(signer).collect()
}
