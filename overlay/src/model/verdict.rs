//! What becomes of a packet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use membership::id::NodeId;

use super::Reason;
use crate::name::{DomainName, EndpointName, Vni};
use crate::object::domain::Encapsulation;

/// What becomes of a packet. Frames are as they leave; a sender may fill a short one up with zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Not ours: whoever is next gets it as it is.
    Pass,
    /// To a workload's port on this host.
    Deliver {
        /// Its domain.
        domain: DomainName,
        /// The endpoint.
        endpoint: EndpointName,
        /// What it gets.
        frame: Vec<u8>,
    },
    /// Into the tunnel to a host.
    Encapsulate {
        /// The host.
        to: NodeId,
        /// Segment.
        vni: Vni,
        /// Our tunnel address.
        source: IpAddr,
        /// The other host's.
        destination: IpAddr,
        /// Of the domain.
        encapsulation: Encapsulation,
        /// The inner frame.
        frame: Vec<u8>,
    },
    /// To many of a segment.
    Flood {
        /// Segment.
        vni: Vni,
        /// Its domain.
        domain: DomainName,
        /// Endpoints of this host that get a copy.
        endpoints: BTreeSet<EndpointName>,
        /// Hosts that get a copy through the tunnel, with its ends, ours first.
        hosts: BTreeMap<NodeId, (IpAddr, IpAddr)>,
        /// Of the domain.
        encapsulation: Encapsulation,
        /// What they get.
        frame: Vec<u8>,
    },
    /// Back to the port it came from.
    Reply(Vec<u8>),
    /// Nowhere.
    Drop {
        /// Why.
        reason: Reason,
        /// The frame that tells the workload, if it is told: with the least quote that table I allows.
        error: Option<Vec<u8>>,
    },
}

impl Verdict {
    /// Dropped, and nobody is told.
    #[must_use]
    pub fn dropped(reason: Reason) -> Self {
        Self::Drop { reason, error: None }
    }
}
