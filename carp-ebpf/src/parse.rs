//! The kernel's frames: bounds-checked loads and stores. All packet `unsafe` is here.
#![expect(unsafe_code, reason = "packet memory is reached through the context's raw addresses")]

use aya_ebpf::bindings::{__sk_buff, BPF_F_RECOMPUTE_CSUM, TC_ACT_SHOT, xdp_md};
use aya_ebpf::helpers::{
    bpf_redirect, bpf_skb_change_tail, bpf_skb_change_type, bpf_skb_pull_data, bpf_xdp_adjust_tail,
    bpf_xdp_get_buff_len,
};
use aya_ebpf::programs::{TcContext, XdpContext};
use carp_common::id::{IfIndex, Mac};
use carp_common::wire::{Bytes, Wire};
use carp_ebpf::world::Packet;

const ETHERNET: usize = 14;
/// "For this host", as `linux/if_packet.h` numbers it.
const PACKET_HOST: u32 = 0;

/// A frame as XDP sees it, before the kernel has made a packet of it. It lies in one buffer, or, if
/// `MORE`, begins in one and may go on in others: Linux 5.18 hands out such frames to programs that
/// say so, and has the helper that tells their length.
pub struct Buffer<const MORE: bool> {
    context: *mut xdp_md,
}

/// A frame as tc sees it.
pub struct Skb {
    context: TcContext,
}

/// What lies at a multiple of four.
#[repr(C, align(4))]
struct Word<T>(T);

/// What lies at a multiple of two.
#[repr(C, align(2))]
struct Half<T>(T);

/// What lies here, in as large pieces as the kernel's own code reads it in. The kernel puts what is behind an
/// Ethernet header at multiples of four on machines that need it (`NET_IP_ALIGN`), and headers are made for
/// that; its verifier refuses the program where that were not so.
///
/// # Safety
/// All of it lies in the frame.
#[inline(always)]
unsafe fn read<T: Wire>(start: usize) -> T {
    // SAFETY: the caller's; `T` takes any bytes.
    unsafe {
        match size_of::<T>() % 4 {
            0 => (start as *const Word<T>).read().0,
            2 => (start as *const Half<T>).read().0,
            _ => (start as *const T).read(),
        }
    }
}

/// The same in the other direction.
///
/// # Safety
/// As for [`read`].
#[inline(always)]
unsafe fn write<T: Wire>(start: usize, value: T) {
    // SAFETY: the caller's.
    unsafe {
        match size_of::<T>() % 4 {
            0 => (start as *mut Word<T>).write(Word(value)),
            2 => (start as *mut Half<T>).write(Half(value)),
            _ => (start as *mut T).write(value),
        }
    }
}

impl<const MORE: bool> Buffer<MORE> {
    /// The frame that the kernel calls us for.
    #[inline(always)]
    pub fn new(context: &XdpContext) -> Self {
        Self { context: context.ctx }
    }

    #[inline(always)]
    fn start(&self) -> usize {
        // SAFETY: the kernel hands out a valid context, and `Buffer` lives no longer than the call.
        unsafe { (*self.context).data as usize }
    }

    #[inline(always)]
    fn end(&self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.context).data_end as usize }
    }
}

impl<const MORE: bool> Bytes for Buffer<MORE> {
    #[inline(always)]
    fn load<T: Wire>(&self, at: usize) -> Option<&T> {
        let start = self.start() + at;
        if start + size_of::<T>() > self.end() {
            return None;
        }
        // SAFETY: inside the frame by the test above; `T` takes any bytes at any alignment. The
        // reference ends before the frame is written or resized, as both take `&mut self`.
        Some(unsafe { &*(start as *const T) })
    }

    /// In the first buffer.
    #[inline(always)]
    fn size(&self) -> usize {
        self.end() - self.start()
    }
}

impl<const MORE: bool> Packet for Buffer<MORE> {
    #[inline(always)]
    fn link(&self) -> IfIndex {
        // SAFETY: as in `start`.
        IfIndex(unsafe { (*self.context).ingress_ifindex })
    }

    /// A tag that the NIC has stripped is not told.
    #[inline(always)]
    fn is_tagged(&self) -> bool {
        false
    }

    #[inline(always)]
    fn wire_len(&self) -> usize {
        if !MORE {
            return self.size();
        }
        // SAFETY: the context is the kernel's own; the helper only reads it.
        let len = unsafe { bpf_xdp_get_buff_len(self.context) };
        usize::try_from(len).unwrap_or(usize::MAX)
    }

    /// A driver that receives frames in several buffers need not be able to send them so.
    #[inline(always)]
    fn can_go_back(&self) -> bool {
        self.wire_len() == self.size()
    }

    /// It is as it is.
    #[inline(always)]
    fn reach(&mut self, _len: u32) {}

    #[inline(always)]
    fn header<T: Wire>(&self, at: usize) -> Option<T> {
        let start = self.start() + at;
        if start + size_of::<T>() > self.end() {
            return None;
        }
        // SAFETY: inside the frame by the test above.
        Some(unsafe { read(start) })
    }

    #[inline(always)]
    fn copy<T: Wire>(&self, at: usize) -> Option<T> {
        self.header(at)
    }

    #[inline(always)]
    fn store<T: Wire>(&mut self, at: usize, value: T) -> Option<()> {
        let start = self.start() + at;
        if start + size_of::<T>() > self.end() {
            return None;
        }
        // SAFETY: inside the frame by the test above.
        unsafe { write(start, value) };
        Some(())
    }

    #[inline(always)]
    fn resize(&mut self, len: usize) -> Option<()> {
        if !self.can_go_back() {
            return None;
        }
        let delta = i32::try_from(len).ok()? - i32::try_from(self.size()).ok()?;
        if delta == 0 {
            return Some(());
        }
        // SAFETY: the context is the kernel's own; addresses are read anew after the call.
        let refused = unsafe { bpf_xdp_adjust_tail(self.context, delta) };
        if refused == 0 { Some(()) } else { None }
    }

    #[inline(always)]
    fn readdress(&mut self, link_mac: Mac) -> Option<()> {
        self.store(0, link_mac.0)
    }
}

impl Skb {
    /// The frame that the kernel calls us for.
    #[inline(always)]
    pub fn new(context: TcContext) -> Self {
        Self { context }
    }

    /// Has the kernel send the frame by the link that it came in by: what to return for that.
    #[inline(always)]
    pub fn sent_back(&self) -> i32 {
        // SAFETY: notes the link for the kernel and touches nothing else.
        let code = unsafe { bpf_redirect(self.link().0, 0) };
        i32::try_from(code).unwrap_or(TC_ACT_SHOT)
    }

    #[inline(always)]
    fn skb(&self) -> *mut __sk_buff {
        self.context.skb.skb
    }
}

impl Bytes for Skb {
    #[inline(always)]
    fn load<T: Wire>(&self, at: usize) -> Option<&T> {
        let start = self.context.data() + at;
        if start + size_of::<T>() > self.context.data_end() {
            return None;
        }
        // SAFETY: as for `Buffer`; all that moves the frame takes `&mut self`.
        Some(unsafe { &*(start as *const T) })
    }

    /// In one piece.
    #[inline(always)]
    fn size(&self) -> usize {
        self.context.data_end() - self.context.data()
    }
}

impl Packet for Skb {
    #[inline(always)]
    fn link(&self) -> IfIndex {
        // SAFETY: the kernel hands out a valid context, and `Skb` lives no longer than the call.
        IfIndex(unsafe { (*self.skb()).ifindex })
    }

    /// The tag is for the NIC to put in, or was stripped by it.
    #[inline(always)]
    fn is_tagged(&self) -> bool {
        // SAFETY: as in `link`.
        unsafe { (*self.skb()).vlan_present != 0 }
    }

    #[inline(always)]
    fn wire_len(&self) -> usize {
        self.context.len() as usize
    }

    /// The kernel has put together whatever it was received in.
    #[inline(always)]
    fn can_go_back(&self) -> bool {
        true
    }

    /// Nearly always they are in one piece already.
    #[inline(always)]
    fn reach(&mut self, len: u32) {
        let len = len.min(self.context.len());
        if self.context.data() + len as usize > self.context.data_end() {
            // SAFETY: the context is the kernel's own; addresses are read anew after the call. When
            // it fails, for want of memory, the loads find nothing.
            let _out_of_reach = unsafe { bpf_skb_pull_data(self.skb(), len) };
        }
    }

    #[inline(always)]
    fn header<T: Wire>(&self, at: usize) -> Option<T> {
        let start = self.context.data() + at;
        if start + size_of::<T>() > self.context.data_end() {
            return None;
        }
        // SAFETY: inside the frame by the test above.
        Some(unsafe { read(start) })
    }

    #[inline(always)]
    fn copy<T: Wire>(&self, at: usize) -> Option<T> {
        // The kernel fills it whole or says that it did not; `T` takes any bytes.
        self.context.load(at).ok()
    }

    /// Nothing is written either when there is no memory for a copy of a frame that others hold too.
    /// By way of the kernel, not directly: a program that writes directly pays for such a copy with
    /// every frame. A NIC may have summed up what is behind the Ethernet header.
    #[inline(always)]
    fn store<T: Wire>(&mut self, at: usize, value: T) -> Option<()> {
        let summed = if at < ETHERNET { 0 } else { u64::from(BPF_F_RECOMPUTE_CSUM) };
        self.context.store(at, &value, summed).ok()
    }

    #[inline(always)]
    fn resize(&mut self, len: usize) -> Option<()> {
        let len = u32::try_from(len).ok()?;
        // SAFETY: the context is the kernel's own; addresses are read anew after the call.
        let refused = unsafe { bpf_skb_change_tail(self.skb(), len, 0) };
        if refused == 0 { Some(()) } else { None }
    }

    /// The kernel has noted by now that it is somebody else's, and does not look at the MAC again. That stays:
    /// to write to a packet of TCP's means to copy its headers first, as TCP holds them too.
    #[inline(always)]
    fn readdress(&mut self, _link_mac: Mac) -> Option<()> {
        // SAFETY: the context is the kernel's own; addresses are read anew after the call.
        let refused = unsafe { bpf_skb_change_type(self.skb(), PACKET_HOST) };
        if refused == 0 { Some(()) } else { None }
    }
}
