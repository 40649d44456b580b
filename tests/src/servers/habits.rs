//! Habits of real IMAP servers that violate the standards, each with its source.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{Protocol, lock, mailboxes::StoredMail};

/// Result of a FETCH of a mail that was delivered a moment ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    /// OK without a response (1&1: github.com/OfflineIMAP/offlineimap/issues/429; Gmail:
    /// MailCore/mailcore2/issues/1279).
    Nothing,
    /// `NIL` instead of the content.
    Nil,
    /// An empty literal.
    Empty,
    /// A response without UID.
    WithoutUid,
    /// Responses for other mails, then `NO` (Yahoo: emailjs/emailjs-imap-client/issues/60; RFC
    /// 2180, section 4.1.2).
    Refusal,
}

/// Value of UIDNEXT.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UidNext {
    /// The correct value.
    #[default]
    Right,
    /// Always 1.
    Stuck,
    /// Too high, always by the same amount.
    Ahead,
    /// One more than the highest existing UID: it goes back when the last mail is deleted, and so
    /// do the UIDs (GMX rewound them in 2020: chatmail/core/issues/2188).
    GoesBack,
}

/// How a server refuses excess connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooMany {
    /// It closes the connection (couriertcpd's MAXPERIP).
    HangsUp,
    /// It sends BYE instead of a greeting.
    Bye,
    /// It refuses the login (Gmail: `[ALERT] Too many simultaneous connections. (Failure)`,
    /// zone-eu/wildduck/issues/35; Dovecot:
    /// `[UNAVAILABLE] Maximum number of connections from user+IP exceeded`,
    /// mscdex/node-imap/issues/606).
    Login(&'static str),
}

/// Habits of an IMAP server; none by default.
#[derive(Debug, Clone, Default)]
pub struct Habits {
    /// Result of the first FETCHes of a mail's content, and how many are affected.
    pub gives_at_first: Option<(Gives, u32)>,
    /// Each FETCH returns flags before the content, unrequested (RFC 3501, section 7.4.2 allows
    /// it).
    pub tells_flags_first: bool,
    /// Value of UIDNEXT.
    pub uid_next: UidNext,
    /// SEARCH does not find delivered mails (github.com/jstedfast/MailKit/issues/1431,
    /// mscdex/node-imap/issues/567).
    pub searches_an_old_index: bool,
    /// SEARCH is refused (`NO [SERVERBUG]`, Yahoo: mscdex/node-imap/issues/737).
    pub refuses_search: bool,
    /// Maximum number of simultaneous connections, and how more are refused.
    pub connections: Option<(usize, TooMany)>,
    /// Folders can only be opened after ID (NetEase: pimalaya/himalaya/issues/651).
    pub wants_id: bool,
    /// Capabilities are only sent on request (Courier).
    pub keeps_capabilities: bool,
    /// Longest command line (RFC 2683, section 3.2.1.5: at least 1,000 bytes).
    pub longest_line: Option<usize>,
    /// AUTHENTICATE does not accept an initial response, although SASL-IR is listed (Coremail:
    /// pimalaya/himalaya/issues/729).
    pub rejects_initial_response: bool,
    /// Expunged mails are archived; there is a trash folder (Gmail: chatmail/core/issues/3957).
    pub archives: bool,
    /// UIDVALIDITY is 0 (modern-email/defects/issues/52).
    pub no_validity: bool,
    /// Lines that are not responses: after each response with content, and before the answer to a
    /// login.
    pub odd_lines: Vec<String>,
}

/// Rewrites replies one by one; `None` leaves a reply unchanged.
pub type Rewrite = fn(Protocol, &str) -> Option<String>;

/// Habits of an SMTP server; none by default.
#[derive(Debug, Clone, Default)]
pub struct SmtpHabits {
    /// The only name that is accepted in EHLO, as if the server resolves it or has a list.
    pub only_helo: Option<String>,
    /// The answer to EHLO of a server that only knows HELO, such as
    /// `502 5.5.2 Command not recognized` (RFC 5321, section 3.2).
    pub no_ehlo: Option<&'static str>,
    /// The lines of the reply to EHLO that list mechanisms, without `250-`: several, or in the form
    /// `AUTH=` for old clients (Exchange, Sendmail, Postfix' `broken_sasl_auth_clients`).
    pub auth_lines: Option<Vec<String>>,
    /// AUTH accepts no initial response: the line is too long (Dovecot's submission service with a
    /// long token: raa-org/thunderbird-custom-idp/issues/1; servers without it:
    /// xhit/go-simple-mail/pull/119).
    pub rejects_initial_response: bool,
}

/// State that habits need.
#[derive(Default)]
pub(super) struct Memory {
    fetched: Mutex<HashMap<u32, u32>>,
    open: AtomicUsize,
}

impl Memory {
    /// Returns the special result of a FETCH of this mail's content, if there is one.
    pub(super) fn gives(&self, habits: &Habits, mail: &StoredMail) -> Option<Gives> {
        let (gives, times) = habits.gives_at_first?;
        if mail.foreign {
            return None;
        }
        let mut fetched = lock(&self.fetched);
        let count = fetched.entry(mail.uid).or_default();
        *count += 1;
        (*count <= times).then_some(gives)
    }

    /// Counts a connection until the guard is dropped.
    pub(super) fn open(&self) -> (usize, impl Drop + '_) {
        struct Open<'a>(&'a AtomicUsize);
        impl Drop for Open<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        (self.open.fetch_add(1, Ordering::Relaxed) + 1, Open(&self.open))
    }
}
