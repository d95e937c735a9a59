//! The steps of `test`, in their order.

use anyhow::{Result, bail};
use clap::ValueEnum;

use super::Outcome;
use super::tally;
use crate::command::{cargo, is_root, run, target_dir, which};
use crate::{bpf, live, targets, tidy, vmtest};

/// Simulated runs in a test; `cargo xtask sim --count N` hunts through more.
const SIM_RUNS: &str = "10000";
/// The same of gateways whose virtual hosts move as one.
const GROUP_RUNS: &str = "2000";

/// A step; the order here is the order of running: what is fast and often fails comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Step {
    /// rustfmt, all crates
    Fmt,
    /// The house rules that no compiler knows
    Tidy,
    /// The BPF programs build
    Ebpf,
    /// Lints for the host and for the BPF target
    Clippy,
    /// Licences and sources of dependencies, where cargo-deny is installed
    Deny,
    /// Unit, integration and documentation tests that need no privilege
    Unit,
    /// The simulator with fixed seeds
    Sim,
    /// The BPF programs in the kernel (root)
    Xdp,
    /// Real daemons in network namespaces (root)
    Lab,
    /// The datapath and a fail-over on the oldest and the newest kernel (QEMU)
    Vm,
}

impl Step {
    /// The wanted steps, or all, in order; a step that embeds the BPF programs brings their build along.
    pub fn plan(wanted: &[Self]) -> Vec<Self> {
        let mut plan: Vec<Self> = if wanted.is_empty() {
            // What a machine does not have by chance is no skip.
            Self::value_variants().iter().copied().filter(|step| *step != Self::Deny || has_deny()).collect()
        } else {
            wanted.to_vec()
        };
        if plan.iter().any(|step| step.needs_programs()) {
            plan.push(Self::Ebpf);
        }
        plan.sort();
        plan.dedup();
        plan
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Tidy => "tidy",
            Self::Ebpf => "ebpf",
            Self::Clippy => "clippy",
            Self::Deny => "deny",
            Self::Unit => "unit",
            Self::Sim => "sim",
            Self::Xdp => "xdp",
            Self::Lab => "lab",
            Self::Vm => "vm",
        }
    }

    /// Whether it compiles the daemon, which embeds the BPF programs.
    pub fn needs_programs(self) -> bool {
        match self {
            Self::Clippy | Self::Unit | Self::Sim | Self::Xdp | Self::Lab | Self::Vm => true,
            Self::Fmt | Self::Tidy | Self::Ebpf | Self::Deny => false,
        }
    }

    /// Runs it.
    pub fn run(self) -> Result<Outcome> {
        match self {
            Self::Fmt => run(cargo().args(["fmt", "--all", "--check"]))?,
            Self::Tidy => tidy::verb()?,
            Self::Ebpf => drop(bpf::build()?),
            Self::Clippy => {
                let host = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
                let on_host = run(cargo().args(host));
                bpf::lint()?; // also when the host's lints fail: one run shows all of them
                on_host?;
            }
            Self::Deny if !has_deny() => bail!("cargo-deny is not installed"),
            Self::Deny => run(cargo().args(["deny", "--locked", "check", "bans", "licenses", "sources"]))?,
            Self::Unit => return unit(),
            Self::Sim => {
                live::build_release()?;
                run(live::program("sim").args(["--count", SIM_RUNS]))?;
                run(live::program("sim").args(["--groups", "--count", GROUP_RUNS]))?;
            }
            Self::Xdp => return privileged("xdp_"),
            Self::Lab => {
                live::build_release()?; // the daemons that the lab starts
                return privileged("lab_");
            }
            Self::Vm => return vmtest::step(),
        }
        Ok(Outcome::Passed)
    }
}

fn has_deny() -> bool {
    which("cargo-deny").is_some()
}

/// Everything that needs no privilege. One selection of packages for all runs: another one could choose other
/// features for a dependency and build it again.
fn unit() -> Result<Outcome> {
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--locked", "--no-fail-fast", "--lib", "--bins"]);
    let privileged = targets::with_prefix(&targets::PRIVILEGED)?;
    for name in targets::all()?.iter().filter(|name| !privileged.contains(name)) {
        tests.args(["--test", name]);
    }
    let mut total = tally::run(&mut tests)?;
    total.add(tally::run(cargo().args(["test", "--workspace", "--locked", "--no-fail-fast", "--doc"]))?);
    Ok(Outcome::Ran(total))
}

/// Test targets that load programs and make namespaces: one after the other, for they share the machine.
fn privileged(prefix: &str) -> Result<Outcome> {
    let targets = targets::with_prefix(&[prefix])?;
    if targets.is_empty() {
        return Ok(Outcome::Skipped("no such test targets"));
    }
    if !is_root() {
        return Ok(Outcome::Skipped("needs root"));
    }
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    tests.env("CARP_PROGRAMS", target_dir().join("release")); // the lab's daemons: cargo builds no binaries here
    for name in &targets {
        tests.args(["--test", name]);
    }
    tests.args(["--", "--test-threads=1"]);
    tally::run(&mut tests).map(Outcome::Ran)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_steps_run_in_the_usual_order_and_bring_the_programs_along() {
        let names = |wanted: &[Step]| Step::plan(wanted).into_iter().map(Step::name).collect::<Vec<_>>();
        assert_eq!(names(&[Step::Tidy, Step::Fmt, Step::Tidy]), ["fmt", "tidy"]);
        assert_eq!(names(&[Step::Unit]), ["ebpf", "unit"]);
    }

    #[test]
    fn a_step_is_called_on_the_command_line_what_it_is_called_in_the_summary() {
        for step in Step::value_variants() {
            let named = step.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(named.as_deref(), Some(step.name()));
        }
    }
}
