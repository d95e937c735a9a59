//! The fields of one table, read by type; what does not fit becomes a mistake with advice.

use super::mistake::{File, Mistake, Place};
use super::reference::{Key, Kind};
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table of the document under the eyes of its reference.
pub(super) struct Fields<'a> {
    file: File,
    /// The table as users write it, `[node]`.
    name: &'static str,
    table: &'a DeTable<'a>,
    span: Range<usize>,
    keys: &'static [Key],
    /// Whether an absent key is a mistake: not when the syntax around it is broken.
    whole: bool,
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub value: T,
    pub place: Place,
}

impl<'a> Fields<'a> {
    /// The table's fields; its unknown keys are mistakes.
    pub(super) fn new(
        (file, whole): (File, bool),
        name: &'static str,
        (table, span): (&'a DeTable<'a>, Range<usize>),
        keys: &'static [Key],
        mistakes: &mut Vec<Mistake>,
    ) -> Self {
        let fields = Self { file, name, table, span, keys, whole };
        let known: Vec<&'static str> = keys.iter().map(|key| key.name).collect();
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let what = format!("unknown key `{}` in {name}", key.get_ref());
            let mistake = Mistake::at(fields.place(key.span()), what, "not a key of this table");
            mistakes.push(mistake.help(nearest(key.get_ref(), &known)));
        }
        fields
    }

    /// The place of the whole table: its header.
    pub(super) fn place_of_table(&self) -> Place {
        self.place(self.span.clone())
    }

    /// The place of a value; of the table, when there is none.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.table.get(key).map_or_else(|| self.place_of_table(), |value| self.place(value.span()))
    }

    /// Whether nothing is written there.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// A string. `None` when it is absent or something else, which is then a mistake.
    pub(super) fn text(&self, key: &str, mistakes: &mut Vec<Mistake>) -> Option<At<&'a str>> {
        let value = self.required(key, mistakes)?;
        self.string(key, value, "a string in quotes", mistakes)
    }

    /// A string that may be absent: then, and when it is something else, `None`.
    pub(super) fn optional(&self, key: &str, mistakes: &mut Vec<Mistake>) -> Option<At<&'a str>> {
        if self.table.contains_key(key) { self.text(key, mistakes) } else { None }
    }

    /// One of the strings that the reference lists; the first when absent.
    pub(super) fn choice(&self, key: &str, mistakes: &mut Vec<Mistake>) -> Option<At<&'a str>> {
        let Kind::Choice(names) = self.key(key)?.kind else { return None };
        if !self.table.contains_key(key) {
            let value = names.first().copied()?;
            return Some(At { value, place: self.place_of_table() });
        }
        let text = self.text(key, mistakes)?;
        if names.contains(&text.value) {
            return Some(text);
        }
        let what = format!("`{key}` cannot be \"{}\"", text.value);
        let expected = format!("one of {}", listed(names));
        mistakes.push(Mistake::at(text.place, what, expected).help(nearest(text.value, names)));
        None
    }

    /// `true` or `false`; `default` when absent.
    pub(super) fn flag(&self, key: &str, default: bool, mistakes: &mut Vec<Mistake>) -> Option<bool> {
        let Some(value) = self.table.get(key) else { return Some(default) };
        if let DeValue::Boolean(flag) = value.get_ref() {
            return Some(*flag);
        }
        let help = match plain(value.get_ref()).as_deref() {
            Some("yes" | "on" | "1" | "true") => Some("write true, without quotes".to_owned()),
            Some("no" | "off" | "0" | "false") => Some("write false, without quotes".to_owned()),
            Some(_) | None => None,
        };
        self.wrong(value, key, "true or false", help, mistakes)
    }

    /// A number within the limits of the reference.
    pub(super) fn number<T: TryFrom<u16>>(&self, key: &str, mistakes: &mut Vec<Mistake>) -> Option<At<T>> {
        let Kind::Number(least, most, default) = self.key(key)?.kind else { return None };
        if let (None, Some(value)) = (self.table.get(key), default) {
            return Some(At { value: T::try_from(value).ok()?, place: self.place_of_table() });
        }
        let value = self.required(key, mistakes)?;
        let DeValue::Integer(number) = value.get_ref() else {
            let help = plain(value.get_ref()).and_then(|text| text.parse::<u16>().ok());
            let help = help.map(|number| format!("write {number}, without quotes"));
            return self.wrong(value, key, &format!("a whole number, {least} to {most}"), help, mistakes);
        };
        // Without digits that fit it is far outside: which side, the sign says.
        let far = if number.as_str().starts_with('-') { i128::MIN } else { i128::MAX };
        let wide = i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(far);
        match u16::try_from(wide) {
            Ok(narrow) if (least..=most).contains(&narrow) => Some(self.at(value, T::try_from(narrow).ok()?)),
            Ok(_) | Err(_) => {
                let near = if wide < i128::from(least) { least } else { most };
                let what = format!("`{key}` is out of range");
                let mistake =
                    Mistake::at(self.place(value.span()), what, format!("expected {least} to {most}"));
                mistakes.push(mistake.help(match (key, wide) {
                    ("base", 0) => BASE_ZERO.to_owned(),
                    _ => format!("the nearest valid value is {near}"),
                }));
                None
            }
        }
    }

    /// A list of strings; those of its elements that are strings.
    pub(super) fn list(&self, key: &str, mistakes: &mut Vec<Mistake>) -> Option<At<Vec<At<&'a str>>>> {
        let value = self.required(key, mistakes)?;
        let DeValue::Array(array) = value.get_ref() else {
            let help = plain(value.get_ref()).map(|text| format!("write [\"{text}\"]"));
            return self.wrong(value, key, "a list of strings", help, mistakes);
        };
        let strings = array.iter().filter_map(|one| self.string(key, one, "a string in quotes", mistakes));
        Some(self.at(value, strings.collect()))
    }

    /// A list of strings that may be absent.
    pub(super) fn optional_list(
        &self,
        key: &str,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<At<Vec<At<&'a str>>>> {
        if self.has(key) { self.list(key, mistakes) } else { None }
    }

    /// Whether this key is written.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A list of tables, whose keys are these; empty when absent, without what is no table.
    pub(super) fn tables(
        &self,
        key: &str,
        (name, keys): (&'static str, &'static [Key]),
        mistakes: &mut Vec<Mistake>,
    ) -> Option<At<Vec<Self>>> {
        let Some(value) = self.table.get(key) else {
            return Some(At { value: Vec::new(), place: self.place_of_table() });
        };
        let example = || self.key(key).map(|known| format!("for example {key} = {}", known.example));
        let DeValue::Array(array) = value.get_ref() else {
            return self.wrong(value, key, "a list of tables", example(), mistakes);
        };
        let mut tables = Vec::new();
        for one in array {
            if let DeValue::Table(table) = one.get_ref() {
                let table = (table, one.span());
                tables.push(Self::new((self.file, self.whole), name, table, keys, mistakes));
            } else {
                let _: Option<()> = self.wrong(one, key, "a table", example(), mistakes);
            }
        }
        Some(self.at(value, tables))
    }

    /// A string, or a whole number in its place; `None` when it is absent or something else.
    pub(super) fn text_or_number(&self, key: &str, mistakes: &mut Vec<Mistake>) -> Option<At<String>> {
        let value = self.table.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(self.at(value, text.to_string())),
            DeValue::Integer(number) => {
                let wide = i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX);
                Some(self.at(value, wide.to_string()))
            }
            DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => self.wrong(value, key, "a string or a whole number", None, mistakes),
        }
    }

    /// Tables under free names, whose keys are these; empty when absent, without what is no table.
    pub(super) fn named_tables(
        &self,
        key: &str,
        (name, keys): (&'static str, &'static [Key]),
        mistakes: &mut Vec<Mistake>,
    ) -> Vec<(&'a str, Self)> {
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let help = || Some(format!("begin each of them with a line {name}"));
        let DeValue::Table(table) = value.get_ref() else {
            let _: Option<()> = self.wrong(value, key, "a table", help(), mistakes);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (called, one) in table {
            if let DeValue::Table(table) = one.get_ref() {
                let table = (table, one.span());
                let fields = Self::new((self.file, self.whole), name, table, keys, mistakes);
                tables.push((called.get_ref().as_ref(), fields));
            } else {
                let _: Option<()> = self.wrong(one, called.get_ref(), "a table", help(), mistakes);
            }
        }
        tables
    }

    /// A table of strings under free names; empty when absent.
    pub(super) fn names(&self, key: &str, mistakes: &mut Vec<Mistake>) -> Vec<(&'a str, At<&'a str>)> {
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let DeValue::Table(table) = value.get_ref() else {
            let help = Some(format!("write [node.{key}] and below it lines like lan = \"eth1\""));
            let _: Option<()> = self.wrong(value, key, "a table", help, mistakes);
            return Vec::new();
        };
        let strings = table.iter().filter_map(|(name, value)| {
            let name = name.get_ref().as_ref();
            Some((name, self.string(name, value, "a device name in quotes", mistakes)?))
        });
        strings.collect()
    }

    fn key(&self, name: &str) -> Option<&'static Key> {
        let key = self.keys.iter().find(|key| key.name == name);
        debug_assert!(key.is_some(), "{name} is read but not in the reference");
        key
    }

    fn required(&self, key: &str, mistakes: &mut Vec<Mistake>) -> Option<&'a Spanned<DeValue<'a>>> {
        let value = self.table.get(key);
        if value.is_none() && self.whole && !self.is_misspelt(key) {
            let what = format!("{} has no `{key}`", self.name);
            let example = self.key(key).map(|known| format!("for example {key} = {}", known.example));
            mistakes.push(Mistake::at(self.place_of_table(), what, "in this table").maybe_help(example));
        }
        value
    }

    /// An unknown key looks like this one: then that is the mistake, and this key is not missing.
    fn is_misspelt(&self, key: &str) -> bool {
        let known = || self.keys.iter().map(|key| key.name);
        let unknown = self
            .table
            .keys()
            .map(|key| key.get_ref().as_ref())
            .filter(|key| known().all(|known| known != *key));
        let mut meant = unknown.filter_map(|written| similar(written, known()));
        meant.any(|meant| meant == key)
    }

    fn string(
        &self,
        key: &str,
        value: &'a Spanned<DeValue<'a>>,
        expected: &str,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<At<&'a str>> {
        if let DeValue::String(text) = value.get_ref() {
            return Some(self.at(value, text.as_ref()));
        }
        let help = plain(value.get_ref()).map(|text| format!("write \"{text}\""));
        self.wrong(value, key, expected, help, mistakes)
    }

    fn wrong<T>(
        &self,
        value: &Spanned<DeValue<'_>>,
        key: &str,
        expected: &str,
        help: Option<String>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<T> {
        let what = format!("`{key}` cannot be {}", kind_of(value.get_ref()));
        let mistake = Mistake::at(self.place(value.span()), what, format!("expected {expected}"));
        mistakes.push(mistake.maybe_help(help));
        None
    }

    fn at<T>(&self, value: &Spanned<DeValue<'_>>, read: T) -> At<T> {
        At { value: read, place: self.place(value.span()) }
    }

    fn place(&self, span: Range<usize>) -> Place {
        Place { file: self.file, span }
    }
}

/// "did you mean", or else all that there is.
pub(super) fn nearest(written: &str, known: &[&'static str]) -> String {
    match similar(written, known.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("it can be {}", listed(known)),
    }
}

/// The known name that begins like the written one, or else differs from it by a few letters.
fn similar(written: &str, known: impl Iterator<Item = &'static str> + Clone) -> Option<&'static str> {
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let written = plain(written);
    let distance = |name: &&str| strsim::damerau_levenshtein(&written, &plain(name));
    if let Some(longer) = known.clone().find(|name| written.len() > 2 && plain(name).starts_with(&written)) {
        return Some(longer);
    }
    known.min_by_key(distance).filter(|name| distance(name) <= 1 + name.len() / 3)
}

const BASE_ZERO: &str = "use 1: with base 0 an advertisement comes every few milliseconds or never, FreeBSD peers \
                         cannot be configured with it, and three times nothing is no time to wait for a master";

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// What a value says when its quotes or their absence do not matter.
fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}
