//! The reasons that the differential test does not compare: why not, and which test shows each.

use std::collections::BTreeSet;

use datapath_common::Reason;
use overlay::model;

/// A reason, why the model and the facility have nothing to compare, the file of a test below `datapath`, and the test.
type Row = (Reason, &'static str, &'static str, &'static str);

const ELSEWHERE: [Row; 9] = [
    (
        Reason::Kernel,
        "the kernel refuses what the facility makes of a super-packet, or has no memory; copies to interfaces that are made up",
        include_str!("../encapsulation.rs"),
        "the_kernel_refuses",
    ),
    (
        Reason::NoProgram,
        "a slot without its program is no state of a domain",
        include_str!("../hooks.rs"),
        "a_stub_without_its_program",
    ),
    (
        Reason::Function,
        "functions are not modelled",
        include_str!("../chain.rs"),
        "whatever_it_returns_is_next_drop_or_a_failure",
    ),
    (
        Reason::FunctionFailed,
        "functions are not modelled",
        include_str!("../chain.rs"),
        "where_a_function_is_missing_its_fail_mode_decides",
    ),
    (
        Reason::DeviceReceive,
        "no program says it: it is read from the counters of interfaces",
        include_str!("../../../src/lost.rs"),
        "losses_are_added_up_over_interfaces_that_come_and_go",
    ),
    (
        Reason::DeviceTransmit,
        "no program says it: it is read from the counters of interfaces",
        include_str!("../../namespaces/device.rs"),
        "what_the_kernel_drops_on_an_interface_is_counted_for_its_endpoint",
    ),
    (
        Reason::Unsegmentable,
        "the facility has no super-packets that are in a tunnel already",
        include_str!("../../wire/carriers.rs"),
        "without_the_device_they_are_dropped_and_counted",
    ),
    (
        Reason::OtherAddress,
        "the facility has no packets that a tunnel device took out of a tunnel",
        include_str!("../../wire/carriers.rs"),
        "what_comes_by_the_device_is_checked_like_the_underlay",
    ),
    (
        Reason::ProbeRate,
        "its bucket fills by the clock, which the facility does not let stand still",
        include_str!("../probes.rs"),
        "a_host_that_asks_too_much_is_not_answered_for_a_while",
    ),
];

#[test]
fn every_reason_is_compared_or_shown_elsewhere() {
    let compared: BTreeSet<&str> = model::Reason::ALL.iter().map(|reason| reason.name()).collect();
    let elsewhere: BTreeSet<&str> = ELSEWHERE.iter().map(|(reason, ..)| reason.name()).collect();
    let both: Vec<_> = compared.intersection(&elsewhere).collect();
    assert!(both.is_empty(), "compared, and said not to be: {both:?}");
    let all: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    let known: BTreeSet<&str> = compared.union(&elsewhere).copied().collect();
    assert_eq!(known, all);
    for (reason, why, file, test) in ELSEWHERE {
        assert!(!why.is_empty());
        assert!(
            file.contains(&format!("fn {test}(")),
            "no test {test} shows {}",
            reason.name()
        );
    }
}
