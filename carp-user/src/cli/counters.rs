//! `carpctl counters`: what was refused, and what the datapath did, for every virtual host.

use super::health::EXIT_CODES;
use super::status::title;
use super::table::{columns, nonzero};
use super::view::{Source, View};
use crate::api::Host;
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// What was counted.
#[derive(Debug, clap::Args)]
#[command(
    after_help = format!("The exit code is 0 when carpd answers, however well the node is.\n\n{EXIT_CODES}\n\nExamples:\n  carpctl counters\n  carpctl counters --json | jq '.datapath[\"vip-fenced\"]'\n  carpctl counters --json | jq '.hosts[] | [.interface, .vhid, .datapath]'")
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

/// A table of adverts by virtual host, then one for each interface of what the datapath did there.
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
    }
    for (interface, hosts) in by_interface(&status.hosts) {
        text.push('\n');
        text += &columns(&datapath(interface, &hosts));
    }
    text
}

/// Counters downwards, the virtual hosts of an interface and their sum across.
fn datapath(interface: &str, hosts: &[&Host]) -> Vec<Vec<String>> {
    let head = ["DATAPATH".to_owned()].into_iter().chain(hosts.iter().map(|host| host.label()));
    let mut rows = vec![head.chain([format!("ALL OF {interface}")]).collect::<Vec<_>>()];
    rows.extend(sum(hosts).into_iter().map(|(counter, sum)| {
        let counts = hosts.iter().map(|host| host.datapath.get(&counter).copied().unwrap_or(0)).chain([sum]);
        let counts = counts.map(|count| count.to_string()).collect::<Vec<_>>();
        [vec![counter], counts].concat()
    }));
    rows
}

/// The virtual hosts that have a datapath, by interface.
fn by_interface(hosts: &[Host]) -> BTreeMap<&str, Vec<&Host>> {
    let mut interfaces: BTreeMap<&str, Vec<&Host>> = BTreeMap::new();
    for host in hosts.iter().filter(|host| !host.datapath.is_empty()) {
        interfaces.entry(&host.interface).or_default().push(host);
    }
    interfaces
}

fn sum(hosts: &[&Host]) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for (counter, count) in hosts.iter().flat_map(|host| &host.datapath) {
        *sum.entry(counter.clone()).or_default() += count;
    }
    sum
}

fn refusals(counts: &BTreeMap<String, u64>) -> String {
    let counts = nonzero(counts);
    if counts.is_empty() { "-".to_owned() } else { counts }
}

fn json(view: &View) -> Result<String> {
    let status = &view.status;
    let host = |host: &Host| match view.source {
        Source::Daemon => json!({
            "interface": host.interface, "vhid": host.vhid, "accepted": host.accepted,
            "sent": host.sent, "send_errors": host.send_errors, "refused": host.refused,
            "datapath": host.datapath,
        }),
        // The rest only the daemon knows.
        Source::Maps => {
            json!({ "interface": host.interface, "vhid": host.vhid, "datapath": host.datapath })
        }
    };
    let interfaces = by_interface(&status.hosts).into_iter();
    let interfaces: BTreeMap<_, _> = interfaces.map(|(name, hosts)| (name, sum(&hosts))).collect();
    let all = json!({
        "schema": status.schema, "age_ms": status.age_ms, "node": status.node, "source": view.source,
        "hosts": status.hosts.iter().map(host).collect::<Vec<_>>(), "stray": status.stray,
        "interfaces": interfaces, "datapath": status.counters,
    });
    Ok(serde_json::to_string_pretty(&all)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::super::health::Judgement;
    use super::*;
    use crate::api::Status;

    fn host(interface: &str, vhid: u8, answered: u64) -> Host {
        let refused = [("badauth".to_owned(), 2), ("badttl".to_owned(), 0)].into();
        let datapath = [("arp-answered".to_owned(), answered), ("vip-fenced".to_owned(), 0)].into();
        let interface = interface.to_owned();
        Host { interface, vhid, accepted: 10, sent: 7, refused, datapath, ..Host::default() }
    }

    fn view(source: Source) -> View {
        let (node, version) = ("gw1".to_owned(), "1.2.3".to_owned());
        let hosts = vec![host("lan0", 1, 4), host("wan0", 2, 5), host("lan0", 3, 60)];
        let counters = [("arp-answered".to_owned(), 69), ("vip-fenced".to_owned(), 0)].into();
        let status = Status { node, version, pid: 7, hosts, counters, ..Status::default() };
        View { judgement: Judgement::of(&status, source, None), status, source }
    }

    #[test]
    fn refusals_are_by_virtual_host_and_frames_by_interface_and_virtual_host() {
        assert_eq!(
            render(&view(Source::Daemon)),
            "\
gw1 (carpd 1.2.3, pid 7)
INTERFACE@VHID  ACCEPTED  SENT  SEND ERRORS  REFUSED
lan0@1          10        7     0            badauth 2
wan0@2          10        7     0            badauth 2
lan0@3          10        7     0            badauth 2
other           -         -     -            -

DATAPATH      lan0@1  lan0@3  ALL OF lan0
arp-answered  4       60      64
vip-fenced    0       0       0

DATAPATH      wan0@2  ALL OF wan0
arp-answered  5       5
vip-fenced    0       0
"
        );
    }

    #[test]
    fn json_has_the_same_and_of_the_maps_alone_only_what_they_know() -> Result<()> {
        let read = |source| -> Result<serde_json::Value> { Ok(serde_json::from_str(&json(&view(source))?)?) };
        let daemon = read(Source::Daemon)?;
        assert_eq!(daemon["hosts"][0]["refused"]["badauth"], 2);
        assert_eq!(daemon["hosts"][2]["datapath"]["arp-answered"], 60);
        assert_eq!(daemon["interfaces"]["lan0"]["arp-answered"], 64);
        assert_eq!(daemon["datapath"]["arp-answered"], 69);
        let maps = read(Source::Maps)?;
        assert_eq!(maps["hosts"][2]["datapath"]["arp-answered"], 60);
        assert!(maps["hosts"][2]["accepted"].is_null());
        Ok(())
    }
}
