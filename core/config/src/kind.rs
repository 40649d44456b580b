//! What a monitor tests. A new probe kind is a variant here, and answers what everybody else asks of a kind.

use std::fmt;

use mailqos_model::{Micros, Stage};

use super::{Endpoint, MessageShape};
use crate::Person;

/// What a monitor tests.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A mail is sent and picked up: kind `mail-qos`.
    MailQos(MailQos),
}

/// The options of kind `mail-qos`.
#[derive(Debug, Clone)]
pub struct MailQos {
    /// The longest round trip that counts as good.
    pub max_round_trip: Micros,
    /// The wait before the first pick-up and between pick-ups; shorter than max round trip.
    pub check_interval: Micros,
    /// The most pick-ups for each mail beyond those of the check interval, made where it is expected to
    /// land; twice as many looks where a watch over IMAP makes them.
    pub extra_pickups: u8,
    /// How long a mail is waited for before it is `lost`.
    pub horizon: Micros,
    /// Deadline of each step of a conversation.
    pub timeout: Micros,
    /// Envelope sender and `From`.
    pub from: Person,
    /// The mailbox: envelope recipient and `To`.
    pub to: Person,
    /// The server that takes the mail.
    pub smtp: Endpoint,
    /// The server whose mailbox is read.
    pub pickup: Endpoint,
    /// How the mailbox is read.
    pub protocol: PickupProtocol,
    /// The folders that are searched over IMAP, in this order; POP3 knows the inbox only.
    pub folders: Vec<String>,
    /// Over IMAP, the server's announcements of new mail (IDLE) are a further witness of the landing.
    pub idle: bool,
    /// Which tests leave a transcript.
    pub transcripts: Transcripts,
    /// What the test mail looks like.
    pub message: MessageShape,
    /// The mail is looked for at short gaps around its expected landing, whatever the check interval.
    pub precise: bool,
}

/// Which tests leave a transcript of what was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transcripts {
    /// Those that failed.
    Failed,
    /// Each.
    All,
    /// None.
    None,
}

/// How a mailbox is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PickupProtocol {
    /// RFC 1939.
    Pop3,
    /// RFC 9051, RFC 3501.
    Imap,
}

impl fmt::Display for PickupProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pop3 => "POP3",
            Self::Imap => "IMAP",
        })
    }
}

impl Kind {
    /// What a test does, in words.
    pub fn plan(&self) -> String {
        let Self::MailQos(options) = self;
        format!(
            "sending through {}, then looking for the mail every {} in {} ({}), for {} at most",
            options.smtp.place(),
            options.check_interval,
            options.pickup.place(),
            options.protocol,
            options.max_round_trip,
        )
    }

    /// The way of what a test sends.
    pub fn path(&self) -> String {
        let Self::MailQos(options) = self;
        let (smtp, pickup) = (&options.smtp, &options.pickup);
        format!(
            "{} → {}:{} → {} → {}:{}",
            options.from.address, smtp.server, smtp.port, options.to.address, pickup.server, pickup.port
        )
    }

    /// Its options: keys of the configuration and what holds.
    pub fn options(&self) -> Vec<(&'static str, String)> {
        let Self::MailQos(options) = self;
        vec![
            ("from", options.from.to_string()),
            ("to", options.to.to_string()),
            ("smtp", options.smtp.place()),
            (
                "pickup",
                format!("{} over {}", options.pickup.place(), options.protocol),
            ),
            ("max_round_trip", options.max_round_trip.to_string()),
            ("check_interval", options.check_interval.to_string()),
            ("horizon", options.horizon.to_string()),
            ("timeout", options.timeout.to_string()),
        ]
    }

    /// The longest round trip that counts as good.
    pub fn max_round_trip(&self) -> Micros {
        let Self::MailQos(options) = self;
        options.max_round_trip
    }

    /// The server that a stage of its tests talks to.
    pub fn endpoint(&self, stage: Stage) -> &Endpoint {
        let Self::MailQos(options) = self;
        match stage {
            Stage::SmtpConnect
            | Stage::SmtpTls
            | Stage::SmtpGreeting
            | Stage::SmtpAuth
            | Stage::SmtpRcpt
            | Stage::SmtpData => &options.smtp,
            Stage::PickupConnect
            | Stage::PickupTls
            | Stage::PickupGreeting
            | Stage::PickupLogin
            | Stage::PickupList
            | Stage::PickupReceive
            | Stage::Bounced => &options.pickup,
        }
    }
}
