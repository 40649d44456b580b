//! Names of SASL mechanisms (RFC 4422), which the mail crate implements.

use std::{fmt, str::FromStr};

/// An authentication mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// RFC 7677: the password is not transmitted, and the server proves that it knows it.
    ScramSha256,
    /// PLAIN (RFC 4616).
    Plain,
    /// draft-murchison-sasl-login: obsolete, but some servers offer nothing else.
    Login,
    /// RFC 7628: an OAuth 2.0 access token.
    OAuthBearer,
    /// The form that Google and Microsoft used before the standard.
    XOAuth2,
}

/// All mechanisms, in order of preference.
pub const MECHANISMS: [Mechanism; 5] = [
    Mechanism::ScramSha256,
    Mechanism::Plain,
    Mechanism::Login,
    Mechanism::OAuthBearer,
    Mechanism::XOAuth2,
];

impl Mechanism {
    /// Returns the name as used by servers and in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::OAuthBearer => "OAUTHBEARER",
            Self::XOAuth2 => "XOAUTH2",
        }
    }

    /// Returns whether it takes an access token rather than a password.
    pub fn takes_token(self) -> bool {
        matches!(self, Self::OAuthBearer | Self::XOAuth2)
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mechanism {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let found =
            MECHANISMS.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(text));
        found.ok_or(())
    }
}
