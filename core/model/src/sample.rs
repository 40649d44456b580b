//! The sample: the row that a test leaves in the lake. Names and meanings are those of the contracts.

use super::{Micros, MonitorId, UtcMicros};

/// A word that is none of those allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a known {1}")]
pub struct UnknownWord(pub String, pub &'static str);

macro_rules! words {
    ($(#[$doc:meta])* $type:ident, $what:literal { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type {
            $($(#[$variant_doc])* $variant),+
        }

        impl $type {
            /// All of them, in the order of the contracts.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word, as it stands in the lake.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::UnknownWord;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::UnknownWord(text.to_owned(), $what)),
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(super) use words;

words!(
    /// What became of a test.
    Outcome, "outcome" {
        /// The mail landed within max round trip.
        Ok = "ok",
        /// The mail landed after max round trip.
        Late = "late",
        /// The mail was not seen within the horizon.
        Lost = "lost",
        /// The mail could not be handed to the SMTP server.
        SmtpFailed = "smtp_failed",
        /// The mailbox could not be read.
        PickupFailed = "pickup_failed",
        /// The probe itself could not test: its own network, shutdown.
        NotTested = "not_tested",
    }
);

words!(
    /// Where a test failed.
    Stage, "stage" {
        /// Opening the TCP connection to the SMTP server, the name look-up included.
        SmtpConnect = "smtp_connect",
        /// The TLS handshake with the SMTP server, implicit or after STARTTLS.
        SmtpTls = "smtp_tls",
        /// The SMTP greeting, and EHLO.
        SmtpGreeting = "smtp_greeting",
        /// SMTP authentication.
        SmtpAuth = "smtp_auth",
        /// The envelope: MAIL and RCPT.
        SmtpRcpt = "smtp_rcpt",
        /// The message content, up to the reply that accepts it.
        SmtpData = "smtp_data",
        /// Opening the TCP connection to the mailbox's server, the name look-up included.
        PickupConnect = "pickup_connect",
        /// The TLS handshake with the mailbox's server.
        PickupTls = "pickup_tls",
        /// The greeting of the mailbox's server.
        PickupGreeting = "pickup_greeting",
        /// Logging in to the mailbox.
        PickupLogin = "pickup_login",
        /// Listing or searching the mailbox.
        PickupList = "pickup_list",
        /// Retrieving the mail.
        PickupReceive = "pickup_receive",
        /// For `lost`: a delivery status notification said so.
        Bounced = "bounced",
    }
);

words!(
    /// Why a sample does not count in availability although a test ran.
    Exclusion, "exclusion" {
        /// The test began in a maintenance window.
        Maintenance = "maintenance",
        /// The failure was ordered, to try out an action list.
        SimulatedFailure = "simulated_failure",
    }
);

/// One `Received` field of the mail: a station on its way.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hop {
    /// The server that wrote the field.
    pub by: Option<String>,
    /// The server that handed the mail over.
    pub from: Option<String>,
    /// The field's time stamp by that server's clock.
    pub at: Option<UtcMicros>,
    /// Time since the station before, by the two servers' clocks; negative where they disagree.
    pub delay: Option<Micros>,
    /// The delay can't be true: the clocks of two neighbours disagree.
    pub clock_suspect: bool,
}

/// One test's row in the lake. `None` is null: not known, never zero.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sample {
    /// The monitor whose test it was.
    pub monitor: MonitorId,
    /// When the test began; unique for a monitor within a site.
    pub started_at: UtcMicros,
    /// What became of the test.
    pub outcome: Outcome,
    /// Where it failed.
    pub stage: Option<Stage>,
    /// One line, without secrets.
    pub error: Option<String>,
    /// Opening the SMTP connection: TCP and, with implicit TLS, the handshake.
    pub smtp_connect: Option<Micros>,
    /// From the start of the connection to the reply that accepts the message.
    pub smtp_send: Option<Micros>,
    /// Opening the POP3 or IMAP connection: TCP and, with implicit TLS, the handshake.
    pub pickup_connect: Option<Micros>,
    /// From the first credential command to its final reply.
    pub pickup_login: Option<Micros>,
    /// From the retrieval command to the last byte of the mail.
    pub pickup_receive: Option<Micros>,
    /// Best estimate of the round trip.
    pub round_trip: Option<Micros>,
    /// Half the width of the interval in which the landing must lie.
    pub round_trip_error: Option<Micros>,

    // What follows goes beyond the contract; the columns have the same names, durations with `_us` behind.
    /// Half the width of the interval in which the landing lies with 99 %, calibrated by the mails before.
    pub round_trip_likely_error: Option<Micros>,
    /// `false` while the mail may still be found late; null and `true` mean settled.
    pub settled: Option<bool>,
    /// Why the sample does not count in availability.
    pub excluded: Option<Exclusion>,
    /// The monitor's test interval when it was tested; what "three test intervals" refers to.
    pub test_interval: Option<Micros>,
    /// The monitor's max round trip when it was tested.
    pub max_round_trip: Option<Micros>,
    /// Opening the TCP connection to the SMTP server.
    pub smtp_tcp: Option<Micros>,
    /// The TLS handshake with the SMTP server.
    pub smtp_tls: Option<Micros>,
    /// Waiting for the SMTP greeting.
    pub smtp_greeting: Option<Micros>,
    /// EHLO (both, with STARTTLS).
    pub smtp_ehlo: Option<Micros>,
    /// SMTP authentication.
    pub smtp_auth: Option<Micros>,
    /// MAIL and RCPT.
    pub smtp_envelope: Option<Micros>,
    /// DATA, the content, and the reply that accepts it.
    pub smtp_data: Option<Micros>,
    /// Opening the TCP connection to the mailbox's server.
    pub pickup_tcp: Option<Micros>,
    /// The TLS handshake with the mailbox's server.
    pub pickup_tls: Option<Micros>,
    /// Waiting for the greeting of the mailbox's server.
    pub pickup_greeting: Option<Micros>,
    /// Listing or searching the mailbox.
    pub pickup_list: Option<Micros>,
    /// How many pick-ups were made until the mail was found.
    pub pickups: Option<i32>,
    /// How many times the mail was offered to the SMTP server.
    pub smtp_attempts: Option<i32>,
    /// The SMTP server's last reply code.
    pub smtp_reply_code: Option<i32>,
    /// The SMTP server's last enhanced status code (RFC 3463).
    pub smtp_enhanced_status: Option<String>,
    /// TLS version towards the SMTP server, such as `TLSv1.3`.
    pub smtp_tls_version: Option<String>,
    /// Cipher suite towards the SMTP server.
    pub smtp_tls_cipher: Option<String>,
    /// Expiry of the SMTP server's certificate.
    pub smtp_certificate_expires_at: Option<UtcMicros>,
    /// TLS version towards the mailbox's server.
    pub pickup_tls_version: Option<String>,
    /// Cipher suite towards the mailbox's server.
    pub pickup_tls_cipher: Option<String>,
    /// Expiry of the mailbox server's certificate.
    pub pickup_certificate_expires_at: Option<UtcMicros>,
    /// Certificates were not verified, by the monitor's explicit setting.
    pub tls_unverified: Option<bool>,
    /// The folder in which the mail was found.
    pub folder: Option<String>,
    /// Configured folders that could not be opened at the last pick-up, separated by commas: they were not searched.
    pub folders_missing: Option<String>,
    /// How many further copies of the mail were found.
    pub duplicates: Option<i32>,
    /// The mail's way, oldest station first.
    pub hops: Option<Vec<Hop>>,
    /// From the start of the first attempt to hand the mail over to the reply that accepted it, pauses included; with one
    /// attempt the same as [`Sample::smtp_send`].
    pub smtp_elapsed: Option<Micros>,
    /// The connection ended before the server said whether it took the mail.
    pub send_uncertain: Option<bool>,
    /// The size of the mail as it was sent.
    pub message_bytes: Option<i32>,
    /// The receiving system's verdict by SPF (RFC 7208), as it stands in `Authentication-Results` (RFC 8601).
    pub spf: Option<String>,
    /// Its verdict by DKIM (RFC 6376).
    pub dkim: Option<String>,
    /// Its verdict by DMARC (RFC 7489).
    pub dmarc: Option<String>,
    /// What its spam filter decided: `spam` or `ham`.
    pub spam_verdict: Option<String>,
    /// Its spam filter's score, on that filter's own scale.
    pub spam_score: Option<f64>,
    /// The kind of test, such as `mailbox`; null is `mail-qos`.
    pub kind: Option<String>,
}

impl Sample {
    /// A sample with nothing measured yet.
    pub fn new(monitor: MonitorId, started_at: UtcMicros, outcome: Outcome) -> Self {
        Self {
            monitor,
            started_at,
            outcome,
            stage: None,
            error: None,
            smtp_connect: None,
            smtp_send: None,
            pickup_connect: None,
            pickup_login: None,
            pickup_receive: None,
            round_trip: None,
            round_trip_error: None,
            round_trip_likely_error: None,
            settled: None,
            excluded: None,
            test_interval: None,
            max_round_trip: None,
            smtp_tcp: None,
            smtp_tls: None,
            smtp_greeting: None,
            smtp_ehlo: None,
            smtp_auth: None,
            smtp_envelope: None,
            smtp_data: None,
            pickup_tcp: None,
            pickup_tls: None,
            pickup_greeting: None,
            pickup_list: None,
            pickups: None,
            smtp_attempts: None,
            smtp_reply_code: None,
            smtp_enhanced_status: None,
            smtp_tls_version: None,
            smtp_tls_cipher: None,
            smtp_certificate_expires_at: None,
            pickup_tls_version: None,
            pickup_tls_cipher: None,
            pickup_certificate_expires_at: None,
            tls_unverified: None,
            folder: None,
            folders_missing: None,
            duplicates: None,
            hops: None,
            smtp_elapsed: None,
            send_uncertain: None,
            message_bytes: None,
            spf: None,
            dkim: None,
            dmarc: None,
            spam_verdict: None,
            spam_score: None,
            kind: None,
        }
    }

    /// Whether the mail may still be found late.
    pub fn is_provisional(&self) -> bool {
        self.settled == Some(false)
    }
}
