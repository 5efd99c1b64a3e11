//! Records every request to the sandbox and its response, for tests and diagnosis.
//!
//! Bounds memory: the oldest entries are dropped.

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

use super::RecordRequests;

/// Maximum number of entries.
const KEPT: usize = 200_000;
/// Bodies up to this size in bytes are counted at once, not as they stream.
pub(super) const WHOLE: u64 = 64 << 10;

/// One request and its response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Time of the request.
    pub at: SystemTime,
    /// The request's method.
    pub method: Method,
    /// The request's host.
    pub host: String,
    /// The request's path and query.
    pub path: String,
    /// The AWS operation, like `PutImage` or `GetCallerIdentity`.
    pub operation: Option<String>,
    /// The response's status; `None` if the connection was dropped.
    pub status: Option<StatusCode>,
    /// Bytes of the request body read so far.
    pub request_bytes: u64,
    /// Bytes of the response body sent so far.
    pub response_bytes: u64,
}

impl Entry {
    /// True if the request can change state: decided by the method for a registry, by the
    /// operation's name for AWS.
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

    /// Writes the request to the log, without its query, which can contain a signature.
    fn log(&self) {
        let path = self.path.split('?').next().unwrap_or_default();
        let (operation, status) = (self.operation.as_deref(), self.status.map(|it| it.as_u16()));
        tracing::debug!(method = %self.method, host = self.host, path, operation, status, "request");
    }
}

/// Names the AWS operation, as an extension of a response: for operations that no header names.
#[derive(Debug, Clone)]
pub(crate) struct Operation(pub String);

/// A byte count that grows while a body streams.
#[derive(Debug, Clone, Default)]
pub(super) struct Count(Arc<AtomicU64>);

impl Count {
    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns the same body, counted as it is read. A small body in memory is counted at once.
    pub(super) fn count_body(&self, body: Body) -> Body {
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

#[derive(Debug)]
pub(super) struct Journal {
    record: RecordRequests,
    records: Mutex<VecDeque<Record>>,
}

/// An entry and the counts of its bodies, which may still grow.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) entry: Entry,
    pub(super) request: Count,
    pub(super) response: Count,
}

impl Journal {
    pub(super) fn new(record: RecordRequests) -> Self {
        Self { record, records: Mutex::default() }
    }

    pub(super) fn add(&self, record: Record) {
        match self.record {
            RecordRequests::Journal => {
                let mut records = self.records.lock();
                if records.len() == KEPT {
                    records.pop_front();
                }
                records.push_back(record);
            }
            RecordRequests::Log => record.entry.log(),
            RecordRequests::Nowhere => {}
        }
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        let records = self.records.lock();
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
    fn writes_are_distinguished_from_reads() {
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
