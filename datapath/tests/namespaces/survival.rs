//! Forwarding goes on while daemons die, start and are replaced, under ten thousand flows: no datagram is lost, no
//! connection breaks, and nothing is sent again that is not without all that.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use membership::id::NodeId;
use overlay::forwarding::{Action, Direction, Forwarding, Protocol};
use overlay::object::domain::DefaultPolicy;

use crate::lab::{Host, two_hosts};
use crate::load::{FLOWS, Load};
use crate::namespace::{Namespace, privileged};
use crate::wanted::{Workload, domain, rule};

/// Where a child process finds what to do: namespaces of the hosts and workloads, node ids of the hosts.
const TASK: &str = "FABRIC_TEST_DAEMON";
/// What it says when it is done.
const IN_FORCE: &str = "all is in force";
/// Maps of connections, whose layout a build may change.
const CONNECTIONS: [&str; 5] = ["CONNECTIONS", "HALF_OPEN", "CROWDED", "ESTABLISHED", "FRAGMENTS"];

/// A domain in which only who is asked may answer: without its connections, an answer is refused.
fn stateful(host: &Host, other: &Host, web: &Namespace, far: &Namespace) -> Forwarding {
    let (a, b) = if host.ipv4 < other.ipv4 {
        (host, other)
    } else {
        (other, host)
    };
    let workloads = [
        &Workload::in_namespace("web", 1, a, web),
        &Workload::in_namespace("far", 3, b, far),
    ];
    let allow = |direction, protocol| rule("allow", direction, protocol, Action::Allow);
    let (udp, tcp) = (Protocol::Udp(9000..=9100), Protocol::Tcp(8000..=8000));
    let directions = [Direction::Egress, Direction::Ingress];
    let rules = directions.map(|direction| [allow(direction, udp.clone()), allow(direction, tcp.clone())]);
    Forwarding {
        default_policy: DefaultPolicy::Deny,
        rules: rules.concat(),
        ..domain("red", 100, &workloads, host, &[other])
    }
}

/// The daemon that is killed: a process of its own. Without a task, in an ordinary run, it has nothing to do.
#[test]
fn process_that_brings_into_force_and_waits() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let mut words = task.split(' ');
    let mut word = || words.next().expect("a word");
    let mut host = |number| {
        let (namespace, node) = (word(), word());
        Host::beside(namespace, node.parse::<NodeId>().expect("a node id"), number)
    };
    let (mut a, b) = (host(1), host(2));
    let [web, far] = [word(), word()].map(Namespace::of_another);
    a.open();
    a.program(&stateful(&a, &b, &web, &far));
    a.take_over();
    eprintln!("{IN_FORCE}");
    loop {
        std::thread::park();
    }
}

fn start(a: &Host, b: &Host, web: &Namespace, far: &Namespace) -> Child {
    let task = format!(
        "{} {} {} {} {} {}",
        a.namespace.name, a.node, b.namespace.name, b.node, web.name, far.name
    );
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args([
            "--exact",
            "survival::process_that_brings_into_force_and_waits",
            "--nocapture",
        ])
        .env(TASK, task)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let said = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let mut lines = said.map_while(Result::ok);
    assert!(lines.any(|line| line.contains(IN_FORCE)), "the daemon ended");
    child
}

#[test]
fn ten_thousand_flows_outlive_kill_stop_start_and_upgrade() {
    if !privileged("ten_thousand_flows_outlive_kill_stop_start_and_upgrade") {
        return;
    }
    let (mut a, b) = two_hosts(true, false);
    let (web, far) = (Namespace::new("web"), Namespace::new("far"));
    let wanted = stateful(&a, &b, &web, &far);
    b.program(&stateful(&b, &a, &web, &far));
    a.program(&wanted);
    let load = Load::start(&web, &far, [10, 0, 0, 3]);
    assert!(a.status().counts.connections >= FLOWS, "{:?}", a.status().counts);
    let sent_again = || web.segments_sent_again() + far.segments_sent_again();
    let mut last = sent_again();
    let mut since = |load: &Load, what: &str| {
        load.goes_on(what);
        let now = sent_again();
        let again = now - last;
        last = now;
        again
    };
    let baseline = (0..3).map(|_| since(&load, "undisturbed")).max().unwrap_or_default();
    let most = |again: u64, what: &str| assert!(again <= baseline, "{what}: {again} sent again, {baseline} without");

    a.kill();
    most(since(&load, "stopped"), "stopped");
    let mut daemon = start(&a, &b, &web, &far);
    most(since(&load, "started"), "started");
    daemon.kill().expect("it runs");
    daemon.wait().expect("it ended");
    most(since(&load, "killed"), "killed");

    // As a build with other tables left it, and one with other connections as well.
    let tables = a.tables();
    for carried in [&[][..], &CONNECTIONS] {
        let former = a.pins().join("former");
        a.to_another_build();
        if !carried.is_empty() {
            std::fs::create_dir(&former).expect("a folder");
        }
        for map in carried {
            std::fs::rename(a.pins().join("state").join(map), former.join(map)).expect("pins can be renamed");
        }
        a.open();
        most(since(&load, "opened by another build"), "opened by another build");
        a.program(&wanted);
        most(since(&load, "applied by another build"), "applied by another build");
        a.take_over();
        most(
            since(&load, "taken over by another build"),
            "taken over by another build",
        );
        assert_eq!(a.folders(), ["hooks", "qdiscs", "state", &tables]);
        assert!(a.status().counts.connections >= FLOWS, "{:?}", a.status().counts);
        assert_eq!(a.program(&wanted).operations, 0, "all is in force");
        a.kill();
    }
    assert_eq!(load.lost(), (0, 0));
}
