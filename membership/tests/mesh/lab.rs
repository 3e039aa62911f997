//! Real peers in one process, on loopback, with real disks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use membership::id::{Label, NodeId, Scope};
use membership::record::{Body, Key};
use membership::service::{
    Config, FactWrite, IntentWrite, Liveness, Mark, Membership, Outcome, StartError, init, join,
};

/// Longest that anything here may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A directory that is or will be a node's.
pub(crate) struct Host {
    pub(crate) config: Config,
    _dir: tempfile::TempDir,
}

pub(crate) fn label(text: &str) -> Label {
    text.parse().unwrap()
}

impl Host {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            data: dir.path().join("data"),
            listen: "127.0.0.1:0".parse().unwrap(),
            advertise: Vec::new(),
            certificate_life: membership::pki::LEAF_LIFE,
            wire: membership::wire::Versions::OWN,
        };
        Self { config, _dir: dir }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.config.data.join(name)
    }

    /// A peer that answers calls with what it was asked.
    pub(crate) async fn start(&self) -> Membership {
        self.try_start().await.unwrap()
    }

    pub(crate) async fn try_start(&self) -> Result<Membership, StartError> {
        let echo = |_from: NodeId, request: Bytes| -> futures::future::BoxFuture<'static, Result<Bytes, String>> {
            Box::pin(async move {
                if request == "fail" {
                    Err("as asked".to_owned())
                } else {
                    Ok(request)
                }
            })
        };
        tokio::time::timeout(DEADLINE, Membership::start(self.config.clone(), Arc::new(echo)))
            .await
            .unwrap()
    }

    /// The first node of a cluster.
    pub(crate) async fn found(name: &str) -> (Self, Membership) {
        let host = Self::new();
        let outcome = init(&host.config, label(name), label("lab")).await.unwrap();
        assert!(matches!(outcome, Outcome::Made { .. }));
        let peer = host.start().await;
        (host, peer)
    }

    /// A further node.
    pub(crate) async fn join(name: &str, anchor: &Membership) -> (Self, Membership) {
        let host = Self::new();
        let token = anchor.create_token(1, Duration::from_secs(60)).await.unwrap();
        let outcome = join(&host.config, label(name), &token).await.unwrap();
        assert!(matches!(outcome, Outcome::Made { .. }));
        let peer = host.start().await;
        (host, peer)
    }
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let met = tokio::time::timeout(DEADLINE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(met.await.is_ok(), "not in time: {what}");
}

/// Waits until the peer sees exactly these looks.
pub(crate) async fn sees(peer: &Membership, wanted: &[(&Membership, Liveness)]) {
    let mut wanted: Vec<_> = wanted.iter().map(|(other, looks)| (other.id(), *looks)).collect();
    wanted.push((peer.id(), Liveness::Live));
    wanted.sort();
    until("the members look as wanted", || {
        peer.members()
            .iter()
            .map(|member| (member.id, member.liveness))
            .eq(wanted.iter().copied())
    })
    .await;
}

pub(crate) fn red() -> Scope {
    Scope::Domain(label("red"))
}

pub(crate) fn body(text: &str) -> Option<Body> {
    Some(Body {
        version: 1,
        bytes: Bytes::copy_from_slice(text.as_bytes()),
    })
}

pub(crate) async fn write(peer: &Membership, name: &str, text: &str) -> Mark {
    let write = IntentWrite {
        key: Key::new("Network", name),
        body: body(text),
    };
    peer.write_intent(red(), "tester", vec![write]).await.unwrap()
}

pub(crate) async fn say(peer: &Membership, name: &str, text: &str) -> Mark {
    let write = FactWrite {
        key: Key::new("Attachment", name),
        body: body(text),
    };
    peer.write_facts(red(), vec![write]).await.unwrap()
}

/// What a peer shows of an object.
pub(crate) fn shown(peer: &Membership, name: &str) -> Option<String> {
    peer.read(|replica| {
        let intent = replica.intent(&red(), &Key::new("Network", name))?.shown();
        Some(String::from_utf8(intent.body.clone()?.bytes.to_vec()).unwrap())
    })
}

pub(crate) fn counter(peer: &Membership, name: &str) -> u64 {
    peer.counters()
        .into_iter()
        .find(|(of, _)| *of == name)
        .map_or(0, |(_, n)| n)
}
