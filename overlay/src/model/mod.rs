//! The reference forwarding model: what the datapath must do with a packet, in plain Rust over [`Forwarding`]s. Packet
//! tests give a packet to both and compare. It is the specification of the eBPF programs and shares no code with them. It
//! refuses to be fast, and knows nothing of maps, caches, quotas, GSO (a super-packet counts as its segments) or next hops on the
//! link. Time comes in as `now`, since any start that is the same for all calls.
//!
//! Checks run in the order of these tables; the first that holds decides. Reasons are [`Reason`] names. The *owner* of an
//! address in a segment is the station that has it among its addresses or the router that has it there; else the station
//! with the longest of the extra prefixes that contain it; else nobody.
//!
//! The *groups* of an end are those of the station that sends the frame or that it is delivered to, found by MAC address; a
//! routed frame's source is the station that table Q or the sender's port leads to. A frame for everybody is for nobody in
//! particular: its far end has no groups. So a rule by selector speaks of the workload that gets the packet, whatever
//! address is in it. Rules by prefix speak of addresses, so table D refuses what is for one and goes to another.
//! **Table D** (`owner.rs` says why only this): a station or the router of the segment has exactly the destination address,
//! but not the destination MAC (a frame for everybody: has it at all). Not asked where the router sends it on: R5 via; in T,
//! the source MAC is the router's and the longest of its routes to the destination is via.
//!
//! # P: a frame from a workload (`from_endpoint`)
//!
//! | nr | check | outcome |
//! |---|---|---|
//! | P1 | the interface is no programmed port | `unknown_port` |
//! | P1a | the sender has no slow-path run left (a quota, asked where no decision is remembered: `Model::from_exhausted`) | `rate_limit` |
//! | P2 | fewer than 14 bytes | `truncated` |
//! | P3 | source MAC is not the port's | `source_mac` |
//! | P4 | destination MAC is that of the host side of the link (not asked where the host side has none: a tap) | `host_link` |
//! | P5 | the port's VNI has no segment | `unknown_vni` |
//! | P5a | destination MAC is 01:80:c2:00:00:00 to 0f (IEEE 802.1Q section 8.6.3) | `multicast` |
//! | P5b | a VLAN tag: ethertype 0x8100 or 0x88a8, or one in the frame's metadata | `ether_type` |
//! | P6 | ethertype 0x0806 | go to A |
//! | P7 | ethertype neither 0x0800 nor 0x86dd | go to L |
//! | P8 | the IP headers, by table H | `truncated`, `malformed` |
//! | P9 | source address is not the port's, by table S; `::` is let through if the destination MAC is a group address and the packet is ICMPv6 of type 131, 132, 133, 135 or 143 | `source_address` |
//! | P10 | ICMPv6 type 134 (RA); IPv4 UDP to port 68; IPv6 UDP to port 546 (what DHCP servers send) | `rogue_server` |
//! | P11 | ICMPv6 type 135 or 136 | go to N |
//! | P12 | tables M, F, G | `martian`, `tiny_fragment`, `fragment_state`, `tcp_flags` |
//! | P13 | destination MAC is a group address | go to B |
//! | P14 | destination MAC is the router's of the segment | table R finds station and segment |
//! | P15 | else: destination MAC is the port's own, or no station of the VNI has it | `unknown_destination`; in a segment that floods, go to B with one that nobody has |
//! | P15a | not routed: table D | `destination_address` |
//! | P16 | an ICMP error | table E instead of P17: `unrelated` |
//! | P17 | connection and policy, by table C | `unrelated`, `policy` |
//! | P18 | the IP packet (IPv4 total length; IPv6 40 + payload length) is longer than the MTU of the segment it leaves in | `mtu`, and an ICMP error (I) with that MTU |
//! | P19 | the station is on this host | deliver |
//! | P20 | no tunnel end of the station's host in a family that this host has, IPv4 first, or it listens on another port; or no route | `no_route` |
//! | P21 | frame without Ethernet header (padding behind the IP packet included) + 14 + 8 + 8 + outer IP header (20, 40) is longer than the path's MTU: this host's underlay MTU | `mtu`, and an ICMP error with path's MTU − 30 − outer IP header |
//! | P22 | — | encapsulate, as the domain says (VXLAN, Geneve), with the VNI of the segment it leaves in |
//!
//! # S: whose a source address is, seen in a segment from a station's MAC address (P9, A4, T10)
//!
//! | nr | check | outcome |
//! |---|---|---|
//! | S1 | IPv6 `::ffff:0:0/96` (RFC 4942 section 2.2) | not its own |
//! | S2 | the owner is that station (exact addresses first, then the longest prefix) | its own |
//! | S3 | in `fe80::/64`, and among no station's and no router's exact addresses of the segment | its own |
//! | S4 | — | not its own |
//!
//! # B: an IP packet for everybody in its segment. No connection is made, nothing is routed
//!
//! | nr | check | outcome |
//! |---|---|---|
//! | B1 | an ICMP error | `unrelated` |
//! | B1a | table D | `destination_address` |
//! | B2 | egress rules of the sender, as for a packet that opens a connection to the destination address | `policy` |
//! | B3 | the IP packet is longer than the segment's MTU (a first fragment is remembered before that) | `mtu`, no ICMP error |
//! | B4 | each other port of the segment on this host: its ingress rules, as the destination's | a copy; else `policy` counts for that endpoint |
//! | B5 | each other host with a station in the segment and a tunnel to it: P20, P21 for the frame as it came | a copy through the tunnel; else `no_route` or `mtu` counts for the sender |
//! | B6 | no copy was made | `multicast` |
//!
//! # L: a frame of which no rule speaks
//!
//! | nr | check | outcome |
//! |---|---|---|
//! | L1 | it is neither ARP nor neighbour discovery, and the domain's default is not to allow | `ether_type` |
//! | L2 | destination MAC is the port's own | `unknown_destination` |
//! | L3 | destination MAC is the router's of the segment | `router_port` |
//! | L4 | destination MAC is neither a group address nor that of a station of the VNI, and the segment does not flood | `unknown_destination` |
//! | L5 | frame without Ethernet header is longer than the segment's MTU | `mtu`, no ICMP error |
//! | L6 | a station has the MAC address | P19 to P22, without ICMP errors |
//! | L7 | — | B4 (no rules are asked) to B6 |
//!
//! Quotas, which are not modelled: what gets to L7, and ARP and neighbour discovery that get to L6, count as the sender's
//! group frames (`rate_limit`).
//!
//! # A: ARP from a workload (RFC 826, RFC 5227); unicast requests are answered here too
//!
//! | nr | check | outcome |
//! |---|---|---|
//! | A1 | fewer than 14 + 28 bytes | `truncated` |
//! | A2 | hardware type ≠ 1, protocol type ≠ 0x0800, lengths ≠ 6 and 4, or operation neither 1 nor 2 | `malformed` |
//! | A3 | sender hardware address is not the port's MAC | `neighbour_spoof` |
//! | A4 | sender protocol address is not the port's, by table S; 0.0.0.0 is let through in a request (a probe) | `neighbour_spoof` |
//! | A5 | operation 2 (an answer), or target protocol address = sender's (an announcement) | `gratuitous`; L where it is an answer to the MAC address of a station at another host (which may be a foreign one), and where the segment floods and nobody has exactly the sender's address |
//! | A6 | target protocol address is exactly one of the port's own (no prefix) | `dad_probe` |
//! | A7 | no station and no router of the VNI has exactly the target protocol address | `unknown_neighbour`; L where the segment floods |
//! | A8 | — | reply to the port: operation 2, sender = (owner's MAC, target), target = (port's MAC, sender) |
//!
//! # N: neighbour discovery from a workload (RFC 4861), after P10. For a target in fe80::/64, every segment floods
//!
//! | nr | check | outcome |
//! |---|---|---|
//! | N1 | an extension header stands before the ICMPv6 header (RFC 6980), hop limit ≠ 255, or code ≠ 0 | `malformed` |
//! | N2 | fewer than 24 bytes of ICMPv6 | `truncated` |
//! | N3 | the target is a multicast address | `malformed` |
//! | N4 | 136, the target is exactly one of the port's own | `gratuitous`; L where the destination MAC is that of a station at another host |
//! | N5 | 136, otherwise | `neighbour_spoof`; L where the segment floods, nobody has exactly the target, and it is the port's by table S |
//! | N6 | 135, the target is exactly one of the port's own | `dad_probe` |
//! | N7 | 135, the target is the link-local address of the host side's MAC (if it has one) | `host_link` |
//! | N8 | 135, no station and no router of the VNI has exactly the target | `unknown_neighbour`; L where the segment floods |
//! | N9 | 135 | reply to the port: NA for the target with target link-layer address option, O = 1, R = 1 if it is the router's, hop limit 255, source = target; asker's source `::`: S = 0, to ff02::1 (and 33:33:00:00:00:01), else S = 1, to the asker |
//!
//! # T: a packet from the underlay (`from_underlay`)
//!
//! Ours is: IPv4 or IPv6 (no extension header) without a VLAN tag, to one of this host's tunnel addresses, UDP (8 bytes
//! of it are there) to the VXLAN port or to 6081 (Geneve), not a later fragment. All else passes untouched to whoever is
//! next. Where the VXLAN port is 6081, it is VXLAN.
//!
//! | nr | check | outcome |
//! |---|---|---|
//! | T1 | outer source is not the far end of the tunnel (P20) to a host that any domain on this host knows | `unknown_vtep` |
//! | T2 | a first fragment (MF set) | `outer_fragment` |
//! | T2a | TTL or hop limit 0 | `outer_ttl` |
//! | T2b | the checksum of the IPv4 header is wrong | `outer_checksum` |
//! | T3 | UDP length or what is there of UDP is under 8 + 8 bytes; the IP packet ends behind the frame | `truncated` |
//! | T3a | UDP length ≠ what the IP header leaves for UDP (IPv4 total length − header length, IPv6 payload length) | `outer_length` |
//! | T4 | VXLAN: the flag I (0x08 of the first byte) is not set | `vxlan_flags` |
//! | | VXLAN: any other bit but those of the VNI is set, and the host is strict; else they are ignored (RFC 7348 section 5) | `vxlan_reserved` |
//! | T4a | Geneve (RFC 8926 section 3.4): version ≠ 0 | `geneve_version` |
//! | T4b | Geneve: O is set | `geneve_control` |
//! | T4c | Geneve: C is set; Opt Len (× 4 bytes) beyond what is there; options that do not fill Opt Len exactly; an option whose type has the critical bit (0x80) | `geneve_option` |
//! | T4d | Geneve: protocol type ≠ 0x6558 | `geneve_protocol` |
//! | T4e | VXLAN: VNI 0xfffffe is a path probe's, which no network can have: it is none (ethertype 0x88b5, 24 bytes, "FP", version 1, kind 1 or 2); an answer (kind 2) that nobody here asked for | `probe_malformed`; `probe_unexpected`; requests and answers that are expected are not modelled |
//! | T5 | the VNI has no segment on this host, or its domain has the other encapsulation | `unknown_vni` |
//! | T6 | the inner frame (behind Geneve's options) has fewer than 14 bytes | `truncated` |
//! | T7 | inner source MAC is neither the router's of the segment nor that of a station of the VNI that lives at the host the outer source is of | `wrong_vtep` |
//! | T7a | as P5a, P5b | `multicast`, `ether_type` |
//! | T7b | ARP from the router's MAC; else table TA | `wrong_vtep`; T13 without rules |
//! | T8 | inner ethertype neither 0x0800 nor 0x86dd: the domain's default is not to allow; from the router's MAC | `ether_type`; `wrong_vtep`; else T13 without rules |
//! | T9 | the inner IP headers, by table H | `truncated`, `malformed` |
//! | T10 | from a station's MAC: inner source address is not that station's, by table S (`::` as P9); from the router's: by table Q | `wrong_vtep` |
//! | T11 | as P10 | `rogue_server` |
//! | T12 | ICMPv6 type 135 or 136: from the router's MAC; N1 to N3; 136 whose target is not that station's by table S; 136 whose target somebody has exactly | `neighbour_spoof`; N1 to N3; `neighbour_spoof`; `gratuitous`; else T13 without rules |
//! | T12a | tables M, F, G | `martian`, `tiny_fragment`, `fragment_state`, `tcp_flags` |
//! | T13 | inner destination MAC is a group address, or in a segment that floods nobody's: B1; B1a; T20; B4 to B6, a first fragment being remembered | `unrelated`, `destination_address`, `ecn`, `multicast`, copies to ports of this host |
//! | T14 | without rules: as T15 to T17, then T20 (if it is IP) and T21 | |
//! | T15 | inner destination MAC is the router's of the segment | `not_here` |
//! | T16 | no station of the VNI has the inner destination MAC | `unknown_destination` |
//! | T17 | that station is not on this host | `not_here` |
//! | T17a | table D | `destination_address` |
//! | T18 | an ICMP error | table E instead of T19: `unrelated` |
//! | T19 | connection and policy, by table C | `unrelated`, `policy` |
//! | T20 | outer ECN is CE (3) and inner ECN is Not-ECT (0); else the inner field becomes that of RFC 6040 figure 4 | `ecn` |
//! | T21 | — | deliver |
//!
//! TA: ARP as A1, A2; sender hardware address is not the inner source MAC, or sender protocol address not that station's by
//! table S (0.0.0.0 as A4): `wrong_vtep`; A5 of an address that somebody has exactly: `gratuitous`.
//!
//! # Q: who may send a routed frame (its inner source MAC is the router's of the segment)
//!
//! The longest of the router's routes to the inner source address (`::ffff:0:0/96`, no route and blackhole: `wrong_vtep`):
//!
//! | nr | check | outcome |
//! |---|---|---|
//! | Q1 | connected: the owner of the source in that segment is a station at the host that the outer source is of | it may |
//! | Q2 | via: for any hop, the station with exactly the hop's address has the longest prefix that contains the source in the hop's segment, and is at the host that the outer source is of | it may |
//! | Q3 | — | `wrong_vtep` |
//!
//! # H: IP headers
//!
//! "What is there" ends with the frame; padding behind the IP packet is ignored, so the upper layer ends with the IP packet.
//! A *first fragment* has offset 0 and "more fragments" set, a *later* one an offset; an IPv6 fragment header with neither
//! makes no fragment (RFC 6946). The *upper protocol* is IPv4's protocol, or the first next header that is not walked.
//!
//! | nr | check | outcome |
//! |---|---|---|
//! | H1 | IPv4: fewer than 20 bytes; IPv6: fewer than 40 | `truncated` |
//! | H2 | version ≠ the ethertype's; IPv4 header length < 20; IPv4 total length < a header length that is there | `malformed` |
//! | H3 | IPv4: header or total length beyond what is there; IPv6: 40 + payload length beyond it | `truncated` |
//! | H4 | IPv6: extension headers 0, 43, 60 (8 × (length + 1) bytes) and 44 (8) are walked, at most 8, a later fragment's being the last; a ninth follows, or a second of 44 | `malformed` |
//! | H5 | IPv6: an extension header ends behind the IP packet | `truncated` |
//! | H6 | no fragment, and the upper layer has fewer bytes than TCP 20, UDP 8, SCTP 12, ICMP over IPv4 8, ICMPv6 over IPv6 4, of types 1–4, 128 and 129 8 | `truncated` |
//!
//! A later fragment has no upper layer: checks on UDP and ICMPv6 do not hold for it. So has what is behind any other header
//! (AH, ESP, "no next header"), and a first fragment that is too short for its header (but ICMP's type is read if 4 bytes are
//! there). ICMPv6 is next header 58 of IPv6 only, ICMP is protocol 1 of IPv4 only.
//!
//! # M, F, G: what no stack sends
//!
//! | nr | check | outcome |
//! |---|---|---|
//! | M1 | source = destination; source or destination in 0/8, 127/8, 224/4, 240/4, `::`, `::1`, ff00::/8 or `::ffff:0:0/96` (in a frame to a group address, the destination may be in 224/4, 255.255.255.255 or in ff00::/8, the source 0.0.0.0 or `::`) | `martian` |
//! | F0 | a first fragment whose upper layer has fewer bytes than TCP 20, UDP 8, SCTP 12, ICMP over IPv4 8, ICMPv6 over IPv6 8 | `tiny_fragment` |
//! | F1 | a later fragment without an entry younger than 30 s of its first one (domain; endpoint, or VNI from a tunnel; source; destination; identification; protocol if IPv4) | `fragment_state` |
//! | F2 | a later fragment that begins before the end of F0's bytes in its first one, counted from behind the IPv4 header or the IPv6 fragment header (RFC 1858, RFC 3128, RFC 5722); of several first ones of one entry, the furthest end counts | `tiny_fragment` |
//! | G1 | TCP, not a later fragment: of FIN, SYN, RST and ACK, what is set is none of SYN; SYN, ACK; ACK; ACK, FIN; RST; RST, ACK | `tcp_flags` |
//!
//! A later fragment has upper protocol, ports, and ICMP type, code and identifier of its entry. The entry is written (over an
//! older one) when table C lets a first fragment pass; what is decided behind that does not take it back.
//!
//! # R: a frame for the router (RFC 1812)
//!
//! | nr | check | outcome |
//! |---|---|---|
//! | R1 | destination is an address of the router in any of its segments: ICMP echo request (type 8 or 128), no fragment, no IPv4 options, no extension header | reply to the port: the frame with MAC and IP addresses swapped, type 0 or 129, TTL or hop limit 64; checksums updated (RFC 1624 equation 3), all else as it came |
//! | | anything else to such an address | `router_port` |
//! | R2 | source or destination in 169.254/16 or fe80::/10 | `unroutable`, no ICMP error |
//! | R3 | TTL or hop limit ≤ 1 | `ttl_exceeded`, and ICMP 11/0, ICMPv6 3/0 |
//! | R4 | longest match in the router's routes: none, or its segment is not here | `unroutable`, and ICMP 3/0, ICMPv6 1/0 |
//! | | blackhole | `blackhole`, no ICMP error |
//! | R5 | connected: target = destination in that segment; via: target = hop number *hash* % hops (in the set's order), in the hop's segment; its segment is not here: as R4 | |
//! | R6 | no hop; or the owner of the target (via: exact addresses only) is nobody or a router | `unknown_neighbour`, and ICMP 3/1, ICMPv6 1/3 |
//! | R7 | the owner is the sender's own station | `unknown_destination` |
//! | R8 | — | leaves in the target's segment: source MAC the router's, destination MAC the owner's, TTL or hop limit − 1 (IPv4 checksum by RFC 1624 equation 3), all else as it came |
//!
//! *Hash*: 64 bits, `h = 0x243f6a8885a308d3`, then for each word `h = (h ^ word) * 0x9e3779b97f4a7c15; h = h ^ (h >> 32)`.
//! Words: source port << 24 | destination port << 8 | upper protocol (fragments: 0; ports 0 but for TCP, UDP and SCTP); then the last four bytes of source << 32 | those of destination; IPv6 in addition: bytes 0–3 << 32 |
//! 4–7 of source; 8–11 of source << 32 | 8–11 of destination; 0–3 << 32 | 4–7 of destination, four bytes always read as a
//! little-endian number. The hop's number is the hash's upper half (`h >> 32`) % hops.
//!
//! # E: an ICMP error (ICMP 3, 11, 12; ICMPv6 1–4; not a later fragment)
//!
//! | nr | check | outcome |
//! |---|---|---|
//! | E1 | behind the 8 bytes of ICMP: fewer than 20 + 8 (IPv6 40 + 8) bytes; version or IPv4 header length (5) wrong; a later fragment (IPv4); an IPv6 extension header or fragment | `unrelated` |
//! | E2 | quoted source ≠ the error's destination | `unrelated` |
//! | E2a | by table S, the sending station (in its own segment) may use neither the quoted destination nor the quoted source: it is no end of the connection and no router on the way to one | `unrelated` |
//! | E3 | the quoted tuple (ICMP: echo request or echo reply only) is not of a live connection of the domain, in either direction | `unrelated` |
//! | E4 | — | passes; no policy is asked, no connection made or refreshed, no fragment entry written |
//!
//! Both ends' hosts ask. A quota, which is not modelled: `rate_limit` beyond 1,000 a second and sending station.
//!
//! # C: connections and policy
//!
//! A connection is (domain, protocol, initiator's address and port, responder's address and port). TCP, UDP and SCTP have
//! ports; ICMP echo has its identifier as both ports; all other protocols have 0 and 0. ICMP that is neither echo (types 8, 0;
//! ICMPv6 128, 129) nor an error makes no connection: each such packet is asked as if it opened one. A later fragment is
//! like its first one, without TCP flags.
//!
//! | nr | check | outcome |
//! |---|---|---|
//! | C1 | ICMP echo request: a packet of the initiator; the connection lives if its entry does | |
//! | C2 | ICMP echo reply: of the responder; no live connection with the reversed tuple | `unrelated` |
//! | C3 | else: live with the tuple as it is: of the initiator; else live with the reversed tuple: of the responder; else it opens one, and is the initiator's | |
//! | C4 | TCP SYN without ACK, of the responder in *Closed*: the entry is removed, and the packet opens one; of the initiator in *Closing* or *Closed*: the packet opens one in its place, if C7 does not deny it | |
//! | C5 | TCP RST that would open one | `unrelated` |
//! | C6 | rules for the initiator's tuple. From an endpoint: of the initiator: egress(initiator), and ingress(responder) if its station is here; of the responder: ingress(responder), and egress(initiator) if its station is here. From a tunnel: of the initiator: ingress(responder), of the responder: egress(initiator) | |
//! | C7 | any of them denies: a live connection (of C4, the one that was) stays in its state and is seen at `now`; else one in flight the other way would turn it round | `policy` |
//! | C8 | — | the connection takes its step (table K) and is seen at `now` |
//!
//! What is decided behind this (`mtu`, `no_route`, `ecn`) does not take the step back. An entry lives while `now` − seen <
//! its state's timeout; the datapath may see a packet up to 2 s late.
//!
//! Rules of one direction are walked in their order. One matches if the subject is none or among the local end's groups; the
//! peer is any, or a group of the far end, or a prefix that contains the far end's address; and the protocol matches, with
//! the responder's port, or with type and code of the ICMP packet (of a live echo connection: 8/0, 128/0). `Audit` only counts. Rules of one
//! direction that follow each other, are of one policy and of the same or later versions decide together: by version the first match that is not audit; deny if any version denies; allow if as many versions
//! as it has allow; else the policy decides nothing and the next is asked. Behind the last the domain's default decides.
//!
//! # K: states
//!
//! | state | timeout | initiator's packet | responder's packet |
//! |---|---|---|---|
//! | *Opening* (TCP) | 60 s | RST: *Closed* | RST: *Closed*; FIN: *Closing* by responder; SYN with or without ACK: *Opened*; ACK: *Established* |
//! | *Opened* | 60 s | RST: *Closed*; FIN: *Closing* by initiator; ACK without SYN: *Established* | RST: *Closed*; FIN: *Closing* by responder |
//! | *Established* | 7,440 s | RST: *Closed*; FIN: *Closing* by initiator | RST: *Closed*; FIN: *Closing* by responder |
//! | *Closing* by initiator | 240 s | RST: *Closed* | RST, FIN: *Closed* |
//! | *Closing* by responder | 240 s | RST, FIN: *Closed* | RST: *Closed* |
//! | *Closed* | 10 s | | |
//! | *OneWay* (UDP, SCTP, others) | 120 s | | *TwoWay* |
//! | *TwoWay* | 300 s | | |
//! | *Echo* (protocols 1 and 58) | 60 s | | |
//!
//! "ACK" and "SYN" are without FIN and RST. A packet that opens a connection makes *Opening*, *OneWay* or *Echo*, whatever else it is. What is not named stays.
//!
//! # I: ICMP errors of the fabric, to the sending workload only (never from a tunnel)
//!
//! None for an ICMP error or redirect (ICMP 3, 4, 5, 11, 12; ICMPv6 below 128, 137), a later fragment, or a source that is a group address or unspecified; none beyond 100 per second and
//! endpoint (a bucket of 100 tokens): then only the drop. Else: Ethernet to the port's MAC from the frame's destination MAC; IP
//! to the packet's source from the lowest address of the router in the sender's segment that is of the family and not
//! link-local, or, without one, from the packet's destination; TTL or hop limit 64; IPv4: traffic class 0, identification 0,
//! DF; IPv6: traffic class and flow label 0. It quotes the packet as it came: the IPv4 header with options and at least 8 bytes,
//! or at least 40 + 8 bytes of IPv6, or all there is if that is less; at most 548 (IPv6 1,232) bytes. The model quotes the least.
//! "Fragmentation needed" (3/4) has the MTU in its last two bytes, "packet too big" (2/0) in its last four; other errors have 0.
//!
//! # Counters
//!
//! A drop counts one packet, with the bytes of the frame as it came in (of a tunnelled packet all of it): from a workload for
//! its endpoint (P1: for nobody); from a tunnel before T6 for nobody, from T6 on for the domain, behind T17 for the
//! endpoint that it is for (none of a frame for everybody). A copy that is not made counts so, too. An audit rule counts a packet that it matches, with the bytes of the IP packet: rules are
//! asked for the initiator first, then for the responder if the initiator may; a version that allows is not asked on, and
//! nobody is behind a decision. The datapath asks for a packet whose decision it does not remember, so it counts fewer.
//!
//! What leaves a workload's host side passes if it has the mark of what the datapath sends there; what the stack itself
//! sends is dropped as `not_forwarded`, and counts for the endpoint (`Model::to_endpoint`).

pub mod account;
mod admission;
mod arp;
mod checksum;
mod connection;
mod flood;
mod fragment;
mod geneve;
mod hash;
mod headers;
mod host;
mod icmp_error;
mod journey;
mod neighbour;
mod origin;
pub mod outer;
mod owner;
mod policy;
mod port;
mod probe;
pub mod reason;
mod related;
mod rewrite;
mod routing;
mod transport;
mod tunnel;
pub mod verdict;
mod vxlan;

use std::collections::BTreeMap;
use std::time::Duration;

use membership::id::NodeId;

use crate::name::{DomainName, EndpointName, Mac};

use admission::Memory;
use fragment::Entrance;
use icmp_error::Limits;
use port::Sender;

pub use account::{Account, Audit};
pub use host::Host;
pub use outer::Tunnelled;
pub use reason::Reason;
pub use verdict::Verdict;

/// Length of an Ethernet header.
const ETHERNET: usize = 14;
/// Ethertype of ARP (RFC 826).
const ARP: u16 = 0x0806;

/// Hosts, what each has to do, and what each remembers. Memory grows with every connection and fragment: it is for tests.
#[derive(Debug, Clone, Default)]
pub struct Model {
    hosts: BTreeMap<NodeId, Host>,
    memories: BTreeMap<NodeId, Memory>,
    limits: BTreeMap<NodeId, Limits>,
}

/// A workload's port on a host, as its frames come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingress {
    /// The host.
    pub host: NodeId,
    /// The endpoint's domain.
    pub domain: DomainName,
    /// The endpoint.
    pub endpoint: EndpointName,
    /// MAC address of the host side of its link; a tap has none.
    pub host_mac: Option<Mac>,
}

impl Model {
    /// The hosts of a cluster and what each has to do.
    pub fn of(hosts: impl IntoIterator<Item = (NodeId, Host)>) -> Self {
        Self {
            hosts: hosts.into_iter().collect(),
            ..Self::default()
        }
    }

    /// A host, to change what it has to do. What it remembers stays.
    pub fn host_mut(&mut self, host: NodeId) -> Option<&mut Host> {
        self.hosts.get_mut(&host)
    }

    /// Lets a host forget what it remembers of domains of which it has nothing, and of fragments from endpoints that are
    /// not on it: the datapath does so when it gives their numbers to others.
    pub fn forget_absent(&mut self, host: NodeId) {
        let (Some(memory), Some(host)) = (self.memories.get_mut(&host), self.hosts.get(&host)) else {
            return;
        };
        let domain = |name: &DomainName| host.domains.get(name).filter(|domain| !domain.networks.is_empty());
        memory.connections.retain(|name| domain(name).is_some());
        memory
            .fragments
            .retain(|name, entrance| match (domain(name), entrance) {
                (Some(domain), Entrance::Port(endpoint)) => domain.ports.contains_key(endpoint),
                (domain, Entrance::Tunnel(_)) => domain.is_some(),
                (None, Entrance::Port(_)) => false,
            });
    }

    /// What becomes of a frame that a workload sends (table P) at `now`.
    #[must_use]
    pub fn from_endpoint(&mut self, ingress: &Ingress, frame: &[u8], now: Duration) -> Verdict {
        let sender = match Sender::of(self.hosts.get(&ingress.host), ingress) {
            Ok(sender) => sender,
            Err(reason) => {
                self.memories.entry(ingress.host).or_default().account = Account::default();
                return Verdict::dropped(reason);
            }
        };
        let memory = self.memories.entry(ingress.host).or_default();
        memory.account = Account {
            owner: Some((ingress.domain.clone(), Some(ingress.endpoint.clone()))),
            ..Account::default()
        };
        let limits = self.limits.entry(ingress.host).or_default();
        sender
            .send(memory, frame, now)
            .unwrap_or_else(|stop| stop.verdict(limits, &sender, frame, now))
    }

    /// What becomes of any frame of a workload that has no slow-path run left, where no decision is remembered (P1, P1a).
    #[must_use]
    pub fn from_exhausted(&mut self, ingress: &Ingress) -> Verdict {
        self.refuse(ingress, Reason::UnknownPort, Reason::RateLimit)
    }

    /// What becomes of a frame that leaves the host side of a workload's link, with the mark of what the datapath sends
    /// there or without.
    #[must_use]
    pub fn to_endpoint(&mut self, ingress: &Ingress, marked: bool) -> Verdict {
        let verdict = self.refuse(ingress, Reason::NotForwarded, Reason::NotForwarded);
        if marked { Verdict::Pass } else { verdict }
    }

    /// Drops a frame at an interface, for one reason if it is no programmed port, and for another if it is one.
    fn refuse(&mut self, ingress: &Ingress, unknown: Reason, known: Reason) -> Verdict {
        let is_known = Sender::of(self.hosts.get(&ingress.host), ingress).is_ok();
        let owner = is_known.then(|| (ingress.domain.clone(), Some(ingress.endpoint.clone())));
        self.memories.entry(ingress.host).or_default().account = Account {
            owner,
            ..Account::default()
        };
        Verdict::dropped(if is_known { known } else { unknown })
    }

    /// What becomes of a packet (with its Ethernet header) that a host gets from the underlay (table T) at `now`.
    #[must_use]
    pub fn from_underlay(&mut self, host: NodeId, packet: &[u8], now: Duration) -> Verdict {
        let Some(vtep) = self.hosts.get(&host).and_then(|host| host.vtep.as_ref()) else {
            return Verdict::Pass;
        };
        match outer::ours(vtep, packet) {
            Some(tunnelled) => self.from_tunnel(host, &tunnelled, now),
            None => {
                self.memories.entry(host).or_default().account = Account::default();
                Verdict::Pass
            }
        }
    }

    /// What becomes of a tunnelled packet that is a host's (table T from T1 on).
    #[must_use]
    pub fn from_tunnel(&mut self, host: NodeId, tunnelled: &Tunnelled<'_>, now: Duration) -> Verdict {
        let memory = self.memories.entry(host).or_default();
        memory.account = Account::default();
        let Some(host) = self.hosts.get(&host) else {
            return Verdict::dropped(Reason::UnknownVtep);
        };
        tunnel::from_tunnel(host, memory, tunnelled, now).unwrap_or_else(Verdict::dropped)
    }
}

impl Model {
    /// What is counted of the last packet that a host had.
    #[must_use]
    pub fn account(&self, host: NodeId) -> Account {
        let memory = self.memories.get(&host);
        memory.map(|memory| memory.account.clone()).unwrap_or_default()
    }

    /// How much a workload's bucket of ICMP errors holds at `now` (table I), as the time in which that many tokens come.
    #[must_use]
    pub fn errors_left(&self, ingress: &Ingress, now: Duration) -> Duration {
        let owner = (ingress.domain.clone(), ingress.endpoint.clone());
        let limits = self.limits.get(&ingress.host);
        limits.map_or_else(
            || Limits::default().held(&owner, now),
            |limits| limits.held(&owner, now),
        )
    }
}

/// Whether the octets are a group address (IEEE 802-2014 section 8.2).
fn is_group(mac: [u8; 6]) -> bool {
    mac[0] & 1 == 1
}
