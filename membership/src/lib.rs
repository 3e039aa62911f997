//! Membership: who belongs to the cluster, who is alive, and what all of them agree on.
//!
//! Start at [`record`], then [`replica`], then [`sync`]; `ALGORITHM.md` tells why it converges.
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
//! | `root` | digests over a scope |
//! | [`replica`] | all that this node holds, and `merge` |
//! | [`author`] | this node's own writes |
//! | [`claim`] | exclusive keys and their witnesses |
//! | [`store`] | the disk form |
//! | `wire` | messages between replicas |
//! | [`sync`] | the replication protocol, without I/O |
//! | [`service`] | the shell: one running peer |

pub mod author;
pub mod batch;
pub mod claim;
mod facts;
#[cfg(test)]
mod fixture;
pub mod hlc;
pub mod id;
pub mod keyring;
pub mod node;
pub mod record;
pub mod replica;
mod root;
pub mod service;
mod siblings;
pub mod signed;
pub mod store;
pub mod sync;
mod wire;
