//! Makes layers from a name and a size.
//!
//! A layer is a gzip stream of a tar archive with one file, so that any client can unpack it. The
//! content is noise, stored without deflate: incompressible, and fast to make even in unoptimised
//! builds. The same name and size give the same bytes on every machine.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::model::Digest;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Layer {
    /// Determines the content together with the size; also the name of the file inside.
    pub seed: Arc<str>,
    /// Bytes of the file inside; the layer is about 2 KiB larger.
    pub size: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerFacts {
    pub digest: Digest,
    /// Digest of the archive.
    pub diff_id: Digest,
    /// Compressed bytes.
    pub size: usize,
}

const PAGE: usize = 64 << 10;
const TAR_BLOCK: usize = 512;
/// The maximum length of a stored deflate block. Source: RFC 1951, 3.2.4.
const STORED: usize = 0xffff;

impl Layer {
    /// A layer of about `kib` KiB; the seed adds up to 5 %, so that few layers have the same
    /// length.
    pub fn about(seed: impl Into<Arc<str>>, kib: u32) -> Self {
        let seed = seed.into();
        let base = kib as usize * 1024;
        let size = base + number(&seed) as usize % (base / 20).max(1);
        Self { seed, size }
    }

    pub fn bytes(&self) -> Bytes {
        gzip(&self.archive()).into()
    }

    /// The compressed bytes, with their digests and size.
    pub fn make(&self) -> (LayerFacts, Bytes) {
        let archive = self.archive();
        let bytes = Bytes::from(gzip(&archive));
        let facts = LayerFacts {
            digest: Digest::of(&bytes),
            diff_id: Digest::of(&archive),
            size: bytes.len(),
        };
        (facts, bytes)
    }

    fn archive(&self) -> Vec<u8> {
        let padding = self.size.next_multiple_of(TAR_BLOCK) - self.size;
        let mut tar = Vec::with_capacity(self.size + padding + 3 * TAR_BLOCK);
        tar.extend_from_slice(&tar_header(&self.file_name(), self.size));
        self.noise(&mut tar);
        // two empty blocks end an archive
        tar.resize(tar.len() + padding + 2 * TAR_BLOCK, 0);
        tar
    }

    fn file_name(&self) -> String {
        let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
        let name: String = self.seed.chars().rev().take(80).map(safe).collect();
        format!("usr/share/{}", name.chars().rev().collect::<String>())
    }

    /// Repeats one page of noise; each copy starts with its number.
    fn noise(&self, out: &mut Vec<u8>) {
        let first = number(&self.seed);
        let mut state = first | 1;
        let mut page = Vec::with_capacity(PAGE);
        while page.len() < PAGE.min(self.size.next_multiple_of(8)) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            page.extend_from_slice(&state.to_le_bytes());
        }
        let end = out.len() + self.size;
        for count in 0_u64.. {
            let left = end - out.len();
            if left == 0 {
                break;
            }
            page[..8].copy_from_slice(&(first ^ count).to_le_bytes());
            out.extend_from_slice(&page[..left.min(page.len())]);
        }
    }
}

/// The first 64 bits of the text's SHA-256.
pub(crate) fn number(text: &str) -> u64 {
    let hash = Sha256::digest(text.as_bytes());
    u64::from_le_bytes(hash[..8].try_into().expect("a SHA-256 hash has 32 bytes"))
}

/// Source: POSIX.1-2017, pax, "ustar Interchange Format".
fn tar_header(name: &str, size: usize) -> [u8; TAR_BLOCK] {
    let mut header = [0; TAR_BLOCK];
    let mut field = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    field(0, name);
    field(100, "0000644\0");
    field(108, "0000000\0");
    field(116, "0000000\0");
    field(124, &format!("{size:011o}\0"));
    field(136, "14531712000\0");
    // the checksum counts its own field as spaces
    field(148, "        ");
    field(156, "0");
    field(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// Source: RFC 1952 around RFC 1951, stored blocks only.
fn gzip(content: &[u8]) -> Vec<u8> {
    let blocks = content.len().div_ceil(STORED);
    let mut out = Vec::with_capacity(content.len() + blocks * 5 + 18);
    out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    for (number, block) in content.chunks(STORED).enumerate() {
        let length = block.len() as u16;
        out.push(u8::from(number + 1 == blocks));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend_from_slice(&crc32fast::hash(content).to_le_bytes());
    out.extend_from_slice(&(content.len() as u32).to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_unpacks_to_the_archive_that_its_diff_id_names() {
        for size in [0, 1, 511, 512, STORED, 3 * PAGE + 17] {
            let layer = Layer { seed: "docker.io/library/nginx/1.27/0".into(), size };
            let (facts, bytes) = layer.make();
            let archive = unpack(&bytes);
            assert_eq!(facts.diff_id, Digest::of(&archive), "{size}");
            assert_eq!(facts.digest, Digest::of(&layer.bytes()), "{size}");
            assert_eq!(facts.size, bytes.len());
            assert_eq!(archive.len() % TAR_BLOCK, 0);
            assert_eq!(&archive[257..263], b"ustar\0");
            let noted = std::str::from_utf8(&archive[124..135]).unwrap();
            assert_eq!(usize::from_str_radix(noted, 8), Ok(size));
        }
    }

    #[test]
    fn different_seeds_and_different_pages_are_different_bytes() {
        let layer = |seed: &str| Layer { seed: seed.into(), size: 2 * PAGE }.archive();
        assert_ne!(layer("a"), layer("b"));
        let archive = layer("a");
        assert_ne!(archive[512..512 + PAGE], archive[512 + PAGE..512 + 2 * PAGE]);
    }

    /// Reads stored blocks, and checks what gzip checks.
    fn unpack(gzip: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = &gzip[10..];
        loop {
            let length = u16::from_le_bytes([rest[1], rest[2]]);
            assert_eq!(!length, u16::from_le_bytes([rest[3], rest[4]]));
            out.extend_from_slice(&rest[5..5 + length as usize]);
            let last = rest[0] == 1;
            rest = &rest[5 + length as usize..];
            if last {
                break;
            }
        }
        assert_eq!(rest[..4], crc32fast::hash(&out).to_le_bytes());
        assert_eq!(rest[4..], (out.len() as u32).to_le_bytes());
        out
    }
}
