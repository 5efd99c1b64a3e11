//! The built program among software that others wrote: Debian's `docker-registry` as source and
//! destination, `skopeo` as the independent writer and reader, `moto` (5.2.5 or newer) as ECR's
//! control plane.
//!
//! The tests start what they need on free loopback ports and stop it again. A program is looked
//! for in PATH, unless `ECR_MIRROR_REGISTRY_BIN`, `ECR_MIRROR_SKOPEO_BIN` or `ECR_MIRROR_MOTO_BIN`
//! names it. Where it is missing its tests say so and pass; with `CI` set they fail.

mod agreement;
mod control_plane;
mod docker_registry;
mod layout;
mod mirroring;
mod peer;
mod product;
mod sandbox;
mod settings;
mod skopeo;
