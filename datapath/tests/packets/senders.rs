//! Third-party functions are told of the packet that they are asked about, whatever the CPU had before it.

use datapath_common::DOMAIN_ALLOW;

use crate::bench::{Bench, Context};
use crate::book::{self, API, BROADCAST, DB, RED, RED_DOMAIN, VM, WEB, Workload};
use crate::chain::{EGRESS, INGRESS, Loaded, PACKET, VERSION, chains, end, stand};
use crate::fate::Fate;
use crate::frames::{Tunnel, ethernet, udp4_ports};
use crate::punts;

#[test]
fn what_is_for_one_is_told_of_its_own_sender() {
    let Some(mut bench) = Bench::new() else { return };
    bench.members(RED, book::segment(RED_DOMAIN), &[&WEB, &API, &VM].map(book::member));
    let mut count = Loaded::new("count");
    let counts = stand(&mut bench, 0, &[(&count, 0)]);
    chains(&mut bench, RED_DOMAIN, DOMAIN_ALLOW, counts, counts);
    let strange = |from: &Workload, to: [u8; 6]| ethernet(from.mac, to, 0x8863, &[9; 46]);
    let (sent, received) = (
        strange(&WEB, BROADCAST),
        Tunnel::inbound(RED).by_b(&strange(&DB, BROADCAST)),
    );
    let answer = udp4_ports(&API, &WEB, (53, 40_000), b"the answer");
    let delivered = punts::injected(punts::header(WEB.endpoint, &answer), &answer);
    for (what, before, program, frame, direction, endpoint) in [
        (
            "sent to one here",
            ("from_underlay", &received),
            "from_endpoint",
            strange(&WEB, API.mac),
            EGRESS,
            WEB.endpoint,
        ),
        (
            "sent to one elsewhere",
            ("from_underlay", &received),
            "from_endpoint",
            strange(&WEB, DB.mac),
            EGRESS,
            WEB.endpoint,
        ),
        (
            "received for one",
            ("from_endpoint", &sent),
            "from_underlay",
            Tunnel::inbound(RED).by_b(&strange(&DB, API.mac)),
            INGRESS,
            0,
        ),
        (
            "of user space",
            ("from_endpoint", &sent),
            "from_punt",
            delivered,
            INGRESS,
            0,
        ),
    ] {
        bench.run(before.0, before.1, Context::default()).unwrap();
        let packets = count.seen().packets;
        let fate = bench.fate(program, what, &frame, Context::default());
        assert!(matches!(fate, Fate::Redirected(..)), "{what}: {fate:?}");
        let seen = count.seen();
        assert_eq!(seen.packets, packets + 2, "{what}: at each hook");
        let [head, domain, told, ..] = seen.words;
        assert_eq!(
            (head, domain, told),
            (VERSION | PACKET | direction, RED_DOMAIN, endpoint),
            "{what}"
        );
    }
    end(bench);
}
