//! Hosts die, daemons die, cables are cut; what is left forwards on, and what comes back has all it had.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fabric_tests::clients::{Clients, Written, acknowledged, check};
use fabric_tests::deadline::eventually;
use fabric_tests::fault::{Stopped, strip};
use fabric_tests::flow::{End, everything, tcp};
use fabric_tests::lab::{Lab, Underlay, Workload};
use fabric_tests::netns::inside;
use fabric_tests::scenario::{on_lab, say, step};

const HOSTS: [&str; 3] = ["fab1", "fab2", "fab3"];
/// Who write while cables are bad, and how much meanwhile, at least.
const CLIENTS: u64 = 3;
const WRITES: u64 = 30;

fn main() -> ExitCode {
    on_lab(
        "failure",
        3,
        Underlay::Ipv4,
        vec![
            step("a_killed_daemon_leaves_its_workloads_forwarding", killed_daemon),
            step("no_datagram_is_lost_while_a_daemon_is_killed_and_started", restarted),
            step("a_daemon_that_stood_still_changes_only_its_own_state", stood_still),
            step("a_host_that_is_off_is_dead_and_the_rest_forwards_on", host_off),
            step("a_host_that_is_back_has_its_state_and_endpoints", host_back),
            step("a_write_during_a_split_is_everywhere_after_it", split),
            step("what_two_hosts_cannot_say_to_each_other_a_third_passes_on", one_way),
            step("traffic_survives_lossy_cables", loss),
            step(
                "with_a_third_of_all_packets_lost_all_agree_and_nobody_is_dead",
                heavy_loss,
            ),
            step(
                "killed_and_stripped_of_everything_in_the_kernel_all_is_as_before",
                from_disk,
            ),
        ],
    )
}

/// TCP both ways between web-1 and web-2, web-2 and web-3, web-3 and web-1 of these, in both domains.
fn all_flows(lab: &Lab, numbers: &[u8]) -> Result<()> {
    for domain in ["red", "blue"] {
        for (a, b) in numbers.iter().zip(numbers.iter().cycle().skip(1)) {
            let (from, to) = (format!("{domain}-web-{a}"), format!("{domain}-web-{b}"));
            everything(lab.workload(&from)?, lab.workload(&to)?)?;
        }
    }
    Ok(())
}

fn eventually_all_flows(lab: &Lab) -> Result<()> {
    eventually("all workloads reach each other", || all_flows(lab, &[1, 2, 3]))
}

fn killed_daemon(lab: &Lab) -> Result<()> {
    lab.sh(&["kill", "fab2"])?;
    all_flows(lab, &[1, 2, 3])?;
    say("forwarded with fab2's daemon killed");
    lab.wait_peer(&["fab1", "fab3"], "fab2", "dead")?;
    all_flows(lab, &[1, 2, 3])?;
    say("and after the others noticed");
    lab.sh(&["start", "fab2"])?;
    lab.wait_peer(&["fab1", "fab3"], "fab2", "live")?;
    all_flows(lab, &[1, 2, 3])?;
    lab.converged(&HOSTS).map(drop)
}

/// Numbered datagrams to and from the host whose daemon is killed and started again: all arrive.
fn restarted(lab: &Lab) -> Result<()> {
    let (far, near) = (lab.workload("red-web-1")?, lab.workload("red-web-2")?);
    let flows = [Numbered::start(far, near)?, Numbered::start(near, far)?];
    for _ in 0..3 {
        lab.sh(&["kill", "fab2"])?;
        lab.sh(&["start", "fab2"])?;
    }
    lab.wait_peer(&["fab1", "fab3"], "fab2", "live")?;
    for flow in flows {
        let (sent, received) = flow.stop()?;
        say(format!("{received} of {sent} datagrams"));
        ensure!(
            sent > 500 && received == sent,
            "{} of {sent} datagrams were lost",
            sent - received
        );
    }
    Ok(())
}

/// Datagrams with numbers, one every two milliseconds.
struct Numbered {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<std::io::Result<u64>>,
    receiver: JoinHandle<u64>,
}

impl Numbered {
    fn start(from: &Workload, to: &Workload) -> Result<Self> {
        let bound = |w: &Workload| inside(&w.netns, || Ok(UdpSocket::bind((w.ipv4, 0))?));
        let (mouth, ear) = (bound(from)?, bound(to)?);
        mouth.connect(ear.local_addr()?)?;
        ear.set_read_timeout(Some(Duration::from_secs(2)))?;
        let stop: Arc<AtomicBool> = Arc::default();
        let stopped = stop.clone();
        let sender = thread::spawn(move || {
            let mut number = 0u64;
            while !stopped.load(Ordering::SeqCst) {
                mouth.send(&number.to_be_bytes())?;
                number += 1;
                thread::sleep(Duration::from_millis(2));
            }
            Ok(number)
        });
        // It ends when nothing came for long; each number is counted once.
        let receiver = thread::spawn(move || {
            let (mut buffer, mut seen) = ([0; 8], BTreeSet::new());
            while ear.recv(&mut buffer).is_ok() {
                seen.insert(u64::from_be_bytes(buffer));
            }
            seen.len() as u64
        });
        Ok(Self { stop, sender, receiver })
    }

    fn stop(self) -> Result<(u64, u64)> {
        self.stop.store(true, Ordering::SeqCst);
        let panicked = |_| anyhow::anyhow!("a thread panicked");
        let sent = self.sender.join().map_err(panicked)??;
        Ok((sent, self.receiver.join().map_err(panicked)?))
    }
}

fn has_alarm(lab: &Lab, host: &str, name: &str) -> Result<bool> {
    let status = lab.json(host, &["status"])?;
    let alarms = status["alarms"].as_array().context("status has no alarms")?;
    Ok(alarms.iter().any(|alarm| alarm["name"] == name))
}

/// When it wakes it has lost all others. It says that it was late, and that is all that changes: no datagram is lost,
/// no path is down, nothing is written.
fn stood_still(lab: &Lab) -> Result<()> {
    let before = lab.agreed(&HOSTS)?;
    let [one, two, three] = ["red-web-1", "red-web-2", "red-web-3"].map(|name| lab.workload(name));
    let (one, two, three) = (one?, two?, three?);
    let flows = [
        Numbered::start(one, two)?,
        Numbered::start(two, three)?,
        Numbered::start(three, one)?,
    ];
    let stopped = Stopped::daemon(lab, "fab2")?;
    lab.wait_peer(&["fab1", "fab3"], "fab2", "dead")?;
    all_flows(lab, &[1, 2, 3])?;
    drop(stopped);
    eventually("fab2 says that it was late", || {
        ensure!(has_alarm(lab, "fab2", "ticks-late")?, "it does not");
        Ok(())
    })?;
    eventually("fab2 is well again", || {
        for host in HOSTS {
            let peers = lab.json(host, &["peers"])?;
            let down = peers
                .as_array()
                .into_iter()
                .flatten()
                .any(|peer| peer["path"] == "down");
            // An error here is only tried again; what must never be is remembered.
            if down {
                return Ok(Err(format!("{host} took a path for cut: {peers}")));
            }
        }
        ensure!(!has_alarm(lab, "fab2", "ticks-late")?, "it is still late");
        Ok(Ok(()))
    })?
    .map_err(anyhow::Error::msg)?;
    for host in HOSTS {
        let others: Vec<_> = HOSTS.into_iter().filter(|other| *other != host).collect();
        lab.wait_peer(&others, host, "live")?;
        ensure!(!has_alarm(lab, host, "mass-death")?, "{host} lost only one peer");
    }
    for flow in flows {
        let (sent, received) = flow.stop()?;
        say(format!("{received} of {sent} datagrams"));
        ensure!(
            sent > 500 && received == sent,
            "{} of {sent} datagrams were lost",
            sent - received
        );
    }
    let after = lab.agreed(&HOSTS)?;
    ensure!(before == after, "something was written: {before} {after}");
    Ok(())
}

fn host_off(lab: &Lab) -> Result<()> {
    lab.sh(&["off", "fab3"])?;
    lab.wait_peer(&["fab1", "fab2"], "fab3", "dead")?;
    all_flows(lab, &[1, 2])
}

fn host_back(lab: &Lab) -> Result<()> {
    lab.sh(&["start", "fab3"])?;
    lab.wait_peer(&["fab1", "fab2"], "fab3", "live")?;
    lab.wait_peer(&["fab3"], "fab1", "live")?;
    lab.converged(&HOSTS)?;
    eventually_all_flows(lab)
}

fn split(lab: &Lab) -> Result<()> {
    let endpoint = |name: &str| format!("{{kind: Endpoint, domain: red, name: {name}, spec: {{network: lan}}}}");
    lab.sh(&["cut", "fab1"])?;
    for (host, name) in [("fab1", "alone-1"), ("fab2", "pair-1")] {
        // Not all hosts are there to confirm: that it is taken is enough.
        let output = lab.apply(host, &endpoint(name))?;
        ensure!(
            output.status.code().is_some_and(|code| code == 0 || code == 75),
            "{host}: {}",
            output.status
        );
    }
    lab.wait_peer(&["fab2", "fab3"], "fab1", "dead")?;
    all_flows(lab, &[2, 3])?;
    lab.sh(&["heal"])?;
    lab.converged(&HOSTS)?;
    for host in HOSTS {
        for name in ["alone-1", "pair-1"] {
            lab.json(host, &["get", "endpoint", name, "-d", "red"])?;
        }
    }
    lab.wait_peer(&["fab2", "fab3"], "fab1", "live")?;
    eventually_all_flows(lab)?;
    for name in ["alone-1", "pair-1"] {
        lab.ctl("fab3", &["delete", "endpoint", name, "-d", "red"])?;
    }
    Ok(())
}

/// Writes an endpoint on each of these hosts; that all others confirm it is not asked for.
fn written(lab: &Lab, hosts: &[&str], name: &str) -> Result<()> {
    for host in hosts {
        let endpoint = format!("{{kind: Endpoint, domain: red, name: {name}-{host}, spec: {{network: lan}}}}");
        let output = lab.apply(host, &endpoint)?;
        let taken = output.status.code().is_some_and(|code| code == 0 || code == 75);
        ensure!(taken, "{host}: {}", output.status);
    }
    lab.converged(&HOSTS)?;
    for host in hosts {
        lab.ctl(host, &["delete", "endpoint", &format!("{name}-{host}"), "-d", "red"])?;
    }
    lab.converged(&HOSTS).map(drop)
}

/// Clients write through all hosts while `fault` comes and stays; what each was acknowledged is everywhere, with the fault
/// as without it.
fn clients_write(lab: &Lab, name: &str, fault: impl FnOnce() -> Result<()>) -> Result<Vec<Written>> {
    let clients = Clients::start(lab, name, CLIENTS)?;
    fault()?;
    clients.wait(WRITES)?;
    let written = clients.stop()?;
    say(format!("{} acknowledged writes", acknowledged(&written)));
    ensure!(
        written.iter().all(|client| client.count > 0),
        "a client wrote nothing: {written:?}"
    );
    check(lab, &written)?;
    Ok(written)
}

fn nobody_is_dead(lab: &Lab) -> Result<()> {
    for host in HOSTS {
        let peers = lab.json(host, &["peers"])?;
        let dead = peers
            .as_array()
            .into_iter()
            .flatten()
            .any(|peer| peer["state"] == "dead");
        ensure!(!dead, "{host} took one for dead: {peers}");
    }
    Ok(())
}

/// All see all alive, and traffic flows.
fn healed(lab: &Lab) -> Result<()> {
    lab.sh(&["heal"])?;
    for host in HOSTS {
        let others: Vec<_> = HOSTS.into_iter().filter(|other| *other != host).collect();
        lab.wait_peer(&others, host, "live")?;
    }
    eventually_all_flows(lab)
}

/// Packets from fab1 to fab3 are lost, those back are not.
fn one_way(lab: &Lab) -> Result<()> {
    let by_clients = clients_write(lab, "one-way", || {
        lab.sh(&["cut", "--from", "fab1", "--to", "fab3"])?;
        lab.wait_peer(&["fab1"], "fab3", "suspect")?;
        lab.wait_peer(&["fab3"], "fab1", "suspect")
    })?;
    written(lab, &["fab1", "fab3"], "way")?;
    // The third hears both, and tells.
    nobody_is_dead(lab)?;
    all_flows(lab, &[1, 2])?;
    healed(lab)?;
    check(lab, &by_clients)
}

fn heavy_loss(lab: &Lab) -> Result<()> {
    let by_clients = clients_write(lab, "lossy", || lab.sh(&["loss", "30"]))?;
    written(lab, &HOSTS, "lossy")?;
    nobody_is_dead(lab)?;
    healed(lab)?;
    check(lab, &by_clients)
}

fn loss(lab: &Lab) -> Result<()> {
    lab.sh(&["loss", "5"])?;
    let (from, to) = (lab.workload("red-web-1")?, lab.workload("red-web-3")?);
    for address in from.addresses() {
        eventually("TCP gets through", || {
            tcp(&End::of(from, address), &End::of(to, address), 10_000)
        })?;
    }
    lab.sh(&["heal"])
}

fn from_disk(lab: &Lab) -> Result<()> {
    let before = lab.agreed(&HOSTS)?;
    for host in HOSTS {
        lab.sh(&["kill", host])?;
    }
    for host in HOSTS {
        strip(lab, host)?;
    }
    let (from, to) = (lab.workload("red-web-1")?, lab.workload("red-web-2")?);
    let stripped = tcp(
        &End {
            netns: from.netns.clone(),
            address: IpAddr::V4([10, 0, 0, 11].into()),
        },
        &End::of(to, to.ipv4),
        1,
    );
    ensure!(stripped.is_err(), "something still forwards");
    for host in HOSTS {
        lab.sh(&["start", host])?;
    }
    for host in HOSTS {
        let others: Vec<_> = HOSTS.into_iter().filter(|other| *other != host).collect();
        lab.wait_peer(&others, host, "live")?;
    }
    lab.converged(&HOSTS)?;
    for host in HOSTS {
        let after = lab.objects(host)?;
        ensure!(before == after, "objects differ on {host}: {before} {after}");
    }
    eventually_all_flows(lab)
}
