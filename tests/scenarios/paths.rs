//! A daemon that is gone is told from a host that is gone, and both from a path that is cut.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use fabric_tests::deadline::eventually;
use fabric_tests::flow::everything;
use fabric_tests::lab::{Lab, Underlay};
use fabric_tests::netns::run;
use fabric_tests::scenario::{on_lab, say, step};
use serde_json::Value;

const HOSTS: [&str; 3] = ["fab1", "fab2", "fab3"];

fn main() -> ExitCode {
    on_lab(
        "paths",
        3,
        Underlay::Ipv4,
        vec![
            step("every_path_is_up_with_time_loss_and_size", all_up),
            step("a_killed_daemon_is_gone_and_the_path_to_it_up", daemon_gone),
            step("a_host_that_is_off_is_gone", host_gone),
            step("a_host_that_is_back_is_not_lost", back),
            step("a_path_that_is_cut_one_way_is_down", cut),
        ],
    )
}

fn peer(lab: &Lab, host: &str, name: &str) -> Result<Value> {
    let peers = lab.json(host, &["peers"])?;
    let list = peers.as_array().context("no list")?;
    let found = list.iter().find(|peer| peer["name"] == name);
    found.cloned().with_context(|| format!("{host} has no peer {name}"))
}

/// What `status` on a host says is gone of a peer.
fn lost(lab: &Lab, host: &str, name: &str) -> Result<Option<String>> {
    let status = lab.json(host, &["status"])?;
    let list = status["lost_peers"].as_array().context("no list of lost peers")?;
    let found = list.iter().find(|peer| peer["name"] == name);
    found
        .map(|peer| Ok(peer["what"].as_str().context("not said what")?.to_owned()))
        .transpose()
}

fn eventually_lost(lab: &Lab, host: &str, name: &str, what: Option<&str>) -> Result<()> {
    eventually(format!("{host} says of {name}: {what:?}"), || {
        let said = lost(lab, host, name)?;
        if said.as_deref() != what {
            bail!("it says {said:?}");
        }
        Ok(())
    })
}

/// The line about a peer among the lost ones of `fabricctl status`.
fn line(lab: &Lab, host: &str, name: &str) -> Result<String> {
    let output = run(lab.fabricctl(host).arg("status"))?;
    let text = String::from_utf8(output.stdout)?;
    let lines = text.lines().skip_while(|line| *line != "Lost peers:").skip(2);
    let mut lines = lines.take_while(|line| line.starts_with(' '));
    let found = lines.find(|line| line.trim_start().starts_with(name));
    found.map(str::to_owned).with_context(|| format!("not in {text}"))
}

fn all_up(lab: &Lab) -> Result<()> {
    for (host, name) in HOSTS
        .iter()
        .flat_map(|a| HOSTS.map(|b| (*a, b)))
        .filter(|(a, b)| a != b)
    {
        let peer = eventually(format!("{host} knows the path to {name}"), || {
            let peer = peer(lab, host, name)?;
            ensure!(peer["path"] == "up" && peer["path_mtu"].is_u64(), "{peer}");
            Ok(peer)
        })?;
        let loss = peer["loss_percent"].as_u64().context("no loss")?;
        ensure!(
            loss < 100 && peer["rtt_us"].as_u64().is_some_and(|rtt| rtt > 0),
            "{peer}"
        );
        ensure!(peer["path_mtu"] == 1500, "{peer}");
        eventually_lost(lab, host, name, None)?;
    }
    Ok(())
}

fn daemon_gone(lab: &Lab) -> Result<()> {
    lab.sh(&["kill", "fab2"])?;
    for host in ["fab1", "fab3"] {
        eventually_lost(lab, host, "fab2", Some("daemon-gone"))?;
        let line = line(lab, host, "fab2")?;
        say(&line);
        ensure!(line.contains("daemon gone, path up"), "{line}");
        let peer = peer(lab, host, "fab2")?;
        ensure!(peer["state"] == "dead" && peer["path"] == "up", "{peer}");
    }
    everything(lab.workload("red-web-1")?, lab.workload("red-web-2")?)?;
    lab.sh(&["start", "fab2"])?;
    for host in ["fab1", "fab3"] {
        eventually_lost(lab, host, "fab2", None)?;
    }
    Ok(())
}

fn host_gone(lab: &Lab) -> Result<()> {
    lab.sh(&["off", "fab2"])?;
    for host in ["fab1", "fab3"] {
        eventually_lost(lab, host, "fab2", Some("host-gone"))?;
        let line = line(lab, host, "fab2")?;
        say(&line);
        ensure!(line.contains("host gone"), "{line}");
        let peer = peer(lab, host, "fab2")?;
        ensure!(peer["path"] == "down" && peer["path_mtu"].is_null(), "{peer}");
    }
    eventually_lost(lab, "fab1", "fab3", None)
}

fn back(lab: &Lab) -> Result<()> {
    lab.sh(&["start", "fab2"])?;
    for host in ["fab1", "fab3"] {
        eventually_lost(lab, host, "fab2", None)?;
        eventually(format!("{host} has a path to fab2"), || {
            let peer = peer(lab, host, "fab2")?;
            ensure!(peer["path"] == "up", "{peer}");
            Ok(())
        })?;
    }
    Ok(())
}

fn cut(lab: &Lab) -> Result<()> {
    lab.sh(&["cut", "--from", "fab1", "--to", "fab3"])?;
    for (host, name) in [("fab1", "fab3"), ("fab3", "fab1")] {
        eventually(format!("{host} has no path to {name}"), || {
            let peer = peer(lab, host, name)?;
            ensure!(peer["path"] == "down", "{peer}");
            Ok(())
        })?;
    }
    ensure!(
        peer(lab, "fab1", "fab2")?["path"] == "up",
        "another path went down with it"
    );
    lab.sh(&["heal"])?;
    for (host, name) in [("fab1", "fab3"), ("fab3", "fab1")] {
        eventually_lost(lab, host, name, None)?;
    }
    Ok(())
}
