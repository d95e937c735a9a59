//! A laboratory of network namespaces: real processes on real packets, and probes that see what a
//! client sees. Needs root, iproute2 and bpffs; whatever it makes is gone when it is dropped, when
//! the program panics, is interrupted or killed (see [`Lab`]).

pub mod adverts;
pub mod arrivals;
pub mod bpf;
pub mod capture;
pub mod carpd;
pub mod clock;
pub mod config;
pub mod conntrackd;
pub mod download;
pub mod duo;
pub mod echo;
pub mod flood;
pub mod flows;
pub mod follow;
pub mod keepalived;
pub mod kernel;
pub mod machine;
pub mod maps;
pub mod namespace;
pub mod owners;
pub mod pair;
pub mod ping;
pub mod process;
pub mod relay;
pub mod remote;
pub mod replicating;
pub mod roles;
pub mod scene;
pub mod stream;
mod sweep;
pub mod sys;
pub mod talk;
pub mod tcp;
pub mod ucarp;
pub mod windows;

use anyhow::{Context, Result, anyhow, ensure};
use namespace::Namespace;
use rustix::fd::OwnedFd;
use rustix::fs::FlockOperation;
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Where every lab has its folder: lock, configurations, logs.
pub const ROOT: &str = "/run/carp-lab";
/// Where a kept lab pins the BPF programs of its switch.
pub const PINS: &str = "/sys/fs/bpf/carp-lab";
/// Prefix of every namespace of every lab.
pub const PREFIX: &str = "carplab-";

/// What a lab is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A test: processes die with the thread that started them, and their logs go to standard
    /// error at the end, where the test harness shows them for a test that failed.
    Test,
    /// To be watched: as a test, without the logs.
    Show,
    /// To be looked into afterwards: processes and namespaces may outlive this program.
    Keep,
}

/// Runs a test with each of these at the same time, each in a lab of its own: for tests that mostly wait.
///
/// # Errors
/// Those of the first that fails.
pub fn side_by_side<T: Send>(cases: Vec<T>, test: impl Fn(T) -> Result<()> + Sync) -> Result<()> {
    let test = &test;
    thread::scope(|scope| {
        let running: Vec<_> = cases.into_iter().map(|case| scope.spawn(move || test(case))).collect();
        let ended: Vec<_> = running.into_iter().map(thread::ScopedJoinHandle::join).collect();
        ended.into_iter().try_for_each(|result| result.map_err(|_| anyhow!("a test panicked"))?)
    })
}

/// A set of namespaces with one name, one folder and one guard.
///
/// The guard is a process of its own that waits for the end of a pipe. Dropping the lab closes the
/// pipe, and so does the end of this program, however it comes about; then the guard ends what
/// still runs in the lab's namespaces and removes them. So there is one way of cleaning up, and
/// every end goes that way. Should the guard die too, the next lab sweeps (see [`sweep`]).
pub struct Lab {
    id: String,
    folder: PathBuf,
    guard: Option<Child>,
    purpose: Purpose,
    /// Held while the lab lives; that is how a sweep knows.
    _lock: File,
    instances: RefCell<Vec<String>>,
}

impl Lab {
    /// An empty lab, after a sweep of what dead ones left behind.
    ///
    /// # Errors
    /// Without root, or when the folder or the guard cannot be made.
    pub fn new(purpose: Purpose) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "the lab makes network namespaces: run it as root");
        mount_bpffs()?;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        /// Between the making of a lock file and its lock, a sweep would take its lab for dead.
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let id = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        sweep::sweep(sweep::Which::Dead)?;
        let folder = Path::new(ROOT).join(&id);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let lock = File::create(folder.join("lock"))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .context("locking the lab's folder")?;
        let guard = Some(guard(&id)?);
        Ok(Self { id, folder, guard, purpose, _lock: lock, instances: RefCell::default() })
    }

    /// The lab's name: this process and a number.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The lab's folder, for configurations and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A name for an instance of carpd in this lab; its runtime folder and its pins are removed
    /// with the lab should it not do so itself.
    pub fn instance(&self, node: &str) -> String {
        let name = format!("{node}-lab{}", self.id);
        self.instances.borrow_mut().push(name.clone());
        name
    }

    /// A new namespace with loopback up.
    ///
    /// # Errors
    /// When `ip netns add` fails.
    pub fn namespace(&self, host: &str) -> Result<Namespace> {
        Namespace::create(host, &format!("{PREFIX}{}-{host}", self.id), &self.folder, self.purpose)
    }

    /// Lets something of BPF outlive this program, until the lab is removed.
    ///
    /// # Errors
    /// When it cannot be pinned.
    pub fn pin(&self, object: &OwnedFd, name: &str) -> Result<()> {
        let folder = Path::new(PINS).join(&self.id);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        bpf::pin(object, &folder.join(name))
    }

    /// Leaves everything up until [`clean`]. Only a lab for [`Purpose::Keep`] still has its
    /// processes then.
    ///
    /// # Errors
    /// When the mark cannot be written: then the lab is removed as usual.
    pub fn keep(mut self) -> Result<()> {
        fs::write(self.folder.join(sweep::KEPT), "")?;
        let Some(mut guard) = self.guard.take() else { return Ok(()) };
        if let Some(mut pipe) = guard.stdin.take() {
            pipe.write_all(b"keep\n")?;
        }
        guard.wait()?;
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let Some(mut guard) = self.guard.take() else { return };
        drop(guard.stdin.take());
        if let Err(error) = guard.wait() {
            eprintln!("warning: the lab's guard is lost ({error}); the next lab will sweep");
        }
    }
}

/// Removes every lab that was kept or left behind; those that are in use stay.
///
/// # Errors
/// When something cannot be listed or removed.
pub fn clean() -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "removing namespaces needs root");
    sweep::sweep(sweep::Which::DeadAndKept)
}

/// Makes what a daemon of this instance left look as if an older build had: its programs are replaced.
///
/// # Errors
/// When nothing is pinned.
pub fn age_build(instance: &str) -> Result<()> {
    let build = Path::new("/sys/fs/bpf/carp").join(instance).join("build");
    fs::remove_file(&build).with_context(|| format!("{}", build.display()))?;
    Ok(std::os::unix::fs::symlink("older", build)?)
}

/// bpffs is there on every system with systemd; a bare container or VM may lack it. It stays.
fn mount_bpffs() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    if mounts.lines().any(|line| line.split(' ').nth(1) == Some("/sys/fs/bpf")) {
        return Ok(());
    }
    let done = Command::new("mount").args(["-t", "bpf", "bpf", "/sys/fs/bpf"]).status()?;
    ensure!(done.success(), "cannot mount bpffs: try `mount -t bpf bpf /sys/fs/bpf`");
    Ok(())
}

/// Starts the guard in a process group of its own, so that Ctrl-C does not reach it.
fn guard(id: &str) -> Result<Child> {
    let mut shell = Command::new("sh");
    shell.args(["-c", GUARD, "guard"]).args([PREFIX, ROOT, id]);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    shell.spawn().context("starting the lab's guard, a shell")
}

/// Arguments: prefix of namespaces, root of folders, id. Also what a sweep runs.
const GUARD: &str = r#"
trap "" INT TERM HUP
read -r line && [ "$line" = keep ] && exit 0
for ns in $(ip netns list | cut -d' ' -f1 | grep "^$1$3-"); do
    pids=$(ip netns pids "$ns") && [ -n "$pids" ] && kill -KILL $pids
    ip netns del "$ns"
done
rm -rf /sys/fs/bpf/carp/*-lab"$3" /run/carp/*-lab"$3" /var/lib/carp/*-lab"$3" "$2/$3" /sys/fs/bpf/carp-lab/"$3"
rmdir /sys/fs/bpf/carp /run/carp /var/lib/carp /sys/fs/bpf/carp-lab "$2"
"#;
