//! ICMP errors of workloads: who may report about which connection, and how often.

use datapath_common::{LIMIT_RELATED, Neighbour, Reason, mapped};

use crate::bench::{Bench, Context};
use crate::book::{API, DB, LOST, RED, RED_DOMAIN, WEB, Workload};
use crate::fate::{Fate, dropped, other_family, to_namespace};
use crate::frames::{Tunnel, icmp_error, udp4, udp6};
use crate::rules::leaves;

/// As host B sends it.
fn inside(frame: &[u8]) -> Vec<u8> {
    Tunnel::inbound(RED).by_b(frame)
}

/// An error about a frame, sent by a workload from an address of its choice.
fn error_of(speaker: &Workload, about: &[u8]) -> Vec<u8> {
    let (address, kind) = if about[12..14] == [0x08, 0] {
        (mapped(speaker.v4), (3, 1))
    } else {
        (speaker.v6, (1, 3))
    };
    let mut error = icmp_error(about, Some(address), kind, 0);
    error[6..12].copy_from_slice(&speaker.mac);
    error
}

/// A connection that somebody of host B opens to a workload here, and one that `WEB` opens.
fn opened(bench: &Bench, frames: &[Vec<u8>]) {
    for frame in frames {
        let fate = bench.fate("from_underlay", "it is opened", &inside(frame), Context::default());
        assert!(matches!(fate, Fate::Redirected(..)), "{fate:?}");
    }
}

#[test]
fn a_workload_here_reports_about_its_own_connections() {
    let Some(mut bench) = Bench::on_devices() else { return };
    let behind = WEB.with([172, 16, 1, 1], WEB.v6);
    let owner = Neighbour { mac: WEB.mac, flags: 0 };
    bench.prefix(RED, 4, mapped([172, 16, 0, 0]), 96 + 16, owner);
    let own = [udp4(&DB, &WEB), udp6(&DB, &WEB), udp4(&DB, &behind)];
    let anothers = [udp4(&DB, &API), udp6(&DB, &API)];
    opened(&bench, &own);
    opened(&bench, &anothers);
    for about in &own {
        for speaker in [WEB, behind] {
            let fate = bench.fate(
                "from_endpoint",
                "its own",
                &error_of(&speaker, about),
                Context::default(),
            );
            assert!(matches!(fate, Fate::Redirected(..)), "{fate:?}");
        }
    }
    let refused = |about: &Vec<u8>, speaker| {
        let error = error_of(speaker, about);
        ("another's", error, dropped(Reason::Unrelated))
    };
    bench.table(
        "from_endpoint",
        anothers
            .iter()
            .flat_map(|about| [&WEB, &behind].map(|speaker| refused(about, speaker)))
            .collect(),
    );
}

#[test]
fn a_host_that_lies_cannot_report_about_the_connections_of_others() {
    let Some(mut bench) = Bench::on_devices() else { return };
    let outside = DB.with([192, 0, 2, 200], DB.v6);
    let near = [udp4(&WEB, &API), udp6(&WEB, &API), udp4(&WEB, &LOST)];
    let far = [udp4(&WEB, &DB), udp6(&WEB, &DB), udp4(&WEB, &outside)];
    let owner = Neighbour { mac: DB.mac, flags: 0 };
    bench.prefix(RED, 4, mapped([192, 0, 2, 0]), 96 + 24, owner);
    for frame in near.iter().chain(&far) {
        // That there is no way to its host comes behind the connection.
        let _ = bench.fate("from_endpoint", "it is opened", frame, Context::default());
    }
    assert!(leaves(&bench, "there is a way to most", &far[0]));
    let unrelated = Fate::Dropped(Reason::Unrelated, RED_DOMAIN, WEB.endpoint);
    let forged = near.iter().map(|about| {
        let error = error_of(&DB, about);
        ("about another", inside(&error), unrelated.clone())
    });
    bench.table("from_underlay", forged.collect());
    let honest = far.iter().map(|about| {
        let error = error_of(&DB, about);
        (
            "about itself, or what is behind it",
            inside(&error),
            if about == &far[1] {
                other_family(&error)
            } else {
                to_namespace(&error)
            },
        )
    });
    bench.table("from_underlay", honest.collect());
    let beyond = error_of(&DB.with([192, 0, 2, 1], DB.v6), &far[2]);
    bench.table(
        "from_underlay",
        vec![("a router behind it", inside(&beyond), to_namespace(&beyond))],
    );
}

#[test]
fn errors_are_limited_for_each_who_sends_them() {
    let Some(mut bench) = Bench::on_devices() else { return };
    let (inward, outward) = (udp4(&DB, &WEB), udp4(&WEB, &DB));
    opened(&bench, std::slice::from_ref(&inward));
    assert!(leaves(&bench, "the other way", &outward));
    bench.exhaust(WEB.endpoint, LIMIT_RELATED);
    bench.table(
        "from_endpoint",
        vec![("too many", error_of(&WEB, &inward), dropped(Reason::RateLimit))],
    );
    let theirs = error_of(&DB, &outward);
    bench.table(
        "from_underlay",
        vec![("another's share", inside(&theirs), to_namespace(&theirs))],
    );
    let station = bench.remote_station(RED, DB.mac);
    bench.exhaust(station, LIMIT_RELATED);
    let too_many = Fate::Dropped(Reason::RateLimit, RED_DOMAIN, WEB.endpoint);
    bench.table(
        "from_underlay",
        vec![("too many from there", inside(&theirs), too_many)],
    );
}
