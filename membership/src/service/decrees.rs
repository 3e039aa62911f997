//! Decrees in a running peer: loading and keeping the chain, proposing, and answering those who propose. What is decided
//! is told to the other anchors at once, and to everybody as facts by the warden.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rand::Rng as _;

use super::disk::{Disk, DiskError};
use super::internal::{self, NOT_SEATED, Request};
use super::state::{Command, State};
use super::{authority, seat};
use crate::decree::Request as Asked;
use crate::decree::{Act, Answer, Ballot, Chain, Illegal, Kept, Ledger, Proposal, Sealed, Standing, Step, Taken};
use crate::home::NodeFiles;
use crate::id::{NodeId, Scope};
use crate::keyring;
use crate::mesh::Mesh;
use crate::node::Anchors;
use crate::pki::Leaf;
use crate::replica::Replica;
use crate::store::{Store, StoreError};
use crate::wallclock;

/// The store's table of the chain and of this anchor's ledger, and the keys in it.
const TABLE: &str = "decrees";
const CHAIN: &[u8] = b"chain";
const LEDGER: &[u8] = b"ledger";
/// How long proposing may take, whoever else proposes.
const DECIDE_DEADLINE: Duration = Duration::from_secs(20);
/// Longest pause after another proposer's higher ballot.
const PAUSE_MAX: Duration = Duration::from_millis(400);
/// How often who does not answer is asked again, after such a pause each: a connection that broke is made again within a
/// second or two.
const PATIENCE: u32 = 10;

/// Why the cluster record was not changed.
#[derive(Debug, thiserror::Error)]
pub enum DecreeError {
    /// Only these decide.
    #[error("only an anchor can do that")]
    NotAnchor(Vec<NodeId>),
    /// It cannot be done to the record as it stands.
    #[error("{0}")]
    Illegal(#[from] Illegal),
    /// Nobody knows the node.
    #[error("no member is called {0}, and none has that id")]
    Unknown(String),
    /// More than one member has the name.
    #[error("more than one member is called {0}: give the id")]
    Ambiguous(String),
    /// The node must be there to become an anchor.
    #[error("node {0} is not connected, or its software knows no decrees: start it, or upgrade it, and try again")]
    NotReady(NodeId),
    /// Some member is not there, or would not understand what the others say then.
    #[error(
        "not all members can speak wire version {version}: {who}; upgrade them, bring back who is not there, or remove who is gone for good"
    )]
    Unspoken {
        /// The next version.
        version: u16,
        /// Who, and what is the matter.
        who: String,
    },
    /// There is nothing newer.
    #[error(
        "the cluster speaks wire version {0}, and this node speaks nothing newer: upgrade its software first, or raise `max` under [wire]"
    )]
    Newest(u16),
    /// Too few anchors answered.
    #[error(
        "{agreed} of {} anchors agreed, {} are needed; check that they run and can be reached", anchors.nodes.len(), anchors.majority()
    )]
    NoMajority {
        /// How many did.
        agreed: usize,
        /// Who was asked.
        anchors: Anchors,
    },
    /// So many refused that no majority was left.
    #[error("the anchors refused: {0}")]
    Refused(String),
    /// Others changed the record all the time.
    #[error("other changes of the cluster record came first; try again")]
    Busy,
    /// The disk refused.
    #[error("the store could not be written: {0}")]
    Store(String),
}

impl From<DiskError> for DecreeError {
    fn from(error: DiskError) -> Self {
        Self::Store(error.to_string())
    }
}

/// The chain as it was kept, or as the set-up knew it, or the founding of a cluster from before there were decrees.
pub(super) async fn load(disk: &Disk, files: &NodeFiles, replica: &Replica) -> Result<Chain, String> {
    let kept = disk
        .run(|store| read(store, CHAIN))
        .await
        .map_err(|error| error.to_string())?;
    let kept: Option<Kept> = kept.or_else(|| files.bootstrap.decrees.clone());
    if let Some(kept) = kept {
        return Ok(Chain::restore(kept));
    }
    let mut keys = BTreeMap::from([(files.key.id(), files.key.public())]);
    let said = replica.facts(&Scope::System).filter_map(keyring::node_record);
    let known = files
        .bootstrap
        .nodes
        .iter()
        .map(|(_, record)| record.clone())
        .chain(said);
    let leaves = known.filter_map(|record| Leaf::parse(&record.certificate).ok());
    keys.extend(leaves.map(|leaf| (leaf.node, leaf.key)));
    let standing = Standing::founding(&files.bootstrap.cluster, &keys);
    let unknown =
        || "the data directory lacks the record of the node that made the cluster; join again with a token".to_owned();
    standing.map(Chain::new).ok_or_else(unknown)
}

fn read<T: serde::de::DeserializeOwned>(store: &Store, key: &[u8]) -> Result<Option<T>, StoreError> {
    let Some(bytes) = store.get(TABLE, key)? else {
        return Ok(None);
    };
    let read = postcard::from_bytes(&bytes).map_err(|error| StoreError::Damaged(format!("decrees: {error}")))?;
    Ok(Some(read))
}

fn write(store: &Store, key: &[u8], value: &impl serde::Serialize) -> Result<(), StoreError> {
    let bytes = postcard::to_stdvec(value).map_err(|error| StoreError::Damaged(format!("decrees: {error}")))?;
    store.put(TABLE, key, &bytes)
}

/// Has the chain on disk when it returns.
pub(super) async fn keep(state: &State) -> Result<(), DiskError> {
    let kept = state.roster().decrees().keep();
    state.disk.run(move |store| write(store, CHAIN, &kept)).await
}

/// Says what an operator should know of what came in.
pub(super) fn note(state: &State, taken: Taken) {
    if let Some(version) = taken.forked {
        let message = format!(
            "the anchors decided two things for version {version} of the cluster record: was the disk of one copied or restored? \
             All nodes follow one of them; look at `fabricctl anchor list`"
        );
        state.note("decrees-forked", message);
    }
}

/// Takes up what was decided, whoever says so.
pub(super) async fn learn(state: &State, decrees: &[Sealed]) {
    let taken = state.roster().learn(decrees);
    note(state, taken);
    if taken.changed {
        // The engine looks at the members at its next turn; it is gone only at the end.
        let _ended = state.commands.send(Command::Look).await;
        state.members_changed();
    }
}

/// Answers a proposer. What was promised or accepted is on disk when this returns.
pub(super) async fn answer(state: &Arc<State>, from: NodeId, request: Asked) -> Result<Answer, String> {
    if let Asked::Learn(decrees) = &request {
        learn(state, decrees).await;
        return Ok(Answer::Learned);
    }
    let holder = state.clone();
    let answered = move |store: &Store| {
        if changes_list(&holder, &request) && seat::witnesses_for(&holder).is_none() {
            return Ok(Answer::Refused(NOT_SEATED.to_owned()));
        }
        let mut ledger: Ledger = read(store, LEDGER)?.unwrap_or_default();
        let before = ledger.clone();
        let answer = {
            let roster = holder.roster();
            ledger.answer(roster.decrees(), &holder.key, from, &request)
        };
        if ledger != before {
            write(store, LEDGER, &ledger)?;
        }
        Ok(answer)
    };
    state.disk.run(answered).await.map_err(|error| error.to_string())
}

/// Whether a request would have this anchor seal another list of anchors.
fn changes_list(state: &State, request: &Asked) -> bool {
    let Asked::Accept { decree, .. } = request else {
        return false;
    };
    match &decree.act {
        Act::AddAnchor(_) | Act::DropAnchor(_) => true,
        Act::Remove(removal) => state.roster().standing().seat(removal.node).is_some(),
        Act::AddRoot(_) | Act::DropRoot(_) | Act::RaiseWire(_) => false,
    }
}

/// Has the anchors decide this, as one of them. What it is based on may change meanwhile: then it is looked at again.
pub(super) async fn decide(state: &Arc<State>, mesh: &Mesh, act: Act) -> Result<(), DecreeError> {
    let _one_at_a_time = state.deciding.lock().await;
    let tried = tokio::time::timeout(DECIDE_DEADLINE, tries(state, mesh, act));
    tried.await.unwrap_or(Err(DecreeError::Busy))
}

async fn tries(state: &Arc<State>, mesh: &Mesh, act: Act) -> Result<(), DecreeError> {
    let (own, mut heard) = (state.own(), None);
    let mut patience = PATIENCE;
    let began = state.roster().standing().version();
    loop {
        // Another proposer may have brought it through, and this node heard so from a third.
        if state
            .roster()
            .decrees()
            .since(began)
            .iter()
            .any(|step| step.decree.act == act)
        {
            return keep(state).await.map_err(DecreeError::from);
        }
        let standing = state.roster().standing().clone();
        if standing.seat(own).is_none() {
            return Err(DecreeError::NotAnchor(standing.cluster().anchors.nodes));
        }
        // By now the key may be known to somebody who is no anchor any more.
        if let Act::AddRoot(root) = &act
            && !authority::is_made_for(state, root, &standing)
        {
            return Err(DecreeError::Busy);
        }
        let wanted = standing.next(act.clone());
        standing.after(&wanted)?;
        match propose(state, mesh, &standing, wanted, ballot(heard, own)).await {
            Outcome::Decided(sealed) => {
                let done = sealed.decree.act == act;
                learn(state, std::slice::from_ref(&sealed)).await;
                keep(state).await?;
                spread(state, mesh, &standing, &sealed);
                if done {
                    return Ok(());
                }
            }
            Outcome::Learned(steps) => {
                learn(state, &steps).await;
                if steps.iter().any(|step| step.decree.act == act) {
                    return Ok(());
                }
            }
            Outcome::Outbid(higher) => {
                heard = heard.max(Some(higher));
                let pause = PAUSE_MAX.mul_f64(rand::rng().random::<f64>());
                tokio::time::sleep(pause).await;
            }
            Outcome::Refused(why) if why == NOT_SEATED => tokio::time::sleep(PAUSE_MAX).await,
            Outcome::Refused(why) => return Err(DecreeError::Refused(why)),
            Outcome::Silent(_) if patience > 0 => {
                patience -= 1;
                tokio::time::sleep(PAUSE_MAX).await;
            }
            Outcome::Silent(agreed) => {
                let anchors = standing.cluster().anchors;
                return Err(DecreeError::NoMajority { agreed, anchors });
            }
        }
    }
}

/// Above all that was heard, and one that this node did not use before it was started.
fn ballot(heard: Option<Ballot>, own: NodeId) -> Ballot {
    let above = Ballot::above(heard, own);
    let clock = u64::try_from(wallclock::since_epoch().as_millis()).unwrap_or(0);
    Ballot {
        round: above.round.max(clock),
        by: own,
    }
}

enum Outcome {
    Decided(Sealed),
    Learned(Vec<Sealed>),
    Outbid(Ballot),
    Refused(String),
    /// So many agreed, and the others did not answer.
    Silent(usize),
}

type Asking<'a> = BoxFuture<'a, (NodeId, Result<Answer, String>)>;

async fn propose(
    state: &Arc<State>,
    mesh: &Mesh,
    standing: &Standing,
    wanted: crate::decree::Decree,
    ballot: Ballot,
) -> Outcome {
    let (mut proposal, request) = Proposal::new(standing.clone(), wanted, ballot);
    let mut asking: FuturesUnordered<Asking<'_>> = ask_all(state, mesh, standing, &request).collect();
    while let Some((node, answer)) = asking.next().await {
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => {
                tracing::debug!(anchor = %node, "a decree was not answered: {why}");
                continue;
            }
        };
        match proposal.hear(node, answer) {
            Step::Wait => {}
            Step::Ask(request) => asking.extend(ask_all(state, mesh, standing, &request)),
            Step::Teach(node, above) => {
                let (steps, again) = (state.roster().decrees().since(above), proposal.request());
                asking.push(Box::pin(async move {
                    let taught = ask(state, mesh, node, &Asked::Learn(steps)).await;
                    match taught {
                        Ok(_) => (node, ask(state, mesh, node, &again).await),
                        Err(why) => (node, Err(why)),
                    }
                }));
            }
            Step::Learned(steps) => return Outcome::Learned(steps),
            Step::Outbid(ballot) => return Outcome::Outbid(ballot),
            Step::Decided(sealed) => return Outcome::Decided(sealed),
            Step::Refused(why) => return Outcome::Refused(why),
        }
    }
    Outcome::Silent(proposal.agreed())
}

fn ask_all<'a>(
    state: &'a Arc<State>,
    mesh: &'a Mesh,
    standing: &Standing,
    request: &Asked,
) -> impl Iterator<Item = Asking<'a>> {
    let nodes: Vec<NodeId> = standing.seats().iter().map(|seat| seat.node).collect();
    let request = request.clone();
    nodes.into_iter().map(move |node| -> Asking<'a> {
        let request = request.clone();
        Box::pin(async move { (node, ask(state, mesh, node, &request).await) })
    })
}

async fn ask(state: &Arc<State>, mesh: &Mesh, node: NodeId, request: &Asked) -> Result<Answer, String> {
    if node == state.own() {
        return answer(state, node, request.clone()).await;
    }
    internal::ask(mesh, node, &Request::Decree(request.clone())).await
}

/// Tells the anchors what was decided, those that it made included. Who does not hear it here hears it as a fact.
fn spread(state: &Arc<State>, mesh: &Mesh, before: &Standing, sealed: &Sealed) {
    let mut nodes: Vec<NodeId> = before.seats().iter().map(|seat| seat.node).collect();
    if let Act::AddAnchor(key) = &sealed.decree.act {
        nodes.push(NodeId::of_key(key));
    }
    let above = before.version().saturating_sub(8);
    let steps = state.roster().decrees().since(above);
    for node in nodes.into_iter().filter(|node| *node != state.own()) {
        let (state, mesh, steps) = (state.clone(), mesh.clone(), steps.clone());
        tokio::spawn(async move { ask(&state, &mesh, node, &Asked::Learn(steps)).await.map(|_| ()) });
    }
}

/// Whether a node runs, is connected and knows decrees.
pub(super) async fn knows_decrees(state: &Arc<State>, mesh: &Mesh, node: NodeId) -> bool {
    let steps = state.roster().decrees().since(0);
    mesh.has(node) && ask(state, mesh, node, &Asked::Learn(steps)).await.is_ok()
}

/// As [`knows_decrees`], of a node that is expected to.
pub(super) async fn comes_to_know_decrees(state: &Arc<State>, mesh: &Mesh, node: NodeId) -> bool {
    for _ in 0..PATIENCE {
        if knows_decrees(state, mesh, node).await {
            return true;
        }
        tokio::time::sleep(PAUSE_MAX).await;
    }
    knows_decrees(state, mesh, node).await
}
