//! What the kernel that runs has, where a test has to know.

use aya::util::KernelVersion;

/// tcx links; before, the loader takes filters of a clsact qdisc.
pub fn has_tcx() -> bool {
    is_since(6, 6)
}

/// A link can be renamed while it is up.
pub fn renames_live() -> bool {
    is_since(6, 2)
}

/// A frame to which generic XDP has given the link's own MAC counts as the link's.
pub fn generic_xdp_delivers() -> bool {
    is_since(5, 13)
}

/// What BPF objects take counts against RLIMIT_MEMLOCK, and not to the control group.
pub fn counts_bpf_as_locked() -> bool {
    !is_since(5, 11)
}

/// Programs can be run on frames without an skb that they send (`BPF_F_TEST_XDP_LIVE_FRAMES`).
pub fn runs_live_frames() -> bool {
    is_since(5, 18)
}

/// UDP-Lite, of which newer kernels (7.3 is one) know nothing any more: they track it as any protocol that they do not know.
pub fn has_udplite() -> bool {
    std::fs::read_to_string("/proc/net/protocols").is_ok_and(|known| known.contains("UDP-Lite"))
}

fn is_since(major: u8, minor: u8) -> bool {
    KernelVersion::current().is_ok_and(|kernel| kernel >= KernelVersion::new(major, minor, 0))
}
