//! Checks the proxies in the environment: the HTTP client ignores a proxy that it cannot use, and
//! the requests would leave the machine directly.

use crate::model::{Error, Kind, Result};

/// The variables in the order in which the HTTP client reads them; the first one that is set counts.
pub(crate) const PROXY_VARIABLES: [[&str; 2]; 3] =
    [["HTTPS_PROXY", "https_proxy"], ["HTTP_PROXY", "http_proxy"], ["ALL_PROXY", "all_proxy"]];

const SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

/// Checks the proxies that these variables name.
///
/// # Errors
/// [`Kind::Configuration`] for one that cannot be used. Does not quote it: it may contain a password.
pub fn check_proxies(variable: &dyn Fn(&str) -> Option<String>) -> Result<()> {
    for names in PROXY_VARIABLES {
        let set = names.into_iter().find_map(|name| Some((name, variable(name)?)));
        let Some((name, value)) = set.filter(|(_, value)| !value.is_empty()) else { continue };
        check(&value).map_err(|problem| {
            Error::new(Kind::Configuration, format!("`{name}` is not a proxy: {problem}")).hint(
                "write a URL like `http://proxy.example:3128` or `socks5://127.0.0.1:1080`, with `@`, `:` and `/` of its password percent-encoded",
            )
        })?;
    }
    Ok(())
}

fn check(value: &str) -> Result<(), String> {
    let uri: http::Uri = value.parse().map_err(|_| "it is not a URL".to_owned())?;
    if let Some(scheme) = uri.scheme_str()
        && !SCHEMES.contains(&scheme)
    {
        return Err(format!("the scheme `{scheme}` is not supported"));
    }
    let authority = uri.authority().ok_or("it contains no host")?.as_str();
    let (_, server) = authority.split_once('@').unwrap_or(("", authority));
    let server: http::uri::Authority = server.parse().map_err(|_| "its host is invalid")?;
    let has_port = server.as_str().len() > server.host().len();
    match server.host().is_empty() || server.as_str().contains('@') {
        true => Err("its host is invalid".to_owned()),
        false if has_port && server.port_u16().is_none() => Err("its port is invalid".to_owned()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_cannot_be_used_is_an_error_that_does_not_quote_it() {
        for (value, expected) in [
            ("", None),
            ("proxy", None),
            ("proxy.example:3128", None),
            ("http://proxy.example:3128", None),
            ("http://user:pass@proxy.example:3128/", None),
            ("https://[::1]:3128", None),
            ("socks5://127.0.0.1:1080", None),
            ("socks5h://u:p@proxy", None),
            ("ftp://proxy:3128", Some("the scheme `ftp` is not supported")),
            ("http://", Some("it is not a URL")),
            ("http:/hunter2:3128", Some("it is not a URL")),
            ("http://u:hunter2#x@proxy:3128", Some("its port is invalid")),
            ("http://u:hunter2@y@proxy:3128", Some("its host is invalid")),
            ("http://proxy:hunter2", Some("its port is invalid")),
            ("http://proxy:99999", Some("its port is invalid")),
            ("http://a hunter2", Some("it is not a URL")),
        ] {
            let variable = |name: &str| (name == "https_proxy").then(|| value.to_owned());
            let error = check_proxies(&variable).err().map(|error| error.to_string());
            let expected = expected.map(|it| format!("`https_proxy` is not a proxy: {it}"));
            assert_eq!(error, expected, "{value}");
        }
    }
}
