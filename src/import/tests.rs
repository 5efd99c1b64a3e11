//! Tables of each tool's features with the images that the result mirrors.
//!
//! The expected tags follow from the documented rules of the tool, over the tags of [`TAGS`].

use std::{collections::BTreeSet, path::Path, time::SystemTime};

use super::{wish::NoEquivalent, *};
use crate::{
    config::{Config, Tags},
    model::{Listed, Tag, select::Selector},
};

/// The tags of every repository.
const TAGS: &str = "latest edge 0.9 1 1.0.0 1.25.0 1.26.0 v1.26.0 1.26.0-rc.1 1.26.0-alpine 1.26.1 \
    1.26.1-alpine 1.27-alpine 1.26.1.4 2.0.0 2.0.0-rc.1 20240101 bookworm-1.26 3 3.18 3.19-rc1";

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// A feature of a tool.
struct Row {
    feature: &'static str,
    /// `ECR` and `DIGEST` are placeholders.
    input: &'static str,
    /// `SOURCE TAG… → TARGET TAG…`; without the second tags, they are equal.
    images: &'static [&'static str],
    /// Parts of the comments that need a hand, each with its line.
    open: &'static [&'static str],
    /// Parts of the result.
    text: &'static [&'static str],
}

const ROW: Row = Row { feature: "", input: "", images: &[], open: &[], text: &[] };

fn imported(text: &str, options: &ImportOptions) -> Imported {
    let file = InputFile { name: "input".to_owned(), text: text.to_owned() };
    import(&[file], options, None).unwrap_or_else(|error| panic!("{error:?}\n{text}"))
}

/// `SOURCE:TAG → TARGET:TAG` of every image that the configuration mirrors.
fn mirrored(text: &str) -> BTreeSet<String> {
    let config = Config::parse("mirror.toml", text, Path::new(""), &|_| None);
    let config = config.unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut images = BTreeSet::new();
    for entry in &config.entries {
        let wanted: Vec<(Tag, Option<crate::model::Digest>)> = match &entry.tags {
            Tags::Exact(tags) => tags.iter().map(|tag| (tag.clone(), None)).collect(),
            Tags::Pinned { digest, tag } => vec![(tag.clone(), Some(digest.clone()))],
            Tags::Selected(selection) => {
                let mut selector = Selector::new(selection, SystemTime::UNIX_EPOCH);
                for tag in TAGS.split_whitespace() {
                    let tag = tag.parse().unwrap();
                    selector.consider(&Listed { tag, digest: None, pushed: None });
                }
                let tags = selector.finish().unwrap_or_else(|error| panic!("{error}\n{text}")).tags;
                tags.into_iter().map(|listed| (listed.tag, None)).collect()
            }
        };
        for (tag, digest) in wanted {
            let image = entry.image(&tag, digest.as_ref()).unwrap();
            for target in &image.targets {
                let registry = &config.destinations[target.destination.0].registry;
                let to = format!("{registry}/{}:{}", target.repository, target.tag);
                images.insert(format!("{} → {to}", image.origin));
            }
        }
    }
    images
}

/// The images of a row, one for each tag.
fn expected(images: &[&str]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for line in images {
        let line = line.replace("ECR", ECR).replace("DIGEST", DIGEST);
        let (from, to) = line.split_once(" → ").unwrap();
        let (from, tags) = from.split_once(' ').unwrap();
        let (to, names) = to.split_once(' ').unwrap_or((to, tags));
        for (tag, name) in tags.split(' ').zip(names.split(' ')) {
            let at = if tag.starts_with("sha256:") { "@" } else { ":" };
            all.insert(format!("{from}{at}{tag} → {to}:{name}"));
        }
    }
    all
}

fn check(rows: &[Row], options: &ImportOptions) {
    for row in rows {
        let input = row.input.replace("ECR", ECR).replace("DIGEST", DIGEST);
        let imported = imported(&input, options);
        let text = &imported.text;
        assert_eq!(mirrored(text), expected(row.images), "{}\n{text}", row.feature);
        let open = &imported.open;
        assert_eq!(open.len(), row.open.len(), "{}: {open:#?}\n{text}", row.feature);
        for (open, expected) in open.iter().zip(row.open) {
            assert!(open.contains(expected), "{}: {open}", row.feature);
            assert!(text.contains(&format!("#   {open}")), "{}: {text}", row.feature);
        }
        for secret in ["h0rse-battery", "this is a secret", "s3cret", "c2VjcmV0"] {
            assert!(!text.contains(secret) && !open.concat().contains(secret), "{text}");
        }
        for part in row.text {
            let part = part.replace("DIGEST", DIGEST);
            assert!(text.contains(&part), "{}: `{part}` is not in\n{text}", row.feature);
        }
    }
}

#[test]
fn regsync_files_are_translated_to_the_images_that_regsync_copies() {
    check(
        &[
            Row {
                feature: "images; equal names need no rule",
                input: "version: 1\nsync:\n  - source: nginx:1.27\n    target: ECR/m/library/nginx:1.27\n    type: image\n  - source: nginx\n    target: ECR/m/library/nginx\n    type: image\n  - source: quay.io/a/b:1\n    target: ECR/m/a/b:1\n    type: image\n",
                images: &[
                    "docker.io/library/nginx 1.27 latest → ECR/m/library/nginx",
                    "quay.io/a/b 1 → ECR/m/a/b",
                ],
                text: &[
                    "prefix = \"m\"",
                    "nginx = [\"1.27\", \"latest\"]\n",
                    "# quay.io\n\"quay.io/a/b\" = \"1\"\n",
                ],
                ..ROW
            },
            Row {
                feature: "another tag at the target, and a digest",
                input: "sync:\n  - {source: 'quay.io/a/b:1', target: 'ECR/a/b:1-mirror', type: image}\n  - {source: 'quay.io/a/b:2', target: 'ECR/a/b:2-mirror', type: image}\n  - {source: 'quay.io/a/b@DIGEST', target: 'ECR/a/b:stable', type: image}\n  - {source: 'quay.io/a/c:2', target: 'ECR/a/c:blue', type: image}\n",
                images: &[
                    "quay.io/a/b 1 2 → ECR/a/b 1-mirror 2-mirror",
                    "quay.io/a/b DIGEST → ECR/a/b stable",
                    "quay.io/a/c 2 → ECR/a/c blue",
                ],
                text: &["retag = \"{tag}-mirror\"", "stable@DIGEST"],
                ..ROW
            },
            Row {
                feature: "a repository without `tags`: every tag",
                input: "sync:\n  - source: quay.io/a/b\n    target: ECR/a/b\n    type: repository\n",
                images: &[
                    "quay.io/a/b latest edge 0.9 1 1.0.0 1.25.0 1.26.0 v1.26.0 1.26.0-rc.1 1.26.0-alpine 1.26.1 1.26.1-alpine 1.27-alpine 1.26.1.4 2.0.0 2.0.0-rc.1 20240101 bookworm-1.26 3 3.18 3.19-rc1 → ECR/a/b",
                ],
                ..ROW
            },
            Row {
                feature: "allow and deny are anchored",
                input: "sync:\n  - source: quay.io/a/b\n    target: ECR/a/b\n    type: repository\n    tags:\n      allow: ['1\\.\\d+', '1\\.26\\.0.*', edge]\n      deny: ['.*-rc.*']\n",
                images: &["quay.io/a/b edge 1.26.0 1.26.0-alpine → ECR/a/b"],
                ..ROW
            },
            Row {
                feature: "allow with pre-releases",
                input: "sync:\n  - source: quay.io/a/b\n    target: ECR/a/b\n    type: repository\n    tags:\n      allow: ['3.*']\n",
                images: &["quay.io/a/b 3 3.18 3.19-rc1 → ECR/a/b"],
                text: &["pre_releases = true"],
                ..ROW
            },
            Row {
                feature: "an alternation binds looser than the anchors",
                input: "sync:\n  - source: quay.io/a/b\n    target: ECR/a/b\n    type: repository\n    tags:\n      allow: ['3|18']\n",
                images: &["quay.io/a/b 3 3.18 3.19-rc1 → ECR/a/b"],
                ..ROW
            },
            Row {
                feature: "allow with literal tags only",
                input: "sync:\n  - source: quay.io/a/b\n    target: ECR/a/b\n    type: repository\n    tags: {allow: [latest, '3']}\n",
                images: &["quay.io/a/b latest 3 → ECR/a/b"],
                text: &["\"quay.io/a/b\" = [\"latest\", \"3\"]"],
                ..ROW
            },
            Row {
                feature: "deny alone",
                input: "sync:\n  - source: quay.io/a/b\n    target: ECR/a/b\n    type: repository\n    tags: {deny: ['.*\\d.*']}\n",
                images: &["quay.io/a/b latest edge → ECR/a/b"],
                ..ROW
            },
            Row {
                feature: "semverRange with deny, and tagSets",
                input: "sync:\n  - source: quay.io/a/b\n    target: ECR/a/b\n    type: repository\n    tags:\n      semverRange: ['>=1.26.0 <2.0.0']\n      deny: ['.*-alpine']\n    tagSets:\n      - allow: [edge]\n",
                images: &["quay.io/a/b edge 1.26.0 v1.26.0 1.26.1 1.26.1.4 2.0.0-rc.1 → ECR/a/b"],
                ..ROW
            },
            Row {
                feature: "platforms, external layers and referrers, with defaults",
                input: "defaults:\n  includeExternal: true\n  referrers: true\nsync:\n  - source: quay.io/a/b:1\n    target: ECR/a/b:1\n    type: image\n    platforms: [linux/amd64, linux/arm64]\n  - source: quay.io/a/c:1\n    target: ECR/a/c:1\n    type: image\n    platform: linux/arm64\n    includeExternal: false\n    referrers: false\n",
                images: &["quay.io/a/b 1 → ECR/a/b", "quay.io/a/c 1 → ECR/a/c"],
                text: &[
                    "platforms = [\"linux/amd64\", \"linux/arm64\"]",
                    "signatures = \"all\"",
                    "foreign_layers = \"copy\"",
                    "flatten = true",
                ],
                ..ROW
            },
            Row {
                feature: "keys without an equivalent",
                input: "defaults:\n  parallel: 4\n  interval: 60m\n  ratelimit: {min: 100, retry: 15m}\n  backup: bkup-{{.Ref.Tag}}\nx-hooks: &hooks\n  post: {type: url-script}\nsync:\n  - source: quay.io/a/b:1\n    target: ECR/a/b:1\n    type: image\n    hooks: *hooks\n  - source: busybox:1\n    target: ECR/library/busybox:1\n    type: image\n  - source: quay.io\n    target: ECR\n    type: registry\n",
                images: &[
                    "quay.io/a/b 1 → ECR/a/b",
                    "docker.io/library/busybox 1 → ECR/library/busybox",
                ],
                open: &["input:5: `backup`", "input:12: `hooks`", "input:16: `type: registry`"],
                text: &[
                    "input:2: `parallel`",
                    "input:3: `interval`",
                    "input:4: `ratelimit.retry`",
                    "reserve_pulls = 100",
                ],
            },
            Row {
                feature: "logins: variables stay variables, a password is not repeated",
                input: "creds:\n  - registry: docker.io\n    user: '{{env \"HUB_USER\"}}'\n    pass: '{{env \"HUB_TOKEN\"}}'\n  - registry: quay.io\n    user: '{{env \"QUAY_USER\"}}'\n    pass: h0rse-battery\n    reqConcurrent: 3\n  - registry: ECR\n    credHelper: docker-credential-ecr-login\nsync:\n  - {source: 'busybox:1', target: 'ECR/library/busybox:1', type: image}\n  - {source: 'quay.io/a/b:1', target: 'ECR/a/b:1', type: image}\n",
                images: &[
                    "docker.io/library/busybox 1 → ECR/library/busybox",
                    "quay.io/a/b 1 → ECR/a/b",
                ],
                open: &[
                    "input:6: the login is not repeated: set `QUAY_USER` and `QUAY_IO_PASSWORD`",
                ],
                text: &[
                    "username = \"${HUB_USER:-}\"",
                    "password = \"${HUB_TOKEN:-}\"",
                    "max_connections = 3",
                    "username = \"${QUAY_USER:-}\"",
                    "password = \"${QUAY_IO_PASSWORD:-}\"",
                ],
            },
            Row {
                feature: "naming rules: the registry in front, and one exception",
                input: "sync:\n  - {source: 'quay.io/a/b:1', target: 'ECR/m/quay.io/a/b:1', type: image}\n  - {source: 'ghcr.io/a/b:1', target: 'ECR/m/ghcr.io/a/b:1', type: image}\n  - {source: 'ghcr.io/c/d:1', target: 'ECR/m/tool:1', type: image}\n",
                images: &[
                    "quay.io/a/b 1 → ECR/m/quay.io/a/b",
                    "ghcr.io/a/b 1 → ECR/m/ghcr.io/a/b",
                    "ghcr.io/c/d 1 → ECR/m/tool",
                ],
                text: &["repository = \"{registry}/{repository}\"", "repository = \"tool\""],
                ..ROW
            },
            Row {
                feature: "two destinations",
                input: "sync:\n  - {source: 'quay.io/a/b:1', target: 'ECR/m/a/b:1', type: image}\n  - {source: 'quay.io/a/b:1', target: 'r.example/x/a/b:1', type: image}\n  - {source: 'quay.io/a/c:1', target: 'ECR/m/a/c:1', type: image}\n",
                images: &[
                    "quay.io/a/b 1 → ECR/m/a/b",
                    "quay.io/a/b 1 → r.example/x/a/b",
                    "quay.io/a/c 1 → ECR/m/a/c",
                ],
                text: &[
                    "\"quay.io/a/b\" = \"1\"\n",
                    "destinations = [\"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"]",
                    "`r.example` is not ECR",
                ],
                ..ROW
            },
        ],
        &ImportOptions::default(),
    );
}

#[test]
fn skopeo_files_are_translated_to_the_images_that_skopeo_copies() {
    let input = "registry.example.com:\n    images:\n        busybox: []\n        redis:\n            - \"1.0\"\n            - 2.0\n    images-by-tag-regex:\n        nginx: ^1\\.26\\.[01]\n        haproxy: '-alpine'\n    images-by-semver:\n        alpine: \">= 1.26.0\"\n    tls-verify: true\nquay.io:\n    images:\n        coreos/etcd:\n            - latest\n";
    let every = "latest edge 0.9 1 1.0.0 1.25.0 1.26.0 v1.26.0 1.26.0-rc.1 1.26.0-alpine 1.26.1 1.26.1-alpine 1.27-alpine 1.26.1.4 2.0.0 2.0.0-rc.1 20240101 bookworm-1.26 3 3.18 3.19-rc1";
    assert_eq!(every, TAGS.split_whitespace().collect::<Vec<_>>().join(" "));
    for (to, scoped, prefix) in
        [("/m", false, ["m/", "m/"]), ("", true, ["registry.example.com/", "quay.io/coreos/"])]
    {
        let to = format!("{ECR}{to}").parse().unwrap();
        let imported = imported(input, &ImportOptions { to: Some(to), scoped });
        assert_eq!(imported.open, Vec::<String>::new());
        let [example, quay] = prefix;
        let images = [
            format!("registry.example.com/busybox {every} → ECR/{example}busybox"),
            format!("registry.example.com/redis 1.0 2.0 → ECR/{example}redis"),
            format!(
                "registry.example.com/nginx 1.26.0 1.26.0-rc.1 1.26.0-alpine 1.26.1 1.26.1-alpine 1.26.1.4 → ECR/{example}nginx"
            ),
            format!(
                "registry.example.com/haproxy 1.26.0-alpine 1.26.1-alpine 1.27-alpine → ECR/{example}haproxy"
            ),
            format!(
                "registry.example.com/alpine 1.26.0 v1.26.0 1.26.1 2.0.0 20240101 3 3.18 → ECR/{example}alpine"
            ),
            format!("quay.io/coreos/etcd latest → ECR/{quay}etcd"),
        ];
        let images: Vec<&str> = images.iter().map(String::as_str).collect();
        assert_eq!(mirrored(&imported.text), expected(&images), "{}", imported.text);
    }
    check(
        &[
            Row {
                feature: "no destination, a digest, a login, and certificates",
                input: "quay.io:\n  images:\n    a/b: [DIGEST]\n  credentials:\n    username: john\n    password: this is a secret\n  tls-verify: false\n  cert-dir: /home/john/certs\n",
                images: &["quay.io/a/b DIGEST → ECR/a/b sha256-e3b0c44298fc"],
                open: &[
                    "input:3: a digest without a tag",
                    "input:4: the login is not repeated",
                    "input:7: `tls-verify: false`",
                    "input:8: `cert-dir`",
                    "names no destination",
                ],
                text: &[
                    "username = \"${QUAY_IO_USERNAME:-}\"",
                    "password = \"${QUAY_IO_PASSWORD:-}\"",
                ],
            },
            Row {
                feature: "a pattern and a range without an equivalent",
                input: "quay.io:\n  images: {a/b: ['1']}\n  images-by-tag-regex:\n    a/c: '\\Qa\\E'\n  images-by-semver:\n    a/d: 'latest'\n",
                images: &["quay.io/a/b 1 → ECR/a/b"],
                open: &["input:4: ", "input:6: ", "names no destination"],
                ..ROW
            },
        ],
        &ImportOptions::default(),
    );
}

#[test]
fn dregsy_files_are_translated_to_the_images_that_dregsy_copies() {
    check(
        &[
            Row {
                feature: "mappings with and without `to`, verbatim tags, anchors",
                input: "relay: skopeo\ntasks:\n- name: one\n  interval: 60\n  source: &source\n    registry: quay.io\n  target:\n    registry: ECR\n  mappings: &mappings\n  - from: test/image\n    to: archive/test/image\n    tags: ['0.1.0', 0.1]\n  - from: test/other\n    tags: ['1.26.1@DIGEST']\n- name: two\n  source: *source\n  target: {registry: r.example}\n  mappings: *mappings\n",
                images: &[
                    "quay.io/test/image 0.1.0 0.1 → ECR/archive/test/image",
                    "quay.io/test/image 0.1.0 0.1 → r.example/archive/test/image",
                    "quay.io/test/other DIGEST → ECR/test/other 1.26.1",
                    "quay.io/test/other DIGEST → r.example/test/other 1.26.1",
                ],
                text: &["input:4: `interval`", "1.26.1@DIGEST"],
                ..ROW
            },
            Row {
                feature: "filters are alternatives",
                input: "tasks:\n- name: one\n  source: {registry: quay.io}\n  target: {registry: ECR}\n  mappings:\n  - from: a/b\n    tags: ['semver: >=1.26.0 <2.0.0', 'regex: 3\\.1[89]', latest]\n",
                images: &[
                    "quay.io/a/b latest 1.26.0 v1.26.0 1.26.1 1.26.1-alpine 2.0.0-rc.1 3.18 → ECR/a/b",
                ],
                ..ROW
            },
            Row {
                feature: "an inverted pattern",
                input: "tasks:\n- name: one\n  source: {registry: quay.io}\n  target: {registry: ECR}\n  mappings:\n  - from: a/b\n    tags: ['regex: !.*[0-9].*']\n",
                images: &["quay.io/a/b latest edge → ECR/a/b"],
                ..ROW
            },
            Row {
                feature: "`keep` narrows filters, not verbatim tags",
                input: "tasks:\n- name: one\n  source: {registry: quay.io}\n  target: {registry: ECR}\n  mappings:\n  - from: a/b\n    tags: [edge, 'semver: >=1.26.0', 'keep: .+-(alpine|slim)', 'keep: !.*rc.*']\n",
                images: &["quay.io/a/b edge 1.26.1-alpine → ECR/a/b"],
                ..ROW
            },
            Row {
                feature: "`keep` alone narrows every tag",
                input: "tasks:\n- name: one\n  source: {registry: quay.io}\n  target: {registry: ECR}\n  mappings:\n  - from: a/b\n    tags: ['keep: [a-z]+']\n",
                images: &["quay.io/a/b latest edge → ECR/a/b"],
                ..ROW
            },
            Row {
                feature: "`keep: latest`",
                input: "tasks:\n- name: one\n  source: {registry: quay.io}\n  target: {registry: ECR}\n  mappings:\n  - from: a/b\n    tags: ['semver: >=1.25.0 <=1.26.1', 'keep: latest 2']\n",
                images: &["quay.io/a/b 1.26.1 1.26.1-alpine → ECR/a/b"],
                text: &["newest = 2"],
                ..ROW
            },
            Row {
                feature: "a replacement in `to`, one platform, and what needs a hand",
                input: "tasks:\n- name: one\n  source: {registry: quay.io, auth: c2VjcmV0, lister: {type: catalog}}\n  target: {registry: ECR, auth-refresh: 10h}\n  mappings:\n  - from: myproject/webui\n    to: 'regex:my(.+)/,from-dh/your$1/'\n    tags: ['1']\n    platform: linux/arm64/v8\n  - from: 'regex:myproject/.*'\n",
                images: &["quay.io/myproject/webui 1 → ECR/from-dh/yourproject/webui"],
                open: &["input:3: `auth`", "input:10: `from: regex:…`"],
                text: &["platforms = [\"linux/arm64/v8\"]", "flatten = true"],
            },
        ],
        &ImportOptions::default(),
    );
}

#[test]
fn image_syncer_files_are_translated_to_the_images_that_image_syncer_copies() {
    check(
        &[
            Row {
                feature: "an images file in YAML: every form of a source",
                input: "quay.io/coreos/a: ECR/ruohe/a\nquay.io/coreos/b:v1.0: ECR/ruohe/b\nquay.io/coreos/b:v2.0,v3.0: ECR/ruohe/b\nquay.io/coreos/c@DIGEST: ECR/ruohe/c:pinned\nquay.io/coreos/d:v1.1:\n  - ECR/ruohe/d1\n  - ECR/ruohe/d2\nquay.io/coreos/e:/1\\.26\\.0$|^edge/: ECR/ruohe/e\nquay.io/coreos/f:1,2: ECR/ruohe/f:one,two\n",
                images: &[
                    "quay.io/coreos/a latest edge 0.9 1 1.0.0 1.25.0 1.26.0 v1.26.0 1.26.0-rc.1 1.26.0-alpine 1.26.1 1.26.1-alpine 1.27-alpine 1.26.1.4 2.0.0 2.0.0-rc.1 20240101 bookworm-1.26 3 3.18 3.19-rc1 → ECR/ruohe/a",
                    "quay.io/coreos/b v1.0 v2.0 v3.0 → ECR/ruohe/b",
                    "quay.io/coreos/c DIGEST → ECR/ruohe/c pinned",
                    "quay.io/coreos/d v1.1 → ECR/ruohe/d1",
                    "quay.io/coreos/d v1.1 → ECR/ruohe/d2",
                    "quay.io/coreos/e edge 1.26.0 v1.26.0 → ECR/ruohe/e",
                    "quay.io/coreos/f 1 2 → ECR/ruohe/f one two",
                ],
                text: &["prefix = \"ruohe\"", "repository = \"{name}\""],
                ..ROW
            },
            Row {
                feature: "the old form in JSON, with tabs and logins",
                input: "{\n\t\"auth\": {\n\t\t\"quay.io\": {\"username\": \"${QUAY_USER}\", \"password\": \"$QUAY_TOKEN\"},\n\t\t\"quay.io/coreos\": {\"username\": \"a\", \"password\": \"b\"},\n\t\t\"r.example:5000\": {\"username\": \"c\", \"password\": \"s3cret\", \"insecure\": true}\n\t},\n\t\"images\": {\n\t\t\"quay.io/coreos/b:v1\": [\"r.example:5000/ruohe/b\"]\n\t}\n}\n",
                images: &["quay.io/coreos/b v1 → r.example:5000/ruohe/b"],
                open: &[
                    "input:4: `quay.io/coreos`",
                    "input:5: the login is not repeated: set `R_EXAMPLE_5000_USERNAME`",
                ],
                text: &["\"${QUAY_USER:-}\"", "\"${QUAY_TOKEN:-}\"", "plain_http = true"],
            },
            Row {
                feature: "variables and numbers of tags that differ",
                input: "quay.io/a/b:1: ${REGISTRY}/a/b\nquay.io/a/c:1,2: ECR/a/c:one\nquay.io/a/d:1: ECR/a/d\n",
                images: &["quay.io/a/d 1 → ECR/a/d"],
                open: &["input:1: ", "input:2: the tags of the source"],
                ..ROW
            },
        ],
        &ImportOptions::default(),
    );
}

#[test]
fn plain_lists_are_read_in_the_forms_that_releases_have() {
    let to = format!("{ECR}/m").parse().unwrap();
    check(
        &[Row {
            feature: "comments, quotes, commas, CRLF, a BOM, no tag, a digest",
            input: "\u{feff}# images\r\nnginx:1.27 # web\r\n\"docker.io/rancher/rancher:v2.9\",\nimage=quay.io/a/b\n\n- ghcr.io/c/d:1@DIGEST\ndocker://quay.io/a/b:2\nNginx:1\n",
            images: &[
                "docker.io/library/nginx 1.27 → ECR/m/library/nginx",
                "docker.io/rancher/rancher v2.9 → ECR/m/rancher/rancher",
                "quay.io/a/b latest 2 → ECR/m/a/b",
                "ghcr.io/c/d DIGEST → ECR/m/c/d 1",
            ],
            open: &["input:8: `Nginx:1` has uppercase letters"],
            text: &["# docker.io\nnginx = \"1.27\"\n\"rancher/rancher\" = \"v2.9\"\n\n# ghcr.io\n"],
        }],
        &ImportOptions { to: Some(to), scoped: false },
    );
}

#[test]
fn ranges_select_what_the_dialect_of_the_tool_selects() {
    use super::ranges::{Dialect, Patterns, selections};
    for (dialect, range, expected) in [
        (Dialect::Masterminds, ">= 1.26.0", "1.26.0 v1.26.0 1.26.1 2.0.0 20240101 3 3.18"),
        (
            Dialect::Masterminds,
            ">=1.26.0-0, <2.0.0-0",
            "1.26.0 v1.26.0 1.26.0-rc.1 1.26.0-alpine 1.26.1 1.26.1-alpine 1.27-alpine",
        ),
        (Dialect::Masterminds, "1.26", "1.26.0 v1.26.0 1.26.1"),
        (Dialect::Masterminds, "1.26.x", "1.26.0 v1.26.0 1.26.1"),
        (Dialect::Masterminds, "1.26.1", "1.26.1"),
        (Dialect::Masterminds, "^1.25 != 1.26.0", "1.25.0 1.26.1"),
        (Dialect::Masterminds, "1.0 - 1.25", "1 1.0.0 1.25.0"),
        (Dialect::Masterminds, "~1.26 || 0.9", "0.9 1.26.0 v1.26.0 1.26.1"),
        (
            Dialect::Masterminds,
            "*",
            "0.9 1 1.0.0 1.25.0 1.26.0 v1.26.0 1.26.1 2.0.0 20240101 3 3.18",
        ),
        (
            Dialect::Regclient,
            ">=1.26.0 <2.0.0",
            "1.26.0 v1.26.0 1.26.1 1.26.1-alpine 1.27-alpine 1.26.1.4 2.0.0-rc.1",
        ),
        (Dialect::Regclient, "1.26", "1.26.0 v1.26.0"),
        (Dialect::Regclient, "~1.26.0", "1.26.0 v1.26.0 1.26.1 1.26.1-alpine 1.26.1.4 1.27-alpine"),
        (Dialect::Regclient, ">=2", "2.0.0 20240101 3 3.18 3.19-rc1"),
        (Dialect::Blang, ">=1.26.0 <2.0.0", "1.26.0 v1.26.0 1.26.1 1.26.1-alpine 2.0.0-rc.1"),
        (Dialect::Blang, "1.26.x", "1.26.0 v1.26.0 1.26.1 1.26.1-alpine"),
        (Dialect::Blang, "=1.26.1", "1.26.1"),
        (Dialect::Blang, "2.0.0 || 0.9.0", "0.9 2.0.0"),
        (Dialect::Blang, ">1.26.0 !1.26.1 <2.0.0", "1.26.1-alpine 2.0.0-rc.1"),
    ] {
        let found = selections(dialect, &[range], &Patterns::default()).unwrap();
        let tables = found.keys.iter().map(|keys| {
            let mut keys = keys.clone();
            keys.insert("at_least", "0".to_owned());
            let keys = keys.iter().map(|(key, value)| format!("{key} = {value}"));
            let keys = keys.collect::<Vec<_>>().join(", ");
            format!("[[image]]\nsource = \"quay.io/a/b\"\nselect = {{ {keys} }}\n")
        });
        let text =
            "[[destination]]\nregistry = \"r.example\"\n".to_owned() + &tables.collect::<String>();
        let line = format!("quay.io/a/b {expected} → r.example/a/b");
        assert_eq!(mirrored(&text), self::expected(&[&line]), "{dialect:?} {range}\n{text}");
    }
    for (dialect, range) in [
        (Dialect::Masterminds, "latest"),
        (Dialect::Masterminds, ""),
        (Dialect::Masterminds, "=1.2.3-rc.1"),
        (Dialect::Regclient, "1.2.x"),
        (Dialect::Blang, ">=1.26"),
        (Dialect::Blang, "^1.2.3"),
        (Dialect::Blang, ">=1.2.3.4"),
    ] {
        assert!(
            selections(dialect, &[range], &Patterns::default()).is_err(),
            "{dialect:?} {range}"
        );
    }
}

#[test]
fn unknown_and_broken_files_are_refused_with_their_line() {
    for (text, expected) in [
        ("a: {b: c}\n", "input has no known format"),
        ("sync:\n  - a: [\n", "input:"),
        ("", "no image is found in input"),
        ("# nothing\n", "no image is found in input"),
    ] {
        let file = InputFile { name: "input".to_owned(), text: text.to_owned() };
        let error = import(&[file], &ImportOptions::default(), None).unwrap_err();
        assert_eq!(error.kind(), Kind::Configuration, "{text}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn an_import_into_a_file_keeps_its_comments_and_adds_tags() {
    let into = format!(
        "# ours\n[[destination]]\nregistry = \"{ECR}\"   # prod\nprefix = \"m\"\n\n[images]\n# web\nnginx = [\"1.26\"] # keep\nredis = {{ newest = 1 }}\n\n[defaults]\nplatforms = [\"linux/amd64\"]\n"
    );
    let list = "nginx:1.26\nnginx:1.27\nredis:7\nquay.io/a/b:1\n";
    let file = |name: &str, text: &str| InputFile { name: name.to_owned(), text: text.to_owned() };
    let imported = import(
        &[file("list.txt", list)],
        &ImportOptions::default(),
        Some(&file("mirror.toml", &into)),
    )
    .unwrap();
    assert_eq!(imported.open, Vec::<String>::new());
    let text = &imported.text;
    for part in [
        "# ours\n",
        "   # prod\n",
        "# web\nnginx = [\"1.26\", \"1.27\"] # keep\n",
        "redis = { newest = 1 }\n",
    ] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
    assert!(text.contains("from list.txt.\n# quay.io\n\"quay.io/a/b\" = \"1\"\n"), "{text}");
    let images = mirrored(&text.replace("newest = 1", "glob = [\"edge\"]"));
    let expected = expected(&[
        "docker.io/library/nginx 1.26 1.27 → ECR/m/library/nginx",
        "docker.io/library/redis 7 edge → ECR/m/library/redis",
        "quay.io/a/b 1 → ECR/m/a/b",
    ]);
    assert_eq!(images, expected, "{text}");
    // the same import again adds nothing to `[images]`
    let again = import(
        &[file("list.txt", "nginx:1.27\nquay.io/a/b:1\n")],
        &ImportOptions::default(),
        Some(&file("mirror.toml", text)),
    )
    .unwrap();
    assert_eq!(&again.text, text);
}

/// 7,500 images in about a third as many repositories, three lines each.
fn many() -> String {
    let mut text = "version: 1\ndefaults:\n  parallel: 4\nsync:\n".to_owned();
    let hosts = ["docker.io", "quay.io", "ghcr.io", "registry.k8s.io"];
    for repository in 0..2_660 {
        let host = hosts[repository % hosts.len()];
        for tag in 0..[1, 1, 2, 3, 4, 6][repository / hosts.len() % 6] {
            text += &format!(
                "  - source: {host}/team{}/app{repository}:1.{tag}.0\n    target: {ECR}/mirror/team{}/app{repository}:1.{tag}.0\n    type: image\n",
                repository % 20,
                repository % 20
            );
        }
    }
    text
}

#[test]
fn a_large_file_becomes_a_tenth_of_its_lines_and_an_import_into_the_result_adds_nothing() {
    let input = many();
    let imported = imported(&input, &ImportOptions::default());
    let lines = imported.text.lines().count();
    assert!(input.lines().count() > 22_000);
    assert!(lines <= input.lines().count() / 10, "{lines}");
    assert!(imported.text.lines().all(|line| line.len() <= 100), "{}", imported.text);
    assert_eq!(mirrored(&imported.text).len(), input.matches("source").count());
    let [file, into] =
        [input, imported.text].map(|text| InputFile { name: "regsync.yml".to_owned(), text });
    let again = import(&[file], &ImportOptions::default(), Some(&into)).unwrap();
    assert_eq!(again.text, into.text);
}

#[test]
fn many_images_with_a_single_tag_share_a_list_of_their_registry() {
    let to = format!("{ECR}/m").parse().unwrap();
    let options = ImportOptions { to: Some(to), scoped: false };
    let list: String =
        (10..40).map(|at| format!("nginx{at}:1\nquay.io/team/app{at}:2\n")).collect();
    let first = imported(&(list + "ghcr.io/a/b:3\nquay.io/a/c:1\nquay.io/a/c:2\n"), &options).text;
    assert!(first.contains("\n# docker.io\n\"docker.io/\" = [\n    \"nginx10:1\", "), "{first}");
    assert!(first.contains("\n# ghcr.io\n\"ghcr.io/a/b\" = \"3\"\n"), "{first}");
    assert!(first.contains("\n]\n\"quay.io/a/c\" = [\"1\", \"2\"]\n"), "{first}");
    assert!(first.lines().count() < 30 && first.lines().all(|line| line.len() <= 100), "{first}");
    assert_eq!(mirrored(&first).len(), 63, "{first}");
    // further images join the list, known ones do not
    let file = |text: &str| InputFile { name: "list.txt".to_owned(), text: text.to_owned() };
    let commented = first.replace("\n]\n\"quay.io/a/c\"", " # last\n]\n\"quay.io/a/c\"");
    let into = file(&commented);
    let more = file("quay.io/team/app10:2\nquay.io/team/app10:3\nquay.io/x/y:1\nghcr.io/a/b:3\n");
    let second = import(&[more], &options, Some(&into)).unwrap().text;
    let expected = " # last\n    \"team/app10:3\", \"x/y:1\",\n]\n";
    assert_eq!(second, commented.replace(" # last\n]\n", expected));
    assert_eq!(mirrored(&second).len(), 65, "{second}");
}

#[test]
fn the_documentation_has_the_result_of_each_key() {
    let text = include_str!("../../docs/import.md");
    let section = |name: &str| text.split(&format!("\n## {name}\n")).nth(1).unwrap();
    let result = |section: &str, key: &str| {
        let rows = section.split("\n## ").next().unwrap().lines();
        let mut cells = rows.filter_map(|row| row.strip_prefix("| ")?.split_once(" | "));
        let (_, rest) = cells
            .find(|(keys, _)| keys.contains(&format!("`{key}`")))
            .unwrap_or_else(|| panic!("`{key}` is not documented"));
        rest.split(" | ").next().unwrap().to_owned()
    };
    let (regsync, dregsy) = (section("regsync"), section("dregsy"));
    let tables = [
        (regsync, &regsync::NO_EQUIVALENT[..]),
        (regsync, &regsync::NO_EQUIVALENT_LOGIN),
        (dregsy, &dregsy::NO_EQUIVALENT),
        (dregsy, &dregsy::NO_EQUIVALENT_LOCATION),
    ];
    for (section, (key, equivalent)) in
        tables.iter().flat_map(|(section, keys)| keys.iter().map(move |row| (section, row)))
    {
        let expected = match equivalent {
            NoEquivalent::Silent => "not needed",
            NoEquivalent::Note(_) => "comment",
            NoEquivalent::Hand(_) => "by hand",
        };
        assert_eq!(result(section, key), expected, "{key}");
    }
    for key in skopeo::KEYS {
        result(section("skopeo sync"), key.split(':').next().unwrap());
    }
}
