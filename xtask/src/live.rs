//! The verbs that build the product and let it run: `demo`, `sim` and `bench`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::bpf;
use crate::command::{cargo, run, target_dir};
use crate::setup::{self, Scope};

/// Passed on as they are; `cargo xtask demo -- --help` shows which there are.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask demo --keep           leave the network up and say how to look inside
  cargo xtask demo --json out.json  the measurements as a file
  cargo xtask sim --seed 7          one run with its time line
  cargo xtask sim --count 10000     hunt through many seeds
  cargo xtask sim --groups          the same for virtual hosts that move as one
  cargo xtask bench datapath        what the datapath takes, next to what it must take
  cargo xtask bench sync            what replication takes, next to conntrackd
  cargo xtask bench failover        what a client sees of a move, next to keepalived")]
pub struct Args {
    /// Arguments of the program itself
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<String>,
}

/// Builds everything in release and becomes the demo, so that Ctrl-C reaches it directly.
pub fn demo(args: &Args) -> Result<()> {
    setup::ensure(Scope::Demo)?;
    become_program("demo", args)
}

/// Builds everything in release and becomes the simulator.
pub fn sim(args: &Args) -> Result<()> {
    setup::ensure(Scope::Build)?;
    become_program("sim", args)
}

/// Builds everything in release and becomes the benchmarks.
pub fn bench(args: &Args) -> Result<()> {
    setup::ensure(Scope::Test)?;
    become_program("bench", args)
}

/// The release builds of the daemon and of the test programs.
pub fn build_release() -> Result<()> {
    run(cargo().args(["build", "--release", "--locked", "--package", "carp-user", "--package", "carp-tests"]))
}

/// A program of carp-tests.
pub fn program(name: &str) -> Command {
    Command::new(target_dir().join("release").join(name))
}

fn become_program(name: &str, args: &Args) -> Result<()> {
    bpf::build()?;
    build_release()?;
    let mut program = program(name);
    let error = program.args(&args.rest).exec();
    Err(error).with_context(|| format!("cannot start {}", program.get_program().to_string_lossy()))
}
