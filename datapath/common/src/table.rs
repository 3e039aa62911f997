//! Keys and values of the maps.

macro_rules! layouts {
    ($($(#[doc = $text:literal])+ $name:ident { $($(#[doc = $ftext:literal])+ $field:ident: $ty:ty,)+ })+) => {
        $(
            $(#[doc = $text])+
            #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
            #[repr(C)]
            pub struct $name { $($(#[doc = $ftext])+ pub $field: $ty,)+ }

            #[cfg(feature = "user")]
            // SAFETY: repr(C) of integers and byte arrays whose fields leave no padding (asserted below).
            unsafe impl aya::Pod for $name {}

            const _: () = assert!(size_of::<$name>() == 0 $(+ size_of::<$ty>())+, "padding");
        )+
    };
}

/// An IPv6 address, or an IPv4 address mapped into one, in network order.
pub type Address = [u8; 16];

/// The address of an IPv4 address: `::ffff:a.b.c.d`.
#[must_use]
pub const fn mapped(v4: [u8; 4]) -> Address {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}

layouts! {
    /// Value of `PORTS` (key: ifindex): a workload's interface.
    Port {
        /// The domain's number on this host.
        domain: u32,
        /// The endpoint's number on this host.
        endpoint: u32,
        /// VNI of its segment.
        vni: u32,
        /// `PORT_*`.
        flags: u32,
        /// The endpoint's MAC address.
        mac: [u8; 6],
        /// The MAC address of the host side of its interface, zero if it has none of its own (a tap).
        host_mac: [u8; 6],
    }

    /// Key of `STATIONS`.
    StationKey {
        /// Segment.
        vni: u32,
        /// MAC address.
        mac: [u8; 6],
        /// Zero.
        zero: [u8; 2],
    }

    /// Value of `STATIONS`: where a MAC address lives.
    Station {
        /// Number of the host it lives on, `HERE` for this one.
        peer: u32,
        /// Here: its interface; else 0.
        ifindex: u32,
        /// Here: the endpoint's number; else 0.
        endpoint: u32,
        /// `PORT_*` of the interface.
        flags: u32,
    }

    /// Key of `NEIGHBOURS`.
    NeighbourKey {
        /// Segment.
        vni: u32,
        /// IP address.
        address: Address,
    }

    /// Value of `NEIGHBOURS`: whose an address is.
    Neighbour {
        /// Its MAC address.
        mac: [u8; 6],
        /// Zero.
        zero: [u8; 2],
    }

    /// Value of `PEERS` (key: peer number): the tunnel to a host.
    Peer {
        /// Outer source, ours.
        local: Address,
        /// Outer destination.
        remote: Address,
        /// Next hop on the link; equals `remote` if that is on the link.
        next_hop: Address,
        /// Interface it leaves by; 0 while there is no route.
        ifindex: u32,
        /// Largest outer packet, in bytes.
        mtu: u32,
        /// `PEER_*`.
        flags: u32,
        /// Source MAC on the link, valid with `PEER_RESOLVED`.
        source_mac: [u8; 6],
        /// MAC of the next hop, valid with `PEER_RESOLVED`.
        next_hop_mac: [u8; 6],
    }

    /// Value of `SEGMENTS` (key: VNI).
    Segment {
        /// The domain's number on this host.
        domain: u32,
        /// `SEGMENT_*`.
        flags: u32,
        /// MTU of its interfaces: the largest IP packet, in bytes.
        mtu: u32,
    }

    /// Key of `DROPS`.
    DropKey {
        /// The domain's number, 0 if not known.
        domain: u32,
        /// The endpoint's number, 0 if not known.
        endpoint: u32,
        /// [`crate::Reason`].
        reason: u32,
    }

    /// Value of `DROPS`, per CPU.
    Count {
        /// How many packets (a GSO super-packet is one).
        packets: u64,
        /// Their bytes.
        bytes: u64,
    }

    /// The one value of `SETTINGS`.
    Settings {
        /// Our IPv4 tunnel address, mapped; zero if none.
        ipv4: Address,
        /// Our IPv6 tunnel address; zero if none.
        ipv6: Address,
        /// UDP port of VXLAN, host order.
        port: u32,
        /// What `skb->mark` is on packets that we redirect to a workload's host side.
        mark: u32,
        /// `KERNEL_*`.
        kernel: u32,
        /// Zero.
        zero: u32,
    }
}

/// `Station::peer` of a station on this host.
pub const HERE: u32 = 0;

/// The other end is in another namespace: `bpf_redirect_peer` may be used.
pub const PORT_NAMESPACE: u32 = 1;

/// The segment's domain allows what no policy denies.
pub const SEGMENT_ALLOW: u32 = 1;

/// `source_mac` and `next_hop_mac` are valid.
pub const PEER_RESOLVED: u32 = 1;

/// `bpf_skb_adjust_room` knows BPF_F_ADJ_ROOM_DECAP_L3_IPV4/6 (Linux 6.3).
pub const KERNEL_DECAP_L3: u32 = 1;

/// Slots of the program array `PROGRAMS` that the stubs call.
pub const SLOT_FROM_ENDPOINT: u32 = 0;
/// See [`SLOT_FROM_ENDPOINT`].
pub const SLOT_TO_ENDPOINT: u32 = 1;
/// See [`SLOT_FROM_ENDPOINT`].
pub const SLOT_FROM_UNDERLAY: u32 = 2;
/// How many slots there are.
pub const SLOTS: u32 = 8;
