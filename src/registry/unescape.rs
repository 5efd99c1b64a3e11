//! Undoes the escapes of URLs (`%2F`), JSON (`\/`, `\u002f`) and quoted errors (`\u{2f}`), to find
//! a secret in any of these forms.

use std::ops::Range;

/// Returns `true` if the text may contain an escape.
pub(crate) fn has_escapes(text: &[u8]) -> bool {
    text.iter().any(|b| matches!(b, b'%' | b'\\'))
}

/// The text without escapes. Calls `origin` with the range in `text` of each resulting byte.
pub(crate) fn unescape(text: &[u8], mut origin: impl FnMut(Range<usize>)) -> Vec<u8> {
    let (mut plain, mut at) = (Vec::with_capacity(text.len()), 0);
    while at < text.len() {
        let (before, length) = (plain.len(), unescape_first(&text[at..], &mut plain));
        (before..plain.len()).for_each(|_| origin(at..at + length));
        at += length;
    }
    plain
}

/// Appends the first character to `plain`; returns its length in `text`.
fn unescape_first(text: &[u8], plain: &mut Vec<u8>) -> usize {
    let (character, length) = match text {
        [b'%', digits @ ..] if let Some(byte) = parse_hex(digits.get(..2)) => {
            plain.push(byte as u8);
            return 3;
        }
        [b'\\', b'u', b'{', rest @ ..] => {
            let end = rest.iter().take(7).position(|b| *b == b'}');
            (parse_hex(end.map(|end| &rest[..end])), end.unwrap_or_default() + 4)
        }
        [b'\\', b'u', digits @ ..] => (parse_hex(digits.get(..4)), 6),
        [b'\\', escaped @ (b'"' | b'\'' | b'\\' | b'/'), ..] => (Some(u32::from(*escaped)), 2),
        _ => (None, 1),
    };
    match character.and_then(char::from_u32) {
        Some(character) => {
            plain.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            length
        }
        None => {
            plain.push(text[0]);
            1
        }
    }
}

fn parse_hex(digits: Option<&[u8]>) -> Option<u32> {
    let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_of_urls_json_and_quoted_errors_are_undone_and_other_text_is_kept() {
        for (text, expected) in [
            ("a%2Fb%3d%C3%B6", "a/b=ö"),
            (r#"a\/b\"c\\d\u00f6\u0026"#, r#"a/b"c\dö&"#),
            (r"\u{f6}\u{1f600}\'", "ö😀'"),
            (
                r"%2 %zz %+1 \u12 \u{} \u{110000} \x \ud800 ö \",
                r"%2 %zz %+1 \u12 \u{} \u{110000} \x \ud800 ö \",
            ),
        ] {
            assert_eq!(unescape(text.as_bytes(), |_| {}), expected.as_bytes(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_byte_has_its_origin(text in r#"([%\\u{}"/0-9a-fö]|.)*"#) {
            let mut ranges = Vec::new();
            let plain = unescape(text.as_bytes(), |range| ranges.push(range));
            prop_assert_eq!(plain.len(), ranges.len());
            prop_assert!(ranges.iter().all(|range| range.end <= text.len()));
            prop_assert!(ranges.is_sorted_by_key(|range| range.start));
            prop_assert_eq!(ranges.last().map_or(0, |range| range.end), text.len());
        }
    }
}
