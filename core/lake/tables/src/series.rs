//! One monitor's samples at one site as columns, sorted by time.

use std::{ops::Range, sync::Arc};

use mailqos_model::{Exclusion, Micros, Outcome, Stage, UtcMicros};

use super::lake::{Column, SeriesQuery};

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

/// What stands for null among the values; no duration is that long, and none is that negative.
const NULL_NARROW: u32 = u32::MAX;
const NULL_WIDE: i64 = i64::MIN;

/// Durations in microseconds, some of them null: in four bytes each as long as none is negative or longer than 71 minutes,
/// for a year of them has to fit into memory.
#[derive(Debug, Clone)]
pub struct Durations(Store);

#[derive(Debug, Clone)]
enum Store {
    Narrow(Vec<u32>),
    Wide(Vec<i64>),
}

impl Default for Durations {
    fn default() -> Self {
        Self(Store::Narrow(Vec::new()))
    }
}

impl PartialEq for Durations {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Durations {}

impl Durations {
    /// What stands for null in four bytes.
    pub(super) const NULL: u32 = NULL_NARROW;

    /// Values in four bytes each, [`Durations::NULL`] for null.
    pub(super) fn narrow(values: Vec<u32>) -> Self {
        Self(Store::Narrow(values))
    }

    /// The value of a row.
    #[inline]
    pub fn get(&self, row: usize) -> Option<Micros> {
        match &self.0 {
            Store::Narrow(values) => values.get(row).copied().and_then(narrow),
            Store::Wide(values) => values.get(row).copied().and_then(wide),
        }
    }

    /// All values, in order.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<Micros>> + '_ {
        (0..self.len()).map(|row| self.get(row))
    }

    /// How many rows there are.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Store::Narrow(values) => values.len(),
            Store::Wide(values) => values.len(),
        }
    }

    /// Whether the column was not asked for, or there is no row.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes all away, but keeps the room.
    fn clear(&mut self) {
        match &mut self.0 {
            Store::Narrow(values) => values.clear(),
            Store::Wide(_) => *self = Self::default(),
        }
    }

    pub(super) fn reserve(&mut self, rows: usize) {
        match &mut self.0 {
            Store::Narrow(values) => values.reserve_exact(rows),
            Store::Wide(values) => values.reserve_exact(rows),
        }
    }

    /// Adds a value.
    #[inline]
    pub fn push(&mut self, value: Option<Micros>) {
        let value = value.map_or(NULL_WIDE, |value| value.0);
        match &mut self.0 {
            Store::Narrow(values) if value == NULL_WIDE => values.push(NULL_NARROW),
            Store::Narrow(values) if fits(value) => values.push(value as u32),
            _ => self.widened().push(value),
        }
    }

    pub(super) fn push_nulls(&mut self, count: usize) {
        match &mut self.0 {
            Store::Narrow(values) => values.resize(values.len() + count, NULL_NARROW),
            Store::Wide(values) => values.resize(values.len() + count, NULL_WIDE),
        }
    }

    /// Adds values that are not null.
    pub(super) fn append(&mut self, more: &[i64]) {
        match &mut self.0 {
            // Without an early end, so that the check runs in wide registers.
            Store::Narrow(values) if more.iter().fold(true, |all, value| all & fits(*value)) => {
                values.extend(more.iter().map(|value| *value as u32));
            }
            _ => self.widened().extend(more),
        }
    }

    /// Adds values of which only those are not null whose bit is set: the lowest bit of the first word
    /// is the first value's.
    pub(super) fn append_nullable<W: Iterator<Item = u64>>(&mut self, more: &[i64], words: impl Fn() -> W) {
        let blocks = || more.chunks(64).zip(words());
        if let Store::Narrow(values) = &mut self.0 {
            let before = values.len();
            values.reserve(more.len());
            // Without a branch that could be guessed wrongly: what is not valid becomes the mark of null.
            let mut all_fit = true;
            for (block, word) in blocks() {
                values.extend(block.iter().enumerate().map(|(index, value)| {
                    let null = (word >> index) & 1 == 0;
                    all_fit &= null | fits(*value);
                    *value as u32 | 0_u32.wrapping_sub(null.into())
                }));
            }
            if all_fit {
                return;
            }
            values.truncate(before);
        }
        let values = self.widened();
        for (block, word) in blocks() {
            let valid = |index: usize| (word >> index) & 1 == 1;
            let each = block.iter().enumerate();
            values.extend(each.map(|(index, value)| if valid(index) { *value } else { NULL_WIDE }));
        }
    }

    /// Adds some rows of another column.
    pub(super) fn append_rows(&mut self, from: &Self, rows: Range<usize>) {
        match (&mut self.0, &from.0) {
            (Store::Narrow(values), Store::Narrow(more)) => values.extend_from_slice(&more[rows]),
            (_, Store::Narrow(more)) => self.widened().extend(more[rows].iter().map(|value| widen(*value))),
            (_, Store::Wide(more)) => self.widened().extend_from_slice(&more[rows]),
        }
    }

    /// Whether a value may be longer than 71 minutes.
    pub(super) fn may_be_long(&self) -> bool {
        matches!(self.0, Store::Wide(_))
    }

    fn widened(&mut self) -> &mut Vec<i64> {
        if let Store::Narrow(values) = &self.0 {
            self.0 = Store::Wide(values.iter().map(|value| widen(*value)).collect());
        }
        match &mut self.0 {
            Store::Wide(values) => values,
            Store::Narrow(_) => unreachable!("it has just been widened"),
        }
    }

    pub(super) fn select(&mut self, rows: &[u32]) {
        match &mut self.0 {
            Store::Narrow(values) => *values = rows.iter().map(|row| values[*row as usize]).collect(),
            Store::Wide(values) => *values = rows.iter().map(|row| values[*row as usize]).collect(),
        }
    }

    /// Adds the non-null values of those rows for which `counts` is true.
    fn collect_into(&self, rows: Range<usize>, counts: &[bool], values: &mut Values) {
        fn keep<F: Copy, T: Copy + Default>(
            from: &[F],
            counts: &[bool],
            null: impl Fn(F) -> bool,
            into: impl Fn(F) -> T,
            to: &mut Vec<T>,
        ) {
            // Writes each value and moves on only behind those that are kept: no branch that could be guessed wrongly.
            let begin = to.len();
            to.resize(begin + from.len(), T::default());
            let mut end = begin;
            for (value, counts) in from.iter().zip(counts) {
                to[end] = into(*value);
                end += usize::from(*counts & !null(*value));
            }
            to.truncate(end);
        }
        let counts = &counts[rows.clone()];
        match (&self.0, &mut *values) {
            (Store::Narrow(from), Values::Narrow(to)) => {
                keep(&from[rows], counts, |value| value == NULL_NARROW, |value| value, to);
            }
            (Store::Narrow(from), Values::Wide(to)) => {
                keep(&from[rows], counts, |value| value == NULL_NARROW, i64::from, to);
            }
            (Store::Wide(from), _) => {
                let to = values.widened();
                keep(&from[rows], counts, |value| value == NULL_WIDE, |value| value, to);
            }
        }
    }
}

#[inline]
fn fits(value: i64) -> bool {
    (value as u64) < NULL_NARROW as u64
}

#[inline]
fn narrow(value: u32) -> Option<Micros> {
    (value != NULL_NARROW).then(|| Micros(value.into()))
}

#[inline]
fn wide(value: i64) -> Option<Micros> {
    (value != NULL_WIDE).then_some(Micros(value))
}

#[inline]
fn widen(value: u32) -> i64 {
    if value == NULL_NARROW { NULL_WIDE } else { value.into() }
}

impl FromIterator<Option<Micros>> for Durations {
    fn from_iter<I: IntoIterator<Item = Option<Micros>>>(values: I) -> Self {
        let mut durations = Self::default();
        for value in values {
            durations.push(value);
        }
        durations
    }
}

/// Values of a metric in microseconds, none of them null, in any order; in four bytes each where all of them fit.
#[derive(Debug, Clone)]
pub enum Values {
    /// None is negative or longer than 71 minutes.
    Narrow(Vec<u32>),
    /// Any.
    Wide(Vec<i64>),
}

impl Default for Values {
    fn default() -> Self {
        Self::Narrow(Vec::new())
    }
}

impl Values {
    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Narrow(values) => values.len(),
            Self::Wide(values) => values.len(),
        }
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes all of them away, but keeps the room.
    pub fn clear(&mut self) {
        match self {
            Self::Narrow(values) => values.clear(),
            Self::Wide(_) => *self = Self::default(),
        }
    }

    /// How many are not greater than a limit.
    pub fn up_to(&self, limit: Micros) -> u64 {
        match self {
            Self::Narrow(values) => match u32::try_from(limit.0) {
                Ok(limit) => values.iter().map(|value| u64::from(*value <= limit)).sum(),
                Err(_) => values.len() as u64,
            },
            Self::Wide(values) => values.iter().map(|value| u64::from(*value <= limit.0)).sum(),
        }
    }

    /// Adds a value.
    #[inline]
    pub fn push(&mut self, value: Micros) {
        match self {
            Self::Narrow(values) if fits(value.0) => values.push(value.0 as u32),
            _ => self.widened().push(value.0),
        }
    }

    /// The median in microseconds, by reordering; `None` of nothing.
    pub fn median(&mut self) -> Option<f64> {
        fn middle<T: Copy + Ord + Into<i64>>(values: &mut [T]) -> Option<f64> {
            let half = values.len() / 2;
            if values.is_empty() {
                return None;
            }
            let (below, upper, _) = values.select_nth_unstable(half);
            let upper: i64 = (*upper).into();
            let lower = if below.len() * 2 == values.len() {
                values[..half].iter().max().copied().map_or(upper, Into::into)
            } else {
                upper
            };
            Some(f64::midpoint(lower as f64, upper as f64))
        }
        match self {
            Self::Narrow(values) => middle(values),
            Self::Wide(values) => middle(values),
        }
    }

    /// Adds another's.
    pub fn append(&mut self, more: &mut Self) {
        match (&mut *self, more) {
            (Self::Narrow(values), Self::Narrow(more)) => values.append(more),
            (_, Self::Narrow(more)) => self.widened().extend(more.drain(..).map(i64::from)),
            (_, Self::Wide(more)) => self.widened().append(more),
        }
    }

    fn widened(&mut self) -> &mut Vec<i64> {
        if let Self::Narrow(values) = self {
            *self = Self::Wide(values.iter().map(|value| i64::from(*value)).collect());
        }
        match self {
            Self::Wide(values) => values,
            Self::Narrow(_) => unreachable!("it has just been widened"),
        }
    }
}

/// What tells the series of a site apart: a monitor, and the kind of its tests. A monitor whose
/// kind was changed has one series of each, so that no figure mixes kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeriesKey {
    /// The monitor, as the lake names it.
    pub monitor: Arc<str>,
    /// The kind of its tests; `None` is `mail-qos`.
    pub kind: Option<Arc<str>>,
}

/// Whether tests of a kind are about mails that arrive: others have neither a delivery rate nor a
/// share of mails delivered within a time.
pub fn has_mails(kind: Option<&str>) -> bool {
    kind != Some("mailbox")
}

/// The samples of one monitor at one site, by time; each column has one value a sample, or none where it was not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    /// The site, as the lake names it. Lakes of other writers may use names that no configuration would accept.
    pub site: Arc<str>,
    /// The monitor, as the lake names it.
    pub monitor: Arc<str>,
    /// The kind of its tests; `None` is `mail-qos`.
    pub kind: Option<Arc<str>>,
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
    /// Whether a certificate was accepted unverified at each test.
    pub unverified: Vec<bool>,
    /// The metrics, by `Metric as usize`.
    pub metrics: [Durations; Metric::ALL.len()],
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
    #[inline]
    pub fn len(&self) -> usize {
        self.started_at.len()
    }

    /// Whether there is no sample at all.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.started_at.is_empty()
    }

    /// A metric's column.
    #[inline]
    pub fn metric(&self, metric: Metric) -> &Durations {
        &self.metrics[metric as usize]
    }

    /// When a test began.
    #[inline]
    pub fn at(&self, row: usize) -> UtcMicros {
        UtcMicros(self.started_at[row])
    }

    /// Why a sample does not count.
    #[inline]
    pub fn exclusion(&self, row: usize) -> Option<Exclusion> {
        self.excluded.get(row).copied().flatten()
    }

    /// Whether a test counts: outcome other than `not_tested`, outside maintenance.
    #[inline]
    pub fn counts(&self, row: usize) -> bool {
        self.outcome[row] != Outcome::NotTested && self.exclusion(row).is_none()
    }

    /// The rows of the tests in the period that count.
    #[inline]
    pub fn counted(&self) -> impl Iterator<Item = usize> + '_ {
        self.counted_in(self.inside.clone())
    }

    /// The rows in a range that count.
    #[inline]
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
        let column = self.metric(metric);
        if column.is_empty() {
            return Vec::new();
        }
        rows.filter(|row| self.counts(*row))
            .filter_map(|row| column.get(row).map(|value| value.0))
            .collect()
    }

    /// Which rows count; see [`Series::counts`].
    pub fn counting(&self) -> Vec<bool> {
        let mut counting: Vec<bool> = self
            .outcome
            .iter()
            .map(|outcome| *outcome != Outcome::NotTested)
            .collect();
        for (counts, excluded) in counting.iter_mut().zip(&self.excluded) {
            *counts &= excluded.is_none();
        }
        counting
    }

    /// Adds the non-null values of a metric over a range to others; `counting` is [`Series::counting`].
    pub fn values_into(&self, metric: Metric, rows: Range<usize>, counting: &[bool], values: &mut Values) {
        let column = self.metric(metric);
        if !column.is_empty() {
            column.collect_into(rows, counting, values);
        }
    }

    /// Begins anew with another monitor's samples, in the same memory.
    pub(super) fn restart(&mut self, site: &Arc<str>, key: &SeriesKey) {
        let Self {
            site: own_site,
            monitor: own_monitor,
            kind,
            started_at,
            outcome,
            excluded,
            provisional,
            stage,
            error,
            smtp_reply_code,
            test_interval,
            max_round_trip,
            hops,
            unverified,
            metrics,
            inside,
        } = self;
        (*own_site, *own_monitor, *inside) = (Arc::clone(site), Arc::clone(&key.monitor), 0..0);
        kind.clone_from(&key.kind);
        started_at.clear();
        outcome.clear();
        excluded.clear();
        provisional.clear();
        stage.clear();
        error.clear();
        smtp_reply_code.clear();
        hops.clear();
        unverified.clear();
        for durations in [test_interval, max_round_trip].into_iter().chain(metrics) {
            durations.clear();
        }
    }

    pub(super) fn reserve(&mut self, rows: usize, query: &SeriesQuery) {
        self.started_at.reserve_exact(rows);
        self.outcome.reserve_exact(rows);
        for metric in &query.metrics {
            self.metrics[*metric as usize].reserve(rows);
        }
        for (column, durations) in [
            (Column::TestInterval, &mut self.test_interval),
            (Column::MaxRoundTrip, &mut self.max_round_trip),
        ] {
            if query.columns.contains(&column) {
                durations.reserve(rows);
            }
        }
    }

    /// Lets go of columns in which nothing stands: they read as before, and a year of them has to fit into memory.
    pub fn leave_out_empty(&mut self) {
        fn drop_if<T>(column: &mut Vec<T>, is_empty: impl Fn(&T) -> bool) {
            if column.iter().all(is_empty) {
                *column = Vec::new();
            }
        }
        drop_if(&mut self.excluded, Option::is_none);
        drop_if(&mut self.stage, Option::is_none);
        drop_if(&mut self.error, Option::is_none);
        drop_if(&mut self.smtp_reply_code, Option::is_none);
        drop_if(&mut self.hops, Option::is_none);
        drop_if(&mut self.unverified, |unverified| !unverified);
        drop_if(&mut self.provisional, |provisional| !provisional);
        for column in self
            .metrics
            .iter_mut()
            .chain([&mut self.test_interval, &mut self.max_round_trip])
        {
            if column.iter().all(|value| value.is_none()) {
                *column = Durations::default();
            }
        }
    }

    /// Only those samples that lie in `period` are inside from now on; the others become context.
    pub fn confine(&mut self, period: impl Into<Range<UtcMicros>>) {
        let period = period.into();
        let first = self.started_at.partition_point(|at| *at < period.start.0);
        let last = self.started_at.partition_point(|at| *at < period.end.0);
        self.inside = first..last.max(first);
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
            kind: self.kind.clone(),
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
            unverified: pick(&self.unverified, rows),
            metrics: std::array::from_fn(|metric| durations(&self.metrics[metric])),
            inside: 0..rows.len(),
        }
    }
}
