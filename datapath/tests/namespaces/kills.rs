//! SIGKILL at any moment of an apply.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use datapath::PortState;
use membership::id::NodeId;
use overlay::forwarding::{Action, Direction, Forwarding, Protocol};
use overlay::object::domain::DefaultPolicy;

use crate::lab::{Host, two_hosts};
use crate::namespace::{Namespace, eventually, privileged};
use crate::wanted::{Workload, domain, rule};

/// Where a child process finds what to do: namespaces of the hosts and workloads, node ids of the hosts.
const TASK: &str = "FABRIC_TEST_APPLY";
const KILLS: u64 = 30;

fn workloads(a: &Host, b: &Host, [web, db, far]: [&Namespace; 3]) -> [Workload; 3] {
    [
        Workload::in_namespace("web", 1, a, web),
        Workload::in_namespace("far", 3, b, far),
        Workload::in_namespace("db", 2, a, db),
    ]
}

/// The process that is killed: it opens and applies for ever. Without a task, in an ordinary run, it has nothing to do.
#[test]
fn process_that_applies_for_ever() {
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
    let namespaces = [word(), word(), word()].map(Namespace::of_another);
    a.open();
    let [web, far, db] = &workloads(&a, &b, namespaces.each_ref());
    let [all, some] = [&[web, far, db][..], &[web, far]].map(|some| domain("red", 100, some, &a, &[&b]));
    let allow = |direction| rule("allow", direction, Protocol::Any, Action::Allow);
    let ruled = Forwarding {
        default_policy: DefaultPolicy::Deny,
        rules: vec![allow(Direction::Ingress), allow(Direction::Egress)],
        ..some.clone()
    };
    let wanted = [all, some, ruled];
    loop {
        for one in &wanted {
            a.program(one);
        }
    }
}

fn start(a: &Host, b: &Host, namespaces: [&Namespace; 3]) -> Child {
    let [web, db, far] = namespaces.map(|namespace| namespace.name.as_str());
    let task = format!(
        "{} {} {} {} {web} {db} {far}",
        a.namespace.name, a.node, b.namespace.name, b.node
    );
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "kills::process_that_applies_for_ever", "--nocapture"])
        .env(TASK, task)
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts")
}

#[test]
fn an_apply_that_is_killed_at_any_moment_leaves_nothing_wrong() {
    if !privileged("an_apply_that_is_killed_at_any_moment_leaves_nothing_wrong") {
        return;
    }
    let (mut a, b) = two_hosts(true, false);
    let (web, db, far) = (Namespace::new("web"), Namespace::new("db"), Namespace::new("far"));
    let of_all = workloads(&a, &b, [&web, &db, &far]);
    let all = domain("red", 100, &of_all.each_ref(), &a, &[&b]);
    a.program(&all);
    b.program(&domain("red", 100, &of_all.each_ref(), &b, &[&a]));
    assert!(web.pings("10.0.0.3", 56));
    a.kill();
    for round in 0..KILLS {
        let mut process = start(&a, &b, [&web, &db, &far]);
        // From before it opened to after some rounds of applying.
        std::thread::park_timeout(Duration::from_millis(20 + 37 * round));
        process.kill().expect("it runs");
        let status = process.wait().expect("it ended");
        assert_eq!(status.code(), None, "it ended by itself");
        assert_eq!(a.programs("up0"), ["stub_from_under"], "round {round}");
        assert!(web.pings("10.0.0.3", 56), "round {round}: web was always wanted");
    }
    a.open();
    let applied = a.program(&all);
    for (from, to) in [
        (&web, "10.0.0.2"),
        (&db, "10.0.0.3"),
        (&far, "10.0.0.2"),
        (&far, "fd00::1"),
    ] {
        eventually("all reach each other", || from.pings(to, 56));
    }
    for state in applied.ports.values() {
        let PortState::Programmed { name, .. } = state else {
            panic!("{applied:?}")
        };
        assert_eq!(a.programs(name), ["stub_from_endpo", "stub_to_endpoin"], "each once");
    }
    eventually("nothing is left to do", || a.program(&all).operations == 0);
    a.kill();
    a.purge();
    let links = a.namespace.must("ip -o link show");
    assert_eq!(links.lines().count(), 2, "lo and up0: {links}");
    assert_eq!(a.programs("up0"), Vec::<String>::new());
    assert!(!a.pins().exists());
}
