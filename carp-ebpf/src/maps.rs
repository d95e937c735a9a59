//! The maps, and the lookups in them. The `unsafe` that is not about packets is here.
#![expect(unsafe_code, reason = "map values are memory that user space may write at any time")]

use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use carp_common::id::{IfIndex, Vhid};
use carp_common::map::{
    Captured, Counter, Host, HostKey, MAX_HOSTS, MAX_VIPS, RING_BYTES, Vip, VipKey, Window,
};

const HOST_ENTRIES: usize = MAX_HOSTS as usize;
const VIP_ENTRIES: usize = MAX_VIPS as usize;
const COUNTER_ENTRIES: usize = Counter::COUNT as usize;

#[btf_map]
static HOSTS: HashMap<HostKey, Host, HOST_ENTRIES> = HashMap::new();
#[btf_map]
static VIPS: HashMap<VipKey, Vip, VIP_ENTRIES> = HashMap::new();
#[btf_map]
static WINDOWS: Array<Window, HOST_ENTRIES> = Array::new();
#[btf_map]
static ADVERTS: RingBuf<(), { RING_BYTES as usize }> = RingBuf::new();
#[btf_map]
static COUNTERS: PerCpuArray<u64, COUNTER_ENTRIES> = PerCpuArray::new();

#[used]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The virtual host with this vhid on this link.
#[inline(always)]
pub fn host(link: IfIndex, vhid: Vhid) -> Option<Host> {
    // SAFETY: copied at once. An entry that is removed at this moment may be read as the one that
    // takes its place: one frame, while the configuration changes.
    unsafe { HOSTS.get(HostKey::new(link, vhid)) }.copied()
}

/// The VIP with this address on this link; a zero entry is none.
#[inline(always)]
pub fn vip(key: &VipKey) -> Option<Vip> {
    // SAFETY: as above.
    unsafe { VIPS.get(key) }.copied().filter(|vip| vip.vhid != 0)
}

/// The window in this slot.
///
/// The two words are read one after the other, so a window may be seen half old and half new. The
/// daemon's side sees to it that both halves together are never open when neither window is
/// (`Datapath::set_window`).
#[inline(always)]
pub fn window(slot: u32) -> Option<Window> {
    let window = WINDOWS.get_ptr(slot)?;
    // SAFETY: array entries are never freed while the program runs, and are aligned to 8; a
    // volatile read of a word is one load.
    unsafe {
        Some(Window {
            serve_from: (&raw const (*window).serve_from).read_volatile(),
            serve_until: (&raw const (*window).serve_until).read_volatile(),
        })
    }
}

/// Puts an advert into the ring buffer, written in place by `fill`, which gets a zeroed record.
/// `None` when the ring is full.
#[inline(always)]
pub fn capture(fill: impl FnOnce(&mut Captured)) -> Option<()> {
    let mut record = ADVERTS.reserve_untyped::<Captured>(0)?;
    // SAFETY: all zeros is a value of `Captured` (it derives `FromBytes`), and the memory is the
    // record's until it is submitted.
    unsafe {
        record.as_mut_ptr().write_bytes(0, 1);
        fill(record.assume_init_mut());
    }
    record.submit(0);
    Some(())
}

/// Adds one to this CPU's counter.
#[inline(always)]
pub fn increment(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: this CPU's own entry; each counter is one program's, and none preempts itself.
        unsafe { *value += 1 };
    }
}
