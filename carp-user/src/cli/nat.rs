//! `carpctl nat`: the rules in nftables, and how often each was used.

use super::table::columns;
use crate::io::nft::{self, Usage};
use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::to_string_pretty;

/// Show the rules of NAT and of the firewall that are loaded here, and how often each was used.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A rule of NAT sees the first packet of each connection only: its packets are connections. The counts begin anew when rules are loaded.\n\n\
                        Examples:\n  carpctl nat\n  carpctl nat --json | jq '.rules[] | select(.packets == 0).rule'"
)]
pub struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Version of the JSON.
const SCHEMA: u32 = 1;

#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    rules: Vec<Rule>,
}

/// One rule of the configuration.
#[derive(Debug, Serialize)]
struct Rule {
    /// Kind and number in the configuration, `forward 1`; of the firewall, its name.
    rule: String,
    /// What it does.
    what: String,
    packets: u64,
    bytes: u64,
}

/// Prints them.
///
/// # Errors
/// When there are none, and what nft says.
pub fn run(args: &Args) -> Result<()> {
    let Some(usage) = nft::usage()? else {
        bail!(
            "there is no table inet carp of nftables here: either carpd does not run, or its configuration has neither \
             [[nat]] nor [firewall]"
        );
    };
    let rules = usage.into_iter().map(Rule::from).collect();
    super::print(&if args.json {
        to_string_pretty(&Report { schema: SCHEMA, rules })? + "\n"
    } else {
        render(&rules)
    });
    Ok(())
}

fn render(rules: &[Rule]) -> String {
    let head = ["RULE", "PACKETS", "BYTES", "WHAT"].map(str::to_owned).to_vec();
    let row = |rule: &Rule| {
        let Rule { rule, what, packets, bytes } = rule;
        vec![rule.clone(), packets.to_string(), bytes.to_string(), what.clone()]
    };
    let rows: Vec<_> = std::iter::once(head).chain(rules.iter().map(row)).collect();
    columns(&rows)
}

impl From<Usage> for Rule {
    fn from(Usage { rule, packets, bytes }: Usage) -> Self {
        let (rule, what) = rule.split_once(": ").map_or((rule.as_str(), ""), |parts| parts);
        Self { rule: rule.to_owned(), what: what.to_owned(), packets, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_a_line() {
        let usage = |rule: &str, packets| Usage { rule: rule.to_owned(), packets, bytes: packets * 60 };
        let rules = [usage("forward 1: tcp 192.0.2.1:443 to 10.0.0.5:8443", 12), usage("odd", 0)];
        let rules: Vec<Rule> = rules.into_iter().map(Rule::from).collect();
        assert_eq!(
            render(&rules),
            "RULE       PACKETS  BYTES  WHAT\n\
             forward 1  12       720    tcp 192.0.2.1:443 to 10.0.0.5:8443\n\
             odd        0        0\n"
        );
    }
}
