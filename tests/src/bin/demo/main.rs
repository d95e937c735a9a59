//! The demonstration: two gateways share one address; it moves three ways while a client talks
//! through it, and everything that the client noticed is counted. Namespaces only: nothing of this
//! machine's own network is touched, and all is gone at the end.

mod moves;
mod report;
mod screen;
mod translation;

use anyhow::{Context, Result};
use carp_common::time::Span;
use carp_tests::lab::carpd::{Carpd, product};
use carp_tests::lab::config::Config;
use carp_tests::lab::download::Download;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::replicating::fortify;
use carp_tests::lab::{self, Purpose};
use clap::Parser;
use moves::{Move, Stage};
use report::{Outcome, Visit};
use screen::Screen;
use std::path::PathBuf;
use std::process::ExitCode;

/// Moves a virtual address between two gateways three ways while a client downloads, and counts what it notices.
#[derive(Parser)]
#[command(
    name = "demo",
    after_help = "Exit codes: 0 every move took over, never two masters, the download came whole and no connection broke; 1 otherwise."
)]
struct Args {
    /// Leave the network and both daemons up, and say how to look inside
    #[arg(long)]
    keep: bool,
    /// Remove what an earlier --keep left up, and do nothing else
    #[arg(long, conflicts_with_all = ["keep", "json"])]
    clean: bool,
    /// Write the measurements to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode> {
    if args.clean {
        lab::clean()?;
        println!("no demo is left up");
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(file) = &args.json {
        // Better said now than after the show.
        std::fs::File::create(file).with_context(|| format!("writing {}", file.display()))?;
    }
    let mut screen = Screen::new();
    screen.line(
        "client ──── LAN ──── gw1 | gw2 ──── WAN ──── server      (network namespaces of this machine)",
    );
    let pair = Pair::new(if args.keep { Purpose::Keep } else { Purpose::Show })?;
    screen.event("the network is up; both gateways start carpd");
    let mut nodes = start(&pair)?;
    let done = show(args, &pair, &mut nodes, &mut screen);
    if args.keep {
        look_inside(&pair, &nodes, &mut screen)?;
        drop(nodes);
        pair.keep()?;
    }
    Ok(if done? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Election, moves, report. Gives whether all went well.
fn show(args: &Args, pair: &Pair, nodes: &mut [Carpd; 2], screen: &mut Screen) -> Result<bool> {
    screen.wait("the election", Span::secs(15), || elected(nodes))?;
    let addresses = "10.77.1.1 and fd77:1::1 on the LAN, 10.77.2.1 and fd77:2::1 on the WAN";
    screen.event(&format!("gw1 is MASTER, gw2 is BACKUP of {addresses}"));
    fortify(pair, translation::FIREWALL)?;
    let server = moves::SERVER.parse().context("the server's address")?;
    let download = Download::start(&pair.client, &pair.server, server)?;
    let visit = translation::visit(pair)?;
    screen.event(
        "the client downloads, and serves a port outside: a firewall passes only connections that it knows",
    );
    let outcomes = perform(pair, nodes, screen)?;
    let (download, visit) = (download.finish()?, Visit::of(visit));
    report::table(&outcomes, screen);
    screen.line(&format!("  {}\n  {}\n", report::download(&download), visit.summary()));
    if let Some(file) = &args.json {
        std::fs::write(file, report::json(&outcomes, &download, &visit))
            .with_context(|| format!("writing {}", file.display()))?;
    }
    let is_unbroken = download.is_whole && download.broke.is_none() && visit.broke.is_none();
    let good = outcomes.iter().all(Outcome::is_good) && is_unbroken;
    screen.event(if good {
        "every move took over, never two masters, the download is whole, and no connection broke"
    } else {
        "FAILED: see above"
    });
    Ok(good)
}

/// gw1 with skew 0, gw2 with skew 100: pfSense's primary and secondary. Both have the same NAT.
fn start(pair: &Pair) -> Result<[Carpd; 2]> {
    let config = Config::gateway().with_sync().with_rules(translation::NAT);
    let second = Carpd::start(&pair.lab, pair.gw2(), &config.clone().of_backup())?;
    let first = Carpd::start(&pair.lab, pair.gw1(), &config)?;
    Ok([first, second])
}

fn elected([first, second]: &[Carpd; 2]) -> bool {
    first.is_all("MASTER") && second.is_all("BACKUP") && first.windows().serves_all()
}

fn perform(pair: &Pair, nodes: &mut [Carpd; 2], screen: &mut Screen) -> Result<Vec<Outcome>> {
    let stage = Stage::set(pair, nodes)?;
    screen.wait("probes through the gateways", Span::secs(10), || stage.probes_return())?;
    screen.event("a probe leaves every millisecond: client, virtual address, server, and back");
    let [first, _] = nodes;
    screen.event(&translation::told(first)?);
    let moves = [Move::PlannedStop, Move::Kill, Move::LinkDown];
    let count = moves.len();
    moves
        .into_iter()
        .enumerate()
        .map(|(index, movement)| {
            screen.line("");
            screen.line(&format!("{} of {count}: {}", index + 1, movement.title()));
            stage.perform(movement, nodes, screen)
        })
        .collect()
}

fn look_inside(pair: &Pair, [first, second]: &[Carpd; 2], screen: &mut Screen) -> Result<()> {
    let enter = |name: &str| format!("  nsenter --net=/run/netns/{name}");
    let carpctl = product("carpctl")?;
    let carpctl = carpctl.display();
    let clean = std::env::current_exe()?;
    let (client, switch) = (enter(pair.client.name()), enter(pair.switch.name()));
    screen.line("\nIt stays up. To look inside, as root:");
    for node in [first, second] {
        screen.line(&format!("  {carpctl} --instance {} status", node.instance()));
    }
    screen.line(&format!("{client} ping 10.77.1.1"));
    screen.line(&format!("{client} ping {}", moves::SERVER));
    screen.line(&format!("{switch} tcpdump -i lan -n -T carp ip proto 112"));
    screen.line(&format!("{} ip -s link show lan0", enter(pair.gw1().name())));
    screen.line(&format!("{} {carpctl} nat", enter(pair.gw1().name())));
    screen.line(&format!("  less {}", first.files().carp.display()));
    screen.line(&format!("  less {}", pair.lab.folder().join("gw1-carpd.log").display()));
    screen.line(&format!("To take the cable of gw1 out and put it back:\n{switch} ip link set lan-gw1 down"));
    screen.line(&format!("{switch} ip link set lan-gw1 up"));
    screen.line(&format!(
        "To remove it all:\n  cargo xtask demo --clean      (or {} --clean)",
        clean.display()
    ));
    Ok(())
}
