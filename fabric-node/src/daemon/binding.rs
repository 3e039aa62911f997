//! From what a user gave `attach` to a [`Binding`] of this host. The host is looked at only to refuse early what
//! cannot work; the datapath copes with things that vanish later.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;
use overlay::fact::Binding;

use crate::api::error::ApiError;
use crate::api::types::Attach;

/// Where `ip netns` keeps namespaces.
const NAMESPACES: &str = "/run/netns";
/// Inside a namespace, unless given.
const DEFAULT_NAME: &str = "eth0";
/// Longest name of an interface: IFNAMSIZ less its terminating zero.
const NAME_MAX: usize = 15;

/// The binding, if what it names is there.
pub(super) fn of(how: Attach) -> Result<Binding, ApiError> {
    let binding = parse(how)?;
    match &binding {
        Binding::Interface { name } => interface_is_fit(name)?,
        Binding::Namespace { path, .. } => is_namespace(path)?,
    }
    Ok(binding)
}

/// For people: `interface tap0`, `netns /run/netns/web (eth0)`.
pub(super) fn describe(binding: &Binding) -> String {
    match binding {
        Binding::Interface { name } => format!("interface {name}"),
        Binding::Namespace { path, interface } => format!("netns {} ({interface})", path.display()),
    }
}

fn parse(how: Attach) -> Result<Binding, ApiError> {
    match (how.netns, how.interface) {
        (Some(netns), None) => {
            let interface = how.ifname.unwrap_or_else(|| DEFAULT_NAME.to_owned());
            Ok(Binding::Namespace {
                path: namespace_path(&netns)?,
                interface: interface_name(interface)?,
            })
        }
        (None, Some(name)) if how.ifname.is_none() => Ok(Binding::Interface {
            name: interface_name(name)?,
        }),
        (None, Some(_)) => Err(ApiError::bad_request("ifname goes with netns only")),
        (None, None) | (Some(_), Some(_)) => Err(ApiError::bad_request("give exactly one of netns and interface")),
    }
}

fn interface_name(name: String) -> Result<String, ApiError> {
    let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > NAME_MAX || name.contains(odd) || name == "." || name == ".." {
        return Err(ApiError::bad_request(format!(
            "{name:?} is no interface name: 1 to {NAME_MAX} bytes without '/', ':' and blanks"
        )));
    }
    Ok(name)
}

fn namespace_path(netns: &str) -> Result<PathBuf, ApiError> {
    let path = Path::new(netns);
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    if netns.is_empty() || netns.contains('/') || netns == "." || netns == ".." {
        return Err(ApiError::bad_request(format!(
            "{netns:?} is neither a name under {NAMESPACES} nor an absolute path"
        )));
    }
    Ok(Path::new(NAMESPACES).join(netns))
}

/// What the datapath would refuse in any case is refused before a word is said: a move that fails would leave the
/// endpoint without its workload on the other host.
fn interface_is_fit(name: &str) -> Result<(), ApiError> {
    if nix::net::if_::if_nametoindex(name).is_err() {
        return Err(ApiError::not_found(format!(
            "there is no interface {name} on this host; make it first"
        )));
    }
    let said = nix::ifaddrs::getifaddrs().map_err(|error| ApiError::internal(format!("interfaces: {error}")))?;
    for its in said.filter(|its| its.interface_name == name) {
        if its.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            let message = format!("{name} is the loopback interface: name a tap or a veth");
            return Err(ApiError::refused(message));
        }
        if let Some(ip) = its.address.as_ref().and_then(host_address) {
            return Err(ApiError::refused(format!(
                "the interface {name} has the host's address {ip}: name a tap or a veth"
            )));
        }
    }
    Ok(())
}

/// An address with which the host itself speaks.
fn host_address(address: &SockaddrStorage) -> Option<IpAddr> {
    let ipv4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
    let ipv6 = address.as_sockaddr_in6().map(|it| it.ip());
    let ipv6 = ipv6.filter(|ip| !ip.is_unicast_link_local()).map(IpAddr::V6);
    ipv4.or(ipv6)
}

fn is_namespace(path: &Path) -> Result<(), ApiError> {
    let shown = path.display();
    match nix::sys::statfs::statfs(path) {
        Ok(found) if found.filesystem_type() == nix::sys::statfs::NSFS_MAGIC && is_for_networks(path) => Ok(()),
        Ok(_) => Err(ApiError::refused(format!("{shown} is no network namespace"))),
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => Err(ApiError::not_found(format!(
            "there is no network namespace {shown}; make it with `ip netns add`"
        ))),
        Err(error) => Err(ApiError::refused(format!("{shown}: {error}"))),
    }
}

/// Whether the namespace is one of networks, as far as its path tells.
fn is_for_networks(path: &Path) -> bool {
    let name = std::fs::read_link(path).unwrap_or_default();
    let kind = name.to_string_lossy();
    // A link of /proc names its kind; a bind mount, as those of `ip netns`, is told by the datapath.
    !kind.contains(":[") || kind.starts_with("net:[")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::error::Code;

    fn netns(netns: &str, ifname: Option<&str>) -> Attach {
        Attach {
            netns: Some(netns.to_owned()),
            ifname: ifname.map(str::to_owned),
            interface: None,
        }
    }

    #[test]
    fn a_namespace_is_a_name_or_a_path() {
        let of = |text: &str| parse(netns(text, None)).expect(text);
        assert_eq!(describe(&of("web")), "netns /run/netns/web (eth0)");
        assert_eq!(describe(&of("/proc/1/ns/net")), "netns /proc/1/ns/net (eth0)");
        for text in ["", ".", "..", "a/b", "./a"] {
            assert_eq!(
                parse(netns(text, None)).expect_err(text).code,
                Code::BadRequest,
                "{text:?}"
            );
        }
    }

    #[test]
    fn ill_formed_interface_names_are_refused() {
        for name in ["", "a b", "a/b", "a:b", "..", "sixteen-bytes-xx"] {
            assert_eq!(
                parse(netns("web", Some(name))).expect_err(name).code,
                Code::BadRequest,
                "{name:?}"
            );
        }
    }

    #[test]
    fn exactly_one_place_is_given() {
        let both = Attach {
            interface: Some("tap0".to_owned()),
            ..netns("web", None)
        };
        let odd = Attach {
            interface: Some("tap0".to_owned()),
            ifname: Some("eth0".to_owned()),
            netns: None,
        };
        for how in [Attach::default(), both, odd] {
            assert_eq!(parse(how).expect_err("refused").code, Code::BadRequest);
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let gone = of(netns("no-such-namespace", None)).expect_err("missing");
        assert_eq!(gone.code, Code::NotFound);
        assert!(gone.message.contains("/run/netns/no-such-namespace"), "{gone}");
        let file = of(netns("/etc/passwd", None)).expect_err("no namespace");
        assert_eq!(file.code, Code::Refused);
        let tap = Attach {
            interface: Some("no-such-tap".to_owned()),
            ..Attach::default()
        };
        assert_eq!(of(tap).expect_err("missing").code, Code::NotFound);
        of(netns("/proc/self/ns/net", None)).expect("this process has a namespace");
        let pid = of(netns("/proc/self/ns/pid", None)).expect_err("another kind of namespace");
        assert_eq!(pid.code, Code::Refused);
        let loopback = Attach {
            interface: Some("lo".to_owned()),
            ..Attach::default()
        };
        assert_eq!(of(loopback).expect_err("the host's own").code, Code::Refused);
    }
}
