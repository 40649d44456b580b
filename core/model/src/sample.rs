//! Samples: the rows that tests store in the lake. Names and meanings are defined in the contracts.

use super::{Micros, MonitorId, Placement, UtcMicros, words};

words!(
    /// Outcome of a test.
    Outcome, "outcome" {
        /// The mail arrived within the maximum round trip.
        Ok = "ok",
        /// The mail arrived after the maximum round trip.
        Late = "late",
        /// The mail did not arrive within the horizon.
        Lost = "lost",
        /// The mail could not be submitted to the SMTP server.
        SmtpFailed = "smtp_failed",
        /// The mailbox could not be read.
        PickupFailed = "pickup_failed",
        /// The probe itself could not test, because of a local network failure or a shutdown.
        NotTested = "not_tested",
    }
);

words!(
    /// The stage at which a test failed.
    Stage, "stage" {
        /// Opening the TCP connection to the SMTP server, including name resolution.
        SmtpConnect = "smtp_connect",
        /// The TLS handshake with the SMTP server, implicit or after STARTTLS.
        SmtpTls = "smtp_tls",
        /// The SMTP greeting and EHLO.
        SmtpGreeting = "smtp_greeting",
        /// SMTP authentication.
        SmtpAuth = "smtp_auth",
        /// The envelope: MAIL and RCPT.
        SmtpRcpt = "smtp_rcpt",
        /// The content of the mail, up to the reply that accepts it.
        SmtpData = "smtp_data",
        /// Opening the TCP connection to the mailbox server, including name resolution.
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
        /// The test started in a maintenance window.
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
    /// The server that sent the mail to it.
    pub from: Option<String>,
    /// Time stamp of the field by that server's clock.
    pub at: Option<UtcMicros>,
    /// Time since the previous hop, by the two servers' clocks; negative if they disagree.
    pub delay: Option<Micros>,
    /// Whether the delay is implausible because the clocks of the two servers disagree.
    pub clock_suspect: bool,
}

/// Calls a macro with every column of a sample except its key and outcome, in the order of day
/// files: field, type, and the column's name in the lake. Columns are declared only here;
/// [`Sample`] and the lake's table of columns are generated from this list. Durations are in
/// microseconds. Every reader may rely on the first nine columns, the key and the outcome.
#[macro_export]
macro_rules! sample_columns {
    ($callback:ident) => {
        $callback! {
            /// Stage at which the test failed.
            stage: Option<Stage> = "stage",
            /// Error in one line, without secrets.
            error: Option<String> = "error",
            /// Time to open the SMTP connection: TCP and, with implicit TLS, the handshake.
            smtp_connect: Option<Micros> = "smtp_connect_us",
            /// Time from the start of the connection to the reply that accepts the mail.
            smtp_send: Option<Micros> = "smtp_send_us",
            /// Time to open the POP3 or IMAP connection: TCP and, with implicit TLS, the handshake.
            pickup_connect: Option<Micros> = "pickup_connect_us",
            /// Time from the first credential command to its final reply.
            pickup_login: Option<Micros> = "pickup_login_us",
            /// Time from the retrieval command to the last byte of the mail.
            pickup_receive: Option<Micros> = "pickup_receive_us",
            /// Best estimate of the round trip.
            round_trip: Option<Micros> = "round_trip_us",
            /// Half-width of the interval in which the arrival must lie.
            round_trip_error: Option<Micros> = "round_trip_error_us",
            /// Half-width of the interval in which the arrival lies with a probability of 99 %,
            /// calibrated with earlier mails.
            round_trip_likely_error: Option<Micros> = "round_trip_likely_error_us",
            /// `false` while the mail may still arrive late; null and `true` mean settled.
            settled: Option<bool> = "settled",
            /// Reason why the sample does not count in the availability.
            excluded: Option<Exclusion> = "excluded",
            /// Test interval of the monitor at the time of the test, to which "three test
            /// intervals" refers.
            test_interval: Option<Micros> = "test_interval_us",
            /// Maximum round trip of the monitor at the time of the test.
            max_round_trip: Option<Micros> = "max_round_trip_us",
            /// Time to open the TCP connection to the SMTP server.
            smtp_tcp: Option<Micros> = "smtp_tcp_us",
            /// Duration of the TLS handshake with the SMTP server.
            smtp_tls: Option<Micros> = "smtp_tls_us",
            /// Time until the SMTP greeting.
            smtp_greeting: Option<Micros> = "smtp_greeting_us",
            /// Duration of EHLO (both, with STARTTLS).
            smtp_ehlo: Option<Micros> = "smtp_ehlo_us",
            /// Duration of SMTP authentication.
            smtp_auth: Option<Micros> = "smtp_auth_us",
            /// Duration of MAIL and RCPT.
            smtp_envelope: Option<Micros> = "smtp_envelope_us",
            /// Duration of DATA, the content, and the reply that accepts it.
            smtp_data: Option<Micros> = "smtp_data_us",
            /// Time to open the TCP connection to the mailbox server.
            pickup_tcp: Option<Micros> = "pickup_tcp_us",
            /// Duration of the TLS handshake with the mailbox server.
            pickup_tls: Option<Micros> = "pickup_tls_us",
            /// Time until the greeting of the mailbox server.
            pickup_greeting: Option<Micros> = "pickup_greeting_us",
            /// Duration of listing or searching the mailbox.
            pickup_list: Option<Micros> = "pickup_list_us",
            /// Number of pick-ups until the mail was found.
            pickups: Option<i32> = "pickups",
            /// Number of attempts to submit the mail to the SMTP server.
            smtp_attempts: Option<i32> = "smtp_attempts",
            /// Last reply code of the SMTP server.
            smtp_reply_code: Option<i32> = "smtp_reply_code",
            /// Last enhanced status code of the SMTP server (RFC 3463).
            smtp_enhanced_status: Option<String> = "smtp_enhanced_status",
            /// TLS version of the SMTP connection, such as `TLSv1.3`.
            smtp_tls_version: Option<String> = "smtp_tls_version",
            /// Cipher suite of the SMTP connection.
            smtp_tls_cipher: Option<String> = "smtp_tls_cipher",
            /// Expiry of the SMTP server's certificate.
            smtp_certificate_expires_at: Option<UtcMicros> = "smtp_certificate_expires_at",
            /// TLS version of the mailbox connection.
            pickup_tls_version: Option<String> = "pickup_tls_version",
            /// Cipher suite of the mailbox connection.
            pickup_tls_cipher: Option<String> = "pickup_tls_cipher",
            /// Expiry of the mailbox server's certificate.
            pickup_certificate_expires_at: Option<UtcMicros> = "pickup_certificate_expires_at",
            /// Whether certificates were not verified, because of the monitor's setting.
            tls_unverified: Option<bool> = "tls_unverified",
            /// Folder in which the mail was found.
            folder: Option<String> = "folder",
            /// Configured folders that could not be opened in the last pick-up and were not
            /// searched, separated by commas.
            folders_missing: Option<String> = "folders_missing",
            /// Number of further copies of the mail.
            duplicates: Option<i32> = "duplicates",
            /// Hops of the mail, oldest first.
            hops: Option<Vec<Hop>> = "hops",
            /// Time from the start of the first attempt to submit the mail to the reply that
            /// accepted it, including pauses. With one attempt, it equals [`Sample::smtp_send`].
            smtp_elapsed: Option<Micros> = "smtp_elapsed_us",
            /// Whether the connection ended before the server reported whether it accepted the
            /// mail.
            send_uncertain: Option<bool> = "send_uncertain",
            /// Size of the mail as sent, in bytes.
            message_bytes: Option<i32> = "message_bytes",
            /// SPF verdict of the receiving system (RFC 7208), from `Authentication-Results` (RFC
            /// 8601).
            spf: Option<String> = "spf",
            /// DKIM verdict of the receiving system (RFC 6376).
            dkim: Option<String> = "dkim",
            /// DMARC verdict of the receiving system (RFC 9989).
            dmarc: Option<String> = "dmarc",
            /// Verdict of the receiving system's spam filter: `spam` or `ham`.
            spam_verdict: Option<String> = "spam_verdict",
            /// Score of the receiving system's spam filter, on that filter's own scale.
            spam_score: Option<f64> = "spam_score",
            /// Kind of the test, such as `mailbox`; null means `mail-qos`.
            kind: Option<String> = "kind",
            /// Whether, over Microsoft Graph, an existing access token was used, so that
            /// [`Sample::pickup_login`] is zero.
            pickup_token_cached: Option<bool> = "pickup_token_cached",
            /// Kind of the folder in which the mail was found; null if unknown, as over POP3, which
            /// shows no folders.
            placement: Option<Placement> = "placement",
        }
    };
}

macro_rules! define_sample {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $column:literal,)+) => {
        /// The row of a test in the lake. `None` is null: unknown, never zero.
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct Sample {
            /// Monitor of the test.
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
