//! The sample: the row that a test leaves in the lake.

use super::{Micros, MonitorId, UtcMicros, words};

words!(
    /// Outcome of a test.
    Outcome, "outcome" {
        /// The mail arrived within max round trip.
        Ok = "ok",
        /// The mail arrived after max round trip.
        Late = "late",
        /// The mail did not arrive within the horizon.
        Lost = "lost",
        /// The mail could not be submitted to the SMTP server.
        SmtpFailed = "smtp_failed",
        /// The mailbox could not be read.
        PickupFailed = "pickup_failed",
        /// The probe itself was unable to test: its network, shutdown.
        NotTested = "not_tested",
    }
);

words!(
    /// The stage at which a test failed.
    Stage, "stage" {
        /// Opening the TCP connection to the SMTP server, including the name look-up.
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
        /// Opening the TCP connection to the mailbox server, including the name look-up.
        PickupConnect = "pickup_connect",
        /// The TLS handshake with the mailbox server.
        PickupTls = "pickup_tls",
        /// The greeting of the mailbox server.
        PickupGreeting = "pickup_greeting",
        /// Logging in to the mailbox.
        PickupLogin = "pickup_login",
        /// Listing or searching the mailbox.
        PickupList = "pickup_list",
        /// Retrieving the mail.
        PickupReceive = "pickup_receive",
        /// For `lost`: reported by a delivery status notification.
        Bounced = "bounced",
    }
);

words!(
    /// Reason why a sample does not count in availability although a test ran.
    Exclusion, "exclusion" {
        /// The test began in a maintenance window.
        Maintenance = "maintenance",
        /// The failure was simulated to test an action list.
        SimulatedFailure = "simulated_failure",
    }
);

/// A `Received` field of the mail: one hop of its path.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hop {
    /// The server that wrote the field.
    pub by: Option<String>,
    /// The server that handed the mail over.
    pub from: Option<String>,
    /// The field's timestamp by that server's clock.
    pub at: Option<UtcMicros>,
    /// Time since the previous hop, by the two servers' clocks; negative if they disagree.
    pub delay: Option<Micros>,
    /// Whether the delay is implausible, because the clocks of two neighbours disagree.
    pub clock_suspect: bool,
}

/// Calls a macro with every column of a sample except its key and outcome, in the order of day
/// files: field, type, and the column's name in the lake. This is the only place where a column is
/// declared; [`Sample`] and the lake's table of columns are generated from it. Durations are in
/// microseconds. The first nine, with the key and the outcome, are those that every reader may rely
/// on.
#[macro_export]
macro_rules! sample_columns {
    ($callback:ident) => {
        $callback! {
            /// Stage at which it failed.
            stage: Option<Stage> = "stage",
            /// Error in one line, without secrets.
            error: Option<String> = "error",
            /// Opening the SMTP connection: TCP and, with implicit TLS, the handshake.
            smtp_connect: Option<Micros> = "smtp_connect_us",
            /// From the start of the connection to the reply that accepts the message.
            smtp_send: Option<Micros> = "smtp_send_us",
            /// Opening the POP3 or IMAP connection: TCP and, with implicit TLS, the handshake.
            pickup_connect: Option<Micros> = "pickup_connect_us",
            /// From the first credential command to its final reply.
            pickup_login: Option<Micros> = "pickup_login_us",
            /// From the retrieval command to the last byte of the mail.
            pickup_receive: Option<Micros> = "pickup_receive_us",
            /// Best estimate of the round trip.
            round_trip: Option<Micros> = "round_trip_us",
            /// Half the width of the interval that certainly contains the arrival.
            round_trip_error: Option<Micros> = "round_trip_error_us",
            /// Half the width of the interval that contains the arrival with 99 % probability,
            /// calibrated by earlier mails.
            round_trip_likely_error: Option<Micros> = "round_trip_likely_error_us",
            /// `false` while the mail may still be found late; null and `true` mean settled.
            settled: Option<bool> = "settled",
            /// Why the sample does not count in availability.
            excluded: Option<Exclusion> = "excluded",
            /// The monitor's test interval at the time of the test, to which "three test intervals"
            /// refers.
            test_interval: Option<Micros> = "test_interval_us",
            /// The monitor's max round trip at the time of the test.
            max_round_trip: Option<Micros> = "max_round_trip_us",
            /// Opening the TCP connection to the SMTP server.
            smtp_tcp: Option<Micros> = "smtp_tcp_us",
            /// The TLS handshake with the SMTP server.
            smtp_tls: Option<Micros> = "smtp_tls_us",
            /// Waiting for the SMTP greeting.
            smtp_greeting: Option<Micros> = "smtp_greeting_us",
            /// EHLO (both, with STARTTLS).
            smtp_ehlo: Option<Micros> = "smtp_ehlo_us",
            /// SMTP authentication.
            smtp_auth: Option<Micros> = "smtp_auth_us",
            /// MAIL and RCPT.
            smtp_envelope: Option<Micros> = "smtp_envelope_us",
            /// DATA, the content, and the reply that accepts it.
            smtp_data: Option<Micros> = "smtp_data_us",
            /// Opening the TCP connection to the mailbox server.
            pickup_tcp: Option<Micros> = "pickup_tcp_us",
            /// The TLS handshake with the mailbox server.
            pickup_tls: Option<Micros> = "pickup_tls_us",
            /// Waiting for the greeting of the mailbox server.
            pickup_greeting: Option<Micros> = "pickup_greeting_us",
            /// Listing or searching the mailbox.
            pickup_list: Option<Micros> = "pickup_list_us",
            /// Number of pick-ups until the mail was found.
            pickups: Option<i32> = "pickups",
            /// How often the mail was offered to the SMTP server.
            smtp_attempts: Option<i32> = "smtp_attempts",
            /// The SMTP server's last reply code.
            smtp_reply_code: Option<i32> = "smtp_reply_code",
            /// The SMTP server's last enhanced status code (RFC 3463).
            smtp_enhanced_status: Option<String> = "smtp_enhanced_status",
            /// TLS version of the connection to the SMTP server, such as `TLSv1.3`.
            smtp_tls_version: Option<String> = "smtp_tls_version",
            /// Cipher suite of the connection to the SMTP server.
            smtp_tls_cipher: Option<String> = "smtp_tls_cipher",
            /// Expiry of the SMTP server's certificate.
            smtp_certificate_expires_at: Option<UtcMicros> = "smtp_certificate_expires_at",
            /// TLS version of the connection to the mailbox server.
            pickup_tls_version: Option<String> = "pickup_tls_version",
            /// Cipher suite of the connection to the mailbox server.
            pickup_tls_cipher: Option<String> = "pickup_tls_cipher",
            /// Expiry of the mailbox server's certificate.
            pickup_certificate_expires_at: Option<UtcMicros> = "pickup_certificate_expires_at",
            /// Whether certificates were not verified, by the monitor's explicit setting.
            tls_unverified: Option<bool> = "tls_unverified",
            /// The folder in which the mail was found.
            folder: Option<String> = "folder",
            /// Configured folders that could not be opened at the last pick-up, separated by
            /// commas: they were not searched.
            folders_missing: Option<String> = "folders_missing",
            /// Number of further copies of the mail that were found.
            duplicates: Option<i32> = "duplicates",
            /// The mail's hops, oldest first.
            hops: Option<Vec<Hop>> = "hops",
            /// From the start of the first submission attempt to the reply that accepted the mail,
            /// including pauses; with one attempt the same as [`Sample::smtp_send`].
            smtp_elapsed: Option<Micros> = "smtp_elapsed_us",
            /// Whether the connection ended before the server confirmed the mail.
            send_uncertain: Option<bool> = "send_uncertain",
            /// Size of the sent mail in bytes.
            message_bytes: Option<i32> = "message_bytes",
            /// SPF verdict of the receiving system (RFC 7208), from `Authentication-Results` (RFC
            /// 8601).
            spf: Option<String> = "spf",
            /// DKIM verdict of the receiving system (RFC 6376).
            dkim: Option<String> = "dkim",
            /// DMARC verdict of the receiving system (RFC 9989).
            dmarc: Option<String> = "dmarc",
            /// Decision of its spam filter: `spam` or `ham`.
            spam_verdict: Option<String> = "spam_verdict",
            /// Score of its spam filter, on that filter's scale.
            spam_score: Option<f64> = "spam_score",
            /// The kind of test, such as `mailbox`; null is `mail-qos`.
            kind: Option<String> = "kind",
            /// Over Microsoft Graph, the access token was there already: [`Sample::pickup_login`] is
            /// zero.
            pickup_token_cached: Option<bool> = "pickup_token_cached",
        }
    };
}

macro_rules! define_sample {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $column:literal,)+) => {
        /// One test's row in the lake. `None` is null and means unknown, never zero.
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct Sample {
            /// The tested monitor.
            pub monitor: MonitorId,
            /// Start of the test; unique for a monitor within a site.
            pub started_at: UtcMicros,
            /// Outcome of the test.
            pub outcome: Outcome,
            $($(#[$doc])* pub $field: $type,)+
        }

        impl Sample {
            /// Creates a sample without measurements.
            pub fn new(monitor: MonitorId, started_at: UtcMicros, outcome: Outcome) -> Self {
                Self {
                    monitor,
                    started_at,
                    outcome,
                    $($field: None,)+
                }
            }
        }
    };
}

sample_columns!(define_sample);

impl Sample {
    /// Returns whether the mail may still arrive late.
    pub fn is_provisional(&self) -> bool {
        self.settled == Some(false)
    }
}
