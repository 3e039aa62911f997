//! A virtual machine's monitor that ends and starts again: its tap goes with it and comes back as another interface.

use std::process::{Child, Command, Stdio};

use datapath::PortState;

use crate::lab::{Host, two_hosts};
use crate::namespace::{Namespace, eventually, privileged};
use crate::wanted::{Workload, domain, label};

/// A monitor with a tap of its own, whose machine does not run.
struct Monitor(Child);

impl Monitor {
    fn start(host: &Host, tap: &str) -> Self {
        let netdev = format!("tap,id=net0,ifname={tap},script=no,downscript=no");
        let child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", host.namespace.name))
            .args([
                "qemu-system-x86_64",
                "-S",
                "-nodefaults",
                "-display",
                "none",
                "-m",
                "64",
            ])
            .args(["-netdev", &netdev, "-device", "virtio-net-pci,netdev=net0,romfile="])
            .stdin(Stdio::null())
            .spawn();
        Self(child.expect("qemu-system-x86_64 is installed (deploy/setup.sh)"))
    }

    fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn a_monitor_that_starts_again_has_its_machine_attached_again() {
    if !privileged("a_monitor_that_starts_again_has_its_machine_attached_again") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let db = Namespace::new("db");
    let workloads = [
        &Workload::on_interface("vm", 1, &a, "tap0"),
        &Workload::in_namespace("db", 2, &a, &db),
    ];
    let wanted = domain("red", 100, &workloads, &a, &[&b]);
    let state = || a.apply(&wanted).ports[&label("vm")].clone();
    let is_waiting = || matches!(state(), PortState::Waiting(why) if why.contains("there is no interface tap0"));
    assert!(is_waiting());
    let mut before = Vec::new();
    for round in 0..3 {
        let changes = a.changes();
        let monitor = Monitor::start(&a, "tap0");
        eventually("the interface is told", || {
            a.changes() > changes && a.namespace.has_link("tap0")
        });
        let PortState::Programmed { ifindex, name } = state() else {
            panic!("round {round}: {:?}", state());
        };
        assert_eq!(name, "tap0");
        assert!(!before.contains(&ifindex), "round {round}: it is another interface");
        before.push(ifindex);
        assert_eq!(a.programs("tap0"), ["stub_from_endpo", "stub_to_endpoin"]);
        assert!(a.namespace.must("ip link show tap0").contains(",UP"));

        let changes = a.changes();
        monitor.kill();
        eventually("its loss is told", || a.changes() > changes);
        assert!(is_waiting(), "round {round}");
        // Of what is gone nothing is left: neither its port nor its hooks.
        eventually("its pins are gone", || {
            a.status().hooks.iter().all(|hook| hook.interface != "tap0")
                && !a
                    .pins()
                    .join("hooks")
                    .join(format!("{ifindex}-from_endpoint-tcx"))
                    .exists()
        });
    }
}
