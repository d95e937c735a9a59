//! The same stages on the host, over a frame in a vector and maps in memory.

use crate::harness::{Action, Hook, ONE_BUFFER};
use carp_common::id::{IfIndex, Mac, Vhid};
use carp_common::map::{Captured, Counter, Counts, Host, HostKey, RING_BYTES, Vip, VipKey, Window};
use carp_common::time::Instant;
use carp_common::verdict::Verdict;
use carp_ebpf::world::{Maps, Packet, Wire};
use carp_ebpf::{egress, ingress};
use carp_user::io::bpf::Standing;
use std::cell::RefCell;
use std::collections::BTreeMap;
use zerocopy::FromZeros;

/// The maps in memory.
#[derive(Default)]
pub struct Twin {
    hosts: BTreeMap<(u32, u32), Host>,
    vips: BTreeMap<(u32, [u8; 16]), Vip>,
    standings: BTreeMap<u32, Standing>,
    now: Instant,
    ring: RefCell<Vec<Captured>>,
    counts: RefCell<BTreeMap<u32, Counts>>,
}

impl Twin {
    /// What the stages make of a frame that comes in, or leaves, by this link at this moment.
    pub fn act(&mut self, hook: Hook, link: IfIndex, frame: &[u8], now: Instant) -> (Action, Vec<u8>) {
        self.now = now;
        let first = if hook.is_xdp() { ONE_BUFFER } else { usize::MAX };
        let mut frame = Slice { link, bytes: frame.to_vec(), first };
        let verdict = match hook {
            Hook::Xdp | Hook::OneBuffer | Hook::Tc => ingress::decide(&mut frame, self),
            Hook::Egress => egress::decide(&mut frame, self),
        };
        (Action::of(verdict), frame.bytes)
    }

    pub fn set_host(&mut self, key: HostKey, host: Option<Host>) {
        replace(&mut self.hosts, (key.ifindex, key.vhid), host);
    }

    pub fn set_vip(&mut self, key: VipKey, vip: Option<Vip>) {
        replace(&mut self.vips, (key.ifindex, key.address), vip);
    }

    pub fn set_window(&mut self, slot: u32, standing: Standing) {
        self.standings.insert(slot, standing);
    }

    /// Of one slot.
    pub fn counts(&self, slot: u32) -> Counts {
        self.counts.borrow().get(&slot).copied().unwrap_or_default()
    }

    /// The adverts in the ring buffer.
    pub fn adverts(&mut self) -> Vec<Captured> {
        self.ring.take()
    }
}

impl Maps for Twin {
    fn now(&self) -> Instant {
        self.now
    }

    fn host(&self, link: IfIndex, vhid: Vhid) -> Option<Host> {
        let key = HostKey::new(link, vhid);
        self.hosts.get(&(key.ifindex, key.vhid)).copied()
    }

    fn vip(&self, key: &VipKey) -> Option<Vip> {
        self.vips.get(&(key.ifindex, key.address)).copied().filter(|vip| vip.vhid != 0)
    }

    fn window(&self, slot: u32) -> Option<Window> {
        Some(self.standings.get(&slot).copied().unwrap_or_default().window)
    }

    fn heard(&self, slot: u32) -> Instant {
        self.standings.get(&slot).copied().unwrap_or_default().heard
    }

    fn capture(&self, fill: impl FnOnce(&mut Captured)) -> Option<()> {
        /// The kernel puts eight bytes before each, and never fills the last one.
        const MOST: usize = (RING_BYTES as usize - 1) / (size_of::<Captured>() + 8);
        let mut ring = self.ring.borrow_mut();
        if ring.len() == MOST {
            return None;
        }
        let mut record = Captured::new_zeroed();
        fill(&mut record);
        ring.push(record);
        Some(())
    }

    fn count(&self, slot: u32, counter: Counter) {
        self.counts.borrow_mut().entry(slot).or_default()[counter as usize] += 1;
    }
}

/// A frame of which the first buffer can be seen.
struct Slice {
    link: IfIndex,
    bytes: Vec<u8>,
    /// Most bytes in it.
    first: usize,
}

impl Packet for Slice {
    fn link(&self) -> IfIndex {
        self.link
    }

    fn is_tagged(&self) -> bool {
        false
    }

    fn wire_len(&self) -> usize {
        self.bytes.len()
    }

    fn can_go_back(&self) -> bool {
        self.bytes.len() <= self.first
    }

    fn reach(&mut self, _len: u32) {}

    fn load<T: Wire>(&self, at: usize) -> Option<&T> {
        let first = self.bytes.len().min(self.first);
        T::ref_from_prefix(self.bytes.get(at..first)?).ok().map(|(value, _)| value)
    }

    fn copy<T: Wire>(&self, at: usize) -> Option<T> {
        self.load(at).copied()
    }

    fn store<T: Wire>(&mut self, at: usize, value: T) -> Option<()> {
        value.write_to_prefix(self.bytes.get_mut(at..)?).ok()
    }

    fn resize(&mut self, len: usize) -> Option<()> {
        self.can_go_back().then(|| self.bytes.resize(len, 0))
    }

    fn readdress(&mut self, link_mac: Mac) -> Option<()> {
        self.store(0, link_mac.0)
    }
}

impl Action {
    fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass | Verdict::Serve(_) | Verdict::Rewrite(_) => Self::Pass,
            Verdict::Answer(_) => Self::Back,
            Verdict::Drop(_) => Self::Drop,
        }
    }
}

fn replace<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}
