//! `quarantine …` as people read it.

use super::tables::{grid, section};
use crate::api::quarantine::{Quarantined, Released, Suspect};

/// For people.
pub(super) fn table(held: &[Quarantined]) -> String {
    match held.is_empty() {
        true => "none\n".to_owned(),
        false => held.iter().map(one).collect(),
    }
}

fn one(held: &Quarantined) -> String {
    let row = |it: &Suspect| {
        vec![
            it.kind.clone(),
            it.name.clone(),
            it.stamp.clone(),
            it.author.clone(),
            it.node_name.clone(),
        ]
    };
    let Quarantined {
        domain,
        crashes,
        since,
        why,
        ..
    } = held;
    let mut body = format!("Crashes: {crashes}\nSince:   {since}\nWhy:     {why}\nWritten last:\n");
    let header = ["KIND", "NAME", "TIME", "AUTHOR", "NODE"];
    body += &grid(&header, held.written_last.iter().map(row));
    body += &format!("Change what is wrong with it, or: fabricctl quarantine release {domain}\n");
    section(&format!("Domain {domain}"), &body)
}

/// For people.
pub(super) fn released(released: &Released) -> String {
    format!("domain {} is handled again\n", released.domain)
}
