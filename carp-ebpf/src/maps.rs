//! The maps, and the lookups in them. The `unsafe` that is not about packets is here.
#![expect(unsafe_code, reason = "map values are memory that user space may write at any time")]

use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use carp_common::admission::Auth;
use carp_common::auth::Scratch;
use carp_common::id::{IfIndex, Vhid};
use carp_common::map::{
    Captured, Counter, Counts, Host, HostKey, MAX_HOSTS, MAX_VIPS, RING_BYTES, SAMPLE_EVERY, Sample, Sampled,
    Vip, VipKey, Window,
};
use carp_common::time::Instant;
use carp_common::wire::{Heard, Refusal};
use core::mem::MaybeUninit;
use zerocopy::FromBytes;

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
#[btf_map]
static AUTH: Array<Auth, HOST_ENTRIES> = Array::new();
#[btf_map]
static REFUSED: RingBuf<(), { RING_BYTES as usize }> = RingBuf::new();
/// When samples were taken, by slot.
#[btf_map]
static SAMPLED: Array<Sampled, HOST_ENTRIES> = Array::new();
#[btf_map]
static DESK: PerCpuArray<[u64; size_of::<Desk>().div_ceil(8)], 1> = PerCpuArray::new();

/// Where an advert is worked on: the stack is too small. Each CPU has its own. (For the kernel it is
/// so many words: the type information of Rust's enums is not for it.)
#[repr(C)]
pub struct Desk {
    pub heard: Slot<Heard>,
    pub scratch: Scratch,
}

/// Room for a value that is written before it is read.
#[repr(C)]
pub struct Slot<T>(MaybeUninit<T>);

/// Proof that a slot has been written.
pub struct Written(());

impl<T: Copy> Slot<T> {
    #[inline(always)]
    pub fn set(&mut self, value: T) -> Written {
        self.0.write(value);
        Written(())
    }

    #[inline(always)]
    pub fn get(&self, _: Written) -> &T {
        // SAFETY: there is one slot, and it has been written.
        unsafe { self.0.assume_init_ref() }
    }
}

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

/// Whether this slot's window is open; a slot that cannot be never is.
///
/// The words are read one after the other, so a window may be seen half old and half new. The
/// daemon's side sees to it that both halves together are never open when neither window is
/// (`Datapath::set_window`).
#[inline(always)]
pub fn serves(slot: u32, now: Instant) -> bool {
    let Some(window) = WINDOWS.get_ptr(slot) else { return false };
    // SAFETY: array entries are never freed while the program runs, and are aligned to 8; a
    // volatile read of a word is one load.
    let window = unsafe {
        Window {
            serve_from: (&raw const (*window).serve_from).read_volatile(),
            serve_until: (&raw const (*window).serve_until).read_volatile(),
            dead: (&raw const (*window).dead).read_volatile(),
            armed_until: (&raw const (*window).armed_until).read_volatile(),
        }
    };
    window.is_leased(now) || (window.is_armed(now) && window.is_open(heard(slot), now))
}

/// When the master of this slot was heard last.
#[inline(always)]
fn heard(slot: u32) -> Instant {
    // SAFETY: as above.
    HEARD.get_ptr(slot).map_or(Instant::ZERO, |at| Instant::from_nanos(unsafe { at.read_volatile() }))
}

/// A master of this slot was heard.
#[inline(always)]
pub fn set_heard(slot: u32, at: Instant) {
    if let Some(heard) = HEARD.get_ptr_mut(slot) {
        // SAFETY: as above; only this program writes it, a word at a time.
        unsafe { heard.write_volatile(at.nanos()) };
    }
}

/// What adverts for this slot are judged by, if anything, and where to do it.
#[inline(always)]
pub fn auth(slot: u32) -> Option<(&'static Auth, &'static mut Desk)> {
    let (auth, desk) = (AUTH.get_ptr(slot)?, DESK.get_ptr_mut(0)?.cast::<Desk>());
    // SAFETY: entries of arrays are never freed while the program runs. The daemon may write the first
    // at this moment: then this one advert may be refused. The second is this CPU's own, this program
    // never preempts itself, it is large enough and aligned to 8, and whatever is in it is a `Desk`.
    let (auth, desk) = unsafe { (&*auth, &mut *desk) };
    if auth.is_known() { Some((auth, desk)) } else { None }
}

/// Whether a refused advert of this slot is to be shown to the daemon now, and that it is.
#[inline(always)]
pub fn is_sample_due(slot: u32, refusal: Refusal, at: Instant) -> bool {
    let Some(last) = SAMPLED.get_ptr_mut(slot) else { return false };
    // SAFETY: as above; of two CPUs that come at the same time both may take a sample.
    let Some(last) = (unsafe { (*last).get_mut(refusal.index()) }) else { return false };
    if *last != 0 && at.since(Instant::from_nanos(*last)) < SAMPLE_EVERY {
        return false;
    }
    *last = at.nanos();
    true
}

/// Puts an advert into the ring buffer, written in place by `fill`, which gets a zeroed record.
/// `None` when the ring is full.
#[inline(always)]
pub fn capture(fill: impl FnOnce(&mut Captured)) -> Option<()> {
    put(&ADVERTS, fill)
}

/// As [`capture`], a refused one.
#[inline(always)]
pub fn sample(fill: impl FnOnce(&mut Sample)) -> Option<()> {
    put(&REFUSED, fill)
}

#[inline(always)]
fn put<T: FromBytes + 'static>(
    ring: &RingBuf<(), { RING_BYTES as usize }>,
    fill: impl FnOnce(&mut T),
) -> Option<()> {
    let mut record = ring.reserve_untyped::<T>(0)?;
    // SAFETY: all zeros is a value of what derives `FromBytes`, and the memory is the record's until
    // it is submitted.
    unsafe {
        record.as_mut_ptr().write_bytes(0, 1);
        fill(record.assume_init_mut());
    }
    record.submit(0);
    Some(())
}

/// Adds one to this CPU's counter of a virtual host.
#[inline(always)]
pub fn count(slot: u32, counter: Counter) {
    let Some(counts) = COUNTERS.get_ptr_mut(slot) else { return };
    // What is compared with the bound has to be what the place is made of, or the verifier sees none.
    let index = core::hint::black_box(counter.index());
    // SAFETY: this CPU's own entry; each counter is one program's, and none preempts itself.
    if let Some(count) = unsafe { (*counts).get_mut(index) } {
        *count += 1;
    }
}
