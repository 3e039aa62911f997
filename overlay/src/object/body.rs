//! The form of objects as bodies of records: postcard, versioned, apart from the manifest form so that neither ties
//! the other. What is read from a record is checked as what is read from a manifest.

use std::collections::BTreeMap;
use std::net::IpAddr;

use membership::id::Label;
use membership::record::Body;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::domain::{DefaultPolicy, Encapsulation};
use super::{DomainSpec, EndpointSpec, Kind, NetworkSpec, Spec, SpecError};
use crate::name::{Mac, Mtu, ValueError, Vni};
use crate::subnet::Subnet;

/// The version that is written.
pub const VERSION: u16 = 1;

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

impl Spec {
    /// The body of a record that says this.
    #[must_use]
    pub fn encode(&self) -> Body {
        match self.clone() {
            Self::Domain(spec) => body(&DomainV1::from(spec)),
            Self::Network(spec) => body(&NetworkV1::from(spec)),
            Self::Endpoint(spec) => body(&EndpointV1::from(spec)),
        }
    }

    /// Reads the body of a record of this kind.
    pub fn decode(kind: Kind, body: &Body) -> Result<Self, BodyError> {
        if body.version != VERSION {
            return Err(BodyError::Version(body.version));
        }
        match kind {
            Kind::Domain => Ok(Self::Domain(read::<DomainV1>(body)?.try_into()?)),
            Kind::Network => Ok(Self::Network(read::<NetworkV1>(body)?.try_into()?)),
            Kind::Endpoint => Ok(Self::Endpoint(read::<EndpointV1>(body)?.try_into()?)),
        }
    }
}

fn body(value: &impl Serialize) -> Body {
    // postcard into a vector fails only for sequences of unknown length and for values that refuse to be serialized;
    // the types above have neither.
    let bytes = postcard::to_stdvec(value).expect("types of known length serialize into memory");
    Body {
        version: VERSION,
        bytes: bytes.into(),
    }
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
            allowed_hosts: wire.allowed_hosts.try_into()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn endpoint() -> Spec {
        Spec::Endpoint(EndpointSpec {
            network: "lan".parse().unwrap(),
            mac: Some("02:00:00:00:00:01".parse().unwrap()),
            addresses: vec!["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()]
                .try_into()
                .unwrap(),
            labels: BTreeMap::from([("app".to_owned(), "web".to_owned())])
                .try_into()
                .unwrap(),
            allowed_hosts: vec!["fab1".parse().unwrap()].try_into().unwrap(),
        })
    }

    fn network() -> Spec {
        let subnets = vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()];
        let vni = Vni::try_from(77).ok();
        Spec::Network(NetworkSpec {
            subnets: subnets.try_into().unwrap(),
            vni,
            mtu: None,
        })
    }

    fn domain() -> Spec {
        let description = "red".to_owned().try_into().unwrap();
        Spec::Domain(DomainSpec {
            description,
            default_policy: DefaultPolicy::Allow,
            ..DomainSpec::default()
        })
    }

    #[test]
    fn what_is_written_is_read() {
        for spec in [domain(), network(), endpoint()] {
            assert_eq!(Spec::decode(spec.kind(), &spec.encode()), Ok(spec));
        }
    }

    #[test]
    fn the_bytes_of_version_1_stay() {
        let hex = |spec: &Spec| {
            spec.encode()
                .bytes
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect::<String>()
        };
        assert_eq!(hex(&domain()), "0372656401");
        assert_eq!(hex(&network()), "020b31302e302e302e302f323409666430303a3a2f3634014d00");
        assert_eq!(
            hex(&endpoint()),
            "036c616e0102000000000102000a00000501fd000000000000000000000000000005010361707003776562010466616231"
        );
    }

    #[test]
    fn the_largest_objects_fit_into_a_record() {
        let label = |n: usize| format!("{n:03}{}", "x".repeat(60));
        let labels: BTreeMap<String, String> = (0..32).map(|n| (label(n), label(n))).collect();
        let hosts: Vec<Label> = (0..64).map(|n| label(n).parse().unwrap()).collect();
        let addresses: Vec<IpAddr> = (0..16u128)
            .map(|n| IpAddr::V6(((0xfd << 120) | (n + 2)).into()))
            .collect();
        let endpoint = EndpointSpec {
            network: label(0).parse().unwrap(),
            mac: Some("02:00:00:00:00:01".parse().unwrap()),
            addresses: addresses.try_into().unwrap(),
            labels: labels.try_into().unwrap(),
            allowed_hosts: hosts.try_into().unwrap(),
        };
        let description = "\u{10000}".repeat(256).try_into().unwrap();
        let domain = DomainSpec {
            description,
            ..DomainSpec::default()
        };
        // What a record holds besides its body is under a kilobyte, but for the causal context.
        for spec in [Spec::Endpoint(endpoint), Spec::Domain(domain)] {
            assert!(
                spec.encode().bytes.len() < membership::record::RECORD_MAX - 4096,
                "{:?}",
                spec.encode()
            );
        }
    }

    #[test]
    fn what_is_cut_damaged_longer_or_newer_is_refused() {
        for spec in [domain(), network(), endpoint()] {
            let body = spec.encode();
            for length in 0..body.bytes.len() {
                let cut = Body {
                    version: VERSION,
                    bytes: body.bytes.slice(..length),
                };
                assert!(Spec::decode(spec.kind(), &cut).is_err(), "{} bytes of {spec:?}", length);
            }
            let longer = Body {
                version: VERSION,
                bytes: [&body.bytes[..], &[0]].concat().into(),
            };
            assert_eq!(Spec::decode(spec.kind(), &longer), Err(BodyError::Trailing(1)));
            let newer = Body { version: 2, ..body };
            assert_eq!(Spec::decode(spec.kind(), &newer), Err(BodyError::Version(2)));
        }
    }

    #[test]
    fn an_invalid_object_cannot_be_read() {
        let damaged = |bytes: Vec<u8>| Body {
            version: VERSION,
            bytes: Bytes::from(bytes),
        };
        let no_subnets = damaged(vec![0, 0, 0]);
        assert_eq!(
            Spec::decode(Kind::Network, &no_subnets),
            Err(BodyError::Spec(SpecError::NoSubnet))
        );
        let group_mac = postcard::to_stdvec(&EndpointV1 {
            network: "lan".parse().unwrap(),
            mac: Some([0xff; 6]),
            addresses: vec![],
            labels: BTreeMap::new(),
            allowed_hosts: vec![],
        });
        let error = Spec::decode(Kind::Endpoint, &damaged(group_mac.unwrap()));
        assert!(
            matches!(error, Err(BodyError::Value(ValueError::MacNotUnicast(_)))),
            "{error:?}"
        );
    }
}
