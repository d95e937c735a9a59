//! The frame: bounds-checked loads and stores. All packet `unsafe` is here.
#![expect(unsafe_code, reason = "packet memory is reached through the context's raw addresses")]

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_skb_pull_data, bpf_xdp_adjust_tail};
use aya_ebpf::programs::{TcContext, XdpContext};
use carp_common::id::IfIndex;
use carp_common::time::Instant;
use zerocopy::{FromBytes, Immutable, IntoBytes, Unaligned};

/// A frame on its way in, from its Ethernet header on.
pub struct Packet {
    context: *mut xdp_md,
}

impl Packet {
    /// The frame that the kernel calls us for.
    #[inline(always)]
    pub fn new(context: &XdpContext) -> Self {
        Self { context: context.ctx }
    }

    /// Link that it came in by.
    #[inline(always)]
    pub fn link(&self) -> IfIndex {
        // SAFETY: the kernel hands out a valid context, and `Packet` lives no longer than the call.
        IfIndex(unsafe { (*self.context).ingress_ifindex })
    }

    /// Bytes in the frame; one buffer holds all of it, as this program takes no fragments.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.end() - self.start()
    }

    /// What lies at this offset; `None` when the frame ends before it.
    #[inline(always)]
    pub fn load<T: FromBytes + Immutable + Unaligned>(&self, at: usize) -> Option<&T> {
        let start = self.start() + at;
        if start + size_of::<T>() > self.end() {
            return None;
        }
        // SAFETY: inside the frame by the test above; `T` takes any bytes at any alignment. The
        // reference ends before the frame is written or resized, as both take `&mut self`.
        Some(unsafe { &*(start as *const T) })
    }

    /// Writes at this offset; `None`, and nothing written, when the frame ends before it.
    #[inline(always)]
    pub fn store<T: IntoBytes + Immutable + Unaligned>(&mut self, at: usize, value: T) -> Option<()> {
        let start = self.start() + at;
        if start + size_of::<T>() > self.end() {
            return None;
        }
        // SAFETY: inside the frame by the test above; `T` has no alignment, and nobody else holds
        // a reference into the frame.
        unsafe { (start as *mut T).write(value) };
        Some(())
    }

    /// Makes the frame `len` bytes long; `None` when the driver has no room for that.
    #[inline(always)]
    pub fn resize(&mut self, len: usize) -> Option<()> {
        let delta = i32::try_from(len).ok()? - i32::try_from(self.len()).ok()?;
        if delta == 0 {
            return Some(());
        }
        // SAFETY: the context is the kernel's own; addresses are read anew after the call.
        let refused = unsafe { bpf_xdp_adjust_tail(self.context, delta) };
        if refused == 0 { Some(()) } else { None }
    }

    #[inline(always)]
    fn start(&self) -> usize {
        // SAFETY: as in `link`.
        unsafe { (*self.context).data as usize }
    }

    #[inline(always)]
    fn end(&self) -> usize {
        // SAFETY: as in `link`.
        unsafe { (*self.context).data_end as usize }
    }
}

/// A frame on its way out, from its Ethernet header on. Its first bytes lie in one piece, as many as
/// [`Outgoing::reach`] was told; the rest may be anywhere.
pub struct Outgoing {
    context: TcContext,
}

impl Outgoing {
    /// The frame that the kernel calls us for.
    #[inline(always)]
    pub fn new(context: TcContext) -> Self {
        Self { context }
    }

    /// Link that it leaves by.
    #[inline(always)]
    pub fn link(&self) -> IfIndex {
        // SAFETY: the kernel hands out a valid context, and `Outgoing` lives no longer than the call.
        IfIndex(unsafe { (*self.skb()).ifindex })
    }

    /// Whether it carries a VLAN tag beside its bytes, for the NIC to put in.
    #[inline(always)]
    pub fn is_tagged(&self) -> bool {
        // SAFETY: as in `link`.
        unsafe { (*self.skb()).vlan_present != 0 }
    }

    /// Brings the first `len` bytes into one piece, when there are as many. Nearly always they are.
    #[inline(always)]
    pub fn reach(&mut self, len: u32) {
        if self.context.data() + len as usize > self.context.data_end() && len <= self.context.len() {
            // SAFETY: the context is the kernel's own; addresses are read anew after the call. When
            // it fails, for want of memory, the loads find nothing.
            let _out_of_reach = unsafe { bpf_skb_pull_data(self.skb(), len) };
        }
    }

    /// What lies at this offset; `None` when the part in one piece ends before it.
    #[inline(always)]
    pub fn load<T: FromBytes + Immutable + Unaligned>(&self, at: usize) -> Option<&T> {
        let start = self.context.data() + at;
        if start + size_of::<T>() > self.context.data_end() {
            return None;
        }
        // SAFETY: as in `Packet::load`; all that moves the frame takes `&mut self`.
        Some(unsafe { &*(start as *const T) })
    }

    /// A copy of what lies at this offset, wherever in memory; `None` when the frame ends before it.
    #[inline(always)]
    pub fn copy<T: FromBytes + Immutable + Unaligned>(&self, at: usize) -> Option<T> {
        // The kernel fills it whole or says that it did not; `T` takes any bytes.
        self.context.load(at).ok()
    }

    /// Writes at this offset; `None`, and nothing written, when the frame ends before it or there is
    /// no memory for a copy of a frame that others hold too. By way of the kernel, not directly: a
    /// program that writes directly pays for such a copy with every frame.
    #[inline(always)]
    pub fn store<T: IntoBytes + Immutable + Unaligned>(&mut self, at: usize, value: T) -> Option<()> {
        self.context.store(at, &value, 0).ok()
    }

    #[inline(always)]
    fn skb(&self) -> *mut __sk_buff {
        self.context.skb.skb
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`, the daemon's clock too.
#[inline(always)]
pub fn now() -> Instant {
    // SAFETY: takes nothing and touches nothing.
    Instant::from_nanos(unsafe { bpf_ktime_get_ns() })
}
