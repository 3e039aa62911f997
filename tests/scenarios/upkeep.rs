//! What operators do to a cluster that runs: upgrade it host by host, change who its anchors are, replace its CA, take a
//! host out. Workloads that were attached before reach each other throughout.

use std::path::PathBuf;
use std::process::{ExitCode, Output};

use anyhow::{Context as _, Result, ensure};
use fabric_tests::deadline::eventually;
use fabric_tests::flow;
use fabric_tests::lab::{Lab, Underlay};
use fabric_tests::scenario::{on_lab, say, step};
use serde_json::Value;

const HOSTS: [&str; 4] = ["fab1", "fab2", "fab3", "fab4"];

fn main() -> ExitCode {
    on_lab(
        "upkeep",
        4,
        Underlay::Ipv4,
        vec![
            step("hosts_of_two_wire_versions_are_one_cluster", mixed),
            step("the_newer_version_is_agreed_on_when_all_speak_it", agreed),
            step("who_goes_back_behind_it_is_refused_and_forwards_on", back),
            step("anchors_are_changed_one_at_a_time", anchors),
            step("the_ca_is_replaced_without_a_pause", ca),
            step("a_host_leaves", leave),
        ],
    )
}

fn config(lab: &Lab, host: &str) -> PathBuf {
    lab.host_folder(host).join("config.toml")
}

/// Starts a daemon again that speaks wire versions up to this one.
fn speaks(lab: &Lab, host: &str, newest: u16) -> Result<()> {
    let path = config(lab, host);
    let text = std::fs::read_to_string(&path)?;
    let (rest, _) = text.split_once("\n[wire]\n").unwrap_or((&text, ""));
    std::fs::write(&path, format!("{}\n[wire]\nmax = {newest}\n", rest.trim_end()))?;
    lab.sh(&["kill", host])?;
    lab.sh(&["start", host])
}

fn refused(output: &Output, said: &[&str]) -> Result<()> {
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}: {error}", output.status);
    for word in said {
        ensure!(error.contains(word), "{word} is not in: {error}");
    }
    Ok(())
}

/// Writes on a host; all have it, and workloads reach each other.
fn works(lab: &Lab, host: &str, description: &str) -> Result<()> {
    lab.must_apply(
        host,
        &format!("{{kind: Domain, name: green, spec: {{description: {description}}}}}"),
    )?;
    lab.converged(&HOSTS)?;
    reach(lab)
}

fn reach(lab: &Lab) -> Result<()> {
    let all: Vec<_> = lab.of_domain("red").collect();
    let (first, rest) = all.split_first().context("no workload")?;
    rest.iter().try_for_each(|other| flow::everything(first, other))
}

fn upgrade(lab: &Lab, host: &str) -> Result<Value> {
    lab.json(host, &["cluster", "upgrade"])
}

fn obstacle(state: &Value, name: &str) -> Result<Option<String>> {
    let nodes = state["nodes"].as_array().context("nodes")?;
    let node = nodes.iter().find(|node| node["name"] == name).context("no such node")?;
    Ok(node["obstacle"].as_str().map(str::to_owned))
}

/// Does on an anchor what needs the others, until it is so: one of them may still see what was a moment ago, and what was
/// decided may be told as an error where the answer comes late.
fn decide(lab: &Lab, arguments: &[&str], is_so: impl Fn() -> Result<bool>) -> Result<()> {
    eventually(arguments.join(" "), || {
        let output = lab.try_ctl("fab1", arguments)?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() || is_so()?, "{error}");
        Ok(())
    })
}

fn mixed(lab: &Lab) -> Result<()> {
    speaks(lab, "fab2", 1)?;
    let state = eventually("fab2 speaks only version 1", || {
        let state = upgrade(lab, "fab1")?;
        ensure!(obstacle(&state, "fab2")?.as_deref() == Some("speaks 1"), "{state}");
        Ok(state)
    })?;
    ensure!(state["agreed"] == 1 && state["next"] == 2, "{state}");
    refused(
        &lab.try_ctl("fab1", &["cluster", "upgrade", "--finish"])?,
        &["fab2", "speaks 1"],
    )?;
    works(lab, "fab2", "older")?;
    works(lab, "fab4", "newer")
}

fn agreed(lab: &Lab) -> Result<()> {
    speaks(lab, "fab2", 2)?;
    decide(lab, &["cluster", "upgrade", "--finish"], || {
        Ok(upgrade(lab, "fab1")?["agreed"] == 2)
    })?;
    for host in HOSTS {
        eventually(format!("{host} knows"), || {
            let state = upgrade(lab, host)?;
            ensure!(state["agreed"] == 2, "{state}");
            Ok(())
        })?;
    }
    works(lab, "fab2", "agreed")
}

fn back(lab: &Lab) -> Result<()> {
    speaks(lab, "fab2", 1)?;
    eventually("fab2 says why it is alone", || {
        let status = lab.json("fab2", &["status"])?.to_string();
        ensure!(status.contains("wire-version-too-old"), "{status}");
        Ok(())
    })?;
    lab.wait_peer(&["fab1", "fab3"], "fab2", "dead")?;
    say("its workloads are forwarded");
    reach(lab)?;
    speaks(lab, "fab2", 2)?;
    lab.wait_peer(&["fab1", "fab3"], "fab2", "live")?;
    works(lab, "fab2", "back")
}

fn anchors(lab: &Lab) -> Result<()> {
    let names = |host: &str| -> Result<Vec<String>> {
        let list = lab.json(host, &["anchor", "list"])?;
        let all = list["anchors"].as_array().context("anchors")?;
        let mut names: Vec<String> = all
            .iter()
            .filter_map(|it| it["name"].as_str().map(str::to_owned))
            .collect();
        names.sort();
        Ok(names)
    };
    let is_anchor = |name: &str| -> Result<bool> { Ok(names("fab1")?.iter().any(|it| it == name)) };
    ensure!(names("fab1")? == ["fab1", "fab2", "fab3"], "{:?}", names("fab1")?);
    decide(lab, &["anchor", "add", "fab4"], || is_anchor("fab4"))?;
    decide(lab, &["anchor", "remove", "fab2"], || is_anchor("fab2").map(|is| !is))?;
    for host in HOSTS {
        eventually(format!("{host} knows the anchors"), || {
            ensure!(names(host)? == ["fab1", "fab3", "fab4"], "{:?}", names(host)?);
            Ok(())
        })?;
    }
    refused(&lab.try_ctl("fab2", &["anchor", "add", "fab2"])?, &["anchor"])?;
    decide(lab, &["anchor", "add", "fab2"], || is_anchor("fab2"))?;
    decide(lab, &["anchor", "remove", "fab4"], || is_anchor("fab4").map(|is| !is))?;
    eventually("the list is as it was", || {
        ensure!(names("fab4")? == ["fab1", "fab2", "fab3"], "{:?}", names("fab4")?);
        Ok(())
    })?;
    works(lab, "fab4", "anchors")
}

fn ca(lab: &Lab) -> Result<()> {
    let roots = |host: &str| -> Result<(Vec<String>, usize)> {
        let ca = lab.json(host, &["ca", "show"])?;
        let all = ca["roots"].as_array().context("roots")?;
        let all = all
            .iter()
            .filter_map(|it| it["fingerprint"].as_str().map(str::to_owned));
        Ok((all.collect(), ca["pending"].as_array().context("pending")?.len()))
    };
    let (before, _) = roots("fab1")?;
    ensure!(before.len() == 1, "{before:?}");
    decide(lab, &["ca", "rotate"], || Ok(roots("fab1")?.0.len() == 2))?;
    eventually("all have certificates of the other root", || {
        let (all, pending) = roots("fab1")?;
        ensure!(
            all.len() == 2 && all[0] == before[0] && pending == 0,
            "{all:?}, {pending} pending"
        );
        Ok(())
    })?;
    works(lab, "fab3", "two-roots")?;
    decide(lab, &["ca", "rotate", "--finish"], || Ok(roots("fab1")?.0.len() == 1))?;
    for host in HOSTS {
        eventually(format!("{host} trusts the other root alone"), || {
            let (all, _) = roots(host)?;
            ensure!(all.len() == 1 && all[0] != before[0], "{all:?}");
            Ok(())
        })?;
    }
    for host in HOSTS {
        let others: Vec<&str> = HOSTS.into_iter().filter(|other| *other != host).collect();
        lab.wait_peer(&others, host, "live")?;
    }
    works(lab, "fab4", "one-root")
}

fn leave(lab: &Lab) -> Result<()> {
    let path = config(lab, "fab4");
    let path = path.to_str().context("a path")?;
    let output = lab
        .program("fab4", "fabric-node")
        .args(["leave", "--config", path])
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for host in ["fab1", "fab2", "fab3"] {
        eventually(format!("{host} has forgotten fab4"), || {
            let peers = lab.json(host, &["peers"])?.to_string();
            ensure!(!peers.contains("\"fab4\""), "{peers}");
            Ok(())
        })?;
    }
    eventually("fab4 says that it is out", || {
        let status = lab.json("fab4", &["status"])?.to_string();
        ensure!(status.contains("was removed from the cluster"), "{status}");
        Ok(())
    })?;
    lab.must_apply("fab1", "{kind: Domain, name: green, spec: {description: left}}")?;
    lab.converged(&HOSTS[..3]).map(drop)
}
