//! A lab as the address book of crafted frames: who is who, and where frames are put in.

use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::deadline::eventually;
use crate::frame::Station;
use crate::lab::{Lab, Workload};
use crate::netns::run;
use crate::wire::{mac_of, send_frames};

/// How many copies of a frame are sent: a count must rise by that many.
pub const COPIES: u64 = 3;

/// A workload as one end of a frame.
#[must_use]
pub fn ipv4(workload: &Workload) -> Station {
    Station {
        mac: workload.mac,
        ip: workload.ipv4,
    }
}

/// As [`ipv4`], with its other address.
#[must_use]
pub fn ipv6(workload: &Workload) -> Station {
    Station {
        mac: workload.mac,
        ip: workload.ipv6,
    }
}

/// A host's end of tunnels.
pub fn host(lab: &Lab, name: &str) -> Result<Station> {
    let netns = lab.netns(name);
    let mac = mac_of(&netns, "eth0")?;
    let number: u8 = name.trim_start_matches("fab").parse().context("a host is fabN")?;
    let status = lab.json(name, &["status"])?;
    let ip: IpAddr = status["node"]["tunnel"][0].as_str().context("node.tunnel")?.parse()?;
    ensure!(number > 0, "hosts count from 1");
    Ok(Station { mac, ip })
}

/// The VNI of a network.
pub fn vni(lab: &Lab, domain: &str, network: &str) -> Result<u32> {
    let object = lab.json("fab1", &["get", "network", network, "-d", domain])?;
    let object = one(object)?;
    let vni = object["spec"]["vni"]
        .as_u64()
        .with_context(|| format!("no VNI in {object}"))?;
    Ok(u32::try_from(vni)?)
}

/// The one object of an answer, which may be a list of it.
pub fn one(answer: Value) -> Result<Value> {
    match answer {
        Value::Array(mut list) if list.len() == 1 => Ok(list.remove(0)),
        Value::Object(_) => Ok(answer),
        other => anyhow::bail!("not one object: {other}"),
    }
}

/// The host side of a workload's interface: its name and MAC address.
pub fn host_side(lab: &Lab, workload: &Workload) -> Result<(String, [u8; 6])> {
    let inner = links(&workload.netns)?;
    let eth0 = inner.iter().find(|link| link["ifname"] == "eth0").context("no eth0")?;
    let netns = lab.netns(&workload.host);
    let outer = links(&netns)?;
    // An interface's link index is its other end's index, in the other end's namespace.
    let peer = outer
        .iter()
        .find(|link| link["ifindex"] == eth0["link_index"])
        .context("no host side")?;
    let name = peer["ifname"].as_str().context("no name")?.to_owned();
    let mac = mac_of(&netns, &name)?;
    Ok((name, mac))
}

/// The links of a namespace, as `ip -j` describes them.
pub fn links(netns: &str) -> Result<Vec<Value>> {
    let output = run(Command::new("ip").args(["-n", netns, "-j", "link", "show"]))?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Where a frame is put in, and which host must drop it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From<'a> {
    /// Out of a workload.
    Workload(&'a Workload),
    /// Off the underlay, to a host.
    Underlay(&'a str),
}

/// Sends [`COPIES`] of a frame; the host must count them all under `reason`.
pub fn must_drop(lab: &Lab, from: From<'_>, frame: Vec<u8>, reason: &str) -> Result<()> {
    let (host, netns, interface) = match from {
        From::Workload(workload) => (workload.host.as_str(), workload.netns.clone(), "eth0"),
        From::Underlay(host) => (host, lab.netns("underlay"), host),
    };
    let before = lab.dropped(host, reason)?;
    let all = lab.json(host, &["drops"])?;
    send_frames(&netns, interface, &vec![frame; usize::try_from(COPIES)?])?;
    eventually(format!("{host} drops it as {reason}"), || {
        let counted = lab.dropped(host, reason)? - before;
        ensure!(
            counted >= COPIES,
            "{counted} of {COPIES} counted; before: {all}; after: {}",
            lab.json(host, &["drops"])?
        );
        Ok(())
    })
}
