//! What the rules of a forwarding decide is what the policies say, read naively: by labels and priorities, without groups,
//! and for concurrent versions never more than each of them alone would let through.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lab;

use std::net::IpAddr;

use overlay::cluster::Cluster;
use overlay::forwarding::{Direction, Forwarding, Peer, Protocol, Rule, Station};
use overlay::object::SecurityPolicySpec;
use overlay::object::domain::DefaultPolicy;
use overlay::object::endpoint::Labels;
use overlay::object::policy::{self, Action, Traffic};
use overlay::view::{PolicyVersion, View};
use proptest::prelude::*;

/// A connection as the rules see it.
#[derive(Debug, Clone, Copy)]
struct Connection {
    direction: Direction,
    far: IpAddr,
    protocol: u8,
    port: u16,
}

/// What the forwarding's rules say of a connection of a local station.
fn decide(forwarding: &Forwarding, local: &Station, connection: Connection) -> bool {
    let rules: Vec<&Rule> = forwarding
        .rules
        .iter()
        .filter(|rule| rule.direction == connection.direction)
        .collect();
    for run in rules.chunk_by(|a, b| a.policy == b.policy) {
        let versions = run[0].versions;
        let first = |version: u16| {
            let of_version = run
                .iter()
                .filter(|rule| rule.version == version && rule.action != Action::Audit);
            of_version
                .map(|rule| (rule, rule.action))
                .find(|(rule, _)| matches(forwarding, rule, local, connection))
        };
        let said: Vec<Option<Action>> = (0..versions)
            .map(|version| first(version).map(|(_, action)| action))
            .collect();
        if said.contains(&Some(Action::Deny)) {
            return false;
        }
        if said.iter().all(|action| *action == Some(Action::Allow)) {
            return true;
        }
    }
    forwarding.default_policy == DefaultPolicy::Allow
}

fn matches(forwarding: &Forwarding, rule: &Rule, local: &Station, connection: Connection) -> bool {
    let far = forwarding
        .stations
        .values()
        .find(|station| station.addresses.contains(&connection.far));
    let peer = match &rule.peer {
        Peer::Any => true,
        Peer::Group(group) => far.is_some_and(|station| station.groups.contains(group)),
        Peer::Prefix(prefix) => prefix.contains(&connection.far),
    };
    let protocol = match &rule.protocol {
        Protocol::Any => true,
        Protocol::Tcp(ports) => connection.protocol == 6 && ports.contains(&connection.port),
        Protocol::Udp(ports) => connection.protocol == 17 && ports.contains(&connection.port),
        Protocol::Sctp(ports) => connection.protocol == 132 && ports.contains(&connection.port),
        Protocol::Icmp(None, None) => connection.protocol == 1,
        Protocol::Icmp(..) => false,
        Protocol::Number(number) => connection.protocol == *number,
    };
    peer && protocol && rule.subject.is_none_or(|group| local.groups.contains(&group))
}

/// What policies (of one version each) say of it.
fn naive(view: &View, policies: &[&SecurityPolicySpec], local: &Labels, connection: Connection) -> bool {
    let endpoints = view.endpoints.values();
    let far = endpoints
        .clone()
        .find(|seen| seen.addresses().any(|address| address == connection.far));
    for spec in policies.iter().filter(|spec| spec.applies_to.selects(local)) {
        let rules = match connection.direction {
            Direction::Ingress => spec.rules.ingress(),
            Direction::Egress => spec.rules.egress(),
        };
        for rule in rules.iter().filter(|rule| rule.action != Action::Audit) {
            let peer = match &rule.peer {
                None => true,
                Some(policy::Peer::Cidrs(cidrs)) => cidrs.iter().any(|prefix| prefix.contains(connection.far)),
                Some(policy::Peer::Selector(selector)) => far.is_some_and(|far| selector.selects(&far.spec.labels)),
            };
            let (protocol, port) = (connection.protocol, connection.port);
            let among = |ports: &policy::Ports| ports.ranges().iter().any(|range| range.contains(&port));
            let spoken = match &rule.traffic {
                Traffic::Any => true,
                Traffic::Tcp(ports) => protocol == 6 && among(ports),
                Traffic::Udp(ports) => protocol == 17 && among(ports),
                Traffic::Sctp(ports) => protocol == 132 && among(ports),
                Traffic::Icmp(icmp) => protocol == 1 && icmp.is_none(),
                Traffic::Number(number) => protocol == *number,
            };
            if peer && spoken {
                return rule.action == Action::Allow;
            }
        }
    }
    view.spec.default_policy == DefaultPolicy::Allow
}

const ENDPOINTS: [(&str, &str); 4] = [
    ("10.0.0.2", "{}"),
    ("10.0.0.3", "{app: web}"),
    ("10.0.0.4", "{app: db}"),
    ("10.0.0.5", "{app: db, old: 'yes'}"),
];

fn selector() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "{}",
        "{matchLabels: {app: web}}",
        "{matchLabels: {app: db}}",
        "{matchExpressions: [{key: app, operator: Exists}]}",
        "{matchExpressions: [{key: old, operator: DoesNotExist}]}",
        "{matchExpressions: [{key: app, operator: NotIn, values: [web]}]}",
        "{matchLabels: {app: nobody}}",
    ])
}

fn rule(side: &'static str) -> impl Strategy<Value = String> {
    let peer = prop_oneof![
        Just(String::new()),
        selector().prop_map(move |selector| format!(", {side}: {{selector: {selector}}}")),
        prop::sample::select(vec![
            "",
            "10.0.0.0/24",
            "10.0.0.3/32, 10.0.0.4/32",
            "0.0.0.0/0",
            "192.0.2.0/24"
        ])
        .prop_map(move |cidrs| format!(", {side}: {{cidrs: [{cidrs}]}}")),
    ];
    let traffic = prop::sample::select(vec![
        "",
        ", protocol: tcp",
        ", protocol: tcp, ports: [80, 90-99]",
        ", protocol: udp, ports: [80]",
        ", protocol: icmp",
        ", protocol: 47",
        ", protocol: sctp",
    ]);
    let action = prop::sample::select(vec!["allow", "deny", "audit"]);
    (action, peer, traffic).prop_map(|(action, peer, traffic)| format!("{{action: {action}{peer}{traffic}}}"))
}

fn policy() -> impl Strategy<Value = String> {
    let rules = |side| prop::collection::vec(rule(side), 0..4);
    (
        prop::sample::select(vec![10u16, 20, 30]),
        selector(),
        rules("from"),
        rules("to"),
    )
        .prop_map(|(priority, to, ingress, egress)| {
            let (ingress, egress) = (ingress.join(", "), egress.join(", "));
            format!("{{priority: {priority}, appliesTo: {to}, ingress: [{ingress}], egress: [{egress}]}}")
        })
}

/// Policies, each with its versions.
fn policies(versions: usize) -> impl Strategy<Value = Vec<Vec<String>>> {
    prop::collection::vec(prop::collection::vec(policy(), 1..=versions), 0..4)
}

fn connection() -> impl Strategy<Value = (usize, Connection)> {
    let far = prop::sample::select(vec![
        "10.0.0.2",
        "10.0.0.3",
        "10.0.0.4",
        "10.0.0.5",
        "192.0.2.9",
        "198.51.100.1",
    ]);
    let direction = prop::sample::select(vec![Direction::Ingress, Direction::Egress]);
    let protocol = prop::sample::select(vec![1u8, 6, 17, 47, 132]);
    let port = prop::sample::select(vec![0u16, 80, 95, 443]);
    let connection = (direction, far, protocol, port).prop_map(|(direction, far, protocol, port)| Connection {
        direction,
        far: far.parse().unwrap(),
        protocol,
        port,
    });
    (0..ENDPOINTS.len(), connection)
}

fn view(allow: bool, policies: &[Vec<String>]) -> View {
    let default = if allow { "allow" } else { "deny" };
    let mut text = format!(
        "domain: red\nhosts: {{alpha: {{ipv4: 192.0.2.1}}}}\nobjects:\n- {{stamp: 0, kind: Domain, name: red, spec: {{defaultPolicy: {default}}}}}\n"
    );
    text += "- {stamp: 0, kind: Network, domain: red, name: lan, spec: {subnets: [10.0.0.0/24], vni: 1}}\n";
    let mut attached = "attachments:\n".to_owned();
    for (n, (address, labels)) in ENDPOINTS.iter().enumerate() {
        text += &format!(
            "- {{stamp: 0, kind: Endpoint, domain: red, name: e{n}, spec: {{network: lan, mac: '02:00:00:00:00:0{n}', addresses: [{address}], labels: {labels}}}}}\n"
        );
        attached += &format!("- {{endpoint: e{n}, host: alpha, interface: tap{n}}}\n");
    }
    for (n, versions) in policies.iter().enumerate() {
        for (stamp, spec) in versions.iter().enumerate() {
            text += &format!("- {{stamp: {stamp}, kind: SecurityPolicy, domain: red, name: p{n}, spec: {spec}}}\n");
        }
    }
    seen(&lab::Input::read(&(text + &attached)))
}

fn seen(input: &lab::Input) -> View {
    let (intents, facts) = (input.intents(), input.facts());
    let cluster = Cluster::of(input.names(), &facts, &intents);
    View::of(&input.domain, &intents, &facts, &cluster, &|_| true).unwrap()
}

/// The policies in the order in which they are asked, of each the version that `choice` names.
fn chosen(view: &View, choice: usize) -> Vec<&SecurityPolicySpec> {
    let mut chosen: Vec<_> = view
        .policies
        .iter()
        .map(|(name, versions)| {
            let PolicyVersion::Says(spec) = &versions[choice % versions.len()] else {
                panic!("{versions:?}")
            };
            (std::cmp::Reverse(spec.priority), name, spec)
        })
        .collect();
    chosen.sort_by_key(|(priority, name, _)| (*priority, *name));
    chosen.into_iter().map(|(_, _, spec)| spec).collect()
}

/// The station of an endpoint, and its labels.
fn local<'a>(view: &'a View, forwarding: &'a Forwarding, n: usize) -> (&'a Station, &'a Labels) {
    let name = format!("e{n}").parse().unwrap();
    let station = forwarding
        .stations
        .values()
        .find(|station| station.endpoint == name)
        .unwrap();
    (station, &view.endpoints[&name].spec.labels)
}

proptest! {
    #[test]
    fn rules_decide_as_their_policies_say(allow: bool, policies in policies(1), (n, connection) in connection()) {
        let view = view(allow, &policies);
        let forwarding = overlay::compile(&view, lab::node("alpha"));
        let (station, labels) = local(&view, &forwarding, n);
        let expected = naive(&view, &chosen(&view, 0), labels, connection);
        prop_assert_eq!(decide(&forwarding, station, connection), expected);
    }

    #[test]
    fn versions_let_through_only_what_each_would(allow: bool, policies in policies(3), (n, connection) in connection()) {
        let view = view(allow, &policies);
        let forwarding = overlay::compile(&view, lab::node("alpha"));
        let (station, labels) = local(&view, &forwarding, n);
        if decide(&forwarding, station, connection) {
            // 0..6 meets every version of lists of one, two and three.
            for choice in 0..6 {
                prop_assert!(naive(&view, &chosen(&view, choice), labels, connection), "choice {}", choice);
            }
        }
    }

    #[test]
    fn equal_versions_decide_as_one(allow: bool, policies in policies(1), (n, connection) in connection()) {
        let twice: Vec<Vec<String>> = policies.iter().map(|versions| [&versions[..], &versions[..]].concat()).collect();
        let (one, two) = (view(allow, &policies), view(allow, &twice));
        let decision = |view: &View| {
            let forwarding = overlay::compile(view, lab::node("alpha"));
            decide(&forwarding, local(view, &forwarding, n).0, connection)
        };
        prop_assert_eq!(decision(&one), decision(&two));
    }

    #[test]
    fn an_empty_list_of_peers_is_nobody(action in prop::sample::select(vec!["allow", "deny"]), (n, connection) in connection()) {
        let spec = format!("{{appliesTo: {{}}, ingress: [{{action: {action}, from: {{cidrs: []}}}}], egress: [{{action: {action}, to: {{cidrs: []}}}}]}}");
        for default in [false, true] {
            let view = view(default, &[vec![spec.clone()]]);
            let forwarding = overlay::compile(&view, lab::node("alpha"));
            let station = local(&view, &forwarding, n).0;
            prop_assert_eq!(decide(&forwarding, station, connection), default);
        }
    }
}

#[test]
fn too_many_rules_let_nothing_through() {
    let rules = vec!["{action: allow, protocol: tcp, ports: [1, 3, 5, 7, 9]}"; 205].join(", ");
    let view = view(true, &[vec![format!("{{appliesTo: {{}}, ingress: [{rules}]}}")]]);
    let forwarding = overlay::compile(&view, lab::node("alpha"));
    assert_eq!(
        (forwarding.default_policy, forwarding.rules.len()),
        (DefaultPolicy::Deny, 0)
    );
    let conditions = &forwarding.conditions[&(overlay::object::Kind::Domain, "red".to_owned())];
    let condition = conditions.first().unwrap();
    assert_eq!(condition.reason, "TooManyRules");
    assert!(condition.message.contains("1025 rules"), "{}", condition.message);
}

#[test]
fn a_policy_of_a_later_release_lets_nothing_through() {
    let text = "domain: red\nhosts: {alpha: {ipv4: 192.0.2.1}}\nobjects:\n- {stamp: 0, kind: Domain, name: red, spec: {defaultPolicy: allow}}\n- {stamp: 0, kind: Network, domain: red, name: lan, spec: {subnets: [10.0.0.0/24], vni: 1}}\n- {stamp: 0, kind: Endpoint, domain: red, name: e0, spec: {network: lan, mac: '02:00:00:00:00:00', addresses: [10.0.0.2]}}\n- {stamp: 0, kind: SecurityPolicy, domain: red, name: p, spec: {appliesTo: {}}}\nattachments:\n- {endpoint: e0, host: alpha, interface: tap0}\n";
    let input = lab::Input::read(text);
    let (mut intents, facts) = (input.intents(), input.facts());
    let later = intents.last_mut().unwrap();
    later.body.as_mut().unwrap().version = 9;
    let cluster = Cluster::of(input.names(), &facts, &intents);
    let view = View::of(&input.domain, &intents, &facts, &cluster, &|_| true).unwrap();
    let forwarding = overlay::compile(&view, lab::node("alpha"));
    let station = forwarding.stations.values().next().unwrap();
    for direction in [Direction::Ingress, Direction::Egress] {
        let connection = Connection {
            direction,
            far: "10.0.0.9".parse().unwrap(),
            protocol: 6,
            port: 80,
        };
        assert!(!decide(&forwarding, station, connection));
    }
    let conditions = &forwarding.conditions[&(overlay::object::Kind::SecurityPolicy, "p".to_owned())];
    let reasons: Vec<&str> = conditions.iter().map(|condition| condition.reason).collect();
    assert_eq!(reasons, ["DeniesAll", "Unreadable"]);
}
