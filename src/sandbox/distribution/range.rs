//! Parses the `Range` header of a blob request.

use std::ops::Range;

use axum::http::{HeaderMap, header};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ByteRange {
    /// No `Range` header, or one that this server ignores.
    All,
    /// A non-empty byte range.
    Part(Range<u64>),
    Unsatisfiable,
}

/// Parses the `Range` header for content of `size` bytes.
///
/// Multiple ranges and units other than bytes return everything (RFC 9110, 14.2). A range that ends
/// before it starts is unsatisfiable, as in Go's file server and OCI's conformance suite.
pub(crate) fn byte_range(headers: &HeaderMap, size: u64) -> ByteRange {
    let Some(text) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else {
        return ByteRange::All;
    };
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-'))
    else {
        return ByteRange::All;
    };
    let part = match (first.trim().parse::<u64>(), last.trim()) {
        (Ok(first), "") => first..size,
        (Ok(first), last) => match last.parse::<u64>() {
            // an end before the start gives an empty range
            Ok(last) => first..size.min(last.saturating_add(1)),
            Err(_) => return ByteRange::All,
        },
        (Err(_), last) if first.is_empty() => match last.parse::<u64>() {
            Ok(length) => size.saturating_sub(length)..size,
            Err(_) => return ByteRange::All,
        },
        _ => return ByteRange::All,
    };
    if part.is_empty() { ByteRange::Unsatisfiable } else { ByteRange::Part(part) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_parsed_as_http_defines_them() {
        for (text, expected) in [
            ("bytes=0-0", ByteRange::Part(0..1)),
            ("bytes=2-4", ByteRange::Part(2..5)),
            ("bytes=2-", ByteRange::Part(2..10)),
            ("bytes=2-99", ByteRange::Part(2..10)),
            ("bytes=-3", ByteRange::Part(7..10)),
            ("bytes=-99", ByteRange::Part(0..10)),
            ("bytes=9-", ByteRange::Part(9..10)),
            ("bytes=10-", ByteRange::Unsatisfiable),
            ("bytes=10-11", ByteRange::Unsatisfiable),
            ("bytes=-0", ByteRange::Unsatisfiable),
            ("bytes=0-18446744073709551615", ByteRange::Part(0..10)),
            ("bytes=4-2", ByteRange::Unsatisfiable),
            ("bytes=5-0", ByteRange::Unsatisfiable),
            ("bytes=0-1,3-4", ByteRange::All),
            ("bytes=x-1", ByteRange::All),
            ("lines=0-1", ByteRange::All),
        ] {
            let headers = HeaderMap::from_iter([(header::RANGE, text.parse().unwrap())]);
            assert_eq!(byte_range(&headers, 10), expected, "{text}");
        }
        assert_eq!(byte_range(&HeaderMap::new(), 10), ByteRange::All);
    }
}
