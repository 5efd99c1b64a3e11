//! Tests failures next to a secret: no error message shows it, even if the other side repeats it.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path, process::Command};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    echo::{self, IssuedSecrets},
    search::{Canary, assert_no_canary},
};
use crate::process::{Ended, ecr_mirror_in};

const PASSWORD: &str = "Q1givenPassword9Zx";

/// Runs the command with all output enabled. Asserts its exit status and that it prints no canary,
/// and returns its output.
#[track_caller]
pub(super) fn output_of(mut command: Command, canaries: &[Canary], status: i32) -> String {
    command.args(["-vv", "--progress", "plain"]);
    let ended: Ended = command.output().unwrap().into();
    let output = format!("{}{}", ended.out, ended.talk);
    assert_no_canary(canaries, &format!("output of {command:?}"), &output);
    assert_eq!(ended.status, Some(status), "{command:?}\n{output}");
    output
}

#[test]
fn secrets_that_a_registry_repeats_are_not_shown() {
    let home = tempfile::tempdir().unwrap();
    let canaries = [
        Canary::with_symbols("the password", PASSWORD),
        Canary::part("the token", "Q2givenToken8Yw7Vu"),
        Canary::part("the signature", "Q3givenSignature6Ts"),
        Canary::part("the state", "Q4givenState5RqPon"),
    ];
    let [password, token, signature, state] = canaries.each_ref().map(|it| it.value.clone());
    let address = echo::serve(&IssuedSecrets { token, signature, state });
    let auth = STANDARD.encode(format!("me:{password}"));
    let config = serde_json::json!({ "auths": { address.to_string(): { "auth": auth } } });
    fs::write(home.path().join("config.json"), config.to_string()).unwrap();
    let configuration = format!(
        "[[destination]]\nregistry = \"oci:layout\"\n\
         [registry.\"{address}\"]\nusername = \"me\"\npassword = \"{password}\"\n"
    );
    for kind in ["basic", "denied", "token", "bearer", "signed"] {
        let source = format!("{address}/{kind}/app");
        let image = format!("[[image]]\nsource = \"{source}\"\ntags = [\"1\"]\n");
        fs::write(home.path().join("mirror.toml"), format!("{configuration}{image}")).unwrap();
        let copy = ["copy", &format!("{source}:1"), "oci:layout", "--json"];
        for arguments in [
            &copy[..],
            &["sync", "--report", "report.json"],
            &["plan", "--json"],
            &["doctor", "--only", "sources"],
        ] {
            // a plan and a check do not request blobs
            let reads_tags = ["plan", "doctor"].contains(&arguments[0]);
            let status = if kind == "signed" && reads_tags { 0 } else { 1 };
            let output = output_of(ecr_mirror_in(home.path(), arguments), &canaries, status);
            assert_eq!(output.contains("no to `"), status == 1, "the refusal is shown: {output}");
        }
        let report = fs::read_to_string(home.path().join("report.json")).unwrap();
        assert_no_canary(&canaries, "the report", &report);
    }
    let (from, to) = (format!("{address}/open/app:1"), format!("{address}/push/app:1"));
    let output = output_of(ecr_mirror_in(home.path(), &["copy", &from, &to]), &canaries, 1);
    assert!(output.contains("400 UNSUPPORTED"), "{output}");
    // a long password in a document is refused; a short one is only hidden in errors
    for canary in [&canaries[0], &Canary::part("a short password", "Q5short9Zxw")] {
        assert_content_errors_hide_password(home.path(), address, canary);
    }
}

/// Asserts that errors about content do not show the password that the content repeats.
fn assert_content_errors_hide_password(home: &Path, address: SocketAddr, canary: &Canary) {
    let password = &canary.value;
    let canaries = std::slice::from_ref(canary);
    for kind in ["code", "field", "type", "served", "platform", "listed", "moved"] {
        if kind == "platform" && password.len() < 12 {
            continue;
        }
        let source = format!("{address}/{kind}/app");
        let tags = match kind {
            "listed" => "select = { semver = \"*\" }",
            _ => "tags = [\"1\"]\nplatforms = [\"linux/arm64\"]",
        };
        let configuration = format!(
            "[[destination]]\nregistry = \"oci:layout\"\n\
             [registry.\"{address}\"]\nusername = \"me\"\npassword = \"{password}\"\n\
             [[image]]\nsource = \"{source}\"\n{tags}\n"
        );
        fs::write(home.join("mirror.toml"), configuration).unwrap();
        for arguments in [&["sync", "--json", "--report", "report.json"][..], &["plan"]] {
            let output = output_of(ecr_mirror_in(home, arguments), canaries, 1);
            let is_hidden = ["(hidden)", "repeats the login"].iter().any(|it| output.contains(it));
            assert!(is_hidden, "{kind}: {output}");
        }
        let report = fs::read_to_string(home.join("report.json")).unwrap();
        assert_no_canary(canaries, "the report", &report);
    }
}

#[test]
fn an_error_in_a_configuration_does_not_quote_a_secret() {
    let home = tempfile::tempdir().unwrap();
    let canaries = [Canary::with_symbols("the secret", PASSWORD)];
    let secret = &canaries[0].value;
    let registry = |lines: &str| format!("[registry.\"docker.io\"]\n{lines}\n");
    let cache = |lines: &str| format!("[[pull_through]]\nupstream = \"docker-hub\"\n{lines}\n");
    for broken in [
        registry(&format!("username = \"me\"\npassword = \"{secret}\"\nretries = 3")),
        registry(&format!("password = \"{secret}\"")),
        registry(&format!("username = \"me\"\npassword = \"{secret}")),
        registry(&format!("username = \"me\"\npassword = '''\n{secret}")),
        registry(&format!("username = \"me\" password = \"{secret}\"")),
        registry(&format!("username = \"me\"\npassword = [\"{secret}\"]")),
        registry(&format!("username = \"me\"\npassword = {{ of = \"{secret}\" }}")),
        registry(&format!("username = \"me\"\npassword = {PASSWORD}")),
        registry(&format!("username = \"me\"\npassword: \"{secret}\"")),
        registry(&format!("username = \"me\"\npasswort = \"{secret}\"")),
        registry(&format!("username = \"me\"\npassword = \"{secret}${{UNSET}}\"")),
        registry(&format!("secret = \"{secret}\"")),
        registry(&format!("username = \"me\"\npassword = \"{secret}\"\npassword = \"{secret}\"")),
        format!(
            "registry.\"docker.io\" = {{ username = \"me\", password = \"{secret}\", x = 1 }}\n"
        ),
        cache(&format!(
            "credentials = {{ username = \"me\", access_token = \"{secret}\", x = 1 }}"
        )),
        cache(&format!("credentials = {{ access_token = \"{secret}\" }}")),
        cache(&format!("credentials = {{ username = \"me\", acces_token = \"{secret}\" }}")),
        cache(&format!("credentials = \"{secret}\"")),
        cache(&format!("credentials = [\"me\", \"{secret}\"]")),
        cache(&format!("credentials = {{ username = 1, access_token = \"{secret}\" }}")),
        cache(&format!("secret_arn = \"{secret}\"")),
        cache(&format!(
            "[pull_through.credentials]\nusername = \"me\"\naccess_token = \"{secret}\"\nurl 1"
        )),
    ] {
        let destination = format!("[[destination]]\nregistry = \"{}\"\n", super::ECR);
        fs::write(home.path().join("mirror.toml"), format!("{destination}{broken}")).unwrap();
        for arguments in [&["check"][..], &["pull-through", "plan"], &["sync"], &["doctor"]] {
            let output = output_of(ecr_mirror_in(home.path(), arguments), &canaries, 2);
            assert!(output.contains("error: mirror.toml:"), "{broken}\n{output}");
        }
    }
}

/// Writes an executable script.
fn write_script(home: &Path, name: &str, script: &str) {
    let path = home.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn errors_do_not_quote_dockers_configuration_and_credential_helpers() {
    let home = tempfile::tempdir().unwrap();
    let canaries = [Canary::with_symbols("the secret", PASSWORD)];
    let secret = &canaries[0].value;
    let auth = STANDARD.encode(format!("me:{secret}"));
    let no_pair = STANDARD.encode(secret);
    let helper = |script: &str| {
        write_script(home.path(), "docker-credential-it", script);
        "{ \"credsStore\": \"it\" }".to_owned()
    };
    let nothing = || "nothing".to_owned();
    let issued = IssuedSecrets { token: nothing(), signature: nothing(), state: nothing() };
    let host = echo::serve(&issued).to_string();
    let path = format!("{}:{}", home.path().display(), std::env::var("PATH").unwrap());
    let configs: [(&str, &dyn Fn() -> String); 8] = [
        ("a text", &|| format!("{secret} {{")),
        ("a list", &|| format!("{{\"auths\":[\"{auth}\"]}}")),
        ("half", &|| format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"{auth}\"")),
        ("no pair", &|| format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"{no_pair}\"}}}}}}")),
        ("no base64", &|| format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"{secret}\"}}}}}}")),
        ("half an answer", &|| {
            helper(&format!("echo '{{\"Username\":\"me\",\"Secret\":\"{secret}\"'"))
        }),
        ("another answer", &|| helper(&format!("echo '[\"{secret}\"]'"))),
        ("an answer and a failure", &|| helper(&format!("echo '{secret}'; exit 1"))),
    ];
    for (name, config) in configs {
        fs::write(home.path().join("config.json"), config()).unwrap();
        let mut command =
            ecr_mirror_in(home.path(), &["copy", &format!("{host}/basic/app:1"), "oci:layout"]);
        command.env("PATH", &path);
        let output = output_of(command, &canaries, 1);
        assert!(
            output.contains("config.json") || output.contains("credential-it"),
            "{name}: {output}"
        );
    }
}
