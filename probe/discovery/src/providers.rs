//! Mail providers whose servers are known, and how the mail exchangers of a domain reveal them.
//!
//! Servers and exchangers are those that the providers publish; most are also in the database of the
//! Thunderbird project (github.com/thunderbird/autoconfig, folder `ispdb`).

use std::fmt;

use mailqos_config::TlsMode;

use crate::{Protocol, Server, address::is_within};

/// Port and encryption of a server.
type Port = (u16, TlsMode);

/// A mail provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provider {
    /// Word on the command line, such as `google-workspace`.
    pub word: &'static str,
    /// Display name.
    pub title: &'static str,
    /// SMTP server for submission with login.
    smtp: (&'static str, Port),
    /// IMAP server with implicit TLS.
    imap: &'static str,
    /// POP3 server with implicit TLS; `None` if there is none.
    pop3: Option<&'static str>,
    /// Whether it accepts OAuth 2.0 tokens that this program can obtain.
    pub tokens: Option<Tokens>,
    /// Setup hint.
    pub hint: &'static str,
    /// Domains of its mail exchangers.
    exchangers: &'static [&'static str],
}

/// Logins that a provider accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokens {
    /// Tokens only.
    Only,
    /// Tokens, or passwords made for one program.
    OrPassword,
}

const SUBMISSION: Port = (587, TlsMode::StartTls);
const SMTPS: Port = (465, TlsMode::Implicit);
const IMAPS: Port = (993, TlsMode::Implicit);
const POP3S: Port = (995, TlsMode::Implicit);

/// All known providers.
pub const PROVIDERS: [Provider; 14] = [
    Provider {
        word: "microsoft-365",
        title: "Microsoft 365",
        smtp: ("smtp.office365.com", SUBMISSION),
        imap: "outlook.office365.com",
        pop3: Some("outlook.office365.com"),
        tokens: Some(Tokens::Only),
        hint: "register an application in Entra ID with the permissions SMTP.SendAsApp and IMAP.AccessAsApp (or POP.AccessAsApp), give it access to the mailbox, and allow authenticated SMTP for the mailbox",
        // The second is that of domains with DNSSEC and DANE.
        exchangers: &["mail.protection.outlook.com", "mx.microsoft"],
    },
    Provider {
        word: "google-workspace",
        title: "Google Workspace, Gmail",
        smtp: ("smtp.gmail.com", SUBMISSION),
        imap: "imap.gmail.com",
        pop3: Some("pop.gmail.com"),
        tokens: Some(Tokens::OrPassword),
        hint: "create an OAuth client with a refresh token for the scope https://mail.google.com/, or an app \
            password (requires two-step verification)",
        exchangers: &["google.com", "googlemail.com"],
    },
    Provider {
        word: "fastmail",
        title: "Fastmail",
        smtp: ("smtp.fastmail.com", SMTPS),
        imap: "imap.fastmail.com",
        pop3: Some("pop.fastmail.com"),
        tokens: None,
        hint: "create an app password under Settings, Privacy & Security",
        exchangers: &["messagingengine.com"],
    },
    Provider {
        word: "yahoo",
        title: "Yahoo Mail",
        smtp: ("smtp.mail.yahoo.com", SMTPS),
        imap: "imap.mail.yahoo.com",
        pop3: Some("pop.mail.yahoo.com"),
        tokens: None,
        hint: "create an app password under Account security",
        // AOL has the same exchangers; its mailboxes are also open at these servers.
        exchangers: &["yahoodns.net"],
    },
    Provider {
        word: "zoho",
        title: "Zoho Mail",
        smtp: ("smtp.zoho.com", SMTPS),
        imap: "imap.zoho.com",
        pop3: Some("pop.zoho.com"),
        tokens: None,
        hint: "enable IMAP or POP in the settings; with two-step verification, create an app password; other \
            regions use other servers (zoho.eu, zoho.in)",
        exchangers: &["zoho.com"],
    },
    Provider {
        word: "gmx",
        title: "GMX",
        smtp: ("mail.gmx.net", SUBMISSION),
        imap: "imap.gmx.net",
        pop3: Some("pop.gmx.net"),
        tokens: None,
        hint: "enable IMAP and POP3 in the settings",
        exchangers: &["gmx.net"],
    },
    Provider {
        word: "ionos",
        title: "IONOS",
        smtp: ("smtp.ionos.com", SMTPS),
        imap: "imap.ionos.com",
        pop3: Some("pop.ionos.com"),
        tokens: None,
        hint: "use the password of the mailbox; other countries use other servers (ionos.de, ionos.fr)",
        exchangers: &["ionos.com", "1and1.com", "perfora.net"],
    },
    Provider {
        word: "icloud",
        title: "Apple iCloud",
        smtp: ("smtp.mail.me.com", SUBMISSION),
        imap: "imap.mail.me.com",
        pop3: None,
        tokens: None,
        hint: "create an app-specific password at account.apple.com",
        exchangers: &["mail.icloud.com"],
    },
    Provider {
        word: "mailbox-org",
        title: "mailbox.org",
        smtp: ("smtp.mailbox.org", SMTPS),
        imap: "imap.mailbox.org",
        pop3: Some("pop3.mailbox.org"),
        tokens: None,
        hint: "with two-factor authentication, create an application password",
        exchangers: &["mailbox.org"],
    },
    Provider {
        word: "posteo",
        title: "Posteo",
        smtp: ("posteo.de", SMTPS),
        imap: "posteo.de",
        pop3: Some("posteo.de"),
        tokens: None,
        hint: "use the password of the mailbox",
        exchangers: &["posteo.de"],
    },
    Provider {
        word: "migadu",
        title: "Migadu",
        smtp: ("smtp.migadu.com", SMTPS),
        imap: "imap.migadu.com",
        pop3: None,
        tokens: None,
        hint: "use the password of the mailbox",
        exchangers: &["migadu.com"],
    },
    Provider {
        word: "strato",
        title: "Strato",
        smtp: ("smtp.strato.de", SMTPS),
        imap: "imap.strato.de",
        pop3: Some("pop3.strato.de"),
        tokens: None,
        hint: "use the password of the mailbox",
        exchangers: &["rzone.de"],
    },
    Provider {
        word: "t-online",
        title: "T-Online",
        smtp: ("securesmtp.t-online.de", SMTPS),
        imap: "secureimap.t-online.de",
        pop3: Some("securepop.t-online.de"),
        tokens: None,
        hint: "set a separate e-mail password in the Telekom account; the one of the website is not accepted",
        exchangers: &["t-online.de"],
    },
    Provider {
        word: "rackspace",
        title: "Rackspace Email",
        smtp: ("secure.emailsrvr.com", SMTPS),
        imap: "secure.emailsrvr.com",
        pop3: Some("secure.emailsrvr.com"),
        tokens: None,
        hint: "use the password of the mailbox",
        exchangers: &["emailsrvr.com"],
    },
];

/// Services in front of mailboxes: their exchangers don't reveal the provider behind them.
const FILTERS: [(&str, &str); 9] = [
    ("pphosted.com", "Proofpoint"),
    ("ppe-hosted.com", "Proofpoint Essentials"),
    ("mimecast.com", "Mimecast"),
    ("barracudanetworks.com", "Barracuda"),
    ("messagelabs.com", "Symantec Email Security"),
    ("iphmx.com", "Cisco Secure Email"),
    ("trendmicro.com", "Trend Micro"),
    ("hornetsecurity.com", "Hornetsecurity"),
    ("antispameurope.com", "Hornetsecurity"),
];

/// Providers whose mailboxes can't be opened over IMAP or POP3.
const CLOSED: [(&str, &str); 3] = [
    (
        "protonmail.ch",
        "Proton Mail offers IMAP and SMTP only through its Bridge program; name its address with --address",
    ),
    ("tutanota.de", "Tuta offers neither IMAP nor POP3"),
    (
        "olc.protection.outlook.com",
        "personal Outlook.com mailboxes have the servers of Microsoft 365, and a separate sign-in: use --preset \
         microsoft-365 --tenant consumers",
    ),
];

/// What the mail exchangers of a domain reveal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recognised {
    /// The provider.
    Provider(&'static Provider),
    /// A service in front of the mailboxes, by its name.
    Filter(&'static str),
    /// Mailboxes that can't be reached over IMAP or POP3 directly, with an explanation.
    Closed(&'static str),
}

/// Recognises the operator of the mail exchangers, given in the order of preference.
pub(crate) fn recognise(exchangers: &[String]) -> Option<Recognised> {
    exchangers.iter().find_map(|host| {
        let named = |table: &[(&str, &'static str)]| {
            let found = table.iter().find(|(domain, _)| is_within(host, domain));
            found.map(|(_, text)| *text)
        };
        let provider = || {
            let mut providers = PROVIDERS.iter();
            providers
                .find(|provider| provider.exchangers.iter().any(|domain| is_within(host, domain)))
        };
        named(&CLOSED)
            .map(Recognised::Closed)
            .or_else(|| named(&FILTERS).map(Recognised::Filter))
            .or_else(|| provider().map(Recognised::Provider))
    })
}

/// Returns the provider that a server of this name belongs to.
pub(crate) fn of_host(host: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.has(host))
}

impl Provider {
    /// Finds a provider by its word.
    pub fn by_word(word: &str) -> Option<&'static Self> {
        PROVIDERS.iter().find(|provider| provider.word == word)
    }

    /// Returns the server of a protocol; `None` if the provider has none.
    pub fn server(&self, protocol: Protocol) -> Option<Server> {
        let (host, (port, tls)) = match protocol {
            Protocol::Smtp => self.smtp,
            Protocol::Imap => (self.imap, IMAPS),
            Protocol::Pop3 => (self.pop3?, POP3S),
        };
        Some(Server { protocol, host: host.to_owned(), port, tls })
    }

    fn has(&self, host: &str) -> bool {
        [Some(self.smtp.0), Some(self.imap), self.pop3].contains(&Some(host))
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(host: &str) -> Option<Recognised> {
        recognise(&[host.to_owned()])
    }

    #[test]
    fn providers_are_recognised_by_their_exchangers() {
        for (host, word) in [
            ("contoso-com.mail.protection.outlook.com", "microsoft-365"),
            ("contoso-com.a-v1.mx.microsoft", "microsoft-365"),
            ("aspmx.l.google.com", "google-workspace"),
            ("alt1.aspmx.l.google.com", "google-workspace"),
            ("aspmx2.googlemail.com", "google-workspace"),
            ("smtp.google.com", "google-workspace"),
            ("in1-smtp.messagingengine.com", "fastmail"),
            ("mta7.am0.yahoodns.net", "yahoo"),
            ("mx00.emig.gmx.net", "gmx"),
            ("smtpin.rzone.de", "strato"),
        ] {
            let found = of(host);
            assert!(
                matches!(found, Some(Recognised::Provider(provider)) if provider.word == word),
                "{host}: {found:?}"
            );
        }
        assert!(matches!(
            of("outlook-com.olc.protection.outlook.com"),
            Some(Recognised::Closed(_))
        ));
        assert!(matches!(of("mail.protonmail.ch"), Some(Recognised::Closed(_))));
        assert_eq!(of("mxa-0012.gslb.pphosted.com"), Some(Recognised::Filter("Proofpoint")));
        // The whole name decides, not its end.
        for host in ["mail.notgoogle.com", "google.com.example.net", "mx.example.com"] {
            assert_eq!(of(host), None, "{host}");
        }
    }

    #[test]
    fn words_are_unique_and_servers_belong_to_their_providers() {
        for (index, provider) in PROVIDERS.iter().enumerate() {
            assert!(PROVIDERS[..index].iter().all(|other| other.word != provider.word));
            let smtp = provider.server(Protocol::Smtp).expect("a server");
            assert_eq!(of_host(&smtp.host), Some(provider));
        }
    }
}
