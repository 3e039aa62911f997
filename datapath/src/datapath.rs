//! The datapath of this host: opened once, then told what every domain wants.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use datapath_common::Peer;
use membership::id::NodeId;
use overlay::forwarding::Forwarding;
use overlay::name::{DomainName, EndpointName};
use overlay::object::domain::{DefaultPolicy, Encapsulation};
use tokio::time::{Interval, MissedTickBehavior};
use tracing::{debug, info, warn};

use crate::attach::{Hook, Stubs};
use crate::bpffs::{self, Pins};
use crate::diff::{Entry, Key, Operation, diff};
use crate::drops::{self, DropCount};
use crate::error::Error;
use crate::events::{Events, LINKS, NEIGHBOURS, ROUTES};
use crate::kernel::Kernel;
use crate::links::owner_of;
use crate::load::load;
use crate::lower::{Interfaces, Local, Tunnels, keep_tunnels_of, lower, number_tunnels};
use crate::maps::{Maps, NUMBERS_MAX, compatible};
use crate::netlink::{Link, Netlink};
use crate::nexthop::{self, Ends};
use crate::numbers::{DomainNumbers, Numbers};
use crate::port::Workbench;
use crate::status::{self, Status};
use crate::tables::{Tables, ip};
use crate::underlay;
use crate::watch::Watch;
use crate::{Applied, Config, PortState};

/// Between two rounds of following the kernel: many changes come in bursts.
const SETTLE: Duration = Duration::from_millis(50);
/// How often namespaces of ports and stubs on interfaces are looked at: nothing tells when they change.
const LOOK: Duration = Duration::from_secs(1);
/// Besides what events tell: it is time to look at the stubs.
const HOOKS: u8 = 8;

/// The programs and maps of this host, loaded and attached. Dropping it leaves all in force.
#[derive(Debug)]
pub struct Datapath {
    node: NodeId,
    local: Local,
    kernel: Kernel,
    stubs: Stubs,
    maps: Maps,
    numbers: Numbers,
    netlink: Netlink,
    events: Events,
    /// Every interface, as it was seen last.
    links: BTreeMap<u32, Link>,
    underlay: BTreeSet<u32>,
    watch: Watch,
    /// When to look at the namespaces of ports and at the stubs.
    looks: Interval,
    /// What happened and is not dealt with; kept when `changed` is cancelled.
    pending: u8,
    /// `changed` has something to tell.
    changed: bool,
}

impl Datapath {
    /// Loads the programs (or takes over what is pinned), reads back what is installed and attaches to the underlay
    /// interfaces. Call it, and all else, from a tokio runtime in the host's network namespace.
    pub async fn open(config: Config) -> Result<Self, Error> {
        let kernel = Kernel::probe()?;
        if bpffs::ensure_mounted(&config.bpffs)? {
            info!(path = %config.bpffs.display(), "mounted a bpf file system");
        }
        let pins = Pins::new(&config.bpffs, config.node);
        if !compatible(&pins) {
            pins.set_aside()?;
        }
        let local = Local {
            ipv4: config.ipv4,
            ipv6: config.ipv6,
            port: config.port,
        };
        let (maps, ebpf) = load(&pins, &kernel, local)?;
        let numbers = maps.read_numbers()?;
        let programs = maps.programs_id;
        let events = Events::subscribe()?;
        let netlink = Netlink::connect()?;
        let mut datapath = Self {
            node: config.node,
            local,
            stubs: Stubs {
                ebpf,
                node: config.node,
                pins,
                mechanism: kernel.mechanism(),
                programs,
                attached: BTreeSet::new(),
            },
            kernel,
            maps,
            numbers,
            netlink,
            events,
            links: BTreeMap::new(),
            underlay: BTreeSet::new(),
            watch: Watch::default(),
            looks: looks(),
            pending: 0,
            changed: false,
        };
        datapath.remove_nameless()?;
        datapath.links = datapath.netlink.links().await?;
        datapath.stubs.replace_other_layouts(&datapath.links)?;
        datapath.follow(LINKS | ROUTES | NEIGHBOURS).await?;
        Ok(datapath)
    }

    /// Makes one domain on this host what `wanted` says: interfaces first, then the difference between installed and
    /// wanted tables. Idempotent; applying twice does nothing the second time. A port whose interface is not there
    /// waits; all else is programmed. [`Error::Full`] comes after all that has room was programmed.
    pub async fn apply(&mut self, wanted: &Forwarding) -> Result<Applied, Error> {
        self.reconnect()?;
        let installed = self.maps.read()?;
        let numbers = self.assign(wanted, &installed)?;
        self.links = self.netlink.links().await?;
        let (interfaces, ports) = self.ready_ports(wanted, numbers.domain, &installed).await;

        let vnis = wanted.networks.values().map(|segment| segment.vni.get()).collect();
        let (mine, others) = installed.split(numbers.domain, &vnis);
        let tunnels = self.tunnels(wanted, &mine).await?;
        let mut tables = lower(wanted, &numbers, &interfaces, &tunnels);
        keep_tunnels_of(&others, &mine, &mut tables);

        let operations = diff(&mine, &tables);
        let done = self.obey(&operations);
        self.shut(wanted, &operations).await?;
        self.links = self.netlink.links().await?;
        self.attach_underlay(&tables.peers).await?;
        let waits = |endpoint: &EndpointName| matches!(ports.get(endpoint), Some(PortState::Waiting(_)));
        self.watch.set(self.node, wanted, waits, &self.links);
        done?;
        debug!(domain = %wanted.domain, operations = operations.len(), "applied");
        Ok(Applied {
            operations: operations.len(),
            ports,
        })
    }

    /// Removes all of a domain.
    pub async fn remove(&mut self, domain: &DomainName) -> Result<(), Error> {
        let nothing = Forwarding {
            domain: domain.clone(),
            default_policy: DefaultPolicy::Deny,
            encapsulation: Encapsulation::Vxlan,
            networks: BTreeMap::new(),
            routers: BTreeMap::new(),
            rules: Vec::new(),
            ports: BTreeMap::new(),
            stations: BTreeMap::new(),
            hosts: BTreeMap::new(),
            conditions: BTreeMap::new(),
        };
        self.apply(&nothing).await.map(|_| ())
    }

    /// Domains of which something is installed.
    #[must_use]
    pub fn domains(&self) -> Vec<DomainName> {
        let installed = self
            .maps
            .read()
            .inspect_err(|error| warn!(error = error.words(), "cannot read what is installed"));
        let installed = installed.unwrap_or_default();
        let segments = installed.segments.values().map(|segment| segment.domain);
        let numbers: BTreeSet<u32> = segments
            .chain(installed.ports.values().map(|port| port.domain))
            .collect();
        numbers
            .iter()
            .filter_map(|number| self.numbers.name(*number))
            .map(|name| name.domain.clone())
            .collect()
    }

    /// Resolves when an interface or a namespace that a port hangs on came, went or changed: `apply` all domains
    /// then. Meanwhile it follows routes, next hops and underlay interfaces by itself, so it should always be
    /// awaited somewhere. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            if std::mem::take(&mut self.changed) {
                return;
            }
            self.pending |= self.events.take();
            if self.pending == 0 {
                self.wait().await;
                continue;
            }
            if let Err(error) = self.follow(self.pending).await {
                warn!(
                    error = error.words(),
                    "cannot follow the kernel's interfaces and routes: trying again"
                );
                tokio::time::sleep(LOOK).await;
                continue;
            }
            self.pending = 0;
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// The drop counters, summed over CPUs.
    pub fn drops(&self) -> Result<Vec<DropCount>, Error> {
        let counts = self.maps.drops()?;
        Ok(counts
            .into_iter()
            .map(|(key, count)| drops::named(key, count, &self.numbers))
            .collect())
    }

    /// What runs.
    #[must_use]
    pub fn status(&self) -> Status {
        let hooks = status::hooks(&self.stubs.pins, &self.links)
            .inspect_err(|error| warn!(error = error.words(), "cannot read what is attached"))
            .unwrap_or_default();
        let underlay = self.underlay.iter().filter_map(|ifindex| self.links.get(ifindex));
        Status {
            kernel: self.kernel.release.clone(),
            hooks,
            fallbacks: self.kernel.fallbacks(),
            underlay: underlay.map(|link| (link.name.clone(), link.mtu)).collect(),
        }
    }

    /// Does the operations, also those behind one for which a map has no room: whatever is not there is not reached,
    /// and nothing can be done for want of it. Returns the first such error, any other at once.
    fn obey(&mut self, operations: &[Operation]) -> Result<(), Error> {
        let mut full = Ok(());
        for operation in operations {
            match self.maps.apply(*operation) {
                Err(error @ Error::Full { .. }) => full = full.and(Err(error)),
                other => other?,
            }
        }
        full
    }

    /// Removes what is installed for a number without a name: somebody removed the pin of the names. Nobody would
    /// ever remove it, and the number will be given to another domain.
    fn remove_nameless(&mut self) -> Result<(), Error> {
        for key in self.maps.read()?.nameless(&self.numbers) {
            self.maps.apply(Operation::Remove(key))?;
        }
        Ok(())
    }

    /// Numbers for all names of a domain; written before anything uses them.
    fn assign(&mut self, wanted: &Forwarding, installed: &Tables) -> Result<DomainNumbers, Error> {
        if self.numbers.len() + wanted.ports.len() >= NUMBERS_MAX as usize {
            self.release_numbers(installed)?;
        }
        let (numbers, fresh) = self.numbers.assign(wanted);
        for (at, (number, name)) in fresh.iter().enumerate() {
            if let Err(error) = self.maps.put_number(*number, name) {
                fresh
                    .iter()
                    .skip(at)
                    .for_each(|(number, _)| self.numbers.release(*number));
                return Err(error);
            }
        }
        Ok(numbers)
    }

    /// Gives up the numbers of what is gone: first their counters, then their names.
    fn release_numbers(&mut self, installed: &Tables) -> Result<(), Error> {
        let spare: BTreeSet<u32> = self.numbers.spare(&installed.numbers_in_use()).into_iter().collect();
        let counts = self.maps.drops()?;
        let stale: Vec<_> = counts
            .into_keys()
            .filter(|k| spare.contains(&k.domain) || spare.contains(&k.endpoint))
            .collect();
        self.maps.forget_drops(&stale)?;
        for number in spare {
            self.maps.remove_number(number)?;
            self.numbers.release(number);
        }
        Ok(())
    }

    /// Makes the interfaces of all ports ready, as far as they can be. What other domains have is taken; what ports
    /// of this one had is not: the tables will say who has it from here on.
    async fn ready_ports(
        &mut self,
        wanted: &Forwarding,
        domain: u32,
        installed: &Tables,
    ) -> (Interfaces, BTreeMap<EndpointName, PortState>) {
        let others = installed.ports.iter().filter(|(_, port)| port.domain != domain);
        let taken = others
            .map(|(ifindex, port)| (*ifindex, self.words_for(port.endpoint)))
            .collect();
        let mut workbench = Workbench {
            node: self.node,
            netlink: &self.netlink,
            stubs: &mut self.stubs,
            maps: &mut self.maps,
            links: &self.links,
            underlay: &self.underlay,
            taken,
        };
        workbench.ready_all(wanted).await
    }

    fn words_for(&self, endpoint: u32) -> String {
        let name = self.numbers.name(endpoint);
        name.and_then(|name| {
            name.endpoint
                .as_ref()
                .map(|endpoint| format!("{}/{endpoint}", name.domain))
        })
        .unwrap_or_else(|| "another endpoint".into())
    }

    /// The tunnels to the hosts of a domain, numbered and routed.
    async fn tunnels(&self, wanted: &Forwarding, installed: &Tables) -> Result<Tunnels, Error> {
        let ends: BTreeMap<NodeId, Ends> = wanted
            .hosts
            .iter()
            .filter_map(|(host, vtep)| Some((*host, self.local.tunnel(vtep)?)))
            .collect();
        for host in wanted.hosts.keys().filter(|host| !ends.contains_key(host)) {
            warn!(%host, "no tunnel: it has no address family or not the port in common with this node");
        }
        let numbers = number_tunnels(&installed.peers, ends.values().map(|(_, remote)| *remote));
        let tunnels = ends
            .values()
            .filter_map(|ends| Some((*numbers.get(&ends.1)?, *ends)))
            .collect();
        let peers = nexthop::route_peers(&self.netlink, &self.links, &tunnels).await?;
        let hosts = ends
            .iter()
            .filter_map(|(host, (_, remote))| Some((*host, *numbers.get(remote)?)))
            .collect();
        Ok(Tunnels { hosts, peers })
    }

    /// What becomes of interfaces that are no port of the domain any more: a veth of ours is removed, another's
    /// interface stays, down and with its stubs, which deny.
    async fn shut(&mut self, wanted: &Forwarding, operations: &[Operation]) -> Result<(), Error> {
        let is_port = |endpoint: &EndpointName| matches!(wanted.ports.get(endpoint), Some(port) if matches!(port.binding, overlay::fact::Binding::Namespace { .. }));
        let mut released = false;
        for link in self.links.values() {
            match owner_of(link, self.node) {
                Some((domain, endpoint)) => {
                    if domain == wanted.domain && !is_port(&endpoint) {
                        self.netlink.delete(link).await?;
                        released = true;
                    }
                }
                None => {
                    let closed = operations.contains(&Operation::Remove(Key::Port(link.ifindex)));
                    let reopened = |o: &Operation| matches!(o, Operation::Put(Entry::Port(i, _)) if *i == link.ifindex);
                    if closed && !operations.iter().any(reopened) {
                        // Another interface may have got the index of one that is gone.
                        if self.stubs.runs(&self.netlink, link, Hook::FromEndpoint).await? {
                            self.netlink.down(link).await?;
                        }
                        released = true;
                    }
                }
            }
        }
        self.changed |= released && self.watch.others_wait(&wanted.domain);
        Ok(())
    }

    /// Attaches to every underlay interface, and detaches from what is none any more.
    async fn attach_underlay(&mut self, peers: &BTreeMap<u32, Peer>) -> Result<(), Error> {
        let addresses = self.netlink.addresses().await?;
        self.underlay = underlay::interfaces(&self.local, &self.links, &addresses, peers);
        for link in self.underlay.iter().filter_map(|ifindex| self.links.get(ifindex)) {
            self.stubs.attach(link, Hook::FromUnderlay)?;
        }
        self.stubs.sweep(&self.links, &self.underlay)
    }

    /// Follows what happened: underlay interfaces, routes, next hops. The tables of the domains stay.
    async fn follow(&mut self, happened: u8) -> Result<(), Error> {
        self.reconnect()?;
        if happened & LINKS != 0 {
            self.links = self.netlink.links().await?;
            self.changed |= self.watch.differs(&self.links);
        }
        if happened & HOOKS != 0 {
            self.stubs.repair(&self.netlink, &self.links).await;
        }
        if happened & (LINKS | ROUTES | NEIGHBOURS) == 0 {
            return Ok(());
        }
        let installed = self.maps.read_peers()?;
        let peers = if happened & (LINKS | ROUTES) != 0 {
            let tunnels = installed.iter().map(|(n, peer)| (*n, self.ends(peer))).collect();
            let peers = nexthop::route_peers(&self.netlink, &self.links, &tunnels).await?;
            self.attach_underlay(&peers).await?;
            nexthop::release_neighbours(&self.netlink, &peers).await?;
            peers
        } else {
            nexthop::resolve_peers(&installed, &self.links, &self.netlink.neighbours().await?)
        };
        for (number, peer) in peers {
            if installed.get(&number) != Some(&peer) {
                self.maps.apply(Operation::Put(Entry::Peer(number, peer)))?;
            }
        }
        Ok(())
    }

    /// Ends of an installed tunnel; ours as it is configured.
    fn ends(&self, peer: &Peer) -> Ends {
        let remote = ip(peer.remote);
        let local = self.local.addresses().find(|local| local.is_ipv4() == remote.is_ipv4());
        (local.unwrap_or_else(|| ip(peer.local)), remote)
    }

    /// Netlink connections do not live for ever: a message that cannot be decoded ends one.
    fn reconnect(&mut self) -> Result<(), Error> {
        if self.netlink.is_closed() {
            self.netlink = Netlink::connect()?;
        }
        if self.events.is_over() {
            self.events = Events::subscribe()?;
        }
        Ok(())
    }

    async fn wait(&mut self) {
        if self.stubs.attached.is_empty() && !self.watch.has_namespaces() {
            return self.events.wait().await;
        }
        // The ticks go on when this is cancelled, as by a daemon that does something else in between.
        tokio::select! {
            () = self.events.wait() => {}
            _ = self.looks.tick() => {
                self.pending |= HOOKS;
                if self.watch.namespace_differs() {
                    self.pending |= LINKS;
                }
            }
        }
    }
}

fn looks() -> Interval {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A daemon awaits these on whatever thread its runtime has.
    #[test]
    fn a_datapath_can_be_used_from_a_task() {
        fn sendable<T: Send>(_: fn(&'static mut Datapath, &'static Forwarding) -> T) {}
        sendable(|datapath, wanted| datapath.apply(wanted));
        sendable(|datapath, _| datapath.changed());
        sendable(|datapath, wanted| datapath.remove(&wanted.domain));
        sendable(|_, _| {
            Datapath::open(Config {
                bpffs: "/".into(),
                node: NodeId::of_key(&[1; 32]),
                ipv4: None,
                ipv6: None,
                port: 1,
            })
        });
        sendable(|_, _| crate::purge("/".as_ref(), NodeId::of_key(&[1; 32])));
    }
}
