//! Changes of interfaces in the host's own network namespace: quiet, up, down, gone.

use std::fs;
use std::io;
use std::path::PathBuf;

use membership::id::NodeId;
use overlay::name::{DomainName, EndpointName};
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use crate::error::Error;
use crate::netlink::{Kind, Link, Netlink};

/// First word of the alias of an interface that we made.
pub(crate) const ALIAS: &str = "fabric";

/// Whose interface it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner<'a> {
    pub(crate) node: NodeId,
    pub(crate) domain: &'a DomainName,
    pub(crate) endpoint: &'a EndpointName,
}

impl Owner<'_> {
    /// Name of the host side of the endpoint's veth: `fab` and 60 bits of a hash, 15 characters (IFNAMSIZ less the
    /// final zero).
    pub(crate) fn interface(&self) -> String {
        let hash = fnv1a(self.alias().as_bytes());
        let digit = |place: u32| char::from_digit((hash >> (5 * place) & 0x1f) as u32, 32).unwrap_or('0');
        "fab".chars().chain((0..12).map(digit)).collect()
    }

    /// Alias of the host side, by which an operator and a later run know it.
    pub(crate) fn alias(&self) -> String {
        format!("{ALIAS} {} {}/{}", self.node, self.domain, self.endpoint)
    }
}

/// The domain and the endpoint in the alias of an interface that `node` made.
pub(crate) fn owner_of(link: &Link, node: NodeId) -> Option<(DomainName, EndpointName)> {
    let rest = link
        .alias
        .strip_prefix(ALIAS)?
        .strip_prefix(' ')?
        .strip_prefix(node.as_str())?
        .strip_prefix(' ')?;
    let (domain, endpoint) = rest.split_once('/')?;
    Some((domain.parse().ok()?, endpoint.parse().ok()?))
}

/// The group (`IFLA_GROUP`) in which a node makes interfaces. It is set with the request that makes them, as an alias cannot
/// be: who finds one without an alias knows whose it is.
pub(crate) fn group(node: NodeId) -> u32 {
    const OURS: u32 = 0x4000_0000;
    OURS | (fnv1a(node.as_str().as_bytes()) as u32 & (OURS - 1))
}

/// Whether `node` made it and died before it was named. What is up was named before it came up, and lost its alias since: it
/// may be in use.
pub(crate) fn is_unfinished(link: &Link, node: NodeId) -> bool {
    let is_made = matches!(link.kind, Kind::Veth | Kind::Tunnel(_));
    is_made && !link.up && link.alias.is_empty() && link.group == group(node)
}

/// Whether the fabric made it, for whatever node.
pub(crate) fn is_ours(link: &Link) -> bool {
    link.alias.strip_prefix(ALIAS).is_some_and(|rest| rest.starts_with(' '))
}

/// FNV-1a, 64 bits: stable over builds, unlike the standard library's hashers.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Netlink {
    /// Takes the host's stack off an interface: no IPv6, no generated address, no ARP; and sets its MTU.
    pub(crate) async fn quiet(&self, link: &Link, mtu: u32) -> Result<(), Error> {
        set_ipv6(&link.name, "disable_ipv6", "1")?;
        let name = &link.name;
        match self
            .change(
                addr_gen_mode(link.ifindex, In6AddrGenMode::None),
                format!("quiet {name}"),
            )
            .await
        {
            // A kernel without IPv6 has nothing to generate.
            Err(e) if matches!(e.errno(), Some(nix::libc::EAFNOSUPPORT | nix::libc::EOPNOTSUPP)) => {}
            other => other?,
        }
        if !link.no_arp {
            let message = LinkUnspec::new_with_index(link.ifindex).arp(false).build();
            self.change(message, format!("switch ARP off on {name}")).await?;
        }
        if link.mtu != mtu {
            let message = LinkUnspec::new_with_index(link.ifindex).mtu(mtu).build();
            self.change(message, format!("set the MTU of {name} to {mtu}")).await?;
        }
        Ok(())
    }

    pub(crate) async fn set_alias(&self, link: &Link, alias: &str) -> Result<(), Error> {
        let message = LinkUnspec::new_with_index(link.ifindex).alias(alias).build();
        self.change(message, format!("name the owner of {}", link.name)).await
    }

    pub(crate) async fn up(&self, link: &Link) -> Result<(), Error> {
        self.change(
            LinkUnspec::new_with_index(link.ifindex).up().build(),
            format!("set {} up", link.name),
        )
        .await
    }

    pub(crate) async fn down(&self, link: &Link) -> Result<(), Error> {
        self.change(
            LinkUnspec::new_with_index(link.ifindex).down().build(),
            format!("set {} down", link.name),
        )
        .await
    }

    /// Removes an interface, and with a veth its other end. One that is gone is fine.
    pub(crate) async fn delete(&self, link: &Link) -> Result<(), Error> {
        let deleted = self.handle.link().del(link.ifindex).execute().await;
        match deleted.map_err(Error::netlink(format!("remove {}", link.name))) {
            Err(e) if e.is_gone() => Ok(()),
            other => other,
        }
    }

    pub(crate) async fn change(&self, message: LinkMessage, action: String) -> Result<(), Error> {
        self.handle
            .link()
            .change(message)
            .execute()
            .await
            .map_err(Error::netlink(action))
    }
}

pub(crate) fn addr_gen_mode(ifindex: u32, mode: In6AddrGenMode) -> LinkMessage {
    let inet6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(mode)]);
    LinkMessageBuilder::<LinkUnspec>::new()
        .index(ifindex)
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![inet6]))
        .build()
}

/// Writes an IPv6 sysctl of an interface of this thread's namespace. A kernel without IPv6 has none and needs none.
pub(crate) fn set_ipv6(interface: &str, key: &str, value: &str) -> Result<(), Error> {
    let path = PathBuf::from("/proc/sys/net/ipv6/conf").join(interface).join(key);
    if matches!(interface, "all" | "default") {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "the name stands for every interface");
        return Err(Error::file("write", path)(source));
    }
    match fs::write(&path, value) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !PathBuf::from("/proc/sys/net/ipv6").exists() => Ok(()),
        other => other.map_err(Error::file("write", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_found_by_its_alias_and_has_a_short_name() {
        let node = NodeId::of_key(&[1; 32]);
        let (domain, endpoint) = ("red".parse().expect("a label"), "web-1".parse().expect("a label"));
        let owner = Owner {
            node,
            domain: &domain,
            endpoint: &endpoint,
        };
        let link = Link {
            alias: owner.alias(),
            ..Link::default()
        };
        assert_eq!(owner.interface().len(), 15);
        assert_eq!(owner_of(&link, node), Some((domain.clone(), endpoint.clone())));
        assert_eq!(owner_of(&link, NodeId::of_key(&[2; 32])), None);
        let other = Owner {
            domain: &endpoint,
            endpoint: &domain,
            node,
        };
        assert_ne!(owner.interface(), other.interface());
    }

    #[test]
    fn only_what_this_node_made_and_did_not_name_is_unfinished() {
        let nodes = [NodeId::of_key(&[1; 32]), NodeId::of_key(&[2; 32])];
        let made = Link {
            kind: Kind::Veth,
            group: group(nodes[0]),
            ..Link::default()
        };
        assert!(is_unfinished(&made, nodes[0]) && !is_unfinished(&made, nodes[1]));
        for other in [
            Link {
                alias: "fabric x".into(),
                ..made.clone()
            },
            Link {
                group: 0,
                ..made.clone()
            },
            Link {
                up: true,
                ..made.clone()
            },
            Link {
                kind: Kind::Tun,
                ..made
            },
        ] {
            assert!(!is_unfinished(&other, nodes[0]), "{other:?}");
        }
    }

    #[test]
    fn every_interface_at_once_is_refused() {
        for name in ["all", "default"] {
            assert!(matches!(set_ipv6(name, "disable_ipv6", "1"), Err(Error::File { .. })));
        }
    }
}
