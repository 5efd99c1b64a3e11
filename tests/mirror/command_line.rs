//! Tests the program from a shell: streams, exit status, signals.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
};

use super::process::{ecr_mirror, stop_signals};

/// Exit status, stdout, stderr.
fn ended(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = ecr_mirror(arguments).output().expect("it can be started");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("it writes UTF-8");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn help_and_version_go_to_stdout_and_usage_errors_to_stderr() {
    let (status, out, talk) = ended(&["sync", "--help"]);
    assert_eq!((status, talk.as_str()), (Some(0), ""));
    assert!(out.trim_end().ends_with("129/130/143  stopped by SIGHUP, SIGINT, SIGTERM"), "{out}");
    let (status, out, _) = ended(&["--version"]);
    assert_eq!(
        (status, out),
        (Some(0), concat!("ecr-mirror ", env!("CARGO_PKG_VERSION"), "\n").into())
    );
    let (status, out, talk) = ended(&["sync", "--concurrency", "0"]);
    assert_eq!((status, out.as_str()), (Some(2), ""));
    assert!(talk.starts_with("error: "), "{talk}");
}

#[test]
fn a_closed_reader_of_stdout_is_not_a_failure() {
    let mut child = ecr_mirror(&["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut talk = String::new();
    child.stderr.take().unwrap().read_to_string(&mut talk).unwrap();
    assert_eq!((child.wait().unwrap().code(), talk.as_str()), (Some(0), ""));
}

#[test]
fn a_full_stdout_is_a_failure() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = ecr_mirror(&["completions", "bash"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: cannot write to stdout\n"));
}

#[test]
fn a_standing_sandbox_prints_its_address_and_exits_with_zero_on_a_signal() {
    for (signal, _) in stop_signals() {
        let plain = signal != "TERM";
        let arguments: &[&str] = if plain { &["sandbox", "--plain"] } else { &["sandbox"] };
        let mut child = ecr_mirror(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let wanted = if plain { "export SANDBOX_REGISTRY=" } else { "export SANDBOX_ECR=" };
        let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix(wanted).map(str::to_owned))
            .expect("it prints its address before it serves");
        std::net::TcpStream::connect(&address).unwrap();
        let id = child.id().to_string();
        assert!(
            Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success()
        );
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[test]
fn a_sandbox_that_cannot_listen_fails_with_a_hint() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, out, talk) = ended(&["sandbox", "--plain", "--listen", &address]);
    assert_eq!((status, out.as_str()), (Some(1), ""));
    assert!(talk.starts_with("error: cannot serve the sandbox\n  caused by: "), "{talk}");
    assert!(talk.contains("\nhint: use another address (`--listen`)"), "{talk}");
}

#[test]
fn a_directory_has_one_sandbox_at_a_time_and_is_free_after_a_kill() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    let serve = || {
        let mut command = ecr_mirror(&["sandbox", "--plain", state.to_str().unwrap()]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().starts_with("export SANDBOX_REGISTRY=")));
        child
    };
    let mut first = serve();
    let (status, _, talk) = ended(&["sandbox", "--plain", state.to_str().unwrap()]);
    assert_eq!(status, Some(1));
    assert!(talk.contains("another sandbox uses this directory"), "{talk}");
    first.kill().unwrap();
    first.wait().unwrap();
    let mut second = serve();
    second.kill().unwrap();
    second.wait().unwrap();
}

#[test]
fn a_sandbox_listens_for_other_machines_only_if_it_is_told_to() {
    let any = ["sandbox", "--plain", "--listen", "0.0.0.0:0"];
    let (status, out, talk) = ended(&any);
    assert_eq!((status, out.as_str()), (Some(2), ""));
    assert!(talk.contains("hint: listen on 127.0.0.1, or give `--allow-remote`"), "{talk}");
    let mut command = ecr_mirror(&[&any[..], &["--allow-remote"]].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("export SANDBOX_REGISTRY=")));
    child.kill().unwrap();
    let talk = child.wait_with_output().unwrap().stderr;
    let talk = String::from_utf8_lossy(&talk);
    assert!(talk.starts_with("warning: other machines can reach `0.0.0.0:0`"), "{talk}");
}
