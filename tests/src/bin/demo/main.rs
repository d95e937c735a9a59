//! The demonstration: two gateways share one address and one configuration; that is changed on one of them, and then the
//! address moves three ways, while a client talks through it, and everything that the client noticed is counted. Namespaces only: nothing of this
//! machine's own network is touched, and all is gone at the end.

mod editing;
mod moves;
mod report;
mod screen;
mod translation;

use anyhow::{Context, Result};
use carp_common::time::Span;
use carp_tests::lab::carpd::{Carpd, product};
use carp_tests::lab::config::Config;
use carp_tests::lab::download::Download;
use carp_tests::lab::follow;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::replicating::fortify;
use carp_tests::lab::{self, Purpose};
use clap::Parser;
use moves::{Move, Stage};
use report::{Edit, Outcome, Visit};
use screen::Screen;
use std::path::PathBuf;
use std::process::ExitCode;

/// Changes the configuration of two gateways, then moves a virtual address between them three ways, while a client
/// downloads, and counts what it notices.
#[derive(Parser)]
#[command(
    name = "demo",
    after_help = "Exit codes: 0 the other node followed, every move took over, never two masters, the download came whole and no connection broke; 1 otherwise."
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
    let (edits, outcomes) = perform(pair, nodes, screen)?;
    let (download, visit) = (download.finish()?, Visit::of(visit));
    report::table(&outcomes, screen);
    screen.line(&format!("  {}\n  {}\n", report::download(&download), visit.summary()));
    if let Some(file) = &args.json {
        std::fs::write(file, report::json(&edits, &outcomes, &download, &visit))
            .with_context(|| format!("writing {}", file.display()))?;
    }
    let is_unbroken = download.is_whole && download.broke.is_none() && visit.broke.is_none();
    let good = edits.iter().all(Edit::is_good) && outcomes.iter().all(Outcome::is_good) && is_unbroken;
    screen.event(if good {
        "gw2 followed, every move took over, never two masters, the download is whole, no connection broke"
    } else {
        "FAILED: see above"
    });
    Ok(good)
}

/// gw1 with skew 0, gw2 with skew 100: pfSense's primary and secondary. Both have the same NAT, and gw2 follows gw1.
fn start(pair: &Pair) -> Result<[Carpd; 2]> {
    let plain = Config::gateway().as_one().with_sync().with_rules(translation::NAT);
    let mut config = Config { own: follow::TABLE, ..plain.clone() };
    config.interfaces.push(follow::dmz(pair)?);
    let mut first = Carpd::configure(&pair.lab, pair.gw1(), &config)?;
    let mut second = Carpd::configure(&pair.lab, pair.gw2(), &plain.of_backup())?;
    follow::trust(&first, &second)?;
    second.run()?;
    first.run()?;
    Ok([first, second])
}

fn elected([first, second]: &[Carpd; 2]) -> bool {
    first.is_all("MASTER") && second.is_all("BACKUP") && first.windows().serves_all()
}

fn perform(pair: &Pair, nodes: &mut [Carpd; 2], screen: &mut Screen) -> Result<(Vec<Edit>, Vec<Outcome>)> {
    let stage = Stage::set(pair, nodes)?;
    screen.wait("probes through the gateways", Span::secs(10), || stage.probes_return())?;
    screen.event("a probe leaves every millisecond: client, virtual address, server, and back");
    let [first, _] = nodes;
    screen.event(&translation::told(first)?);
    let moves = [Move::PlannedStop, Move::Kill, Move::LinkDown];
    let count = moves.len() + 1;
    let mut next = 0;
    let mut announce = |title: &str, screen: &mut Screen| {
        next += 1;
        screen.line("");
        screen.line(&format!("{next} of {count}: {title}"));
    };
    announce("edited on gw1 alone: a new VIP and another NAT rule; then a mistake", screen);
    let edits = editing::perform(&stage, pair, nodes, screen)?;
    let moves = moves.into_iter().map(|movement| {
        announce(movement.title(), screen);
        stage.perform(movement, nodes, screen)
    });
    Ok((edits, moves.collect::<Result<_>>()?))
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
