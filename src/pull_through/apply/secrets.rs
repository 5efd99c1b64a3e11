//! The secrets that keep upstream credentials.

use std::time::SystemTime;

use aws_sdk_secretsmanager::error::ProvideErrorMetadata;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::{ApplyWork, StepOutcome, created_concurrently};
use crate::{
    model::{Error, Kind, Result},
    pull_through::{
        fetch_state::{self, SecretState},
        state::{Content, Secret, SecretLogin},
    },
};

const SERVICE: &str = "secretsmanager";
/// What the console shows beside a secret that is made here.
const DESCRIPTION: &str = "Upstream credentials of ECR's pull-through cache, kept by ecr-mirror";
/// The name of a refusal because of a secret's state: deleted, or not deleted.
const WRONG_STATE: &str = "InvalidRequestException";

impl ApplyWork<'_> {
    pub(super) async fn create_secret(&mut self, name: &str, login: &SecretLogin) -> Result<()> {
        let (client, text) = (self.session.secrets(), document(login));
        let made = self.session.call((SERVICE, "CreateSecret"), || {
            let request = client.create_secret().name(name).description(DESCRIPTION);
            let request = request.secret_string(text.expose_secret());
            async move {
                match request.send().await {
                    Err(e) if e.code() == Some("ResourceExistsException") => Ok(None),
                    Err(e) if e.code() == Some(WRONG_STATE) => Ok(None),
                    answer => answer.map(|made| made.arn),
                }
            }
        });
        let arn = match made.await? {
            Some(arn) => arn,
            // the answer to an earlier attempt may have been lost
            None => match fetch_state::secret(self.session, name).await? {
                Some(Secret { arn, content: Content::Login(there) })
                    if there.username == login.username
                        && there.password.expose_secret() == login.access_token.expose_secret() =>
                {
                    arn
                }
                Some(_) => return Err(created_concurrently("a secret of this name")),
                None => return Err(going()),
            },
        };
        self.written.insert(name.to_owned(), arn);
        Ok(())
    }

    pub(super) async fn restore_secret(&mut self, name: &str, login: &SecretLogin) -> Result<()> {
        let client = self.session.secrets();
        let restored = self.session.call((SERVICE, "RestoreSecret"), || {
            let request = client.restore_secret().secret_id(name);
            async move {
                match request.send().await {
                    // it is restored already; if it is not, writing tells
                    Err(e) if e.code() == Some(WRONG_STATE) => Ok(()),
                    answer => answer.map(drop),
                }
            }
        });
        restored.await?;
        self.write_secret(name, login).await
    }

    pub(super) async fn write_secret(&mut self, name: &str, login: &SecretLogin) -> Result<()> {
        let (client, text) = (self.session.secrets(), document(login));
        let put = self.session.call((SERVICE, "PutSecretValue"), || {
            let request = client.put_secret_value().secret_id(name);
            request.secret_string(text.expose_secret()).send()
        });
        let arn = put.await?.arn.unwrap_or_default();
        self.written.insert(name.to_owned(), arn);
        Ok(())
    }

    /// The ARN of the secret of this name.
    pub(super) async fn arn(&self, name: &str) -> Result<String> {
        if let Some(arn) = self.written.get(name) {
            return Ok(arn.clone());
        }
        match fetch_state::describe(self.session, name).await? {
            Some((arn, SecretState::There)) => Ok(arn),
            _ => Err(Error::new(Kind::NotFound, format!("there is no secret `{name}`"))),
        }
    }

    pub(super) async fn delete_secret(&self, name: &str) -> Result<StepOutcome> {
        let client = self.session.secrets();
        let deleted = self.session.call((SERVICE, "DeleteSecret"), || {
            let request = client.delete_secret().secret_id(name);
            async move {
                match request.send().await {
                    Err(e) if e.code() == Some("ResourceNotFoundException") => {
                        Ok(StepOutcome::Whole)
                    }
                    // the answer to an earlier attempt may have been lost
                    Err(e) if e.code() == Some(WRONG_STATE) => Ok(StepOutcome::Restorable(None)),
                    answer => answer.map(|told| {
                        let until = told.deletion_date;
                        let until = until.and_then(|at| SystemTime::try_from(at).ok());
                        StepOutcome::Restorable(until)
                    }),
                }
            }
        });
        let done = deleted.await?;
        if done != StepOutcome::Restorable(None) {
            return Ok(done);
        }
        match fetch_state::describe(self.session, name).await? {
            Some((_, SecretState::There)) => {
                let error = Error::new(Kind::Configuration, "AWS refuses to remove it as it is");
                Err(error.hint("a secret with replicas in other regions is removed after them"))
            }
            _ => Ok(done),
        }
    }
}

/// AWS takes a moment to let go of a name.
fn going() -> Error {
    let error = "a secret of this name was removed a moment ago, and AWS still keeps the name";
    Error::new(Kind::Unavailable, error).hint("run again in a minute")
}

/// The secret's text as ECR wants it.
fn document(login: &SecretLogin) -> SecretString {
    let token = login.access_token.expose_secret();
    json!({ "username": login.username, "accessToken": token }).to_string().into()
}
