//! `setup`: everything that a verb needs and cargo cannot bring.

mod apt;
mod debian;
mod linker;

use anyhow::Result;

use crate::{bpf, vmtest};

pub use debian::{Debian, lock, workplace};
pub use linker::find as find_linker;

/// How much of it a verb needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// What compiling takes; every verb needs it.
    Build,
    /// Also what the demo's namespaces take.
    Demo,
    /// Also what the demo takes, and the peers and dissectors of the tests.
    Test,
    /// Also what the fuzzer's C++ runtime takes.
    Fuzz,
    /// Also what the tests take, and what virtual machines with other kernels do.
    Vm,
}

impl Scope {
    fn includes(self, other: Self) -> bool {
        match self {
            Self::Build | Self::Demo | Self::Fuzz => other == Self::Build || other == self,
            Self::Test => other != Self::Fuzz && other != Self::Vm,
            Self::Vm => other != Self::Fuzz,
        }
    }
}

/// `cargo xtask setup`: install everything that `cargo xtask test` needs, one line per item.
pub fn verb() -> Result<()> {
    let report = Report::Everything;
    apt::components(report)?;
    work(Scope::Vm, report)?;
    for (kernel, is_new) in vmtest::kernels_of_step()? {
        report.item(&format!("kernel {kernel}"), is_new);
    }
    Ok(())
}

/// Installs what `scope` misses; silent when that is nothing.
pub fn ensure(scope: Scope) -> Result<()> {
    work(scope, Report::Changes)
}

/// Whether all packages of `scope` are here.
pub fn has(scope: Scope) -> bool {
    apt::missing(scope, Report::Changes).is_empty()
}

/// Installs rustfmt and clippy where rustup left them out.
pub fn ensure_lints() -> Result<()> {
    apt::components(Report::Changes)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Report {
    Everything,
    Changes,
}

impl Report {
    fn item(self, item: &str, is_fresh: bool) {
        if is_fresh {
            self.installed(item);
        } else {
            self.present(item);
        }
    }

    fn present(self, item: &str) {
        if self == Self::Everything {
            println!("present    {item}");
        }
    }

    fn installed(self, item: &str) {
        println!("installed  {item}");
    }
}

fn work(scope: Scope, report: Report) -> Result<()> {
    apt::packages(scope, report)?;
    // Whoever brings a compiler that can do BPF keeps it; else Debian's goes into the cache.
    if bpf::own_compiler()?.is_none() {
        let (debian, fresh) = Debian::find_or_fetch()?;
        report.item(&format!("BPF compiler in {}", debian.root().display()), fresh);
    }
    let (linker, fresh) = linker::find_or_build(&bpf::compiler()?)?;
    report.item(&format!("BPF linker {}", linker.display()), fresh);
    Ok(())
}
