//! One domain on this host becomes what is wanted: interfaces first, then the difference between installed and wanted
//! tables. What it costs follows from what changes, not from what there is: what is installed is known, ports that are as
//! they were are left alone, and so are tunnels that are routed.

use std::collections::{BTreeMap, BTreeSet};

use membership::id::NodeId;
use overlay::fact::Binding;
use overlay::forwarding::Forwarding;
use overlay::name::EndpointName;
use tracing::{debug, info, warn};

use crate::attach::Hook;
use crate::batch::Stopped;
use crate::binding::Surroundings;
use crate::datapath::Datapath;
use crate::diff::{Entry, Key, Operation, diff};
use crate::error::Error;
use crate::installed::Installed;
use crate::links::owner_of;
use crate::lower::{Ground, Interfaces, Tunnels, keep_tunnels_of, lower, number_tunnels};
use crate::maps::{Maps, NUMBERS_MAX};
use crate::nexthop::{self, Ends};
use crate::numbers::{DomainNumbers, Numbers};
use crate::port::Workbench;
use crate::tables::{Tables, address};
use crate::{Applied, PortState, readiness};

impl Datapath {
    /// Makes one domain on this host what `wanted` says. Idempotent; applying twice does nothing the second time. A port
    /// whose interface is not there, or cannot be used, waits and is not touched; all else is programmed.
    /// [`Error::Full`] comes after all that has room was programmed; where it is a set of rules or routes that has none,
    /// the domain forwards by what was installed before, less what had to go.
    pub async fn apply(&mut self, wanted: &Forwarding) -> Result<Applied, Error> {
        self.reconnect()?;
        self.recover()?;
        let numbers = self.assign(wanted)?;
        self.links = self.netlink.links().await?;
        let (interfaces, ports) = self.ready_ports(wanted, numbers.domain).await?;

        let vnis = wanted.networks.values().map(|segment| segment.vni.get()).collect();
        let mine = self.installed.tables().part(numbers.domain, &vnis);
        let tunnels = self.tunnels(wanted, &mine).await?;
        let ground = Ground {
            numbers: &numbers,
            interfaces: &interfaces,
            tunnels: &tunnels,
            installed: &mine,
            everything: self.installed.tables(),
            fresh: &mut self.fresh,
        };
        let mut tables = lower(wanted, ground);
        self.with_functions(numbers.domain, &mut tables);
        let operations = change(&self.installed, &mine, &mut tables);
        self.here.remove(&wanted.domain);
        let done = self.obey(&operations);
        self.shut(wanted, &operations).await?;
        self.links = self.netlink.links().await?;
        self.keep_devices(false).await?;
        if mine.peers != tables.peers {
            self.attach_underlay(&tables.peers).await?;
        }
        let ports = readiness::wait(&self.netlink, ports).await;
        let waits = |endpoint: &EndpointName| matches!(ports.get(endpoint), Some(PortState::Waiting(_)));
        self.watch.set(self.node, wanted, waits, &self.links);
        done?;
        self.audited.set(wanted);
        self.remember(wanted);
        debug!(domain = %wanted.domain, operations = operations.len(), "applied");
        Ok(Applied {
            operations: operations.len(),
            ports,
        })
    }

    /// Does the operations. What is installed is not known any more if one fails, other than for want of room.
    pub(crate) fn obey(&mut self, operations: &[Operation]) -> Result<(), Error> {
        let done = self.maps.obey(operations, &mut self.installed);
        self.unknown |= matches!(&done, Err(error) if !matches!(error, Error::Full { .. }));
        done
    }

    /// Reads what is installed where that is not known, and ends all decisions that were made from it.
    pub(crate) fn recover(&mut self) -> Result<(), Error> {
        if self.unknown {
            info!("reading back what is installed");
            self.installed = Installed::new(self.maps.read()?);
            self.maps.bump_all()?;
            self.find_functions()?;
            self.unknown = false;
        }
        Ok(())
    }

    /// Numbers for all names of a domain; written before anything uses them.
    pub(crate) fn assign(&mut self, wanted: &Forwarding) -> Result<DomainNumbers, Error> {
        // While another build's tables are in force, it is not known which numbers they use.
        if self.numbers.len() + wanted.ports.len() >= NUMBERS_MAX as usize && !self.succession.is_pending() {
            self.release_numbers()?;
        }
        let (numbers, fresh) = self.numbers.assign(wanted);
        if let Err(Stopped { done, error }) = self.maps.put_numbers(&fresh) {
            let unwritten = fresh.iter().skip(done);
            unwritten.for_each(|(number, _)| self.numbers.release(*number));
            return Err(error);
        }
        Ok(numbers)
    }

    /// Gives up the numbers of what is gone.
    fn release_numbers(&mut self) -> Result<(), Error> {
        let kept = self.chains.domains();
        let spare = release_numbers(&mut self.maps, &mut self.numbers, &self.installed, kept)?;
        self.lost.forget(|number| spare.contains(&number));
        Ok(())
    }

    /// Makes the interfaces of all ports ready, as far as they can be. What other domains have is taken; what ports
    /// of this one had is not: the tables will say who has it from here on.
    pub(crate) async fn ready_ports(
        &mut self,
        wanted: &Forwarding,
        domain: u32,
    ) -> Result<(Interfaces, BTreeMap<EndpointName, PortState>), Error> {
        let taken = self.taken(domain);
        let mut workbench = Workbench {
            node: self.node,
            netlink: &self.netlink,
            stubs: &mut self.stubs,
            maps: &mut self.maps,
            installed: &mut self.installed,
            surroundings: Surroundings {
                links: &self.links,
                addresses: self.netlink.addresses().await?,
                underlay: &self.underlay,
                taken,
            },
        };
        let kept = self.kept.entry(wanted.domain.clone()).or_default();
        let ready = workbench.ready_all(wanted, kept).await;
        if kept.is_empty() {
            self.kept.remove(&wanted.domain);
        }
        Ok(ready)
    }

    /// The interfaces of all domains but one, with a word for whose.
    pub(crate) fn taken(&self, domain: u32) -> BTreeMap<u32, String> {
        let others = self
            .installed
            .tables()
            .ports
            .iter()
            .filter(|(_, port)| port.domain != domain);
        others
            .map(|(ifindex, port)| (*ifindex, self.words_for(port.endpoint)))
            .collect()
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

    /// The tunnels to the hosts of a domain, numbered and routed. Those that are installed are routed as long as
    /// somebody follows the kernel's routes.
    pub(crate) async fn tunnels(&mut self, wanted: &Forwarding, installed: &Tables) -> Result<Tunnels, Error> {
        let ends: BTreeMap<NodeId, Ends> = wanted
            .hosts
            .iter()
            .filter_map(|(host, vtep)| Some((*host, self.local.tunnel(vtep)?)))
            .collect();
        for host in wanted.hosts.keys().filter(|host| !ends.contains_key(host)) {
            warn!(%host, "no tunnel: it has no address family or not the port in common with this node");
        }
        let numbers = number_tunnels(&installed.peers, ends.values().map(|(_, remote)| *remote));
        let tunnels: BTreeMap<u32, Ends> = ends
            .values()
            .filter_map(|ends| Some((*numbers.get(&ends.1)?, *ends)))
            .collect();
        let is_routed = |number: &u32, (local, _): &Ends| {
            let peer = installed.peers.get(number);
            peer.is_some_and(|peer| peer.local == address(*local)) && self.follows
        };
        let (routed, unrouted): (BTreeMap<_, _>, BTreeMap<_, _>) =
            tunnels.into_iter().partition(|(number, ends)| is_routed(number, ends));
        let (mut peers, uplinks) = nexthop::route_peers(&self.netlink, &self.links, &unrouted).await?;
        self.uplinks.extend(uplinks);
        peers.extend(routed.keys().filter_map(|number| installed.peers.get_key_value(number)));
        let hosts = ends
            .iter()
            .filter_map(|(host, (_, remote))| Some((*host, *numbers.get(remote)?)))
            .collect();
        Ok(Tunnels { hosts, peers })
    }

    /// What becomes of interfaces that are no port of the domain any more: a veth of ours is removed, another's
    /// interface stays, down and with its stubs, which deny.
    pub(crate) async fn shut(&mut self, wanted: &Forwarding, operations: &[Operation]) -> Result<(), Error> {
        let is_port = |endpoint: &EndpointName| {
            let port = wanted.ports.get(endpoint);
            port.is_some_and(|port| matches!(port.binding, Binding::Namespace { .. }))
        };
        let closed = closed(operations);
        let mut released = false;
        for link in self.links.values() {
            match owner_of(link, self.node) {
                Some((domain, endpoint)) if domain == wanted.domain && !is_port(&endpoint) => {
                    self.netlink.delete(link).await?;
                    released = true;
                }
                None if closed.contains(&link.ifindex) => {
                    // Another interface may have got the index of one that is gone.
                    if self.stubs.runs(&self.netlink, link, Hook::FromEndpoint).await? {
                        self.netlink.down(link).await?;
                    }
                    released = true;
                }
                Some(_) | None => {}
            }
        }
        self.changed |= released && self.watch.others_wait(&wanted.domain);
        Ok(())
    }
}

/// The operations that make a domain's tables what is wanted; tunnels that other domains need stay.
pub(crate) fn change(installed: &Installed, mine: &Tables, wanted: &mut Tables) -> Vec<Operation> {
    keep_tunnels_of(&installed.tunnels_of_others(mine), mine, wanted);
    diff(mine, wanted)
}

/// Gives up the numbers of what is gone but for those that are `kept`: first their counters and connections, then their
/// names. The numbers that were given up.
pub(crate) fn release_numbers(
    maps: &mut Maps,
    numbers: &mut Numbers,
    installed: &Installed,
    kept: impl IntoIterator<Item = u32>,
) -> Result<BTreeSet<u32>, Error> {
    let mut used = installed.tables().numbers_in_use();
    used.extend(kept);
    let spare: BTreeSet<u32> = numbers.spare(&used).into_iter().collect();
    let counts = maps.drops()?;
    let stale: Vec<_> = counts
        .into_keys()
        .filter(|k| spare.contains(&k.domain) || spare.contains(&k.endpoint))
        .collect();
    maps.forget_drops(&stale)?;
    maps.forget_traffic(|domain| spare.contains(&domain))?;
    maps.remove_numbers(&spare.iter().copied().collect::<Vec<_>>())?;
    spare.iter().for_each(|number| numbers.release(*number));
    Ok(spare)
}

/// The interfaces that are no port after these operations.
fn closed(operations: &[Operation]) -> BTreeSet<u32> {
    let mut closed = BTreeSet::new();
    for operation in operations {
        match operation {
            Operation::Remove(Key::Port(ifindex)) => drop(closed.insert(*ifindex)),
            Operation::Put(Entry::Port(ifindex, _)) => drop(closed.remove(ifindex)),
            _ => {}
        }
    }
    closed
}
