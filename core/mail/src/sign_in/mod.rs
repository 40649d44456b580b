//! Sign-in by a person, which yields a refresh token: by device code (RFC 8628), or by authorisation
//! code with PKCE over a loopback redirect (RFC 7636, RFC 8252). Google grants no mail scope to
//! device codes, and tenants of Microsoft may block them, so both are needed.
//!
//! This module prints nothing and reads no terminal.

mod code;
mod device;
mod identity;
mod loopback;
mod requests;

pub(crate) use requests::lifetime;

use std::time::Duration;

use mailqos_base::{Secret, SecretError};
use mailqos_config::OAuthOptions;
use mailqos_net::{
    Trust,
    http::{HttpError, Route},
};

pub use code::{Authorization, pasted_code};
pub use device::DeviceCode;
pub use identity::{Identity, Match};
pub use loopback::Loopback;

/// Scopes that don't concern mail: they make the provider state who signed in, and issue a refresh
/// token.
const SIGN_IN_SCOPES: [&str; 4] = ["openid", "email", "profile", "offline_access"];
/// How long a person may take to sign in with a browser.
pub const MAX_SIGN_IN: Duration = Duration::from_secs(15 * 60);

/// Reasons why a sign-in failed. They never contain a secret.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The client secret is not available.
    #[error("the client secret: {0}")]
    ClientSecret(SecretError),
    /// The address of the proxy is not available.
    #[error("the address of the proxy: {0}")]
    Proxy(SecretError),
    /// The provider has no address for this kind of sign-in.
    #[error("the address for this kind of sign-in is not known: set {0}")]
    NoAddress(&'static str),
    /// A server could not be reached, or did not answer.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// The answer is not that of an OAuth 2.0 server.
    #[error("{server} did not return a valid OAuth 2.0 response: {reason}")]
    Unreadable {
        /// Host and port.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The provider refused.
    #[error("the sign-in was refused ({code}): {text}")]
    Refused {
        /// The error's name, such as `invalid_client`.
        code: String,
        /// Its meaning, or the server's text.
        text: String,
    },
    /// The person declined, or did not grant all permissions.
    #[error("the sign-in was declined, or consent was refused; nothing was stored")]
    Declined,
    /// No one signed in before the code expired.
    #[error("no one signed in before the code expired; start again")]
    Expired,
    /// The permissions are not complete.
    #[error(
        "these permissions were not granted: {0}; sign in again and leave all of them selected"
    )]
    MissingScope(String),
    /// The provider issued no refresh token.
    #[error(
        "the provider issued no refresh token, so tests could run for an hour at most; allow the \
         application access without the user (scope offline_access), and sign in again"
    )]
    NoRefreshToken,
    /// The state of a redirect is not that of this sign-in.
    #[error(
        "this address belongs to another sign-in (its state differs); paste the one of this sign-in"
    )]
    OtherState,
    /// What was pasted is neither an address nor a code.
    #[error("this is neither a code nor an address that contains one")]
    NotACode,
    /// The provider's statement of who signed in is not for this application or tenant.
    #[error("{0}")]
    Identity(String),
    /// This machine can't do it.
    #[error("{0}")]
    System(String),
}

/// The tokens and claims that a sign-in yields.
#[derive(Debug, Clone)]
pub struct Granted {
    /// The refresh token.
    pub refresh_token: Secret,
    /// The person who signed in, if the provider states it.
    pub identity: Option<Identity>,
    /// How long the sign-in stays valid, if the provider states it.
    pub lifetime: Option<Duration>,
}

/// A client that signs a person in.
#[derive(Clone)]
pub struct SignIn {
    client_id: String,
    client_secret: Option<Secret>,
    scope: String,
    token_url: String,
    authorize_url: Option<String>,
    device_url: Option<String>,
    trust: Trust,
    route: Route,
}

impl SignIn {
    /// Prepares the sign-in of an account.
    ///
    /// # Errors
    /// The client secret or the proxy is not available.
    pub async fn new(options: &OAuthOptions) -> Result<Self, SignInError> {
        let client_secret = match &options.client_secret {
            Some(source) => Some(source.fetch().await.map_err(SignInError::ClientSecret)?),
            None => None,
        };
        Ok(Self {
            client_id: options.client_id.clone(),
            client_secret,
            scope: with_sign_in_scopes(
                options.scope.as_deref().unwrap_or_default(),
                &options.token_url,
            ),
            token_url: options.token_url.clone(),
            authorize_url: options.authorize_url.clone(),
            device_url: options.device_url.clone(),
            trust: options.trust.clone(),
            route: options.proxy.via().await.map_err(SignInError::Proxy)?,
        })
    }

    /// Whether the provider issues device codes.
    pub fn has_device_codes(&self) -> bool {
        self.device_url.is_some()
    }

    /// Whether the token server is one of Microsoft Entra.
    fn is_microsoft(&self) -> bool {
        self.token_url.ends_with(ENTRA_TOKEN)
    }
}

/// A sign-in that is valid for less is extended by each use, or ends too soon to be of use.
const MIN_LIFETIME: Duration = Duration::from_secs(86_400);

/// Returns the day on which a sign-in ends, such as `2027-01-31`; `None` if it has no fixed end.
pub fn last_day(lifetime: Duration) -> Option<String> {
    let lifetime = Some(lifetime).filter(|lifetime| *lifetime >= MIN_LIFETIME)?;
    let seconds = i64::try_from(lifetime.as_secs()).ok()?;
    let end = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_secs(seconds)).ok()?;
    Some(end.to_zoned_datetime(jiff::tz::TimeZone::UTC).date().to_string())
}

/// Reads the statement of who signed in, for the fuzz targets.
///
/// # Errors
/// It is not valid, or not for this client.
#[cfg(feature = "test-hooks")]
pub fn replay_identity(token: &str, client_id: &str) -> Result<Identity, SignInError> {
    Identity::read(token, client_id)
}

/// End of the address of a token server of Microsoft Entra.
const ENTRA_TOKEN: &str = "/oauth2/v2.0/token";

/// Adds the scopes for the person's name. Google wants no `offline_access` (its parameter
/// `access_type` has that purpose) and calls a request with it invalid.
fn with_sign_in_scopes(scope: &str, token_url: &str) -> String {
    let mut scopes: Vec<&str> = scope.split_whitespace().collect();
    let is_google = token_url.contains("googleapis.com");
    for more in SIGN_IN_SCOPES {
        let is_foreign = is_google && matches!(more, "offline_access" | "profile");
        if !scopes.contains(&more) && !is_foreign {
            scopes.push(more);
        }
    }
    scopes.join(" ")
}

/// The requested scopes that were not granted. Microsoft names the resource in other ways than it
/// was asked (`outlook.office365.com`), so only the permission itself is compared.
fn missing_scopes(requested: &str, granted: &str) -> Vec<String> {
    let permission = |scope: &str| {
        let scope = scope.trim_end_matches('/');
        scope.rsplit('/').next().unwrap_or(scope).to_lowercase()
    };
    let granted: Vec<String> = granted.split_whitespace().map(permission).collect();
    requested
        .split_whitespace()
        .filter(|scope| !SIGN_IN_SCOPES.contains(scope) && !scope.ends_with("/.default"))
        .filter(|scope| !granted.contains(&permission(scope)))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_completed_and_compared_by_permission() {
        let google =
            with_sign_in_scopes("https://mail.google.com/", "https://oauth2.googleapis.com/token");
        assert_eq!(google, "https://mail.google.com/ openid email");
        let outlook = "https://outlook.office.com/IMAP.AccessAsUser.All offline_access";
        let entra =
            with_sign_in_scopes(outlook, "https://login.microsoftonline.com/t/oauth2/v2.0/token");
        assert_eq!(entra, format!("{outlook} openid email profile"));
        assert!(
            missing_scopes(&entra, "https://outlook.office365.com/imap.accessasuser.all")
                .is_empty()
        );
        assert!(missing_scopes(&google, "openid https://mail.google.com/").is_empty());
        // Google's consent page has a box for each permission.
        assert_eq!(missing_scopes(&google, "openid email"), ["https://mail.google.com/"]);
    }
}
