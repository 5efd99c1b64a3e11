//! Places blobs: each once per destination repository, mounted or transferred.

pub(crate) mod placements;
pub(crate) mod shared_download;
pub(crate) mod target;
pub(crate) mod transfer;
