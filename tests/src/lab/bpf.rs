//! BPF programs of the lab's own, put together from instructions, and programs run on frames that
//! nobody sent (`BPF_PROG_TEST_RUN`).

use super::sys;
use anyhow::{Context, Result, ensure};
use aya::programs::{ProgramInfo, loaded_programs};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use std::ffi::CString;
use std::io;
use std::path::Path;

/// What an XDP program returns.
pub mod action {
    /// Not a verdict: the program failed.
    pub const ABORTED: u32 = 0;
    /// The frame ends here.
    pub const DROP: u32 = 1;
    /// On to the kernel.
    pub const PASS: u32 = 2;
    /// Back out of the link that it came in by.
    pub const TX: u32 = 3;
}

/// An instruction (RFC 9669 section 3.1).
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    /// What to do, one of the constants in [`code`].
    pub code: u8,
    /// Register that is written, or compared.
    pub to: u8,
    /// Register that is read.
    pub from: u8,
    /// Bytes from the address, or instructions to jump over.
    pub offset: i16,
    /// The number.
    pub value: i32,
}

/// The opcodes in use here. `W`, `H`, `B` and `DW` are 4, 2, 1 and 8 bytes.
#[expect(missing_docs, reason = "named as in RFC 9669 and in the kernel")]
pub mod code {
    pub const ADD: u8 = 0x07;
    pub const OR_X: u8 = 0x4f;
    pub const OR: u8 = 0x47;
    pub const LSH: u8 = 0x67;
    pub const MOD: u8 = 0x97;
    pub const MOV: u8 = 0xb7;
    pub const MOV_X: u8 = 0xbf;
    pub const LDX_W: u8 = 0x61;
    pub const LDX_H: u8 = 0x69;
    pub const LDX_DW: u8 = 0x79;
    pub const ST_W: u8 = 0x62;
    pub const ST_H: u8 = 0x6a;
    pub const ST_B: u8 = 0x72;
    pub const STX_W: u8 = 0x63;
    pub const STX_H: u8 = 0x6b;
    pub const STX_DW: u8 = 0x7b;
    pub const JEQ: u8 = 0x15;
    pub const JNE: u8 = 0x55;
    pub const JLE_X: u8 = 0xbd;
    pub const BE: u8 = 0xdc;
    pub const CALL: u8 = 0x85;
    pub const EXIT: u8 = 0x95;
    pub const LD_IMM64: u8 = 0x18;
}

/// `code to, from, offset, value`.
pub const fn op(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Instruction {
    Instruction { code, to, from, offset, value }
}

/// Leaves with this action.
pub fn leave(action: u32) -> [Instruction; 2] {
    [op(code::MOV, 0, 0, 0, i32::try_from(action).unwrap_or(0)), op(code::EXIT, 0, 0, 0, 0)]
}

/// Which hook a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP.
    Xdp,
    /// tc.
    Tc,
}

/// A loaded program.
#[derive(Debug)]
pub struct Program {
    file: OwnedFd,
    hook: Hook,
}

/// What became of frames that nobody sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// What the program returned, the last time.
    pub action: u32,
    /// Nanoseconds for one run, on average.
    pub nanos: u32,
}

/// A map of the lab's own.
#[derive(Debug)]
pub struct Map(OwnedFd);

impl Map {
    /// From keys to values of so many bytes, for so many entries.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn hash(key_size: u32, value_size: u32, max_entries: u32) -> Result<Self> {
        Self::create(MAP_TYPE_HASH, key_size, value_size, max_entries)
    }

    /// With one program to jump into, at index 0.
    ///
    /// # Errors
    /// When the kernel refuses: the first program that jumps by it must be of the same kind.
    pub fn jump() -> Result<Self> {
        Self::create(MAP_TYPE_PROG_ARRAY, 4, 4, 1)
    }

    fn create(map_type: u32, key_size: u32, value_size: u32, max_entries: u32) -> Result<Self> {
        let mut create = MapCreate { map_type, key_size, value_size, max_entries };
        Ok(Self(sys::bpf_make(BPF_MAP_CREATE, &mut create).context("making a map")?))
    }

    /// Sets an entry; both are as long as the map says.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let map = u64::try_from(self.0.as_raw_fd())?;
        let mut update = MapUpdate { map, key: address(key), value: address(value), flags: 0 };
        sys::bpf(BPF_MAP_UPDATE_ELEM, &mut update).context("setting a map's entry")?;
        Ok(())
    }

    /// Sets the program to jump into.
    ///
    /// # Errors
    /// When the kernel finds the two programs too different.
    pub fn set_jump(&self, program: &Program) -> Result<()> {
        self.set(&[0; 4], &program.file.as_raw_fd().to_ne_bytes())
    }

    /// Loads its address into a register.
    pub fn load(&self, to: u8) -> [Instruction; 2] {
        const IS_MAP: u8 = 1;
        [op(code::LD_IMM64, to, IS_MAP, 0, self.0.as_raw_fd()), op(0, 0, 0, 0, 0)]
    }
}

impl Program {
    /// Loads an XDP program; with `frags` it may be called for frames of more than one buffer, and jumps
    /// only into its like.
    ///
    /// # Errors
    /// When the verifier refuses.
    pub fn load(instructions: &[Instruction], frags: bool) -> Result<Self> {
        let text: Vec<u64> = instructions.iter().map(|instruction| instruction.encode()).collect();
        let mut load = ProgLoad {
            prog_type: PROG_TYPE_XDP,
            insn_cnt: u32::try_from(text.len())?,
            insns: address(&text),
            license: address(c"GPL".to_bytes_with_nul()),
            log: [0; 2],
            kern_version: 0,
            prog_flags: if frags { HAS_FRAGS } else { 0 },
            name: [0; 2],
            prog_ifindex: 0,
            expected_attach_type: ATTACH_XDP,
        };
        let file = sys::bpf_make(BPF_PROG_LOAD, &mut load).context("loading an XDP program")?;
        Ok(Self { file, hook: Hook::Xdp })
    }

    /// An XDP program that does the same with every frame.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn always(action: u32) -> Result<Self> {
        Self::load(&leave(action), false)
    }

    /// The first loaded program that is wanted, of this hook.
    ///
    /// # Errors
    /// When there is none, or the kernel does not hand it out.
    pub fn find(hook: Hook, wanted: impl Fn(&ProgramInfo) -> bool) -> Result<Self> {
        let found = loaded_programs().flatten().find(wanted).context("no such BPF program is loaded")?;
        Ok(Self { file: found.fd()?.as_fd().try_clone_to_owned()?, hook })
    }

    /// Attaches it to a link of the current network namespace, native mode. It stays for as long as
    /// the descriptor is open.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach(&self, ifindex: u32) -> Result<OwnedFd> {
        self.attach_in(ifindex, NATIVE)
    }

    /// The same in generic mode, for links whose driver knows no XDP.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach_generic(&self, ifindex: u32) -> Result<OwnedFd> {
        self.attach_in(ifindex, GENERIC)
    }

    fn attach_in(&self, ifindex: u32, flags: u32) -> Result<OwnedFd> {
        let prog_fd = u32::try_from(self.file.as_raw_fd())?;
        let mut create = LinkCreate { prog_fd, target_ifindex: ifindex, attach_type: ATTACH_XDP, flags };
        sys::bpf_make(BPF_LINK_CREATE, &mut create)
            .with_context(|| format!("attaching XDP to link {ifindex}"))
    }

    /// Runs it so many times on a frame of a link of the current network namespace, each time on what
    /// the last one made of it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn run(&self, frame: &[u8], ifindex: u32, repeat: u32) -> Result<Ran> {
        let context = self.context(frame, ifindex)?;
        let run = TestRun { repeat, ..self.test_run(frame, &context)? };
        let run = run.go().context("running a program on a frame")?;
        Ok(Ran { action: run.retval, nanos: run.duration })
    }

    /// Runs it so many times on frames without an skb that it may send: [`action::TX`] sends them out
    /// of the link. Fewer than half a million a call spend most of their time in its start and end.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn run_live(&self, frame: &[u8], ifindex: u32, repeat: u32) -> Result<()> {
        /// As many as a NAPI poll takes.
        const BATCH: u32 = 64;
        ensure!(self.hook == Hook::Xdp, "only XDP programs run live");
        let context = self.context(frame, ifindex)?;
        let run = self.test_run(frame, &context)?;
        let run = TestRun { repeat, flags: LIVE_FRAMES, batch_size: BATCH, ..run };
        run.go().context("running a program on live frames").map(drop)
    }

    fn test_run(&self, frame: &[u8], context: &[u32]) -> Result<TestRun> {
        Ok(TestRun {
            prog_fd: u32::try_from(self.file.as_raw_fd())?,
            data_size_in: u32::try_from(frame.len())?,
            data_in: address(frame),
            ctx_size_in: u32::try_from(size_of_val(context))?,
            ctx_in: address(context),
            ..TestRun::default()
        })
    }

    /// `struct xdp_md` or `struct __sk_buff`, of which it says the link.
    fn context(&self, frame: &[u8], ifindex: u32) -> Result<Vec<u32>> {
        let (len, end, link) = match self.hook {
            Hook::Xdp => (6, Some(1), 3),
            Hook::Tc => (48, None, 10),
        };
        let mut words = vec![0; len];
        if let Some(end) = end.and_then(|end: usize| words.get_mut(end)) {
            *end = u32::try_from(frame.len())?;
        }
        if let Some(link) = words.get_mut(link) {
            *link = ifindex;
        }
        Ok(words)
    }
}

/// Gives a BPF object a name in bpffs, so that it outlives its descriptors.
///
/// # Errors
/// When the kernel refuses.
pub fn pin(object: &OwnedFd, path: &Path) -> Result<()> {
    let name = CString::new(path.as_os_str().as_encoded_bytes())?;
    let bpf_fd = u64::try_from(object.as_raw_fd())?;
    let mut pin = ObjPin { pathname: address(name.as_bytes_with_nul()), bpf_fd };
    sys::bpf(BPF_OBJ_PIN, &mut pin).with_context(|| format!("pinning {}", path.display()))?;
    Ok(())
}

impl TestRun {
    /// From the start again when a signal comes in between.
    fn go(self) -> io::Result<Self> {
        loop {
            let mut run = self;
            match sys::bpf(BPF_PROG_TEST_RUN, &mut run) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done.map(|_zero| run),
            }
        }
    }
}

impl Instruction {
    fn encode(self) -> u64 {
        let Self { code, to, from, offset, value } = self;
        let ([o0, o1], [v0, v1, v2, v3]) = (offset.to_le_bytes(), value.to_le_bytes());
        u64::from_le_bytes([code, from << 4 | to, o0, o1, v0, v1, v2, v3])
    }
}

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_LINK_CREATE: libc::c_long = 28;
const MAP_TYPE_HASH: u32 = 1;
const MAP_TYPE_PROG_ARRAY: u32 = 3;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
/// `XDP_FLAGS_DRV_MODE`.
const NATIVE: u32 = 1 << 2;
/// `XDP_FLAGS_SKB_MODE`.
const GENERIC: u32 = 1 << 1;
/// `BPF_F_XDP_HAS_FRAGS`.
const HAS_FRAGS: u32 = 1 << 5;
/// `BPF_F_TEST_XDP_LIVE_FRAMES`.
const LIVE_FRAMES: u32 = 1 << 1;

// What follows are members of `union bpf_attr`, as long as they are used here.

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C)]
struct MapUpdate {
    map: u64,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log: [u64; 2],
    kern_version: u32,
    prog_flags: u32,
    name: [u64; 2],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct ObjPin {
    pathname: u64,
    bpf_fd: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    rest: u32,
}

const _: () = assert!(size_of::<ProgLoad>() == 72 && size_of::<TestRun>() == 80);

fn address<T>(values: &[T]) -> u64 {
    u64::try_from(values.as_ptr().expose_provenance()).unwrap_or(0)
}
