//! One domain as this node sees it: objects, where endpoints are, which hosts there are. Made from the replica only.

use std::collections::BTreeMap;
use std::net::IpAddr;

use membership::hlc::Stamp;
use membership::id::NodeId;

use crate::fact::{Attachment, Vtep};
use crate::name::{DomainName, EndpointName, NetworkName, Vni};
use crate::object::{DomainSpec, EndpointSpec, NetworkSpec};

/// One domain, seen from anywhere: two nodes with the same replica have the same view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Which domain.
    pub domain: DomainName,
    /// Its Domain object.
    pub spec: DomainSpec,
    /// Its networks.
    pub networks: BTreeMap<NetworkName, SeenNetwork>,
    /// Its endpoints.
    pub endpoints: BTreeMap<EndpointName, SeenEndpoint>,
    /// Every host's tunnel end.
    pub hosts: BTreeMap<NodeId, Vtep>,
}

/// A network as seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenNetwork {
    /// Its object.
    pub spec: NetworkSpec,
    /// When its shown version was written.
    pub stamp: Stamp,
    /// The older network that has its VNI, if any: this one is denied.
    pub vni_taken_by: Option<(DomainName, NetworkName, Vni)>,
}

/// An endpoint as seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenEndpoint {
    /// Its object.
    pub spec: EndpointSpec,
    /// When its shown version was written.
    pub stamp: Stamp,
    /// Addresses claimed for it and confirmed by the anchors.
    pub claimed: Vec<IpAddr>,
    /// Who says it is there; the highest counter, then the lower node id, wins.
    pub attachment: Option<(NodeId, Attachment)>,
}
