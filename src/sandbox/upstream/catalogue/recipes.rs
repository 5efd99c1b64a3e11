//! The bases, platforms and layer sizes of the tables' images.

use crate::sandbox::upstream::synthesis::{Attestations, Format, Shape};

/// The bottom layers, which all images on this base share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base {
    pub(super) name: &'static str,
    /// KiB each.
    pub(super) layers: &'static [u32],
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Make {
    pub(super) base: Base,
    /// KiB of each layer that only this image has.
    pub(super) own: &'static [u32],
    /// KiB of each layer that every image and platform of the repository has.
    pub(super) common: &'static [u32],
    pub(super) platforms: &'static [&'static str],
    pub(super) format: Format,
    pub(super) shape: Shape,
    pub(super) attestations: Attestations,
}

impl Make {
    /// An attested OCI index on this base.
    pub(super) const fn on(base: Base, own: &'static [u32]) -> Self {
        Self {
            base,
            own,
            common: &[],
            platforms: FOUR,
            format: Format::Oci,
            shape: Shape::Index,
            attestations: Attestations::BuildKit,
        }
    }

    pub(super) const fn common(self, common: &'static [u32]) -> Self {
        Self { common, ..self }
    }

    pub(super) const fn platforms(self, platforms: &'static [&'static str]) -> Self {
        Self { platforms, ..self }
    }

    pub(super) const fn base(self, base: Base) -> Self {
        Self { base, ..self }
    }

    pub(super) const fn own(self, own: &'static [u32]) -> Self {
        Self { own, ..self }
    }

    pub(super) const fn plain(self) -> Self {
        Self { attestations: Attestations::None, ..self }
    }

    /// Uses Docker's media types; Docker's lists have no attestations.
    pub(super) const fn docker(self) -> Self {
        Self { format: Format::Docker, ..self.plain() }
    }

    pub(super) const fn shape(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }
}

pub(super) const DEBIAN_12: Base = Base { name: "debian-12", layers: &[704] };
pub(super) const DEBIAN_11: Base = Base { name: "debian-11", layers: &[752] };
pub(super) const ALPINE_3_21: Base = Base { name: "alpine-3.21", layers: &[92] };
pub(super) const ALPINE_3_20: Base = Base { name: "alpine-3.20", layers: &[90] };
pub(super) const ALPINE_3_19: Base = Base { name: "alpine-3.19", layers: &[84] };
pub(super) const ALPINE_3_18: Base = Base { name: "alpine-3.18", layers: &[84] };
pub(super) const BUSYBOX: Base = Base { name: "busybox-glibc", layers: &[54] };
pub(super) const DISTROLESS: Base = Base { name: "distroless-static-12", layers: &[24, 20] };
pub(super) const UBUNTU_22: Base = Base { name: "ubuntu-22.04", layers: &[736] };
pub(super) const AMAZON_2023: Base = Base { name: "amazonlinux-2023", layers: &[1290] };
pub(super) const AMAZON_2: Base = Base { name: "amazonlinux-2", layers: &[1550] };
pub(super) const PHOTON: Base = Base { name: "photon-5", layers: &[960] };
pub(super) const SCRATCH: Base = Base { name: "scratch", layers: &[] };

pub(super) const AMD64: &[&str] = &["linux/amd64"];
pub(super) const TWO: &[&str] = &["linux/amd64", "linux/arm64"];
pub(super) const THREE: &[&str] = &["linux/amd64", "linux/arm/v7", "linux/arm64/v8"];
pub(super) const FOUR: &[&str] = &["linux/amd64", "linux/arm64/v8", "linux/ppc64le", "linux/s390x"];
pub(super) const FIVE: &[&str] =
    &["linux/amd64", "linux/arm/v7", "linux/arm64", "linux/ppc64le", "linux/s390x"];
pub(super) const SIX: &[&str] =
    &["linux/amd64", "linux/arm/v7", "linux/arm64/v8", "linux/386", "linux/ppc64le", "linux/s390x"];
pub(super) const WITH_WINDOWS: &[&str] =
    &["linux/amd64", "linux/arm/v7", "linux/arm64/v8", "windows/amd64"];

/// The recipe of the host whose images are small.
pub(super) const SMALL: Make =
    Make::on(SCRATCH, &[1]).platforms(AMD64).plain().shape(Shape::Single);

/// The recipes of repositories that the tables do not list, selected by name.
pub(super) const GENERATED: &[Make] = &[
    Make::on(DEBIAN_12, &[420, 36]).platforms(TWO),
    Make::on(DEBIAN_12, &[640, 24, 20]).platforms(FOUR).plain(),
    Make::on(ALPINE_3_20, &[310, 22]).platforms(THREE),
    Make::on(ALPINE_3_21, &[180, 64, 20]).platforms(TWO),
    Make::on(DISTROLESS, &[520]).platforms(TWO).plain(),
    Make::on(DEBIAN_11, &[360, 48]).platforms(TWO).docker(),
    Make::on(ALPINE_3_19, &[240, 30]).platforms(FIVE).docker(),
    Make::on(SCRATCH, &[460, 20]).platforms(THREE).docker(),
];
