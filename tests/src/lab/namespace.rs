//! A host: a network namespace with a name.

use super::bpf::{Program, action};
use super::process::{Process, run, run_with_input};
use super::{Purpose, sys};
use anyhow::{Context, Result, bail};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{AddressFamily, SocketType};
use rustix::thread::LinkNameSpaceType;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

/// A network namespace that `ip netns` knows too.
#[derive(Clone)]
pub struct Namespace {
    host: String,
    name: String,
    folder: PathBuf,
    purpose: Purpose,
    file: Arc<OwnedFd>,
}

impl Namespace {
    /// Makes it, with loopback up and IPv6 without waiting: no duplicate address detection, no
    /// router solicitation.
    pub(super) fn create(host: &str, name: &str, folder: &Path, purpose: Purpose) -> Result<Self> {
        run(Command::new("ip").args(["netns", "add", name]))?;
        let file = File::open(Path::new("/run/netns").join(name)).context("opening the new namespace")?;
        let (host, name, folder) = (host.to_owned(), name.to_owned(), folder.to_owned());
        let namespace = Self { host, name, folder, purpose, file: Arc::new(file.into()) };
        for (key, value) in QUIET {
            namespace.sysctl(key, value)?;
        }
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// What the host is called: `gw1`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What `ip netns` calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` in the namespace, on a thread of its own: a thread's namespace cannot be left
    /// behind by accident, and the caller's never changes. Sockets made there stay there.
    ///
    /// # Errors
    /// When the namespace cannot be entered, and what `work` gives.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let inside = || {
            let network = Some(LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(self.file.as_fd(), network).context("setns")?;
            work()
        };
        let done = std::thread::scope(|scope| scope.spawn(inside).join());
        match done {
            Ok(result) => result.with_context(|| format!("in namespace {}", self.host)),
            Err(_) => bail!("a thread in namespace {} panicked", self.host),
        }
    }

    /// Sets `/proc/sys/net/…` here; `key` with slashes, without `net/`.
    ///
    /// # Errors
    /// When the kernel has no such key or refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.enter(|| {
            let path = Path::new("/proc/sys/net").join(key);
            fs::write(&path, value).with_context(|| format!("writing {value} to {}", path.display()))
        })
    }

    /// `ip -n NAME …`, words separated by blanks.
    ///
    /// # Errors
    /// With what `ip` said, when it fails.
    pub fn ip(&self, words: &str) -> Result<String> {
        run(Command::new("ip").args(["-n", &self.name]).args(words.split(' ')))
    }

    /// Loads rules for nft here, beside those that are there.
    ///
    /// # Errors
    /// With what nft said, when it refuses them.
    pub fn load_rules(&self, rules: &str) -> Result<()> {
        run_with_input(Command::new("ip").args(["netns", "exec", &self.name, "nft", "--file", "-"]), rules)
    }

    /// Runs a program here and waits for its end; gives its output, whatever its exit code.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn output(&self, command: &mut Command) -> Result<Output> {
        sys::enter_on_exec(command, &self.file, true);
        let program = command.get_program().to_string_lossy().into_owned();
        command.output().with_context(|| format!("starting {program}"))
    }

    /// Starts a program here; its output goes to a log file of this name in the lab's folder.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, log: &str, mut command: Command) -> Result<Process> {
        sys::enter_on_exec(&mut command, &self.file, self.purpose != Purpose::Keep);
        Process::start(&format!("{}-{log}", self.host), &self.folder, command, self.purpose)
    }

    /// The kernel's number of a link.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn ifindex(&self, link: &str) -> Result<u32> {
        self.enter(|| {
            let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
            rustix::net::netdevice::name_to_index(socket, link).with_context(|| format!("link {link}"))
        })
    }

    /// Has a veth of this namespace take frames in by NAPI, without XDP too, and on a kernel thread of
    /// its own, whose id this gives: what that thread spends is what receiving costs.
    ///
    /// # Errors
    /// When the kernel refuses or has no such threads (before 5.12).
    pub fn receive_on_thread(&self, link: &str) -> Result<u32> {
        let known = napi_threads(link)?;
        self.enter(|| Ok(sys::set_offload(link, sys::Offload::Gro, true)?))?;
        let switch = format!("echo 1 >/sys/class/net/{link}/threaded");
        // Mounts a /sys that shows this namespace's links.
        run(Command::new("ip").args(["netns", "exec", &self.name, "sh", "-c", &switch]))?;
        let threads = napi_threads(link)?;
        let fresh = threads.difference(&known).next().copied();
        fresh.with_context(|| format!("the kernel made no NAPI thread for {link}"))
    }

    /// Puts an XDP program that passes everything on a link, native mode. Native XDP_TX of a veth
    /// delivers only when its other end has such a program.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn xdp_pass(&self, link: &str) -> Result<OwnedFd> {
        let ifindex = self.ifindex(link)?;
        self.enter(|| Program::always(action::PASS)?.attach(ifindex))
            .with_context(|| format!("XDP on {link}"))
    }

    /// The same in generic mode, which every link has.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn xdp_pass_generic(&self, link: &str) -> Result<OwnedFd> {
        let ifindex = self.ifindex(link)?;
        self.enter(|| Program::always(action::PASS)?.attach_generic(ifindex))
            .with_context(|| format!("generic XDP on {link}"))
    }
}

/// Of links of this name, in all namespaces.
fn napi_threads(link: &str) -> Result<BTreeSet<u32>> {
    let prefix = format!("napi/{link}-");
    let is_napi =
        |id: &u32| fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.starts_with(&prefix));
    let names = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).filter(is_napi).collect())
}

const QUIET: [(&str, &str); 6] = [
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/dad_transmits", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
];
