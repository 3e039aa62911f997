//! What becomes of endpoints that move, and of the addresses of those that are deleted.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fabric_tests::deadline::{eventually, within};
use fabric_tests::flow::{End, tcp};
use fabric_tests::lab::{Lab, Underlay};
use fabric_tests::netns::{Netns, command, run};
use fabric_tests::scenario::{on_lab, say, step};
use fabric_tests::stage::one;

const HOSTS: [&str; 3] = ["fab1", "fab2", "fab3"];
/// Within which an address of a deleted endpoint is free again: it rests for a while, and every host confirms.
const FREED: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    on_lab(
        "endpoints",
        3,
        Underlay::Ipv4,
        vec![
            step("a_move_that_fails_leaves_the_endpoint_where_it_is", moves),
            step("addresses_of_deleted_endpoints_serve_other_hosts", reuse),
        ],
    )
}

/// The namespace of an endpoint, as `attach` takes it.
fn attach(lab: &Lab, host: &str, endpoint: &str, netns: &Netns) -> Result<std::process::Output> {
    lab.try_ctl(host, &["endpoint", "attach", endpoint, "--netns", &netns.name])
}

fn moves(lab: &Lab) -> Result<()> {
    let manifest = "{kind: Endpoint, domain: red, name: mover, spec: {network: lan, addresses: [10.0.0.70]}}";
    lab.must_apply("fab1", manifest)?;
    let (home, away) = (Netns::make(lab.netns("mover"))?, Netns::make(lab.netns("away"))?);
    ensure!(attach(lab, "fab1", "red/mover", &home)?.status.success());
    let address: IpAddr = "10.0.0.70".parse()?;
    let end = |netns: &Netns| End {
        netns: netns.name.clone(),
        address,
    };
    let other = End::of(lab.workload("red-web-2")?, address);
    tcp(&other, &end(&home), 1000)?;

    say("into a namespace that has an eth0 of its own");
    run(command(&away.name, "ip").args(["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"]))?;
    let refused = attach(lab, "fab2", "red/mover", &away)?;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    ensure!(words.contains("stays where it is") && words.contains("eth0"), "{words}");
    for host in HOSTS {
        let object = one(lab.json(host, &["get", "endpoint", "mover", "-d", "red"])?)?;
        ensure!(object["status"].to_string().contains("fab1"), "{host}: {object}");
    }
    tcp(&other, &end(&home), 1000)?;

    say("many at once that cannot move are refused, and nothing else waits for them");
    std::thread::scope(|scope| {
        let tries = [(); 12].map(|()| scope.spawn(|| attach(lab, "fab2", "red/mover", &away)));
        for refused in tries {
            let refused = refused.join().ok().context("the thread")??;
            // Refused, or told to try again.
            ensure!(matches!(refused.status.code(), Some(1 | 75)), "{refused:?}");
        }
        anyhow::Ok(())
    })?;
    tcp(&other, &end(&home), 1000)?;

    say("into one that suits");
    run(command(&away.name, "ip").args(["link", "del", "eth0"]))?;
    let moved = attach(lab, "fab2", "red/mover", &away)?;
    let said = String::from_utf8_lossy(&moved.stderr);
    ensure!(
        moved.status.success() && said.contains("moved from fab1") && said.contains(&home.name),
        "{moved:?}"
    );
    tcp(&other, &end(&away), 1000)?;
    eventually("the former namespace has no interface of it", || {
        let links = run(command(&home.name, "ip").args(["-o", "link", "show"]))?;
        ensure!(!String::from_utf8_lossy(&links.stdout).contains("eth0"));
        Ok(())
    })?;
    lab.ctl("fab2", &["endpoint", "detach", "red/mover"])?;
    lab.ctl("fab2", &["delete", "endpoint", "mover", "-d", "red"])
}

/// A network with room for few, whose endpoints come and go on one host after the other.
fn reuse(lab: &Lab) -> Result<()> {
    lab.must_apply(
        "fab1",
        "{kind: Network, domain: red, name: few, spec: {subnets: [10.77.0.0/29]}}",
    )?;
    for (round, host) in HOSTS.into_iter().enumerate() {
        say(format!("all addresses on {host}"));
        let mut made = Vec::new();
        for number in 0..5 {
            let name = format!("few-{round}-{number}");
            let manifest = format!("{{kind: Endpoint, domain: red, name: {name}, spec: {{network: few}}}}");
            lab.must_apply("fab1", &manifest)?;
            let netns = Netns::make(lab.netns(&name))?;
            within(FREED, format!("{name} gets an address"), || {
                let tried = attach(lab, host, &format!("red/{name}"), &netns)?;
                ensure!(tried.status.success(), "{}", String::from_utf8_lossy(&tried.stderr));
                Ok(())
            })?;
            made.push((name, netns));
        }
        for (name, _) in &made {
            lab.ctl(host, &["endpoint", "detach", &format!("red/{name}")])?;
            lab.ctl("fab1", &["delete", "endpoint", name, "-d", "red"])?;
        }
    }
    lab.ctl("fab1", &["delete", "network", "few", "-d", "red"])
}
