//! A scripted ECR API over a real socket, for answers that the strict sandbox does not give.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{identity::Identity, session::AwsSession};
use crate::{registry::Network, remote::HostContext};

type Calls = Arc<Mutex<Vec<(String, Value)>>>;

/// The server; dropping it stops it.
pub(crate) struct FakeApi {
    pub(crate) address: SocketAddr,
    calls: Calls,
    server: JoinHandle<()>,
}

/// An answer: status and body.
pub(crate) type Answer = (u16, Value);

/// An error in the API's format.
pub(crate) fn refusal(name: &str, message: &str) -> Answer {
    (400, json!({ "__type": name, "message": message }))
}

impl FakeApi {
    /// Answers every action with the result of `script`.
    pub(crate) async fn start<S>(script: S) -> Self
    where
        S: Fn(&str, &Value) -> Answer + Send + Sync + 'static,
    {
        let calls = Calls::default();
        let seen = Arc::clone(&calls);
        let script = Arc::new(script);
        let answer = move |headers: HeaderMap, body: Bytes| {
            let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
            async move {
                let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
                let action = target.and_then(|target| target.rsplit('.').next());
                let action = action.unwrap_or("AssumeRole").to_owned();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                seen.lock().push((action.clone(), body.clone()));
                let (status, answer) = script(&action, &body);
                // STS answers in XML
                let text = answer.as_str().map_or_else(|| answer.to_string(), str::to_owned);
                (StatusCode::from_u16(status).unwrap(), text)
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, calls, server }
    }

    /// A session that calls it, in `eu-west-1`.
    pub(crate) async fn session(&self) -> (AwsSession, Arc<HostContext>) {
        let context = Arc::new(HostContext::default());
        let identity = Identity { region: Some("eu-west-1".to_owned()), ..Identity::default() };
        let network = Network::Sandbox(self.address);
        (AwsSession::open(identity, network, Arc::clone(&context)).await, context)
    }

    /// The actions that were called, in order.
    pub(crate) fn actions(&self) -> Vec<String> {
        self.calls.lock().iter().map(|(action, _)| action.clone()).collect()
    }

    /// The bodies of the calls of this action, in order.
    pub(crate) fn bodies(&self, action: &str) -> Vec<Value> {
        let calls = self.calls.lock();
        calls.iter().filter(|(called, _)| called == action).map(|(_, body)| body.clone()).collect()
    }
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}
