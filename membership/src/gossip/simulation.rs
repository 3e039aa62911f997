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
}

fn id(n: usize) -> NodeId {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&n.to_le_bytes());
    NodeId::of_key(&key)
}

impl Fleet {
    /// Starts so many nodes and waits until each sees all others.
    async fn start(peers: usize, loss: f64) -> Self {
        let (wire, ids): (_, Vec<_>) = (ChannelTransport::default(), (0..peers).map(id).collect());
        let cluster = ClusterId::from_random([1; 16]);
        let mut handles = Vec::new();
        for own in &ids {
            let paced = Paced {
                wire: wire.clone().drop_message(loss),
                members: peers,
            };
            let config = config::of(*own, cluster, 1);
            handles.push(spawn_chitchat(config, Vec::new(), &paced).await.unwrap());
        }
        // As connections come up: to everybody.
        for (own, handle) in ids.iter().zip(&handles) {
            for other in ids.iter().filter(|other| *other != own) {
                handle.gossip(address::of(*other)).unwrap();
            }
        }
        let fleet = Self { ids, handles, wire };
        let all: BTreeSet<_> = fleet.ids.iter().copied().collect();
        let whole = async {
            for n in 0..peers {
                while fleet.sees(n).await.len() < all.len() - 1 {
                    sleep(STEP).await;
                }
            }
        };
        assert!(timeout(PATIENCE, whole).await.is_ok(), "not all see all");
        fleet
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
