//! The socket that chitchat gossips over: members' bytes in, sieved, bytes for members out, each attributed to the node
//! whose connection carries it. It drops what comes from anybody else, and never waits for a peer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket, Transport};
use chitchat::{ChitchatEnvelope, ChitchatMessage};
use tokio::time::timeout_at;

use super::address;
use super::codec::Codec;
use super::hearing::{Hearing, Offence};
use super::sieve::{self, Sieved};
use crate::counter::{Counter, Counters};
use crate::id::{ClusterId, NodeId};
use crate::mesh::queue::Queue;
use crate::wallclock;

/// Loopback is never that slow; datagrams get lost there only when memory is short.
const LOOPBACK_DEADLINE: Duration = Duration::from_secs(2);

/// Takes gossip to a member; must return at once.
pub(crate) type Send = dyn Fn(NodeId, Bytes) + std::marker::Send + Sync;

/// What sockets share with the rest of gossip.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) own: NodeId,
    pub(crate) cluster: ClusterId,
    pub(crate) inbox: Arc<Queue<(NodeId, Bytes)>>,
    pub(crate) send: Arc<Send>,
    pub(crate) hearing: Arc<Mutex<Hearing>>,
    pub(crate) counters: Arc<Counters>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("own", &self.own).finish_non_exhaustive()
    }
}

impl Wire {
    pub(crate) fn hearing(&self) -> MutexGuard<'_, Hearing> {
        self.hearing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Transport for Wire {
    async fn open(&self, _listen: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let codec = Codec::open().await?;
        Ok(Box::new(MeshSocket {
            wire: self.clone(),
            codec,
            reading: Reading::Nothing,
        }))
    }
}

/// How far the reading of a message is, kept here because `recv` may be cancelled at any await.
#[derive(Debug)]
enum Reading {
    Nothing,
    /// These bytes are to be handed over.
    Next(NodeId, Bytes),
    /// They were handed over, and the codec has not told what they are. It must until then.
    Begun(NodeId, usize, tokio::time::Instant),
    /// They were an envelope, whose sentinel is still to come.
    Told(tokio::time::Instant),
}

#[derive(Debug)]
struct MeshSocket {
    wire: Wire,
    codec: Codec,
    reading: Reading,
}

impl MeshSocket {
    /// What of a message is worth reading.
    fn accepts(&self, from: NodeId, message: &[u8]) -> Option<Bytes> {
        let (mut hearing, now) = (self.wire.hearing(), wallclock::monotonic());
        if !hearing.hears(from, now) {
            self.wire.counters.add(Counter::GossipRefused);
            return None;
        }
        let cluster = self.wire.cluster.to_string();
        // What others heard of this node itself is in all they say, and nobody's word.
        let mut of_itself = 0;
        let believes = |node, said| {
            of_itself += u64::from(node == self.wire.own);
            hearing.believes(from, node, said, now)
        };
        match sieve::sieve(message, &cluster, believes) {
            Ok(Sieved { message, dropped }) => {
                let dropped = dropped.saturating_sub(of_itself);
                self.wire.counters.add_many(Counter::GossipUnbelieved, dropped);
                Some(message)
            }
            Err(poison) => {
                self.wire.counters.add(Counter::GossipInvalid);
                hearing.report(from, Offence::Poison(poison), now);
                None
            }
        }
    }

    /// An error here ends the gossip task, through no fault of a peer.
    async fn decoded(&mut self, deadline: tokio::time::Instant) -> anyhow::Result<Option<ChitchatEnvelope>> {
        let decoded = match timeout_at(deadline, self.codec.decoded()).await {
            Ok(decoded) => decoded,
            Err(_) => Err(anyhow::anyhow!("the loopback interface lost a datagram")),
        };
        if decoded.is_err() {
            self.wire.hearing().reads(None);
        }
        decoded
    }
}

#[async_trait]
impl Socket for MeshSocket {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(address::of(self.wire.own))
    }

    async fn send(&mut self, to: SocketAddr, envelope: ChitchatEnvelope) -> anyhow::Result<SendOutcome> {
        let Some(node) = address::node(to) else {
            return Ok(SendOutcome { num_bytes_sent: 0 });
        };
        let opening = matches!(envelope.message, ChitchatMessage::Syn { .. });
        if opening && !self.wire.hearing().opens(node) {
            return Ok(SendOutcome { num_bytes_sent: 0 });
        }
        let Some(bytes) = self.codec.encode(envelope).await? else {
            return Ok(SendOutcome { num_bytes_sent: 0 });
        };
        let num_bytes_sent = bytes.len();
        (self.wire.send)(node, bytes);
        Ok(SendOutcome { num_bytes_sent })
    }

    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        loop {
            match &self.reading {
                Reading::Nothing => {
                    let (from, message) = self.wire.inbox.next().await;
                    if let Some(sieved) = self.accepts(from, &message) {
                        self.reading = Reading::Next(from, sieved);
                    }
                }
                Reading::Next(from, message) => {
                    let (from, message) = (*from, message.clone());
                    // A loopback send that waits is taken up again from the start; the sentinel keeps order.
                    self.codec.begin(&message).await?;
                    self.reading = Reading::Begun(from, message.len(), tokio::time::Instant::now() + LOOPBACK_DEADLINE);
                }
                Reading::Begun(from, num_bytes_received, deadline) => {
                    let (from, num_bytes_received, deadline) = (*from, *num_bytes_received, *deadline);
                    let Some(envelope) = self.decoded(deadline).await? else {
                        self.wire.counters.add(Counter::GossipInvalid);
                        self.reading = Reading::Nothing;
                        continue;
                    };
                    self.reading = Reading::Told(deadline);
                    self.wire.hearing().reads(Some(from));
                    return Ok(RecvOutcome {
                        from_addr: address::of(from),
                        envelope,
                        num_bytes_received,
                    });
                }
                Reading::Told(deadline) => {
                    let deadline = *deadline;
                    // An envelope in place of the sentinel is of a send that was taken up again: the same once more.
                    if self.decoded(deadline).await?.is_none() {
                        self.reading = Reading::Nothing;
                    }
                }
            }
        }
    }
}
