//! nft itself reads what is rendered for it, as fast as it must.

use anyhow::{Context, Result, ensure};
use carp_common::time::Span;
use carp_tests::lab::namespace::Namespace;
use carp_tests::lab::{Lab, Purpose, clock};
use carp_user::config::{Source, parse};
use carp_user::io::nft::{self, Usage};
use carp_user::ruleset::Ruleset;
use std::fmt::Write;
use std::process::Command;

const EVERY_KIND: &str = include_str!("../../carp-user/src/ruleset/tests/every-kind.toml");
const FOREIGN: &str = include_str!("../../carp-user/src/ruleset/tests/foreign.nft");

#[test]
fn every_kind_of_rule_is_loaded_checked_counted_and_removed() -> Result<()> {
    let lab = Lab::new(Purpose::Test)?;
    let host = lab.namespace("gw1")?;
    let rules = rules(EVERY_KIND)?;
    host.enter(|| {
        nft::check(&rules)?;
        ensure!(nft::usage()?.is_none(), "a check changes nothing");
        nft::apply(&rules)?;
        nft::apply(&rules)?;
        let usage = nft::usage()?.context("a table")?;
        let of = |kind: &str| usage.iter().filter(|usage| usage.rule.starts_with(kind)).count();
        let counts =
            ["forward", "hairpin", "one-to-one", "outbound", "prefix", "own", "sync", "carp-strangers"]
                .map(of);
        ensure!(counts == [3, 1, 1, 4, 1, 1, 2, 1], "{usage:#?}");
        ensure!(usage.iter().all(|Usage { packets, bytes, .. }| (*packets, *bytes) == (0, 0)));
        nft::remove()?;
        nft::remove()?;
        ensure!(nft::usage()?.is_none(), "it is removed");
        Ok(())
    })
}

#[test]
fn what_a_foreign_firewall_must_hold_is_what_nft_reads() -> Result<()> {
    let lab = Lab::new(Purpose::Test)?;
    let host = lab.namespace("gw1")?;
    let chain = |hook: &str| -> String {
        let begun = FOREIGN.lines().skip_while(|line| *line != format!("# {hook}")).skip(1);
        let rules: Vec<&str> = begun.take_while(|line| !line.starts_with('#')).collect();
        format!(
            "chain {hook} {{\ntype filter hook {hook} priority 0; policy drop;\n{}\n}}\n",
            rules.join("\n")
        )
    };
    let table = format!("table inet filter {{\n{}}}\n", ["input", "output", "forward"].map(chain).concat());
    host.load_rules(&table).with_context(|| table.clone())?;
    let listed = stateless(&host)?;
    ensure!(listed.matches(" accept").count() == FOREIGN.matches(" accept").count(), "{listed}");
    Ok(())
}

#[test]
fn five_thousand_rules_are_loaded_within_two_seconds() -> Result<()> {
    let lab = Lab::new(Purpose::Test)?;
    let host = lab.namespace("gw1")?;
    let mut text = String::new();
    for number in 0..1250 {
        let (high, low) = (number / 250, number % 250 + 1);
        write!(
            text,
            "[[nat.outbound]]\nsource = [\"10.1.{high}.{low}\"]\ninterface = \"wan\"\nto = \"192.0.2.1\"\n\
             [[nat.forward]]\nto = \"192.0.2.1\"\nport = {}\nhost = \"10.2.{high}.{low}\"\n\
             [[nat.forward]]\nto = \"192.0.2.1\"\nport = \"{}-{}\"\nprotocol = \"udp\"\nhost = \"10.3.{high}.{low}\"\n\
             [[nat.forward]]\nto = \"2001:db8::1\"\nport = {}\nhost = \"fd00:1::{high}:{low}\"\nhairpin = true\n",
            number + 1,
            number * 10 + 1,
            number * 10 + 9,
            number + 1
        )?;
    }
    let begun = clock::now();
    let rules = rules(&text)?;
    let read = clock::now();
    host.enter(|| Ok(nft::apply(&rules)?))?;
    let (read, took) = (read.since(begun), clock::now().since(read));
    println!("read in {read}, loaded in {took}");
    // A build for tests reads slower than what is shipped.
    ensure!(read < Span::secs(1) && took < Span::secs(2), "read in {read}, loaded in {took}");
    Ok(())
}

/// A pair's configuration with these.
fn rules(text: &str) -> Result<Ruleset> {
    let text = format!(
        "[node]\nname = \"gw1\"\n[node.interfaces]\nlan = \"lan0\"\nwan = \"wan0\"\n\
         [sync]\ninterface = \"sync0\"\naddress = \"10.255.0.1\"\npeer = \"10.255.0.2\"\nkey_file = \"key\"\n\
         [[virtual_host]]\ninterface = \"lan\"\nvhid = 1\naddresses = [\"10.0.0.1/24\", \"fd00::1/64\"]\npassword_file = \"pw\"\n\
         [[virtual_host]]\ninterface = \"wan\"\nvhid = 2\n\
         addresses = [\"192.0.2.1/24\", \"192.0.2.9\", \"2001:db8::1/64\"]\npassword_file = \"pw\"\n{text}"
    );
    let read = |file: &std::path::Path| {
        let is_password = file.as_os_str() == "pw";
        Ok(if is_password { b"secret".to_vec() } else { "0a".repeat(32).into_bytes() }.into())
    };
    Ruleset::of(&parse(Source { name: "carp.toml".into(), text }, None, read)?).context("rules")
}

fn stateless(host: &Namespace) -> Result<String> {
    let output = host.output(Command::new("nft").args(["--stateless", "list", "ruleset"]))?;
    Ok(String::from_utf8(output.stdout)?)
}
