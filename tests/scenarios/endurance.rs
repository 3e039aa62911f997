//! What goes wrong in a fleet for longer, while clients write through all hosts: a split of a minute, a daemon that stands
//! still for half of one, a power cut, hosts that are set up anew under their old addresses. No acknowledged write is lost,
//! and all end with the same objects.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fabric_tests::clients::{Clients, acknowledged, check};
use fabric_tests::deadline::{eventually, repeatedly};
use fabric_tests::fault::{Stopped, strip};
use fabric_tests::flow::everything;
use fabric_tests::lab::{Lab, Underlay};
use fabric_tests::netns::run;
use fabric_tests::scenario::{on_lab, say, step};

const HOSTS: [&str; 4] = ["fab1", "fab2", "fab3", "fab4"];
/// The anchors fab1 and fab2 stay: others can join and be removed.
const ANEW: [&str; 2] = ["fab3", "fab4"];
const SPLIT: Duration = Duration::from_secs(60);
const STALL: Duration = Duration::from_secs(20);
const CLIENTS: u64 = 3;

fn main() -> ExitCode {
    on_lab(
        "endurance",
        4,
        Underlay::Ipv4,
        vec![
            step("both_sides_of_a_split_of_a_minute_end_with_the_same_objects", split),
            step("a_daemon_that_stands_still_for_long_cuts_nobody_off", stall),
            step("after_a_power_cut_all_is_as_it_was_acknowledged", power_cut),
            step("hosts_set_up_anew_take_over_their_addresses", anew),
        ],
    )
}

fn flows(lab: &Lab, pairs: &[(u8, u8)]) -> Result<()> {
    for domain in ["red", "blue"] {
        for (from, to) in pairs {
            let workload = |number| lab.workload(&format!("{domain}-web-{number}"));
            everything(workload(from)?, workload(to)?)?;
        }
    }
    Ok(())
}

fn all_live(lab: &Lab) -> Result<()> {
    for host in HOSTS {
        let others: Vec<_> = HOSTS.into_iter().filter(|other| *other != host).collect();
        lab.wait_peer(&others, host, "live")?;
    }
    Ok(())
}

/// All are there again, agree, have what was acknowledged, and forward.
fn whole(lab: &Lab, clients: Clients) -> Result<()> {
    let written = clients.stop()?;
    say(format!("{} acknowledged writes", acknowledged(&written)));
    ensure!(
        written.iter().all(|client| client.count > 0),
        "a client wrote nothing: {written:?}"
    );
    all_live(lab)?;
    check(lab, &written)?;
    let objects = lab.objects(HOSTS[0])?;
    for host in HOSTS {
        ensure!(lab.objects(host)? == objects, "{host} shows other objects than fab1");
    }
    eventually("all workloads reach each other", || {
        flows(lab, &[(1, 2), (2, 3), (3, 4), (4, 1)])
    })
}

fn split(lab: &Lab) -> Result<()> {
    let clients = Clients::start(lab, "split", CLIENTS)?;
    lab.sh(&["cut", "fab1", "fab2"])?;
    repeatedly(SPLIT, || flows(lab, &[(1, 2), (3, 4)]))?;
    lab.wait_peer(&["fab1", "fab2"], "fab3", "dead")?;
    lab.wait_peer(&["fab3", "fab4"], "fab1", "dead")?;
    lab.sh(&["heal"])?;
    whole(lab, clients)
}

/// The others take it for dead, and that alone takes nothing from anybody: its workloads are reached all the time.
fn stall(lab: &Lab) -> Result<()> {
    let clients = Clients::start(lab, "stall", CLIENTS)?;
    let stopped = Stopped::daemon(lab, "fab3")?;
    lab.wait_peer(&["fab1", "fab2", "fab4"], "fab3", "dead")?;
    repeatedly(STALL, || flows(lab, &[(2, 3), (3, 4)]))?;
    drop(stopped);
    whole(lab, clients)
}

fn power_cut(lab: &Lab) -> Result<()> {
    let clients = Clients::start(lab, "power", CLIENTS)?;
    clients.wait(30)?;
    for host in HOSTS {
        lab.sh(&["kill", host])?;
    }
    for host in HOSTS {
        strip(lab, host)?;
    }
    for host in HOSTS {
        lab.sh(&["start", host])?;
    }
    whole(lab, clients)
}

fn id(lab: &Lab, host: &str) -> Result<String> {
    let status = lab.json(host, &["status"])?;
    Ok(status["node"]["id"].as_str().context("no id")?.to_owned())
}

/// Two hosts lose all they had. The nodes that they were are removed, and they join as others with the same names and
/// addresses.
fn anew(lab: &Lab) -> Result<()> {
    let clients = Clients::start(lab, "anew", CLIENTS)?;
    let before = ANEW.map(|host| id(lab, host));
    for host in ANEW {
        lab.sh(&["kill", host])?;
        strip(lab, host)?;
        std::fs::remove_dir_all(lab.host_folder(host).join("data"))?;
    }
    for old in before {
        lab.ctl("fab2", &["node", "remove", &old?])?;
    }
    let answer = lab.json("fab1", &["token", "create", "--uses", "2"])?;
    let token = answer["token"].as_str().context("no token")?;
    for host in ANEW {
        let config = lab.host_folder(host).join("config.toml");
        eventually(format!("{host} is let in"), || {
            run(lab
                .program(host, "fabric-node")
                .args(["join", token, "--config"])
                .arg(&config))
        })?;
        lab.sh(&["start", host])?;
    }
    clients.wait(30)?;
    let written = clients.stop()?;
    all_live(lab)?;
    for host in ANEW {
        for workload in lab.workloads.iter().filter(|workload| workload.host == host) {
            let endpoint = workload.name.replacen('-', "/", 1);
            lab.ctl(host, &["endpoint", "attach", &endpoint, "--netns", &workload.netns])?;
        }
    }
    say(format!("{} acknowledged writes", acknowledged(&written)));
    lab.converged(&HOSTS)?;
    eventually("all workloads reach each other", || {
        flows(lab, &[(1, 2), (2, 3), (3, 4), (4, 1)])
    })
}
