//! The kernel's own tunnel device: made, kept, made again, removed; and what the kernel drops on interfaces.

use std::fs::File;
use std::io::Write as _;
use std::net::UdpSocket;

use crate::lab::{Host, two_hosts};
use crate::namespace::{Namespace, eventually, privileged};
use crate::tap::open_tap;
use crate::wanted::{Workload, domain};

/// The name of a host's device, if it has one that is in use.
fn device(host: &Host) -> Option<String> {
    let devices = host.status().devices;
    assert_eq!(devices.len(), 1, "{devices:?}");
    devices
        .into_iter()
        .find(|device| device.encapsulation == "vxlan" && device.problem.is_none())
        .map(|device| device.name)
}

fn link(host: &Host, name: &str) -> String {
    let shown = host.namespace.run(&format!("ip -d -o link show {name}"));
    String::from_utf8_lossy(&shown.stdout).into_owned()
}

fn is_up(host: &Host, name: &str) -> bool {
    let shown = link(host, name);
    shown.contains("NOARP,UP") && shown.contains("vxlan external")
}

#[test]
fn a_tunnel_device_is_quiet_kept_repaired_and_purged() {
    if !privileged("a_tunnel_device_is_quiet_kept_repaired_and_purged") {
        return;
    }
    let (mut a, b) = two_hosts(true, false);
    let (web, far) = (Namespace::new("web"), Namespace::new("far"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("far", 3, &b, &far),
    ];
    a.program(&domain("red", 100, &workloads, &a, &[&b]));
    b.program(&domain("red", 100, &workloads, &b, &[&a]));
    let name = device(&a).expect("a device");
    let shown = link(&a, &name);
    assert!(is_up(&a, &name) && shown.contains("addrgenmode none"), "{shown}");
    assert!(
        shown.contains("dstport 4789") && shown.contains("srcport 49152 65535"),
        "{shown}"
    );
    assert!(!a.namespace.must("ip addr show").contains(&format!("{name}\n    inet")));
    assert_eq!(a.programs(&name), ["stub_from_devic"]);

    a.kill();
    a.open();
    assert_eq!(link(&a, &name), shown, "a restart keeps it");
    assert_eq!(device(&a).as_ref(), Some(&name));

    a.namespace.must(&format!("ip link set {name} down"));
    eventually("it is up again", || is_up(&a, &name));
    a.namespace.must(&format!("ip link del {name}"));
    eventually("it is made again", || {
        is_up(&a, &name) && a.programs(&name) == ["stub_from_devic"]
    });
    assert_eq!(device(&a).as_ref(), Some(&name));
    assert!(web.pings("10.0.0.3", 56));

    a.kill();
    let lines = a.purge();
    assert!(lines.contains(&format!("tunnel device {name}")), "{lines:?}");
    assert!(!a.namespace.has_link(&name));
}

#[test]
fn a_port_that_is_in_use_is_told_and_packets_flow() {
    if !privileged("a_port_that_is_in_use_is_told_and_packets_flow") {
        return;
    }
    let (mut a, b) = two_hosts(true, false);
    a.kill();
    a.purge();
    let socket = a
        .namespace
        .thread(async || UdpSocket::bind("0.0.0.0:4789").expect("the port is free"));
    let socket = socket.join().expect("the thread");
    a.open();
    let (web, far) = (Namespace::new("web"), Namespace::new("far"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("far", 3, &b, &far),
    ];
    a.program(&domain("red", 100, &workloads, &a, &[&b]));
    b.program(&domain("red", 100, &workloads, &b, &[&a]));
    let devices = a.status().devices;
    let problem = devices[0].problem.as_deref().unwrap_or_default();
    assert!(problem.starts_with("UDP port 4789 is in use"), "{devices:?}");
    assert!(web.pings("10.0.0.3", 56), "the programs need no device");
    drop(socket);
    eventually("the device comes when the port is free", || device(&a).is_some());
}

#[test]
fn the_self_test_passes_and_names_what_does_not_work() {
    if !privileged("the_self_test_passes_and_names_what_does_not_work") {
        return;
    }
    let (a, _b) = two_hosts(true, true);
    let verdict = || {
        Some(a.status().self_test)
            .filter(|test| test.done)
            .map(|test| test.problems)
    };
    eventually("all works", || verdict() == Some(Vec::new()));
    assert!(
        !a.drops().iter().any(|line| line.reason.starts_with("probe")),
        "{:?}",
        a.drops()
    );

    // Another device is tested anew.
    a.namespace.must("ip link set lo down");
    let name = device(&a).expect("a device");
    a.namespace.must(&format!("ip link del {name}"));
    eventually("what does not work is named for both addresses", || {
        verdict().is_some_and(|problems| problems.len() == 2)
    });
    a.namespace.must("ip link set lo up");
    eventually("all works again", || verdict() == Some(Vec::new()));
}

/// A virtual machine that takes nothing: its queue runs over.
#[test]
fn what_the_kernel_drops_on_an_interface_is_counted_for_its_endpoint() {
    if !privileged("what_the_kernel_drops_on_an_interface_is_counted_for_its_endpoint") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let web = Namespace::new("web");
    a.namespace.must("ip tuntap add dev tap0 mode tap");
    a.namespace.must("ip link set tap0 txqueuelen 4");
    let tap = a.namespace.thread(async || open_tap("tap0"));
    let mut tap: File = tap.join().expect("the tap opens");
    let vm = Workload::on_interface("vm", 1, &a, "tap0");
    let workloads = [&vm, &Workload::in_namespace("web", 2, &a, &web)];
    a.program(&domain("red", 100, &workloads, &a, &[&b]));
    let lost = || {
        let drops = a.drops();
        let line = drops.iter().find(|line| {
            line.reason == "device_transmit" && line.endpoint.as_ref().is_some_and(|e| e.as_str() == "vm")
        });
        line.map_or(0, |line| line.packets)
    };
    assert_eq!(lost(), 0, "{:?}", a.drops());
    let sender = web.thread(async || {
        let socket = UdpSocket::bind("10.0.0.2:0").expect("the address is there");
        for _ in 0..100 {
            socket.send_to(b"x", "10.0.0.1:9").expect("there is a way");
        }
    });
    sender.join().expect("the thread");
    eventually("what did not fit the queue is counted", || lost() >= 90);
    // What the programs drop, the kernel does not count again.
    tap.write_all(&[0xff; 64]).expect("the tap takes it");
    eventually("the programs dropped it", || {
        a.drops().iter().any(|line| line.reason == "source_mac")
    });
    assert!(
        !a.drops().iter().any(|line| line.reason == "device_receive"),
        "{:?}",
        a.drops()
    );
}
