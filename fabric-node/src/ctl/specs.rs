//! Routes and rules as people read them. What this release does not know stays in the form of a manifest.

use overlay::object::endpoint::Labels;
use overlay::object::policy::{Action, Peer, Rule, Selector, Test, Traffic, Values};
use overlay::object::router::Target;
use overlay::object::{RouterSpec, SecurityPolicySpec};
use serde::Deserialize;
use serde_json::Value;

use super::tables::{fields, grid, section};

/// The body of a Router's or SecurityPolicy's description.
pub(super) fn described(kind: &str, spec: &Value) -> Option<String> {
    match kind {
        "Router" => Some(router(&RouterSpec::deserialize(spec).ok()?)),
        "SecurityPolicy" => Some(policy(&SecurityPolicySpec::deserialize(spec).ok()?)),
        _ => None,
    }
}

/// What a list of Routers says of one: its networks, its routes.
pub(super) fn router_cells(spec: &Value) -> Option<[String; 2]> {
    let spec = RouterSpec::deserialize(spec).ok()?;
    Some([networks(&spec), spec.routes.len().to_string()])
}

/// What a list of SecurityPolicies says of one: its priority, whom it applies to, how many rules it has each way.
pub(super) fn policy_cells(spec: &Value) -> Option<[String; 4]> {
    let spec = SecurityPolicySpec::deserialize(spec).ok()?;
    let rules = [spec.rules.ingress(), spec.rules.egress()].map(|rules| rules.len().to_string());
    let [ingress, egress] = rules;
    Some([spec.priority.to_string(), selector(&spec.applies_to), ingress, egress])
}

fn router(spec: &RouterSpec) -> String {
    let rows = spec.routes.iter().map(|(prefix, target)| {
        let to = match target {
            Target::Via(hops) => format!("via {}", joined(hops.iter())),
            Target::Blackhole => "blackhole".to_owned(),
        };
        vec![prefix.to_string(), to]
    });
    let routes = grid(&["PREFIX", "TO"], rows);
    fields(&[("Networks", networks(spec))]) + &section("Routes", &routes)
}

fn networks(spec: &RouterSpec) -> String {
    joined(spec.networks.iter())
}

fn policy(spec: &SecurityPolicySpec) -> String {
    let head = [
        ("Priority", spec.priority.to_string()),
        ("Endpoints", selector(&spec.applies_to)),
    ];
    let ingress = grid(
        &["#", "ACTION", "FROM", "TRAFFIC", "DESCRIPTION"],
        rows(spec.rules.ingress()),
    );
    let egress = grid(
        &["#", "ACTION", "TO", "TRAFFIC", "DESCRIPTION"],
        rows(spec.rules.egress()),
    );
    fields(&head) + &section("Ingress", &ingress) + &section("Egress", &egress)
}

fn rows(rules: &[Rule]) -> impl Iterator<Item = Vec<String>> {
    rules.iter().enumerate().map(|(number, rule)| {
        let action = match rule.action {
            Action::Allow => "allow",
            Action::Deny => "deny",
            Action::Audit => "audit",
        };
        vec![
            number.to_string(),
            action.to_owned(),
            peer(rule.peer.as_ref()),
            traffic(&rule.traffic),
            rule.description.as_str().to_owned(),
        ]
    })
}

fn peer(peer: Option<&Peer>) -> String {
    match peer {
        None => "anybody".to_owned(),
        Some(Peer::Cidrs(cidrs)) if cidrs.is_empty() => "nobody".to_owned(),
        Some(Peer::Cidrs(cidrs)) => joined(cidrs.iter()),
        Some(Peer::Selector(by)) => selector(by),
    }
}

fn traffic(traffic: &Traffic) -> String {
    let (name, ports) = match traffic {
        Traffic::Any => return "any".to_owned(),
        Traffic::Icmp(None) => return "icmp".to_owned(),
        Traffic::Icmp(Some((kind, None))) => return format!("icmp type {kind}"),
        Traffic::Icmp(Some((kind, Some(code)))) => return format!("icmp type {kind} code {code}"),
        Traffic::Number(number) => return format!("protocol {number}"),
        Traffic::Tcp(ports) => ("tcp", ports),
        Traffic::Udp(ports) => ("udp", ports),
        Traffic::Sctp(ports) => ("sctp", ports),
    };
    match ports.written().len() {
        0 => name.to_owned(),
        _ => format!("{name} {}", joined(ports.written())),
    }
}

/// In the short form that `kubectl` uses.
fn selector(selector: &Selector) -> String {
    if selector.is_empty() {
        return "all endpoints".to_owned();
    }
    let labels: &Labels = &selector.match_labels;
    let labels = labels.iter().map(|(key, value)| format!("{key}={value}"));
    let list = |values: &Values| joined(values.iter().map(|value| value.as_str()));
    let expressions = selector.match_expressions.iter().map(|requirement| {
        let key = requirement.key.as_str();
        match &requirement.test {
            Test::In(values) => format!("{key} in ({})", list(values)),
            Test::NotIn(values) => format!("{key} notin ({})", list(values)),
            Test::Exists => key.to_owned(),
            Test::DoesNotExist => format!("!{key}"),
        }
    });
    joined(labels.chain(expressions))
}

fn joined<T: ToString>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_rule_has_words() {
        let spec = serde_json::json!({
            "appliesTo": {"matchLabels": {"app": "web"}, "matchExpressions": [
                {"key": "a", "operator": "In", "values": ["x", "y"]}, {"key": "b", "operator": "NotIn", "values": ["z"]},
                {"key": "c", "operator": "Exists"}, {"key": "d", "operator": "DoesNotExist"}]},
            "ingress": [
                {"action": "allow"}, {"action": "deny", "from": {"cidrs": []}, "protocol": "icmp"},
                {"action": "audit", "from": {"selector": {}}, "protocol": "icmp", "icmpType": 8, "icmpCode": 0}],
            "egress": [
                {"action": "allow", "to": {"cidrs": ["10.0.0.0/8"]}, "protocol": "tcp", "ports": ["80", "90-99"]},
                {"action": "allow", "protocol": "icmp", "icmpType": 3}, {"action": "allow", "protocol": 47}]});
        let text = described("SecurityPolicy", &spec).expect("a policy");
        for part in [
            "app=web, a in (x, y), b notin (z), c, !d",
            "anybody",
            "nobody",
            "all endpoints",
            "icmp type 8 code 0",
            "10.0.0.0/8",
            "tcp 80, 90-99",
            "icmp type 3",
            "protocol 47",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(described("SecurityPolicy", &Value::Null), None);
        assert_eq!(described("Endpoint", &spec), None);
    }
}
