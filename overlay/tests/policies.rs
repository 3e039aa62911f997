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

/// Every endpoint with every connection that the rules above tell apart.
fn connections() -> impl Iterator<Item = (usize, Connection)> {
    let fars = [
        "10.0.0.2",
        "10.0.0.3",
        "10.0.0.4",
        "10.0.0.5",
        "192.0.2.9",
        "198.51.100.1",
    ];
    let spoken = [(1, 0), (6, 80), (6, 95), (6, 443), (17, 80), (47, 0), (132, 0)];
    let ends = (0..ENDPOINTS.len()).flat_map(move |n| fars.into_iter().map(move |far| (n, far)));
    ends.flat_map(move |(n, far)| {
        let directed = [Direction::Ingress, Direction::Egress].into_iter();
        directed.flat_map(move |direction| {
            spoken.into_iter().map(move |(protocol, port)| {
                let far = far.parse().unwrap();
                (
                    n,
                    Connection {
                        direction,
                        far,
                        protocol,
                        port,
                    },
                )
            })
        })
    })
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
    fn rules_decide_as_their_policies_say(allow: bool, policies in policies(1)) {
        let view = view(allow, &policies);
        let forwarding = overlay::compile(&view, lab::node("alpha"));
        let chosen = chosen(&view, 0);
        for (n, connection) in connections() {
            let (station, labels) = local(&view, &forwarding, n);
            let expected = naive(&view, &chosen, labels, connection);
            prop_assert_eq!(decide(&forwarding, station, connection), expected, "{:?}", connection);
        }
    }

    #[test]
    fn versions_let_through_only_what_each_would(allow: bool, policies in policies(3)) {
        let view = view(allow, &policies);
        let forwarding = overlay::compile(&view, lab::node("alpha"));
        // 0..6 meets every version of lists of one, two and three.
        let choices: Vec<_> = (0..6).map(|choice| chosen(&view, choice)).collect();
        for (n, connection) in connections() {
            let (station, labels) = local(&view, &forwarding, n);
            if decide(&forwarding, station, connection) {
                let all = choices.iter().all(|chosen| naive(&view, chosen, labels, connection));
                prop_assert!(all, "{:?}", connection);
            }
        }
    }

    #[test]
    fn equal_versions_decide_as_one(allow: bool, policies in policies(1)) {
        let twice: Vec<Vec<String>> = policies.iter().map(|versions| [&versions[..], &versions[..]].concat()).collect();
        let views = [view(allow, &policies), view(allow, &twice)];
        let [one, two] = views.each_ref().map(|view| overlay::compile(view, lab::node("alpha")));
        for (n, connection) in connections() {
            let [one, two] = [(&views[0], &one), (&views[1], &two)]
                .map(|(view, forwarding)| decide(forwarding, local(view, forwarding, n).0, connection));
            prop_assert_eq!(one, two, "{:?}", connection);
        }
    }
}

#[test]
fn an_empty_list_of_peers_is_nobody() {
    for (default, action) in [(false, "allow"), (true, "deny"), (false, "deny"), (true, "allow")] {
        let rules = |side| format!("[{{action: {action}, {side}: {{cidrs: []}}}}]");
        let spec = format!(
            "{{appliesTo: {{}}, ingress: {}, egress: {}}}",
            rules("from"),
            rules("to")
        );
        let view = view(default, &[vec![spec]]);
        let forwarding = overlay::compile(&view, lab::node("alpha"));
        for (n, connection) in connections() {
            let station = local(&view, &forwarding, n).0;
            assert_eq!(decide(&forwarding, station, connection), default, "{connection:?}");
        }
    }
}

#[test]
fn a_version_denies_at_its_own_priority() {
    let deny = "{priority: 30, appliesTo: {}, ingress: [{action: allow, protocol: tcp, ports: [80]}, {action: deny, protocol: tcp}]}";
    let allow = "{priority: 10, appliesTo: {}, ingress: [{action: allow}]}";
    let between = "{priority: 20, appliesTo: {}, ingress: [{action: allow, protocol: tcp}]}";
    let view = view(
        false,
        &[vec![deny.to_owned(), allow.to_owned()], vec![between.to_owned()]],
    );
    let forwarding = overlay::compile(&view, lab::node("alpha"));
    let station = local(&view, &forwarding, 0).0;
    let decided = |protocol, port| {
        let (direction, far) = (Direction::Ingress, "192.0.2.9".parse().unwrap());
        decide(
            &forwarding,
            station,
            Connection {
                direction,
                far,
                protocol,
                port,
            },
        )
    };
    assert!(decided(6, 80), "no version denies it, and the policy between allows it");
    assert!(
        !decided(6, 443),
        "one version denies it before the policy between is asked"
    );
    assert!(!decided(17, 53), "one version says nothing of it");
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

/// The example as it would be stored, with each endpoint on alpha.
fn example() -> View {
    let text = include_str!("../../deploy/examples/routed.yaml");
    let documents = overlay::manifest::parse("routed.yaml", text).unwrap_or_else(|errors| panic!("{}", errors[0]));
    let objects: Vec<_> = documents.into_iter().map(|document| document.object).collect();
    let verdicts = overlay::admission::admit(&overlay::catalogue::Catalogue::default(), &objects);
    let changes = verdicts
        .into_values()
        .next()
        .unwrap()
        .unwrap_or_else(|refusals| panic!("{}", refusals[0]));
    let mut text = "domain: shop\nhosts: {alpha: {ipv4: 192.0.2.1}}\nattachments:\n".to_owned();
    for (n, change) in changes.iter().enumerate() {
        if change.object.kind() == overlay::object::Kind::Endpoint {
            text += &format!(
                "- {{endpoint: {}, host: alpha, interface: tap{n}}}\n",
                change.object.name
            );
        }
    }
    text += "objects:\n";
    for change in changes {
        let manifest = serde_norway::to_value(&change.object).unwrap();
        let indented = serde_norway::to_string(&manifest).unwrap().replace('\n', "\n  ");
        text += &format!("- stamp: 1\n  {}\n", indented.trim_end());
    }
    seen(&lab::Input::read(&text))
}

#[test]
fn the_example_lets_through_what_it_says() {
    let view = example();
    let forwarding = overlay::compile(&view, lab::node("alpha"));
    assert_eq!(forwarding.conditions, Default::default());
    let station = |name: &str| {
        forwarding
            .stations
            .values()
            .find(|it| it.endpoint.as_str() == name)
            .unwrap()
    };
    let table = [
        ("client-2", "web-1", 6, 80, true),
        ("db-3", "web-1", 6, 80, true),
        ("web-1", "db-3", 6, 5432, true),
        ("client-2", "db-3", 6, 5432, false),
        ("web-1", "db-3", 6, 80, false),
        ("web-1", "db-3", 17, 5432, false),
        ("client-2", "web-1", 6, 443, false),
        ("client-2", "web-1", 1, 0, false),
        ("web-1", "client-2", 6, 80, false),
    ];
    for (from, to, protocol, port, expected) in table {
        let (from, to) = (station(from), station(to));
        for v4 in [true, false] {
            let far = |station: &Station| *station.addresses.iter().find(|a| a.is_ipv4() == v4).unwrap();
            let connection = |direction, far| Connection {
                direction,
                far,
                protocol,
                port,
            };
            let egress = decide(&forwarding, from, connection(Direction::Egress, far(to)));
            let ingress = decide(&forwarding, to, connection(Direction::Ingress, far(from)));
            assert_eq!(
                egress && ingress,
                expected,
                "{} to {} {protocol} {port}",
                from.endpoint,
                to.endpoint
            );
        }
    }
}
