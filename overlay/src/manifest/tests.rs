use super::*;
use crate::object::{Kind, Spec};

const DEMO: &str = "\
kind: Domain
name: red
spec:
  description: the first
  defaultPolicy: allow
---
kind: Network
domain: red
name: lan
spec:
  subnets: [10.0.0.0/24, 'fd00::/64']
---
kind: Endpoint
domain: red
name: web-1
spec:
  network: lan
  addresses: [10.0.0.5]
  labels: {app: web}
  allowedAddresses: [10.0.0.9, 'fd01::/64']
---
kind: Router
domain: red
name: gateway
spec:
  networks: [lan, dmz]
  routes:
  - {prefix: 0.0.0.0/0, via: [10.0.0.5, 10.0.0.6]}
  - {prefix: 10.9.0.0/16, blackhole: true}
---
kind: SecurityPolicy
domain: red
name: web
spec:
  priority: 7
  appliesTo:
    matchLabels: {app: web}
    matchExpressions: [{key: old, operator: DoesNotExist}]
  ingress:
  - {action: allow, protocol: tcp, ports: [80, '8000-8999'], description: the world}
  - {action: audit, from: {cidrs: [10.0.0.0/8]}, protocol: icmp, icmpType: 8, icmpCode: 0}
  - {action: deny, from: {selector: {}}, protocol: 47}
  egress:
  - {action: deny, to: {cidrs: []}, protocol: icmp}
---
";

fn errors(text: &str) -> Vec<String> {
    parse("demo.yaml", text)
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn error(text: &str) -> String {
    let errors = errors(text);
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.into_iter().next().unwrap()
}

#[test]
fn documents_become_objects() {
    let documents = parse("demo.yaml", DEMO).unwrap();
    let seen: Vec<(Kind, &str, &str)> = documents
        .iter()
        .map(|d| (d.object.kind(), d.object.domain.as_str(), d.object.name.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            (Kind::Domain, "red", "red"),
            (Kind::Network, "red", "lan"),
            (Kind::Endpoint, "red", "web-1"),
            (Kind::Router, "red", "gateway"),
            (Kind::SecurityPolicy, "red", "web"),
        ]
    );
    let lines: Vec<_> = documents.iter().map(|d| (d.place.document, d.place.line)).collect();
    let expected = [(1, 1), (2, 7), (3, 13), (4, 22), (5, 31)].map(|(document, line)| (Some(document), Some(line)));
    assert_eq!(lines, expected);
    let spread = "[\n  {\"kind\": \"Domain\", \"name\": \"red\"},\n\n  {\"kind\": \"Domain\",\n  \"name\": \"blue\"}]";
    let lines: Vec<_> = parse("a", spread).unwrap().iter().map(|d| d.place.line).collect();
    assert_eq!(lines, [Some(2), Some(4)]);
    let Spec::Network(network) = &documents[1].object.spec else {
        panic!("{documents:?}")
    };
    assert_eq!(
        network.subnets.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.0/24", "fd00::/64"]
    );
}

#[test]
fn what_is_written_is_read_again() {
    let objects: Vec<Object> = parse("a", DEMO).unwrap().into_iter().map(|d| d.object).collect();
    for text in [to_yaml(&objects), to_json(&objects)] {
        let again: Vec<Object> = parse("b", &text).unwrap().into_iter().map(|d| d.object).collect();
        assert_eq!(again, objects, "{text}");
    }
    let one_by_one: String = objects
        .iter()
        .map(|o| serde_json::to_string(o).unwrap() + "\n")
        .collect();
    assert_eq!(parse("c", &one_by_one).unwrap().len(), 5);
}

#[test]
fn a_status_is_read_over_and_a_domain_may_name_itself() {
    let text = "kind: Domain\ndomain: red\nname: red\nstatus: {conditions: [{reason: X}], deep: {er: 1}}\n";
    assert_eq!(parse("x", text).unwrap().len(), 1);
    let json = r#"{"kind": "Domain", "name": "red", "spec": {}, "status": {"a": [1, {"b": null}]}}"#;
    assert_eq!(parse("x", json).unwrap().len(), 1);
}

#[test]
fn nothing_is_no_document() {
    for text in ["", "\n", "---\n---\n", "# a comment\n", "[]"] {
        assert_eq!(parse("x", text), Ok(vec![]), "{text:?}");
    }
}

#[test]
fn errors_name_file_document_line_and_field() {
    let network = "kind: Network\ndomain: red\nname: lan\nspec:\n";
    let endpoint = "kind: Endpoint\ndomain: red\nname: web\nspec:\n  network: lan\n";
    let table = [
        (
            format!("{DEMO}kind: Domain\nname: blue\nspec:\n  defaultPolcy: deny\n"),
            "demo.yaml: document 6, line 49: spec.defaultPolcy: there is no field `defaultPolcy`; did you mean `defaultPolicy`?",
        ),
        (
            format!("{network}  subnet: []\n"),
            "demo.yaml: document 1, line 5: spec.subnet: there is no field `subnet`; did you mean `subnets`?",
        ),
        (
            format!("{endpoint}  default_policy: []\n"),
            "demo.yaml: document 1, line 6: spec.default_policy: there is no field `default_policy`; the fields there are `",
        ),
        (
            format!("apiVersion: v1\n{network}  subnets: []\n"),
            "demo.yaml: document 1, line 1: apiVersion: there is no field `apiVersion`; did you mean `version`?",
        ),
        (
            "kind: Domain\nNAME: red\n".to_owned(),
            "demo.yaml: document 1, line 2: NAME: there is no field `NAME`; did you mean `name`?",
        ),
        (
            format!("{network}  subnets:\n  - fd00::/64\n  - 10.0.0.1/24\n"),
            "demo.yaml: document 1, line 7: spec.subnets[1]: 10.0.0.1/24 has host bits set; the prefix is 10.0.0.0/24",
        ),
        (
            format!("{network}  subnets: [10.0.0.0/24, 10.0.0.0/25]\n"),
            "demo.yaml: document 1, line 5: spec.subnets: 10.0.0.0/24 and 10.0.0.0/25 overlap",
        ),
        (
            format!("{network}  vni: 3\n"),
            "demo.yaml: document 1, line 5: spec: missing field `subnets`",
        ),
        (
            format!("{network}  subnets: [10.0.0.0/24]\n  vni: 16777215\n"),
            "demo.yaml: document 1, line 6: spec.vni: a VNI is a number from 1 to 16773119, not 16777215",
        ),
        (
            format!("{network}  subnets: [10.0.0.0/24]\n  mtu: 1000\n"),
            "demo.yaml: document 1, line 6: spec.mtu: an MTU is a number from 1280 to 9150, not 1000",
        ),
        (
            format!("{endpoint}  mac: 01:00:5e:00:00:01\n"),
            "demo.yaml: document 1, line 6: spec.mac: 01:00:5e:00:00:01 is not a unicast MAC address",
        ),
        (
            format!("{endpoint}  addresses: [127.0.0.1]\n"),
            "demo.yaml: document 1, line 6: spec.addresses: 127.0.0.1 cannot be a workload's address: it is loopback",
        ),
        (
            format!("{endpoint}  addresses: [ten]\n"),
            "line 6: spec.addresses[0]: invalid IP address syntax",
        ),
        (
            format!("{endpoint}  labels: {{a b: c}}\n"),
            "line 6: spec.labels: a label's key is",
        ),
        (
            "kind: Domain\nname: Red\n".to_owned(),
            "demo.yaml: document 1, line 2: name: a name is 1 to 63 characters",
        ),
        (
            "kind: Domian\nname: red\n".to_owned(),
            "demo.yaml: document 1, line 1: kind: there is no kind \"Domian\"; did you mean Domain?",
        ),
        (
            "kind: domain\nname: red\n".to_owned(),
            "demo.yaml: document 1, line 1: kind: write the kind as Domain",
        ),
        (
            "name: red\n".to_owned(),
            "demo.yaml: document 1, line 1: missing field `kind`",
        ),
        ("kind: Domain\n".to_owned(), "missing field `name`"),
        (
            "kind: Domain\ndomain: blue\nname: red\n".to_owned(),
            "demo.yaml: document 1, line 2: domain: a Domain is its own domain: leave the field out or write \"red\"",
        ),
        (
            "kind: Network\nname: lan\nspec: {subnets: [10.0.0.0/24]}\n".to_owned(),
            "demo.yaml: document 1, line 1: missing field `domain`",
        ),
        (
            "kind: Network\ndomain: red\nname: lan\n".to_owned(),
            "demo.yaml: document 1, line 1: missing field `spec`",
        ),
        (
            "kind: Domain\nname: red\nname: red\n".to_owned(),
            "duplicate field `name`",
        ),
        (
            "just text".to_owned(),
            "a document with the fields kind, domain, name and spec",
        ),
        ("kind: [\n".to_owned(), "demo.yaml: document 1, line "),
        (
            "kind: Domain\nname: red\nspec: {\n".to_owned(),
            "demo.yaml: document 1, line ",
        ),
    ];
    for (text, expected) in table {
        let message = error(&text);
        assert!(message.contains(expected), "{text}\n{message}\nexpected: {expected}");
    }
}

#[test]
fn routers_and_policies_say_where_they_are_wrong() {
    let policy = |rest: &str| format!("kind: SecurityPolicy\ndomain: red\nname: p\nspec:\n  appliesTo: {{}}\n{rest}");
    let ingress = |rule: &str| policy(&format!("  ingress:\n  - action: allow\n  - {rule}\n"));
    let egress = |rule: &str| policy(&format!("  egress:\n  - {rule}\n"));
    let table = [
        (
            policy("").replace("  appliesTo: {}\n", "  priority: 1\n"),
            "document 1, line 5: spec: missing field `appliesTo`",
        ),
        (
            policy("").replace("{}", ""),
            "line 5: spec.appliesTo: it is empty: write what it is, or leave the field out",
        ),
        (
            policy("  priority: 70000\n"),
            "spec: a priority is a number from 0 to 65535, not 70000",
        ),
        (
            ingress("{action: allow, to: {cidrs: []}}"),
            "demo.yaml: document 1, line 8: spec.ingress[1]: an ingress rule says with `from` who may connect; `to` belongs in an egress rule",
        ),
        (
            egress("{action: allow, from: {cidrs: []}}"),
            "line 7: spec.egress[0]: an egress rule says with `to` whom to connect to; `from` belongs in an ingress rule",
        ),
        (ingress("{action: permit}"), "spec.ingress[1].action: unknown variant `permit`, expected one of `allow`, `deny`, `audit`"),
        (ingress("{action: allow, from: }"), "spec.ingress[1].from: it is empty"),
        (ingress("{action: allow, from: {}}"), "spec.ingress[1].from: a peer is either `selector` or `cidrs`"),
        (
            ingress("{action: allow, from: {selector: {}, cidrs: []}}"),
            "spec.ingress[1].from: a peer is either `selector` or `cidrs`",
        ),
        (ingress("{action: allow, from: {selector: }}"), "spec.ingress[1].from.selector: it is empty"),
        (ingress("{action: allow, from: {cidrs: }}"), "spec.ingress[1].from.cidrs: it is empty"),
        (
            ingress("{action: allow, from: {cidrs: [10.0.0.1/8]}}"),
            "spec.ingress[1].from.cidrs[0]: 10.0.0.1/8 has host bits set; the prefix is 10.0.0.0/8",
        ),
        (
            ingress("{action: allow, from: {selector: {matchLabels: {a b: c}}}}"),
            "spec.ingress[1].from.selector.matchLabels: a label's key is",
        ),
        (
            ingress("{action: allow, from: {selector: {matchExpressions: [{key: a, operator: In, values: []}]}}}"),
            "spec.ingress[1].from.selector.matchExpressions[0]: In needs at least one value",
        ),
        (
            ingress("{action: allow, protocol: tpc}"),
            "spec.ingress[1]: a protocol is any, tcp, udp, sctp, icmp or a number from 0 to 255, not tpc",
        ),
        (ingress("{action: allow, protocol: 256}"), "or a number from 0 to 255, not 256"),
        (
            ingress("{action: allow, ports: [80]}"),
            "spec.ingress[1]: `ports` are of tcp, udp and sctp only; say which with `protocol`",
        ),
        (ingress("{action: allow, protocol: 6, ports: [80]}"), "`ports` are of tcp, udp and sctp only"),
        (ingress("{action: allow, protocol: tcp, ports: []}"), "`ports` is empty; leave it out for all ports"),
        (ingress("{action: allow, protocol: tcp, ports: }"), "spec.ingress[1].ports: it is empty"),
        (
            ingress("{action: allow, protocol: tcp, ports: [80, http]}"),
            "spec.ingress[1].ports[1]: a port is a number from 1 to 65535 or a range as 8000-8999, not \"http\"",
        ),
        (ingress("{action: allow, protocol: tcp, ports: [80-90, 85]}"), "80-90 and 85 overlap"),
        (
            ingress("{action: allow, protocol: udp, icmpType: 8}"),
            "`icmpType` and `icmpCode` are of protocol icmp only",
        ),
        (ingress("{action: allow, icmpType: 8}"), "are of protocol icmp only"),
        (ingress("{action: allow, protocol: icmp, icmpCode: 0}"), "`icmpCode` needs an `icmpType`"),
        (
            ingress("{action: allow, protocol: icmp, icmpType: 256}"),
            "icmpType is a number from 0 to 255, not 256",
        ),
        (ingress("{action: allow, port: [80]}"), "spec.ingress[1].port: there is no field `port`; did you mean `ports`?"),
        (
            policy(&format!("  ingress:\n{}", "  - action: deny\n".repeat(257))),
            "spec: at most 256 rules are allowed in both directions together, not 257; split the policy",
        ),
        (
            "kind: Router\ndomain: red\nname: r\nspec:\n  networks: [a]\n  routes:\n  - prefix: 0.0.0.0/0\n    via: [fd00::1]\n"
                .to_owned(),
            "document 1, line 7: spec.routes[0]: fd00::1 cannot be a next hop to 0.0.0.0/0",
        ),
        (
            "kind: Router\ndomain: red\nname: r\nspec:\n  networks: []\n".to_owned(),
            "line 5: spec.networks: a router needs at least one network",
        ),
        (
            "kind: Endpoint\ndomain: red\nname: e\nspec:\n  network: lan\n  allowedAddresses: [10.0.0.5/24]\n".to_owned(),
            "line 6: spec.allowedAddresses[0]: 10.0.0.5/24 has host bits set",
        ),
        (
            "kind: Domain\nname: red\nspec:\n  encapsulation: gre\n".to_owned(),
            "line 4: spec.encapsulation: unknown variant `gre`, expected `vxlan` or `geneve`",
        ),
    ];
    for (text, expected) in table {
        let message = error(&text);
        assert!(message.contains(expected), "{text}\n{message}\nexpected: {expected}");
    }
}

#[test]
fn null_is_no_selector_in_json_either() {
    let policy = |spec: &str| format!(r#"{{"kind": "SecurityPolicy", "domain": "red", "name": "p", "spec": {spec}}}"#);
    for (spec, path) in [
        (r#"{"appliesTo": null}"#, "spec.appliesTo"),
        (r#"{"appliesTo": {"matchLabels": null}}"#, "spec.appliesTo.matchLabels"),
        (r#"{"appliesTo": {}, "ingress": null}"#, "spec.ingress"),
        (
            r#"{"appliesTo": {}, "ingress": [{"action": "allow", "from": null}]}"#,
            "spec.ingress[0].from",
        ),
        (
            r#"{"appliesTo": {}, "egress": [{"action": "allow", "protocol": null}]}"#,
            "spec.egress[0].protocol",
        ),
    ] {
        let message = error(&policy(spec));
        assert!(message.contains(&format!("{path}: it is empty")), "{spec}: {message}");
    }
}

#[test]
fn json_errors_have_lines_too() {
    let text = "[\n {\"kind\": \"Domain\", \"name\": \"red\"},\n {\"kind\": \"Domain\",\n  \"name\": \"Blue\"}\n]\n";
    assert!(
        error(text).starts_with("demo.yaml: document 2, line 4: name: a name is"),
        "{}",
        error(text)
    );
    let text = "{\"kind\": \"Domain\",\n \"name\": }";
    assert!(
        error(text).starts_with("demo.yaml: document 1, line 2: "),
        "{}",
        error(text)
    );
    let text = "{\"kind\": \"Domain\", \"name\": \"red\"}\n{\"kind\": \"Network\", \"naem\": \"lan\"}";
    assert!(
        error(text).contains("document 2, line 2: naem: there is no field `naem`; did you mean `name`?"),
        "{}",
        error(text)
    );
}

#[test]
fn every_document_with_an_error_is_named() {
    let text = "kind: Domain\nname: Red\n---\nkind: Domain\nname: blue\n---\nkind: Domian\nname: x\n";
    let errors = errors(text);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(
        errors[0].starts_with("demo.yaml: document 1, line 2: ")
            && errors[1].starts_with("demo.yaml: document 3, line 7: ")
    );
}

#[test]
fn size_depth_and_number_are_bounded() {
    let large = " ".repeat(TEXT_MAX + 1);
    assert!(error(&large).contains("split the file"));
    let many = "kind: Domain\nname: red\n---\n".repeat(DOCUMENTS_MAX + 1);
    assert!(error(&many).contains("more than 10000 documents"));
    let wrong = "kind: Domain\nname: Red\n---\n".repeat(1000);
    assert_eq!(errors(&wrong).len(), ERRORS_MAX);
    for deep in ["[", "{\"a\":", "- ", "a: {"] {
        let text = format!("kind: Domain\nname: red\nstatus: {}", deep.repeat(50_000));
        assert!(parse("x", &text).is_err(), "{deep}");
        assert!(parse("x", &deep.repeat(50_000)).is_err(), "{deep}");
    }
    for flow in ["a: {", "a: [", "? {"] {
        let text = format!("kind: Domain\nname: red\nstatus: x\n{}", flow.repeat(1_000_000));
        assert_eq!(error(&text), "demo.yaml: line 4: nested too deeply");
    }
    let closed = format!(
        "kind: Domain\nname: red\nspec: {}{}\n",
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    assert!(parse("x", &closed).is_err());
}

#[test]
fn aliases_do_not_multiply() {
    let mut bomb = "kind: Domain\nname: red\nstatus:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..30 {
        let list = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb.push_str(&format!("  a{n}: &a{n} [{list}]\n"));
    }
    assert_eq!(parse("x", &bomb).map(|d| d.len()), Ok(1));
    let bomb = bomb.replace("status:", "spec:");
    assert!(error(&bomb).contains("there is no field `a0`"));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_read() {
    for text in [
        "\u{feff}kind: Domain\r\nname: red\r\n",
        "\u{feff}{\"kind\": \"Domain\", \"name\": \"red\"}",
    ] {
        let documents = parse("demo.yaml", text).unwrap();
        assert_eq!(documents[0].object.name.as_str(), "red", "{text:?}");
    }
}

#[test]
fn the_manual_of_manifests_has_every_kind() {
    let manual = include_str!("../../../deploy/examples/fields.yaml");
    let kinds: Vec<Kind> = parse("fields.yaml", manual)
        .unwrap()
        .iter()
        .map(|document| document.object.kind())
        .collect();
    for kind in Kind::ALL {
        assert!(kinds.contains(&kind), "{kind} is missing");
    }
}
