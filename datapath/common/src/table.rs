//! Keys and values of the maps.

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
        /// Its station's slot of `GENERATIONS`.
        slot: u32,
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
        /// Number of the host it lives on, `HERE` for this one, `ROUTER` for the segment's router.
        peer: u32,
        /// Here: its interface; else 0.
        ifindex: u32,
        /// Here: the endpoint's number; else 0.
        endpoint: u32,
        /// `PORT_*` of the interface.
        flags: u32,
        /// Its slot of `GENERATIONS`.
        slot: u32,
        /// Zero.
        zero: u32,
        /// The selectors of the domain's rules that its endpoint matches, bit by bit.
        groups: Groups,
    }

    /// Key of `NEIGHBOURS`.
    NeighbourKey {
        /// Segment.
        vni: u32,
        /// IP address.
        address: Address,
    }

    /// Value of `NEIGHBOURS` and `PREFIXES`: whose an address is.
    Neighbour {
        /// Its MAC address.
        mac: [u8; 6],
        /// `NEIGHBOUR_*`.
        flags: u16,
    }

    /// Key of `PREFIXES`, a trie: extra addresses and prefixes that a station may use as a source.
    PrefixKey {
        /// Segment, in network order.
        vni: [u8; 4],
        /// 4 or 6.
        family: [u8; 4],
        /// IP address.
        address: Address,
    }

    /// Key of `ROUTES`, a trie.
    RouteKey {
        /// Number of the router, in network order.
        router: [u8; 4],
        /// 4 or 6.
        family: [u8; 4],
        /// Destination.
        address: Address,
    }

    /// Value of `ROUTES`.
    Route {
        /// `ROUTE_*`.
        kind: u32,
        /// `ROUTE_CONNECTED`: the segment; else 0.
        vni: u32,
        /// `ROUTE_VIA`: the set of next hops in `HOPS`; else 0.
        set: u32,
        /// How many hops the set has.
        hops: u32,
    }

    /// Key of `HOPS`, `RULES` and `FLOODS`.
    MemberKey {
        /// The set. A set is never changed: another one takes its place.
        set: u32,
        /// From 0.
        index: u32,
    }

    /// Value of `HOPS`.
    Hop {
        /// Segment.
        vni: u32,
        /// A station's address in it.
        address: Address,
    }

    /// Value of `DOMAINS` (key: domain number).
    Domain {
        /// `DOMAIN_*`.
        flags: u32,
        /// Its slot of `GENERATIONS`: rules and routes.
        slot: u32,
        /// Set of the rules for connections that an endpoint opens.
        egress: u32,
        /// How many they are.
        egress_rules: u32,
        /// Set of the rules for connections that an endpoint receives.
        ingress: u32,
        /// How many they are.
        ingress_rules: u32,
        /// Functions that a flow's first packet passes: first slot of `CHAIN` << 8 | how many, 0 if none.
        chain_flow: u32,
        /// Functions that every packet passes, alike.
        chain_packet: u32,
    }

    /// Value of `FUNCTIONS` (key: slot of `CHAIN`): a third-party function.
    Function {
        /// The domain it was loaded for.
        domain: u32,
        /// `FUNCTION_*`.
        flags: u32,
        /// How often it gave no answer, or one that is none.
        failures: u64,
        /// First bytes of the SHA-256 of its object file.
        digest: [u8; 16],
        /// Its name, filled up with zeros.
        name: [u8; 64],
    }

    /// Value of `RULES`.
    Rule {
        /// Number of the policy, in the order of evaluation.
        policy: u32,
        /// Which of its concurrent versions, from 0.
        version: u16,
        /// How many versions it has.
        versions: u16,
        /// Group of the local end, or `ANY`.
        subject: u16,
        /// Group of the far end, or `ANY`, `PREFIX4`, `PREFIX6`.
        peer: u16,
        /// Protocol number, or `ANY`; `ICMP_OF_FAMILY`.
        protocol: u16,
        /// `ACTION_*`.
        action: u16,
        /// Lowest and highest destination port; for ICMP, type << 8 | code.
        port_low: u16,
        /// See `port_low`.
        port_high: u16,
        /// How many leading bits of `address` count.
        prefix_length: u32,
        /// Of the far end.
        address: Address,
    }

    /// Key of `FLOWS`: all that leads to the decision and differs from packet to packet.
    FlowKey {
        /// Number of the endpoint that sent it, or VNI | `FLOW_TUNNEL`.
        ingress: u32,
        /// Source port << 16 | destination port, host order; ICMP: type << 24 | code << 16 | identifier.
        ports: u32,
        /// Protocol.
        protocol: u32,
        /// Source.
        source: Address,
        /// Destination.
        destination: Address,
    }

    /// Value of `FLOWS`: a decision and what it was made from. Disposable: a miss takes the slow path. It says itself
    /// whose it is: the kernel gives an entry to another flow while somebody may still read it.
    Flow {
        /// `FLOW_*`.
        flags: u32,
        /// Interface (deliver) or peer number (encapsulate).
        target: u32,
        /// Segment it leaves in.
        vni: u32,
        /// Domain.
        domain: u32,
        /// Number of the endpoint that it is delivered to; 0 if that is elsewhere.
        endpoint: u32,
        /// MTU of the segment it leaves in.
        mtu: u32,
        /// Slots of `GENERATIONS`: of the source's station, of the destination's, of the domain.
        slots: [u32; 3],
        /// Their values before the decision was made.
        generations: [u32; 3],
        /// Destination and source MAC address as it came in.
        frame: [u8; 12],
        /// Destination and source MAC address as it leaves.
        leaves: [u8; 12],
        /// Outer source it came from; zero from an endpoint.
        outer: Address,
        /// When the connection was last told, in the kernel's ticks (jiffies) >> `TICK_SHIFT`.
        told: u32,
        /// Low and high word of a sum with secret factors (`SECRETS`) over the key, the interface and all above `told`.
        seal: [u32; 2],
    }

    /// Key of `CONNECTIONS` and `HALF_OPEN`: as the initiator's packets carry it.
    ConnectionKey {
        /// Domain.
        domain: u32,
        /// Source port << 16 | destination port, host order; ICMP echo: the identifier twice.
        ports: u32,
        /// Protocol.
        protocol: u32,
        /// The initiator.
        source: Address,
        /// The responder.
        destination: Address,
    }

    /// Value of `CONNECTIONS`, `HALF_OPEN` and `CROWDED`.
    Connection {
        /// When a packet of it was seen last, in seconds of the coarse monotonic clock (up to `TELL` late).
        seen: u32,
        /// `crate::connection::State`.
        state: u32,
        /// In `CONNECTIONS`: whom it counts for in `ESTABLISHED` (the endpoint of this host that opened it, or, with
        /// `LIMIT_REMOTE`, to which it was opened), 0 if nobody; in `CROWDED`: `CROWD`; else 0.
        endpoint: u32,
    }

    /// Key of `FRAGMENTS`.
    FragmentKey {
        /// Domain.
        domain: u32,
        /// Number of the endpoint that sent it, or VNI | `FLOW_TUNNEL`.
        ingress: u32,
        /// Identification.
        identification: u32,
        /// Protocol (IPv4) or 0 (IPv6).
        protocol: u32,
        /// Source.
        source: Address,
        /// Destination.
        destination: Address,
    }

    /// Value of `FRAGMENTS`: what the first fragment said.
    FragmentState {
        /// As `FlowKey::ports`.
        ports: u32,
        /// Upper-layer protocol.
        protocol: u32,
        /// When, in seconds of the coarse monotonic clock.
        seen: u32,
        /// Where its upper-layer header ends, in bytes of what is fragmented, at least 1; 0 by earlier builds.
        header_end: u32,
    }

    /// Key of `LIMITS`.
    LimitKey {
        /// Number of the endpoint; 0 for what comes from the underlay.
        endpoint: u32,
        /// `LIMIT_*`.
        kind: u32,
    }

    /// Value of `LIMITS`: a token bucket.
    Bucket {
        /// Thousandths of a token.
        tokens: u64,
        /// Filled last, in nanoseconds of the coarse monotonic clock.
        filled: u64,
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
        /// Number of its router; 0 if it has none.
        router: u32,
        /// MAC address of its router; zero if it has none.
        router_mac: [u8; 6],
        /// Zero.
        zero: [u8; 2],
        /// The router's IPv4 address in it, mapped: whom its ICMP errors come from; zero if it has none.
        gateway4: Address,
        /// The router's IPv6 address in it; zero if it has none.
        gateway6: Address,
        /// Set in `FLOODS` of who gets its group frames; 0 if nobody does.
        flood: u32,
        /// How many they are.
        flood_targets: u32,
    }

    /// Value of `FLOODS` (key: `MemberKey`): one of those who get a segment's group frames. The sender is among them.
    FloodTarget {
        /// `FLOOD_PORT`, `FLOOD_PEER`.
        kind: u32,
        /// Of a port, its interface; of a peer, its number.
        target: u32,
        /// Of a port, its endpoint's number; else 0.
        endpoint: u32,
        /// Zero.
        zero: u32,
        /// Of a port, its endpoint's groups; else none.
        groups: Groups,
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
        /// UDP port of Geneve, host order.
        geneve_port: u32,
        /// What `skb->mark` is on packets that we redirect to a workload's host side.
        mark: u32,
        /// `KERNEL_*`.
        kernel: u32,
        /// The kernel's own device of VXLAN; 0 if there is none.
        vxlan_device: u32,
        /// The kernel's own device of Geneve; 0 if there is none.
        geneve_device: u32,
    }

    /// The one value of `TRACE`, per CPU, written only with `KERNEL_TRACE`: what became of the last packet, for tests.
    Trace {
        /// What the hook's program returned.
        verdict: u32,
        /// [`crate::Reason`], 0 if it was not dropped. An ICMP error that was sent for a dropped packet is a redirect
        /// with a reason.
        reason: u32,
        /// The domain's number, 0 if not known.
        domain: u32,
        /// Dropped or answered: whose packet it was; delivered: whom it went to; else 0.
        endpoint: u32,
        /// Interface that it was sent to, or back to; 0 if it was not sent on.
        egress: u32,
        /// Number of the host it was sent to; 0 if it stays on this one.
        peer: u32,
        /// Segment it left in.
        vni: u32,
        /// `FLOW_*`.
        flags: u32,
        /// 1 if the decision came from `FLOWS`.
        fast: u32,
        /// Zero.
        zero: u32,
        /// Of a group frame, who got it: bit n for the member n of the segment's set, of the first 64.
        copies: u64,
    }
}

/// `Station::peer` of a station on this host.
pub const HERE: u32 = 0;

/// The other end is in another namespace: `bpf_redirect_peer` may be used.
pub const PORT_NAMESPACE: u32 = 1;

/// `Station::peer` of the router of a segment.
pub const ROUTER: u32 = u32::MAX;

/// Tunnels of the segment are Geneve (RFC 8926), not VXLAN.
pub const SEGMENT_GENEVE: u32 = 1;

/// Frames for a MAC address that nobody has, and questions for such an address, go to all of the segment.
pub const SEGMENT_FLOOD: u32 = 2;

/// `FloodTarget::kind`: an interface of this host.
pub const FLOOD_PORT: u32 = 1;
/// `FloodTarget::kind`: another host.
pub const FLOOD_PEER: u32 = 2;

/// The domain allows what no rule denies.
pub const DOMAIN_ALLOW: u32 = 1;

/// The address is one of the router's own.
pub const NEIGHBOUR_ROUTER: u16 = 1;

/// Groups as bits: bit `g % 64` of word `g / 64`.
pub type Groups = [u64; 4];

/// `Route::kind`: to whoever has the destination in `Route::vni`.
pub const ROUTE_CONNECTED: u32 = 1;
/// `Route::kind`: to one of the hops of `Route::set`.
pub const ROUTE_VIA: u32 = 2;
/// `Route::kind`: nowhere.
pub const ROUTE_BLACKHOLE: u32 = 3;

/// Of `Rule::subject`, `Rule::peer` and `Rule::protocol`: all.
pub const ANY: u16 = 0xffff;
/// `Rule::peer`: an IPv4 prefix.
pub const PREFIX4: u16 = 0xfffe;
/// `Rule::peer`: an IPv6 prefix.
pub const PREFIX6: u16 = 0xfffd;
/// `Rule::protocol`: ICMP over IPv4, ICMPv6 over IPv6.
pub const ICMP_OF_FAMILY: u16 = 0xfffe;

/// `Rule::action`.
pub const ACTION_ALLOW: u16 = 1;
/// `Rule::action`.
pub const ACTION_DENY: u16 = 2;
/// `Rule::action`.
pub const ACTION_AUDIT: u16 = 3;

/// Of `FlowKey::ingress`: it came through a tunnel.
pub const FLOW_TUNNEL: u32 = 1 << 31;
/// Into the tunnel to `Flow::target`; else to the interface `Flow::target`.
pub const FLOW_ENCAPSULATE: u32 = 1;
/// It was routed: MAC addresses are replaced, the TTL counts down.
pub const FLOW_ROUTED: u32 = 2;
/// The other end of the interface is in another namespace.
pub const FLOW_NAMESPACE: u32 = 4;
/// The packet goes from the responder to the initiator of its connection.
pub const FLOW_REPLY: u32 = 8;
/// By Geneve, not VXLAN.
pub const FLOW_GENEVE: u32 = 16;
/// From this bit of `Flow::flags` on: `Domain::chain_packet`, whose functions every packet passes.
pub const FLOW_CHAIN_SHIFT: u32 = 8;
const _: () = assert!((crate::CHAIN_SLOTS << 8 | crate::CHAIN_LENGTH).leading_zeros() >= FLOW_CHAIN_SHIFT);
/// Only in a `Trace`: copies went to members of a set.
pub const FLOW_FLOOD: u32 = 64;

/// A flow tells its connection that it lives once in so many ticks of the kernel that it can do without reading a clock: 256
/// are a quarter of a second to 2.6 seconds, as the kernel is built (1,000 to 100 in a second).
pub const TICK_SHIFT: u32 = 8;

/// How late a connection may be told that it lives, in seconds.
pub const TELL: u32 = 3;

/// Slots of `GENERATIONS` that stations hash to; those of domains follow.
pub const STATION_SLOTS: u32 = 65_536;
/// Slots of `GENERATIONS` that domain numbers are taken modulo of, from `STATION_SLOTS` on.
pub const DOMAIN_SLOTS: u32 = 16_384;

/// `source_mac` and `next_hop_mac` are valid.
pub const PEER_RESOLVED: u32 = 1;

/// `bpf_skb_adjust_room` knows BPF_F_ADJ_ROOM_DECAP_L3_IPV4/6 (Linux 6.3).
pub const KERNEL_DECAP_L3: u32 = 1;
/// Programs write `TRACE`.
pub const KERNEL_TRACE: u32 = 2;
/// VXLAN headers with reserved bits set are dropped, as Linux does; else these are ignored and counted.
pub const KERNEL_STRICT: u32 = 4;
