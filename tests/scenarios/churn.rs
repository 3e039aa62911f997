//! Isolation under churn: two domains with the same subnets and addresses, endpoints that change their labels, come, go and
//! move, policies that come and go, all at random, while everybody talks to everybody. No datagram ever crosses a domain.
//! While nothing changes, none crosses a deny, and all others arrive.
//!
//! `FABRIC_SEED` repeats a run's choices; a failed one says its own.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use fabric_tests::chatter::{Chatter, Heard, Talker};
use fabric_tests::deadline::{eventually, repeatedly};
use fabric_tests::dice::Dice;
use fabric_tests::lab::{Lab, Underlay};
use fabric_tests::netns::Netns;
use fabric_tests::scenario::{on_lab, say, step};

const HOSTS: [&str; 3] = ["fab1", "fab2", "fab3"];
const TEAMS: [&str; 3] = ["x", "y", "z"];
/// How long things change.
const CHURN: Duration = Duration::from_secs(60);
/// So few rounds in that time would show nothing.
const ROUNDS_MIN: usize = 5;

fn main() -> ExitCode {
    on_lab(
        "churn",
        3,
        Underlay::Ipv4,
        vec![step("nothing_crosses_a_domain_or_a_deny_while_all_changes", churn)],
    )
}

fn churn(lab: &Lab) -> Result<()> {
    let seed = match std::env::var("FABRIC_SEED") {
        Ok(seed) => seed.parse().context("FABRIC_SEED")?,
        Err(_) => RandomState::new().build_hasher().finish(),
    };
    run(lab, seed).with_context(|| format!("FABRIC_SEED={seed}"))
}

fn run(lab: &Lab, seed: u64) -> Result<()> {
    let mut dice = Dice::new(seed);
    let mut domains = ["red", "blue"]
        .map(|name| Domain::new(lab, name))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let talkers: Vec<Talker> = domains.iter().flat_map(|domain| domain.talkers(lab)).collect();
    let addresses: BTreeSet<IpAddr> = domains.iter().flat_map(Domain::addresses).collect();
    let chatter = Chatter::start(&talkers, &Vec::from_iter(addresses))?;
    let (mut denied, mut passed) = (0, 0);
    let rounds = repeatedly(CHURN, || {
        for domain in &mut domains {
            domain.change(lab, &mut dice)?;
        }
        let moment = chatter.next();
        let (no, yes) = settled(&chatter, &domains, moment)?;
        (denied, passed) = (denied + no, passed + yes);
        // What is said during a change is said at a moment that nobody looks at.
        chatter.next();
        Ok(())
    })?;
    say(format!(
        "{rounds} rounds: {passed} ways open, {denied} closed by a policy"
    ));
    ensure!(rounds >= ROUNDS_MIN && denied > 0, "too little happened");
    Ok(())
}

/// At a moment in which nothing changes: what is allowed arrives, what is denied does not. How many ways were closed by
/// policies, and how many open.
fn settled(chatter: &Chatter, domains: &[Domain], moment: u64) -> Result<(usize, usize)> {
    let open: BTreeSet<Heard> = domains.iter().flat_map(|domain| domain.ways(moment, false)).collect();
    let closed: BTreeSet<Heard> = domains.iter().flat_map(|domain| domain.ways(moment, true)).collect();
    let mut heard = BTreeSet::new();
    // Twice: what is to arrive did so the first time, and what is not had as much time again.
    for _ in 0..2 {
        let mut missing = open.clone();
        eventually("all that is allowed arrives", || {
            for heard_now in chatter.heard() {
                let domain = |name: &str| name.split('/').next().map(str::to_owned);
                ensure!(
                    domain(&heard_now.by) == domain(&heard_now.from),
                    "isolation is broken: {heard_now:?}"
                );
                missing.remove(&heard_now);
                heard.insert(heard_now);
            }
            match missing.first() {
                None => Ok(()),
                Some(first) => bail!("{} ways are shut, as {first:?}", missing.len()),
            }
        })?;
    }
    let crossed: Vec<&Heard> = heard.intersection(&closed).collect();
    ensure!(crossed.is_empty(), "a deny was crossed: {crossed:?}");
    Ok((closed.len(), open.len()))
}

/// A tenant.
struct Domain {
    name: String,
    /// Each endpoint's addresses and team.
    endpoints: BTreeMap<String, ([IpAddr; 2], &'static str)>,
    /// From which team nothing gets to which.
    deny: Option<(&'static str, &'static str)>,
    roam: Netns,
    /// Where the roaming endpoint is.
    at: Option<&'static str>,
}

impl Domain {
    fn new(lab: &Lab, name: &str) -> Result<Self> {
        let demo = |name: &str| name.split_once('-').map(|(_, endpoint)| endpoint.to_owned());
        let workloads = lab.of_domain(name);
        let all = workloads.filter_map(|workload| Some((demo(&workload.name)?, (workload.addresses(), TEAMS[0]))));
        let mut domain = Self {
            name: name.to_owned(),
            endpoints: all.collect(),
            deny: None,
            roam: Netns::make(lab.netns(&format!("roam-{name}")))?,
            at: None,
        };
        domain.endpoints.insert(
            "roam".to_owned(),
            (["10.0.0.61".parse()?, "fd00::61".parse()?], TEAMS[0]),
        );
        for endpoint in domain.endpoints.keys() {
            lab.must_apply("fab1", &domain.manifest(endpoint))?;
        }
        Ok(domain)
    }

    fn manifest(&self, endpoint: &str) -> String {
        let (domain, ([v4, v6], team)) = (&self.name, &self.endpoints[endpoint]);
        format!(
            "{{kind: Endpoint, domain: {domain}, name: {endpoint}, spec: {{network: lan, addresses: [{v4}, \"{v6}\"], labels: {{team: {team}}}}}}}"
        )
    }

    fn talkers(&self, lab: &Lab) -> Vec<Talker> {
        let talker = |name: &String| Talker {
            domain: self.name.clone(),
            name: name.clone(),
            netns: match name.as_str() {
                "roam" => self.roam.name.clone(),
                _ => lab.netns(&format!("{}-{name}", self.name)),
            },
        };
        self.endpoints.keys().map(talker).collect()
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.endpoints.values().flat_map(|(addresses, _)| *addresses).collect()
    }

    /// The ways between those who are attached that a policy closes, or those that none does.
    fn ways(&self, moment: u64, closed: bool) -> Vec<Heard> {
        let here = || {
            self.endpoints
                .iter()
                .filter(|(name, _)| *name != "roam" || self.at.is_some())
        };
        let pairs = here()
            .flat_map(|from| here().map(move |to| (from, to)))
            .filter(|(from, to)| from.0 != to.0);
        let wanted = pairs.filter(|((_, (_, from)), (_, (_, to)))| (self.deny == Some((from, to))) == closed);
        let way = |((from, _), (by, _)): (_, _)| {
            [true, false].map(|ipv4| Heard {
                by: format!("{}/{by}", self.name),
                from: format!("{}/{from}", self.name),
                ipv4,
                moment,
            })
        };
        wanted.flat_map(way).collect()
    }

    /// Something changes, on whatever host; it is in force when this returns.
    fn change(&mut self, lab: &Lab, dice: &mut Dice) -> Result<()> {
        let (host, domain) = (dice.pick(&HOSTS), self.name.clone());
        match dice.roll(4) {
            0 => {
                let (from, to) = (dice.pick(&TEAMS), dice.pick(&TEAMS));
                let (subject, list, far, other) = match dice.roll(2) {
                    0 => (to, "ingress", "from", from),
                    _ => (from, "egress", "to", to),
                };
                say(format!("{domain}: {list} of {subject} denied {far} {other}"));
                let select = |team| format!("{{matchLabels: {{team: {team}}}}}");
                let rule = format!("{{action: deny, {far}: {{selector: {}}}}}", select(other));
                lab.must_apply(
                    host,
                    &format!(
                        "{{kind: SecurityPolicy, domain: {domain}, name: churn, spec: {{appliesTo: {}, {list}: [{rule}]}}}}",
                        select(subject)
                    ),
                )?;
                self.deny = Some((from, to));
            }
            1 if self.deny.is_some() && dice.roll(3) == 0 => {
                say(format!("{domain}: no policy"));
                lab.ctl(host, &["delete", "policy", "churn", "-d", &domain])?;
                // A deletion is not waited for; a change behind it is, and is in force after it.
                lab.must_apply(
                    host,
                    &format!(
                        "{{kind: Domain, name: {domain}, spec: {{defaultPolicy: allow, description: \"{}\"}}}}",
                        dice.roll(1 << 20)
                    ),
                )?;
                self.deny = None;
            }
            2 => self.roams(lab, dice)?,
            _ => {
                let names: Vec<String> = self.endpoints.keys().cloned().collect();
                let (name, team) = (dice.pick(&names), dice.pick(&TEAMS));
                say(format!("{domain}/{name} is of team {team}"));
                self.endpoints.entry(name.clone()).and_modify(|(_, of)| *of = team);
                lab.must_apply(host, &self.manifest(&name))?;
            }
        }
        Ok(())
    }

    fn roams(&mut self, lab: &Lab, dice: &mut Dice) -> Result<()> {
        let endpoint = format!("{}/roam", self.name);
        if let Some(host) = self.at.take() {
            lab.ctl(host, &["endpoint", "detach", &endpoint])?;
        }
        let host = dice.pick(&HOSTS);
        if dice.roll(4) == 0 {
            say(format!("{endpoint} is nowhere"));
            return Ok(());
        }
        say(format!("{endpoint} is on {host}"));
        let attach = lab.try_ctl(host, &["endpoint", "attach", &endpoint, "--netns", &self.roam.name])?;
        if attach.status.success() {
            self.at = Some(host);
            return Ok(());
        }
        let why = String::from_utf8_lossy(&attach.stderr).into_owned();
        // A fifth move within three minutes is refused.
        ensure!(attach.status.code() == Some(75), "{why}");
        say(why.trim());
        Ok(())
    }
}
