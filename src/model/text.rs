//! Makes text from outside safe to print.

use std::borrow::Cow;

/// True for characters that a terminal obeys instead of showing: control characters and reversals
/// of direction.
pub fn is_unsafe_for_terminal(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Removes everything that a terminal obeys. Line ends and tabs become spaces.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe_for_terminal) {
        return Cow::Borrowed(text);
    }
    let clean = |c: char| match c {
        '\n' | '\t' => Some(' '),
        c if is_unsafe_for_terminal(c) => None,
        c => Some(c),
    };
    Cow::Owned(text.chars().filter_map(clean).collect())
}

/// [`printable`] text with single spaces between its words, cut after `limit` characters.
pub(crate) fn printable_line(text: &str, limit: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    printable(&words.join(" ")).chars().take(limit).collect()
}
