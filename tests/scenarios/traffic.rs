//! Packets flow: between hosts, on one host, from the first SYN on, of every size, from a machine behind a tap.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, ensure};
use fabric_tests::flow::{End, everything, retransmitted, tcp, udp};
use fabric_tests::guest::{Guest, Setup};
use fabric_tests::lab::{Lab, Underlay, parse_mac};
use fabric_tests::netns::Netns;
use fabric_tests::scenario::{on_lab, say, step};
use fabric_tests::stage::one;

/// Of the demo's networks: 1500 on the underlay less 70 for tunnels.
const MTU: usize = 1430;
const V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

fn main() -> ExitCode {
    on_lab(
        "traffic",
        3,
        Underlay::Ipv4,
        vec![
            step("tcp_and_udp_flow_across_hosts_in_both_domains", across_hosts),
            step("tcp_and_udp_flow_on_one_host", on_one_host),
            step("datagrams_of_every_size_arrive", every_size),
            step("the_first_syn_after_attach_needs_no_retransmission", first_syn),
            step("a_tap_with_segmentation_offload_exchanges_tcp_with_another_host", tap),
        ],
    )
}

fn across_hosts(lab: &Lab) -> Result<()> {
    for domain in ["red", "blue"] {
        for (a, b) in [(1, 2), (2, 3), (3, 1)] {
            let (from, to) = (format!("{domain}-web-{a}"), format!("{domain}-web-{b}"));
            say(format!("{from} -> {to}"));
            everything(lab.workload(&from)?, lab.workload(&to)?)?;
        }
    }
    Ok(())
}

fn on_one_host(lab: &Lab) -> Result<()> {
    everything(lab.workload("blue-web-1")?, lab.workload("blue-db-1")?)
}

/// Up to what fits, and beyond: then the workload's kernel makes fragments of it.
fn every_size(lab: &Lab) -> Result<()> {
    let (from, to) = (lab.workload("red-web-1")?, lab.workload("red-web-2")?);
    for (family, headers) in [(V4, 20 + 8), (V6, 40 + 8)] {
        let largest = MTU - headers;
        let mut sizes: Vec<usize> = (largest - 100..=largest).collect();
        sizes.extend([0, 1, 17, 512, largest + 1, 4000]);
        udp(&End::of(from, family), &End::of(to, family), &sizes)?;
    }
    Ok(())
}

fn first_syn(lab: &Lab) -> Result<()> {
    lab.must_apply(
        "fab1",
        "{kind: Endpoint, domain: red, name: fresh-1, spec: {network: lan, addresses: [10.0.0.41, \"fd00::41\"]}}",
    )?;
    let netns = Netns::make(lab.netns("fresh"))?;
    lab.ctl("fab1", &["endpoint", "attach", "red/fresh-1", "--netns", &netns.name])?;
    let from = End {
        netns: netns.name.clone(),
        address: Ipv4Addr::new(10, 0, 0, 41).into(),
    };
    let to = lab.workload("red-web-3")?;
    let before = retransmitted(&to.netns)?;
    tcp(&from, &End::of(to, V4), 1)?;
    ensure!(
        retransmitted(&netns.name)? == 0,
        "the new workload sent a segment twice"
    );
    ensure!(
        retransmitted(&to.netns)? == before,
        "the other side sent a segment twice"
    );
    lab.ctl("fab1", &["endpoint", "detach", "red/fresh-1"])?;
    lab.ctl("fab1", &["delete", "endpoint", "fresh-1", "-d", "red"])
}

fn tap(lab: &Lab) -> Result<()> {
    lab.must_apply(
        "fab2",
        "{kind: Endpoint, domain: red, name: vm-1, spec: {network: lan, addresses: [10.0.0.51, \"fd00::51\"]}}",
    )?;
    let endpoint = one(lab.json("fab1", &["get", "endpoint", "vm-1", "-d", "red"])?)?;
    let mac = parse_mac(
        endpoint["spec"]["mac"]
            .as_str()
            .context("the endpoint has no MAC address")?,
    )?;
    let addresses = [("10.0.0.51".parse()?, 24), ("fd00::51".parse()?, 64)];
    let guest = Guest::start(&Setup {
        netns: lab.netns("guest"),
        host: &lab.netns("fab1"),
        tap: "tap0",
        mac,
        mtu: MTU,
        addresses: &addresses,
    })?;
    lab.ctl("fab1", &["endpoint", "attach", "red/vm-1", "--interface", "tap0"])?;
    for other in ["red-web-2", "red-web-1"] {
        for (address, _) in addresses {
            let (machine, other) = (
                End {
                    netns: guest.netns.name.clone(),
                    address,
                },
                lab.workload(other)?,
            );
            say(format!("machine <-> {} over {address}", other.name));
            tcp(&machine, &End::of(other, address), 4 << 20)?;
            tcp(&End::of(other, address), &machine, 4 << 20)?;
            udp(&machine, &End::of(other, address), &[1, 1200])?;
        }
    }
    let sent = guest.large_sent.load(Ordering::Relaxed);
    let received = guest.large_received.load(Ordering::Relaxed);
    say(format!("{sent} segments beyond the MTU sent, {received} received"));
    ensure!(sent > 0, "the machine did not leave segmentation to the fabric");
    lab.ctl("fab1", &["endpoint", "detach", "red/vm-1"])?;
    lab.ctl("fab1", &["delete", "endpoint", "vm-1", "-d", "red"])
}
