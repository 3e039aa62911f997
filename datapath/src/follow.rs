//! Following the kernel between two changes of a domain: links, routes, next hops, stubs that somebody took off; and
//! sweeping connections.

use std::collections::BTreeMap;
use std::time::Duration;

use datapath_common::Peer;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::{debug, warn};

use crate::attach::Hook;
use crate::datapath::Datapath;
use crate::diff::{Entry, Operation};
use crate::error::Error;
use crate::events::{Events, LINKS, NEIGHBOURS, ROUTES};
use crate::netlink::Netlink;
use crate::nexthop::{self, Ends};
use crate::tables::ip;
use crate::underlay;

/// Between two rounds of following the kernel: many changes come in bursts.
const SETTLE: Duration = Duration::from_millis(50);
/// How often namespaces of ports and stubs on interfaces are looked at, for nothing tells when they change; and some of
/// the connections.
const LOOK: Duration = Duration::from_secs(1);
/// Besides what events tell: it is time to look.
const LOOKS: u8 = 8;

impl Datapath {
    /// Resolves when an interface or a namespace that a port hangs on came, went or changed: `apply` all domains
    /// then. Meanwhile it follows routes, next hops and underlay interfaces by itself and sweeps connections that are
    /// over, so it should always be awaited somewhere. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            self.noticed().await;
            if self.follow_up().await {
                return;
            }
        }
    }

    /// Resolves when there is something to follow up. Cancel-safe, and quick to come where it was cancelled.
    pub async fn noticed(&mut self) {
        while !self.changed {
            self.pending |= self.events.take();
            if self.pending != 0 {
                return tokio::time::sleep_until(self.settled).await;
            }
            self.wait().await;
        }
    }

    /// Follows what was noticed; whether to `apply` all domains, as [`Datapath::changed`] says. What is cancelled here is
    /// done again from its beginning: who often has something else to do lets it end.
    pub async fn follow_up(&mut self) -> bool {
        let pending = self.pending;
        if pending != 0 {
            let rest = match self.follow(pending).await {
                Ok(()) => {
                    self.pending = 0;
                    SETTLE
                }
                Err(error) => {
                    let error = error.words();
                    warn!(error, "cannot follow the kernel's interfaces and routes: trying again");
                    LOOK
                }
            };
            self.settled = Instant::now() + rest;
        }
        std::mem::take(&mut self.changed)
    }

    /// Attaches to every underlay interface, and detaches from what is none any more.
    pub(crate) async fn attach_underlay(&mut self, peers: &BTreeMap<u32, Peer>) -> Result<(), Error> {
        let addresses = self.netlink.addresses().await?;
        self.uplinks.retain(|number, _| peers.contains_key(number));
        self.underlay = underlay::interfaces(&self.local, &self.links, &addresses, peers, &self.uplinks);
        if self.succession.is_pending() {
            // By which tunnels arrive that only the other build knows.
            let attached = self.stubs.underlay()?.into_iter();
            self.underlay
                .extend(attached.filter(|ifindex| self.links.contains_key(ifindex)));
        }
        for link in self.underlay.iter().filter_map(|ifindex| self.links.get(ifindex)) {
            self.stubs.attach(link, Hook::FromUnderlay)?;
        }
        self.stubs.sweep(&self.links, &self.underlay)
    }

    /// Follows what happened: underlay interfaces, routes, next hops. The tables of the domains stay.
    pub(crate) async fn follow(&mut self, happened: u8) -> Result<(), Error> {
        self.reconnect()?;
        self.recover()?;
        if happened & LINKS != 0 {
            self.links = self.netlink.links().await?;
            self.changed |= self.watch.differs(&self.links);
            self.keep_devices(false).await?;
        }
        if happened & LOOKS != 0 {
            self.look().await;
        }
        if happened & (LINKS | ROUTES | NEIGHBOURS) == 0 {
            return Ok(());
        }
        let installed = self.installed.tables().peers.clone();
        let peers = if happened & (LINKS | ROUTES) != 0 {
            let tunnels = installed.iter().map(|(n, peer)| (*n, self.ends(peer))).collect();
            let (peers, uplinks) = nexthop::route_peers(&self.netlink, &self.links, &tunnels).await?;
            self.uplinks = uplinks;
            self.attach_underlay(&peers).await?;
            if !self.succession.is_pending() {
                nexthop::release_neighbours(&self.netlink, &peers).await?;
            }
            self.follows = true;
            peers
        } else {
            nexthop::resolve_peers(&installed, &self.links, &self.netlink.neighbours().await?)
        };
        let changed = peers
            .into_iter()
            .filter(|(number, peer)| installed.get(number) != Some(peer));
        let operations: Vec<_> = changed
            .map(|(number, peer)| Operation::Put(Entry::Peer(number, peer)))
            .collect();
        self.obey(&operations)
    }

    /// Has [`Self::changed`] look at everything as soon as it can.
    pub(crate) fn look_soon(&mut self) {
        self.devices.look_soon();
        self.pending |= LINKS | ROUTES | NEIGHBOURS | LOOKS;
    }

    async fn look(&mut self) {
        self.stubs.repair(&self.netlink, &self.links).await;
        if let Err(error) = self.look_at_devices().await {
            warn!(error = error.words(), "cannot keep the tunnel devices");
        }
        self.look_at_losses().await;
        if let Err(error) = self.look_at_carriers() {
            warn!(error = error.words(), "cannot test the tunnel devices");
        }
        self.verify_sometimes();
        match self.sweep.step(&self.maps) {
            Ok(0) => {}
            Ok(removed) => debug!(removed, "swept connections"),
            Err(error) => warn!(error = error.words(), "cannot sweep connections"),
        }
    }

    /// Ends of an installed tunnel; ours as it is configured.
    fn ends(&self, peer: &Peer) -> Ends {
        let remote = ip(peer.remote);
        let local = self.local.addresses().find(|local| local.is_ipv4() == remote.is_ipv4());
        (local.unwrap_or_else(|| ip(peer.local)), remote)
    }

    /// Netlink connections do not live for ever: a message that cannot be decoded ends one.
    pub(crate) fn reconnect(&mut self) -> Result<(), Error> {
        if self.netlink.is_closed() {
            self.netlink = Netlink::connect()?;
        }
        if self.events.is_over() {
            self.events = Events::subscribe()?;
            // What happened since is not followed yet.
            self.follows = false;
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
                self.pending |= LOOKS;
                if self.watch.namespace_differs() {
                    self.pending |= LINKS;
                }
            }
        }
    }
}

/// When to look.
pub(crate) fn looks() -> Interval {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}
