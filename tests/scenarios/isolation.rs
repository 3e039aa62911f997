//! Two domains with the same subnets and addresses do not see each other, and each probe that must fail is shown to
//! succeed for somebody who may.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fabric_tests::capture::Capture;
use fabric_tests::flow::{End, connects, everything};
use fabric_tests::lab::{Lab, Underlay, Workload};
use fabric_tests::netns::{inside, run};
use fabric_tests::scenario::{on_lab, say, step};
use fabric_tests::stage::host_side;

fn main() -> ExitCode {
    on_lab(
        "isolation",
        3,
        Underlay::Ipv4,
        vec![
            step("red_cannot_reach_the_address_that_only_blue_has", only_blue),
            step("a_shared_address_is_ones_own_domains", shared_address),
            step("no_blue_interface_sees_a_red_mac", captures),
            step("the_hosts_stack_is_out_of_reach", host_stack),
        ],
    )
}

fn only_blue(lab: &Lab) -> Result<()> {
    let db = lab.workload("blue-db-1")?;
    for address in db.addresses() {
        for blue in ["blue-web-1", "blue-web-2"] {
            ensure!(
                connects(&End::of(lab.workload(blue)?, address), &End::of(db, address))?,
                "{blue} -> {address}"
            );
        }
        for red in ["red-web-1", "red-web-2", "red-web-3"] {
            let red = lab.workload(red)?;
            ensure!(
                !connects(&End::of(red, address), &End::of(db, address))?,
                "{} reached {address}",
                red.name
            );
        }
    }
    Ok(())
}

/// The same port of the same address is served in both domains; who answers says its name.
fn shared_address(lab: &Lab) -> Result<()> {
    for family in ["red-web-2", "blue-web-2"].map(|name| lab.workload(name)) {
        let server = family?;
        for address in server.addresses() {
            let other = if server.domain == "red" { "blue" } else { "red" };
            let twin = lab.workload(&format!("{other}-web-2"))?;
            ensure!(twin.addresses().contains(&address), "{address} is not shared");
            let (here, there) = (NamedServer::start(server, address)?, NamedServer::start(twin, address)?);
            let client = lab.workload(&format!("{}-web-1", server.domain))?;
            let said = inside(&client.netns, || ask(SocketAddr::new(address, 7000)))?;
            drop((here, there));
            ensure!(
                said == server.name,
                "{} asked {address} and {said} answered",
                client.name
            );
        }
    }
    Ok(())
}

/// A listener whose first connection is told the workload's name.
struct NamedServer {
    netns: String,
    address: SocketAddr,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl NamedServer {
    fn start(workload: &Workload, address: IpAddr) -> Result<Self> {
        let listener = inside(&workload.netns, || Ok(TcpListener::bind((address, 7000))?))?;
        let (address, name) = (listener.local_addr()?, workload.name.clone());
        let thread = std::thread::spawn(move || {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let _ = stream.write_all(name.as_bytes());
        });
        Ok(Self {
            netns: workload.netns.clone(),
            address,
            thread: Some(thread),
        })
    }
}

impl Drop for NamedServer {
    fn drop(&mut self) {
        // One that nobody asked still waits for its first connection.
        let _ = inside(&self.netns, || ask(self.address));
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn ask(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

fn captures(lab: &Lab) -> Result<()> {
    let mut running = Vec::new();
    for blue in lab.of_domain("blue") {
        running.push((blue, Capture::start(&blue.netns, "eth0")?));
        let (name, _) = host_side(lab, blue)?;
        running.push((blue, Capture::start(&lab.netns(&blue.host), &name)?));
    }
    say(format!("{} captures; traffic in red and blue", running.len()));
    for domain in ["red", "blue"] {
        for (a, b) in [(1, 2), (2, 3), (3, 1)] {
            let (from, to) = (format!("{domain}-web-{a}"), format!("{domain}-web-{b}"));
            everything(lab.workload(&from)?, lab.workload(&to)?)?;
        }
    }
    everything(lab.workload("blue-web-2")?, lab.workload("blue-db-1")?)?;
    for red in lab.of_domain("red") {
        inside(&red.netns, || shout(red))?;
        let db = lab.workload("blue-db-1")?;
        ensure!(
            !connects(&End::of(red, db.ipv4), &End::of(db, db.ipv4))?,
            "{} reached {}",
            red.name,
            db.ipv4
        );
    }
    for (blue, capture) in running {
        let seen = capture.stop()?;
        // Frames that the program redirects into the namespace pass by the host side unseen: only what is inside the
        // namespace must have seen its own traffic.
        if seen.place.starts_with("eth0") {
            seen.must_have(&format!("ether host {}", blue.mac_text()))?;
        }
        for red in lab.of_domain("red") {
            seen.must_lack(&format!("ether host {}", red.mac_text()))?;
        }
    }
    Ok(())
}

/// To everybody on the segment, and to an address nobody has.
fn shout(from: &Workload) -> Result<()> {
    let socket = UdpSocket::bind((from.ipv4, 0))?;
    socket.set_broadcast(true)?;
    for to in ["10.0.0.255:9", "255.255.255.255:9", "224.0.0.251:5353", "10.0.0.200:9"] {
        // Whether the kernel takes it does not matter, only that nothing of it arrives.
        let _ = socket.send_to(b"red", to.parse::<SocketAddr>()?);
    }
    let socket = UdpSocket::bind((from.ipv6, 0))?;
    let index = nix::net::if_::if_nametoindex("eth0")?;
    let _ = socket.send_to(b"red", format!("[ff02::fb%{index}]:5353").parse::<SocketAddr>()?);
    Ok(())
}

/// Neither the host's underlay address nor its own end of the link answers a workload, while the host answers others.
fn host_stack(lab: &Lab) -> Result<()> {
    let red = lab.workload("red-web-1")?;
    let host = fabric_tests::stage::host(lab, "fab1")?;
    let (_, mac) = host_side(lab, red)?;
    let link_local = format!("{}%eth0", fabric_tests::frame::link_local(mac));
    let ip = |arguments: &[&str]| run(Command::new("ip").args(["-n", &red.netns]).args(arguments)).map(drop);
    ip(&["route", "add", &format!("{}/32", host.ip), "dev", "eth0"])?;
    let ping = |netns: &str, to: &str| -> Result<bool> {
        let mut command = fabric_tests::netns::command(netns, "ping");
        Ok(command
            .args(["-n", "-c", "1", "-W", "1", to])
            .output()
            .context("ping")?
            .status
            .success())
    };
    ensure!(
        ping(&lab.netns("fab2"), &host.ip.to_string())?,
        "the host does not answer another host"
    );
    let reached = [ping(&red.netns, &host.ip.to_string())?, ping(&red.netns, &link_local)?];
    ip(&["route", "delete", &format!("{}/32", host.ip), "dev", "eth0"])?;
    ensure!(
        reached == [false, false],
        "a workload reached its host: address, link-local address: {reached:?}"
    );
    Ok(())
}
