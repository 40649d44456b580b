//! Mail providers whose servers are known, for `init`.

use std::fmt;

use super::servers::Role;

/// Port and encryption of a server.
type Port = (u16, &'static str);

/// A mail provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Preset {
    /// Word on the command line.
    pub(super) word: &'static str,
    title: &'static str,
    /// SMTP server for submission with login.
    pub(super) smtp: (&'static str, Port),
    /// IMAP server with implicit TLS.
    imap: &'static str,
    /// POP3 server with implicit TLS.
    pop3: &'static str,
    /// Whether it accepts tokens, with its word as `oauth.preset`, and whether it also accepts
    /// passwords.
    pub(super) oauth: Option<Tokens>,
    /// Setup hint.
    pub(super) hint: &'static str,
}

/// Logins that a provider accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tokens {
    /// Tokens only.
    Only,
    /// Tokens, or passwords made for one program.
    OrPassword,
}

const SUBMISSION: Port = (587, "starttls");
const SMTPS: Port = (465, "implicit");
const IMAPS: Port = (993, "implicit");
const POP3S: Port = (995, "implicit");

/// All presets.
pub(super) const PRESETS: [Preset; 7] = [
    Preset {
        word: "microsoft-365",
        title: "Microsoft 365",
        smtp: ("smtp.office365.com", SUBMISSION),
        imap: "outlook.office365.com",
        pop3: "outlook.office365.com",
        oauth: Some(Tokens::Only),
        hint: "register an application in Entra ID with the permissions SMTP.SendAsApp and IMAP.AccessAsApp (or POP.AccessAsApp), give it access to the mailbox, and allow authenticated SMTP for the mailbox",
    },
    Preset {
        word: "google-workspace",
        title: "Google Workspace, Gmail",
        smtp: ("smtp.gmail.com", SUBMISSION),
        imap: "imap.gmail.com",
        pop3: "pop.gmail.com",
        oauth: Some(Tokens::OrPassword),
        hint: "create an OAuth client with a refresh token for the scope https://mail.google.com/, or an app \
            password (requires two-step verification)",
    },
    Preset {
        word: "fastmail",
        title: "Fastmail",
        smtp: ("smtp.fastmail.com", SMTPS),
        imap: "imap.fastmail.com",
        pop3: "pop.fastmail.com",
        oauth: None,
        hint: "create an app password under Settings, Privacy & Security",
    },
    Preset {
        word: "yahoo",
        title: "Yahoo Mail",
        smtp: ("smtp.mail.yahoo.com", SMTPS),
        imap: "imap.mail.yahoo.com",
        pop3: "pop.mail.yahoo.com",
        oauth: None,
        hint: "create an app password under Account security",
    },
    Preset {
        word: "zoho",
        title: "Zoho Mail",
        smtp: ("smtp.zoho.com", SMTPS),
        imap: "imap.zoho.com",
        pop3: "pop.zoho.com",
        oauth: None,
        hint: "enable IMAP or POP in the settings; with two-step verification, create an app password; other \
            regions use other servers (zoho.eu, zoho.in)",
    },
    Preset {
        word: "gmx",
        title: "GMX",
        smtp: ("mail.gmx.net", SUBMISSION),
        imap: "imap.gmx.net",
        pop3: "pop.gmx.net",
        oauth: None,
        hint: "enable IMAP and POP3 in the settings",
    },
    Preset {
        word: "ionos",
        title: "IONOS",
        smtp: ("smtp.ionos.com", SMTPS),
        imap: "imap.ionos.com",
        pop3: "pop.ionos.com",
        oauth: None,
        hint: "use the password of the mailbox; other countries use other servers (ionos.de, ionos.fr)",
    },
];

/// Word for a server without a preset.
const OTHER: &str = "other";

/// Returns the names on the command line.
pub(in crate::commands) fn words() -> Vec<&'static str> {
    std::iter::once(OTHER).chain(PRESETS.iter().map(|preset| preset.word)).collect()
}

impl Preset {
    /// Returns the mailbox server.
    pub(super) fn pickup(&self, role: Role) -> (&'static str, Port) {
        if role == Role::Imap { (self.imap, IMAPS) } else { (self.pop3, POP3S) }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title)
    }
}
