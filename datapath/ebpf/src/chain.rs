//! The domain's own functions (`../../sdk/README.md` is the contract with them): between what the policy said and the
//! packet's leaving, in programs of their own, because a subprogram that makes tail calls allows those above it 256 bytes
//! of stack together. A function is called by a tail call inside a subprogram of ours, so that it comes back with what it
//! returned; it says no or nothing. What it changed of the kernel's context is undone.

use core::arch::asm;
use core::ptr;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use datapath_common::{
    CHAIN_LENGTH, FLOW_CHAIN_SHIFT, FLOW_ENCAPSULATE, FUNCTION_OPEN, Reason, SLOT_CHAIN_ENDPOINT, SLOT_CHAIN_UNDERLAY,
    SLOT_FLOOD, Settings,
};
use fabric_function::abi;

use crate::decap::{self, Inner};
use crate::drop::Owner;
use crate::encap::Tunnel;
use crate::maps::{CHAIN, FUNCTIONS, SETTINGS};
use crate::packet::Packet;
use crate::quick::Quick;
use crate::send::{self, Load};
use crate::walk::{ANSWER_NONE, Walk};
use crate::{TC_ACT_SHOT, Verdict, action, entry, finish, slow_endpoint, slow_underlay, stub, transport};

/// Largest offset of a workload's frame: outer headers with all their options.
const FARTHEST: usize = 0x1ff;
/// Words of `skb->cb`.
const WORDS: usize = 5;

/// What a chain needs to know of a packet, and what is left to do with it.
#[repr(C)]
pub struct Pending {
    /// Its functions, as `Domain` has them.
    flow: u32,
    packet: u32,
    /// Words of the functions' context.
    direction: u32,
    endpoint: u32,
    hash: u32,
    frame: u32,
    /// What the kernel's context had in it before.
    words: [u32; WORDS],
    mark: u32,
    priority: u32,
    /// From a workload; from the underlay.
    load: Load,
    inner: Inner,
}

/// Whether the domain has functions that a packet on the slow path passes. The domain's generation was read before. Where
/// it cannot be told, the packet does not go.
#[inline(always)]
pub fn wants(walk: &mut Walk) -> Result<bool, Reason> {
    let domain = entry::domain(walk.owner.domain).ok_or(Reason::FunctionFailed)?;
    walk.pending.flow = domain.chain_flow;
    walk.pending.packet = domain.chain_packet;
    walk.flow.flags |= domain.chain_packet << FLOW_CHAIN_SHIFT;
    Ok(domain.chain_flow | domain.chain_packet != 0)
}

/// Whether the domain has functions that a frame for many passes, or one that is not IP; says what they are told of it.
#[inline(always)]
pub fn spreads(walk: &mut Walk) -> Result<bool, Reason> {
    if !wants(walk)? {
        return Ok(false);
    }
    let (sender, start) = (walk.flood.sender, walk.flood.start);
    walk.pending.direction = if sender == 0 { abi::INGRESS } else { abi::EGRESS };
    walk.pending.endpoint = sender;
    walk.pending.hash = transport::entropy(walk).hash();
    walk.pending.frame = start;
    Ok(true)
}

/// The rest of the slow path for a workload's packet, in a program of its own.
#[inline(always)]
pub fn leave(packet: &mut Packet, walk: &mut Walk, load: &Load) -> Result<Verdict, Reason> {
    endpoint(walk, load);
    stub::call(&TcContext::new(packet.skb()), SLOT_CHAIN_ENDPOINT);
    Err(Reason::NoProgram)
}

/// The same for a packet from the underlay.
#[inline(always)]
pub fn arrive(packet: &mut Packet, walk: &mut Walk, inner: &Inner) -> Result<Verdict, Reason> {
    walk.pending.hash = transport::entropy(walk).hash();
    underlay(walk, inner);
    stub::call(&TcContext::new(packet.skb()), SLOT_CHAIN_UNDERLAY);
    Err(Reason::NoProgram)
}

/// The rest of the fast path for a workload's packet; nothing where the slow path has to say why it cannot leave.
#[inline(always)]
pub fn leave_fast(packet: &mut Packet, walk: &mut Walk, load: &Load, owner: Owner) -> Option<Result<Verdict, Reason>> {
    if walk.flow.flags & FLOW_ENCAPSULATE != 0
        && let Err(Reason::Mtu) = Tunnel::of(&walk.flow, packet, load)
    {
        return None;
    }
    known(walk, owner);
    endpoint(walk, load);
    stub::call(&TcContext::new(packet.skb()), SLOT_CHAIN_ENDPOINT);
    Some(Err(Reason::NoProgram))
}

/// The same for a packet from the underlay.
#[inline(always)]
pub fn arrive_fast(
    packet: &mut Packet,
    walk: &mut Walk,
    inner: &Inner,
    quick: &Quick,
    owner: Owner,
) -> Result<Verdict, Reason> {
    known(walk, owner);
    walk.pending.hash = quick.entropy().hash();
    underlay(walk, inner);
    stub::call(&TcContext::new(packet.skb()), SLOT_CHAIN_UNDERLAY);
    Err(Reason::NoProgram)
}

/// Completes the walk of a packet whose decision is known.
#[inline(always)]
fn known(walk: &mut Walk, owner: Owner) {
    walk.owner = owner;
    walk.answer = ANSWER_NONE;
    walk.pending.flow = 0;
    walk.pending.packet = walk.flow.flags >> FLOW_CHAIN_SHIFT;
}

#[inline(always)]
fn endpoint(walk: &mut Walk, load: &Load) {
    let pending = &mut walk.pending;
    pending.direction = if walk.flow.flags & FLOW_ENCAPSULATE != 0 {
        abi::EGRESS
    } else {
        abi::LOCAL
    };
    pending.endpoint = walk.owner.endpoint;
    pending.hash = load.entropy.hash();
    pending.frame = 0;
    pending.load = *load;
}

#[inline(always)]
fn underlay(walk: &mut Walk, inner: &Inner) {
    let pending = &mut walk.pending;
    pending.direction = abi::INGRESS;
    pending.endpoint = walk.flow.endpoint;
    pending.frame = inner.start as u32;
    pending.inner = *inner;
}

/// Called by `from_endpoint` and `slow_endpoint`, which left the walk.
#[classifier]
pub fn chain_endpoint(ctx: TcContext) -> i32 {
    match asked(&ctx) {
        Some(action) => action,
        None => go_endpoint(ctx.skb.skb),
    }
}

/// Called by `from_underlay` and `slow_underlay`, which left the walk.
#[classifier]
pub fn chain_underlay(ctx: TcContext) -> i32 {
    match asked(&ctx) {
        Some(action) => action,
        None => go_underlay(ctx.skb.skb),
    }
}

/// Called by the slow paths, which left the walk, for what `flood` sends.
#[classifier]
pub fn chain_flood(ctx: TcContext) -> i32 {
    if let Some(action) = asked(&ctx) {
        return action;
    }
    stub::call(&ctx, SLOT_FLOOD);
    let owner = Walk::resume().map_or(Owner::NOBODY, |walk| walk.owner);
    action(Err(Reason::NoProgram), owner, Packet::new(&ctx).len())
}

/// Asks; what becomes of the packet if it may not go.
#[inline(always)]
fn asked(ctx: &TcContext) -> Option<i32> {
    let Some(walk) = Walk::resume() else {
        return Some(TC_ACT_SHOT);
    };
    let mut packet = Packet::new(ctx);
    match pass(&mut packet, walk) {
        Ok(()) => None,
        Err(reason) => Some(action(Err(reason), walk.owner, packet.len())),
    }
}

/// By itself, because its stack is not to be above that of who asks.
#[inline(never)]
fn go_endpoint(skb: *mut __sk_buff) -> i32 {
    let ctx = TcContext::new(skb);
    let mut packet = Packet::new(&ctx);
    let length = packet.len();
    let Some(walk) = Walk::resume() else {
        return TC_ACT_SHOT;
    };
    let load = walk.pending.load;
    let result = match settings() {
        Ok(settings) if load.fast => send::follow(&mut packet, &walk.flow, &load, settings),
        Ok(settings) => slow_endpoint::leave(&mut packet, walk, &load, settings),
        Err(reason) => Err(reason),
    };
    finish(&ctx, walk, result, length)
}

/// As [`go_endpoint`].
#[inline(never)]
fn go_underlay(skb: *mut __sk_buff) -> i32 {
    let ctx = TcContext::new(skb);
    let mut packet = Packet::new(&ctx);
    let length = packet.len();
    let Some(walk) = Walk::resume() else {
        return TC_ACT_SHOT;
    };
    let inner = Inner {
        start: walk.pending.inner.start & FARTHEST,
        ..walk.pending.inner
    };
    let result = match settings() {
        Ok(settings) if inner.fast => decap::follow(&mut packet, &walk.flow, &inner, settings),
        Ok(settings) => slow_underlay::leave(&mut packet, walk, &inner, settings),
        Err(reason) => Err(reason),
    };
    finish(&ctx, walk, result, length)
}

#[inline(always)]
fn settings() -> Result<&'static Settings, Reason> {
    SETTINGS.get(0).ok_or(Reason::NoProgram)
}

/// Asks all functions that a packet passes, in their order; the first no is the answer.
#[inline(always)]
fn pass(packet: &mut Packet, walk: &mut Walk) -> Result<(), Reason> {
    let skb = packet.skb();
    walk.pending.words = [word(skb, 0), word(skb, 1), word(skb, 2), word(skb, 3), word(skb, 4)];
    // SAFETY: the kernel's context is valid for the whole run.
    (walk.pending.mark, walk.pending.priority) = unsafe { ((*skb).mark, (*skb).priority) };
    let mut verdict = NEXT;
    if walk.pending.flow != 0 {
        verdict = each(skb, walk, walk.pending.flow, abi::HOOK_FLOW);
    }
    if verdict == NEXT && walk.pending.packet != 0 {
        verdict = each(skb, walk, walk.pending.packet, abi::HOOK_PACKET);
    }
    // SAFETY: as above; these may be written.
    unsafe { ((*skb).mark, (*skb).priority) = (walk.pending.mark, walk.pending.priority) };
    let [a, b, c, d, e] = walk.pending.words;
    set_words(skb, [a, b, c, d, e]);
    match verdict {
        NEXT => Ok(()),
        REFUSED => Err(Reason::Function),
        _ => Err(Reason::FunctionFailed),
    }
}

/// What a chain says.
const NEXT: u32 = 0;
const REFUSED: u32 = 1;
const FAILED: u32 = 2;

/// Asks the functions of a chain.
#[inline(never)]
fn each(skb: *mut __sk_buff, walk: &Walk, chain: u32, hook: u32) -> u32 {
    let pending = &walk.pending;
    let (first, count) = (chain >> 8, chain & 0xff);
    for position in 0..CHAIN_LENGTH {
        if position >= count {
            break;
        }
        // Who is asked may write there, too: each gets its own.
        let head = abi::head(hook, pending.direction, position);
        set_words(
            skb,
            [head, walk.owner.domain, pending.endpoint, pending.hash, pending.frame],
        );
        match ask(skb, first + position) {
            abi::NEXT => {}
            abi::DROP => return REFUSED,
            _ if is_open(first + position) => {}
            _ => return FAILED,
        }
    }
    NEXT
}

/// Asks one function: what it returned, or a word that is no answer if there is none. The kernel, which thinks that this
/// only returns where the tail call fails, is not to know what: it would take the answers above for impossible.
#[inline(never)]
fn ask(skb: *mut __sk_buff, slot: u32) -> u32 {
    call(&TcContext::new(skb), slot);
    // The word has the version in it.
    word(skb, 0)
}

/// Calls one function. Where slot and map are constants, the kernel makes a direct jump of a tail call, which it patches
/// with the map; any other goes through a retpoline where the machine needs those, at some 15 ns. So the first slots
/// have a call each: those the chains get that each packet passes.
#[inline(always)]
fn call(ctx: &TcContext, slot: u32) {
    macro_rules! near {
        ($($near:literal)*) => {
            match slot {
                $($near => {
                    // SAFETY: programs and map are of the same type.
                    unsafe { CHAIN.tail_call(ctx, $near) };
                    // Keeps the compiler from making one call of all again, whose slot is no constant.
                    // SAFETY: a register gets a number.
                    unsafe { asm!("{} = {}", out(reg) _, const $near, options(nomem, nostack)) };
                })*
                // SAFETY: as above.
                _ => unsafe { CHAIN.tail_call(ctx, slot) },
            }
        };
    }
    near!(
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
        32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
    );
}

/// A word of the kernel's context. Word by word: the kernel knows no other way to it.
#[inline(always)]
fn word(skb: *mut __sk_buff, index: usize) -> u32 {
    // SAFETY: the kernel's context is valid for the whole run; callers' indexes are below `WORDS`.
    unsafe { ptr::read_volatile((&raw const (*skb).cb).cast::<u32>().add(index)) }
}

/// As [`word`], to write all.
#[inline(always)]
fn set_words(skb: *mut __sk_buff, words: [u32; WORDS]) {
    let at = |index: usize| {
        // SAFETY: as in `word`.
        unsafe { (&raw mut (*skb).cb).cast::<u32>().add(index) }
    };
    let [a, b, c, d, e] = words;
    for (index, word) in [(0, a), (1, b), (2, c), (3, d), (4, e)] {
        // SAFETY: as above.
        unsafe { ptr::write_volatile(at(index), word) };
    }
}

/// Counts a failure; whether the packet goes on all the same.
#[inline(never)]
fn is_open(slot: u32) -> bool {
    let Some(function) = FUNCTIONS.get_ptr_mut(slot) else {
        return false;
    };
    // SAFETY: an element of the map, whatever stands in it; two CPUs at once may count one.
    let function = unsafe { &mut *function };
    function.failures += 1;
    function.flags & FUNCTION_OPEN != 0
}
