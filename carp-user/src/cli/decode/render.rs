//! What was decoded, for people and for programs.

use super::{Carp, Decoded, Strict};
use carp_common::pace::Pace;
use std::fmt::Write;

/// A JSON array with one object per packet, ending in a newline.
pub fn json(decoded: &[Decoded]) -> String {
    // Plain data with string keys always serialises; an empty array would show that it did not.
    serde_json::to_string_pretty(decoded).unwrap_or_else(|_| "[]".into()) + "\n"
}

/// A paragraph per packet, and how many `others` the file had.
pub fn text(decoded: &[Decoded], others: usize) -> String {
    let mut text = String::new();
    for one in decoded {
        // Writing into a string cannot fail.
        let _ = packet(&mut text, one);
    }
    let count = decoded.len();
    if count == 0 || others > 0 {
        let _ = writeln!(text, "{count} of protocol 112, {others} others ignored");
    }
    text
}

fn packet(text: &mut String, one: &Decoded) -> std::fmt::Result {
    let number = one.number;
    match &one.carp {
        Some(carp) => writeln!(text, "packet {number}: {}", headline(carp))?,
        None => writeln!(text, "packet {number}: not a CARP advertisement")?,
    }
    if let Some(eth) = &one.ethernet {
        let vlan = eth.vlan.map(|vlan| format!(", VLAN {vlan}")).unwrap_or_default();
        writeln!(
            text,
            "  ethernet  {} -> {}, type {}{vlan}, {} bytes",
            eth.src, eth.dst, eth.ethertype, eth.frame_len
        )?;
    }
    if let Some(ip) = &one.ip {
        writeln!(text, "  ip        {ip}")?;
    }
    if let Some(carp) = &one.carp {
        let sum = if carp.cksum_ok { "ok" } else { "WRONG" };
        let Carp {
            version, kind, vhid, advskew, authlen, demote_or_pad, advbase, cksum, counter, md, ..
        } = carp;
        writeln!(
            text,
            "  carp      version {version}, type {kind}, vhid {vhid}, advskew {advskew}, authlen {authlen}"
        )?;
        writeln!(text, "            demote {demote_or_pad}, advbase {advbase}, checksum {cksum:#06x} {sum}")?;
        writeln!(text, "            counter {counter}, digest {md}")?;
    }
    if let Some(auth) = one.auth {
        writeln!(text, "  signed    {}", signature(auth, one.strict.as_ref()))?;
    }
    if !one.variants.is_empty() {
        let variants: Vec<String> = one
            .variants
            .iter()
            .map(|(name, holds)| format!("{name} {}", if *holds { "yes" } else { "no" }))
            .collect();
        writeln!(text, "  digest    {}", variants.join(", "))?;
    }
    let verdict = match (&one.refused, one.verified) {
        (Some(refused), _) => format!("refused ({}): {}", refused.reason, refused.meaning),
        (None, true) => "accepted: it verifies".to_owned(),
        (None, false) if one.carp.is_some() => "well-formed".to_owned(),
        (None, false) => "nothing for carpd".to_owned(),
    };
    writeln!(text, "  verdict   {verdict}")?;
    for note in &one.notes {
        writeln!(text, "  note      {note}")?;
    }
    Ok(())
}

/// By the names of `auth` in the configuration.
fn signature(auth: &str, strict: Option<&Strict>) -> String {
    let Some(Strict { epoch, count, echo, mac, mac_ok }) = strict else { return auth.to_owned() };
    let verdict = match mac_ok {
        Some(true) => " ok",
        Some(false) => " WRONG",
        None => "",
    };
    format!("{auth}, MAC {mac}{verdict}, epoch {epoch}, count {count}, echo {echo}")
}

fn headline(carp: &Carp) -> String {
    let pace = Pace { base: carp.advbase, skew: carp.advskew };
    let meaning = if pace == Pace::BOW_OUT {
        "bow-out: the master leaves".to_owned()
    } else {
        format!("every {}", pace.interval())
    };
    format!("CARP advertisement, vhid {}, {meaning}", carp.vhid)
}
