//! Membership: who belongs to the cluster, who is alive, and what all of them agree on.
//!
//! Start at [`record`], then [`replica`], then [`sync`]; `ALGORITHM.md` tells why it converges. Then [`service`], the
//! running peer, and below it `mesh`.
//!
//! | module | owns |
//! |---|---|
//! | [`id`] | names of clusters, nodes, scopes |
//! | [`hlc`] | stamps |
//! | [`record`] | facts and intent, heads, digests, causal contexts |
//! | [`node`] | what the cluster says of itself |
//! | [`signed`] | signatures over records |
//! | [`keyring`] | whose signatures count |
//! | [`batch`] | what travels and is merged as one |
//! | `facts` | the facts of one origin: heads, chains, sets |
//! | `siblings` | the versions of one object |
//! | `touched` | which keys changed of late |
//! | `root` | digests over a scope |
//! | [`replica`] | all that this node holds, and `merge` |
//! | [`history`] | what objects said before |
//! | [`author`] | this node's own writes |
//! | [`collect`] | when the tombstone of a deleted object may go |
//! | [`claim`] | exclusive keys and their witnesses |
//! | [`decree`] | how the cluster record changes |
//! | [`store`] | the disk form |
//! | [`wire`] | messages between replicas, and which version of them two nodes speak |
//! | [`sync`] | the replication protocol, without I/O |
//! | [`identity`] | a node's key and its machine |
//! | [`pki`] | the cluster's certificates |
//! | [`renewal`] | when a node renews its certificate |
//! | [`token`] | what lets a host join |
//! | `home` | the data directory |
//! | `join` | how a host becomes a node |
//! | `mesh` | connections between members |
//! | `gossip` | who is alive, as all see it |
//! | `liveness` | how each member looks from here |
//! | `health` | whether this node may act on that |
//! | `counter` | what is counted |
//! | `wallclock` | the clocks, for shells only |
//! | `clocks` | how this node's clock stands to those of others |
//! | [`service`] | the shell: one running peer |
//! | `fuzzing` | what reads bytes from outside, for fuzzers |

pub mod author;
pub mod batch;
pub mod claim;
mod clocks;
pub mod collect;
mod counter;
pub mod decree;
mod facts;
#[cfg(test)]
mod fixture;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gossip;
mod health;
pub mod history;
pub mod hlc;
mod home;
pub mod id;
pub mod identity;
mod join;
pub mod keyring;
mod liveness;
mod mesh;
pub mod node;
pub mod pki;
pub mod record;
pub mod renewal;
pub mod replica;
mod root;
pub mod service;
mod siblings;
pub mod signed;
pub mod store;
pub mod sync;
pub mod token;
mod touched;
mod wallclock;
pub mod wire;
