//! What can be read from a sample in addition to its outcome: metrics and other columns.

use mailqos_model::words;

words!(
    /// Column of durations in the lake; the six that `stats` shows come first.
    Metric, "metric" {
        /// Best estimate of the round trip.
        RoundTrip = "round_trip",
        /// Opening the SMTP connection.
        SmtpConnect = "smtp_connect",
        /// From the start of the SMTP connection to the reply that accepts the message.
        SmtpSend = "smtp_send",
        /// Opening the POP3 or IMAP connection.
        PickupConnect = "pickup_connect",
        /// Login to the mailbox.
        PickupLogin = "pickup_login",
        /// Retrieving the mail.
        PickupReceive = "pickup_receive",
        /// Half the width of the interval that contains the arrival.
        RoundTripError = "round_trip_error",
        /// Opening the TCP connection to the SMTP server.
        SmtpTcp = "smtp_tcp",
        /// TLS handshake with the SMTP server.
        SmtpTls = "smtp_tls",
        /// Waiting for the SMTP greeting.
        SmtpGreeting = "smtp_greeting",
        /// EHLO.
        SmtpEhlo = "smtp_ehlo",
        /// SMTP authentication.
        SmtpAuth = "smtp_auth",
        /// MAIL and RCPT.
        SmtpEnvelope = "smtp_envelope",
        /// DATA, the content, and the reply that accepts it.
        SmtpData = "smtp_data",
        /// Opening the TCP connection to the mailbox server.
        PickupTcp = "pickup_tcp",
        /// TLS handshake with the mailbox server.
        PickupTls = "pickup_tls",
        /// Waiting for the greeting of the mailbox server.
        PickupGreeting = "pickup_greeting",
        /// Listing or searching the mailbox.
        PickupList = "pickup_list",
    }
);

impl Metric {
    /// The six that `stats` shows.
    pub const CONTRACT: [Self; 6] = [
        Self::RoundTrip,
        Self::SmtpConnect,
        Self::SmtpSend,
        Self::PickupConnect,
        Self::PickupLogin,
        Self::PickupReceive,
    ];

    /// Returns the metric's column in the lake.
    pub fn column(self) -> String {
        format!("{}_us", self.as_str())
    }
}

words!(
    /// Columns in addition to the outcome that a query may need. Exclusion and provisional state
    /// are always read.
    Column, "column" {
        /// Where a test failed.
        Stage = "stage",
        /// One line about the failure.
        Error = "error",
        /// The SMTP server's last reply code.
        SmtpReplyCode = "smtp_reply_code",
        /// The monitor's test interval.
        TestInterval = "test_interval_us",
        /// The monitor's max round trip.
        MaxRoundTrip = "max_round_trip_us",
        /// The hops of the mail.
        Hops = "hops",
        /// Whether a certificate was accepted unverified.
        Unverified = "tls_unverified",
    }
);
