//! What the scenario tests share. A scenario is a program under `scenarios/` that makes one fleet with
//! `deploy/lab.sh` under a name of its own, runs its steps on it in order and removes it, also when steps fail.
//!
//! | module | what |
//! |---|---|
//! | [`scenario`] | **start here**: the steps of a scenario and how they are run and counted |
//! | [`lab`] | a fleet: its hosts and workloads, `fabricctl` on its hosts |
//! | [`netns`] | doing something inside a network namespace |
//! | [`deadline`] | waiting for a condition, with an end |
//! | [`flow`] | TCP and UDP between two workloads |
//! | [`load`] | ten thousand flows between two workloads that go on all the time |
//! | [`places`] | many workloads on interfaces that outlive their endpoints, and who answers for which address |
//! | [`chatter`] | workloads that all talk to each other, and what they hear |
//! | [`api`] | calls of a daemon by its socket |
//! | [`clients`] | clients that write through the API all the time, and what was acknowledged |
//! | [`fault`] | a daemon that stands still, a host without its pins and links, what another build leaves |
//! | [`dice`] | numbers from a seed |
//! | [`capture`], [`tshark`] | what an interface saw, what Wireshark makes of it |
//! | [`frame`], [`wire`] | making frames, sending them |
//! | [`stage`] | a lab as the address book of crafted frames |
//! | [`guest`] | a tap with segmentation offload and a machine behind it |
//! | [`machine`] | QEMU with a tap, which can be killed and started again |
//! | [`peer`] | a daemon of its own, outside a lab |

pub mod api;
pub mod capture;
pub mod chatter;
pub mod clients;
pub mod deadline;
pub mod dice;
pub mod fault;
pub mod flow;
pub mod frame;
pub mod guest;
pub mod lab;
pub mod load;
pub mod machine;
pub mod netns;
pub mod peer;
pub mod places;
pub mod scenario;
pub mod stage;
pub mod tshark;
pub mod wire;
