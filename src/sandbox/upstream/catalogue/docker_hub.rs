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

const fn image(tags: &'static str, pushed: &'static str, make: Make) -> Image {
    Image { tags, pushed, make }
}

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        host: "docker.io",
        repository: "library/nginx",
        images: &[
            image("1.27.3 1.27 1 mainline latest", "2024-12-03", NGINX),
            image("1.27.3-alpine 1.27-alpine mainline-alpine alpine", "2024-12-03", NGINX_ALPINE),
            image("1.27.2", "2024-10-17", NGINX),
            image("1.26.2 1.26 stable", "2024-08-15", NGINX),
            image("1.26.2-alpine 1.26-alpine stable-alpine", "2024-08-15", NGINX_ALPINE),
            image("1.25.5 1.25", "2024-05-03", NGINX.docker()),
            image(
                "1.25.5-alpine 1.25-alpine",
                "2024-05-03",
                NGINX_ALPINE.base(ALPINE_3_19).docker(),
            ),
        ],
    },
    Entry {
        host: "docker.io",
        repository: "library/alpine",
        images: &[
            image("3.21.0 3.21 3 latest", "2024-12-05", ALPINE),
            image("3.20.3 3.20", "2024-09-06", ALPINE.base(ALPINE_3_20)),
            image("3.19.4 3.19", "2024-09-06", ALPINE.base(ALPINE_3_19).plain()),
            image("3.18.9 3.18", "2024-09-06", ALPINE.base(ALPINE_3_18).docker()),
        ],
    },
    Entry {
        host: "docker.io",
        repository: "library/redis",
        images: &[
            image("7.4.1 7.4 7 latest", "2024-10-03", REDIS),
            image("7.4.1-alpine 7.4-alpine 7-alpine alpine", "2024-10-03", REDIS_ALPINE),
            image("7.2.6 7.2", "2024-10-03", REDIS),
            image("7.2.6-alpine 7.2-alpine", "2024-10-03", REDIS_ALPINE),
            image("6.2.16 6.2 6", "2024-10-03", REDIS.docker()),
        ],
    },
    Entry {
        host: "docker.io",
        repository: "library/postgres",
        images: &[
            image("17.2 17 latest", "2024-11-21", POSTGRES),
            image("17.2-alpine 17-alpine alpine", "2024-11-21", POSTGRES_ALPINE),
            image("16.6 16", "2024-11-21", POSTGRES),
            image("16.6-alpine 16-alpine", "2024-11-21", POSTGRES_ALPINE),
            image("15.10 15", "2024-11-21", POSTGRES.plain()),
        ],
    },
    Entry {
        host: "docker.io",
        repository: "library/python",
        images: &[
            image("3.13.1 3.13 3 latest", "2024-12-04", PYTHON),
            image("3.13.1-slim 3.13-slim slim", "2024-12-04", PYTHON_SLIM),
            image("3.13.1-alpine 3.13-alpine alpine", "2024-12-04", PYTHON_ALPINE),
            image("3.12.8 3.12", "2024-12-04", PYTHON),
            image("3.12.8-slim 3.12-slim", "2024-12-04", PYTHON_SLIM),
            image("3.12.8-alpine 3.12-alpine", "2024-12-04", PYTHON_ALPINE),
            image("3.11.11 3.11", "2024-12-04", PYTHON.base(DEBIAN_11)),
            image("3.11.11-slim 3.11-slim", "2024-12-04", PYTHON_SLIM.base(DEBIAN_11)),
            image("3.11.11-alpine 3.11-alpine", "2024-12-04", PYTHON_ALPINE),
        ],
    },
    Entry {
        host: "docker.io",
        repository: "library/node",
        images: &[
            image("23.3.0 23.3 23 latest", "2024-12-03", NODE),
            image("22.12.0 22.12 22 lts", "2024-12-03", NODE),
            image("22.12.0-alpine 22.12-alpine 22-alpine lts-alpine", "2024-12-03", NODE_ALPINE),
            image("20.18.1 20.18 20", "2024-11-21", NODE),
            image("20.18.1-alpine 20.18-alpine 20-alpine", "2024-11-21", NODE_ALPINE),
        ],
    },
    Entry {
        host: "docker.io",
        repository: "library/golang",
        images: &[
            image("1.23.4 1.23 1 latest", "2024-12-03", GOLANG),
            image("1.23.4-alpine 1.23-alpine alpine", "2024-12-03", GOLANG_ALPINE),
            image("1.22.10 1.22", "2024-12-03", GOLANG),
            image("1.22.10-alpine 1.22-alpine", "2024-12-03", GOLANG_ALPINE),
        ],
    },
    Entry {
        host: "docker.io",
        repository: "library/busybox",
        images: &[
            image(
                "1.37.0 1.37 1 latest stable",
                "2024-09-26",
                Make::on(BUSYBOX, &[]).platforms(SIX),
            ),
            image("1.36.1 1.36", "2023-05-19", Make::on(BUSYBOX, &[20]).platforms(SIX).docker()),
        ],
    },
    Entry {
        host: "docker.io",
        repository: "library/debian",
        images: &[
            image("12.8 bookworm 12 latest", "2024-12-02", Make::on(DEBIAN_12, &[]).platforms(SIX)),
            image("11.11 bullseye 11", "2024-12-02", Make::on(DEBIAN_11, &[]).platforms(SIX)),
        ],
    },
    Entry {
        host: "docker.io",
        repository: "library/ubuntu",
        images: &[
            image("24.04 noble latest", "2024-10-16", Make::on(SCRATCH, &[760]).plain()),
            image("22.04 jammy", "2024-09-12", Make::on(UBUNTU_22, &[]).plain()),
        ],
    },
    Entry {
        host: "docker.io",
        repository: "library/hello-world",
        images: &[image(
            "latest linux",
            "2023-05-04",
            Make::on(SCRATCH, &[4]).platforms(WITH_WINDOWS),
        )],
    },
    Entry {
        host: "docker.io",
        repository: "bitnami/redis",
        images: &[
            image("7.4.1 7.4 latest", "2024-11-20", BITNAMI.own(&[880])),
            image("7.2.6 7.2", "2024-11-20", BITNAMI.own(&[860])),
        ],
    },
    Entry {
        host: "docker.io",
        repository: "sandbox/flat",
        images: &[image(
            "1.0.0 1.0 latest",
            "2024-06-01",
            Make::on(ALPINE_3_20, &[120]).platforms(AMD64).docker().shape(Shape::Single),
        )],
    },
];
