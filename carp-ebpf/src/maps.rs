//! The kernel's maps, and the lookups in them. The `unsafe` that is not about packets is here.
#![expect(unsafe_code, reason = "map values are memory that user space may write at any time")]

use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::btf_map;
use carp_common::id::{IfIndex, Vhid};
use carp_common::map::{
    Captured, Counter, Counts, Host, HostKey, MAX_HOSTS, MAX_VIPS, RING_BYTES, Vip, VipKey, Window,
};
use carp_common::time::Instant;
use carp_ebpf::world::Maps;

const HOST_ENTRIES: usize = MAX_HOSTS as usize;
const VIP_ENTRIES: usize = MAX_VIPS as usize;

#[btf_map]
static HOSTS: HashMap<HostKey, Host, HOST_ENTRIES> = HashMap::new();
#[btf_map]
static VIPS: HashMap<VipKey, Vip, VIP_ENTRIES> = HashMap::new();
#[btf_map]
static WINDOWS: Array<Window, HOST_ENTRIES> = Array::new();
#[btf_map]
static HEARD: Array<u64, HOST_ENTRIES> = Array::new();
#[btf_map]
static ADVERTS: RingBuf<(), { RING_BYTES as usize }> = RingBuf::new();
#[btf_map]
static COUNTERS: PerCpuArray<Counts, HOST_ENTRIES> = PerCpuArray::new();

#[used]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The maps below, pinned by the daemon.
pub struct Pinned;

impl Maps for Pinned {
    #[inline(always)]
    fn now(&self) -> Instant {
        // SAFETY: takes nothing and touches nothing.
        Instant::from_nanos(unsafe { bpf_ktime_get_ns() })
    }

    #[inline(always)]
    fn host(&self, link: IfIndex, vhid: Vhid) -> Option<Host> {
        // SAFETY: copied at once. An entry that is removed at this moment may be read as the one that
        // takes its place: one frame, while the configuration changes.
        unsafe { HOSTS.get(HostKey::new(link, vhid)) }.copied()
    }

    #[inline(always)]
    fn vip(&self, key: &VipKey) -> Option<Vip> {
        // SAFETY: as above.
        unsafe { VIPS.get(key) }.copied().filter(|vip| vip.vhid != 0)
    }

    /// The words are read one after the other, so a window may be seen half old and half new. The
    /// daemon's side sees to it that both halves together are never open when neither window is
    /// (`Datapath::set_window`).
    #[inline(always)]
    fn window(&self, slot: u32) -> Option<Window> {
        let window = WINDOWS.get_ptr(slot)?;
        // SAFETY: array entries are never freed while the program runs, and are aligned to 8; a
        // volatile read of a word is one load.
        Some(unsafe {
            Window {
                serve_from: (&raw const (*window).serve_from).read_volatile(),
                serve_until: (&raw const (*window).serve_until).read_volatile(),
                dead: (&raw const (*window).dead).read_volatile(),
                armed_until: (&raw const (*window).armed_until).read_volatile(),
                ..Window::CLOSED
            }
        })
    }

    #[inline(always)]
    fn heard(&self, slot: u32) -> Instant {
        // SAFETY: as above.
        HEARD.get_ptr(slot).map_or(Instant::ZERO, |at| Instant::from_nanos(unsafe { at.read_volatile() }))
    }

    #[inline(always)]
    fn capture(&self, fill: impl FnOnce(&mut Captured)) -> Option<()> {
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

    /// To this CPU's.
    #[inline(always)]
    fn count(&self, slot: u32, counter: Counter) {
        let Some(counts) = COUNTERS.get_ptr_mut(slot) else { return };
        // SAFETY: this CPU's own entry; each counter is one program's, and none preempts itself.
        if let Some(count) = unsafe { (*counts).get_mut(counter as usize) } {
            *count += 1;
        }
    }
}
