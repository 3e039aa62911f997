//! Frames, built by etherparse.

use datapath_common::Address;
use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Ethernet2Header, Icmpv4Header, Icmpv4Type, Icmpv6Header,
    Icmpv6Type, IpEcn, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketBuilder, PacketBuilderStep, UdpHeader,
    VlanId,
};

use crate::book::{
    ALL_NODES, ALL_NODES_MAC, HERE_MAC, HERE_V4, HERE_V6, NEXT_HOP_MAC, UNSPECIFIED, VXLAN, Workload, solicited,
};

/// ECN codepoints.
pub(crate) const NOT_ECT: u8 = 0;
pub(crate) const ECT_1: u8 = 1;
pub(crate) const ECT_0: u8 = 2;
pub(crate) const CE: u8 = 3;

/// An Ethernet frame with any payload.
pub(crate) fn ethernet(source: [u8; 6], destination: [u8; 6], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let header = Ethernet2Header {
        source,
        destination,
        ether_type: EtherType(ether_type),
    };
    [&header.to_bytes()[..], payload].concat()
}

fn written<L>(builder: PacketBuilderStep<L>, write: impl Fn(PacketBuilderStep<L>, &mut Vec<u8>)) -> Vec<u8> {
    let mut frame = Vec::new();
    write(builder, &mut frame);
    frame
}

/// UDP over IPv4 with any ports and payload.
pub(crate) fn udp4_ports(from: &Workload, to: &Workload, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(from.mac, to.mac)
        .ipv4(from.v4, to.v4, 64)
        .udp(ports.0, ports.1);
    written(builder, |builder, frame| builder.write(frame, payload).unwrap())
}

/// UDP over IPv6 with any ports and payload.
pub(crate) fn udp6_ports(from: &Workload, to: &Workload, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(from.mac, to.mac)
        .ipv6(from.v6, to.v6, 64)
        .udp(ports.0, ports.1);
    written(builder, |builder, frame| builder.write(frame, payload).unwrap())
}

/// UDP over IPv4.
pub(crate) fn udp4(from: &Workload, to: &Workload) -> Vec<u8> {
    udp4_ports(from, to, (40_000, 53), b"what is the address of")
}

/// UDP over IPv6.
pub(crate) fn udp6(from: &Workload, to: &Workload) -> Vec<u8> {
    udp6_ports(from, to, (40_000, 53), b"what is the address of")
}

/// TCP over IPv4.
pub(crate) fn tcp4(from: &Workload, to: &Workload, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(from.mac, to.mac)
        .ipv4(from.v4, to.v4, 64)
        .tcp(40_001, 80, 7, 1024)
        .ack(9);
    written(builder, |builder, frame| builder.write(frame, payload).unwrap())
}

/// TCP over IPv6.
pub(crate) fn tcp6(from: &Workload, to: &Workload, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(from.mac, to.mac)
        .ipv6(from.v6, to.v6, 64)
        .tcp(40_001, 80, 7, 1024)
        .ack(9);
    written(builder, |builder, frame| builder.write(frame, payload).unwrap())
}

/// TCP over IPv4 with these flags, the ports as in [`tcp4`]. Its checksum, which nobody here looks at, is wrong.
pub(crate) fn tcp4_flags(from: &Workload, to: &Workload, flags: u8) -> Vec<u8> {
    let mut frame = tcp4(from, to, b"");
    frame[14 + 20 + 13] = flags;
    frame
}

/// The same from the responder: ports swapped.
pub(crate) fn tcp4_back(from: &Workload, to: &Workload, flags: u8) -> Vec<u8> {
    let mut frame = tcp4_flags(from, to, flags);
    let (source, destination) = ([frame[34], frame[35]], [frame[36], frame[37]]);
    frame[34..36].copy_from_slice(&destination);
    frame[36..38].copy_from_slice(&source);
    frame
}

/// An SCTP packet of nothing but its header.
pub(crate) fn sctp4(from: &Workload, to: &Workload) -> Vec<u8> {
    ip4(from, to, 132, 0, &[0x0b, 0xb8, 0x0b, 0xb9, 0, 0, 0, 1, 0, 0, 0, 0])
}

/// An ICMP message of a type with an identifier.
pub(crate) fn echo4(from: &Workload, to: &Workload, kind: u8, identifier: u16) -> Vec<u8> {
    let [a, b] = identifier.to_be_bytes();
    let builder = PacketBuilder::ethernet2(from.mac, to.mac)
        .ipv4(from.v4, to.v4, 64)
        .icmpv4_raw(kind, 0, [a, b, 0, 1]);
    written(builder, |builder, frame| {
        builder.write(frame, b"are you there").unwrap()
    })
}

/// An ICMPv6 message of a type with an identifier.
pub(crate) fn echo6(from: &Workload, to: &Workload, kind: u8, identifier: u16) -> Vec<u8> {
    let [a, b] = identifier.to_be_bytes();
    let builder = PacketBuilder::ethernet2(from.mac, to.mac)
        .ipv6(from.v6, to.v6, 64)
        .icmpv6_raw(kind, 0, [a, b, 0, 1]);
    written(builder, |builder, frame| {
        builder.write(frame, b"are you there").unwrap()
    })
}

/// An IPv4 header with a payload of another protocol and ECN bits.
pub(crate) fn ip4(from: &Workload, to: &Workload, protocol: u8, ecn: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    let mut header = Ipv4Header::new(length, 64, IpNumber(protocol), from.v4, to.v4).unwrap();
    header.ecn = IpEcn::try_new(ecn).unwrap();
    header.header_checksum = header.calc_header_checksum();
    ethernet(from.mac, to.mac, 0x0800, &[&header.to_bytes()[..], payload].concat())
}

/// An IPv6 header with a payload of another protocol and ECN bits.
pub(crate) fn ip6(from: &Workload, to: &Workload, protocol: u8, ecn: u8, payload: &[u8]) -> Vec<u8> {
    let header = Ipv6Header {
        traffic_class: ecn,
        flow_label: Ipv6FlowLabel::ZERO,
        payload_length: u16::try_from(payload.len()).unwrap(),
        next_header: IpNumber(protocol),
        hop_limit: 255,
        source: from.v6,
        destination: to.v6,
    };
    ethernet(from.mac, to.mac, 0x86dd, &[&header.to_bytes()[..], payload].concat())
}

/// A frame with an IEEE 802.1Q tag.
pub(crate) fn vlan(from: &Workload, to: &Workload) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(from.mac, to.mac)
        .single_vlan(VlanId::try_new(5).unwrap())
        .ipv4(from.v4, to.v4, 64)
        .udp(1, 2);
    written(builder, |builder, frame| builder.write(frame, b"tagged").unwrap())
}

/// An ARP packet from `source` (the Ethernet header's).
pub(crate) fn arp(
    link: ([u8; 6], [u8; 6]),
    operation: ArpOperation,
    sender: ([u8; 6], [u8; 4]),
    target: ([u8; 6], [u8; 4]),
) -> Vec<u8> {
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &sender.0,
        &sender.1,
        &target.0,
        &target.1,
    );
    let builder = PacketBuilder::ethernet2(link.0, link.1).arp(packet.unwrap());
    written(builder, |builder, frame| builder.write(frame).unwrap())
}

/// An ICMPv6 message.
pub(crate) fn icmp6(link: ([u8; 6], [u8; 6]), ip: ([u8; 16], [u8; 16]), kind: u8, body: &[u8]) -> Vec<u8> {
    icmp6_hops(link, ip, kind, body, 255)
}

/// An ICMPv6 message with any hop limit.
pub(crate) fn icmp6_hops(
    link: ([u8; 6], [u8; 6]),
    ip: ([u8; 16], [u8; 16]),
    kind: u8,
    body: &[u8],
    hop_limit: u8,
) -> Vec<u8> {
    let head = [body[0], body[1], body[2], body[3]];
    let builder = PacketBuilder::ethernet2(link.0, link.1)
        .ipv6(ip.0, ip.1, hop_limit)
        .icmpv6_raw(kind, 0, head);
    written(builder, |builder, frame| builder.write(frame, &body[4..]).unwrap())
}

/// The body of a neighbour message: flags, target, options.
pub(crate) fn neighbour(flags: u8, target: [u8; 16], options: &[&[u8]]) -> Vec<u8> {
    [&[flags, 0, 0, 0][..], &target, &options.concat()].concat()
}

/// A link-layer address option.
pub(crate) fn link_option(kind: u8, mac: [u8; 6]) -> Vec<u8> {
    [&[kind, 1][..], &mac].concat()
}

/// A neighbour solicitation as an operating system sends it: to the target's group, with its own link-layer address.
pub(crate) fn solicitation(from: &Workload, source: [u8; 16], target: [u8; 16]) -> Vec<u8> {
    let (mac, group) = solicited(target);
    let body = if source == UNSPECIFIED {
        neighbour(0, target, &[])
    } else {
        neighbour(0, target, &[&link_option(1, from.mac)])
    };
    icmp6((from.mac, mac), (source, group), 135, &body)
}

/// The advertisement that answers a solicitation of `asker`, who had address `source`.
pub(crate) fn advertisement(owner: &Workload, target: [u8; 16], asker: &Workload, source: [u8; 16]) -> Vec<u8> {
    let (mac, destination, flags) = if source == UNSPECIFIED {
        (ALL_NODES_MAC, ALL_NODES, 0x20)
    } else {
        (asker.mac, source, 0x60)
    };
    let body = neighbour(flags, target, &[&link_option(2, owner.mac)]);
    icmp6((owner.mac, mac), (target, destination), 136, &body)
}

/// The ICMP error about `frame` that goes back to who sent it, from `router` or else from where it was going; of this type
/// and code, with `rest` in the second word.
pub(crate) fn icmp_error(frame: &[u8], router: Option<Address>, says: (u8, u8), rest: u32) -> Vec<u8> {
    let (kind, code) = says;
    let (destination, source) = (frame[..6].try_into().unwrap(), frame[6..12].try_into().unwrap());
    let packet = &frame[14..];
    if frame[12..14] == [0x08, 0] {
        let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        let quote = &packet[..length.min(512)];
        let from = router.map_or_else(
            || packet[16..20].try_into().unwrap(),
            |address| address[12..].try_into().unwrap(),
        );
        let icmp = Icmpv4Type::Unknown {
            type_u8: kind,
            code_u8: code,
            bytes5to8: rest.to_be_bytes(),
        };
        let icmp = Icmpv4Header::with_checksum(icmp, quote);
        let length = u16::try_from(8 + quote.len()).unwrap();
        let mut ip = Ipv4Header::new(length, 64, IpNumber::ICMP, from, packet[12..16].try_into().unwrap()).unwrap();
        ip.header_checksum = ip.calc_header_checksum();
        return ethernet(
            destination,
            source,
            0x0800,
            &[&ip.to_bytes()[..], &icmp.to_bytes(), quote].concat(),
        );
    }
    let length = 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    let quote = &packet[..length.min(512)];
    let from = router.unwrap_or_else(|| packet[24..40].try_into().unwrap());
    let to: [u8; 16] = packet[8..24].try_into().unwrap();
    let icmp = Icmpv6Type::Unknown {
        type_u8: kind,
        code_u8: code,
        bytes5to8: rest.to_be_bytes(),
    };
    let icmp = Icmpv6Header::with_checksum(icmp, from, to, quote).unwrap();
    let ip = Ipv6Header {
        traffic_class: 0,
        flow_label: Ipv6FlowLabel::ZERO,
        payload_length: u16::try_from(8 + quote.len()).unwrap(),
        next_header: IpNumber::IPV6_ICMP,
        hop_limit: 64,
        source: from,
        destination: to,
    };
    ethernet(
        destination,
        source,
        0x86dd,
        &[&ip.to_bytes()[..], &icmp.to_bytes(), quote].concat(),
    )
}

/// What goes around a frame that travels through a tunnel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tunnel {
    pub(crate) link: ([u8; 6], [u8; 6]),
    pub(crate) port: u16,
    pub(crate) destination_port: u16,
    pub(crate) ecn: u8,
    pub(crate) flow_label: u32,
    pub(crate) flags: u8,
    pub(crate) vni: u32,
    pub(crate) more_fragments: bool,
}

/// A tunnel with any first word of its header, and something between the header and the inner frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Special<'a> {
    tunnel: Tunnel,
    header: [u8; 4],
    options: &'a [u8],
}

impl Special<'_> {
    fn payload(self, inner: &[u8]) -> Vec<u8> {
        let mut payload = self.tunnel.payload(&[self.options, inner].concat());
        payload[8..12].copy_from_slice(&self.header);
        payload
    }

    /// Over IPv4.
    pub(crate) fn over4(self, source: [u8; 4], destination: [u8; 4], inner: &[u8]) -> Vec<u8> {
        self.tunnel.around4(source, destination, &self.payload(inner))
    }

    /// Over IPv6.
    pub(crate) fn over6(self, source: [u8; 16], destination: [u8; 16], inner: &[u8]) -> Vec<u8> {
        self.tunnel.around6(source, destination, &self.payload(inner))
    }

    /// From host B to us over IPv4.
    pub(crate) fn by_b(self, inner: &[u8]) -> Vec<u8> {
        self.over4(crate::book::HOST_B_V4, HERE_V4, inner)
    }
}

impl Tunnel {
    /// With another first word behind the UDP header, and options.
    pub(crate) fn with(self, header: [u8; 4], options: &[u8]) -> Special<'_> {
        Special {
            tunnel: self,
            header,
            options,
        }
    }

    /// As a peer sends it to us.
    pub(crate) fn inbound(vni: u32) -> Self {
        Self {
            link: (NEXT_HOP_MAC, HERE_MAC),
            port: 50_000,
            destination_port: VXLAN,
            ecn: NOT_ECT,
            flow_label: 0,
            flags: 0x08,
            vni,
            more_fragments: false,
        }
    }

    fn payload(self, inner: &[u8]) -> Vec<u8> {
        let length = u16::try_from(8 + 8 + inner.len()).unwrap();
        let udp = UdpHeader {
            source_port: self.port,
            destination_port: self.destination_port,
            length,
            checksum: 0,
        };
        let vni = self.vni.to_be_bytes();
        [
            &udp.to_bytes()[..],
            &[self.flags, 0, 0, 0, vni[1], vni[2], vni[3], 0],
            inner,
        ]
        .concat()
    }

    /// Over IPv4.
    pub(crate) fn over4(self, source: [u8; 4], destination: [u8; 4], inner: &[u8]) -> Vec<u8> {
        self.around4(source, destination, &self.payload(inner))
    }

    fn around4(self, source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut ip = Ipv4Header::new(
            u16::try_from(payload.len()).unwrap(),
            64,
            IpNumber::UDP,
            source,
            destination,
        )
        .unwrap();
        ip.ecn = IpEcn::try_new(self.ecn).unwrap();
        ip.more_fragments = self.more_fragments;
        ip.dont_fragment = !self.more_fragments;
        ip.header_checksum = ip.calc_header_checksum();
        ethernet(
            self.link.0,
            self.link.1,
            0x0800,
            &[&ip.to_bytes()[..], payload].concat(),
        )
    }

    /// Over IPv6.
    pub(crate) fn over6(self, source: [u8; 16], destination: [u8; 16], inner: &[u8]) -> Vec<u8> {
        self.around6(source, destination, &self.payload(inner))
    }

    fn around6(self, source: [u8; 16], destination: [u8; 16], payload: &[u8]) -> Vec<u8> {
        let ip = Ipv6Header {
            traffic_class: self.ecn,
            flow_label: Ipv6FlowLabel::try_new(self.flow_label).unwrap(),
            payload_length: u16::try_from(payload.len()).unwrap(),
            next_header: IpNumber::UDP,
            hop_limit: 64,
            source,
            destination,
        };
        ethernet(
            self.link.0,
            self.link.1,
            0x86dd,
            &[&ip.to_bytes()[..], payload].concat(),
        )
    }

    /// From host B to us over IPv4.
    pub(crate) fn by_b(self, inner: &[u8]) -> Vec<u8> {
        self.over4(crate::book::HOST_B_V4, HERE_V4, inner)
    }

    /// From host B to us over IPv6.
    pub(crate) fn by_b6(self, inner: &[u8]) -> Vec<u8> {
        self.over6(crate::book::HOST_B_V6, HERE_V6, inner)
    }
}

/// The frame with another TTL or hop limit, and its checksum right.
pub(crate) fn with_ttl(frame: &[u8], ttl: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame[12..14] == [0x86, 0xdd] {
        frame[21] = ttl;
        return frame;
    }
    frame[22] = ttl;
    let mut header = Ipv4Header::from_slice(&frame[14..]).unwrap().0;
    header.header_checksum = header.calc_header_checksum();
    let bytes = header.to_bytes();
    frame[14..][..bytes.len()].copy_from_slice(&bytes);
    frame
}

/// The frame as a router sends it on: from it to `to`, one hop older.
pub(crate) fn routed(frame: &[u8], to: &Workload) -> Vec<u8> {
    let ttl = if frame[12..14] == [0x86, 0xdd] {
        frame[21]
    } else {
        frame[22]
    };
    let mut frame = with_ttl(frame, ttl - 1);
    frame[..6].copy_from_slice(&to.mac);
    frame[6..12].copy_from_slice(&crate::book::ROUTER_MAC);
    frame
}
