//! Tests that images of every public registry can be mirrored.

use ecr_mirror::model::outcome::Outcome;

use super::{content::assert_whole, world::World};

/// Images of each host in the catalogue.
const IMAGES: [&str; 12] = [
    "docker.io/library/busybox:1.36",
    "docker.io/sandbox/flat:1.0",
    "quay.io/coreos/etcd:v3.5.17",
    "registry.k8s.io/kube-proxy:v1.32.0",
    "ghcr.io/fluxcd/source-controller:v1.4.1",
    "ghcr.io/sandbox/nested:1.0",
    "ghcr.io/sandbox/single:1.0",
    "gcr.io/distroless/static:nonroot",
    "public.ecr.aws/amazonlinux/amazonlinux:2023",
    "mcr.microsoft.com/dotnet/runtime:9.0",
    "nvcr.io/nvidia/cuda:12.6.3-base-ubuntu22.04",
    "cgr.dev/chainguard/static:latest",
];

/// A Helm chart: it is not an image and has no platform.
const CHART: &str = "ghcr.io/prometheus-community/charts/prometheus:26.0.0";

/// An image that is not in the catalogue. The sandbox generates it from its name, always with the
/// same content.
const INVENTED: &str = "registry.example.com:5000/invented/by/this/test:1";

#[tokio::test(flavor = "multi_thread")]
async fn images_of_every_public_registry_are_mirrored() {
    let mut world = World::new().await.configured("[defaults]\nplatforms = [\"linux/amd64\"]");
    for reference in IMAGES {
        world = world.select(reference, "");
    }
    let world = world.select(CHART, "").select(INVENTED, "platforms = \"all\"");
    let first = world.sync().await;
    first.assert_exit(0).assert_all(Outcome::Copied);
    for reference in IMAGES {
        assert_eq!(first.row(reference).platforms, ["linux/amd64"], "{reference}");
    }
    let chart = first.row(CHART);
    assert_eq!((&chart.digest, chart.platforms.len()), (&chart.source_digest, 0));
    let invented = first.row(INVENTED);
    assert_eq!(invented.digest, invented.source_digest);
    assert_whole(&world.ecr());
    world.sync().await.assert_no_op();
}
