//! The maps of probes, and the daemon's pulse.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use carp_common::auth::ProbeKey;
use carp_common::map::{GroupProbes, MAX_GROUPS, MAX_MEMBERS, MAX_PATHS, ProbeKeys, Probed};
use carp_common::time::{Instant, Span};
use carp_common::wire::probe::Probe;
use carp_ebpf::world::Probes;

use super::{AUTH, HOST_ENTRIES, Pinned};

/// `BPF_F_MMAPABLE`.
const MAPPED: usize = 1 << 10;

/// User space writes it as memory, without a call for each moment.
#[btf_map]
static PULSE: Array<u64, 1, MAPPED> = Array::new();
#[btf_map]
static PROBE_KEYS: Array<ProbeKeys, HOST_ENTRIES> = Array::new();
#[btf_map]
static GROUP_PROBES: Array<GroupProbes, { MAX_GROUPS as usize }> = Array::new();
/// User space reads it so.
#[btf_map]
static PROBED: Array<Probed, { MAX_PATHS as usize }, MAPPED> = Array::new();

impl Probes for Pinned {
    #[inline(always)]
    fn patience(&self, slot: u32) -> Span {
        // SAFETY: as in `judge`.
        AUTH.get_ptr(slot).map_or(Span::ZERO, |auth| unsafe { (*auth).patience() })
    }

    #[inline(always)]
    fn probe_key(&self, slot: u32, number: u32) -> Option<ProbeKey> {
        PROBE_KEYS.get(slot)?.get(number)
    }

    #[inline(always)]
    fn group_key(&self, group: u32, number: u32) -> Option<ProbeKey> {
        GROUP_PROBES.get(group.checked_sub(1)?)?.keys.get(number)
    }

    #[inline(always)]
    fn member(&self, group: u32, index: u32) -> Option<u32> {
        let group = GROUP_PROBES.get(group.checked_sub(1)?)?;
        if group.keys.count == 0 {
            return None;
        }
        // The verifier wants to know that it is one of them.
        group.members.get((index % MAX_MEMBERS) as usize).copied()
    }

    #[inline(always)]
    fn epoch(&self, slot: u32) -> u32 {
        PROBE_KEYS.get(slot).map_or(0, |keys| keys.epoch)
    }

    /// The moment of sending is written last: the prober reads it first and last.
    #[inline(always)]
    fn answered(&self, answer: &Probe, until: Instant) -> bool {
        let Some(path) = PROBED.get_ptr_mut(u32::from(answer.path.get())) else { return false };
        let sent_at = answer.sent_at.get();
        // SAFETY: as above; words, each read and written whole.
        unsafe {
            let known = Probed {
                session: (&raw const (*path).session).read_volatile(),
                sent_at: (&raw const (*path).sent_at).read_volatile(),
                ..Probed::default()
            };
            if !known.is_news(answer.session(), Instant::from_nanos(sent_at)) {
                return false;
            }
            (&raw mut (*path).until).write_volatile(until.nanos());
            (&raw mut (*path).epoch).write_volatile(u64::from(answer.epoch.get()));
            (&raw mut (*path).sent_at).write_volatile(sent_at);
        }
        true
    }
}

/// Until when the daemon has said that it runs.
#[inline(always)]
pub(super) fn pulse() -> Instant {
    // SAFETY: as for a window's words.
    PULSE.get_ptr(0).map_or(Instant::ZERO, |until| Instant::from_nanos(unsafe { until.read_volatile() }))
}
