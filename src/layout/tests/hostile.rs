//! Layouts built to do harm: nothing outside is touched, and every read ends.

use std::{
    fs, io::Write, os::unix::fs::symlink, process::Command, sync::mpsc, thread, time::Duration,
};

use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use tokio::runtime::Runtime;

use super::{
    existing::{IMAGE_TYPE, INDEX_TYPE, put_blob, put_image, write_layout},
    *,
};

/// The result of the work; fails the test if it does not end.
fn within_timeout<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    // a thread that hangs is left behind, with a runtime that would wait for it
    thread::spawn(move || done.send(Runtime::new().unwrap().block_on(work)).ok());
    result.recv_timeout(Duration::from_secs(60)).expect("the work ends")
}

fn layout(directory: &Path) -> Layout {
    Layout::new(directory, Naming::Tag, Arc::default())
}

async fn ensure(directory: &Path) -> Result<()> {
    layout(directory).ensure(&"a".parse().unwrap()).await
}

/// Every path below the directory; links are not followed.
fn all_paths(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(all_paths(&entry.path()));
        }
        found.push(entry.path());
    }
    found.sort();
    found
}

/// A layout beside a directory with other files.
fn layout_beside_files(place: &Path) -> (PathBuf, PathBuf) {
    let (directory, home) = (place.join("layout"), place.join("home"));
    fs::create_dir_all(&directory).unwrap();
    fs::create_dir_all(home.join("1/photos")).unwrap();
    fs::create_dir_all(home.join("2")).unwrap();
    fs::write(home.join("2/held"), "").unwrap();
    fs::write(home.join("1/photos/3"), "a cat").unwrap();
    (directory, home)
}

#[tokio::test]
async fn nothing_is_written_through_a_link_out_of_the_layout() {
    for (link, wanted) in [
        (".ecr-mirror", "directory"),
        ("blobs", "directory"),
        ("blobs/sha256", "directory"),
        (".ecr-mirror/lock", "file"),
    ] {
        // to something, and to nothing yet
        for target in ["home", "nothing"] {
            let place = tempfile::tempdir().unwrap();
            let (directory, _) = layout_beside_files(place.path());
            fs::create_dir_all(directory.join(link).parent().unwrap()).unwrap();
            symlink(place.path().join(target), directory.join(link)).unwrap();
            let outside = || {
                let mut all = all_paths(place.path());
                all.retain(|path| !path.starts_with(&directory));
                all
            };
            let (before, inside) = (outside(), all_paths(&directory));
            let error = ensure(&directory).await.expect_err(link);
            assert_eq!(error.kind(), Kind::Configuration, "{link}: {error:?}");
            assert!(error.to_string().contains(&format!("{link}` is a link")), "{error}");
            assert!(error.remedy().unwrap().starts_with(&format!("put a {wanted}")), "{error:?}");
            assert_eq!(outside(), before, "{link} to {target}");
            if wanted == "directory" {
                assert_eq!(all_paths(&directory), inside, "{link} to {target}");
            }
        }
    }
}

#[tokio::test]
async fn a_file_in_place_of_a_directory_is_an_error() {
    for name in ["blobs", ".ecr-mirror"] {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join(name), "").unwrap();
        let error = ensure(place.path()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Configuration, "{error:?}");
        assert!(error.to_string().ends_with(&format!("{name}` is not a directory")), "{error}");
    }
}

#[tokio::test]
async fn a_layout_that_is_a_link_itself_is_written_to() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("disk")).unwrap();
    symlink("disk", place.path().join("layout")).unwrap();
    ensure(&place.path().join("layout")).await.unwrap();
    assert_valid(&place.path().join("disk"));
    assert!(place.path().join("disk/oci-layout").exists());
}

#[tokio::test]
async fn a_layout_whose_content_is_behind_links_is_read() {
    let fixture = LayoutFixture::new().await;
    let (directory, disk) = (fixture.directory(), fixture.place.path().join("disk"));
    write_layout(&directory, &[Some("1")]);
    fs::create_dir(&disk).unwrap();
    for moved in ["blobs", "index.json"] {
        fs::rename(directory.join(moved), disk.join(moved)).unwrap();
        symlink(disk.join(moved), directory.join(moved)).unwrap();
    }
    let from = origin(fixture.layout(Naming::Tag), "x:1");
    let copied = fixture.copy(from, (fixture.plain(), "x:1"), &Filter::default()).await;
    assert_eq!(copied.outcome(), "Copied");
}

#[tokio::test]
async fn only_staging_directories_are_removed() {
    let place = tempfile::tempdir().unwrap();
    let (directory, home) = layout_beside_files(place.path());
    let own = directory.join(".ecr-mirror");
    let at = |path: &str| own.join(path);
    for kept in ["photos", "2024", "12/held", "13/album"] {
        fs::create_dir_all(at(kept)).unwrap();
    }
    fs::write(at("photos/held"), "").unwrap();
    fs::write(at("2024/1"), "no staging directory: it has no lock").unwrap();
    fs::write(at("13/held"), "").unwrap();
    fs::write(at("13/album/1"), "a cat").unwrap();
    fs::write(at("13/notes"), "").unwrap();
    fs::create_dir(at("14")).unwrap();
    symlink(home.join("2/held"), at("14/held")).unwrap();
    symlink(home.join("2"), at("0")).unwrap();
    symlink(place.path().join("nothing"), at("1")).unwrap();
    let (there, elsewhere) = (all_paths(&own), all_paths(&home));
    ensure(&directory).await.unwrap();
    let lost: Vec<_> = there.iter().filter(|path| path.symlink_metadata().is_err()).collect();
    assert_eq!(lost, [&at("13/held")], "all else is still there");
    assert_eq!(all_paths(&home), elsewhere);
    assert!(!place.path().join("nothing").exists());
}

#[test]
fn a_digest_that_an_index_lists_a_thousand_times_is_checked_once() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().to_owned();
    let (leaf, size) = put_image(&directory, b"layer");
    let mut entry = json!({"mediaType": IMAGE_TYPE, "digest": leaf, "size": size});
    for _ in 0..4 {
        let index = json!({"schemaVersion": 2, "manifests": vec![&entry; 1000]}).to_string();
        let digest = put_blob(&directory, index.as_bytes());
        entry = json!({"mediaType": INDEX_TYPE, "digest": digest, "size": index.len()});
    }
    let root: Digest = entry["digest"].as_str().unwrap().parse().unwrap();
    let layer = BlobStore::new(directory.clone()).path(&Digest::of(b"layer"));
    let is_whole = move || {
        let (store, root) = (BlobStore::new(directory.clone()), root.clone());
        within_timeout(async move { store.is_whole(&root, Some(INDEX_TYPE)) })
    };
    assert!(is_whole());
    fs::remove_file(layer).unwrap();
    assert!(!is_whole(), "the content at the bottom is checked");
}

#[test]
fn a_manifest_that_is_requested_many_times_is_read_once() {
    let place = tempfile::tempdir().unwrap();
    write_layout(place.path(), &[]);
    let padding = "x".repeat(4_000_000);
    let index = json!({"schemaVersion": 2, "manifests": [], "padding": padding}).to_string();
    let digest = put_blob(place.path(), index.as_bytes());
    let requested = vec![digest.clone(); 40_000];
    let layout = layout(place.path());
    let found =
        within_timeout(async move { layout.manifests(&"x".parse().unwrap(), &requested).await });
    assert_eq!(found.unwrap().keys().collect::<Vec<_>>(), [&digest]);
}

#[tokio::test]
async fn a_referrer_with_several_names_is_returned_once() {
    let place = tempfile::tempdir().unwrap();
    let images = write_layout(place.path(), &[Some("1")]);
    let referrer = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE_TYPE,
        "config": {"mediaType": "application/x", "digest": images[0], "size": 1},
        "subject": {"mediaType": IMAGE_TYPE, "digest": images[0], "size": 1},
    });
    let referrer = referrer.to_string();
    let digest = put_blob(place.path(), referrer.as_bytes());
    let mut index = document(place.path());
    let entry = json!({"mediaType": IMAGE_TYPE, "digest": digest, "size": referrer.len()});
    index["manifests"].as_array_mut().unwrap().extend(vec![entry; 3]);
    fs::write(place.path().join("index.json"), index.to_string()).unwrap();
    let found = layout(place.path()).referrers(&"x".parse().unwrap(), &images[0]).await.unwrap();
    assert_eq!(found.iter().map(|found| &found.digest).collect::<Vec<_>>(), [&digest]);
}

/// Reads the image `1` and its layers.
async fn read(directory: PathBuf) -> Result<()> {
    let (layout, repository) = (layout(&directory), "x".parse().unwrap());
    let at = TagOrDigest::Tag("1".parse().unwrap());
    let Manifest::Image(image) = layout.manifest(&repository, &at).await?.read()? else {
        panic!("it is an image");
    };
    for blob in image.blobs() {
        layout.blob(&repository, blob, 0).await?.try_collect::<Vec<_>>().await?;
    }
    Ok(())
}

#[test]
fn a_pipe_or_a_device_in_place_of_a_file_is_not_read() {
    for what in ["oci-layout", "index.json", "manifest", "layer"] {
        for is_pipe in [true, false] {
            let place = tempfile::tempdir().unwrap();
            let images = write_layout(place.path(), &[Some("1")]);
            let store = BlobStore::new(place.path().to_owned());
            let at = match what {
                "manifest" => store.path(&images[0]),
                "layer" => store.path(&Digest::of(b"layer 0")),
                name => place.path().join(name),
            };
            fs::remove_file(&at).unwrap();
            match is_pipe {
                true => assert!(Command::new("mkfifo").arg(&at).status().unwrap().success()),
                // it has an end, so that a failing test fails soon
                false => symlink("/dev/null", &at).unwrap(),
            }
            let error = within_timeout(read(place.path().to_owned())).expect_err(what);
            assert_eq!(error.kind(), Kind::Configuration, "{what}: {error:?}");
            assert!(error.to_string().contains(at.to_str().unwrap()), "{what}: {error}");
            let told = error.chain().concat();
            assert!(told.contains("not a regular file"), "{what}: {told}");
        }
    }
}

#[tokio::test]
async fn a_file_above_its_size_limit_is_not_read() {
    let place = tempfile::tempdir().unwrap();
    for (what, size) in
        [("oci-layout", 4097), ("index.json", (64 << 20) + 1), ("manifest", 4_194_305)]
    {
        let directory = place.path().join(what);
        let images = write_layout(&directory, &[Some("1")]);
        let at = match what {
            "manifest" => BlobStore::new(directory.clone()).path(&images[0]),
            name => directory.join(name),
        };
        // white space after a document is valid JSON
        let mut file = fs::File::options().append(true).open(at).unwrap();
        let written = file.metadata().unwrap().len();
        file.write_all(&vec![b' '; size - written as usize]).unwrap();
        let error = read(directory).await.expect_err(what);
        assert_eq!(error.kind(), Kind::TooLarge, "{what}: {error:?}");
        assert!(error.remedy().is_some(), "{what}");
    }
}

#[tokio::test]
async fn a_layer_that_grows_during_the_read_is_read_up_to_its_size() {
    let place = tempfile::tempdir().unwrap();
    write_layout(place.path(), &[]);
    let layer = vec![7; 1_000_000];
    let digest = put_blob(place.path(), &layer);
    let at = BlobStore::new(place.path().to_owned()).path(&digest);
    let blob = serde_json::from_value(json!({"digest": digest, "size": layer.len()})).unwrap();
    for from in [0, 999_999, 1_000_000] {
        fs::write(&at, &layer).unwrap();
        let stream = layout(place.path()).blob(&"x".parse().unwrap(), &blob, from).await.unwrap();
        let mut file = fs::File::options().append(true).open(&at).unwrap();
        file.write_all(b"and more").unwrap();
        let read: Vec<_> = stream.map(|chunk| chunk.unwrap().len()).collect().await;
        assert_eq!(read.iter().sum::<usize>() as u64, 1_000_000 - from);
    }
}
