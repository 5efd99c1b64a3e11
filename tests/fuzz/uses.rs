//! Fuzzes the readers of `bootstrap`. Each use has a place in its file and a reference that parses.

use std::path::Path;

use ecr_mirror::{
    discover::{DiscoverOptions, FoundUses, Resolution, read},
    model::{Reference, text::is_unsafe_for_terminal},
};

use super::engine::Target;

fn check(file: &str, input: &[u8]) -> (usize, usize, usize, Vec<String>) {
    let text = String::from_utf8_lossy(input);
    let platforms = ["linux/amd64", "linux/arm64"].map(|name| name.parse().unwrap()).into();
    let options = DiscoverOptions { platforms, ..DiscoverOptions::default() };
    let found = read(Path::new(file), &text, &options).unwrap_or_default();
    let FoundUses { uses, unreadable, .. } = &found;
    let lines = text.split('\n').count() + 1;
    for one in uses {
        let place = &one.place;
        assert!((1..=lines).contains(&place.line), "{place:?}");
        assert!(place.spelling.span.start <= place.spelling.span.end, "{place:?}");
        assert!(!one.found.contains(is_unsafe_for_terminal), "{:?}", one.found);
        match &one.image {
            Resolution::Image(reference) => {
                assert!(reference.tag.is_some() || reference.digest.is_some());
                assert_eq!(reference.to_string().parse::<Reference>().as_ref(), Ok(reference));
            }
            Resolution::Missing(names) => assert!(!names.is_empty()),
            Resolution::Invalid(problem) => assert!(!problem.contains(is_unsafe_for_terminal)),
        }
    }
    let problem = |text: &str| text.chars().filter(char::is_ascii_alphabetic).take(40).collect();
    let problems = unreadable.iter().map(|one| {
        assert!(one.line >= 1 && !one.problem.contains(is_unsafe_for_terminal), "{one:?}");
        problem(&one.problem)
    });
    let resolved = uses.iter().filter(|one| matches!(one.image, Resolution::Image(_))).count();
    let kinds = uses.iter().map(|one| one.found.len()).sum::<usize>();
    (uses.len().min(9), resolved.min(9), kinds.min(99), problems.collect())
}

#[test]
fn dockerfiles() {
    let target = Target {
        name: "dockerfiles",
        seeds: &[
            "# syntax=docker/dockerfile:1\n# escape=`\nARG V=3.20 W=${V:-1}\nFROM alpine:${V#v}\n",
            "FROM --platform=$BUILDPLATFORM golang:1.23 AS build\nFROM build\nCOPY --from=0 a b\n",
            "FROM a\nRUN --mount=type=bind,\"from=busybox:1\" cat <<EOF <<-'B'\nx\nEOF\n\tB\nFROM b\n",
            "FROM a:${V%%.*}\nFROM a:${V//a/b}\nONBUILD COPY --from=\"x\" a b\n",
            "ARG A=xx\nARG B=$A$A$A\nARG C=$B$B$B\nFROM x:$C \\\n# c\n  AS y\n",
        ],
        tokens: &[
            "FROM ",
            " AS ",
            "ARG ",
            "COPY --from=",
            "RUN --mount=from=",
            "<<EOF",
            "\nEOF\n",
            "\\\n",
            "`",
            "${",
            "}",
            ":-",
            ":+",
            "#",
            "%%",
            "//",
            "$TARGETARCH",
            "scratch",
            "\"",
            "'",
            "# escape=",
            "# syntax=",
            "ONBUILD ",
            "\u{feff}",
        ],
    };
    target.run(|input| check("Dockerfile", input));
}

/// Tokens of YAML and JSON.
const TOKENS: &[&str] = &[
    "image: ",
    "services:",
    "- ",
    "  ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "<<: *a",
    "!reference ",
    "|\n",
    ">-\n",
    "---\n",
    "\"",
    "'",
    "${",
    "$$",
    "${{ matrix.a }}",
    "${localEnv:A:b}",
    "docker://",
    "null",
    "docker-image://",
    "//",
    "/*",
    "*/",
    "\t",
    "? ",
    "%YAML 1.2\n",
];

#[test]
fn compose_files() {
    let seeds = &[
        "services:\n  web:\n    image: nginx:${V:-1.27}\n    platform: linux/arm64\n",
        "x: &x {image: a}\nservices:\n  a: {<<: *x}\n  b: {build: {dockerfile_inline: \"FROM a\"}}\n",
        "services:\n  a:\n    build:\n      args: [A=1, B]\n      additional_contexts: {b: docker-image://c}\n      dockerfile_inline: |\n        ARG A\n        FROM x:$A\n",
        "services: {a: {image: a, volumes: [{type: image, source: b}, c:d]}}",
    ];
    let target = Target { name: "compose_files", seeds, tokens: TOKENS };
    target.run(|input| check("compose.yaml", input));
}

#[test]
fn kubernetes_files() {
    let seeds = &[
        "apiVersion: apps/v1\nkind: Deployment\nspec:\n  template:\n    spec:\n      containers:\n      - {name: a, image: \"nginx:1\"}\n",
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  spec: {containers: [{image: a:1}]}\n---\napiVersion: x/v1\nkind: Y\nspec: {image: \"a/b\"}\n",
        "[{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"spec\": {\"volumes\": [{\"image\": {\"reference\": \"a\"}}]}}]",
    ];
    let target = Target { name: "kubernetes_files", seeds, tokens: TOKENS };
    target.run(|input| check("pod.yaml", input));
}

#[test]
fn github_files() {
    let seeds = &[
        "on: push\njobs:\n  a:\n    runs-on: x\n    strategy: {matrix: {a: [1, 2], b: [{c: d}], include: [{a: 3}]}}\n    container: node:${{ matrix.a }}-${{matrix.b.c}}\n    services: {db: {image: \"postgres:17\"}}\n    steps: [{uses: \"docker://a:1\"}]\n",
        "runs: {using: docker, image: \"docker://a:1\", steps: [{uses: \"docker://b\"}]}",
    ];
    let target = Target { name: "github_files", seeds, tokens: TOKENS };
    target.run(|input| check("action.yml", input));
}

#[test]
fn gitlab_files() {
    let seeds = &[
        "variables: {A: $B, B: {value: x}}\nimage: {name: \"ruby:$A\"}\n.base: {image: go:1, services: [a, {name: b}]}\nbuild:\n  image: !reference [.base, image]\n  parallel: {matrix: [{V: [1, 2], W: x}]}\n  services: [c:$V]\n  script: [x]\n",
    ];
    let target = Target { name: "gitlab_files", seeds, tokens: TOKENS };
    target.run(|input| check(".gitlab-ci.yml", input));
}

#[test]
fn other_files() {
    let seeds = &[
        "{\"target\": {\"a\": {\"contexts\": {\"b\": \"docker-image://c:1\"}, \"args\": {\"V\": \"1\"}, \"platforms\": [\"linux/amd64\"], \"dockerfile-inline\": \"ARG V\\nFROM x:$V\"}}}",
        "// c\n{\"image\": \"rust:${localEnv:V:1}\", \"features\": {}, /* d */ \"build\": {\"dockerfile\": \"D\"},}",
        "{\"containerDefinitions\": [{\"name\": \"a\", \"image\": \"nginx:1\"}]}",
        "version: 0.2\nbatch: {build-list: [{env: {image: a:1}}], build-matrix: {dynamic: {env: {image: [b, c]}}}}\n",
        "{\"projects\": [{\"environment\": {\"image\": \"a:1\", \"computeType\": \"x\"}}]}",
    ];
    let target = Target { name: "other_files", seeds, tokens: TOKENS };
    target.run(|input| check("stdin", input));
}
