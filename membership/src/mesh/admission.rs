//! Who may speak after a handshake. TLS has checked that a certificate, if there is one, chains to a root of the
//! cluster; here its content is compared with what the connection claims to be. Every refusal has a code that the
//! other side sees, and a counter.

use std::time::Duration;

use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, ConnectionError, VarInt};
use rustls::pki_types::CertificateDer;

use super::tls::{JOIN_ALPN, MESH_ALPN};
use crate::counter::Counter;
use crate::id::NodeId;
use crate::pki::{Leaf, PkiError, Roots};
use crate::wire;

/// Application error codes (RFC 9000 section 20.2) with which connections are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// The node stops.
    Shutdown = 0x01,
    /// The pair has another connection.
    Duplicate = 0x02,
    /// A member must show a certificate.
    NoCertificate = 0x03,
    /// The certificate is not of a member.
    Certificate = 0x04,
    /// Something was said that the protocol does not have.
    Protocol = 0x05,
    /// It took too long.
    Slow = 0x06,
    /// All was said.
    Done = 0x07,
    /// No wire version in common.
    WireVersion = 0x08,
    /// Too many at once; come again.
    Busy = 0x09,
    /// The node was removed from the cluster.
    Removed = 0x0a,
}

impl Close {
    /// The reason as the other side may log it.
    fn words(self) -> &'static [u8] {
        match self {
            Self::Shutdown => b"the node stops",
            Self::Duplicate => b"the pair has another connection",
            Self::NoCertificate => b"a certificate of this cluster is needed: join it first",
            Self::Certificate => b"the certificate is not of a member of this cluster",
            Self::Protocol => b"protocol error",
            Self::Slow => b"too slow",
            Self::Done => b"done",
            Self::WireVersion => b"no wire version in common",
            Self::Busy => b"busy, try again",
            Self::Removed => b"this node was removed from the cluster",
        }
    }

    /// Closes a connection for this reason.
    pub(crate) fn close(self, connection: &Connection) {
        self.close_saying(connection, self.words());
    }

    /// The same in other words.
    pub(super) fn close_saying(self, connection: &Connection, words: &[u8]) {
        connection.close(VarInt::from_u32(self as u32), words);
    }

    fn is_reason(self, error: &ConnectionError) -> bool {
        matches!(error, ConnectionError::ApplicationClosed(close) if close.error_code == VarInt::from_u32(self as u32))
    }
}

/// Whether the other side says that this node was removed.
pub(crate) fn removed_us(error: &ConnectionError) -> bool {
    Close::Removed.is_reason(error)
}

/// What the other side says if it speaks other wire versions than this node.
pub(super) fn other_wire(error: &ConnectionError) -> Option<String> {
    match error {
        ConnectionError::ApplicationClosed(close) if Close::WireVersion.is_reason(error) => {
            Some(wire::plain(&String::from_utf8_lossy(&close.reason)))
        }
        _ => None,
    }
}

/// Whether the other side refused this node's certificate: a client learns that only after its own handshake is done.
pub(crate) fn refused_us(error: &ConnectionError) -> bool {
    let by_tls = matches!(error, ConnectionError::ConnectionClosed(_)) && failed(error) == Counter::RefusedCertificate;
    by_tls || Close::Certificate.is_reason(error) || Close::NoCertificate.is_reason(error)
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Between members.
    Mesh,
    /// From a node without a certificate.
    Join,
}

/// Why a connection is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// An unknown application protocol.
    #[error("it speaks another protocol")]
    Protocol,
    /// The mesh without a certificate.
    #[error("it showed no certificate")]
    NoCertificate,
    /// Not a member's.
    #[error("{0}")]
    Certificate(#[from] PkiError),
    /// This node's own.
    #[error("it has this node's own identity: the key was copied to another machine")]
    OwnIdentity,
    /// It was removed from the cluster.
    #[error("node {0} was removed from the cluster")]
    Removed(NodeId),
    /// Not the one that was dialled.
    #[error("node {0} answered in place of the one that was dialled")]
    WrongPeer(NodeId),
}

impl Refused {
    /// What is counted.
    pub(crate) fn counter(&self) -> Counter {
        match self {
            Self::Protocol => Counter::RefusedProtocol,
            Self::NoCertificate => Counter::RefusedNoCertificate,
            Self::Certificate(PkiError::OtherCluster(_) | PkiError::NotItsKey { .. }) => Counter::RefusedIdentity,
            Self::Certificate(_) => Counter::RefusedCertificate,
            Self::OwnIdentity => Counter::RefusedOwnIdentity,
            Self::WrongPeer(_) => Counter::RefusedWrongPeer,
            Self::Removed(_) => Counter::RefusedRemoved,
        }
    }

    /// What the other side is told.
    pub(crate) fn close(&self) -> Close {
        match self {
            Self::Protocol => Close::Protocol,
            Self::NoCertificate => Close::NoCertificate,
            Self::Removed(_) => Close::Removed,
            Self::Certificate(_) | Self::OwnIdentity | Self::WrongPeer(_) => Close::Certificate,
        }
    }
}

/// What a connection speaks.
pub(crate) fn protocol(connection: &Connection) -> Result<Protocol, Refused> {
    let data = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok());
    match data.and_then(|data| data.protocol).as_deref() {
        Some(MESH_ALPN) => Ok(Protocol::Mesh),
        Some(JOIN_ALPN) => Ok(Protocol::Join),
        _ => Err(Refused::Protocol),
    }
}

/// Who is at the other end of a connection of the mesh. `now` is the time since 1970-01-01 UTC.
pub(crate) fn peer(connection: &Connection, roots: &Roots, own: NodeId, now: Duration) -> Result<NodeId, Refused> {
    let node = leaf(connection, roots, now)?.node;
    if node == own {
        Err(Refused::OwnIdentity)
    } else {
        Ok(node)
    }
}

/// The checked certificate of the other end.
pub(crate) fn leaf(connection: &Connection, roots: &Roots, now: Duration) -> Result<Leaf, Refused> {
    let shown = shown(connection).ok_or(Refused::NoCertificate)?;
    Ok(roots.check(&shown, now)?)
}

/// Whether one of these roots signed the certificate of the other end, at whatever time it is good.
pub(crate) fn is_of(connection: &Connection, roots: &Roots) -> bool {
    shown(connection).is_some_and(|shown| roots.check_record(&shown).is_ok())
}

fn shown(connection: &Connection) -> Option<CertificateDer<'static>> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.into_iter().next()
}

/// What to count for a handshake that failed at the TLS level.
pub(crate) fn failed(error: &ConnectionError) -> Counter {
    const NO_APPLICATION_PROTOCOL: u64 = 0x178;
    const CRYPTO: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;
    let code = match error {
        ConnectionError::TransportError(error) => u64::from(error.code),
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
        _ => return Counter::RefusedTimeout,
    };
    match code {
        NO_APPLICATION_PROTOCOL => Counter::RefusedProtocol,
        code if CRYPTO.contains(&code) => Counter::RefusedCertificate,
        _ => Counter::RefusedProtocol,
    }
}
