//! The joiner's side.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint};
use tokio::time::timeout;

use super::{ANSWER_MAX, Denied, Grant, Request, VERSION, keying_material, proof_message, read_answer};
use crate::id::Label;
use crate::identity::NodeKey;
use crate::mesh::{Close, tls};
use crate::pki::{self, PkiError, Roots};
use crate::token::Token;
use crate::wire::Versions;

/// How long one address may take, from the first packet to the answer.
const ADDRESS_DEADLINE: Duration = Duration::from_secs(10);

/// Why a host did not join.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    /// The anchor said no.
    #[error("{0}")]
    Denied(#[from] Denied),
    /// No address answered as the anchor.
    #[error("{0}")]
    Unreachable(String),
    /// An address answered, but not as a node of the token's cluster.
    #[error("{0}")]
    Stranger(String),
    /// The token's root is none, or what the anchor issued is not good.
    #[error("{0}")]
    Certificate(#[from] PkiError),
    /// The endpoint cannot be set up.
    #[error("{0}")]
    Local(String),
}

/// Redeems a token for this key. `from` is the address to dial from, if it is a certain one; `now` is the time since
/// 1970-01-01 UTC.
pub(crate) async fn join(
    token: &Token,
    key: &NodeKey,
    name: &Label,
    (from, wire): (IpAddr, Versions),
    now: Duration,
) -> Result<Grant, JoinError> {
    let roots = Roots::new(token.cluster, std::slice::from_ref(&token.root))?;
    let mut reasons = Vec::new();
    let mut stranger = false;
    for seed in &token.seeds {
        match timeout(ADDRESS_DEADLINE, ask(token, &roots, key, name, (from, wire), *seed)).await {
            Ok(Ok(grant)) => return check(token, key, grant, now),
            Ok(Err(JoinError::Unreachable(why))) => reasons.push(format!("{seed}: {why}")),
            Ok(Err(JoinError::Stranger(why))) => {
                stranger = true;
                reasons.push(format!("{seed}: {why}"));
            }
            Ok(Err(other)) => return Err(other),
            Err(_) => reasons.push(format!("{seed}: no answer in time")),
        }
    }
    let reasons = reasons.join("; ");
    Err(if stranger {
        JoinError::Stranger(reasons)
    } else {
        JoinError::Unreachable(reasons)
    })
}

/// The anchor is known by the token's root; what it issued may be of another one, as its record says.
fn check(token: &Token, key: &NodeKey, grant: Grant, now: Duration) -> Result<Grant, JoinError> {
    let roots = Roots::new(token.cluster, &grant.bootstrap.cluster.roots)?;
    let leaf = roots.check(&grant.certificate, now)?;
    if leaf.node != key.id() || grant.bootstrap.cluster.id != token.cluster {
        return Err(JoinError::Certificate(PkiError::Malformed(
            "it is of another node or cluster",
        )));
    }
    Ok(grant)
}

async fn ask(
    token: &Token,
    roots: &Roots,
    key: &NodeKey,
    name: &Label,
    (from, wire): (IpAddr, Versions),
    seed: SocketAddr,
) -> Result<Grant, JoinError> {
    let local = |error: &dyn std::fmt::Display| JoinError::Local(error.to_string());
    let mut endpoint = Endpoint::client(source(from, seed)).map_err(|error| local(&error))?;
    endpoint.set_default_client_config(tls::joiner(roots).map_err(|error| local(&error))?);
    let connection = endpoint
        .connect(seed, &pki::dns_name(token.anchor, token.cluster))
        .map_err(|error| JoinError::Unreachable(error.to_string()))?
        .await
        .map_err(|error| not_connected(&error))?;
    let answer = exchange(&connection, token, key, (name, wire)).await;
    Close::Done.close(&connection);
    let _late = timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
    Ok(answer??)
}

/// Tells a host that is not there from one that is of another cluster: its handshake ends in a TLS alert, which QUIC
/// carries as an error from 0x100 on (RFC 9001 section 4.8).
fn not_connected(error: &ConnectionError) -> JoinError {
    match error {
        ConnectionError::TransportError(failed) if (0x100..0x200).contains(&u64::from(failed.code)) => {
            JoinError::Stranger(error.to_string())
        }
        _ => JoinError::Unreachable(error.to_string()),
    }
}

/// A certain address is kept where it is of the seed's family.
fn source(from: IpAddr, seed: SocketAddr) -> SocketAddr {
    let any = if seed.is_ipv4() {
        IpAddr::from(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::from(Ipv6Addr::UNSPECIFIED)
    };
    let usable = from.is_ipv4() == seed.is_ipv4() && (!from.is_loopback() || seed.ip().is_loopback());
    SocketAddr::new(if usable { from } else { any }, 0)
}

async fn exchange(
    connection: &Connection,
    token: &Token,
    key: &NodeKey,
    (name, wire): (&Label, Versions),
) -> Result<Result<Grant, Denied>, JoinError> {
    let lost = |error: &dyn std::fmt::Display| JoinError::Unreachable(error.to_string());
    let material = keying_material(connection, &key.public())
        .ok_or_else(|| JoinError::Local("TLS gives no keying material".to_owned()))?;
    let request = Request {
        version: VERSION,
        token: token.id,
        secret: token.secret.clone(),
        name: name.clone(),
        key: key.public(),
        proof: key.sign(&proof_message(&material)).to_vec().into(),
    };
    let request = postcard::to_stdvec(&request).map_err(|error| lost(&error))?;
    let request = postcard::to_extend(&wire.pair(), request).map_err(|error| lost(&error))?;
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| lost(&error))?;
    send.write_all(&request).await.map_err(|error| lost(&error))?;
    send.finish().map_err(|error| lost(&error))?;
    let answer = receive.read_to_end(ANSWER_MAX).await.map_err(|error| lost(&error))?;
    read_answer(&answer).ok_or_else(|| lost(&"its answer cannot be read"))
}
