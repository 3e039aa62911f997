//! Network namespaces with names of their own, which go with their `Namespace`, and what runs in them.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

/// How long a condition may take to come true.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Whether the test can run; says so, or fails where it must.
pub(crate) fn privileged(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    let required = ["CI", "FABRIC_REQUIRE_PRIVILEGED"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    assert!(!required, "{test} needs root, and privileged tests are required here");
    eprintln!("SKIPPED {test}: it needs root");
    false
}

/// A number that no other test of this machine has at the same time.
pub(crate) fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs a program to its end.
pub(crate) fn run(line: &str) -> Output {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a program");
    Command::new(program)
        .args(words)
        .output()
        .unwrap_or_else(|e| panic!("{line}: {e}"))
}

/// Runs a program that must succeed; what it printed.
pub(crate) fn must(line: &str) -> String {
    let output = run(line);
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until a condition is true.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "a test's deadline")]
    let now = Instant::now;
    let end = now() + DEADLINE;
    while !condition() {
        assert!(now() < end, "{what}: not within {DEADLINE:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A network namespace of a test.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) name: String,
    /// Somebody else removes it.
    is_guest: bool,
}

impl Namespace {
    pub(crate) fn new(role: &str) -> Self {
        Self::named(format!("host{}-{role}", unique()))
    }

    /// One that takes the place of another that was.
    pub(crate) fn named(name: String) -> Self {
        let namespace = Self { name, is_guest: false };
        must(&format!("ip netns add {}", namespace.name));
        namespace
    }

    /// One that somebody else made and removes.
    pub(crate) fn of_another(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            is_guest: true,
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs a program inside.
    pub(crate) fn run(&self, line: &str) -> Output {
        run(&self.inside(line))
    }

    /// Runs a program inside that must succeed.
    pub(crate) fn must(&self, line: &str) -> String {
        must(&self.inside(line))
    }

    /// Runs a program inside that must succeed with this for its input.
    pub(crate) fn feeds(&self, line: &str, input: &str) {
        let line = self.inside(line);
        let mut words = line.split_whitespace();
        let child = Command::new(words.next().expect("a program"))
            .args(words)
            .stdin(Stdio::piped())
            .spawn();
        let mut child = child.unwrap_or_else(|e| panic!("{line}: {e}"));
        let fed = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
        let status = child.wait().expect("it ends");
        assert!(status.success() && fed.is_ok(), "{line}: {status} {fed:?}");
    }

    pub(crate) fn inside(&self, line: &str) -> String {
        format!("nsenter --net=/run/netns/{} {line}", self.name)
    }

    /// One echo request to an address and its answer, of `size` bytes of payload.
    pub(crate) fn pings(&self, to: &str, size: u16) -> bool {
        self.run(&format!("ping -n -c 1 -W 3 -s {size} {to}")).status.success()
    }

    /// How often it sent a SYN again.
    pub(crate) fn syns_sent_again(&self) -> u64 {
        self.counter("netstat", "TcpExt:", "TCPSynRetrans")
    }

    /// How often it sent a TCP segment again.
    pub(crate) fn segments_sent_again(&self) -> u64 {
        self.counter("snmp", "Tcp:", "RetransSegs")
    }

    /// A counter of a file in `/proc/net`: a row of names and one of values, both with the same first word.
    fn counter(&self, file: &str, row: &str, name: &str) -> u64 {
        let text = self.must(&format!("cat /proc/net/{file}"));
        let mut rows = text
            .lines()
            .filter(|line| line.starts_with(row))
            .map(str::split_whitespace);
        let (names, values) = (rows.next().expect("names"), rows.next().expect("values"));
        let mut pairs = names.zip(values);
        let (_, value) = pairs.find(|(found, _)| *found == name).expect("the counter");
        value.parse().expect("a number")
    }

    pub(crate) fn has_link(&self, name: &str) -> bool {
        self.run(&format!("ip link show {name}")).status.success()
    }

    /// A thread with a runtime in this namespace.
    pub(crate) fn thread<T: Send + 'static>(&self, work: impl AsyncFnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let file = std::fs::File::open(self.path()).expect("the namespace is there");
        std::thread::spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(work())
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.is_guest {
            run(&format!("ip netns del {}", self.name));
        }
    }
}
