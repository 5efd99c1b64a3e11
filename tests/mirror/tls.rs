//! Certificates over real connections: which are trusted, and the errors of the others.

use std::{fs, path::Path, process::Command, sync::Arc};

use ecr_mirror::{
    model::{Error, Kind, TagOrDigest},
    registry::{
        Certificate, ClientCertificate, ConnectionSettings, Credentials, Network, Registry, Scheme,
        Transport,
    },
    remote::{HostContext, Source},
};

use super::{
    process::{Ended, ecr_mirror_in},
    scripted::{Scripted, image, pem, reply, tls},
};

/// Reads the manifest with these settings.
async fn read(server: &Scripted, settings: ConnectionSettings) -> Result<(), Error> {
    let settings = ConnectionSettings {
        scheme: Scheme::Https,
        credentials: Credentials::Anonymous,
        ..settings
    };
    let (host, context) = (server.host().parse().unwrap(), Arc::new(HostContext::default()));
    let transport = Transport::new(Network::Direct);
    let registry = Arc::new(Registry::new(host, settings, &transport, context).unwrap());
    let tag = TagOrDigest::Tag("1".parse().unwrap());
    registry.manifest(&"team/app".parse().unwrap(), &tag).await.map(drop)
}

fn trusting(pem: &[u8]) -> ConnectionSettings {
    let certificate = Some(Certificate::from_pem(pem).unwrap());
    ConnectionSettings { certificate, ..ConnectionSettings::default() }
}

/// Asserts that the error is final at once and that its hint contains this text.
#[track_caller]
fn assert_final(server: &Scripted, failed: Result<(), Error>, hint: &str) {
    let error = failed.expect_err(hint);
    assert_eq!(error.kind(), Kind::Configuration, "{error:?}");
    assert!(error.remedy().is_some_and(|remedy| remedy.contains(hint)), "{:?}", error.remedy());
    assert_eq!(server.connections(), 1, "it is not retried");
}

#[tokio::test]
async fn a_servers_own_certificate_in_ca_file_is_trusted_while_it_is_valid_for_the_name() {
    let self_signed = (pem!("self-signed.pem"), pem!("self-signed.key"));
    let issued = (pem!("server.pem"), pem!("server.key"));
    let ca = pem!("ca.pem");
    for ((certificate, key), trusted) in
        [(self_signed, self_signed.0), (issued, ca), (issued, issued.0)]
    {
        let server = Scripted::over_tls(tls(certificate, key, None), image);
        read(&server, trusting(trusted)).await.unwrap();
    }
}

#[tokio::test]
async fn a_certificate_error_is_final_at_once_and_its_hint_fits() {
    let ca = pem!("ca.pem");
    let self_signed = (pem!("self-signed.pem"), pem!("self-signed.key"));
    let expired = (pem!("expired.pem"), pem!("expired.key"));
    let other_name = (pem!("other-name.pem"), pem!("other-name.key"));
    let own_expired = (pem!("self-signed-expired.pem"), pem!("self-signed-expired.key"));
    let own_other_name = (pem!("self-signed-other-name.pem"), pem!("self-signed-other-name.key"));
    for ((certificate, key), trusted, hint) in [
        (self_signed, ca, "`ca_file`"),
        (own_other_name, self_signed.0, "`ca_file`"),
        (expired, ca, "renew"),
        (own_expired, own_expired.0, "renew"),
        (other_name, ca, "a name that"),
        (own_other_name, own_other_name.0, "a name that"),
    ] {
        let server = Scripted::over_tls(tls(certificate, key, None), image);
        assert_final(&server, read(&server, trusting(trusted)).await, hint);
    }
    let plain = Scripted::plain(image);
    assert_final(&plain, read(&plain, trusting(ca)).await, "plain_http");
}

#[tokio::test]
async fn a_registry_that_requires_a_client_certificate_receives_the_configured_one() {
    let ca = pem!("ca.pem");
    let requiring = || {
        let config = tls(pem!("server.pem"), pem!("server.key"), Some(ca));
        Scripted::over_tls(config, image)
    };
    let client = ClientCertificate::from_pem(pem!("client.pem"), pem!("client.key")).unwrap();
    let client_certificate = Some(Arc::new(client));
    let settings = ConnectionSettings { client_certificate, ..trusting(ca) };
    read(&requiring(), settings).await.unwrap();

    let server = requiring();
    assert_final(&server, read(&server, trusting(ca)).await, "client_cert_file");
    // a certificate of another CA
    let own = (pem!("self-signed.pem"), pem!("self-signed.key"));
    let client_certificate = Some(Arc::new(ClientCertificate::from_pem(own.0, own.1).unwrap()));
    let server = requiring();
    let settings = ConnectionSettings { client_certificate, ..trusting(ca) };
    assert_final(&server, read(&server, settings).await, "client_cert_file");
}

/// Writes the PEM file.
fn write(directory: &Path, name: &str, pem: &[u8]) -> String {
    let path = directory.join(name);
    fs::write(&path, pem).unwrap();
    path.display().to_string()
}

/// The program without proxies and with AWS credentials.
fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = ecr_mirror_in(directory, arguments);
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "AWS_PROFILE"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command
        .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "example-secret-access-key")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", directory.join("aws-config"));
    command
}

fn run(mut command: Command) -> Ended {
    command.output().unwrap().into()
}

#[test]
fn the_ca_bundle_of_aws_is_trusted_for_aws_and_for_registries() {
    let home = tempfile::tempdir().unwrap();
    let bundle = write(home.path(), "bundle.pem", pem!("ca.pem"));
    let config = tls(pem!("server.pem"), pem!("server.key"), None);
    let server = Scripted::over_tls(config, |request| match request.header("x-amz-target") {
        Some(_) => reply(400, r#"{"__type":"AccessDeniedException","message":"not you"}"#),
        None => image(request),
    });
    let host = server.host();
    let image = format!(
        "[registry.\"{host}\"]\nplain_http = false\n\
         [[image]]\nsource = \"{host}/team/app\"\ntags = [\"1\"]\n"
    );
    let aws = format!(
        "[[destination]]\nregistry = \"{host}\"\nendpoint_url = \"https://{host}\"\nprefix = \"m\"\n"
    );
    fs::write(home.path().join("aws.toml"), format!("{aws}{image}")).unwrap();
    let layout = "[[destination]]\nregistry = \"oci:layout\"\n";
    fs::write(home.path().join("layout.toml"), format!("{layout}{image}")).unwrap();
    let profile = format!("[default]\nca_bundle = {bundle}\n");
    for (variable, profile) in [(bundle.as_str(), ""), ("", profile.as_str())] {
        fs::write(home.path().join("aws-config"), profile).unwrap();
        for (file, status, expected) in [("aws.toml", 1, "not you"), ("layout.toml", 0, "copied")] {
            let mut sync = command(home.path(), &["sync", "-c", file]);
            sync.env("AWS_CA_BUNDLE", variable);
            let ended = run(sync);
            assert_eq!(ended.status, Some(status), "{ended:?}");
            assert!(format!("{}{}", ended.out, ended.talk).contains(expected), "{ended:?}");
        }
        fs::remove_dir_all(home.path().join("layout")).unwrap();
    }
}

#[test]
fn a_certificate_error_of_aws_is_final_at_once_and_its_hint_fits() {
    let home = tempfile::tempdir().unwrap();
    let trusted = write(home.path(), "bundle.pem", pem!("ca.pem"));
    let source = Scripted::plain(image);
    for (certificate, key, hint) in [
        (pem!("self-signed.pem"), pem!("self-signed.key"), "AWS_CA_BUNDLE"),
        (pem!("expired.pem"), pem!("expired.key"), "renew"),
    ] {
        let server = Scripted::over_tls(tls(certificate, key, None), image);
        let configuration = format!(
            "[[destination]]\nregistry = \"{0}\"\nendpoint_url = \"https://{0}\"\nprefix = \"m\"\n\
             [[image]]\nsource = \"{1}/team/app\"\ntags = [\"1\"]\n",
            server.host(),
            source.host()
        );
        fs::write(home.path().join("mirror.toml"), configuration).unwrap();
        let mut plan = command(home.path(), &["plan"]);
        plan.env("AWS_CA_BUNDLE", &trusted);
        let ended = run(plan);
        assert_eq!(ended.status, Some(1), "{ended:?}");
        let output = format!("{}{}", ended.out, ended.talk);
        let output = output.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(output.contains("TLS handshake failed") && output.contains(hint), "{output}");
        assert!(server.connections() <= 4, "no call is retried: {}", server.connections());
        let mut plan = command(home.path(), &["plan"]);
        plan.env("SSL_CERT_FILE", "/nonexistent.pem").env_remove("SSL_CERT_DIR");
        let ended = run(plan);
        assert_eq!(ended.status, Some(1), "{ended:?}");
        let output = format!("{}{}", ended.out, ended.talk);
        assert!(
            output.contains("cannot set up TLS") && output.contains("SSL_CERT_FILE"),
            "{output}"
        );
    }
}

#[test]
fn an_unusable_ca_bundle_or_proxy_is_an_error_before_the_run() {
    let home = tempfile::tempdir().unwrap();
    let destination = "[[destination]]\nregistry = \"oci:layout\"\n\
                       [[image]]\nsource = \"localhost:1/a\"\ntags = [\"1\"]\n";
    fs::write(home.path().join("mirror.toml"), destination).unwrap();
    for (name, value, expected) in [
        ("AWS_CA_BUNDLE", "/nonexistent.pem", "`AWS_CA_BUNDLE` names `/nonexistent.pem`"),
        ("HTTPS_PROXY", "ftp://u:hunter2@proxy:1", "`HTTPS_PROXY` is not a proxy"),
        ("HTTP_PROXY", "http://u:hunter2@proxy:port", "`HTTP_PROXY` is not a proxy"),
    ] {
        let mut sync = command(home.path(), &["sync"]);
        sync.env(name, value);
        let ended = run(sync);
        assert_eq!(ended.status, Some(2), "{ended:?}");
        assert!(ended.talk.contains(expected), "{ended:?}");
        assert!(!ended.talk.contains("hunter2"), "{ended:?}");
    }
}
