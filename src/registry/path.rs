//! What of a URL's path is shown.
//!
//! Guards that no error shows what lets in whoever has it.

/// How long a part of a path may be and still be shown, in bytes: as long as a digest of SHA-512
/// with its name; tags are no longer than 128.
const LONGEST_PART: usize = 135;

/// A path as an error shows it: without upload state, and without its longest parts, because what
/// is longer than a digest may be a signature.
pub(super) fn shown(path: &str) -> String {
    let uploads = "/blobs/uploads/";
    if let Some((before, state)) = path.split_once(uploads)
        && !state.is_empty()
    {
        return format!("{before}{uploads}…");
    }
    let part = |part| if str::len(part) > LONGEST_PART { "…" } else { part };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_in_whoever_has_it_is_not_shown() {
        let (digest, tag) = (format!("sha512:{}", "a".repeat(128)), "t".repeat(128));
        for (path, expected) in [
            ("/v2/a/manifests/DIGEST", "/v2/a/manifests/DIGEST"),
            ("/v2/a/manifests/TAG", "/v2/a/manifests/TAG"),
            ("/v2/a/blobs/uploads/", "/v2/a/blobs/uploads/"),
            ("/v2/a/blobs/uploads/state/more", "/v2/a/blobs/uploads/…"),
            ("/artifacts-downloads/SIGNED", "/artifacts-downloads/…"),
            ("/SIGNED/x", "/…/x"),
        ] {
            let fill = |text: &str| {
                let text = text.replace("DIGEST", &digest).replace("TAG", &tag);
                text.replace("SIGNED", &"s".repeat(200))
            };
            assert_eq!(shown(&fill(path)), fill(expected));
        }
    }
}
