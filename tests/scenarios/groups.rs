//! Broadcast and multicast reach everybody in the network, on whatever host, and nobody else; an endpoint that storms or
//! scans does not get in the way of others. What hosts send for it, and to watch their paths, is what Wireshark expects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fabric_tests::capture::Capture;
use fabric_tests::deadline::eventually;
use fabric_tests::flow::{End, tcp};
use fabric_tests::lab::{Lab, Underlay, Workload};
use fabric_tests::netns::{command, inside, run};
use fabric_tests::scenario::{on_lab, say, step};
use fabric_tests::tshark::{Checksums, dissect};

const PORT: u16 = 7200;
const GROUP4: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0xfab, 1);
/// How long a listener waits before it says that nothing came.
const PATIENCE: Duration = Duration::from_millis(500);
/// Connections that others make meanwhile.
const CONNECTIONS: usize = 100;

fn main() -> ExitCode {
    on_lab(
        "groups",
        3,
        Underlay::Ipv4,
        vec![
            step("a_broadcast_reaches_all_hosts_and_no_other_domain", broadcast),
            step("multicast_reaches_who_joined_on_all_hosts", multicast),
            step(
                "wireshark_finds_nothing_wrong_with_what_hosts_send_by_themselves",
                dissection,
            ),
            step("a_broadcast_storm_leaves_others_connections_untouched", storm),
            step("a_scan_leaves_others_connections_untouched", scan),
        ],
    )
}

fn listener(workload: &Workload, v4: bool) -> Result<UdpSocket> {
    inside(&workload.netns, || {
        let any: IpAddr = if v4 {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, PORT))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        match workload.ipv4 {
            IpAddr::V4(own) if v4 => socket.join_multicast_v4(&GROUP4, &own),
            _ => socket.join_multicast_v6(&GROUP6, nix::net::if_::if_nametoindex("eth0")?),
        }
        .with_context(|| format!("{} joins", workload.name))?;
        Ok(socket)
    })
}

/// What `from` sends to everybody or to a group comes to all others of its domain, and to nobody of another.
fn reaches(lab: &Lab, from: &Workload, to: SocketAddr) -> Result<()> {
    let listeners = lab
        .workloads
        .iter()
        .filter(|workload| workload.name != from.name)
        .map(|workload| Ok((workload, listener(workload, to.is_ipv4())?)))
        .collect::<Result<Vec<_>>>()?;
    let source = if to.is_ipv4() { from.ipv4 } else { from.ipv6 };
    let mouth = inside(&from.netns, || {
        let socket = UdpSocket::bind((source, 0))?;
        if to.is_ipv4() {
            socket.set_broadcast(true)?;
        }
        Ok(socket)
    })?;
    let said = format!("from {} to {to}", from.name);
    let mut missing: Vec<&str> = lab.of_domain(&from.domain).map(|w| w.name.as_str()).collect();
    missing.retain(|name| *name != from.name);
    eventually(&said, || {
        mouth.send_to(said.as_bytes(), to)?;
        for (workload, ear) in &listeners {
            let mut buffer = [0; 128];
            let heard = ear
                .recv(&mut buffer)
                .is_ok_and(|length| buffer[..length] == *said.as_bytes());
            ensure!(
                !heard || workload.domain == from.domain,
                "isolation is broken: {} heard {said}",
                workload.name
            );
            if heard {
                missing.retain(|name| *name != workload.name);
            }
        }
        ensure!(missing.is_empty(), "not heard by {missing:?}");
        Ok(())
    })
}

fn broadcast(lab: &Lab) -> Result<()> {
    ["red-web-1", "blue-web-2"]
        .iter()
        .try_for_each(|name| broadcast_of(lab, name))
}

fn broadcast_of(lab: &Lab, name: &str) -> Result<()> {
    for to in [Ipv4Addr::new(10, 0, 0, 255), Ipv4Addr::BROADCAST] {
        say(format!("{name} to {to}"));
        reaches(lab, lab.workload(name)?, (to, PORT).into())?;
    }
    Ok(())
}

fn multicast(lab: &Lab) -> Result<()> {
    ["red-web-3", "blue-db-1"]
        .iter()
        .try_for_each(|name| groups_of(lab, name))
}

fn groups_of(lab: &Lab, name: &str) -> Result<()> {
    let from = lab.workload(name)?;
    let index = inside(&from.netns, || Ok(nix::net::if_::if_nametoindex("eth0")?))?;
    let v6 = std::net::SocketAddrV6::new(GROUP6, PORT, 0, index);
    say(format!("{name} to {GROUP6}"));
    reaches(lab, from, v6.into())?;
    say(format!("{name} to {GROUP4}"));
    let route = |what| run(Command::new("ip").args(["-n", &from.netns, "route", what, "239.0.0.0/8", "dev", "eth0"]));
    route("add")?;
    let reached = reaches(lab, from, (GROUP4, PORT).into());
    route("delete")?;
    reached
}

/// What is to be seen of a host's own tunnel packets, and how tcpdump finds it: 8 bytes of UDP and 8 of VXLAN stand before
/// the inner frame, and a probe's kind behind 3 bytes of its header.
const OWN: [(&str, &str); 5] = [
    ("path probes", "udp[12:4] = 0xfffffe00 and udp[33] = 1"),
    ("answers to path probes", "udp[12:4] = 0xfffffe00 and udp[33] = 2"),
    ("broadcast", "udp[16:4] = 0xffffffff"),
    ("multicast over IPv4", "udp[16:4] & 0xffffff00 = 0x01005e00"),
    ("multicast over IPv6", "udp[16:2] = 0x3333"),
];

/// On the underlay probes, answers to them and the copies for groups; on the loopback interface the self-test of a start.
fn dissection(lab: &Lab) -> Result<()> {
    reads_what_is_wrong(lab)?;
    let own = lab.netns("fab1");
    let (outside, inside) = (Capture::whole(&own, "eth0")?, Capture::whole(&own, "lo")?);
    // What is sent is finished, as on a real wire.
    let sender = &lab.workload("red-web-1")?.netns;
    let finish = |how| run(command(sender, "ethtool").args(["-K", "eth0", "tx", how]));
    finish("off")?;
    lab.sh(&["kill", "fab1"])?;
    lab.sh(&["start", "fab1"])?;
    groups_of(lab, "red-web-1")?;
    broadcast_of(lab, "red-web-1")?;
    for (what, filter) in OWN {
        eventually(what, || {
            let filter = format!("src host 192.0.2.1 and udp dst port 4789 and {filter}");
            ensure!(!outside.so_far(&filter)?.is_empty(), "none is sent");
            Ok(())
        })?;
    }
    eventually("the self-test passes", || {
        let test = &lab.json("fab1", &["status"])?["datapath"]["self_test"];
        ensure!(
            test["done"] == true && test["problems"] == serde_json::json!([]),
            "{test}"
        );
        Ok(())
    })?;
    finish("on")?;
    // The loopback interface takes no checksums from anybody: the kernel leaves them out.
    for (capture, sums) in [(outside, Checksums::All), (inside, Checksums::Ip)] {
        let captured = capture.stop()?;
        let frames = dissect(&captured, "udp.port == 4789", sums)?;
        say(format!("{} tunnel packets on {}", frames.len(), captured.place));
        ensure!(!frames.is_empty(), "there is none on {}", captured.place);
        for frame in frames {
            let tunnel = frame.protocols.contains("udp:vxlan:eth:ethertype");
            ensure!(tunnel && frame.wrong.is_none(), "{}: {frame:?}", captured.place);
        }
    }
    Ok(())
}

/// A tunnel packet whose inner frame is cut off: without this the step would show nothing.
fn reads_what_is_wrong(lab: &Lab) -> Result<()> {
    let netns = lab.netns("underlay");
    let capture = Capture::whole(&netns, "lo")?;
    let cut = [8, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3];
    inside(&netns, || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        Ok(socket.send_to(&cut, (Ipv4Addr::LOCALHOST, 4789))?)
    })?;
    eventually("it is captured", || {
        ensure!(!capture.so_far("udp dst port 4789")?.is_empty(), "it is not");
        Ok(())
    })?;
    let frames = dissect(&capture.stop()?, "vxlan and not icmp", Checksums::Ip)?;
    ensure!(frames.len() == 1 && frames[0].wrong.is_some(), "{frames:?}");
    Ok(())
}

/// While `noise` is made in a workload of red, others of red make connections, each without a segment sent twice.
fn untouched(lab: &Lab, noise: impl Fn(&AtomicBool) -> Result<u64> + Sync) -> Result<()> {
    let noisy = lab.workload("red-web-1")?;
    let (a, b) = (lab.workload("red-web-2")?, lab.workload("red-web-3")?);
    let before = |w: &Workload| fabric_tests::flow::retransmitted(&w.netns);
    let (sent_a, sent_b) = (before(a)?, before(b)?);
    let stop = AtomicBool::new(false);
    let (made, done) = std::thread::scope(|scope| {
        let noise = scope.spawn(|| inside(&noisy.netns, || noise(&stop)));
        let mut done = Ok(());
        for _ in 0..CONNECTIONS {
            for (from, to) in [(a, b), (b, a)] {
                done = done.and_then(|()| tcp(&End::of(from, a.ipv4), &End::of(to, a.ipv4), 1000));
            }
        }
        stop.store(true, Ordering::SeqCst);
        (noise.join(), done)
    });
    done?;
    let made = made.map_err(|_| anyhow::anyhow!("the noise panicked"))??;
    say(format!(
        "{} connections beside {made} packets of noise",
        2 * CONNECTIONS
    ));
    let twice = (before(a)? - sent_a) + (before(b)? - sent_b);
    ensure!(made > 1000, "there was little noise: {made}");
    ensure!(twice == 0, "{twice} segments were sent twice");
    Ok(())
}

fn storm(lab: &Lab) -> Result<()> {
    let before = lab.dropped("fab1", "rate_limit")?;
    untouched(lab, |stop| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_broadcast(true)?;
        let mut sent = 0;
        while !stop.load(Ordering::SeqCst) {
            sent += u64::from(socket.send_to(b"storm", (Ipv4Addr::new(10, 0, 0, 255), 9)).is_ok());
        }
        Ok(sent)
    })?;
    let limited = lab.dropped("fab1", "rate_limit")? - before;
    ensure!(limited > 0, "the storm was let through whole");
    Ok(())
}

fn scan(lab: &Lab) -> Result<()> {
    let targets = [lab.workload("red-web-2")?.ipv4, lab.workload("red-web-3")?.ipv4];
    untouched(lab, |stop| {
        let mut sent = 0;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        for port in (1..=u16::MAX).cycle() {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            for target in targets {
                // Each is a connection of its own; that nobody serves the port is no matter.
                sent += u64::from(socket.send_to(b"scan", (target, port)).is_ok());
                if port % 64 == 0 {
                    let _ = TcpStream::connect_timeout(&(target, port).into(), Duration::from_millis(20));
                }
            }
        }
        Ok(sent)
    })
}
