//! Two hundred workloads are taken away and deployed at once under other names, on other hosts, with the addresses they had,
//! by many clients of all hosts, while others talk to them, through a router and from among them. In the end each address
//! answers from where it is, and nothing comes to a place where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fabric_tests::api;
use fabric_tests::deadline::{eventually, within};
use fabric_tests::lab::{Lab, Underlay};
use fabric_tests::places::{Place, Places, Seen};
use fabric_tests::scenario::{on_lab, say, step};
use serde_json::Value;

const HOSTS: [&str; 3] = ["fab1", "fab2", "fab3"];
const COUNT: usize = 200;
/// One on each host that stays where it is, in another network, and asks all others.
const ASKERS: usize = HOSTS.len();
/// Of those that are deployed anew every so-manieth asks also, and every so-manieth is asked by these: the kernel has room
/// for 1,024 neighbours in all namespaces together.
const ALSO_ASKS: usize = 50;
const ALSO_ASKED: usize = 10;
/// Who deploy at the same time.
const CLIENTS: usize = 6;
/// Of a call.
const LIMIT: Duration = Duration::from_secs(20);
/// Within which all is as it shall be; neighbours of hosts that are gone are forgotten meanwhile.
const SETTLED: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    on_lab(
        "redeploy",
        HOSTS.len(),
        Underlay::Ipv4,
        vec![step(
            "redeployed_at_once_each_address_answers_from_where_it_is",
            redeploy,
        )],
    )
}

/// Where and as what an address is deployed: `a` first and `b` then.
#[derive(Debug, Clone, Copy)]
struct Deployment {
    /// Of the address, and of the places: those of askers come first, then those of `a`, then those of `b`.
    number: usize,
    generation: char,
}

impl Deployment {
    fn name(self) -> String {
        format!("{}-{}", self.generation, self.number)
    }

    fn address(self) -> Ipv4Addr {
        let number = u32::try_from(self.number).unwrap_or_default();
        Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 50, 1, 0)) + number)
    }

    fn host(self) -> &'static str {
        let other = usize::from(self.generation == 'b');
        HOSTS[(self.number + other) % HOSTS.len()]
    }

    fn place(self) -> usize {
        ASKERS + self.number + if self.generation == 'b' { COUNT } else { 0 }
    }

    fn mac(self) -> String {
        format!("02:50:00:{:02x}:00:{:02x}", self.generation as u32, self.number)
    }

    fn manifest(self) -> String {
        endpoint(&self.name(), "lan", self.address(), &self.mac())
    }

    fn to_place(self, lab: &Lab) -> Place {
        Place {
            netns: lab.netns(&self.name()),
            host: lab.netns(self.host()),
            interface: self.name(),
            mac: self.mac(),
            address: self.address(),
        }
    }
}

fn all(generation: char) -> impl Iterator<Item = Deployment> {
    (0..COUNT).map(move |number| Deployment { number, generation })
}

fn endpoint(name: &str, network: &str, address: Ipv4Addr, mac: &str) -> String {
    format!(
        "{{kind: Endpoint, domain: mass, name: {name}, spec: {{network: {network}, addresses: [{address}], mac: \"{mac}\"}}}}\n"
    )
}

fn asker(lab: &Lab, number: usize) -> Place {
    Place {
        netns: lab.netns(&format!("asker-{number}")),
        host: lab.netns(HOSTS[number]),
        interface: format!("asker-{number}"),
        mac: format!("02:50:00:00:00:{number:02x}"),
        address: Ipv4Addr::new(10, 51, 0, u8::try_from(11 + number).unwrap_or(u8::MAX)),
    }
}

fn socket(lab: &Lab, host: &str) -> PathBuf {
    lab.host_folder(host).join("api.sock")
}

fn redeploy(lab: &Lab) -> Result<()> {
    let askers = (0..ASKERS).map(|number| asker(lab, number));
    let deployed = all('a').chain(all('b')).map(|deployment| deployment.to_place(lab));
    let mut places = Places::make(askers.chain(deployed).collect())?;
    first(lab, &places)?;
    let (mut before, mut after) = (Ways::new(), Ways::new());
    for number in 0..ASKERS {
        let ways = asks(&mut places, number, 0..COUNT)?;
        before.extend(&ways);
        after.extend(ways);
    }
    for (generation, ways) in [('a', &mut before), ('b', &mut after)] {
        for it in all(generation).step_by(ALSO_ASKS) {
            let others = (0..COUNT).step_by(ALSO_ASKED).filter(|number| *number != it.number);
            ways.extend(asks(&mut places, it.place(), others)?);
        }
    }
    settled(&places, 'a', &before)?;
    say(format!("{COUNT} addresses answer"));
    turn(lab)?;
    say("deployed anew");
    settled(&places, 'b', &after)?;
    nothing_goes_astray(&places, &after)?;
    said_alike(lab)
}

/// Numbers of places that ask, with those of the addresses that they ask.
type Ways = BTreeSet<(u32, usize)>;

/// Has a place ask addresses from here on.
fn asks(places: &mut Places, by: usize, numbers: impl Iterator<Item = usize>) -> Result<Ways> {
    let numbers: Vec<usize> = numbers.collect();
    let to = numbers.iter().map(|number| {
        Deployment {
            number: *number,
            generation: 'a',
        }
        .address()
    });
    places.asks(by, &to.collect::<Vec<_>>())?;
    let by = u32::try_from(by)?;
    Ok(numbers.into_iter().map(|number| (by, number)).collect())
}

/// The domain, those who stay, and the first deployment.
fn first(lab: &Lab, places: &Places) -> Result<()> {
    let head = "{kind: Domain, name: mass, spec: {defaultPolicy: allow}}\n---\n\
                {kind: Network, domain: mass, name: lan, spec: {subnets: [10.50.0.0/16]}}\n---\n\
                {kind: Network, domain: mass, name: askers, spec: {subnets: [10.51.0.0/16]}}\n---\n\
                {kind: Router, domain: mass, name: core, spec: {networks: [lan, askers]}}\n";
    let askers = places.all.iter().take(ASKERS);
    let mut manifests: Vec<String> = askers
        .map(|place| {
            let name = place.interface.clone();
            endpoint(&name, "askers", place.address, &place.mac)
        })
        .collect();
    manifests.extend(all('a').map(Deployment::manifest));
    lab.must_apply("fab1", &format!("{head}---\n{}", manifests.join("---\n")))?;
    for (number, host) in HOSTS.iter().enumerate() {
        let name = format!("asker-{number}");
        api::attach(&socket(lab, host), &format!("mass/{name}"), &name, LIMIT)?;
    }
    by_clients(|number| {
        attach(
            lab,
            Deployment {
                number,
                generation: 'a',
            },
        )
    })
}

/// Does it for every number, several at a time.
fn by_clients(each: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::SeqCst);
            if number >= COUNT {
                return Ok(());
            }
            each(number)?;
        }
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(work)).collect();
        let mut ends = clients.into_iter().map(|client| client.join());
        ends.try_for_each(|end| end.unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked"))))
    })
}

/// Its host may not have heard of the endpoint yet, or that another one gave up the address.
fn attach(lab: &Lab, it: Deployment) -> Result<()> {
    eventually(format!("{} is attached on {}", it.name(), it.host()), || {
        let endpoint = format!("mass/{}", it.name());
        api::attach(&socket(lab, it.host()), &endpoint, &it.name(), LIMIT)
    })
}

/// Each address goes from the one to the other: taken away where it is, deleted and written on other hosts, attached on one.
fn turn(lab: &Lab) -> Result<()> {
    by_clients(|number| {
        let [old, new] = ['a', 'b'].map(|generation| Deployment { number, generation });
        let by = |offset: usize| socket(lab, HOSTS[(number / HOSTS.len() + offset) % HOSTS.len()]);
        let name = old.name();
        api::detach(&socket(lab, old.host()), &format!("mass/{name}"), LIMIT)?;
        api::delete_endpoint(&by(0), "mass", &name, LIMIT)?;
        // Another host may have to hear first that the address is free.
        eventually(format!("{} is written", new.name()), || {
            api::apply(&by(1), &new.manifest(), LIMIT)
        })?;
        attach(lab, new)
    })
}

/// What is to be seen at a moment: on each way an answer from the place of this generation.
fn answers(moment: u64, generation: char, ways: &Ways) -> Result<BTreeSet<Seen>> {
    let answer = |(by, number): &(u32, usize)| {
        let it = Deployment {
            number: *number,
            generation,
        };
        let (by, address) = (*by, it.address());
        let place = u32::try_from(it.place())?;
        Ok(Seen::Answered {
            moment,
            by,
            address,
            place,
        })
    };
    ways.iter().map(answer).collect()
}

fn all_came(left: &BTreeSet<Seen>) -> Result<()> {
    ensure!(
        left.is_empty(),
        "{} answers are missing, as {:?}",
        left.len(),
        left.first()
    );
    Ok(())
}

/// All askers have an answer from every address, each from its place.
fn settled(places: &Places, generation: char, ways: &Ways) -> Result<()> {
    let mut left = answers(places.next(), generation, ways)?;
    within(SETTLED, "every address answers from its place", || {
        for seen in places.seen() {
            left.remove(&seen);
        }
        all_came(&left)
    })
}

/// From here on every question is answered from the place that is deployed, and none comes to a former one.
fn nothing_goes_astray(places: &Places, ways: &Ways) -> Result<()> {
    let moment = places.next();
    let wanted = answers(moment, 'b', ways)?;
    let former: BTreeSet<u32> = all('a').filter_map(|it| u32::try_from(it.place()).ok()).collect();
    for round in 0..3 {
        let mut left = wanted.clone();
        within(SETTLED, format!("round {round}"), || {
            for seen in places.seen() {
                let astray = match &seen {
                    Seen::Asked { moment: at, place } => *at >= moment && former.contains(place),
                    Seen::Answered { moment: at, place, .. } => *at >= moment && former.contains(place),
                };
                if astray {
                    return Ok(Err(anyhow::anyhow!("a former place is in use: {seen:?}")));
                }
                left.remove(&seen);
            }
            all_came(&left)?;
            Ok(Ok(()))
        })??;
    }
    Ok(())
}

/// All hosts hold the same, say of each address the same one owner, and have it in force.
fn said_alike(lab: &Lab) -> Result<()> {
    lab.converged(&HOSTS)?;
    let mut wanted: BTreeMap<String, (String, String)> = all('b')
        .map(|it| (it.address().to_string(), (it.name(), it.host().to_owned())))
        .collect();
    for (number, host) in HOSTS.iter().enumerate() {
        let place = asker(lab, number);
        wanted.insert(place.address.to_string(), (place.interface, (*host).to_owned()));
    }
    for host in HOSTS {
        eventually(format!("{host} says who has which address"), || {
            let answer = lab.json(host, &["get", "endpoints", "-d", "mass"])?;
            let mut owners = BTreeMap::new();
            for endpoint in answer.as_array().context("no list of endpoints")? {
                let (address, owner) = owner(endpoint)?;
                let twice = owners.insert(address.clone(), owner);
                ensure!(twice.is_none(), "{address} has two owners: {twice:?} and {endpoint}");
            }
            ensure!(owners == wanted, "{owners:?}");
            let status = lab.json(host, &["status"])?;
            let domains = status["domains"].as_array().context("no domains")?;
            let mass = domains.iter().find(|it| it["name"] == "mass").context("no domain")?;
            let all = mass["endpoints"] == wanted.len() && mass["attached"] == wanted.len();
            let calm = mass["programmed"] == true && mass["conditions"].as_array().is_some_and(Vec::is_empty);
            ensure!(all && calm, "{mass}");
            Ok(())
        })?;
    }
    Ok(())
}

/// An endpoint's address, its name and the host it is attached on; it has nothing to complain of.
fn owner(endpoint: &Value) -> Result<(String, (String, String))> {
    let status = &endpoint["status"];
    let conditions = status["conditions"].as_array().context("conditions")?;
    ensure!(conditions.is_empty(), "{endpoint}");
    let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| endpoint.to_string());
    Ok((
        text(&status["addresses"][0])?,
        (text(&endpoint["name"])?, text(&status["attachment"]["name"])?),
    ))
}
