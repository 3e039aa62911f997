//! What becomes of endpoints that move, of the addresses of those that are deleted, and of machines that are restarted.

use std::net::{IpAddr, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fabric_tests::deadline::{eventually, within};
use fabric_tests::flow::{End, tcp};
use fabric_tests::frame::{Station, udp};
use fabric_tests::lab::{Lab, Underlay, parse_mac};
use fabric_tests::machine::Machine;
use fabric_tests::netns::{Netns, command, inside, run};
use fabric_tests::scenario::{on_lab, say, step};
use fabric_tests::stage::{ipv4, links, one};

const HOSTS: [&str; 3] = ["fab1", "fab2", "fab3"];
/// Within which an address of a deleted endpoint is free again: it rests for a while, and every host confirms.
const FREED: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    on_lab(
        "endpoints",
        3,
        Underlay::Ipv4,
        vec![
            step("a_move_that_fails_leaves_the_endpoint_where_it_is", moves),
            step("addresses_of_deleted_endpoints_serve_other_hosts", reuse),
            step(
                "a_machine_that_is_killed_is_waited_for_and_has_its_network_again",
                restart,
            ),
        ],
    )
}

/// The namespace of an endpoint, as `attach` takes it.
fn attach(lab: &Lab, host: &str, endpoint: &str, netns: &Netns) -> Result<std::process::Output> {
    lab.try_ctl(host, &["endpoint", "attach", endpoint, "--netns", &netns.name])
}

fn moves(lab: &Lab) -> Result<()> {
    let manifest = "{kind: Endpoint, domain: red, name: mover, spec: {network: lan, addresses: [10.0.0.70]}}";
    lab.must_apply("fab1", manifest)?;
    let (home, away) = (Netns::make(lab.netns("mover"))?, Netns::make(lab.netns("away"))?);
    ensure!(attach(lab, "fab1", "red/mover", &home)?.status.success());
    let address: IpAddr = "10.0.0.70".parse()?;
    let end = |netns: &Netns| End {
        netns: netns.name.clone(),
        address,
    };
    let other = End::of(lab.workload("red-web-2")?, address);
    tcp(&other, &end(&home), 1000)?;

    say("into a namespace that has an eth0 of its own");
    run(command(&away.name, "ip").args(["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"]))?;
    let refused = attach(lab, "fab2", "red/mover", &away)?;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    ensure!(words.contains("stays where it is") && words.contains("eth0"), "{words}");
    for host in HOSTS {
        let object = one(lab.json(host, &["get", "endpoint", "mover", "-d", "red"])?)?;
        ensure!(object["status"].to_string().contains("fab1"), "{host}: {object}");
    }
    tcp(&other, &end(&home), 1000)?;

    say("many at once that cannot move are refused, and nothing else waits for them");
    std::thread::scope(|scope| {
        let tries = [(); 12].map(|()| scope.spawn(|| attach(lab, "fab2", "red/mover", &away)));
        for refused in tries {
            let refused = refused.join().ok().context("the thread")??;
            // Refused, or told to try again.
            ensure!(matches!(refused.status.code(), Some(1 | 75)), "{refused:?}");
        }
        anyhow::Ok(())
    })?;
    tcp(&other, &end(&home), 1000)?;

    say("into one that suits");
    run(command(&away.name, "ip").args(["link", "del", "eth0"]))?;
    let moved = attach(lab, "fab2", "red/mover", &away)?;
    let said = String::from_utf8_lossy(&moved.stderr);
    ensure!(
        moved.status.success() && said.contains("moved from fab1") && said.contains(&home.name),
        "{moved:?}"
    );
    tcp(&other, &end(&away), 1000)?;
    eventually("the former namespace has no interface of it", || {
        let links = run(command(&home.name, "ip").args(["-o", "link", "show"]))?;
        ensure!(!String::from_utf8_lossy(&links.stdout).contains("eth0"));
        Ok(())
    })?;
    lab.ctl("fab2", &["endpoint", "detach", "red/mover"])?;
    lab.ctl("fab2", &["delete", "endpoint", "mover", "-d", "red"])
}

/// A network with room for few, whose endpoints come and go on one host after the other.
fn reuse(lab: &Lab) -> Result<()> {
    lab.must_apply(
        "fab1",
        "{kind: Network, domain: red, name: few, spec: {subnets: [10.77.0.0/29]}}",
    )?;
    for (round, host) in HOSTS.into_iter().enumerate() {
        say(format!("all addresses on {host}"));
        let mut made = Vec::new();
        for number in 0..5 {
            let name = format!("few-{round}-{number}");
            let manifest = format!("{{kind: Endpoint, domain: red, name: {name}, spec: {{network: few}}}}");
            lab.must_apply("fab1", &manifest)?;
            let netns = Netns::make(lab.netns(&name))?;
            within(FREED, format!("{name} gets an address"), || {
                let tried = attach(lab, host, &format!("red/{name}"), &netns)?;
                ensure!(tried.status.success(), "{}", String::from_utf8_lossy(&tried.stderr));
                Ok(())
            })?;
            made.push((name, netns));
        }
        for (name, _) in &made {
            lab.ctl(host, &["endpoint", "detach", &format!("red/{name}")])?;
            lab.ctl("fab1", &["delete", "endpoint", name, "-d", "red"])?;
        }
    }
    lab.ctl("fab1", &["delete", "network", "few", "-d", "red"])
}

/// Port of the datagrams between the machine and a workload.
const PORT: u16 = 4242;

/// A virtual machine on a tap of its own; each start makes the tap anew.
fn restart(lab: &Lab) -> Result<()> {
    lab.must_apply(
        "fab2",
        "{kind: Endpoint, domain: red, name: vm-2, spec: {network: lan, addresses: [10.0.0.71]}}",
    )?;
    let object = one(lab.json("fab1", &["get", "endpoint", "vm-2", "-d", "red"])?)?;
    let own = Station {
        mac: parse_mac(object["spec"]["mac"].as_str().context("a MAC address")?)?,
        ip: "10.0.0.71".parse()?,
    };
    let other = lab.workload("red-web-2")?;
    let socket = inside(&other.netns, || Ok(UdpSocket::bind(("0.0.0.0", PORT))?))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut machine = Machine::new(lab.netns("fab1"), "vm2")?;
    machine.start()?;
    let index = index(lab)?;
    lab.ctl("fab1", &["endpoint", "attach", "red/vm-2", "--interface", "vm2"])?;
    talk(&machine, own, ipv4(other), &socket)?;

    say("killed");
    machine.kill()?;
    eventually("it is waited for", || {
        let object = one(lab.json("fab1", &["get", "endpoint", "vm-2", "-d", "red"])?)?;
        ensure!(object["status"].to_string().contains("PortWaiting"), "{object}");
        Ok(())
    })?;

    say("started again, with another interface of the name");
    machine.start()?;
    ensure!(self::index(lab)? != index, "the index is the same");
    talk(&machine, own, ipv4(other), &socket)?;

    say("killed and started at once");
    machine.start()?;
    talk(&machine, own, ipv4(other), &socket)?;
    lab.ctl("fab1", &["endpoint", "detach", "red/vm-2"])?;
    lab.ctl("fab1", &["delete", "endpoint", "vm-2", "-d", "red"])
}

/// The index of the machine's interface.
fn index(lab: &Lab) -> Result<u64> {
    eventually("the machine has its interface", || {
        let links = links(&lab.netns("fab1"))?;
        let link = links.iter().find(|link| link["ifname"] == "vm2").context("no vm2")?;
        link["ifindex"].as_u64().context("no index")
    })
}

/// A datagram of the machine reaches the workload, and its answer the machine.
fn talk(machine: &Machine, own: Station, other: Station, socket: &UdpSocket) -> Result<()> {
    eventually("the machine talks", || {
        machine.send(&udp(own, other, PORT)?)?;
        let mut datagram = [0; 64];
        let (length, from) = socket.recv_from(&mut datagram)?;
        ensure!(from.ip() == own.ip, "from {from}");
        socket.send_to(&datagram[..length], from)?;
        let answer = machine.receive()?.context("no answer")?;
        // Behind the headers of Ethernet, IPv4 and UDP; QEMU makes short frames as long as Ethernet wants them.
        let payload = answer.get(42..).unwrap_or_default();
        ensure!(
            answer.starts_with(&own.mac) && payload.starts_with(&datagram[..length]),
            "another frame: {answer:02x?}"
        );
        Ok(())
    })
}
