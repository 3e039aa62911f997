//! Headers as they stand on the wire, fields in network order. Fields are whole words, as in C: at offset 14 a word is
//! not on its natural boundary, which every machine we run on reads in one access (the verifier refuses it elsewhere).

/// A header without padding of which any bytes are valid.
///
/// # Safety
/// `repr(C)` of integers without padding.
pub unsafe trait Header {}

macro_rules! headers {
    ($($name:ident)+) => { $(
        // SAFETY: repr(C) of integers; the size is asserted in this file, so that there is no padding.
        unsafe impl Header for $name {}
    )+ };
}

headers!(u32 Ethernet Ipv4 Ipv6 Fragment Extension Udp Tcp Vxlan Geneve GeneveOption Arp Icmp Icmp6 Neighbour LinkOption);

/// A MAC address as three words in memory order.
pub type MacWords = [u16; 3];

/// Ethernet II.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ethernet {
    pub destination: MacWords,
    pub source: MacWords,
    pub ether_type: u16,
}

impl Ethernet {
    /// Both addresses as they stand in a map.
    #[inline(always)]
    pub fn addresses(&self) -> [u8; 12] {
        // SAFETY: same size, and any words are valid bytes.
        unsafe { core::mem::transmute([self.destination, self.source]) }
    }

    /// With addresses as they stand in a map.
    #[inline(always)]
    pub fn with(addresses: [u8; 12], ether_type: u16) -> Self {
        // SAFETY: same size, and any bytes are valid words.
        let [destination, source] = unsafe { core::mem::transmute::<[u8; 12], [MacWords; 2]>(addresses) };
        Self {
            destination,
            source,
            ether_type,
        }
    }
}

/// IPv4 without options (RFC 791).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv4 {
    pub version_length: u8,
    pub traffic_class: u8,
    pub total_length: u16,
    pub identification: u16,
    pub fragment: u16,
    pub ttl: u8,
    pub protocol: u8,
    pub checksum: u16,
    pub source: u32,
    pub destination: u32,
}

/// IPv6 (RFC 8200).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv6 {
    /// Version (4 bits), traffic class (8), flow label (20).
    pub version_class_flow: u32,
    pub payload_length: u16,
    pub next_header: u8,
    pub hop_limit: u8,
    pub source: [u32; 4],
    pub destination: [u32; 4],
}

/// IPv6 fragment header (RFC 8200 section 4.5).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Fragment {
    pub next_header: u8,
    pub reserved: u8,
    pub offset: u16,
    pub identification: u32,
}

/// The start of an IPv6 extension header (RFC 8200 section 4); its length is in units of 8 bytes beyond the first 8.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Extension {
    pub next_header: u8,
    pub length: u8,
}

/// UDP (RFC 768); TCP and SCTP have their ports at the same place.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Udp {
    pub source: u16,
    pub destination: u16,
    pub length: u16,
    pub checksum: u16,
}

/// TCP without options (RFC 9293).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tcp {
    pub source: u16,
    pub destination: u16,
    pub sequence: u32,
    pub acknowledgement: u32,
    /// Data offset in words in the high four bits.
    pub offset: u8,
    pub flags: u8,
    pub window: u16,
    pub checksum: u16,
    pub urgent: u16,
}

/// VXLAN (RFC 7348 section 5).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Vxlan {
    /// R R R R I R R R, then 24 reserved bits.
    pub flags: u32,
    /// VNI in the first 24 bits, then 8 reserved ones.
    pub vni: u32,
}

/// Geneve without options (RFC 8926 section 3.4).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Geneve {
    /// Version (2 bits), length of the options in units of 4 bytes (6).
    pub version_length: u8,
    /// O, C, then 6 reserved bits.
    pub flags: u8,
    pub protocol: u16,
    /// VNI in the first 24 bits, then 8 reserved ones.
    pub vni: u32,
}

/// The start of a Geneve option (RFC 8926 section 3.5).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct GeneveOption {
    pub class: u16,
    /// C in the highest bit.
    pub kind: u8,
    /// Three reserved bits, then the length of what follows in units of 4 bytes.
    pub length: u8,
}

/// ARP for Ethernet and IPv4 (RFC 826), as half words: nothing in it is on a word boundary.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Arp {
    pub hardware: u16,
    pub protocol: u16,
    pub lengths: u16,
    pub operation: u16,
    pub sender_mac: MacWords,
    pub sender_address: [u16; 2],
    pub target_mac: MacWords,
    pub target_address: [u16; 2],
}

/// An ICMP or ICMPv6 message of which the second word matters: echo and errors (RFC 792, RFC 4443).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    pub checksum: u16,
    /// Identifier and sequence number, or what an error says.
    pub rest: [u16; 2],
}

/// The start of an ICMPv6 message (RFC 4443).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Icmp6 {
    pub kind: u8,
    pub code: u8,
    pub checksum: u16,
}

/// A neighbour solicitation or advertisement without options (RFC 4861 sections 4.3, 4.4).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Neighbour {
    pub icmp: Icmp6,
    /// R, S, O in the highest bits of an advertisement.
    pub flags: u32,
    pub target: [u32; 4],
}

/// A link-layer address option (RFC 4861 section 4.6.1).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LinkOption {
    pub kind: u8,
    pub length: u8,
    pub mac: MacWords,
}

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = size_of::<Ethernet>();
/// The shortest frame on a wire, without its check sequence.
pub const SHORTEST: usize = 60;
/// Bytes that a tunnel adds to a frame besides the outer IP header: UDP, VXLAN and the inner Ethernet header.
pub const TUNNEL: usize = size_of::<Udp>() + size_of::<Vxlan>() + ETHERNET;

const _: () = assert!(ETHERNET == 14 && size_of::<Ipv4>() == 20 && size_of::<Ipv6>() == 40);
const _: () = assert!(size_of::<Udp>() == 8 && size_of::<Tcp>() == 20 && size_of::<Vxlan>() == 8);
const _: () = assert!(size_of::<Arp>() == 28 && size_of::<Neighbour>() == 24 && size_of::<LinkOption>() == 8);
const _: () = assert!(size_of::<Geneve>() == 8 && size_of::<GeneveOption>() == 4 && size_of::<Icmp>() == 8);
const _: () = assert!(size_of::<Fragment>() == 8 && size_of::<Extension>() == 2 && size_of::<Icmp6>() == 4);

/// Ethertypes, in network order.
pub mod ether {
    pub const IPV4: u16 = 0x0800_u16.to_be();
    pub const ARP: u16 = 0x0806_u16.to_be();
    pub const IPV6: u16 = 0x86dd_u16.to_be();
    /// Tags of IEEE 802.1Q and 802.1ad.
    pub const TAG: u16 = 0x8100_u16.to_be();
    pub const SERVICE_TAG: u16 = 0x88a8_u16.to_be();
}

/// IP protocol numbers and IPv6 next headers.
pub mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const ICMP6: u8 = 58;
    pub const DESTINATION: u8 = 60;
    pub const SCTP: u8 = 132;
}
