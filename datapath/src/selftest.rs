//! Whether the kernel's own carrier works: this host sends tunnel packets to itself, one and a super-packet of several,
//! which the tunnel device takes out and its program notes (`slow_device`). Asked at the start, when there is another
//! device, and every minute; never waits for anything, and no workload's packet depends on it. Whether the programs' own
//! carrier works to each host is what path probes tell.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, UdpSocket};

use aya::maps::{HashMap, Map, MapData, MapError};
use datapath_common::Address;
use datapath_common::probe::{ECHOES, PROBE_PAYLOAD, Probed, echoed, request};
use nix::sys::socket::{setsockopt, sockopt};
use overlay::object::domain::Encapsulation;
use tracing::{info, warn};

use crate::datapath::Datapath;
use crate::error::Error;
use crate::maps::PROBES;
use crate::tables::address;

/// Datagrams of the super-packet, and bytes of each.
const SEGMENTS: u32 = 8;
const SEGMENT: usize = 1000;
/// The single packet's number; those of the super-packet follow.
const SINGLE: u32 = 1;
/// Looks that an answer may take.
const PATIENCE: u32 = 3;
/// Looks from one test to the next: after one that passed, and after one that failed.
const AGAIN: u32 = 60;
const SOON: u32 = 5;

/// What came out of the last test, for an operator to see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SelfTest {
    /// Every way was tested since there is a tunnel device.
    pub done: bool,
    /// What does not work and what to do; empty if all works.
    pub problems: Vec<String>,
}

/// The tests, one for each tunnel address.
#[derive(Debug, Default)]
pub(crate) struct Tests {
    device: u32,
    states: BTreeMap<IpAddr, State>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    /// Under way: the nonce.
    asked: Option<u64>,
    /// Looks until it is judged, or else until the next test.
    rest: u32,
    /// `None` before the first verdict; nothing in it if all works.
    verdict: Option<Option<String>>,
}

impl Tests {
    pub(crate) fn status(&self) -> SelfTest {
        let verdicts = self.states.values().filter_map(|state| state.verdict.as_ref());
        SelfTest {
            done: self.device != 0 && self.states.values().all(|state| state.verdict.is_some()),
            problems: verdicts.flatten().cloned().collect(),
        }
    }
}

impl Datapath {
    /// To be called at every look.
    pub(crate) fn look_at_carriers(&mut self) -> Result<(), Error> {
        let device = self.devices.index(Encapsulation::Vxlan);
        if device != self.tests.device {
            self.tests = Tests {
                device,
                states: self.local.addresses().map(|ip| (ip, State::default())).collect(),
            };
        }
        if device == 0 {
            return Ok(());
        }
        for ip in self.local.addresses() {
            let mut state = self.tests.states.get(&ip).cloned().unwrap_or_default();
            self.step(ip, &mut state)?;
            self.tests.states.insert(ip, state);
        }
        Ok(())
    }

    fn step(&self, ip: IpAddr, state: &mut State) -> Result<(), Error> {
        state.rest = state.rest.saturating_sub(1);
        let Some(nonce) = state.asked else {
            if state.rest == 0 {
                let nonce = rand::random();
                expect(&mut self.probes()?, ip, nonce)?;
                match ask(ip, self.local.port, nonce) {
                    Ok(()) => (state.asked, state.rest) = (Some(nonce), PATIENCE),
                    Err(error) => judge(ip, state, Some(format!("{ip} cannot send to itself: {error}"))),
                }
            }
            return Ok(());
        };
        let answers = heard(&self.probes()?, ip, nonce)?;
        if answers.len() as u32 <= SEGMENTS && state.rest > 0 {
            return Ok(());
        }
        state.asked = None;
        forget(&mut self.probes()?, ip)?;
        judge(ip, state, problem(ip, self.local.port, &answers));
        Ok(())
    }

    fn probes(&self) -> Result<HashMap<MapData, Address, Probed>, Error> {
        let map = MapData::from_pin(self.stubs.pins.map(PROBES)).and_then(Map::from_map_data);
        map.and_then(HashMap::try_from).map_err(Error::map("open", PROBES))
    }
}

/// Sends one packet, and a super-packet of several.
fn ask(ip: IpAddr, port: u16, nonce: u64) -> io::Result<()> {
    let socket = UdpSocket::bind((ip, 0))?;
    socket.set_nonblocking(true)?;
    let segment = |sequence| {
        let mut bytes = request(sequence, nonce, 0).to_vec();
        bytes.resize(SEGMENT.max(PROBE_PAYLOAD), 0);
        bytes
    };
    socket.send_to(&segment(SINGLE), (ip, port))?;
    let size = i32::try_from(SEGMENT).map_err(io::Error::other)?;
    setsockopt(&socket, sockopt::UdpGsoSegment, &size)?;
    let all: Vec<u8> = (1..=SEGMENTS).flat_map(|number| segment(SINGLE + number)).collect();
    socket.send_to(&all, (ip, port)).map(|_| ())
}

/// The numbers of the packets that came out of the device.
fn heard(probes: &HashMap<MapData, Address, Probed>, ip: IpAddr, nonce: u64) -> Result<Vec<u32>, Error> {
    match probes.get(&address(ip), 0) {
        Ok(probed) if probed.nonce == nonce => {
            let numbers = probed.echoes.iter().map(|echo| echoed(*echo).0);
            Ok(numbers.filter(|number| *number != 0).collect())
        }
        // Another prober emptied the map: as if nothing had come.
        Ok(_) | Err(MapError::KeyNotFound) => Ok(Vec::new()),
        Err(error) => Err(Error::map("read", PROBES)(error)),
    }
}

fn expect(probes: &mut HashMap<MapData, Address, Probed>, ip: IpAddr, nonce: u64) -> Result<(), Error> {
    let echoes = [0; ECHOES];
    let written = probes.insert(address(ip), Probed { nonce, echoes }, 0);
    written.map_err(Error::map("write", PROBES))
}

fn forget(probes: &mut HashMap<MapData, Address, Probed>, ip: IpAddr) -> Result<(), Error> {
    crate::maps::absent_is_fine(probes.remove(&address(ip))).map_err(Error::map("write", PROBES))
}

/// What does not work; nothing if all does.
fn problem(ip: IpAddr, port: u16, heard: &[u32]) -> Option<String> {
    let segments = heard.iter().filter(|number| **number > SINGLE).count();
    if heard.is_empty() {
        return Some(format!(
            "tunnel packets to {ip} do not reach the tunnel device: does a rule of this host's firewall drop UDP port {port}? \
            Super-packets of datagrams, and tunnels that arrive by an unexpected interface, are lost"
        ));
    }
    if segments < SEGMENTS as usize {
        return Some(format!(
            "a super-packet of {SEGMENTS} datagrams to {ip} does not arrive whole, {segments} came out of the tunnel device: \
            try `ethtool -K lo tx-udp-segmentation off`, and on the uplinks"
        ));
    }
    None
}

fn judge(ip: IpAddr, state: &mut State, problem: Option<String>) {
    state.rest = if problem.is_some() { SOON } else { AGAIN };
    if state.verdict.as_ref() != Some(&problem) {
        match &problem {
            None => info!(%ip, "the self-test of the tunnel device passed"),
            Some(problem) => warn!(problem, "the self-test of the tunnel device failed"),
        }
        state.verdict = Some(problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_come_is_named() {
        let ip = IpAddr::from([192, 0, 2, 1]);
        let all: Vec<u32> = (SINGLE..=SINGLE + SEGMENTS).collect();
        assert_eq!(problem(ip, 4789, &all), None);
        let nothing = problem(ip, 4789, &[]).expect("a problem");
        assert!(
            nothing.contains("do not reach the tunnel device") && nothing.contains("4789"),
            "{nothing}"
        );
        for heard in [&all[..1], &all[..4], &all[1..8]] {
            let part = problem(ip, 4789, heard).expect("a problem");
            assert!(part.contains("does not arrive whole"), "{part}");
        }
    }

    #[test]
    fn a_verdict_stands_until_there_is_another() {
        let ip = IpAddr::from([192, 0, 2, 1]);
        let mut tests = Tests {
            device: 5,
            states: [(ip, State::default())].into(),
        };
        assert_eq!(tests.status(), SelfTest::default());
        for (problem, rest) in [(None, AGAIN), (Some("broken".to_owned()), SOON), (None, AGAIN)] {
            let state = tests.states.get_mut(&ip).expect("a state");
            judge(ip, state, problem.clone());
            assert_eq!((state.rest, state.asked), (rest, None));
            let problems = problem.into_iter().collect();
            assert_eq!(tests.status(), SelfTest { done: true, problems });
        }
    }
}
