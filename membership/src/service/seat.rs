//! Taking an anchor's seat. Each list of anchors begins with what the one before gave away: an anchor witnesses claims for
//! a list only once it has copied the ledgers of so many of the list before that no majority of those could have witnessed
//! anything unseen. An anchor gives its ledger for a list only when it knows that another list took its place, so that it
//! witnesses nothing more for it; and it seals no further change of the list before it is seated. So what one list
//! witnessed, all later ones know.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::disk::{Disk, DiskError};
use super::internal::{self, NOT_SEATED, Request};
use super::state::State;
use crate::decree::{List, Standing};
use crate::id::NodeId;
use crate::mesh::Mesh;
use crate::store::{ClaimRow, Store, StoreError};

/// The store's table of the seat, and its only key.
const TABLE: &str = "seat";
const SINCE: &[u8] = b"since";
/// The version with which a cluster begins.
const FOUNDING: u64 = 1;
/// Claims in one answer: with the longest keys and scopes less than half of what a call carries.
const PAGE: usize = 1_500;
/// Claims that are copied from one anchor.
const CLAIMS_MAX: usize = 1_000_000;

/// A part of a ledger.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Page {
    rows: Vec<ClaimRow>,
    /// More follow behind the last one.
    more: bool,
}

/// The list of anchors for which the claims of those before were copied, as it is on disk.
pub(super) async fn load(disk: &Disk) -> Result<Option<u64>, DiskError> {
    let bytes = disk.run(|store| store.get(TABLE, SINCE)).await?;
    Ok(bytes.and_then(|bytes| postcard::from_bytes(&bytes).ok()))
}

/// The newest list for which this node has all that was witnessed before it. Those who made the cluster have nobody before
/// them.
fn seated(own: NodeId, standing: &Standing, copied: Option<u64>) -> Option<u64> {
    let first = standing.lists().first();
    let founding = first.filter(|list| list.version == FOUNDING && list.nodes.contains(&own));
    copied.or(founding.map(|list| list.version))
}

/// The list for which this node may witness claims; `None` if it is no anchor, or not seated. To be asked on the store's
/// thread, with the decision: then nobody copies the ledger in between.
pub(super) fn witnesses_for(state: &State) -> Option<u64> {
    let roster = state.roster();
    let standing = roster.standing();
    let current = standing.lists().last()?;
    let seated = seated(state.own(), standing, state.seated());
    (standing.seat(state.own()).is_some() && seated == Some(current.version)).then_some(current.version)
}

/// Whether this node may give its ledger as that of a list.
fn gives_for(state: &State, list: u64) -> bool {
    let roster = state.roster();
    let standing = roster.standing();
    let replaced = standing.lists().last().is_some_and(|current| current.version > list);
    replaced && seated(state.own(), standing, state.seated()) >= Some(list)
}

/// Gives a part of the ledger to another anchor.
pub(super) async fn page(
    state: &Arc<State>,
    from: NodeId,
    list: u64,
    after: Option<(String, String)>,
) -> Result<Page, String> {
    internal::check_anchor(state, from)?;
    let holder = state.clone();
    let read = move |store: &Store| {
        if !gives_for(&holder, list) {
            return Ok(None);
        }
        store.claims(after, PAGE + 1).map(Some)
    };
    let read = state.disk.run(read).await.map_err(|error| error.to_string())?;
    let mut rows = read.ok_or_else(|| NOT_SEATED.to_owned())?;
    let more = rows.len() > PAGE;
    rows.truncate(PAGE);
    Ok(Page { rows, more })
}

/// Copies what this anchor lacks of the lists before those that it is in. Of several lists the older ones are tried first:
/// who is not seated for one has nothing to give for it.
pub(super) async fn take(state: &Arc<State>, mesh: &Mesh) -> Result<(), String> {
    let (lists, seated) = {
        let roster = state.roster();
        let standing = roster.standing();
        (standing.lists().to_vec(), seated(state.own(), standing, state.seated()))
    };
    let mut outcome = Ok(());
    for pair in lists.windows(2) {
        let [before, list] = pair else { continue };
        if list.nodes.contains(&state.own()) && seated < Some(list.version) {
            outcome = take_one(state, mesh, before, list.version).await;
        }
    }
    outcome
}

async fn take_one(state: &Arc<State>, mesh: &Mesh, before: &List, version: u64) -> Result<(), String> {
    let mut ledgers = Vec::new();
    let mut why = String::new();
    for anchor in &before.nodes {
        match ledger_of(state, mesh, *anchor, before.version).await {
            Ok(ledger) => ledgers.push(ledger),
            Err(error) => why = format!("{anchor}: {error}"),
        }
    }
    let rows = joined(ledgers, before.nodes.len()).ok_or_else(|| {
        format!("the claims that the anchors before witnessed could not be copied from enough of them ({why})")
    })?;
    let mark = postcard::to_stdvec(&version).map_err(|error| error.to_string())?;
    let holder = state.clone();
    // Seated in the same turn of the store's thread in which the ledger is there.
    let kept = move |store: &Store| -> Result<(), StoreError> {
        store.take_seat(&rows, TABLE, SINCE, &mark)?;
        holder.sit(version);
        Ok(())
    };
    state.disk.run(kept).await.map_err(|error| error.to_string())?;
    tracing::info!(version, "this anchor witnesses claims for a list of anchors");
    Ok(())
}

async fn ledger_of(state: &Arc<State>, mesh: &Mesh, anchor: NodeId, list: u64) -> Result<Vec<ClaimRow>, String> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page: Page = if anchor == state.own() {
            page(state, anchor, list, after).await?
        } else {
            internal::ask(mesh, anchor, &Request::Claims { list, after }).await?
        };
        rows.extend(page.rows);
        if rows.len() > CLAIMS_MAX {
            return Err(format!("it has more than {CLAIMS_MAX} claims"));
        }
        after = match rows.last() {
            Some(last) if page.more => Some((last.scope.clone(), last.key.clone())),
            _ => return Ok(rows),
        };
    }
}

/// What a list of `anchors` may have given away, of so many of their ledgers; `None` if there are too few to know it. Where
/// they differ the holder counts whom a majority knows; if nobody can have one, the claim was never finished, and nobody
/// has it.
fn joined(ledgers: Vec<Vec<ClaimRow>>, anchors: usize) -> Option<Vec<ClaimRow>> {
    let majority = anchors / 2 + 1;
    if ledgers.is_empty() || ledgers.len() + majority <= anchors {
        return None;
    }
    let silent = anchors.saturating_sub(ledgers.len());
    let mut votes: BTreeMap<(String, String), BTreeMap<NodeId, usize>> = BTreeMap::new();
    for row in ledgers.into_iter().flatten() {
        *votes
            .entry((row.scope, row.key))
            .or_default()
            .entry(row.holder)
            .or_default() += 1;
    }
    let mut rows = Vec::new();
    for ((scope, key), holders) in votes {
        let (holder, count) = holders.iter().max_by_key(|(_, count)| **count)?;
        let holder = *holder;
        if holders.len() == 1 || *count >= majority {
            rows.push(ClaimRow { scope, key, holder });
        } else if *count + silent >= majority {
            return None;
        }
    }
    Some(rows)
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::of_key(&[n; 32])
    }

    fn ledger(rows: &[(&str, u8)]) -> Vec<ClaimRow> {
        let row = |(key, holder): &(&str, u8)| ClaimRow {
            scope: "red".to_owned(),
            key: (*key).to_owned(),
            holder: node(*holder),
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn what_a_majority_gave_is_found_and_what_nobody_finished_is_free() {
        assert_eq!(joined(vec![], 1), None, "nobody answered");
        let one = ledger(&[("a", 7), ("b", 8)]);
        assert_eq!(joined(vec![one.clone()], 1), Some(one.clone()));
        assert_eq!(
            joined(vec![one.clone()], 2),
            Some(one.clone()),
            "both of two witness a claim"
        );
        assert_eq!(joined(vec![one.clone()], 3), None, "the two others may have");
        let two = ledger(&[("a", 7), ("c", 9)]);
        let all = ledger(&[("a", 7), ("b", 8), ("c", 9)]);
        assert_eq!(
            joined(vec![one.clone(), two], 3),
            Some(all),
            "any of them may be finished"
        );
        let other = ledger(&[("a", 9)]);
        assert_eq!(
            joined(vec![one.clone(), other.clone()], 3),
            None,
            "the third one decides"
        );
        let third = joined(vec![one.clone(), other.clone(), ledger(&[("a", 9)])], 3).unwrap();
        assert_eq!(third, ledger(&[("a", 9), ("b", 8)]));
        let split = joined(vec![one, other, ledger(&[("a", 5)])], 3).unwrap();
        assert_eq!(split, ledger(&[("b", 8)]), "nobody has it");
    }
}
