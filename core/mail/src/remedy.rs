//! Remedies for failed tests, by stage, error and connection settings.

use mailqos_config::{Endpoint, TlsMode};
use mailqos_model::Stage;

use super::{LoginRefusal, refusals};

/// Returns the likely remedy, if any. Refusals of large providers already include their
/// explanation.
pub fn remedy(stage: Stage, error: &str, endpoint: &Endpoint) -> Option<String> {
    use Stage::{
        PickupConnect, PickupGreeting, PickupLogin, PickupTls, SmtpAuth, SmtpConnect, SmtpGreeting,
        SmtpRcpt, SmtpTls,
    };
    let account = endpoint.account.as_ref().map_or("", |name| name.as_str());
    if let Some(remedy) = super::graph::remedy(error, account) {
        return Some(remedy);
    }
    if refusals::explain(error).is_some() {
        return None;
    }
    let failure = Failure { stage, error, lower: error.to_lowercase(), endpoint };
    match stage {
        SmtpConnect | PickupConnect => failure.connecting(),
        SmtpTls | PickupTls => failure.tls(),
        SmtpGreeting | PickupGreeting => failure.greeting(),
        SmtpAuth | PickupLogin => failure.login(),
        SmtpRcpt => failure.recipient(),
        _ => None,
    }
}

/// A failure at a stage of a session with a server.
struct Failure<'a> {
    stage: Stage,
    error: &'a str,
    /// The error in lower case.
    lower: String,
    endpoint: &'a Endpoint,
}

impl Failure<'_> {
    fn has(&self, text: &str) -> bool {
        self.lower.contains(text)
    }

    fn is_silent(&self) -> bool {
        self.has("no answer within")
    }

    /// Returns the usual ports of the server.
    fn usual(&self) -> &'static str {
        use Stage::{SmtpAuth, SmtpConnect, SmtpGreeting, SmtpRcpt, SmtpTls};
        if matches!(self.stage, SmtpConnect | SmtpTls | SmtpGreeting | SmtpAuth | SmtpRcpt) {
            "587 with tls = \"starttls\", 465 with tls = \"implicit\""
        } else {
            "995 (POP3) or 993 (IMAP) with tls = \"implicit\", 110 or 143 with tls = \"starttls\""
        }
    }

    fn connecting(&self) -> Option<String> {
        let (Endpoint { server, port, .. }, usual) = (self.endpoint, self.usual());
        let unresolved = self.has("could not be resolved");
        Some(
            if unresolved
                && (self.has("name server did not answer") || self.has("temporary failure"))
            {
                format!(
                    "this machine's name server does not answer, so the failure says nothing about {server}: check \
                     /etc/resolv.conf, and try: getent hosts {server}"
                )
            } else if unresolved {
                format!(
                    "check the spelling of {server}, and whether this machine can resolve names: getent hosts \
                     {server}"
                )
            } else if self.has("refused") {
                format!(
                    "nothing accepts connections on port {port}: check that the service is running and that \
                     the port is right (usual: {usual})"
                )
            } else if self.is_silent() || self.has("unreachable") {
                format!(
                    "a firewall on the path may drop connections to port {port}; check the port (usual: \
                     {usual})"
                )
            } else {
                return None;
            },
        )
    }

    fn tls(&self) -> Option<String> {
        let (Endpoint { server, port, tls, .. }, usual) = (self.endpoint, self.usual());
        Some(if self.has("does not speak tls") && *tls == TlsMode::Implicit {
            format!(
                "port {port} expects plaintext first: set tls = \"starttls\", or use another port (usual: \
                 {usual})"
            )
        } else if self.has("only in the common name") {
            "until the certificate is reissued, pin it with fingerprint".to_owned()
        } else if self.has("is not for the name") {
            "set server to a name in the certificate, or pin the certificate with fingerprint"
                .to_owned()
        } else if self.has("intermediate certificate") {
            let upgrade = if *tls == TlsMode::StartTls {
                format!(" -starttls {}", starttls(self.stage, *port))
            } else {
                String::new()
            };
            format!(
                "to see what the server sends, run: openssl s_client -connect {server}:{port} -showcerts{upgrade}"
            )
        } else if self.has("has expired") {
            "renew the certificate on the server".to_owned()
        } else if self.has("not the pinned one") {
            "if the certificate was renewed on purpose, update fingerprint in the configuration; if not, \
             someone may be intercepting the connection"
                .to_owned()
        } else {
            return None;
        })
    }

    fn greeting(&self) -> Option<String> {
        let (Endpoint { port, tls, .. }, usual) = (self.endpoint, self.usual());
        if self.has("which is not a") {
            let what = match () {
                () if self.has("sent \"+ok") => "a POP3 server",
                () if self.has("sent \"* ok") || self.has("sent \"* preauth") => "an IMAP server",
                () if self.has("sent \"220") => "an SMTP server",
                () if self.has("sent \"ssh-") => "an SSH server",
                () if self.has("sent \"http") => "a web server",
                () => "something else",
            };
            return Some(format!("{what} answers on port {port}; the usual ports are {usual}"));
        }
        if (self.is_silent() || self.has("closed the connection")) && *tls != TlsMode::Implicit {
            return Some(format!(
                "a server that expects TLS from the first byte waits silently: if port {port} uses implicit \
                 TLS, set tls = \"implicit\""
            ));
        }
        let is_full = self.stage == Stage::PickupGreeting
            && LoginRefusal::read(self.error) == LoginRefusal::Connections;
        if is_full { login_remedy(LoginRefusal::Connections, "") } else { None }
    }

    fn login(&self) -> Option<String> {
        if self.has("offers no authentication") && self.endpoint.tls == TlsMode::None {
            return Some(
                "most servers don't allow logins over an unencrypted connection: set tls = \"starttls\" or \
                 \"implicit\""
                    .to_owned(),
            );
        }
        if self.stage == Stage::SmtpAuth && self.has("offers no authentication") {
            return Some(format!("mail is usually submitted on another port: {}", self.usual()));
        }
        if self.is_silent() || self.has("did not end within") || self.has("not answered yet") {
            return Some(
                "many servers delay an address after failed logins: check the passwords of other monitors and \
                 programs on this machine, or raise the timeout to see the reply"
                    .to_owned(),
            );
        }
        let is_refusal =
            ["refused", "fail", "535", "invalid", "denied"].iter().any(|word| self.has(word))
                || self.error.starts_with(['4', '5']);
        if !is_refusal {
            return None;
        }
        let account = self.endpoint.account.as_ref().map_or("", |name| name.as_str());
        login_remedy(LoginRefusal::read(self.error), account)
    }

    fn recipient(&self) -> Option<String> {
        let relaying = ["relay", "denied", "authentication required"];
        if relaying.iter().any(|word| self.has(word)) || self.error.starts_with("530") {
            return Some(
                "the server does not accept mail for this address from this machine: give smtp an account, or \
                 allow this machine on the server"
                    .to_owned(),
            );
        }
        let unknown = ["5.1.1", "unknown", "no such"].iter().any(|word| self.has(word));
        unknown
            .then(|| "check that the mailbox in the monitor's to exists on this server".to_owned())
    }
}

/// Returns the protocol name that `openssl s_client -starttls` uses for a port.
fn starttls(stage: Stage, port: u16) -> &'static str {
    match (stage, port) {
        (Stage::SmtpTls, _) => "smtp",
        (_, 110) => "pop3",
        _ => "imap",
    }
}

/// Returns the remedy for a refused login. Only refused credentials are a reason to doubt the
/// password.
fn login_remedy(refusal: LoginRefusal, account: &str) -> Option<String> {
    let account = if account.is_empty() { String::new() } else { format!(" {account}") };
    Some(match refusal {
        LoginRefusal::Credentials => format!(
            "check user and password of the account{account}; some servers expect the full e-mail address as \
             user, or an app password"
        ),
        LoginRefusal::Mechanism => {
            format!(
                "set mechanisms = [\"PLAIN\"] (or another one that the server supports) in the \
                account{account}"
            )
        }
        LoginRefusal::Blocked => format!(
            "the account{account} may be locked, disabled or restricted by a policy, whatever its password is: \
             check its state on the server"
        ),
        LoginRefusal::TooOften => {
            "the server limits logins: raise test_interval, and check whether another program fails to log in \
             with this account or from this address"
                .to_owned()
        }
        LoginRefusal::Connections => {
            "too many connections to this server are open with this account or from this address: close some, \
             raise the server's limit, or spread the tests with limits = { per_server = … }"
                .to_owned()
        }
        LoginRefusal::InUse => {
            "another program has locked the mailbox: use a separate mailbox for the tests".to_owned()
        }
        LoginRefusal::Unavailable => {
            "the server could not check the login, for example because its directory or database is down: see \
             its log"
                .to_owned()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailqos_net::Trust;

    fn told(stage: Stage, error: &str, port: u16, tls: TlsMode) -> String {
        let endpoint = Endpoint {
            server: "mail.example.com".to_owned(),
            port,
            tls,
            trust: Trust::default(),
            account: Some("probe".parse().expect("a name")),
            helo: None,
            proxy: None,
        };
        remedy(stage, error, &endpoint).unwrap_or_default()
    }

    #[test]
    fn common_first_failures_have_a_remedy() {
        use Stage::{
            PickupConnect, PickupGreeting, PickupLogin, PickupTls, SmtpAuth, SmtpConnect,
            SmtpGreeting, SmtpRcpt, SmtpTls,
        };
        for (stage, error, port, tls, remedy) in [
            (
                SmtpConnect,
                "the name mail.example.com could not be resolved: x",
                587,
                TlsMode::StartTls,
                "check the spelling",
            ),
            (
                SmtpConnect,
                "the name mail.example.com could not be resolved: the name server did not answer within 4s",
                587,
                TlsMode::StartTls,
                "name server does not answer",
            ),
            (
                PickupConnect,
                "the name x could not be resolved: failed to lookup address information: Temporary failure in name resolution",
                995,
                TlsMode::Implicit,
                "name server does not answer",
            ),
            (
                PickupConnect,
                "no connection to mail.example.com port 996: Connection refused (os error 111)",
                996,
                TlsMode::Implicit,
                "port 996",
            ),
            (
                SmtpConnect,
                "no connection to mail.example.com port 587: no answer within 4s",
                587,
                TlsMode::StartTls,
                "firewall",
            ),
            (
                SmtpTls,
                "TLS: the server does not speak TLS on this port",
                587,
                TlsMode::Implicit,
                "starttls",
            ),
            (
                PickupTls,
                "TLS: the certificate is not for the name mail.example.com",
                995,
                TlsMode::Implicit,
                "a name in the certificate",
            ),
            (
                PickupTls,
                "TLS: the certificate's fingerprint is 00, not the pinned one",
                995,
                TlsMode::Implicit,
                "update fingerprint",
            ),
            (SmtpGreeting, "no answer within 4s", 465, TlsMode::StartTls, "tls = \"implicit\""),
            (
                PickupGreeting,
                "the server sent \"220 x\", which is not a POP3 reply",
                25,
                TlsMode::None,
                "an SMTP server answers on port 25",
            ),
            (
                PickupGreeting,
                "the server sent \"+OK ready\", which is not an IMAP response",
                995,
                TlsMode::Implicit,
                "a POP3 server answers on port 995",
            ),
            (
                SmtpRcpt,
                "554 5.7.1 <probe@example.com>: Recipient address rejected: Access denied",
                587,
                TlsMode::StartTls,
                "give smtp an account",
            ),
            (
                SmtpAuth,
                "an account is configured, but the server offers no authentication on this port",
                25,
                TlsMode::None,
                "unencrypted",
            ),
            (
                SmtpAuth,
                "535 5.7.8 Error: authentication failed",
                587,
                TlsMode::StartTls,
                "user and password",
            ),
            (
                PickupLogin,
                "login refused: [AUTHENTICATIONFAILED] Authentication failed.",
                993,
                TlsMode::Implicit,
                "user and password of the account probe",
            ),
            (
                PickupLogin,
                "login refused: [UNAVAILABLE] Temporary authentication failure.",
                993,
                TlsMode::Implicit,
                "could not check the login",
            ),
            (
                PickupLogin,
                "login refused: [AUTHENTICATIONFAILED] Account locked.",
                993,
                TlsMode::Implicit,
                "whatever its password is",
            ),
            (
                SmtpAuth,
                "454 4.7.0 Too many login failures",
                587,
                TlsMode::StartTls,
                "limits logins",
            ),
            (
                PickupGreeting,
                "connection refused: Maximum number of connections from this address reached",
                993,
                TlsMode::Implicit,
                "too many connections",
            ),
            (PickupLogin, "no answer within 4s", 993, TlsMode::Implicit, "after failed logins"),
        ] {
            let told = told(stage, error, port, tls);
            assert!(told.contains(remedy), "{stage} {error}: {told}");
        }
    }

    #[test]
    fn no_remedy_is_repeated_or_empty() {
        assert_eq!(told(Stage::SmtpAuth, "550 5.7.30 no", 587, TlsMode::StartTls), "");
        assert_eq!(told(Stage::SmtpData, "552 5.3.4 too large", 587, TlsMode::StartTls), "");
        assert_eq!(told(Stage::SmtpGreeting, "no answer within 4s", 465, TlsMode::Implicit), "");
    }
}
