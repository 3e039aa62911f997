//! The one bounds-checked way to a packet's bytes. A reference borrows the packet, and whatever may move the bytes takes
//! it mutably, so that no stale pointer can be used.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_pull_data};
use aya_ebpf::programs::TcContext;
use datapath_common::Reason;

use crate::headers::Header;

/// A packet in a program's hands.
pub struct Packet {
    skb: *mut __sk_buff,
}

impl Packet {
    /// The packet of a context.
    #[inline(always)]
    pub fn new(ctx: &TcContext) -> Self {
        Self { skb: ctx.skb.skb }
    }

    /// The same packet for a callback, while whoever has it waits.
    #[inline(always)]
    pub fn again(packet: &Self) -> Self {
        Self { skb: packet.skb }
    }

    /// The kernel's handle, for helpers.
    #[inline(always)]
    pub fn skb(&mut self) -> *mut __sk_buff {
        self.skb
    }

    #[inline(always)]
    fn context(&self) -> &__sk_buff {
        // SAFETY: the kernel's context pointer is valid for the whole run.
        unsafe { &*self.skb }
    }

    /// Length of the frame in bytes, whether linear or not.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.context().len
    }

    /// Interface of the hook.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        self.context().ifindex
    }

    /// Ethertype in network order, as the kernel sees it.
    #[inline(always)]
    pub fn protocol(&self) -> u16 {
        self.context().protocol as u16
    }

    /// `skb->mark`.
    #[inline(always)]
    pub fn mark(&self) -> u32 {
        self.context().mark
    }

    /// Sets `skb->mark`.
    #[inline(always)]
    pub fn set_mark(&mut self, mark: u32) {
        // SAFETY: as in `context`; the field is writable for classifiers.
        unsafe { (*self.skb).mark = mark };
    }

    /// Whether the packet carries a VLAN tag beside its bytes.
    #[inline(always)]
    pub fn tagged(&self) -> bool {
        self.context().vlan_present != 0
    }

    /// `PACKET_*`: for whom the kernel takes the frame to be.
    #[inline(always)]
    pub fn kind(&self) -> u32 {
        self.context().pkt_type
    }

    /// Payload of each segment of a super-packet, 0 for an ordinary packet.
    #[inline(always)]
    pub fn segment(&self) -> u32 {
        self.context().gso_size
    }

    /// Makes the first `bytes` bytes linear; truncated only if the whole packet is shorter.
    #[inline(always)]
    pub fn linear(&mut self, bytes: usize) -> Result<(), Reason> {
        let context = self.context();
        if context.data as usize + bytes <= context.data_end as usize {
            return Ok(());
        }
        if (context.len as usize) < bytes {
            return Err(Reason::Truncated);
        }
        // SAFETY: the helper checks the length itself.
        match unsafe { bpf_skb_pull_data(self.skb, bytes as u32) } {
            0 => Ok(()),
            _ => Err(Reason::Kernel),
        }
    }

    /// Cuts or extends the packet to `bytes` bytes; what is added is zero.
    #[inline(always)]
    pub fn resize(&mut self, bytes: usize) -> Result<(), Reason> {
        // SAFETY: the helper checks the length itself.
        match unsafe { bpf_skb_change_tail(self.skb, bytes as u32, 0) } {
            0 => Ok(()),
            _ => Err(Reason::Kernel),
        }
    }

    /// Copies `bytes` bytes (1 to `into`'s size, which is a power of two; else another number of them) from `offset`,
    /// linear or not.
    #[inline(always)]
    pub fn load<const N: usize>(&self, offset: u32, bytes: u32, into: &mut [u8; N]) -> Result<(), Reason> {
        const { assert!(N.is_power_of_two()) };
        // In this form the verifier sees the bounds.
        let bytes = (bytes.wrapping_sub(1) & (N as u32 - 1)) + 1;
        // SAFETY: the buffer holds `bytes` bytes; the helper checks the offset itself.
        match unsafe { bpf_skb_load_bytes(self.skb.cast(), offset, into.as_mut_ptr().cast(), bytes) } {
            0 => Ok(()),
            _ => Err(Reason::Truncated),
        }
    }

    /// The header at `offset`, which [`Self::linear`] made linear.
    #[inline(always)]
    pub fn at<H: Header>(&self, offset: usize) -> Result<&H, Reason> {
        let start = self.context().data as usize + offset;
        if start + size_of::<H>() > self.context().data_end as usize {
            return Err(Reason::Truncated);
        }
        // SAFETY: in bounds, as compared above, and any bytes are a valid `Header`; the verifier proves the bounds.
        Ok(unsafe { &*(start as *const H) })
    }

    /// As [`Self::at`], to write.
    #[inline(always)]
    pub fn at_mut<H: Header>(&mut self, offset: usize) -> Result<&mut H, Reason> {
        let start = self.context().data as usize + offset;
        if start + size_of::<H>() > self.context().data_end as usize {
            return Err(Reason::Truncated);
        }
        // SAFETY: as in `at`; the mutable borrow is the only reference.
        Ok(unsafe { &mut *(start as *mut H) })
    }
}
