//! Expands the variables of a text like a shell: `$V`, `${V}`, `${V:-default}`, `${V#pattern}`.
//!
//! Source: Dockerfile reference, "Environment replacement"; Compose file reference, "Interpolation".

use regex::Regex;

use super::forms::SpellingPart;

/// The differences between the files that have variables.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExpansionRules {
    /// The character that protects the next one; also, quotes are removed.
    pub(super) escape: Option<char>,
    /// `$$` is a dollar sign.
    pub(super) has_double_dollar: bool,
}

/// The most levels of `${A:-${B:-…}}`.
const MOST_LEVELS: usize = 16;
/// The longest result, in bytes. Each variable can double the one before it.
const LONGEST: usize = 4 << 10;

/// A text after expansion.
#[derive(Debug, Default, Clone)]
pub(super) struct Expansion {
    pub(super) parts: Vec<SpellingPart>,
    /// The variables without a value, in their order. Each one is replaced by nothing.
    pub(super) missing: Vec<String>,
}

impl Expansion {
    pub(super) fn literal(text: &str) -> Self {
        let mut parts = Vec::new();
        push_literal(&mut parts, text, text);
        Self { parts, missing: Vec::new() }
    }

    pub(super) fn text(&self) -> String {
        self.parts.iter().map(|part| part.expanded.as_str()).collect()
    }
}

/// Expands `text`; `lookup` returns the value of a variable.
///
/// # Errors
/// If a variable is written in no known form. The text names the mistake.
pub(super) fn expand(
    text: &str,
    rules: ExpansionRules,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Expansion, String> {
    let mut expander =
        Expander { rest: text, rules, lookup, missing: Vec::new(), level: 0, size: 0 };
    let parts = expander.parts(None)?;
    Ok(Expansion { parts, missing: expander.missing })
}

struct Expander<'a> {
    rest: &'a str,
    rules: ExpansionRules,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    missing: Vec<String>,
    level: usize,
    /// The bytes of all parts so far.
    size: usize,
}

impl Expander<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
    }

    /// The parts up to `end`, which is consumed, or up to the end of the text.
    fn parts(&mut self, end: Option<char>) -> Result<Vec<SpellingPart>, String> {
        let mut parts = Vec::new();
        let mut is_quoted = false;
        loop {
            let before = self.rest;
            let Some(next) = self.next() else {
                return match end {
                    Some(end) => Err(format!("`{end}` is missing")),
                    None => Ok(parts),
                };
            };
            match next {
                _ if Some(next) == end && !is_quoted => return Ok(parts),
                '\'' if self.rules.escape.is_some() && !is_quoted => {
                    let closing = self.rest.find('\'').ok_or("a quote is not closed")?;
                    let quoted = &self.rest[..closing];
                    self.rest = &self.rest[closing + 1..];
                    push_literal(&mut parts, &before[..closing + 2], quoted);
                }
                '"' if self.rules.escape.is_some() => {
                    is_quoted = !is_quoted;
                    push_literal(&mut parts, "\"", "");
                }
                _ if Some(next) == self.rules.escape => {
                    let escaped = self.next().map(String::from).unwrap_or_default();
                    let written = &before[..before.len() - self.rest.len()];
                    push_literal(&mut parts, written, &escaped);
                }
                '$' if self.rules.has_double_dollar && self.rest.starts_with('$') => {
                    self.next();
                    push_literal(&mut parts, "$$", "$");
                }
                '$' => match self.variable()? {
                    Some((expanded, argument)) => {
                        self.size += expanded.len();
                        if self.size > LONGEST {
                            return Err(format!("its text is longer than {LONGEST} bytes"));
                        }
                        let written = before[..before.len() - self.rest.len()].to_owned();
                        parts.push(SpellingPart { written, expanded, argument });
                    }
                    None => push_literal(&mut parts, "$", "$"),
                },
                _ => {
                    let written = &before[..next.len_utf8()];
                    push_literal(&mut parts, written, written);
                }
            }
        }
    }

    /// The value of the variable after `$`, and the variable if its value is the whole expansion.
    fn variable(&mut self) -> Result<Option<(String, Option<String>)>, String> {
        let is_braced = self.rest.starts_with('{');
        let start = usize::from(is_braced);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let tail = &self.rest[start..];
        let length = tail.find(|c| !is_name(c)).unwrap_or(tail.len());
        let name = tail[..length].to_owned();
        if name.is_empty() {
            return match is_braced {
                true => Err("`${` has no variable name".to_owned()),
                false => Ok(None),
            };
        }
        self.rest = &tail[length..];
        let value = (self.lookup)(&name);
        if !is_braced {
            return Ok(Some((self.or_missing(&name, value), Some(name))));
        }
        let operator = self.next().ok_or_else(|| format!("`${{{name}` has no `}}`"))?;
        if operator == '}' {
            return Ok(Some((self.or_missing(&name, value), Some(name))));
        }
        self.level += 1;
        if self.level > MOST_LEVELS {
            return Err(format!("more than {MOST_LEVELS} nested variables"));
        }
        let result = self.modified(&name, value, operator);
        self.level -= 1;
        result.map(Some)
    }

    fn or_missing(&mut self, name: &str, value: Option<String>) -> String {
        value.unwrap_or_else(|| {
            if !self.missing.iter().any(|known| known == name) {
                self.missing.push(name.to_owned());
            }
            String::new()
        })
    }

    fn word(&mut self, end: char) -> Result<String, String> {
        Ok(self.parts(Some(end))?.into_iter().map(|part| part.expanded).collect())
    }

    /// The value of `${name` + `operator` + the rest up to `}`.
    fn modified(
        &mut self,
        name: &str,
        value: Option<String>,
        operator: char,
    ) -> Result<(String, Option<String>), String> {
        let (value, operator) = match operator {
            ':' => {
                let operator = self.next().unwrap_or('}');
                if !matches!(operator, '-' | '+' | '?') {
                    return Err(format!("`${{{name}:{operator}` has no known meaning"));
                }
                (value.filter(|value| !value.is_empty()), operator)
            }
            _ => (value, operator),
        };
        let own = Some(name.to_owned());
        match operator {
            '-' => {
                let before = self.missing.len();
                let default = self.word('}')?;
                Ok(match value {
                    Some(value) => {
                        self.missing.truncate(before);
                        (value, own)
                    }
                    None => (default, own),
                })
            }
            '+' => {
                let before = self.missing.len();
                let other = self.word('}')?;
                if value.is_none() {
                    self.missing.truncate(before);
                }
                Ok((value.map_or_else(String::new, |_| other), None))
            }
            '?' => {
                self.word('}')?;
                Ok((self.or_missing(name, value), own))
            }
            '#' | '%' => {
                let is_longest = self.rest.starts_with(operator);
                if is_longest {
                    self.next();
                }
                let pattern = self.word('}')?;
                let value = self.or_missing(name, value);
                Ok((trimmed(&value, &pattern, operator, is_longest)?, None))
            }
            '/' => {
                let is_every = self.rest.starts_with('/');
                if is_every {
                    self.next();
                }
                let pattern = regex(&self.word('/')?)?;
                let replacement = self.word('}')?;
                let value = self.or_missing(name, value);
                let replacement = regex::NoExpand(&replacement);
                let count = usize::from(!is_every);
                Ok((pattern.replacen(&value, count, replacement).into_owned(), None))
            }
            other => Err(format!("`${{{name}{other}` has no known meaning")),
        }
    }
}

/// The value without the prefix (`#`) or suffix (`%`) that matches the pattern.
fn trimmed(value: &str, pattern: &str, side: char, is_longest: bool) -> Result<String, String> {
    let pattern = Regex::new(&format!("^(?s:{})$", glob(pattern)))
        .map_err(|_| "a pattern is too long".to_owned())?;
    let ends = value.char_indices().map(|(at, _)| at).chain([value.len()]);
    let mut ends: Vec<usize> = ends.collect();
    // a prefix grows with its end, a suffix with its start
    if is_longest == (side == '#') {
        ends.reverse();
    }
    let matches = |at: &usize| match side {
        '#' => pattern.is_match(&value[..*at]),
        _ => pattern.is_match(&value[*at..]),
    };
    Ok(match (ends.into_iter().find(matches), side) {
        (Some(at), '#') => value[at..].to_owned(),
        (Some(at), _) => value[..at].to_owned(),
        (None, _) => value.to_owned(),
    })
}

fn regex(pattern: &str) -> Result<Regex, String> {
    Regex::new(&format!("(?s:{})", glob(pattern))).map_err(|_| "a pattern is too long".to_owned())
}

/// A pattern of the shell as a regular expression.
fn glob(pattern: &str) -> String {
    let mut regex = String::new();
    let mut characters = pattern.chars();
    while let Some(next) = characters.next() {
        match next {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '\\' => regex.extend(characters.next().map(|c| regex::escape(&c.to_string()))),
            other => regex.push_str(&regex::escape(&other.to_string())),
        }
    }
    regex
}

/// Appends literal text to the last part, if that is literal as well.
fn push_literal(parts: &mut Vec<SpellingPart>, written: &str, expanded: &str) {
    match parts.last_mut() {
        Some(SpellingPart { written: all, expanded: whole, argument: None })
            if !all.starts_with('$') =>
        {
            all.push_str(written);
            whole.push_str(expanded);
        }
        _ => parts.push(SpellingPart {
            written: written.to_owned(),
            expanded: expanded.to_owned(),
            argument: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> String {
        let lookup = |name: &str| match name {
            "V" => Some("3.20-alpine".to_owned()),
            "E" => Some(String::new()),
            "P" => Some("a/b/c".to_owned()),
            _ => None,
        };
        let rules = ExpansionRules { escape: Some('\\'), has_double_dollar: false };
        match expand(text, rules, &lookup) {
            Ok(expansion) => {
                let missing = expansion.missing.join(",");
                let written: String =
                    expansion.parts.iter().map(|part| part.written.as_str()).collect();
                assert_eq!(written, text);
                match missing.is_empty() {
                    true => expansion.text(),
                    false => format!("{} needs {missing}", expansion.text()),
                }
            }
            Err(problem) => problem,
        }
    }

    #[test]
    fn variables_expand_as_in_a_dockerfile() {
        for (text, expected) in [
            ("a:$V", "a:3.20-alpine"),
            ("a:${V}-x", "a:3.20-alpine-x"),
            ("a:${U:-1}", "a:1"),
            ("a:${U-1}", "a:1"),
            ("a:${E:-1}", "a:1"),
            ("a:${E-1}", "a:"),
            ("a:${U:-${V}}", "a:3.20-alpine"),
            ("a:${V:-${U}}", "a:3.20-alpine"),
            ("a:${U:-${X}}", "a: needs X"),
            ("a${V:+:x}", "a:x"),
            ("a${E:+:x}", "a"),
            ("a${E+:x}", "a:x"),
            ("a${U:+:x}", "a"),
            ("${V:?wrong}", "3.20-alpine"),
            ("${U:?wrong}", " needs U"),
            ("${V#*.}", "20-alpine"),
            ("${P#*/}", "b/c"),
            ("${P##*/}", "c"),
            ("${P%/*}", "a/b"),
            ("${P%%/*}", "a"),
            ("${V%-*}", "3.20"),
            ("${V#x}", "3.20-alpine"),
            ("${V/alpine/slim}", "3.20-slim"),
            ("${P/\\//-}", "a-b/c"),
            ("${P//\\//-}", "a-b-c"),
            ("${V/?.*-/x}", "xalpine"),
            ("\\$V", "$V"),
            ("'$V'", "$V"),
            ("\"$V\"", "3.20-alpine"),
            ("a$", "a$"),
            ("$U$U", " needs U"),
            ("${V", "`${V` has no `}`"),
            ("${V:=1}", "`${V:=` has no known meaning"),
            ("${}", "`${` has no variable name"),
            ("${V:-1", "`}` is missing"),
            ("'a", "a quote is not closed"),
        ] {
            assert_eq!(expanded(text), expected, "{text}");
        }
        assert!(expanded(&"${A:-".repeat(20)).contains("more than 16"));
    }
}
