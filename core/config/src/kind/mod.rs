//! Kinds of tests. Each kind is a file in this folder with its options, and a line in [`Kind`]; the
//! test itself is a folder of the probe. All other code uses [`TestKind`].

mod mail_qos;
mod mailbox;

use std::ops::Deref;

pub use mail_qos::MailQos;
pub use mailbox::Mailbox;
use mailqos_model::{Micros, Stage};

use crate::{
    Endpoint, Problems, Table, Timing,
    test_options::{Options, Pickup, Transcripts},
};

/// The kind of a monitor's tests.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "most monitors are of the largest variant")]
pub enum Kind {
    /// Kind `mail-qos`: sends a mail and picks it up.
    MailQos(MailQos),
    /// Kind `mailbox`: opens and lists a mailbox; sends nothing.
    Mailbox(Mailbox),
}

impl Deref for Kind {
    type Target = dyn TestKind;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::MailQos(options) => options,
            Self::Mailbox(options) => options,
        }
    }
}

/// Reads a kind from a monitor's keys and reports problems.
pub(crate) type Read = fn(&Options, &mut Table, &mut Problems) -> Option<Kind>;

/// The kinds with their names in the configuration; the first one is the default.
pub(crate) const KINDS: [(&str, Read); 2] =
    [("mail-qos", mail_qos::read), ("mailbox", mailbox::read)];

/// Returns the names of the keys that a kind does not have; forms don't show them.
pub(crate) fn foreign_keys(kind: &str) -> Vec<&'static str> {
    match kind {
        "mailbox" => mailbox::foreign_keys().into_iter().map(|key| key.name).collect(),
        _ => Vec::new(),
    }
}

/// Properties of a kind that scheduling, recording, alarms and commands need.
pub trait TestKind: Send + Sync {
    /// Returns the name in the configuration and in the column `kind`, such as `mail-qos`.
    fn name(&self) -> &'static str;

    /// Describes what a test does, in one line.
    fn plan(&self) -> String;

    /// Returns the addresses and servers of a test, in order.
    fn path(&self) -> String;

    /// Returns the options as configuration keys and values.
    fn options(&self) -> Vec<(&'static str, String)>;

    /// Returns the server of a stage of a test.
    fn endpoint(&self, stage: Stage) -> &Endpoint;

    /// Returns the SMTP server through which a test sends.
    fn smtp(&self) -> Option<&Endpoint> {
        None
    }

    /// Returns the mailbox that a test reads.
    fn pickup(&self) -> Option<Pickup> {
        None
    }

    /// Returns the address of the tested mailbox.
    fn recipient(&self) -> Option<&str> {
        None
    }

    /// Returns the longest round trip that counts as good.
    fn max_round_trip(&self) -> Option<Micros> {
        None
    }

    /// Returns the maximum time until the outcome of a test is known.
    fn longest_test(&self) -> Micros;

    /// Returns the timings that a test measures; thresholds of alarms can refer to them.
    fn timings(&self) -> &'static [Timing];

    /// Returns which tests leave a transcript.
    fn transcripts(&self) -> Transcripts;
}
