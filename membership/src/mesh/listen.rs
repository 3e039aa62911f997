//! The accepting side of the endpoint: handshakes, who is let in, and what happens to those who are not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, Incoming};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::admission::{self, Close, Protocol, Refused};
use super::table::Dialled;
use super::{Shared, link};
use crate::counter::Counter;
use crate::wallclock;

/// Handshakes at once.
const HANDSHAKES: usize = 64;
/// How many of those may be under way before senders must prove their address.
const UNPROVEN: usize = 16;
/// Joins at once.
const JOINS: usize = 8;
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
const JOIN_DEADLINE: Duration = Duration::from_secs(20);

/// What bounds the work for strangers.
#[derive(Debug)]
struct Doors {
    handshakes: Arc<Semaphore>,
    joins: Arc<Semaphore>,
}

/// Accepts until the endpoint is closed.
pub(super) async fn accept(shared: Arc<Shared>) {
    let doors = Arc::new(Doors {
        handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
        joins: Arc::new(Semaphore::new(JOINS)),
    });
    while let Some(incoming) = shared.endpoint.accept().await {
        let from = incoming.remote_address();
        if doors.handshakes.available_permits() <= HANDSHAKES - UNPROVEN && incoming.may_retry() {
            // It was just said that it may.
            let _impossible = incoming.retry();
            continue;
        }
        let Ok(permit) = doors.handshakes.clone().try_acquire_owned() else {
            shared.refuse(Counter::RefusedBusy, from, "too many handshakes at once");
            incoming.refuse();
            continue;
        };
        let (shared, doors) = (shared.clone(), doors.clone());
        shared.clone().tasks.spawn(async move {
            let connection = handshake(&shared, incoming, from).await;
            drop(permit);
            if let Some(connection) = connection {
                admit(&shared, &doors, connection).await;
            }
        });
    }
}

async fn handshake(shared: &Shared, incoming: Incoming, from: SocketAddr) -> Option<Connection> {
    let shaken = async { incoming.accept()?.await };
    match timeout(HANDSHAKE_DEADLINE, shaken).await {
        Ok(Ok(connection)) => Some(connection),
        Ok(Err(error)) => {
            shared.refuse(admission::failed(&error), from, &error.to_string());
            None
        }
        Err(_) => {
            shared.refuse(Counter::RefusedTimeout, from, "its handshake took too long");
            None
        }
    }
}

async fn admit(shared: &Arc<Shared>, doors: &Doors, connection: Connection) {
    match admission::protocol(&connection) {
        Ok(Protocol::Mesh) => admit_member(shared, connection).await,
        Ok(Protocol::Join) => admit_joiner(shared, doors, connection).await,
        Err(refused) => turn_away(shared, &connection, &refused),
    }
}

async fn admit_member(shared: &Arc<Shared>, connection: Connection) {
    match admission::peer(&connection, &shared.face().roots, shared.own, wallclock::since_epoch()) {
        Ok(peer) if shared.banished().contains(&peer) => turn_away(shared, &connection, &Refused::Removed(peer)),
        Ok(peer) => match shared.places.enter(peer) {
            Some(_place) => drop(link::serve(shared, peer, Dialled::There, connection).await),
            None => {
                let words = format!("node {peer} has too many connections at once");
                shared.refuse(Counter::RefusedBusy, connection.remote_address(), &words);
                Close::Busy.close(&connection);
            }
        },
        Err(refused) => turn_away(shared, &connection, &refused),
    }
}

async fn admit_joiner(shared: &Shared, doors: &Doors, connection: Connection) {
    let Ok(_permit) = doors.joins.try_acquire() else {
        shared.refuse(
            Counter::RefusedBusy,
            connection.remote_address(),
            "too many joins at once",
        );
        return Close::Busy.close(&connection);
    };
    if timeout(JOIN_DEADLINE, (shared.handlers.join)(connection.clone()))
        .await
        .is_err()
    {
        Close::Slow.close(&connection);
    }
}

fn turn_away(shared: &Shared, connection: &Connection, refused: &Refused) {
    shared.refuse(refused.counter(), connection.remote_address(), &refused.to_string());
    refused.close().close(connection);
}
