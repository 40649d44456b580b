//! Logging in with an account of the configuration: the only source of [`Credentials`].
//!
//! Access tokens, failed mechanisms and rejected passwords are stored per account in this process,
//! not in the configuration. Monitors, alarms and reports share an account, and reloading the
//! configuration must not make them try a rejected password again.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_base::{SecretError, SecretSource};
use mailqos_config::{Account, Login};
use mailqos_model::Micros;

use super::{
    Credentials,
    oauth::{Fetched, OAuth, TokenError},
    sasl::Memory,
};

/// Maximum number of stored accounts; beyond it, unused ones are dropped.
const MAX_ACCOUNTS: usize = 20_000;

/// Reasons why credentials are not available. They never contain any part of the credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The password is not available.
    #[error("the password: {0}")]
    Password(#[from] SecretError),
    /// The access token is not available.
    #[error("the OAuth token: {0}")]
    Token(#[from] TokenError),
}

/// State of an account's logins in this process.
#[derive(Debug)]
struct AccountState {
    memory: Arc<Memory>,
    login: LiveLogin,
}

#[derive(Debug)]
enum LiveLogin {
    Password(SecretSource),
    OAuth(Arc<OAuth>),
}

/// The accounts that this process has logged in with.
static LIVE: LazyLock<Mutex<HashMap<Account, Arc<AccountState>>>> = LazyLock::new(Mutex::default);

fn live(account: &Account) -> Arc<AccountState> {
    let mut accounts = LIVE.lock().ignore_poison();
    if let Some(live) = accounts.get(account) {
        return live.clone();
    }
    if accounts.len() >= MAX_ACCOUNTS {
        accounts.retain(|_, live| Arc::strong_count(&live.memory) > 1);
    }
    let live = Arc::new(AccountState {
        memory: Arc::default(),
        login: match &account.login {
            Login::Password(source) => LiveLogin::Password(source.clone()),
            Login::OAuth(options) => {
                LiveLogin::OAuth(Arc::new(OAuth::new(options.as_ref().clone())))
            }
        },
    });
    accounts.insert(account.clone(), live.clone());
    live
}

/// Drops the state of an account's logins, as the end of the process does.
pub fn forget(account: &Account) {
    LIVE.lock().ignore_poison().remove(account);
}

/// Obtains the credentials of an account.
///
/// # Errors
/// The password or token is not available.
pub async fn credentials(account: &Account) -> Result<Credentials, CredentialError> {
    let live = live(account);
    let mut credentials = match &live.login {
        LiveLogin::Password(source) => Credentials::password(&account.user, source.fetch().await?),
        LiveLogin::OAuth(oauth) => token(&account.user, oauth, oauth.token().await?),
    }
    .remembering(&live.memory);
    credentials.only.clone_from(&account.mechanisms);
    Ok(credentials)
}

fn token(user: &str, oauth: &Arc<OAuth>, Fetched { token, fresh, took }: Fetched) -> Credentials {
    Credentials {
        renewal: Some((oauth.clone(), fresh)),
        took: took.map(Micros::from),
        ..Credentials::token(user, token)
    }
}

impl Credentials {
    /// Returns unused credentials. The next caller that obtains them also gets the time that
    /// obtaining the token took.
    pub async fn hand_back(self) {
        if let (Some(took), Some((oauth, _))) = (self.took, self.renewal) {
            oauth.note_took(took.to_std()).await;
        }
    }

    /// Returns new credentials to replace a rejected token, which may have been revoked; `None` if
    /// others would not help.
    ///
    /// # Errors
    /// New credentials are required but not available.
    pub async fn renewed(&self) -> Option<Result<Self, CredentialError>> {
        let (oauth, fresh) = self.renewal.as_ref()?;
        let rejected = Fetched { token: self.secret.clone(), fresh: *fresh, took: None };
        Some(match oauth.replace(&rejected).await? {
            Ok(fetched) => Ok(Self {
                renewal: Some((oauth.clone(), true)),
                took: fetched.took.map(Micros::from),
                secret: fetched.token,
                ..self.clone()
            }),
            Err(error) => Err(error.into()),
        })
    }
}
