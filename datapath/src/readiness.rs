//! Whether the kernel sends by the interfaces of ports: it takes note of a carrier in its own time, later where many
//! interfaces come and go, and drops what a workload sends until then. It decides nothing about ports: the tables of a
//! domain are in force before anybody waits here.

use std::collections::BTreeMap;
use std::time::Duration;

use overlay::name::EndpointName;
use tokio::time::Instant;
use tracing::warn;

use crate::PortState;
use crate::error::Error;
use crate::netlink::{Link, Netlink};

/// How long all ports of a domain are waited for.
const MOST: Duration = Duration::from_secs(2);
/// Between two looks, at first and at most.
const STEP: Duration = Duration::from_millis(2);
const STEP_MOST: Duration = Duration::from_millis(50);

/// Waits, up to [`MOST`] for all of them together, until the kernel sends by both ends of every port that is programmed
/// and has somebody at its other end. One that is not so far waits: the event that says so comes.
pub(crate) async fn wait(
    netlink: &Netlink,
    mut ports: BTreeMap<EndpointName, PortState>,
) -> BTreeMap<EndpointName, PortState> {
    let programmed = ports.iter().filter_map(|(endpoint, state)| match state {
        PortState::Programmed { ifindex, .. } => Some((endpoint.clone(), *ifindex)),
        PortState::Waiting(_) => None,
    });
    let mut pending: Vec<_> = programmed.collect();
    let end = Instant::now() + MOST;
    let mut step = STEP;
    loop {
        match still_pending(netlink, pending).await {
            Ok(left) => pending = left,
            Err(error) => {
                warn!(error = error.words(), "cannot see whether interfaces are ready");
                return ports;
            }
        }
        if pending.is_empty() || Instant::now() >= end {
            break;
        }
        tokio::time::sleep(step).await;
        step = (step * 2).min(STEP_MOST);
    }
    for (endpoint, _) in pending {
        if let Some(state) = ports.get_mut(&endpoint)
            && let PortState::Programmed { name, .. } = state
        {
            *state = PortState::Waiting(format!(
                "the kernel does not send by {name} yet, though it is up: it is busy with other interfaces"
            ));
        }
    }
    ports
}

async fn still_pending(
    netlink: &Netlink,
    pending: Vec<(EndpointName, u32)>,
) -> Result<Vec<(EndpointName, u32)>, Error> {
    if pending.is_empty() {
        return Ok(pending);
    }
    let links = netlink.links().await?;
    let mut left = Vec::new();
    for (endpoint, ifindex) in pending {
        let outer = links.get(&ifindex);
        if outer.is_some_and(is_coming) || is_inner_coming(netlink, outer).await? {
            left.push((endpoint, ifindex));
        }
    }
    Ok(left)
}

/// Up, with somebody at the other end, and the kernel does not send yet.
fn is_coming(link: &Link) -> bool {
    link.up && link.carrier && !link.operational
}

async fn is_inner_coming(netlink: &Netlink, outer: Option<&Link>) -> Result<bool, Error> {
    let Some((Some(inner), Some(namespace))) = outer.map(|link| link.peer) else {
        return Ok(false);
    };
    let inner = netlink.link_of(namespace, inner).await?;
    Ok(inner.as_ref().is_some_and(is_coming))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_somebody_at_its_other_end_can_be_waited_for() {
        let link = |up, carrier, operational| Link {
            up,
            carrier,
            operational,
            ..Link::default()
        };
        assert!(is_coming(&link(true, true, false)));
        for other in [
            link(true, true, true),
            link(true, false, false),
            link(false, false, false),
        ] {
            assert!(!is_coming(&other), "{other:?}");
        }
    }
}
