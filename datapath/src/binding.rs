//! Whether what a port is bound to can be used, found out without touching it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;

use overlay::fact::Binding;

use crate::error::Error;
use crate::links::{Owner, is_ours};
use crate::netlink::{Kind, Link, Netlink, Owned};
use crate::netns::{self, Identity, Namespace};
use crate::veth;

/// Why a port waits, in words that say what to do.
#[derive(Debug)]
pub(crate) struct Waiting(pub(crate) String);

impl From<Error> for Waiting {
    fn from(error: Error) -> Self {
        Self(error.words())
    }
}

/// What a port is bound to, as far as it can be used.
#[derive(Debug)]
pub(crate) enum Bound {
    /// An interface that is there.
    Interface(Link),
    /// A namespace of a workload.
    Namespace(Namespace, Identity),
}

/// What a binding has to fit in with.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    /// Every interface of the host.
    pub(crate) links: &'a BTreeMap<u32, Link>,
    /// Every address of the host.
    pub(crate) addresses: Vec<Owned>,
    /// Interfaces that carry tunnels.
    pub(crate) underlay: &'a BTreeSet<u32>,
    /// Interfaces of other endpoints, with a word for whose.
    pub(crate) taken: BTreeMap<u32, String>,
}

impl Surroundings<'_> {
    /// The interface with a name.
    pub(crate) fn named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// Whether a binding can be used.
    pub(crate) fn check(&self, binding: &Binding) -> Result<Bound, Waiting> {
        match binding {
            Binding::Interface { name } => {
                let link = self.named(name);
                let link =
                    link.ok_or_else(|| Waiting(format!("there is no interface {name}: it attaches when there is")))?;
                self.is_free(link)?;
                Ok(Bound::Interface(link.clone()))
            }
            Binding::Namespace { path, .. } => {
                let (namespace, identity) = open(path)?;
                Ok(Bound::Namespace(namespace, identity))
            }
        }
    }

    /// As [`Self::check`], and whether the name of the interface to be made in a namespace is free there.
    pub(crate) async fn check_inside(
        &self,
        netlink: &Netlink,
        owner: Owner<'_>,
        binding: &Binding,
    ) -> Result<(), Waiting> {
        let bound = self.check(binding)?;
        let (Bound::Namespace(namespace, _), Binding::Namespace { path, interface }) = (bound, binding) else {
            return Ok(());
        };
        if let Some(link) = self.named(&owner.interface())
            && veth::leads_to(netlink, link, &namespace, interface).await?
        {
            return Ok(());
        }
        let links = namespace.run(async |netlink: &Netlink| netlink.links().await).await?;
        if links.values().any(|link| link.name == *interface) {
            return Err(name_is_taken(path, interface));
        }
        Ok(())
    }

    /// Refuses an interface that somebody else uses.
    fn is_free(&self, link: &Link) -> Result<(), Waiting> {
        let name = &link.name;
        if let Some(owner) = self.taken.get(&link.ifindex) {
            return Err(Waiting(format!(
                "the interface {name} is already attached as {owner}: detach that first"
            )));
        }
        if is_ours(link) {
            return Err(Waiting(format!(
                "the fabric made {name} for a workload in a namespace: attach that namespace instead"
            )));
        }
        if link.kind == Kind::Loopback {
            return Err(Waiting(format!(
                "{name} is the loopback interface: name a tap or a veth"
            )));
        }
        if matches!(link.kind, Kind::Joint | Kind::Tunnel(_)) {
            return Err(Waiting(format!(
                "{name} is a bridge, bond, VRF or tunnel device: name a tap or a veth"
            )));
        }
        if link.master.is_some() {
            let text = format!("the interface {name} is a port of a bridge or bond: `ip link set {name} nomaster`");
            return Err(Waiting(text));
        }
        if self.underlay.contains(&link.ifindex) {
            return Err(Waiting(format!(
                "the interface {name} carries the tunnels: name a tap or a veth"
            )));
        }
        let mut own = self.addresses.iter().filter(|a| a.ifindex == link.ifindex);
        match own.find(|a| !is_link_local(a.ip)) {
            Some(own) => Err(Waiting(format!(
                "the interface {name} has the host's address {}: remove it with `ip address flush dev {name}`",
                own.ip
            ))),
            None => Ok(()),
        }
    }
}

/// The name of the interface to be made in a namespace is another one's.
pub(crate) fn name_is_taken(path: &Path, interface: &str) -> Waiting {
    Waiting(format!(
        "{} already has an interface {interface}: attach with another --ifname or remove it",
        path.display()
    ))
}

fn open(path: &Path) -> Result<(Namespace, Identity), Waiting> {
    let words = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => Waiting(format!(
            "there is no network namespace {}: it attaches when there is",
            path.display()
        )),
        _ => Waiting(format!("cannot open the network namespace {}: {e}", path.display())),
    };
    let namespace = Namespace::open(path).map_err(words)?;
    let identity = namespace.identity().map_err(words)?;
    if Some(identity) == netns::own() {
        let text = format!(
            "{} is the host's own network namespace: attach an interface instead",
            path.display()
        );
        return Err(Waiting(text));
    }
    Ok((namespace, identity))
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
