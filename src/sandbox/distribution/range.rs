//! Parses the `Range` header of a blob request.

use std::ops::Range;

use axum::http::{HeaderMap, header};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// No `Range` header, or one that this server ignores.
    All,
    /// A non-empty byte range.
    Part(Range<u64>),
    Beyond,
}

/// Parses the `Range` header for content of `size` bytes.
///
/// Multiple ranges and units other than bytes return everything (RFC 9110, 14.2). A range that ends
/// before it starts is unsatisfiable, as in Go's file server and OCI's conformance suite.
pub(crate) fn wanted(headers: &HeaderMap, size: u64) -> Wanted {
    let Some(text) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else {
        return Wanted::All;
    };
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-'))
    else {
        return Wanted::All;
    };
    let part = match (first.trim().parse::<u64>(), last.trim()) {
        (Ok(first), "") => first..size,
        (Ok(first), last) => match last.parse::<u64>() {
            // an end before the start gives an empty range
            Ok(last) => first..size.min(last.saturating_add(1)),
            Err(_) => return Wanted::All,
        },
        (Err(_), last) if first.is_empty() => match last.parse::<u64>() {
            Ok(length) => size.saturating_sub(length)..size,
            Err(_) => return Wanted::All,
        },
        _ => return Wanted::All,
    };
    if part.is_empty() { Wanted::Beyond } else { Wanted::Part(part) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_has_them() {
        for (text, expected) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=2-4", Wanted::Part(2..5)),
            ("bytes=2-", Wanted::Part(2..10)),
            ("bytes=2-99", Wanted::Part(2..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-99", Wanted::Part(0..10)),
            ("bytes=9-", Wanted::Part(9..10)),
            ("bytes=10-", Wanted::Beyond),
            ("bytes=10-11", Wanted::Beyond),
            ("bytes=-0", Wanted::Beyond),
            ("bytes=0-18446744073709551615", Wanted::Part(0..10)),
            ("bytes=4-2", Wanted::Beyond),
            ("bytes=5-0", Wanted::Beyond),
            ("bytes=0-1,3-4", Wanted::All),
            ("bytes=x-1", Wanted::All),
            ("lines=0-1", Wanted::All),
        ] {
            let headers = HeaderMap::from_iter([(header::RANGE, text.parse().unwrap())]);
            assert_eq!(wanted(&headers, 10), expected, "{text}");
        }
        assert_eq!(wanted(&HeaderMap::new(), 10), Wanted::All);
    }
}
