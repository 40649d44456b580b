//! Reasons for refused logins. Only some of them concern the credentials, and only some justify
//! trying another mechanism. Each failed login counts towards the lockout threshold of the account
//! (Active Directory: 5 or 10), so rejected credentials are not tried again.

/// Reason for a refused login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LoginRefusal {
    /// The server rejected the credentials, or gave no other reason.
    Credentials,
    /// The mechanism is not available, or failed for a technical reason; another one may succeed.
    Mechanism,
    /// The account is locked, disabled or expired, or a policy forbids this login; the password may
    /// be right.
    Blocked,
    /// Too many logins, or too many failed logins, in a short time.
    TooOften,
    /// Too many simultaneous connections.
    Connections,
    /// Another session has locked the mailbox.
    InUse,
    /// The server is temporarily unable to check the credentials.
    Unavailable,
}

/// Response codes of IMAP (RFC 5530) and POP3 (RFC 2449, RFC 3206) that concern a login.
const CODES: [(&str, LoginRefusal); 19] = [
    ("AUTHENTICATIONFAILED", LoginRefusal::Credentials),
    ("AUTH", LoginRefusal::Credentials),
    ("AUTHORIZATIONFAILED", LoginRefusal::Blocked),
    ("EXPIRED", LoginRefusal::Blocked),
    ("CONTACTADMIN", LoginRefusal::Blocked),
    ("NOPERM", LoginRefusal::Blocked),
    ("WEBALERT", LoginRefusal::Blocked),
    ("PRIVACYREQUIRED", LoginRefusal::Mechanism),
    ("CANNOT", LoginRefusal::Mechanism),
    ("UNAVAILABLE", LoginRefusal::Unavailable),
    ("SERVERBUG", LoginRefusal::Unavailable),
    ("TEMPFAIL", LoginRefusal::Unavailable),
    ("SYS/TEMP", LoginRefusal::Unavailable),
    ("SYS/PERM", LoginRefusal::Unavailable),
    ("LIMIT", LoginRefusal::TooOften),
    ("LOGIN-DELAY", LoginRefusal::TooOften),
    ("THROTTLED", LoginRefusal::TooOften),
    ("IN-USE", LoginRefusal::InUse),
    ("INUSE", LoginRefusal::InUse),
];

impl LoginRefusal {
    /// Classifies a refusal: an SMTP reply with its code, or the text of an IMAP or POP3 response
    /// with its code in brackets.
    pub fn read(text: &str) -> Self {
        let lower = text.to_ascii_lowercase();
        let lower = lower.rsplit_once(" refused: ").map_or(&*lower, |(_, reason)| reason);
        let words = by_words(lower);
        let code = code(text);
        match (code, words) {
            // Dovecot uses IN-USE and UNAVAILABLE, and Yahoo uses LIMIT, for too many connections
            // as well as too many logins.
            (Some(code), Some(words))
                if words.is_about_load()
                    || words == Self::Blocked
                        && matches!(code, Self::Credentials | Self::Unavailable) =>
            {
                words
            }
            (Some(code), _) => code,
            (None, Some(words)) => words,
            (None, None) => by_reply_code(lower),
        }
    }

    fn is_about_load(self) -> bool {
        matches!(self, Self::TooOften | Self::Connections)
    }

    /// Returns whether another mechanism may succeed in the same session.
    pub fn leaves_other_mechanisms(self) -> bool {
        self == Self::Mechanism
    }

    /// Returns whether another login before something changes would do harm, so that it is left to
    /// the next test.
    pub fn waits_for_next_test(self) -> bool {
        matches!(self, Self::Credentials | Self::Blocked | Self::TooOften | Self::Mechanism)
    }
}

fn code(text: &str) -> Option<LoginRefusal> {
    let upper = text.to_ascii_uppercase();
    let inner = upper.split('[').skip(1).filter_map(|rest| rest.split([']', ' ']).next());
    inner
        .filter_map(|word| CODES.iter().find(|(known, _)| *known == word))
        .map(|(_, refusal)| *refusal)
        .next()
}

/// Phrases for an exceeded number of logins, attempts or connections.
const MANY: [&str; 8] =
    ["too many", "maximum", "max ", "exceed", "limit", "too frequent", "too often", "frequently"];
/// Phrases for a wrong user name or password.
const CREDENTIALS: [&str; 13] = [
    "invalid credential",
    "incorrect password",
    "password is incorrect",
    "password incorrect",
    "wrong password",
    "invalid password",
    "bad password",
    "invalid user",
    "invalid login",
    "unknown user",
    "username or password",
    "user name or password",
    "username and password",
];
/// Words that relate an exceeded number to logins.
const ATTEMPTS: [&str; 9] =
    ["attempt", "fail", "invalid", "incorrect", "wrong", "error", "rate", "frequen", "often"];
/// Words for a mailbox that another session may have locked.
const MAILBOX: [&str; 8] =
    ["mailbox", "maildrop", "mail drop", "mail-drop", "folder", "spool", "inbox", "another"];
/// Phrases for an account that may not log in, or not by this method.
const BLOCKED: [&str; 23] = [
    "locked",
    "lockout",
    "suspended",
    "frozen",
    "deactivated",
    "inactive",
    "expired",
    "must change",
    "is disabled for",
    "account disabled",
    "account is disabled",
    "account has been disabled",
    "account is blocked",
    "account blocked",
    "not enabled for",
    "access is disabled",
    "application-specific password",
    "web browser",
    "basicauthblocked",
    "basic authentication is",
    "authenticated but not connected",
    "security defaults",
    "did not meet the criteria",
];
/// Phrases for a mechanism or command that the server does not accept.
const MECHANISM: [&str; 22] = [
    "mechanism",
    "unsupported",
    "not supported",
    "unrecognized auth",
    "unknown auth",
    "disallowed",
    "plaintext",
    "plain text",
    "clear text",
    "cleartext",
    "unknown command",
    "unrecognized command",
    "unrecognised command",
    "invalid command",
    "bad command",
    "command not",
    "not implemented",
    "syntax",
    "parse",
    "argument",
    "encryption required",
    "under a layer",
];
/// Phrases for a failure of the server itself.
const UNAVAILABLE: [&str; 16] = [
    "temporar",
    "later",
    "unavailable",
    "internal",
    "server error",
    "system error",
    "generic failure",
    "cannot connect",
    "can't connect",
    "unable to connect",
    "unable to contact",
    "database",
    "overload",
    "timed out",
    "timeout",
    "busy",
];

/// Classifies a refusal by its text in lower case; `None` if the text is not specific.
fn by_words(text: &str) -> Option<LoginRefusal> {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let many = has(&MANY);
    if many && has(&["simultaneous", "concurrent"]) {
        return Some(LoginRefusal::Connections);
    }
    let too_many = has(&["too many", "exceed", "too frequent", "too often"]);
    if has(&CREDENTIALS) && !too_many && !has(&["locked", "disabled"]) {
        return Some(LoginRefusal::Credentials);
    }
    if many && has(&ATTEMPTS) {
        return Some(LoginRefusal::TooOften);
    }
    if many && has(&["connection", "session", "clients"]) {
        return Some(LoginRefusal::Connections);
    }
    if too_many && has(&["login", "logon", "auth", "log in"]) || has(&["throttl"]) {
        return Some(LoginRefusal::TooOften);
    }
    if has(&MAILBOX) && has(&["lock", "in use", "busy", "being used"])
        || has(&["already in use", "already logged in"])
    {
        return Some(LoginRefusal::InUse);
    }
    if has(&BLOCKED) {
        return Some(LoginRefusal::Blocked);
    }
    if has(&MECHANISM) {
        return Some(LoginRefusal::Mechanism);
    }
    has(&UNAVAILABLE).then_some(LoginRefusal::Unavailable)
}

/// Classifies a refusal by the code of an SMTP reply (RFC 4954, section 6). A missing or unspecific
/// code counts as wrong credentials.
fn by_reply_code(text: &str) -> LoginRefusal {
    let mut words = text.split_whitespace();
    let code: Option<u16> =
        words.next().filter(|word| word.len() == 3).and_then(|word| word.parse().ok());
    match code {
        // The user must log in once by PLAIN, so that the server can create the data that this
        // mechanism needs.
        Some(432) if words.next().is_none_or(|status| status == "4.7.12") => {
            LoginRefusal::Mechanism
        }
        Some(500..=504 | 534 | 538) => LoginRefusal::Mechanism,
        Some(530) => LoginRefusal::Blocked,
        Some(400..=499) => LoginRefusal::Unavailable,
        _ => LoginRefusal::Credentials,
    }
}

#[cfg(test)]
mod tests {
    use super::{LoginRefusal::*, *};
    use proptest::prelude::*;

    #[test]
    fn a_refusal_is_classified_by_code_and_text() {
        for (text, expected) in [
            // Dovecot.
            ("[AUTHENTICATIONFAILED] Authentication failed.", Credentials),
            ("[AUTH] Authentication failed.", Credentials),
            (
                "[UNAVAILABLE] Temporary authentication failure. [mail:2026-11-30 10:00:00]",
                Unavailable,
            ),
            ("[SYS/TEMP] Temporary authentication failure.", Unavailable),
            (
                "[UNAVAILABLE] Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)",
                Connections,
            ),
            (
                "[IN-USE] Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)",
                Connections,
            ),
            ("[IN-USE] Mailbox is locked by another POP3 session", InUse),
            (
                "[PRIVACYREQUIRED] Plaintext authentication disallowed on non-secure connections.",
                Mechanism,
            ),
            ("[EXPIRED] Password expired.", Blocked),
            // Exchange and Microsoft 365.
            ("AUTHENTICATE failed.", Credentials),
            ("LOGIN failed.", Credentials),
            ("Logon failure: unknown user name or bad password.", Credentials),
            ("User is authenticated but not connected.", Blocked),
            ("535 5.7.3 Authentication unsuccessful", Credentials),
            (
                "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.",
                Blocked,
            ),
            (
                "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy.",
                Blocked,
            ),
            ("550 5.7.30 Basic authentication is not supported for Client Submission.", Blocked),
            ("504 5.7.4 Unrecognized authentication type", Mechanism),
            ("432 4.3.2 Concurrent connections limit exceeded.", Connections),
            ("432 4.7.12 A password transition is needed", Mechanism),
            // Gmail.
            ("[AUTHENTICATIONFAILED] Invalid credentials (Failure)", Credentials),
            ("[ALERT] Invalid credentials (Failure)", Credentials),
            ("[ALERT] Too many simultaneous connections. (Failure)", Connections),
            (
                "[ALERT] Application-specific password required: https://support.google.com/accounts (Failure)",
                Blocked,
            ),
            (
                "[ALERT] Please log in via your web browser: https://support.google.com/mail (Failure)",
                Blocked,
            ),
            ("[WEBALERT https://accounts.google.com/signin] Web login required.", Blocked),
            (
                "535 5.7.8 Username and Password not accepted. For more information, go to support.google.com",
                Credentials,
            ),
            ("534 5.7.9 Application-specific password required.", Blocked),
            ("454 4.7.0 Too many login attempts, please try again later.", TooOften),
            // iCloud, and temporary problems elsewhere (mailcore2/pull/1642, mailpile/pull/2242,
            // node-imap/issues/340).
            ("[UNAVAILABLE] Service temporarily unavailable", Unavailable),
            ("System error", Unavailable),
            ("[TEMPFAIL] Temporary failure on server [CODE: WBL]", Unavailable),
            // Yahoo.
            ("[LIMIT] LOGIN Rate limit hit.", TooOften),
            ("[SERVERBUG] LOGIN Server error - Please try again later", Unavailable),
            ("[AUTHENTICATIONFAILED] LOGIN Invalid credentials", Credentials),
            ("[IN-USE] Too many connections", Connections),
            // Courier, hMailServer, qmail, Cyrus, Zimbra, MDaemon, NetEase, Tencent, Postfix.
            ("Login failed.", Credentials),
            ("Temporary problem, please try again later", Unavailable),
            ("Maximum number of connections from this address reached", Connections),
            (
                "Invalid user name or password. Please use full email address as user name.",
                Credentials,
            ),
            ("Too many invalid logon attempts.", TooOften),
            ("authorization failed", Credentials),
            ("this user has no $HOME/Maildir", Credentials),
            ("Login failed: authentication failure", Credentials),
            ("no mechanism available", Mechanism),
            ("Login only available under a layer", Mechanism),
            ("[AUTHENTICATIONFAILED] account is locked", Blocked),
            ("Account is frozen", Blocked),
            ("Unable to log on", Credentials),
            (
                "Login fail. Account is abnormal, service is not open, password is incorrect, login frequency limited, or \
                 system is busy.",
                Credentials,
            ),
            ("535 5.7.8 Error: authentication failed: no mechanism available", Mechanism),
            ("535 5.7.8 Error: authentication failed: generic failure", Unavailable),
            ("535 5.7.8 Error: authentication failed: authentication failure", Credentials),
            (
                "454 4.7.0 Temporary authentication failure: Connection lost to authentication server",
                Unavailable,
            ),
            ("421 4.7.0 Too many errors on this connection", TooOften),
            ("530 5.7.0 Must issue a STARTTLS command first", Blocked),
            ("538 5.7.11 Encryption required for requested authentication mechanism", Mechanism),
            ("501 5.5.2 Cannot decode response", Mechanism),
            ("535 Incorrect authentication data", Credentials),
            ("login refused: [AUTHENTICATIONFAILED] Authentication failed.", Credentials),
            // Temporarily locked accounts, whatever the code.
            ("535 5.7.3 Authentication unsuccessful, account temporarily locked", Blocked),
            ("454 4.7.0 Account temporarily locked out", Blocked),
            ("[UNAVAILABLE] Account temporarily locked", Blocked),
            ("[SYS/TEMP] Account locked, try again later", Blocked),
            ("[SYS/TEMP] Mailbox is locked", Unavailable),
            ("421 4.7.0 Too many failed login attempts, closing connection", TooOften),
            ("421 4.7.0 Service not available", Unavailable),
            ("454 4.7.0 Authentication failed", Unavailable),
            ("[CONTACTADMIN] Ask your administrator", Blocked),
            ("[EXPIRED] Authentication failed", Blocked),
            ("[UNAVAILABLE] Authentication failed", Unavailable),
            ("[LIMIT] Too many connections", Connections),
            ("Too many connections", Connections),
            ("-ERR", Credentials),
            ("", Credentials),
        ] {
            assert_eq!(LoginRefusal::read(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_classified_without_a_panic(text in ".{0,200}") {
            let _ = LoginRefusal::read(&text);
        }

        #[test]
        fn a_code_for_load_never_means_a_wrong_password(
            code in prop_oneof![Just("UNAVAILABLE"), Just("SYS/TEMP"), Just("LIMIT"), Just("IN-USE"), Just("LOGIN-DELAY")],
            words in "[a-zA-Z ]{0,60}",
        ) {
            let refusal = LoginRefusal::read(&format!("[{code}] {words}"));
            prop_assert!(!matches!(refusal, Credentials | Mechanism), "{refusal:?}");
        }
    }
}
