//! The same fabric over a routed underlay: each host has a subnet of its own and a router as its next hop.

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use fabric_tests::deadline::eventually;
use fabric_tests::flow::{End, connects, everything};
use fabric_tests::lab::{Lab, Underlay};
use fabric_tests::netns::{command, run};
use fabric_tests::scenario::{on_lab, step};

fn main() -> ExitCode {
    on_lab(
        "routed",
        2,
        Underlay::Routed,
        vec![
            step("tcp_and_udp_flow_in_both_domains", flows),
            step("tunnels_follow_a_router_that_is_replaced", replaced),
        ],
    )
}

fn flows(lab: &Lab) -> Result<()> {
    for domain in ["red", "blue"] {
        let (a, b) = (format!("{domain}-web-1"), format!("{domain}-web-2"));
        everything(lab.workload(&a)?, lab.workload(&b)?)?;
        everything(lab.workload(&b)?, lab.workload(&a)?)?;
    }
    Ok(())
}

/// The router's interface gets another MAC address, as if another machine took its place.
fn replaced(lab: &Lab) -> Result<()> {
    const MAC: &str = "02:00:5e:00:53:01";
    let router = lab.netns("underlay");
    run(command(&router, "ip").args(["link", "set", "dev", "fab1", "address", MAC]))?;
    let (from, to) = (lab.workload("red-web-1")?, lab.workload("red-web-2")?);
    let address = to
        .addresses()
        .into_iter()
        .find(|a| a.is_ipv4())
        .context("no IPv4 address")?;
    eventually("red-web-1 reaches red-web-2", || {
        ensure!(
            connects(&End::of(from, address), &End::of(to, address))?,
            "no connection"
        );
        Ok(())
    })?;
    let neighbours = run(command(&lab.netns("fab1"), "ip").args(["neighbour", "show", "198.18.1.254"]))?;
    let neighbours = String::from_utf8_lossy(&neighbours.stdout).into_owned();
    ensure!(
        neighbours.contains(MAC),
        "fab1 still knows the former router: {neighbours}"
    );
    flows(lab)
}
