//! A daemon that is made up: it answers with fixed values and writes down what it was asked.

use std::sync::{Arc, Mutex};

#[path = "looking.rs"]
mod looking;
#[path = "samples.rs"]
mod samples;

use async_trait::async_trait;
use fabric_node::api::anchors::Anchors;
use fabric_node::api::backend::{Author, Backend, Chunks};
use fabric_node::api::ca::{Ca, CaRotate, CaStep};
use fabric_node::api::changes::{Conflicts, Diff, History, Resolved, RolledBack};
use fabric_node::api::error::{ApiError, Code, Detail};
use fabric_node::api::moment::Moment;
use fabric_node::api::nodes::NodeRemoved;
use fabric_node::api::quarantine::{Quarantined, Released};
use fabric_node::api::types::*;
use fabric_node::api::upgrade::Upgrade;
use fabric_node::api::version::{Precondition, Version};
use membership::id::Label;
use membership::pki::{self, Authority};
use overlay::object::Kind;

use self::samples::{
    anchors, audit, ca, datapath, domain, endpoint, function, network, node, policy, quarantined, router, upgrade,
};

/// The daemon.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    /// What it was asked, in order.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    /// The cluster's authority, if it holds it.
    pub(crate) authority: Option<Arc<Authority>>,
    /// Whether it dies in the midst of a backup.
    pub(crate) breaks_off: bool,
}

impl Fleet {
    fn note(&self, line: String) {
        self.asked.lock().expect("no panic before").push(line);
    }
}

fn text(text: &str) -> String {
    text.to_owned()
}

/// The version that everything has.
pub(crate) fn version() -> Version {
    "v5f0e2c9a7b114d32".parse().expect("a version")
}

/// What is said to who asks for another version.
fn refused(only_if: Option<&Precondition>) -> Result<(), ApiError> {
    match only_if {
        None | Some(Precondition::Present) => Ok(()),
        Some(Precondition::Version(versions)) if versions.contains(&version()) => Ok(()),
        Some(asked) => Err(ApiError {
            code: Code::PreconditionFailed,
            message: text("changed by somebody else; nothing was changed"),
            details: vec![Detail {
                object: Some(text("Network red/lan")),
                message: format!("its version is {}; asked for was {asked}", version()),
                current: Some(Box::new(network())),
                ..Detail::default()
            }],
        }),
    }
}

#[async_trait]
impl Backend for Fleet {
    async fn status(&self) -> Result<Status, ApiError> {
        Ok(Status {
            node: node(),
            cluster: ClusterStatus {
                id: "0".repeat(32),
                name: text("fabric"),
                anchors: vec![text("aaaaaaaaaaaa")],
                anchor_names: vec![text("h1")],
                digest: "cd".repeat(32),
            },
            peers: PeerCounts {
                live: 1,
                suspect: 0,
                dead: 1,
            },
            lost_peers: vec![LostPeer {
                id: text("cccccccccccc"),
                name: text("h3"),
                state: PeerState::Dead,
                path: Path::Up,
                what: Loss::DaemonGone,
            }],
            domains: vec![domain()],
            datapath: datapath(),
            audits: vec![audit(Direction::Ingress, 5), audit(Direction::Egress, 0)],
            alarms: vec![Alarm {
                name: text("peer-refused"),
                message: text("192.0.2.9 has no certificate"),
            }],
            counters: [(text("links_up"), 2)].into(),
        })
    }

    async fn peers(&self) -> Result<Vec<Peer>, ApiError> {
        let peer = |id: &str, name: &str, state, rtt_us, path, loss_percent| Peer {
            id: text(id),
            name: text(name),
            state,
            addresses: vec![text("192.0.2.2:7790"), text("[2001:db8::2]:7790")],
            rtt_us,
            path,
            loss_percent,
            path_mtu: loss_percent.map(|_| 1500),
            certificate_left_s: Some(if state == PeerState::Live { 60 * 86_400 } else { 0 }),
        };
        let live = peer("bbbbbbbbbbbb", "h2", PeerState::Live, Some(1234), Path::Unknown, None);
        Ok(vec![
            live,
            peer("cccccccccccc", "h3", PeerState::Dead, Some(87), Path::Up, Some(2)),
        ])
    }

    async fn drops(&self) -> Result<Vec<Drop>, ApiError> {
        let drop = |reason: &str, domain: Option<&str>, packets| Drop {
            reason: text(reason),
            domain: domain.map(text),
            endpoint: domain.map(|_| text("web-1")),
            packets,
            bytes: packets * 60,
        };
        Ok(vec![drop("source_mac", Some("red"), 3), drop("unknown_vtep", None, 1)])
    }

    async fn metrics(&self) -> Result<String, ApiError> {
        Ok(text("# EOF\n"))
    }

    async fn functions(&self) -> Result<Vec<Function>, ApiError> {
        Ok(vec![
            function("gate", FunctionHook::Flow, 0),
            function("watch", FunctionHook::Packet, 3),
        ])
    }

    async fn load_function(&self, author: &Author, load: FunctionLoad) -> Result<Function, ApiError> {
        self.note(format!("load by {author} {load:?}"));
        match load.name.as_str() {
            "spoof" => Err(ApiError::new(
                Code::Refused,
                "spoof.o is refused: it calls the kernel's helper 9",
            )),
            name => Ok(function(name, load.hook, 0)),
        }
    }

    async fn remove_function(
        &self,
        author: &Author,
        domain: &Label,
        name: &Label,
    ) -> Result<FunctionRemoved, ApiError> {
        self.note(format!("remove by {author} {domain}/{name}"));
        Ok(FunctionRemoved {
            domain: domain.to_string(),
            name: name.to_string(),
        })
    }

    async fn list(&self, kind: Kind, domain: Option<&Label>) -> Result<Vec<Object>, ApiError> {
        self.note(format!("list {kind} {domain:?}"));
        match kind {
            Kind::Endpoint => Ok(vec![endpoint("web-1", true), endpoint("web-2", false)]),
            Kind::Network => Ok(vec![network()]),
            Kind::Router => Ok(vec![router("core")]),
            Kind::SecurityPolicy => Ok(vec![policy("web")]),
            Kind::Domain => Ok(vec![]),
        }
    }

    async fn describe(&self, kind: Kind, domain: &Label, name: &Label, programmed: bool) -> Result<Object, ApiError> {
        self.note(format!("describe {kind} {domain}/{name} {programmed}"));
        if name.as_str() == "nobody" {
            return Err(ApiError::not_found("there is no Endpoint nobody in domain red"));
        }
        let mut object = match kind {
            Kind::Router => router(name.as_str()),
            Kind::SecurityPolicy => policy(name.as_str()),
            Kind::Domain | Kind::Network | Kind::Endpoint => endpoint(name.as_str(), true),
        };
        object.status.programmed = programmed.then(|| Programmed {
            hosts: vec![text("h1")],
            pending: vec![text("h2")],
            unreachable: vec![text("h3")],
        });
        Ok(object)
    }

    async fn apply(&self, author: &Author, request: Apply, only_if: Option<Precondition>) -> Result<Applied, ApiError> {
        refused(only_if.as_ref())?;
        let texts: Vec<_> = request.manifests.iter().map(|manifest| manifest.text.trim()).collect();
        self.note(format!(
            "apply by {} {:?} {} wait={}",
            author,
            texts,
            request.objects.len(),
            request.wait
        ));
        if texts == ["wrong"] {
            let detail = Detail {
                source: Some(request.manifests[0].source.clone()),
                document: Some(2),
                field: Some(text("spec.subnets[0]")),
                line: Some(7),
                message: text("10.0.0.1/24 has host bits set"),
                ..Detail::default()
            };
            let message = text("invalid; nothing was changed");
            return Err(ApiError {
                code: Code::InvalidManifest,
                message,
                details: vec![detail],
            });
        }
        let object = |kind: &str, name: &str, action| AppliedObject {
            kind: text(kind),
            domain: text("red"),
            name: text(name),
            action,
            version: Some(version()),
        };
        let objects = vec![
            object("Domain", "red", Action::Unchanged),
            object("Network", "lan", Action::Configured),
            object("Endpoint", "web-1", Action::Created),
        ];
        let pending = Programmed {
            hosts: vec![text("h1")],
            pending: vec![text("h2")],
            unreachable: vec![],
        };
        Ok(Applied {
            objects,
            warnings: vec![text("not reached: h3")],
            programmed: request.wait.then_some(pending),
        })
    }

    async fn delete(
        &self,
        author: &Author,
        kind: Kind,
        domain: &Label,
        name: &Label,
        cascade: bool,
        only_if: Option<Precondition>,
    ) -> Result<Deleted, ApiError> {
        refused(only_if.as_ref())?;
        self.note(format!("delete by {} {kind} {domain}/{name} cascade={cascade}", author));
        if !cascade {
            let details = vec![Detail {
                message: text("Endpoint red/web-1"),
                ..Detail::default()
            }];
            return Err(ApiError {
                code: Code::Refused,
                message: text("Domain red is not deleted"),
                details,
            });
        }
        Ok(Deleted {
            deleted: vec![text("Endpoint red/web-1"), text("Domain red")],
        })
    }

    async fn history(
        &self,
        domain: &Label,
        kind: Option<Kind>,
        name: Option<&Label>,
        limit: usize,
    ) -> Result<History, ApiError> {
        self.note(format!("history {domain} {kind:?} {name:?} {limit}"));
        Ok(looking::history())
    }

    async fn diff(&self, domain: &Label, at: Moment) -> Result<Diff, ApiError> {
        self.note(format!("diff {domain} {at}"));
        Ok(looking::diff(at != Moment::Ago(std::time::Duration::ZERO)))
    }

    async fn rollback(
        &self,
        author: &Author,
        domain: &Label,
        to: Moment,
        dry_run: bool,
    ) -> Result<RolledBack, ApiError> {
        self.note(format!("rollback by {author} {domain} {to} dry={dry_run}"));
        looking::rolled_back(domain, dry_run)
    }

    async fn backup(&self) -> Result<Chunks, ApiError> {
        Ok(Box::new(looking::backup(self.breaks_off).into_iter()))
    }

    async fn conflicts(&self, domain: Option<&Label>) -> Result<Conflicts, ApiError> {
        self.note(format!("conflicts {domain:?}"));
        Ok(looking::conflicts(domain))
    }

    async fn resolve(
        &self,
        author: &Author,
        (kind, domain, name): (Kind, &Label, &Label),
        take: Version,
        only_if: Option<Precondition>,
    ) -> Result<Resolved, ApiError> {
        self.note(format!("resolve by {author} {kind} {domain}/{name} {take}"));
        refused(only_if.as_ref())?;
        Ok(Resolved {
            domain: domain.to_string(),
            kind: kind.to_string(),
            name: name.to_string(),
            deleted: false,
            took: take,
        })
    }

    async fn attach(&self, author: &Author, domain: &Label, name: &Label, how: Attach) -> Result<Attached, ApiError> {
        self.note(format!("attach by {} {domain}/{name} {how:?}", author));
        Ok(Attached {
            domain: domain.to_string(),
            endpoint: name.to_string(),
            node: text("h1"),
            interface: text("fab1"),
            mac: text("02:00:00:00:00:01"),
            addresses: vec![text("10.0.0.5/24")],
            warnings: vec![text("not confirmed within 1 s by h2")],
        })
    }

    async fn detach(&self, _author: &Author, domain: &Label, name: &Label) -> Result<Detached, ApiError> {
        Ok(Detached {
            domain: domain.to_string(),
            endpoint: name.to_string(),
            was_attached: true,
        })
    }

    async fn token(&self, _author: &Author, request: TokenRequest) -> Result<Token, ApiError> {
        self.note(format!("token {request:?}"));
        Err(ApiError::try_again("too few anchors answered"))
    }

    async fn anchors(&self) -> Result<Anchors, ApiError> {
        Ok(anchors())
    }

    async fn add_anchor(&self, author: &Author, node: &str) -> Result<Anchors, ApiError> {
        self.note(format!("add anchor {node} by {author}"));
        if node == "h9" {
            return Err(ApiError::not_found("no member is called h9, and none has that id"));
        }
        Ok(anchors())
    }

    async fn ca(&self) -> Result<Ca, ApiError> {
        Ok(ca(&["h3"]))
    }

    async fn rotate_ca(&self, author: &Author, asked: CaRotate) -> Result<Ca, ApiError> {
        self.note(format!("rotate {:?} force {} by {author}", asked.step, asked.force));
        match asked.step {
            CaStep::Begin => Ok(ca(&["h2", "h3"])),
            CaStep::Finish if !asked.force => Err(ApiError::refused("h3 have no certificate of the latter root yet")),
            CaStep::Finish | CaStep::Cancel => Ok(ca(&[])),
        }
    }

    async fn drop_anchor(&self, author: &Author, node: &str) -> Result<Anchors, ApiError> {
        self.note(format!("drop anchor {node} by {author}"));
        Err(ApiError::try_again("1 of 3 anchors agreed, 2 are needed"))
    }

    async fn remove_node(&self, author: &Author, node: &str) -> Result<NodeRemoved, ApiError> {
        self.note(format!("remove node {node} by {author}"));
        if node == "h1" {
            return Err(ApiError::refused("node aaaaaaaaaaaa is the only anchor"));
        }
        Ok(NodeRemoved {
            id: text("bbbbbbbbbbbb"),
            name: text(node),
        })
    }

    async fn leave(&self, author: &Author) -> Result<NodeRemoved, ApiError> {
        self.note(format!("leave by {author}"));
        Ok(NodeRemoved {
            id: text("aaaaaaaaaaaa"),
            name: text("h1"),
        })
    }

    async fn quarantine(&self) -> Result<Vec<Quarantined>, ApiError> {
        Ok(vec![quarantined()])
    }

    async fn release(&self, author: &Author, domain: &Label) -> Result<Released, ApiError> {
        self.note(format!("release {domain} by {author}"));
        if domain.as_str() != "red" {
            return Err(ApiError::not_found(format!("domain {domain} is not in quarantine")));
        }
        Ok(Released {
            domain: domain.to_string(),
        })
    }

    async fn upgrade(&self) -> Result<Upgrade, ApiError> {
        Ok(upgrade())
    }

    async fn finish_upgrade(&self, author: &Author) -> Result<Upgrade, ApiError> {
        self.note(format!("finish the upgrade by {author}"));
        Err(ApiError::refused(
            "not all members can speak wire version 2: h2 (bbbbbbbbbbbb) speaks 1",
        ))
    }

    async fn user(&self, author: &Author, name: &Label, request: UserRequest) -> Result<UserCertificate, ApiError> {
        self.note(format!("user {name} by {author} for {} s", request.ttl_s));
        let Some(authority) = &self.authority else {
            return Err(ApiError::refused(
                "this node does not hold the cluster's CA key: run it on the host of h1",
            ));
        };
        let wrong = |error: pki::PkiError| ApiError::bad_request(error.to_string());
        let key = pki::request::public_key(&request.request).map_err(wrong)?;
        let life = std::time::Duration::from_secs(request.ttl_s);
        let certificate = authority.issue_user(name, &key, life, now()).map_err(wrong)?;
        Ok(UserCertificate {
            name: name.to_string(),
            not_after: text("2026-01-02T03:04:05Z"),
            certificate: pki::to_pem(&certificate).map_err(wrong)?,
            roots: pki::to_pem(authority.certificate()).map_err(wrong)?,
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "certificates live in real time")]
pub(crate) fn now() -> std::time::Duration {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("a clock after 1970")
}
