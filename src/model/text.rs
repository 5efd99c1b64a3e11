//! Makes text from outside safe to print, and numbers readable.

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

/// The number and its noun, like `1 image`, `1,204 images` and `2 repositories`.
pub(crate) fn count(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    let number_text = grouped(number);
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number_text} {stem}ies"),
        _ => format!("{number_text} {noun}s"),
    }
}

/// The number with a comma every three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_commas_and_its_noun_the_right_form() {
        for (number, noun, expected) in [
            (0_u64, "image", "0 images"),
            (1, "image", "1 image"),
            (1_204_000, "image", "1,204,000 images"),
            (1, "repository", "1 repository"),
            (2, "repository", "2 repositories"),
        ] {
            assert_eq!(count(number, noun), expected);
        }
    }
}
