//! The tables `[node.scripts.NAME]`: the programs of this node that tracks and hooks may start. They stand where `[node]`
//! does and never come from the other node: what a pair shares names a script, and each node says what that is.

use super::fields::{At, Fields};
use super::mistake::Mistake;
use super::reference::{Key, Kind};
use super::track::{NAME, is_name};
use std::collections::BTreeMap;
use std::path::Path;

/// Who scripts run as, where nobody is named.
pub const NOBODY: &str = "nobody";

/// Keys of every table `[node.scripts.NAME]`.
pub const SCRIPT: &[Key] = &[
    Key {
        name: "command",
        kind: Kind::List,
        range: "at most 64; the first is an absolute path of a program that not everybody can write",
        unit: "",
        default: "",
        example: r#"["/usr/local/lib/carp/check-dns", "--fast"]"#,
        meaning: "The program and its words, as they are: no shell is between.",
    },
    Key {
        name: "user",
        kind: Kind::Text,
        range: "a user of `/etc/passwd`, or a number",
        unit: "",
        default: r#""nobody""#,
        example: r#""unbound""#,
        meaning: "Who it runs as, with that user's group and no other.",
    },
];

/// A program of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The program, absolute, and its words.
    pub command: Vec<String>,
    /// Who it runs as: a name, or a number.
    pub user: String,
}

impl Script {
    /// Most scripts of a node. Policy: more are a mistake in the configuration.
    pub const MOST: usize = 64;
    /// Most words of a command. Policy as above.
    pub const MOST_WORDS: usize = 64;
}

/// What of a script is to be seen on the machine that it is for.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// Whether this program can be started, and cannot be replaced by anybody.
    Program(&'a Path),
    /// Whether there is such a user.
    User(&'a str),
}

/// What was seen that is not right: what is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: String,
}

/// All scripts that are in order.
pub(super) fn read(
    fields: &Fields<'_>,
    examine: &dyn Fn(Asked<'_>) -> Result<(), Unfit>,
    mistakes: &mut Vec<Mistake>,
) -> BTreeMap<String, Script> {
    let tables = fields.named_tables("scripts", ("[node.scripts.NAME]", SCRIPT), mistakes);
    if let (true, Some((_, last))) = (tables.len() > Script::MOST, tables.last()) {
        let what = format!("{} scripts", tables.len());
        mistakes.push(Mistake::at(last.place_of_table(), what, format!("expected at most {}", Script::MOST)));
    }
    let mut scripts = BTreeMap::new();
    for (name, fields) in &tables {
        if !is_name(name) {
            mistakes.push(Mistake::at(fields.place_of_table(), format!("\"{name}\" cannot be a name"), NAME));
        }
        scripts.extend(script(fields, examine, mistakes).map(|script| ((*name).to_owned(), script)));
    }
    scripts
}

fn script(
    fields: &Fields<'_>,
    examine: &dyn Fn(Asked<'_>) -> Result<(), Unfit>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Script> {
    let command = fields.list("command", mistakes).and_then(|words| command(&words, examine, mistakes));
    let user = fields.optional("user", mistakes);
    if let Some(user) = &user
        && let Err(Unfit { what, help }) = examine(Asked::User(user.value))
    {
        mistakes.push(Mistake::at(user.place.clone(), what, "expected a user of this machine").help(help));
    }
    Some(Script { command: command?, user: user.map_or(NOBODY, |user| user.value).to_owned() })
}

fn command(
    words: &At<Vec<At<&str>>>,
    examine: &dyn Fn(Asked<'_>) -> Result<(), Unfit>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Vec<String>> {
    let Some(program) = words.value.first() else {
        let mistake = Mistake::at(words.place.clone(), "a script without a program", "expected its path");
        mistakes.push(mistake.help("for example command = [\"/usr/local/lib/carp/check-dns\"]"));
        return None;
    };
    let path = Path::new(program.value);
    let is_odd = |word: &At<&str>| word.value.contains('\0');
    if !path.is_absolute() {
        let what = format!("\"{}\" is no absolute path", program.value);
        let mistake = Mistake::at(program.place.clone(), what, "expected one that begins with /");
        mistakes.push(mistake.help("carpd looks for programs in no folder but the one that is named"));
    } else if words.value.len() > Script::MOST_WORDS || words.value.iter().any(is_odd) {
        let what = format!("a command of {} words", words.value.len());
        let expected = format!("expected at most {}, without NUL", Script::MOST_WORDS);
        mistakes.push(Mistake::at(words.place.clone(), what, expected));
    } else if let Err(Unfit { what, help }) = examine(Asked::Program(path)) {
        mistakes.push(Mistake::at(program.place.clone(), what, "this program").help(help));
    }
    Some(words.value.iter().map(|word| word.value.to_owned()).collect())
}
