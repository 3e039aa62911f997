//! Why a packet is dropped, under the names that the datapath counts it by.

macro_rules! reasons {
    ($($(#[doc = $text:literal])+ $name:ident = $label:literal;)+) => {
        /// Why a packet is dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[doc = $text])+ $name,)+ }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name that operators see.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }
        }
    };
}

reasons! {
    /// The frame or one of its headers ends early.
    Truncated = "truncated";
    /// A header contradicts itself.
    Malformed = "malformed";
    /// The interface belongs to no endpoint that is programmed.
    UnknownPort = "unknown_port";
    /// Source MAC is not the endpoint's.
    SourceMac = "source_mac";
    /// Source address is not the endpoint's.
    SourceAddress = "source_address";
    /// An ARP sender or an ND answer for an address that is not the endpoint's; any ND in a tunnel.
    NeighbourSpoof = "neighbour_spoof";
    /// Nobody has the address that ARP or ND asks for.
    UnknownNeighbour = "unknown_neighbour";
    /// Nobody has the destination MAC.
    UnknownDestination = "unknown_destination";
    /// The destination address is another one's than the destination MAC.
    DestinationAddress = "destination_address";
    /// The workload reaches for the host's own side of its link.
    HostLink = "host_link";
    /// Broadcast or multicast that is not carried.
    Multicast = "multicast";
    /// An ethertype that is not carried.
    EtherType = "ether_type";
    /// The domain's policy denies it.
    Policy = "policy";
    /// Larger than the network's MTU.
    Mtu = "mtu";
    /// The tunnel's outer source is no host that is known here.
    UnknownVtep = "unknown_vtep";
    /// The VNI is not in use here.
    UnknownVni = "unknown_vni";
    /// A VXLAN header without the I flag.
    VxlanFlags = "vxlan_flags";
    /// An inner source that does not live at the host the tunnel came from.
    WrongVtep = "wrong_vtep";
    /// A tunnelled frame for a station that is not here (split horizon).
    NotHere = "not_here";
    /// No way to the host behind the tunnel.
    NoRoute = "no_route";
    /// Outer CE on an inner packet that is not ECN-capable (RFC 6040 section 4.2).
    Ecn = "ecn";
    /// A fragment of an outer packet (RFC 7348 section 4.3).
    OuterFragment = "outer_fragment";
    /// A router advertisement or a DHCP server's answer.
    RogueServer = "rogue_server";
    /// Somebody asks for his own address (duplicate address detection).
    DadProbe = "dad_probe";
    /// An answer to a question nobody asked.
    Gratuitous = "gratuitous";
    /// TCP flags that no stack sends together.
    TcpFlags = "tcp_flags";
    /// A later fragment whose first one was not seen or was dropped.
    FragmentState = "fragment_state";
    /// A first fragment without its upper-layer header, or a later one that would overwrite it (RFC 3128, RFC 8200).
    TinyFragment = "tiny_fragment";
    /// An address that no packet of a workload may carry.
    Martian = "martian";
    /// TTL or hop limit ran out at the router.
    TtlExceeded = "ttl_exceeded";
    /// The router has no route to the destination.
    Unroutable = "unroutable";
    /// A blackhole route.
    Blackhole = "blackhole";
    /// An ICMP error that quotes no connection of the domain, or an answer nobody asked for.
    Unrelated = "unrelated";
    /// A Geneve header of another version.
    GeneveVersion = "geneve_version";
    /// A Geneve option that must be understood, or options that contradict their length.
    GeneveOption = "geneve_option";
    /// A Geneve control packet.
    GeneveControl = "geneve_control";
    /// A Geneve payload that is no Ethernet frame.
    GeneveProtocol = "geneve_protocol";
    /// A VXLAN header with a reserved bit set, on a strict host.
    VxlanReserved = "vxlan_reserved";
    /// The outer UDP length is not what the outer IP length leaves for it.
    OuterLength = "outer_length";
    /// The outer TTL or hop limit is 0.
    OuterTtl = "outer_ttl";
    /// The outer IPv4 header's checksum is wrong.
    OuterChecksum = "outer_checksum";
    /// Left the host side of a workload's interface without our doing.
    NotForwarded = "not_forwarded";
    /// More than the endpoint may cause.
    RateLimit = "rate_limit";
    /// A path probe that is none.
    ProbeMalformed = "probe_malformed";
    /// An answer to a path probe that nobody here sent.
    ProbeUnexpected = "probe_unexpected";
    /// For the router itself, which does not speak it.
    RouterPort = "router_port";
}
