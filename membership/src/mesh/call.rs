//! Calls: one request and one answer on a stream of its own, bounded in bytes and time on both sides.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Shared;
use super::frame::{self, FRAME_MAX, FrameError, Outgoing};
use crate::counter::Counter;
use crate::id::NodeId;
use crate::service::CallError;

/// Longest a caller may wait.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long a request may be in coming.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// Most characters of a refusal's reason.
const REASON_MAX: usize = 1_000;
/// Calls go before records, like gossip.
const PRIORITY: i32 = 1;

/// Bytes in front of what is asked.
const HEADER: usize = 5;
const ANSWERED: u8 = 0;
const REFUSED: u8 = 1;

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Membership itself.
    Internal = 1,
    /// The owner of the peer.
    Application = 2,
}

impl Class {
    fn from_code(code: u8) -> Option<Self> {
        [Self::Internal, Self::Application]
            .into_iter()
            .find(|class| *class as u8 == code)
    }
}

/// Asks the node at the other end of a connection.
pub(super) async fn ask(
    connection: &Connection,
    to: NodeId,
    class: Class,
    request: Bytes,
    wait: Duration,
) -> Result<Bytes, CallError> {
    if request.len() > FRAME_MAX {
        return Err(CallError::Refused(
            to,
            format!("a request has at most {FRAME_MAX} bytes"),
        ));
    }
    let wait = wait.min(WAIT_MAX);
    match timeout(wait, exchange(connection, class, request, wait)).await {
        Err(_) => Err(CallError::Timeout(to)),
        Ok(Err(FrameError::Ended)) => Err(CallError::NotConnected(to)),
        Ok(Err(error)) => Err(CallError::Refused(to, error.to_string())),
        Ok(Ok(answer)) => match answer.first() {
            Some(&ANSWERED) => Ok(answer.slice(1..)),
            Some(&REFUSED) => Err(CallError::Refused(to, reason(&answer[1..]))),
            _ => Err(CallError::Refused(to, "its answer cannot be read".to_owned())),
        },
    }
}

/// Another node's words, as far as they are worth showing.
fn reason(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|c| !c.is_control())
        .take(REASON_MAX)
        .collect()
}

async fn exchange(connection: &Connection, class: Class, request: Bytes, wait: Duration) -> Result<Bytes, FrameError> {
    let (send, mut receive) = connection.open_bi().await.map_err(|_| FrameError::Ended)?;
    let millis = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
    let header = [&[class as u8], millis.to_be_bytes().as_slice()].concat();
    Outgoing::new(send, PRIORITY).send(header.into(), request).await?;
    frame::read_rest(&mut receive, FRAME_MAX + 1, wait).await
}

/// Answers the calls of a connection until it ends. QUIC bounds how many the peer can have open.
pub(super) async fn serve(shared: &Arc<Shared>, peer: NodeId, connection: &Connection) {
    let mut calls = JoinSet::new();
    loop {
        tokio::select! {
            stream = connection.accept_bi() => match stream {
                Ok((send, receive)) => drop(calls.spawn(one(shared.clone(), peer, send, receive))),
                Err(_) => return,
            },
            Some(_) = calls.join_next() => {}
        }
    }
}

async fn one(shared: Arc<Shared>, peer: NodeId, send: SendStream, mut receive: RecvStream) {
    let (status, body) = match answer(&shared, peer, &mut receive).await {
        Ok(body) if body.len() <= FRAME_MAX => (ANSWERED, body),
        Ok(_) => (REFUSED, Bytes::from_static(b"the answer is too large")),
        Err(why) => (REFUSED, why.into()),
    };
    let counter = if status == ANSWERED {
        Counter::CallsAnswered
    } else {
        Counter::CallsFailed
    };
    shared.counters.add(counter);
    let sent = Outgoing::new(send, PRIORITY).send(Bytes::copy_from_slice(&[status]), body);
    // Who asked may have gone, or reads too slowly.
    let _sent = timeout(frame::FRAME_DEADLINE, sent).await;
}

async fn answer(shared: &Shared, peer: NodeId, receive: &mut RecvStream) -> Result<Bytes, String> {
    let request = frame::read_rest(receive, FRAME_MAX + HEADER, REQUEST_DEADLINE)
        .await
        .map_err(|error| error.to_string())?;
    let (class, wait, body) = read(&request)?;
    match timeout(wait, (shared.handlers.answer)(class, peer, body)).await {
        Ok(answer) => answer,
        Err(_) => Err("it took too long".to_owned()),
    }
}

/// What a call is for, how long its caller waits, and what it asks.
pub(crate) fn read(request: &Bytes) -> Result<(Class, Duration, Bytes), String> {
    let Some((header, _)) = request.split_first_chunk::<HEADER>() else {
        return Err("the request cannot be read".to_owned());
    };
    let [class, millis @ ..] = *header;
    let class = Class::from_code(class).ok_or("the class of the request is not known here")?;
    let wait = Duration::from_millis(u32::from_be_bytes(millis).into()).min(WAIT_MAX);
    Ok((class, wait, request.slice(HEADER..)))
}
