//! A catalogue that follows a replica is as one that reads all of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use membership::author::{self, Write};
use membership::hlc::Stamp;
use membership::id::Scope;
use membership::identity::NodeKey;
use membership::record::{Body, Key};
use membership::replica::Replica;
use overlay::catalogue::Catalogue;
use overlay::fact::{ADDRESS_CLAIM_KIND, ATTACHMENT_KIND};
use overlay::manifest;
use proptest::prelude::*;

const DOMAINS: [&str; 2] = ["red", "blue"];
const KINDS: [(&str, &str); 5] = [
    ("Domain", "{}"),
    ("Network", "{subnets: [10.0.0.0/24], vni: NUMBER}"),
    ("Endpoint", "{network: front, mac: '02:00:00:00:00:0NUMBER'}"),
    ("Router", "{networks: [nNUMBER]}"),
    ("SecurityPolicy", "{appliesTo: {matchLabels: {app: aNUMBER}}}"),
];

/// An object of a domain becomes what this number says, or goes; or a fact is said.
#[derive(Debug, Clone)]
enum Step {
    Object(usize, usize, usize, Option<u8>),
    Fact(usize, bool),
    Unreadable(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let object = (0..2usize, 0..5usize, 0..3usize, prop::option::weighted(0.7, 1..9u8));
    prop_oneof![
        8 => object.prop_map(|(domain, kind, name, number)| Step::Object(domain, kind, name, number)),
        1 => (0..2usize, any::<bool>()).prop_map(|(domain, claim)| Step::Fact(domain, claim)),
        1 => (0..2usize, 0..5usize).prop_map(|(domain, kind)| Step::Unreadable(domain, kind)),
    ]
}

fn scope(domain: usize) -> Scope {
    Scope::Domain(DOMAINS[domain].parse().unwrap())
}

/// The name of an object; that of a Domain is its domain's.
fn name(domain: usize, kind: usize, name: usize) -> String {
    match kind {
        0 => DOMAINS[domain].to_owned(),
        _ => format!("n{name}"),
    }
}

fn body(domain: usize, kind: usize, name: &str, number: u8) -> Body {
    let (kind, spec) = KINDS[kind];
    let spec = spec.replace("NUMBER", &number.to_string());
    let text = format!(
        "{{kind: {kind}, domain: {}, name: {name}, spec: {spec}}}",
        DOMAINS[domain]
    );
    manifest::parse("test", &text)
        .unwrap()
        .pop()
        .unwrap()
        .object
        .spec
        .encode()
}

fn write(replica: &mut Replica, key: &NodeKey, step: &Step, millis: u64) {
    let stamp = Stamp { millis, logical: 0 };
    let unreadable = || Body {
        version: 99,
        bytes: vec![1, 2, 3].into(),
    };
    let object = |domain: usize, kind: usize, name: &str, body| {
        let key = Key::new(KINDS[kind].0, name);
        (scope(domain), Write { key, body })
    };
    let made = match step {
        Step::Object(domain, kind, number, says) => {
            let name = name(*domain, *kind, *number);
            let says = says.map(|says| body(*domain, *kind, &name, says));
            let (scope, write) = object(*domain, *kind, &name, says);
            author::intents(replica, key, &scope, "test", vec![write], stamp)
        }
        Step::Unreadable(domain, kind) => {
            let (scope, write) = object(*domain, *kind, &name(*domain, *kind, 0), Some(unreadable()));
            author::intents(replica, key, &scope, "test", vec![write], stamp)
        }
        Step::Fact(domain, claim) => {
            let kind = if *claim { ADDRESS_CLAIM_KIND } else { ATTACHMENT_KIND };
            let write = Write {
                key: Key::new(kind, "n1"),
                body: Some(unreadable()),
            };
            author::facts(replica, key, &scope(*domain), vec![write], stamp)
        }
    };
    replica.merge(&made.unwrap().batch).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_catalogue_that_follows_is_as_one_that_reads_all(steps in prop::collection::vec(step(), 1..40)) {
        let key = NodeKey::from_seed(&[7; 32]);
        let mut replica = Replica::default();
        replica.learn(&key.public());
        let (mut catalogue, mut moments) = (Catalogue::default(), BTreeMap::new());
        let mut followed = 0;
        for (millis, step) in (1..).zip(&steps) {
            write(&mut replica, &key, step, millis);
            for (domain, name) in DOMAINS.iter().enumerate() {
                let (scope, name) = (scope(domain), name.parse().unwrap());
                if replica.moment(&scope) == 0 {
                    continue;
                }
                let since = moments.insert(domain, replica.moment(&scope)).unwrap_or_default();
                let touched = replica.touched(&scope, since).unwrap();
                if catalogue.follow(&replica, &name, &touched) {
                    followed += 1;
                } else {
                    catalogue.read(&replica, &name, &|_| false);
                }
            }
            prop_assert_eq!(&catalogue, &Catalogue::from_replica(&replica, &|_| false), "after {:?}", step);
        }
        let objects = steps.iter().filter(|step| !matches!(step, Step::Fact(..))).count();
        prop_assert!(followed >= objects);
    }
}
