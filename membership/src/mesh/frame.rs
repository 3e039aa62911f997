//! What goes over the streams of a connection, and its limits.
//!
//! ```text
//!  uni stream  0x01 | { length u32 | frame }…      records, in order; the first frame is a Hello; one per connection
//!  uni stream  0x02 | message                      gossip too large for a datagram; one message per stream
//!  bidi stream class u8 | millis u32 | request     a call; millis is how long the caller waits
//!         back status u8 | answer or reason
//!  datagram    message                             gossip
//! ```

use std::time::Duration;

use bytes::Bytes;
use quinn::{RecvStream, SendStream, VarInt};
use tokio::time::timeout;

/// Largest frame, request or answer.
pub(crate) const FRAME_MAX: usize = 1024 * 1024;
/// Largest gossip message: what chitchat can make, a UDP datagram over IPv4.
pub(crate) const GOSSIP_MAX: usize = 65_507;
/// Largest gossip message sent as a datagram: fits any path that QUIC runs on.
pub(crate) const DATAGRAM_MAX: usize = 1_150;
/// How long one frame may take, in either direction.
pub(crate) const FRAME_DEADLINE: Duration = Duration::from_secs(20);

/// First byte of the stream of records.
pub(crate) const RECORDS: u8 = 0x01;
/// First byte of a stream with one gossip message.
pub(crate) const GOSSIP: u8 = 0x02;

/// Why a stream is not read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The stream or its connection ended.
    #[error("the stream ended")]
    Ended,
    /// More than the limit.
    #[error("a frame of {0} bytes is too large")]
    TooLarge(usize),
    /// It took longer than it may.
    #[error("a frame took too long")]
    TooSlow,
    /// Not what is expected there.
    #[error("a frame is malformed")]
    Malformed,
}

/// A stream that ends as a whole message or as none: dropped before its end, the other side sees a reset, where quinn
/// alone would end it as if all had been said.
#[derive(Debug)]
pub(crate) struct Outgoing {
    stream: SendStream,
    finished: bool,
}

impl Outgoing {
    /// Takes a stream of `priority`; higher ones are sent first.
    pub(crate) fn new(stream: SendStream, priority: i32) -> Self {
        // It fails only for a stream that was closed, which shows at the first write.
        let _closed = stream.set_priority(priority);
        Self {
            stream,
            finished: false,
        }
    }

    /// Writes these parts as all that there is to say.
    pub(crate) async fn send(mut self, head: Bytes, body: Bytes) -> Result<(), FrameError> {
        self.stream
            .write_all_chunks(&mut [head, body])
            .await
            .map_err(|_| FrameError::Ended)?;
        self.stream.finish().map_err(|_| FrameError::Ended)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if !self.finished {
            // It fails only for a stream that the other side has stopped.
            let _stopped = self.stream.reset(VarInt::from_u32(0));
        }
    }
}

/// Writes one length-prefixed frame within the deadline.
pub(crate) async fn write(stream: &mut SendStream, frame: Bytes) -> Result<(), FrameError> {
    let length = u32::try_from(frame.len()).map_err(|_| FrameError::TooLarge(frame.len()))?;
    if frame.len() > FRAME_MAX {
        return Err(FrameError::TooLarge(frame.len()));
    }
    let mut chunks = [Bytes::copy_from_slice(&length.to_be_bytes()), frame];
    match timeout(FRAME_DEADLINE, stream.write_all_chunks(&mut chunks)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(FrameError::Ended),
        Err(_) => Err(FrameError::TooSlow),
    }
}

/// Reads one length-prefixed frame. It may be long in coming, but not once it has begun.
pub(crate) async fn read(stream: &mut RecvStream) -> Result<Bytes, FrameError> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.map_err(|_| FrameError::Ended)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > FRAME_MAX {
        return Err(FrameError::TooLarge(length));
    }
    let mut frame = vec![0; length];
    match timeout(FRAME_DEADLINE, stream.read_exact(&mut frame)).await {
        Ok(Ok(())) => Ok(frame.into()),
        Ok(Err(_)) => Err(FrameError::Ended),
        Err(_) => Err(FrameError::TooSlow),
    }
}

/// Reads the byte that says what a stream carries.
pub(crate) async fn read_tag(stream: &mut RecvStream) -> Result<u8, FrameError> {
    let mut tag = [0];
    match timeout(FRAME_DEADLINE, stream.read_exact(&mut tag)).await {
        Ok(Ok(())) => Ok(tag[0]),
        Ok(Err(_)) => Err(FrameError::Ended),
        Err(_) => Err(FrameError::TooSlow),
    }
}

/// Reads the rest of a stream, at most `limit` bytes, within `deadline`.
pub(crate) async fn read_rest(stream: &mut RecvStream, limit: usize, deadline: Duration) -> Result<Bytes, FrameError> {
    match timeout(deadline, stream.read_to_end(limit)).await {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(quinn::ReadToEndError::TooLong)) => Err(FrameError::TooLarge(limit)),
        Ok(Err(quinn::ReadToEndError::Read(_))) => Err(FrameError::Ended),
        Err(_) => Err(FrameError::TooSlow),
    }
}
