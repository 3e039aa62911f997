//! Answers as people read them. Pure functions from the API's values to text.

use comfy_table::{Table, presets};

pub(super) use self::status::status;
use super::left::left;
use super::specs;
use crate::api::types::{
    Applied, Attached, Condition, Deleted, Detached, Drop, FailMode, Function, FunctionHook, FunctionRemoved, Loss,
    LostPeer, Object, ObjectStatus, Path, Peer, PeerState, Programmed,
};

mod status;

/// What stands where nothing is known.
const NONE: &str = "-";

/// Columns with a header; what is empty says so.
pub(super) fn grid(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row.into_iter().map(|cell| printable(&cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    if table.is_empty() {
        return "none".to_owned();
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Text from objects cannot steer the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn or_none(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or(NONE).to_owned()
}

fn joined(list: &[String]) -> String {
    or_none(Some(&list.join(", ")))
}

pub(super) fn state(state: PeerState) -> &'static str {
    match state {
        PeerState::Live => "live",
        PeerState::Suspect => "suspect",
        PeerState::Dead => "dead",
    }
}

fn path(path: Path) -> &'static str {
    match path {
        Path::Up => "up",
        Path::Down => "down",
        Path::Unknown => "unknown",
    }
}

fn lost(peer: &LostPeer) -> Vec<String> {
    let what = match peer.what {
        Loss::DaemonGone => "daemon gone, path up",
        Loss::HostGone => "host gone",
        Loss::PathDown => "path down",
        Loss::NotProbed => "daemon gone, path not probed",
    };
    let cells = [&peer.name, state(peer.state), path(peer.path), what];
    cells.map(str::to_owned).to_vec()
}

fn reasons(conditions: &[Condition]) -> String {
    joined(
        &conditions
            .iter()
            .map(|condition| condition.reason.clone())
            .collect::<Vec<_>>(),
    )
}

pub(super) fn peers(peers: &[Peer]) -> String {
    let row = |peer: &Peer| {
        let rtt = peer.rtt_us.map_or(NONE.to_owned(), milliseconds);
        vec![
            peer.id.clone(),
            peer.name.clone(),
            state(peer.state).to_owned(),
            joined(&peer.addresses),
            path(peer.path).to_owned(),
            rtt,
            peer.loss_percent.map_or(NONE.to_owned(), |loss| format!("{loss} %")),
            peer.path_mtu.map_or(NONE.to_owned(), |mtu| mtu.to_string()),
            peer.certificate_left_s.map_or(NONE.to_owned(), left),
        ]
    };
    let header = [
        "ID",
        "NAME",
        "STATE",
        "ADDRESSES",
        "PATH",
        "RTT",
        "LOSS",
        "MTU",
        "CERTIFICATE",
    ];
    grid(&header, peers.iter().map(row))
}

fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:03} ms", microseconds / 1000, microseconds % 1000)
}

pub(super) fn drops(drops: &[Drop]) -> String {
    let row = |drop: &Drop| {
        let (domain, endpoint) = (or_none(drop.domain.as_deref()), or_none(drop.endpoint.as_deref()));
        vec![
            drop.reason.clone(),
            domain,
            endpoint,
            drop.packets.to_string(),
            drop.bytes.to_string(),
        ]
    };
    grid(
        &["REASON", "DOMAIN", "ENDPOINT", "PACKETS", "BYTES"],
        drops.iter().map(row),
    )
}

pub(super) fn functions(functions: &[Function]) -> String {
    let row = |function: &Function| {
        let hook = match function.hook {
            FunctionHook::Flow => "flow",
            FunctionHook::Packet => "packet",
        };
        let fail = match function.fail {
            FailMode::Open => "open",
            FailMode::Closed => "closed",
        };
        vec![
            function.domain.clone(),
            function.name.clone(),
            hook.to_owned(),
            function.position.to_string(),
            fail.to_owned(),
            function.failures.to_string(),
            function.digest.clone(),
        ]
    };
    grid(
        &["DOMAIN", "NAME", "HOOK", "POSITION", "FAIL", "FAILURES", "DIGEST"],
        functions.iter().map(row),
    )
}

pub(super) fn function_removed(removed: &FunctionRemoved) -> String {
    format!("{}/{} removed", removed.domain, removed.name)
}

pub(super) fn applied(applied: &Applied) -> String {
    let line = |object: &crate::api::types::AppliedObject| {
        let action = match object.action {
            crate::api::types::Action::Created => "created",
            crate::api::types::Action::Configured => "configured",
            crate::api::types::Action::Unchanged => "unchanged",
        };
        match object.kind.as_str() {
            "Domain" => format!("Domain {} {action}\n", object.name),
            kind => format!("{kind} {}/{} {action}\n", object.domain, object.name),
        }
    };
    applied.objects.iter().map(line).collect()
}

pub(super) fn deleted(deleted: &Deleted) -> String {
    deleted
        .deleted
        .iter()
        .map(|object| format!("{object} deleted\n"))
        .collect()
}

pub(super) fn attached(attached: &Attached) -> String {
    let addresses = joined(&attached.addresses);
    let Attached {
        domain,
        endpoint,
        node,
        interface,
        mac,
        ..
    } = attached;
    format!("{domain}/{endpoint} attached on {node}: interface {interface}, MAC {mac}, addresses {addresses}")
}

pub(super) fn detached(detached: &Detached) -> String {
    let said = if detached.was_attached {
        "detached"
    } else {
        "was not attached here"
    };
    format!("{}/{} {said}", detached.domain, detached.endpoint)
}

/// A list of objects of one kind.
pub(super) fn objects(objects: &[Object]) -> String {
    match objects.first().map(|object| object.kind.as_str()) {
        Some("Domain") => grid(
            &["NAME", "POLICY", "DESCRIPTION", "CONDITIONS"],
            objects.iter().map(domain_row),
        ),
        Some("Network") => grid(
            &["DOMAIN", "NAME", "SUBNETS", "VNI", "MTU", "CONDITIONS"],
            objects.iter().map(network_row),
        ),
        Some("Endpoint") => {
            let header = ["DOMAIN", "NAME", "NETWORK", "MAC", "ADDRESSES", "HOST", "CONDITIONS"];
            grid(&header, objects.iter().map(endpoint_row))
        }
        Some("Router") => grid(
            &["DOMAIN", "NAME", "NETWORKS", "ROUTES", "CONDITIONS"],
            objects
                .iter()
                .map(|router| row(router, specs::router_cells(&router.spec))),
        ),
        Some("SecurityPolicy") => {
            let header = [
                "DOMAIN",
                "NAME",
                "PRIORITY",
                "APPLIES TO",
                "INGRESS",
                "EGRESS",
                "CONDITIONS",
            ];
            let rows = objects.iter();
            grid(
                &header,
                rows.map(|policy| row(policy, specs::policy_cells(&policy.spec))),
            )
        }
        Some(_) | None => {
            let row = |object: &Object| vec![object.kind.clone(), object.domain.clone(), object.name.clone()];
            grid(&["KIND", "DOMAIN", "NAME"], objects.iter().map(row))
        }
    }
}

/// Names, what the spec says (nothing is known of one that cannot be read), conditions.
fn row<const N: usize>(object: &Object, cells: Option<[String; N]>) -> Vec<String> {
    let mut row = vec![object.domain.clone(), object.name.clone()];
    row.extend(cells.unwrap_or_else(|| std::array::from_fn(|_| NONE.to_owned())));
    row.push(reasons(&object.status.conditions));
    row
}

fn domain_row(object: &Object) -> Vec<String> {
    let (policy, description) = (value(object, "defaultPolicy"), value(object, "description"));
    vec![
        object.name.clone(),
        policy,
        description,
        reasons(&object.status.conditions),
    ]
}

fn network_row(object: &Object) -> Vec<String> {
    let mut row = vec![object.domain.clone(), object.name.clone()];
    let status = &object.status;
    row.extend([value(object, "subnets"), number(status.vni), number(status.mtu)]);
    row.push(reasons(&object.status.conditions));
    row
}

fn endpoint_row(object: &Object) -> Vec<String> {
    let ObjectStatus {
        addresses,
        attachment,
        conditions,
        ..
    } = &object.status;
    let host = attachment.as_ref().map(|at| match at.state {
        PeerState::Live => at.name.clone(),
        other => format!("{} ({})", at.name, state(other)),
    });
    let mut row = vec![
        object.domain.clone(),
        object.name.clone(),
        value(object, "network"),
        value(object, "mac"),
    ];
    row.extend([joined(addresses), or_none(host.as_deref()), reasons(conditions)]);
    row
}

/// A number that is in force; what the spec asks for is not shown for it.
fn number(number: Option<impl ToString>) -> String {
    number.map_or_else(|| NONE.to_owned(), |number| number.to_string())
}

/// A field of the spec in one line.
fn value(object: &Object, key: &str) -> String {
    match object.spec.get(key) {
        None | Some(serde_json::Value::Null) => NONE.to_owned(),
        Some(serde_json::Value::String(text)) => or_none(Some(text)),
        Some(serde_json::Value::Array(items)) => joined(
            &items
                .iter()
                .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                .collect::<Vec<_>>(),
        ),
        Some(other) => other.to_string(),
    }
}

/// One object in full.
pub(super) fn object(object: &Object) -> String {
    let status = &object.status;
    let mut lines = vec![
        ("Kind", object.kind.clone()),
        ("Domain", object.domain.clone()),
        ("Name", object.name.clone()),
        ("Version", object.version.to_string()),
        ("Written", format!("{} by {}", status.stamp, status.author)),
    ];
    if status.versions > 1 {
        lines.push((
            "Conflict",
            format!(
                "{} versions were written at the same time: `fabricctl conflicts` shows them",
                status.versions
            ),
        ));
    }
    if object.kind == "Endpoint" {
        lines.push(("Addresses", joined(&status.addresses)));
        let at = status
            .attachment
            .as_ref()
            .map(|at| format!("{} ({}), {}, move {}", at.name, state(at.state), at.binding, at.counter));
        lines.push(("Attached", or_none(at.as_deref())));
    }
    if object.kind == "Network" {
        lines.extend([("VNI", number(status.vni)), ("MTU", number(status.mtu))]);
    }
    if let Some(programmed) = &status.programmed {
        lines.push(("In force", in_force(programmed)));
    }
    let conditions = status
        .conditions
        .iter()
        .map(|c| vec![c.reason.clone(), c.message.clone()]);
    let spec = specs::described(&object.kind, &object.spec).unwrap_or_else(|| manifest(&object.spec));
    fields(&lines) + &spec + &section("Conditions", &grid(&["REASON", "MESSAGE"], conditions))
}

fn manifest(spec: &serde_json::Value) -> String {
    let spec = serde_norway::to_string(spec).unwrap_or_default();
    let spec: String = spec.lines().map(|line| printable(line) + "\n").collect();
    section("Spec", &spec)
}

fn in_force(programmed: &Programmed) -> String {
    let mut parts = vec![format!("on {}", joined(&programmed.hosts))];
    if !programmed.pending.is_empty() {
        parts.push(format!("not yet on {}", joined(&programmed.pending)));
    }
    if !programmed.unreachable.is_empty() {
        parts.push(format!("unreachable: {}", joined(&programmed.unreachable)));
    }
    parts.join("; ")
}

pub(super) fn fields(lines: &[(&str, String)]) -> String {
    lines
        .iter()
        .map(|(name, value)| format!("{:<11}{}\n", format!("{name}:"), printable(value)))
        .collect()
}

pub(super) fn section(title: &str, body: &str) -> String {
    let indented: String = body.lines().map(|line| format!("  {line}\n")).collect();
    format!("{title}:\n{indented}")
}
