//! The programs of the test's own in the kernel, unpinned, with maps of their own; and their twin on
//! the host, which runs the same stages. About every frame the two must agree.

mod tables;

use crate::twin::Twin;
use aya::maps::{Array, HashMap, PerCpuArray, RingBuf};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use carp_common::admission::Auth;
use carp_common::id::IfIndex;
use carp_common::map::{
    ADVERTS, AUTH, CHALLENGES, COUNTERS, Captured, Counter, Counts, DECISIONS, Decision, GROUP_PROBES,
    GroupProbes, HEARD, NO_COUNTS, PROBE_KEYS, PROBED, PULSE, ProbeKeys, Probed, REFUSED, SENDERS, Sample,
    SenderKey, TRACE, TRACE_LOST, TRACE_UNTIL, VipKey, WINDOWS, Window,
};
use carp_common::sender::{Challenge, Sender};
use carp_common::time::{Instant, Span};
use carp_common::wire::probe::{ANSWER, ANSWER_GROUP, AT_V4, AT_V6, Probe};
use carp_ebpf::world::Maps;
use carp_user::io::bpf::{
    EGRESS_PROGRAM, HostTable, INGRESS_PROGRAM, OBJECT, ONE_BUFFER_PROGRAM, Standing, VipTable,
    program_of_this_kernel,
};
use carp_user::io::clock;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use zerocopy::{FromBytes, IntoBytes};

/// A test run's frames come in by the loopback link, number 1 in every network namespace.
pub const LINK: IfIndex = IfIndex(1);
/// The link's own MAC, as the maps say it.
pub const LINK_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x11];

pub const DROP: Action = Action::Drop;
pub const PASS: Action = Action::Pass;

/// The longest frame that a test run puts into one buffer: a page without the room before and behind.
pub const ONE_BUFFER: usize = 4096 - 256 - 320;

/// Slots that the tests use.
pub const SLOTS: u32 = 3;

pub struct Kernel {
    ebpf: Ebpf,
    pub hook: Hook,
    twin: Twin,
    hosts: HostTable,
    vips: VipTable,
    /// Others at the same first place, by VIP.
    alike: BTreeMap<IpAddr, Vec<VipKey>>,
}

/// Where a program is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// What comes in.
    Xdp,
    /// The same on kernels that know no frames of more than one buffer.
    OneBuffer,
    /// The same at tc.
    Tc,
    /// What leaves.
    Egress,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The kernel, or the next program, has it.
    Pass,
    /// Nobody has it.
    Drop,
    /// It goes back to where it came from.
    Back,
}

/// What the program did with a frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub action: Action,
    pub frame: Vec<u8>,
    pub counted: Vec<Counter>,
}

impl Kernel {
    pub fn new() -> Self {
        Self::at(Hook::Xdp)
    }

    /// With the program for what leaves.
    pub fn leaving() -> Self {
        Self::at(Hook::Egress)
    }

    pub fn at(hook: Hook) -> Self {
        let mut ebpf = EbpfLoader::new().load(OBJECT).expect("the object loads (as root)");
        let loaded = match hook {
            Hook::Xdp | Hook::OneBuffer => xdp(&mut ebpf, hook).load(),
            Hook::Tc | Hook::Egress => tc(&mut ebpf, hook).load(),
        };
        loaded.expect("the verifier accepts the program");
        Self {
            ebpf,
            hook,
            twin: Twin::default(),
            hosts: HostTable::empty(),
            vips: VipTable::empty(),
            alike: BTreeMap::new(),
        }
    }

    /// Instructions that the verifier went through, where the kernel tells.
    pub fn verified_instructions(&mut self) -> Option<u32> {
        let info = match self.hook {
            Hook::Xdp | Hook::OneBuffer => xdp(&mut self.ebpf, self.hook).info(),
            Hook::Tc | Hook::Egress => tc(&mut self.ebpf, self.hook).info(),
        };
        info.ok()?.verified_instruction_count()
    }

    pub fn set_window(&mut self, slot: u32, standing: Standing) {
        let map = self.ebpf.map_mut(WINDOWS).unwrap();
        Array::<_, Window>::try_from(map).unwrap().set(slot, standing.window, 0).unwrap();
        let map = self.ebpf.map_mut(HEARD).unwrap();
        Array::<_, u64>::try_from(map).unwrap().set(slot, standing.heard.nanos(), 0).unwrap();
        self.twin.set_window(slot, standing);
    }

    /// Until when the daemon has said that it runs.
    pub fn set_pulse(&mut self, until: Instant) {
        let map = self.ebpf.map_mut(PULSE).unwrap();
        Array::<_, u64>::try_from(map).unwrap().set(0, until.nanos(), 0).unwrap();
        self.twin.pulse = until;
    }

    /// By which keys probes are signed.
    pub fn set_probe_keys(&mut self, slot: u32, keys: ProbeKeys) {
        let map = self.ebpf.map_mut(PROBE_KEYS).unwrap();
        Array::<_, ProbeKeys>::try_from(map).unwrap().set(slot, keys, 0).unwrap();
        self.twin.set_probe_keys(slot, keys);
    }

    /// How the group of this number is asked for.
    pub fn set_group_probes(&mut self, number: u32, group: GroupProbes) {
        let map = self.ebpf.map_mut(GROUP_PROBES).unwrap();
        Array::<_, GroupProbes>::try_from(map).unwrap().set(number - 1, group, 0).unwrap();
        self.twin.set_group_probes(number, group);
    }

    /// What is known of a path.
    pub fn set_probed(&mut self, path: u32, probed: Probed) {
        let map = self.ebpf.map_mut(PROBED).unwrap();
        Array::<_, Probed>::try_from(map).unwrap().set(path, probed, 0).unwrap();
        self.twin.set_probed(path, probed);
    }

    /// The same; kernel and host know the same but for the moment.
    pub fn probed(&self, path: u32) -> Probed {
        let map = Array::<_, Probed>::try_from(self.ebpf.map(PROBED).unwrap()).unwrap();
        let in_kernel = map.get(&path, 0).unwrap();
        let timeless = |probed: Probed| Probed { until: u64::from(probed.until != 0), ..probed };
        assert_eq!(timeless(in_kernel), timeless(self.twin.probed(path)), "kernel and host");
        in_kernel
    }

    pub fn set_auth(&mut self, slot: u32, auth: &Auth) {
        let map = self.ebpf.map_mut(AUTH).unwrap();
        Array::<_, Auth>::try_from(map).unwrap().set(slot, auth, 0).unwrap();
        self.twin.set_auth(slot, *auth);
    }

    /// Says whose answers count.
    pub fn set_challenge(&mut self, slot: u32, challenge: Challenge) {
        let map = self.ebpf.map_mut(CHALLENGES).unwrap();
        Array::<_, u64>::try_from(map).unwrap().set(slot, challenge.0, 0).unwrap();
        self.twin.set_challenge(slot, challenge);
    }

    /// Knows this of a sender.
    pub fn set_sender(&mut self, key: SenderKey, sender: Sender) {
        self.sender_map().insert(key, sender, 0).unwrap();
        self.twin.set_sender(&key, sender);
    }

    /// What is known of senders, by the bytes of their keys; kernel and host know the same but for the
    /// moment.
    pub fn senders(&mut self) -> BTreeMap<Vec<u8>, Sender> {
        let map = self.sender_map();
        let in_kernel = map.iter().map(Result::unwrap);
        let in_kernel: BTreeMap<_, _> =
            in_kernel.map(|(key, sender)| (key.as_bytes().to_vec(), sender)).collect();
        let timeless = |senders: &BTreeMap<Vec<u8>, Sender>| -> Vec<_> {
            let facts = |sender: &Sender| (sender.counter, sender.window, sender.fresh_at != 0);
            senders.iter().map(|(key, sender)| (key.clone(), facts(sender))).collect()
        };
        assert_eq!(timeless(&in_kernel), timeless(&self.twin.senders()), "kernel and host");
        in_kernel
    }

    /// Of nobody anything.
    pub fn forget_senders(&mut self) {
        let mut map = self.sender_map();
        let known: Vec<SenderKey> = map.keys().map(Result::unwrap).collect();
        known.iter().for_each(|key| map.remove(key).unwrap());
        self.twin.forget_senders();
    }

    fn sender_map(&mut self) -> HashMap<&mut aya::maps::MapData, SenderKey, Sender> {
        HashMap::try_from(self.ebpf.map_mut(SENDERS).unwrap()).unwrap()
    }

    /// When the slot's master was heard last; on the host that was a moment earlier at most, as each
    /// frame is run there first.
    pub fn heard(&self, slot: u32) -> Instant {
        let map = Array::<_, u64>::try_from(self.ebpf.map(HEARD).unwrap()).unwrap();
        let in_kernel = Instant::from_nanos(map.get(&slot, 0).unwrap());
        let on_host = self.twin.heard(slot);
        let later = Span::nanos(in_kernel.nanos().wrapping_sub(on_host.nanos()));
        let is_alike = on_host != Instant::ZERO && later < Span::secs(1);
        assert!(in_kernel == on_host || is_alike, "kernel {in_kernel:?}, host {on_host:?}, slot {slot}");
        in_kernel
    }

    /// Of all slots together; kernel and host have counted the same for each.
    pub fn counters(&self) -> Counts {
        let map = PerCpuArray::<_, Counts>::try_from(self.ebpf.map(COUNTERS).unwrap()).unwrap();
        let mut all = NO_COUNTS;
        for slot in 0..SLOTS {
            let cpus = map.get(&slot, 0).unwrap();
            let counts: Counts =
                std::array::from_fn(|counter| cpus.iter().map(|counts| counts[counter]).sum());
            assert_eq!(counts, self.twin.counts(slot), "kernel and host, slot {slot}");
            all.iter_mut().zip(counts).for_each(|(all, count)| *all += count);
        }
        all
    }

    /// The adverts in the ring buffer; kernel and host hold the same.
    pub fn adverts(&mut self) -> Vec<Captured> {
        let adverts: Vec<Captured> = self.drain(ADVERTS);
        let timeless = |advert: &Captured| Captured { at: 0, ..*advert }.as_bytes().to_vec();
        let on_host = self.twin.adverts();
        assert_eq!(adverts.len(), on_host.len(), "adverts in the kernel and on the host");
        for (in_kernel, on_host) in adverts.iter().zip(&on_host) {
            assert_eq!(timeless(in_kernel), timeless(on_host), "kernel and host");
        }
        adverts
    }

    /// The samples of refused adverts; kernel and host show the same ones, but how often is the clock's
    /// matter.
    pub fn samples(&mut self) -> Vec<Sample> {
        let samples = self.drain(REFUSED);
        let timeless = |samples: &[Sample]| -> BTreeSet<Vec<u8>> {
            let timeless = |sample: &Sample| {
                let captured = Captured { at: 0, ..sample.captured };
                Sample { captured, ..*sample }.as_bytes().to_vec()
            };
            samples.iter().map(timeless).collect()
        };
        assert_eq!(timeless(&samples), timeless(&self.twin.samples()), "kernel and host");
        samples
    }

    /// Switches the log of decisions on until this moment.
    pub fn trace_until(&mut self, until: Instant) {
        self.trace().set(TRACE_UNTIL, until.nanos(), 0).unwrap();
        self.twin.traces = until > clock::now();
    }

    /// How many decisions are in the kernel's log, which is empty then.
    pub fn told(&mut self) -> u32 {
        u32::try_from(self.drain::<Decision>(DECISIONS).len()).unwrap()
    }

    /// The log of decisions; kernel and host hold the same but for the time.
    pub fn decisions(&mut self) -> Vec<Decision> {
        let decisions: Vec<Decision> = self.drain(DECISIONS);
        let timeless = decisions.iter().map(|decision| Decision { at: 0, ..*decision });
        assert_eq!(timeless.collect::<Vec<_>>(), self.twin.decisions(), "kernel and host");
        decisions
    }

    /// How many decisions there was no room for in the log.
    pub fn untold(&mut self) -> u64 {
        self.trace().get(&TRACE_LOST, 0).unwrap()
    }

    fn trace(&mut self) -> Array<&mut aya::maps::MapData, u64> {
        Array::try_from(self.ebpf.map_mut(TRACE).unwrap()).unwrap()
    }

    /// Runs one frame through the program, and through the stages on the host.
    pub fn run(&mut self, frame: &[u8]) -> Outcome {
        let before = self.counters();
        let (action, frame) = self.act(frame);
        let after = self.counters();
        let counted = Counter::ALL.into_iter().zip(before).zip(after);
        let counted = counted.flat_map(|((counter, before), after)| {
            std::iter::repeat_n(counter, usize::try_from(after - before).unwrap())
        });
        Outcome { action, frame, counted: counted.collect() }
    }

    /// As `run`, without looking at the counters.
    pub fn act(&mut self, frame: &[u8]) -> (Action, Vec<u8>) {
        let on_host = self.twin.act(self.hook, LINK, frame, clock::now());
        let mut out = vec![0; frame.len() + 64];
        let (code, len, _) = self.test_run(frame, Some(&mut out), 1);
        out.truncate(usize::try_from(len).unwrap());
        let in_kernel = (self.hook.action(code), out);
        let timeless = |(action, frame): &(Action, Vec<u8>)| (*action, without_lease(frame));
        assert_eq!(timeless(&in_kernel), timeless(&on_host), "kernel and host about {frame:02x?}");
        in_kernel
    }

    /// Nanoseconds per run, in the kernel alone; the ring buffer is empty before.
    pub fn nanos(&mut self, frame: &[u8], repeat: u32) -> u128 {
        self.drain::<Captured>(ADVERTS);
        self.test_run(frame, None, repeat).2
    }

    fn drain<T: FromBytes>(&mut self, ring: &str) -> Vec<T> {
        let mut ring = RingBuf::try_from(self.ebpf.map_mut(ring).unwrap()).unwrap();
        let mut records = Vec::new();
        while let Some(record) = ring.next() {
            records.push(T::read_from_bytes(&record).unwrap());
        }
        records
    }

    fn test_run(&mut self, frame: &[u8], out: Option<&mut [u8]>, repeat: u32) -> (u32, u32, u128) {
        let options = TestRunOptions { data_in: Some(frame), data_out: out, repeat, ..TestRunOptions::new() };
        let result = match self.hook {
            Hook::Xdp | Hook::OneBuffer => xdp(&mut self.ebpf, self.hook).test_run(options),
            Hook::Tc | Hook::Egress => tc(&mut self.ebpf, self.hook).test_run(options),
        };
        let result = result.expect("BPF_PROG_TEST_RUN works");
        (result.return_value, result.data_size_out, result.duration.as_nanos())
    }
}

/// Of the answer to a probe: what is left of the lease is the clock's matter, and the tag depends on it.
fn without_lease(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for at in [AT_V4, AT_V6] {
        if let Some(probe) = frame.get_mut(at..at + size_of::<Probe>())
            && [ANSWER, ANSWER_GROUP].contains(&probe[0])
        {
            probe[24..].fill(0);
        }
    }
    frame
}

impl Hook {
    /// The kernel's number for it.
    fn action(self, code: u32) -> Action {
        /// "The next program or filter decides."
        const UNSPEC: u32 = u32::MAX;
        match (self.is_xdp(), code) {
            (true, 1) | (false, 2) => Action::Drop,
            (true, 2) | (false, UNSPEC) => Action::Pass,
            (true, 3) | (false, 7) => Action::Back,
            (true | false, _) => panic!("{self:?} says {code}"),
        }
    }

    /// Otherwise it is tc's.
    pub fn is_xdp(self) -> bool {
        match self {
            Self::Xdp | Self::OneBuffer => true,
            Self::Tc | Self::Egress => false,
        }
    }
}

fn xdp(ebpf: &mut Ebpf, hook: Hook) -> &mut Xdp {
    let name = if hook == Hook::OneBuffer { ONE_BUFFER_PROGRAM } else { program_of_this_kernel() };
    ebpf.program_mut(name).unwrap().try_into().unwrap()
}

fn tc(ebpf: &mut Ebpf, hook: Hook) -> &mut SchedClassifier {
    let name = if hook == Hook::Tc { INGRESS_PROGRAM } else { EGRESS_PROGRAM };
    ebpf.program_mut(name).unwrap().try_into().unwrap()
}
