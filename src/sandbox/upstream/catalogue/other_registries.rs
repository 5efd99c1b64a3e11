//! The tables of all registries except Docker Hub.

use super::{
    Entry, Image,
    recipes::{
        ALPINE_3_20, AMAZON_2, AMAZON_2023, AMD64, BUSYBOX, DEBIAN_12, DISTROLESS, FIVE, FOUR,
        Make, SCRATCH, THREE, TWO, UBUNTU_22, WITH_WINDOWS,
    },
};
use crate::sandbox::upstream::synthesis::Shape;

const PROMETHEUS: Make =
    Make::on(BUSYBOX, &[1180, 1120]).common(&[20, 21]).platforms(FIVE).docker();
const ETCD: Make = Make::on(DISTROLESS, &[560, 420, 360]).platforms(FOUR).docker();
const PAUSE: Make = Make::on(SCRATCH, &[8]).platforms(WITH_WINDOWS).docker();
const KUBE_PROXY: Make = Make::on(DISTROLESS, &[360, 380]).platforms(FOUR).docker();
const FLUX: Make = Make::on(ALPINE_3_20, &[28, 720]).platforms(THREE);
const STATIC: Make = Make::on(DISTROLESS, &[]).platforms(FIVE).plain();
const AMAZON: Make = Make::on(AMAZON_2023, &[]).platforms(AMD64).docker().shape(Shape::Single);
const DOTNET: Make = Make::on(DEBIAN_12, &[440, 780, 20]).platforms(WITH_WINDOWS).docker();
const CUDA: Make = Make::on(UBUNTU_22, &[110, 1430, 20]).platforms(TWO).docker();
const CHAINGUARD: Make = Make::on(SCRATCH, &[]).platforms(TWO).plain();
const CHART: Make = Make::on(SCRATCH, &[28]).platforms(AMD64).shape(Shape::Chart);

entries! {
    "quay.io", "prometheus/prometheus" {
        "v3.1.0 latest", "2025-01-02", PROMETHEUS;
        "v3.1.0-rc.1", "2024-12-20", PROMETHEUS;
        "v3.1.0-rc.0", "2024-12-10", PROMETHEUS;
        "v3.0.1", "2024-11-28", PROMETHEUS;
        "v2.55.1", "2024-11-14", PROMETHEUS;
        "v3.0.0", "2024-11-14", PROMETHEUS;
        "v3.0.0-rc.1", "2024-11-13", PROMETHEUS;
        "v3.0.0-rc.0", "2024-10-31", PROMETHEUS;
        "v2.55.0", "2024-10-22", PROMETHEUS;
        "v2.54.1", "2024-08-27", PROMETHEUS;
        "v2.53.2", "2024-08-09", PROMETHEUS;
        "v2.52.0", "2024-05-08", PROMETHEUS;
        "v2.51.2", "2024-04-10", PROMETHEUS;
        "v2.50.1", "2024-02-26", PROMETHEUS;
        "v2.48.1", "2023-12-08", PROMETHEUS;
        "v2.45.0", "2023-06-23", PROMETHEUS;
    }
    "quay.io", "coreos/etcd" {
        "v3.5.17 latest", "2024-11-12", ETCD;
        "v3.4.34", "2024-09-11", ETCD;
        "v3.5.16", "2024-09-10", ETCD;
        "v3.5.15", "2024-07-19", ETCD;
    }
    "registry.k8s.io", "pause" {
        "3.10 latest", "2024-05-23", PAUSE;
        "3.9", "2022-10-27", PAUSE;
        "3.8", "2022-06-29", PAUSE;
    }
    "registry.k8s.io", "kube-proxy" {
        "v1.32.0", "2024-12-11", KUBE_PROXY;
        "v1.31.4", "2024-12-10", KUBE_PROXY;
        "v1.30.8", "2024-12-10", KUBE_PROXY;
        "v1.31.0", "2024-08-13", KUBE_PROXY;
    }
    "ghcr.io", "fluxcd/source-controller" {
        "v1.4.1", "2024-09-26", FLUX;
        "v1.4.0", "2024-09-25", FLUX;
        "v1.3.0", "2024-05-06", FLUX;
    }
    "ghcr.io", "prometheus-community/charts/prometheus" {
        "26.0.0", "2024-11-18", CHART;
        "25.30.2", "2024-11-14", CHART;
    }
    "ghcr.io", "sandbox/single" {
        "1.0.0 1.0 latest", "2024-06-01",
            Make::on(DEBIAN_12, &[200]).platforms(AMD64).plain().shape(Shape::Single);
    }
    "ghcr.io", "sandbox/nested" {
        "1.0.0 1.0 latest", "2024-06-01",
            Make::on(ALPINE_3_20, &[60]).platforms(THREE).shape(Shape::Nested);
    }
    "gcr.io", "distroless/static" {
        "latest", "2024-11-30", STATIC;
        "nonroot", "2024-11-30", STATIC;
        "debug", "2024-11-30", STATIC.own(&[40]);
    }
    "public.ecr.aws", "amazonlinux/amazonlinux" {
        "2023 latest", "2024-11-20", AMAZON;
        "2", "2024-11-19", AMAZON.base(AMAZON_2);
    }
    "mcr.microsoft.com", "dotnet/runtime" {
        "9.0.0 9.0 latest", "2024-11-12", DOTNET;
        "8.0.11 8.0", "2024-11-12", DOTNET;
        "6.0.36 6.0", "2024-11-12", DOTNET;
    }
    "nvcr.io", "nvidia/cuda" {
        "12.6.3-base-ubuntu22.04", "2024-11-22", CUDA;
        "12.6.3-runtime-ubuntu22.04", "2024-11-22", CUDA.own(&[110, 1430, 2800]);
        "12.4.1-base-ubuntu22.04", "2024-04-04", CUDA;
    }
    "cgr.dev", "chainguard/static" {
        "latest", "2024-12-05", CHAINGUARD.own(&[40]);
        "latest-dev", "2024-12-05", CHAINGUARD.own(&[180]);
    }
    "cgr.dev", "chainguard/nginx" {
        "latest", "2024-12-05", CHAINGUARD.own(&[420]);
        "latest-dev", "2024-12-05", CHAINGUARD.own(&[980]);
    }
}
