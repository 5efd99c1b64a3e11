//! What was asked of the sandbox, and what it answered: for tests, and for people who wonder.
//!
//! Guards memory in a sandbox that stands for long: the oldest entries go.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use axum::{
    body::{Body, HttpBody},
    http::{Method, StatusCode},
};
use futures::StreamExt;
use parking_lot::Mutex;

/// How many entries are kept.
const KEPT: usize = 200_000;
/// Bodies up to this size are not followed through.
const WHOLE: u64 = 64 << 10;

/// One request and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When the request came.
    pub at: SystemTime,
    /// Its method.
    pub method: Method,
    /// The host it was for.
    pub host: String,
    /// Its path, with the query.
    pub path: String,
    /// The AWS operation, like `PutImage` or `GetCallerIdentity`, where it is one.
    pub operation: Option<String>,
    /// The answer's status; none when the connection was dropped instead.
    pub status: Option<StatusCode>,
    /// How many bytes of the request's body were read so far.
    pub request_bytes: u64,
    /// How many bytes of the answer's body were handed out so far.
    pub response_bytes: u64,
}

impl Entry {
    /// Whether the request asks for a change: in a registry by its method, in AWS by its name.
    pub fn is_write(&self) -> bool {
        const READS: [&str; 8] =
            ["Get", "List", "Describe", "BatchGet", "BatchCheck", "Validate", "Assume", "Preview"];
        match &self.operation {
            Some(operation) => !READS.iter().any(|read| operation.starts_with(read)),
            None => {
                self.path.starts_with("/v2")
                    && [Method::POST, Method::PUT, Method::PATCH, Method::DELETE]
                        .contains(&self.method)
            }
        }
    }
}

/// A room's word for the operation it carried out, as an extension of its answer: for those that
/// no header names.
#[derive(Debug, Clone)]
pub(crate) struct Operation(pub String);

/// A count of bytes that goes on while a body is under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Count(Arc<AtomicU64>);

impl Count {
    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The same body, counted as it is read; one that is in memory as a whole at once.
    pub(super) fn watch(&self, body: Body) -> Body {
        if let Some(known) = body.size_hint().exact().filter(|bytes| *bytes <= WHOLE) {
            self.add(known as usize);
            return body;
        }
        let count = self.clone();
        Body::from_stream(body.into_data_stream().inspect(move |chunk| {
            if let Ok(chunk) = chunk {
                count.add(chunk.len());
            }
        }))
    }
}

/// All entries, in the order of the answers.
#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<VecDeque<Record>>);

/// An entry, and its bodies' counts that may still go up.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) entry: Entry,
    pub(super) request: Count,
    pub(super) response: Count,
}

impl Journal {
    pub(super) fn add(&self, record: Record) {
        let mut records = self.0.lock();
        if records.len() == KEPT {
            records.pop_front();
        }
        records.push_back(record);
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        let records = self.0.lock();
        let entry = |record: &Record| Entry {
            request_bytes: record.request.now(),
            response_bytes: record.response.now(),
            ..record.entry.clone()
        };
        records.iter().map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_told_from_reads() {
        for (method, path, operation, expected) in [
            (Method::GET, "/v2/a/manifests/1", None, false),
            (Method::HEAD, "/v2/a/blobs/x", None, false),
            (Method::POST, "/v2/a/blobs/uploads/", None, true),
            (Method::PATCH, "/v2/a/blobs/uploads/1", None, true),
            (Method::PUT, "/v2/a/manifests/1", None, true),
            (Method::DELETE, "/v2/a/manifests/1", None, true),
            (Method::POST, "/token", None, false),
            (Method::POST, "/", Some("GetAuthorizationToken"), false),
            (Method::POST, "/", Some("BatchGetImage"), false),
            (Method::POST, "/", Some("ListImages"), false),
            (Method::POST, "/", Some("DescribeRepositories"), false),
            (Method::POST, "/", Some("CreateRepository"), true),
            (Method::POST, "/", Some("BatchDeleteImage"), true),
            (Method::POST, "/", Some("PutAccountSetting"), true),
            (Method::POST, "/", Some("InitiateLayerUpload"), true),
        ] {
            let entry = Entry {
                at: SystemTime::UNIX_EPOCH,
                method,
                host: String::new(),
                path: path.to_owned(),
                operation: operation.map(str::to_owned),
                status: None,
                request_bytes: 0,
                response_bytes: 0,
            };
            assert_eq!(entry.is_write(), expected, "{} {path} {operation:?}", entry.method);
        }
    }
}
