//! A port that is said to be programmed is ready, also where the kernel is busy with other interfaces.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::lab::two_hosts;
use crate::namespace::{Namespace, privileged};
use crate::wanted::{Workload, domain};

const ROUNDS: u8 = 50;
const PAIRS: u32 = 150;

/// Interfaces and namespaces that come and go until this is dropped: more of them at once than the kernel takes note of
/// in one go (100 in Linux 6.18), so that the rest has to wait for up to a second.
struct Bustle {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bustle {
    fn new() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                let one = Namespace::new("busy");
                let pairs: String = (0..PAIRS)
                    .map(|n| format!("link add a{n} up type veth peer name b{n}\nlink set b{n} up\n"))
                    .collect();
                one.feeds("ip -batch -", &pairs);
            }
        });
        Self {
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for Bustle {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // What it panicked of, it printed.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// One connection that is opened at once.
fn connects(from: &Namespace, to: &Namespace, address: &'static str) {
    let address: SocketAddr = address.parse().expect("an address");
    let listener = to.thread(async move || TcpListener::bind(address).expect("bind"));
    let listener = listener.join().expect("the thread");
    let stream = from.thread(async move || TcpStream::connect(address).expect("connect"));
    drop(stream.join().expect("the thread"));
    drop(listener);
}

#[test]
fn the_first_syn_after_attach_is_answered() {
    if !privileged("the_first_syn_after_attach_is_answered") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let far = Namespace::new("far");
    let peer = Workload::in_namespace("far", 3, &b, &far);
    let _bustle = Bustle::new();
    for round in 0..ROUNDS {
        let web = Namespace::new("web");
        let workloads = [&Workload::in_namespace("web", 1, &a, &web), &peer];
        b.program(&domain("red", 100, &workloads, &b, &[&a]));
        a.program(&domain("red", 100, &workloads, &a, &[&b]));
        connects(&web, &far, "10.0.0.3:80");
        let again = [web.syns_sent_again(), web.segments_sent_again()];
        assert_eq!(again, [0, 0], "round {round}: {:?} {:?}", a.drops(), b.drops());
        a.program(&domain("red", 100, &workloads[1..], &a, &[&b]));
    }
}
