//! What hosts say of themselves in the words of networking: bodies of the facts that membership carries unread.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use membership::claim::Claim;
use membership::hlc::Stamp;
use serde::{Deserialize, Serialize};

/// Key kind of [`Vtep`], in the system scope; its only key name per origin is `vtep`.
pub const VTEP_KIND: &str = "Vtep";
/// Key kind of [`Attachment`], in the domain's scope; the key's name is the endpoint's.
pub const ATTACHMENT_KIND: &str = "Attachment";
/// Key kind of [`AddressClaim`], in the domain's scope; the key's name is `NETWORK/ADDRESS`.
pub const ADDRESS_CLAIM_KIND: &str = "AddressClaim";

/// A host's end of the tunnels (VTEP: RFC 7348 section 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vtep {
    /// Its IPv4 tunnel address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 tunnel address.
    pub ipv6: Option<Ipv6Addr>,
    /// UDP port on which it receives VXLAN.
    pub port: u16,
    /// Smallest MTU of its underlay interfaces, in bytes.
    pub underlay_mtu: u16,
}

/// Where a workload's packets enter the fabric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Binding {
    /// An interface that somebody else made, as a VM's tap.
    Interface {
        /// Its name in the host's namespace.
        name: String,
    },
    /// A veth that the node makes into a network namespace and sets up inside.
    Namespace {
        /// The namespace's file, as `/run/netns/web`.
        path: PathBuf,
        /// Name of the interface inside.
        interface: String,
    },
}

/// "This endpoint is here." The highest counter wins; `attach` alone raises it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// How often the endpoint was attached, on whatever host.
    pub counter: u64,
    /// When the last moves were, newest last, at most five.
    pub moves: Vec<Stamp>,
    /// How it is attached.
    pub binding: Binding,
}

/// "This allocated address belongs to this endpoint."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressClaim {
    /// The endpoint's network.
    pub network: String,
    /// The endpoint that has it.
    pub endpoint: String,
    /// The address.
    pub address: IpAddr,
    /// The anchors' word that this host may give it out.
    pub claim: Claim,
}

/// Labels of an endpoint.
pub type Labels = BTreeMap<String, String>;
