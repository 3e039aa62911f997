//! The same fabric over an IPv6 underlay.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use fabric_tests::capture::Capture;
use fabric_tests::flow::{End, connects, everything};
use fabric_tests::lab::{Lab, Underlay};
use fabric_tests::scenario::{on_lab, step};

fn main() -> ExitCode {
    on_lab(
        "underlay6",
        2,
        Underlay::Ipv6,
        vec![
            step("tcp_and_udp_flow_in_both_domains", flows),
            step("tunnels_use_ipv6", tunnels),
            step("red_cannot_reach_the_address_that_only_blue_has", isolation),
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

fn tunnels(lab: &Lab) -> Result<()> {
    let port = Capture::start(&lab.netns("underlay"), "fab1")?;
    flows(lab)?;
    port.stop()?.must_have("ip6 and udp dst port 4789")
}

fn isolation(lab: &Lab) -> Result<()> {
    let db = lab.workload("blue-db-1")?;
    for address in db.addresses() {
        let (blue, red) = (lab.workload("blue-web-2")?, lab.workload("red-web-2")?);
        ensure!(
            connects(&End::of(blue, address), &End::of(db, address))?,
            "blue does not reach {address}"
        );
        ensure!(
            !connects(&End::of(red, address), &End::of(db, address))?,
            "red reached {address}"
        );
    }
    Ok(())
}
