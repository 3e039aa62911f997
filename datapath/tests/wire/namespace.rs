//! Network namespaces that are gone when the test is over.

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

/// How long a condition may take to come true.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A namespace of its own name.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    pub(crate) fn new(role: &str) -> Self {
        let name = unique(role);
        ip(&["netns", "add", &name]);
        let namespace = Self { name };
        // Addresses are known to be nobody else's; waiting to find that out takes seconds.
        for which in ["all", "default"] {
            namespace.set(&format!("net/ipv6/conf/{which}/accept_dad"), "0");
        }
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// Runs iproute2 in it.
    pub(crate) fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.name], arguments].concat());
    }

    /// A program that will run in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program);
        command
    }

    /// Runs a program in it that must succeed; what it prints.
    pub(crate) fn must(&self, program: &str, arguments: &[&str]) -> String {
        must(self.command(program).args(arguments))
    }

    /// Sets a kernel parameter of it, by its path below `/proc/sys`.
    pub(crate) fn set(&self, parameter: &str, value: &str) {
        self.run(|| {
            std::fs::write(format!("/proc/sys/{parameter}"), value)
                .unwrap_or_else(|error| panic!("{parameter}: {error}"));
        });
    }

    /// Waits until the kernel sends by an interface that was set up: it takes note of a carrier in its own time, and drops
    /// until then. A tap that never had none is in a state that nobody knows; a veth, named with its other end, waits.
    pub(crate) fn ready(&self, interface: &str) {
        eventually(&format!("{interface} is ready"), || {
            let shown = self.must("ip", &["-o", "link", "show", "dev", interface]);
            shown.contains("state UP") || shown.contains("state UNKNOWN") && !shown.contains('@')
        });
    }

    /// Switches offloads of an interface, as `ethtool -K` has it.
    pub(crate) fn offload(&self, interface: &str, switches: &[&str]) {
        self.must("ethtool", &[&["-K", interface], switches].concat());
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

/// A name that nobody else on this machine uses at the same time.
pub(crate) fn unique(role: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("ebpf{}-{number}-{role}", std::process::id())
}

/// Runs iproute2, which must succeed.
pub(crate) fn ip(arguments: &[&str]) {
    must(Command::new("ip").args(arguments));
}

/// Runs a program that must succeed; what it prints.
pub(crate) fn must(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until a condition is true.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "a test's deadline")]
    let now = Instant::now;
    let end = now() + DEADLINE;
    while !condition() {
        assert!(now() < end, "{what}: not within {DEADLINE:?}");
        thread::park_timeout(Duration::from_millis(10));
    }
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
