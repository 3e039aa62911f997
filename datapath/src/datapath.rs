//! The datapath of this host: opened once, then told what every domain wants (`apply`), and let to follow the kernel
//! (`follow`).

use std::collections::{BTreeMap, BTreeSet};

use datapath_common::punt::PUNT_INTERFACE;
use membership::id::NodeId;
use overlay::fact::Binding;
use overlay::forwarding::Forwarding;
use overlay::name::{DomainName, EndpointName};
use overlay::object::domain::{DefaultPolicy, Encapsulation};
use tokio::time::{Instant, Interval};
use tracing::{info, warn};

use crate::Config;
use crate::attach::Stubs;
use crate::audits::{AuditCount, Audited};
use crate::binding::{Surroundings, Waiting};
use crate::bpffs::{self, Pins};
use crate::chain::{Chains, Placed};
use crate::change::Here;
use crate::device::Devices;
use crate::diff::diff;
use crate::drops::{self, DropCount};
use crate::error::Error;
use crate::events::{Events, LINKS, NEIGHBOURS, ROUTES};
use crate::follow::looks;
use crate::fresh::Fresh;
use crate::hurry::Hurry;
use crate::installed::Installed;
use crate::kernel::Kernel;
use crate::links::{Owner, is_unfinished, owner_of};
use crate::load::{Loaded, load};
use crate::lost::Lost;
use crate::lower::Local;
use crate::maps::{Maps, set_others_aside};
use crate::netlink::{Link, Netlink};
use crate::numbers::{Name, Numbers};
use crate::port::KeptPorts;
use crate::punt::Punts;
use crate::selftest::Tests;
use crate::status::{self, Counted, Status};
use crate::succession::Succession;
use crate::sweep::Sweep;
use crate::uplink::Uplinks;
use crate::verify::Verify;
use crate::watch::Watch;

/// The programs and maps of this host, loaded and attached. Dropping it leaves all in force.
#[derive(Debug)]
pub struct Datapath {
    pub(crate) node: NodeId,
    pub(crate) local: Local,
    kernel: Kernel,
    pub(crate) stubs: Stubs,
    pub(crate) maps: Maps,
    /// What is in the maps.
    pub(crate) installed: Installed,
    /// An operation failed: what is installed has to be read again.
    pub(crate) unknown: bool,
    /// From what another build left in force to what this one applied.
    pub(crate) succession: Succession,
    pub(crate) numbers: Numbers,
    pub(crate) fresh: Fresh,
    pub(crate) audited: Audited,
    pub(crate) chains: Chains,
    pub(crate) placed: Placed,
    pub(crate) kept: BTreeMap<DomainName, KeptPorts>,
    /// The stations of this host, of every domain that is as it was applied last.
    pub(crate) here: BTreeMap<DomainName, Here>,
    pub(crate) netlink: Netlink,
    pub(crate) events: Events,
    /// Every interface, as it was seen last.
    pub(crate) links: BTreeMap<u32, Link>,
    pub(crate) underlay: BTreeSet<u32>,
    /// By which each tunnel may arrive.
    pub(crate) uplinks: Uplinks,
    pub(crate) devices: Devices,
    pub(crate) lost: Lost,
    pub(crate) tests: Tests,
    /// Tunnels that are installed are routed as the kernel says.
    pub(crate) follows: bool,
    pub(crate) watch: Watch,
    /// When to look at the namespaces of ports, at the stubs and at connections.
    pub(crate) looks: Interval,
    pub(crate) sweep: Sweep,
    pub(crate) verify: Verify,
    counted: Counted,
    /// What happened and is not dealt with; kept when `changed` is cancelled.
    pub(crate) pending: u8,
    /// When it can be dealt with: many changes come in bursts.
    pub(crate) settled: Instant,
    /// `changed` has something to tell.
    pub(crate) changed: bool,
}

impl Datapath {
    /// Loads the programs (or takes over what is pinned), reads back what is installed, ends all decisions that were made
    /// from it before, and attaches to the underlay interfaces. Call it, and all else, from a tokio runtime in the host's
    /// network namespace. What a build with other layouts left stays in force: apply every domain, then
    /// [`Datapath::take_over`].
    pub async fn open(config: Config) -> Result<Self, Error> {
        let kernel = Kernel::probe()?;
        if bpffs::ensure_mounted(&config.bpffs)? {
            info!(path = %config.bpffs.display(), "mounted a bpf file system");
        }
        let pins = Pins::new(&config.bpffs, config.node);
        Hurry::end_former(&pins);
        set_others_aside(&pins)?;
        let local = Local {
            ipv4: config.ipv4,
            ipv6: config.ipv6,
            port: config.port,
            geneve_port: config.geneve_port,
            strict_vxlan: config.strict_vxlan,
        };
        let Loaded { maps, ebpf, bank } = load(&pins, &kernel, local)?;
        let succession = Succession::begin(&pins, bank)?;
        let installed = Installed::new(maps.read()?);
        let mut datapath = Self {
            node: config.node,
            local,
            stubs: Stubs {
                ebpf,
                node: config.node,
                pins,
                mechanism: kernel.mechanism(),
                programs: maps.programs_id,
                attached: BTreeSet::new(),
            },
            kernel,
            numbers: maps.read_numbers()?,
            fresh: Fresh::above(installed.tables().highest_number()),
            maps,
            installed,
            unknown: false,
            succession,
            audited: Audited::default(),
            chains: Chains::default(),
            placed: Placed::default(),
            kept: BTreeMap::new(),
            here: BTreeMap::new(),
            netlink: Netlink::connect()?,
            events: Events::subscribe()?,
            links: BTreeMap::new(),
            underlay: BTreeSet::new(),
            uplinks: Uplinks::new(),
            devices: Devices::default(),
            lost: Lost::default(),
            tests: Tests::default(),
            follows: false,
            watch: Watch::default(),
            looks: looks(),
            sweep: Sweep::default(),
            verify: Verify::default(),
            counted: Counted::default(),
            pending: 0,
            settled: Instant::now(),
            changed: false,
        };
        datapath.tidy()?;
        for unfinished in datapath.netlink.links().await?.values() {
            if is_unfinished(unfinished, datapath.node) {
                datapath.netlink.delete(unfinished).await?;
            }
        }
        datapath.links = datapath.netlink.links().await?;
        datapath.succeed()?;
        datapath.keep_devices(true).await?;
        datapath.follow(LINKS | ROUTES | NEIGHBOURS).await?;
        Ok(datapath)
    }

    /// Removes all of a domain.
    pub async fn remove(&mut self, domain: &DomainName) -> Result<(), Error> {
        let nothing = Forwarding {
            domain: domain.clone(),
            default_policy: DefaultPolicy::Deny,
            encapsulation: Encapsulation::default(),
            networks: BTreeMap::new(),
            routers: BTreeMap::new(),
            rules: Vec::new(),
            ports: BTreeMap::new(),
            stations: BTreeMap::new(),
            hosts: BTreeMap::new(),
            conditions: BTreeMap::new(),
        };
        self.apply(&nothing).await.map(|_| ())
    }

    /// Whether an endpoint's interface or namespace can be used at this moment, without touching it: nothing if it can,
    /// or why not and what to do. What cannot would wait in `apply`. What comes back does not need the datapath: it can be
    /// awaited beside it.
    pub fn check(
        &self,
        domain: &DomainName,
        endpoint: &EndpointName,
        binding: &Binding,
    ) -> impl Future<Output = Result<Option<String>, Error>> + Send + use<> {
        let (node, underlay, binding) = (self.node, self.underlay.clone(), binding.clone());
        let name = Name {
            domain: domain.clone(),
            endpoint: Some(endpoint.clone()),
        };
        let own = self.numbers.number(&name);
        let mut taken = self.taken(0);
        taken.retain(|ifindex, _| {
            let port = self.installed.tables().ports.get(ifindex);
            port.map(|port| port.endpoint) != own
        });
        let (domain, endpoint) = (domain.clone(), endpoint.clone());
        async move {
            let netlink = Netlink::connect()?;
            let surroundings = Surroundings {
                links: &netlink.links().await?,
                addresses: netlink.addresses().await?,
                underlay: &underlay,
                taken,
            };
            let owner = Owner {
                node,
                domain: &domain,
                endpoint: &endpoint,
            };
            let checked = surroundings.check_inside(&netlink, owner, &binding).await;
            Ok(checked.err().map(|Waiting(text)| text))
        }
    }

    /// Domains of which something is installed, or has an interface; by name.
    #[must_use]
    pub fn domains(&self) -> Vec<DomainName> {
        let tables = self.installed.tables();
        let segments = tables.segments.values().map(|segment| segment.domain);
        let numbers: BTreeSet<u32> = segments.chain(tables.ports.values().map(|port| port.domain)).collect();
        let installed = numbers.iter().filter_map(|number| self.numbers.name(*number));
        let owners = self.links.values().filter_map(|link| owner_of(link, self.node));
        let domains = installed.map(|name| name.domain.clone());
        domains
            .chain(owners.map(|(domain, _)| domain))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// The way of packets to user space and back, until it is dropped.
    pub fn punts(&mut self) -> Result<Punts, Error> {
        Punts::open(&mut self.stubs.ebpf, PUNT_INTERFACE)
    }

    /// The drop counters, summed over CPUs; and what the kernel dropped on our interfaces, about a second old.
    pub fn drops(&self) -> Result<Vec<DropCount>, Error> {
        let counts = self.maps.drops()?;
        Ok(counts
            .into_iter()
            .chain(self.lost.counts())
            .map(|(key, count)| drops::named(key, count, &self.numbers))
            .collect())
    }

    /// What the audit rules counted of the domains that were applied since `open`, summed over CPUs. The counters of a
    /// domain's direction start from zero when its rules change.
    pub fn audits(&self) -> Result<Vec<AuditCount>, Error> {
        let counts = self.maps.audits()?;
        Ok(self.audited.named(&counts, &self.numbers, self.installed.tables()))
    }

    /// What runs.
    #[must_use]
    pub fn status(&self) -> Status {
        let hooks = status::hooks(&self.stubs.pins, &self.links)
            .inspect_err(|error| warn!(error = error.words(), "cannot read what is attached"))
            .unwrap_or_default();
        let counts = self
            .counted
            .counts(&self.maps, Instant::now())
            .inspect_err(|error| warn!(error = error.words(), "cannot count connections"))
            .unwrap_or_default();
        let underlay = self.underlay.iter().filter_map(|ifindex| self.links.get(ifindex));
        Status {
            kernel: self.kernel.release.clone(),
            hooks,
            fallbacks: self.kernel.fallbacks(),
            underlay: underlay.map(|link| (link.name.clone(), link.mtu)).collect(),
            devices: self.devices.status(),
            self_test: self.tests.status(),
            counts,
            waits: self.waits(),
        }
    }

    /// Removes what nothing refers to or nobody knows; and a daemon may have died between a change and its bump.
    fn tidy(&mut self) -> Result<(), Error> {
        let sound = self.installed.tables().sound(&self.numbers);
        let operations = diff(self.installed.tables(), &sound);
        self.obey(&operations)?;
        self.maps.bump_all()?;
        self.find_functions()?;
        self.maps.forget_traffic(|domain| self.numbers.name(domain).is_none())?;
        let sets: BTreeSet<u32> = sound.rules.keys().map(|key| key.set).collect();
        self.maps.forget_audits_but(&sets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A daemon awaits these on whatever thread its runtime has.
    #[test]
    fn a_datapath_can_be_used_from_a_task() {
        fn sendable<T: Send>(_: fn(&'static mut Datapath, &'static Forwarding) -> T) {}
        sendable(|datapath, wanted| datapath.apply(wanted));
        sendable(|datapath, _| datapath.changed());
        sendable(|datapath, wanted| datapath.remove(&wanted.domain));
        sendable(|_, _| {
            Datapath::open(Config {
                bpffs: "/".into(),
                node: NodeId::of_key(&[1; 32]),
                ipv4: None,
                ipv6: None,
                port: 1,
                geneve_port: 2,
                strict_vxlan: false,
            })
        });
        sendable(|_, _| crate::purge("/".as_ref(), NodeId::of_key(&[1; 32])));
    }
}
