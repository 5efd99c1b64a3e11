//! A user name and a password. `Debug` prints no secret.

use secrecy::{ExposeSecret, SecretString};

/// A user name with its password or access token.
#[derive(Debug, Clone)]
pub struct UserPassword {
    pub username: String,
    pub password: SecretString,
}

impl UserPassword {
    pub fn new(username: impl Into<String>, password: impl Into<SecretString>) -> Self {
        Self { username: username.into(), password: password.into() }
    }
}

impl PartialEq for UserPassword {
    fn eq(&self, other: &Self) -> bool {
        self.username == other.username
            && self.password.expose_secret() == other.password.expose_secret()
    }
}
