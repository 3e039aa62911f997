//! What the slow path finds out about a packet, step by step. It lies in a map of each CPU, not on the stack, which has 512
//! bytes; and the verifier, which forgets what is in a map, sees fewer paths. A program is not preempted by another one
//! that walks on the same CPU, and a tail call stays on it, so that `router` finds what the slow path left.

use core::mem::offset_of;

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use datapath_common::connection::FLAGS;
use datapath_common::{Address, ConnectionKey, Flow, FlowKey, FragmentKey, Groups};

use crate::chain::Pending;
use crate::drop::Owner;
use crate::headers::{MacWords, protocol};
use crate::maps::{GENERATIONS, SCRATCH};
use crate::policy::Evaluation;
use crate::{flow, words};

/// All of it.
#[repr(C)]
pub struct Walk {
    /// The decision. First, because it is copied in words of eight bytes.
    pub flow: Flow,
    /// For whom it is counted.
    pub owner: Owner,
    /// What leads to the decision.
    pub key: FlowKey,
    /// The workload's interface that it came in by; 0 if it came through a tunnel.
    pub ifindex: u32,
    /// Whether the decision may be cached.
    pub cache: bool,
    /// The connection, as its initiator's packets carry it.
    pub tuple: ConnectionKey,
    /// The packet belongs to a fragmented one.
    pub fragment: FragmentKey,
    /// Segment of the source address.
    pub source_vni: u32,
    /// MAC address, in that segment, of the station that sends it.
    pub source_mac: MacWords,
    /// Groups of the station that sends it, and of the one that gets it.
    pub source_groups: Groups,
    pub destination_groups: Groups,
    /// What is known of the IP packet.
    pub ip: Ip,
    /// Seconds and nanoseconds of the coarse monotonic clock.
    pub now: u32,
    pub nanoseconds: u64,
    /// What the router says to it, `ANSWER_*` or an ICMP error as type << 8 | code; and what is in the error.
    pub answer: u32,
    pub answer_mtu: u32,
    /// Why the packet was dropped that an ICMP error is about.
    pub reason: u32,
    /// Whom an ICMP error is from; zero if nobody can say it.
    pub gateway: Address,
    /// What is left to do when the domain's functions were asked.
    pub pending: Pending,
    /// Who gets copies of it, or the one who gets it without being asked for.
    pub flood: Flood,
    /// A rule list being asked.
    pub evaluation: Evaluation,
    /// What an ICMP error quotes.
    pub quote: [u8; QUOTE],
}

/// What `flood.rs` does with a frame.
#[repr(C)]
pub struct Flood {
    /// The set in `FLOODS` and how many its members are; without members, the frame goes where `Walk::flow` says.
    pub set: u32,
    pub members: u32,
    /// Whether each workload's rules are asked, and whether other hosts get a copy: 0 or 1.
    pub rules: u32,
    pub peers: u32,
    /// Whether it is an IP packet: 0 or 1.
    pub ip: u32,
    /// The endpoint that sent it, which gets none; 0 if it came through a tunnel, or from user space.
    pub sender: u32,
    /// Bytes before its Ethernet header, which are a tunnel's; its outer ECN bits, and whether the outer header is IPv4.
    pub start: u32,
    pub outer_ecn: u32,
    pub outer_v4: u32,
    /// Its ethertype, in network order.
    pub ether_type: u32,
    /// The longest packet in it without its Ethernet header.
    pub longest: u32,
    /// How many got a copy, and who of the first 64.
    pub copied: u32,
    pub copies: u64,
}

/// Most bytes of an IP packet that an ICMP error quotes.
pub const QUOTE: usize = 512;

/// `Walk::answer`: none.
pub const ANSWER_NONE: u32 = 0;
/// `Walk::answer`: an echo reply.
pub const ANSWER_ECHO: u32 = 1 << 16;

/// What is known of an IP packet. Offsets count from the start of the frame.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Ip {
    /// `IP_*`.
    pub flags: u32,
    /// The two ECN bits.
    pub ecn: u32,
    /// TTL or hop limit.
    pub ttl: u32,
    /// Where the IP header starts.
    pub start: u32,
    /// Where the upper layer starts.
    pub upper: u32,
    /// Where the IP packet ends.
    pub end: u32,
    /// Of a fragment: where what is fragmented starts.
    pub part: u32,
    /// Of a fragment: where in the whole it belongs, in bytes.
    pub position: u32,
    /// TCP: its flags.
    pub tcp: u32,
    /// ICMP of its family: type << 8 | code; else `NO_ICMP`.
    pub icmp: u32,
}

/// It is IPv4.
pub const IP_V4: u32 = 1;
/// It is a fragment.
pub const IP_FRAGMENT: u32 = 2;
/// It is a fragment and not the first one: there is no upper-layer header.
pub const IP_LATER: u32 = 4;
/// Options or extension headers stand before the upper layer.
pub const IP_EXTENDED: u32 = 8;
/// It is a first fragment without the whole header of its upper layer.
pub const IP_TINY: u32 = 16;
/// `Ip::icmp` of other packets.
pub const NO_ICMP: u32 = u32::MAX;

impl Ip {
    /// Whether it is IPv4.
    #[inline(always)]
    pub fn v4(&self) -> bool {
        self.flags & IP_V4 != 0
    }

    /// Whether any of these `IP_*` holds.
    #[inline(always)]
    pub fn is(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }

    /// Type of an ICMP message.
    #[inline(always)]
    pub fn icmp_kind(&self) -> Option<u8> {
        match self.icmp {
            NO_ICMP => None,
            icmp => Some((icmp >> 8) as u8),
        }
    }
}

impl Walk {
    /// Of a packet of which nothing is known.
    #[inline(always)]
    pub fn start() -> Option<&'static mut Self> {
        let walk = Self::resume()?;
        // SAFETY: no arguments.
        let nanoseconds = unsafe { bpf_ktime_get_coarse_ns() };
        walk.nanoseconds = nanoseconds;
        walk.now = (nanoseconds / NANOSECONDS) as u32;
        walk.owner = Owner::NOBODY;
        walk.ifindex = 0;
        walk.answer = ANSWER_NONE;
        walk.cache = true;
        walk.flow.flags = 0;
        walk.flow.told = flow::tick();
        const { assert!(offset_of!(Self, flow.outer) % 4 == 0 && offset_of!(Self, gateway) % 4 == 0) };
        // SAFETY: at multiples of four bytes, as asserted.
        unsafe {
            words::zero_address(&mut walk.flow.outer);
            words::zero_address(&mut walk.gateway);
        }
        walk.flood.sender = 0;
        walk.flood.start = 0;
        walk.flood.copied = 0;
        walk.flood.copies = 0;
        Some(walk)
    }

    /// Of the packet that the program before this one walked.
    #[inline(always)]
    pub fn resume() -> Option<&'static mut Self> {
        let walk = SCRATCH.get_ptr_mut(0)?;
        // SAFETY: this CPU's only value, of which nobody else has a reference (see the head of this file).
        Some(unsafe { &mut *walk })
    }

    /// Remembers that the decision depends on what has this slot of `GENERATIONS`, before that is looked up.
    #[inline(always)]
    pub fn depends(&mut self, on: On, slot: u32) {
        match GENERATIONS.get(slot) {
            Some(generation) => {
                self.flow.slots[on as usize] = slot;
                self.flow.generations[on as usize] = *generation;
            }
            None => self.cache = false,
        }
    }

    /// Whether the flags say that a packet like this may find its decision in `FLOWS`.
    #[inline(always)]
    pub fn cacheable(&self) -> bool {
        self.cache && !self.ip.is(IP_FRAGMENT | IP_EXTENDED)
    }

    /// Whether it is a TCP packet that may turn its connection to another state: any but a plain ACK.
    #[inline(always)]
    pub fn turns(&self) -> bool {
        self.key.protocol == u32::from(protocol::TCP) && self.ip.tcp & FLAGS != datapath_common::connection::ACK
    }
}

/// Nanoseconds in a second.
pub const NANOSECONDS: u64 = 1_000_000_000;

/// What a decision depends on: indexes of `Flow::slots`.
#[derive(Clone, Copy)]
pub enum On {
    /// The station that the source address belongs to.
    Source = 0,
    /// The station that it goes to.
    Destination = 1,
    /// Rules and routes.
    Domain = 2,
}
