//! A peer that joins with nothing and pulls from several at once: links have a speed, bytes and parts are counted per peer.

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::author;
use crate::fixture::{Host, Trusting, domain, stamp, write};
use crate::signed::Signer as _;

/// Bytes per second from each peer.
const FAST: usize = 10 << 20;

/// One that has it all, and its link to the joiner.
struct Peer {
    id: NodeId,
    sync: Sync,
    speed: usize,
    /// When the link is free again.
    free: Duration,
    parts: usize,
    bytes: usize,
}

struct Stage {
    me: NodeId,
    joiner: Sync,
    peers: Vec<Peer>,
    /// Frames to the joiner, each with the peer that sent it.
    arriving: BTreeMap<(Duration, u64), (usize, Bytes)>,
    order: u64,
    now: Duration,
    rng: StdRng,
}

/// All that is to be had, as batches.
fn contents(writer: &Host, hosts: &[Host], objects: usize) -> (Vec<Batch>, usize) {
    let (red, text) = (domain("red"), "x".repeat(3_000));
    let mut book = Replica::default();
    let mut batches = Vec::new();
    for host in hosts {
        batches.push(host.says(&mut book, &Scope::System, 1, vec![host.record()]).batch);
        let facts = (0..40).map(|n| write(&n.to_string(), Some(&text))).collect();
        batches.push(host.says(&mut book, &red, 1, facts).batch);
    }
    for from in (0..objects).step_by(200) {
        let writes = (from..from + 200)
            .map(|n| write(&format!("o{n}"), Some(&text)))
            .collect();
        batches.push(writer.wants(&mut book, &red, 10_000 + from as u64, writes).batch);
    }
    (batches, (objects + 40 * hosts.len()) * 3_200)
}

impl Stage {
    fn new(speeds: &[usize], objects: usize) -> (Self, usize) {
        let hosts: Vec<Host> = (1..).map(Host::new).take(speeds.len()).collect();
        let (batches, bytes) = contents(&hosts[0], &hosts, objects);
        let mut rng = StdRng::seed_from_u64(1);
        let peers = hosts.iter().zip(speeds).map(|(host, &speed)| {
            let mut replica = Replica::default();
            for batch in &batches {
                replica.merge(batch).unwrap();
            }
            Peer {
                id: host.id(),
                sync: Sync::new(&host.public(), replica, Box::new(Trusting)),
                speed,
                free: Duration::ZERO,
                parts: 0,
                bytes: 0,
            }
        });
        let own = Host::new(99);
        let peers = peers.collect();
        let mut joiner = Sync::new(&own.public(), Replica::default(), Box::new(Trusting));
        let record = author::facts(joiner.replica(), &own, &Scope::System, vec![own.record()], stamp(1)).unwrap();
        joiner.handle(Event::LocalBatch(record.batch), Duration::ZERO, &mut rng);
        let stage = Self {
            me: own.id(),
            joiner,
            peers,
            arriving: BTreeMap::new(),
            order: 0,
            now: Duration::ZERO,
            rng,
        };
        (stage, bytes)
    }

    fn connect(&mut self) {
        for peer in 0..self.peers.len() {
            let effects = self.peers[peer]
                .sync
                .handle(Event::PeerUp(self.me), self.now, &mut self.rng);
            self.peer_sends(peer, effects);
        }
        for peer in 0..self.peers.len() {
            self.joiner_hears(Event::PeerUp(self.peers[peer].id));
        }
    }

    /// What the joiner sends is small, and there at once.
    fn joiner_hears(&mut self, event: Event) {
        for effect in self.joiner.handle(event, self.now, &mut self.rng) {
            if let Effect::Send { to, frame } = effect {
                let peer = self.peers.iter().position(|peer| peer.id == to).unwrap();
                let event = Event::Frame(self.me, frame);
                let effects = self.peers[peer].sync.handle(event, self.now, &mut self.rng);
                self.peer_sends(peer, effects);
            }
        }
    }

    fn peer_sends(&mut self, index: usize, effects: Vec<Effect>) {
        for effect in effects {
            let Effect::Send { to, frame } = effect else { continue };
            assert_eq!(to, self.me);
            let peer = &mut self.peers[index];
            let took = Duration::from_secs(1).mul_f64(frame.len() as f64 / peer.speed as f64);
            peer.free = peer.free.max(self.now) + took;
            peer.parts += usize::from(matches!(wire::decode(&frame), Ok(Message::Part(_))));
            peer.bytes += frame.len();
            self.order += 1;
            self.arriving.insert((peer.free, self.order), (index, frame));
        }
    }

    /// Until the joiner holds what the others do, or too long; tells when.
    fn run(&mut self) -> Duration {
        let mut tick = TICK;
        while self.joiner.replica().root(&domain("red")) != self.peers[0].sync.replica().root(&domain("red")) {
            let next = self.arriving.keys().next().copied();
            match next.filter(|(at, _)| *at <= tick) {
                Some(key) => {
                    let (peer, frame) = self.arriving.remove(&key).unwrap();
                    self.now = key.0;
                    self.joiner_hears(Event::Frame(self.peers[peer].id, frame));
                }
                None => {
                    self.now = tick;
                    tick += TICK;
                    self.joiner_hears(Event::Tick);
                }
            }
            let held: usize = self.joiner.held_bytes();
            assert!(
                held <= 5 << 20 << self.peers.len().ilog2(),
                "{held} bytes are held back"
            );
            assert!(self.now < Duration::from_secs(600), "it never ends");
        }
        self.now
    }

    fn shares(&self) -> Vec<(usize, usize)> {
        self.peers.iter().map(|peer| (peer.parts, peer.bytes)).collect()
    }
}

#[test]
fn several_peers_share_what_a_joiner_lacks() {
    let (mut one, bytes) = Stage::new(&[FAST], 6_000);
    one.connect();
    let alone = one.run();
    let (mut four, _) = Stage::new(&[FAST; 4], 6_000);
    four.connect();
    let together = four.run();
    let shares = four.shares();
    println!(
        "{bytes} bytes: alone {alone:?} {:?}, together {together:?} {shares:?}",
        one.shares()
    );
    let sent: usize = shares.iter().map(|(_, bytes)| bytes).sum();
    assert!(sent < bytes / 10 * 13, "{sent} bytes were sent for {bytes}");
    assert!(shares.iter().all(|(_, share)| *share > sent / 10), "{shares:?}");
    assert!(together < alone.mul_f64(0.5), "{together:?} {alone:?}");
}

#[test]
fn a_slow_peer_slows_nobody() {
    let (mut fast, bytes) = Stage::new(&[FAST; 3], 6_000);
    fast.connect();
    let without = fast.run();
    let (mut mixed, _) = Stage::new(&[FAST / 200, FAST, FAST, FAST], 6_000);
    mixed.connect();
    let with = mixed.run();
    println!("{bytes} bytes: without {without:?}, with {with:?} {:?}", mixed.shares());
    // It may cost the time after which others are asked for what was asked of it.
    assert!(with < without + Duration::from_millis(2_500), "{with:?} {without:?}");
}
