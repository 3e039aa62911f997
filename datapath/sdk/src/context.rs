//! The packet in a function's hands, and what the datapath knows of it. It refuses to write.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;

use crate::abi;

/// What a function says to a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// On to the next function.
    Next,
    /// Dropped, and counted as `function`.
    Drop,
}

impl Answer {
    /// As the datapath takes it.
    #[must_use]
    #[inline(always)]
    pub const fn number(self) -> u32 {
        match self {
            Self::Next => abi::NEXT,
            Self::Drop => abi::DROP,
        }
    }
}

/// Why a function is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// A flow's way is being decided ([`abi::HOOK_FLOW`]).
    Flow,
    /// A packet passes ([`abi::HOOK_PACKET`]).
    Packet,
}

/// Which way a packet goes, as the workload on this host sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// [`abi::EGRESS`].
    Egress,
    /// [`abi::INGRESS`].
    Ingress,
    /// [`abi::LOCAL`].
    Local,
}

/// A packet.
pub struct Context {
    skb: *mut __sk_buff,
}

impl Context {
    /// Of the kernel's context.
    ///
    /// # Safety
    /// The pointer is what the kernel called the program with.
    #[must_use]
    #[inline(always)]
    pub const unsafe fn new(skb: *mut __sk_buff) -> Self {
        Self { skb }
    }

    /// The kernel's context, for helpers.
    #[must_use]
    #[inline(always)]
    pub const fn skb(&self) -> *mut __sk_buff {
        self.skb
    }

    #[inline(always)]
    fn word(&self, index: usize) -> u32 {
        // SAFETY: the context is valid for the whole run, and the callers' indexes are below five.
        unsafe { (*self.skb).cb[index] }
    }

    /// Version of the interface: [`abi::VERSION`], or the function is not what the datapath takes it for.
    #[must_use]
    #[inline(always)]
    pub fn version(&self) -> u32 {
        self.word(0) >> 24
    }

    /// Why it is asked.
    #[must_use]
    #[inline(always)]
    pub fn hook(&self) -> Hook {
        match self.word(0) >> 16 & 0xff {
            abi::HOOK_FLOW => Hook::Flow,
            _ => Hook::Packet,
        }
    }

    /// Which way the packet goes.
    #[must_use]
    #[inline(always)]
    pub fn direction(&self) -> Direction {
        match self.word(0) >> 8 & 0xff {
            abi::EGRESS => Direction::Egress,
            abi::INGRESS => Direction::Ingress,
            _ => Direction::Local,
        }
    }

    /// How many functions of the hook were asked before it.
    #[must_use]
    #[inline(always)]
    pub fn position(&self) -> u32 {
        self.word(0) & 0xff
    }

    /// Number of the domain on this host.
    #[must_use]
    #[inline(always)]
    pub fn domain(&self) -> u32 {
        self.word(1)
    }

    /// Number of the endpoint on this host that sends (egress, local) or receives (ingress).
    #[must_use]
    #[inline(always)]
    pub fn endpoint(&self) -> u32 {
        self.word(2)
    }

    /// Hash of the flow.
    #[must_use]
    #[inline(always)]
    pub fn flow_hash(&self) -> u32 {
        self.word(3)
    }

    /// Where the workload's Ethernet frame starts in the packet.
    #[must_use]
    #[inline(always)]
    pub fn frame(&self) -> u32 {
        self.word(4)
    }

    /// Bytes of the workload's frame; a super-packet is one.
    #[must_use]
    #[inline(always)]
    pub fn len(&self) -> u32 {
        // SAFETY: the context is valid for the whole run.
        unsafe { (*self.skb).len }.wrapping_sub(self.frame())
    }

    /// Whether there is nothing in it.
    #[must_use]
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `N` bytes from `offset` of the workload's frame; nothing if it is shorter.
    #[must_use]
    #[inline(always)]
    pub fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        let from = self.frame().wrapping_add(offset);
        // SAFETY: the buffer has `N` bytes; the helper checks the offset itself.
        match unsafe { bpf_skb_load_bytes(self.skb.cast(), from, bytes.as_mut_ptr().cast(), N as u32) } {
            0 => Some(bytes),
            _ => None,
        }
    }
}
