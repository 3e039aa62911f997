//! Virtual networks as operators write them, what all hosts know of them, and what one host has to do for them. Pure: no
//! I/O, no clock, no randomness, no `unsafe`; it builds on any operating system.
//!
//! An intent comes in as text and leaves as a [`forwarding::Forwarding`]; the modules in that order:
//!
//! | module | makes | of |
//! |---|---|---|
//! | [`name`], [`subnet`], [`prefix`] | names and numbers that can only exist valid | text |
//! | [`object`] | Domain, Network, Endpoint, Router, SecurityPolicy; bodies of records and back | fields |
//! | [`manifest`] | objects, or errors with file, document, line and field | YAML or JSON |
//! | [`catalogue`], [`admission`] | what an apply changes, complete, or why it is refused; what a deletion takes with it | objects, all domains |
//! | [`address`], [`vni`] | MACs, addresses and VNIs that the fabric chooses | names |
//! | [`fact`] | what hosts say: tunnel ends, attachments, claimed addresses | bodies of records |
//! | [`cluster`], [`view`] | a domain as any node sees it (**start here**) | the replica |
//! | [`mod@compile`] | what one host has to do, and [`condition`]s of what is not in force | a view |
//! | [`follow`] | the same again after a change, at the cost of the change | records |
//! | [`forwarding`] | the result: ports, stations, routers, rules, hosts | |
//! | [`model`] | what becomes of a packet: the specification of the datapath | forwardings |
//!
//! `claims` (which claimed addresses count), `ruleset` (rules from policies), `hash` (numbers from names) and `near`
//! (which word was meant) serve these; `fuzzing` shows what reads bytes to fuzzers.

pub mod address;
pub mod admission;
pub mod catalogue;
mod claims;
pub mod cluster;
pub mod compile;
pub mod condition;
pub mod fact;
pub mod follow;
pub mod forwarding;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod hash;
pub mod manifest;
pub mod model;
pub mod name;
mod near;
pub mod object;
pub mod prefix;
mod ruleset;
pub mod subnet;
pub mod view;
pub mod vni;

pub use compile::compile;
