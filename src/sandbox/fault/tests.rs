//! Faults: their text form and the requests that they apply to.

use axum::http::Method;

use super::*;

fn parse(text: &str) -> Fault {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_fault_is_parsed_with_its_argument_side_and_frequency() {
    let fault = parse("status=503@ecr:PUT/manifests/*2");
    assert_eq!(fault.name, Name::Status);
    assert_eq!(fault.arg, Arg::Number(503));
    assert_eq!(fault.side, Side::Ecr);
    assert_eq!(fault.method, Some(Method::PUT));
    assert_eq!(fault.path.as_deref(), Some("/manifests/"));
    assert_eq!(fault.often, Often::First(2));
    assert_eq!(parse("reset"), Fault::new(Name::Reset));
    assert_eq!(parse("cut%30").often, Often::Percent(30));
    assert_eq!(parse("empty-blob=drop").arg, Arg::Word("drop".to_owned()));
}

#[test]
fn an_action_is_denied_by_its_exact_name_only() {
    let faults = Faults::new([parse("deny=ListImages"), parse("deny=CreateRepository*1")]);
    assert!(faults.active_for(Name::Deny, "ListImages"));
    assert!(!faults.active_for(Name::Deny, "PutImage"));
    assert!(faults.active_for(Name::Deny, "CreateRepository"));
    assert!(!faults.active_for(Name::Deny, "CreateRepository"));
    assert!("deny".parse::<Fault>().is_err());
}

#[test]
fn an_invalid_fault_is_refused_with_the_reason() {
    for (text, problem) in [
        ("rest", "is not a fault"),
        ("reset=1", "has an argument, `reset` takes none"),
        ("slow", "lacks its number"),
        ("cut=half", "lacks its number"),
        ("status=199", "lacks its status"),
        ("status=ok", "lacks its status"),
        ("status", "lacks its status"),
        ("otherwise", "lacks its argument"),
        ("otherwise=sunshine", "lacks its argument"),
        ("reset@there", "names no side of the sandbox"),
        ("reset*x", "says no number of requests"),
        ("reset%101", "says no number of requests"),
    ] {
        let result = text.parse::<Fault>().map_err(|error| error.problem);
        assert_eq!(result, Err(problem.to_owned()), "{text}");
    }
}

#[test]
fn help_lists_every_fault() {
    let help = help();
    assert_eq!(help.lines().count(), Name::ALL.len());
    for name in Name::ALL {
        assert!(help.contains(name.as_str()), "{name}");
    }
}

#[test]
fn a_fault_applies_only_to_its_side_method_and_path() {
    let faults = Faults::new([parse("reset@ecr:PUT/manifests/")]);
    let hits = |side, method: Method, path| {
        faults
            .hits(Name::Reset, &Target { side, method: &method, host: "a.example", path })
            .is_some()
    };
    assert!(hits(Side::Ecr, Method::PUT, "/v2/a/manifests/1"));
    assert!(!hits(Side::Upstream, Method::PUT, "/v2/a/manifests/1"));
    assert!(!hits(Side::Ecr, Method::GET, "/v2/a/manifests/1"));
    assert!(!hits(Side::Ecr, Method::PUT, "/v2/a/blobs/1"));
    assert!(faults.active(Name::Cut, Side::Ecr).is_none());
    let faults = Faults::new([parse("reset@any//a.example/v2/a/")]);
    let hits = |host, path| {
        let target = Target { side: Side::Ecr, method: &Method::GET, host, path };
        faults.hits(Name::Reset, &target).is_some()
    };
    assert!(hits("a.example", "/v2/a/manifests/1"));
    assert!(!hits("b.a.example", "/v2/a/manifests/1"));
    assert!(!hits("a.example", "/v2/b/manifests/1"));
}

#[test]
fn a_fault_stops_after_its_number_and_when_cleared() {
    let faults = Faults::new([parse("reset*2")]);
    let triggered: Vec<bool> =
        (0..4).map(|_| faults.active(Name::Reset, Side::Any).is_some()).collect();
    assert_eq!(triggered, [true, true, false, false]);
    faults.add(parse("reset"));
    assert!(faults.active(Name::Reset, Side::Upstream).is_some());
    faults.clear();
    assert!(faults.active(Name::Reset, Side::Upstream).is_none());
}

#[test]
fn a_percentage_fault_selects_about_that_share_and_the_same_requests_per_seed() {
    let sown = |seed| {
        let faults = Faults::new([parse("reset%30")]);
        faults.set_seed(seed);
        (0..1000).map(|_| faults.active(Name::Reset, Side::Any).is_some()).collect::<Vec<_>>()
    };
    for seed in [0, 1, u64::MAX] {
        let triggered = sown(seed).into_iter().filter(|triggered| *triggered).count();
        assert!((250..350).contains(&triggered), "{triggered}");
        assert_eq!(sown(seed), sown(seed));
    }
    assert_ne!(sown(0), sown(1), "another seed applies others");
}
