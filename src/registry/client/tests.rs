//! The names of requests in errors, and the owners of URLs.

use super::*;
use crate::registry::transport::Network;

#[test]
fn an_error_names_the_request_without_its_secrets() {
    let transport = Transport::new(Network::Sandbox("127.0.0.1:1".parse().unwrap()));
    let host = "docker.io".parse().unwrap();
    let hub =
        Registry::new(host, ConnectionSettings::default(), &transport, Arc::default()).unwrap();
    for (url, expected) in [
        ("https://registry-1.docker.io/v2/a/manifests/1", "GET docker.io/v2/a/manifests/1"),
        ("https://cdn.example.com/x?sig=secret", "GET cdn.example.com/x"),
        ("https://u:p@cdn.example.com:8/x#y", "GET cdn.example.com:8/x"),
        (
            "https://registry-1.docker.io/v2/a/blobs/uploads/state?_state=secret",
            "GET docker.io/v2/a/blobs/uploads/…",
        ),
        (
            "https://registry-1.docker.io/artifacts-downloads/LONG",
            "GET docker.io/artifacts-downloads/…",
        ),
        ("https://storage.example.com/LONG/x", "GET storage.example.com/…/x"),
        ("https://registry-1.docker.io/v2/a/blobs/uploads/", "GET docker.io/v2/a/blobs/uploads/"),
    ] {
        let url = url.replace("LONG", &"s".repeat(200));
        assert_eq!(hub.subject(&Method::GET, &url.parse().unwrap()), expected);
    }
}

#[test]
fn only_the_registrys_own_urls_change_to_https() {
    let (host, direct) = ("r.example.com".parse().unwrap(), Transport::new(Network::Direct));
    let own = Registry::new(host, ConnectionSettings::default(), &direct, Arc::default()).unwrap();
    for (url, expected) in [
        ("http://r.example.com/x?y=1", "https://r.example.com/x?y=1"),
        ("https://r.example.com/x", "https://r.example.com/x"),
        ("http://r.example.com:8080/x", "http://r.example.com:8080/x"),
        ("http://elsewhere.example/x", "http://elsewhere.example/x"),
    ] {
        assert_eq!(own.over_tls(url.parse().unwrap()).as_str(), expected);
    }
}
