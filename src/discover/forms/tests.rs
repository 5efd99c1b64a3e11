//! Tests of the forms against small evaluators of their documented semantics.

use std::path::Path;

use regex::Regex;
use serde_json::Value;

use super::*;
use crate::model::{Digest, Platforms};

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

fn digest(of: &str) -> Digest {
    Digest::of(of.as_bytes())
}

fn image(source: &str, destination: &str) -> MappedImage {
    MappedImage {
        source: source.parse().unwrap(),
        destination: format!("{ECR}/{destination}").parse().unwrap(),
        platforms: Platforms::All,
        is_cached: false,
        uses: Vec::new(),
    }
}

fn used(source: &str, destination: &str, kind: UseKind, spelling: Spelling) -> MappedImage {
    let place = ImageUse { file: "Dockerfile".into(), line: 1, kind, spelling };
    MappedImage { uses: vec![place], ..image(source, destination) }
}

fn mapping(basis: MappingBasis, images: Vec<MappedImage>) -> ImageMapping {
    ImageMapping {
        basis,
        images,
        missing: Vec::new(),
        plain_http: BTreeSet::default(),
        bake_targets: BTreeSet::default(),
    }
}

/// An image that the destination does not have.
fn missing(source: &str, kind: UseKind, spelling: Spelling) -> MissingImage {
    let MappedImage { source, uses, .. } = used(source, "m/x", kind, spelling);
    MissingImage { source, is_sent: true, uses }
}

fn configured(images: Vec<MappedImage>) -> ImageMapping {
    mapping(MappingBasis::Configuration, images)
}

fn uses(images: Vec<MappedImage>) -> ImageMapping {
    mapping(MappingBasis::Uses, images)
}

fn emitted(form: BuildForm, mapping: &ImageMapping) -> EmittedForm {
    emit(form, mapping).unwrap()
}

/// A reference without variables, and one of them: `$NAME` expands to `value`.
fn variable(written: &str, value: &str) -> SpellingPart {
    let argument = written.trim_matches(['$', '{', '}']).to_owned();
    SpellingPart {
        written: written.to_owned(),
        expanded: value.to_owned(),
        argument: Some(argument),
    }
}

fn literal(text: &str) -> SpellingPart {
    Spelling::literal(0, text).parts.remove(0)
}

/// Evaluates a source policy: the name that BuildKit pulls, or `None` if it denies it. A rule has no
/// `match_type`, so each selector is a wildcard. A CONVERT that changes the name starts again; else
/// the last of ALLOW and DENY counts.
fn evaluated(policy: &str, name: &str) -> Option<String> {
    let policy: Value = serde_json::from_str(policy).unwrap();
    let mut name = format!("docker-image://{name}");
    'again: for _ in 0..20 {
        let mut is_denied = false;
        for rule in policy["rules"].as_array().unwrap() {
            assert!(rule["selector"].as_object().unwrap().keys().eq(["identifier"]), "{rule}");
            let identifier = rule["selector"]["identifier"].as_str().unwrap();
            assert!(!identifier.contains("**"), "{rule}");
            let pattern = regex::escape(identifier).replace(r"\*", "(.*)");
            let pattern = Regex::new(&format!("^{pattern}$")).unwrap();
            let Some(captures) = pattern.captures(&name) else { continue };
            match rule["action"].as_str().unwrap() {
                "ALLOW" => is_denied = false,
                "DENY" => is_denied = true,
                "CONVERT" => {
                    let mut changed = String::new();
                    let to = rule["updates"]["identifier"].as_str().unwrap();
                    captures.expand(to, &mut changed);
                    if changed != name {
                        name = changed;
                        continue 'again;
                    }
                }
                other => panic!("{other}"),
            }
        }
        let pulled = name.strip_prefix("docker-image://").map(str::to_owned);
        return pulled.filter(|_| !is_denied);
    }
    panic!("{name} is converted without end")
}

/// Asserts what each reference is pulled as; a destination lacks the host, and `None` is a refusal.
#[track_caller]
fn assert_pulls<const N: usize>(
    pulled: impl Fn(&str) -> Option<String>,
    cases: [(String, Option<String>); N],
) {
    for (name, expected) in cases {
        let expected = expected.map(|place| format!("{ECR}/{place}"));
        assert_eq!(pulled(&name), expected, "{name}");
    }
}

fn case(name: &str, place: &str) -> (String, Option<String>) {
    (name.to_owned(), (!place.is_empty()).then(|| place.to_owned()))
}

#[test]
fn a_policy_of_a_configuration_converts_every_spelling_and_denies_the_rest() {
    let (pin, filtered, any) = (digest("pin"), digest("filtered"), digest("any"));
    let mapping = configured(vec![
        image("alpine:3.20", "m/library/alpine:3.20"),
        image("ghcr.io/a/b:1", "m/a/b:v1"),
        image(&format!("grafana/grafana:11@{pin}"), &format!("m/g/g:11@{filtered}")),
    ]);
    let policy = emitted(BuildForm::SourcePolicy, &mapping).text();
    assert_pulls(
        |name| evaluated(&policy, name),
        [
            case("docker.io/library/alpine:3.20", "m/library/alpine:3.20"),
            case("docker.io/library/alpine:9", "m/library/alpine:9"),
            case(
                &format!("docker.io/library/alpine:3.20@{any}"),
                &format!("m/library/alpine:3.20@{any}"),
            ),
            case(&format!("docker.io/library/alpine@{any}"), &format!("m/library/alpine@{any}")),
            case("ghcr.io/a/b:1", "m/a/b:v1"),
            case(&format!("ghcr.io/a/b:1@{any}"), &format!("m/a/b:v1@{any}")),
            case("ghcr.io/a/b:2", ""),
            case(&format!("docker.io/grafana/grafana:11@{pin}"), &format!("m/g/g:11@{filtered}")),
            case(&format!("docker.io/grafana/grafana@{pin}"), &format!("m/g/g:11@{filtered}")),
            case("docker.io/library/alpine2:3.20", ""),
            case("docker.io/library/busybox:latest", ""),
            case("quay.io/library/alpine:3.20", ""),
        ],
    );
    // an image that names the mirror itself stays, and files of the build are not images
    assert!(evaluated(&policy, &format!("{ECR}/own/app:1")).is_some());
    assert!(!policy.contains("\"*\""), "{policy}");
}

#[test]
fn a_policy_of_a_build_pins_the_references_used_and_denies_every_other_tag() {
    let (mirrored, pin) = (digest("mirrored"), digest("pin"));
    let mapping = uses(vec![
        image("alpine", &format!("m/library/alpine:latest@{mirrored}")),
        image(&format!("quay.io/a/b:1@{pin}"), &format!("m/a/b:1@{mirrored}")),
    ]);
    let policy = emitted(BuildForm::SourcePolicy, &mapping).text();
    assert_pulls(
        |name| evaluated(&policy, name),
        [
            case("docker.io/library/alpine:latest", &format!("m/library/alpine:latest@{mirrored}")),
            case(&format!("quay.io/a/b:1@{pin}"), &format!("m/a/b:1@{mirrored}")),
            case("docker.io/library/alpine:3.20", ""),
            case("quay.io/a/b:1", ""),
        ],
    );
}

#[test]
fn no_form_serves_the_image_of_one_registry_as_that_of_another() {
    let mapping = configured(vec![
        image("alpine:3.20", "m/library/alpine:3.20"),
        image("quay.io/library/alpine:edge", "m/library/alpine:edge"),
    ]);
    let policy = emitted(BuildForm::SourcePolicy, &mapping).text();
    assert_pulls(
        |name| evaluated(&policy, name),
        [
            case("docker.io/library/alpine:3.20", "m/library/alpine:3.20"),
            case("quay.io/library/alpine:edge", "m/library/alpine:edge"),
            case("quay.io/library/alpine:3.20", ""),
            case("docker.io/library/alpine:edge", ""),
        ],
    );
    for form in [BuildForm::HostsToml, BuildForm::Buildkitd] {
        let error = emit(form, &mapping).unwrap_err();
        assert_eq!(error.kind(), Kind::Configuration);
        assert!(error.remedy().unwrap().contains("{registry}/{repository}"), "{error:?}");
    }
    for form in [BuildForm::RegistriesConf, BuildForm::Kustomize] {
        assert_eq!(emitted(form, &mapping).omitted.len(), 2, "{form}");
    }
    // a nested prefix is shared as well
    let nested = configured(vec![image("a/b:1", "m/a/b:1"), image("quay.io/c:1", "m/quay/c:1")]);
    assert!(emit(BuildForm::HostsToml, &nested).is_err());
}

/// The location that containers-registries.conf(5) gives to a name without tag: the longest prefix
/// at a separator decides. `None` if it is blocked.
fn located(conf: &str, name: &str) -> Option<String> {
    let conf: toml::Table = conf.parse().unwrap();
    let tables = conf["registry"].as_array().unwrap().iter();
    let matching = tables.filter_map(|table| {
        let prefix = table.get("prefix").unwrap_or(&table["location"]).as_str().unwrap();
        let rest = name.strip_prefix(prefix)?;
        (rest.is_empty() || rest.starts_with(['/', ':', '@'])).then_some((prefix, rest, table))
    });
    let best = matching.max_by_key(|(prefix, ..)| prefix.len());
    let Some((_, rest, table)) = best else { return Some(name.to_owned()) };
    let is_blocked = table.get("blocked").and_then(toml::Value::as_bool).unwrap_or(false);
    (!is_blocked).then(|| format!("{}{rest}", table["location"].as_str().unwrap()))
}

#[test]
fn registries_conf_redirects_mirrored_repositories_and_blocks_their_hosts() {
    let (pin, filtered) = (digest("pin"), digest("filtered"));
    let mapping = configured(vec![
        image("alpine:3.20", "m/library/alpine:3.20"),
        image("quay.io/a/b:1", "m/custom:1"),
        image("ghcr.io/c/d:1", "m/c/d:v1"),
        image(&format!("ghcr.io/e/f:1@{pin}"), &format!("m/e/f:1@{filtered}")),
    ]);
    let form = emitted(BuildForm::RegistriesConf, &mapping);
    let conf = form.text();
    assert_pulls(
        |name| located(&conf, name),
        [
            case("docker.io/library/alpine:3.20", "m/library/alpine:3.20"),
            case("quay.io/a/b:1", "m/custom:1"),
            case("quay.io/a/b2:1", ""),
            case("docker.io/library/busybox:1", ""),
            case("ghcr.io/c/d:1", ""),
        ],
    );
    let omitted: Vec<String> = form.omitted.iter().map(ToString::to_string).collect();
    assert_eq!(omitted.len(), 2, "{omitted:?}");
    assert!(omitted[0].contains("another tag") && omitted[1].contains("another digest"));
    assert!(conf.contains("buildah login") && form.notes.is_empty(), "{conf}");
}

#[test]
fn a_mirror_per_host_has_the_url_that_its_client_accepts() {
    let mut mapping = configured(vec![
        image("alpine:3.20", "m/docker.io/library/alpine:3.20"),
        image("quay.io/a/b:1", "m/quay.io/a/b:1"),
        image("quay.io/c/d:1", "m/quay.io/c/d:v1"),
    ]);
    let form = emitted(BuildForm::HostsToml, &mapping);
    let paths: Vec<_> = form.files.iter().map(|file| file.path.clone().unwrap()).collect();
    assert_eq!(paths, [Path::new("docker.io/hosts.toml"), Path::new("quay.io/hosts.toml")]);
    assert_eq!(form.omitted.len(), 1);
    let hosts: toml::Table = form.files[0].text.parse().unwrap();
    let url = format!("https://{ECR}/v2/m/docker.io");
    assert_eq!(hosts["server"].as_str(), Some(url.as_str()), "nothing falls back to upstream");
    assert_eq!(hosts["host"][&url]["override_path"].as_bool(), Some(true));
    assert!(form.files[0].text.contains("kubelet's credential provider does not serve mirrors"));

    mapping.plain_http.insert(ECR.parse().unwrap());
    let buildkitd: toml::Table = emitted(BuildForm::Buildkitd, &mapping).text().parse().unwrap();
    let mirrors = buildkitd["registry"]["docker.io"]["mirrors"].as_array().unwrap();
    assert_eq!(mirrors[0].as_str(), Some(format!("{ECR}/m/docker.io").as_str()), "without /v2");
    assert_eq!(buildkitd["registry"][ECR]["http"].as_bool(), Some(true));
}

#[test]
fn contexts_have_the_familiar_names_that_buildkit_looks_up() {
    let pin = digest("pin");
    let mut mapping = uses(vec![
        image("docker.io/library/alpine:latest", "m/library/alpine:latest"),
        image("docker.io/a/b:1", "m/a/b:1"),
        image("quay.io/c/d", "m/c/d:latest"),
        image(&format!("python:3@{pin}"), &format!("m/library/python:3@{pin}")),
    ]);
    let text = emitted(BuildForm::BuildContexts, &mapping).text();
    let names: Vec<&str> =
        text.lines().map(|line| line.split([' ', '=']).nth(1).unwrap()).collect();
    assert_eq!(names, ["a/b:1", "alpine", &format!("python:3@{pin}"), "quay.io/c/d"]);
    assert!(text.contains(&format!("=docker-image://{ECR}/m/a/b:1\n")), "{text}");

    mapping.bake_targets.extend(["app".to_owned(), "test".to_owned()]);
    let bake: Value = serde_json::from_str(&emitted(BuildForm::Bake, &mapping).text()).unwrap();
    for target in ["app", "test"] {
        let contexts = &bake["target"][target]["contexts"];
        assert_eq!(contexts["alpine"], format!("docker-image://{ECR}/m/library/alpine:latest"));
    }
}

#[test]
fn build_arguments_replace_a_whole_reference_or_its_registry() {
    let spelled = |parts| Spelling { span: 0..0, parts };
    let from = |source, to, parts| used(source, to, UseKind::From, spelled(parts));
    let images = vec![
        from("alpine:3.20", "m/library/alpine:3.20", vec![variable("$BASE", "alpine:3.20")]),
        from(
            "quay.io/a/b:1",
            "m/a/b:1",
            vec![variable("${REGISTRY}", "quay.io"), literal("/a/b:"), variable("$V", "1")],
        ),
        from("golang:1", "m/library/golang:1", vec![literal("golang:"), variable("$V", "1")]),
        used(
            "docker/dockerfile:1",
            "m/docker/dockerfile:1",
            UseKind::Syntax,
            Spelling::literal(0, "docker/dockerfile:1"),
        ),
    ];
    let form = emitted(BuildForm::BuildArgs, &uses(images));
    let expected = format!(
        "--build-arg BASE={ECR}/m/library/alpine:3.20\n\
         --build-arg BUILDKIT_SYNTAX={ECR}/m/docker/dockerfile:1\n\
         --build-arg REGISTRY={ECR}/m\n"
    );
    assert_eq!(form.text(), expected);
    assert_eq!(form.omitted.len(), 1, "the version of golang is no registry");
}

#[test]
fn a_dockerfile_is_edited_at_its_references_and_nowhere_else() {
    let bytes =
        b"\xef\xbb\xbfFROM alpine:3.20 AS a\r\nCOPY --from=busybox:${V} /b /\r\n# alpine:3.20 \xff";
    let at = |text: &str| String::from_utf8_lossy(bytes).find(text).unwrap();
    let pin = digest("mirrored");
    let parts = vec![literal("busybox:"), variable("${V}", "1")];
    let start = at("busybox");
    let mut mapping = uses(vec![
        used(
            "alpine:3.20",
            &format!("m/library/alpine:3.20@{pin}"),
            UseKind::From,
            Spelling::literal(at("alpine"), "alpine:3.20"),
        ),
        used(
            "busybox:1",
            &format!("m/library/busybox:1@{pin}"),
            UseKind::CopyFrom,
            Spelling { span: start..start + "busybox:${V}".len(), parts },
        ),
    ]);
    let edited = rewrite(bytes, Path::new("Dockerfile"), &mapping).unwrap();
    let to = format!("FROM {ECR}/m/library/alpine:3.20@{pin} AS a\r\n");
    let copy = format!("COPY --from={ECR}/m/library/busybox:${{V}} /b /\r\n# alpine:3.20 ");
    let expected = [b"\xef\xbb\xbf", to.as_bytes(), copy.as_bytes(), b"\xff"].concat();
    assert_eq!((edited.bytes, edited.edits.len()), (expected, 2));
    let other = rewrite(bytes, Path::new("other/Dockerfile"), &mapping).unwrap();
    assert_eq!((&other.bytes[..], other.edits.len()), (&bytes[..], 0));
    mapping.images[0].uses[0].spelling.span = 0..11;
    assert!(rewrite(bytes, Path::new("Dockerfile"), &mapping).is_err(), "the file has changed");
}

#[test]
fn a_place_with_several_images_is_edited_only_if_one_text_fits_all_of_them() {
    let bytes = b"FROM $BASE\nFROM alpine:$V\n";
    let at = |start, parts| Spelling { span: start, parts };
    let base = |source| {
        let parts = vec![literal("alpine:"), variable("$V", source)];
        let to = format!("m/library/alpine:{source}");
        used(&format!("alpine:{source}"), &to, UseKind::From, at(16..25, parts))
    };
    let whole = |name: &str| {
        let spelling = at(5..10, vec![variable("$BASE", name)]);
        used(name, &format!("m/library/{name}"), UseKind::From, spelling)
    };
    let mut mapping = uses(vec![base("3.19"), base("3.20"), whole("redis:7"), whole("node:22")]);
    let edited = rewrite(bytes, Path::new("Dockerfile"), &mapping).unwrap();
    let expected = format!("FROM $BASE\nFROM {ECR}/m/library/alpine:$V\n");
    assert_eq!(String::from_utf8(edited.bytes).unwrap(), expected);
    assert_eq!((edited.edits.len(), edited.omitted.len()), (1, 1));
    // one of them is elsewhere in the mirror
    mapping.images[0].destination = format!("{ECR}/other/alpine:3.19").parse().unwrap();
    let edited = rewrite(bytes, Path::new("Dockerfile"), &mapping).unwrap();
    assert_eq!((&edited.bytes[..], edited.omitted.len()), (&bytes[..], 2));
}

#[test]
fn a_file_that_names_the_mirror_already_refuses_no_form_for_the_others() {
    let own = format!("{ECR}/m/library/alpine:3.20");
    let mapping = uses(vec![
        image(&own, "m/library/alpine:3.20"),
        image("alpine:3.20", "m/library/alpine:3.20"),
    ]);
    for form in [BuildForm::HostsToml, BuildForm::Buildkitd, BuildForm::RegistriesConf] {
        assert_eq!(emitted(form, &mapping).omitted, [], "{form}");
    }
    let policy = emitted(BuildForm::SourcePolicy, &mapping).text();
    assert_eq!(evaluated(&policy, &own), Some(own));
}

#[test]
fn manifests_services_and_variables_name_the_mirror() {
    let pin = digest("mirrored");
    let spelled = |text| Spelling::literal(0, text);
    let service = UseKind::Compose { service: "web".to_owned() };
    let mapping = uses(vec![
        used(
            "nginx:1.27",
            &format!("m/library/nginx:1.27@{pin}"),
            UseKind::Kubernetes,
            spelled("docker.io/nginx:1.27"),
        ),
        used("redis:7", "m/library/redis:7", service.clone(), spelled("redis:7")),
        used("redis:6", "m/library/redis:6", service, spelled("redis:6")),
    ]);
    let kustomize = emitted(BuildForm::Kustomize, &mapping).text();
    let entry = format!(
        "- name: \"docker.io/nginx\"\n  newName: \"{ECR}/m/library/nginx\"\n  digest: \"{pin}\"\n"
    );
    assert!(kustomize.ends_with(&format!("images:\n{entry}")), "{kustomize}");
    let compose = emitted(BuildForm::Compose, &mapping);
    let service = format!("services:\n  \"web\":\n    image: \"{ECR}/m/library/redis:7\"\n");
    assert!(compose.text().ends_with(&service), "{compose:?}");
    assert_eq!(compose.omitted.len(), 1, "one service has two images");
    let env = emitted(BuildForm::Env, &mapping).text();
    let expected = format!(
        "ECR_MIRROR_NGINX={ECR}/m/library/nginx:1.27@{pin}\n\
         ECR_MIRROR_REDIS_6={ECR}/m/library/redis:6\nECR_MIRROR_REDIS_7={ECR}/m/library/redis:7\n"
    );
    assert_eq!(env, expected);
}

#[test]
fn kustomize_omits_the_images_that_it_does_not_change() {
    let spelled = |text| Spelling::literal(0, text);
    let field = |source, to| used(source, to, UseKind::KubernetesOther, spelled(source));
    let mut mapping = uses(vec![
        field("quay.io/a/b:1", "m/a/b:1"),
        used("redis:7", "m/library/redis:7", UseKind::Kubernetes, spelled("redis:7")),
        // the same image in a volume
        field("redis:7", "m/library/redis:7"),
    ]);
    mapping.missing.push(missing("redis:6", UseKind::KubernetesOther, spelled("redis:6")));
    let form = emitted(BuildForm::Kustomize, &mapping);
    let entry = format!("images:\n- name: \"redis\"\n  newName: \"{ECR}/m/library/redis\"\n");
    assert!(form.text().ends_with(&entry), "{form:?}");
    let omitted: Vec<String> = form.omitted.iter().map(ToString::to_string).collect();
    let reason = "is not changed by Kustomize, outside of `containers` and `initContainers`";
    assert_eq!(omitted, [format!("quay.io/a/b:1 at Dockerfile:1 {reason}")]);
}

#[test]
fn an_image_with_and_without_its_tag_has_one_variable() {
    let (pin, other) = (digest("pin"), digest("other"));
    let tagged = format!("redis:7@{pin}");
    let pinned = format!("redis@{pin}");
    let to = |tag: &str, digest: &Digest| format!("m/library/redis:{tag}@{digest}");
    let mut mapping = uses(vec![
        image(&tagged, &to("7", &pin)),
        image(&pinned, &to("sha256-1", &pin)),
        image("nginx", "m/library/nginx:latest"),
        image("nginx:latest", "m/library/nginx:latest"),
    ]);
    let form = emitted(BuildForm::Env, &mapping);
    let redis = format!("ECR_MIRROR_REDIS={ECR}/{}\n", to("7", &pin));
    let expected = format!("ECR_MIRROR_NGINX={ECR}/m/library/nginx:latest\n{redis}");
    assert_eq!((form.text(), form.omitted.len()), (expected, 0));
    // another part of the pinned index
    mapping.images[1].destination = format!("{ECR}/{}", to("sha256-1", &other)).parse().unwrap();
    let form = emitted(BuildForm::Env, &mapping);
    assert!(form.text().ends_with(&redis), "{}", form.text());
    assert_eq!(form.omitted[0].source.to_string(), format!("docker.io/library/{pinned}"));
    // an image that is not mirrored is the same one, too
    mapping.images.remove(1);
    mapping.missing.push(missing(&pinned, UseKind::From, Spelling::literal(0, &pinned)));
    assert!(emitted(BuildForm::Env, &mapping).text().ends_with(&redis));
}

/// Asserts that the form omits its only image, whose name or argument a missing one has too.
#[track_caller]
fn assert_omits(form: BuildForm, mapping: &ImageMapping, reason: &str) {
    let form = emitted(form, mapping);
    assert!(!form.text().contains(&format!("{ECR}/m/")), "{}", form.text());
    assert_eq!(form.omitted.len(), 1, "{form:?}");
    let shown = form.omitted[0].to_string();
    assert!(shown.contains(reason) && shown.contains("does not have"), "{shown}");
}

#[test]
fn a_manifest_keeps_a_name_that_an_image_without_a_copy_has_too() {
    let spelled = |text| Spelling::literal(0, text);
    let mut mapping = uses(vec![used(
        "postgres:17",
        "m/library/postgres:17",
        UseKind::Kubernetes,
        spelled("postgres:17"),
    )]);
    let deferred = missing("postgres:16", UseKind::Kubernetes, spelled("postgres:16"));
    mapping.missing.push(deferred);
    let reason = "postgres:17 shares the name `postgres` with docker.io/library/postgres:16";
    assert_omits(BuildForm::Kustomize, &mapping, reason);
    // another spelling is another name
    mapping.missing[0].uses[0].spelling = spelled("docker.io/library/postgres:16");
    assert!(emitted(BuildForm::Kustomize, &mapping).omitted.is_empty());
    let env = emitted(BuildForm::Env, &mapping).text();
    let expected = format!("ECR_MIRROR_POSTGRES_17={ECR}/m/library/postgres:17\n");
    assert_eq!(env, expected, "the name is that of a run that mirrors both");
}

#[test]
fn a_service_keeps_its_image_if_another_of_its_name_has_no_copy() {
    let spelled = |text| Spelling::literal(0, text);
    let service = UseKind::Compose { service: "db".to_owned() };
    let image = used("redis:7", "m/library/redis:7", service.clone(), spelled("redis:7"));
    let mut mapping = uses(vec![image]);
    mapping.missing.push(missing("valkey:8", service, spelled("valkey:8")));
    assert_omits(BuildForm::Compose, &mapping, "shares the service `db` with");
}

#[test]
fn no_build_argument_changes_an_image_without_a_copy() {
    let spelled = |parts| Spelling { span: 0..0, parts };
    let from = |value| spelled(vec![variable("$BASE", value)]);
    let mut mapping = uses(vec![used(
        "memcached:1.6",
        "m/library/memcached:1.6",
        UseKind::From,
        from("memcached:1.6"),
    )]);
    mapping.missing.push(missing("debian:12", UseKind::From, from("debian:12")));
    let reason = "shares the build argument `BASE` with docker.io/library/debian:12";
    assert_omits(BuildForm::BuildArgs, &mapping, reason);
    let parts = vec![literal("debian:"), variable("$BASE", "12")];
    mapping.missing[0].uses[0].spelling = spelled(parts);
    assert_omits(BuildForm::BuildArgs, &mapping, reason);

    let syntax = |text| Spelling::literal(0, text);
    let (one, other) = ("docker/dockerfile:1", "docker/dockerfile:1-labs");
    let mut mapping = uses(vec![used(one, "m/docker/dockerfile:1", UseKind::Syntax, syntax(one))]);
    mapping.missing.push(missing(other, UseKind::Syntax, syntax(other)));
    assert_omits(BuildForm::BuildArgs, &mapping, "`BUILDKIT_SYNTAX`");
}

#[test]
fn a_place_of_a_dockerfile_is_kept_if_one_of_its_images_has_no_copy() {
    let bytes = b"FROM busybox:$V\n";
    let place = |version| Spelling {
        span: 5..15,
        parts: vec![literal("busybox:"), variable("$V", version)],
    };
    let mut mapping =
        uses(vec![used("busybox:1", "m/library/busybox:1", UseKind::From, place("1"))]);
    let file = Path::new("Dockerfile");
    assert_eq!(rewrite(bytes, file, &mapping).unwrap().edits.len(), 1);
    mapping.missing.push(missing("busybox:2", UseKind::From, place("2")));
    let rewritten = rewrite(bytes, file, &mapping).unwrap();
    assert_eq!(rewritten.bytes, bytes);
    let reason = rewritten.omitted[0].to_string();
    assert!(reason.contains("Dockerfile:1 with docker.io/library/busybox:2"), "{reason}");
}

#[test]
fn registries_conf_blocks_the_registry_of_an_image_without_a_copy() {
    let spelling = Spelling::literal(0, "ghcr.io/a/b:1");
    let mut mapping = uses(vec![image("redis:7", "m/library/redis:7")]);
    mapping.missing.push(missing("ghcr.io/a/b:1", UseKind::From, spelling));
    let conf = emitted(BuildForm::RegistriesConf, &mapping).text();
    assert_pulls(
        |name| located(&conf, name),
        [
            case("docker.io/library/redis:7", "m/library/redis:7"),
            case("docker.io/library/busybox:1", ""),
            case("ghcr.io/a/b:1", ""),
        ],
    );
}

#[test]
fn a_form_that_cannot_work_is_refused_with_the_reason() {
    let mirrors = "registry-mirrors".parse::<BuildForm>().unwrap_err();
    assert!(mirrors.problem.contains("accepts no path") && mirrors.problem.contains("no login"));
    assert!("policy".parse::<EmitTarget>().is_err() && "map=".parse::<EmitTarget>().is_err());
    let target: EmitTarget = "hosts.toml=certs.d".parse().unwrap();
    assert_eq!(target, EmitTarget { form: BuildForm::HostsToml, path: Some("certs.d".into()) });
    let none = configured(Vec::new());
    for form in BuildForm::ALL {
        assert_eq!(form.name().parse(), Ok(form));
        assert_eq!(emit(form, &none).is_err(), form.needs_uses(), "{form}");
    }
}
