//! Checks the metrics with Prometheus' own `promtool` and with a Pushgateway.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Stdio,
};

use super::{
    peer::{self, Peer, Server, directory, text},
    product::ecr_mirror,
};

/// The metrics of a run with a copied and a failed image.
fn metrics() -> String {
    let home = directory();
    let toml = "[[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n\
        [[image]]\nsource = \"sandbox/flat\"\ntags = [\"1.0\"]\n\
        [[image]]\nsource = \"quay.io/team/private-app\"\ntags = [\"1\"]\n";
    fs::write(home.path().join("mirror.toml"), toml).expect("the directory is new");
    let mut sync = ecr_mirror(&["sync", "--sandbox=state", "--metrics", "run.prom"]);
    let status = sync.current_dir(home.path()).output().expect("cargo has built it").status;
    assert_eq!(status.code(), Some(1));
    fs::read_to_string(home.path().join("run.prom")).expect("it is written")
}

#[test]
fn promtool_finds_nothing_to_improve_in_the_metrics() {
    let Some(program) = Peer::Promtool.find() else { return };
    let check = |metrics: &str| {
        let mut command = peer::command(&program);
        command.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it can be started");
        let mut input = child.stdin.take().expect("it is piped");
        input.write_all(metrics.as_bytes()).expect("it reads its input");
        drop(input);
        let output = child.wait_with_output().expect("it is this process's child");
        let talk = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&talk).into_owned())
    };
    let metrics = metrics();
    assert_eq!(check(&metrics), (true, String::new()));
    let (accepted, talk) = check(&metrics.replace("ecr_mirror_images", "ecr_mirror_images_total"));
    assert!(!accepted && talk.contains("\"_total\" suffix"), "{talk}");
}

#[test]
fn the_pushgateway_serves_the_metrics_that_are_pushed_to_it() {
    let Some(program) = Peer::Pushgateway.find() else { return };
    let files = directory();
    let store = format!("--persistence.file={}", text(&files.path().join("store")));
    let mut command = peer::command(program);
    command.args(["--web.listen-address=127.0.0.1:0", &store]);
    let mark = "msg=\"Listening on\" address=";
    let server = Server::start(command, files, mark);
    let address = server.text_after(mark).expect("the server has started");
    let request = |method: &str, path: &str, body: &str| {
        let mut stream = TcpStream::connect(&address).expect("it listens");
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    };
    let pushed = request("PUT", "/metrics/job/ecr-mirror", &metrics());
    assert!(pushed.starts_with("HTTP/1.1 200 "), "{pushed}");
    let served = request("GET", "/metrics", "");
    for sample in [
        "ecr_mirror_images{instance=\"\",job=\"ecr-mirror\",outcome=\"copied\"} 1",
        "ecr_mirror_images{instance=\"\",job=\"ecr-mirror\",outcome=\"drifted\"} 0",
        "ecr_mirror_run_exit_code{instance=\"\",job=\"ecr-mirror\"} 1",
    ] {
        assert!(served.contains(sample), "{sample}: {served}");
    }
}
