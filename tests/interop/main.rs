//! Tests the built program with independent software: Debian's `docker-registry` as source and
//! destination, `skopeo` as writer and reader, `moto` (5.2.5 or newer) as ECR's control plane.
//!
//! Each test starts its servers on free loopback ports and stops them. A program is searched in
//! PATH, unless `ECR_MIRROR_REGISTRY_BIN`, `ECR_MIRROR_SKOPEO_BIN` or `ECR_MIRROR_MOTO_BIN` names
//! it. Without the program, its tests print a notice and pass; with `CI` set they fail.

mod agreement;
mod control_plane;
mod copying;
mod docker_registry;
mod layout;
mod peer;
mod product;
mod sandbox;
mod settings;
mod skopeo;
