//! A domain that is followed comes out as if all of it were compiled after each change.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lab;

use std::collections::BTreeSet;

use membership::claim::Claim;
use membership::id::{Label, NodeId, Scope};
use membership::record::{Fact, Intent, Key};
use overlay::cluster::Cluster;
use overlay::follow::{Followed, Holdings, Records};
use overlay::forwarding::{Change, Forwarding};
use overlay::view::View;
use proptest::prelude::*;

const HOSTS: [&str; 3] = ["alpha", "beta", "gamma"];

/// Networks, a router with next hops, and policies: what stays as it is.
const GROUND: &str = "
domain: red
hosts:
  alpha: {ipv4: 192.0.2.1}
  beta: {ipv4: 192.0.2.2}
  gamma: {ipv4: 192.0.2.3}
objects:
- {stamp: 0, kind: Domain, name: red, spec: {}}
- {stamp: 1, kind: Network, domain: red, name: n0, spec: {subnets: [10.0.0.0/28, 'fd00::/64'], vni: 1}}
- {stamp: 2, kind: Network, domain: red, name: n1, spec: {subnets: [10.0.1.0/28], vni: 2, unknownUnicast: flood}}
- {stamp: 3, kind: Network, domain: red, name: n2, spec: {subnets: [10.0.0.0/28], vni: 3}}
- {stamp: 1, kind: Router, domain: red, name: core, spec: {networks: [n0, n1], routes: [{prefix: 0.0.0.0/0, via: [10.0.0.3, 10.0.1.4]}, {prefix: 10.9.0.0/16, via: [10.0.0.5]}]}}
- {stamp: 1, kind: SecurityPolicy, domain: red, name: web, spec: {appliesTo: {matchLabels: {app: a1}}, ingress: [{action: allow, from: {selector: {matchLabels: {app: a2}}}}]}}
";

/// One endpoint at one moment.
#[derive(Debug, Clone)]
struct Endpoint {
    stamp: u64,
    network: usize,
    mac: u8,
    addresses: Vec<u8>,
    allowed: Option<u8>,
    label: u8,
    attachments: Vec<(usize, u64)>,
    claims: Vec<(usize, u8)>,
}

/// An endpoint becomes this, or goes; its claims may outlive it.
type Step = (usize, Option<Endpoint>);

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let attachments = prop::collection::vec((0..3usize, 0..3u64), 0..3);
    let claims = prop::collection::vec((0..3usize, 2..6u8), 0..2);
    let addresses = prop::collection::vec(2..7u8, 0..2);
    let (allowed, numbers) = (prop::option::of(2..7u8), (0..3u64, 0..4usize, 0..6u8, 0..3u8));
    let all = (numbers, addresses, allowed, attachments, claims);
    all.prop_map(
        |((stamp, network, mac, label), addresses, allowed, attachments, claims)| Endpoint {
            stamp,
            network,
            mac,
            addresses,
            allowed,
            label,
            attachments,
            claims,
        },
    )
}

/// The records of the domain.
#[derive(Debug, Clone)]
struct World {
    input: lab::Input,
    intents: Vec<Intent>,
    facts: Vec<Fact>,
}

impl World {
    fn new() -> Self {
        let input = lab::Input::read(GROUND);
        Self {
            intents: input.intents(),
            facts: input.facts(),
            input,
        }
    }

    /// Makes an endpoint what it is to be; the keys that this touches.
    fn step(&mut self, (number, endpoint): &Step) -> BTreeSet<Key> {
        let name = format!("e{number}");
        let is_claim = |fact: &Fact| &*fact.key.kind == "AddressClaim" && claimant(fact) == name;
        let is_attachment = |fact: &Fact| &*fact.key.kind == "Attachment" && *fact.key.name == *name;
        let (gone, stays): (Vec<_>, Vec<_>) = std::mem::take(&mut self.facts)
            .into_iter()
            .partition(|fact| is_attachment(fact) || is_claim(fact) && endpoint.is_some());
        self.facts = stays;
        self.intents.retain(|intent| *intent.key.name != *name);
        let mut touched: BTreeSet<Key> = gone.into_iter().map(|fact| fact.key).collect();
        touched.insert(Key::new("Endpoint", &name));
        if let Some(endpoint) = endpoint {
            let input = self.input(&name, endpoint);
            let (intents, facts) = (input.intents(), input.facts());
            let facts = facts.into_iter().filter(|fact| fact.scope != Scope::System);
            for fact in facts {
                touched.insert(fact.key.clone());
                self.facts
                    .retain(|other| (other.origin, &other.key) != (fact.origin, &fact.key));
                self.facts.push(fact);
            }
            self.intents.extend(intents);
        }
        touched
    }

    fn input(&self, name: &str, endpoint: &Endpoint) -> lab::Input {
        let Endpoint {
            stamp,
            network,
            mac,
            addresses,
            allowed,
            label,
            ..
        } = endpoint;
        let third = u8::from(*network == 1);
        let listed = |all: &[u8]| {
            all.iter()
                .map(|last| format!("10.0.{third}.{last}"))
                .collect::<BTreeSet<_>>()
        };
        let join = |all: BTreeSet<String>| Vec::from_iter(all).join(", ");
        let addresses = join(listed(addresses));
        let allowed = join(listed(allowed.as_slice()));
        let object = format!(
            "{{stamp: {stamp}, kind: Endpoint, domain: red, name: {name}, spec: {{network: n{network}, mac: '02:00:00:00:00:0{mac}', addresses: [{addresses}], allowedAddresses: [{allowed}], labels: {{app: a{label}}}}}}}"
        );
        let mut input = self.input.clone();
        input.objects = vec![serde_norway::from_str(&object).unwrap()];
        let attachment = |(host, counter): &(usize, u64)| {
            format!(
                "{{endpoint: {name}, host: {}, counter: {counter}, interface: tap-{name}}}",
                HOSTS[*host]
            )
        };
        let attachments = endpoint.attachments.iter().map(attachment);
        input.attachments = attachments.map(|text| serde_norway::from_str(&text).unwrap()).collect();
        let claim = |(host, last): &(usize, u8)| {
            let host = HOSTS[*host];
            format!(
                "{{host: {host}, network: n{network}, endpoint: {name}, address: 10.0.{third}.{last}, stamp: {stamp}}}"
            )
        };
        let claims = endpoint.claims.iter().map(claim);
        input.claims = claims.map(|text| serde_norway::from_str(&text).unwrap()).collect();
        input
    }

    fn cluster(&self) -> Cluster {
        Cluster::of(self.input.names(), &self.facts, &self.intents)
    }

    fn view(&self) -> View {
        let domain: Label = "red".parse().unwrap();
        View::of(&domain, &self.intents, &self.facts, &self.cluster(), &verify).unwrap()
    }

    fn domain_facts(&self) -> impl Iterator<Item = &Fact> {
        self.facts.iter().filter(|fact| fact.scope != Scope::System)
    }
}

fn claimant(fact: &Fact) -> String {
    use overlay::fact::{AddressClaim, Content};
    AddressClaim::decode(fact.body.as_ref().unwrap()).unwrap().endpoint
}

fn verify(claim: &Claim) -> bool {
    !claim.witnesses.is_empty()
}

impl Records for World {
    fn objects<'a>(&'a self, kind: &'a str) -> Box<dyn Iterator<Item = &'a Intent> + 'a> {
        Box::new(self.intents.iter().filter(move |intent| &*intent.key.kind == kind))
    }

    fn object<'a>(&'a self, key: &Key) -> Box<dyn Iterator<Item = &'a Intent> + 'a> {
        let key = key.clone();
        Box::new(self.intents.iter().filter(move |intent| intent.key == key))
    }

    fn facts<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Fact> + 'a> {
        Box::new(self.domain_facts())
    }

    fn said<'a>(&'a self, key: &'a Key) -> Box<dyn Iterator<Item = &'a Fact> + 'a> {
        Box::new(self.domain_facts().filter(move |fact| fact.key == *key))
    }
}

/// What a datapath has that obeyed: a whole domain and changes to it.
fn obey(installed: &mut Forwarding, change: Change) {
    let mut conditions = std::mem::take(&mut installed.conditions);
    change.tell(&mut conditions);
    let mut stations = std::mem::take(&mut installed.stations);
    for (at, station) in change.stations {
        match station {
            Some(station) => drop(stations.insert(at, station)),
            None => drop(stations.remove(&at)),
        }
    }
    *installed = Forwarding {
        stations,
        conditions,
        ..change.forwarding
    };
}

/// How many steps were followed, and how many were compiled in full.
fn follow(host: NodeId, steps: &[Step]) -> Result<(usize, usize), TestCaseError> {
    let mut world = World::new();
    let (mut followed, mut installed) = Followed::start(&world.view(), host, Holdings::of(&world));
    let (mut done, mut anew) = (0, 0);
    for step in steps {
        let touched = world.step(step);
        let part = followed.gather(&touched, &world, &world.cluster(), &verify);
        prop_assert!(part.is_some(), "only endpoints change");
        match part.and_then(|part| followed.advance(part)) {
            Some(change) => {
                obey(&mut installed, change);
                done += 1;
            }
            None => {
                (followed, installed) = Followed::start(&world.view(), host, Holdings::of(&world));
                anew += 1;
            }
        }
        prop_assert_eq!(&installed, &overlay::compile(&world.view(), host), "after {:?}", step);
    }
    Ok((done, anew))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0..7usize, prop::option::weighted(0.85, endpoint())), 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_followed_domain_is_as_compiled_in_full(steps in steps()) {
        for host in HOSTS {
            follow(lab::node(host), &steps)?;
        }
    }
}

/// Were every step compiled in full, the property would hold of nothing.
#[test]
fn most_changes_are_followed() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut done, mut anew) = (0, 0);
    for _ in 0..64 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        let (d, a) = follow(lab::node("alpha"), &steps).unwrap();
        (done, anew) = (done + d, anew + a);
    }
    assert!(done > 2 * anew && done > 200, "{done} followed, {anew} in full");
}

#[test]
fn what_is_no_endpoint_is_not_followed() {
    let world = World::new();
    let (followed, _) = Followed::start(&world.view(), lab::node("alpha"), Holdings::of(&world));
    for kind in ["Domain", "Network", "Router", "SecurityPolicy"] {
        let touched = [Key::new(kind, "red")].into();
        assert!(
            followed.gather(&touched, &world, &world.cluster(), &verify).is_none(),
            "{kind}"
        );
    }
    let nothing = followed.gather(&[Key::new("Later", "x")].into(), &world, &world.cluster(), &verify);
    assert_eq!(nothing.unwrap().names().len(), 0, "what nobody can read reaches nobody");
}
