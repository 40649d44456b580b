//! Injected problems: in a conversation ([`Fault`]) and with a mail in transit ([`Mishap`]).

use std::{sync::Mutex, time::Duration};

use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;

use super::certificates::Certificate;

/// One of the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Accepts mails.
    Smtp,
    /// Serves mails.
    Pop3,
    /// Serves mails.
    Imap,
}

impl Protocol {
    /// Returns the points of a conversation at which a fault can be injected; commands have their
    /// names on the wire.
    pub fn phases(self) -> &'static [&'static str] {
        match self {
            Self::Smtp => &[
                "TLS", "GREETING", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "CONTENT",
                "RSET", "NOOP", "QUIT",
            ],
            Self::Pop3 => &[
                "TLS", "GREETING", "CAPA", "STLS", "USER", "LOGIN", "STAT", "LIST", "UIDL", "TOP",
                "RETR", "DELE", "RSET", "NOOP", "QUIT",
            ],
            Self::Imap => &[
                "TLS",
                "GREETING",
                "CAPABILITY",
                "STARTTLS",
                "LOGIN",
                "LIST",
                "SELECT",
                "SEARCH",
                "FETCH",
                "STORE",
                "EXPUNGE",
                "IDLE",
                "NOOP",
                "CLOSE",
                "LOGOUT",
                "ID",
                "ENABLE",
                "NAMESPACE",
                "STATUS",
                "OTHER",
            ],
        }
    }
}

/// A fault in a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed instead of a reply.
    Close,
    /// The connection is reset instead of a reply.
    Reset,
    /// Nothing is sent any more; the connection stays open.
    Stall,
    /// The reply is delayed.
    Delay(Duration),
    /// The reply is sent byte by byte, with this pause.
    Drip(Duration),
    /// Bytes that are not a valid reply.
    Garbage,
    /// This many bytes without a line end, then nothing.
    Endless(usize),
    /// Half of the reply, then the connection is closed.
    CutReply,
    /// The command is executed, then the connection is closed without a reply.
    CloseAfter,
    /// Another reply; the command is not executed. For IMAP without the tag: `NO [UNAVAILABLE] …`.
    Reply(String),
    /// In phase `TLS`: another certificate.
    Certificate(Certificate),
}

/// A problem with an accepted mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mishap {
    /// It never arrives.
    Lose,
    /// It arrives twice.
    Duplicate,
    /// It arrives this much later.
    Late(Duration),
    /// A delivery status notification goes to its sender instead, with this status.
    Bounce(String),
    /// One of the messages in `tests/notifications` goes to its sender instead.
    Story(Box<crate::notifications::Story>),
    /// It arrives after a notification of its delay.
    Warn,
    /// It arrives in the folder `Junk`.
    Junk,
    /// A tag is added before the subject.
    TagSubject(String),
    /// The subject is replaced.
    ReplaceSubject(String),
    /// All fields of this name are dropped.
    StripField(String),
    /// Fields are added before all others, as by a filter; each ends its line.
    AddFields(String),
    /// The body is replaced.
    ReplaceBody(String),
    /// The Message-ID is replaced.
    ReplaceMessageId,
    /// It arrives as an attachment of another mail, as from a filter.
    Attach,
}

/// How often a problem occurs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    /// Each time.
    Always,
    /// This many times.
    Times(u32),
    /// With this probability, each time.
    Chance(f64),
}

impl When {
    fn strikes(&mut self, random: &mut Pcg64Mcg) -> bool {
        match self {
            Self::Always => true,
            Self::Times(0) => false,
            Self::Times(left) => {
                *left -= 1;
                true
            }
            Self::Chance(chance) => random.random::<f64>() < *chance,
        }
    }
}

/// The rules in force.
#[derive(Default)]
pub(super) struct Rules {
    faults: Mutex<Vec<(Protocol, String, Fault, When)>>,
    mishaps: Mutex<Vec<(Option<String>, Mishap, When)>>,
}

impl Rules {
    pub(super) fn inject(&self, protocol: Protocol, phase: &str, fault: Fault, when: When) {
        assert!(
            protocol.phases().contains(&phase),
            "{protocol:?} has no phase {phase:?}: {:?}",
            protocol.phases()
        );
        super::lock(&self.faults).push((protocol, phase.to_owned(), fault, when));
    }

    pub(super) fn befall(&self, recipient: Option<&str>, mishap: Mishap, when: When) {
        super::lock(&self.mishaps).push((recipient.map(str::to_owned), mishap, when));
    }

    pub(super) fn clear(&self) {
        super::lock(&self.faults).clear();
        super::lock(&self.mishaps).clear();
    }

    pub(super) fn fault(
        &self,
        protocol: Protocol,
        phase: &str,
        random: &mut Pcg64Mcg,
    ) -> Option<Fault> {
        debug_assert!(protocol.phases().contains(&phase), "{protocol:?} {phase}");
        super::lock(&self.faults).iter_mut().find_map(|(p, at, fault, when)| {
            (*p == protocol && at == phase && when.strikes(random)).then(|| fault.clone())
        })
    }

    pub(super) fn mishaps(&self, recipient: &str, random: &mut Pcg64Mcg) -> Vec<Mishap> {
        super::lock(&self.mishaps)
            .iter_mut()
            .filter(|(whose, _, _)| {
                whose.as_deref().is_none_or(|whose| whose.eq_ignore_ascii_case(recipient))
            })
            .filter_map(|(_, mishap, when)| when.strikes(random).then(|| mishap.clone()))
            .collect()
    }
}
