//! Text with its escapes undone, to find in it what is written in another way.
//!
//! Knows how URLs escape (`%2F`), JSON (`\/`, `\u002f`) and errors that quote (`\u{2f}`).

use std::ops::Range;

/// Whether anything in the text may be escaped.
pub(crate) fn may_be(text: &[u8]) -> bool {
    text.iter().any(|b| matches!(b, b'%' | b'\\'))
}

/// The text without escapes; `came_from` is told where each byte of that stands in the text.
pub(crate) fn undone(text: &[u8], mut came_from: impl FnMut(Range<usize>)) -> Vec<u8> {
    let (mut plain, mut at) = (Vec::with_capacity(text.len()), 0);
    while at < text.len() {
        let (before, length) = (plain.len(), first(&text[at..], &mut plain));
        (before..plain.len()).for_each(|_| came_from(at..at + length));
        at += length;
    }
    plain
}

/// Adds what the text begins with, and tells how long that is as it is written.
fn first(text: &[u8], plain: &mut Vec<u8>) -> usize {
    let (character, length) = match text {
        [b'%', digits @ ..] if let Some(byte) = number(digits.get(..2)) => {
            plain.push(byte as u8);
            return 3;
        }
        [b'\\', b'u', b'{', rest @ ..] => {
            let end = rest.iter().take(7).position(|b| *b == b'}');
            (number(end.map(|end| &rest[..end])), end.unwrap_or_default() + 4)
        }
        [b'\\', b'u', digits @ ..] => (number(digits.get(..4)), 6),
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

/// What hexadecimal digits say.
fn number(digits: Option<&[u8]>) -> Option<u32> {
    let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_of_urls_json_and_quotations_are_undone_and_nothing_else() {
        for (text, expected) in [
            ("a%2Fb%3d%C3%B6", "a/b=ö"),
            (r#"a\/b\"c\\d\u00f6\u0026"#, r#"a/b"c\dö&"#),
            (r"\u{f6}\u{1f600}\'", "ö😀'"),
            (
                r"%2 %zz %+1 \u12 \u{} \u{110000} \x \ud800 ö \",
                r"%2 %zz %+1 \u12 \u{} \u{110000} \x \ud800 ö \",
            ),
        ] {
            assert_eq!(undone(text.as_bytes(), |_| {}), expected.as_bytes(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_byte_is_told_where_it_came_from(text in r#"([%\\u{}"/0-9a-fö]|.)*"#) {
            let mut places = Vec::new();
            let plain = undone(text.as_bytes(), |place| places.push(place));
            prop_assert_eq!(plain.len(), places.len());
            prop_assert!(places.iter().all(|place| place.end <= text.len()));
            prop_assert!(places.is_sorted_by_key(|place| place.start));
            prop_assert_eq!(places.last().map_or(0, |place| place.end), text.len());
        }
    }
}
