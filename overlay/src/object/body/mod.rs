//! The form of objects as bodies of records: postcard, versioned, apart from the manifest form so that neither ties
//! the other. What is read from a record is checked as what is read from a manifest. Of several versions that can say a
//! thing the lowest is written, so that nodes of the release before read all that they know of.

mod policy;
mod router;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use membership::id::Label;
use membership::record::Body;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::domain::{DefaultPolicy, Encapsulation};
use super::endpoint::{AllowedAddresses, Source};
use super::network::UnknownUnicast;
use super::{DomainSpec, EndpointSpec, Kind, NetworkSpec, Spec, SpecError};
use crate::name::{Mac, Mtu, ValueError, Vni};
use crate::prefix::Prefix;
use crate::subnet::Subnet;
use policy::PolicyV1;
use router::RouterV1;

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Written by a later release.
    #[error("format version {0} is not known to this release; upgrade this node")]
    Version(u16),
    /// Not what the version says.
    #[error("damaged: {0}")]
    Damaged(postcard::Error),
    /// Bytes behind the end.
    #[error("damaged: {0} bytes too many")]
    Trailing(usize),
    /// A value that is not valid.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// A field that is not valid.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

#[derive(Serialize, Deserialize)]
struct DomainV1 {
    description: String,
    allow: bool,
}

#[derive(Serialize, Deserialize)]
struct NetworkV1 {
    subnets: Vec<Subnet>,
    vni: Option<Vni>,
    mtu: Option<Mtu>,
}

#[derive(Serialize, Deserialize)]
struct EndpointV1 {
    network: Label,
    mac: Option<[u8; 6]>,
    addresses: Vec<IpAddr>,
    labels: BTreeMap<String, String>,
    allowed_hosts: Vec<Label>,
}

/// A domain whose tunnels are not VXLAN.
#[derive(Serialize, Deserialize)]
struct DomainV2 {
    domain: DomainV1,
    geneve: bool,
}

/// A network that floods what it does not know.
#[derive(Serialize, Deserialize)]
struct NetworkV2 {
    network: NetworkV1,
    flood: bool,
}

/// An endpoint that may send from more than its addresses.
#[derive(Serialize, Deserialize)]
struct EndpointV2 {
    endpoint: EndpointV1,
    allowed: Vec<PrefixV1>,
}

/// A prefix: an address of it, and its length.
type PrefixV1 = (IpAddr, u8);

impl Spec {
    /// The body of a record that says this.
    #[must_use]
    pub fn encode(&self) -> Body {
        match self.clone() {
            Self::Domain(spec) => match spec.encapsulation {
                Encapsulation::Vxlan => body(1, &DomainV1::from(spec)),
                Encapsulation::Geneve => body(2, &DomainV2::from(spec)),
            },
            Self::Network(spec) => match spec.unknown_unicast {
                UnknownUnicast::Drop => body(1, &NetworkV1::from(spec)),
                UnknownUnicast::Flood => body(2, &NetworkV2::from(spec)),
            },
            Self::Endpoint(spec) if spec.allowed_addresses.is_empty() => body(1, &EndpointV1::from(spec)),
            Self::Endpoint(spec) => body(2, &EndpointV2::from(spec)),
            Self::Router(spec) => body(1, &RouterV1::from(spec)),
            Self::SecurityPolicy(spec) => body(1, &PolicyV1::from(spec)),
        }
    }

    /// Reads the body of a record of this kind.
    pub fn decode(kind: Kind, body: &Body) -> Result<Self, BodyError> {
        match (kind, body.version) {
            (Kind::Domain, 1) => Ok(Self::Domain(read::<DomainV1>(body)?.try_into()?)),
            (Kind::Domain, 2) => Ok(Self::Domain(read::<DomainV2>(body)?.try_into()?)),
            (Kind::Network, 1) => Ok(Self::Network(read::<NetworkV1>(body)?.try_into()?)),
            (Kind::Network, 2) => Ok(Self::Network(read::<NetworkV2>(body)?.try_into()?)),
            (Kind::Endpoint, 1) => Ok(Self::Endpoint(read::<EndpointV1>(body)?.try_into()?)),
            (Kind::Endpoint, 2) => Ok(Self::Endpoint(read::<EndpointV2>(body)?.try_into()?)),
            (Kind::Router, 1) => Ok(Self::Router(read::<RouterV1>(body)?.try_into()?)),
            (Kind::SecurityPolicy, 1) => Ok(Self::SecurityPolicy(read::<PolicyV1>(body)?.try_into()?)),
            (_, version) => Err(BodyError::Version(version)),
        }
    }
}

fn body(version: u16, value: &impl Serialize) -> Body {
    // postcard into a vector fails only for sequences of unknown length and for values that refuse to be serialized;
    // the types above have neither.
    let bytes = postcard::to_stdvec(value).expect("types of known length serialize into memory");
    Body {
        version,
        bytes: bytes.into(),
    }
}

fn wire(prefix: &Prefix) -> PrefixV1 {
    (prefix.net().addr(), prefix.net().prefix_len())
}

fn prefix((address, length): PrefixV1) -> Result<Prefix, ValueError> {
    let net = IpNet::new(address, length).map_err(|_| ValueError::PrefixSyntax(format!("{address}/{length}")))?;
    net.try_into()
}

/// Reads a postcard value that fills the body.
pub(crate) fn read<T: DeserializeOwned>(body: &Body) -> Result<T, BodyError> {
    let (value, rest) = postcard::take_from_bytes(&body.bytes).map_err(BodyError::Damaged)?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(BodyError::Trailing(rest.len()))
    }
}

impl From<DomainSpec> for DomainV1 {
    fn from(spec: DomainSpec) -> Self {
        let DomainSpec {
            description,
            default_policy,
            encapsulation: _,
        } = spec;
        Self {
            description: description.into(),
            allow: default_policy == DefaultPolicy::Allow,
        }
    }
}

impl TryFrom<DomainV1> for DomainSpec {
    type Error = BodyError;

    fn try_from(wire: DomainV1) -> Result<Self, BodyError> {
        let default_policy = if wire.allow {
            DefaultPolicy::Allow
        } else {
            DefaultPolicy::Deny
        };
        Ok(Self {
            description: wire.description.try_into()?,
            default_policy,
            encapsulation: Encapsulation::Vxlan,
        })
    }
}

impl From<DomainSpec> for DomainV2 {
    fn from(spec: DomainSpec) -> Self {
        let geneve = spec.encapsulation == Encapsulation::Geneve;
        let domain = spec.into();
        Self { domain, geneve }
    }
}

impl TryFrom<DomainV2> for DomainSpec {
    type Error = BodyError;

    fn try_from(wire: DomainV2) -> Result<Self, BodyError> {
        let encapsulation = if wire.geneve {
            Encapsulation::Geneve
        } else {
            Encapsulation::Vxlan
        };
        Ok(Self {
            encapsulation,
            ..wire.domain.try_into()?
        })
    }
}

impl From<NetworkSpec> for NetworkV1 {
    fn from(spec: NetworkSpec) -> Self {
        Self {
            subnets: spec.subnets.into(),
            vni: spec.vni,
            mtu: spec.mtu,
        }
    }
}

impl TryFrom<NetworkV1> for NetworkSpec {
    type Error = BodyError;

    fn try_from(wire: NetworkV1) -> Result<Self, BodyError> {
        Ok(Self {
            subnets: wire.subnets.try_into()?,
            vni: wire.vni,
            mtu: wire.mtu,
            unknown_unicast: UnknownUnicast::Drop,
        })
    }
}

impl From<NetworkSpec> for NetworkV2 {
    fn from(spec: NetworkSpec) -> Self {
        let flood = spec.unknown_unicast == UnknownUnicast::Flood;
        let network = spec.into();
        Self { network, flood }
    }
}

impl TryFrom<NetworkV2> for NetworkSpec {
    type Error = BodyError;

    fn try_from(wire: NetworkV2) -> Result<Self, BodyError> {
        let unknown_unicast = match wire.flood {
            true => UnknownUnicast::Flood,
            false => UnknownUnicast::Drop,
        };
        Ok(Self {
            unknown_unicast,
            ..wire.network.try_into()?
        })
    }
}

impl From<EndpointSpec> for EndpointV1 {
    fn from(spec: EndpointSpec) -> Self {
        Self {
            network: spec.network,
            mac: spec.mac.map(Mac::octets),
            addresses: spec.addresses.into(),
            labels: spec.labels.into(),
            allowed_hosts: spec.allowed_hosts.into(),
        }
    }
}

impl TryFrom<EndpointV1> for EndpointSpec {
    type Error = BodyError;

    fn try_from(wire: EndpointV1) -> Result<Self, BodyError> {
        Ok(Self {
            network: wire.network,
            mac: wire.mac.map(Mac::try_from).transpose()?,
            addresses: wire.addresses.try_into()?,
            labels: wire.labels.try_into()?,
            allowed_addresses: AllowedAddresses::default(),
            allowed_hosts: wire.allowed_hosts.try_into()?,
        })
    }
}

impl From<EndpointSpec> for EndpointV2 {
    fn from(spec: EndpointSpec) -> Self {
        let allowed = spec.allowed_addresses.iter().map(wire).collect();
        let endpoint = spec.into();
        Self { endpoint, allowed }
    }
}

impl TryFrom<EndpointV2> for EndpointSpec {
    type Error = BodyError;

    fn try_from(wire: EndpointV2) -> Result<Self, BodyError> {
        let sources = wire.allowed.into_iter().map(|it| prefix(it).map(Source));
        Ok(Self {
            allowed_addresses: sources.collect::<Result<Vec<Source>, ValueError>>()?.try_into()?,
            ..wire.endpoint.try_into()?
        })
    }
}

#[cfg(test)]
mod tests;
