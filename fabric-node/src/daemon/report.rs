//! What the node says of itself: state of the other stages in the words of the API.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use datapath::{AuditCount, Counts, PathState, PathVerdict};
use membership::id::{NodeId, Scope};
use membership::service::{Liveness, Member};
use overlay::cluster::Cluster;
use overlay::forwarding;

use super::first::TAKE_OVER_WITHOUT;
use super::force::{Force, InForce};
use super::node::{Node, called};
use super::quarantined;
use super::reconcile::waiting;
use super::seen::Sight;
use super::unknown::Unknown;
use crate::api::types::{
    Alarm, Audit, ClusterStatus, Condition, Connections, DatapathStatus, Device, Direction, DomainStatus, Drop, Hook,
    Loss, LostPeer, NodeStatus, Path, Peer, PeerCounts, PeerState, SelfTest, Status, Underlay,
};
use crate::wallclock;

/// How long a build may take to take over from one with other tables before that is an alarm.
const TAKE_OVER_MAX: Duration = Duration::from_secs(30);

/// All of `GET /v1/status`.
pub(super) fn status(node: &Node, datapath: datapath::Status, audits: Vec<AuditCount>) -> Status {
    let force = node.reconcile.force().borrow().clone();
    let membership = &node.membership;
    let cluster = membership.cluster();
    let domains = node
        .sight
        .domains()
        .into_iter()
        .filter_map(|name| domain(&node.sight, &force, &name));
    let peers = all_peers(node);
    let waits = datapath.waits;
    let unknown = membership.read(Unknown::of);
    Status {
        node: node_status(node),
        cluster: ClusterStatus {
            id: cluster.id.to_string(),
            name: cluster.name.to_string(),
            anchors: cluster.anchors.nodes.iter().map(ToString::to_string).collect(),
            anchor_names: called(&cluster.anchors.nodes, &node.sight.names()),
            digest: node.sight.root(&Scope::System).to_string(),
        },
        peers: counts(&peers),
        lost_peers: lost(&peers),
        domains: domains.collect(),
        datapath: datapath_status(datapath),
        audits: audits.into_iter().map(audit).collect(),
        alarms: membership
            .alarms()
            .into_iter()
            .map(of_membership)
            .chain(alarms(&force))
            .chain(waits.and_then(|waits| succession(waits, &force)))
            .chain(clashes(&node.sight.cluster()))
            .chain(unknown.alarm())
            .chain(quarantined::alarms(node))
            .collect(),
        counters: membership
            .counters()
            .into_iter()
            .chain(node.refusals.counters())
            .chain([("records_unknown", unknown.count())])
            .map(|(name, count)| (name.to_owned(), count))
            .collect(),
    }
}

fn node_status(node: &Node) -> NodeStatus {
    let addresses = &node.addresses;
    let tunnel = addresses
        .ipv4
        .map(|ip| ip.to_string())
        .into_iter()
        .chain(addresses.ipv6.map(|ip| ip.to_string()));
    NodeStatus {
        id: node.membership.id().to_string(),
        name: node.name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        addresses: addresses.advertise.iter().map(ToString::to_string).collect(),
        tunnel: tunnel.collect(),
        tunnel_port: node.tunnel_port,
        uptime_s: node.started.elapsed().as_secs(),
        certificate_left_s: node.membership.certificate_left(wallclock::since_epoch()).as_secs(),
    }
}

/// The nodes other than this one, by name, with the paths to them.
pub(super) fn all_peers(node: &Node) -> Vec<Peer> {
    let (members, now) = (node.membership.members(), wallclock::since_epoch());
    peers(node.membership.id(), members, &node.paths.borrow(), now)
}

fn peers(here: NodeId, members: Vec<Member>, paths: &BTreeMap<NodeId, PathState>, now: Duration) -> Vec<Peer> {
    let micros = |time: Duration| u64::try_from(time.as_micros()).ok();
    let peer = |member: Member| {
        let known = paths.get(&member.id).copied().unwrap_or_default();
        Peer {
            id: member.id.to_string(),
            name: member.record.name.to_string(),
            state: state(member.liveness),
            addresses: member.record.addresses.iter().map(ToString::to_string).collect(),
            rtt_us: known.rtt.or(member.rtt).and_then(micros),
            path: path(known.verdict),
            loss_percent: known.loss_percent,
            path_mtu: known.mtu,
            certificate_left_s: member.certificate_left(now).map(|left| left.as_secs()),
        }
    };
    let mut peers: Vec<Peer> = members
        .into_iter()
        .filter(|member| member.id != here)
        .map(peer)
        .collect();
    peers.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    peers
}

/// How a node looks, in the words of the API.
pub(super) fn state(liveness: Liveness) -> PeerState {
    match liveness {
        Liveness::Live => PeerState::Live,
        Liveness::Suspect => PeerState::Suspect,
        Liveness::Dead => PeerState::Dead,
    }
}

fn path(verdict: PathVerdict) -> Path {
    match verdict {
        PathVerdict::Up => Path::Up,
        PathVerdict::Down => Path::Down,
        PathVerdict::Unknown => Path::Unknown,
    }
}

/// The peers of which something is gone, and what. Gossip knows about daemons, probes about paths.
fn lost(peers: &[Peer]) -> Vec<LostPeer> {
    let what = |peer: &Peer| match (peer.state, peer.path) {
        (PeerState::Dead, Path::Up) => Some(Loss::DaemonGone),
        (PeerState::Dead, Path::Down) => Some(Loss::HostGone),
        (PeerState::Dead, Path::Unknown) => Some(Loss::NotProbed),
        (PeerState::Live | PeerState::Suspect, Path::Down) => Some(Loss::PathDown),
        (PeerState::Live | PeerState::Suspect, Path::Up | Path::Unknown) => None,
    };
    let lost = |peer: &Peer| {
        Some(LostPeer {
            id: peer.id.clone(),
            name: peer.name.clone(),
            state: peer.state,
            path: peer.path,
            what: what(peer)?,
        })
    };
    peers.iter().filter_map(lost).collect()
}

fn counts(peers: &[Peer]) -> PeerCounts {
    let count = |state| peers.iter().filter(|peer| peer.state == state).count();
    PeerCounts {
        live: count(PeerState::Live),
        suspect: count(PeerState::Suspect),
        dead: count(PeerState::Dead),
    }
}

/// None for a domain that was deleted.
fn domain(sight: &Sight, force: &Force, name: &overlay::name::DomainName) -> Option<DomainStatus> {
    let seen = sight.read(name);
    let view = seen.view?;
    let in_force = force.domains.get(name);
    let here = in_force.map_or(0, |it| it.ports.len() - waiting(it).len());
    Some(DomainStatus {
        name: name.to_string(),
        networks: view.networks.len(),
        endpoints: view.endpoints.len(),
        attached: view
            .endpoints
            .values()
            .filter(|endpoint| endpoint.attachment.is_some())
            .count(),
        here,
        programmed: in_force.is_some_and(|it| it.root == seen.root) && !force.failures.contains_key(name),
        digest: seen.root.to_string(),
        conditions: in_force.map(conditions).unwrap_or_default(),
    })
}

/// Conditions of all objects of a domain, each with the object it is about; ports that wait among them. That an
/// endpoint is attached nowhere is its normal state before its workload starts and is shown with the endpoint only.
fn conditions(in_force: &InForce) -> Vec<Condition> {
    let objects = in_force.conditions.iter().flat_map(|((kind, name), conditions)| {
        let notable = conditions.iter().filter(|condition| condition.reason != "NotAttached");
        notable.map(move |condition| Condition {
            reason: condition.reason.to_owned(),
            message: format!("{kind} {name}: {}", condition.message),
        })
    });
    let ports = waiting(in_force).into_iter().map(|(endpoint, why)| Condition {
        reason: "PortWaiting".to_owned(),
        message: format!("Endpoint {endpoint}: {why}"),
    });
    objects.chain(ports).collect()
}

fn datapath_status(status: datapath::Status) -> DatapathStatus {
    let hook = |hook: datapath::Hook| Hook {
        interface: hook.interface,
        program: hook.program.to_owned(),
        mechanism: hook.mechanism.to_owned(),
    };
    let Counts {
        connections,
        half_open,
        flows,
        connections_full,
        vxlan_reserved,
    } = status.counts;
    DatapathStatus {
        connections: Connections {
            established: connections,
            half_open,
            flows,
            full: connections_full,
        },
        vxlan_reserved,
        devices: status.devices.into_iter().map(device).collect(),
        self_test: SelfTest {
            done: status.self_test.done,
            problems: status.self_test.problems,
        },
        kernel: status.kernel,
        hooks: status.hooks.into_iter().map(hook).collect(),
        fallbacks: status.fallbacks,
        underlay: status
            .underlay
            .into_iter()
            .map(|(interface, mtu)| Underlay { interface, mtu })
            .collect(),
    }
}

fn device(device: datapath::Device) -> Device {
    Device {
        name: device.name,
        encapsulation: device.encapsulation.to_owned(),
        port: device.port,
        problem: device.problem,
    }
}

fn audit(count: AuditCount) -> Audit {
    Audit {
        domain: count.domain.to_string(),
        policy: count.policy.to_string(),
        direction: match count.direction {
            forwarding::Direction::Ingress => Direction::Ingress,
            forwarding::Direction::Egress => Direction::Egress,
        },
        rule: count.number,
        packets: count.packets,
        bytes: count.bytes,
    }
}

fn of_membership(alarm: membership::service::Alarm) -> Alarm {
    Alarm {
        name: alarm.name,
        message: alarm.message,
    }
}

fn alarms(force: &Force) -> Vec<Alarm> {
    let vtep = force.vtep.iter().map(|why| Alarm {
        name: "tunnel-address".to_owned(),
        message: format!("this host cannot say where its tunnels end: {why}"),
    });
    let domains = force.failures.iter().map(|(domain, why)| Alarm {
        name: "not-programmed".to_owned(),
        message: format!("domain {domain} could not be brought into force here and is tried again: {why}"),
    });
    vtep.chain(domains).collect()
}

/// A build that came to take over and does not.
fn succession(waits: Duration, force: &Force) -> Option<Alarm> {
    if waits < TAKE_OVER_MAX {
        return None;
    }
    let why = match (&force.take_over, force.unapplied.first()) {
        (Some(why), _) => why.clone(),
        (None, Some(domain)) => format!(
            "domain {domain} could not be brought into force here (not-programmed); after {} s this build takes over \
             without it, and then nothing of it is forwarded here, unless it can bring none into force",
            TAKE_OVER_WITHOUT.as_secs()
        ),
        (None, None) => "it is bringing domains into force".to_owned(),
    };
    Some(Alarm {
        name: "takeover-pending".to_owned(),
        message: format!(
            "for {} s this build has not taken over from one with other tables, which stay in force as they were when the \
             daemon started: {why}",
            waits.as_secs()
        ),
    })
}

/// Hosts without a tunnel end, because an older host says that it has theirs.
fn clashes(cluster: &Cluster) -> Vec<Alarm> {
    let called = |node: &NodeId| {
        cluster
            .names
            .get(node)
            .map_or_else(|| node.to_string(), ToString::to_string)
    };
    let clash = |(node, (address, holder)): (&NodeId, &(IpAddr, NodeId))| Alarm {
        name: "tunnel-address-clash".to_owned(),
        message: format!(
            "{} says it has the tunnel address {address}, which is {}'s: nothing is forwarded to or from {} until one \
             of them gets another address (underlay.ipv4, underlay.ipv6)",
            called(node),
            called(holder),
            called(node)
        ),
    };
    cluster.clashes.iter().map(clash).collect()
}

/// The counters that are not zero, by reason.
pub(super) fn drops(counts: Vec<datapath::DropCount>) -> Vec<Drop> {
    let line = |count: datapath::DropCount| Drop {
        reason: count.reason.to_owned(),
        domain: count.domain.map(|domain| domain.to_string()),
        endpoint: count.endpoint.map(|endpoint| endpoint.to_string()),
        packets: count.packets,
        bytes: count.bytes,
    };
    let mut drops: Vec<Drop> = counts.into_iter().filter(|count| count.packets > 0).map(line).collect();
    drops.sort();
    drops
}

#[cfg(test)]
mod tests {
    use membership::id::Label;
    use membership::node::NodeRecord;

    use super::*;

    fn member(seed: u8, name: &str, liveness: Liveness, rtt: Option<Duration>) -> Member {
        let record = NodeRecord {
            name: name.parse::<Label>().expect("a label"),
            certificate: bytes::Bytes::new(),
            addresses: vec!["192.0.2.1:7790".parse().expect("an address")],
            wire: (1, 1),
            intent: true,
            software: String::new(),
        };
        Member {
            id: NodeId::of_key(&[seed; 32]),
            record,
            liveness,
            certain: true,
            rtt,
        }
    }

    #[test]
    fn peers_are_the_others_by_name() {
        let members = vec![
            member(1, "me", Liveness::Live, None),
            member(2, "z", Liveness::Dead, None),
            member(3, "a", Liveness::Live, Some(Duration::from_micros(1234))),
        ];
        let up = PathState {
            verdict: PathVerdict::Up,
            rtt: Some(Duration::from_micros(77)),
            loss_percent: Some(0),
            mtu: Some(1500),
        };
        let paths = [(NodeId::of_key(&[2; 32]), up)].into();
        let peers = peers(NodeId::of_key(&[1; 32]), members, &paths, Duration::ZERO);
        let seen: Vec<_> = peers
            .iter()
            .map(|peer| (peer.name.as_str(), peer.state, peer.rtt_us))
            .collect();
        assert_eq!(
            seen,
            [("a", PeerState::Live, Some(1234)), ("z", PeerState::Dead, Some(77))],
            "by the mesh where there are no probes"
        );
        assert_eq!(
            (peers[0].path, peers[0].loss_percent, peers[0].path_mtu),
            (Path::Unknown, None, None)
        );
        assert_eq!(
            (peers[1].path, peers[1].loss_percent, peers[1].path_mtu),
            (Path::Up, Some(0), Some(1500))
        );
        assert_eq!(
            counts(&peers),
            PeerCounts {
                live: 1,
                suspect: 0,
                dead: 1
            }
        );
    }

    #[test]
    fn a_dead_daemon_is_told_from_a_host_that_is_gone() {
        let here = NodeId::of_key(&[1; 32]);
        let what = |liveness, verdict| {
            let state = PathState {
                verdict,
                ..PathState::default()
            };
            let paths = [(NodeId::of_key(&[2; 32]), state)].into();
            let peers = peers(here, vec![member(2, "b", liveness, None)], &paths, Duration::ZERO);
            lost(&peers).first().map(|lost| lost.what)
        };
        for (liveness, verdict, expected) in [
            (Liveness::Dead, PathVerdict::Up, Some(Loss::DaemonGone)),
            (Liveness::Dead, PathVerdict::Down, Some(Loss::HostGone)),
            (Liveness::Dead, PathVerdict::Unknown, Some(Loss::NotProbed)),
            (Liveness::Live, PathVerdict::Down, Some(Loss::PathDown)),
            (Liveness::Suspect, PathVerdict::Down, Some(Loss::PathDown)),
            (Liveness::Suspect, PathVerdict::Up, None),
            (Liveness::Live, PathVerdict::Unknown, None),
        ] {
            assert_eq!(what(liveness, verdict), expected, "{liveness:?} {verdict:?}");
        }
    }

    #[test]
    fn two_hosts_with_one_tunnel_address_are_an_alarm() {
        let (old, young) = (NodeId::of_key(&[1; 32]), NodeId::of_key(&[2; 32]));
        let mut cluster = Cluster::default();
        assert_eq!(clashes(&cluster), []);
        cluster.names.insert(old, "fab1".parse().expect("a label"));
        cluster
            .clashes
            .insert(young, ("192.0.2.1".parse().expect("an address"), old));
        let alarms = clashes(&cluster);
        assert_eq!(alarms[0].name, "tunnel-address-clash");
        let message = &alarms[0].message;
        assert!(message.contains("192.0.2.1") && message.contains("fab1's"), "{message}");
        assert!(message.contains(&young.to_string()), "{message}");
    }

    #[test]
    fn a_build_that_does_not_take_over_is_an_alarm_that_says_why() {
        let mut force = Force::default();
        let said = |waits, force: &Force| succession(Duration::from_secs(waits), force).map(|alarm| alarm.message);
        assert_eq!(said(29, &force), None);
        assert!(said(30, &force).is_some_and(|message| message.contains("for 30 s") && message.contains("bringing")));
        force.unapplied.insert("red".parse().expect("a label"));
        assert!(said(31, &force).is_some_and(|message| message.contains("domain red")));
        force.take_over = Some("no room".to_owned());
        assert!(said(32, &force).is_some_and(|message| message.ends_with("no room")));
    }

    #[test]
    fn counters_at_zero_are_left_out() {
        let count = |reason, packets| datapath::DropCount {
            reason,
            domain: None,
            endpoint: None,
            packets,
            bytes: 0,
        };
        let drops = drops(vec![count("policy", 2), count("mtu", 0), count("ecn", 1)]);
        assert_eq!(
            drops.iter().map(|drop| drop.reason.as_str()).collect::<Vec<_>>(),
            ["ecn", "policy"]
        );
    }
}
