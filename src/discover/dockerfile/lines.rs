//! Splits a Dockerfile into directives and instructions: continuation lines, comments between them,
//! here-documents, the escape character.
//!
//! Source: Dockerfile reference, "Parser directives", "Escape", "Here-Documents".

/// An instruction without the line breaks in it.
#[derive(Debug)]
pub(super) struct Instruction {
    pub(super) text: String,
    /// For each byte of the text, its place in the file.
    places: Vec<usize>,
}

/// A word of an instruction, with its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    /// The place in the instruction.
    pub(super) at: usize,
    /// The place of the first byte in the file.
    pub(super) start: usize,
    /// The place after the last byte in the file.
    pub(super) end: usize,
}

impl Instruction {
    /// The words. Quotes and the escape character hold a word together.
    pub(super) fn words(&self, escape: char) -> Vec<Word<'_>> {
        let mut words = Vec::new();
        let (mut start, mut quote, mut is_escaped) = (None, None, false);
        for (at, next) in self.text.char_indices() {
            let is_space = next.is_whitespace() && quote.is_none() && !is_escaped;
            match (start, is_space) {
                (None, false) => start = Some(at),
                (Some(from), true) => {
                    words.push(self.word(from, at));
                    start = None;
                }
                _ => {}
            }
            is_escaped = match next {
                _ if is_escaped => false,
                next if next == escape && quote != Some('\'') => true,
                '"' | '\'' => {
                    match quote {
                        None => quote = Some(next),
                        Some(open) if open == next => quote = None,
                        Some(_) => {}
                    }
                    false
                }
                _ => false,
            };
        }
        words.extend(start.map(|from| self.word(from, self.text.len())));
        words
    }

    pub(super) fn word(&self, from: usize, to: usize) -> Word<'_> {
        let start = self.places.get(from).copied().unwrap_or_default();
        let end = if to > from { self.places[to - 1] + 1 } else { start };
        Word { text: &self.text[from..to], at: from, start, end }
    }
}

/// A Dockerfile, split.
#[derive(Debug)]
pub(super) struct Lines {
    /// The image of `# syntax=`, with its place.
    pub(super) syntax: Option<(String, usize)>,
    pub(super) escape: char,
    pub(super) instructions: Vec<Instruction>,
}

/// Splits the text.
///
/// # Errors
/// The place and the description of the first mistake.
pub(super) fn split(text: &str) -> Result<Lines, (usize, String)> {
    let (mut syntax, mut escape) = (None, '\\');
    let mut lines = raw_lines(text).peekable();
    lines.next_if(|(_, line)| line.starts_with("#!"));
    while let Some((start, line)) = lines.peek() {
        let Some((key, value)) = directive(line, "#") else { break };
        let place = start + (value.as_ptr() as usize - line.as_ptr() as usize);
        match key.to_ascii_lowercase().as_str() {
            "syntax" if syntax.is_none() => syntax = first_word(value, place),
            "escape" => match value {
                "\\" | "`" => escape = if value == "`" { '`' } else { '\\' },
                _ => return Err((place, "`escape` must be a backslash or a backtick".to_owned())),
            },
            _ => {}
        }
        lines.next();
    }
    if syntax.is_none() {
        syntax = foreign_syntax(text);
    }
    let mut instructions = Vec::new();
    while let Some((start, line)) = lines.next() {
        let content = line.trim_start();
        if content.is_empty()
            || content.starts_with('#')
            || content.starts_with("//") && instructions.is_empty()
        {
            continue;
        }
        let start = start + line.len() - content.len();
        let mut instruction = Instruction { text: String::new(), places: Vec::new() };
        let mut is_open = instruction.push(start, content, escape);
        while is_open && let Some((start, line)) = lines.next() {
            let content = line.trim_start();
            if !content.is_empty() && !content.starts_with('#') {
                is_open = instruction.push(start, line, escape);
            }
        }
        for document in instruction.here_documents(escape) {
            let is_end = |line: &str| match document.is_indented {
                true => line.trim_start_matches('\t') == document.end,
                false => line == document.end,
            };
            if !lines.any(|(_, line)| is_end(line)) {
                let problem = format!("the here-document has no line `{}`", document.end);
                return Err((start, problem));
            }
        }
        instructions.push(instruction);
    }
    Ok(Lines { syntax, escape, instructions })
}

/// The lines with their places, without line breaks and without a byte-order mark.
fn raw_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |whole| {
        let start = at;
        at += whole.len();
        let line = whole.strip_suffix('\n').unwrap_or(whole);
        let line = line.strip_suffix('\r').unwrap_or(line);
        match line.strip_prefix('\u{feff}') {
            Some(rest) if start == 0 => ('\u{feff}'.len_utf8(), rest),
            _ => (start, line),
        }
    })
}

/// The key and value of a parser directive.
fn directive<'a>(line: &'a str, comment: &str) -> Option<(&'a str, &'a str)> {
    let (key, value) = line.strip_prefix(comment)?.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let is_key = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.chars().all(|c| c.is_ascii_alphanumeric());
    (is_key && !value.is_empty()).then_some((key, value))
}

fn first_word(value: &str, place: usize) -> Option<(String, usize)> {
    value.split_whitespace().next().map(|word| (word.to_owned(), place))
}

/// The syntax of a file that is not a Dockerfile: after `//`, or as JSON.
fn foreign_syntax(text: &str) -> Option<(String, usize)> {
    let mut lines = raw_lines(text).peekable();
    lines.next_if(|(_, line)| line.starts_with("#!"));
    for (start, line) in lines {
        let Some((key, value)) = directive(line, "//") else { break };
        if key.eq_ignore_ascii_case("syntax") {
            return first_word(value, start + (value.as_ptr() as usize - line.as_ptr() as usize));
        }
    }
    let document: serde_json::Value = serde_json::from_str(text).ok()?;
    let value = document.as_object()?.get("syntax")?.as_str()?;
    first_word(value, text.find(value)?)
}

struct HereDocument {
    end: String,
    /// The tabs before each line are removed.
    is_indented: bool,
}

impl Instruction {
    /// Appends a line without its escape character at the end. Returns whether it had one.
    fn push(&mut self, start: usize, line: &str, escape: char) -> bool {
        let trimmed = line.trim_end_matches([' ', '\t']);
        let body = trimmed.strip_suffix(escape).filter(|body| !body.ends_with(escape));
        let text = body.unwrap_or(line);
        self.text.push_str(text);
        self.places.extend(start..start + text.len());
        body.is_some()
    }

    fn here_documents(&self, escape: char) -> Vec<HereDocument> {
        if !self.text.contains("<<") {
            return Vec::new();
        }
        let words = self.words(escape);
        let is = |word: Option<&Word<'_>>, name: &str| {
            word.is_some_and(|word| word.text.eq_ignore_ascii_case(name))
        };
        let first = usize::from(is(words.first(), "ONBUILD"));
        if !["ADD", "COPY", "RUN"].iter().any(|name| is(words.get(first), name)) {
            return Vec::new();
        }
        words.iter().filter_map(|word| here_document(word.text)).collect()
    }
}

/// The here-document that begins with this word, like `<<EOF` or `3<<-"EOF"`.
fn here_document(word: &str) -> Option<HereDocument> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (is_indented, end) = match rest.strip_prefix('-') {
        Some(end) => (true, end),
        None => (false, rest),
    };
    if end.is_empty() || end.contains('<') {
        return None;
    }
    let end = end.chars().filter(|c| !matches!(c, '\'' | '"')).collect();
    Some(HereDocument { end, is_indented })
}
