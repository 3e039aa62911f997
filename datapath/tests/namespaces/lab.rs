//! Hosts to test with: a namespace and a datapath in it.

use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;

use aya::programs::{SchedClassifier, TcAttachType};
use datapath::{Applied, AuditCount, Config, Datapath, DropCount, Error, PortState, Status};
use membership::id::NodeId;
use overlay::fact::{Binding, Vtep};
use overlay::forwarding::{Change, Forwarding};
use overlay::name::{DomainName, EndpointName};

use crate::namespace::{Namespace, eventually, must, unique};
use crate::wanted::label;

pub(crate) const BPFFS: &str = "/sys/fs/bpf";
const VXLAN: u16 = 4789;
const GENEVE: u16 = 6081;

/// What a daemon is told.
enum Order {
    Apply(Box<Forwarding>, mpsc::Sender<Result<Applied, Error>>),
    Change(Box<Change>, mpsc::Sender<Result<Applied, Error>>),
    Remove(DomainName, mpsc::Sender<Result<(), Error>>),
    Drops(mpsc::Sender<Vec<DropCount>>),
    Status(mpsc::Sender<Status>),
    Verify(mpsc::Sender<Vec<&'static str>>),
    TakeOver(mpsc::Sender<Result<(), Error>>),
    Audits(mpsc::Sender<Vec<AuditCount>>),
    Check(DomainName, EndpointName, Binding, mpsc::Sender<Option<String>>),
    Domains(mpsc::Sender<Vec<DomainName>>),
    /// How often `changed` resolved.
    Changes(mpsc::Sender<usize>),
    /// Anything else.
    With(Box<dyn FnOnce(&mut Datapath) + Send>),
}

/// A host: its namespace and, while it is open, its datapath on a thread of its own.
pub(crate) struct Host {
    pub(crate) namespace: Namespace,
    pub(crate) node: NodeId,
    pub(crate) ipv4: Option<[u8; 4]>,
    pub(crate) ipv6: Option<Ipv6Addr>,
    /// UDP port of VXLAN.
    pub(crate) port: u16,
    daemon: Option<(tokio::sync::mpsc::UnboundedSender<Order>, JoinHandle<()>)>,
}

impl Host {
    /// A host with tunnel addresses, on no underlay yet, its datapath not open.
    pub(crate) fn new(number: u8, ipv4: bool, ipv6: bool) -> Self {
        let namespace = Namespace::new(&format!("h{number}"));
        namespace.must("ip link set lo up");
        let mut key = [number; 32];
        key.iter_mut()
            .zip(namespace.name.bytes())
            .for_each(|(byte, name)| *byte ^= name);
        key[31] = u8::try_from(unique().len()).expect("short");
        Self {
            node: NodeId::of_key(&key),
            ipv4: ipv4.then_some([192, 0, 2, number]),
            ipv6: ipv6.then(|| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into())),
            namespace,
            port: VXLAN,
            daemon: None,
        }
    }

    /// A host of another process, or another node in the namespace of a host.
    pub(crate) fn beside(namespace: &str, node: NodeId, number: u8) -> Self {
        Self {
            namespace: Namespace::of_another(namespace),
            node,
            ipv4: Some([192, 0, 2, number]),
            ipv6: None,
            port: VXLAN,
            daemon: None,
        }
    }

    pub(crate) fn vtep(&self) -> Vtep {
        Vtep {
            ipv4: self.ipv4.map(Into::into),
            ipv6: self.ipv6,
            port: self.port,
            underlay_mtu: 1500,
        }
    }

    fn config(&self) -> Config {
        Config {
            bpffs: BPFFS.into(),
            node: self.node,
            ipv4: self.ipv4.map(Into::into),
            ipv6: self.ipv6,
            port: self.port,
            geneve_port: GENEVE,
            strict_vxlan: false,
        }
    }

    /// Starts the daemon.
    pub(crate) fn open(&mut self) {
        let (orders, mut inbox) = tokio::sync::mpsc::unbounded_channel();
        let (opened, is_open) = mpsc::channel();
        let config = self.config();
        let thread = self.namespace.thread(async move || {
            let mut datapath = match Datapath::open(config).await {
                Ok(datapath) => datapath,
                Err(e) => return opened.send(Err(e)).expect("the test waits"),
            };
            opened.send(Ok(())).expect("the test waits");
            let mut changes = 0;
            loop {
                let order = tokio::select! {
                    order = inbox.recv() => order,
                    () = datapath.noticed() => {
                        changes += usize::from(datapath.follow_up().await);
                        continue;
                    }
                };
                match order {
                    None => return,
                    Some(Order::Apply(wanted, reply)) => drop(reply.send(datapath.apply(&wanted).await)),
                    Some(Order::Change(change, reply)) => drop(reply.send(datapath.apply_change(&change).await)),
                    Some(Order::Remove(domain, reply)) => drop(reply.send(datapath.remove(&domain).await)),
                    Some(Order::Drops(reply)) => drop(reply.send(datapath.drops().expect("the counters"))),
                    Some(Order::Status(reply)) => drop(reply.send(datapath.status())),
                    Some(Order::Verify(reply)) => drop(reply.send(datapath.verify().expect("the tables"))),
                    Some(Order::TakeOver(reply)) => drop(reply.send(datapath.take_over())),
                    Some(Order::Audits(reply)) => drop(reply.send(datapath.audits().expect("the counters"))),
                    Some(Order::Check(domain, endpoint, binding, reply)) => {
                        let told = datapath.check(&domain, &endpoint, &binding).await;
                        drop(reply.send(told.expect("the kernel tells")));
                    }
                    Some(Order::Domains(reply)) => drop(reply.send(datapath.domains())),
                    Some(Order::Changes(reply)) => drop(reply.send(changes)),
                    Some(Order::With(work)) => work(&mut datapath),
                }
            }
        });
        is_open
            .recv()
            .expect("the daemon runs")
            .unwrap_or_else(|e| panic!("the datapath does not open: {e}: {e:?}"));
        self.daemon = Some((orders, thread));
    }

    fn ask<T>(&self, order: impl FnOnce(mpsc::Sender<T>) -> Order) -> T {
        let (reply, answer) = mpsc::channel();
        let (orders, _) = self.daemon.as_ref().expect("the datapath is open");
        assert!(orders.send(order(reply)).is_ok(), "the daemon ended");
        answer.recv().expect("the daemon answers")
    }

    /// Has the daemon do something with its datapath.
    pub(crate) fn with<T: Send + 'static>(&self, work: impl FnOnce(&mut Datapath) -> T + Send + 'static) -> T {
        let work = |reply: mpsc::Sender<T>| Order::With(Box::new(move |datapath| drop(reply.send(work(datapath)))));
        self.ask(work)
    }

    pub(crate) fn apply(&self, wanted: &Forwarding) -> Applied {
        self.try_apply(wanted).unwrap_or_else(|e| panic!("apply: {e}"))
    }

    pub(crate) fn try_apply(&self, wanted: &Forwarding) -> Result<Applied, Error> {
        self.ask(|reply| Order::Apply(Box::new(wanted.clone()), reply))
    }

    /// Applies what is not needed behind it.
    pub(crate) fn apply_once(&self, wanted: Forwarding) -> Applied {
        let applied = self.ask(|reply| Order::Apply(Box::new(wanted), reply));
        applied.unwrap_or_else(|e| panic!("apply: {e}"))
    }

    pub(crate) fn change(&self, change: &Change) -> Applied {
        let changed = self.ask(|reply| Order::Change(Box::new(change.clone()), reply));
        changed.unwrap_or_else(|e| panic!("change: {e}"))
    }

    /// Applies, and every port has to be programmed.
    pub(crate) fn program(&self, wanted: &Forwarding) -> Applied {
        let applied = self.apply(wanted);
        for (endpoint, state) in &applied.ports {
            assert!(matches!(state, PortState::Programmed { .. }), "{endpoint}: {state:?}");
        }
        applied
    }

    pub(crate) fn remove(&self, domain: &str) {
        self.ask(|reply| Order::Remove(label(domain), reply)).expect("remove");
    }

    pub(crate) fn drops(&self) -> Vec<DropCount> {
        self.ask(Order::Drops)
    }

    pub(crate) fn status(&self) -> Status {
        self.ask(Order::Status)
    }

    /// Tables in which somebody else wrote.
    pub(crate) fn verify(&self) -> Vec<&'static str> {
        self.ask(Order::Verify)
    }

    /// Every domain was applied.
    pub(crate) fn take_over(&self) {
        self.ask(Order::TakeOver).unwrap_or_else(|e| panic!("take over: {e}"));
    }

    pub(crate) fn audits(&self) -> Vec<AuditCount> {
        self.ask(Order::Audits)
    }

    pub(crate) fn check(&self, domain: &str, endpoint: &str, binding: Binding) -> Option<String> {
        self.ask(|reply| Order::Check(label(domain), label(endpoint), binding, reply))
    }

    pub(crate) fn domains(&self) -> Vec<String> {
        self.ask(Order::Domains).iter().map(ToString::to_string).collect()
    }

    pub(crate) fn changes(&self) -> usize {
        self.ask(Order::Changes)
    }

    /// Ends the daemon as a kill would: nothing is told to the kernel.
    pub(crate) fn kill(&mut self) {
        if let Some((orders, thread)) = self.daemon.take() {
            drop(orders);
            thread.join().expect("the daemon's thread");
        }
    }

    pub(crate) fn purge(&self) -> Vec<String> {
        let node = self.node;
        let purged = self
            .namespace
            .thread(async move || datapath::purge(BPFFS.as_ref(), node).await);
        purged
            .join()
            .expect("the thread")
            .unwrap_or_else(|e| panic!("purge: {e}: {e:?}"))
    }

    /// Names of the programs on an interface, as the kernel shortens them: ingress, then egress. Of tcx, then of clsact.
    pub(crate) fn programs(&self, interface: &str) -> Vec<String> {
        let name = interface.to_owned();
        let directions = [TcAttachType::Ingress, TcAttachType::Egress];
        let listed = self.namespace.thread(async move || {
            // A kernel without tcx has nothing to list.
            let lists = directions.map(|direction| SchedClassifier::query_tcx(&name, direction).ok());
            let programs = lists.into_iter().flatten().flat_map(|(_, programs)| programs);
            programs
                .filter_map(|program| program.name_as_str().map(str::to_owned))
                .collect()
        });
        let mut listed: Vec<String> = listed.join().expect("the thread");
        let shown = ["ingress", "egress"].map(|direction| {
            self.namespace
                .must(&format!("tc filter show dev {interface} {direction}"))
        });
        let words: Vec<_> = shown.iter().flat_map(|text| text.split_whitespace()).collect();
        let filters = words.windows(2).filter(|pair| pair[1] == "direct-action");
        listed.extend(filters.map(|pair| pair[0].chars().take(15).collect()));
        listed
    }

    /// Takes our stubs off an interface behind the daemon's back.
    pub(crate) fn strip(&self, interface: &str) {
        self.namespace.run(&format!("tc qdisc del dev {interface} clsact"));
        std::fs::remove_dir_all(self.pins().join("hooks")).expect("pins can be removed");
    }

    /// Names of the folders of its pins.
    pub(crate) fn folders(&self) -> Vec<String> {
        let folders = std::fs::read_dir(self.pins()).expect("pins");
        let mut names: Vec<_> = folders
            .map(|folder| folder.expect("a folder").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// The name of the folder of its tables.
    pub(crate) fn tables(&self) -> String {
        let found = self.folders().into_iter().rfind(|name| name.starts_with('v'));
        found.expect("there are tables")
    }

    /// Makes its tables those of another build, as if that had ended.
    pub(crate) fn to_another_build(&self) {
        let tables = self.pins().join(self.tables());
        std::fs::rename(tables, self.pins().join("v0")).expect("pins can be renamed");
    }

    pub(crate) fn pins(&self) -> PathBuf {
        PathBuf::from(BPFFS).join("fabric").join(self.node.as_str())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
        if !std::thread::panicking() {
            self.purge();
        } else if self.pins().exists() {
            let node = self.node;
            let _ = self
                .namespace
                .thread(async move || datapath::purge(BPFFS.as_ref(), node).await)
                .join();
        }
    }
}

/// Two hosts on one underlay of MTU 1500, open.
pub(crate) fn two_hosts(ipv4: bool, ipv6: bool) -> (Host, Host) {
    let (mut a, mut b) = (Host::new(1, ipv4, ipv6), Host::new(2, ipv4, ipv6));
    let (first, second) = (&a.namespace.name, &b.namespace.name);
    must(&format!(
        "ip link add up0 mtu 1500 netns {first} type veth peer name up0 mtu 1500 netns {second}"
    ));
    for host in [&mut a, &mut b] {
        if let Some([x, y, z, last]) = host.ipv4 {
            host.namespace
                .must(&format!("ip addr add {x}.{y}.{z}.{last}/24 dev up0"));
        }
        if let Some(v6) = host.ipv6 {
            host.namespace.must(&format!("ip addr add {v6}/64 dev up0 nodad"));
        }
        host.namespace.must("ip link set up0 up");
    }
    for host in [&mut a, &mut b] {
        // The kernel may take a second until it sends by a link that came up, and more until it has an address with which
        // to ask for neighbours.
        let is_up = || {
            let shown = host.namespace.must("ip addr show up0");
            shown.contains("state UP") && !shown.contains("tentative")
        };
        eventually("the underlay is up", is_up);
        host.open();
    }
    (a, b)
}

/// Packets counted under a reason.
pub(crate) fn dropped(host: &Host, reason: &str) -> u64 {
    host.drops()
        .iter()
        .filter(|line| line.reason == reason)
        .map(|line| line.packets)
        .sum()
}
