//! Broadcast and multicast reach everybody in the network, on whatever host, and nobody else; an endpoint that storms or
//! scans does not get in the way of others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fabric_tests::deadline::eventually;
use fabric_tests::flow::{End, tcp};
use fabric_tests::lab::{Lab, Underlay, Workload};
use fabric_tests::netns::{inside, run};
use fabric_tests::scenario::{on_lab, say, step};

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
    for name in ["red-web-1", "blue-web-2"] {
        for to in [Ipv4Addr::new(10, 0, 0, 255), Ipv4Addr::BROADCAST] {
            say(format!("{name} to {to}"));
            reaches(lab, lab.workload(name)?, (to, PORT).into())?;
        }
    }
    Ok(())
}

fn multicast(lab: &Lab) -> Result<()> {
    for name in ["red-web-3", "blue-db-1"] {
        let from = lab.workload(name)?;
        let index = inside(&from.netns, || Ok(nix::net::if_::if_nametoindex("eth0")?))?;
        let v6 = std::net::SocketAddrV6::new(GROUP6, PORT, 0, index);
        say(format!("{name} to {GROUP6}"));
        reaches(lab, from, v6.into())?;
        say(format!("{name} to {GROUP4}"));
        let route =
            |what| run(Command::new("ip").args(["-n", &from.netns, "route", what, "239.0.0.0/8", "dev", "eth0"]));
        route("add")?;
        let reached = reaches(lab, from, (GROUP4, PORT).into());
        route("delete")?;
        reached?;
    }
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
