//! From a port's binding to an interface whose stubs are attached, quiet and up; or the reason why it has to wait.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;

use membership::id::NodeId;
use overlay::fact::Binding;
use overlay::forwarding::{Forwarding, Port};
use overlay::name::EndpointName;

use crate::PortState;
use crate::attach::{Hook, Stubs};
use crate::diff::{Key, Operation};
use crate::error::Error;
use crate::links::{Owner, is_ours};
use crate::lower::{Interface, Interfaces};
use crate::maps::Maps;
use crate::netlink::{Kind, Link, Netlink};
use crate::netns::{self, Namespace};
use crate::veth::{self, Inside};

/// Why a port waits, in words that say what to do.
#[derive(Debug)]
struct Waiting(String);

impl From<Error> for Waiting {
    fn from(error: Error) -> Self {
        Self(error.words())
    }
}

/// What it takes to make ports ready.
#[derive(Debug)]
pub(crate) struct Workbench<'a> {
    pub(crate) node: NodeId,
    pub(crate) netlink: &'a Netlink,
    pub(crate) stubs: &'a mut Stubs,
    pub(crate) maps: &'a mut Maps,
    /// Every interface of the host.
    pub(crate) links: &'a BTreeMap<u32, Link>,
    /// Interfaces that carry tunnels.
    pub(crate) underlay: &'a BTreeSet<u32>,
    /// Interfaces of other endpoints, with a word for whose.
    pub(crate) taken: BTreeMap<u32, String>,
}

impl Workbench<'_> {
    /// Makes the interfaces of a domain's ports ready, as far as they can be, and says what became of each port.
    pub(crate) async fn ready_all(&mut self, wanted: &Forwarding) -> (Interfaces, BTreeMap<EndpointName, PortState>) {
        let mut interfaces = Interfaces::new();
        let mut states = BTreeMap::new();
        for (endpoint, port) in &wanted.ports {
            let state = match self.ready(wanted, endpoint, port).await {
                Ok(Ready { interface, name }) => {
                    interfaces.insert(endpoint.clone(), interface);
                    self.taken
                        .insert(interface.ifindex, format!("{}/{endpoint}", wanted.domain));
                    PortState::Programmed {
                        ifindex: interface.ifindex,
                        name,
                    }
                }
                Err(Waiting(text)) => PortState::Waiting(text),
            };
            states.insert(endpoint.clone(), state);
        }
        (interfaces, states)
    }

    /// Makes the interface of a port ready: attached, then quiet, then up.
    async fn ready(&mut self, wanted: &Forwarding, endpoint: &EndpointName, port: &Port) -> Result<Ready, Waiting> {
        let network = &port.network;
        let segment = wanted.networks.get(network).ok_or_else(|| {
            Waiting(format!(
                "its network {network} is not in force: look at the network's conditions"
            ))
        })?;
        let mtu = segment.mtu.into();
        match &port.binding {
            Binding::Interface { name } => self.existing(name, mtu).await,
            Binding::Namespace { path, interface } => {
                let inside = Inside::of(port, interface, mtu);
                let owner = Owner {
                    node: self.node,
                    domain: &wanted.domain,
                    endpoint,
                };
                self.namespace(owner, path, inside).await
            }
        }
    }

    async fn existing(&mut self, name: &str, mtu: u32) -> Result<Ready, Waiting> {
        let link = self.links.values().find(|link| link.name == name);
        let link = link.ok_or_else(|| Waiting(format!("there is no interface {name}: it attaches when there is")))?;
        self.usable(link).await?;
        self.attach_quiet_up(link, mtu).await?;
        let namespace = link.kind == Kind::Veth && link.peer.1.is_some();
        let mac = if link.kind == Kind::Tun { [0; 6] } else { link.mac };
        let interface = Interface {
            ifindex: link.ifindex,
            mac,
            namespace,
        };
        Ok(Ready {
            interface,
            name: link.name.clone(),
        })
    }

    /// Refuses an interface that somebody else uses.
    async fn usable(&self, link: &Link) -> Result<(), Waiting> {
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
        if link.master.is_some() {
            let text = format!("the interface {name} is a port of a bridge or bond: `ip link set {name} nomaster`");
            return Err(Waiting(text));
        }
        if self.underlay.contains(&link.ifindex) {
            return Err(Waiting(format!(
                "the interface {name} carries the tunnels: name a tap or a veth"
            )));
        }
        let addresses = self.netlink.addresses().await?;
        let own = addresses
            .iter()
            .find(|a| a.ifindex == link.ifindex && !is_link_local(a.ip));
        match own {
            Some(own) => Err(Waiting(format!(
                "the interface {name} has the host's address {}: remove it with `ip address flush dev {name}`",
                own.ip
            ))),
            None => Ok(()),
        }
    }

    async fn namespace(&mut self, owner: Owner<'_>, path: &Path, inside: Inside) -> Result<Ready, Waiting> {
        let namespace = open(path)?;
        let name = owner.interface();
        let kept = match self.links.values().find(|link| link.name == name) {
            Some(link) => self.take_over(owner, link, &namespace, &inside.interface).await?,
            None => None,
        };
        let link = match kept {
            Some(link) => link,
            None => self.create(owner, path, &namespace, &inside).await?,
        };
        if link.alias != owner.alias() {
            self.netlink.set_alias(&link, &owner.alias()).await?;
        }
        self.attach_quiet_up(&link, inside.mtu).await?;
        if let Some(inner) = link.peer.0 {
            veth::set_up(&namespace, inner, inside).await?;
            self.netlink.operational(link.ifindex).await?;
        }
        let interface = Interface {
            ifindex: link.ifindex,
            mac: link.mac,
            namespace: true,
        };
        Ok(Ready { interface, name })
    }

    /// Keeps the veth of a former run if it leads where it should; else it is denied, then removed.
    async fn take_over(
        &mut self,
        owner: Owner<'_>,
        link: &Link,
        namespace: &Namespace,
        interface: &str,
    ) -> Result<Option<Link>, Waiting> {
        let ours = link.kind == Kind::Veth && (link.alias.is_empty() || link.alias == owner.alias());
        if !ours {
            return Err(Waiting(format!(
                "{} is somebody else's interface: remove or rename it",
                link.name
            )));
        }
        if veth::leads_to(self.netlink, link, namespace, interface).await? {
            return Ok(Some(link.clone()));
        }
        self.maps.apply(Operation::Remove(Key::Port(link.ifindex)))?;
        self.netlink.delete(link).await?;
        Ok(None)
    }

    async fn create(
        &self,
        owner: Owner<'_>,
        path: &Path,
        namespace: &Namespace,
        inside: &Inside,
    ) -> Result<Link, Waiting> {
        let name = owner.interface();
        veth::create(self.netlink, owner, namespace, inside)
            .await
            .map_err(|e| match e.errno() {
                Some(nix::libc::EEXIST) => Waiting(format!(
                    "{} already has an interface {}: attach with another --ifname or remove it",
                    path.display(),
                    inside.interface
                )),
                Some(nix::libc::EINVAL) => Waiting(format!(
                    "{} is not a network namespace, or {}",
                    path.display(),
                    e.words()
                )),
                _ => e.into(),
            })?;
        let links = self.netlink.links().await?;
        let made = links.into_values().find(|link| link.name == name);
        made.ok_or_else(|| Waiting(format!("{name} vanished while it was set up: is its namespace gone?")))
    }

    /// The order matters: what is attached denies until its port is programmed, and only then comes up.
    async fn attach_quiet_up(&mut self, link: &Link, mtu: u32) -> Result<(), Waiting> {
        for hook in Hook::ENDPOINT {
            self.stubs.attach(link, hook)?;
        }
        self.netlink.quiet(link, mtu).await?;
        if !link.up {
            self.netlink.up(link).await?;
        }
        Ok(())
    }
}

/// A port whose interface is ready.
#[derive(Debug)]
struct Ready {
    interface: Interface,
    /// Name of the host side.
    name: String,
}

fn open(path: &Path) -> Result<Namespace, Waiting> {
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
    Ok(namespace)
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
