//! `carpctl decode`: takes advertisements apart and says how they are signed, per digest variant and of
//! the strict MAC whether they verify, and why they would be refused. For the question "why do they not hear each other?".

mod capture;
mod dissect;
mod input;
mod render;
mod strict;
#[cfg(test)]
mod tests;

pub use dissect::{Carp, Decoded, Ethernet, Ip, Refused};
pub use input::{Packet, Shape, packet_in_hex, packets_in_capture};
pub use render::{json, text};
pub use strict::Strict;

use crate::config::Secret;
use carp_common::admission::Mode;
use carp_common::auth::{Key, Midstate, Variant};
use carp_common::id::Mac;
use carp_common::pace::Pace;
use carp_common::wire::{Advert, Refusal};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Take an advertisement apart: what it says, whether it verifies, why it would be refused.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A frame in hexadecimal digits (whole Ethernet frame, IP packet, or the 36 bytes of CARP), or
    /// a capture file (pcap or pcapng).
    #[arg(value_name = "FRAME_HEX|FILE")]
    input: String,
    /// File with the password: mode 0600, one line of at most 19 bytes, or hex: and 40 digits.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// An address of the virtual host; give all of them, each with its own --vip. A prefix length is
    /// ignored.
    #[arg(long = "vip", value_name = "ADDRESS", value_parser = vip)]
    vips: Vec<IpAddr>,
    /// The hand-set link-layer address of an OpenBSD carp interface.
    #[arg(long, value_name = "MAC", value_parser = mac)]
    lladdr: Option<Mac>,
    /// Print a JSON array instead of text.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Exit code: 0 when everything was an advertisement and, if a password was given, verified; 1 otherwise.

Examples:
  tcpdump -i eth1 -w carp.pcap -c 5 proto 112
  carpctl decode carp.pcap
  carpctl decode --password-file lan.password --vip 10.0.0.1 --vip fd00::1 carp.pcap
  carpctl decode --json 210c64070001a10500000000deadbeef9f69ee81cc94a41002fef9ba56d6c9ff5eb1c176";

/// What the sender is thought to hash: compare it with what was sent.
#[derive(Debug)]
pub struct Belief<'a> {
    /// The password.
    pub key: &'a Key,
    /// All addresses of the virtual host.
    pub vips: &'a [IpAddr],
    /// OpenBSD's hand-set link-layer address.
    pub lladdr: Option<Mac>,
}

/// Prints what is in the input. See [`EXAMPLES`] for the exit codes.
pub fn run(args: Args) -> ExitCode {
    match try_run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("carpctl decode: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Takes every packet apart. Without a belief, only the structure is judged.
pub fn decode(packets: &[Packet], belief: Option<&Belief<'_>>) -> Vec<Decoded> {
    packets.iter().map(|packet| decode_one(packet, belief)).collect()
}

fn try_run(args: &Args) -> Result<bool, String> {
    let secret = match &args.password_file {
        Some(path) => {
            Some(Secret::read(path).map_err(|problem| format!("{problem}\nhelp: {}", problem.help()))?)
        }
        None => None,
    };
    if secret.is_some() && args.vips.is_empty() {
        return Err(
            "a password without an address verifies nothing\nhelp: give every address of the virtual \
                    host with --vip ADDRESS"
                .into(),
        );
    }
    let belief =
        secret.as_ref().map(|secret| Belief { key: secret.key(), vips: &args.vips, lladdr: args.lladdr });
    let (packets, others) = input::read(&args.input)?;
    let decoded = decode(&packets, belief.as_ref());
    super::print(&if args.json { json(&decoded) } else { text(&decoded, others) });
    let good =
        |one: &Decoded| one.refused.is_none() && one.carp.is_some() && (one.verified || belief.is_none());
    Ok(!decoded.is_empty() && decoded.iter().all(good))
}

fn decode_one(packet: &Packet, belief: Option<&Belief<'_>>) -> Decoded {
    let (mut decoded, heard) = dissect::dissect(packet);
    let Some(heard) = heard else { return decoded };
    decoded.notes.extend(meaning(heard.advert.pace).map(str::to_owned));
    let Some(belief) = belief else {
        decoded.notes.push("not verified: give --password-file and --vip".into());
        return decoded;
    };
    let is_accepted = match dissect::mode(heard.seen()) {
        Mode::Carp => judge_digest(&mut decoded, belief, &heard.advert),
        Mode::Migrate | Mode::Strict if packet.shape == Shape::Carp => {
            decoded.notes.push("not verified: a strict MAC covers the addresses, give the IP packet".into());
            return decoded;
        }
        Mode::Migrate => {
            let is_accepted = judge_digest(&mut decoded, belief, &heard.advert);
            if !strict::judge(&mut decoded, belief, &heard) && is_accepted {
                decoded
                    .notes
                    .push("CARP's digest is right: carpd refuses it with auth = \"strict\" only".into());
            }
            is_accepted
        }
        Mode::Strict => strict::judge(&mut decoded, belief, &heard),
    };
    decoded.verified =
        is_accepted && decoded.strict.as_ref().is_none_or(|strict| strict.mac_ok == Some(true));
    decoded.refused = (!is_accepted).then(|| Refusal::BadAuth.into());
    decoded
}

/// Whether CARP's digest is right, by any variant.
fn judge_digest(decoded: &mut Decoded, belief: &Belief<'_>, advert: &Advert) -> bool {
    let holds = |variant: Variant| matches(belief.key, variant, belief.lladdr, advert, belief.vips);
    decoded.variants = Variant::ALL.into_iter().map(|variant| (variant.name(), holds(variant))).collect();
    let matching: Vec<Variant> = Variant::ALL.into_iter().filter(|variant| holds(*variant)).collect();
    decoded.hmac_variants_that_match = matching.iter().map(|variant| variant.name()).collect();
    match matching.first() {
        None => decoded.notes.extend(suspicion(belief, |key, vips| {
            ALWAYS_ACCEPTED.into_iter().any(|variant| matches(key, variant, belief.lladdr, advert, vips))
        })),
        Some(first) if !matching.iter().any(|variant| ALWAYS_ACCEPTED.contains(variant)) => {
            let name = first.name();
            decoded
                .notes
                .push(format!("carpd accepts it only with digest = \"{name}\" in the configuration"));
        }
        Some(_) => {}
    }
    !matching.is_empty()
}

/// What the intervals say that are none.
fn meaning(pace: Pace) -> Option<&'static str> {
    match pace {
        Pace::BOW_OUT => Some("a farewell: the master steps down"),
        Pace::GREETING => Some("a greeting of carpd to its master, which others ignore"),
        Pace::CONFIRMATION => Some("a confirmation between two carpd: the old master serves no longer"),
        Pace::ANSWER => Some("the answer of a carpd that is master to a greeting, which others ignore"),
        Pace::PROMISE => Some("the answer of a carpd that is master to its heir, which others ignore"),
        _ => None,
    }
}

/// What carpd accepts whatever it sends itself.
const ALWAYS_ACCEPTED: [Variant; 2] = [Variant::Freebsd, Variant::OpenbsdNov6ll];

fn matches(key: &Key, variant: Variant, lladdr: Option<Mac>, advert: &Advert, vips: &[IpAddr]) -> bool {
    variant.can_hold(vips)
        && Midstate::new(key, variant, lladdr, advert.vhid, vips)
            .verify(advert.counter.to_be_bytes(), &advert.digest)
}

/// A near miss that explains a digest: no password at the sender, or fewer addresses.
fn suspicion(belief: &Belief<'_>, holds: impl Fn(&Key, &[IpAddr]) -> bool) -> Option<String> {
    if holds(&Key([0; 20]), belief.vips) {
        return Some("it verifies without a password: the sender has none".into());
    }
    for (index, extra) in belief.vips.iter().enumerate() {
        let (before, from) = belief.vips.split_at(index);
        if holds(belief.key, &[before, from.get(1..).unwrap_or_default()].concat()) {
            return Some(format!("it verifies without {extra}: the sender does not have this address"));
        }
    }
    let only = belief.vips.iter().find(|only| holds(belief.key, &[**only]));
    only.map(|only| format!("it verifies with {only} alone: the sender has no other address"))
}

fn vip(text: &str) -> Result<IpAddr, String> {
    let address = text.split('/').next().unwrap_or(text);
    address.parse().map_err(|_| "expected an address like 10.0.0.1 or fd00::1".into())
}

fn mac(text: &str) -> Result<Mac, String> {
    let mut octets = text.split(':').map(|octet| u8::from_str_radix(octet, 16));
    let mut mac = [0; 6];
    for byte in &mut mac {
        *byte = octets.next().and_then(Result::ok).ok_or("expected a MAC like 02:aa:bb:cc:dd:ee")?;
    }
    if octets.next().is_some() { Err("a MAC has six bytes".into()) } else { Ok(Mac(mac)) }
}
