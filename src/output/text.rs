//! Text for people: wraps it at the width of the terminal, and never inside a word.

/// Wraps the text at spaces. A word that is longer than the line stays whole, so that every
/// reference and URL can be copied.
///
/// `lead` is the number of columns that the first line has used already, `indent` that of spaces
/// before the other lines.
pub(super) fn wrapped(text: &str, width: Option<usize>, lead: usize, indent: usize) -> String {
    let Some(width) = width else { return text.to_owned() };
    let mut lines = String::new();
    let (mut column, mut is_first) = (lead, true);
    for word in words(text) {
        let length = columns(word);
        let gap = usize::from(!is_first);
        if column + gap + length > width && column > indent {
            lines.push('\n');
            lines.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if !is_first {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
        is_first = false;
    }
    lines
}

/// The start of a line, which has this many columns, and the wrapped text after it.
pub(super) fn after(
    start: &str,
    lead: usize,
    text: &str,
    width: Option<usize>,
    indent: usize,
) -> String {
    let text = wrapped(text, width, lead, indent);
    let start = if text.starts_with('\n') { start.trim_end() } else { start };
    format!("{start}{text}")
}

/// The width of the longest word.
pub(super) fn longest_word(text: &str) -> usize {
    words(text).map(columns).max().unwrap_or_default()
}

/// The longest command between backticks that is not wrapped, in bytes.
const COMMAND: usize = 40;

/// The words of a text. An arrow and the name that it points to are one, and so is a short command
/// between backticks.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let start = if rest.starts_with("→ ") { "→ ".len() } else { 0 };
        let tail = &rest[start..];
        let mut is_command = false;
        let with_command = tail.find(|c: char| {
            is_command ^= c == '`';
            c == ' ' && !is_command
        });
        let length = with_command.unwrap_or(tail.len());
        let is_whole = length <= COMMAND && !is_command;
        let end = start + if is_whole { length } else { tail.find(' ').unwrap_or(tail.len()) };
        let word = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        Some(word)
    })
}

/// The columns that the text takes.
pub(super) fn columns(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_wrapped_between_words_and_never_inside_one() {
        let text = "cannot push docker.io/library/nginx:1.27 → mirror/nginx:1.27 to it";
        for (width, lead, indent, expected) in [
            (None, 0, 0, text),
            (Some(100), 0, 4, text),
            (
                Some(40),
                8,
                4,
                "cannot push\n    docker.io/library/nginx:1.27\n    → mirror/nginx:1.27 to it",
            ),
            (
                Some(10),
                0,
                0,
                "cannot\npush\ndocker.io/library/nginx:1.27\n→ mirror/nginx:1.27\nto it",
            ),
        ] {
            assert_eq!(wrapped(text, width, lead, indent), expected, "{width:?}");
        }
        let hint = "run `docker login r.example`, and don`t stop";
        assert_eq!(wrapped(hint, Some(26), 0, 0), "run\n`docker login r.example`,\nand don`t stop");
        assert_eq!(after("copied  ", 8, "a.example/b:1", Some(20), 2), "copied\n  a.example/b:1");
    }
}
