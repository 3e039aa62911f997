//! A foreign tunnel endpoint: Linux's own `vxlan` device in a bridge, its forwarding table static.

use crate::identity::VNI;
use crate::namespace::Namespace;
use crate::topology::ONE;
use crate::underlay::{A, B, UNDERLAY, address_text, addressed};

const PORT: &str = "4789";

/// Makes host B one. `port` is the interface of its workload.
pub(crate) fn joined(b: &Namespace, over_v6: bool, port: &str) {
    addressed(b, B, UNDERLAY);
    // What follows is switched, not spoken to.
    b.set("net/ipv6/conf/default/disable_ipv6", "1");
    b.set(&format!("net/ipv6/conf/{port}/disable_ipv6"), "1");
    let (vni, local, remote) = (VNI.to_string(), address_text(B, over_v6), address_text(A, over_v6));
    b.ip(&["link", "add", "bridge0", "type", "bridge"]);
    b.ip(&["link", "set", "bridge0", "type", "bridge", "mcast_snooping", "0"]);
    let mut device = vec![
        "link",
        "add",
        "vxlan0",
        "type",
        "vxlan",
        "id",
        &vni,
        "dstport",
        PORT,
        "local",
        &local,
        "nolearning",
    ];
    if over_v6 {
        // RFC 6935: ours sends no outer checksum.
        device.push("udp6zerocsumrx");
    }
    b.ip(&device);
    for interface in ["vxlan0", port] {
        b.ip(&["link", "set", interface, "master", "bridge0"]);
        b.ip(&["link", "set", interface, "up"]);
    }
    b.ip(&["link", "set", "bridge0", "up"]);
    let mac = ONE.mac_text();
    b.must("bridge", &["fdb", "add", &mac, "dev", "vxlan0", "master", "static"]);
    for mac in [mac.as_str(), "00:00:00:00:00:00"] {
        b.must(
            "bridge",
            &[
                "fdb",
                "append",
                mac,
                "dev",
                "vxlan0",
                "dst",
                &remote,
                "self",
                "permanent",
            ],
        );
    }
}
