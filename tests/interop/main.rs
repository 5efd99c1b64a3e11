//! Tests the built program with independent software: Debian's `docker-registry` as source and
//! destination, `skopeo` as writer and reader, `moto` (5.2.5 or newer) as ECR's control plane,
//! `check-jsonschema` and `taplo` as readers of the JSON schemas, `promtool` and a Pushgateway as
//! readers of the metrics; `curl` runs in the scripts of the GitHub action.
//!
//! Each test starts its servers on free loopback ports and stops them. A program is searched in
//! PATH, unless a variable of [`peer`] names it. Without the program, its tests print a notice and pass; with `CI` set they fail.

mod action;
mod agreement;
mod control_plane;
mod copying;
mod docker_registry;
mod layout;
mod metrics;
mod peer;
mod product;
mod sandbox;
mod schema;
mod settings;
mod skopeo;
