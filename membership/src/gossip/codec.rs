//! Turns chitchat's envelopes into bytes and back. Their form is private to chitchat, so its own UDP socket does it, on
//! the loopback interface, with a plain socket of ours at the other end.
//!
//! chitchat drops bytes that it cannot read without a word. A known envelope is therefore sent right behind the bytes
//! to be read: what comes out first is either their envelope, or that sentinel.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use bytes::Bytes;
use chitchat::transport::{Socket, Transport as _, UdpTransport};
use chitchat::{ChitchatEnvelope, ChitchatMessage, ProtocolVersion};
use tokio::net::UdpSocket;
use tokio::time::{Duration, timeout};

use crate::mesh::frame::GOSSIP_MAX;

/// Loopback never takes that long; without it a full buffer would stop gossip.
const LOOPBACK_DEADLINE: Duration = Duration::from_millis(500);

/// The pair of sockets.
pub(crate) struct Codec {
    /// chitchat's.
    theirs: Box<dyn Socket>,
    /// Ours, connected to `theirs`.
    ours: UdpSocket,
    ours_address: SocketAddr,
    sentinel: Bytes,
    buffer: Box<[u8]>,
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Codec")
            .field("ours", &self.ours_address)
            .finish_non_exhaustive()
    }
}

fn sentinel() -> ChitchatEnvelope {
    ChitchatEnvelope {
        version: ProtocolVersion::V0,
        message: ChitchatMessage::BadCluster,
    }
}

impl Codec {
    /// Opens both sockets. The loopback interface must be up.
    pub(crate) async fn open() -> anyhow::Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let theirs = UdpTransport.open(any).await?;
        let ours = UdpSocket::bind(any)
            .await
            .context("127.0.0.1 cannot be bound: is the loopback interface up?")?;
        ours.connect(theirs.local_addr()?).await?;
        let ours_address = ours.local_addr()?;
        let buffer = vec![0; GOSSIP_MAX].into_boxed_slice();
        let mut codec = Self {
            theirs,
            ours,
            ours_address,
            sentinel: Bytes::new(),
            buffer,
        };
        codec.sentinel = codec
            .encode(sentinel())
            .await?
            .context("the loopback interface lost a datagram")?;
        Ok(codec)
    }

    /// The bytes of an envelope; `None` if they got lost on the way, which is like a loss on the network.
    pub(crate) async fn encode(&mut self, envelope: ChitchatEnvelope) -> anyhow::Result<Option<Bytes>> {
        // What an earlier call gave up on must not be taken for this one's.
        while self.ours.try_recv(&mut self.buffer).is_ok() {}
        self.theirs.send(self.ours_address, envelope).await?;
        match timeout(LOOPBACK_DEADLINE, self.ours.recv(&mut self.buffer)).await {
            Ok(length) => Ok(self.buffer.get(..length?).map(Bytes::copy_from_slice)),
            Err(_) => Ok(None),
        }
    }

    /// Hands bytes over for reading. Not to be cancelled; [`Codec::decoded`] tells what they were.
    pub(crate) async fn begin(&self, bytes: &[u8]) -> anyhow::Result<()> {
        self.ours.send(bytes).await?;
        self.ours.send(&self.sentinel).await?;
        Ok(())
    }

    /// The next envelope that came out, `None` for the sentinel. Can be cancelled.
    pub(crate) async fn decoded(&mut self) -> anyhow::Result<Option<ChitchatEnvelope>> {
        loop {
            let outcome = self.theirs.recv().await?;
            // Any process of this host can send to a loopback port.
            if outcome.from_addr == self.ours_address {
                return Ok((outcome.envelope != sentinel()).then_some(outcome.envelope));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(codec: &mut Codec, bytes: &[u8]) -> Option<ChitchatEnvelope> {
        codec.begin(bytes).await.unwrap();
        let first = codec.decoded().await.unwrap();
        if first.is_some() {
            assert_eq!(codec.decoded().await.unwrap(), None, "the sentinel follows");
        }
        first
    }

    fn bad_cluster_v1() -> ChitchatEnvelope {
        ChitchatEnvelope {
            version: ProtocolVersion::V1,
            message: ChitchatMessage::BadCluster,
        }
    }

    #[tokio::test]
    async fn envelopes_survive_and_junk_does_not_confuse() {
        let (mut one, mut two) = (Codec::open().await.unwrap(), Codec::open().await.unwrap());
        let bytes = one.encode(bad_cluster_v1()).await.unwrap().unwrap();
        assert_eq!(read(&mut two, &bytes).await, Some(bad_cluster_v1()));
        for junk in [&b""[..], b"x", &[0xff; 1_000], &[0; 65_507]] {
            assert_eq!(read(&mut two, junk).await, None);
            assert_eq!(read(&mut two, &bytes).await, Some(bad_cluster_v1()));
        }
    }

    #[tokio::test]
    async fn other_processes_are_not_heard() {
        let mut codec = Codec::open().await.unwrap();
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let bytes = codec.encode(bad_cluster_v1()).await.unwrap().unwrap();
        stranger
            .send_to(&bytes, codec.theirs.local_addr().unwrap())
            .await
            .unwrap();
        assert_eq!(read(&mut codec, b"junk").await, None);
    }
}
