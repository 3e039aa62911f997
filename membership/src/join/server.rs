//! The anchor's side.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use quinn::Connection;
use serde::Serialize;
use tokio::time::timeout;

use super::{
    Denied, Grant, RENEWAL_VERSION, REQUEST_MAX, Renewal, Renewed, Request, VERSION, keying_material, proof_message,
    renewal_message,
};
use crate::home::Bootstrap;
use crate::id::{Label, NodeId};
use crate::identity;
use crate::mesh::Close;
use crate::token::{Secret, TokenId};
use crate::wire::versions::{FIRST, Versions};

/// How long a request may be in coming. There are few places for strangers, and who has no token must not keep them.
const REQUEST_DEADLINE: Duration = Duration::from_secs(3);
/// How long a joiner may take to read its answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// The same for who gets nothing.
const DENIAL_DEADLINE: Duration = Duration::from_secs(2);

/// Who wants to join, with what.
#[derive(Debug, Clone)]
pub(crate) struct Applicant {
    /// The name it shall have.
    pub(crate) name: Label,
    /// Its public key; it was proven that it holds the private one.
    pub(crate) key: [u8; 32],
    /// The token.
    pub(crate) token: TokenId,
    /// And its secret.
    pub(crate) secret: Secret,
    /// What it speaks.
    pub(crate) wire: Versions,
}

/// What the exchange needs of the anchor.
pub(crate) trait Registrar: Send + Sync {
    /// Spends the token on a key whose holder was proven, and gives its certificate (DER). All of it is on disk when
    /// this returns.
    fn admit(&self, applicant: Applicant) -> BoxFuture<'_, Result<Bytes, Denied>>;

    /// A further certificate (DER) for a member whose key was proven, and the decrees above a version.
    fn renew(&self, key: &[u8; 32], since: u64) -> Result<Renewed, Denied>;

    /// What a joiner needs to know.
    fn bootstrap(&self) -> Bootstrap;
}

/// What somebody asks.
#[derive(Debug)]
pub(crate) enum Asked {
    /// To become a node.
    Join(Request, Versions),
    /// To get a further certificate.
    Renew(Renewal),
}

/// Who got what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// A node joined.
    Joined(NodeId),
    /// A member got a further certificate.
    Renewed(NodeId),
}

/// Serves one connection; the reason, where it was denied.
pub(crate) async fn serve(connection: &Connection, registrar: &Arc<dyn Registrar>) -> Result<Served, Denied> {
    let lost = |_| Denied::Failed("the connection was lost".to_owned());
    let asked = async {
        let (send, mut receive) = connection.accept_bi().await.map_err(lost)?;
        let request = receive.read_to_end(REQUEST_MAX).await;
        Ok((send, request.map_err(|error| Denied::Failed(error.to_string()))?))
    };
    let (mut send, request) = timeout(REQUEST_DEADLINE, asked)
        .await
        .unwrap_or_else(|_| Err(Denied::Failed("its request did not come in time".to_owned())))?;
    let decided = decide(connection, registrar, &request).await;
    let (answer, outcome) = match decided {
        Ok((served, answer)) => (Ok(answer), Ok(served)),
        Err(denied) => (said(&Err::<(), _>(denied.clone())), Err(denied)),
    };
    let patience = if outcome.is_ok() {
        ANSWER_DEADLINE
    } else {
        DENIAL_DEADLINE
    };
    if let Ok(bytes) = answer {
        let written = timeout(patience, send.write_all(&bytes)).await;
        if matches!(written, Ok(Ok(()))) && send.finish().is_ok() {
            // The joiner closes once it has read all.
            let _late = timeout(patience, connection.closed()).await;
        }
    }
    Close::Done.close(connection);
    outcome
}

async fn decide(
    connection: &Connection,
    registrar: &Arc<dyn Registrar>,
    request: &[u8],
) -> Result<(Served, Vec<u8>), Denied> {
    match read(request)? {
        Asked::Join(request, wire) => {
            let (node, grant) = admit(connection, registrar, request, wire).await?;
            Ok((Served::Joined(node), said(&Ok(grant))?))
        }
        Asked::Renew(request) => {
            prove(connection, &request.key, &request.proof, renewal_message)?;
            let renewed = registrar.renew(&request.key, request.since)?;
            Ok((Served::Renewed(NodeId::of_key(&request.key)), said(&Ok(renewed))?))
        }
    }
}

fn said<T: Serialize>(answer: &Result<T, Denied>) -> Result<Vec<u8>, Denied> {
    postcard::to_stdvec(answer).map_err(|error| Denied::Failed(error.to_string()))
}

/// Whether who asks holds the key that it names.
fn prove(
    connection: &Connection,
    key: &[u8; 32],
    proof: &[u8],
    message: fn(&[u8; 32]) -> Vec<u8>,
) -> Result<(), Denied> {
    let material = keying_material(connection, key).ok_or(Denied::Proof)?;
    let signature = <&[u8; 64]>::try_from(proof).map_err(|_| Denied::Proof)?;
    if identity::verify(key, &message(&material), signature) {
        Ok(())
    } else {
        Err(Denied::Proof)
    }
}

async fn admit(
    connection: &Connection,
    registrar: &Arc<dyn Registrar>,
    request: Request,
    wire: Versions,
) -> Result<(NodeId, Grant), Denied> {
    prove(connection, &request.key, &request.proof, proof_message)?;
    let node = NodeId::of_key(&request.key);
    let Request {
        name,
        key,
        token,
        secret,
        ..
    } = request;
    let certificate = registrar
        .admit(Applicant {
            name,
            key,
            token,
            secret,
            wire,
        })
        .await?;
    Ok((
        node,
        Grant {
            certificate,
            bootstrap: registrar.bootstrap(),
        },
    ))
}

/// Reads what somebody asks with. What a joiner speaks stands behind; software from before there was a choice does not
/// say.
pub(crate) fn read(bytes: &[u8]) -> Result<Asked, Denied> {
    // The version comes first, so that a later one can be told from junk.
    let (version, _) = postcard::take_from_bytes::<u16>(bytes).map_err(|_| Denied::Version(0))?;
    let unreadable = || Denied::Failed("the request cannot be read".to_owned());
    if version == RENEWAL_VERSION {
        let renewal = postcard::from_bytes(bytes).map_err(|_| unreadable())?;
        return Ok(Asked::Renew(renewal));
    }
    if version != VERSION {
        return Err(Denied::Version(version));
    }
    let (request, rest) = postcard::take_from_bytes(bytes).map_err(|_| unreadable())?;
    let said: (u16, u16) = match rest {
        [] => (FIRST, FIRST),
        rest => postcard::from_bytes(rest).map_err(|_| unreadable())?,
    };
    Ok(Asked::Join(request, said.try_into().map_err(|()| unreadable())?))
}
