//! carpd and a VRRP router on one segment, with the same number: a mistake, and no accident.

use anyhow::{Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::PATIENCE;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::ping::ping;
use carp_tests::lab::process::Process;
use carp_tests::lab::{Purpose, clock};
use std::fs;
use std::net::IpAddr;
use std::process::Command;

/// Three intervals of either.
const A_WHILE: Span = Span::secs(4);
const THEIR_VIP: &str = "10.77.1.77";

#[test]
fn item_109_keepalived_with_our_number_hurts_neither_and_is_warned_of() -> Result<()> {
    for version in [2, 3] {
        let pair = Pair::new(Purpose::Test)?;
        let mut ours = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway().for_ucarp())?;
        ours.wait_role("MASTER", PATIENCE)?;
        let mut theirs = keepalived(&pair, version)?;
        for vip in ["10.77.1.1", THEIR_VIP] {
            answers(&pair, vip.parse()?)?;
        }

        let foreign = || ours.refused(0, "vrrp").ok().filter(|count| *count >= 1);
        // It says that ours are too short, and as long as it hears them each second, no more than once that it is master.
        clock::wait_for("its advert, known for what it is", PATIENCE, foreign)?;
        clock::sleep_until(clock::now() + A_WHILE);
        ensure!(ours.is_all("MASTER"), "VRRP {version}: {}", ours.status()?);
        ensure!(theirs.ended()?.is_none(), "keepalived ended: {}", theirs.log());
        for vip in ["10.77.1.1", THEIR_VIP] {
            answers(&pair, vip.parse()?)?;
        }
        let log = ours.process()?.log();
        let warnings = log.matches("a VRRP router uses this number on the segment").count();
        ensure!(warnings == 1, "once a minute: {log}");
        theirs.signal(rustix::process::Signal::TERM)?;
        theirs.wait(Span::secs(15))?;
    }
    Ok(())
}

/// Master of the virtual router with our vhid as its VRID, with a VIP of its own.
fn keepalived(pair: &Pair, version: u8) -> Result<Process> {
    let folder = pair.lab.folder();
    let file = |name: &str| folder.join(format!("keepalived.{name}")).display().to_string();
    let text = format!(
        "global_defs {{
    vrrp_version {version}
}}
vrrp_instance V {{
    state MASTER
    interface lan0
    virtual_router_id 1
    priority 200
    advert_int 1
    virtual_ipaddress {{
        {THEIR_VIP}/24
    }}
}}
"
    );
    fs::write(file("conf"), text)?;
    let mut command = Command::new("keepalived");
    command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file", &file("conf")]);
    command.args(["--pid", &file("pid"), "--vrrp_pid", &file("vrrp-pid")]);
    pair.gw2().spawn("keepalived", command)
}

fn answers(pair: &Pair, vip: IpAddr) -> Result<()> {
    clock::wait_for(&format!("a reply of {vip}"), PATIENCE, || {
        ping(&pair.client, vip, Span::millis(500)).ok().flatten().map(drop)
    })
}
