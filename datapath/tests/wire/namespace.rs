//! Network namespaces that are gone when the test is over.

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

/// How long the kernel may take to notice a carrier, and between two looks.
const DEADLINE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(5);

/// A namespace of its own name.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    pub(crate) fn new(role: &str) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ebpf{}-{number}-{role}", std::process::id());
        ip(&["netns", "add", &name]);
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// Runs iproute2 in it.
    pub(crate) fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.name], arguments].concat());
    }

    /// Runs iproute2 in it; what it printed.
    pub(crate) fn output(&self, arguments: &[&str]) -> String {
        let output = Command::new("ip").args(["-n", &self.name]).args(arguments).output();
        String::from_utf8_lossy(&output.expect("iproute2 is installed").stdout).into_owned()
    }

    /// Runs on a thread of its own inside.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.name)).expect("the namespace exists");
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter it");
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Waits until the kernel sends by an interface that was set up: it takes note of a carrier in its own time, and drops
    /// until then. A tap that never had none is in a state that nobody knows.
    pub(crate) fn ready(&self, interface: &str) {
        let mut shown = String::new();
        for _ in 0..DEADLINE.as_millis() / STEP.as_millis() {
            shown = output(&["-n", &self.name, "-o", "link", "show", "dev", interface]);
            if ["state UP", "state UNKNOWN"].iter().any(|state| shown.contains(state)) && !is_veth_unknown(&shown) {
                return;
            }
            thread::park_timeout(STEP);
        }
        panic!("the kernel does not send by {interface} within {DEADLINE:?}: {shown}");
    }

    /// Index of an interface in it.
    pub(crate) fn ifindex(&self, interface: &str) -> u32 {
        self.run(|| nix::net::if_::if_nametoindex(interface).expect("the interface exists"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// A veth is named with its other end; it always has to wait for a carrier.
fn is_veth_unknown(shown: &str) -> bool {
    shown.contains("state UNKNOWN") && shown.contains('@')
}

/// Runs iproute2, which must succeed.
pub(crate) fn ip(arguments: &[&str]) {
    output(arguments);
}

/// Runs iproute2, which must succeed; what it printed.
fn output(arguments: &[&str]) -> String {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("iproute2 is installed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {error}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether these tests can run; says so, and insists where they must.
pub(crate) fn privileged() -> bool {
    let able = nix::unistd::geteuid().is_root() && Command::new("ip").arg("-V").output().is_ok();
    let must = ["CI", "FABRIC_REQUIRE_PRIVILEGED"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    assert!(able || !must, "wire tests need root and iproute2");
    if !able {
        eprintln!("SKIPPED: wire tests need root and iproute2");
    }
    able
}
