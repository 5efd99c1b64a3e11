//! Tests runs under a low limit on open files (`ulimit -n`).

use std::{path::Path, process::Command};

use ecr_mirror::sandbox::{Store, upstream::media};
use serde_json::Value;

use super::{
    content::{descriptor, image},
    process::{Ended, Registry, ecr_mirror_in},
};

/// Images of the source, each with its own layers.
const IMAGES: usize = 40;
const LAYERS: usize = 4;

/// Puts the images into the store of a registry that is not running.
async fn fill(directory: &Path) {
    let store = Store::open(directory).unwrap();
    for tag in 0..IMAGES {
        let mut layers = Vec::new();
        for number in 0..LAYERS {
            let bytes = format!("{tag}/{number}").repeat(20_000);
            let layer = store.put_blob("app", bytes.as_bytes()).await.unwrap();
            layers.push(descriptor(media::OCI_LAYER, &layer, bytes.len()));
        }
        let config = store.put_blob("app", b"{}").await.unwrap();
        let manifest = image(descriptor(media::OCI_CONFIG, &config, 2), &layers).to_string();
        let put = store.put_manifest("app", media::OCI_MANIFEST, manifest.as_bytes()).unwrap();
        store.set_tag("app", &format!("t{tag}"), &put).unwrap();
    }
}

/// Runs `sync` under this limit.
fn sync(home: &Path, files: u32) -> Ended {
    let program = ecr_mirror_in(home, &["sync", "--json"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &files.to_string()]);
    shell.arg(program.get_program()).args(program.get_args()).current_dir(home).env("HOME", home);
    shell.env_remove("RUST_LOG").env_remove("ECR_MIRROR_CONFIG");
    shell.output().unwrap().into()
}

fn configure(home: &Path, from: &str, to: &str) {
    let tags: Vec<String> = (0..IMAGES).map(|tag| format!("\"t{tag}\"")).collect();
    let text = format!(
        "[[destination]]\nregistry = \"{to}\"\n\
         [[image]]\nsource = \"{from}/app\"\ntags = [{}]\n",
        tags.join(", ")
    );
    std::fs::write(home.join("mirror.toml"), text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_fits_its_connections_into_the_limit_on_open_files() {
    let [from, to, home] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    fill(from.path()).await;
    let (source, destination) = (Registry::serve(from.path()), Registry::serve(to.path()));
    configure(home.path(), &source.address, &destination.address);
    let ended = sync(home.path(), 64);
    let report: Value = serde_json::from_str(&ended.out).expect(&ended.talk);
    assert_eq!((ended.status, &report["requests"]["retries"]), (Some(0), &0.into()), "{report}");
    assert_eq!(report["totals"]["copied"], IMAGES);
}

#[test]
fn a_limit_on_open_files_that_is_too_low_is_an_error_before_the_first_request() {
    let home = tempfile::tempdir().unwrap();
    configure(home.path(), "127.0.0.1:1", "127.0.0.1:2");
    let ended = sync(home.path(), 28);
    assert_eq!(ended.status, Some(2), "{}", ended.talk);
    assert!(ended.talk.contains("the limit on open files is 28"), "{}", ended.talk);
    assert!(ended.talk.contains("ulimit -n 1024"), "{}", ended.talk);
}
