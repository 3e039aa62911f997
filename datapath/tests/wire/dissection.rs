//! Wireshark reads all that our programs send, to the underlay and to workloads, and finds nothing wrong with it.

use std::net::{Ipv4Addr, UdpSocket};

use datapath_common::probe::{PROBE_ETHER_TYPE, PROBE_MAC, PROBE_MAGIC, PROBE_REQUEST, PROBE_VERSION, PROBE_VNI};
use etherparse::PacketBuilder;

use crate::capture::Capture;
use crate::namespace::{DEADLINE, Namespace, eventually, privileged};
use crate::routed::Routed;
use crate::tables::gateway;
use crate::topology::{FAR, ONE, Wire};
use crate::traffic::{echo_sizes, streams_bytes};
use crate::tshark::{Dissected, dissect, dissected};
use crate::underlay::{self, A, B, UNDERLAY, Way};
use crate::workload::{INTERFACE, MTU, host_side};

/// Frames are as they would be on a real wire: small, their checksums finished.
pub(crate) const WHOLE: [&str; 6] = ["tx", "off", "tso", "off", "gso", "off"];

fn listens(namespace: &Namespace, interface: &str) -> Capture {
    namespace.run(|| Capture::start(interface).expect("root may listen"))
}

fn pings(from: &Namespace, to: &str, arguments: &[&str]) -> bool {
    let status = from
        .command("ping")
        .args(["-n", "-c", "1", "-W", "3"])
        .args(arguments)
        .arg(to)
        .output()
        .expect("iputils-ping is installed");
    status.status.success()
}

/// That each of these chains of headers is at the end of at least one frame's.
fn seen(what: &str, frames: &[Dissected], chains: &[&str]) {
    for chain in chains {
        let count = frames.iter().filter(|frame| frame.protocols.contains(chain)).count();
        assert!(count > 0, "{what}: no {chain} among {frames:#?}");
    }
}

#[test]
fn wireshark_finds_what_is_wrong() {
    if !privileged() {
        return;
    }
    let mut good = Vec::new();
    PacketBuilder::ethernet2(ONE.mac(), FAR.mac())
        .ipv4(ONE.v4(), FAR.v4(), 64)
        .udp(9, 9)
        .write(&mut good, &[7; 60])
        .expect("a vector takes it");
    let (mut checksum, mut header) = (good.clone(), good.clone());
    checksum[41] ^= 1;
    header[25] ^= 1;
    let short = good[..38].to_vec();
    let read = dissect(&[good, checksum, header, short]);
    let wrong: Vec<bool> = read.iter().map(Dissected::is_wrong).collect();
    assert_eq!(wrong, [false, true, true, true], "{read:?}");
}

fn through_tunnels(way: Way) {
    if !privileged() {
        return;
    }
    let mut wire = Wire::new(way);
    let (one, far) = (wire.a.workload(ONE), wire.b.workload(FAR));
    for (namespace, interface) in [
        (&one, INTERFACE),
        (&far, INTERFACE),
        (&wire.a.namespace, UNDERLAY),
        (&wire.b.namespace, UNDERLAY),
        (&wire.a.namespace, &host_side(ONE)),
    ] {
        namespace.offload(interface, &WHOLE);
    }
    for workload in [&one, &far] {
        // As `tshark.rs` expects.
        workload.set("net/ipv4/ip_local_port_range", "20000 40000");
    }
    let (outside, inside) = (listens(&wire.b.namespace, UNDERLAY), listens(&one, INTERFACE));
    for address in FAR.addresses() {
        assert!(pings(&one, &address.to_string(), &[]), "{address}");
        let most = MTU as usize - if address.is_ipv4() { 28 } else { 48 };
        let sizes = [0, 1, 17, 18, 19, 100, most - 1, most, most + 1, 5000];
        echo_sizes(&one, &far, address, sizes);
        streams_bytes(&one, &far, address, 100_000);
    }
    for address in ONE.addresses() {
        streams_bytes(&far, &one, address, 100_000);
    }
    // Path MTU errors, to whoever sends more than fits.
    wire.a.segment(0, 1300);
    for address in FAR.addresses() {
        streams_bytes(&one, &far, address, 100_000);
    }

    let tunnels = dissected("to the underlay", &outside.frames());
    let kind = if way.geneve { "geneve" } else { "vxlan" };
    for frame in &tunnels {
        let ours = frame.protocols.contains(&format!("udp:{kind}:eth:ethertype:ip"));
        let stack = frame.protocols.contains("arp") || frame.protocols.contains("ethertype:ipv6:icmpv6");
        assert!(ours || stack, "{frame:?}");
    }
    let outer = if way.v6 { "ipv6" } else { "ip" };
    let chains = ["ip:udp", "ip:tcp", "ip:icmp", "ipv6:udp", "ipv6:tcp", "ipv6:icmpv6"]
        .map(|inner| format!("eth:ethertype:{outer}:udp:{kind}:eth:ethertype:{inner}"));
    seen("to the underlay", &tunnels, &chains.each_ref().map(String::as_str));

    let frames = inside.frames();
    let answers = dissected("to the workload", &frames);
    seen(
        "to the workload",
        &answers,
        &["eth:ethertype:arp", "ip:tcp", "ipv6:tcp"],
    );
    for (what, wanted) in [
        ("an ARP answer", (&[0x08_u8, 0x06][..], 21, 2)),
        ("fragmentation needed", (&[0x08, 0x00], 34, 3)),
        ("packet too big", (&[0x86, 0xdd], 54, 2)),
        ("a neighbour advertisement", (&[0x86, 0xdd], 54, 136)),
    ] {
        let (ether_type, at, value) = wanted;
        let is = |frame: &&Vec<u8>| {
            let icmp = ether_type == [0x08, 0x06]
                || ether_type == [0x08, 0x00] && frame[23] == 1
                || ether_type == [0x86, 0xdd] && frame[20] == 58;
            frame[12..14] == *ether_type && icmp && frame.get(at) == Some(&value)
        };
        assert!(frames.iter().any(|frame| is(&frame)), "no {what}");
    }
}

#[test]
fn vxlan_over_ipv4() {
    through_tunnels(Way::over(false));
}

#[test]
fn vxlan_over_ipv6() {
    through_tunnels(Way::over(true));
}

#[test]
fn geneve_over_ipv4() {
    through_tunnels(Way::over(false).geneve());
}

#[test]
fn geneve_over_ipv6() {
    through_tunnels(Way::over(true).geneve());
}

#[test]
fn what_the_router_says() {
    if !privileged() {
        return;
    }
    let wire = Routed::new(Way::over(false), 1300);
    wire.one.offload(INTERFACE, &WHOLE);
    let inside = listens(&wire.one, INTERFACE);
    let behind = wire.far_identity().addresses();
    for (gateway, far) in gateway(0).addresses().into_iter().zip(behind) {
        let (gateway, far) = (gateway.to_string(), far.to_string());
        assert!(pings(&wire.one, &gateway, &[]), "{gateway}");
        assert!(pings(&wire.one, &far, &[]), "{far}");
        assert!(!pings(&wire.one, &far, &["-t", "1"]), "{far}: one hop too far");
        assert!(!pings(&wire.one, &far, &["-M", "do", "-s", "1320"]), "{far}: too large");
    }
    for nobody in ["10.1.77.77", "fd00::2:0:0:0:7777", "203.0.113.7", "2001:db8::7"] {
        assert!(!pings(&wire.one, nobody, &[]), "{nobody}");
    }
    let frames = inside.frames();
    println!("dropped: {:?}", wire.wire.a.drops());
    let read = dissected("to the workload", &frames);
    seen(
        "to the workload",
        &read,
        &["ip:icmp:ip:icmp", "ipv6:icmpv6:ipv6:icmpv6"],
    );
    for (what, ether_type, at, codes) in [
        ("echo reply", 0x08, 34, (0, 0)),
        ("time exceeded", 0x08, 34, (11, 0)),
        ("fragmentation needed", 0x08, 34, (3, 4)),
        ("host unreachable", 0x08, 34, (3, 1)),
        ("network unreachable", 0x08, 34, (3, 0)),
        ("echo reply over IPv6", 0x86, 54, (129, 0)),
        ("hop limit exceeded", 0x86, 54, (3, 0)),
        ("packet too big", 0x86, 54, (2, 0)),
        ("address unreachable", 0x86, 54, (1, 3)),
        ("no route", 0x86, 54, (1, 0)),
    ] {
        let is = |frame: &Vec<u8>| frame[12] == ether_type && frame.get(at..at + 2) == Some(&[codes.0, codes.1]);
        assert!(frames.iter().any(is), "no {what} among {read:#?}");
    }
}

/// Where the requests come from.
const PROBE_PORT: u16 = 50_000;

/// A request as a host's daemon sends it, of so many bytes behind its header.
fn probe(zeros: usize) -> Vec<u8> {
    let mut packet = vec![8, 0, 0, 0];
    packet.extend((PROBE_VNI << 8).to_be_bytes());
    packet.extend([PROBE_MAC, PROBE_MAC].concat());
    packet.extend(PROBE_ETHER_TYPE.to_be_bytes());
    packet.extend(PROBE_MAGIC.to_be_bytes());
    packet.extend([PROBE_VERSION, PROBE_REQUEST]);
    packet.extend([0, 0, 0, 1]);
    packet.extend([7; 16]);
    packet.resize(packet.len() + zeros, 0);
    packet
}

#[test]
fn answers_to_path_probes() {
    if !privileged() {
        return;
    }
    for v6 in [false, true] {
        let wire = Wire::new(Way::over(v6));
        wire.b.namespace.offload(UNDERLAY, &WHOLE);
        wire.a.namespace.offload(UNDERLAY, &WHOLE);
        let outside = listens(&wire.b.namespace, UNDERLAY);
        wire.b.namespace.run(|| {
            let socket = if v6 {
                UdpSocket::bind((std::net::Ipv6Addr::from(underlay::v6(B)), PROBE_PORT))
            } else {
                UdpSocket::bind((Ipv4Addr::from(underlay::v4(B)), PROBE_PORT))
            };
            let socket = socket.expect("the address is there");
            for zeros in [0, 1, 500, 1380] {
                let to = underlay::address_text(A, v6);
                socket
                    .send_to(&probe(zeros), (to.as_str(), 4789))
                    .expect("there is a way");
            }
        });
        let mut answers = Vec::new();
        let udp = if v6 { 54 } else { 34 };
        eventually("four answers", || {
            answers.extend(outside.next(DEADLINE, |frame| {
                frame.get(udp..udp + 2) == Some(&PROBE_PORT.to_be_bytes())
            }));
            answers.len() == 4
        });
        let read = dissected("answers", &answers);
        seen("answers", &read, &["udp:vxlan:eth:ethertype"]);
        assert!(
            read.iter()
                .all(|frame| frame.protocols.contains("udp:vxlan:eth:ethertype")),
            "{read:?}"
        );
    }
}
