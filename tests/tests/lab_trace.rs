//! `carpctl trace`: what the two datapaths of a pair answer and drop, with their daemons and without.

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData};
use carp_common::map::{TRACE, TRACE_UNTIL};
use carp_common::time::{Instant, Span};
use carp_tests::lab::carpd::{Carpd, product};
use carp_tests::lab::clock;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::{Duo, PATIENCE};
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::ping::ping;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

#[test]
fn the_master_tells_of_its_answer_and_the_backup_of_its_silence_with_and_without_daemons() -> Result<()> {
    let mut duo = Duo::elected(&Config::gateway())?;
    for alive in [true, false] {
        if !alive {
            duo.gw2.kill()?;
            duo.gw1.kill()?;
        }
        let traces = [&duo.gw1, &duo.gw2].map(|node| start(node, &["--seconds", "1", "--json"]));
        clock::wait_for("both logs to be on", PATIENCE, || {
            let on = [&duo.gw1, &duo.gw2].map(|node| until(node).ok());
            on.iter().all(|until| *until > Some(clock::now())).then_some(())
        })?;
        ask(&duo.pair.client)?;
        for (trace, decision) in traces.into_iter().zip(["arp-answered", "arp-silent"]) {
            let told = lines(trace?)?;
            let is_it = |line: &&Value| line["decision"] == decision;
            let line = told.iter().find(is_it).with_context(|| format!("no {decision}: {told:?}"))?;
            assert_eq!((&line["interface"], &line["vhid"]), (&"lan0".into(), &1.into()), "{line}");
            assert_eq!(line["frame_len"], 42, "{line}");
            assert_eq!(&line["frame"].as_str().context("bytes")?[24..28], "0806", "{line}");
        }
    }
    Ok(())
}

#[test]
fn the_log_is_for_one_reader_and_goes_off_with_it_even_when_that_is_killed() -> Result<()> {
    let duo = Duo::elected(&Config::gateway())?;
    assert_eq!(until(&duo.gw1)?, Instant::ZERO, "off from the start");
    let mut trace = start(&duo.gw1, &["--seconds", "60"])?;
    let is_on = || until(&duo.gw1).is_ok_and(|until| until > clock::now());
    clock::wait_for("the log to be on", PATIENCE, || is_on().then_some(()))?;
    let second = duo.gw1.namespace().output(&mut carpctl(&duo.gw1, &["--seconds", "1"])?)?;
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another carpctl reads the log"));
    trace.kill()?;
    trace.wait()?;
    let killed = clock::now();
    clock::wait_for("the log to go off", PATIENCE, || (!is_on()).then_some(()))?;
    ensure!(clock::now().since(killed) < Span::millis(1_500), "a second after its reader's end");
    let output = duo.gw1.namespace().output(&mut carpctl(&duo.gw1, &["--seconds", "1"])?)?;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(until(&duo.gw1)?, Instant::ZERO, "off when done");
    Ok(())
}

/// The client has forgotten the LAN's VIP, and asks for it.
fn ask(client: &Namespace) -> Result<()> {
    client.ip("neigh flush all")?;
    ping(client, "10.77.1.1".parse()?, Span::millis(500)).map(drop)
}

fn carpctl(node: &Carpd, words: &[&str]) -> Result<Command> {
    let mut command = Command::new(product("carpctl")?);
    command.args(["--instance", node.instance(), "trace"]).args(words);
    Ok(command)
}

fn start(node: &Carpd, words: &[&str]) -> Result<Child> {
    let mut command = carpctl(node, words)?;
    Ok(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?)
}

fn lines(mut trace: Child) -> Result<Vec<Value>> {
    let output = BufReader::new(trace.stdout.take().context("no pipe")?);
    let lines = output.lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect();
    ensure!(trace.wait()?.success(), "trace has failed");
    lines
}

fn until(node: &Carpd) -> Result<Instant> {
    let pin = Path::new("/sys/fs/bpf/carp").join(node.instance()).join(TRACE);
    let switch: Array<_, u64> = Array::try_from(Map::Array(MapData::from_pin(pin)?))?;
    Ok(Instant::from_nanos(switch.get(&TRACE_UNTIL, 0)?))
}
