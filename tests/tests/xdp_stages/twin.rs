//! The same stages on the host, over a frame in a vector and maps in memory.

use crate::harness::{Action, Hook, ONE_BUFFER};
use carp_common::admission::Auth;
use carp_common::auth::{ProbeKey, Scratch};
use carp_common::id::{IfIndex, Mac, Vhid};
use carp_common::map::{
    Captured, Counts, Decision, GroupProbes, Host, HostKey, NO_COUNTS, ProbeKeys, Probed, RING_BYTES,
    SAMPLE_EVERY, Sample, SenderKey, Vip, VipKey, Window,
};
use carp_common::sender::{Challenge, Sender};
use carp_common::time::{Instant, Span};
use carp_common::verdict::Fate;
use carp_common::wire::probe::Probe;
use carp_common::wire::{Bytes, Refusal, Sighting, Wire};
use carp_ebpf::world::{Maps, Packet, Probes};
use carp_ebpf::{egress, ingress};
use carp_user::io::bpf::Standing;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// The maps in memory.
#[derive(Default)]
pub struct Twin {
    hosts: BTreeMap<(u32, u32), Host>,
    vips: BTreeMap<(u32, IpAddr), Vip>,
    windows: BTreeMap<u32, Window>,
    heard: RefCell<BTreeMap<u32, Instant>>,
    auth: BTreeMap<u32, Auth>,
    senders: RefCell<BTreeMap<Vec<u8>, Sender>>,
    challenges: BTreeMap<u32, Challenge>,
    pub pulse: Instant,
    probe_keys: BTreeMap<u32, ProbeKeys>,
    group_probes: BTreeMap<u32, GroupProbes>,
    probed: RefCell<BTreeMap<u32, Probed>>,
    now: Instant,
    ring: RefCell<Vec<Captured>>,
    refused: RefCell<Vec<Sample>>,
    sampled: RefCell<BTreeMap<(u32, Refusal), Instant>>,
    counts: RefCell<BTreeMap<u32, Counts>>,
    /// Decisions are logged, all of them.
    pub traces: bool,
    decisions: RefCell<Vec<Decision>>,
}

impl Twin {
    /// What the stages make of a frame that comes in, or leaves, by this link at this moment.
    pub fn act(&mut self, hook: Hook, link: IfIndex, frame: &[u8], now: Instant) -> (Action, Vec<u8>) {
        self.now = now;
        let first = if hook.is_xdp() { ONE_BUFFER } else { usize::MAX };
        let keeps_mac = hook == Hook::Tc;
        let mut frame = Slice { link, bytes: frame.to_vec(), first, keeps_mac };
        let fate = match hook {
            Hook::Xdp | Hook::OneBuffer | Hook::Tc => ingress::decide(&mut frame, self),
            Hook::Egress => egress::decide(&mut frame, self),
        };
        (Action::of(fate), frame.bytes)
    }

    pub fn set_host(&mut self, key: HostKey, host: Option<Host>) {
        replace(&mut self.hosts, (key.ifindex, key.vhid), host);
    }

    pub fn set_vip(&mut self, key: VipKey, vip: Option<Vip>) {
        replace(&mut self.vips, (key.link().0, key.address()), vip);
    }

    pub fn set_window(&mut self, slot: u32, standing: Standing) {
        self.windows.insert(slot, standing.window);
        self.heard.get_mut().insert(slot, standing.heard);
    }

    pub fn set_auth(&mut self, slot: u32, auth: Auth) {
        self.auth.insert(slot, auth);
    }

    pub fn set_probe_keys(&mut self, slot: u32, keys: ProbeKeys) {
        self.probe_keys.insert(slot, keys);
    }

    pub fn set_group_probes(&mut self, number: u32, group: GroupProbes) {
        self.group_probes.insert(number, group);
    }

    pub fn set_probed(&mut self, path: u32, probed: Probed) {
        self.probed.get_mut().insert(path, probed);
    }

    /// Of one path.
    pub fn probed(&self, path: u32) -> Probed {
        self.probed.borrow().get(&path).copied().unwrap_or_default()
    }

    pub fn set_challenge(&mut self, slot: u32, challenge: Challenge) {
        self.challenges.insert(slot, challenge);
    }

    pub fn set_sender(&mut self, key: &SenderKey, sender: Sender) {
        self.senders.get_mut().insert(key.as_bytes().to_vec(), sender);
    }

    pub fn forget_senders(&mut self) {
        self.senders.get_mut().clear();
    }

    /// What is known of everybody.
    pub fn senders(&self) -> BTreeMap<Vec<u8>, Sender> {
        self.senders.borrow().clone()
    }

    /// Of one slot.
    pub fn counts(&self, slot: u32) -> Counts {
        self.counts.borrow().get(&slot).copied().unwrap_or(NO_COUNTS)
    }

    /// The log of decisions.
    pub fn decisions(&mut self) -> Vec<Decision> {
        self.decisions.take()
    }

    /// The adverts in the ring buffer.
    pub fn adverts(&mut self) -> Vec<Captured> {
        self.ring.take()
    }

    /// The samples of refused ones.
    pub fn samples(&mut self) -> Vec<Sample> {
        self.refused.take()
    }
}

impl Maps for Twin {
    fn now(&self) -> Instant {
        self.now
    }

    fn lately(&self) -> Instant {
        self.now - Span::millis(3)
    }

    fn host(&self, link: IfIndex, vhid: Vhid) -> Option<Host> {
        let key = HostKey::new(link, vhid);
        self.hosts.get(&(key.ifindex, key.vhid)).copied().filter(Host::exists)
    }

    fn vip(&self, key: &VipKey) -> Option<Vip> {
        self.vips.get(&(key.link().0, key.address())).copied().filter(Vip::exists)
    }

    fn window(&self, slot: u32) -> Option<Window> {
        Some(self.windows.get(&slot).copied().unwrap_or_default().under(self.pulse))
    }

    fn is_leased(&self, slot: u32) -> bool {
        self.window(slot).is_some_and(|window| window.is_leased(self.now))
    }

    fn arming(&self, slot: u32) -> Option<Window> {
        self.window(slot).map(Window::without_lease)
    }

    fn heard(&self, slot: u32) -> Instant {
        self.heard.borrow().get(&slot).copied().unwrap_or_default()
    }

    fn set_heard(&self, slot: u32, at: Instant) {
        self.heard.borrow_mut().insert(slot, at);
    }

    fn judge(
        &self,
        slot: u32,
        read: impl FnOnce(&mut Sighting) -> Result<(), Refusal>,
        judge: impl FnOnce(&Auth, &Sighting) -> Result<(), Refusal>,
    ) -> Option<Result<(), Refusal>> {
        let auth = self.auth.get(&slot).filter(|auth| auth.is_known())?;
        let mut seen = Sighting::BLANK;
        let read = read(&mut seen);
        let is_signed = |scheme, key| auth.is_signed(scheme, key, &seen, &mut Scratch::new());
        let judged = read.and_then(|()| auth.authenticate(&seen, is_signed));
        Some(judged.and_then(|()| judge(auth, &seen)))
    }

    fn sender(&self, key: &SenderKey) -> Option<Sender> {
        self.senders.borrow().get(key.as_bytes()).copied()
    }

    fn remember(&self, key: &SenderKey, sender: Sender) -> Option<()> {
        self.senders.borrow_mut().insert(key.as_bytes().to_vec(), sender);
        Some(())
    }

    fn challenge(&self, slot: u32) -> Challenge {
        self.challenges.get(&slot).copied().unwrap_or_default()
    }

    fn capture(&self, fill: impl FnOnce(&mut Captured)) -> Option<()> {
        put(&self.ring, fill)
    }

    fn is_sample_due(&self, slot: u32, refusal: Refusal, at: Instant) -> bool {
        let mut sampled = self.sampled.borrow_mut();
        let is_due = sampled.get(&(slot, refusal)).is_none_or(|last| SAMPLE_EVERY <= at.since(*last));
        if is_due {
            sampled.insert((slot, refusal), at);
        }
        is_due
    }

    fn sample(&self, fill: impl FnOnce(&mut Sample)) -> Option<()> {
        put(&self.refused, fill)
    }

    fn is_logging(&self) -> bool {
        self.traces
    }

    fn log(&self, fill: impl FnOnce(&mut Decision)) {
        let mut decision = Decision::new_zeroed();
        fill(&mut decision);
        self.decisions.borrow_mut().push(Decision { at: 0, ..decision });
    }

    fn count(&self, slot: u32, counter: usize) {
        self.counts.borrow_mut().entry(slot).or_insert(NO_COUNTS)[counter] += 1;
    }
}

impl Probes for Twin {
    fn patience(&self, slot: u32) -> Span {
        self.auth.get(&slot).map_or(Span::ZERO, Auth::patience)
    }

    fn probe_key(&self, slot: u32, number: u32) -> Option<ProbeKey> {
        self.probe_keys.get(&slot)?.get(number)
    }

    fn group_key(&self, group: u32, number: u32) -> Option<ProbeKey> {
        self.group_probes.get(&group)?.keys.get(number)
    }

    fn member(&self, group: u32, index: u32) -> Option<u32> {
        let group = self.group_probes.get(&group).filter(|group| group.keys.count > 0)?;
        group.members.get(index as usize).copied()
    }

    fn epoch(&self, slot: u32) -> u32 {
        self.probe_keys.get(&slot).map_or(0, |keys| keys.epoch)
    }

    fn answered(&self, answer: &Probe, until: Instant) -> bool {
        let mut probed = self.probed.borrow_mut();
        let Some(path) = probed.get_mut(&answer.path.get().into()) else { return false };
        let sent_at = answer.sent_at.get();
        let is_news = path.is_news(answer.session(), Instant::from_nanos(sent_at));
        if is_news {
            *path = Probed { sent_at, until: until.nanos(), epoch: answer.epoch.get().into(), ..*path };
        }
        is_news
    }
}

/// A frame of which the first buffer can be seen.
struct Slice {
    link: IfIndex,
    bytes: Vec<u8>,
    /// Most bytes in it.
    first: usize,
    /// The kernel is told beside the frame that it is for it.
    keeps_mac: bool,
}

impl Bytes for Slice {
    fn load<T: Wire>(&self, at: usize) -> Option<&T> {
        T::ref_from_prefix(self.bytes.get(at..self.size())?).ok().map(|(value, _)| value)
    }

    fn size(&self) -> usize {
        self.bytes.len().min(self.first)
    }
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

    fn header<T: Wire>(&self, at: usize) -> Option<T> {
        self.load(at).copied()
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
        if self.keeps_mac { Some(()) } else { self.store(0, link_mac.0) }
    }
}

impl Action {
    fn of(fate: Fate) -> Self {
        match fate {
            Fate::Passes => Self::Pass,
            Fate::GoesBack => Self::Back,
            Fate::Ends => Self::Drop,
        }
    }
}

fn put<T: FromBytes>(ring: &RefCell<Vec<T>>, fill: impl FnOnce(&mut T)) -> Option<()> {
    // The kernel puts eight bytes before each, and never fills the last one.
    let most = (RING_BYTES as usize - 1) / (size_of::<T>() + 8);
    let mut ring = ring.borrow_mut();
    if ring.len() == most {
        return None;
    }
    let mut record = T::new_zeroed();
    fill(&mut record);
    ring.push(record);
    Some(())
}

fn replace<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}
