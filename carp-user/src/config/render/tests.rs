use super::super::kernel::RP_FILTERS;
use super::super::nat::keys::FORWARD;
use super::super::reference::{AUTH_MODES, EXAMPLE, FLAVOURS, GROUP, ROUTE, RULE, XDP_MODES};
use super::super::{Source, parse, private};
use super::*;
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;
use std::collections::BTreeMap;
use toml::Table;

/// Every file has a secret of its own; a sync key if its name begins so.
fn secret(file: &Path) -> Result<private::Content, private::Problem> {
    let name = file.to_str().expect("it was a string");
    let seed = name.bytes().fold(1_u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let digits = format!("{seed:08x}");
    let content =
        if name.starts_with("key") { digits.repeat(8) } else { format!("hex:{}", digits.repeat(5)) };
    Ok(content.into_bytes().into())
}

fn parsed(text: &str) -> Config {
    let source = Source { name: "carp.toml".into(), text: text.into() };
    parse(source, None, secret).unwrap_or_else(|mistakes| panic!("{text}\n{}", mistakes.render(false)))
}

type Keys = Vec<Option<(&'static str, Value)>>;

fn flag(name: &'static str) -> BoxedStrategy<Option<(&'static str, Value)>> {
    of(any::<bool>().prop_map(move |flag| (name, Value::Boolean(flag)))).boxed()
}

fn number(name: &'static str, most: i64) -> BoxedStrategy<Option<(&'static str, Value)>> {
    of((i64::from(name == "base")..=most).prop_map(move |number| (name, Value::Integer(number)))).boxed()
}

fn choice(
    name: &'static str,
    of_these: &'static [&'static str],
) -> BoxedStrategy<Option<(&'static str, Value)>> {
    of(select(of_these).prop_map(move |choice| (name, choice.into()))).boxed()
}

/// Any text that a file may be called, also one that has to be escaped.
fn file(name: &'static str, prefix: &'static str) -> BoxedStrategy<(&'static str, Value)> {
    any::<String>().prop_map(move |text| (name, format!("{prefix}{text}").into())).boxed()
}

fn table(keys: Keys) -> Table {
    keys.into_iter().flatten().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn device() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9.-]{0,14}"
}

fn node() -> impl Strategy<Value = Table> {
    let name = "[a-z0-9-]{1,32}".prop_map(|name| Some(("name", name.into())));
    let keys =
        (name, number("skew", 127), flag("preempt"), number("preempt_delay", 3600), choice("xdp", XDP_MODES));
    // Roles may be called like devices, or like nothing that can stand without quotes.
    let role = Union::new([device().boxed(), any::<String>().boxed()]);
    (keys, btree_map(role, device(), 0..4)).prop_map(|((name, skew, preempt, delay, xdp), interfaces)| {
        let interfaces = interfaces.into_iter().map(|(role, device)| (role, device.into()));
        let interfaces = Some(("interfaces", Value::Table(interfaces.collect())));
        table(vec![name, skew, preempt, delay, xdp, interfaces])
    })
}

fn rules(name: &'static str) -> impl Strategy<Value = Option<(&'static str, Value)>> {
    let prefix = select(&["10.9.0.0/16", "10.9.0.1", "fd00::/8", "::/0"][..]);
    let protocol = select(&["tcp", "udp", "6", "89"][..]);
    let port = select(&["53", "0-65535", "7-7"][..]);
    let mark = select(&["0", "0x10", "4294967295", "0x10/0xff", "0/0"][..]);
    let rule = (of(prefix), of(protocol), of(port), of(mark)).prop_filter_map("a condition", |found| {
        let (prefix, protocol, port, mark) = found;
        let found = [("prefix", prefix), ("protocol", protocol), ("port", port), ("mark", mark)];
        let keys = found.map(|(name, value)| value.map(|value| (name, Value::from(value))));
        Some(Value::Table(table(keys.into()))).filter(|rule| rule != &Value::Table(Table::new()))
    });
    of(vec(rule, 0..4)).prop_map(move |rules| rules.map(|rules| (name, Value::Array(rules))))
}

fn sync() -> impl Strategy<Value = Table> {
    let port = of((1_i64..=65535).prop_map(|port| ("port", Value::Integer(port))));
    let keys =
        (file("key_file", "key"), of(file("next_key_file", "key2")), rules("include"), rules("exclude"));
    (device(), any::<bool>(), port, keys).prop_map(|(interface, v6, port, (key, next, include, exclude))| {
        let [address, peer] = if v6 { ["fd00::1", "fd00::2"] } else { ["10.255.0.1", "10.255.0.2"] };
        let [address, peer] =
            [("address", address), ("peer", peer)].map(|(name, ip)| Some((name, ip.into())));
        let interface = Some(("interface", interface.into()));
        table(vec![interface, address, peer, port, Some(key), next, include, exclude])
    })
}

/// Without its number and addresses, which [`config`] makes unique.
fn host() -> impl Strategy<Value = (Table, usize)> {
    // Three variants under two passwords would be more than the datapath holds.
    let digests = (of(file("next_password_file", "next")), choice("digest", &["freebsd", "openbsd-nov6ll"]));
    let digests = Union::new([digests.boxed(), (Just(None), choice("digest", &["netbsd", "fb05"])).boxed()]);
    let first = (device(), file("password_file", "pw"), digests, choice("auth", AUTH_MODES));
    let preempts = (flag("preempt"), number("preempt_delay", 3600));
    let pace = (number("base", 254), number("skew", 127), preempts, choice("flavour", FLAVOURS));
    (first, pace, flag("answer_ping"), number("tos", 255), 1_usize..4).prop_map(
        |((interface, password, (next, digest), auth), (base, skew, preempts, flavour), ping, tos, count)| {
            let (preempt, delay) = preempts;
            let interface = Some(("interface", interface.into()));
            let mut keys = vec![interface, Some(password), next, digest, auth, base, skew, preempt, delay];
            keys.extend([flavour, ping, tos]);
            (table(keys), count)
        },
    )
}

/// Rules for the first virtual host, which is on this device with 10.0.1.1.
fn nat(device: &str) -> impl Strategy<Value = (Table, bool)> + use<> {
    let (device, outside) = (device.to_owned(), device.to_owned());
    let ports = select(&["1024-65535", "7-7", "53"][..]);
    let outbound = (of(select(&["tcp", "udp"][..])), of(ports), any::<bool>(), any::<bool>()).prop_map(
        move |(protocol, ports, except, is_static)| {
            let key = |name, value: &str| Some((name, Value::from(value)));
            let except = except.then(|| ("except", Value::Array(vec!["172.16.0.0/12".into()])));
            let is_static = ("static_port", Value::Boolean(is_static && ports.is_none()));
            let source = Some(("source", Value::Array(vec!["192.168.0.0/24".into(), "192.168.9.1".into()])));
            let protocol = protocol.and_then(|name| key("protocol", name));
            let ports = ports.and_then(|ports| key("ports", ports));
            let all =
                vec![source, key("interface", &outside), key("to", "10.0.1.1"), except, protocol, ports];
            let mut table = table(all);
            table.insert(is_static.0.into(), is_static.1);
            Value::Table(table)
        },
    );
    let forward = (select(&["tcp", "udp"][..]), of(1_i64..=65535), any::<bool>());
    let rules = (vec(outbound, 0..3), vec(forward, 0..3), any::<bool>(), any::<bool>());
    rules.prop_map(move |(outbound, forwards, pair, firewall)| {
        let forwards = (80_i64..).zip(forwards).map(|(port, (protocol, host_port, hairpin))| {
            let key = |name, value: Value| Some((name, value));
            Value::Table(table(vec![
                key("to", "10.0.1.1".into()),
                key("protocol", protocol.into()),
                key("port", Value::Integer(port)),
                key("host", "192.168.0.5".into()),
                host_port.map(|port| ("host_port", Value::Integer(port))),
                key("hairpin", Value::Boolean(hairpin)),
            ]))
        });
        let pair = pair.then(|| {
            let keys = [("vip", "10.0.1.1"), ("host", "192.168.0.9")];
            Value::Table(table(keys.map(|(name, value)| Some((name, value.into()))).into()))
        });
        let network = firewall.then(|| {
            let keys = [("interface", &*device), ("inside", "fd99::/64"), ("outside", "2001:db8:1::/64")];
            Value::Table(table(keys.map(|(name, value)| Some((name, value.into()))).into()))
        });
        let lists = [
            ("prefix", network.into_iter().collect()),
            ("outbound", outbound),
            ("forward", forwards.collect()),
            ("one_to_one", pair.into_iter().collect()),
        ];
        let lists = lists.map(|(name, list)| Some((name, Value::Array(list))));
        (table(lists.into()), firewall)
    })
}

/// Routes by the first virtual host, which is on this device with 10.0.1.1.
fn routes(device: &str) -> impl Strategy<Value = Vec<Value>> + use<> {
    let device = device.to_owned();
    let to = select(&["default", "0.0.0.0/0", "10.9.0.0/16", "192.0.2.1"][..]);
    vec((to, any::<bool>(), of(1_i64..=3)), 0..4).prop_map(move |routes| {
        // One of several with the same metric is left.
        let unique: BTreeMap<_, _> = routes
            .into_iter()
            .map(|(to, source, metric)| ((to.replace("default", "0.0.0.0/0"), metric), (to, source)))
            .collect();
        let route = |((_, metric), (to, source)): ((String, Option<i64>), (&str, bool))| {
            let key = |name, value: &str| Some((name, Value::from(value)));
            let source = source.then(|| ("source", "10.0.1.1".into()));
            let metric = metric.map(|metric| ("metric", Value::Integer(metric)));
            let keys =
                vec![key("to", to), key("via", "10.0.1.254"), key("interface", &device), source, metric];
            Value::Table(table(keys))
        };
        unique.into_iter().map(route).collect()
    })
}

fn config() -> impl Strategy<Value = String> {
    let hosts = vec(host(), 1..5).prop_flat_map(|hosts| {
        let device = hosts[0].0["interface"].as_str().expect("a name").to_owned();
        (Just(hosts), of(nat(&device)), routes(&device))
    });
    let count = || of(1_i64..=100);
    let track = (of(1_i64..=254), of(100_i64..=60_000), of(10_i64..=60_000), count(), count());
    let tracks = vec(track, 0..3);
    let kernel = (flag("forwarding"), flag("arp"), choice("rp_filter", RP_FILTERS), flag("tcp_liberal"));
    let most = of((1024_i64..=0x7fff_ffff).prop_map(|most| ("conntrack_max", Value::Integer(most))));
    let kernel = of((kernel, most).prop_map(|((forwarding, arp, filter, liberal), most)| {
        ("kernel", Value::Table(table(vec![forwarding, arp, filter, liberal, most])))
    }));
    let all = (node(), of(sync()), hosts, kernel, tracks);
    all.prop_map(|(mut node, sync, (hosts, nat, routes), kernel, tracks)| {
        let script = ["/bin/check", "a \"word\""].map(Value::from).to_vec();
        let script = table(vec![Some(("command", Value::Array(script)))]);
        node.insert(
            "scripts".into(),
            Value::Table([("check".to_owned(), Value::Table(script))].into_iter().collect()),
        );
        let tracks = (1..).zip(tracks).map(|(number, (demote, interval, timeout, rise, fall))| {
            let number = format!("t{number}").into();
            let key = |name, value: Option<i64>| value.map(|value| (name, Value::Integer(value)));
            let keys = [
                ("demote", demote),
                ("interval", interval),
                ("timeout", timeout),
                ("rise", rise),
                ("fall", fall),
            ];
            let keys = keys.map(|(name, value)| key(name, value));
            let first = [Some(("name", number)), Some(("script", Value::from("check")))];
            Value::Table(table(first.into_iter().chain(keys).collect()))
        });
        let tracks = Some(("track", Value::Array(tracks.collect())));
        let hosts = (1_u8..).zip(hosts).map(|(vhid, (mut host, count))| {
            if count > 2 && vhid == 1 {
                host.insert("snat".into(), "vip".into());
            }
            host.insert("vhid".into(), Value::Integer(vhid.into()));
            let all = [format!("10.0.{vhid}.1/24"), format!("10.0.{vhid}.2"), format!("fd00::{vhid}/64")];
            let vips = all.into_iter().take(count).map(Value::String);
            host.insert("addresses".into(), Value::Array(vips.collect()));
            Value::Table(host)
        });
        let hosts = Some(("virtual_host", Value::Array(hosts.collect())));
        let sync = sync.map(|sync| ("sync", Value::Table(sync)));
        let firewall = nat.as_ref().map(|(_, enabled)| {
            ("firewall", Value::Table(table(vec![Some(("enabled", Value::Boolean(*enabled)))])))
        });
        let nat = nat.map(|(nat, _)| ("nat", Value::Table(nat)));
        let routes = Some(("route", Value::Array(routes)));
        table(vec![Some(("node", Value::Table(node))), sync, hosts, routes, nat, firewall, kernel, tracks])
            .to_string()
    })
}

proptest! {
    #[test]
    fn what_is_written_is_the_same_configuration_in_both_forms(text in config()) {
        let config = parsed(&text);
        for form in [Form::Short, Form::Effective] {
            let written = render(&config, form);
            prop_assert_eq!(&parsed(&written), &config, "{}", written);
            prop_assert_eq!(render(&parsed(&written), form), written);
        }
    }
}

#[test]
fn the_short_form_of_the_example_is_the_example_but_for_what_counts_anyway() {
    let example = EXAMPLE.replace("/etc/carp/sync.key", "key");
    // Roles are sorted.
    let [wan, sync] = ["wan = \"eth0\"\n", "sync = \"eth2\"\n"];
    let expected = example.replace("skew = 0\n", "").replace(&[wan, sync].concat(), &[sync, wan].concat());
    assert_eq!(render(&parsed(&example), Form::Short), expected);
}

#[test]
fn the_effective_form_has_every_key_of_the_reference() {
    let next = "next_password_file = \"pw2\"\ngroup = \"edge\"\n";
    let rules = "[{ prefix = \"::/0\", protocol = 6, port = 1, mark = 1 }]";
    let last = "password_file = \"/etc/carp/wan.password\"\n";
    let text = EXAMPLE.replace("/etc/carp/sync.key", "key").replace(last, &format!("{last}{next}")).replace(
        "peer =",
        &format!("next_key_file = \"key2\"\ninclude = {rules}\nexclude = {rules}\npeer ="),
    );
    let scripts = "[node.scripts.check]\ncommand = [\"/bin/true\"]\n";
    let track = "[[track]]\nname = \"dns\"\nscript = \"check\"\n";
    let group = "[[group]]\nname = \"edge\"\n";
    let text = text.replacen("[sync]\n", &format!("{scripts}[sync]\n"), 1) + track + group;
    let whole: Table = render(&parsed(&text), Form::Effective).parse().expect("it is TOML");
    let keys = |table: &Value| table.as_table().expect("a table").keys().cloned().collect::<Vec<_>>();
    let last = whole["virtual_host"].as_array().and_then(|hosts| hosts.last()).expect("a host");
    let rule = &whole["sync"]["include"].as_array().expect("rules")[0];
    let route = &whole["route"].as_array().expect("routes")[0];
    let forward = &whole["nat"]["forward"].as_array().expect("rules")[0];
    for (written, reference) in [
        (&whole["node"], NODE),
        (&whole["sync"], SYNC),
        (last, VIRTUAL_HOST),
        (&whole["group"].as_array().expect("groups")[0], GROUP),
        (rule, RULE),
        (route, ROUTE),
        (forward, FORWARD),
        (&whole["node"]["scripts"]["check"], SCRIPT),
    ] {
        let mut names: Vec<&str> = reference.iter().map(|key| key.name).collect();
        names.sort_unstable();
        assert_eq!(keys(written), names);
    }
}
