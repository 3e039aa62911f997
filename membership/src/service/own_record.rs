//! What this node says of itself: where it is reached, and the record that the replica must hold of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use super::state::State;
use super::{Config, FactWrite, StartError, writing};
use crate::home::Bootstrap;
use crate::id::Scope;
use crate::keyring::NODE_NAME;
use crate::mesh::Mesh;
use crate::node::{NODE_KIND, NodeRecord};
use crate::record::{Body, Key};

/// Format of the bodies of node records.
const BODY_VERSION: u16 = 1;

/// Where others reach this node.
pub(super) fn advertised(config: &Config, mesh: &Mesh, bootstrap: &Bootstrap) -> Result<Vec<SocketAddr>, StartError> {
    if !config.advertise.is_empty() {
        return Ok(config.advertise.clone());
    }
    let bound = mesh.local_addr().unwrap_or(config.listen);
    if !bound.ip().is_unspecified() {
        return Ok(vec![bound]);
    }
    let known = bootstrap
        .nodes
        .iter()
        .flat_map(|(_, record)| &record.addresses)
        .copied();
    let found = source_address(bound, known).map(|ip| vec![SocketAddr::new(ip, bound.port())]);
    found.ok_or_else(|| {
        let why =
            "the node listens on all addresses, and none of them leads out: say with --advertise where others reach it";
        StartError::Other(why.to_owned())
    })
}

/// The address from which this host would reach these nodes, or else the world. Nothing is sent: connecting a UDP
/// socket only looks up a route.
fn source_address(bound: SocketAddr, known: impl Iterator<Item = SocketAddr>) -> Option<IpAddr> {
    // Documentation addresses (RFC 5737, RFC 3849) follow the default route.
    let world = ["192.0.2.1:9", "[2001:db8::1]:9"]
        .into_iter()
        .filter_map(|address| address.parse().ok());
    let reachable = known
        .chain(world)
        .filter(|target: &SocketAddr| bound.is_ipv6() || target.is_ipv4());
    reachable.into_iter().find_map(|target| {
        let any: IpAddr = if target.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(target).ok()?;
        socket
            .local_addr()
            .ok()
            .map(|address| address.ip())
            .filter(|ip| !ip.is_unspecified())
    })
}

/// Writes this node's record, where the replica says something else.
pub(super) async fn say(state: &Arc<State>, own: NodeRecord) -> Result<(), String> {
    let (key, body) = (Key::new(NODE_KIND, NODE_NAME), body(&own)?);
    let said = {
        let core = state.core();
        let fact = core.replica().fact(&Scope::System, state.own(), &key);
        fact.and_then(|fact| fact.body.clone())
    };
    if said.as_ref() == Some(&body) {
        return Ok(());
    }
    let write = FactWrite { key, body: Some(body) };
    writing::facts_at_once(state, Scope::System, vec![write])
        .await
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// Says it again with the certificate of the moment, where the replica says something else.
pub(super) async fn repeat(state: &Arc<State>) -> Result<(), String> {
    match state.record() {
        Some(own) => {
            let certificate = state.identity().certificate.clone();
            say(state, NodeRecord { certificate, ..own }).await
        }
        None => Ok(()),
    }
}

fn body(value: &impl serde::Serialize) -> Result<Body, String> {
    let bytes = postcard::to_stdvec(value).map_err(|error| error.to_string())?;
    Ok(Body {
        version: BODY_VERSION,
        bytes: bytes.into(),
    })
}
