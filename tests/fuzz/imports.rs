//! Fuzzes the readers of `import`. A result is TOML without control characters, and names every part
//! that needs a hand; an error names the file.

use ecr_mirror::{
    Kind,
    import::{ImportOptions, InputFile, import},
};
use toml::de::DeTable;

use super::engine::Target;

/// Imports the input, and summarizes the result.
fn read(input: &[u8], options: &ImportOptions) -> (bool, usize, usize, usize) {
    let text = String::from_utf8_lossy(input).into_owned();
    let file = InputFile { name: "input".to_owned(), text };
    let imported = match import(&[file], options, None) {
        Ok(imported) => imported,
        Err(error) => {
            assert_eq!(error.kind(), Kind::Configuration, "{error:?}");
            let message = error.to_string();
            assert!(message.contains("input"), "{message}");
            return (false, message.len().min(64), 0, 0);
        }
    };
    let text = &imported.text;
    assert!(DeTable::parse(text).is_ok(), "{text}");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{text:?}");
    assert!(imported.open.iter().all(|open| text.contains(open)), "{text}");
    // the patterns of a configuration cost most of the time
    if input.len().is_multiple_of(32) {
        imported.mistake();
    }
    let images = text.split("[images]").nth(1).unwrap_or_default();
    (true, images.lines().count().min(9), imported.open.len().min(9), images.len() / 32)
}

#[test]
fn regsync() {
    let target = Target {
        name: "regsync",
        seeds: &[
            "version: 1\ncreds:\n  - registry: docker.io\n    user: '{{env \"HUB_USER\"}}'\n    pass: secret\n    tls: disabled\ndefaults:\n  ratelimit: {min: 100, retry: 15m}\n  interval: 60m\nsync:\n  - source: busybox:latest\n    target: r.example/library/busybox:latest\n    type: image\n",
            "x-a: &a {allow: ['3.\\d+'], deny: ['.*rc.*']}\nsync:\n- source: quay.io/a/b\n  target: r.example/m/a/b\n  type: repository\n  tags: *a\n  tagSets:\n  - semverRange: ['>=1.2 <2', '^3']\n  platforms: [linux/amd64]\n  referrers: true\n",
            "sync:\n- &x {source: 'a/b:1', target: 'r.example/b:1-x', type: image}\n- {<<: *x, source: 'a/c@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'}\n",
        ],
        tokens: &[
            "source: ",
            "target: ",
            "type: image\n",
            "type: repository\n",
            "tags:\n",
            "allow: ",
            "deny: ",
            "semverRange: ",
            "- ",
            "  ",
            "&a ",
            "*a",
            "<<: *a\n",
            "|",
            ">=1.2.3",
            "[",
            "]",
            "{",
            "}",
            ": ",
            "'",
            "\"",
            "#",
            "---\n",
            "(?i)",
            "\\d",
            "library/",
            "r.example/",
            ":latest",
            "@sha256:",
            "~",
            "!!str ",
        ],
    };
    target.run(|input| read(input, &ImportOptions::default()));
}

#[test]
fn skopeo() {
    let to = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/m".parse().unwrap();
    let options = ImportOptions { to: Some(to), scoped: true };
    let target = Target {
        name: "skopeo",
        seeds: &[
            "registry.example.com:\n    images:\n        busybox: []\n        redis:\n            - \"1.0\"\n            - \"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n    images-by-tag-regex:\n        nginx: ^1\\.13\\.[12]-alpine-perl$\n    images-by-semver:\n        alpine: \">= 3.12.0\"\n    credentials:\n        username: john\n        password: this is a secret\n    tls-verify: true\nquay.io:\n    images:\n        coreos/etcd: [latest]\n",
            "docker.io:\n  images-by-semver:\n    a/b: '1.2 - 1.4 || ~2, !=2.1.x || ^3.0.0-0'\n    a/c: '*'\n",
        ],
        tokens: &[
            "images:\n",
            "images-by-tag-regex:\n",
            "images-by-semver:\n",
            "quay.io:\n",
            "a/b: ",
            "- ",
            "    ",
            ">=",
            "<",
            "!=",
            "^",
            "~",
            " || ",
            " - ",
            ",",
            "-0",
            ".x",
            "4294967295",
            "99999999999",
            ".",
            "|",
            "(",
            ")",
            "[^",
            "]",
            "\\",
            "$",
            "{",
            "}",
            "'",
            "\"",
        ],
    };
    target.run(|input| read(input, &options));
}

#[test]
fn dregsy() {
    let target = Target {
        name: "dregsy",
        seeds: &[
            "relay: skopeo\ntasks:\n- name: one\n  interval: 60\n  source: &s\n    registry: quay.io\n    auth: c2VjcmV0\n  target: {registry: r.example, skip-tls-verify: true}\n  mappings: &m\n  - from: test/image\n    to: archive/test/image\n    tags: ['0.1.0', 'semver: >=1.31.0 <1.31.9', 'regex: 1\\.26\\.[0-9]-(glibc|musl)', 'keep: !.*rc.*', 'keep: latest 5']\n    platform: linux/arm64/v8\n- {name: two, source: *s, target: *s, mappings: *m}\n",
            "tasks:\n- source: {registry: quay.io}\n  target: {registry: r.example}\n  mappings:\n  - from: my/x\n    to: 'regex:my(.+)/,your$1/'\n    tags: ['a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855']\n",
        ],
        tokens: &[
            "from: ",
            "to: ",
            "tags: ",
            "regex:",
            "semver:",
            "keep:",
            "keep: latest 3",
            "!",
            "registry: ",
            "- ",
            "  ",
            "*s",
            "&s ",
            "$1",
            "${1}",
            ",",
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            "|",
            ">=1.0.0",
            "x",
            "'",
            "\"",
            "platform: all\n",
            "@sha256:",
            "/",
        ],
    };
    target.run(|input| read(input, &ImportOptions::default()));
}

#[test]
fn image_syncer() {
    let target = Target {
        name: "image-syncer",
        seeds: &[
            "quay.io/coreos/a: quay.io/ruohe/a\nquay.io/coreos/a:v1.0,v2.0: quay.io/ruohe/a\nquay.io/coreos/a:v1.1:\n  - quay.io/ruohe/b1\n  - quay.io/ruohe/b2:x\nquay.io/coreos/a:/a+/: quay.io/ruohe/a\n",
            "{\n\t\"auth\": {\"quay.io\": {\"username\": \"${env}\", \"password\": \"$env\", \"insecure\": true}},\n\t\"images\": {\"quay.io/a/b@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\": [\"r.example/b:1\"]}\n}\n",
            "quay.io:\n  username: xxx\n  password: xxxxxxxxx\n",
        ],
        tokens: &[
            "\"images\": ",
            "\"auth\": ",
            "quay.io/a/b",
            ":v1,v2",
            ":/",
            "/",
            ": ",
            "\n",
            "\t",
            "{",
            "}",
            "[",
            "]",
            "\"",
            ",",
            "@sha256:",
            "${",
            "$",
            "}",
            "- ",
            "\\u0000",
            "\\",
            "r.example/",
        ],
    };
    target.run(|input| read(input, &ImportOptions::default()));
}

#[test]
fn image_lists() {
    let to = "r.example/m".parse().unwrap();
    let options = ImportOptions { to: Some(to), scoped: false };
    let target = Target {
        name: "image-lists",
        seeds: &[
            "# images\nnginx:1.27 # web\n\"docker.io/rancher/rancher:v2.9\",\nimage=quay.io/a/b\n- ghcr.io/c/d:1\n",
            "quay.io/a/b:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\r\ndocker://localhost:5000/x\r\n",
        ],
        tokens: &[
            "docker.io/",
            "library/",
            "image=",
            "docker://",
            "\"",
            "'",
            ",",
            "#",
            " # ",
            ":",
            "@sha256:",
            "-- ",
            "__",
            ".",
            "/",
            "\n",
            "\r\n",
            "localhost",
            ":5000",
            "{{",
            "$",
        ],
    };
    target.run(|input| read(input, &options));
}
