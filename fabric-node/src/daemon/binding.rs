//! From what a user gave `attach` to a [`Binding`] of this host. The host is looked at only to refuse early what
//! cannot work; the datapath copes with things that vanish later.

use std::path::{Path, PathBuf};

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
        Binding::Interface { name } => interface_exists(name)?,
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

fn interface_exists(name: &str) -> Result<(), ApiError> {
    match nix::net::if_::if_nametoindex(name) {
        Ok(_) => Ok(()),
        Err(_) => Err(ApiError::not_found(format!(
            "there is no interface {name} on this host; make it first"
        ))),
    }
}

fn is_namespace(path: &Path) -> Result<(), ApiError> {
    let shown = path.display();
    match nix::sys::statfs::statfs(path) {
        Ok(found) if found.filesystem_type() == nix::sys::statfs::NSFS_MAGIC => Ok(()),
        Ok(_) => Err(ApiError::refused(format!("{shown} is no network namespace"))),
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => Err(ApiError::not_found(format!(
            "there is no network namespace {shown}; make it with `ip netns add`"
        ))),
        Err(error) => Err(ApiError::refused(format!("{shown}: {error}"))),
    }
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
    }
}
