//! What hosts say of themselves in the words of networking: bodies of the facts that membership carries unread. Whether
//! a fact is believed is decided in [`crate::view`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use membership::claim::Claim;
use membership::hlc::Stamp;
use membership::record::{Body, Key};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::object::body::{self, BodyError};
use crate::subnet::unusable_address;

/// Key kind of [`Vtep`], in the system scope; its only key name per origin is [`VTEP_NAME`].
pub const VTEP_KIND: &str = "Vtep";
/// See [`VTEP_KIND`].
pub const VTEP_NAME: &str = "vtep";
/// Key kind of [`Attachment`], in the domain's scope; the key's name is the endpoint's.
pub const ATTACHMENT_KIND: &str = "Attachment";
/// Key kind of [`AddressClaim`], in the domain's scope; the key's name is `NETWORK/ADDRESS`.
pub const ADDRESS_CLAIM_KIND: &str = "AddressClaim";
/// Most move stamps that an attachment carries.
pub const MOVES_MAX: usize = 5;
/// Longest name of an interface (IFNAMSIZ less the zero).
const INTERFACE_NAME_MAX: usize = 15;
/// Version of all bodies of facts.
const VERSION: u16 = 1;

/// Why a fact's content cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FactError {
    /// Not readable.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// A path or another value that has no form as bytes.
    #[error("cannot be written: {0}")]
    Write(postcard::Error),
    /// A tunnel end nobody can send to.
    #[error("a tunnel end needs a port and an address")]
    NoTunnelEnd,
    /// Not usable as a tunnel address.
    #[error("{0} cannot be a tunnel address: {1}")]
    TunnelAddress(IpAddr, &'static str),
    /// More move stamps than are kept.
    #[error("at most {MOVES_MAX} moves are kept, not {0}")]
    Moves(usize),
    /// Not an interface's name.
    #[error("an interface's name is 1 to {INTERFACE_NAME_MAX} bytes without '/', ':' and blanks, not {0:?}")]
    Interface(String),
    /// Not absolute.
    #[error("a namespace is given by an absolute path as /run/netns/web, not {0}")]
    NamespacePath(PathBuf),
}

/// The content of a fact.
pub trait Content: Serialize + DeserializeOwned {
    /// Whether such a thing can be.
    fn check(&self) -> Result<(), FactError>;

    /// The body of a record that says this.
    fn encode(&self) -> Result<Body, FactError> {
        self.check()?;
        let bytes = postcard::to_stdvec(self).map_err(FactError::Write)?;
        Ok(Body {
            version: VERSION,
            bytes: bytes.into(),
        })
    }

    /// Reads the body of a record.
    fn decode(body: &Body) -> Result<Self, FactError> {
        if body.version != VERSION {
            return Err(BodyError::Version(body.version).into());
        }
        let content: Self = body::read(body)?;
        content.check()?;
        Ok(content)
    }
}

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

impl Vtep {
    /// The key of a host's tunnel end, in the system scope.
    #[must_use]
    pub fn key() -> Key {
        Key::new(VTEP_KIND, VTEP_NAME)
    }

    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }

    /// The addresses that a tunnel from here to the other end runs between (ours, theirs): IPv4 if both have it.
    #[must_use]
    pub fn path_to(&self, other: &Self) -> Option<(IpAddr, IpAddr)> {
        let ipv4 = self.ipv4.zip(other.ipv4).map(|(a, b)| (a.into(), b.into()));
        ipv4.or_else(|| self.ipv6.zip(other.ipv6).map(|(a, b)| (a.into(), b.into())))
    }
}

impl Content for Vtep {
    fn check(&self) -> Result<(), FactError> {
        if self.port == 0 || self.addresses().next().is_none() {
            return Err(FactError::NoTunnelEnd);
        }
        match self.addresses().find_map(|a| Some((a, unusable_address(a)?))) {
            Some((address, why)) => Err(FactError::TunnelAddress(address, why)),
            None => Ok(()),
        }
    }
}

impl Attachment {
    /// The key of an endpoint's attachment, in its domain's scope.
    #[must_use]
    pub fn key(endpoint: &crate::name::EndpointName) -> Key {
        Key::new(ATTACHMENT_KIND, endpoint.as_str())
    }
}

impl Content for Attachment {
    fn check(&self) -> Result<(), FactError> {
        if self.moves.len() > MOVES_MAX {
            return Err(FactError::Moves(self.moves.len()));
        }
        let (Binding::Interface { name } | Binding::Namespace { interface: name, .. }) = &self.binding;
        let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.len() > INTERFACE_NAME_MAX || name.contains(odd) || name == "." || name == ".." {
            return Err(FactError::Interface(name.clone()));
        }
        match &self.binding {
            Binding::Namespace { path, .. } if !path.has_root() => Err(FactError::NamespacePath(path.clone())),
            Binding::Namespace { .. } | Binding::Interface { .. } => Ok(()),
        }
    }
}

impl AddressClaim {
    /// The key of the claim of an address, in its domain's scope.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::new(ADDRESS_CLAIM_KIND, &format!("{}/{}", self.network, self.address))
    }
}

impl Content for AddressClaim {
    fn check(&self) -> Result<(), FactError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vtep(ipv4: Option<&str>, ipv6: Option<&str>) -> Vtep {
        let (ipv4, ipv6) = (ipv4.map(|a| a.parse().unwrap()), ipv6.map(|a| a.parse().unwrap()));
        Vtep {
            ipv4,
            ipv6,
            port: 4789,
            underlay_mtu: 1500,
        }
    }

    fn attachment(binding: Binding) -> Attachment {
        Attachment {
            counter: 3,
            moves: vec![Stamp { millis: 5, logical: 1 }],
            binding,
        }
    }

    #[test]
    fn what_is_said_is_read() {
        let vtep = vtep(Some("192.0.2.1"), Some("2001:db8::1"));
        assert_eq!(Vtep::decode(&vtep.encode().unwrap()), Ok(vtep));
        let namespace = Binding::Namespace {
            path: "/run/netns/web".into(),
            interface: "eth0".to_owned(),
        };
        for binding in [
            namespace,
            Binding::Interface {
                name: "tap0".to_owned(),
            },
        ] {
            let attachment = attachment(binding);
            assert_eq!(Attachment::decode(&attachment.encode().unwrap()), Ok(attachment));
        }
    }

    #[test]
    fn what_cannot_be_is_neither_said_nor_read() {
        let mut newer = vtep(Some("192.0.2.1"), None).encode().unwrap();
        newer.version = 2;
        assert_eq!(Vtep::decode(&newer), Err(FactError::Body(BodyError::Version(2))));
        assert_eq!(vtep(None, None).encode(), Err(FactError::NoTunnelEnd));
        for (v4, v6) in [
            (Some("224.0.0.1"), None),
            (Some("127.0.0.1"), None),
            (None, Some("ff02::1")),
            (None, Some("::")),
        ] {
            let said = vtep(v4, v6);
            assert!(matches!(said.encode(), Err(FactError::TunnelAddress(..))), "{said:?}");
            let bytes = postcard::to_stdvec(&said).unwrap().into();
            assert!(
                Vtep::decode(&Body {
                    version: VERSION,
                    bytes
                })
                .is_err(),
                "{said:?}"
            );
        }
        for name in ["", "..", "a/b", "a b", "sixteen-bytes-xx"] {
            let error = attachment(Binding::Interface { name: name.to_owned() }).encode();
            assert_eq!(error, Err(FactError::Interface(name.to_owned())));
        }
        let relative = Binding::Namespace {
            path: "netns/web".into(),
            interface: "eth0".to_owned(),
        };
        assert_eq!(
            attachment(relative).encode(),
            Err(FactError::NamespacePath("netns/web".into()))
        );
        let moves = vec![Stamp::default(); 6];
        let many = Attachment {
            moves,
            ..attachment(Binding::Interface {
                name: "tap0".to_owned(),
            })
        };
        assert_eq!(many.encode(), Err(FactError::Moves(6)));
    }

    #[test]
    fn a_tunnel_runs_over_ipv4_if_both_have_it() {
        let (v4, v6, both) = (
            vtep(Some("192.0.2.1"), None),
            vtep(None, Some("2001:db8::1")),
            vtep(Some("192.0.2.3"), Some("2001:db8::3")),
        );
        let path = |a: &Vtep, b: &Vtep| a.path_to(b).map(|(a, b)| format!("{a} {b}"));
        assert_eq!(path(&v4, &both).as_deref(), Some("192.0.2.1 192.0.2.3"));
        assert_eq!(path(&both, &v6).as_deref(), Some("2001:db8::3 2001:db8::1"));
        assert_eq!(path(&v4, &v6), None);
    }
}
