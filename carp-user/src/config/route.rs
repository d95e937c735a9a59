//! The tables `[[route]]`: what this node can reach by a virtual host's interface while it serves it.

use super::fields::{At, Fields};
use super::host::{device, tables};
use super::mistake::{Mistake, Place};
use super::nat::Around;
use super::reference::{Key, Kind};
use super::{Document, Node, rules, sync};
use crate::proto::sync::rule::Prefix;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Keys of every table `[[route]]`.
pub const ROUTE: &[Key] = &[
    Key {
        name: "to",
        kind: Kind::Text,
        range: "a network, or `default`; of the family of `via`; no two with the same metric",
        unit: "",
        default: "",
        example: r#""default""#,
        meaning: "Where it leads.",
    },
    Key {
        name: "via",
        kind: Kind::Text,
        range: "no VIP",
        unit: "",
        default: "",
        example: r#""192.0.2.254""#,
        meaning: "Address of the next hop, a neighbour on the interface; no node needs an address of its own in its \
                  network.",
    },
    Key {
        name: "interface",
        kind: Kind::Text,
        range: "one with a virtual host that has addresses of the family of `via`",
        unit: "",
        default: "",
        example: r#""wan""#,
        meaning: "Role or device that it leaves by.",
    },
    Key {
        name: "source",
        kind: Kind::Text,
        range: "a VIP of that interface, of the family of `via`",
        unit: "",
        default: "none",
        example: r#""192.0.2.1""#,
        meaning: "What the node's own connections have as their source there, where they do not choose.",
    },
    Key {
        name: "metric",
        kind: Kind::Number(0, u16::MAX, Some(0)),
        range: "",
        unit: "",
        default: "0",
        example: "50",
        meaning: "Of several routes to the same network the one with the smallest metric counts. With IPv6, 0 is the \
                  kernel's 1024.",
    },
];

/// One `[[route]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Device that it leaves by.
    pub device: String,
    /// Where it leads.
    pub to: Prefix,
    /// The next hop, of the same family.
    pub via: IpAddr,
    /// The VIP that the node prefers as its source there.
    pub source: Option<IpAddr>,
    /// As written.
    pub metric: u16,
}

impl Route {
    /// Most routes: as many are moved within some milliseconds. Policy: more are a mistake in the configuration.
    pub const MOST: usize = 1000;

    /// The metric that the kernel gives it.
    pub fn priority(&self) -> u32 {
        priority(self.to, self.metric)
    }
}

/// All routes that are in order; `around` is what they have to fit.
pub(super) fn read(
    document: &Document,
    node: Option<&Node>,
    around: &Around,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Route> {
    let tables = tables(document, "route", "begin each route with a line [[route]]", mistakes);
    if let (true, Some((_, span))) = (tables.len() > Route::MOST, tables.last()) {
        let place = Place { file: document.file, span: span.clone() };
        let what = format!("{} routes", tables.len());
        mistakes.push(Mistake::at(place, what, format!("expected at most {}", Route::MOST)));
    }
    let mut known = BTreeMap::new();
    let fields = tables.into_iter().map(|table| {
        let of_document = (document.file, document.whole);
        Fields::new(of_document, "[[route]]", table, ROUTE, mistakes)
    });
    let fields: Vec<Fields<'_>> = fields.collect();
    fields.iter().filter_map(|fields| route(fields, node, around, &mut known, mistakes)).collect()
}

fn route(
    fields: &Fields<'_>,
    node: Option<&Node>,
    around: &Around,
    known: &mut BTreeMap<(Prefix, u32), Place>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Route> {
    let to = fields.text("to", mistakes);
    let via = fields.text("via", mistakes).and_then(|text| sync::unicast(&text, mistakes));
    let to = to.and_then(|to| destination(&to, via.as_ref(), mistakes));
    let interface = fields.text("interface", mistakes);
    let device = interface.as_ref().and_then(|name| device(name, node, mistakes));
    let source = fields.optional("source", mistakes);
    let source = source.map(|text| sync::unicast(&text, mistakes));
    let metric = fields.number::<u16>("metric", mistakes);
    let (to, via, interface, device, metric) = (to?, via?, interface?, device?, metric?.value);
    check_family(to.value.address(), &to.place, &via, mistakes);
    around.check_next_hop(&via, (&interface, &device), mistakes);
    let source = match source {
        Some(source) => {
            let source = source?;
            check_family(source.value, &source.place, &via, mistakes);
            around.check_vip(&source, Some(&device), mistakes);
            Some(source.value)
        }
        None => None,
    };
    let key = (to.value, priority(to.value, metric));
    if let Some(first) = known.get(&key) {
        let what = format!("two routes to {} with the same metric", to.value);
        let mistake = Mistake::at(to.place, what, "the second one").and(first.clone(), "the first one");
        mistakes.push(mistake.help("remove one of the two, or write another `metric`"));
        return None;
    }
    known.insert(key, to.place);
    Some(Route { device, to: to.value, via: via.value, source, metric })
}

/// A network; of which family `default` is, the next hop says.
fn destination(to: &At<&str>, via: Option<&At<IpAddr>>, mistakes: &mut Vec<Mistake>) -> Option<At<Prefix>> {
    let place = to.place.clone();
    if to.value == "default" {
        let any: IpAddr = match via?.value {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        return Some(At { value: Prefix::new(any, 0)?, place });
    }
    let text = At { value: to.value.to_owned(), place: place.clone() };
    let value = rules::parsed(Some(text), "a network, or \"default\"", rules::prefix, mistakes)?;
    Some(At { value, place })
}

fn check_family(ip: IpAddr, place: &Place, via: &At<IpAddr>, mistakes: &mut Vec<Mistake>) {
    if ip.is_ipv4() != via.value.is_ipv4() {
        let what = format!("{ip} is not of the family of {}", via.value);
        let mistake = Mistake::at(place.clone(), what, "expected the family of `via`");
        mistakes.push(mistake.and(via.place.clone(), "this next hop"));
    }
}

/// Where none is given, the kernel takes this one with IPv6 (`IP6_RT_PRIO_USER`), and 0 with IPv4.
fn priority(to: Prefix, metric: u16) -> u32 {
    if metric == 0 && to.address().is_ipv6() { 1024 } else { metric.into() }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Mistakes, Source, parse};
    use super::*;

    const HEAD: &str = "[node]\nname = \"gw1\"\n[node.interfaces]\nlan = \"lan0\"\nwan = \"wan0\"\n\
        [[virtual_host]]\ninterface = \"lan\"\nvhid = 1\naddresses = [\"10.0.0.1/24\"]\npassword_file = \"pw\"\n\
        [[virtual_host]]\ninterface = \"wan\"\nvhid = 2\n\
        addresses = [\"192.0.2.1/24\", \"2001:db8::1/64\"]\npassword_file = \"pw\"\n";
    const GOOD: [&str; 3] = ["to = \"default\"", "via = \"192.0.2.254\"", "interface = \"wan\""];

    fn read(routes: &str) -> Result<Config, Mistakes> {
        let source = Source { name: "carp.toml".into(), text: format!("{HEAD}{routes}") };
        parse(source, None, |_| Ok(b"secret".to_vec().into()))
    }

    /// The text that the only mistake points to, and what is said of it.
    fn only(routes: &str) -> String {
        let found = read(routes).expect_err(routes);
        assert_eq!(found.list().len(), 1, "{}", found.render(false));
        let mistake = &found.list()[0];
        let place = mistake.place.clone().expect("a place");
        let text = format!("{HEAD}{routes}");
        let line = text[place.span].lines().next().unwrap_or_default();
        let help = mistake.help.as_deref().unwrap_or("-");
        format!("{line} | {} | {} | {help}", mistake.what, mistake.expected)
    }

    /// A good route with these lines instead of its own.
    fn with(lines: &str) -> String {
        let key = |line: &str| line.split(' ').next().map(str::to_owned);
        let given: Vec<_> = lines.lines().map(key).collect();
        let rest: Vec<&str> = GOOD.into_iter().filter(|line| !given.contains(&key(line))).collect();
        format!("[[route]]\n{}\n{lines}\n", rest.join("\n"))
    }

    #[test]
    fn routes_are_read_with_their_devices_and_defaults() {
        let text = [
            with(""),
            with("via = \"2001:db8::9\"\nsource = \"2001:db8::1\""),
            with("to = \"10.9.0.0/16\"\nvia = \"10.0.0.9\"\ninterface = \"lan\"\nmetric = 7"),
        ];
        let config = read(&text.concat()).map_err(|found| found.render(false)).expect("right");
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let route = |device: &str, to, via, source: Option<&str>, metric| Route {
            device: device.to_owned(),
            to: rules::prefix(to).expect("a prefix"),
            via: ip(via),
            source: source.map(ip),
            metric,
        };
        let expected = [
            route("wan0", "0.0.0.0/0", "192.0.2.254", None, 0),
            route("wan0", "::/0", "2001:db8::9", Some("2001:db8::1"), 0),
            route("lan0", "10.9.0.0/16", "10.0.0.9", None, 7),
        ];
        assert_eq!(config.routes, expected);
        assert_eq!(config.routes.iter().map(Route::priority).collect::<Vec<_>>(), [0, 1024, 7]);
    }

    #[test]
    fn what_no_route_can_be_is_refused_at_its_place() {
        for (lines, said) in [
            (
                "to = \"wan\"",
                "\"wan\" | \"wan\" is not a network, or \"default\" | expected an IPv4 or IPv6 network | for example \"10.9.0.0/16\" or \"fd09::/64\"",
            ),
            (
                "to = \"::/0\"",
                "\"::/0\" | :: is not of the family of 192.0.2.254 | expected the family of `via` | -",
            ),
            (
                "via = \"192.0.2.1\"",
                "\"192.0.2.1\" | 192.0.2.1 is a VIP, no next hop | expected the address of another router | -",
            ),
            (
                "via = \"fd00::9\"\ninterface = \"lan\"",
                "\"lan\" | lan carries no virtual host with an IPv6 address | expected an interface with one | first add a [[virtual_host]] there, or an address to it",
            ),
            (
                "interface = \"eth7\"",
                "\"eth7\" | eth7 carries no virtual host with an IPv4 address | expected an interface with one | first add a [[virtual_host]] there, or an address to it",
            ),
            (
                "source = \"10.0.0.1\"",
                "\"10.0.0.1\" | 10.0.0.1 is no VIP of wan0 | expected a VIP of that interface | for example \"192.0.2.1\", \"2001:db8::1\"",
            ),
            (
                "source = \"2001:db8::1\"",
                "\"2001:db8::1\" | 2001:db8::1 is not of the family of 192.0.2.254 | expected the family of `via` | -",
            ),
            (
                "metric = 65536",
                "65536 | `metric` is out of range | expected 0 to 65535 | the nearest valid value is 65535",
            ),
            (
                "gateway = \"10.0.0.9\"",
                "gateway | unknown key `gateway` in [[route]] | not a key of this table | it can be `to`, `via`, `interface`, `source`, `metric`",
            ),
        ] {
            assert_eq!(only(&with(lines)), said);
        }
    }

    #[test]
    fn two_routes_to_one_place_with_one_metric_are_refused() {
        let said = "two routes to 0.0.0.0/0 with the same metric | the second one";
        let second = "to = \"0.0.0.0/0\"\nvia = \"10.0.0.9\"\ninterface = \"lan\"";
        assert!(only(&[with(""), with(second)].concat()).contains(said));
        assert!(read(&[with(""), with(&format!("{second}\nmetric = 1"))].concat()).is_ok());
        // What the kernel makes of 0.
        let v6 = |metric| with(&format!("via = \"2001:db8::9\"\nmetric = {metric}"));
        assert!(only(&[v6(0), v6(1024)].concat()).contains("two routes to ::/0 with the same metric"));
    }

    #[test]
    fn more_routes_than_there_is_room_for_are_refused() {
        let many =
            |count: usize| (0..count).map(|metric| with(&format!("metric = {metric}"))).collect::<String>();
        assert_eq!(read(&many(Route::MOST)).expect("right").routes.len(), Route::MOST);
        assert!(only(&many(Route::MOST + 1)).contains("1001 routes | expected at most 1000"));
    }
}
