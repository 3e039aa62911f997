//! `run`: starts the stages one after the other, serves, and stops in the opposite order. Packets are forwarded before,
//! during and after.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use datapath::{Datapath, Prober};
use membership::service::{CallHandler, Membership, StartError};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::metrics::Work;
use super::node::Node;
use super::programmed::Waiter;
use super::quarantine::Quarantine;
use super::reconcile::{Handle, Reconciler};
use super::seen::Sight;
use super::{Failure, claims, credentials, host, notify, paths, setup, wire};
use crate::api::https::{self, Credentials};
use crate::api::refusals::Refusals;
use crate::api::routes::router;
use crate::api::serve::{self, ServeError};
use crate::config::Config;
use crate::exit::Exit;

/// How long the start waits for what is on disk to be in force.
const FIRST_PASS_MAX: Duration = Duration::from_secs(60);

/// Runs until SIGTERM or SIGINT.
pub(super) async fn run(config: Config) -> Result<(), Failure> {
    let signal = |kind| signal(kind).map_err(|error| Failure::new(Exit::Refused, error.to_string()));
    let mut signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // The socket first: a second daemon must not touch anything.
    let unix = serve::bind(&config.api.socket, config.api.group.as_deref()).await?;
    let started = tokio::select! {
        running = start(&config, unix) => running.map(Some),
        () = stop_signal(&mut signals) => Ok(None),
    };
    let ended = match started {
        Ok(Some(running)) => running.until(&mut signals).await,
        Ok(None) => {
            tracing::info!("stopped before it was up");
            Ok(())
        }
        Err(failure) => Err(failure),
    };
    // Nobody answers there any more; a client is told so at once either way.
    if let Err(error) = std::fs::remove_file(&config.api.socket) {
        tracing::debug!(%error, "the socket could not be removed");
    }
    ended
}

/// What runs.
struct Running {
    membership: Membership,
    reconcile: Handle,
    reconciler: Part,
    claims: Part,
    server: Part,
    stop_server: CancellationToken,
    stop_reconciler: CancellationToken,
    stop_timeout: Duration,
}

async fn start(config: &Config, unix: UnixListener) -> Result<Running, Failure> {
    let tcp = match config.api.https {
        Some(address) => Some(https::bind(address.0).await?),
        None => None,
    };
    let host = host::read();
    let addresses = config.addresses(&host)?;
    let waiter: Arc<OnceLock<Waiter>> = Arc::default();
    let membership = Membership::start(setup::membership_config(config, &host)?, handler(waiter.clone())).await?;
    let kernel = datapath::Config {
        bpffs: config.datapath.bpffs.clone(),
        node: membership.id(),
        ipv4: addresses.ipv4,
        ipv6: addresses.ipv6,
        port: config.underlay.port,
        geneve_port: config.underlay.geneve_port,
        strict_vxlan: config.underlay.strict_vxlan,
    };
    let datapath = Datapath::open(kernel.clone()).await.map_err(Failure::datapath)?;
    let prober = Prober::open(&kernel).map_err(Failure::datapath)?;
    let (stop_server, stop_reconciler) = (CancellationToken::new(), CancellationToken::new());
    let (wish, paths) = paths::start(prober, stop_reconciler.clone());
    let sight = Sight::new(membership.clone());
    let (port, work) = (config.underlay.port, Work::default());
    let quarantine = Quarantine::open(&config.node.data);
    let (reconciler, reconcile) = Reconciler::new(
        sight.clone(),
        membership.clone(),
        (datapath, wish),
        addresses.clone(),
        port,
        (work.clone(), quarantine.clone()),
    );
    let refusals: Arc<Refusals> = Arc::default();
    let node = Node {
        membership: membership.clone(),
        sight,
        reconcile: reconcile.clone(),
        paths,
        addresses,
        tunnel_port: port,
        refusals: refusals.clone(),
        work,
        quarantine,
        started: Instant::now(),
        writes: Mutex::new(()),
    };
    // Set once: this function is the only one that does.
    let _first = waiter.set(node.waiter());
    let reconciler = tokio::spawn(reconciler.run(stop_reconciler.clone()));
    first_pass(&reconcile).await;
    let node = Arc::new(node);
    let claims = tokio::spawn(claims::run(node.clone(), stop_reconciler.clone()));
    let router = router(node);
    let https = match tcp {
        Some(tcp) => {
            let credentials = credentials::follow(&membership, stop_server.clone());
            Some((tcp, credentials.map_err(ServeError::from)?))
        }
        None => None,
    };
    let server = tokio::spawn(serve_all(unix, https, router, refusals, stop_server.clone()));
    let stop_timeout = config.node.stop_timeout;
    Ok(Running {
        membership,
        reconcile,
        reconciler: Part::new("the reconcile task", reconciler),
        claims: Part::new("the task that gives addresses back", claims),
        server: Part::new("the API", server),
        stop_server,
        stop_reconciler,
        stop_timeout,
    })
}

/// The same routes on the socket and, where it is set, over TLS.
async fn serve_all(
    unix: UnixListener,
    https: Option<(TcpListener, watch::Receiver<Credentials>)>,
    router: Router,
    refusals: Arc<Refusals>,
    stop: CancellationToken,
) {
    let local = serve::serve(unix, router.clone(), stop.clone().cancelled_owned());
    match https {
        None => local.await,
        Some((tcp, credentials)) => {
            let remote = https::serve(tcp, credentials, router, refusals, stop.cancelled_owned());
            tokio::join!(local, remote);
        }
    }
}

/// What is on disk is in force before the node calls itself ready.
async fn first_pass(reconcile: &Handle) {
    let mut force = reconcile.force();
    if tokio::time::timeout(FIRST_PASS_MAX, force.wait_for(|force| force.started))
        .await
        .is_err()
    {
        tracing::warn!("not all domains could be brought into force at the start; see `fabricctl status`");
    }
}

impl Running {
    /// Fails if a part ended before it was told to.
    async fn until(mut self, signals: &mut (Signal, Signal)) -> Result<(), Failure> {
        let reconcile = self.reconcile.clone();
        let watchdog = tokio::spawn(notify::watchdog(move || {
            let reconcile = reconcile.clone();
            async move { reconcile.status().await.is_ok() }
        }));
        notify::ready();
        tracing::info!(node = %self.membership.id(), "ready");
        let ended = tokio::select! {
            () = stop_signal(signals) => Ok(()),
            why = self.reconciler.ended() => Err(Failure::new(Exit::TryAgain, why)),
            why = self.claims.ended() => Err(Failure::new(Exit::TryAgain, why)),
            why = self.server.ended() => Err(Failure::new(Exit::TryAgain, why)),
        };
        if let Err(failure) = &ended {
            tracing::error!(%failure, "stopping");
        }
        notify::stopping();
        watchdog.abort();
        self.stop().await;
        ended
    }

    async fn stop(mut self) {
        self.stop_server.cancel();
        if !self.server.ends_within(self.stop_timeout).await {
            tracing::warn!("requests were cut off");
        }
        self.stop_reconciler.cancel();
        if !self.reconciler.ends_within(self.stop_timeout).await {
            tracing::warn!("the datapath was left in the midst of a change; the next start completes it");
        }
        if !self.claims.ends_within(self.stop_timeout).await {
            tracing::warn!("addresses were being given back; the next start completes it");
        }
        self.membership.shutdown().await;
        tracing::info!("stopped; packets are forwarded on");
    }
}

/// A task that runs as long as the node does. It is awaited to its end once.
struct Part {
    name: &'static str,
    task: Option<JoinHandle<()>>,
}

impl Part {
    fn new(name: &'static str, task: JoinHandle<()>) -> Self {
        let task = Some(task);
        Self { name, task }
    }

    /// Why it ended, when it does; never again after that.
    async fn ended(&mut self) -> String {
        let Some(task) = &mut self.task else {
            return std::future::pending().await;
        };
        let ended = task.await;
        self.task = None;
        match ended {
            Ok(()) => format!("{} ended by itself", self.name),
            Err(error) => format!("{} ended: {error}", self.name),
        }
    }

    /// Whether it ends in time, or has ended.
    async fn ends_within(&mut self, time: Duration) -> bool {
        self.task.is_none() || tokio::time::timeout(time, self.ended()).await.is_ok()
    }
}

async fn stop_signal((terminate, interrupt): &mut (Signal, Signal)) {
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM"),
        _ = interrupt.recv() => tracing::info!("SIGINT"),
    }
}

/// Answers other nodes as soon as the node is up.
fn handler(waiter: Arc<OnceLock<Waiter>>) -> CallHandler {
    Arc::new(move |_from, request| {
        let waiter = waiter.get().cloned();
        Box::pin(async move {
            let waiter = waiter.ok_or("the node is starting")?;
            let response = waiter.answer(&request).await.map_err(|error| error.to_string())?;
            wire::encode(&response).map_err(|error| error.to_string())
        })
    })
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match &error {
            ServeError::Io { source, .. } | ServeError::Address { source, .. } => Self::io(source, error.to_string()),
            ServeError::NoGroup(_) => Self::new(Exit::Usage, error.to_string()),
            ServeError::Tls(_) | ServeError::InUse(_) | ServeError::NotASocket(_) => {
                Self::new(Exit::Refused, error.to_string())
            }
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match &error {
            StartError::Io(_, cause) => Self::io(cause, error.to_string()),
            StartError::NoNode(_) | StartError::InUse(_) | StartError::Cloned(_) | StartError::Other(_) => {
                Self::new(Exit::Refused, error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ended_by_itself_can_be_stopped() {
        let mut part = Part::new("a part", tokio::spawn(async {}));
        assert_eq!(part.ended().await, "a part ended by itself");
        assert!(part.ends_within(Duration::ZERO).await, "it has ended");
    }

    #[tokio::test]
    async fn a_part_that_panicked_says_so_and_can_be_stopped() {
        let mut part = Part::new("a part", tokio::spawn(async { panic!("on purpose") }));
        let why = part.ended().await;
        assert!(why.contains("a part ended") && why.contains("panicked"), "{why}");
        assert!(part.ends_within(Duration::ZERO).await, "it has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_does_not_end_is_not_waited_for_for_ever() {
        let mut part = Part::new("a part", tokio::spawn(std::future::pending()));
        assert!(!part.ends_within(Duration::from_secs(5)).await);
    }
}
