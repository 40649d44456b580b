//! What an account logs in with: the one way from the configuration to [`Credentials`].

use std::sync::Arc;

use super::{
    Credentials, SecretError, SecretSource,
    oauth::{Fetched, OAuth, TokenError},
};
use crate::config::Account;

/// With what an account logs in.
#[derive(Debug, Clone)]
pub enum Login {
    /// A password, which is fetched when it is used.
    Password(SecretSource),
    /// Access tokens; all copies of the account share them.
    OAuth(Arc<OAuth>),
}

/// Why there are no credentials. Never contains any of them.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The password could not be had.
    #[error("the password: {0}")]
    Password(#[from] SecretError),
    /// The access token could not be had.
    #[error("the OAuth token: {0}")]
    Token(#[from] TokenError),
}

impl Account {
    /// Fetches what is needed to log in.
    ///
    /// # Errors
    /// When it can't be had.
    pub async fn credentials(&self) -> Result<Credentials, CredentialError> {
        let credentials = match &self.login {
            Login::Password(source) => Credentials::password(&self.user, source.fetch().await?),
            Login::OAuth(oauth) => token(&self.user, oauth, oauth.token().await?),
        };
        let mut credentials = credentials.remembering(&self.memory);
        credentials.only.clone_from(&self.mechanisms);
        Ok(credentials)
    }

    /// How it gets its tokens, where it has tokens.
    pub fn oauth(&self) -> Option<&OAuth> {
        match &self.login {
            Login::Password(_) => None,
            Login::OAuth(oauth) => Some(oauth),
        }
    }
}

fn token(user: &str, oauth: &Arc<OAuth>, Fetched { token, fresh }: Fetched) -> Credentials {
    Credentials {
        renewal: Some((oauth.clone(), fresh)),
        ..Credentials::token(user, token)
    }
}

impl Credentials {
    /// Others in place of a token that the server rejected: it may have been revoked. `None` where others would not help.
    ///
    /// # Errors
    /// When there should be others, and none are to be had.
    pub async fn renewed(&self) -> Option<Result<Self, CredentialError>> {
        let (oauth, fresh) = self.renewal.as_ref()?;
        let rejected = Fetched {
            token: self.secret.clone(),
            fresh: *fresh,
        };
        Some(match oauth.replace(&rejected).await? {
            Ok(fetched) => Ok(Self {
                renewal: Some((oauth.clone(), true)),
                secret: fetched.token,
                ..self.clone()
            }),
            Err(error) => Err(error.into()),
        })
    }
}
