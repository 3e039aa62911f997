//! The shell around the rounds: reads the clock and the map, sends.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData, MapError};
use datapath_common::Address;
use datapath_common::probe::{ECHOES, Probed, request};
use membership::id::NodeId;
use nix::sys::time::TimeValLike as _;
use nix::time::{ClockId, clock_gettime};
use overlay::fact::Vtep;
use tracing::{info, warn};

use super::busy::Busy;
use super::path::Echoes;
use super::rounds::{BUSY_PER_ROUND, Rounds};
use super::sockets::Sockets;
use super::{PathState, Refusal, Request, Target};
use crate::Config;
use crate::bpffs::Pins;
use crate::error::Error;
use crate::lower::Local;
use crate::maps::PROBES;
use crate::tables::address;

/// Asks the paths to other hosts. Synchronous, never blocks; use it in the host's network namespace.
pub struct Prober {
    rounds: Rounds,
    busy: Busy,
    sockets: Sockets,
    probed: HashMap<MapData, Address, Probed>,
    local: Local,
    /// Far end of the tunnel to each host.
    remotes: BTreeMap<NodeId, IpAddr>,
    /// Whether all of the last round was let out.
    lets_out: bool,
}

impl fmt::Debug for Prober {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prober")
            .field("remotes", &self.remotes)
            .finish_non_exhaustive()
    }
}

impl Prober {
    /// Over the maps that [`crate::Datapath::open`] pinned. No path is asked until [`Self::want`].
    pub fn open(config: &Config) -> Result<Self, Error> {
        let pins = Pins::new(&config.bpffs, config.node);
        let map = MapData::from_pin(pins.map(PROBES)).and_then(Map::from_map_data);
        let mut probed: HashMap<MapData, Address, Probed> =
            map.and_then(HashMap::try_from).map_err(Error::map("open", PROBES))?;
        // Answers to requests of an earlier run are nobody's.
        let stale: Vec<Address> = probed.keys().filter_map(Result::ok).collect();
        for remote in stale {
            forget(&mut probed, remote)?;
        }
        Ok(Self {
            rounds: Rounds::default(),
            busy: Busy::open(&pins)?,
            sockets: Sockets::default(),
            probed,
            local: Local {
                ipv4: config.ipv4,
                ipv6: config.ipv6,
                port: config.port,
                geneve_port: config.geneve_port,
                strict_vxlan: config.strict_vxlan,
            },
            remotes: BTreeMap::new(),
            lets_out: true,
        })
    }

    /// Asks the paths to these hosts and to no others. What is known of a path stays while its ends do.
    pub fn want(&mut self, hosts: &BTreeMap<NodeId, Vtep>) -> Result<(), Error> {
        let tunnels = hosts.iter().filter_map(|(node, vtep)| {
            let ends = self.local.tunnel(vtep)?;
            let mtu = vtep.underlay_mtu;
            Some((*node, Target { ends, mtu }))
        });
        let tunnels: BTreeMap<NodeId, Target> = tunnels.collect();
        let targets: Vec<Target> = tunnels.values().copied().collect();
        let changes = self.rounds.want(&targets, rand::random);
        self.remotes = tunnels
            .into_iter()
            .map(|(node, target)| (node, target.ends.1))
            .collect();
        for remote in changes.gone {
            forget(&mut self.probed, address(remote))?;
        }
        for (remote, nonce) in changes.fresh {
            self.expect(remote, nonce)?;
        }
        Ok(())
    }

    /// Looks at what came back, and sends what is due. To be called every [`super::PROBE_INTERVAL`].
    pub fn round(&mut self) -> Result<(), Error> {
        if self.rounds.are_crowded()
            && let Some(busy) = self.busy.step(BUSY_PER_ROUND)?
        {
            self.rounds.prefer(busy);
        }
        let mut echoes: BTreeMap<IpAddr, Echoes> = BTreeMap::new();
        let awaited: Vec<(IpAddr, u64)> = self.rounds.awaited().collect();
        for (remote, nonce) in awaited {
            match self.probed.get(&address(remote), 0) {
                Ok(probed) if probed.nonce == nonce => drop(echoes.insert(remote, probed.echoes)),
                // Somebody emptied the map.
                Ok(_) | Err(MapError::KeyNotFound) => self.expect(remote, nonce)?,
                Err(error) => return Err(Error::map("read", PROBES)(error)),
            }
        }
        let requests = self.rounds.handle(monotonic(), &echoes);
        if !requests.is_empty() {
            self.send(&requests);
        }
        Ok(())
    }

    /// What is known of the path to each host that is asked.
    #[must_use]
    pub fn paths(&self) -> BTreeMap<NodeId, PathState> {
        let states = self.rounds.states();
        let known = self.remotes.iter();
        known
            .filter_map(|(node, remote)| Some((*node, *states.get(remote)?)))
            .collect()
    }

    /// Lets the programs take the answers of a far end.
    fn expect(&mut self, remote: IpAddr, nonce: u64) -> Result<(), Error> {
        let nothing = Probed {
            nonce,
            echoes: [0; ECHOES],
        };
        let put = self.probed.insert(address(remote), nothing, 0);
        put.map_err(Error::map("write", PROBES))
    }

    fn send(&mut self, requests: &[Request]) {
        let mut kept_in = None;
        for one in requests {
            let Err((why, error)) = self.sockets.send(one, self.local.port, &payload(one)) else {
                continue;
            };
            self.rounds.refused(one, why);
            if why == Refusal::Here {
                kept_in = Some((one.ends.1, error));
            }
        }
        match kept_in {
            Some((remote, error)) if self.lets_out => {
                self.lets_out = false;
                warn!(%remote, %error, "path probes are not let out: does a firewall on this host stop UDP to the tunnels' port?");
            }
            None if !self.lets_out => {
                self.lets_out = true;
                info!("path probes are let out again");
            }
            Some(_) | None => {}
        }
    }
}

/// The datagram of a request, as large as makes the IP packet of its size.
fn payload(one: &Request) -> Vec<u8> {
    let sent = u64::try_from(monotonic().as_nanos()).unwrap_or(u64::MAX);
    let mut payload = request(one.sequence, one.nonce, sent).to_vec();
    let headers = if one.ends.1.is_ipv4() { 20 + 8 } else { 40 + 8 };
    let length = usize::from(one.size).saturating_sub(headers);
    payload.resize(length.max(payload.len()), 0);
    payload
}

fn forget(probed: &mut HashMap<MapData, Address, Probed>, remote: Address) -> Result<(), Error> {
    crate::maps::absent_is_fine(probed.remove(&remote)).map_err(Error::map("write", PROBES))
}

/// The clock that the programs know, too.
fn monotonic() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC);
    let nanoseconds = time.map_or(0, |time| time.num_nanoseconds());
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}
