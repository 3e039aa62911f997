//! The rounds over a simulated underlay.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use datapath_common::probe::{ECHOES, PROBE_VNI, echo, echoed, follows};
use overlay::name::Vni;
use proptest::prelude::*;

use super::path::{Echoes, least};
use super::rounds::{INTERVAL, Rounds};
use super::{PathState, PathVerdict, Refusal, Request, Target};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const B: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const C: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 3));

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn target(remote: IpAddr) -> Target {
    Target {
        ends: (HERE, remote),
        mtu: 1500,
    }
}

/// What an underlay does to one request: nothing comes back, or an answer after some time, perhaps twice.
type Fate = Option<(Duration, bool)>;

/// Rounds, their clock, and what the programs have noted.
struct Sim {
    rounds: Rounds,
    now: Duration,
    noted: BTreeMap<IpAddr, (u64, Echoes)>,
    on_the_way: Vec<(Duration, Request, Duration)>,
    sent: Vec<Request>,
    nonces: u64,
}

impl Sim {
    fn new(remotes: &[IpAddr]) -> Self {
        let mut sim = Self {
            rounds: Rounds::default(),
            now: ms(10_000_000),
            noted: BTreeMap::new(),
            on_the_way: Vec::new(),
            sent: Vec::new(),
            nonces: 0,
        };
        sim.want(remotes);
        sim
    }

    fn want(&mut self, remotes: &[IpAddr]) {
        let targets: Vec<Target> = remotes.iter().copied().map(target).collect();
        self.want_targets(&targets);
    }

    fn want_targets(&mut self, targets: &[Target]) {
        let changes = self.rounds.want(targets, || {
            self.nonces += 1;
            self.nonces
        });
        for remote in changes.gone {
            self.noted.remove(&remote);
        }
        for (remote, nonce) in changes.fresh {
            self.noted.insert(remote, (nonce, [0; ECHOES]));
        }
    }

    /// What the programs do with an answer.
    fn note(&mut self, answer: &Request, rtt: Duration) {
        if let Some((nonce, echoes)) = self.noted.get_mut(&answer.ends.1)
            && *nonce == answer.nonce
        {
            let slot = &mut echoes[answer.sequence as usize % ECHOES];
            if follows(answer.sequence, echoed(*slot).0) {
                *slot = echo(answer.sequence, rtt.as_nanos().try_into().expect("short"));
            }
        }
    }

    /// One round after some time; requests meet their fate.
    fn round(&mut self, after: Duration, mut fate: impl FnMut(&Request) -> Fate) {
        self.now += after;
        let (due, later): (Vec<_>, Vec<_>) = self.on_the_way.drain(..).partition(|(at, ..)| *at <= self.now);
        self.on_the_way = later;
        for (_, answer, rtt) in due {
            self.note(&answer, rtt);
        }
        let awaited = self.rounds.awaited();
        let echoes = awaited.map(|(remote, _)| (remote, self.noted[&remote].1)).collect();
        for request in self.rounds.handle(self.now, &echoes) {
            self.sent.push(request);
            if let Some((rtt, twice)) = fate(&request) {
                self.on_the_way.push((self.now + rtt, request, rtt));
                if twice {
                    self.on_the_way.push((self.now + rtt * 3, request, rtt * 3));
                }
            }
        }
    }

    fn rounds(&mut self, count: usize, mut fate: impl FnMut(&Request) -> Fate) {
        (0..count).for_each(|_| self.round(INTERVAL, &mut fate));
    }

    fn state(&self, remote: IpAddr) -> PathState {
        self.rounds.states().get(&remote).copied().unwrap_or_default()
    }

    fn verdict(&self, remote: IpAddr) -> PathVerdict {
        self.state(remote).verdict
    }
}

fn good(_: &Request) -> Fate {
    Some((ms(1), false))
}

fn lost(_: &Request) -> Fate {
    None
}

#[test]
fn no_network_can_have_the_vni_of_probes() {
    assert!(Vni::try_from(u64::from(PROBE_VNI)).is_err());
}

#[test]
fn a_good_path_is_up_with_time_loss_and_size() {
    let mut sim = Sim::new(&[B]);
    assert_eq!(sim.state(B), PathState::default());
    sim.rounds(2, good);
    assert_eq!(sim.verdict(B), PathVerdict::Unknown, "one answer is none");
    sim.rounds(20, good);
    let expected = PathState {
        verdict: PathVerdict::Up,
        rtt: Some(ms(1)),
        loss_percent: Some(0),
        mtu: Some(1500),
    };
    assert_eq!(sim.state(B), expected);
}

#[test]
fn requests_are_numbered_short_and_of_changing_lanes() {
    let mut sim = Sim::new(&[B]);
    sim.rounds(10, lost);
    let sequences: Vec<u32> = sim.sent.iter().map(|request| request.sequence).collect();
    assert_eq!(sequences, (1..=10).collect::<Vec<_>>());
    assert!(sim.sent.iter().all(|r| r.size == least(&target(B)) && r.nonce == 1));
    assert!(sim.sent.windows(2).all(|pair| pair[0].lane != pair[1].lane));
}

#[test]
fn a_cut_path_is_down_within_two_seconds_and_up_again_after_two_answers() {
    let mut sim = Sim::new(&[B, C]);
    sim.rounds(10, good);
    let cut = |request: &Request| (request.ends.1 == C).then_some((ms(1), false));
    sim.rounds(5, cut);
    assert_eq!(sim.verdict(B), PathVerdict::Up);
    sim.rounds(1, cut);
    assert_eq!((sim.verdict(B), sim.verdict(C)), (PathVerdict::Down, PathVerdict::Up));
    let down = sim.state(B);
    assert_eq!((down.rtt, down.mtu, down.loss_percent), (None, None, Some(34)));
    sim.rounds(2, good);
    assert_eq!(sim.verdict(B), PathVerdict::Down);
    sim.rounds(1, good);
    assert_eq!(sim.verdict(B), PathVerdict::Up);
}

#[test]
fn a_path_that_never_answered_is_down_too() {
    let mut sim = Sim::new(&[B]);
    sim.rounds(8, lost);
    assert_eq!(
        sim.verdict(B),
        PathVerdict::Unknown,
        "a second is waited for a first answer"
    );
    sim.rounds(2, lost);
    assert_eq!(
        (sim.verdict(B), sim.state(B).loss_percent),
        (PathVerdict::Down, Some(100))
    );
}

#[test]
fn a_slow_path_is_up() {
    for rtt in [350, 700, 1400] {
        let mut sim = Sim::new(&[B]);
        sim.rounds(40, |_| Some((ms(rtt), false)));
        let state = sim.state(B);
        assert_eq!(
            (state.verdict, state.loss_percent),
            (PathVerdict::Up, Some(0)),
            "{rtt} ms"
        );
        assert_eq!(state.rtt, Some(ms(rtt)));
    }
}

#[test]
fn one_path_of_four_lost_is_loss_and_not_down() {
    let mut sim = Sim::new(&[B]);
    sim.rounds(100, |request| (request.lane % 4 != 0).then_some((ms(1), false)));
    let state = sim.state(B);
    assert_eq!(state.verdict, PathVerdict::Up);
    assert!(
        state.loss_percent.is_some_and(|percent| (24..=26).contains(&percent)),
        "{state:?}"
    );
    assert_eq!(state.mtu, Some(1500), "loss does not make it smaller");
}

#[test]
fn a_path_for_smaller_packets_is_up_and_its_size_is_found() {
    let mut sim = Sim::new(&[B]);
    let narrow = |request: &Request| (request.size <= 1413).then_some((ms(1), false));
    sim.rounds(90, narrow);
    let state = sim.state(B);
    assert_eq!(
        (state.verdict, state.loss_percent, state.mtu),
        (PathVerdict::Up, Some(0), Some(1413))
    );
}

#[test]
fn answers_twice_and_out_of_order_are_answers_once() {
    let mut sim = Sim::new(&[B]);
    let mut count = 0;
    sim.rounds(64, |_| {
        count += 1;
        Some((ms(if count % 2 == 0 { 10 } else { 650 }), true))
    });
    let state = sim.state(B);
    assert_eq!((state.verdict, state.loss_percent), (PathVerdict::Up, Some(0)));
}

#[test]
fn answers_of_an_earlier_life_are_not_taken() {
    let mut sim = Sim::new(&[B]);
    sim.rounds(6, lost);
    let old = sim.sent.clone();
    sim.want(&[]);
    assert!(sim.rounds.states().is_empty());
    sim.want(&[B]);
    sim.rounds(4, lost);
    for request in &old {
        sim.note(request, ms(1));
    }
    sim.rounds(8, lost);
    assert_eq!(
        (sim.verdict(B), sim.state(B).loss_percent),
        (PathVerdict::Down, Some(100))
    );
}

#[test]
fn what_is_known_stays_while_the_ends_do() {
    let mut sim = Sim::new(&[B]);
    sim.rounds(20, good);
    let known = sim.state(B);
    sim.want(&[B, C]);
    assert_eq!(sim.state(B), known);
    let wider = Target { mtu: 9000, ..target(B) };
    sim.want_targets(&[wider]);
    assert_eq!(
        (sim.state(B).verdict, sim.state(B).mtu),
        (PathVerdict::Up, None),
        "another size is declared"
    );
    sim.rounds(4, good);
    assert_eq!(sim.state(B).mtu, Some(9000));
    let moved = Target {
        ends: (C, B),
        ..target(B)
    };
    sim.want_targets(&[moved]);
    assert_eq!(sim.state(B), PathState::default());
}

#[test]
fn a_host_that_was_asleep_judges_nobody() {
    let mut sim = Sim::new(&[B]);
    sim.rounds(20, good);
    for _ in 0..10 {
        sim.round(ms(60_000), lost);
    }
    assert_eq!(sim.verdict(B), PathVerdict::Up);
    assert_eq!(sim.state(B).loss_percent, Some(0));
    sim.rounds(7, lost);
    assert_eq!(sim.verdict(B), PathVerdict::Down, "awake it does");
}

#[test]
fn a_clock_that_goes_back_stops_nothing() {
    let mut sim = Sim::new(&[B]);
    sim.rounds(20, good);
    sim.now = ms(5);
    sim.on_the_way.clear();
    let before = sim.sent.len();
    sim.rounds(20, good);
    assert!(sim.sent.len() >= before + 20, "{} requests", sim.sent.len() - before);
    assert_eq!((sim.verdict(B), sim.state(B).loss_percent), (PathVerdict::Up, Some(0)));
}

#[test]
fn nothing_is_sent_before_a_round_is_due() {
    let mut sim = Sim::new(&[B]);
    sim.rounds(1, good);
    sim.round(ms(299), good);
    assert_eq!(sim.sent.len(), 1);
    sim.round(ms(1), good);
    assert_eq!(sim.sent.len(), 2);
}

#[test]
fn what_this_host_refuses_is_told_from_what_the_path_loses() {
    for (why, verdict, percent) in [
        (Refusal::Here, PathVerdict::Unknown, None),
        (Refusal::NoWay, PathVerdict::Down, Some(100)),
    ] {
        let mut sim = Sim::new(&[B]);
        for _ in 0..20 {
            sim.rounds(1, lost);
            let last = *sim.sent.last().expect("one was sent");
            sim.rounds.refused(&last, why);
        }
        sim.rounds(1, lost);
        let state = sim.state(B);
        assert_eq!((state.verdict, state.loss_percent), (verdict, percent), "{why:?}");
    }
    let mut sim = Sim::new(&[B]);
    for _ in 0..40 {
        sim.rounds(1, |request| (request.size <= 1200).then_some((ms(1), false)));
        for request in sim.sent.split_off(0).iter().filter(|request| request.size > 1200) {
            sim.rounds.refused(request, Refusal::TooLarge);
        }
    }
    assert_eq!((sim.state(B).mtu, sim.verdict(B)), (Some(1200), PathVerdict::Up));
}

fn many(count: u32) -> Vec<Target> {
    let remote = |n: u32| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + n));
    (0..count).map(|n| target(remote(n))).collect()
}

#[test]
fn a_round_is_bounded_and_all_have_their_turn() {
    let mut sim = Sim::new(&[]);
    sim.want_targets(&many(1000));
    for _ in 0..4 {
        sim.rounds(1, lost);
        let asked = sim.sent.split_off(0);
        assert!(asked.len() <= 256, "{}", asked.len());
        sim.sent.extend(asked.iter().filter(|request| request.sequence > 1));
    }
    assert_eq!(
        sim.sent.len(),
        24,
        "after 1000 first requests in 4 rounds the first have their second"
    );
    sim.want_targets(&many(5000));
    assert_eq!(sim.rounds.states().len(), 4096);
}

/// How often each of these was asked.
fn asked(sim: &Sim, targets: &[Target]) -> Vec<usize> {
    let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for request in &sim.sent {
        *counts.entry(request.ends.1).or_default() += 1;
    }
    let count = |target: &Target| counts.get(&target.ends.1).copied().unwrap_or(0);
    targets.iter().map(count).collect()
}

#[test]
fn paths_with_flows_go_first_and_the_others_are_not_forgotten() {
    // As many as there are at most; without a preference, each would be asked in every sixteenth round.
    let targets = many(4096);
    let mut sim = Sim::new(&[]);
    sim.want_targets(&targets);
    sim.rounds(16, lost);
    assert!(asked(&sim, &targets).iter().all(|count| *count == 1));
    sim.sent.clear();
    let busy = &targets[3000..3150];
    sim.rounds.prefer(busy.iter().map(|target| target.ends.1).collect());
    sim.rounds(100, lost);
    assert!(asked(&sim, busy).iter().all(|count| *count == 100), "in every round");
    let others = [asked(&sim, &targets[..3000]), asked(&sim, &targets[3150..])].concat();
    assert!(
        others.iter().all(|count| (2..=3).contains(count)),
        "in their turn: {others:?}"
    );
}

#[test]
fn too_many_with_flows_leave_room_for_the_others() {
    let targets = many(2000);
    let mut sim = Sim::new(&[]);
    sim.want_targets(&targets);
    sim.rounds
        .prefer(targets[..1000].iter().map(|target| target.ends.1).collect());
    sim.rounds(100, lost);
    let (busy, others) = (asked(&sim, &targets[..1000]), asked(&sim, &targets[1000..]));
    let least = (busy.iter().min(), others.iter().min());
    assert!(least.0 > others.iter().max() && least.1 >= Some(&6), "{least:?}");
}

proptest! {
    /// Whatever an underlay does: nothing panics, and a path of which all is lost for 4 s is down, one that answers all
    /// for 4 s is up, without loss among the last once 64 rounds were good.
    #[test]
    fn any_story_ends_as_the_path_is(
        story in prop::collection::vec((0..4_u8, 0..3000_u64, 0..3_u8), 0..120),
        ends_well: bool,
    ) {
        let mut sim = Sim::new(&[B, C]);
        for (fate, time, event) in story {
            match event {
                1 if fate == 0 => sim.want(&[C]),
                2 if fate == 0 => sim.now = sim.now.saturating_sub(ms(time * 100)),
                1 => sim.want(&[B, C]),
                _ => {}
            }
            sim.round(ms(time % 400), |_| (fate != 0).then_some((ms(time), fate == 3)));
            for state in sim.rounds.states().values() {
                prop_assert!(state.loss_percent.is_none_or(|percent| percent <= 100));
                prop_assert!(state.mtu.is_none_or(|mtu| (74..=1500).contains(&mtu)));
            }
        }
        sim.want(&[B, C]);
        sim.rounds(14, |_| ends_well.then_some((ms(1), false)));
        let expected = if ends_well { PathVerdict::Up } else { PathVerdict::Down };
        prop_assert_eq!(sim.verdict(B), expected);
        sim.rounds(80, good);
        prop_assert_eq!(sim.state(B).loss_percent, Some(0));
        prop_assert_eq!(sim.state(B).mtu, Some(1500));
    }
}
