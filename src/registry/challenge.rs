//! Parses `WWW-Authenticate`.
//!
//! Never fails, because servers quote, capitalise and order as they like: omits unreadable parts.
//!
//! Source: RFC 9110, 11.6.1; distribution specification, "Token authentication".

use http::{HeaderMap, header::WWW_AUTHENTICATE};

/// One login that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The scheme in lower case: `bearer`, `basic`, …
    pub(crate) scheme: String,
    pub(crate) params: Vec<(String, String)>,
}

impl Challenge {
    /// The parameter's value; `None` if it is missing or empty.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        let named = self.params.iter().find(|(key, _)| key == name);
        named.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

/// The challenges of all headers, in the server's order.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    values.flat_map(|value| parse(&String::from_utf8_lossy(value.as_bytes()))).collect()
}

/// The challenges of one header value.
pub(crate) fn parse(value: &str) -> Vec<Challenge> {
    let mut scanner = Scanner { rest: value };
    let mut found = Vec::new();
    loop {
        scanner.skip(|c| c == ',' || c.is_ascii_whitespace());
        let scheme = scanner.token().to_ascii_lowercase();
        if !scheme.is_empty() {
            found.push(Challenge { scheme, params: scanner.params() });
        } else if scanner.next().is_none() {
            return found;
        }
    }
}

struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next();
        self.rest = chars.as_str();
        next
    }

    fn skip(&mut self, unwanted: impl Fn(char) -> bool) {
        self.rest = self.rest.trim_start_matches(unwanted);
    }

    /// A token as in RFC 9110; can be empty.
    fn token(&mut self) -> &'a str {
        let other = |c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c));
        let end = self.rest.find(other).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        token
    }

    /// The `name=value` pairs before the next scheme or the end.
    fn params(&mut self) -> Vec<(String, String)> {
        let mut params = Vec::new();
        loop {
            self.skip(|c| c == ',' || c.is_ascii_whitespace());
            let before = self.rest;
            let name = self.token().to_ascii_lowercase();
            self.skip(|c| c.is_ascii_whitespace());
            if name.is_empty() || !self.rest.starts_with('=') {
                // the scheme of the next challenge
                self.rest = before;
                return params;
            }
            self.next();
            self.skip(|c| c.is_ascii_whitespace());
            params.push((name, self.value()));
        }
    }

    fn value(&mut self) -> String {
        if !self.rest.starts_with('"') {
            // unquoted values contain `:` and `=` in practice
            let end = self.rest.find(|c: char| c == ',' || c.is_ascii_whitespace());
            let (value, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
            self.rest = rest;
            return value.to_owned();
        }
        self.next();
        let mut value = String::new();
        while let Some(c) = self.next() {
            match c {
                '"' => break,
                '\\' => value.extend(self.next()),
                c => value.push(c),
            }
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(value: &str) -> Vec<(String, Vec<(String, String)>)> {
        parse(value).into_iter().map(|c| (c.scheme, c.params)).collect()
    }

    #[test]
    fn challenges_of_real_registries_are_parsed() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        for (value, expected) in [
            ("", vec![]),
            ("Basic", vec![("basic".into(), vec![])]),
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                vec![(
                    "bearer".into(),
                    vec![
                        pair("realm", "https://auth.docker.io/token"),
                        pair("service", "registry.docker.io"),
                        pair("scope", "repository:a/b:pull,push"),
                    ],
                )],
            ),
            (
                r#"bEARER  Scope = aws , REALM= "https://x/a\"b\\" "#,
                vec![(
                    "bearer".into(),
                    vec![pair("scope", "aws"), pair("realm", r#"https://x/a"b\"#)],
                )],
            ),
            (
                r#"Basic realm="a, b=c", Bearer realm="x", Negotiate"#,
                vec![
                    ("basic".into(), vec![pair("realm", "a, b=c")]),
                    ("bearer".into(), vec![pair("realm", "x")]),
                    ("negotiate".into(), vec![]),
                ],
            ),
            (
                r#"Bearer realm="never closed"#,
                vec![("bearer".into(), vec![pair("realm", "never closed")])],
            ),
        ] {
            assert_eq!(read(value), expected, "{value}");
        }
    }

    #[test]
    fn all_of_several_headers_are_parsed() {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, "Negotiate".parse().unwrap());
        headers.append(WWW_AUTHENTICATE, r#"Bearer realm="x",service="""#.parse().unwrap());
        let found = challenges(&headers);
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].param("realm"), found[1].param("service")), (Some("x"), None));
    }

    proptest! {
        #[test]
        fn anything_parses(value in ".*") {
            parse(&value);
        }

        #[test]
        fn a_quoted_value_is_unquoted(value in r#"[ -~]*"#) {
            let quoted = value.replace('\\', r"\\").replace('"', r#"\""#);
            let found = parse(&format!(r#"Bearer a=b,realm="{quoted}", Basic"#));
            prop_assert_eq!(found.len(), 2);
            prop_assert_eq!(found[0].param("realm").unwrap_or_default(), value);
        }
    }
}
