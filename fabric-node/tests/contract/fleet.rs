//! A daemon that is made up: it answers with fixed values and writes down what it was asked.

use std::sync::{Arc, Mutex};

#[path = "looking.rs"]
mod looking;

use async_trait::async_trait;
use fabric_node::api::anchors::{Anchor, Anchors};
use fabric_node::api::backend::{Author, Backend, Chunks};
use fabric_node::api::ca::{Ca, CaRoot, CaRotate, CaStep};
use fabric_node::api::changes::{Conflicts, Diff, History, Resolved, RolledBack};
use fabric_node::api::error::{ApiError, Code, Detail};
use fabric_node::api::moment::Moment;
use fabric_node::api::nodes::NodeRemoved;
use fabric_node::api::quarantine::{Quarantined, Released, Suspect};
use fabric_node::api::types::*;
use fabric_node::api::upgrade::{Upgrade, UpgradeNode};
use fabric_node::api::version::{Precondition, Version};
use membership::id::Label;
use membership::pki::{self, Authority};
use overlay::object::Kind;

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

/// An endpoint of domain red.
pub(crate) fn endpoint(name: &str, attached: bool) -> Object {
    let attachment = Attachment {
        node: text("aaaaaaaaaaaa"),
        name: text("h1"),
        state: PeerState::Live,
        counter: 3,
        binding: text("netns /run/netns/web (eth0)"),
    };
    let condition = Condition {
        reason: text("NotAttached"),
        message: text("no host has it"),
    };
    Object {
        kind: text("Endpoint"),
        domain: text("red"),
        name: text(name),
        version: version(),
        spec: serde_json::json!({"network": "lan", "mac": "02:00:00:00:00:01", "addresses": ["10.0.0.5"]}),
        status: ObjectStatus {
            stamp: text("2026-01-02T03:04:05Z"),
            author: text("root@h1"),
            versions: 1,
            conditions: if attached { vec![] } else { vec![condition] },
            addresses: vec![text("10.0.0.5"), text("fd00::5")],
            attachment: attached.then_some(attachment),
            programmed: None,
            ..ObjectStatus::default()
        },
    }
}

/// A network of domain red whose number and MTU nobody set.
fn network() -> Object {
    Object {
        kind: text("Network"),
        domain: text("red"),
        name: text("lan"),
        version: version(),
        spec: serde_json::json!({"subnets": ["10.0.0.0/24", "fd00::/64"]}),
        status: ObjectStatus {
            stamp: text("2026-01-02T03:04:05Z"),
            author: text("root@h1"),
            versions: 1,
            vni: Some(4711),
            mtu: Some(1430),
            ..ObjectStatus::default()
        },
    }
}

/// A router of domain red.
fn router(name: &str) -> Object {
    let routes = serde_json::json!([
        {"prefix": "0.0.0.0/0", "via": ["10.0.0.8", "10.0.0.9"]},
        {"prefix": "10.9.0.0/16", "blackhole": true},
    ]);
    Object {
        kind: text("Router"),
        spec: serde_json::json!({"networks": ["dmz", "lan"], "routes": routes}),
        ..bare(name)
    }
}

/// A policy of domain red.
fn policy(name: &str) -> Object {
    let ingress = serde_json::json!([
        {"action": "allow", "protocol": "tcp", "ports": ["80", "8000-8999"], "description": "the world"},
        {"action": "deny", "from": {"selector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}}},
    ]);
    let egress = serde_json::json!([{"action": "audit", "to": {"cidrs": ["192.0.2.0/24", "2001:db8::/32"]}, "protocol": "icmp"}]);
    let selector = serde_json::json!({"matchLabels": {"app": "web"}});
    Object {
        kind: text("SecurityPolicy"),
        spec: serde_json::json!({"priority": 1000, "appliesTo": selector, "ingress": ingress, "egress": egress}),
        ..bare(name)
    }
}

/// An object of which nothing odd is known.
fn bare(name: &str) -> Object {
    let object = endpoint(name, true);
    let status = ObjectStatus {
        addresses: vec![],
        attachment: None,
        ..object.status.clone()
    };
    Object { status, ..object }
}

fn node() -> NodeStatus {
    NodeStatus {
        id: text("aaaaaaaaaaaa"),
        name: text("h1"),
        version: text("0.1.0"),
        addresses: vec![text("192.0.2.1:7790")],
        tunnel: vec![text("192.0.2.1"), text("2001:db8::1")],
        tunnel_port: 4789,
        uptime_s: 3661,
        certificate_left_s: 60 * 86_400,
    }
}

fn domain() -> DomainStatus {
    DomainStatus {
        name: text("red"),
        networks: 1,
        endpoints: 3,
        attached: 2,
        here: 1,
        programmed: true,
        digest: "ab".repeat(32),
        conditions: vec![Condition {
            reason: text("PortWaiting"),
            message: text("Endpoint web-1: gone"),
        }],
    }
}

fn datapath() -> DatapathStatus {
    DatapathStatus {
        kernel: text("6.12.0"),
        hooks: vec![Hook {
            interface: text("eth0"),
            program: text("from_underlay"),
            mechanism: text("tcx"),
        }],
        fallbacks: vec![],
        underlay: vec![Underlay {
            interface: text("eth0"),
            mtu: 1500,
        }],
        devices: vec![Device {
            name: text("fabvx0"),
            encapsulation: text("vxlan"),
            port: 4789,
            problem: None,
        }],
        self_test: SelfTest {
            done: true,
            problems: vec![],
        },
        connections: Connections {
            established: 7,
            half_open: 2,
            flows: 11,
            full: 0,
        },
    }
}

fn audit(direction: Direction, packets: u64) -> Audit {
    Audit {
        domain: text("red"),
        policy: text("web"),
        direction,
        rule: 1,
        packets,
        bytes: packets * 60,
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

fn ca(pending: &[&str]) -> Ca {
    let root = |fingerprint: &str, year: u16, certificates, issues| CaRoot {
        fingerprint: text(fingerprint),
        not_before: format!("{year}-01-31T12:00:00Z"),
        not_after: format!("{}-01-29T12:00:00Z", year + 10),
        certificates,
        issues,
        key_here: issues,
        pem: format!("-----BEGIN CERTIFICATE-----\n{year}\n-----END CERTIFICATE-----\n"),
    };
    Ca {
        roots: vec![
            root("AA:AA", 2026, pending.len(), false),
            root("BB:BB", 2030, 3 - pending.len(), true),
        ],
        nodes: 3,
        pending: pending.iter().map(|name| text(name)).collect(),
    }
}

fn quarantined() -> Quarantined {
    let suspect = |kind: &str, name: &str, second: u8| Suspect {
        kind: text(kind),
        name: text(name),
        stamp: format!("2026-01-02T03:04:0{second}Z"),
        author: text("mallory@h3"),
        node_name: text("h3"),
    };
    Quarantined {
        domain: text("red"),
        crashes: 2,
        since: text("2026-01-02T03:04:07Z"),
        why: text("handling it panicked: attempt to divide by zero"),
        digest: "0123456789abcdef".repeat(4),
        written_last: vec![suspect("SecurityPolicy", "web", 6), suspect("Endpoint", "web-1", 5)],
    }
}

fn upgrade() -> Upgrade {
    let node = |id: &str, name: &str, newest, state, obstacle: Option<&str>| UpgradeNode {
        id: text(id),
        name: text(name),
        software: text("0.1.0"),
        oldest: 1,
        newest,
        state,
        obstacle: obstacle.map(text),
    };
    Upgrade {
        agreed: 1,
        next: Some(2),
        nodes: vec![
            node("aaaaaaaaaaaa", "h1", 2, PeerState::Live, None),
            node("bbbbbbbbbbbb", "h2", 1, PeerState::Live, Some("speaks 1")),
            node("cccccccccccc", "h3", 2, PeerState::Dead, Some("is not there")),
        ],
    }
}

fn anchors() -> Anchors {
    let anchor = |id: &str, name: &str, state, since| Anchor {
        id: text(id),
        name: text(name),
        state,
        since,
    };
    Anchors {
        version: 3,
        majority: 2,
        anchors: vec![
            anchor("aaaaaaaaaaaa", "h1", PeerState::Live, 1),
            anchor("bbbbbbbbbbbb", "h2", PeerState::Dead, 2),
            anchor("cccccccccccc", "h3", PeerState::Live, 3),
        ],
    }
}

fn function(name: &str, hook: FunctionHook, failures: u64) -> Function {
    Function {
        domain: text("red"),
        name: text(name),
        hook,
        position: 0,
        fail: FailMode::Closed,
        failures,
        digest: "0123456789abcdef".repeat(2),
    }
}
