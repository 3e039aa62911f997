//! Daemons are killed again and again, one at a time or all at once, while clients write through all of them: each comes
//! back, and no acknowledged write is lost. `FABRIC_LONG` kills a thousand times; `FABRIC_SEED` repeats a run's choices.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use fabric_tests::clients::{Clients, acknowledged, check};
use fabric_tests::dice::Dice;
use fabric_tests::flow::everything;
use fabric_tests::lab::{Lab, Underlay};
use fabric_tests::scenario::{on_lab, say, step};

const HOSTS: [&str; 3] = ["fab1", "fab2", "fab3"];
const KILLS: usize = 30;
const KILLS_LONG: usize = 1_000;
/// Looked at after so many.
const ROUND: usize = 100;
const CLIENTS: u64 = 4;

fn main() -> ExitCode {
    on_lab(
        "kills",
        3,
        Underlay::Ipv4,
        vec![step("no_acknowledged_write_is_lost_whatever_is_killed", kills)],
    )
}

fn kills(lab: &Lab) -> Result<()> {
    let seed = match std::env::var("FABRIC_SEED") {
        Ok(seed) => seed.parse().context("FABRIC_SEED")?,
        Err(_) => RandomState::new().build_hasher().finish(),
    };
    let long = std::env::var_os("FABRIC_LONG").is_some();
    let mut dice = Dice::new(seed);
    let mut left = if long { KILLS_LONG } else { KILLS };
    let mut round = 0;
    while left > 0 {
        let here = left.min(ROUND);
        left -= here;
        round += 1;
        run(lab, here, round, &mut dice).with_context(|| format!("FABRIC_SEED={seed}"))?;
    }
    Ok(())
}

/// Kills so many times. What was acknowledged before the last kill is on a disk, and nowhere else if all died.
fn run(lab: &Lab, kills: usize, round: usize, dice: &mut Dice) -> Result<()> {
    let clients = Clients::start(lab, &format!("round-{round}"), CLIENTS)?;
    let mut left = kills;
    while left > 0 {
        let all = left >= HOSTS.len() && dice.roll(5) == 0;
        let victims = if all { HOSTS.to_vec() } else { vec![dice.pick(&HOSTS)] };
        clients.wait(5)?;
        for host in &victims {
            lab.sh(&["kill", host])?;
        }
        for host in &victims {
            lab.sh(&["start", host])?;
        }
        left -= victims.len();
    }
    let written = clients.stop()?;
    say(format!("{kills} kills, {} acknowledged writes", acknowledged(&written)));
    ensure!(
        written.iter().all(|client| client.count > 0),
        "a client wrote nothing: {written:?}"
    );
    check(lab, &written)?;
    for host in HOSTS {
        let others: Vec<_> = HOSTS.into_iter().filter(|other| *other != host).collect();
        lab.wait_peer(&others, host, "live")?;
    }
    everything(lab.workload("red-web-1")?, lab.workload("red-web-2")?)?;
    everything(lab.workload("blue-web-2")?, lab.workload("blue-web-3")?)?;
    for client in &written {
        lab.ctl("fab1", &["delete", "domain", &client.domain])?;
    }
    Ok(())
}
