//! Habits of IMAP servers in the wild that no standard allows for, each with where it was seen.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{Protocol, lock, mailboxes::StoredMail};

/// What a FETCH gives of a mail that was delivered a moment ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    /// OK, and no response (1&1: github.com/OfflineIMAP/offlineimap/issues/429; Gmail:
    /// MailCore/mailcore2/issues/1279).
    Nothing,
    /// `NIL` in place of the content.
    Nil,
    /// An empty literal.
    Empty,
    /// A response without UID.
    WithoutUid,
    /// What other mails have, and then `NO` (Yahoo: emailjs/emailjs-imap-client/issues/60; RFC
    /// 2180, section 4.1.2).
    Refusal,
}

/// What UIDNEXT says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UidNext {
    /// What it should.
    #[default]
    Right,
    /// Always 1.
    Stuck,
    /// Too much, always by the same.
    Ahead,
    /// One more than the highest UID that is there: it goes back when the last mail is deleted, and
    /// so do the UIDs (GMX rewound them in 2020: chatmail/core/issues/2188).
    GoesBack,
}

/// How a server refuses a connection too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooMany {
    /// It hangs up (couriertcpd's MAXPERIP).
    HangsUp,
    /// It says BYE in place of a greeting.
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
    /// What the first FETCHes of a mail's content give, and how many do.
    pub gives_at_first: Option<(Gives, u32)>,
    /// Flags are told of in each FETCH before the content, without being asked for (RFC 3501,
    /// section 7.4.2 allows it).
    pub tells_flags_first: bool,
    /// What UIDNEXT says.
    pub uid_next: UidNext,
    /// SEARCH does not show delivered mails (github.com/jstedfast/MailKit/issues/1431,
    /// mscdex/node-imap/issues/567).
    pub searches_an_old_index: bool,
    /// SEARCH is refused (`NO [SERVERBUG]`, Yahoo: mscdex/node-imap/issues/737).
    pub refuses_search: bool,
    /// How many connections are taken at once, and how one more is refused.
    pub connections: Option<(usize, TooMany)>,
    /// No folder is opened before ID (NetEase: pimalaya/himalaya/issues/651).
    pub wants_id: bool,
    /// Capabilities are told only when they are asked for (Courier).
    pub keeps_capabilities: bool,
    /// The longest command line (RFC 2683, section 3.2.1.5: at least 1,000 bytes).
    pub longest_line: Option<usize>,
    /// AUTHENTICATE with an initial response is not understood, although SASL-IR is listed
    /// (Coremail: pimalaya/himalaya/issues/729).
    pub rejects_initial_response: bool,
    /// What is expunged is archived; there is a trash (Gmail: chatmail/core/issues/3957).
    pub archives: bool,
    /// UIDVALIDITY is 0 (modern-email/defects/issues/52).
    pub no_validity: bool,
    /// Lines that are no responses: behind each response with content, and before the answer to a
    /// login.
    pub odd_lines: Vec<String>,
}

/// Changes what a server says, a reply at a time; `None` leaves it as it is.
pub type Rewrite = fn(Protocol, &str) -> Option<String>;

/// Habits of an SMTP server; none by default.
#[derive(Debug, Clone, Default)]
pub struct SmtpHabits {
    /// The only name that is taken in EHLO, as where a server resolves it or has a list.
    pub only_helo: Option<String>,
    /// The answer to EHLO of a server that knows only HELO, such as
    /// `502 5.5.2 Command not recognized` (RFC 5321, section 3.2).
    pub no_ehlo: Option<&'static str>,
    /// The lines of the reply to EHLO that list mechanisms, without `250-`: several, or in the form
    /// `AUTH=`, which old clients understand (Exchange, Sendmail, Postfix'
    /// `broken_sasl_auth_clients`).
    pub auth_lines: Option<Vec<String>>,
    /// AUTH takes no initial response: the line is too long for it (Dovecot's submission service
    /// with a long token: raa-org/thunderbird-custom-idp/issues/1; servers without it:
    /// xhit/go-simple-mail/pull/119).
    pub rejects_initial_response: bool,
}

/// What the habits remember.
#[derive(Default)]
pub(super) struct Memory {
    fetched: Mutex<HashMap<u32, u32>>,
    open: AtomicUsize,
}

impl Memory {
    /// What a FETCH of this mail's content is to give, where that is not the content.
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

    /// Counts a connection; the guard ends with it.
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
