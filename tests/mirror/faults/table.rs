//! The table: every fault, the side where it occurs, and the expected outcome.

use std::fmt;

use super::scene::Scene;

/// A fault with its expected outcome.
pub(super) struct Row {
    pub(super) fault: &'static str,
    pub(super) side: &'static str,
    pub(super) switches: &'static [&'static str],
    pub(super) scene: Scene,
    pub(super) expected: Expected,
    pub(super) retries: Retries,
    /// Time limit in seconds.
    pub(super) bound: u64,
}

/// Outcome of the images.
pub(super) enum Expected {
    /// All are copied.
    Copied,
    /// All fail, with an error that contains this text.
    Fails(&'static str),
    /// All are deferred, with an error that contains this text.
    Deferred(&'static str),
}

/// Retries that the row allows.
#[derive(PartialEq, Eq)]
pub(super) enum Retries {
    /// Any number of retries.
    Free,
    /// No retry.
    Never,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copied => f.write_str("copied"),
            Self::Fails(says) => write!(f, "fails: {says}"),
            Self::Deferred(says) => write!(f, "deferred: {says}"),
        }
    }
}

const fn source(fault: &'static str, switches: &'static [&'static str]) -> Row {
    row(fault, "source", switches)
}

const fn destination(fault: &'static str, switches: &'static [&'static str]) -> Row {
    row(fault, "destination", switches)
}

const fn row(fault: &'static str, side: &'static str, switches: &'static [&'static str]) -> Row {
    let (scene, expected, retries) = (Scene::Cloud, Expected::Copied, Retries::Free);
    Row { fault, side, switches, scene, expected, retries, bound: 30 }
}

impl Row {
    const fn on(self, scene: Scene) -> Self {
        Self { scene, ..self }
    }

    const fn fails(self, says: &'static str) -> Self {
        Self { expected: Expected::Fails(says), ..self }
    }

    /// Fails at the first attempt.
    const fn fails_at_once(self, says: &'static str) -> Self {
        Self { expected: Expected::Fails(says), retries: Retries::Never, ..self }
    }

    /// Is deferred at the first attempt.
    const fn defers_at_once(self, says: &'static str) -> Self {
        Self { expected: Expected::Deferred(says), retries: Retries::Never, ..self }
    }

    const fn within(self, bound: u64) -> Self {
        Self { bound, ..self }
    }
}

pub(super) const ROWS: &[Row] = &[
    source("connection refused", &["refuse@upstream"]).on(Scene::Loopback).fails("no connection"),
    destination("connection refused", &["refuse@ecr"]).on(Scene::Loopback).fails("no connection"),
    source("reset before headers", &["reset@upstream*3"]),
    source("reset before headers, always", &["reset@upstream"]).fails("the connection broke"),
    destination("reset before headers", &["reset@ecr*3"]),
    destination("reset before headers of uploads", &["reset@ecr:PUT*3"]),
    destination("reset before headers of uploads, always", &["reset@ecr:PUT/blobs/"])
        .fails("the connection broke"),
    source("cut mid-body", &["cut@upstream*6"]),
    source("cut mid-body, always: each attempt gets further", &["cut=2000@upstream"]),
    source("cut mid-body, never getting further", &["cut=0@upstream"])
        .fails("the connection broke"),
    source("cut at the last byte", &["cut-last@upstream*4"]),
    destination("cut mid-body", &["cut@ecr:PUT/blobs/*4"]),
    destination("cut at the last byte", &["cut-last@ecr:PUT/blobs/*4"]),
    destination("cut mid-body, always", &["cut@ecr:PUT/blobs/"]).fails("the connection broke"),
    source("stalled read", &["stall@upstream*2"]),
    source("stalled read, always", &["stall=0@upstream"]).fails("no data for 2 s").within(60),
    source("stalled read of a manifest", &["stall@upstream/manifests/sha256*1"]),
    destination("stalled write", &["stall@ecr:PUT/blobs/*2"]),
    destination("stalled write of a large blob", &["stall=1000@ecr:PUT/blobs/*1"])
        .on(Scene::Large)
        .within(60),
    destination("stalled write, always", &["stall@ecr:PUT/blobs/"])
        .fails("no data moved for 3 s")
        .within(60),
    source("no answer", &["silent@upstream*2"]),
    source("no answer, ever", &["silent@upstream"]).fails("no response for 3 s").within(60),
    destination("no answer", &["silent@ecr:PUT*2"]),
    source("a slow blob", &["slow=20000@upstream"]),
    source("a blob that trickles", &["slow=200@upstream/blobs/*1"]),
    source("blobs that trickle, always", &["slow=200@upstream/blobs/"])
        .fails("B received in 2 s")
        .within(60),
    source("408", &["status=408@upstream*2"]),
    source("500", &["status=500@upstream*2"]),
    source("502", &["status=502@upstream*2"]),
    source("502 of the token service", &["status=502@upstream/auth*2"]),
    source("503", &["status=503@upstream*2"]),
    source("503, always", &["status=503@upstream"]).fails("503"),
    source("504", &["status=504@upstream*2"]),
    source("429", &["throttle@upstream*2"]),
    source("429 with `Retry-After: 1`", &["throttle=1@upstream*2"]),
    source("429 with `Retry-After: 3600`", &["throttle=3600@upstream"]).defers_at_once("429"),
    destination("408", &["status=408@ecr*2", "status=408@ecr:PUT*2"]),
    destination("500", &["status=500@ecr:POST*2", "status=500@ecr:PUT*2"]),
    destination("502", &["status=502@ecr*2", "status=502@ecr:PUT*2"]),
    destination("503", &["status=503@ecr:PUT/manifests/*2", "status=503@ecr:PUT/blobs/*2"]),
    destination("503, always", &["status=503@ecr:PUT"]).fails("503"),
    destination("504", &["status=504@ecr*2", "status=504@ecr:PUT*2"]),
    destination("429", &["throttle@ecr*2", "throttle@ecr:PUT*2"]),
    destination("429 with `Retry-After: 1`", &["throttle=1@ecr*2", "throttle=1@ecr:PUT*1"]),
    destination("429 with `Retry-After: 3600`", &["throttle=3600@ecr:PUT"]).fails("429"),
    destination("ECR's published rates", &["quotas@ecr"]),
    destination("a quota of the account", &["limit=CreateRepository"])
        .fails_at_once("LimitExceededException"),
    source("a token that ends mid-run", &["expire-tokens=4@upstream"]),
    source("tokens of two seconds", &["token-life=2@upstream"]),
    destination("a token that ends mid-run", &["expire-tokens=4@ecr"]),
    destination("no `Location`", &["no-location@ecr"]).fails("no `Location`"),
    destination("a relative `Location`", &["relative-location@ecr"]),
    destination("a wrong `Location`", &["wrong-location@ecr*2"]),
    destination("a wrong `Location`, always", &["wrong-location@ecr"]).fails("404"),
    destination("a `Location` on another host", &["cross-host-location@ecr"]).on(Scene::Loopback),
    destination("a `Location` on another host, which gets no login", &["cross-host-location@ecr"])
        .fails("uploads."),
    source("`Range` ignored: 200 for 206", &["cut@upstream*3", "ignore-range@upstream"]),
    source("a corrupt body", &["corrupt@upstream"]).fails_at_once("has digest sha256:"),
    source("a short body", &["short@upstream"]).fails_at_once("B at the registry"),
    source("a long body", &["long@upstream"]).fails_at_once("B at the registry"),
    source("HTML with 200 for a manifest", &["html@upstream/manifests/*1"]),
    source("HTML with 200, always", &["html@upstream"]).fails_at_once("not a manifest"),
    source("HTML with 200 for a blob", &["html@upstream/blobs/"])
        .fails_at_once("B at the registry"),
    destination("HTML with 200 for a push", &["html@ecr:PUT"]).fails("200"),
    destination("202 for a push", &["status-after=202@ecr:PUT/blobs/"]).fails_at_once("202"),
    destination("202 for the push of a manifest", &["status-after=202@ecr:PUT/manifests/"])
        .fails_at_once("202"),
    destination("201 for a push that stores nothing", &["status=201@ecr:PUT/blobs/"])
        .fails_at_once("201"),
    destination("another digest for a push", &["wrong-digest@ecr:PUT"])
        .fails_at_once("another digest"),
    destination("a push whose answer is lost", &["reset-after@ecr:PUT*3"]),
    destination("307 and 308 of uploads", &["redirect=307@ecr:POST", "redirect=308@ecr:PUT"])
        .on(Scene::Loopback),
    destination("301 of uploads", &["redirect=301@ecr:PUT/blobs/"]).fails_at_once("301"),
    destination("whole blobs refused with 405", &["refuse-whole=405@ecr"]).on(Scene::Loopback),
    destination("whole blobs refused with 413", &["refuse-whole=413@ecr"]).on(Scene::Loopback),
    destination("whole blobs refused by ECR", &["refuse-whole=413@ecr"]).fails_at_once("413"),
    source("403 of the CDN", &["status=403@upstream/blobs/sha256/*2"]),
    source("no `Docker-Content-Digest`", &["omit-digest@upstream"]),
    destination("a blob that vanishes between check and commit", &["vanish@ecr*1"])
        .on(Scene::Seeded),
    destination(
        "the same where ECR answers 400 for 404",
        &["swap-missing-status@ecr", "vanish@ecr*1"],
    )
    .on(Scene::Seeded),
    destination("a manifest accepted a moment after its blobs", &["late-blobs=400@ecr"]),
    source("a tag that moves in mid-copy", &["move-tag@upstream*1"]).on(Scene::Catalogue),
    row("two runs at once", "both", &[]).on(Scene::Twice),
    row("slow DNS: 1 s a name", "both", &[]).on(Scene::SlowNames),
    row("IPv6 first, and not there", "both", &[]).on(Scene::DeadNames),
];
