//! The dialling side of the endpoint: does what the [`Dialer`] says and tells it how it went.
//!
//! [`Dialer`]: super::dialer::Dialer

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::Connection;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::admission::{self, Refused};
use super::table::Dialled;
use super::{Shared, link};
use crate::counter::Counter;
use crate::id::NodeId;
use crate::join::JoinError;
use crate::pki;
use crate::wallclock;

const TICK: Duration = Duration::from_millis(100);
const DIAL_DEADLINE: Duration = Duration::from_secs(5);

/// Dials until the mesh stops.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shared.stop.cancelled() => return,
        }
        let due = shared.dialer().due(wallclock::monotonic());
        for (peer, address) in due {
            let shared = shared.clone();
            shared
                .clone()
                .tasks
                .spawn(async move { one(&shared, peer, address).await });
        }
    }
}

async fn one(shared: &Arc<Shared>, peer: NodeId, address: SocketAddr) {
    let stood = match connect(shared, peer, address).await {
        Ok(connection) => link::serve(shared, peer, Dialled::Here, connection).await,
        Err(why) => {
            tracing::debug!(%peer, %address, "dial failed: {why}");
            false
        }
    };
    if !stood {
        shared.counters.add(Counter::DialsFailed);
        shared.dialer().failed(peer, wallclock::monotonic(), &mut rand::rng());
    }
}

async fn connect(shared: &Shared, peer: NodeId, address: SocketAddr) -> Result<Connection, String> {
    let face = shared.face();
    let name = pki::dns_name(peer, face.roots.cluster());
    let connecting = shared
        .endpoint
        .connect_with(face.client.clone(), address, &name)
        .map_err(|error| error.to_string())?;
    let connection = match timeout(DIAL_DEADLINE, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            note_refusal(shared, address, &error);
            return Err(error.to_string());
        }
        Err(_) => return Err("no answer in time".to_owned()),
    };
    match admission::peer(&connection, &face.roots, shared.own, wallclock::since_epoch()) {
        Ok(found) if shared.banished().contains(&found) => Err(refuse(shared, &connection, &Refused::Removed(found))),
        Ok(found) if found == peer => Ok(connection),
        Ok(found) => Err(refuse(shared, &connection, &Refused::WrongPeer(found))),
        Err(refused) => Err(refuse(shared, &connection, &refused)),
    }
}

/// A connection for something else than the mesh's own business, whose other end `client` judges.
pub(super) async fn other(
    shared: &Shared,
    client: quinn::ClientConfig,
    address: SocketAddr,
    name: &str,
) -> Result<Connection, JoinError> {
    let unreachable = |error: &dyn std::fmt::Display| JoinError::Unreachable(error.to_string());
    let connecting = shared.endpoint.connect_with(client, address, name);
    let connecting = connecting.map_err(|error| unreachable(&error))?;
    match timeout(DIAL_DEADLINE, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(unreachable(&error)),
        Err(_) => Err(unreachable(&"no answer in time")),
    }
}

/// An answer from somebody who cannot prove to be a member is more than a dead address.
fn note_refusal(shared: &Shared, address: SocketAddr, error: &quinn::ConnectionError) {
    let counter = admission::failed(error);
    if counter == Counter::RefusedCertificate {
        shared.refuse(counter, address, &error.to_string());
    }
}

fn refuse(shared: &Shared, connection: &Connection, refused: &Refused) -> String {
    shared.refuse(refused.counter(), connection.remote_address(), &refused.to_string());
    refused.close().close(connection);
    refused.to_string()
}
