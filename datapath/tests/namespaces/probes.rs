//! Path probes: the other host's programs answer, whatever its daemon does.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use datapath::{Config, PROBE_INTERVAL, PathState, PathVerdict, Prober};
use membership::id::NodeId;
use overlay::fact::Vtep;

use crate::lab::{BPFFS, Host, two_hosts};
use crate::namespace::{Namespace, eventually, privileged};
use crate::wanted::{Workload, domain};

/// A prober on a thread of its own in a host's namespace, until it is dropped.
pub(crate) struct Probing {
    states: mpsc::Receiver<BTreeMap<NodeId, PathState>>,
    last: BTreeMap<NodeId, PathState>,
    _thread: JoinHandle<()>,
}

impl Probing {
    pub(crate) fn of(host: &Host, others: &[&Host]) -> Self {
        Self::asking(host, others.iter().map(|other| (other.node, other.vtep())).collect())
    }

    /// As `of`, of hosts that need not be there.
    fn asking(host: &Host, wanted: BTreeMap<NodeId, Vtep>) -> Self {
        let config = Config {
            bpffs: BPFFS.into(),
            node: host.node,
            ipv4: host.ipv4.map(Into::into),
            ipv6: host.ipv6,
            port: host.vtep().port,
            geneve_port: 6081,
            strict_vxlan: false,
        };
        let (sender, states) = mpsc::channel();
        let thread = host.namespace.thread(async move || {
            let mut prober = Prober::open(&config).expect("the map is pinned");
            prober.want(&wanted).expect("the map takes them");
            let mut ticks = tokio::time::interval(PROBE_INTERVAL);
            loop {
                ticks.tick().await;
                prober.round().expect("a round");
                if sender.send(prober.paths()).is_err() {
                    return;
                }
            }
        });
        Self {
            states,
            last: BTreeMap::new(),
            _thread: thread,
        }
    }

    fn state(&mut self, other: &Host) -> PathState {
        for state in self.states.try_iter() {
            self.last = state;
        }
        self.last.get(&other.node).copied().unwrap_or_default()
    }

    fn until(&mut self, other: &Host, what: &str, mut condition: impl FnMut(&PathState) -> bool) -> PathState {
        let mut seen = PathState::default();
        eventually(what, || {
            seen = self.state(other);
            condition(&seen)
        });
        seen
    }

    pub(crate) fn until_verdict(&mut self, other: &Host, verdict: PathVerdict) -> PathState {
        self.until(other, &format!("the path is {verdict:?}"), |state| {
            state.verdict == verdict
        })
    }
}

/// Both hosts know each other by a domain that both have a workload of.
fn acquaint(a: &Host, b: &Host, web: &Namespace, far: &Namespace) {
    let workloads = [
        &Workload::in_namespace("web", 1, a, web),
        &Workload::in_namespace("far", 3, b, far),
    ];
    a.program(&domain("red", 100, &workloads, a, &[b]));
    b.program(&domain("red", 100, &workloads, b, &[a]));
}

fn a_path_is_up_while_there_is_one(ipv4: bool, ipv6: bool) {
    let (a, mut b) = two_hosts(ipv4, ipv6);
    let (web, far) = (Namespace::new("web"), Namespace::new("far"));
    acquaint(&a, &b, &web, &far);
    let mut probing = Probing::of(&a, &[&b]);
    let state = probing.until(&b, "time, loss and size are known", |state| state.mtu.is_some());
    assert_eq!(
        (state.verdict, state.loss_percent, state.mtu),
        (PathVerdict::Up, Some(0), Some(1500))
    );
    assert!(
        state
            .rtt
            .is_some_and(|rtt| rtt > Duration::ZERO && rtt < Duration::from_secs(1)),
        "{state:?}"
    );

    b.kill();
    for _ in 0..10 {
        probing.last = probing.states.recv().expect("it goes on");
        assert_eq!(
            probing.state(&b).verdict,
            PathVerdict::Up,
            "its daemon is dead, the path is not"
        );
    }
    assert_eq!(probing.state(&b).loss_percent, Some(0));
    assert!(far.pings("10.0.0.1", 56), "and its workloads forward");

    b.namespace.must("ip link set up0 down");
    let state = probing.until_verdict(&b, PathVerdict::Down);
    assert_eq!((state.rtt, state.mtu), (None, None));
    b.namespace.must("ip link set up0 up");
    if let Some(v6) = b.ipv6 {
        // The kernel takes addresses from an IPv6 interface that goes down.
        b.namespace.must(&format!("ip addr replace {v6}/64 dev up0 nodad"));
    }
    probing.until_verdict(&b, PathVerdict::Up);
}

#[test]
fn a_path_is_up_while_there_is_one_over_ipv4() {
    if privileged("a_path_is_up_while_there_is_one_over_ipv4") {
        a_path_is_up_while_there_is_one(true, false);
    }
}

#[test]
fn a_path_is_up_while_there_is_one_over_ipv6() {
    if privileged("a_path_is_up_while_there_is_one_over_ipv6") {
        a_path_is_up_while_there_is_one(false, true);
    }
}

#[test]
fn the_size_that_a_path_carries_is_found() {
    if !privileged("the_size_that_a_path_carries_is_found") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let (web, far) = (Namespace::new("web"), Namespace::new("far"));
    acquaint(&a, &b, &web, &far);
    // A veth takes frames that are larger by a VLAN tag.
    b.namespace.must("ip link set up0 mtu 1400");
    let mut probing = Probing::of(&a, &[&b]);
    let state = probing.until(&b, "the size is known", |state| state.mtu.is_some());
    assert_eq!((state.loss_percent, state.mtu), (Some(0), Some(1404)));

    a.namespace.must("ip link set up0 mtu 1350");
    probing.until(&b, "what the own interface refuses is known", |state| {
        state.mtu == Some(1350)
    });
}

#[test]
fn a_host_that_does_not_know_us_does_not_answer() {
    if !privileged("a_host_that_does_not_know_us_does_not_answer") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let mut probing = Probing::of(&a, &[&b]);
    probing.until_verdict(&b, PathVerdict::Down);
    let (web, far) = (Namespace::new("web"), Namespace::new("far"));
    acquaint(&a, &b, &web, &far);
    probing.until_verdict(&b, PathVerdict::Up);
}

/// Packets that came in by the underlay.
fn received(host: &Host) -> u64 {
    let table = host.namespace.must("cat /proc/net/dev");
    let row = table.lines().find_map(|line| line.trim().strip_prefix("up0:"));
    let packets = row.and_then(|row| row.split_whitespace().nth(1));
    packets.expect("its counters").parse().expect("a number")
}

#[test]
fn a_path_with_flows_is_asked_in_every_round() {
    if !privileged("a_path_with_flows_is_asked_in_every_round") {
        return;
    }
    const ROUNDS: u64 = 30;
    let (a, b) = two_hosts(true, false);
    let (web, far) = (Namespace::new("web"), Namespace::new("far"));
    acquaint(&a, &b, &web, &far);
    // There is no way to any of the others: of 16 rounds, one would be the other host's.
    let mut hosts: BTreeMap<NodeId, Vtep> = [(b.node, b.vtep())].into();
    for number in 0..4000_u16 {
        let [high, low] = number.to_be_bytes();
        let vtep = Vtep {
            ipv4: Some([198, 18, high, low].into()),
            ..b.vtep()
        };
        hosts.insert(
            NodeId::of_key(&[[high; 16], [low; 16]].concat().try_into().expect("32 bytes")),
            vtep,
        );
    }
    assert!(web.pings("10.0.0.3", 56), "a flow");
    let mut probing = Probing::asking(&a, hosts);
    probing.until_verdict(&b, PathVerdict::Up);
    let before = received(&b);
    for _ in 0..ROUNDS {
        probing.last = probing.states.recv().expect("it goes on");
    }
    let asked = received(&b) - before;
    assert!(asked > ROUNDS / 2, "{asked} packets in {ROUNDS} rounds");
}
