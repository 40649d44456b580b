//! Mail providers whose servers are known, for `init`.

use std::fmt;

use super::servers::Role;

/// Port and encryption of a server.
type Port = (u16, &'static str);

/// A provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Preset {
    /// Its word on the command line.
    pub(super) word: &'static str,
    title: &'static str,
    /// Its SMTP server for those who log in.
    pub(super) smtp: (&'static str, Port),
    /// Its IMAP server; all of these take TLS from the first byte.
    imap: &'static str,
    /// Its POP3 server, likewise.
    pop3: &'static str,
    /// It takes tokens, under its word as `oauth.preset`; and only tokens, or passwords as well.
    pub(super) oauth: Option<Tokens>,
    /// What whoever sets it up should know.
    pub(super) hint: &'static str,
}

/// Which log-in a provider wants.
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

/// All of them.
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
        hint: "an OAuth client with a refresh token for the scope https://mail.google.com/, or an app password of an account with two-step verification",
    },
    Preset {
        word: "fastmail",
        title: "Fastmail",
        smtp: ("smtp.fastmail.com", SMTPS),
        imap: "imap.fastmail.com",
        pop3: "pop.fastmail.com",
        oauth: None,
        hint: "an app password: Settings, Privacy & Security",
    },
    Preset {
        word: "yahoo",
        title: "Yahoo Mail",
        smtp: ("smtp.mail.yahoo.com", SMTPS),
        imap: "imap.mail.yahoo.com",
        pop3: "pop.mail.yahoo.com",
        oauth: None,
        hint: "an app password: Account security",
    },
    Preset {
        word: "zoho",
        title: "Zoho Mail",
        smtp: ("smtp.zoho.com", SMTPS),
        imap: "imap.zoho.com",
        pop3: "pop.zoho.com",
        oauth: None,
        hint: "IMAP or POP must be switched on in the settings; with two-step verification an app password; other regions have other servers (zoho.eu, zoho.in)",
    },
    Preset {
        word: "gmx",
        title: "GMX",
        smtp: ("mail.gmx.net", SUBMISSION),
        imap: "imap.gmx.net",
        pop3: "pop.gmx.net",
        oauth: None,
        hint: "IMAP and POP3 must be switched on in the settings",
    },
    Preset {
        word: "ionos",
        title: "IONOS",
        smtp: ("smtp.ionos.com", SMTPS),
        imap: "imap.ionos.com",
        pop3: "pop.ionos.com",
        oauth: None,
        hint: "the password of the mailbox; other countries have other servers (ionos.de, ionos.fr)",
    },
];

/// One's own server: everything is said.
const OTHER: &str = "other";

/// The words on the command line.
pub(in crate::commands) fn words() -> Vec<&'static str> {
    std::iter::once(OTHER)
        .chain(PRESETS.iter().map(|preset| preset.word))
        .collect()
}

impl Preset {
    /// Its server of mailboxes.
    pub(super) fn pickup(&self, role: Role) -> (&'static str, Port) {
        if role == Role::Imap {
            (self.imap, IMAPS)
        } else {
            (self.pop3, POP3S)
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title)
    }
}
