use super::super::render::{Form, render};
use super::super::script::{Asked, Unfit};
use super::super::{Config, Mistakes, Source, parse_here};
use super::keys::KINDS;
use super::*;
use crate::proto::gate;
use carp_common::id::IfIndex;
use std::collections::BTreeSet;

const HOST: &str =
    "[[virtual_host]]\ninterface = \"lan\"\nvhid = 1\naddresses = [\"10.0.0.1\"]\npassword_file = \"pw\"\n";
const NODE: &str = "[node]\nname = \"gw1\"\n[node.interfaces]\nlan = \"eth1\"\nwan = \"eth0\"\n\
    [node.scripts.dns]\ncommand = [\"/lib/dns\", \"a b\"]\n[node.scripts.web]\ncommand = [\"/lib/web\"]\nuser = \"www\"\n";

fn source(name: &str, text: String) -> Source {
    Source { name: name.into(), text }
}

fn examine(asked: Asked<'_>) -> Result<(), Unfit> {
    let unfit = |what: String| Err(Unfit { what, help: "repair it".into() });
    match asked {
        Asked::Program(path) if path.starts_with("/bad") => unfit(format!("{} is bad", path.display())),
        Asked::User("gone") => unfit("there is no user \"gone\"".into()),
        Asked::Program(_) | Asked::User(_) => Ok(()),
    }
}

fn with(tracks: &str, node: &str) -> Result<Config, Mistakes> {
    let secret = |_: &std::path::Path| Ok(b"secret".to_vec().into());
    let own = Some(source("node.toml", node.to_owned()));
    parse_here(source("carp.toml", format!("{HOST}{tracks}")), own, secret, &examine)
}

/// The text that the only mistake points to, and what is said of it.
fn only(tracks: &str, node: &str) -> String {
    let found = with(tracks, node).expect_err(tracks);
    assert_eq!(found.list().len(), 1, "{}", found.render(false));
    let mistake = &found.list()[0];
    let place = mistake.place.clone().expect("a place");
    let shared = format!("{HOST}{tracks}");
    let text = if place.file == super::super::File::Shared { &shared } else { node };
    let line = text[place.span].lines().next().unwrap_or_default().to_owned();
    format!("{line} | {} | {}", mistake.what, mistake.help.as_deref().unwrap_or("-"))
}

fn track(lines: &str) -> String {
    format!("[[track]]\nname = \"t\"\n{lines}\n")
}

#[test]
fn a_track_of_a_script_has_the_command_of_this_node_and_the_defaults() {
    let text = "[[track]]\nname = \"a\"\nscript = \"dns\"\n[[track]]\nname = \"b\"\nkind = \"script\"\nscript = \"web\"\n\
        demote = 7\ninterval = 100\ntimeout = 60000\nrise = 1\nfall = 100\n";
    let tracks = with(text, NODE).map_err(|found| found.render(false)).expect("right").tracks;
    let script = |name: &str, command: &[&str], user: &str| Probe::Script {
        name: name.to_owned(),
        script: Script {
            command: command.iter().map(|&word| word.to_owned()).collect(),
            user: user.to_owned(),
        },
    };
    let a = Track {
        name: "a".into(),
        probe: script("dns", &["/lib/dns", "a b"], "nobody"),
        demote: 240,
        interval: 1_000,
        timeout: 1_000,
        rise: 2,
        fall: 3,
    };
    let b = Track {
        name: "b".into(),
        probe: script("web", &["/lib/web"], "www"),
        demote: 7,
        interval: 100,
        timeout: 60_000,
        rise: 1,
        fall: 100,
    };
    assert_eq!(tracks, [a, b]);
    assert_eq!(tracks[1].setup().what, "script web: /lib/web as www");
}

#[test]
fn every_kind_is_written_as_it_is_read() {
    let kinds = [
        "script = \"dns\"",
        "kind = \"gateway\"\ninterface = \"wan\"\naddress = \"fe80::9\"",
        "kind = \"process\"\nprocess = \"unbound\"",
        "kind = \"unit\"\nunit = \"a@b.service\"",
        "kind = \"file\"\nfile = \"/a b\"",
        "kind = \"file\"\nfile = \"/a\"\nexists = false",
        "kind = \"interface\"\ninterface = \"eth7\"",
        "kind = \"interface\"\ninterface = \"lan\"\nerrors = 9",
        "kind = \"wake-ups\"\nmost = 7",
    ];
    let text = (1..).zip(kinds).map(|(n, kind)| track(kind).replace("\"t\"", &format!("\"t{n}\"")));
    let hooks = "[[hook]]\nscript = \"web\"\ntimeout = 7000\n[[hook]]\nscript = \"dns\"\nwhen = \"gate\"\non_timeout = \"veto\"\n";
    let config =
        with(&(text.collect::<String>() + hooks), NODE).map_err(|found| found.render(false)).expect("right");
    let told: Vec<String> = config.tracks.iter().map(|track| track.setup().what).collect();
    assert_eq!(
        told,
        [
            "script dns: /lib/dns a b as nobody",
            "fe80::9 on eth0",
            "process unbound",
            "unit a@b.service",
            "file /a b",
            "no file /a",
            "link eth7",
            "link eth1, at most 9 errors a second",
            "wake-ups at most 7 ms late",
        ]
    );
    let hooks: Vec<_> =
        config.hooks.iter().map(|hook| (hook.name.as_str(), hook.timeout, hook.when.passes_late())).collect();
    assert_eq!(hooks, [("web", 7_000, None), ("dns", 10_000, Some(false))]);
    for form in [Form::Short, Form::Effective] {
        let secret = |_: &std::path::Path| Ok(b"secret".to_vec().into());
        let written = render(&config, form);
        let again = parse_here(source("carp.toml", written.clone()), None, secret, &examine);
        assert_eq!(again.map_err(|found| found.render(false)), Ok(config.clone()), "{written}");
    }
    let kinds: BTreeSet<&str> = config.tracks.iter().map(|track| track.probe.kind()).collect();
    assert_eq!(kinds, KINDS.iter().copied().collect());
}

#[test]
fn what_no_track_can_be_is_refused_at_its_place() {
    for (lines, said) in [
        ("kind = \"skript\"", "\"skript\" | `kind` cannot be \"skript\" | did you mean `script`?"),
        ("", "[[track]] | [[track]] has no `script` | for example script = \"check-dns\""),
        (
            "script = \"smtp\"",
            "\"smtp\" | there is no script \"smtp\" on this node | there are: dns, web; write [node.scripts.smtp] and below it \
             command = [\"/path/of/the/program\"], beside [node]",
        ),
        (
            "script = \"dns\"\nfile = \"/a\"",
            "\"/a\" | `file` is nothing for a track of kind \"script\" | take it out, or write the kind that it belongs to: file",
        ),
        (
            "kind = \"gateway\"\naddress = \"192.0.2.9\"",
            "[[track]] | [[track]] has no `interface` | for example interface = \"wan\"",
        ),
        (
            "kind = \"gateway\"\ninterface = \"wan\"\naddress = \"10.0.0.1\"",
            "\"10.0.0.1\" | 10.0.0.1 is a VIP: it moves with the role | -",
        ),
        (
            "kind = \"interface\"\ninterface = \"an uplink of the provider\"",
            "\"an uplink of the provider\" | \"an uplink of the provider\" is neither a role in [node.interfaces] nor a device name | -",
        ),
        (
            "kind = \"unit\"\nunit = \"dns\"",
            "\"dns\" | \"dns\" is no name of a unit | for example \"unbound.service\"",
        ),
        (
            "kind = \"unit\"\nunit = \"-h.x\"",
            "\"-h.x\" | \"-h.x\" is no name of a unit | for example \"unbound.service\"",
        ),
        ("kind = \"file\"\nfile = \"a\"", "\"a\" | \"a\" is no absolute path | -"),
        (
            "script = \"dns\"\ninterval = 99",
            "99 | `interval` is out of range | the nearest valid value is 100",
        ),
        ("script = \"dns\"\nfall = 0", "0 | `fall` is out of range | the nearest valid value is 1"),
        ("script = \"dns\"\ndemote = 255", "255 | `demote` is out of range | the nearest valid value is 254"),
    ] {
        assert_eq!(only(&track(lines), NODE), said);
    }
    let two = [track("script = \"dns\""), track("script = \"web\"")].concat();
    assert_eq!(only(&two, NODE), "\"t\" | two tracks called t | give one of them another name");
    let name = track("script = \"dns\"").replace("\"t\"", "\"T 1\"");
    assert_eq!(only(&name, NODE), "\"T 1\" | \"T 1\" cannot be a name | -");
    let many: String =
        (0..=MOST).map(|n| track("script = \"dns\"").replace("\"t\"", &format!("\"t{n}\""))).collect();
    assert!(only(&many, NODE).contains("65 tracks"));
}

#[test]
fn what_no_hook_can_be_is_refused_at_its_place() {
    let hook = |lines: &str| only(&format!("[[hook]]\n{lines}\n"), NODE);
    assert!(hook("script = \"smtp\"").starts_with("\"smtp\" | there is no script \"smtp\" on this node"));
    assert!(hook("when = \"notify\"").starts_with("[[hook]] | [[hook]] has no `script`"));
    let late = hook("script = \"dns\"\non_timeout = \"veto\"");
    assert!(late.contains("`on_timeout` is nothing for a hook that nothing waits for"), "{late}");
    assert!(hook("script = \"dns\"\nwhen = \"before\"").contains("`when` cannot be \"before\""));
    let two = "script = \"dns\"\n[[hook]]\nscript = \"dns\"";
    assert_eq!(hook(two), "\"dns\" | two hooks of dns | keep one of the two");
}

#[test]
fn a_script_that_does_not_fit_this_machine_is_refused_at_its_place() {
    let node = |from: &str, to: &str| NODE.replace(from, to);
    for (node, said) in [
        (
            node("\"/lib/web\"", "\"web\""),
            "\"web\" | \"web\" is no absolute path | carpd looks for programs in no folder but the one that is named",
        ),
        (node("\"/lib/web\"", "\"/bad/web\""), "\"/bad/web\" | /bad/web is bad | repair it"),
        (node("\"www\"", "\"gone\""), "\"gone\" | there is no user \"gone\" | repair it"),
        (
            node("[\"/lib/web\"]", "[]"),
            "[] | a script without a program | for example command = [\"/usr/local/lib/carp/check-dns\"]",
        ),
        (node("scripts.web", "scripts.Web"), "[node.scripts.Web] | \"Web\" cannot be a name | -"),
        (node("user =", "usr ="), "usr | unknown key `usr` in [node.scripts.NAME] | did you mean `user`?"),
    ] {
        assert_eq!(only("", &node), said);
    }
    let shared = with("[node.scripts.x]\ncommand = [\"/bin/sh\"]\n", NODE).expect_err("misplaced");
    assert!(shared.render(false).contains("[node] stands in both files"), "{}", shared.render(false));
}

#[test]
fn what_gates_mean_for_a_virtual_host_is_the_sum_of_their_times_and_a_veto_if_one_of_them_wants_that() {
    let gate = |more: &str| {
        let hooks = format!(
            "[[hook]]\nscript = \"web\"\n[[hook]]\nscript = \"dns\"\nwhen = \"gate\"\ntimeout = 700\n{more}"
        );
        let config = with(&hooks, NODE).map_err(|found| found.render(false)).expect("right");
        let setup = config.setup(|_| Some(IfIndex(3)), 9).expect("links are there");
        setup.hosts.first().and_then(|host| host.gate).expect("a gate")
    };
    let setup =
        |patience, passes_unanswered| gate::Setup { patience: Span::millis(patience), passes_unanswered };
    assert_eq!(gate(""), setup(1_700, true));
    assert_eq!(gate("on_timeout = \"veto\"\n"), setup(1_700, false));
}
