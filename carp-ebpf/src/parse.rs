//! The frame: bounds-checked loads and stores. All packet `unsafe` is here.
#![expect(unsafe_code, reason = "packet memory is reached through the context's raw addresses")]

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_xdp_adjust_tail};
use aya_ebpf::programs::XdpContext;
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

/// Nanoseconds of `CLOCK_MONOTONIC`, the daemon's clock too.
#[inline(always)]
pub fn now() -> Instant {
    // SAFETY: takes nothing and touches nothing.
    Instant::from_nanos(unsafe { bpf_ktime_get_ns() })
}
