//! Independent dissectors read from our advertisements what we meant to send.

use anyhow::{Context, Result, ensure};
use carp_common::id::Vhid;
use carp_common::pace::Pace;
use carp_common::time::Span;
use carp_common::wire::advert::{Envelope, Heard, NETWORK_CONTROL};
use carp_common::wire::carp::Advert;
use carp_tests::lab::adverts::{Listener, Seen};
use carp_tests::lab::carpd::Carpd;
use carp_tests::lab::config::Config;
use carp_tests::lab::duo::PATIENCE;
use carp_tests::lab::pair::Pair;
use carp_tests::lab::process::run;
use carp_tests::lab::{Lab, Purpose, clock};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn tshark_and_tcpdump_read_the_fields_that_we_send() -> Result<()> {
    let pair = Pair::new(Purpose::Test)?;
    let adverts = Listener::start(&pair.switch, &["lan-gw1"])?;
    let mut carpd = Carpd::start(&pair.lab, pair.gw1(), &Config::gateway().with_skew(37))?;
    carpd.wait_role("MASTER", PATIENCE)?;
    let enough = || Some(adverts.all()).filter(|all| all.len() >= 4);
    clock::wait_for("four adverts", PATIENCE, enough)?;
    carpd.stop()?;
    clock::wait_for("the farewell", Span::secs(2), || {
        adverts.all().iter().any(Seen::is_bow_out).then_some(())
    })?;
    let sent = adverts.all();
    for version in [4, 6] {
        ensure!(sent.iter().any(|seen| ip_version(seen) == version), "no advert of IPv{version}");
    }
    let file = pcap(pair.lab.folder(), &sent)?;
    agrees_with_tshark(&file, &sent)?;
    agrees_with_tcpdump(&file, &sent)
}

#[test]
fn they_read_every_field_of_the_frames_that_we_could_send() -> Result<()> {
    let mut sent = Vec::new();
    for (source, pace, demote) in [
        ("10.77.1.2", Pace { base: 1, skew: 37 }, 0),
        ("10.77.1.2", Pace { base: 254, skew: 240 }, 3),
        ("fe80::1", Pace { base: 2, skew: 0 }, 255),
        ("fe80::1", Pace::BOW_OUT, 0),
    ] {
        let vhid = Vhid::new(201).context("a vhid")?;
        let advert = Advert { vhid, pace, demote, counter: 0xfedc_ba98_7654_3210, digest: [0xab; 20] };
        let frame = Envelope::to_group(source.parse()?, NETWORK_CONTROL).seal(&advert).bytes().to_vec();
        let heard = Heard::parse(&frame).context("not CARP")?;
        sent.push(Seen { at: clock::now(), port: "none", heard, frame });
    }
    let lab = Lab::new(Purpose::Test)?;
    let file = pcap(lab.folder(), &sent)?;
    agrees_with_tshark(&file, &sent)?;
    agrees_with_tcpdump(&file, &sent)
}

fn agrees_with_tshark(file: &Path, sent: &[Seen]) -> Result<()> {
    const FIELDS: [&str; 11] = [
        "carp.version",
        "carp.type",
        "carp.vhid",
        "carp.advskew",
        "carp.authlen",
        "carp.demotion",
        "carp.adver_int",
        "carp.counter",
        "carp.hmac",
        "carp.checksum.status",
        "_ws.malformed",
    ];
    let mut tshark = Command::new("tshark");
    tshark.args(["-n", "-r"]).arg(file).args(["-d", "ip.proto==112,carp", "-o", "ip.check_checksum:TRUE"]);
    tshark.args(["-T", "fields", "-E", "separator=|"]);
    for field in FIELDS {
        tshark.args(["-e", field]);
    }
    let text = run(&mut tshark).context("is package `tshark` installed?")?;
    ensure!(text.lines().count() == sent.len(), "{} adverts, but tshark says:\n{text}", sent.len());
    for (line, seen) in text.lines().zip(sent) {
        let Advert { vhid, pace, demote, counter, digest } = advert(seen)?;
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let said: Vec<&str> = line.split('|').collect();
        let want =
            [2, 1, u64::from(vhid.get()), u64::from(pace.skew), 7, u64::from(demote), u64::from(pace.base)];
        for ((field, said), want) in FIELDS.iter().zip(&said).zip(want) {
            ensure!(number(said) == Some(want), "{field}: we sent {want}, tshark says {said} ({line})");
        }
        ensure!(number(said[7]) == Some(counter), "counter: we sent {counter}, tshark says {line}");
        ensure!(said[8].replace(':', "") == digest, "digest: we sent {digest}, tshark says {line}");
        ensure!(said[9] == "1" || said[9] == "Good", "tshark does not like the checksum: {line}");
        ensure!(said[10].is_empty(), "tshark says malformed: {line}");
    }
    Ok(())
}

fn agrees_with_tcpdump(file: &Path, sent: &[Seen]) -> Result<()> {
    let mut tcpdump = Command::new("tcpdump");
    tcpdump.args(["-n", "-t", "-vvv", "-T", "carp", "-r"]).arg(file);
    let text = run(&mut tcpdump).context("is package `tcpdump` installed?")?;
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("vhid=")).collect();
    ensure!(lines.len() == sent.len(), "{} adverts, but tcpdump says:\n{text}", sent.len());
    for (line, seen) in lines.iter().zip(sent) {
        let Advert { vhid, pace, counter, .. } = advert(seen)?;
        let want = format!("vhid={vhid} advbase={} advskew={} authlen=7 ", pace.base, pace.skew);
        ensure!(line.contains(&want), "we sent {want}, tcpdump says {line}");
        ensure!(line.contains("CARPv2-advertise 36"), "{line}");
        ensure!(!line.contains("bad"), "tcpdump does not like the checksum: {line}");
        ensure!(line.contains(&format!("counter={counter}")), "we sent {counter}, tcpdump says {line}");
    }
    ensure!(!text.contains("bad cksum"), "{text}");
    Ok(())
}

fn advert(seen: &Seen) -> Result<Advert> {
    let heard = seen.heard.map_err(|refusal| anyhow::anyhow!("our own advert is refused: {refusal:?}"))?;
    Ok(heard.advert)
}

fn ip_version(seen: &Seen) -> u8 {
    seen.frame.get(14).map_or(0, |byte| byte >> 4)
}

/// `7` or `0x07`.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A capture file: magic, version 2.4, Ethernet; per frame seconds, microseconds and two lengths.
fn pcap(folder: &Path, sent: &[Seen]) -> Result<PathBuf> {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4, 0x0004_0002_u32, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for seen in sent {
        let len = u32::try_from(seen.frame.len())?;
        let micros = seen.at.nanos() / 1000;
        for word in [u32::try_from(micros / 1_000_000)?, u32::try_from(micros % 1_000_000)?, len, len] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(&seen.frame);
    }
    let file = folder.join("adverts.pcap");
    fs::write(&file, bytes)?;
    Ok(file)
}
