//! The one task that owns the datapath: whatever changes, it reads the view of a domain again, compiles it and makes
//! the datapath obey. Everybody else sees what is in force through [`Handle`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datapath::{Datapath, PortState};
use membership::id::Scope;
use membership::record::Key;
use membership::service::{FactWrite, Membership};
use overlay::cluster::Cluster;
use overlay::name::{DomainName, EndpointName};
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::handle::{ANSWER_MAX, Question};
pub(super) use self::handle::{AskError, FunctionFile, Handle};
use super::agenda::{Agenda, Job};
use super::first::First;
use super::following::{Following, Order, Wanted};
use super::force::{Force, InForce};
use super::metrics::Work;
use super::paths::Wish;
use super::quarantine::{Quarantine, UnderWay};
use super::seen::Sight;
use super::vtep;
use crate::config::resolve::Addresses;

mod handle;

/// Longest time that the datapath may take for one domain.
const APPLY_MAX: Duration = Duration::from_secs(30);
/// After this time a domain with a port that waits for its workload is looked at again.
const WAITING_AGAIN: Duration = Duration::from_secs(2);
/// Questions that wait for an answer at the same time.
const QUESTIONS: usize = 64;
/// Workloads that are looked at at the same time, beside the task.
const CHECKS: usize = 8;

/// Why the datapath did not bring a domain into force.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    /// It has to be told all.
    #[error("it has to be applied as a whole")]
    Whole,
    /// It did not end.
    #[error("the datapath took longer than {} s", APPLY_MAX.as_secs())]
    Late,
    /// It failed.
    #[error(transparent)]
    Datapath(datapath::Error),
}

/// What became of a domain's ports.
type Done = Result<BTreeMap<EndpointName, PortState>, Stopped>;

impl From<datapath::Error> for Stopped {
    fn from(error: datapath::Error) -> Self {
        match error {
            datapath::Error::Whole(_) => Self::Whole,
            other => Self::Datapath(other),
        }
    }
}

/// The task.
pub(super) struct Reconciler {
    membership: Membership,
    sight: Sight,
    datapath: Datapath,
    paths: Wish,
    addresses: Addresses,
    port: u16,
    agenda: Agenda,
    first: First,
    cluster: Arc<Cluster>,
    following: Following,
    questions: mpsc::Receiver<Question>,
    force: watch::Sender<Force>,
    begun: Arc<AtomicU64>,
    work: Work,
    checks: Arc<Semaphore>,
    quarantine: Quarantine,
}

impl Reconciler {
    /// The task over an open datapath, which also says whose paths are probed; [`Self::run`] drives it.
    pub(super) fn new(
        sight: Sight,
        membership: Membership,
        (datapath, paths): (Datapath, Wish),
        addresses: Addresses,
        port: u16,
        (work, quarantine): (Work, Quarantine),
    ) -> (Self, Handle) {
        let (sender, questions) = mpsc::channel(QUESTIONS);
        let (force, seen) = watch::channel(Force::default());
        let begun = Arc::new(AtomicU64::new(0));
        let handle = Handle {
            questions: sender,
            force: seen,
            begun: begun.clone(),
        };
        let (agenda, first, cluster, following) = Default::default();
        (
            Self {
                membership,
                sight,
                datapath,
                paths,
                addresses,
                port,
                agenda,
                first,
                cluster,
                following,
                questions,
                force,
                begun,
                work,
                checks: Arc::new(Semaphore::new(CHECKS)),
                quarantine,
            },
            handle,
        )
    }

    /// Works until stopped. What is in force stays in force. Each kind of work gets its turn, however much there is of
    /// another; and none is broken off for another.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.membership.changes();
        self.mark_everything();
        self.first = First::of(self.known_domains());
        let quarantine = self.quarantine.clone();
        loop {
            let next = self.agenda.next();
            tokio::select! {
                () = stop.cancelled() => return,
                change = changes.recv() => match change {
                    Ok(Scope::Domain(domain)) => self.agenda.mark(Job::Domain(domain), Instant::now()),
                    Ok(Scope::System) | Err(broadcast::error::RecvError::Lagged(_)) => self.mark_everything(),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                Some(question) = self.questions.recv() => self.answer(question),
                () = sleep_until(next) => self.work().await,
                () = self.datapath.noticed() => {
                    if self.datapath.follow_up().await {
                        self.mark_everything();
                    }
                }
                released = quarantine.released() => for domain in released {
                    self.agenda.mark(Job::Domain(domain), Instant::now());
                },
            }
        }
    }

    fn mark_everything(&mut self) {
        let now = Instant::now();
        self.agenda.mark(Job::Vtep, now);
        for domain in self.known_domains() {
            self.agenda.mark(Job::Domain(domain), now);
        }
    }

    /// Agreed on, or installed from before.
    fn known_domains(&self) -> BTreeSet<DomainName> {
        let mut domains = self.sight.domains();
        domains.extend(self.datapath.domains());
        domains
    }

    fn answer(&mut self, question: Question) {
        // Who asked may have gone.
        match question {
            Question::Drops(to) => drop(to.send(self.datapath.drops().map_err(|error| error.to_string()))),
            Question::Audits(to) => drop(to.send(self.datapath.audits().map_err(|error| error.to_string()))),
            Question::Status(to) => drop(to.send(self.datapath.status())),
            Question::Check(domain, endpoint, binding, to) => {
                // Where there are too many, who asks is told that the datapath is busy.
                if let Ok(permit) = self.checks.clone().try_acquire_owned() {
                    let check = tokio::time::timeout(ANSWER_MAX, self.datapath.check(&domain, &endpoint, &binding));
                    tokio::spawn(async move {
                        let told = match check.await {
                            Ok(told) => told.map_err(|error| error.to_string()),
                            Err(_) => Err("the kernel does not answer".to_owned()),
                        };
                        drop((to.send(told), permit));
                    });
                }
            }
            Question::Functions(to) => drop(to.send(self.datapath.functions())),
            Question::LoadFunction(file, to) => {
                let datapath = &mut self.datapath;
                let loaded = datapath.load_function(&file.domain, &file.name, file.hook, &file.path, file.fail);
                drop(to.send(loaded));
            }
            Question::RemoveFunction(domain, name, to) => {
                drop(to.send(self.datapath.remove_function(&domain, &name)));
            }
        }
    }

    /// Does one job that is due.
    async fn work(&mut self) {
        let Some(job) = self.agenda.take(Instant::now()) else {
            return;
        };
        let result = match &job {
            Job::Vtep => self.publish_vtep().await,
            Job::TakeOver => self.take_over(),
            Job::Domain(domain) => self.bring_into_force(domain).await,
        };
        self.note(&job, result.as_ref().err());
        let waits = self.datapath.waits();
        if job != Job::TakeOver && waits.is_some_and(|waits| self.first.may_take_over(waits)) {
            self.agenda.mark(Job::TakeOver, Instant::now());
        }
        match result {
            Ok(()) => self.agenda.done(&job),
            Err(error) => {
                let again = self.agenda.failed(job.clone(), Instant::now());
                tracing::warn!(?job, %error, ?again, "failed and will be tried again");
            }
        }
    }

    fn take_over(&mut self) -> Result<(), String> {
        let without = self.first.unapplied();
        if !without.is_empty() {
            tracing::error!(
                ?without,
                "nothing of these domains is forwarded here until they can be brought into force: it was waited for them \
                 long enough, while a build with other tables was in force for all"
            );
        }
        self.datapath.take_over().map_err(|error| error.to_string())
    }

    async fn publish_vtep(&self) -> Result<(), String> {
        vtep::publish(&self.membership, &self.addresses, self.port)
            .await
            .map_err(|error| error.to_string())
    }

    /// Hands a domain to what compiles and applies it, unless that crashed on it before.
    async fn bring_into_force(&mut self, domain: &DomainName) -> Result<(), String> {
        let root = self.sight.root(&Scope::Domain(domain.clone()));
        let begun = self.quarantine.begin(domain, root);
        let mut under_way = begun.map_err(|held| held.to_string())?;
        let brought = self.bring(domain, &mut under_way).await;
        under_way.over(brought.is_ok());
        brought
    }

    async fn bring(&mut self, domain: &DomainName, under_way: &mut UnderWay) -> Result<(), String> {
        let pass = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let (mut wanted, mut done) = self.pass(domain, under_way).await?;
        if matches!(done, Err(Stopped::Whole)) {
            self.following.forget(domain);
            (wanted, done) = self.pass(domain, under_way).await?;
        }
        let ports = match done {
            Ok(ports) => ports,
            Err(stopped) => {
                self.following.forget(domain);
                return Err(stopped.to_string());
            }
        };
        if ports.values().any(is_waiting) {
            // Nothing tells when a namespace appears.
            self.agenda
                .later(Job::Domain(domain.clone()), Instant::now() + WAITING_AGAIN);
        }
        let gone = matches!(wanted.order, Order::Remove);
        self.force.send_modify(|force| {
            let in_force = force.domains.entry(domain.clone()).or_default();
            (in_force.pass, in_force.root, in_force.ports) = (pass, wanted.root, ports);
            match wanted.order {
                Order::Remove => in_force.conditions.clear(),
                Order::Whole(wanted) => in_force.conditions = wanted.conditions,
                Order::Change(change) => change.tell(&mut in_force.conditions),
            }
        });
        if gone {
            self.forget_if_nothing_is_left(domain);
        }
        let withdrawn = self.withdraw(domain, wanted.lost).await;
        // What is to be withdrawn is found where all is looked at.
        withdrawn.inspect_err(|_| self.following.forget(domain))
    }

    /// Reads what is wanted for a domain and makes the datapath do it. A panic of the pure part is an error.
    async fn pass(&mut self, domain: &DomainName, under_way: &mut UnderWay) -> Result<(Wanted, Done), String> {
        let here = self.membership.id();
        let found = under_way.contain(|| self.following.find(&self.sight, domain, here, &self.work));
        let wanted = found.map_err(|panicked| {
            self.following.forget(domain);
            panicked.to_string()
        })?;
        if wanted.cluster != self.cluster {
            // Tunnel ends, names and VNIs concern every domain.
            self.cluster = wanted.cluster.clone();
            self.mark_everything();
        }
        let done = tokio::time::timeout(APPLY_MAX, self.obey(domain, &wanted.order)).await;
        let done = match done {
            Ok(done) => done.map_err(Stopped::from),
            Err(_) => Err(Stopped::Late),
        };
        Ok((wanted, done))
    }

    /// Makes the datapath do it; what became of the domain's ports.
    async fn obey(
        &mut self,
        domain: &DomainName,
        order: &Order,
    ) -> Result<BTreeMap<EndpointName, PortState>, datapath::Error> {
        let begun = Instant::now();
        let applied = match order {
            Order::Remove => {
                self.paths.want(domain, &BTreeMap::new());
                return self.datapath.remove(domain).await.map(|()| BTreeMap::new());
            }
            Order::Whole(wanted) => {
                self.paths.want(domain, &wanted.hosts);
                self.datapath.apply(wanted).await?
            }
            Order::Change(change) => {
                self.paths.want(domain, &change.forwarding.hosts);
                self.datapath.apply_change(change).await?
            }
        };
        self.work.applied(begun.elapsed(), applied.operations);
        if applied.operations > 0 {
            tracing::debug!(%domain, operations = applied.operations, "in force");
        }
        Ok(applied.ports)
    }

    /// A deleted domain is kept in the bookkeeping while its records are, so that its deletion can be awaited.
    fn forget_if_nothing_is_left(&self, domain: &DomainName) {
        if !self.sight.domains().contains(domain) {
            self.force.send_modify(|force| {
                force.domains.remove(domain);
            });
        }
    }

    /// Takes back this host's word about endpoints that another host won or that were deleted.
    async fn withdraw(&self, domain: &DomainName, lost: Vec<Key>) -> Result<(), String> {
        if lost.is_empty() {
            return Ok(());
        }
        for key in &lost {
            tracing::info!(%domain, endpoint = %key.name, "attached elsewhere or deleted: detached here");
        }
        let writes = lost.into_iter().map(|key| FactWrite { key, body: None }).collect();
        let written = self.membership.write_facts(Scope::Domain(domain.clone()), writes).await;
        written.map(drop).map_err(|error| error.to_string())
    }

    fn note(&mut self, job: &Job, error: Option<&String>) {
        self.first.note(job, error.is_none());
        let (started, unapplied) = (self.first.is_tried(), self.first.unapplied().clone());
        self.force.send_modify(|force| {
            match (job, error) {
                (Job::Vtep, error) => force.vtep = error.cloned(),
                (Job::TakeOver, error) => force.take_over = error.cloned(),
                (Job::Domain(domain), Some(error)) => drop(force.failures.insert(domain.clone(), error.clone())),
                (Job::Domain(domain), None) => drop(force.failures.remove(domain)),
            }
            force.started |= started;
            force.unapplied = unapplied;
        });
    }
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

fn is_waiting(port: &PortState) -> bool {
    matches!(port, PortState::Waiting(_))
}

/// What the ports of a domain wait for, by endpoint.
pub(super) fn waiting(in_force: &InForce) -> BTreeMap<String, String> {
    let waits = in_force.ports.iter().filter_map(|(endpoint, port)| match port {
        PortState::Waiting(why) => Some((endpoint.to_string(), why.clone())),
        PortState::Programmed { .. } => None,
    });
    waits.collect()
}
