//! Why a rule cannot be what it was given.

use super::ports::PortRange;

/// Why a part of a SecurityPolicy does not exist with this content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// More rules than a policy has.
    #[error("at most {max} rules are allowed in both directions together, not {0}; split the policy", max = super::Rules::MAX)]
    Rules(usize),
    /// Not a priority.
    #[error("a priority is a number from 0 to 65535, not {0}")]
    Priority(u64),
    /// `to` in an ingress rule.
    #[error("an ingress rule says with `from` who may connect; `to` belongs in an egress rule")]
    ToInIngress,
    /// `from` in an egress rule.
    #[error("an egress rule says with `to` whom to connect to; `from` belongs in an ingress rule")]
    FromInEgress,
    /// Neither or both of the two forms of a peer.
    #[error("a peer is either `selector` or `cidrs`; for anybody leave the whole field out")]
    Peer,
    /// Not a protocol.
    #[error("a protocol is any, tcp, udp, sctp, icmp or a number from 0 to 255, not {0}")]
    Protocol(String),
    /// Ports of a protocol that has none, or of several.
    #[error("`ports` are of tcp, udp and sctp only; say which with `protocol`")]
    PortsWithout,
    /// A list without elements would be read as "all" by some and as "none" by others.
    #[error("`ports` is empty; leave it out for all ports")]
    NoPorts,
    /// Not a port and not a range.
    #[error("a port is a number from 1 to 65535 or a range as 8000-8999, not {0:?}")]
    Port(String),
    /// Two ranges have a port in common.
    #[error("{0} and {1} overlap")]
    PortsOverlap(PortRange, PortRange),
    /// Type or code of another protocol.
    #[error("`icmpType` and `icmpCode` are of protocol icmp only")]
    IcmpWithout,
    /// A code says nothing without its type.
    #[error("`icmpCode` needs an `icmpType`")]
    CodeWithoutType,
    /// Not a byte.
    #[error("{field} is a number from 0 to 255, not {given}")]
    Icmp {
        /// `icmpType` or `icmpCode`.
        field: &'static str,
        /// As written.
        given: u64,
    },
    /// An operator that compares, without anything to compare with.
    #[error("{0} needs at least one value")]
    NoValues(&'static str),
    /// An operator that does not compare.
    #[error("{0} has no values")]
    Values(&'static str),
}
