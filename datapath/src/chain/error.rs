//! Why a function cannot be loaded or removed. Texts say what to do.

use std::io;
use std::path::PathBuf;

use membership::id::Label;
use overlay::name::DomainName;

use crate::error::Error;

/// Why a function cannot be loaded or removed.
#[derive(Debug, thiserror::Error)]
pub enum FunctionError {
    /// No such domain here.
    #[error("nothing of the domain {0} is on this host: attach one of its endpoints here first")]
    NoDomain(DomainName),
    /// No such function.
    #[error("the domain {domain} has no function {name} on this host: see `fabricctl function list`")]
    NoFunction {
        /// The domain.
        domain: DomainName,
        /// The function.
        name: Label,
    },
    /// It stands elsewhere.
    #[error("{0} is loaded at the other hook: remove it first, or take another name")]
    OtherHook(Label),
    /// The chain is full.
    #[error("the domain has eight functions at this hook already: remove one first")]
    TooMany,
    /// The table is full.
    #[error("this host has no room for another chain of functions: remove functions of other domains first")]
    NoRoom,
    /// The tables of another build are in force.
    #[error("a build with other tables is in force until this one has taken over: try again in some seconds")]
    Succession,
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is no function.
    #[error("{path} is no function: {why}")]
    Object {
        /// The file.
        path: PathBuf,
        /// Why not, and what to do.
        why: String,
    },
    /// It does what a function must not.
    #[error("{path} is refused: {what}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What it does.
        what: Refusal,
    },
    /// The datapath cannot obey.
    #[error(transparent)]
    Datapath(#[from] Error),
}

/// What a function must not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It calls the kernel.
    #[error(
        "it calls the kernel's helper {0}, which is not one that functions may call (datapath/sdk/README.md lists them)"
    )]
    Helper(i32),
    /// It calls a kernel function.
    #[error("it calls a function inside the kernel: functions call helpers only")]
    KernelFunction,
    /// It refers to something of the kernel or to a map that is not its own.
    #[error("it refers to something that is not in its own file: functions have maps of their own only")]
    Foreign,
    /// It has instructions that functions do not have.
    #[error("it has an instruction (code {0:#04x}) that functions do not have: compile it with a current compiler")]
    Instruction(u8),
    /// A map of a kind that functions do not have.
    #[error("its map {0} is of a kind that functions do not have: take a hash, an array, an LRU hash or a trie")]
    MapKind(String),
    /// A map with a name that others could know.
    #[error("its map {0} is pinned: functions' maps are nobody else's")]
    Pinned(String),
    /// It is large.
    #[error("{what} exceeds {most}: make it smaller")]
    Size {
        /// What.
        what: &'static str,
        /// The bound.
        most: usize,
    },
    /// It does not declare its licence.
    #[error("it declares no licence: add a section `license`")]
    Licence,
    /// The kernel found that it writes packets or looks where it must not.
    #[error("the kernel's verifier finds that it writes packets or looks where functions must not: {0}")]
    Writes(String),
    /// The kernel refuses it.
    #[error("the kernel's verifier refuses it: {0}")]
    Verifier(String),
}
