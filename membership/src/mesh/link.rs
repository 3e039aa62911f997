//! One connection between two members, from the first frame to its end: a task with one loop per class of traffic, so
//! that no class and no peer waits for another. The connection ends with the first of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::admission::{self, Close};
use super::frame::{self, FrameError, Hello, Outgoing};
use super::table::{Dialled, Queues, Seat};
use super::{Event, Shared, call};
use crate::counter::Counter;
use crate::id::NodeId;

/// How long the first frames may take.
const HELLO_DEADLINE: Duration = Duration::from_secs(5);
/// How long one gossip message may take: the next one is under way then.
const GOSSIP_DEADLINE: Duration = Duration::from_millis(250);
/// Gossip goes before records.
const GOSSIP_PRIORITY: i32 = 1;

/// Serves a connection whose other end is known to be `peer`. Returns when it is over; says whether it ever stood.
pub(super) async fn serve(shared: &Arc<Shared>, peer: NodeId, dialled: Dialled, connection: Connection) -> bool {
    let (send, receive) = match timeout(HELLO_DEADLINE, greet(&connection)).await {
        Ok(Ok(streams)) => streams,
        Ok(Err(close)) => return turn_away(shared, &connection, close),
        Err(_) => return turn_away(shared, &connection, Close::Slow),
    };
    let Some(seat) = shared.up(peer, dialled, connection.clone()).await else {
        shared.counters.add(Counter::LinksDuplicate);
        Close::Duplicate.close(&connection);
        return true;
    };
    let close = carry(shared, peer, &connection, &seat, send, receive).await;
    close.close(&connection);
    shared.down(peer, seat.serial).await;
    true
}

fn turn_away(shared: &Shared, connection: &Connection, close: Close) -> bool {
    let reason = match close {
        Close::WireVersion => Some((
            Counter::RefusedWireVersion,
            "it speaks other wire versions; upgrade the older",
        )),
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

/// Opens the stream of records on both sides.
async fn greet(connection: &Connection) -> Result<(SendStream, RecvStream), Close> {
    let (send, receive) = tokio::join!(say_hello(connection), hear_hello(connection));
    Ok((send.map_err(|_| Close::Done)?, receive?))
}

async fn say_hello(connection: &Connection) -> Result<SendStream, FrameError> {
    let mut stream = connection.open_uni().await.map_err(|_| FrameError::Ended)?;
    let hello = postcard::to_stdvec(&Hello::OWN).map_err(|_| FrameError::Malformed)?;
    stream
        .write_all(&[frame::RECORDS])
        .await
        .map_err(|_| FrameError::Ended)?;
    frame::write(&mut stream, hello.into()).await?;
    Ok(stream)
}

async fn hear_hello(connection: &Connection) -> Result<RecvStream, Close> {
    let mut stream = connection.accept_uni().await.map_err(|_| Close::Done)?;
    if frame::read_tag(&mut stream).await.map_err(close_for)? != frame::RECORDS {
        return Err(Close::Protocol);
    }
    let bytes = frame::read(&mut stream).await.map_err(close_for)?;
    let hello = Hello::read(&bytes).ok_or(Close::Protocol)?;
    if hello.agrees() {
        Ok(stream)
    } else {
        Err(Close::WireVersion)
    }
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

/// The number of streams that are read at once is bounded by what QUIC lets the peer open.
async fn receive_gossip_streams(shared: &Arc<Shared>, peer: NodeId, connection: &Connection) -> Close {
    let mut readers: JoinSet<Result<Bytes, FrameError>> = JoinSet::new();
    loop {
        tokio::select! {
            stream = connection.accept_uni() => match stream {
                Ok(stream) => drop(readers.spawn(read_gossip(stream))),
                Err(_) => return Close::Done,
            },
            Some(read) = readers.join_next() => match read {
                Ok(Ok(message)) => shared.gossip_came(peer, connection, message),
                Ok(Err(FrameError::Malformed | FrameError::TooLarge(_))) => return Close::Protocol,
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
