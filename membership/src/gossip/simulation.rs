//! Whole cells of chitchat in one process under a paused clock, with this fabric's parameters: how soon a death is seen,
//! and whether anybody living is ever taken for dead. Messages get lost at random; nothing else is made up.
//!
//! The ignored test takes its size from the environment and prints what it measured as one line of JSON.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use chitchat::transport::{ChannelTransport, RecvOutcome, SendOutcome, Socket, Transport, TransportExt as _};
use chitchat::{ChitchatEnvelope, ChitchatMessage};
use tokio::time::{Duration, Instant, sleep, timeout};

use super::pace::Pace;
use super::*;

/// A death must be seen by then, and all must be seen at the start.
const PATIENCE: Duration = Duration::from_secs(30);
/// How closely time is looked at.
const STEP: Duration = Duration::from_millis(50);

/// A lossy wire that opens exchanges at the pace of a cell of this size.
struct Paced {
    wire: Box<dyn Transport>,
    members: usize,
}

#[async_trait]
impl Transport for Paced {
    async fn open(&self, listen: std::net::SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        Ok(Box::new(PacedSocket {
            socket: self.wire.open(listen).await?,
            pace: Pace::default(),
            members: self.members,
        }))
    }
}

struct PacedSocket {
    socket: Box<dyn Socket>,
    pace: Pace,
    members: usize,
}

#[async_trait]
impl Socket for PacedSocket {
    fn local_addr(&self) -> anyhow::Result<std::net::SocketAddr> {
        self.socket.local_addr()
    }

    async fn send(&mut self, to: std::net::SocketAddr, envelope: ChitchatEnvelope) -> anyhow::Result<SendOutcome> {
        if matches!(envelope.message, ChitchatMessage::Syn { .. }) && !self.pace.opens(self.members) {
            return Ok(SendOutcome { num_bytes_sent: 0 });
        }
        self.socket.send(to, envelope).await
    }

    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        self.socket.recv().await
    }
}

struct Fleet {
    ids: Vec<NodeId>,
    handles: Vec<ChitchatHandle>,
    wire: ChannelTransport,
    loss: f64,
    /// Each start of a node has the next generation.
    generation: u64,
}

fn id(n: usize) -> NodeId {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&n.to_le_bytes());
    NodeId::of_key(&key)
}

async fn begin(own: NodeId, generation: u64, wire: &ChannelTransport, loss: f64, members: usize) -> ChitchatHandle {
    let paced = Paced {
        wire: wire.clone().drop_message(loss),
        members,
    };
    let config = || config::of(own, ClusterId::from_random([1; 16]), generation);
    // Its former self may hold the address for a moment.
    let begun = async {
        loop {
            match spawn_chitchat(config(), Vec::new(), &paced).await {
                Ok(handle) => return handle,
                Err(_) => sleep(STEP).await,
            }
        }
    };
    timeout(PATIENCE, begun).await.expect("the address is free")
}

impl Fleet {
    /// Starts so many nodes and waits until each sees all others.
    async fn start(peers: usize, loss: f64) -> Self {
        let (wire, ids): (_, Vec<_>) = (ChannelTransport::default(), (0..peers).map(id).collect());
        let mut handles = Vec::new();
        for own in &ids {
            handles.push(begin(*own, 1, &wire, loss, peers).await);
        }
        // As connections come up: to everybody.
        for (own, handle) in ids.iter().zip(&handles) {
            for other in ids.iter().filter(|other| *other != own) {
                handle.gossip(address::of(*other)).unwrap();
            }
        }
        let fleet = Self {
            ids,
            handles,
            wire,
            loss,
            generation: 1,
        };
        fleet.see_all().await;
        fleet
    }

    async fn see_all(&self) {
        let whole = async {
            for n in 0..self.ids.len() {
                while self.sees(n).await.len() < self.ids.len() - 1 {
                    sleep(STEP).await;
                }
            }
        };
        assert!(timeout(PATIENCE, whole).await.is_ok(), "not all see all");
    }

    /// Ends a node and starts it again at once, as another generation, that connects to all.
    async fn restart(&mut self, n: usize) {
        self.handles[n].abort();
        self.generation += 1;
        let handle = begin(self.ids[n], self.generation, &self.wire, self.loss, self.ids.len());
        self.handles[n] = handle.await;
        for other in self.ids.iter().filter(|other| **other != self.ids[n]) {
            self.handles[n].gossip(address::of(*other)).unwrap();
        }
    }

    /// How many incarnations a node remembers, its own and dead ones included.
    async fn remembered(&self, n: usize) -> usize {
        self.handles[n]
            .with_chitchat(|chitchat| chitchat.node_states().len())
            .await
    }

    /// Each of these hears nothing of each of those, and they nothing of these, from here on or no more.
    async fn split(&self, these: usize, apart: bool) {
        for (a, b) in (0..these).flat_map(|a| (these..self.ids.len()).map(move |b| (a, b))) {
            let (a, b) = (address::of(self.ids[a]), address::of(self.ids[b]));
            match apart {
                true => {
                    self.wire.remove_link(a, b).await;
                    self.wire.remove_link(b, a).await;
                }
                false => {
                    self.wire.add_link(a, b).await;
                    self.wire.add_link(b, a).await;
                }
            }
        }
    }

    async fn sees(&self, n: usize) -> BTreeSet<NodeId> {
        let chitchat = self.handles[n].chitchat();
        let chitchat = chitchat.lock().await;
        view::live(
            chitchat.node_states().keys(),
            chitchat.live_nodes(),
            self.ids[n],
            |_| None,
        )
    }

    /// Ends a node and waits until no other one sees it: how long each took.
    async fn kill(&self, victim: usize) -> Vec<Duration> {
        self.handles[victim].abort();
        let (died, gone) = (Instant::now(), self.ids[victim]);
        let mut waiting: Vec<_> = (0..self.ids.len()).filter(|n| *n != victim).collect();
        let mut took = Vec::new();
        while !waiting.is_empty() {
            assert!(died.elapsed() < PATIENCE, "{} still see it", waiting.len());
            sleep(STEP).await;
            let mut still = Vec::new();
            for n in waiting {
                if self.sees(n).await.contains(&gone) {
                    still.push(n);
                } else {
                    took.push(died.elapsed());
                }
            }
            waiting = still;
        }
        took
    }

    /// Lets time pass; how often a living node was taken for dead by another.
    async fn false_alarms(&self, long: Duration) -> u64 {
        let (count, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        for handle in &self.handles {
            let mut live = handle.with_chitchat(|chitchat| chitchat.live_nodes_watcher()).await;
            let (count, stop) = (count.clone(), stop.clone());
            tokio::spawn(async move {
                let names = |seen: &std::collections::BTreeMap<chitchat::ChitchatId, _>| -> BTreeSet<_> {
                    seen.keys().map(|id| id.node_id.clone()).collect()
                };
                let mut before = names(&live.borrow_and_update());
                while let Some(Ok(())) = stop.run_until_cancelled(live.changed()).await {
                    let seen = names(&live.borrow_and_update());
                    let lost = u64::try_from(before.difference(&seen).count()).unwrap();
                    count.fetch_add(lost, Ordering::Relaxed);
                    before = seen;
                }
            });
        }
        sleep(long).await;
        stop.cancel();
        count.load(Ordering::Relaxed)
    }
}

/// What a run found.
struct Found {
    peers: usize,
    loss: f64,
    death_p50: Duration,
    death_max: Duration,
    false_alarms: u64,
    pair_hours: f64,
    bytes_per_second: u64,
}

impl Found {
    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "peers": self.peers,
            "loss": self.loss,
            "death_seen_by_half_ms": self.death_p50.as_millis(),
            "death_seen_by_all_ms": self.death_max.as_millis(),
            "false_alarms": self.false_alarms,
            "pair_hours": self.pair_hours,
            "bytes_per_second_and_peer": self.bytes_per_second,
        })
    }
}

async fn run(peers: usize, loss: f64, quiet: Duration) -> Found {
    let fleet = Fleet::start(peers, loss).await;
    let before = fleet.wire.statistics().num_bytes_total;
    let false_alarms = fleet.false_alarms(quiet).await;
    let bytes = fleet.wire.statistics().num_bytes_total - before;
    let mut took = fleet.kill(peers / 2).await;
    took.sort();
    let pairs = (peers * (peers - 1)) as f64;
    Found {
        peers,
        loss,
        death_p50: took[took.len() / 2],
        death_max: took[took.len() - 1],
        false_alarms,
        pair_hours: pairs * quiet.as_secs_f64() / 3_600.0,
        bytes_per_second: bytes / quiet.as_secs().max(1) / peers as u64,
    }
}

#[tokio::test(start_paused = true)]
async fn a_death_is_seen_soon_and_loss_is_taken_for_none() {
    for (peers, loss) in [(12, 0.0), (16, 0.1)] {
        let found = run(peers, loss, Duration::from_secs(60)).await;
        assert_eq!(found.false_alarms, 0, "{}", found.to_json());
        assert!(found.death_max <= Duration::from_secs(5), "{}", found.to_json());
    }
}

/// All within the grace for which the dead are remembered: each node leaves three dead incarnations of itself behind.
#[tokio::test(start_paused = true)]
async fn all_are_restarted_three_times_one_after_the_other() {
    const PEERS: usize = 4;
    let mut fleet = Fleet::start(PEERS, 0.0).await;
    let began = Instant::now();
    for n in (0..PEERS).cycle().take(3 * PEERS) {
        fleet.restart(n).await;
        fleet.see_all().await;
    }
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
    assert_eq!(
        fleet.false_alarms(Duration::from_secs(30)).await,
        0,
        "the dead trouble nobody"
    );
    sleep(Duration::from_secs(180)).await;
    for n in 0..PEERS {
        assert_eq!(fleet.remembered(n).await, PEERS, "the dead are forgotten");
    }
    fleet.see_all().await;
    let took = fleet.kill(1).await;
    assert!(took.iter().all(|took| *took <= Duration::from_secs(5)), "{took:?}");
}

/// Five minutes: each half has forgotten the other one. Whoever is a member is poked, as connections come up again.
#[tokio::test(start_paused = true)]
async fn a_split_longer_than_the_grace_heals() {
    const HALF: usize = 3;
    let fleet = Fleet::start(2 * HALF, 0.0).await;
    fleet.split(HALF, true).await;
    sleep(Duration::from_secs(300)).await;
    for n in 0..2 * HALF {
        assert_eq!(fleet.sees(n).await.len(), HALF - 1);
        assert_eq!(fleet.remembered(n).await, HALF, "the other half is forgotten");
    }
    fleet.split(HALF, false).await;
    for (a, b) in (0..HALF).flat_map(|a| (HALF..2 * HALF).map(move |b| (a, b))) {
        fleet.handles[a].gossip(address::of(fleet.ids[b])).unwrap();
    }
    fleet.see_all().await;
    assert_eq!(fleet.false_alarms(Duration::from_secs(30)).await, 0);
}

/// `FABRIC_PEERS=200 FABRIC_LOSS=0.1 FABRIC_SECONDS=900 cargo test --release -p membership --lib -- --ignored
/// --nocapture gossip::simulation`
#[tokio::test(start_paused = true)]
#[ignore = "takes minutes; it measures"]
async fn measured() {
    fn from<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
        let text = std::env::var(name).ok();
        text.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    }
    let seconds = Duration::from_secs(from("FABRIC_SECONDS", 60));
    let found = run(from("FABRIC_PEERS", 50), from("FABRIC_LOSS", 0.0), seconds).await;
    println!("{}", found.to_json());
}
