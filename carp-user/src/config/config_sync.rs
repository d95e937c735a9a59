//! The table `[config_sync]`: this node is the one that is edited, and the other one follows.

use super::fields::{At, Fields};
use super::mistake::{Mistake, Place};
use super::private::first_line;
use super::reference::{Key, Kind};
use super::sections::{self, SECTIONS, Section};
use super::sync::unicast;
use super::{Document, Node, Sync, private};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Keys of the table `[config_sync]`.
pub const CONFIG_SYNC: &[Key] = &[
    Key {
        name: "to",
        kind: Kind::Text,
        range: "IPv4 or IPv6",
        unit: "",
        default: "the peer of the sync link",
        example: r#""10.255.0.2""#,
        meaning: "The node that follows; without this key the `peer` of `[sync]`.",
    },
    Key {
        name: "user",
        kind: Kind::Text,
        range: "",
        unit: "",
        default: "the name of this node",
        example: r#""config-sync""#,
        meaning: "Name of an account there that may change something: `carpctl join` has made one, or `carpctl account add`.",
    },
    Key {
        name: "password_file",
        kind: Kind::Text,
        range: "mode 0600",
        unit: "",
        default: "`config-sync.password`",
        example: r#""/etc/carp/config-sync.password""#,
        meaning: "File with its password: `carpctl pair` has written it. A relative path starts at the directory of the \
                  shared file.",
    },
    Key {
        name: "sections",
        kind: Kind::List,
        range: "`groups`, `vips`, `routes`, `nat`, `firewall`, `kernel`, `health`, `hooks`",
        unit: "",
        default: "all",
        example: r#"["vips", "nat"]"#,
        meaning: "What goes to the other node. It keeps its own of the others.",
    },
    Key {
        name: "skew_add",
        kind: Kind::Number(0, 254, Some(100)),
        range: "",
        unit: "1/256 s",
        default: "100",
        example: "100",
        meaning: "The skews of the other node are higher by this; what its `[node]` adds counts.",
    },
    Key {
        name: "push",
        kind: Kind::Choice(&["on_apply", "manual"]),
        range: "",
        unit: "",
        default: "\"on_apply\"",
        example: r#""manual""#,
        meaning: "`on_apply`: whatever is applied or reloaded here is used by both nodes or by none. `manual`: when \
                  `carpctl config push` is said.",
    },
    Key {
        name: "require_peer",
        kind: Kind::Flag,
        range: "",
        unit: "",
        default: "false",
        example: "true",
        meaning: "Refuse every change while the other node does not answer. Else it is used here, and the other node gets it \
                  when it is back.",
    },
];

/// The file that has the password by which this node calls the other one, unless another one is named: beside the shared
/// file.
pub const PASSWORD_FILE: &str = "config-sync.password";

/// How this node has another one follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSync {
    /// The other one.
    pub to: IpAddr,
    /// Name of an account there.
    pub user: String,
    /// The file of its password.
    pub password_file: PathBuf,
    /// What was in it.
    pub password: Password,
    /// What goes there.
    pub sections: Vec<&'static Section>,
    /// Added to skews there, 1/256 s.
    pub skew_add: u8,
    /// Whether whatever is applied here goes there.
    pub on_apply: bool,
    /// Whether nothing is changed here without the other one.
    pub require_peer: bool,
}

/// A password that is sent. Wiped when dropped, blind in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub Zeroizing<String>);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// From the file of this node.
pub(super) fn read(
    (shared, own): (&Document, Option<&Document>),
    (node, sync): (Option<&Node>, Option<&Sync>),
    read: impl Fn(&Path) -> Result<private::Content, private::Problem>,
    mistakes: &mut Vec<Mistake>,
) -> Option<ConfigSync> {
    if own.is_some()
        && let Some((key, _)) = shared.top.get_key_value("config_sync")
    {
        let place = Place { file: shared.file, span: key.span() };
        let mistake = Mistake::at(place, "[config_sync] in the shared file", "not here");
        mistakes
            .push(mistake.help("move it to the file of the node that is edited (--node), and to no other"));
    }
    let document = own.unwrap_or(shared);
    let table = document.table("config_sync", "[config_sync]", mistakes)?;
    let fields = Fields::new((document.file, document.whole), "[config_sync]", table, CONFIG_SYNC, mistakes);
    if document.whole && !document.top.contains_key("sync") {
        let mistake = Mistake::at(fields.place_of_table(), "[config_sync] without [sync]", "this table");
        mistakes.push(mistake.help("the configuration goes over the sync link: write [sync]"));
    }
    let to = fields.optional("to", mistakes).map(|text| unicast(&text, mistakes));
    let user = fields.optional("user", mistakes).map(|user| user.value.to_owned());
    let of_pairing = At { value: PASSWORD_FILE, place: fields.place_of_table() };
    let file = fields.optional("password_file", mistakes).unwrap_or(of_pairing);
    let password = password(&file, &read, mistakes);
    let sections = match fields.optional_list("sections", mistakes) {
        Some(names) => names.value.iter().filter_map(|name| section(name, mistakes)).collect(),
        None => SECTIONS.iter().collect(),
    };
    let skew_add = fields.number("skew_add", mistakes);
    let push = fields.choice("push", mistakes);
    let require_peer = fields.flag("require_peer", false, mistakes);
    Some(ConfigSync {
        to: match to {
            Some(to) => to?.value,
            None => sync?.peer,
        },
        user: user.or_else(|| node.map(|node| node.name.clone()))?,
        password_file: file.value.into(),
        password: password?,
        sections,
        skew_add: skew_add?.value,
        on_apply: push?.value == "on_apply",
        require_peer: require_peer?,
    })
}

fn section(name: &At<&str>, mistakes: &mut Vec<Mistake>) -> Option<&'static Section> {
    let found = sections::find(name.value);
    if found.is_none() {
        let names: Vec<&str> = SECTIONS.iter().map(|section| section.name).collect();
        let what = format!("there is no section \"{}\"", name.value);
        let mistake = Mistake::at(name.place.clone(), what, "expected a section");
        mistakes.push(mistake.help(super::fields::nearest(name.value, &names)));
    }
    found
}

fn password(
    file: &At<&str>,
    read: impl Fn(&Path) -> Result<private::Content, private::Problem>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Password> {
    let mut problem = |what: String, help: String| {
        mistakes.push(Mistake::at(file.place.clone(), what, "this file").help(help));
    };
    match read(Path::new(file.value)) {
        Ok(content) => match std::str::from_utf8(first_line(&content)) {
            Ok(line) if !line.is_empty() => Some(Password(Zeroizing::new(line.to_owned()))),
            Ok(_) | Err(_) => {
                let what = format!("{} has no password in its first line", file.value);
                problem(what, "write the account's password into it".to_owned());
                None
            }
        },
        Err(error) => {
            let help = error.help(|path| format!("put the account's password into {}", path.display()));
            problem(error.text("password file"), help);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Mistakes, Source, parse};
    use super::*;

    const HOST: &str = "[[virtual_host]]\ninterface = \"eth0\"\nvhid = 1\naddresses = [\"10.0.0.1\"]\npassword_file = \"pw\"\n";
    const NODE: &str = "[node]\nname = \"gw1\"\n[sync]\ninterface = \"eth2\"\naddress = \"10.255.0.1\"\npeer = \"10.255.0.2\"\nkey_file = \"sync.key\"\n";
    const TABLE: &str = "[config_sync]\nuser = \"sync\"\npassword_file = \"pw\"\n";
    const PAIRED: &str = "[config_sync]\n";

    fn with(own: &str) -> Result<Config, Mistakes> {
        let [shared, own] = [("carp.toml", HOST), ("node.toml", own)]
            .map(|(name, text)| Source { name: name.into(), text: text.into() });
        parse(shared, Some(own), |file| match file.to_str() {
            Some("sync.key") => Ok("0a".repeat(32).into_bytes().into()),
            Some("pw" | PASSWORD_FILE) => Ok(b"secret\n".to_vec().into()),
            _ => Err(private::Problem::TooOpen(file.into(), 0o644)),
        })
    }

    #[test]
    fn what_is_not_said_follows_from_pairing_and_from_the_sync_link() {
        let config = with(&format!("{NODE}{PAIRED}")).unwrap().config_sync.unwrap();
        assert_eq!((config.user.as_str(), config.password_file.to_str()), ("gw1", Some(PASSWORD_FILE)));
        let config = with(&format!("{NODE}{TABLE}")).unwrap().config_sync.unwrap();
        assert_eq!(config.to.to_string(), "10.255.0.2");
        assert_eq!((config.skew_add, config.on_apply, config.require_peer), (100, true, false));
        assert_eq!(config.sections.len(), SECTIONS.len());
        assert!(!format!("{config:?}").contains("secret"), "blind");
        let keys = "sections = [\"nat\"]\nskew_add = 0\npush = \"manual\"\nrequire_peer = true\nto = \"10.255.0.9\"\n";
        let config = with(&format!("{NODE}{TABLE}{keys}")).unwrap().config_sync.unwrap();
        assert_eq!((config.skew_add, config.on_apply, config.require_peer), (0, false, true));
        assert_eq!((config.sections[0].name, config.to.to_string().as_str()), ("nat", "10.255.0.9"));
    }

    #[test]
    fn the_reference_names_every_section() {
        let names: Vec<String> = SECTIONS.iter().map(|section| format!("`{}`", section.name)).collect();
        let key = CONFIG_SYNC.iter().find(|key| key.name == "sections").expect("there is one");
        assert_eq!(key.range, names.join(", "));
    }

    #[test]
    fn slips_are_mistakes() {
        for (own, says) in [
            (format!("{NODE}{TABLE}sections = [\"nats\"]\n"), "did you mean `nat`"),
            (format!("{NODE}{TABLE}push = \"always\"\n"), "`push` cannot be"),
            (format!("{NODE}[config_sync]\nuser = 7\n"), "`user`"),
            (format!("{NODE}[config_sync]\nuser = \"a\"\npassword_file = \"open\"\n"), "chmod 0600"),
            (format!("[node]\nname = \"gw1\"\n{TABLE}"), "without [sync]"),
        ] {
            let mistakes = with(&own).expect_err("wrong").render(false);
            assert!(mistakes.contains(says), "{own}\n{mistakes}");
        }
    }
}
