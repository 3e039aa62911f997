//! The asker's side of a renewal at the door: a member whom the mesh does not take, since its certificate has ended or
//! the roots changed while it was away. It has no token and needs none: its key is in the record that the cluster has of
//! it, and it proves that it holds that key, as a joiner does. It gets a certificate, and nothing else is opened by this.

use std::time::Duration;

use bytes::Bytes;
use quinn::Connection;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{ANSWER_MAX, Denied, JoinError, RENEWAL_VERSION, keying_material, renewal_message};
use crate::decree::Sealed;
use crate::id::ClusterId;
use crate::identity::NodeKey;
use crate::mesh::{Close, tls};

/// How long one anchor may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a member asks with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Renewal {
    pub(crate) version: u16,
    pub(crate) key: [u8; 32],
    /// The version of the cluster record that it has.
    pub(crate) since: u64,
    /// Ed25519 by `key` over a word of its own and the session's keying material.
    pub(crate) proof: Bytes,
}

/// What it gets.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Renewed {
    /// Its certificate (DER).
    pub(crate) certificate: Bytes,
    /// The decrees that it missed, to be checked as all are.
    pub(crate) decrees: Vec<Sealed>,
}

/// What dials the anchor that has this key.
pub(crate) fn renewing(cluster: ClusterId, anchor: &[u8; 32]) -> Result<quinn::ClientConfig, JoinError> {
    tls::renewer(cluster, *anchor).map_err(|error| JoinError::Local(error.to_string()))
}

/// Asks over a connection to an anchor, and closes it.
pub(crate) async fn renew(connection: &Connection, key: &NodeKey, since: u64) -> Result<Renewed, JoinError> {
    let answer = timeout(DEADLINE, exchange(connection, key, since)).await;
    Close::Done.close(connection);
    let late = || JoinError::Unreachable("no answer in time".to_owned());
    Ok(answer.map_err(|_| late())???)
}

async fn exchange(connection: &Connection, key: &NodeKey, since: u64) -> Result<Result<Renewed, Denied>, JoinError> {
    let lost = |error: &dyn std::fmt::Display| JoinError::Unreachable(error.to_string());
    let material = keying_material(connection, &key.public())
        .ok_or_else(|| JoinError::Local("TLS gives no keying material".to_owned()))?;
    let request = Renewal {
        version: RENEWAL_VERSION,
        key: key.public(),
        since,
        proof: key.sign(&renewal_message(&material)).to_vec().into(),
    };
    let request = postcard::to_stdvec(&request).map_err(|error| lost(&error))?;
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| lost(&error))?;
    send.write_all(&request).await.map_err(|error| lost(&error))?;
    send.finish().map_err(|error| lost(&error))?;
    let answer = receive.read_to_end(ANSWER_MAX).await.map_err(|error| lost(&error))?;
    postcard::from_bytes(&answer).map_err(|_| lost(&"its answer cannot be read"))
}
