use super::*;
use crate::manifest;
use crate::object::Spec;

fn policy(spec: &str) -> SecurityPolicySpec {
    let text = format!("{{kind: SecurityPolicy, domain: red, name: p, spec: {spec}}}");
    match manifest::parse("test", &text).unwrap().remove(0).object.spec {
        Spec::SecurityPolicy(spec) => spec,
        other => panic!("{other:?}"),
    }
}

fn says(spec: &str) -> PolicyVersion {
    PolicyVersion::Says(policy(spec))
}

fn policies(named: &[(&str, &[PolicyVersion])]) -> BTreeMap<PolicyName, Vec<PolicyVersion>> {
    let policies = named
        .iter()
        .map(|(name, versions)| (name.parse().unwrap(), versions.to_vec()));
    policies.collect()
}

/// Policy, version, versions, action and direction of each rule.
fn shown(policies: &BTreeMap<PolicyName, Vec<PolicyVersion>>) -> Vec<String> {
    let rules = Ruleset::of(policies).unwrap().rules;
    let line = |rule: &Rule| {
        let Rule {
            policy,
            version,
            versions,
            action,
            direction,
            ..
        } = rule;
        format!("{policy} {version}/{versions} {action:?} {direction:?}")
    };
    rules.iter().map(line).collect()
}

const ALLOW: &str = "{appliesTo: {}, ingress: [{action: allow}]}";

#[test]
fn an_unreadable_version_denies_everything_before_all_else() {
    let alone = policies(&[("p", &[PolicyVersion::Unreadable]), ("a", &[says(ALLOW)])]);
    assert_eq!(
        shown(&alone),
        ["p 0/1 Deny Ingress", "p 0/1 Deny Egress", "a 0/1 Allow Ingress"]
    );
    let beside = policies(&[("p", &[says(ALLOW), PolicyVersion::Unreadable])]);
    assert_eq!(
        shown(&beside),
        ["p 1/2 Deny Ingress", "p 1/2 Deny Egress", "p 0/2 Allow Ingress"]
    );
    let top = ALLOW.replace("appliesTo", "priority: 65535, appliesTo");
    let same = policies(&[("p", &[says(&top), PolicyVersion::Unreadable])]);
    assert_eq!(
        shown(&same),
        ["p 0/2 Allow Ingress", "p 1/2 Deny Ingress", "p 1/2 Deny Egress"]
    );
}

#[test]
fn a_deletion_beside_a_change_allows_nothing() {
    let deleted = policies(&[("p", &[PolicyVersion::Deleted, says(ALLOW)])]);
    assert_eq!(shown(&deleted), ["p 1/2 Allow Ingress"]);
}

#[test]
fn more_than_a_host_holds_is_no_ruleset() {
    let rules = |count: usize| vec!["{action: allow, protocol: tcp, ports: [1, 3, 5, 7]}"; count].join(", ");
    let policy = |count: usize| says(&format!("{{appliesTo: {{}}, ingress: [{}]}}", rules(count)));
    let most = policies(&[("a", &[policy(128)]), ("b", &[policy(128)])]);
    assert_eq!(Ruleset::of(&most).unwrap().rules.len(), RULES_MAX);
    let more = policies(&[("a", &[policy(128)]), ("b", &[policy(128)]), ("c", &[says(ALLOW)])]);
    assert_eq!(Ruleset::of(&more).unwrap_err(), Size { groups: 0, rules: 1025 });
    let unreadable = policies(&[
        ("a", &[policy(128)]),
        ("b", &[policy(128)]),
        ("c", &[PolicyVersion::Unreadable]),
    ]);
    assert_eq!(Ruleset::of(&unreadable).unwrap_err(), Size { groups: 0, rules: 1026 });
}

#[test]
fn equal_selectors_are_one_group() {
    let selecting = |from: usize, to: usize| {
        let rules = (from..to).map(|n| format!("{{action: allow, from: {{selector: {{matchLabels: {{n: '{n}'}}}}}}}}"));
        says(&format!(
            "{{appliesTo: {{}}, ingress: [{}]}}",
            rules.collect::<Vec<_>>().join(", ")
        ))
    };
    let most = policies(&[("a", &[selecting(0, 200)]), ("b", &[selecting(100, 256)])]);
    let ruleset = Ruleset::of(&most).unwrap();
    assert_eq!(ruleset.selectors.len(), GROUPS_MAX);
    let labels: Labels = serde_norway::from_str("{n: '150'}").unwrap();
    assert_eq!(ruleset.groups(&labels), BTreeSet::from([150]));
    let more = policies(&[("a", &[selecting(0, 200)]), ("b", &[selecting(100, 257)])]);
    assert_eq!(
        Ruleset::of(&more).unwrap_err(),
        Size {
            groups: 257,
            rules: 357
        }
    );
}

#[test]
fn what_is_counted_is_what_becomes_rules() {
    for spec in [
        ALLOW,
        "{appliesTo: {matchLabels: {a: b}}, ingress: [{action: deny, from: {cidrs: []}}], egress: [{action: deny, to: {cidrs: [10.0.0.0/8, 'fd00::/8']}, protocol: tcp, ports: [1, 3-9]}]}",
        "{appliesTo: {}, ingress: [{action: audit, from: {selector: {}}, protocol: icmp}, {action: audit, from: {selector: {}}, protocol: 47}]}",
    ] {
        let one = policies(&[("p", &[says(spec)])]);
        let ruleset = Ruleset::of(&one).unwrap();
        let size = Size {
            groups: ruleset.selectors.len(),
            rules: ruleset.rules.len(),
        };
        assert_eq!(Size::of([&policy(spec)]), size, "{spec}");
    }
}
