//! The stubs on interfaces: attached once, pinned, and never detached by the end of a process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use aya::Ebpf;
use aya::programs::{SchedClassifier, TcAttachType};
use membership::id::NodeId;
use tracing::warn;

use crate::bpffs::{Pins, entries, parse_hook};
use crate::error::Error;
use crate::netlink::{Link, Netlink};
use crate::{clsact, tcx};

/// Where a program stands in a packet's way. Directions are as the workload sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hook {
    /// Host side of a workload's interface, ingress.
    FromEndpoint,
    /// Host side of a workload's interface, egress.
    ToEndpoint,
    /// Underlay interface, ingress.
    FromUnderlay,
    /// Tunnel device of the kernel, ingress.
    FromDevice,
}

/// How a stub is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mechanism {
    /// A pinned tcx link (Linux 6.6).
    Tcx,
    /// A filter of the clsact qdisc.
    Clsact,
}

impl Hook {
    pub(crate) const ALL: [Self; 4] = [
        Self::FromEndpoint,
        Self::ToEndpoint,
        Self::FromUnderlay,
        Self::FromDevice,
    ];
    /// Those of a workload's interface.
    pub(crate) const ENDPOINT: [Self; 2] = [Self::FromEndpoint, Self::ToEndpoint];

    /// The program of the slot.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::FromEndpoint => "from_endpoint",
            Self::ToEndpoint => "to_endpoint",
            Self::FromUnderlay => "from_underlay",
            Self::FromDevice => "from_device",
        }
    }

    /// The stub that tail-calls the slot.
    pub(crate) fn stub(self) -> &'static str {
        match self {
            Self::FromEndpoint => "stub_from_endpoint",
            Self::ToEndpoint => "stub_to_endpoint",
            Self::FromUnderlay => "stub_from_underlay",
            Self::FromDevice => "stub_from_device",
        }
    }

    pub(crate) fn direction(self) -> TcAttachType {
        match self {
            Self::FromEndpoint | Self::FromUnderlay | Self::FromDevice => TcAttachType::Ingress,
            Self::ToEndpoint => TcAttachType::Egress,
        }
    }
}

impl Mechanism {
    pub(crate) const ALL: [Self; 2] = [Self::Tcx, Self::Clsact];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// The loaded stubs and where they are pinned when they are attached.
#[derive(Debug)]
pub(crate) struct Stubs {
    pub(crate) ebpf: Ebpf,
    pub(crate) node: NodeId,
    pub(crate) pins: Pins,
    pub(crate) mechanism: Mechanism,
    /// Id of the program array whose programs count: `PROGRAMS`.
    pub(crate) programs: u32,
    /// What was attached since the start.
    pub(crate) attached: BTreeSet<(u32, Hook)>,
}

impl Stubs {
    /// Attaches a stub unless it is attached. What a former run attached stays, if it calls our programs.
    pub(crate) fn attach(&mut self, link: &Link, hook: Hook) -> Result<(), Error> {
        let pin = self.pins.hook(link.ifindex, hook, self.mechanism);
        let stub = stub(&mut self.ebpf, hook)?;
        match self.mechanism {
            Mechanism::Tcx => tcx::attach(stub, &pin, &link.name, hook, self.programs)?,
            Mechanism::Clsact => clsact::attach(stub, &self.pins, &pin, link, hook, self.node)?,
        }
        self.attached.insert((link.ifindex, hook));
        Ok(())
    }

    /// Attaches again what somebody took off an interface, or whose pin somebody removed.
    pub(crate) async fn repair(&mut self, netlink: &Netlink, links: &BTreeMap<u32, Link>) {
        for (ifindex, hook) in self.attached.clone() {
            let Some(link) = links.get(&ifindex) else {
                continue;
            };
            let repaired = match self.runs(netlink, link, hook).await {
                Ok(true) => continue,
                Ok(false) => self.attach(link, hook),
                Err(error) => Err(error),
            };
            let (interface, program) = (&link.name, hook.program());
            match repaired {
                Ok(()) => warn!(interface, program, "somebody took it off: attached again"),
                Err(error) => warn!(
                    interface,
                    program,
                    error = error.words(),
                    "cannot see to it that it is attached"
                ),
            }
        }
    }

    /// Whether our stub is on an interface.
    pub(crate) async fn runs(&self, netlink: &Netlink, link: &Link, hook: Hook) -> Result<bool, Error> {
        let pin = self.pins.hook(link.ifindex, hook, self.mechanism);
        runs(netlink, &pin, link, (hook, self.mechanism), self.node).await
    }

    /// The interfaces that were attached to as underlay, by whatever run; some may be gone.
    pub(crate) fn underlay(&self) -> Result<BTreeSet<u32>, Error> {
        let pins = entries(&self.pins.hooks())?;
        let hooks = pins.iter().filter_map(|pin| parse_hook(pin));
        Ok(hooks
            .filter(|(_, hook, _)| *hook == Hook::FromUnderlay)
            .map(|(ifindex, ..)| ifindex)
            .collect())
    }

    /// Removes the pins and marks of interfaces that are gone, and takes the stubs off interfaces that are no underlay any
    /// more. Stubs of workloads' interfaces stay, and deny.
    pub(crate) fn sweep(&mut self, links: &BTreeMap<u32, Link>, underlay: &BTreeSet<u32>) -> Result<(), Error> {
        for pin in entries(&self.pins.hooks())? {
            let Some((ifindex, hook, mechanism)) = parse_hook(&pin) else {
                continue;
            };
            let link = links.get(&ifindex);
            let is_stale = hook == Hook::FromUnderlay && !underlay.contains(&ifindex);
            if is_stale || link.is_none() && is_gone(ifindex) {
                detach(&pin, link.map(|link| link.name.as_str()), hook, mechanism, self.node)?;
                self.attached.remove(&(ifindex, hook));
            }
        }
        for marker in entries(&self.pins.qdiscs())? {
            let ifindex = marker.file_name().and_then(|name| name.to_str()?.parse().ok());
            if ifindex.is_some_and(|ifindex| !links.contains_key(&ifindex) && is_gone(ifindex)) {
                fs::remove_dir(&marker).map_err(Error::file("remove the folder", &marker))?;
            }
        }
        Ok(())
    }
}

/// Whether the stub of a pin is on an interface.
pub(crate) async fn runs(
    netlink: &Netlink,
    pin: &Path,
    link: &Link,
    (hook, mechanism): (Hook, Mechanism),
    node: NodeId,
) -> Result<bool, Error> {
    Ok(pin.exists()
        && match mechanism {
            Mechanism::Tcx => tcx::runs(pin, &link.name, hook),
            Mechanism::Clsact => {
                let filters = netlink.filters(link, hook.direction()).await?;
                filters.contains(&clsact::handle(node).into())
            }
        })
}

fn stub(ebpf: &mut Ebpf, hook: Hook) -> Result<&mut SchedClassifier, Error> {
    let program = ebpf.program_mut(hook.stub()).ok_or(Error::Part(hook.stub()))?;
    program.try_into().map_err(Error::program("take", hook.stub()))
}

/// Asks the kernel: a list of interfaces may be older than the newest of them, or lack one where others went away while
/// it was made.
fn is_gone(ifindex: u32) -> bool {
    // Where there is none, nix gives an empty name.
    !nix::net::if_::if_indextoname(ifindex).is_ok_and(|name| !name.is_empty())
}

/// Takes a stub off an interface and removes its pin. An interface that is gone took its stub along.
pub(crate) fn detach(
    pin: &Path,
    interface: Option<&str>,
    hook: Hook,
    mechanism: Mechanism,
    node: NodeId,
) -> Result<(), Error> {
    if let (Mechanism::Clsact, Some(interface)) = (mechanism, interface) {
        clsact::detach(interface, hook, node)?;
    }
    fs::remove_file(pin).map_err(Error::file("remove the pin", pin))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use membership::id::NodeId;
    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::kernel::Kernel;
    use crate::load::{Loaded, load};
    use crate::lower::Local;
    use crate::privileged::privileged;

    const BPFFS: &str = "/sys/fs/bpf";

    fn run(line: &str) -> String {
        let mut words = line.split(' ');
        let output = Command::new(words.next().expect("a program"))
            .args(words)
            .output()
            .expect("it runs");
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The stubs on `up0`, loaded and attached as a daemon does it that then dies.
    fn attach_all(node: NodeId, pins: &Pins, ifindex: u32) {
        let kernel = Kernel::probe().expect("a kernel that can");
        let local = Local {
            ipv4: None,
            ipv6: None,
            port: 4789,
            geneve_port: 6081,
            strict_vxlan: false,
        };
        let Loaded { maps, ebpf, .. } = load(pins, &kernel, local).expect("it loads");
        let mut stubs = Stubs {
            ebpf,
            node,
            pins: pins.clone(),
            mechanism: Mechanism::Clsact,
            programs: maps.programs_id,
            attached: BTreeSet::new(),
        };
        let link = Link {
            ifindex,
            name: "up0".into(),
            ..Link::default()
        };
        for hook in Hook::ENDPOINT {
            stubs.attach(&link, hook).expect("it attaches");
        }
    }

    fn in_a_namespace_of_its_own() {
        unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
        run("ip link add up0 type veth peer name up1");
        let ifindex = nix::net::if_::if_nametoindex("up0").expect("an index");
        let mut key = [0xc1; 32];
        key[..4].copy_from_slice(&std::process::id().to_ne_bytes());
        let node = NodeId::of_key(&key);
        let pins = Pins::new(Path::new(BPFFS), node);
        let neighbour = NodeId::of_key(&[key[0]; 32]);
        crate::bpffs::ensure_mounted(Path::new(BPFFS)).expect("a bpf file system");
        let each_has = |count| {
            for (direction, stub) in [("ingress", "stub_from_endpoint"), ("egress", "stub_to_endpoint")] {
                let filters = run(&format!("tc filter show dev up0 {direction}"));
                assert_eq!(filters.matches(stub).count(), count, "{filters}");
            }
        };

        for _ in 0..2 {
            attach_all(node, &pins, ifindex);
            each_has(1);
        }
        attach_all(neighbour, &Pins::new(Path::new(BPFFS), neighbour), ifindex);
        each_has(2);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime
            .block_on(crate::purge(Path::new(BPFFS), neighbour))
            .expect("purge the other node's");
        each_has(1);
        let lines = runtime.block_on(crate::purge(Path::new(BPFFS), node)).expect("purge");
        assert!(lines.iter().any(|line| line == "clsact on up0"), "{lines:?}");
        assert!(!run("tc qdisc show dev up0").contains("clsact"));
        assert!(!pins.node().exists());

        attach_all(node, &pins, ifindex);
        runtime.block_on(async {
            let netlink = Netlink::connect().expect("netlink");
            let links = netlink.links().await.expect("links");
            run("ip link del up0");
            crate::purge::purge_pins(&netlink, node, &pins, &links, &mut Vec::new())
                .await
                .expect("an interface that goes meanwhile is fine");
        });
        assert!(!pins.node().exists());
    }

    #[test]
    fn an_interface_that_is_not_there_is_gone() {
        let lo = nix::net::if_::if_nametoindex("lo").expect("a loopback interface");
        assert!(!is_gone(lo));
        assert!(is_gone(0x7fff_fff0));
    }

    #[test]
    fn filters_of_clsact_outlive_their_daemon_are_replaced_and_purged() {
        if privileged("filters_of_clsact_outlive_their_daemon_are_replaced_and_purged") {
            let thread = std::thread::spawn(in_a_namespace_of_its_own);
            thread.join().expect("the thread");
        }
    }
}
