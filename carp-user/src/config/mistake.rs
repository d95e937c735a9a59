//! Mistakes in configuration files: all of them at once, each with file, line, column, the text in
//! question, what was expected, and what to write instead.

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use std::fmt;
use std::ops::Range;

/// Most mistakes that are printed; the rest is counted. Nobody repairs more in one go.
const MOST_SHOWN: usize = 100;

/// A configuration file's name and content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// As the user named it.
    pub name: String,
    /// What stands in it.
    pub text: String,
}

/// Which of the two files. Mistakes of the shared one come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum File {
    /// `--config`, shared by the pair.
    Shared,
    /// `--node`, of one node.
    Node,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which file.
    pub file: File,
    /// Bytes of it.
    pub span: Range<usize>,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where; `None` when a file as a whole could not be read.
    pub place: Option<Place>,
    /// What is wrong.
    pub what: String,
    /// What was expected there, beside the underlined text.
    pub expected: String,
    /// What to do: the nearest valid key or value, a command.
    pub help: Option<String>,
    /// Another place that matters, of the same kind of thing: the first use of a number.
    pub other: Option<(Place, String)>,
}

/// All mistakes of one configuration, by place. `Display` prints them like rustc does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    shared: Source,
    node: Source,
    list: Vec<Mistake>,
}

impl Mistake {
    /// At a place; see the fields.
    pub fn at(place: Place, what: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { place: Some(place), what: what.into(), expected: expected.into(), help: None, other: None }
    }

    /// A file that could not be read.
    pub fn unreadable(what: impl Into<String>, help: impl Into<String>) -> Self {
        let (what, help) = (what.into(), Some(help.into()));
        Self { place: None, what, expected: String::new(), help, other: None }
    }

    /// With advice.
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// With advice, if there is any.
    pub fn maybe_help(self, help: Option<String>) -> Self {
        Self { help, ..self }
    }

    /// With the place that it collides with.
    pub fn and(self, place: Place, label: impl Into<String>) -> Self {
        Self { other: Some((place, label.into())), ..self }
    }
}

impl Mistakes {
    /// Sorted by place; `list` must not be empty.
    pub fn new(shared: Source, node: Source, mut list: Vec<Mistake>) -> Self {
        debug_assert!(!list.is_empty(), "mistakes without a mistake");
        list.sort_by_key(|mistake| mistake.place.as_ref().map(|at| (at.file, at.span.start, at.span.end)));
        Self { shared, node, list }
    }

    /// Without those that only follow from a slip of syntax: in its line, but not the slip itself.
    /// The slips remain.
    pub(super) fn without_echoes(mut self, slips: &[Place]) -> Self {
        let line = |place: &Place| {
            let before = self.source(place.file).text.get(..place.span.start).unwrap_or_default();
            (place.file, before.matches('\n').count())
        };
        let lines: Vec<_> = slips.iter().map(line).collect();
        let keep = |mistake: &Mistake| match &mistake.place {
            Some(place) => slips.contains(place) || !lines.contains(&line(place)),
            None => true,
        };
        let list = self.list.iter().filter(|mistake| keep(mistake)).cloned().collect();
        self.list = list;
        self
    }

    /// Them, by place.
    pub fn list(&self) -> &[Mistake] {
        &self.list
    }

    /// File name, line and column of a mistake, from 1, the column in characters.
    pub fn position(&self, mistake: &Mistake) -> Option<(&str, usize, usize)> {
        let place = mistake.place.as_ref()?;
        let source = self.source(place.file);
        let before = source.text.get(..place.span.start).unwrap_or(&source.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some((&source.name, line, column))
    }

    /// As text for a terminal (`styled`) or a log.
    pub fn render(&self, styled: bool) -> String {
        let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
        let shown: Vec<String> = self
            .list
            .iter()
            .take(MOST_SHOWN)
            .map(|mistake| renderer.render(&[self.group(mistake)]).to_string())
            .collect();
        let count = self.list.len();
        let s = if count == 1 { "" } else { "s" };
        let cut = if count > MOST_SHOWN { format!(", {MOST_SHOWN} shown") } else { String::new() };
        format!("{}\n\nerror: {count} mistake{s} in the configuration{cut}", shown.join("\n\n"))
    }

    fn source(&self, file: File) -> &Source {
        match file {
            File::Shared => &self.shared,
            File::Node => &self.node,
        }
    }

    fn group<'a>(&'a self, mistake: &'a Mistake) -> Group<'a> {
        let title = Level::ERROR.primary_title(&mistake.what);
        let group = match &mistake.place {
            None => Group::with_title(title),
            Some(place) => {
                let mut snippet = self.snippet(place).annotation(self.mark(
                    AnnotationKind::Primary,
                    place,
                    &mistake.expected,
                ));
                let other = mistake.other.as_ref();
                if let Some((at, label)) = other.filter(|(at, _)| at.file == place.file) {
                    snippet = snippet.annotation(self.mark(AnnotationKind::Context, at, label));
                }
                let mut group = title.element(snippet);
                if let Some((at, label)) = other.filter(|(at, _)| at.file != place.file) {
                    let mark = self.mark(AnnotationKind::Context, at, label);
                    group = group.element(self.snippet(at).annotation(mark));
                }
                group
            }
        };
        match &mistake.help {
            Some(help) => group.element(Level::HELP.message(help)),
            None => group,
        }
    }

    fn snippet<'a>(&'a self, place: &Place) -> Snippet<'a, Annotation<'a>> {
        let source = self.source(place.file);
        Snippet::source(&source.text).path(&source.name)
    }

    fn mark<'a>(&self, kind: AnnotationKind, place: &Place, label: &'a str) -> Annotation<'a> {
        let text = &self.source(place.file).text;
        kind.span(within(text, &place.span)).label(label)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Mistakes {}

/// A span that a renderer can underline: inside the text, on character boundaries.
fn within(text: &str, span: &Range<usize>) -> Range<usize> {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start);
    start..floor(span.end).max(start)
}
