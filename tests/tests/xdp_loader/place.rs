//! A network namespace with veth pairs, and an instance of its own.
#![expect(unsafe_code, reason = "unshare(2) has no safe interface")]

use aya::programs::{SchedClassifier, TcAttachType, loaded_links, loaded_programs};
use carp_common::id::{IfIndex, Vhid};
use carp_common::map::{Host, HostKey, Vip, VipKey};
use carp_tests::lab::kernel::has_tcx;
use carp_user::io::bpf::{Datapath, Error, Mode, Port, Rings};
use carp_user::io::clock;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// An instance name that no other test has; its pins go when it is dropped, whatever happened.
pub struct Instance {
    pub name: String,
}

/// The kernel's objects behind an interface.
#[derive(Debug, PartialEq, Eq)]
pub struct Objects {
    pub program: u32,
    pub links: BTreeSet<u32>,
    pub maps: BTreeSet<u32>,
}

/// The kernel's objects behind what leaves an interface.
#[derive(Debug, PartialEq, Eq)]
pub struct Leaving {
    pub program: u32,
    /// None before Linux 6.6, where a filter holds the program.
    pub link: Option<u32>,
}

/// Runs a test on a thread in a new network namespace with these veth pairs: `a0` with its other
/// end `b0`, and so on.
pub fn within(pairs: u32, test: impl FnOnce() + Send + 'static) {
    let run = move || {
        // SAFETY: changes this thread alone, which ends with the test.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "unshare needs root");
        for pair in 0..pairs {
            ip(&format!("link add a{pair} type veth peer name b{pair}"));
            ip(&format!("link set a{pair} up"));
            ip(&format!("link set b{pair} up"));
        }
        test();
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip (iproute2) is there");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until something is so, for at most five seconds.
pub fn until(what: &str, so: impl Fn() -> bool) {
    let start = clock::now();
    while !so() {
        assert!(clock::now().since(start).as_millis() < 5000, "not within 5 s: {what}");
        #[expect(clippy::disallowed_methods, reason = "the kernel frees objects in its own time")]
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn port(name: &str, mode: Mode) -> Port {
    Port { link: index(name), name: name.to_owned(), mode }
}

pub fn index(name: &str) -> IfIndex {
    let line = ip(&format!("-o link show {name}"));
    IfIndex(line.split(':').next().unwrap().parse().unwrap())
}

/// A datapath as it was, or without virtual hosts yet.
pub fn open(instance: &Instance, ports: &[Port]) -> Result<(Datapath, Rings), Error> {
    Datapath::open(&instance.name, ports, |_| Ok(()))
}

/// One virtual host in slot 0.
pub fn configure(datapath: &mut Datapath, link: IfIndex, vhid: u8, vip: IpAddr) -> Result<(), Error> {
    let key = HostKey::new(link, Vhid::new(vhid).unwrap());
    datapath.set_host(key, Host { slot: 0, link_mac: [2; 6], flags: 0 })?;
    datapath.set_vip(VipKey::new(link, vip), Vip { slot: 0, vhid: u16::from(vhid), flags: 0 })
}

/// The program on an interface, as iproute2 sees it.
pub fn program_on(name: &str) -> Option<u32> {
    let words = ip(&format!("-d -o link show {name}"));
    let mut words = words.split_whitespace().skip_while(|word| !word.starts_with("prog/xdp"));
    words.nth(2).map(|id| id.parse().unwrap())
}

/// The programs at tc on an interface, the first one first.
pub fn at_tc(name: &str, way: TcAttachType) -> Vec<u32> {
    if has_tcx() {
        let (_, programs) = SchedClassifier::query_tcx(name, way).unwrap();
        return programs.iter().map(|program| program.id()).collect();
    }
    let way = if way == TcAttachType::Ingress { "ingress" } else { "egress" };
    // Fails without the qdisc.
    let output = Command::new("tc").args(["filter", "show", "dev", name, way]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let id = |line: &str| line.split(' ').skip_while(|word| *word != "id").nth(1)?.parse().ok();
    text.lines().filter_map(id).collect()
}

impl Leaving {
    /// The only one at this interface.
    pub fn on(name: &str) -> Self {
        let programs = at_tc(name, TcAttachType::Egress);
        assert_eq!(programs.len(), 1, "{programs:?}");
        let program = programs[0];
        let mut links = loaded_links().filter_map(Result::ok).filter(|link| link.program_id() == program);
        let link = links.next().map(|link| link.id());
        assert_eq!(link.is_some(), has_tcx(), "a link holds it where there can be one");
        Self { program, link }
    }

    /// Whether anything is at the interface.
    pub fn is_on(name: &str) -> bool {
        !at_tc(name, TcAttachType::Egress).is_empty()
    }

    /// Whether the kernel has neither any more.
    pub fn is_gone(&self) -> bool {
        !loaded_programs().filter_map(Result::ok).any(|program| program.id() == self.program)
            && !loaded_links().filter_map(Result::ok).any(|link| Some(link.id()) == self.link)
    }
}

impl Objects {
    pub fn on(name: &str) -> Self {
        let program = program_on(name).expect("a program is attached");
        let links = loaded_links().filter_map(Result::ok).filter(|link| link.program_id() == program);
        let links = links.map(|link| link.id()).collect();
        let info = loaded_programs().filter_map(Result::ok).find(|info| info.id() == program).unwrap();
        let maps = info.map_ids().unwrap().unwrap_or_default().into_iter().collect();
        Self { program, links, maps }
    }

    /// Whether the kernel has none of them any more.
    pub fn are_gone(&self) -> bool {
        !loaded_programs().filter_map(Result::ok).any(|program| program.id() == self.program)
            && !loaded_links().filter_map(Result::ok).any(|link| self.links.contains(&link.id()))
            && !aya::maps::loaded_maps().filter_map(Result::ok).any(|map| self.maps.contains(&map.id()))
    }
}

impl Instance {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { name: format!("test-{}-{number}", std::process::id()) }
    }

    pub fn folder(&self) -> PathBuf {
        PathBuf::from("/sys/fs/bpf/carp").join(&self.name)
    }

    /// Names of the pins, sorted; none when the folder is gone.
    pub fn pins(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder()).into_iter().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_dir_all(self.folder());
    }
}
