//! What an operator writes: taken on any peer and in force on all, or refused and nothing changed.

use std::net::Ipv4Addr;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use fabric_tests::deadline::eventually;
use fabric_tests::flow::{End, tcp};
use fabric_tests::lab::{Lab, Underlay};
use fabric_tests::netns::Netns;
use fabric_tests::scenario::{on_lab, say, step};
use fabric_tests::stage::one;

const HOSTS: [&str; 3] = ["fab1", "fab2", "fab3"];

fn main() -> ExitCode {
    on_lab(
        "operator",
        3,
        Underlay::Ipv4,
        vec![
            step("an_endpoint_applied_on_any_peer_is_in_force_on_all", applied_anywhere),
            step("addresses_are_allocated_and_work", allocated),
            step("applying_twice_changes_nothing", unchanged),
            step("an_invalid_manifest_changes_nothing", invalid),
            step("a_delete_with_dependants_is_refused_with_their_list", dependants),
            step("exit_codes_and_outputs_keep_the_contract", contract),
            step("a_user_with_a_certificate_uses_the_api_of_another_host", https),
            step("metrics_are_served", metrics),
        ],
    )
}

fn endpoint(name: &str, spec: &str) -> String {
    format!("{{kind: Endpoint, domain: red, name: {name}, spec: {{network: lan{spec}}}}}")
}

/// Written on one host, attached on another, reached from the third and the first.
fn applied_anywhere(lab: &Lab) -> Result<()> {
    for (number, writer) in HOSTS.into_iter().enumerate() {
        let attacher = *HOSTS.get((number + 1) % 3).context("three hosts")?;
        let (name, last) = (format!("any-{number}"), 60 + u8::try_from(number)?);
        say(format!("written on {writer}, attached on {attacher}"));
        lab.must_apply(writer, &endpoint(&name, &format!(", addresses: [10.0.0.{last}]")))?;
        let netns = Netns::make(lab.netns(&name))?;
        lab.ctl(
            attacher,
            &["endpoint", "attach", &format!("red/{name}"), "--netns", &netns.name],
        )?;
        programmed_everywhere(lab, &name)?;
        let end = End {
            netns: netns.name.clone(),
            address: Ipv4Addr::new(10, 0, 0, last).into(),
        };
        for other in lab.of_domain("red") {
            tcp(&End::of(other, end.address), &end, 1000)?;
        }
        lab.ctl(attacher, &["endpoint", "detach", &format!("red/{name}")])?;
        lab.ctl(writer, &["delete", "endpoint", &name, "-d", "red"])?;
    }
    lab.converged(&HOSTS).map(drop)
}

fn programmed_everywhere(lab: &Lab, name: &str) -> Result<()> {
    for host in HOSTS {
        eventually(format!("{name} is in force on all hosts, as {host} says"), || {
            let object = lab.json(host, &["describe", "endpoint", name, "-d", "red"])?;
            let programmed = &object["status"]["programmed"]["hosts"];
            let names: Vec<_> = programmed
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|h| h.as_str())
                .collect();
            ensure!(HOSTS.iter().all(|host| names.contains(host)), "{}", object["status"]);
            Ok(())
        })?;
    }
    Ok(())
}

/// Without fixed addresses the endpoint gets one of each subnet, and nobody else has them.
fn allocated(lab: &Lab) -> Result<()> {
    let mut made = Vec::new();
    for (name, host) in [("auto-1", "fab2"), ("auto-2", "fab3")] {
        lab.must_apply(host, &endpoint(name, ""))?;
        let netns = Netns::make(lab.netns(name))?;
        lab.ctl(
            host,
            &["endpoint", "attach", &format!("red/{name}"), "--netns", &netns.name],
        )?;
        let addresses = eventually(format!("{name} has two addresses"), || {
            let object = one(lab.json("fab1", &["get", "endpoint", name, "-d", "red"])?)?;
            let texts = object["status"]["addresses"].as_array().context("no addresses")?;
            let parsed = texts.iter().filter_map(|a| a.as_str()?.parse().ok());
            let addresses: Vec<std::net::IpAddr> = parsed.collect();
            ensure!(addresses.len() == 2, "{}", object["status"]);
            Ok(addresses)
        })?;
        say(format!("{name}: {addresses:?}"));
        made.push((name, host, netns, addresses));
    }
    let [(_, _, here, mine), (_, _, there, theirs)] = &made[..] else {
        bail!("two were made")
    };
    for (from, to) in mine.iter().flat_map(|a| theirs.iter().map(move |b| (a, b))) {
        ensure!(from != to, "both have {from}");
        if from.is_ipv4() == to.is_ipv4() {
            let end = |netns: &Netns, address: &std::net::IpAddr| End {
                netns: netns.name.clone(),
                address: *address,
            };
            tcp(&end(here, from), &end(there, to), 1000)?;
        }
    }
    for (name, host, _, _) in &made {
        lab.ctl(host, &["endpoint", "detach", &format!("red/{name}")])?;
        lab.ctl(host, &["delete", "endpoint", name, "-d", "red"])?;
    }
    Ok(())
}

fn unchanged(lab: &Lab) -> Result<()> {
    let before = lab.agreed(&HOSTS)?;
    let demo = std::fs::read_to_string(fabric_tests::lab::repository().join("deploy/examples/demo.yaml"))?;
    for host in HOSTS {
        let output = lab.apply(host, &demo)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        ensure!(
            said.contains("unchanged") && !said.contains("created") && !said.contains("configured"),
            "{said}"
        );
    }
    ensure!(lab.agreed(&HOSTS)? == before, "digests changed");
    Ok(())
}

/// A manifest, and what the error must name.
const INVALID: &[(&str, &str, &[&str])] = &[
    (
        "unknown field",
        "{kind: Endpoint, domain: red, name: bad-1, spec: {network: lan, adresses: [10.0.0.90]}}",
        &["adresses", "addresses"],
    ),
    (
        "prefix with host bits",
        "{kind: Network, domain: red, name: bad, spec: {subnets: [10.9.0.1/24]}}",
        &["subnets", "10.9.0.0/24"],
    ),
    (
        "duplicate address",
        "{kind: Endpoint, domain: red, name: bad-1, spec: {network: lan, addresses: [10.0.0.12]}}",
        &["10.0.0.12", "web-2"],
    ),
    (
        "missing domain",
        "{kind: Endpoint, domain: green, name: bad-1, spec: {network: lan}}",
        &["green"],
    ),
    (
        "missing network",
        "{kind: Endpoint, domain: red, name: bad-1, spec: {network: wan}}",
        &["wan"],
    ),
    (
        "unknown kind",
        "{kind: Endpint, domain: red, name: bad-1, spec: {network: lan}}",
        &["Endpint", "Endpoint"],
    ),
    ("no YAML", "kind: Endpoint\n  name: [", &[":2:"]),
    (
        "the second of two",
        "{kind: Endpoint, domain: red, name: good-1, spec: {network: lan}}\n---\n\
         {kind: Endpoint, domain: red, name: bad-1, spec: {network: lan, addresses: [192.168.0.1]}}",
        &["192.168.0.1", "spec.addresses"],
    ),
];

fn invalid(lab: &Lab) -> Result<()> {
    let before = lab.agreed(&HOSTS)?;
    for (what, manifest, named) in INVALID {
        let output = lab.apply("fab2", manifest)?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        say(format!("{what}: {}", error.trim()));
        ensure!(output.status.code() == Some(65), "{what}: {}: {error}", output.status);
        for word in *named {
            ensure!(error.contains(word), "{what}: the error does not name {word}: {error}");
        }
        ensure!(lab.agreed(&HOSTS)? == before, "{what}: something changed");
    }
    Ok(())
}

fn dependants(lab: &Lab) -> Result<()> {
    let before = lab.agreed(&HOSTS)?;
    for arguments in [
        ["delete", "network", "lan", "-d", "red"],
        ["delete", "domain", "red", "-d", "red"],
    ] {
        let output = lab.try_ctl("fab3", &arguments)?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(1),
            "{arguments:?}: {}: {error}",
            output.status
        );
        for endpoint in ["web-1", "web-2", "web-3"] {
            ensure!(
                error.contains(endpoint),
                "{arguments:?} does not list {endpoint}: {error}"
            );
        }
    }
    ensure!(lab.agreed(&HOSTS)? == before, "something changed");
    Ok(())
}

fn contract(lab: &Lab) -> Result<()> {
    let cases: &[(&[&str], i32)] = &[
        (&["status"], 0),
        (&["nonsense"], 2),
        (&["get", "endpoint", "nobody", "-d", "red"], 1),
        (&["endpoint", "attach", "red/nobody", "--netns", "nowhere"], 1),
        (&["--api", "unix:/run/fabric-lab/nowhere.sock", "status"], 69),
        (&["completions", "bash"], 0),
    ];
    for (arguments, code) in cases {
        let output = lab.try_ctl("fab1", arguments)?;
        ensure!(
            output.status.code() == Some(*code),
            "{arguments:?}: {}, not {code}",
            output.status
        );
    }
    let status = lab.json("fab1", &["status"])?;
    for key in ["node", "cluster", "peers", "domains", "datapath", "alarms"] {
        ensure!(!status[key].is_null(), "status has no {key}: {status}");
    }
    ensure!(status["peers"]["live"] == 2, "status counts {}", status["peers"]);
    let peers = lab.json("fab1", &["peers"])?;
    let first = peers
        .as_array()
        .and_then(|list| list.first())
        .context("peers is no list of nodes")?;
    for key in ["id", "name", "state", "addresses", "rtt_us"] {
        ensure!(first.get(key).is_some(), "a peer has no {key}: {first}");
    }
    for drop in lab.json("fab1", &["drops"])?.as_array().context("drops is no list")? {
        for key in ["reason", "domain", "endpoint", "packets", "bytes"] {
            ensure!(drop.get(key).is_some(), "a drop has no {key}: {drop}");
        }
    }
    Ok(())
}

/// Who has a certificate asks any node over TLS, and only who has one.
fn https(lab: &Lab) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name).display().to_string();
    let alice = file("alice.pem");
    lab.ctl("fab1", &["user", "create", "alice", "--out", &alice])?;
    let address = fabric_tests::stage::host(lab, "fab3")?.ip;
    let api = format!("https://{address}");
    let asked = |identity: &str, arguments: &[&str]| {
        lab.try_ctl("fab2", &[&["--api", &api, "--identity", identity], arguments].concat())
    };
    let status = asked(&alice, &["status", "-o", "json"])?;
    ensure!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let status: serde_json::Value = serde_json::from_slice(&status.stdout)?;
    ensure!(status["node"]["name"] == "fab3", "{} answered", status["node"]["name"]);
    let manifest = file("far.yaml");
    std::fs::write(&manifest, endpoint("far-1", ""))?;
    let applied = asked(&alice, &["apply", "--wait", "-f", &manifest])?;
    ensure!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let author = one(lab.json("fab1", &["get", "endpoint", "far-1", "-d", "red"])?)?["status"]["author"].clone();
    ensure!(author == "user:alice@fab3", "the author is {author}");
    lab.ctl("fab1", &["delete", "endpoint", "far-1", "-d", "red"])?;
    // The same but for one character of the signature, or of the key.
    let text = std::fs::read_to_string(&alice)?;
    let certificate = text.find("-----BEGIN CERTIFICATE").context("no certificate")?;
    let end = text[certificate..].find("-----END").context("no end")? + certificate;
    let forged = file("forged.pem");
    let place = end - 12;
    let other = if text.as_bytes()[place] == b'A' { "B" } else { "A" };
    std::fs::write(&forged, format!("{}{other}{}", &text[..place], &text[place + 1..]))?;
    let refused = asked(&forged, &["status"])?;
    ensure!(!refused.status.success(), "a forged certificate was taken");
    let nobody = lab.try_ctl("fab2", &["--api", &api, "status"])?;
    ensure!(!nobody.status.success(), "nobody was taken for somebody");
    Ok(())
}

fn metrics(lab: &Lab) -> Result<()> {
    use std::io::{Read as _, Write as _};
    let socket = lab.host_folder("fab1").join("api.sock");
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: fabric\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for metric in [
        "fabric_domain_programmed{domain=\"red\"} 1",
        "fabric_endpoints{domain=\"blue\",state=\"attached\"}",
        "fabric_dropped_packets_total{",
        "fabric_path_up{",
        "fabric_apply_seconds_count ",
        "fabric_connections{state=\"established\"}",
    ] {
        ensure!(
            answer.lines().any(|line| line.starts_with(metric)),
            "no {metric} in {answer}"
        );
    }
    Ok(())
}
