//! Whether the rules of others let the session with the peer through, as far as that is certain from nft's own listing
//! (`nft -j list ruleset`, libnftables-json(5)).

use super::TABLE;
use crate::config::Sync;
use crate::proto::protocol::TCP;
use crate::proto::sync::rule::Prefix;
use serde_json::Value;
use std::net::IpAddr;

/// Most chains that jump into each other, as in the kernel. Policy: a deeper one decides nothing.
const MOST_DEEP: usize = 16;

/// What the nodes have to say to each other on the sync link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The session that replicates connections.
    Session,
    /// XML-RPC over HTTPS.
    Config,
}

/// The chains that drop that for certain, whatever the rest does: `chain input of table inet filter`.
pub fn droppers(listed: &Value, sync: &Sync, service: Service) -> Vec<String> {
    let items = || listed["nftables"].as_array().into_iter().flatten();
    let mut found = Vec::new();
    for chain in items().map(|item| &item["chain"]) {
        let [family, table, name, hook] = ["family", "table", "name", "hook"].map(|key| text(chain, key));
        let Some(packet) = Packet::of(sync, hook, service) else { continue };
        let is_filter = text(chain, "type") == "filter";
        if !is_filter || !packet.is_of(family) || [family, table] == TABLE {
            continue;
        }
        let place = Place { listed, family, table };
        let outcome = place.walk(name, &packet, 0);
        let ends_in_drop = outcome == Outcome::Through && text(chain, "policy") == "drop";
        if outcome == Outcome::Dropped || ends_in_drop {
            found.push(format!("chain {name} of table {family} {table}"));
        }
    }
    found
}

/// What becomes of a packet in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It comes out at the end.
    Through,
    Accepted,
    Dropped,
    /// That depends on what is not known here.
    Unclear,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    Yes,
    No,
    Unclear,
}

/// A packet of the session as this node hears or sends it.
struct Packet<'a> {
    /// Comes in there.
    iifname: &'a str,
    /// Goes out there.
    oifname: &'a str,
    source: IpAddr,
    destination: IpAddr,
    /// That of the listener is known; the other is any of the caller's.
    source_port: Option<u16>,
    destination_port: Option<u16>,
    state: &'static str,
}

impl<'a> Packet<'a> {
    /// For the session the node with the lower address calls (`io/peer.rs`); for XML-RPC either may.
    fn of(sync: &'a Sync, hook: &str, service: Service) -> Option<Self> {
        let Sync { device, address, peer, .. } = sync;
        let comes_in = match hook {
            "input" => true,
            "output" => false,
            _ => return None,
        };
        let ((source, destination), (iifname, oifname)) = if comes_in {
            ((*peer, *address), (device.as_str(), ""))
        } else {
            ((*address, *peer), ("", device.as_str()))
        };
        let (port, calls) = match service {
            Service::Session => (sync.port, source < destination),
            Service::Config => (sync.config_port, true),
        };
        let (source_port, destination_port, state) =
            if calls { (None, Some(port), "new") } else { (Some(port), None, "established") };
        Some(Self { iifname, oifname, source, destination, source_port, destination_port, state })
    }

    fn is_of(&self, family: &str) -> bool {
        family == "inet" || family == super::ip(self.source)
    }

    /// Whether it has no header of this protocol: then no condition on one holds, a negative one neither.
    fn has_no(&self, protocol: &str) -> bool {
        match protocol {
            "ip" | "ip6" => protocol != super::ip(self.source),
            other => ["udp", "udplite", "icmp", "icmpv6", "sctp", "dccp", "esp", "ah"].contains(&other),
        }
    }

    /// Whether the left side of a condition is this one.
    fn holds(&self, left: &Value, right: &Place<'_>, wanted: &Value) -> Truth {
        if let Some(key) = left["meta"]["key"].as_str() {
            return match key {
                "iifname" => right.any(wanted, &|one| is_name(one, self.iifname)),
                "oifname" => right.any(wanted, &|one| is_name(one, self.oifname)),
                "l4proto" => right.any(wanted, &|one| is_number(one, Some(u64::from(TCP)), "tcp")),
                _ => Truth::Unclear,
            };
        }
        if left["ct"]["key"] == "state" {
            return right.any(wanted, &|one| Truth::of(one == self.state));
        }
        let [protocol, field] = ["protocol", "field"].map(|key| text(&left["payload"], key));
        let port = |port: Option<u16>| right.any(wanted, &|one| is_number(one, port.map(u64::from), ""));
        match (protocol, field) {
            ("ip" | "ip6", "saddr") => right.any(wanted, &|one| is_address(one, self.source)),
            ("ip" | "ip6", "daddr") => right.any(wanted, &|one| is_address(one, self.destination)),
            ("ip", "protocol") | ("ip6", "nexthdr") => {
                right.any(wanted, &|one| is_number(one, Some(u64::from(TCP)), "tcp"))
            }
            ("tcp" | "th", "sport") => port(self.source_port),
            ("tcp" | "th", "dport") => port(self.destination_port),
            _ => Truth::Unclear,
        }
    }
}

/// A table in a listing.
struct Place<'a> {
    listed: &'a Value,
    family: &'a str,
    table: &'a str,
}

impl<'a> Place<'a> {
    fn walk(&self, chain: &str, packet: &Packet<'_>, depth: usize) -> Outcome {
        if depth > MOST_DEEP {
            return Outcome::Unclear;
        }
        for rule in self.items("rule").filter(|rule| text(rule, "chain") == chain) {
            let mut truth = Truth::Yes;
            for part in rule["expr"].as_array().into_iter().flatten() {
                let Some((word, about)) = part.as_object().and_then(|part| part.iter().next()) else {
                    return Outcome::Unclear;
                };
                match word.as_str() {
                    "match" => truth = truth.and(self.judge(about, packet)),
                    "counter" | "log" | "mangle" | "notrack" => {}
                    "accept" | "drop" | "reject" | "jump" | "goto" | "return" => {
                        match self.verdict((word, about), truth, packet, depth) {
                            Some(outcome) => return outcome,
                            None => break,
                        }
                    }
                    "vmap" => return Outcome::Unclear,
                    _ => truth = truth.and(Truth::Unclear),
                }
            }
        }
        Outcome::Through
    }

    /// What a verdict leads to under conditions of which this is true; none: on to the next rule.
    fn verdict(
        &self,
        (word, about): (&str, &Value),
        truth: Truth,
        packet: &Packet<'_>,
        depth: usize,
    ) -> Option<Outcome> {
        let drops = word == "drop" || word == "reject";
        match (truth, word) {
            (Truth::No, _) => None,
            // If it does drop, all the better a reason; if not, the next rule says more.
            (Truth::Unclear, _) => (!drops).then_some(Outcome::Unclear),
            (Truth::Yes, _) if drops => Some(Outcome::Dropped),
            (Truth::Yes, "accept") => Some(Outcome::Accepted),
            (Truth::Yes, "return") => Some(Outcome::Through),
            (Truth::Yes, _) => {
                let outcome = self.walk(text(about, "target"), packet, depth + 1);
                (outcome != Outcome::Through || word == "goto").then_some(outcome)
            }
        }
    }

    fn judge(&self, condition: &Value, packet: &Packet<'_>) -> Truth {
        let left = &condition["left"];
        if packet.has_no(text(&left["payload"], "protocol")) {
            return Truth::No;
        }
        let truth = packet.holds(left, self, &condition["right"]);
        match text(condition, "op") {
            "==" | "in" => truth,
            "!=" => truth.not(),
            _ => Truth::Unclear,
        }
    }

    /// Whether it is one of these.
    fn any(&self, wanted: &Value, is: &dyn Fn(&Value) -> Truth) -> Truth {
        if let Some(name) = wanted.as_str().and_then(|name| name.strip_prefix('@')) {
            let set = self.items("set").find(|set| text(set, "name") == name);
            return set.map_or(Truth::Unclear, |set| self.any(&set["elem"], is));
        }
        let list = wanted.as_array().or_else(|| wanted["set"].as_array());
        list.map_or_else(|| is(wanted), |list| list.iter().map(is).fold(Truth::No, Truth::or))
    }

    fn items(&self, kind: &'static str) -> impl Iterator<Item = &'a Value> {
        let (family, table) = (self.family, self.table);
        let all = self.listed["nftables"].as_array().into_iter().flatten().map(move |item| &item[kind]);
        all.filter(move |item| text(item, "family") == family && text(item, "table") == table)
    }
}

impl Truth {
    const fn of(it: bool) -> Self {
        if it { Self::Yes } else { Self::No }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            (Self::Unclear, Self::Yes | Self::Unclear) | (Self::Yes, Self::Unclear) => Self::Unclear,
        }
    }

    fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    const fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unclear => Self::Unclear,
        }
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// A star at the end stands for the rest of a name.
fn is_name(wanted: &Value, name: &str) -> Truth {
    let Some(wanted) = wanted.as_str() else { return Truth::Unclear };
    let begins = |begin: &str| name.starts_with(begin) && !name.is_empty();
    Truth::of(wanted.strip_suffix('*').map_or(wanted == name, begins))
}

/// A number, a range, or the name that nft prints for the number.
fn is_number(wanted: &Value, number: Option<u64>, name: &str) -> Truth {
    if let Some(text) = wanted.as_str() {
        return Truth::of(text == name);
    }
    let range = wanted["range"].as_array().map(Vec::as_slice);
    let (first, last) = match range {
        Some([first, last]) => (first.as_u64(), last.as_u64()),
        Some(_) | None => (wanted.as_u64(), wanted.as_u64()),
    };
    match (number, first, last) {
        (Some(number), Some(first), Some(last)) => Truth::of((first..=last).contains(&number)),
        _ => Truth::Unclear,
    }
}

/// An address, a prefix or a range.
fn is_address(wanted: &Value, ip: IpAddr) -> Truth {
    let parse = |value: &Value| value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
    let bits = wanted["prefix"]["len"].as_u64().and_then(|len| u8::try_from(len).ok());
    let prefix = parse(&wanted["prefix"]["addr"]).zip(bits).and_then(|(ip, len)| Prefix::new(ip, len));
    let range = wanted["range"].as_array().map(Vec::as_slice);
    let range = range.and_then(|range| Some((parse(range.first()?)?, parse(range.get(1)?)?)));
    match (parse(wanted), prefix, range) {
        (Some(one), _, _) => Truth::of(one == ip),
        (None, Some(prefix), _) => Truth::of(prefix.contains(ip)),
        (None, None, Some((first, last))) => Truth::of(first <= ip && ip <= last),
        (None, None, None) => Truth::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::slice::from_ref;

    fn sync() -> Sync {
        super::super::tests::config("").sync.expect("a sync link")
    }

    /// A chain on this hook with this policy, and rules of these parts; and a chain `sub` with one rule.
    fn listed(hook: &str, policy: &str, rules: &[Value], sub: &Value) -> Value {
        let table = json!({"family": "inet", "table": "filter"});
        let with = |more: Value| {
            let mut all = table.clone();
            all.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
            all
        };
        let mut items = vec![
            json!({"chain": with(json!({"name": "it", "hook": hook, "type": "filter", "policy": policy}))}),
            json!({"set": with(json!({"name": "peers", "elem": ["10.255.0.2", "10.255.0.9"]}))}),
            json!({"rule": with(json!({"chain": "sub", "expr": sub}))}),
        ];
        items.extend(rules.iter().map(|parts| json!({"rule": with(json!({"chain": "it", "expr": parts}))})));
        json!({ "nftables": items })
    }

    fn drops(hook: &str, policy: &str, rules: &[Value]) -> bool {
        let sub = json!([matching("tcp", "dport", json!({"range": [7000, 7200]})), {"accept": null}]);
        let found = droppers(&listed(hook, policy, rules, &sub), &sync(), Service::Session);
        assert!(found.is_empty() || found == ["chain it of table inet filter"], "{found:?}");
        !found.is_empty()
    }

    fn matching(protocol: &str, field: &str, right: Value) -> Value {
        json!({"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": field}}, "right": right}})
    }

    fn state(states: Value) -> Value {
        json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": states}})
    }

    #[test]
    fn a_policy_drops_what_no_rule_lets_through() {
        let established =
            json!([state(json!(["established", "related"])), {"counter": {}}, {"accept": null}]);
        assert!(
            !drops("input", "accept", &[]) && drops("input", "drop", &[]) && drops("output", "drop", &[])
        );
        assert!(!drops("forward", "drop", &[]), "the session is with this node itself");
        // This node has the lower address: it calls, and what comes in are answers.
        assert!(!drops("input", "drop", from_ref(&established)));
        assert!(drops("output", "drop", &[established]));
        let port = |port: u16| json!([matching("tcp", "dport", port.into()), {"accept": null}]);
        assert!(drops("output", "drop", &[port(7000)]) && !drops("output", "drop", &[port(7112)]));
        let peers = json!([matching("ip", "daddr", "@peers".into()), {"accept": null}]);
        assert!(!drops("output", "drop", &[peers]));
        let jump = json!([{"jump": {"target": "sub"}}]);
        assert!(
            !drops("output", "drop", from_ref(&jump))
                && drops("output", "accept", &[json!([{"drop": null}])])
        );
        assert!(!drops("input", "drop", &[jump]), "the caller's port may be one of these");
        let rules = [port(7112), port(7113)].map(|rule| listed("input", "drop", &[rule], &json!([])));
        let dropped = rules.map(|rules| droppers(&rules, &sync(), Service::Config).len());
        assert_eq!(dropped, [1, 0], "the other node calls by XML-RPC, on a port of its own");
    }

    #[test]
    fn a_rule_drops_only_where_it_certainly_applies() {
        let drop = |condition: Value| json!([condition, {"counter": {}}, {"drop": null}]);
        let link = |op: &str, names: Value| json!({"match": {"op": op, "left": {"meta": {"key": "iifname"}}, "right": names}});
        assert!(drops("input", "accept", &[drop(link("==", "sync*".into()))]));
        assert!(drops("input", "accept", &[drop(link("!=", json!({"set": ["lan0", "wan0"]})))]));
        assert!(!drops("input", "accept", &[drop(link("!=", json!({"set": ["sync0", "wan0"]})))]));
        let network = |address: &str| matching("ip", "saddr", json!({"prefix": {"addr": address, "len": 8}}));
        assert!(drops("input", "accept", &[drop(network("10.0.0.0"))]));
        assert!(!drops("input", "accept", &[drop(network("11.0.0.0"))]));
        let not = |mut condition: Value| {
            condition["match"]["op"] = "!=".into();
            drop(condition)
        };
        assert!(drops("input", "accept", &[not(network("11.0.0.0"))]));
        assert!(!drops("input", "accept", &[not(network("10.0.0.0"))]));
        assert!(!drops("input", "accept", &[not(matching("udp", "dport", 1.into()))]), "a condition on UDP");
        assert!(!drops("input", "accept", &[drop(matching("ip6", "saddr", "fd00::1".into()))]));
        assert!(!drops("input", "accept", &[drop(json!({"xt": null}))]), "nobody knows");
        let perhaps = json!([{"limit": {}}, {"accept": null}]);
        assert!(!drops("input", "drop", &[perhaps]), "it may be let through");
        assert!(drops("input", "drop", &[drop(json!({"xt": null}))]), "one way or the other");
    }
}
