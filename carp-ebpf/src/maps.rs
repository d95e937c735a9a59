//! The kernel's maps, and the lookups in them. The `unsafe` that is not about packets is here.
#![expect(unsafe_code, reason = "map values are memory that user space may write at any time")]

mod probes;

use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_ns};
use aya_ebpf::macros::btf_map;
use carp_common::admission::{Auth, Scheme};
use carp_common::id::{IfIndex, Vhid};
use carp_common::map::{
    Captured, Counts, DECISIONS_BYTES, Decision, Host, LINK_PLACES, Link, MAX_HOSTS, MAX_SENDERS, MAX_VIPS,
    NO_VIP, RING_BYTES, SAMPLE_EVERY, Sample, Sampled, SenderKey, TRACE_LOST, TRACE_UNTIL, VIP_BLOCKS, Vip,
    VipBlock, VipEntry, VipKey, VipPlace, Window,
};
use carp_common::sender::{Challenge, Sender};
use carp_common::time::Instant;
use carp_common::wire::{Refusal, Sighting};
use carp_ebpf::world::{Desk, Maps};
use core::cell::UnsafeCell;
use probes::pulse;
use zerocopy::FromBytes;

const HOST_ENTRIES: usize = MAX_HOSTS as usize;
const VIP_ENTRIES: usize = MAX_VIPS as usize + 1;
const SENDER_ENTRIES: usize = MAX_SENDERS as usize;

#[btf_map]
static LINKS: Array<Link, { LINK_PLACES as usize }> = Array::new();
#[btf_map]
static HOSTS: Array<Host, HOST_ENTRIES> = Array::new();
#[btf_map]
static VIP_INDEX: Array<VipBlock, { VIP_BLOCKS as usize }> = Array::new();
#[btf_map]
static VIPS: Array<VipEntry, VIP_ENTRIES> = Array::new();
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
/// Each CPU's own.
#[btf_map]
static DESK: PerCpuArray<Desk, 1> = PerCpuArray::new();
#[btf_map]
static SENDERS: HashMap<SenderKey, Sender, SENDER_ENTRIES> = HashMap::new();
#[btf_map]
static CHALLENGES: Array<u64, HOST_ENTRIES> = Array::new();
#[btf_map]
static TRACE: Array<u64, 2> = Array::new();
#[btf_map]
static DECISIONS: RingBuf<(), { DECISIONS_BYTES as usize }> = RingBuf::new();

/// When the exact time was last asked for, in units of about a millisecond, rounded down, and in the
/// low bits the number of the tick that this was in.
static ASKED: Word = Word(UnsafeCell::new(0));
/// Enough that no tick of an old answer is taken for this one: hours.
const TICK_BITS: u32 = 24;
const TICKS: u64 = (1 << TICK_BITS) - 1;
/// 2^20 nanoseconds.
const UNIT: u32 = 20;

struct Word(UnsafeCell<u64>);

// SAFETY: used as one word by volatile reads and writes alone.
unsafe impl Sync for Word {}

#[used]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The maps below, pinned by the daemon.
pub struct Pinned;

/// [`Auth::is_signed`] for the advert on the desk: strictly or as CARP does it, 1 or 0. A global function, as
/// BPF has it: the verifier goes through it once, whatever leads here with whichever key, which takes it
/// a fraction of the time. Before Linux 5.12 such functions take nothing but numbers.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn carp_is_signed(slot: u32, strictly: u32, key: u32) -> u32 {
    let scheme = if strictly == 0 { Scheme::Carp } else { Scheme::Strict };
    let (Some(auth), Some(desk)) = (AUTH.get_ptr(slot), DESK.get_ptr_mut(0)) else { return 0 };
    // SAFETY: as in `judge`. Whoever calls this looks at no scratch.
    let (auth, seen, scratch) = unsafe { (&*auth, &(*desk).seen, &mut (*desk).scratch) };
    // As in `count`, for the verifier.
    let key = core::hint::black_box(key);
    u32::from(auth.is_signed(scheme, key, seen, scratch))
}

#[inline(always)]
fn number_at(VipPlace { block, at }: VipPlace) -> Option<u16> {
    VIP_INDEX.get(block)?.get(at).copied()
}

/// A VIP at the places after its first one; zero is none. A function of its own, as there are many ways to it. What it
/// takes and hands back fits registers: a key that lies in memory half the frames would have to wait for.
#[inline(never)]
fn find_farther(link: u64, high: u64, low: u64) -> u64 {
    let key = VipKey::from_words([link, high, low]);
    let vip = key.find(1, number_at, |number| VIPS.get(u32::from(number)));
    vip.map_or(0, |vip| zerocopy::transmute!(vip))
}

/// The slot of a virtual host whose link is not at its first place; one that cannot be is none. A function of its own for
/// the same reason.
#[inline(never)]
fn find_host_farther(link: u32, vhid: u8) -> u32 {
    let slot = Vhid::new(vhid).and_then(|vhid| Link::find(IfIndex(link), vhid, 1, |place| LINKS.get(place)));
    slot.unwrap_or(MAX_HOSTS)
}

/// What is in [`ASKED`].
#[inline(always)]
fn asked() -> u64 {
    // SAFETY: one aligned word, read and written in one piece by all CPUs; whichever wins is right.
    unsafe { ASKED.0.get().read_volatile() }
}

/// The moment in it.
#[inline(always)]
const fn asked_at(asked: u64) -> Instant {
    Instant::from_nanos(asked >> TICK_BITS << UNIT)
}

#[inline(always)]
fn tick() -> u64 {
    // SAFETY: takes nothing and touches nothing.
    (unsafe { bpf_jiffies64() }) & TICKS
}

/// Asks for the exact time, in nanoseconds, and keeps it. A function of its own: there are many ways to it.
#[inline(never)]
fn ask() -> u64 {
    let tick = tick();
    let now = Pinned.now().nanos();
    // SAFETY: as in `asked`.
    unsafe { ASKED.0.get().write_volatile(now >> UNIT << TICK_BITS | tick) };
    now
}

impl Maps for Pinned {
    #[inline(always)]
    fn now(&self) -> Instant {
        // SAFETY: takes nothing and touches nothing.
        Instant::from_nanos(unsafe { bpf_ktime_get_ns() })
    }

    /// The exact time, asked for once a tick. The kernel puts in the tick's number, not a call.
    #[inline(always)]
    fn lately(&self) -> Instant {
        let asked = asked();
        if asked & TICKS == tick() && asked != 0 { asked_at(asked) } else { Instant::from_nanos(ask()) }
    }

    /// As a rule its link is at the first place, or none is. An entry that changes at this moment may be read as the one
    /// before it: one frame, while the configuration changes.
    #[inline(always)]
    fn host(&self, link: IfIndex, vhid: Vhid) -> Option<Host> {
        let first = LINKS.get(Link::place(link, 0))?;
        let slot = if first.is(link) {
            first.number(vhid)?
        } else if first.is_free() {
            return None;
        } else {
            find_host_farther(link.0, vhid.get())
        };
        HOSTS.get(slot).copied().filter(Host::exists)
    }

    /// As a rule it is at its first place, or nothing is.
    #[inline(always)]
    fn vip(&self, key: &VipKey) -> Option<Vip> {
        let number = number_at(key.place(0))?;
        if number == NO_VIP {
            return None;
        }
        let first = VIPS.get(u32::from(number)).and_then(|entry| entry.of(key));
        let [link, high, low] = key.words();
        first.or_else(|| Some(zerocopy::transmute!(find_farther(link, high, low))).filter(Vip::exists))
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
                group: (&raw const (*window).group).read_volatile(),
                pulsed: (&raw const (*window).pulsed).read_volatile(),
                ..Window::CLOSED
            }
            .under(pulse())
        })
    }

    #[inline(always)]
    fn is_leased(&self, slot: u32) -> bool {
        let Some(window) = WINDOWS.get_ptr(slot) else { return false };
        // SAFETY: as above.
        let lease = unsafe {
            Window {
                serve_from: (&raw const (*window).serve_from).read_volatile(),
                serve_until: (&raw const (*window).serve_until).read_volatile(),
                pulsed: (&raw const (*window).pulsed).read_volatile(),
                ..Window::CLOSED
            }
        };
        let lease = if lease.pulsed == 0 { lease } else { lease.under(pulse()) };
        // What was over at any earlier moment is over.
        if lease.serve_until <= asked_at(asked()).nanos() {
            return false;
        }
        let is_leased = lease.is_leased(self.now());
        if !is_leased {
            // So that the next frame need not ask.
            ask();
        }
        is_leased
    }

    #[inline(always)]
    fn arming(&self, slot: u32) -> Option<Window> {
        let window = WINDOWS.get_ptr(slot)?;
        // SAFETY: as above. Half of a new master is none: it ends what is armed.
        Some(unsafe {
            Window {
                dead: (&raw const (*window).dead).read_volatile(),
                armed_until: (&raw const (*window).armed_until).read_volatile(),
                master: [
                    (&raw const (*window).master[0]).read_volatile(),
                    (&raw const (*window).master[1]).read_volatile(),
                ],
                group: (&raw const (*window).group).read_volatile(),
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
    fn set_heard(&self, slot: u32, at: Instant) {
        if let Some(heard) = HEARD.get_ptr_mut(slot) {
            // SAFETY: as above; it is written a word at a time.
            unsafe { heard.write_volatile(at.nanos()) };
        }
    }

    #[inline(always)]
    fn judge(
        &self,
        slot: u32,
        read: impl FnOnce(&mut Sighting) -> Result<(), Refusal>,
        judge: impl FnOnce(&Auth, &Sighting) -> Result<(), Refusal>,
    ) -> Option<Result<(), Refusal>> {
        // SAFETY: entries of arrays are never freed while the program runs. The daemon may write the first
        // at this moment: then this one advert may be refused. The other is this CPU's own, and this
        // program never preempts itself.
        let (auth, seen) = unsafe { (&*AUTH.get_ptr(slot)?, &mut (*DESK.get_ptr_mut(0)?).seen) };
        if !auth.is_known() {
            return None;
        }
        let is_signed = |scheme, key| carp_is_signed(slot, u32::from(scheme == Scheme::Strict), key) != 0;
        let judged = read(seen).and_then(|()| auth.authenticate(seen, is_signed));
        Some(judged.and_then(|()| judge(auth, seen)))
    }

    #[inline(always)]
    fn sender(&self, key: &SenderKey) -> Option<Sender> {
        // SAFETY: copied at once. Of an entry that is removed at this moment one may read another's: its
        // virtual host is gone.
        unsafe { SENDERS.get(key) }.copied()
    }

    /// No lock and no atomic instruction that hands something back, which kernels before 5.12 do not
    /// have. Two CPUs may so write what each heard of one sender at the same moment, and the older one
    /// last; it looks once more before it does, so that this moment is nanoseconds. That is no hole:
    /// - Nobody but the sender can bring it about: two of its adverts, both never heard before, have to
    ///   arrive at once on two CPUs. What was heard before is refused before anything is written.
    /// - What can then be sent again is the newer of the two, once, and only until the sender's next
    ///   advert. It moves an armed window by one dead time at most.
    /// - The daemon, which has the role, does not take it: its memory is one thread's.
    #[inline(always)]
    fn remember(&self, key: &SenderKey, sender: Sender) -> Option<()> {
        match SENDERS.get_ptr_mut(key) {
            // SAFETY: as above; words, each written whole.
            Some(known) => unsafe {
                if (&raw const (*known).counter).read_volatile() <= sender.counter {
                    known.write_volatile(sender);
                }
            },
            None => SENDERS.insert(key, sender, 0).ok()?,
        }
        Some(())
    }

    #[inline(always)]
    fn challenge(&self, slot: u32) -> Challenge {
        // SAFETY: as for a window's words.
        Challenge(CHALLENGES.get_ptr(slot).map_or(0, |counter| unsafe { counter.read_volatile() }))
    }

    #[inline(always)]
    fn is_sample_due(&self, slot: u32, refusal: Refusal, at: Instant) -> bool {
        let Some(last) = SAMPLED.get_ptr_mut(slot) else { return false };
        // SAFETY: as above; of two CPUs that come at the same time both may take a sample.
        let Some(last) = (unsafe { (*last).get_mut(core::hint::black_box(refusal.index())) }) else {
            return false;
        };
        if *last != 0 && at.since(Instant::from_nanos(*last)) < SAMPLE_EVERY {
            return false;
        }
        *last = at.nanos();
        true
    }

    #[inline(always)]
    fn capture(&self, fill: impl FnOnce(&mut Captured)) -> Option<()> {
        put(&ADVERTS, WAKEUP, fill)
    }

    #[inline(always)]
    fn sample(&self, fill: impl FnOnce(&mut Sample)) -> Option<()> {
        put(&REFUSED, WAKEUP, fill)
    }

    #[inline(always)]
    fn is_logging(&self) -> bool {
        let Some(until) = TRACE.get_ptr(TRACE_UNTIL) else { return false };
        // SAFETY: as above.
        let until = unsafe { until.read_volatile() };
        until != 0 && self.now().nanos() < until
    }

    #[inline(always)]
    fn log(&self, fill: impl FnOnce(&mut Decision)) {
        if put(&DECISIONS, NO_WAKEUP, fill).is_none()
            && let Some(lost) = TRACE.get_ptr_mut(TRACE_LOST)
        {
            // SAFETY: as above. Some may be counted once for two, of CPUs that come at the same time.
            unsafe { lost.write_volatile(lost.read_volatile() + 1) }
        }
    }

    /// To this CPU's.
    #[inline(always)]
    fn count(&self, slot: u32, counter: usize) {
        let Some(counts) = COUNTERS.get_ptr_mut(slot) else { return };
        // What is compared with the bound has to be what the place is made of, or the verifier sees none.
        let index = core::hint::black_box(counter);
        // SAFETY: this CPU's own entry; each counter is one program's, and none preempts itself.
        if let Some(count) = unsafe { (*counts).get_mut(index) } {
            *count += 1;
        }
    }
}

/// Whoever waits at the ring is woken, when it is empty.
const WAKEUP: u64 = 0;
/// `BPF_RB_NO_WAKEUP`: whoever reads the log looks by itself.
const NO_WAKEUP: u64 = 1;

#[inline(always)]
fn put<T: FromBytes + 'static, const BYTES: usize>(
    ring: &RingBuf<(), BYTES>,
    wakeup: u64,
    fill: impl FnOnce(&mut T),
) -> Option<()> {
    let mut record = ring.reserve_untyped::<T>(0)?;
    // SAFETY: all zeros is a value of what derives `FromBytes`, and the memory is the record's until
    // it is submitted.
    unsafe {
        record.as_mut_ptr().write_bytes(0, 1);
        fill(record.assume_init_mut());
    }
    record.submit(wakeup);
    Some(())
}
