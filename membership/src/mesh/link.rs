//! One connection between two members, from the first frame to its end: a task with one loop per class of traffic, so
//! that no class and no peer waits for another. The connection ends with the first of them.
//!
//! What does not decode costs what it came in: a frame of records that frame, a stream of gossip or of a call that stream,
//! while there are few of them.
//! Only the stream of records cannot go on without the connection: behind a length that no frame has it is not known
//! where the next one starts, so the connection ends and is made again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::admission::{self, Close};
use super::frame::{self, FrameError, Outgoing};
use super::table::{Dialled, Queues, Seat};
use super::{Event, Shared, call};
use crate::counter::Counter;
use crate::id::NodeId;
use crate::wire::versions::{Hello, NoCommon, Versions};

/// How long the first frames may take.
const HELLO_DEADLINE: Duration = Duration::from_secs(5);
/// How long one gossip message may take: the next one is under way then.
const GOSSIP_DEADLINE: Duration = Duration::from_millis(250);
/// So many streams of no gossip one connection may bring.
const INVALID_STREAMS: u32 = 16;
/// Gossip goes before records.
const GOSSIP_PRIORITY: i32 = 1;

/// Serves a connection whose other end is known to be `peer`. Returns when it is over; says whether it ever stood.
pub(super) async fn serve(shared: &Arc<Shared>, peer: NodeId, dialled: Dialled, connection: Connection) -> bool {
    let (send, receive, theirs) = match timeout(HELLO_DEADLINE, greet(shared, &connection)).await {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(close)) => return turn_away(shared, &connection, close),
        Err(_) => return turn_away(shared, &connection, Close::Slow),
    };
    let wire = match shared.wire.common(theirs, shared.agreed()) {
        Ok(wire) => wire,
        Err(apart) => return speaks_otherwise(shared, peer, &connection, &apart),
    };
    let seat = match shared.up(peer, dialled, connection.clone(), wire).await {
        Ok(seat) => seat,
        Err(close) => return no_place(shared, peer, &connection, close),
    };
    let close = carry(shared, peer, &connection, &seat, send, receive).await;
    close.close(&connection);
    shared.down(peer, seat.serial).await;
    true
}

/// Says whether it stood: who has another connection does.
fn no_place(shared: &Shared, peer: NodeId, connection: &Connection, close: Close) -> bool {
    let counter = match close {
        Close::Removed => Some(Counter::RefusedRemoved),
        Close::WireVersion => Some(Counter::RefusedWireVersion),
        Close::Certificate => Some(Counter::RefusedCertificate),
        _ => None,
    };
    match counter {
        Some(counter) => {
            let words = format!("node {peer} is not let in any more: the cluster record changed meanwhile");
            shared.refuse(counter, connection.remote_address(), &words);
        }
        None => shared.counters.add(Counter::LinksDuplicate),
    }
    close.close(connection);
    counter.is_none()
}

/// Tells both sides who speaks what.
fn speaks_otherwise(shared: &Shared, peer: NodeId, connection: &Connection, apart: &NoCommon) -> bool {
    let NoCommon { ours, theirs, agreed } = apart;
    let (own, older) = (shared.own, if apart.they_are_older() { peer } else { shared.own });
    let words = format!(
        "node {peer} speaks wire version {theirs}, node {own} {ours}, agreed is {agreed}: upgrade node {older}, or raise \
         `max` under [wire] there"
    );
    shared.refuse(Counter::RefusedWireVersion, connection.remote_address(), &words);
    Close::WireVersion.close_saying(connection, words.as_bytes());
    false
}

fn turn_away(shared: &Shared, connection: &Connection, close: Close) -> bool {
    let told = connection.close_reason().as_ref().and_then(admission::other_wire);
    if let Some(words) = told {
        shared.refuse(Counter::RefusedWireVersion, connection.remote_address(), &words);
        return false;
    }
    let reason = match close {
        Close::Slow => Some((Counter::RefusedTimeout, "it did not say hello in time")),
        Close::Protocol => Some((Counter::RefusedProtocol, "its first frame is no hello")),
        _ if connection
            .close_reason()
            .is_some_and(|error| admission::removed_us(&error)) =>
        {
            let words = "it says that this node was removed from the cluster: run `fabric-node reset`, then join again";
            Some((Counter::RefusedAsRemoved, words))
        }
        _ if connection
            .close_reason()
            .is_some_and(|error| admission::refused_us(&error)) =>
        {
            let words = "it refuses this node's certificate: has it expired, or is that another cluster's address?";
            Some((Counter::RefusedByPeer, words))
        }
        // It closed the connection itself, and knows why.
        _ => None,
    };
    if let Some((counter, words)) = reason {
        shared.refuse(counter, connection.remote_address(), words);
    }
    close.close(connection);
    false
}

/// Opens the stream of records on both sides; what the other one speaks.
async fn greet(shared: &Shared, connection: &Connection) -> Result<(SendStream, RecvStream, Versions), Close> {
    let offer = shared.wire.offered(shared.agreed());
    let (send, heard) = tokio::join!(say_hello(connection, offer), hear_hello(connection));
    let (receive, theirs) = heard?;
    Ok((send.map_err(|_| Close::Done)?, receive, theirs))
}

async fn say_hello(connection: &Connection, offer: Versions) -> Result<SendStream, FrameError> {
    let mut stream = connection.open_uni().await.map_err(|_| FrameError::Ended)?;
    let hello = postcard::to_stdvec(&Hello::of(offer)).map_err(|_| FrameError::Malformed)?;
    stream
        .write_all(&[frame::RECORDS])
        .await
        .map_err(|_| FrameError::Ended)?;
    frame::write(&mut stream, hello.into()).await?;
    Ok(stream)
}

async fn hear_hello(connection: &Connection) -> Result<(RecvStream, Versions), Close> {
    let mut stream = connection.accept_uni().await.map_err(|_| Close::Done)?;
    if frame::read_tag(&mut stream).await.map_err(close_for)? != frame::RECORDS {
        return Err(Close::Protocol);
    }
    let bytes = frame::read(&mut stream).await.map_err(close_for)?;
    let theirs = Hello::read(&bytes).ok_or(Close::Protocol)?;
    Ok((stream, theirs))
}

fn close_for(error: FrameError) -> Close {
    match error {
        FrameError::Ended => Close::Done,
        FrameError::TooSlow => Close::Slow,
        FrameError::TooLarge(_) | FrameError::Malformed => Close::Protocol,
    }
}

async fn carry(
    shared: &Arc<Shared>,
    peer: NodeId,
    connection: &Connection,
    seat: &Seat,
    send: SendStream,
    receive: RecvStream,
) -> Close {
    let close = tokio::select! {
        error = send_records(&seat.queues, send) => close_for(error),
        close = receive_records(shared, peer, receive) => close,
        () = send_gossip(&seat.queues, connection) => Close::Done,
        close = receive_gossip_streams(shared, peer, connection) => close,
        () = receive_datagrams(shared, peer, connection) => Close::Done,
        () = call::serve(shared, peer, connection) => Close::Done,
        () = seat.replaced.cancelled() => Close::Duplicate,
        () = shared.stop.cancelled() => Close::Shutdown,
    };
    if matches!(close, Close::Protocol | Close::Slow) {
        let words = format!("node {peer} breaks the protocol or is too slow ({close:?})");
        shared.refuse(Counter::LinksBroken, connection.remote_address(), &words);
    }
    close
}

async fn send_records(queues: &Queues, mut stream: SendStream) -> FrameError {
    loop {
        let frame = queues.records.next().await;
        if let Err(error) = frame::write(&mut stream, frame).await {
            return error;
        }
    }
}

async fn receive_records(shared: &Shared, peer: NodeId, mut stream: RecvStream) -> Close {
    loop {
        match frame::read(&mut stream).await {
            Ok(bytes) => shared.tell(Event::Frame(peer, bytes)).await,
            Err(error) => return close_for(error),
        }
    }
}

/// Ends when the connection does.
async fn send_gossip(queues: &Queues, connection: &Connection) {
    loop {
        let message = queues.gossip.next().await;
        let datagrams = connection.max_datagram_size().unwrap_or(0).min(frame::DATAGRAM_MAX);
        if message.len() <= datagrams {
            // It fails only if the path's size just shrank, or with the connection.
            let _lost = connection.send_datagram(message);
        } else if timeout(GOSSIP_DEADLINE, send_gossip_stream(connection, message))
            .await
            .is_ok_and(|sent| sent.is_err())
        {
            return;
        }
    }
}

async fn send_gossip_stream(connection: &Connection, message: Bytes) -> Result<(), FrameError> {
    let stream = connection.open_uni().await.map_err(|_| FrameError::Ended)?;
    Outgoing::new(stream, GOSSIP_PRIORITY)
        .send(Bytes::from_static(&[frame::GOSSIP]), message)
        .await
}

async fn receive_datagrams(shared: &Shared, peer: NodeId, connection: &Connection) {
    while let Ok(message) = connection.read_datagram().await {
        shared.gossip_came(peer, connection, message);
    }
}

/// The number of streams that are read at once is bounded by what QUIC lets the peer open. Ends when the connection does.
async fn receive_gossip_streams(shared: &Arc<Shared>, peer: NodeId, connection: &Connection) -> Close {
    let mut invalid = 0;
    let mut readers: JoinSet<Result<Bytes, FrameError>> = JoinSet::new();
    loop {
        tokio::select! {
            stream = connection.accept_uni() => match stream {
                Ok(stream) => drop(readers.spawn(read_gossip(stream))),
                Err(_) => return Close::Done,
            },
            Some(read) = readers.join_next() => match read {
                Ok(Ok(message)) => shared.gossip_came(peer, connection, message),
                Ok(Err(FrameError::Malformed | FrameError::TooLarge(_))) => {
                    let words = format!("node {peer} sent a stream that is no gossip, or more of it than any");
                    shared.refuse(Counter::GossipInvalid, connection.remote_address(), &words);
                    invalid += 1;
                    if invalid > INVALID_STREAMS {
                        return Close::Protocol;
                    }
                }
                Ok(Err(FrameError::Ended | FrameError::TooSlow)) | Err(_) => {}
            },
        }
    }
}

async fn read_gossip(mut stream: RecvStream) -> Result<Bytes, FrameError> {
    if frame::read_tag(&mut stream).await? != frame::GOSSIP {
        return Err(FrameError::Malformed);
    }
    frame::read_rest(&mut stream, frame::GOSSIP_MAX, GOSSIP_DEADLINE).await
}
