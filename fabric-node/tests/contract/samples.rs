//! The fixed values that the made-up daemon answers with.

use fabric_node::api::anchors::{Anchor, Anchors};
use fabric_node::api::ca::{Ca, CaRoot};
use fabric_node::api::quarantine::{Quarantined, Suspect};
use fabric_node::api::types::*;
use fabric_node::api::upgrade::{Upgrade, UpgradeNode};

use super::{text, version};

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
pub(super) fn network() -> Object {
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
pub(super) fn router(name: &str) -> Object {
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
pub(super) fn policy(name: &str) -> Object {
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

pub(super) fn node() -> NodeStatus {
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

pub(super) fn domain() -> DomainStatus {
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

pub(super) fn datapath() -> DatapathStatus {
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
        vxlan_reserved: 3,
    }
}

pub(super) fn audit(direction: Direction, packets: u64) -> Audit {
    Audit {
        domain: text("red"),
        policy: text("web"),
        direction,
        rule: 1,
        packets,
        bytes: packets * 60,
    }
}

pub(super) fn ca(pending: &[&str]) -> Ca {
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

pub(super) fn quarantined() -> Quarantined {
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

pub(super) fn upgrade() -> Upgrade {
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

pub(super) fn anchors() -> Anchors {
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

pub(super) fn function(name: &str, hook: FunctionHook, failures: u64) -> Function {
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
