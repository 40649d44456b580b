//! Names of SASL mechanisms (RFC 4422), which the mail crate implements.

use mailqos_model::words;

words!(
    /// An authentication mechanism, best ones first.
    Mechanism, "SASL mechanism" {
        /// RFC 7677: the password is not transmitted, and the server proves that it knows it.
        ScramSha256 = "SCRAM-SHA-256",
        /// PLAIN (RFC 4616).
        Plain = "PLAIN",
        /// draft-murchison-sasl-login: obsolete, but some servers offer nothing else.
        Login = "LOGIN",
        /// RFC 7628: an OAuth 2.0 access token.
        OAuthBearer = "OAUTHBEARER",
        /// The form that Google and Microsoft used before the standard.
        XOAuth2 = "XOAUTH2",
    }
);

impl Mechanism {
    /// Returns whether it takes an access token rather than a password.
    pub fn takes_token(self) -> bool {
        matches!(self, Self::OAuthBearer | Self::XOAuth2)
    }
}
