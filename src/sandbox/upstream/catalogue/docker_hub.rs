//! Docker Hub's tables.

use super::{
    Entry, Image,
    recipes::{
        ALPINE_3_18, ALPINE_3_19, ALPINE_3_20, ALPINE_3_21, AMD64, BUSYBOX, DEBIAN_11, DEBIAN_12,
        FOUR, Make, PHOTON, SCRATCH, SIX, THREE, TWO, UBUNTU_22, WITH_WINDOWS,
    },
};
use crate::sandbox::upstream::synthesis::Shape;

const NGINX: Make = Make::on(DEBIAN_12, &[1040]).common(&[20, 21, 20]).platforms(SIX);
const NGINX_ALPINE: Make = Make::on(ALPINE_3_20, &[44, 310]).common(&[20, 21, 20]).platforms(SIX);
const REDIS: Make = Make::on(DEBIAN_12, &[24, 410]).common(&[20]).platforms(FOUR);
const REDIS_ALPINE: Make = Make::on(ALPINE_3_20, &[24, 330]).common(&[20]).platforms(FOUR);
const POSTGRES: Make = Make::on(DEBIAN_12, &[96, 40, 1900, 20]).common(&[20]).platforms(FOUR);
const POSTGRES_ALPINE: Make = Make::on(ALPINE_3_20, &[24, 1560]).common(&[20]).platforms(FOUR);
const PYTHON: Make = Make::on(DEBIAN_12, &[600, 1580, 3000, 150, 540]).platforms(THREE);
const PYTHON_SLIM: Make = Make::on(DEBIAN_12, &[84, 300, 20]).platforms(THREE);
const PYTHON_ALPINE: Make = Make::on(ALPINE_3_20, &[24, 310]).platforms(THREE);
const NODE: Make = Make::on(DEBIAN_12, &[600, 1580, 1200, 30]).common(&[20]).platforms(TWO);
const NODE_ALPINE: Make = Make::on(ALPINE_3_20, &[1000, 30]).common(&[20]).platforms(TWO);
const GOLANG: Make = Make::on(DEBIAN_12, &[600, 1720, 1810]).common(&[20]).platforms(FOUR);
const GOLANG_ALPINE: Make = Make::on(ALPINE_3_20, &[24, 1800]).common(&[20]).platforms(FOUR);
const ALPINE: Make = Make::on(ALPINE_3_21, &[]).platforms(SIX);
const BITNAMI: Make = Make::on(PHOTON, &[]).platforms(TWO).docker();

entries! {
    "docker.io", "library/nginx" {
        "1.27.3 1.27 1 mainline latest", "2024-12-03", NGINX;
        "1.27.3-alpine 1.27-alpine mainline-alpine alpine", "2024-12-03", NGINX_ALPINE;
        "1.27.2", "2024-10-17", NGINX;
        "1.26.2 1.26 stable", "2024-08-15", NGINX;
        "1.26.2-alpine 1.26-alpine stable-alpine", "2024-08-15", NGINX_ALPINE;
        "1.25.5 1.25", "2024-05-03", NGINX.docker();
        "1.25.5-alpine 1.25-alpine", "2024-05-03", NGINX_ALPINE.base(ALPINE_3_19).docker();
    }
    "docker.io", "library/alpine" {
        "3.21.0 3.21 3 latest", "2024-12-05", ALPINE;
        "3.20.3 3.20", "2024-09-06", ALPINE.base(ALPINE_3_20);
        "3.19.4 3.19", "2024-09-06", ALPINE.base(ALPINE_3_19).plain();
        "3.18.9 3.18", "2024-09-06", ALPINE.base(ALPINE_3_18).docker();
    }
    "docker.io", "library/redis" {
        "7.4.1 7.4 7 latest", "2024-10-03", REDIS;
        "7.4.1-alpine 7.4-alpine 7-alpine alpine", "2024-10-03", REDIS_ALPINE;
        "7.2.6 7.2", "2024-10-03", REDIS;
        "7.2.6-alpine 7.2-alpine", "2024-10-03", REDIS_ALPINE;
        "6.2.16 6.2 6", "2024-10-03", REDIS.docker();
    }
    "docker.io", "library/postgres" {
        "17.2 17 latest", "2024-11-21", POSTGRES;
        "17.2-alpine 17-alpine alpine", "2024-11-21", POSTGRES_ALPINE;
        "16.6 16", "2024-11-21", POSTGRES;
        "16.6-alpine 16-alpine", "2024-11-21", POSTGRES_ALPINE;
        "15.10 15", "2024-11-21", POSTGRES.plain();
    }
    "docker.io", "library/python" {
        "3.13.1 3.13 3 latest", "2024-12-04", PYTHON;
        "3.13.1-slim 3.13-slim slim", "2024-12-04", PYTHON_SLIM;
        "3.13.1-alpine 3.13-alpine alpine", "2024-12-04", PYTHON_ALPINE;
        "3.12.8 3.12", "2024-12-04", PYTHON;
        "3.12.8-slim 3.12-slim", "2024-12-04", PYTHON_SLIM;
        "3.12.8-alpine 3.12-alpine", "2024-12-04", PYTHON_ALPINE;
        "3.11.11 3.11", "2024-12-04", PYTHON.base(DEBIAN_11);
        "3.11.11-slim 3.11-slim", "2024-12-04", PYTHON_SLIM.base(DEBIAN_11);
        "3.11.11-alpine 3.11-alpine", "2024-12-04", PYTHON_ALPINE;
    }
    "docker.io", "library/node" {
        "23.3.0 23.3 23 latest", "2024-12-03", NODE;
        "22.12.0 22.12 22 lts", "2024-12-03", NODE;
        "22.12.0-alpine 22.12-alpine 22-alpine lts-alpine", "2024-12-03", NODE_ALPINE;
        "20.18.1 20.18 20", "2024-11-21", NODE;
        "20.18.1-alpine 20.18-alpine 20-alpine", "2024-11-21", NODE_ALPINE;
    }
    "docker.io", "library/golang" {
        "1.23.4 1.23 1 latest", "2024-12-03", GOLANG;
        "1.23.4-alpine 1.23-alpine alpine", "2024-12-03", GOLANG_ALPINE;
        "1.22.10 1.22", "2024-12-03", GOLANG;
        "1.22.10-alpine 1.22-alpine", "2024-12-03", GOLANG_ALPINE;
    }
    "docker.io", "library/busybox" {
        "1.37.0 1.37 1 latest stable", "2024-09-26", Make::on(BUSYBOX, &[]).platforms(SIX);
        "1.36.1 1.36", "2023-05-19", Make::on(BUSYBOX, &[20]).platforms(SIX).docker();
    }
    "docker.io", "library/debian" {
        "12.8 bookworm 12 latest", "2024-12-02", Make::on(DEBIAN_12, &[]).platforms(SIX);
        "11.11 bullseye 11", "2024-12-02", Make::on(DEBIAN_11, &[]).platforms(SIX);
    }
    "docker.io", "library/ubuntu" {
        "24.04 noble latest", "2024-10-16", Make::on(SCRATCH, &[760]).plain();
        "22.04 jammy", "2024-09-12", Make::on(UBUNTU_22, &[]).plain();
    }
    "docker.io", "library/hello-world" {
        "latest linux", "2023-05-04", Make::on(SCRATCH, &[4]).platforms(WITH_WINDOWS);
    }
    "docker.io", "bitnami/redis" {
        "7.4.1 7.4 latest", "2024-11-20", BITNAMI.own(&[880]);
        "7.2.6 7.2", "2024-11-20", BITNAMI.own(&[860]);
    }
    "docker.io", "sandbox/flat" {
        "1.0.0 1.0 latest", "2024-06-01",
            Make::on(ALPINE_3_20, &[120]).platforms(AMD64).docker().shape(Shape::Single);
    }
}
