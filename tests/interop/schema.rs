//! Checks the JSON schemas with `check-jsonschema` and `taplo`, which editors use.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use super::{
    peer::{self, Peer, directory, output, text},
    product::ecr_mirror,
};

#[path = "../mirror/schema/fixtures.rs"]
mod fixtures;

/// A path of the project.
fn project(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// The files in which `check-jsonschema` finds an error; empty if all are valid.
fn invalid(command: &mut Command) -> Vec<String> {
    let output = command.args(["--output-format", "json"]).output().expect("it can be started");
    let result: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(result["parse_errors"].as_array().map_or(0, Vec::len), 0, "{result}");
    let errors = result["errors"].as_array().into_iter().flatten();
    let mut files: Vec<String> =
        errors.map(|error| error["filename"].as_str().unwrap_or_default().to_owned()).collect();
    files.dedup();
    files
}

#[test]
fn check_jsonschema_accepts_the_schemas_the_example_and_a_real_report() {
    let Some(program) = Peer::CheckJsonschema.find() else { return };
    let [config, report] =
        ["config", "report"].map(|it| project(&format!("docs/schema/{it}.json")));
    let check = |arguments: &[&str]| invalid(peer::command(&program).args(arguments));
    assert_eq!(check(&["--check-metaschema", &config, &report]), [""; 0]);

    let home = directory();
    let [example, run] = ["mirror.toml", "report.json"].map(|name| home.path().join(name));
    fs::copy(project("mirror.toml.example"), &example).expect("the directory is new");
    let upstreams = fs::read_dir(project("deploy/pull-through")).expect("it has the examples");
    let upstreams: Vec<_> = upstreams.map(|file| file.expect("it can be listed").path()).collect();
    let files: Vec<&str> = [&example].into_iter().chain(&upstreams).map(|it| text(it)).collect();
    assert_eq!(check(&[&["--schemafile", &config][..], &files].concat()), [""; 0]);

    let mut sync = ecr_mirror(&["sync", "--sandbox=state", "--only", "pause"]);
    output(sync.args(["--report", text(&run)]).current_dir(home.path()));
    assert_eq!(check(&["--schemafile", &report, text(&run)]), [""; 0]);
    let changed =
        fs::read_to_string(&run).expect("it is written").replace("\"copied\"", "\"lost\"");
    fs::write(&run, changed).expect("it can be replaced");
    assert_eq!(check(&["--schemafile", &report, text(&run)]), [text(&run)]);
}

#[test]
fn check_jsonschema_refuses_every_wrong_key_and_type_of_the_fixtures() {
    let Some(program) = Peer::CheckJsonschema.find() else { return };
    let home = directory();
    let mut files = Vec::new();
    for (number, (name, document)) in fixtures::wrong_in_form().into_iter().enumerate() {
        let file = home.path().join(format!("{number:03}.toml"));
        fs::write(&file, format!("# {name}\n{document}\n")).expect("the directory is new");
        files.push(text(&file).to_owned());
    }
    let mut command = peer::command(program);
    command.args(["--schemafile", &project("docs/schema/config.json")]).args(&files);
    assert_eq!(invalid(&mut command), files);
}

#[test]
fn taplo_reads_the_schema_that_the_example_names() {
    let Some(program) = Peer::Taplo.find() else { return };
    let home = directory();
    fs::create_dir_all(home.path().join("docs/schema")).expect("the directory is new");
    for path in ["docs/schema/config.json", "mirror.toml.example"] {
        fs::copy(project(path), home.path().join(path)).expect("the directory is new");
    }
    let lint = |file: &Path| {
        let mut taplo = peer::command(&program);
        let taplo = taplo.args(["lint", "--no-auto-config", text(file)]).current_dir(home.path());
        let output = taplo.output().expect("it can be started");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let example = home.path().join("mirror.toml.example");
    let valid = home.path().join("valid.toml");
    let content = fs::read_to_string(&example).expect("it is copied");
    fs::write(&valid, &content).expect("the directory is new");
    let (succeeded, talk) = lint(&valid);
    assert!(succeeded, "{talk}");
    let wrong = home.path().join("wrong.toml");
    fs::write(&wrong, content.replace("flatten = false", "flatten = \"no\"")).expect("it is new");
    let (succeeded, talk) = lint(&wrong);
    assert!(!succeeded && talk.contains("\"no\" is not of type \"boolean\""), "{talk}");
}
