//! `drops --watch`: what was added since the last look.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use super::args::Output;
use super::client::Client;
use super::problem::Problem;
use super::show::show;
use super::tables;
use crate::api::types::Drop;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Shows the counters, then each second what was added, until interrupted.
pub(super) async fn drops(client: &Client, output: Output, out: &mut impl Write) -> Result<(), Problem> {
    let mut before: Vec<Drop> = client.get("/v1/drops").await?;
    show(out, output, &before, |drops| tables::drops(drops))?;
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
        let after: Vec<Drop> = client.get("/v1/drops").await?;
        let added = added(&before, &after);
        if !added.is_empty() {
            show(out, output, &added, |drops| tables::drops(drops))?;
        }
        before = after;
    }
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
