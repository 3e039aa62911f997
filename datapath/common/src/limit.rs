//! How much of a thing an endpoint may cause: token buckets in `LIMITS`, and how many connections it may hold.
//! Nobody is refused a connection: what is beyond a fair share stands apart from all others' ([`LIMIT_CONNECTIONS`]).

use crate::MemberKey;
#[cfg(doc)]
use crate::remote_station;

/// `LimitKey::kind`: ICMP errors sent to an endpoint.
pub const LIMIT_ICMP: u32 = 1;
/// `LimitKey::kind`: group frames and others that go to all of a segment, and what neighbours tell one.
pub const LIMIT_BROADCAST: u32 = 2;
/// `LimitKey::kind`: packets that the slow path decides.
pub const LIMIT_SLOW: u32 = 3;
/// `LimitKey::kind`: packets given to user space.
pub const LIMIT_PUNT: u32 = 4;
/// `LimitKey::kind`: connections that begin; those beyond it are kept apart, in `CROWDED`, as is what was closed.
pub const LIMIT_CONNECTIONS: u32 = 5;
/// `LimitKey::kind`: ICMP errors that a station sends to others.
pub const LIMIT_RELATED: u32 = 6;
/// `LimitKey::kind`: first fragments; what those beyond it said is kept apart, in `CROWDED_FRAGMENTS`.
pub const LIMIT_FRAGMENTS: u32 = 7;

/// `LimitKey::kind`: decisions that are remembered for the first time; packets beyond it are decided one by one.
pub const LIMIT_FLOWS: u32 = 8;

/// A token bucket's.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// How many in a second.
    pub second: u64,
    /// How many at once after a pause.
    pub burst: u64,
}

/// Of `LIMIT_ICMP`.
pub const RATE_ICMP: Rate = rate(100, 100);
/// Of `LIMIT_BROADCAST`.
pub const RATE_BROADCAST: Rate = rate(500, 1000);
/// Of `LIMIT_SLOW`.
pub const RATE_SLOW: Rate = rate(100_000, 200_000);
/// Of `LIMIT_PUNT`.
pub const RATE_PUNT: Rate = rate(100, 200);
/// Of `LIMIT_CONNECTIONS`.
pub const RATE_CONNECTIONS: Rate = rate(2000, 8192);
/// Of `LIMIT_RELATED`: what Linux sends by default (`net.ipv4.icmp_msgs_per_sec`).
pub const RATE_RELATED: Rate = rate(1000, 1000);
/// Of `LIMIT_FRAGMENTS`.
pub const RATE_FRAGMENTS: Rate = rate(200, 1000);
/// Of `LIMIT_FLOWS`. All that one sender may remember at once is a quarter of `FLOWS`; after that, what he sends takes
/// at least 24 seconds to push out all others' that have no packets meanwhile.
pub const RATE_FLOWS: Rate = rate(4000, 32_768);

const fn rate(second: u64, burst: u64) -> Rate {
    Rate { second, burst }
}

/// `Connection::endpoint` of those that came faster than their opener's fair rate, or are closed.
pub const CROWD: u32 = u32::MAX;
/// How many connections `CONNECTIONS` holds. No domain has more of them than are free besides [`CONNECTIONS_RESERVE`],
/// unless these are fewer than [`CONNECTIONS_FLOOR`].
pub const CONNECTIONS_MAX: u32 = 262_144;
/// Room that is left to domains with few connections, however many want all.
pub const CONNECTIONS_RESERVE: u32 = 65_536;
/// Connections that a domain may have of that room.
pub const CONNECTIONS_FLOOR: u32 = 1024;
/// Whether a domain that has `held` connections may have one more where there is room for `free`.
#[must_use]
#[inline(always)]
pub const fn shares(held: u64, free: u64) -> bool {
    held.saturating_add(CONNECTIONS_RESERVE as u64) < free || held < CONNECTIONS_FLOOR as u64 && free > 0
}
/// Connections that an endpoint opened and that stand in `CONNECTIONS`, at most; and those that other hosts' workloads
/// opened to it.
pub const ESTABLISHED_MAX: u32 = 65_536;

/// Of `LimitKey::endpoint`: not an endpoint's number, but a station's of another host ([`remote_station`]). Of
/// `Connection::endpoint` and keys of `ESTABLISHED`: what other hosts' workloads opened to the endpoint.
pub const LIMIT_REMOTE: u32 = 1 << 31;
/// Of keys of `ESTABLISHED`: not an endpoint's number, but a domain's; 0 stands for all.
pub const ESTABLISHED_DOMAIN: u32 = 1 << 30;

/// Key of `AUDITS` that counts connections that found `CONNECTIONS` full, or too many of their endpoint's or domain's in
/// it, and stay where they were.
pub const AUDIT_CONNECTIONS_FULL: MemberKey = MemberKey {
    set: u32::MAX,
    index: 0,
};
/// Key of `AUDITS` that counts VXLAN packets whose reserved bits are set and were ignored (RFC 7348 section 5).
pub const AUDIT_VXLAN_RESERVED: MemberKey = MemberKey {
    set: u32::MAX,
    index: 1,
};
