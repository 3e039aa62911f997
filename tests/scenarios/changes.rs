//! While thirty things a second change in a domain that do not concern a flow, its packets stay on the fast path: hardly any
//! of the decisions that hosts remember for it is made again.
//!
//! What is counted is how often a slot of `GENERATIONS` was counted up that a remembered decision for the flow depends on: a
//! bound on the packets that the slow path decided, for a decision that fell is made once.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fabric_tests::api;
use fabric_tests::deadline::eventually;
use fabric_tests::fault::pin;
use fabric_tests::lab::{Lab, Underlay};
use fabric_tests::netns::{Netns, inside, run};
use fabric_tests::scenario::{on, say, step};
use serde_json::Value;

const HOSTS: [&str; 2] = ["fab1", "fab2"];
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 40, 0, 11);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 40, 0, 12);
const PORT: u16 = 11_111;
/// Endpoints that are nowhere, and change.
const OTHERS: usize = 60;
const CHANGES: usize = 150;
/// Between two changes.
const PACE: Duration = Duration::from_millis(25);
/// Of a call, and of an answer.
const LIMIT: Duration = Duration::from_secs(10);
/// The share of packets that the slow path may decide.
const SHARE_MAX: f64 = 0.05;

fn main() -> ExitCode {
    on(
        "changes",
        Stage::make,
        vec![
            step("a_change_that_concerns_a_flow_is_seen", control),
            step("changes_that_do_not_concern_a_flow_leave_it_on_the_fast_path", changes),
        ],
    )
}

/// A client and a server on two hosts, in a domain of many endpoints and of rules that speak of some of them.
struct Stage {
    client: Netns,
    server: Netns,
    lab: Lab,
}

fn endpoint(name: &str, address: Ipv4Addr, app: &str) -> String {
    format!(
        "{{kind: Endpoint, domain: many, name: {name}, \
         spec: {{network: lan, addresses: [{address}], labels: {{app: {app}}}}}}}\n"
    )
}

fn other(number: usize, app: &str) -> String {
    let address = u32::from(Ipv4Addr::new(10, 40, 1, 0)) + u32::try_from(number).unwrap_or_default();
    endpoint(&format!("other-{number}"), address.into(), app)
}

/// Who may ask servers.
fn rule(ports: &str) -> String {
    format!(
        "{{kind: SecurityPolicy, domain: many, name: servers, spec: {{appliesTo: {{matchLabels: {{app: server}}}}, \
         ingress: [{{action: allow, from: {{selector: {{matchLabels: {{app: client}}}}}}, protocol: udp, ports: {ports}}}]}}}}\n"
    )
}

fn manifest() -> String {
    let mut all = vec![
        "{kind: Domain, name: many, spec: {defaultPolicy: deny}}\n".to_owned(),
        "{kind: Network, domain: many, name: lan, spec: {subnets: [10.40.0.0/16]}}\n".to_owned(),
        "{kind: SecurityPolicy, domain: many, name: open, spec: {appliesTo: {}, egress: [{action: allow}]}}\n"
            .to_owned(),
        rule("[11111]"),
        endpoint("client", CLIENT, "client"),
        endpoint("server", SERVER, "server"),
    ];
    all.extend((0..OTHERS).map(|number| other(number, "quiet")));
    all.join("---\n")
}

impl Stage {
    fn make() -> Result<Self> {
        let lab = Lab::up("changes", 2, Underlay::Ipv4)?;
        lab.must_apply("fab1", &manifest())?;
        let [client, server] = [("client", HOSTS[0]), ("server", HOSTS[1])].map(|(name, host)| {
            let netns = Netns::make(lab.netns(name))?;
            let endpoint = format!("many/{name}");
            lab.ctl(host, &["endpoint", "attach", &endpoint, "--netns", &netns.name])?;
            Ok::<_, anyhow::Error>(netns)
        });
        Ok(Self {
            client: client?,
            server: server?,
            lab,
        })
    }

    /// Does something while the client asks as fast as the server answers; how often it did.
    fn meanwhile(&self, something: impl FnOnce() -> Result<()>) -> Result<u64> {
        let server = inside(&self.server.name, || Ok(UdpSocket::bind((SERVER, PORT))?))?;
        let client = inside(&self.client.name, || Ok(UdpSocket::bind((CLIENT, PORT))?))?;
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(LIMIT))?;
        }
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let echo = scope.spawn(|| echoes(&server));
            let asks = scope.spawn(|| asks(&client, &stop));
            let done = something();
            stop.store(true, Ordering::SeqCst);
            let asked = asks.join().map_err(|_| anyhow::anyhow!("the client panicked"))?;
            let echoed = echo.join().map_err(|_| anyhow::anyhow!("the server panicked"))?;
            done?;
            echoed.and(asked)
        })
    }

    fn look(&self) -> Result<Vec<Look>> {
        HOSTS.iter().map(|host| look(&self.lab, host)).collect()
    }

    fn socket(&self, number: usize) -> PathBuf {
        self.lab.host_folder(HOSTS[number % HOSTS.len()]).join("api.sock")
    }
}

/// Until it is asked nothing.
fn echoes(socket: &UdpSocket) -> Result<()> {
    loop {
        let mut buffer = [0; 8];
        let (length, from) = match socket.recv_from(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other.context("nobody asks")?,
        };
        socket.send_to(&buffer[..length], from)?;
        if length == 0 {
            return Ok(());
        }
    }
}

fn asks(socket: &UdpSocket, stop: &AtomicBool) -> Result<u64> {
    let mut number = 0_u64;
    let asked = loop {
        if stop.load(Ordering::SeqCst) {
            break Ok(number);
        }
        let mut buffer = [0; 8];
        socket.send_to(&number.to_be_bytes(), (SERVER, PORT))?;
        let answer = loop {
            match socket.recv(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        match answer {
            Ok(_) if u64::from_be_bytes(buffer) == number => number += 1,
            other => break Err(anyhow::anyhow!("no answer to {number}: {other:?}, {buffer:?}")),
        }
    };
    // Ends the server.
    socket.send_to(&[], (SERVER, PORT))?;
    asked
}

/// What decisions for the flow depend on: slot → its generation, and of how many decisions.
type Look = BTreeMap<u32, (u32, u64)>;

/// Where the slots of a flow's value begin (`datapath_common::Flow`).
const SLOTS: usize = 24;

fn look(lab: &Lab, host: &str) -> Result<Look> {
    let flows = bpftool(&["dump"], &pin(lab, host, "FLOWS")?, &[])?;
    let generations = pin(lab, host, "GENERATIONS")?;
    let [client, server] = [CLIENT, SERVER].map(|ip| ip.to_ipv6_mapped().octets());
    let ways = [[client, server].concat(), [server, client].concat()];
    let mut look = Look::new();
    for flow in flows.as_array().context("no list of flows")? {
        let (key, value) = (bytes(&flow["key"])?, bytes(&flow["value"])?);
        if !ways.iter().any(|way| key.ends_with(way)) {
            continue;
        }
        let slots = value.get(SLOTS..SLOTS + 12).context("a flow without slots")?;
        for slot in slots.chunks(4) {
            let known = look.entry(number(slot)?).or_insert((0, 0));
            known.1 += 1;
            if known.1 == 1 {
                let slot: Vec<String> = slot.iter().map(u8::to_string).collect();
                let slot = slot.iter().map(String::as_str);
                let found = bpftool(
                    &["lookup"],
                    &generations,
                    &["key"].into_iter().chain(slot).collect::<Vec<_>>(),
                )?;
                known.0 = number(&bytes(&found["value"])?)?;
            }
        }
    }
    ensure!(!look.is_empty(), "{host} remembers nothing of the flow");
    Ok(look)
}

fn bpftool(what: &[&str], map: &Path, arguments: &[&str]) -> Result<Value> {
    let mut command = Command::new("bpftool");
    command
        .args(["-j", "map"])
        .args(what)
        .arg("pinned")
        .arg(map)
        .args(arguments);
    Ok(serde_json::from_slice(&run(&mut command)?.stdout)?)
}

/// Bytes as `bpftool -j` writes them.
fn bytes(list: &Value) -> Result<Vec<u8>> {
    let byte = |it: &Value| u8::from_str_radix(it.as_str()?.strip_prefix("0x")?, 16).ok();
    let all: Option<Vec<u8>> = list.as_array().context("no bytes")?.iter().map(byte).collect();
    all.with_context(|| format!("no bytes: {list}"))
}

fn number(bytes: &[u8]) -> Result<u32> {
    Ok(u32::from_ne_bytes(bytes.try_into()?))
}

/// How often decisions fell between two looks.
fn fallen(before: &[Look], after: &[Look]) -> u64 {
    let of = |(before, after): (&Look, &Look)| -> u64 {
        let fell = |(slot, (generation, flows)): (&u32, &(u32, u64))| {
            let (old, _) = before.get(slot)?;
            Some(u64::from(generation.wrapping_sub(*old)) * flows)
        };
        after.iter().filter_map(fell).sum()
    };
    before.iter().zip(after).map(of).sum()
}

/// Without this the other step would show nothing.
fn control(stage: &Stage) -> Result<()> {
    stage.meanwhile(|| {
        let before = eventually("the flow is remembered", || stage.look())?;
        stage.lab.must_apply("fab1", &rule("[11111, 11113]"))?;
        eventually("its decisions fall on both hosts", || {
            let after = stage.look()?;
            for number in 0..HOSTS.len() {
                let fell = fallen(&before[number..=number], &after[number..=number]);
                ensure!(fell > 0, "on {} none fell", HOSTS[number]);
            }
            Ok(())
        })
    })?;
    Ok(())
}

fn changes(stage: &Stage) -> Result<()> {
    let mut fell = 0;
    let rounds = stage.meanwhile(|| {
        let before = eventually("the flow is remembered", || stage.look())?;
        for number in 0..CHANGES {
            let manifest = match number % 3 {
                // It comes into the group that the server's rule is about, or leaves it.
                0 => other(number % OTHERS, if number < CHANGES / 2 { "server" } else { "quiet" }),
                1 => other(number % OTHERS, if number < CHANGES / 2 { "client" } else { "quiet" }),
                _ => other(OTHERS + number, "quiet"),
            };
            api::apply(&stage.socket(number), &manifest, LIMIT)?;
            thread::sleep(PACE);
        }
        stage.lab.converged(&HOSTS)?;
        // What comes last is in force on both hosts, and so is all before it.
        stage.lab.must_apply("fab1", &other(OTHERS, "quiet"))?;
        fell = fallen(&before, &stage.look()?);
        Ok(())
    })?;
    // A round is a packet there and one back, each of which both hosts decide on.
    let packets = 2 * 2 * rounds;
    say(format!(
        "{CHANGES} changes, {packets} packets, at most {fell} decided by the slow path"
    ));
    ensure!(packets > 1000, "there was little traffic: {packets}");
    let share = f64::from(u32::try_from(fell)?) / f64::from(u32::try_from(packets)?);
    ensure!(
        share < SHARE_MAX,
        "{share} of the packets were decided by the slow path"
    );
    Ok(())
}
