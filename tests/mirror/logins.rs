//! Logins over real connections: whose credentials a request carries, through which proxy, and the
//! AWS identity of an ECR source.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use ecr_mirror::model::outcome::Outcome;
use serde_json::json;

use super::{
    process::{Ended, ecr_mirror_in},
    scripted::{Scripted, image, reply},
    world::{ECR, World, entry},
};

fn run(command: &mut Command) -> Ended {
    command.output().unwrap().into()
}

/// A registry that requires a password and accepts each one.
fn registry_with_passwords() -> Scripted {
    Scripted::plain(|request| match request.header("authorization") {
        None => (401, "www-authenticate: Basic realm=\"it\"\r\n".to_owned(), String::new()),
        Some(_) => image(request),
    })
}

#[test]
fn each_team_uses_its_own_password_and_verbose_output_names_the_key() {
    let server = registry_with_passwords();
    let host = server.address.to_string();
    let home = tempfile::tempdir().unwrap();
    let auth = |user: &str| json!({ "auth": STANDARD.encode(format!("{user}:secret-of-{user}")) });
    let file = home.path().join("auth.json");
    let auths = json!({ "auths": {
        format!("{host}/team-a"): auth("a"),
        format!("{host}/team-b/app"): auth("b"),
        host.as_str(): auth("all"),
    } });
    fs::write(&file, auths.to_string()).unwrap();
    for (repository, user) in [("team-a/app", "a"), ("team-b/app", "b"), ("team-b/web", "all")] {
        let from = format!("{host}/{repository}:1");
        let mut copy = ecr_mirror_in(home.path(), &["copy", &from, "oci:layout", "-v"]);
        let ended = run(copy.env("REGISTRY_AUTH_FILE", &file));
        assert_eq!(ended.status, Some(0), "{ended:?}");
        let key = if user == "all" { host.clone() } else { format!("{host}/team-{user}") };
        let named = format!("key `{key}");
        assert!(ended.talk.contains(&named) && ended.talk.contains("auth.json"), "{ended:?}");
        assert!(!ended.talk.contains("secret-of"), "{ended:?}");
        let sent = server.received().into_iter().filter(|it| it.line.contains(repository));
        let sent: Vec<_> =
            sent.filter_map(|it| Some(it.header("authorization")?.to_owned())).collect();
        let expected = format!("Basic {}", STANDARD.encode(format!("{user}:secret-of-{user}")));
        assert!(
            !sent.is_empty() && sent.iter().all(|it| *it == expected),
            "{repository}: {sent:?}"
        );
    }
}

#[test]
fn credentials_in_a_variable_and_in_podmans_file_are_used() {
    let server = registry_with_passwords();
    let host = server.address.to_string();
    let home = tempfile::tempdir().unwrap();
    let text = json!({ "auths": { host.as_str(): { "username": "u", "password": "p4ssw0rd" } } });
    let folder = home.path().join("containers");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("auth.json"), text.to_string()).unwrap();
    for (name, value, is_used) in [
        ("XDG_RUNTIME_DIR", home.path().display().to_string(), true),
        ("DOCKER_AUTH_CONFIG", text.to_string(), true),
        ("DOCKER_AUTH_CONFIG", "{p4ssw0rd".to_owned(), false),
        ("REGISTRY_AUTH_FILE", "/nonexistent/auth.json".to_owned(), false),
    ] {
        let from = format!("{host}/team/app:1");
        let mut copy = ecr_mirror_in(home.path(), &["copy", &from, "oci:layout"]);
        copy.env("XDG_CONFIG_HOME", "/nonexistent").env_remove("XDG_RUNTIME_DIR");
        let ended = run(copy.env(name, value));
        assert_eq!(ended.status == Some(0), is_used, "{name}: {ended:?}");
        let output = format!("{}{}", ended.out, ended.talk);
        assert!(!output.contains("p4ssw0rd"), "{output}");
        assert!(is_used || output.contains(name), "{name}: {output}");
    }
}

#[test]
fn an_identity_token_lists_the_repositories_of_harbor_at_catalog_and_not_at_its_api() {
    let server = Scripted::plain(|request| {
        let host = request.header("host").unwrap_or_default();
        let realm = format!("Bearer realm=\"http://{host}/service/token\",service=\"harbor\"");
        match (request.line.as_str(), request.header("authorization")) {
            ("POST /service/token", _) if request.body.contains("refresh_token=renew") => {
                reply(200, r#"{"token":"t"}"#)
            }
            // an anonymous client sees public repositories only
            (line, None) if line.starts_with("GET /api/v2.0/projects/team/") => {
                reply(200, r#"[{"name":"team/public"}]"#)
            }
            (line, Some("Bearer t")) if line.starts_with("GET /v2/_catalog") => {
                reply(200, r#"{"repositories":["team/private","team/public"]}"#)
            }
            _ => (401, format!("www-authenticate: {realm}\r\n"), String::new()),
        }
    });
    let host = server.address.to_string();
    let home = tempfile::tempdir().unwrap();
    let auth = json!({ "auth": STANDARD.encode("me:"), "identitytoken": "renew" });
    let config = json!({ "auths": { host.as_str(): auth } });
    fs::write(home.path().join("config.json"), config.to_string()).unwrap();
    let images = format!(
        "[[destination]]\nregistry = \"{ECR}\"\n[images]\n\"{host}/team/*\" = {{ tags = \"1\", at_most = 9 }}\n"
    );
    fs::write(home.path().join("mirror.toml"), images).unwrap();
    let ended = run(&mut ecr_mirror_in(home.path(), &["images"]));
    assert_eq!(ended.status, Some(0), "{ended:?}");
    for name in ["team/private:1", "team/public:1"] {
        assert!(ended.out.contains(name), "{name}: {ended:?}");
    }
    let asked = server.received();
    assert!(asked.iter().all(|it| !it.line.contains("/api/")), "{asked:?}");
}

/// A SOCKS 5 proxy that connects every request to `target`. Returns its address and the hosts that
/// clients asked for.
fn socks(target: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let log = Arc::clone(&asked);
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                // RFC 1928: version, methods; no authentication; request with an IPv4 address
                let mut greeting = [0; 2];
                client.read_exact(&mut greeting)?;
                let mut methods = vec![0; greeting[1].into()];
                client.read_exact(&mut methods)?;
                client.write_all(&[5, 0])?;
                let mut request = [0; 10];
                client.read_exact(&mut request)?;
                assert_eq!(request[3], 1, "an IPv4 address");
                let [.., a, b, c, d, high, low] = request;
                let port = u16::from_be_bytes([high, low]);
                log.lock().unwrap().push(format!("{a}.{b}.{c}.{d}:{port}"));
                client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
                let server = TcpStream::connect(target)?;
                let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
                thread::spawn(move || std::io::copy(&mut from, &mut to));
                std::io::copy(&mut &server, &mut client)
            });
        }
    });
    (address, asked)
}

#[test]
fn a_socks_proxy_is_used_for_registries_and_for_aws() {
    let server = Scripted::plain(|request| match request.header("x-amz-target") {
        Some(_) => reply(400, r#"{"__type":"AccessDeniedException","message":"not you"}"#),
        None => image(request),
    });
    let (proxy, asked) = socks(server.address);
    let home = tempfile::tempdir().unwrap();
    // an address for documentation: no machine has it
    let configuration = "[[destination]]\nregistry = \"192.0.2.2\"\nendpoint_url = \"http://192.0.2.2:4566\"\n\
                         [registry.\"192.0.2.1:5000\"]\nplain_http = true\n\
                         [[image]]\nsource = \"192.0.2.1:5000/team/app\"\nselect = { glob = [\"*\"] }\n\
                         [[image]]\nsource = \"192.0.2.1:5000/team/web\"\ntags = [\"1\"]\n";
    fs::write(home.path().join("mirror.toml"), configuration).unwrap();
    let mut plan = ecr_mirror_in(home.path(), &["plan"]);
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy"] {
        plan.env_remove(name);
    }
    plan.env("ALL_PROXY", format!("socks5://{proxy}"))
        .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "example-secret-access-key");
    let ended = run(&mut plan);
    assert_eq!(ended.status, Some(1), "{ended:?}");
    let asked = asked.lock().unwrap().clone();
    for host in ["192.0.2.1:5000", "192.0.2.2:4566"] {
        assert!(asked.iter().any(|it| it == host), "{host}: {asked:?} {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_in_another_accounts_ecr_is_read_with_the_role_of_its_registry() {
    const OTHER: &str = "210987654321.dkr.ecr.us-east-1.amazonaws.com";
    const ROLE: &str = "arn:aws:iam::210987654321:role/reader";
    let mut world = World::new().await.image("quay.io/team/app:1", ["linux/amd64"]);
    let upstream = world.toml();
    world.reconfigure(upstream.replace(ECR, OTHER));
    world.sync().await.assert_exit(0).assert_all(Outcome::Copied);

    let source = format!("{OTHER}/team/app:1");
    let table = format!("[registry.\"{OTHER}\"]\nrole_arn = \"{ROLE}\"\n");
    world.reconfigure(format!("{table}{}", entry(&source, "")));
    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    let assumed = run.journal.iter().filter(|it| it.operation.as_deref() == Some("AssumeRole"));
    assert_eq!(assumed.count(), 1, "the source's identity only");
}
