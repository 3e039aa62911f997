//! The domain's rules: may this connection be opened? Asked with the tuple as its initiator sends it.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::bpf_loop;
use datapath_common::{
    ACTION_ALLOW, ACTION_AUDIT, ANY, AUDIT_CONNECTIONS_FULL, AUDIT_VXLAN_RESERVED, Address, Count, DOMAIN_ALLOW,
    Domain, Groups, ICMP_OF_FAMILY, MemberKey, PREFIX4, PREFIX6, Rule,
};

use crate::maps::{AUDITS, RULES};
use crate::transport::is_icmp;
use crate::walk::Walk;
use crate::{entry, ip};

/// A list of rules being walked. It lies in the walk's map value: what the verifier does not see, it need not follow.
#[repr(C)]
pub struct Evaluation {
    /// Groups of the local and of the far end, and the far end's address.
    local: Groups,
    far: Groups,
    address: Address,
    v4: bool,
    protocol: u32,
    /// Destination port; for ICMP, type << 8 | code.
    port: u32,
    /// Bytes of the packet, for audits.
    length: u32,
    /// The domain's sets, and the one that is being asked.
    sets: [u32; 2],
    set: u32,
    /// The policy that is being asked, which of its versions has spoken last (from 1), and how many allow.
    policy: u32,
    version: u32,
    allowed: u32,
    /// What was decided.
    verdict: u32,
}

/// `Evaluation::verdict`: nothing yet.
const OPEN: u32 = 0;
const ALLOWED: u32 = 1;
const DENIED: u32 = 2;
/// A rule is missing: its set is being taken away, another one has its place.
const LOST: u32 = 3;
/// No policy has this number.
const NO_POLICY: u32 = u32::MAX;

/// Which ends of a connection are on this host: each has a say.
#[derive(Clone, Copy)]
pub struct Ends {
    pub initiator: bool,
    pub responder: bool,
}

/// What the rules say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Opinion {
    Allowed,
    Denied,
    /// Sets changed under way, more than once: no, but it says nothing of the connection.
    Unknown,
}

/// `ask_rules`: the packet goes from the responder to the initiator.
const REPLY: u32 = 1;
/// `ask_rules`: the initiator is here, the responder is.
const INITIATOR: u32 = 2;
const RESPONDER: u32 = 4;

/// Asks the rules of the ends that are here. `reply`: the packet goes from the responder to the initiator.
#[inline(always)]
pub fn ask(walk: &mut Walk, port: u32, reply: bool, ends: Ends) -> Opinion {
    match ask_once(walk, port, reply, ends) {
        Opinion::Unknown => ask_once(walk, port, reply, ends),
        opinion => opinion,
    }
}

#[inline(always)]
fn ask_once(walk: &mut Walk, port: u32, reply: bool, ends: Ends) -> Opinion {
    let flag = |is: bool, flag: u32| if is { flag } else { 0 };
    let asked = flag(reply, REPLY) | flag(ends.initiator, INITIATOR) | flag(ends.responder, RESPONDER);
    // SAFETY: this walk, which nobody else uses meanwhile.
    match unsafe { ask_rules(walk, port, asked) } {
        ALLOWED => Opinion::Allowed,
        LOST => Opinion::Unknown,
        _ => Opinion::Denied,
    }
}

/// A global function, which the verifier looks at once, whoever calls it and whatever he knows: followed from each call,
/// rules were half of what it took to load the slow paths. Answers `ALLOWED`, `DENIED` or `LOST`.
///
/// # Safety
/// `walk` is null or one that nobody else uses meanwhile.
#[inline(never)]
#[unsafe(no_mangle)]
unsafe extern "C" fn ask_rules(walk: *mut Walk, port: u32, asked: u32) -> u32 {
    // SAFETY: see above.
    let Some(walk) = (unsafe { walk.as_mut() }) else {
        return DENIED;
    };
    let reply = asked & REPLY != 0;
    let Some(domain) = entry::domain(walk.owner.domain) else {
        return DENIED;
    };
    walk.evaluation.sets = [domain.egress, domain.ingress];
    walk.evaluation.v4 = walk.ip.v4();
    walk.evaluation.protocol = walk.tuple.protocol;
    walk.evaluation.port = port;
    walk.evaluation.length = walk.ip.end.saturating_sub(walk.ip.start);
    let mut opinion = Opinion::Allowed;
    if asked & INITIATOR != 0 {
        opinion = egress(walk, domain, reply);
    }
    if opinion == Opinion::Allowed && asked & RESPONDER != 0 {
        opinion = ingress(walk, domain, reply);
    }
    // A domain refers to another set before the rules of its former one go, and with them what was read as such.
    match entry::domain(walk.owner.domain) {
        Some(domain) if [domain.egress, domain.ingress] == walk.evaluation.sets => match opinion {
            Opinion::Allowed => ALLOWED,
            Opinion::Denied => DENIED,
            Opinion::Unknown => LOST,
        },
        _ => LOST,
    }
}

/// Whether the initiator may open it.
#[inline(always)]
fn egress(walk: &mut Walk, domain: &Domain, reply: bool) -> Opinion {
    walk.evaluation.set = domain.egress;
    walk.evaluation.address = walk.tuple.destination;
    ends(walk, reply);
    evaluate(walk, domain, domain.egress_rules)
}

/// Whether the responder may receive it.
#[inline(always)]
fn ingress(walk: &mut Walk, domain: &Domain, reply: bool) -> Opinion {
    walk.evaluation.set = domain.ingress;
    walk.evaluation.address = walk.tuple.source;
    ends(walk, !reply);
    evaluate(walk, domain, domain.ingress_rules)
}

/// The local end is the packet's destination, or its source.
#[inline(always)]
fn ends(walk: &mut Walk, destination: bool) {
    let (source, other) = (walk.source_groups, walk.destination_groups);
    walk.evaluation.local = if destination { other } else { source };
    walk.evaluation.far = if destination { source } else { other };
}

#[inline(always)]
fn evaluate(walk: &mut Walk, domain: &Domain, rules: u32) -> Opinion {
    walk.evaluation.policy = NO_POLICY;
    walk.evaluation.version = 0;
    walk.evaluation.allowed = 0;
    walk.evaluation.verdict = OPEN;
    if rules != 0 {
        // On the stack, where the helper wants it.
        let mut context: *mut Walk = walk;
        let callback = ask_rule as unsafe extern "C" fn(u32, *mut *mut Walk) -> i64;
        // SAFETY: the callback is a function of the type that the helper calls, with the context that it is given.
        unsafe { bpf_loop(rules, callback as *mut c_void, (&raw mut context).cast(), 0) };
    }
    match walk.evaluation.verdict {
        ALLOWED => Opinion::Allowed,
        OPEN if domain.flags & DOMAIN_ALLOW != 0 => Opinion::Allowed,
        LOST => Opinion::Unknown,
        _ => Opinion::Denied,
    }
}

/// Asks one rule; 1 ends the walk.
unsafe extern "C" fn ask_rule(index: u32, context: *mut *mut Walk) -> i64 {
    // SAFETY: `evaluate` gives this context.
    let evaluation = unsafe { &mut (**context).evaluation };
    let key = MemberKey {
        set: evaluation.set,
        index,
    };
    // SAFETY: sets are never changed; while one is taken away, its rules may be other sets' (`ask_once`).
    let Some(rule) = (unsafe { RULES.get(key) }) else {
        evaluation.verdict = LOST;
        return 1;
    };
    if rule.policy != evaluation.policy {
        evaluation.policy = rule.policy;
        evaluation.version = 0;
        evaluation.allowed = 0;
    }
    let version = u32::from(rule.version) + 1;
    if evaluation.version == version || !matches(evaluation, rule) {
        return 0;
    }
    if rule.action == ACTION_AUDIT {
        count(key, evaluation.length);
        return 0;
    }
    if rule.action != ACTION_ALLOW {
        evaluation.verdict = DENIED;
        return 1;
    }
    evaluation.version = version;
    evaluation.allowed += 1;
    if evaluation.allowed < u32::from(rule.versions) {
        return 0;
    }
    evaluation.verdict = ALLOWED;
    1
}

#[inline(always)]
fn matches(evaluation: &Evaluation, rule: &Rule) -> bool {
    let subject = rule.subject == ANY || has(&evaluation.local, rule.subject);
    let protocol = match rule.protocol {
        ANY => true,
        ICMP_OF_FAMILY => is_icmp(evaluation.protocol, evaluation.v4),
        number => u32::from(number) == evaluation.protocol,
    };
    let port = evaluation.port;
    subject
        && protocol
        && u32::from(rule.port_low) <= port
        && port <= u32::from(rule.port_high)
        && peer(evaluation, rule)
}

#[inline(always)]
fn peer(evaluation: &Evaluation, rule: &Rule) -> bool {
    match rule.peer {
        ANY => true,
        PREFIX4 => evaluation.v4 && within(evaluation, rule),
        PREFIX6 => !evaluation.v4 && within(evaluation, rule),
        group => has(&evaluation.far, group),
    }
}

/// Whether the group is among the groups; a number that is no group is not.
#[inline(always)]
fn has(groups: &Groups, group: u16) -> bool {
    let word = groups[usize::from(group >> 6 & 3)];
    group < 256 && word >> (group & 63) & 1 != 0
}

/// Whether the far address is in the rule's prefix.
#[inline(always)]
fn within(evaluation: &Evaluation, rule: &Rule) -> bool {
    let (a, b) = (ip::words(&evaluation.address), ip::words(&rule.address));
    let mut different = 0;
    let mut left = rule.prefix_length;
    for (a, b) in a.into_iter().zip(b) {
        let bits = left.min(32);
        let mask = (0xffff_ffff_u64 << (32 - bits)) as u32;
        different |= u32::from_be(a ^ b) & mask;
        left -= bits;
    }
    different == 0
}

/// Counts that a connection finds no room among the permanent ones.
#[inline(always)]
pub fn count_full(length: u32) {
    count(AUDIT_CONNECTIONS_FULL, length);
}

/// Counts that the reserved bits of a VXLAN header are ignored.
#[inline(always)]
pub fn count_reserved(length: u32) {
    count(AUDIT_VXLAN_RESERVED, length);
}

#[inline(never)]
fn count(key: MemberKey, length: u32) {
    if add(&key, length) {
        return;
    }
    let first = Count {
        packets: 1,
        bytes: length.into(),
    };
    // Fails where another CPU was faster, too: then the entry is there.
    if AUDITS.insert(key, first, BPF_NOEXIST.into()).is_err() {
        add(&key, length);
    }
}

/// Counts where there is a counter.
#[inline(always)]
fn add(key: &MemberKey, length: u32) -> bool {
    let Some(count) = AUDITS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: the kernel returned this CPU's value; nobody else counts on this CPU meanwhile.
    let count = unsafe { &mut *count };
    count.packets += 1;
    count.bytes += u64::from(length);
    true
}
