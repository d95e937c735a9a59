//! The project's verbs. `cargo xtask help VERB` shows the examples of one verb.

mod bpf;
mod command;
mod fuzz;
mod live;
mod setup;
mod strip;
mod targets;
mod test;
mod tidy;
mod vmtest;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, checks and shows carp. Each verb first installs what it misses, so each works on a fresh machine.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "Examples:
  cargo xtask demo                 watch a virtual address move between two gateways
  cargo xtask test                 prove everything that is built
  cargo xtask test fmt tidy        only these two steps
  cargo xtask sim --seed 7         replay one simulated run
  cargo xtask bench datapath       measure the datapath against what it must be
  cargo xtask fuzz --seconds 60    every fuzz target for a minute";

#[derive(Subcommand)]
enum Verb {
    /// Install what is missing: distribution packages, BPF compiler, BPF linker, kernels for virtual machines
    Setup,
    /// Build the XDP and tc programs into target/bpf/carp-ebpf.o
    BuildEbpf,
    /// Check the house rules that the compiler does not know
    Tidy,
    /// Run every check; the last line counts them
    Test(test::Args),
    /// Run the tests that need a kernel on Debian's kernels, in virtual machines
    Vmtest(vmtest::Args),
    /// Two gateways, a client and a server in network namespaces, and three fail-overs
    Demo(live::Args),
    /// Run the simulator: whole nodes on a virtual clock
    Sim(live::Args),
    /// Measure the datapath or replication and say which musts are met
    Bench(live::Args),
    /// Run the fuzz targets of tests/fuzz
    Fuzz(fuzz::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Setup => setup::verb()?,
        Verb::BuildEbpf => {
            setup::ensure(setup::Scope::Build)?;
            println!("{}", bpf::build()?.display());
        }
        Verb::Tidy => tidy::verb()?,
        Verb::Test(args) => return test::verb(&args),
        Verb::Vmtest(args) => return vmtest::verb(&args),
        Verb::Demo(args) => live::demo(&args)?,
        Verb::Sim(args) => live::sim(&args)?,
        Verb::Bench(args) => live::bench(&args)?,
        Verb::Fuzz(args) => return fuzz::verb(&args),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_demo_reach_the_demo() {
        let line = ["xtask", "demo", "--keep", "--json", "out.json"];
        let Ok(Cli { verb: Verb::Demo(args) }) = Cli::try_parse_from(line) else {
            panic!("demo takes anything")
        };
        assert_eq!(args.rest, ["--keep", "--json", "out.json"]);
    }
}
