//! `drops --watch`: what was added since the last look.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::signal::unix::{SignalKind, signal};

use super::args::Output;
use super::client::Client;
use super::problem::Problem;
use super::show::show;
use super::tables;
use crate::api::types::Drop;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Shows the counters, then each second what was added, until interrupted or until nobody reads on.
pub(super) async fn drops(client: &Client, output: Output, out: &mut impl Write) -> Result<(), Problem> {
    // Made once, before the first look: an interrupt during a look counts as well.
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        ended = watch(client, output, out) => ended,
    }
}

async fn watch(client: &Client, output: Output, out: &mut impl Write) -> Result<(), Problem> {
    let mut before: Vec<Drop> = client.get("/v1/drops").await?;
    show(out, output, &before, |drops| tables::drops(drops))?;
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        tick.tick().await;
        if reader_is_gone(std::io::stdout()) {
            return Ok(());
        }
        let after: Vec<Drop> = client.get("/v1/drops").await?;
        let added = added(&before, &after);
        if !added.is_empty() {
            show(out, output, &added, |drops| tables::drops(drops))?;
        }
        before = after;
    }
}

/// Whether a pipe has no reader left: without something to write, no write would tell.
fn reader_is_gone(pipe: impl AsFd) -> bool {
    let mut asked = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
    let found = poll(&mut asked, PollTimeout::ZERO).is_ok();
    found
        && asked[0]
            .revents()
            .is_some_and(|events| events.contains(PollFlags::POLLERR))
}

/// The lines of `after` that count more than in `before`, with the difference. A counter that went back was made
/// anew: all of it is added.
fn added(before: &[Drop], after: &[Drop]) -> Vec<Drop> {
    let place = |drop: &Drop| (drop.reason.clone(), drop.domain.clone(), drop.endpoint.clone());
    let known: BTreeMap<_, _> = before
        .iter()
        .map(|drop| (place(drop), (drop.packets, drop.bytes)))
        .collect();
    let difference = |drop: &Drop| {
        let (packets, bytes) = known
            .get(&place(drop))
            .copied()
            .filter(|(packets, _)| *packets <= drop.packets)
            .unwrap_or_default();
        Drop {
            packets: drop.packets - packets,
            bytes: drop.bytes.saturating_sub(bytes),
            ..drop.clone()
        }
    };
    after.iter().map(difference).filter(|drop| drop.packets > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drop(reason: &str, packets: u64, bytes: u64) -> Drop {
        Drop {
            reason: reason.to_owned(),
            domain: None,
            endpoint: None,
            packets,
            bytes,
        }
    }

    #[test]
    fn a_pipe_tells_that_its_reader_went_away() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        assert!(!reader_is_gone(&writer));
        std::mem::drop(reader);
        assert!(reader_is_gone(&writer));
    }

    #[test]
    fn only_what_was_added_is_shown() {
        let before = [drop("mtu", 5, 500), drop("policy", 2, 20), drop("kernel", 9, 90)];
        let after = [
            drop("mtu", 7, 700),
            drop("policy", 2, 20),
            drop("kernel", 1, 10),
            drop("ecn", 1, 60),
        ];
        assert_eq!(
            added(&before, &after),
            [drop("mtu", 2, 200), drop("kernel", 1, 10), drop("ecn", 1, 60)]
        );
    }
}
