//! The rules in `include` and `exclude` of the table `[sync]`.

use super::fields::{At, Fields, nearest};
use super::mistake::Mistake;
use super::reference::{Key, Kind};
use crate::proto::protocol::{PROTOCOLS, number};
use crate::proto::sync::rule::{Mark, Prefix, Rule, Rules};
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Keys of every rule.
pub const RULE: &[Key] = &[
    Key {
        name: "prefix",
        kind: Kind::Text,
        range: "IPv4 or IPv6; without a length, the address alone",
        unit: "",
        default: "any",
        example: r#""10.9.0.0/16""#,
        meaning: "Who began the connection, whom it was for, or who answers after translation, is in this network.",
    },
    Key {
        name: "protocol",
        kind: Kind::Numbers,
        range: "`tcp`, `udp`, `udplite`, `sctp`, `dccp`, `gre`, `icmp`, `icmpv6`, or 0 to 255",
        unit: "",
        default: "any",
        example: r#""udp""#,
        meaning: "Protocol of IP.",
    },
    Key {
        name: "port",
        kind: Kind::Numbers,
        range: "one, or first-last, 0 to 65535",
        unit: "",
        default: "any",
        example: r#""5000-5999""#,
        meaning: "The port that the connection was for, before translation. What has no ports does not match.",
    },
    Key {
        name: "mark",
        kind: Kind::Numbers,
        range: "32 bits, decimal or with 0x, or value/mask",
        unit: "",
        default: "any",
        example: r#""0x10/0xff""#,
        meaning: "The connection's mark (`ct mark`).",
    },
];

/// Protocols that have no ports.
const PORTLESS: [u8; 3] = [1, 47, 58];

/// The rules under this key; `None` if there are mistakes in them.
pub(super) fn read(fields: &Fields<'_>, key: &str, mistakes: &mut Vec<Mistake>) -> Option<Vec<Rule>> {
    let name = if key == "include" { "[sync] include" } else { "[sync] exclude" };
    let before = mistakes.len();
    let tables = fields.tables(key, (name, RULE), mistakes)?;
    if tables.value.len() > Rules::MOST {
        let what = format!("{} rules in `{key}`", tables.value.len());
        let mistake = Mistake::at(tables.place, what, format!("expected at most {}", Rules::MOST));
        mistakes.push(mistake.help("a shorter prefix or a range of ports can stand for several"));
    }
    let rules = tables.value.iter().map(|table| rule(table, mistakes)).collect();
    (mistakes.len() == before).then_some(rules)
}

fn rule(fields: &Fields<'_>, mistakes: &mut Vec<Mistake>) -> Rule {
    let before = mistakes.len();
    let prefix = fields.optional("prefix", mistakes);
    let prefix = prefix.map(|text| At { value: text.value.to_owned(), place: text.place });
    let rule = Rule {
        prefix: parsed(prefix, "a prefix", self::prefix, mistakes),
        protocol: parsed(fields.text_or_number("protocol", mistakes), "a protocol", protocol, mistakes),
        ports: parsed(fields.text_or_number("port", mistakes), "a port", ports, mistakes),
        mark: parsed(fields.text_or_number("mark", mistakes), "a mark", mark, mistakes),
    };
    let portless = rule.protocol.is_some_and(|protocol| PORTLESS.contains(&protocol));
    let problem = if portless && rule.ports.is_some() {
        ("a rule that matches nothing", "this protocol has no ports", "leave `port` out")
    } else if rule == Rule::default() && mistakes.len() == before && fields.is_empty() {
        let help = "for everything write { prefix = \"0.0.0.0/0\" }, { prefix = \"::/0\" }";
        ("a rule without a condition", "expected at least one", help)
    } else {
        return rule;
    };
    let (what, expected, help) = problem;
    mistakes.push(Mistake::at(fields.place_of_table(), what, expected).help(help));
    rule
}

/// What is expected, and what to write instead.
pub(super) type Advice = (&'static str, String);

pub(super) fn parsed<T>(
    text: Option<At<String>>,
    what: &str,
    parse: impl Fn(&str) -> Result<T, Advice>,
    mistakes: &mut Vec<Mistake>,
) -> Option<T> {
    let At { value, place } = text?;
    let refused = |(expected, help): Advice| {
        mistakes.push(Mistake::at(place, format!("\"{value}\" is not {what}"), expected).help(help));
    };
    parse(&value).map_err(refused).ok()
}

pub(super) fn prefix(text: &str) -> Result<Prefix, Advice> {
    let (address, len) = text.split_once('/').map_or((text, None), |(address, len)| (address, Some(len)));
    let Ok(ip) = address.parse::<IpAddr>() else {
        return Err((
            "expected an IPv4 or IPv6 network",
            "for example \"10.9.0.0/16\" or \"fd09::/64\"".into(),
        ));
    };
    let Some(len) = len else { return Ok(Prefix::of(ip)) };
    let Some(prefix) = len.parse().ok().and_then(|len| Prefix::new(ip, len)) else {
        let most = Prefix::of(ip).length();
        return Err(("the length of a prefix does not fit", format!("0 to {most}, as in {ip}/{most}")));
    };
    if prefix.address() == ip {
        return Ok(prefix);
    }
    let network = prefix.to_string();
    Err(("it has bits behind its length", format!("write \"{network}\" for the network, or \"{ip}\"")))
}

pub(super) fn protocol(text: &str) -> Result<u8, Advice> {
    number(text).ok_or_else(|| {
        ("expected a name or a number from 0 to 255", nearest(text, &PROTOCOLS.map(|(name, _)| name)))
    })
}

pub(super) fn ports(text: &str) -> Result<RangeInclusive<u16>, Advice> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse(), last.trim().parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
        (Ok(first), Ok(last)) => {
            Err(("the first is more than the last", format!("write \"{last}-{first}\"")))
        }
        (Ok(_) | Err(_), Err(_)) | (Err(_), Ok(_)) => {
            Err(("expected 0 to 65535", "for example 53 or \"5000-5999\"".into()))
        }
    }
}

fn mark(text: &str) -> Result<Mark, Advice> {
    let (value, mask) = text.split_once('/').map_or((text, None), |(value, mask)| (value, Some(mask)));
    let advice = || ("expected 32 bits", "for example 16, \"0x10\" or \"0x10/0xff\"".to_owned());
    let value = word(value).ok_or_else(advice)?;
    let mask = mask.map_or(Some(u32::MAX), word).ok_or_else(advice)?;
    if value & !mask != 0 {
        let help = format!("write \"{:#x}/{mask:#x}\"", value & mask);
        return Err(("it has bits that are not in the mask", help));
    }
    Ok(Mark { value, mask })
}

fn word(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Mistakes, Source, parse};
    use super::*;

    fn with(rules: &str) -> Result<Config, Mistakes> {
        let text = format!(
            "[node]\nname = \"gw1\"\n[sync]\ninterface = \"eth2\"\naddress = \"10.255.0.1\"\n\
             peer = \"10.255.0.2\"\nkey_file = \"sync.key\"\n{rules}\n\
             [[virtual_host]]\ninterface = \"lan\"\nvhid = 1\naddresses = [\"10.0.0.1\"]\npassword_file = \"pw\"\n"
        );
        parse(Source { name: "carp.toml".into(), text }, None, |file| {
            let is_password = file.as_os_str() == "pw";
            Ok(if is_password { b"secret".to_vec() } else { "0a".repeat(32).into_bytes() }.into())
        })
    }

    fn rules(text: &str) -> Rules {
        with(text).map_err(|found| found.render(false)).expect("right").sync.expect("there").rules
    }

    /// What is said of the only mistake in a rule, and the text that it points to.
    fn only(rule: &str) -> String {
        let found = with(&format!("exclude = [{rule}]")).expect_err(rule);
        assert_eq!(found.list().len(), 1, "{}", found.render(false));
        let mistake = &found.list()[0];
        format!("{} | {} | {}", mistake.what, mistake.expected, mistake.help.as_deref().unwrap_or("-"))
    }

    #[test]
    fn rules_are_read_with_all_their_conditions() {
        let read = rules(
            "include = [{ prefix = \"fd09::/64\" }, { protocol = 89 }, { prefix = \"10.9.0.1\" }]\n\
             exclude = [{ protocol = \"udp\", port = 53 }, { port = \"1000-2000\", mark = 0x10 },\n\
             { mark = \"0x10/0xff\" }]",
        );
        let prefix = |text: &str| Some(prefix(text).expect("a prefix"));
        let any = Rule::default;
        let mark = |value, mask| Some(Mark { value, mask });
        assert_eq!(
            read.include,
            [
                Rule { prefix: prefix("fd09::/64"), ..any() },
                Rule { protocol: Some(89), ..any() },
                Rule { prefix: prefix("10.9.0.1/32"), ..any() },
            ]
        );
        assert_eq!(
            read.exclude,
            [
                Rule { protocol: Some(17), ports: Some(53..=53), ..any() },
                Rule { ports: Some(1000..=2000), mark: mark(16, u32::MAX), ..any() },
                Rule { mark: mark(16, 255), ..any() },
            ]
        );
        assert_eq!(rules(""), Rules::default());
        assert_eq!(rules("[[sync.exclude]]\nprotocol = \"gre\"").exclude.len(), 1);
    }

    #[test]
    fn what_no_rule_can_be_is_refused_with_what_to_write() {
        for (rule, said) in [
            (
                "{ prefix = \"10.9.0.0/33\" }",
                "\"10.9.0.0/33\" is not a prefix | the length of a prefix does not fit | 0 to 32, as in 10.9.0.0/32",
            ),
            (
                "{ prefix = \"10.9.0.1/16\" }",
                "\"10.9.0.1/16\" is not a prefix | it has bits behind its length | write \"10.9.0.0/16\" for the network, or \"10.9.0.1\"",
            ),
            (
                "{ prefix = \"lan\" }",
                "\"lan\" is not a prefix | expected an IPv4 or IPv6 network | for example \"10.9.0.0/16\" or \"fd09::/64\"",
            ),
            (
                "{ protocol = \"upd\" }",
                "\"upd\" is not a protocol | expected a name or a number from 0 to 255 | did you mean `udp`?",
            ),
            (
                "{ port = 65536 }",
                "\"65536\" is not a port | expected 0 to 65535 | for example 53 or \"5000-5999\"",
            ),
            (
                "{ port = \"20-10\" }",
                "\"20-10\" is not a port | the first is more than the last | write \"10-20\"",
            ),
            ("{ port = true }", "`port` cannot be true or false | expected a string or a whole number | -"),
            (
                "{ mark = \"0x100/0xff\" }",
                "\"0x100/0xff\" is not a mark | it has bits that are not in the mask | write \"0x0/0xff\"",
            ),
            (
                "{ mark = -1 }",
                "\"-1\" is not a mark | expected 32 bits | for example 16, \"0x10\" or \"0x10/0xff\"",
            ),
            (
                "{ protocol = \"icmp\", port = 1 }",
                "a rule that matches nothing | this protocol has no ports | leave `port` out",
            ),
            (
                "{ ports = 53 }",
                "unknown key `ports` in [sync] exclude | not a key of this table | did you mean `port`?",
            ),
        ] {
            assert_eq!(only(rule), said);
        }
        assert!(
            only("{}").starts_with("a rule without a condition | expected at least one | for everything")
        );
        assert!(only("\"udp\"").starts_with("`exclude` cannot be a string | expected a table | for example"));
    }

    #[test]
    fn all_mistakes_are_found_at_once_and_each_at_its_place() {
        let found = with("include = [{ port = \"x\" }, { mark = \"y\" }]\nexclude = 53").expect_err("three");
        let lines: Vec<_> = found.list().iter().map(|mistake| found.position(mistake).unwrap()).collect();
        assert_eq!(lines, [("carp.toml", 8, 21), ("carp.toml", 8, 37), ("carp.toml", 9, 11)]);
    }

    #[test]
    fn more_rules_than_there_is_room_for_are_refused() {
        let many = |count| format!("include = [{}]", "{ port = 1 },".repeat(count));
        assert_eq!(rules(&many(Rules::MOST)).include.len(), Rules::MOST);
        let found = with(&many(Rules::MOST + 1)).expect_err("too many");
        assert!(found.render(false).contains("65 rules in `include`"), "{}", found.render(false));
    }
}
