//! Why a field of an object cannot be what it was given.

use std::net::IpAddr;

use membership::id::Label;

use super::policy::PolicyError;
use super::router::RouterError;
use crate::prefix::Prefix;
use crate::subnet::Subnet;

/// Why a field does not exist with this content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// More than the limit.
    #[error("at most {max} {what} are allowed, not {given}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
        /// How many there were.
        given: usize,
    },
    /// Longer than the limit.
    #[error("at most {max} characters are allowed, not {given}")]
    TooLong {
        /// The limit.
        max: usize,
        /// How many there were.
        given: usize,
    },
    /// Characters that would garble a terminal.
    #[error("control characters are not allowed")]
    ControlCharacter,
    /// A network without any.
    #[error("a network needs at least one subnet")]
    NoSubnet,
    /// Two subnets of one network.
    #[error("{0} and {1} overlap")]
    SubnetsOverlap(Subnet, Subnet),
    /// No workload can have it.
    #[error("{0} cannot be a workload's address: {1}")]
    Address(IpAddr, &'static str),
    /// Twice in one list.
    #[error("{0} is listed twice")]
    AddressTwice(IpAddr),
    /// Twice in one list.
    #[error("{0} is listed twice")]
    HostTwice(Label),
    /// Not a label's key.
    #[error(
        "a label's key is 1 to 63 characters of a-z, A-Z, 0-9, '.', '_', '-' and '/', with a letter or digit at both ends, not {0:?}"
    )]
    LabelKey(String),
    /// Not a label's value.
    #[error("a label's value is at most 63 characters of a-z, A-Z, 0-9, '.', '_' and '-', not {value:?} (of {key:?})")]
    LabelValue {
        /// Its key.
        key: String,
        /// As written.
        value: String,
    },
    /// Not a label's value.
    #[error("a label's value is at most 63 characters of a-z, A-Z, 0-9, '.', '_' and '-', not {0:?}")]
    NoLabelValue(String),
    /// A field with nothing behind it.
    #[error("it is empty: write what it is, or leave the field out")]
    Null,
    /// Twice in one list.
    #[error("{0} is listed twice")]
    PrefixTwice(Prefix),
    /// Nothing can be sent from it.
    #[error("nothing can be sent from {0}: {1}")]
    Source(Prefix, &'static str),
    /// A route to nobody.
    #[error("a route needs at least one next hop")]
    NoHop,
    /// Of a SecurityPolicy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Of a Router.
    #[error(transparent)]
    Router(#[from] RouterError),
}

impl SpecError {
    /// Refuses more than `max`.
    pub(super) fn limit(what: &'static str, max: usize, given: usize) -> Result<(), Self> {
        if given > max {
            Err(Self::TooMany { what, max, given })
        } else {
            Ok(())
        }
    }
}
