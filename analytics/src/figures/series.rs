//! One monitor's samples at one site as columns, sorted by time.

use std::{ops::Range, sync::Arc};

use mailqos_core::model::{Exclusion, Micros, Outcome, Stage, UtcMicros};

use super::periods::Period;

/// Column of durations in the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Metric {
    /// Best estimate of the round trip.
    RoundTrip,
    /// Opening the SMTP connection.
    SmtpConnect,
    /// From the start of the SMTP connection to the reply that accepts the message.
    SmtpSend,
    /// Opening the POP3 or IMAP connection.
    PickupConnect,
    /// Log-in to the mailbox.
    PickupLogin,
    /// Retrieving the mail.
    PickupReceive,
    /// Half the width of the interval in which the landing must lie.
    RoundTripError,
    /// Opening the TCP connection to the SMTP server.
    SmtpTcp,
    /// TLS handshake with the SMTP server.
    SmtpTls,
    /// Waiting for the SMTP greeting.
    SmtpGreeting,
    /// EHLO.
    SmtpEhlo,
    /// SMTP authentication.
    SmtpAuth,
    /// MAIL and RCPT.
    SmtpEnvelope,
    /// DATA, the content, and the reply that accepts it.
    SmtpData,
    /// Opening the TCP connection to the mailbox's server.
    PickupTcp,
    /// TLS handshake with the mailbox's server.
    PickupTls,
    /// Waiting for the greeting of the mailbox's server.
    PickupGreeting,
    /// Listing or searching the mailbox.
    PickupList,
}

impl Metric {
    /// All of them; the six of the contracts first, in their order.
    pub const ALL: [Self; 18] = [
        Self::RoundTrip,
        Self::SmtpConnect,
        Self::SmtpSend,
        Self::PickupConnect,
        Self::PickupLogin,
        Self::PickupReceive,
        Self::RoundTripError,
        Self::SmtpTcp,
        Self::SmtpTls,
        Self::SmtpGreeting,
        Self::SmtpEhlo,
        Self::SmtpAuth,
        Self::SmtpEnvelope,
        Self::SmtpData,
        Self::PickupTcp,
        Self::PickupTls,
        Self::PickupGreeting,
        Self::PickupList,
    ];

    /// The six that `stats` shows.
    pub const CONTRACT: [Self; 6] = [
        Self::RoundTrip,
        Self::SmtpConnect,
        Self::SmtpSend,
        Self::PickupConnect,
        Self::PickupLogin,
        Self::PickupReceive,
    ];

    /// Its name in `stats` and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoundTrip => "round_trip",
            Self::SmtpConnect => "smtp_connect",
            Self::SmtpSend => "smtp_send",
            Self::PickupConnect => "pickup_connect",
            Self::PickupLogin => "pickup_login",
            Self::PickupReceive => "pickup_receive",
            Self::RoundTripError => "round_trip_error",
            Self::SmtpTcp => "smtp_tcp",
            Self::SmtpTls => "smtp_tls",
            Self::SmtpGreeting => "smtp_greeting",
            Self::SmtpEhlo => "smtp_ehlo",
            Self::SmtpAuth => "smtp_auth",
            Self::SmtpEnvelope => "smtp_envelope",
            Self::SmtpData => "smtp_data",
            Self::PickupTcp => "pickup_tcp",
            Self::PickupTls => "pickup_tls",
            Self::PickupGreeting => "pickup_greeting",
            Self::PickupList => "pickup_list",
        }
    }

    /// Its column in the lake.
    pub fn column(self) -> String {
        format!("{}_us", self.as_str())
    }
}

impl std::str::FromStr for Metric {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|metric| metric.as_str() == text)
            .ok_or_else(|| {
                format!(
                    "{text:?} is no metric; there are {}",
                    Self::ALL.map(Self::as_str).join(", ")
                )
            })
    }
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What stands for null among the values; no duration is that negative.
const NULL: i64 = i64::MIN;

/// Durations in microseconds, some of them null.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Durations(Vec<i64>);

impl Durations {
    /// The value of a row.
    pub fn get(&self, row: usize) -> Option<Micros> {
        self.0.get(row).copied().filter(|value| *value != NULL).map(Micros)
    }

    /// All values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<Micros>> + '_ {
        self.0.iter().map(|value| (*value != NULL).then_some(Micros(*value)))
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the column was not asked for, or there is no row.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, value: Option<i64>) {
        self.0.push(value.unwrap_or(NULL));
    }

    pub(super) fn push_nulls(&mut self, count: usize) {
        self.0.resize(self.0.len() + count, NULL);
    }

    pub(super) fn select(&mut self, rows: &[u32]) {
        self.0 = rows.iter().map(|row| self.0[*row as usize]).collect();
    }
}

impl FromIterator<Option<Micros>> for Durations {
    fn from_iter<I: IntoIterator<Item = Option<Micros>>>(values: I) -> Self {
        Self(
            values
                .into_iter()
                .map(|value| value.map_or(NULL, |value| value.0))
                .collect(),
        )
    }
}

/// The samples of one monitor at one site, by time; each column has one value a sample, or none where it was not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    /// The site, as the lake names it. Lakes of other writers may use names that no configuration would accept.
    pub site: Arc<str>,
    /// The monitor, as the lake names it.
    pub monitor: Arc<str>,
    /// When each test began, in microseconds since 1970 UTC; ascending.
    pub started_at: Vec<i64>,
    /// What became of each test.
    pub outcome: Vec<Outcome>,
    /// Why a sample does not count.
    pub excluded: Vec<Option<Exclusion>>,
    /// Whether the mail may still be found late.
    pub provisional: Vec<bool>,
    /// Where each test failed.
    pub stage: Vec<Option<Stage>>,
    /// One line about each failure.
    pub error: Vec<Option<Arc<str>>>,
    /// The SMTP server's last reply code.
    pub smtp_reply_code: Vec<Option<i32>>,
    /// The monitor's test interval at each test.
    pub test_interval: Durations,
    /// The monitor's max round trip at each test.
    pub max_round_trip: Durations,
    /// The stations of each mail, oldest first: who wrote the `Received` field and how long after the one before.
    pub hops: Vec<Option<Arc<[HopDelay]>>>,
    /// The metrics, by `Metric as usize`.
    pub(super) metrics: [Durations; Metric::ALL.len()],
    /// The samples of the period; those before and after it are context for outages.
    pub inside: Range<usize>,
}

/// One station of a mail: its name and the time since the station before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HopDelay {
    /// The server that wrote the `Received` field.
    pub by: Option<Arc<str>>,
    /// The time since the station before, by the clocks of the two servers.
    pub delay: Option<Micros>,
    /// The delay can't be true.
    pub clock_suspect: bool,
}

impl Series {
    /// How many samples there are, context included.
    pub fn len(&self) -> usize {
        self.started_at.len()
    }

    /// Whether there is no sample at all.
    pub fn is_empty(&self) -> bool {
        self.started_at.is_empty()
    }

    /// A metric's column.
    pub fn metric(&self, metric: Metric) -> &Durations {
        &self.metrics[metric as usize]
    }

    /// When a test began.
    pub fn at(&self, row: usize) -> UtcMicros {
        UtcMicros(self.started_at[row])
    }

    /// Why a sample does not count.
    pub fn exclusion(&self, row: usize) -> Option<Exclusion> {
        self.excluded.get(row).copied().flatten()
    }

    /// Whether a test counts: outcome other than `not_tested`, outside maintenance.
    pub fn counts(&self, row: usize) -> bool {
        self.outcome[row] != Outcome::NotTested && self.exclusion(row).is_none()
    }

    /// The rows of the tests in the period that count.
    pub fn counted(&self) -> impl Iterator<Item = usize> + '_ {
        self.counted_in(self.inside.clone())
    }

    /// The rows in a range that count.
    pub fn counted_in(&self, rows: Range<usize>) -> impl Iterator<Item = usize> + '_ {
        rows.filter(|row| self.counts(*row))
    }

    /// The rows whose tests began in `[from, to)`, never outside the period.
    pub fn rows(&self, from: UtcMicros, to: UtcMicros) -> Range<usize> {
        let inside = &self.started_at[self.inside.clone()];
        let first = inside.partition_point(|at| *at < from.0);
        let last = inside.partition_point(|at| *at < to.0);
        self.inside.start + first..self.inside.start + last.max(first)
    }

    /// The non-null values of a metric over the counted tests of a range, in microseconds.
    pub fn values(&self, metric: Metric, rows: Range<usize>) -> Vec<i64> {
        let column = &self.metric(metric).0;
        if column.is_empty() {
            return Vec::new();
        }
        rows.filter(|row| column[*row] != NULL && self.counts(*row))
            .map(|row| column[row])
            .collect()
    }

    /// The same samples, of which only those in `period` are inside; the others become context.
    #[must_use]
    pub fn within(mut self, period: &Period) -> Self {
        let first = self.started_at.partition_point(|at| *at < period.from.0);
        let last = self.started_at.partition_point(|at| *at < period.to.0);
        self.inside = first..last.max(first);
        self
    }

    /// A copy with only some of its rows, all inside: for tests and for filtered figures.
    #[must_use]
    pub fn select(&self, rows: &[u32]) -> Self {
        fn pick<T: Clone>(column: &[T], rows: &[u32]) -> Vec<T> {
            if column.is_empty() {
                return Vec::new();
            }
            rows.iter().map(|row| column[*row as usize].clone()).collect()
        }
        let durations = |column: &Durations| {
            let mut column = column.clone();
            if !column.is_empty() {
                column.select(rows);
            }
            column
        };
        Self {
            site: Arc::clone(&self.site),
            monitor: Arc::clone(&self.monitor),
            started_at: pick(&self.started_at, rows),
            outcome: pick(&self.outcome, rows),
            excluded: pick(&self.excluded, rows),
            provisional: pick(&self.provisional, rows),
            stage: pick(&self.stage, rows),
            error: pick(&self.error, rows),
            smtp_reply_code: pick(&self.smtp_reply_code, rows),
            test_interval: durations(&self.test_interval),
            max_round_trip: durations(&self.max_round_trip),
            hops: pick(&self.hops, rows),
            metrics: std::array::from_fn(|metric| durations(&self.metrics[metric])),
            inside: 0..rows.len(),
        }
    }
}
