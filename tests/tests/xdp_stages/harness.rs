//! A program of the test's own, XDP or tc, unpinned, with maps of its own.

use aya::maps::{Array, HashMap, PerCpuArray, RingBuf};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use carp_common::admission::Auth;
use carp_common::id::{IfIndex, Vhid};
use carp_common::map::{
    ADVERTS, AUTH, COUNTERS, Captured, Counter, Counts, HEARD, HOSTS, Host, HostKey, REFUSED, Sample, VIPS,
    Vip, VipKey, WINDOWS, Window,
};
use carp_user::io::bpf::{EGRESS_PROGRAM, OBJECT, PROGRAM, Standing};
use std::net::IpAddr;
use zerocopy::FromBytes;

/// A test run's frames come in by the loopback link, number 1 in every network namespace.
pub const LINK: IfIndex = IfIndex(1);
/// The link's own MAC, as the maps say it.
pub const LINK_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x11];

pub const DROP: u32 = 1;
pub const PASS: u32 = 2;
pub const TX: u32 = 3;

/// Of the program for what leaves: the next program or filter decides; not sent.
pub const NEXT: u32 = u32::MAX;
pub const SHOT: u32 = 2;

/// Slots that the tests use.
pub const SLOTS: u32 = 3;

pub struct Kernel {
    ebpf: Ebpf,
    /// Runs the program for what leaves.
    is_egress: bool,
}

/// What the program did with a frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub action: u32,
    pub frame: Vec<u8>,
    pub counted: Vec<Counter>,
}

impl Kernel {
    pub fn new() -> Self {
        let mut ebpf = EbpfLoader::new().load(OBJECT).expect("the object loads (as root)");
        program(&mut ebpf).load().expect("the verifier accepts the program");
        Self { ebpf, is_egress: false }
    }

    /// With the program for what leaves.
    pub fn leaving() -> Self {
        let mut kernel = Self::new();
        kernel.is_egress = true;
        egress_program(&mut kernel.ebpf).load().expect("the verifier accepts the program");
        kernel
    }

    /// Instructions that the verifier went through, where the kernel tells.
    pub fn verified_instructions(&mut self) -> Option<u32> {
        let info = match self.is_egress {
            true => egress_program(&mut self.ebpf).info(),
            false => program(&mut self.ebpf).info(),
        };
        info.ok()?.verified_instruction_count()
    }

    pub fn set_host(&mut self, link: IfIndex, vhid: u8, slot: u32) {
        let key = HostKey::new(link, Vhid::new(vhid).unwrap());
        let host = Host { slot, link_mac: LINK_MAC, flags: 0 };
        self.hosts().insert(key, host, 0).unwrap();
    }

    pub fn remove_host(&mut self, vhid: u8) {
        let _absent = self.hosts().remove(&HostKey::new(LINK, Vhid::new(vhid).unwrap()));
    }

    pub fn set_vip(&mut self, vip: IpAddr, entry: Vip) {
        self.vips().insert(VipKey::new(LINK, vip), entry, 0).unwrap();
    }

    pub fn remove_vip(&mut self, vip: IpAddr) {
        let _absent = self.vips().remove(&VipKey::new(LINK, vip));
    }

    pub fn set_window(&mut self, slot: u32, standing: Standing) {
        let map = self.ebpf.map_mut(WINDOWS).unwrap();
        Array::<_, Window>::try_from(map).unwrap().set(slot, standing.window, 0).unwrap();
        let map = self.ebpf.map_mut(HEARD).unwrap();
        Array::<_, u64>::try_from(map).unwrap().set(slot, standing.heard.nanos(), 0).unwrap();
    }

    pub fn set_auth(&mut self, slot: u32, auth: &Auth) {
        let map = self.ebpf.map_mut(AUTH).unwrap();
        Array::<_, Auth>::try_from(map).unwrap().set(slot, auth, 0).unwrap();
    }

    /// When a master of the slot was heard last.
    pub fn heard(&self, slot: u32) -> u64 {
        Array::<_, u64>::try_from(self.ebpf.map(HEARD).unwrap()).unwrap().get(&slot, 0).unwrap()
    }

    /// Of all slots together.
    pub fn counters(&self) -> Vec<u64> {
        let map = PerCpuArray::<_, Counts>::try_from(self.ebpf.map(COUNTERS).unwrap()).unwrap();
        let slots: Vec<_> = (0..SLOTS).map(|slot| map.get(&slot, 0).unwrap()).collect();
        let sum = |index: usize| slots.iter().flat_map(|cpus| cpus.iter()).map(|counts| counts[index]).sum();
        (0..Counter::COUNT).map(sum).collect()
    }

    /// The adverts in the ring buffer.
    pub fn adverts(&mut self) -> Vec<Captured> {
        let mut ring = RingBuf::try_from(self.ebpf.map_mut(ADVERTS).unwrap()).unwrap();
        let mut adverts = Vec::new();
        while let Some(record) = ring.next() {
            adverts.push(Captured::read_from_bytes(&record).unwrap());
        }
        adverts
    }

    /// The samples of refused adverts.
    pub fn samples(&mut self) -> Vec<Sample> {
        let mut ring = RingBuf::try_from(self.ebpf.map_mut(REFUSED).unwrap()).unwrap();
        let mut samples = Vec::new();
        while let Some(record) = ring.next() {
            samples.push(Sample::read_from_bytes(&record).unwrap());
        }
        samples
    }

    /// Runs one frame through the program.
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
    pub fn act(&mut self, frame: &[u8]) -> (u32, Vec<u8>) {
        let mut out = vec![0; 2048];
        let result = self.test_run(frame, Some(&mut out), 1);
        out.truncate(usize::try_from(result.1).unwrap());
        (result.0, out)
    }

    /// Nanoseconds per run.
    pub fn nanos(&mut self, frame: &[u8], repeat: u32) -> u128 {
        self.test_run(frame, None, repeat).2
    }

    fn test_run(&mut self, frame: &[u8], out: Option<&mut [u8]>, repeat: u32) -> (u32, u32, u128) {
        let options = TestRunOptions { data_in: Some(frame), data_out: out, repeat, ..TestRunOptions::new() };
        let result = match self.is_egress {
            true => egress_program(&mut self.ebpf).test_run(options),
            false => program(&mut self.ebpf).test_run(options),
        };
        let result = result.expect("BPF_PROG_TEST_RUN works");
        (result.return_value, result.data_size_out, result.duration.as_nanos())
    }

    fn hosts(&mut self) -> HashMap<&mut aya::maps::MapData, HostKey, Host> {
        HashMap::try_from(self.ebpf.map_mut(HOSTS).unwrap()).unwrap()
    }

    fn vips(&mut self) -> HashMap<&mut aya::maps::MapData, VipKey, Vip> {
        HashMap::try_from(self.ebpf.map_mut(VIPS).unwrap()).unwrap()
    }
}

fn program(ebpf: &mut Ebpf) -> &mut Xdp {
    ebpf.program_mut(PROGRAM).unwrap().try_into().unwrap()
}

fn egress_program(ebpf: &mut Ebpf) -> &mut SchedClassifier {
    ebpf.program_mut(EGRESS_PROGRAM).unwrap().try_into().unwrap()
}
