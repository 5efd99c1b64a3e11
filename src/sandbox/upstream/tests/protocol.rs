//! Challenges, tokens, redirects, limits and listings.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;
use crate::sandbox::upstream::{synthesis::media, token};

const NGINX: &str = "http://registry-1.docker.io/v2/library/nginx/manifests/1.27";

#[tokio::test]
async fn each_registry_sends_its_own_challenge() {
    let world = World::new();
    let list = |name: &str| format!("repository:{name}:pull");
    for (url, expected) in [
        (
            NGINX,
            Some((
                "http://auth.docker.io/token",
                Some("registry.docker.io"),
                list("library/nginx"),
            )),
        ),
        (
            "http://quay.io/v2/a/b/tags/list",
            Some(("http://quay.io/v2/auth", Some("quay.io"), list("a/b"))),
        ),
        (
            "http://ghcr.io/v2/a/b/tags/list",
            Some(("http://ghcr.io/token", Some("ghcr.io"), list("a/b"))),
        ),
        (
            "http://gcr.io/v2/a/b/tags/list",
            Some(("http://gcr.io/v2/token", Some("gcr.io"), list("a/b"))),
        ),
        (
            "http://public.ecr.aws/v2/a/b/tags/list",
            Some(("http://public.ecr.aws/token/", Some("public.ecr.aws"), "aws".to_owned())),
        ),
        ("http://nvcr.io/v2/a/b/tags/list", Some(("http://nvcr.io/proxy_auth", None, list("a/b")))),
        (
            "http://cgr.dev/v2/a/b/tags/list",
            Some(("http://cgr.dev/token", Some("cgr.dev"), list("a/b"))),
        ),
        ("http://registry.k8s.io/v2/pause/tags/list", None),
        ("http://mcr.microsoft.com/v2/a/tags/list", None),
        ("http://registry.example.com/v2/a/tags/list", None),
    ] {
        let answer = world.get(url).await;
        let expected = expected.map(|(realm, service, scope)| {
            let service = service.map_or(String::new(), |name| format!(",service=\"{name}\""));
            format!("Bearer realm=\"{realm}\"{service},scope=\"{scope}\"")
        });
        assert_eq!(answer.challenge(), expected, "{url}");
        let status = if expected.is_some() { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
        assert_eq!(answer.status, status, "{url}");
        assert_eq!(world.pull(url).await.status, StatusCode::OK, "{url}");
    }
}

#[tokio::test]
async fn each_profile_has_the_habits_of_its_table() {
    let host = "registry.example.com";
    let like = |name: &str| {
        let faults = Faults::default();
        let upstream = Upstream::new(faults.clone()).like(Some(name.parse().unwrap()));
        upstream.image(&format!("{host}/docker/a/b:1")).push();
        upstream.image(&format!("{host}/docker/a/b:2")).push();
        World { upstream, faults }
    };
    let tags = |query: &str| format!("http://{host}/v2/docker/a/b/tags/list?{query}");
    let referrers = format!("http://{host}/v2/docker/a/b/referrers/{}", Digest::of(b""));
    let basic = [("authorization", "Basic cm9ib3Q6c2VjcmV0")];

    for (name, realm) in [
        ("docker-hub", "http://auth.docker.io/token"),
        ("acr", "http://registry.example.com/oauth2/token"),
        ("gitlab", "http://gitlab.com/jwt/auth"),
        ("harbor-2.7", "http://registry.example.com/service/token"),
    ] {
        let challenge = like(name).get(&tags("")).await.challenge().unwrap();
        assert!(challenge.starts_with(&format!("Bearer realm=\"{realm}\",")), "{challenge}");
    }
    let token = like("acr").get(&format!("http://{host}/oauth2/token")).await.json();
    assert_eq!(token.as_object().unwrap().keys().collect::<Vec<_>>(), ["access_token"]);

    let quay = like("quay");
    let link = quay.pull(&tags("n=1")).await.text("link").to_owned();
    let (_, next) = link.split_once("?next_page=").unwrap();
    let next = next.split_once('>').unwrap().0;
    let second = quay.pull(&tags(&format!("next_page={next}"))).await.json();
    assert_eq!(second["tags"], serde_json::json!(["2"]));
    let repeated = quay.pull(&tags("n=1&last=1")).await.json();
    assert_eq!(repeated["tags"], serde_json::json!(["1"]));
    let artifactory = like("artifactory").pull(&tags("n=1")).await;
    assert!(
        artifactory.text("link").starts_with("</v2/a/b/tags/list?"),
        "{:?}",
        artifactory.headers
    );

    let names = like("artifactory").pull(&tags("last=2")).await.json();
    assert!(names["tags"][0].as_str().unwrap().starts_with("sha256:"), "{names}");

    let nexus = like("nexus-3");
    let challenge = nexus.get(&tags("n=1")).await.challenge().unwrap();
    assert_eq!(challenge, "Basic realm=\"Sonatype Nexus Repository Manager\"");
    let page = nexus.send(Method::GET, &tags("n=1"), &basic).await;
    assert_eq!((page.status, page.text("link")), (StatusCode::OK, ""));

    let refused = like("harbor-2.7").pull(&referrers).await;
    assert_eq!((refused.status, refused.challenge()), (StatusCode::UNAUTHORIZED, None));
    let page = like("ghcr").pull(&referrers).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER);
    assert!(page.text("location").starts_with("http://github.com/-/"), "{:?}", page.headers);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_valid_for_its_repository_and_for_five_minutes() {
    let world = World::new();
    let token = world.token(&world.get(NGINX).await.challenge().unwrap()).await;
    let ask = async |url| world.send(Method::HEAD, url, &[("authorization", &token)]).await;
    assert_eq!(ask(NGINX).await.status, StatusCode::OK);
    let other = ask("http://registry-1.docker.io/v2/library/redis/manifests/7").await;
    assert_eq!(other.status, StatusCode::UNAUTHORIZED);
    assert!(other.challenge().unwrap().contains("insufficient_scope"));
    let elsewhere = ask("http://quay.io/v2/library/nginx/manifests/1").await;
    assert_eq!(elsewhere.status, StatusCode::UNAUTHORIZED);
    let chainguard = world.get("http://cgr.dev/v2/chainguard/static/tags/list").await;
    let token_of_one = world.token(&chainguard.challenge().unwrap()).await;
    let url = "http://cgr.dev/v2/chainguard/nginx/tags/list";
    let denied = world.send(Method::GET, url, &[("authorization", &token_of_one)]).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    tokio::time::advance(token::LIFETIME).await;
    assert_eq!(ask(NGINX).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn expire_tokens_applies_once() {
    let world = World::new();
    let challenge = world.get(NGINX).await.challenge().unwrap();
    let token = world.token(&challenge).await;
    world.faults.add("expire-tokens@upstream".parse().unwrap());
    let send = async |token: &str| {
        world.send(Method::HEAD, NGINX, &[("authorization", token)]).await.status
    };
    assert_eq!(send(&token).await, StatusCode::UNAUTHORIZED);
    assert_eq!(send(&token).await, StatusCode::UNAUTHORIZED);
    let fresh = world.token(&challenge).await;
    assert_eq!(send(&fresh).await, StatusCode::OK);
}

#[tokio::test]
async fn manifests_are_served_with_their_digest_and_type() {
    let world = World::new();
    let nginx = world.pull(NGINX).await;
    assert_eq!(nginx.status, StatusCode::OK);
    assert_eq!(nginx.text("docker-content-digest"), Digest::of(&nginx.body).as_str());
    assert_eq!(nginx.text("content-type"), media::OCI_INDEX);
    let cuda = world.pull("http://nvcr.io/v2/nvidia/cuda/manifests/12.6.3-base-ubuntu22.04").await;
    assert_eq!(cuda.text("content-type"), "text/html; charset=utf-8");
    assert_eq!(cuda.json()["mediaType"], media::DOCKER_LIST);
}

#[tokio::test]
async fn a_pull_limit_counts_gets_and_refuses_those_beyond_it() {
    let world = World::new();
    world.faults.add("pull-limit=2".parse().unwrap());
    let token = world.token(&world.get(NGINX).await.challenge().unwrap()).await;
    let ask = async |method| world.send(method, NGINX, &[("authorization", &token)]).await;
    for (method, status, left) in [
        (Method::HEAD, StatusCode::OK, "2;w=21600"),
        (Method::GET, StatusCode::OK, "1;w=21600"),
        (Method::GET, StatusCode::OK, "0;w=21600"),
        (Method::GET, StatusCode::TOO_MANY_REQUESTS, "0;w=21600"),
        (Method::HEAD, StatusCode::OK, "0;w=21600"),
    ] {
        let answer = ask(method).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.text("ratelimit-limit"), "2;w=21600");
        assert_eq!(answer.text("ratelimit-remaining"), left);
        assert_eq!(answer.text("docker-ratelimit-source"), "127.0.0.1");
        if status == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(answer.code(), "TOOMANYREQUESTS");
        }
    }
    let elsewhere = world.pull("http://quay.io/v2/coreos/etcd/manifests/latest").await;
    assert_eq!(elsewhere.text("ratelimit-limit"), "");
}

#[tokio::test]
async fn blobs_are_on_another_host_that_refuses_the_registrys_token() {
    let world = World::new();
    let index = world.pull(NGINX).await.json();
    let child = index["manifests"][0]["digest"].as_str().unwrap();
    let base = "http://registry-1.docker.io/v2/library/nginx";
    let manifest = world.pull(&format!("{base}/manifests/{child}")).await.json();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let url = format!("{base}/blobs/{layer}");
    let token = world.token(&world.get(&url).await.challenge().unwrap()).await;
    let redirect = world.send(Method::GET, &url, &[("authorization", &token)]).await;
    assert_eq!(redirect.status, StatusCode::TEMPORARY_REDIRECT);
    let location = redirect.text("location");
    assert!(location.starts_with("http://production.cloudflare.docker.com/"), "{location}");
    let leaked = world.send(Method::GET, location, &[("authorization", &token)]).await;
    assert_eq!(leaked.status, StatusCode::BAD_REQUEST);
    let whole = world.get(location).await;
    assert_eq!(Digest::of(&whole.body).as_str(), layer);
    let part = world.send(Method::GET, location, &[("range", "bytes=100-199")]).await;
    assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.body, whole.body[100..200]);
    let unsigned = location.replace("signature=", "signature=x");
    assert_eq!(world.get(&unsigned).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn each_registry_reports_missing_content_in_its_own_way() {
    let world = World::new();
    for (url, status, code) in [
        ("http://registry-1.docker.io/v2/acme/missing/manifests/1", 401, "UNAUTHORIZED"),
        ("http://registry-1.docker.io/v2/acme/private-app/manifests/1", 401, "UNAUTHORIZED"),
        ("http://registry-1.docker.io/v2/library/nginx/manifests/missing", 404, "MANIFEST_UNKNOWN"),
        ("http://quay.io/v2/acme/missing/manifests/1", 404, "NAME_UNKNOWN"),
        ("http://quay.io/v2/acme/private/manifests/1", 401, "UNAUTHORIZED"),
        ("http://ghcr.io/v2/acme/private/manifests/1", 403, "DENIED"),
        ("http://registry.example.com/v2/missing/manifests/1", 404, "NAME_UNKNOWN"),
        ("http://registry.example.com/v2/app/manifests/missing", 404, "MANIFEST_UNKNOWN"),
    ] {
        let answer = world.pull(url).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{url}");
    }
}

#[tokio::test]
async fn an_account_reads_private_repositories_and_a_wrong_password_is_refused() {
    let world = World::new();
    let url = "http://registry-1.docker.io/v2/acme/private/manifests/1";
    let service = "http://auth.docker.io/token?service=registry.docker.io\
                   &scope=repository:acme/private:pull";
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let wrong = world.send(Method::GET, service, &[("authorization", &basic("me:wrong"))]).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    let right = world.send(Method::GET, service, &[("authorization", &basic("me:pat"))]).await;
    let token = format!("Bearer {}", right.json()["access_token"].as_str().unwrap());
    let answer = world.send(Method::GET, url, &[("authorization", &token)]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.text("docker-ratelimit-source"), "me");
    assert_eq!(answer.text("ratelimit-limit"), "200;w=21600");
}

#[tokio::test]
async fn kubernetes_redirects_manifests_to_a_region() {
    let world = World::new();
    let url = "http://registry.k8s.io/v2/pause/manifests/3.10";
    let redirect = world.get(url).await;
    assert_eq!(redirect.status, StatusCode::TEMPORARY_REDIRECT);
    let expected =
        "http://us-west1-docker.pkg.dev/v2/k8s-artifacts-prod/images/pause/manifests/3.10";
    assert_eq!(redirect.text("location"), expected);
    let manifest = world.pull(url).await;
    assert_eq!(manifest.text("content-type"), media::DOCKER_LIST);
}

#[tokio::test]
async fn amazons_public_registry_answers_head_for_manifests_only() {
    let world = World::new();
    let base = "http://public.ecr.aws/v2/amazonlinux/amazonlinux";
    let manifest = world.pull(&format!("{base}/manifests/2023")).await;
    let config = manifest.json()["config"]["digest"].as_str().unwrap().to_owned();
    let url = format!("{base}/blobs/{config}");
    let token = world.token(&world.get(&url).await.challenge().unwrap()).await;
    let head = world.send(Method::HEAD, &url, &[("authorization", &token)]).await;
    assert_eq!(head.status, StatusCode::UNAUTHORIZED);
    assert_eq!(Digest::of(&world.pull(&url).await.body).as_str(), config);
}

#[tokio::test]
async fn github_finds_an_oci_manifest_only_if_accept_names_its_type() {
    let world = World::new();
    let url = "http://ghcr.io/v2/fluxcd/source-controller/manifests/v1.4.1";
    let token = world.token(&world.get(url).await.challenge().unwrap()).await;
    for (accept, status) in [
        (media::DOCKER_LIST, 404),
        (media::OCI_INDEX, 200),
        ("*/*", 200),
        ("application/json, application/vnd.oci.image.index.v1+json;q=0.5", 200),
    ] {
        let headers = [("authorization", token.as_str()), ("accept", accept)];
        let answer = world.send(Method::GET, url, &headers).await;
        assert_eq!(answer.status.as_u16(), status, "{accept}");
    }
}

#[tokio::test]
async fn translate_applies_to_a_client_that_accepts_no_index() {
    let world = World::new();
    let url = "http://mcr.microsoft.com/v2/dotnet/runtime/manifests/9.0";
    let ask = async |accept| world.send(Method::GET, url, &[("accept", accept)]).await;
    assert_eq!(ask(media::DOCKER_MANIFEST).await.text("content-type"), media::DOCKER_LIST);
    world.faults.add("translate@upstream".parse().unwrap());
    assert_eq!(ask(media::DOCKER_MANIFEST).await.text("content-type"), media::DOCKER_MANIFEST);
    assert_eq!(ask(media::DOCKER_LIST).await.text("content-type"), media::DOCKER_LIST);
}

#[tokio::test]
async fn referrers_are_listed_by_registries_with_the_api() {
    let world = World::new();
    for (host, status) in [("quay.io", 200), ("ghcr.io", 404)] {
        let subject = world.upstream.image(&format!("{host}/acme/app:1")).push();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
            "artifactType": "application/vnd.example.sbom",
            "config": { "mediaType": "application/vnd.oci.empty.v1+json",
                        "digest": Digest::of(b"{}"), "size": 2 },
            "layers": [], "subject": { "mediaType": media::OCI_INDEX, "digest": subject, "size": 1 },
        });
        let bytes = manifest.to_string();
        let put = world.upstream.put_manifest(
            host,
            "acme/app",
            None,
            media::OCI_MANIFEST,
            bytes.as_bytes(),
        );
        let answer = world.pull(&format!("http://{host}/v2/acme/app/referrers/{subject}")).await;
        assert_eq!(answer.status.as_u16(), status);
        if status == 200 {
            assert_eq!(answer.json()["manifests"][0]["digest"], put.as_str());
        }
    }
}

#[tokio::test]
async fn tag_pages_link_to_the_next_one() {
    let world = World::new();
    let mut url = "http://quay.io/v2/prometheus/prometheus/tags/list?n=7".to_owned();
    let mut tags = Vec::new();
    loop {
        let answer = world.pull(&url).await;
        for tag in answer.json()["tags"].as_array().unwrap() {
            tags.push(tag.as_str().unwrap().to_owned());
        }
        let link = answer.text("link");
        let Some((path, _)) = link.strip_prefix('<').and_then(|link| link.split_once('>')) else {
            break;
        };
        url = format!("http://quay.io{path}");
    }
    assert_eq!(tags.len(), 17);
    assert!(tags.is_sorted());
    let all = world.pull("http://registry-1.docker.io/v2/library/nginx/tags/list").await;
    assert_eq!(all.json()["name"], "library/nginx");
    assert_eq!(all.text("link"), "");
}

#[tokio::test]
async fn google_lists_digests_with_the_tags() {
    let world = World::new();
    let listed = world.pull("http://gcr.io/v2/distroless/static/tags/list").await.json();
    let manifest = world.pull("http://gcr.io/v2/distroless/static/manifests/debug").await;
    let entry = &listed["manifest"][Digest::of(&manifest.body).as_str()];
    assert_eq!(entry["tag"], serde_json::json!(["debug"]));
    assert!(entry["timeUploadedMs"].as_str().unwrap().parse::<u64>().is_ok());
}

#[tokio::test]
async fn docker_hub_lists_tags_newest_first_with_digests() {
    let world = World::new();
    let first = "http://hub.docker.com/v2/namespaces/library/repositories/nginx/tags?page_size=5";
    let mut next = Some(first.to_owned());
    let (mut names, mut times) = (Vec::new(), Vec::new());
    while let Some(url) = next {
        let page = world.get(&url).await.json();
        for tag in page["results"].as_array().unwrap() {
            names.push(tag["name"].as_str().unwrap().to_owned());
            times.push(tag["tag_last_pushed"].as_str().unwrap().to_owned());
        }
        assert!(page["count"].as_u64().unwrap() > 15);
        next = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    assert_eq!(names.len(), 20);
    assert!(times.is_sorted_by(|a, b| a >= b));
    let page = world.get(first).await.json();
    let one = page["results"].as_array().unwrap().iter().find(|tag| tag["name"] == "1.27").unwrap();
    assert_eq!(one["digest"], Digest::of(&world.pull(NGINX).await.body).as_str());
    assert_eq!(one["images"].as_array().unwrap().len(), 12);
    let missing = world.get("http://hub.docker.com/v2/repositories/acme/missing/tags").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn quay_lists_tags_with_digests() {
    let world = World::new();
    let base = "http://quay.io/api/v1/repository/coreos/etcd/tag/?onlyActiveTags=true";
    let page = world.get(&format!("{base}&limit=2&page=2")).await.json();
    assert_eq!((page["page"].as_u64(), page["has_additional"].as_bool()), (Some(2), Some(true)));
    let all = world.get(base).await.json();
    let tags = all["tags"].as_array().unwrap();
    assert_eq!((tags.len(), all["has_additional"].as_bool()), (5, Some(false)));
    let manifest = world.pull("http://quay.io/v2/coreos/etcd/manifests/v3.5.16").await;
    let tag = tags.iter().find(|tag| tag["name"] == "v3.5.16").unwrap();
    assert_eq!(tag["manifest_digest"], Digest::of(&manifest.body).as_str());
}

#[tokio::test]
async fn a_loopback_client_reaches_every_registry_and_stays_on_loopback() {
    let world = World::new();
    let ping = world.get("http://127.0.0.1:5000/v2/").await;
    assert_eq!(ping.status, StatusCode::UNAUTHORIZED);
    assert!(ping.challenge().unwrap().contains("realm=\"http://127.0.0.1:5000/token\""));
    // clients take the realm of the ping and build the scope from the name they know
    let scope = "repository:docker.io/library/nginx:pull";
    let token = world.get(&format!("http://127.0.0.1:5000/token?scope={scope}")).await.json();
    let token = format!("Bearer {}", token["token"].as_str().unwrap());
    let url = "http://127.0.0.1:5000/v2/docker.io/library/nginx/manifests/1.27";
    let answer = world.send(Method::GET, url, &[("authorization", &token)]).await;
    assert_eq!(answer.body, world.pull(NGINX).await.body);
    assert_eq!(world.pull(url).await.body, answer.body);

    let single = "http://127.0.0.1:5000/v2/ghcr.io/sandbox/single";
    let manifest = world.pull(&format!("{single}/manifests/latest")).await.json();
    let blob = format!("{single}/blobs/{}", manifest["config"]["digest"].as_str().unwrap());
    let token = world.token(&world.get(&blob).await.challenge().unwrap()).await;
    let redirect = world.send(Method::GET, &blob, &[("authorization", &token)]).await;
    assert!(redirect.text("location").starts_with("http://localhost:5000/cdn/pkg-containers."));
    assert_eq!(world.get(redirect.text("location")).await.status, StatusCode::OK);

    let pause = world.get("http://127.0.0.1:5000/v2/registry.k8s.io/pause/manifests/3.9").await;
    assert!(
        pause.text("location").starts_with("http://127.0.0.1:5000/v2/us-west1-docker.pkg.dev/")
    );
    assert_eq!(world.pull(pause.text("location")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn nothing_can_be_pushed() {
    let world = World::new();
    for (method, path) in [
        (Method::POST, "blobs/uploads/"),
        (Method::PUT, "manifests/1"),
        (Method::DELETE, "manifests/1"),
    ] {
        let url = format!("http://registry.example.com/v2/app/{path}");
        let answer = world.send(method, &url, &[]).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
}
