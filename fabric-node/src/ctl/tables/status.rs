//! What a node says of itself.

use super::super::left::left;
use super::{NONE, fields, grid, joined, lost, or_none, section};
use crate::api::types::{Audit, Condition, Connections, Device, Direction, SelfTest, Status};

pub(in super::super) fn status(status: &Status) -> String {
    let node = &status.node;
    let peers = &status.peers;
    let mut text = fields(&[
        ("Node", format!("{} ({}), version {}", node.name, node.id, node.version)),
        ("Addresses", joined(&node.addresses)),
        (
            "Tunnel",
            format!("{}, UDP port {}", joined(&node.tunnel), node.tunnel_port),
        ),
        (
            "Up",
            humantime::format_duration(std::time::Duration::from_secs(node.uptime_s)).to_string(),
        ),
        ("Cert", certificate(node.certificate_left_s)),
        ("Cluster", format!("{} ({})", status.cluster.name, status.cluster.id)),
        ("Anchors", joined(&status.cluster.anchor_names)),
        (
            "Peers",
            format!("{} live, {} suspect, {} dead", peers.live, peers.suspect, peers.dead),
        ),
        ("Kernel", or_none(Some(&status.datapath.kernel))),
    ]);
    let underlay = status
        .datapath
        .underlay
        .iter()
        .map(|underlay| format!("{} (MTU {})", underlay.interface, underlay.mtu));
    text += &fields(&[
        ("Underlay", joined(&underlay.collect::<Vec<_>>())),
        ("Fallbacks", joined(&status.datapath.fallbacks)),
        (
            "Devices",
            joined(&status.datapath.devices.iter().map(device).collect::<Vec<_>>()),
        ),
        ("Self-test", self_test(&status.datapath.self_test)),
        ("Traffic", traffic(&status.datapath.connections)),
    ]);
    let lost = status.lost_peers.iter().map(lost);
    text += &section("Lost peers", &grid(&["NAME", "STATE", "PATH", "WHAT"], lost));
    text += &section("Domains", &domains(status));
    let conditions = status.domains.iter().flat_map(|domain| {
        let row = |it: &Condition| vec![domain.name.clone(), it.reason.clone(), it.message.clone()];
        domain.conditions.iter().map(row)
    });
    text += &section("Conditions", &grid(&["DOMAIN", "REASON", "MESSAGE"], conditions));
    text += &section("Audits", &audits(&status.audits));
    let hooks = status.datapath.hooks.iter();
    let hooks = hooks.map(|hook| vec![hook.interface.clone(), hook.program.clone(), hook.mechanism.clone()]);
    text += &section("Hooks", &grid(&["INTERFACE", "PROGRAM", "MECHANISM"], hooks));
    let alarms = status
        .alarms
        .iter()
        .map(|alarm| vec![alarm.name.clone(), alarm.message.clone()]);
    text + &section("Alarms", &grid(&["NAME", "MESSAGE"], alarms))
}

fn certificate(seconds: u64) -> String {
    match seconds {
        0 => left(seconds),
        _ => format!("{} left", left(seconds)),
    }
}

fn device(device: &Device) -> String {
    let Device { name, port, .. } = device;
    let problem = device.problem.as_ref().map(|problem| format!(": {problem}"));
    format!("{name} (UDP port {port}){}", problem.unwrap_or_default())
}

fn self_test(test: &SelfTest) -> String {
    match (test.done, test.problems.is_empty()) {
        (_, false) => test.problems.join("; "),
        (true, true) => "passed".to_owned(),
        (false, true) => NONE.to_owned(),
    }
}

fn traffic(counts: &Connections) -> String {
    let Connections {
        established,
        half_open,
        flows,
        full,
    } = counts;
    let full = match full {
        0 => String::new(),
        full => format!(", {full} found the table full"),
    };
    format!("{established} connections, {half_open} half-open, {flows} flows{full}")
}

fn audits(audits: &[Audit]) -> String {
    let row = |audit: &Audit| {
        let direction = match audit.direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        };
        let of = [&audit.domain, &audit.policy, direction].map(str::to_owned);
        let counts = [audit.rule.into(), audit.packets, audit.bytes].map(|count: u64| count.to_string());
        of.into_iter().chain(counts).collect()
    };
    let header = ["DOMAIN", "POLICY", "LIST", "RULE", "PACKETS", "BYTES"];
    grid(&header, audits.iter().map(row))
}

fn domains(status: &Status) -> String {
    let rows = status.domains.iter().map(|domain| {
        let counts = [domain.networks, domain.endpoints, domain.attached, domain.here].map(|count| count.to_string());
        let mut row = vec![domain.name.clone()];
        row.extend(counts);
        row.push(if domain.programmed { "yes" } else { "no" }.to_owned());
        row.push(domain.digest.chars().take(12).collect());
        row
    });
    grid(
        &[
            "NAME",
            "NETWORKS",
            "ENDPOINTS",
            "ATTACHED",
            "HERE",
            "PROGRAMMED",
            "DIGEST",
        ],
        rows,
    )
}
