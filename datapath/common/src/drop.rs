//! Why a packet is dropped. The one numbered table: kernel, metrics and command line use these numbers and names.
//! A number is never given to another reason.

macro_rules! reasons {
    ($($(#[doc = $text:literal])+ $name:ident = $number:literal, $label:literal;)+) => {
        /// Why a packet was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Reason { $($(#[doc = $text])+ $name = $number,)+ }

        impl Reason {
            /// Every reason, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name that operators see.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }

            /// The reason with this number.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

reasons! {
    /// The frame or one of its headers ends early.
    Truncated = 1, "truncated";
    /// A header contradicts itself: version, header length, total length.
    Malformed = 2, "malformed";
    /// The interface belongs to no endpoint that is programmed.
    UnknownPort = 3, "unknown_port";
    /// Source MAC is not the endpoint's.
    SourceMac = 4, "source_mac";
    /// Source address is not the endpoint's.
    SourceAddress = 5, "source_address";
    /// An ARP sender or an ND answer for an address that is not the endpoint's.
    NeighbourSpoof = 6, "neighbour_spoof";
    /// Nobody has the address that ARP or ND asks for.
    UnknownNeighbour = 7, "unknown_neighbour";
    /// Nobody has the destination MAC.
    UnknownDestination = 8, "unknown_destination";
    /// The workload reaches for the host's own side of its link.
    HostLink = 9, "host_link";
    /// Broadcast or multicast that has no member, or that is not carried.
    Multicast = 10, "multicast";
    /// An ethertype that is not carried.
    EtherType = 11, "ether_type";
    /// The domain's policy denies it.
    Policy = 12, "policy";
    /// Larger than the network's or the path's MTU.
    Mtu = 13, "mtu";
    /// The tunnel's outer source is no host of the cluster.
    UnknownVtep = 14, "unknown_vtep";
    /// The VNI is not in use here.
    UnknownVni = 15, "unknown_vni";
    /// A VXLAN header without the I flag.
    VxlanFlags = 16, "vxlan_flags";
    /// An inner source MAC or address that does not live at the host the tunnel came from.
    WrongVtep = 17, "wrong_vtep";
    /// A tunnelled frame for a station that is not here (split horizon).
    NotHere = 18, "not_here";
    /// No way to the host behind the tunnel.
    NoRoute = 19, "no_route";
    /// The kernel refused to rewrite or redirect the packet.
    Kernel = 20, "kernel";
    /// Left the host side of a workload's interface without our doing.
    NotForwarded = 21, "not_forwarded";
    /// Outer CE on an inner packet that is not ECN-capable (RFC 6040 section 4.2).
    Ecn = 22, "ecn";
    /// A fragment of an outer packet (RFC 7348 section 4.3).
    OuterFragment = 23, "outer_fragment";
    /// A router advertisement or a DHCP server's answer from a workload.
    RogueServer = 24, "rogue_server";
    /// A neighbour solicitation for the asker's own address (duplicate address detection): nobody else has it.
    DadProbe = 25, "dad_probe";
    /// The stub found no program: the set is not loaded.
    NoProgram = 26, "no_program";
    /// An answer to a question nobody has to see: gratuitous ARP, unsolicited NA for the endpoint's own address.
    Gratuitous = 27, "gratuitous";
    /// TCP flags that no stack sends together.
    TcpFlags = 28, "tcp_flags";
    /// A later fragment whose first one was not seen or was dropped.
    FragmentState = 29, "fragment_state";
    /// A first fragment without its upper-layer header, or a later one that would overwrite it (RFC 3128, RFC 8200).
    TinyFragment = 30, "tiny_fragment";
    /// An address that no packet of a workload may carry: loopback, unspecified, reserved, or source equal to destination.
    Martian = 31, "martian";
    /// TTL or hop limit ran out at the router.
    TtlExceeded = 32, "ttl_exceeded";
    /// The router has no route to the destination.
    Unroutable = 33, "unroutable";
    /// A blackhole route.
    Blackhole = 34, "blackhole";
    /// More than the endpoint may cause: ICMP errors, floods, slow-path runs, punts.
    RateLimit = 35, "rate_limit";
    /// An ICMP error that quotes no connection of the domain, or an answer nobody asked for.
    Unrelated = 36, "unrelated";
    /// A Geneve header of another version (RFC 8926 section 3.4).
    GeneveVersion = 37, "geneve_version";
    /// A Geneve header with a critical option that is not known, or whose options contradict its length.
    GeneveOption = 38, "geneve_option";
    /// A Geneve control packet (O bit).
    GeneveControl = 39, "geneve_control";
    /// A Geneve payload that is no Ethernet frame.
    GeneveProtocol = 40, "geneve_protocol";
    /// For the router itself, which does not speak it.
    RouterPort = 41, "router_port";
    /// A function of the domain's chain dropped it.
    Function = 42, "function";
    /// A function of the domain's chain is missing or returned what means nothing, and the chain fails closed.
    FunctionFailed = 43, "function_failed";
    /// The kernel dropped it when it came in by an interface of ours.
    DeviceReceive = 44, "device_receive";
    /// The kernel dropped it when it left by an interface of ours.
    DeviceTransmit = 45, "device_transmit";
    /// A super-packet that is in a tunnel already, where no tunnel device of the kernel is there to cut it into packets.
    Unsegmentable = 46, "unsegmentable";
    /// A tunnel packet to an address of this host that is not its tunnel address.
    OtherAddress = 47, "other_address";
    /// The destination address is exactly another station's than the destination MAC leads to.
    DestinationAddress = 48, "destination_address";
    /// A VXLAN header with a reserved bit set, where these are not ignored (RFC 7348 section 5 says to ignore them).
    VxlanReserved = 49, "vxlan_reserved";
    /// The outer UDP length is not what the outer IP length leaves for it.
    OuterLength = 50, "outer_length";
    /// The outer TTL or hop limit is 0.
    OuterTtl = 51, "outer_ttl";
    /// The outer IPv4 header's checksum is wrong.
    OuterChecksum = 52, "outer_checksum";
    /// A path probe that is none: length, magic, version or kind.
    ProbeMalformed = 60, "probe_malformed";
    /// More path probes from one host than are answered.
    ProbeRate = 61, "probe_rate";
    /// An answer to a path probe that nobody here sent.
    ProbeUnexpected = 62, "probe_unexpected";
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::format;

    #[test]
    fn operators_find_every_reason() {
        let document = include_str!("../../DROPS.md");
        for reason in Reason::ALL {
            let row = format!("\n| {} | `{}` | ", *reason as u32, reason.name());
            assert!(document.contains(&row), "{} is not in DROPS.md", reason.name());
        }
        let rows = document
            .lines()
            .filter(|line| line.starts_with("| ") && line.contains("` |"))
            .count();
        assert_eq!(rows, Reason::ALL.len(), "DROPS.md has a row that is no reason's");
    }
}
