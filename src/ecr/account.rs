//! What the account as a whole allows: mounting blobs across repositories.

use std::sync::Arc;

use aws_sdk_ecr::Client;
use tokio::sync::OnceCell;

use super::api::Api;
use crate::registry::{Mounting, retry::Retry};

/// The account settings that decide how content travels, asked once a run.
#[derive(Debug)]
pub struct Account {
    api: Arc<Api>,
    mounting: OnceCell<Mounting>,
}

impl Account {
    /// The account of the session; nothing is asked yet.
    pub fn new(api: Arc<Api>) -> Self {
        Self { api, mounting: OnceCell::new() }
    }

    /// Whether ECR mounts: only what a committed manifest names, and only when `BLOB_MOUNTING` is on.
    ///
    /// Source: ECR user guide, "Blob mounting"; aws/containers-roadmap#2860.
    pub async fn mounting(&self) -> Mounting {
        *self.mounting.get_or_init(|| self.ask()).await
    }

    async fn ask(&self) -> Mounting {
        // a saving is not worth a long wait, and an emulator may answer 500 to what it does not know
        let retry = Retry { attempts: 3, ..Retry::default() };
        let send = |ecr: Client| ecr.get_account_setting().name("BLOB_MOUNTING").send();
        let answer = self.api.call_with(retry, "GetAccountSetting", send).await;
        match answer.as_ref().map(|answer| answer.value()) {
            Ok(Some("ENABLED")) => return Mounting::OnceCommitted,
            Ok(_) => {}
            // an endpoint that does not know the setting does not mount
            Err(error) => tracing::debug!(?error, "cannot tell whether blobs can be mounted"),
        }
        tracing::info!(
            region = self.api.region(),
            "blob mounting is off: layers that repositories share are uploaded once for each; \
             to turn it on: `aws ecr put-account-setting --name BLOB_MOUNTING --value ENABLED`"
        );
        Mounting::Never
    }
}
