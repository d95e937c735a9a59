//! A Rust file as the rules see it: no text inside strings and comments, functions with their lengths, test code
//! known. It matches braces and no more of the grammar; that is enough, and it cannot fail on code that compiles.

use std::ops::Range;

/// One file.
pub struct Source {
    /// The code, each character at its place: comments are blanks, and the inside of a literal is `"`.
    code: Vec<char>,
    /// Number of lines as written.
    lines: usize,
    /// Lines of `#[cfg(test)]` items.
    tests: Vec<Range<usize>>,
    /// Lines of `#[cfg(feature = "user")]` items.
    user_only: Vec<Range<usize>>,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of its `fn`, counted from 1.
    pub line: usize,
    /// Lines of code between its braces, as clippy counts them: without blank ones and comments.
    pub length: usize,
}

impl Source {
    /// Reads `text`.
    pub fn new(text: &str) -> Self {
        let raw: Vec<char> = text.chars().collect();
        let code = mask(&raw);
        let tests = items_after(&raw, &code, "#[cfg(test)]");
        let user_only = items_after(&raw, &code, "#[cfg(feature = \"user\")]");
        Self { code, lines: text.lines().count(), tests, user_only }
    }

    /// Number of lines.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// The whole code, without comments and literals.
    pub fn code(&self) -> String {
        self.code.iter().collect()
    }

    /// Line numbers and code, counted from 1.
    pub fn code_lines(&self) -> Vec<(usize, String)> {
        self.code().lines().enumerate().map(|(at, line)| (at + 1, line.to_owned())).collect()
    }

    /// Whether `line` belongs to test code.
    pub fn is_test(&self, line: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&line))
    }

    /// Whether `line` exists for user space alone.
    pub fn is_user_only(&self, line: usize) -> bool {
        self.user_only.iter().any(|range| range.contains(&line))
    }

    /// Every function with a body, nested ones too.
    pub fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (at, word) in words(&self.code) {
            if word != "fn" {
                continue;
            }
            // `fn(` is a type; a name follows in a definition.
            let name: String = self.code[at + 2..]
                .iter()
                .skip_while(|c| c.is_whitespace())
                .take_while(|c| is_word(**c))
                .collect();
            if let (false, Some(body)) = (name.is_empty(), block_after(&self.code, at)) {
                found.push(Function {
                    name,
                    line: line_of(&self.code, at),
                    length: self.code[body.start + 1..body.end - 1]
                        .split(|c| *c == '\n')
                        .filter(|line| line.iter().any(|c| !c.is_whitespace()))
                        .count(),
                });
            }
        }
        found
    }
}

/// Words of code with their places.
pub fn words(code: &[char]) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut within = false;
    for (at, &c) in code.iter().enumerate() {
        match (is_word(c), within, found.last_mut()) {
            (true, true, Some((_, word))) => word.push(c),
            (true, _, _) => found.push((at, c.to_string())),
            (false, _, _) => {}
        }
        within = is_word(c);
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The line of the character at `at`, counted from 1.
fn line_of(code: &[char], at: usize) -> usize {
    1 + code[..at].iter().filter(|c| **c == '\n').count()
}

/// The first `{ … }` after `from` that is not inside parentheses or brackets; nothing when a `;` ends the item first.
fn block_after(code: &[char], from: usize) -> Option<Range<usize>> {
    let mut depth = 0_usize;
    for (at, c) in code.iter().enumerate().skip(from) {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            ';' if depth == 0 => return None,
            '{' if depth == 0 => return Some(at..closing(code, at)),
            _ => {}
        }
    }
    None
}

/// One past the brace that closes the one at `open`.
fn closing(code: &[char], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.iter().enumerate().skip(open) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// The lines of each item that carries `attribute`: from the attribute to its closing brace or semicolon.
fn items_after(raw: &[char], code: &[char], attribute: &str) -> Vec<Range<usize>> {
    let wanted: Vec<char> = attribute.chars().collect();
    let mut found = Vec::new();
    for at in 0..raw.len().saturating_sub(wanted.len()) {
        // The code must hold it too: the same words in a comment or a string are no attribute.
        if raw[at..].starts_with(&wanted) && code[at] == '#' {
            let after = at + wanted.len();
            let end = match block_after(code, after) {
                Some(body) => body.end,
                None => after + code[after..].iter().position(|c| *c == ';').unwrap_or(0),
            };
            found.push(line_of(code, at)..line_of(code, end) + 1);
        }
    }
    found
}

/// Blanks comments and fills literals. Lines stay lines.
fn mask(raw: &[char]) -> Vec<char> {
    let mut code = raw.to_vec();
    let mut at = 0;
    while at < raw.len() {
        let rest = &raw[at..];
        let (length, fill) = if rest.starts_with(&['/', '/']) {
            (rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()), ' ')
        } else if rest.starts_with(&['/', '*']) {
            (block_comment(rest), ' ')
        } else if let Some(length) = literal(raw, at) {
            (length, '"')
        } else {
            at += 1;
            continue;
        };
        for c in code[at..at + length].iter_mut().filter(|c| **c != '\n') {
            *c = fill;
        }
        at += length;
    }
    code
}

/// Length of a block comment; they nest.
fn block_comment(rest: &[char]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(&['/', '*']) {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(&['*', '/']) {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// Length of the string or character literal that starts at `at`.
fn literal(raw: &[char], at: usize) -> Option<usize> {
    let rest = &raw[at..];
    match rest {
        ['"', ..] => Some(quoted(rest, '"')),
        // A label or lifetime has no second quote where a character has it.
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => Some(quoted(rest, '\'')),
        ['r', '"' | '#', ..] if at == 0 || !is_word(raw[at - 1]) || is_raw_prefix(raw, at) => {
            raw_string(rest)
        }
        _ => None,
    }
}

/// `br"…"` and `cr"…"`: the letter before the r is no word of its own.
fn is_raw_prefix(raw: &[char], at: usize) -> bool {
    matches!(raw[at - 1], 'b' | 'c') && (at == 1 || !is_word(raw[at - 2]))
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return None; // r#name
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = 2 + hashes;
    let close = rest[body..].windows(end.len()).position(|window| window == end);
    Some(close.map_or(rest.len(), |close| body + close + end.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_hide_their_braces() {
        let source = Source::new(
            "fn a() {\n let x = \"{ \\\" {\"; // {\n /* { /* { */ */ let c = '{'; let q = '\\'';\n let r = r#\"{\"\"#;\n}\nfn b() {}\n",
        );
        let names: Vec<_> = source.functions().into_iter().map(|f| (f.name, f.line, f.length)).collect();
        assert_eq!(names, [("a".to_owned(), 1, 3), ("b".to_owned(), 6, 0)]);
    }

    #[test]
    fn a_lifetime_is_no_character_literal() {
        let source = Source::new("fn f<'a>(x: &'a str) -> &'a str { x }\nfn g() { let c = 'x'; }\n");
        assert_eq!(source.functions().len(), 2);
        assert!(source.code().contains("&'a str"));
    }

    #[test]
    fn blank_lines_and_comments_are_no_code() {
        let source = Source::new("fn a() {\n    one();\n\n    // two\n    two();\n}\n");
        assert_eq!(source.functions()[0].length, 2);
    }

    #[test]
    fn a_function_type_and_a_declaration_have_no_body() {
        let source = Source::new(
            "struct A { f: fn(u8) -> u8 }\ntrait T { fn f(&self); }\nfn g() -> [u8; { 2 }] { [0; 2] }",
        );
        assert_eq!(source.functions(), [Function { name: "g".to_owned(), line: 3, length: 1 }]);
    }

    #[test]
    fn test_items_are_known_by_their_lines() {
        let source = Source::new(
            "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\n#[cfg(test)]\nmod other;\nfn c() {}\n",
        );
        let tests: Vec<usize> = (1..=8).filter(|line| source.is_test(*line)).collect();
        assert_eq!(tests, [2, 3, 4, 5, 6, 7]);
    }
}
