//! The task that probes the paths to other hosts: which ones, the reconcile task says; what was found, anybody reads.

use std::collections::BTreeMap;

use datapath::{PROBE_INTERVAL, PathState, Prober};
use membership::id::NodeId;
use overlay::fact::Vtep;
use overlay::name::DomainName;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Tunnel ends of the hosts that each domain has stations on.
type Wanted = BTreeMap<DomainName, BTreeMap<NodeId, Vtep>>;

/// Says which paths are to be probed.
#[derive(Debug)]
pub(super) struct Wish(watch::Sender<Wanted>);

impl Wish {
    /// Which hosts a domain needs from here.
    pub(super) fn want(&self, domain: &DomainName, hosts: &BTreeMap<NodeId, Vtep>) {
        self.0.send_if_modified(|wanted| {
            let before = if hosts.is_empty() {
                wanted.remove(domain)
            } else {
                wanted.insert(domain.clone(), hosts.clone())
            };
            before.as_ref().map_or(!hosts.is_empty(), |before| before != hosts)
        });
    }
}

/// What is known of the path to each host that is probed.
pub(super) type Paths = watch::Receiver<BTreeMap<NodeId, PathState>>;

/// Probes until stopped.
pub(super) fn start(prober: Prober, stop: CancellationToken) -> (Wish, Paths) {
    let (wish, wanted) = watch::channel(Wanted::new());
    let (found, paths) = watch::channel(BTreeMap::new());
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = run(prober, wanted, found) => {}
        }
    });
    (Wish(wish), paths)
}

async fn run(
    mut prober: Prober,
    mut wanted: watch::Receiver<Wanted>,
    found: watch::Sender<BTreeMap<NodeId, PathState>>,
) {
    let mut ticks = tokio::time::interval(PROBE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut worked = true;
    loop {
        ticks.tick().await;
        let result = round(&mut prober, &mut wanted);
        if let Err(error) = &result
            && worked
        {
            tracing::warn!(%error, "paths cannot be probed: trying again");
            // What was asked for may not have been taken.
            wanted.mark_changed();
        }
        worked = result.is_ok();
        found.send_if_modified(|known| {
            let paths = prober.paths();
            let differs = *known != paths;
            *known = paths;
            differs
        });
    }
}

fn round(prober: &mut Prober, wanted: &mut watch::Receiver<Wanted>) -> Result<(), datapath::Error> {
    if wanted.has_changed().unwrap_or(false) {
        let hosts = wanted.borrow_and_update().values().flatten().map(own).collect();
        prober.want(&hosts)?;
    }
    prober.round()
}

fn own((node, vtep): (&NodeId, &Vtep)) -> (NodeId, Vtep) {
    (*node, vtep.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wish_is_heard_once_and_an_empty_one_ends_it() {
        let (sender, mut wanted) = watch::channel(Wanted::new());
        let wish = Wish(sender);
        let red: DomainName = "red".parse().expect("a label");
        let host = Vtep {
            ipv4: Some([192, 0, 2, 2].into()),
            ipv6: None,
            port: 4789,
            underlay_mtu: 1500,
        };
        let hosts: BTreeMap<NodeId, Vtep> = [(NodeId::of_key(&[2; 32]), host)].into();
        let mut heard = |hosts: &BTreeMap<NodeId, Vtep>| {
            wish.want(&red, hosts);
            let heard = wanted.has_changed().expect("the wish is there");
            wanted.mark_unchanged();
            (heard, wanted.borrow().len())
        };
        assert_eq!(heard(&BTreeMap::new()), (false, 0));
        assert_eq!(heard(&hosts), (true, 1));
        assert_eq!(heard(&hosts), (false, 1));
        assert_eq!(heard(&BTreeMap::new()), (true, 0));
    }
}
