//! Packets that user space gets, and those that it has delivered: which, and what stands before them.
//!
//! A record of `PUNTS` is a [`PuntHeader`] and the frame, or its first [`PUNT_BYTES`]. What user space writes to the
//! interface `PUNT_INTERFACE` is 14 bytes of an Ethernet header with the ethertype of IPv4, whatever follows; a
//! [`PuntHeader`] of which `domain`, `endpoint` and `vni` count; and the frame, for that endpoint's MAC address.

layouts! {
    /// Key of `PUNT_RULES`.
    PuntKey {
        /// Segment.
        vni: u32,
        /// Protocol number.
        protocol: u32,
        /// Destination port; of ICMP, the type; 0 for protocols without.
        port: u32,
    }

    /// Value of `PUNT_RULES`.
    PuntRule {
        /// What user space calls it.
        kind: u32,
        /// `PUNT_TAKE`, `PUNT_COPY`.
        action: u32,
    }

    /// What stands before a frame.
    PuntHeader {
        /// The domain's number.
        domain: u32,
        /// Number of the endpoint that sent it, or that gets it.
        endpoint: u32,
        /// Segment.
        vni: u32,
        /// `PuntRule::kind`.
        kind: u32,
        /// Bytes of the frame.
        length: u32,
        /// How many of them follow.
        captured: u32,
    }
}

/// `PuntRule::action`: user space gets it, nobody else does.
pub const PUNT_TAKE: u32 = 1;
/// `PuntRule::action`: it goes its way as well.
pub const PUNT_COPY: u32 = 2;

/// Most bytes of a frame in a record.
pub const PUNT_BYTES: usize = 2048;
/// Bytes of the ring buffer `PUNTS`.
pub const PUNTS_BYTES: u32 = 1 << 20;
/// The interface by which user space has packets delivered.
pub const PUNT_INTERFACE: &str = "fabric-punt";
