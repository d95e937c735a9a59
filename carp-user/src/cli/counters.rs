//! `carpctl counters`: what the datapath did, and what was refused.

use super::health::EXIT_CODES;
use super::status::title;
use super::table::{columns, nonzero};
use super::view::{Source, View};
use anyhow::Result;
use serde_json::json;
use std::process::ExitCode;

/// What was counted.
#[derive(Debug, clap::Args)]
#[command(
    after_help = format!("The exit code is 0 when carpd answers, however well the node is.\n\n{EXIT_CODES}\n\nExamples:\n  carpctl counters\n  carpctl counters --json | jq '.datapath[\"vip-fenced\"]'")
)]
pub struct Args {
    /// Print JSON (its `schema` says the version) instead of tables.
    #[arg(long)]
    json: bool,
}

/// Prints the counters of an instance.
///
/// # Errors
/// When neither the daemon nor the pinned maps tell.
pub fn run(args: &Args, name: Option<&str>) -> Result<ExitCode> {
    let view = View::look(name, None)?;
    super::print(&if args.json { json(&view)? } else { render(&view) });
    Ok(match view.source {
        Source::Daemon => ExitCode::SUCCESS,
        Source::Maps => view.judgement.health.code().into(),
    })
}

/// Two tables: adverts by virtual host, frames by what the datapath did with them.
pub fn render(view: &View) -> String {
    let status = &view.status;
    let mut text = title(view);
    if view.source == Source::Daemon {
        let head = ["INTERFACE@VHID", "ACCEPTED", "SENT", "SEND ERRORS", "REFUSED"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(status.hosts.iter().map(|host| {
            let [accepted, sent, errors] =
                [host.accepted, host.sent, host.send_errors].map(|count| count.to_string());
            vec![host.label(), accepted, sent, errors, refusals(&host.refused)]
        }));
        let dash = || "-".to_owned();
        rows.push(vec!["other".to_owned(), dash(), dash(), dash(), refusals(&status.stray)]);
        text += &columns(&rows);
        text.push('\n');
    }
    let mut rows = vec![vec!["DATAPATH".to_owned(), "FRAMES".to_owned()]];
    rows.extend(status.counters.iter().map(|(name, count)| vec![name.clone(), count.to_string()]));
    text + &columns(&rows)
}

fn refusals(counts: &std::collections::BTreeMap<String, u64>) -> String {
    let counts = nonzero(counts);
    if counts.is_empty() { "-".to_owned() } else { counts }
}

fn json(view: &View) -> Result<String> {
    let status = &view.status;
    let hosts = status.hosts.iter().map(|host| {
        json!({
            "interface": host.interface, "vhid": host.vhid, "accepted": host.accepted,
            "sent": host.sent, "send_errors": host.send_errors, "refused": host.refused,
        })
    });
    let hosts: Vec<_> = if view.source == Source::Daemon { hosts.collect() } else { Vec::new() };
    let all = json!({
        "schema": status.schema, "age_ms": status.age_ms, "node": status.node, "source": view.source,
        "hosts": hosts, "stray": status.stray, "datapath": status.counters,
    });
    Ok(serde_json::to_string_pretty(&all)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::super::health::Judgement;
    use super::*;
    use crate::api::{Host, Status};

    #[test]
    fn refusals_are_by_virtual_host_and_frames_by_what_was_done() -> Result<()> {
        let refused = [("badauth".to_owned(), 2), ("badttl".to_owned(), 0)].into();
        let host =
            Host { interface: "lan0".to_owned(), vhid: 1, accepted: 10, sent: 7, refused, ..Host::default() };
        let (node, version) = ("gw1".to_owned(), "1.2.3".to_owned());
        let counters = [("arp-answered".to_owned(), 4), ("vip-fenced".to_owned(), 0)].into();
        let status = Status { node, version, pid: 7, hosts: vec![host], counters, ..Status::default() };
        let source = Source::Daemon;
        let view = View { judgement: Judgement::of(&status, source, None), status, source };
        assert_eq!(
            render(&view),
            "\
gw1 (carpd 1.2.3, pid 7)
INTERFACE@VHID  ACCEPTED  SENT  SEND ERRORS  REFUSED
lan0@1          10        7     0            badauth 2
other           -         -     -            -

DATAPATH      FRAMES
arp-answered  4
vip-fenced    0
"
        );
        let json: serde_json::Value = serde_json::from_str(&json(&view)?)?;
        assert_eq!(json["hosts"][0]["refused"]["badauth"], 2);
        assert_eq!(json["datapath"]["arp-answered"], 4);
        Ok(())
    }
}
