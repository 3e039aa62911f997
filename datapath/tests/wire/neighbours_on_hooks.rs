//! Programs of others on our hooks: one behind ours sees what is not ours, one before ours sees all, and none of ours is
//! disturbed.

use std::net::UdpSocket;

use crate::counter::{Counter, Place};
use crate::kernel_is_at_least;
use crate::namespace::{eventually, privileged};
use crate::topology::{FAR, ONE, Wire};
use crate::traffic::{echo_sizes, streams_bytes};
use crate::underlay::{A, UNDERLAY, Way, address_text};
use crate::workload::host_side;

/// Of the kernel, beside what is counted.
const NOISE: u64 = 50;
const PACKETS: u64 = 300;

/// Where others may stand before and behind our program, which the harness attaches as the daemon does: by tcx where the
/// kernel has it, else in a filter of a priority that the kernel chooses.
fn places() -> (Place, Vec<Place>) {
    if kernel_is_at_least((6, 6)) {
        (Place::First, vec![Place::Last, Place::Filter(1)])
    } else {
        (Place::Filter(1), vec![Place::Filter(60_000)])
    }
}

/// Datagrams from host B to host A that are no tunnel's: nobody listens.
fn others(wire: &Wire, v6: bool) {
    wire.b.namespace.run(|| {
        let any = if v6 { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).expect("ports are free");
        for _ in 0..PACKETS {
            socket
                .send_to(b"not a tunnel's", (address_text(A, v6), 5000))
                .expect("there is a way");
        }
    });
}

#[test]
fn on_the_underlay() {
    if !privileged() {
        return;
    }
    for v6 in [false, true] {
        let mut wire = Wire::new(Way::over(v6));
        let (one, far) = (wire.a.workload(ONE), wire.b.workload(FAR));
        let (before, behind) = places();
        let before = Counter::attached(&wire.a.namespace, UNDERLAY, before);
        let behind: Vec<Counter> = behind
            .into_iter()
            .map(|place| Counter::attached(&wire.a.namespace, UNDERLAY, place))
            .collect();
        others(&wire, v6);
        eventually("all of them see what is not ours", || {
            before.count() >= PACKETS && behind.iter().all(|counter| counter.count() >= PACKETS)
        });

        let counts = || behind.iter().map(Counter::count).collect::<Vec<_>>();
        let (seen_before, seen_behind) = (before.count(), counts());
        let sizes = vec![100; usize::try_from(PACKETS).expect("a few")];
        echo_sizes(&one, &far, FAR.v4().into(), sizes);
        streams_bytes(&far, &one, ONE.v6().into(), 100_000);
        assert!(
            before.count() >= seen_before + PACKETS,
            "the first one sees tunnels, too"
        );
        for (count, seen) in counts().into_iter().zip(seen_behind) {
            assert!(count < seen + NOISE, "{} packets that are ours went on", count - seen);
        }
        wire.dropped_nothing("among others");
    }
}

#[test]
fn on_a_workloads_interface() {
    if !privileged() {
        return;
    }
    let mut wire = Wire::new(Way::over(false));
    let (one, far) = (wire.a.workload(ONE), wire.b.workload(FAR));
    let (before, behind) = places();
    let before = Counter::attached(&wire.a.namespace, &host_side(ONE), before);
    let behind: Vec<Counter> = behind
        .into_iter()
        .map(|place| Counter::attached(&wire.a.namespace, &host_side(ONE), place))
        .collect();
    let sizes = vec![100; usize::try_from(PACKETS).expect("a few")];
    echo_sizes(&one, &far, FAR.v4().into(), sizes);
    streams_bytes(&one, &far, FAR.v6().into(), 100_000);
    assert!(
        before.count() >= PACKETS,
        "the first one sees all that the workload sends"
    );
    for counter in &behind {
        assert_eq!(
            counter.count(),
            0,
            "what a workload sends goes nowhere but through the fabric"
        );
    }
    wire.dropped_nothing("among others");
}
