//! From a port's binding to an interface whose stubs are attached, quiet and up; or the reason why it has to wait.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use membership::id::NodeId;
use overlay::fact::Binding;
use overlay::forwarding::{Forwarding, Port};
use overlay::name::EndpointName;

use crate::PortState;
use crate::attach::{Hook, Stubs};
use crate::binding::{Bound, Surroundings, Waiting, name_is_taken};
use crate::diff::{Key, Operation};
use crate::hurry::{Hurry, MANY};
use crate::inside::{self, Inside};
use crate::installed::Installed;
use crate::links::Owner;
use crate::lower::{Interface, Interfaces};
use crate::maps::Maps;
use crate::netlink::{Kind, Link, Netlink};
use crate::netns::{Identity, Namespace};
use crate::veth;

/// A port that was made ready, and all that can be seen of it from outside its namespace.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    port: Port,
    mtu: u32,
    ready: Ready,
    link: Link,
    namespace: Option<Identity>,
    /// When it was made ready, counted in changes of its domain.
    turn: u64,
}

/// Ports that were made ready, of one domain.
pub(crate) type KeptPorts = BTreeMap<EndpointName, Kept>;

impl Kept {
    /// Its interface and what is said of it, if nothing was asked of it since that it does not do.
    pub(crate) fn as_it_was(&self, port: &Port, mtu: u32) -> Option<(Interface, PortState)> {
        let state = PortState::Programmed {
            ifindex: self.ready.interface.ifindex,
            name: self.ready.name.clone(),
        };
        (self.port == *port && self.mtu == mtu).then_some((self.ready.interface, state))
    }
}

/// In each change, so many ports of the domain are made ready again though nothing of them seems to have changed: what
/// was taken from inside a namespace comes back. Those of longest ago come first.
const AGAIN: usize = 4;

/// What it takes to make ports ready.
#[derive(Debug)]
pub(crate) struct Workbench<'a> {
    pub(crate) node: NodeId,
    pub(crate) netlink: &'a Netlink,
    pub(crate) stubs: &'a mut Stubs,
    pub(crate) maps: &'a mut Maps,
    pub(crate) installed: &'a mut Installed,
    pub(crate) surroundings: Surroundings<'a>,
}

impl Workbench<'_> {
    /// Makes the interfaces of a domain's ports ready, as far as they can be, and says what became of each port. All are
    /// checked before the first one is touched.
    pub(crate) async fn ready_all(
        &mut self,
        wanted: &Forwarding,
        kept: &mut KeptPorts,
    ) -> (Interfaces, BTreeMap<EndpointName, PortState>) {
        let mut checked = Vec::new();
        for (endpoint, port) in &wanted.ports {
            let check = self.surroundings.check(&port.binding);
            if let (Ok(Bound::Interface(link)), Binding::Interface { .. }) = (&check, &port.binding) {
                let whose = format!("{}/{endpoint}", wanted.domain);
                self.surroundings.taken.insert(link.ifindex, whose);
            }
            checked.push((endpoint, port, check));
        }
        kept.retain(|endpoint, _| wanted.ports.contains_key(endpoint));
        let again = oldest(kept);
        let turn = 1 + kept.values().map(|kept| kept.turn).max().unwrap_or_default();
        let are_many = checked.len() >= kept.len() + MANY;
        let _hurry = are_many.then(|| Hurry::begin(&self.stubs.pins)).flatten();
        let mut interfaces = Interfaces::new();
        let mut states = BTreeMap::new();
        for (endpoint, port, check) in checked {
            let as_it_was = kept.get(endpoint).filter(|kept| {
                !again.contains(endpoint)
                    && check
                        .as_ref()
                        .is_ok_and(|bound| self.is_as_it_was(kept, wanted, port, bound))
            });
            let ready = match (as_it_was, check) {
                (Some(kept), _) => Ok(kept.ready.clone()),
                (None, Err(waiting)) => Err(waiting),
                (None, Ok(bound)) => self.ready(wanted, endpoint, port, bound, turn, kept).await,
            };
            let state = match ready {
                Ok(Ready { interface, name }) => {
                    interfaces.insert(endpoint.clone(), interface);
                    PortState::Programmed {
                        ifindex: interface.ifindex,
                        name,
                    }
                }
                Err(Waiting(text)) => {
                    kept.remove(endpoint);
                    PortState::Waiting(text)
                }
            };
            states.insert(endpoint.clone(), state);
        }
        (interfaces, states)
    }

    fn is_as_it_was(&self, kept: &Kept, wanted: &Forwarding, port: &Port, bound: &Bound) -> bool {
        let link = self.surroundings.links.get(&kept.link.ifindex).map(outline);
        let mtu = wanted.networks.get(&port.network).map(|segment| segment.mtu.into());
        let namespace = match bound {
            Bound::Interface(_) => None,
            Bound::Namespace(_, identity) => Some(*identity),
        };
        link.as_ref() == Some(&kept.link) && mtu == Some(kept.mtu) && namespace == kept.namespace && *port == kept.port
    }

    /// Makes the interface of a port ready: attached, then quiet, then up.
    async fn ready(
        &mut self,
        wanted: &Forwarding,
        endpoint: &EndpointName,
        port: &Port,
        bound: Bound,
        turn: u64,
        kept: &mut KeptPorts,
    ) -> Result<Ready, Waiting> {
        let network = &port.network;
        let segment = wanted.networks.get(network).ok_or_else(|| {
            Waiting(format!(
                "its network {network} is not in force: look at the network's conditions"
            ))
        })?;
        let mtu = segment.mtu.into();
        let (ready, namespace) = match (&port.binding, bound) {
            (Binding::Namespace { path, interface }, Bound::Namespace(namespace, identity)) => {
                let inside = Inside::of(port, interface, mtu);
                let owner = Owner {
                    node: self.node,
                    domain: &wanted.domain,
                    endpoint,
                };
                (self.namespace(owner, path, &namespace, inside).await?, Some(identity))
            }
            (_, Bound::Interface(link)) => (self.existing(&link, mtu).await?, None),
            (Binding::Interface { name }, Bound::Namespace(..)) => {
                return Err(Waiting(format!("{name} is no interface")));
            }
        };
        // As it is from here on; what changes it later is told by an event, and compared with this.
        if let Some(link) = self.netlink.link(ready.interface.ifindex).await? {
            let made = Kept {
                port: port.clone(),
                mtu,
                ready: ready.clone(),
                link: outline(&link),
                namespace,
                turn,
            };
            kept.insert(endpoint.clone(), made);
        }
        Ok(ready)
    }

    async fn existing(&mut self, link: &Link, mtu: u32) -> Result<Ready, Waiting> {
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

    async fn namespace(
        &mut self,
        owner: Owner<'_>,
        path: &Path,
        namespace: &Namespace,
        inside: Inside,
    ) -> Result<Ready, Waiting> {
        let name = owner.interface();
        let kept = match self.surroundings.named(&name).cloned() {
            Some(link) => self.take_over(owner, &link, namespace, &inside.interface).await?,
            None => None,
        };
        let link = match kept {
            Some(link) => link,
            None => self.create(owner, path, namespace, &inside).await?,
        };
        if link.alias != owner.alias() {
            self.netlink.set_alias(&link, &owner.alias()).await?;
        }
        self.attach_quiet_up(&link, inside.mtu).await?;
        if let Some(inner) = link.peer.0 {
            inside::set_up(namespace, inner, inside).await?;
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
        let port = self.installed.tables().ports.get(&link.ifindex);
        let bump = port.map(|port| Operation::Bump(port.slot));
        let close: Vec<_> = [Operation::Remove(Key::Port(link.ifindex))]
            .into_iter()
            .chain(bump)
            .collect();
        self.maps.obey(&close, self.installed)?;
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
                Some(nix::libc::EEXIST) => name_is_taken(path, &inside.interface),
                Some(nix::libc::EINVAL) => Waiting(format!(
                    "{} is not a network namespace, or {}",
                    path.display(),
                    e.words()
                )),
                _ => e.into(),
            })?;
        let made = self.netlink.link_named(&name).await?;
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
#[derive(Debug, Clone)]
struct Ready {
    interface: Interface,
    /// Name of the host side.
    name: String,
}

/// What counts of a link: a carrier that comes and goes, as when a virtual machine starts, is nothing to act on.
pub(crate) fn outline(link: &Link) -> Link {
    Link {
        carrier: false,
        operational: false,
        ..link.clone()
    }
}

fn oldest(kept: &KeptPorts) -> BTreeSet<EndpointName> {
    let mut turns: Vec<_> = kept.iter().map(|(endpoint, kept)| (kept.turn, endpoint)).collect();
    turns.sort_unstable();
    turns
        .into_iter()
        .take(AGAIN)
        .map(|(_, endpoint)| endpoint.clone())
        .collect()
}
