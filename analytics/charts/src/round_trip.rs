//! Chart of a metric over time: median, spread, failures, maintenance, alarms and shifts on a
//! common time axis.

use mailqos_model::UtcMicros;

use super::{
    Chart, Data, Datum, Measure,
    axis::{Axis, Scale, TimeSpan, place},
    canvas::{At, Canvas, Hover, SMALL, TEXT, text_width},
    locale::ChartLocale,
    palette::Ink,
    plot::{ChartContent, Plot, headline, moment, period, sentence},
    reduce::{envelope, m4, median},
};

/// Maximum rows of the data table; more buckets are merged.
const MAX_ROWS: usize = 400;
/// Ratio of the highest to the lowest value above which a linear axis would hide the lowest.
const DECADES: f64 = 40.0;

/// Input of the chart.
#[derive(Debug, Clone)]
pub struct RoundTrip {
    /// Title of the chart; if empty, the finding is the title.
    pub title: String,
    /// Name of the metric within a sentence, such as `round trip`.
    pub metric: String,
    /// Width of the chart in pixels.
    pub width: u32,
    /// Period shown.
    pub period: TimeSpan,
    /// Median over the whole period, in microseconds, if known; it can't be derived from the
    /// buckets.
    pub median: Option<f64>,
    /// Buckets, in ascending order; a gap between two buckets is a gap in the line.
    pub buckets: Vec<Bucket>,
    /// Maximum round trip, in microseconds.
    pub limit: Option<f64>,
    /// Failed tests.
    pub failures: Vec<Failure>,
    /// Maintenance windows.
    pub maintenance: Vec<TimeSpan>,
    /// Times at which alarms were raised, with their texts.
    pub alarms: Vec<(UtcMicros, String)>,
    /// Lasting shifts of the level.
    pub shifts: Vec<Shift>,
}

/// Values of a part of the period, in microseconds.
#[derive(Debug, Clone, Default)]
pub struct Bucket {
    /// Start, in microseconds since 1970 UTC.
    pub start: i64,
    /// End, in microseconds since 1970 UTC.
    pub end: i64,
    /// Number of values.
    pub count: u64,
    /// 5th percentile, median and 95th percentile; `None` if there are too few values.
    pub spread: Option<[f64; 3]>,
    /// Individual values with their times, if there are too few for percentiles.
    pub points: Vec<(UtcMicros, f64)>,
}

/// A failed test.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    /// Start of the test.
    pub at: UtcMicros,
    /// Kind of the failure.
    pub kind: Kind,
}

/// Kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The mail arrived late.
    Late,
    /// The pick-up failed.
    NotFetched,
    /// Sending failed.
    NotSent,
    /// The mail did not arrive.
    Lost,
}

/// A lasting shift of the level.
#[derive(Debug, Clone, Copy)]
pub struct Shift {
    /// Time of the shift.
    pub at: UtcMicros,
    /// Median before the shift, in microseconds.
    pub before: f64,
    /// Median after the shift, in microseconds.
    pub after: f64,
}

const KINDS: [(Kind, f64, Ink); 4] = [
    (Kind::Late, 5.0, Ink::Late),
    (Kind::NotFetched, 8.0, Ink::Failed),
    (Kind::NotSent, 8.0, Ink::Failed),
    (Kind::Lost, 12.0, Ink::Failed),
];

fn counted(kind: Kind, count: usize, locale: &dyn ChartLocale) -> String {
    let text = match kind {
        Kind::Late => "{0} late",
        Kind::NotFetched => "{0} not picked up",
        Kind::NotSent => "{0} not sent",
        Kind::Lost => "{0} lost",
    };
    locale.fill(text, &[&locale.count(count as u64)])
}

/// Draws the chart.
pub fn chart(data: &RoundTrip, locale: &dyn ChartLocale) -> Chart {
    let within = |at: UtcMicros| at >= data.period.from && at < data.period.to;
    let mut data = data.clone();
    data.failures.retain(|failure| within(failure.at));
    data.alarms.retain(|alarm| within(alarm.0));
    data.shifts.retain(|shift| within(shift.at));
    data.failures.sort_by_key(|failure| failure.at);
    data.alarms.sort_by_key(|alarm| alarm.0);
    data.shifts.sort_by_key(|shift| shift.at);
    drawn(&data, locale)
}

/// Draws a chart whose input is sorted.
fn drawn(data: &RoundTrip, locale: &dyn ChartLocale) -> Chart {
    let buckets: Vec<&Bucket> = data
        .buckets
        .iter()
        .filter(|bucket| bucket.end > data.period.from.0 && bucket.start < data.period.to.0)
        .collect();
    let facts = Facts::of(&buckets, data);
    let range = range(&data.buckets);
    let axis = axis(range, data.limit, 5, locale);
    let failures = failures(data, locale);
    let finding = finding(data, locale);
    let title = headline(&data.title, &finding);
    let alternative = [finding, facts.extremes(locale), failures.clone()]
        .into_iter()
        .filter(|sentence| !sentence.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    let width = data.width.clamp(240, 2_000);
    let flags = if data.alarms.is_empty() { 0.0 } else { 14.0 };
    let shifts = if data.shifts.is_empty() { 0.0 } else { 15.0 };
    let lane = if failures.is_empty() { 0.0 } else { 17.0 };
    let above = data.limit.filter(|limit| *limit > axis.high).map_or(0.0, |_| 12.0);
    let height = 190.0 + flags + shifts + above + lane + 24.0;
    let names = [(locale.t("median"), TEXT), (&failed(data, locale), SMALL)]
        .map(|(text, size)| text_width(text, size) + 10.0)
        .into_iter()
        .fold(58.0, f64::max);
    let plot = Plot {
        left: (axis.label_width(TEXT) + 8.0).max(24.0),
        right: f64::from(width) - names,
        top: 12.0 + flags + shifts + above,
        bottom: height - 24.0 - lane,
    };
    let pen = |canvas: &mut Canvas| {
        let drawing = Drawing { data, buckets: &buckets, axis: &axis, plot, locale };
        drawing.ground(canvas);
        if range.is_none() {
            plot.no_values(canvas, TEXT, locale);
        }
        drawing.values(canvas);
        drawing.peak(canvas);
        drawing.label(canvas);
        drawing.flags(canvas, 2.0);
        drawing.shifts(canvas, above);
        drawing.limit(canvas);
        drawing.failures(canvas, lane);
        plot.time_axis(canvas, data.period, (plot.bottom + lane, f64::from(width)), locale);
    };
    ChartContent {
        title: &title,
        subtitle: subtitle(data, &axis, &facts, locale),
        finding: alternative,
        data: table(&buckets, data, locale),
    }
    .chart(width, height, pen)
    .hovering(&hover(&buckets, data, plot))
    .over(data.period, plot)
}

/// Returns the lowest and highest value to draw.
pub(super) fn range(buckets: &[Bucket]) -> Option<(f64, f64)> {
    buckets
        .iter()
        .flat_map(|bucket| {
            bucket.spread.into_iter().flatten().chain(bucket.points.iter().map(|point| point.1))
        })
        .filter(|value| value.is_finite() && *value >= 0.0)
        .map(|value| (value, value))
        .reduce(|(low, high), (least, greatest)| (low.min(least), high.max(greatest)))
}

/// Returns the axis that suits these values: linear from zero, or logarithmic if they span decades.
pub(super) fn axis(
    range: Option<(f64, f64)>,
    limit: Option<f64>,
    most: usize,
    locale: &dyn ChartLocale,
) -> Axis {
    let Some((least, greatest)) = range else {
        return Axis::from_zero(limit.unwrap_or(0.0), most, locale);
    };
    // The limit is drawn unless it would flatten the data; otherwise a label above the data states
    // it.
    if greatest > least.max(1.0) * DECADES {
        let limit = limit.filter(|limit| *limit <= greatest * 10.0).unwrap_or(0.0);
        Axis::log(least, greatest.max(limit), most + 1, locale)
    } else {
        let limit = limit.filter(|limit| *limit <= greatest * 2.5).unwrap_or(0.0);
        Axis::from_zero(greatest.max(limit), most, locale)
    }
}

/// Draws lines, bands, points and failures, without labels, into an existing plot.
pub(super) fn lines(
    canvas: &mut Canvas,
    data: &RoundTrip,
    axis: &Axis,
    plot: Plot,
    locale: &dyn ChartLocale,
) {
    let buckets: Vec<&Bucket> = data.buckets.iter().collect();
    let drawing = Drawing { data, buckets: &buckets, axis, plot, locale };
    drawing.values(canvas);
    drawing.ticks(canvas);
}

/// Summary of the values.
struct Facts {
    /// Times and values of the lowest and the highest median.
    calm: Option<(i64, f64)>,
    worst: Option<(i64, f64)>,
    points: bool,
    band: bool,
}

impl Facts {
    fn of(buckets: &[&Bucket], data: &RoundTrip) -> Self {
        let good = |value: &f64| value.is_finite() && *value >= 0.0;
        let mut medians: Vec<(i64, f64)> = buckets
            .iter()
            .filter_map(|bucket| bucket.spread.map(|spread| (bucket.start, spread[1])))
            .filter(|(_, median)| good(median))
            .collect();
        if medians.is_empty() {
            medians = buckets
                .iter()
                .flat_map(|bucket| bucket.points.iter().map(|(at, value)| (at.0, *value)))
                .filter(|(_, value)| good(value))
                .collect();
        }
        medians.sort_by(|one, other| one.1.total_cmp(&other.1));
        let end = |median: Option<&(i64, f64)>| {
            median.map(|(at, value)| ((*at).max(data.period.from.0), *value))
        };
        Self {
            calm: end(medians.first()),
            worst: end(medians.last()),
            points: buckets.iter().any(|bucket| !bucket.points.is_empty()),
            band: buckets.iter().any(|bucket| bucket.spread.is_some()),
        }
    }

    fn extremes(&self, locale: &dyn ChartLocale) -> String {
        match (self.calm, self.worst) {
            (Some((low_at, low)), Some((high_at, high))) if low < high => locale.fill(
                "It was lowest on {1} ({0}) and highest on {3} ({2}).",
                &[
                    &locale.duration(low),
                    &moment(UtcMicros(low_at), locale),
                    &locale.duration(high),
                    &moment(UtcMicros(high_at), locale),
                ],
            ),
            _ => String::new(),
        }
    }
}

fn finding(data: &RoundTrip, locale: &dyn ChartLocale) -> String {
    let Some(median) = data.median else {
        return locale.fill("No {0} was measured.", &[&data.metric]);
    };
    match data.shifts.iter().max_by(|one, other| shift(one).abs().total_cmp(&shift(other).abs())) {
        Some(change) => locale.fill(
            "The median {0} changed from {1} to {2} on {3}.",
            &[
                &data.metric,
                &locale.duration(change.before),
                &locale.duration(change.after),
                &moment(change.at, locale),
            ],
        ),
        None => locale.fill("The median {0} was {1}.", &[&data.metric, &locale.duration(median)]),
    }
}

fn shift(change: &Shift) -> f64 {
    change.after - change.before
}

fn failures(data: &RoundTrip, locale: &dyn ChartLocale) -> String {
    KINDS
        .iter()
        .rev()
        .filter_map(|(kind, ..)| {
            let count = data.failures.iter().filter(|failure| failure.kind == *kind).count();
            (count > 0).then(|| counted(*kind, count, locale))
        })
        .collect::<Vec<_>>()
        .join(", ")
}

fn subtitle(data: &RoundTrip, axis: &Axis, facts: &Facts, locale: &dyn ChartLocale) -> String {
    let mut parts = Vec::new();
    if facts.band {
        parts.push(locale.t("median and middle 90 % of tests"));
    }
    if facts.points {
        parts.push(locale.t("dots: individual tests"));
    }
    if axis.scale == Scale::Log {
        parts.push(locale.t("logarithmic scale"));
    }
    if !data.failures.is_empty() {
        parts.push(locale.t("ticks below: failed tests"));
    }
    if !data.maintenance.is_empty() {
        parts.push(locale.t("hatched: maintenance"));
    }
    if !data.alarms.is_empty() {
        parts.push(locale.t("flags: alarms"));
    }
    parts.retain(|part| !part.is_empty());
    format!("{}. {}", sentence(&parts), period(data.period, locale))
}

/// Returns the number of failed tests, with the kind of failure if it is the same for all.
fn failed(data: &RoundTrip, locale: &dyn ChartLocale) -> String {
    let count = data.failures.len();
    match data.failures.first() {
        Some(first) if data.failures.iter().all(|failure| failure.kind == first.kind) => {
            counted(first.kind, count, locale)
        }
        _ => locale.fill("{0} failed", &[&locale.count(count as u64)]),
    }
}

struct Drawing<'a> {
    data: &'a RoundTrip,
    buckets: &'a [&'a Bucket],
    axis: &'a Axis,
    plot: Plot,
    locale: &'a dyn ChartLocale,
}

impl Drawing<'_> {
    fn x(&self, at: i64) -> f64 {
        self.plot.x(place(self.data.period, UtcMicros(at)))
    }

    fn y(&self, value: f64) -> f64 {
        self.plot.y(self.axis.place(value))
    }

    fn ground(&self, canvas: &mut Canvas) {
        for window in self.data.maintenance.iter().take(500) {
            let (from, to) = (self.x(window.from.0), self.x(window.to.0));
            let width = (to - from).max(1.0);
            let title =
                format!("{}: {}", self.locale.t("Maintenance"), period(*window, self.locale));
            self.plot.shade(canvas, from, width, &title);
        }
        self.plot.value_axis(canvas, self.axis);
    }

    /// Returns the runs of buckets with a spread and without gaps.
    fn runs(&self) -> Vec<Vec<(&Bucket, [f64; 3])>> {
        let mut runs: Vec<Vec<(&Bucket, [f64; 3])>> = Vec::new();
        let mut end = None;
        for bucket in self.buckets {
            let Some(spread) =
                bucket.spread.filter(|spread| spread.iter().all(|value| value.is_finite()))
            else {
                end = None;
                continue;
            };
            if end != Some(bucket.start) {
                runs.push(Vec::new());
            }
            end = Some(bucket.end);
            if let Some(run) = runs.last_mut() {
                run.push((bucket, spread));
            }
        }
        runs
    }

    fn values(&self, canvas: &mut Canvas) {
        let columns = (self.plot.width() as usize).max(1);
        let middle =
            |bucket: &Bucket| place(self.data.period, UtcMicros(bucket.start / 2 + bucket.end / 2));
        // Line and band extend to the outer ends of the first and last bucket.
        let ends = |run: &[(&Bucket, [f64; 3])]| {
            let first = run.first().map_or(0, |(bucket, _)| bucket.start);
            let last = run.last().map_or(0, |(bucket, _)| bucket.end);
            (place(self.data.period, UtcMicros(first)), place(self.data.period, UtcMicros(last)))
        };
        let runs = self.runs();
        for run in &runs {
            if let [(bucket, spread)] = run.as_slice() {
                // A single bucket is drawn with its width, not as a point.
                let (from, to) = (self.x(bucket.start), self.x(bucket.end));
                let width = (to - from).max(2.0);
                canvas.rect(
                    (from, self.y(spread[2])),
                    (width, self.y(spread[0]) - self.y(spread[2])),
                    Ink::Band,
                );
                continue;
            }
            let mut spreads: Vec<(f64, f64, f64)> =
                run.iter().map(|(bucket, spread)| (middle(bucket), spread[0], spread[2])).collect();
            let (first, last) = ends(run);
            spreads.insert(0, (first, run[0].1[0], run[0].1[2]));
            spreads.push((last, run[run.len() - 1].1[0], run[run.len() - 1].1[2]));
            let spreads = envelope(&spreads, columns);
            let upper = spreads.iter().map(|(x, _, high)| (self.plot.x(*x), self.y(*high)));
            let lower = spreads.iter().rev().map(|(x, low, _)| (self.plot.x(*x), self.y(*low)));
            let outline: Vec<(f64, f64)> = upper.chain(lower).collect();
            canvas.polygon(&outline, Ink::Band);
        }
        for run in &runs {
            if let [(bucket, spread)] = run.as_slice() {
                let (from, to) = (self.x(bucket.start), self.x(bucket.end));
                let y = self.y(spread[1]);
                canvas.line((from, y), (to.max(from + 2.0), y), Ink::Accent, 1.6);
                continue;
            }
            let mut points: Vec<(f64, f64)> =
                run.iter().map(|(bucket, spread)| (middle(bucket), spread[1])).collect();
            let (first, last) = ends(run);
            points.insert(0, (first, run[0].1[1]));
            points.push((last, run[run.len() - 1].1[1]));
            let line: Vec<(f64, f64)> = m4(&points, columns)
                .iter()
                .map(|(x, value)| (self.plot.x(*x), self.y(*value)))
                .collect();
            canvas.path(&line, Ink::Accent, 1.6);
        }
        let mut points: Vec<(f64, f64)> = self
            .buckets
            .iter()
            .flat_map(|bucket| bucket.points.iter())
            .filter(|(at, value)| {
                value.is_finite() && *at >= self.data.period.from && *at < self.data.period.to
            })
            .map(|(at, value)| (place(self.data.period, *at), *value))
            .collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        for (x, value) in m4(&points, columns / 2) {
            canvas.disc((self.plot.x(x), self.y(value)), 1.8, Ink::Accent);
        }
    }

    /// Draws the value of an isolated peak.
    fn peak(&self, canvas: &mut Canvas) {
        let runs = self.runs();
        let mut tops: Vec<(f64, i64)> =
            runs.iter().flatten().map(|(bucket, spread)| (spread[2], bucket.start)).collect();
        tops.sort_by(|one, other| one.0.total_cmp(&other.0));
        let usual = tops.get(tops.len() * 19 / 20).map_or(0.0, |top| top.0);
        let Some((top, at)) = tops.last().filter(|top| tops.len() >= 20 && top.0 > usual * 2.0)
        else {
            return;
        };
        let text = self.locale.duration(*top);
        let (x, y) = (self.x(*at), self.y(*top) + 9.0);
        let (x, at) = if x + text_width(&text, SMALL) + 5.0 > self.plot.right {
            (x - 4.0, At::End)
        } else {
            (x + 5.0, At::Start)
        };
        self.plot.framed(canvas, &text, at.point(x, y));
    }

    /// Draws names at the right end of line and band, if there is room.
    fn label(&self, canvas: &mut Canvas) {
        let runs = self.runs();
        let Some((_, spread)) = runs.last().and_then(|run| run.last()) else {
            return;
        };
        let x = self.plot.right + 6.0;
        let mut median = self.y(spread[1]) + 4.0;
        let (mut low, mut high) = (self.y(spread[0]) + 4.0, self.y(spread[2]) + 4.0);
        high = high.min(median - 14.0);
        low = low.max(median + 14.0);
        // The text never covers the labels of the time axis.
        let over = (low - self.plot.bottom - 4.0).max(0.0);
        (low, median, high) = (low - over, median - over, high.min(median - over - 14.0));
        canvas.strong(self.locale.t("median"), At::Start.point(x, median), Ink::Accent, TEXT);
        canvas.text("p95", At::Start.point(x, high), Ink::Grey, SMALL);
        canvas.text("p5", At::Start.point(x, low), Ink::Grey, SMALL);
    }

    fn limit(&self, canvas: &mut Canvas) {
        let Some(limit) = self.data.limit.filter(|limit| limit.is_finite() && *limit > 0.0) else {
            return;
        };
        let text =
            self.locale.fill("max {0} {1}", &[&self.data.metric, &self.locale.duration(limit)]);
        if limit > self.axis.high {
            let text = self.locale.fill("{0}, beyond the scale ↑", &[&text]);
            let (x, at) = self.beside_flags(&text, At::End);
            self.plot.framed(canvas, &text, at.point(x, self.plot.top - 5.0));
            return;
        }
        let y = self.y(limit);
        canvas.line((self.plot.left, y), (self.plot.right, y), Ink::Ink, 1.0);
        let above = if y - self.plot.top > 14.0 { y - 4.0 } else { y + 12.0 };
        let (x, at) = self.beside_flags(&text, At::Start);
        self.plot.framed(canvas, &text, at.point(x, above));
    }

    /// Returns the end of the plot for a text: the preferred one, or the other if a flag would
    /// cross it.
    fn beside_flags(&self, text: &str, preferred: At) -> (f64, At) {
        let width = text_width(text, SMALL) + 4.0;
        let (left, right) = (self.plot.left + 4.0, self.plot.right);
        let crossed = |from: f64| {
            let mut flags = self.data.alarms.iter().map(|(at, _)| self.x(at.0));
            flags.any(|x| (from - 10.0..from + width).contains(&x))
        };
        let (at_start, at_end) = (crossed(left), crossed(right - width));
        match preferred {
            At::End if at_end && !at_start => (left, At::Start),
            At::End => (right, At::End),
            _ if at_start && !at_end => (right, At::End),
            _ => (left, At::Start),
        }
    }

    fn shifts(&self, canvas: &mut Canvas, above: f64) {
        let base = self.plot.top - above - 5.0;
        let mut free = self.plot.left;
        for change in &self.data.shifts {
            let x = self.x(change.at.0);
            canvas.line((x, base - 10.0), (x, self.plot.bottom), Ink::Ink, 1.0);
            canvas.dashed("1 3");
            let text = self.locale.shift(shift(change));
            let width = text_width(&text, SMALL);
            // To the right of the line, or to the left at the edge of the canvas.
            let (from, at) = if x + 4.0 + width > self.plot.right + 50.0 {
                (x - 4.0 - width, At::End)
            } else {
                (x + 4.0, At::Start)
            };
            if from < free {
                continue;
            }
            free = from + width + 6.0;
            let anchor = if at == At::End { x - 4.0 } else { x + 4.0 };
            self.plot.framed(canvas, &text, at.point(anchor, base));
            canvas.title(format!(
                "{}: {} → {}",
                moment(change.at, self.locale),
                self.locale.duration(change.before),
                self.locale.duration(change.after)
            ));
        }
    }

    fn flags(&self, canvas: &mut Canvas, top: f64) {
        let mut free = f64::MIN;
        for (at, text) in &self.data.alarms {
            let x = self.x(at.0);
            // Flags closer than their width would merge into a blot.
            if x < free {
                continue;
            }
            free = x + 3.0;
            canvas.line((x, top), (x, self.plot.bottom), Ink::Failed, 0.5);
            canvas.polygon(&[(x, top), (x + 8.0, top + 3.5), (x, top + 7.0)], Ink::Failed);
            canvas.title(format!("{}: {text}", moment(*at, self.locale)));
        }
    }

    /// Draws failed tests as ticks below the plot.
    fn ticks(&self, canvas: &mut Canvas) {
        let top = self.plot.bottom + 3.0;
        for (kind, height, ink) in KINDS {
            let mut before = f64::MIN;
            for failure in self.data.failures.iter().filter(|failure| failure.kind == kind) {
                let x = self.x(failure.at.0);
                if x - before >= 0.75 {
                    canvas.line((x, top), (x, top + height), ink, 1.25);
                    before = x;
                }
            }
        }
    }

    fn failures(&self, canvas: &mut Canvas, lane: f64) {
        if lane == 0.0 {
            return;
        }
        self.ticks(canvas);
        let text = failed(self.data, self.locale);
        let base = self.plot.bottom + 13.0;
        canvas.text(&text, At::Start.point(self.plot.right + 6.0, base), Ink::Failed, SMALL);
        canvas.title(failures(self.data, self.locale));
    }
}

/// Returns the positions of the table's rows: each row extends to the start of the next.
fn hover(buckets: &[&Bucket], data: &RoundTrip, plot: Plot) -> Hover {
    let x = |at: i64| plot.x(place(data.period, UtcMicros(at)));
    let begins = buckets.chunks(together(buckets)).filter_map(|chunk| chunk.first());
    let edges = begins.map(|bucket| x(bucket.start));
    Hover::table(edges.chain(buckets.last().map(|bucket| x(bucket.end))), [])
}

/// Returns the number of buckets per row of the table.
fn together(buckets: &[&Bucket]) -> usize {
    buckets.len().div_ceil(MAX_ROWS).max(1)
}

fn table(buckets: &[&Bucket], data: &RoundTrip, locale: &dyn ChartLocale) -> Data {
    let together = together(buckets);
    // The percentiles of merged buckets are unknown; only those of each bucket are known.
    let [low, middle, high] = if together == 1 {
        ["p5", "median", "p95"]
    } else {
        ["lowest p5", "median of medians", "highest p95"]
    };
    let heads = ["from", "tests with a value", low, middle, high, "failed tests"]
        .map(|head| locale.t(head).to_owned());
    let rows = buckets
        .chunks(together)
        .map(|chunk| {
            let (start, end) =
                (chunk.first().map_or(0, |one| one.start), chunk.last().map_or(0, |one| one.end));
            let values: Vec<[f64; 3]> = chunk.iter().filter_map(|bucket| bucket.spread).collect();
            let duration = |value| Datum::measured(value, Measure::Duration, locale);
            let mut medians: Vec<f64> = values.iter().map(|spread| spread[1]).collect();
            if values.is_empty() {
                medians.extend(
                    chunk.iter().flat_map(|bucket| bucket.points.iter().map(|point| point.1)),
                );
            }
            let failed =
                data.failures.iter().filter(|failure| (start..end).contains(&failure.at.0)).count();
            vec![
                Datum::moment(moment(UtcMicros(start), locale), UtcMicros(start)),
                Datum::count(chunk.iter().map(|bucket| bucket.count).sum(), locale),
                duration(values.iter().map(|spread| spread[0]).reduce(f64::min)),
                duration(median(medians)),
                duration(values.iter().map(|spread| spread[2]).reduce(f64::max)),
                Datum::count(failed as u64, locale),
            ]
        })
        .collect();
    Data::new(heads.into(), rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_day_with_all_marks_is_drawn() {
        let (data, locale) = samples::round_trip_small();
        let chart = chart(&data, &locale);
        insta::assert_snapshot!(samples::shown(&chart));
    }

    proptest::proptest! {
        #[test]
        fn any_values_can_be_drawn(
            from: i64,
            to: i64,
            limit: f64,
            buckets in proptest::collection::vec(
                (proptest::num::i64::ANY, proptest::num::i64::ANY, proptest::array::uniform3(proptest::num::f64::ANY)),
                0..40,
            ),
        ) {
            let (mut data, locale) = samples::round_trip_small();
            data.period = TimeSpan { from: UtcMicros(from), to: UtcMicros(to) };
            data.limit = Some(limit);
            for (start, end, values) in buckets {
                let points = values.map(|value| (UtcMicros(start), value)).to_vec();
                data.buckets.push(Bucket { start, end, count: 3, spread: Some(values), points });
            }
            let chart = chart(&data, &locale);
            proptest::prop_assert!(!chart.svg.contains("NaN") && !chart.svg.contains("inf"));
        }
    }

    #[test]
    fn an_empty_chart_states_that_nothing_was_measured() {
        let (mut data, locale) = samples::round_trip_small();
        data.buckets.clear();
        data.failures.clear();
        data.median = None;
        let chart = chart(&data, &locale);
        assert!(chart.svg.contains("no values"));
        assert_eq!(chart.title, "No round trip was measured");
        assert!(!chart.svg.contains("NaN"));
    }

    #[test]
    fn the_stated_median_is_that_of_the_period_not_of_its_buckets() {
        let (mut data, locale) = samples::round_trip_small();
        data.shifts.clear();
        data.median = Some(1_234_000.0);
        let chart = chart(&data, &locale);
        assert!(
            chart.alternative.starts_with("The median round trip was 1.23\u{a0}s."),
            "{}",
            chart.alternative
        );
    }

    #[test]
    fn ten_thousand_buckets_keep_their_peak() {
        let (data, locale) = samples::round_trip_many();
        let chart = chart(&data, &locale);
        assert!(chart.svg.len() < 150_000, "{} bytes", chart.svg.len());
        assert!(chart.data.len() <= MAX_ROWS);
        assert!(
            chart.data.rows().any(|row| row[4].text == "9.87\u{a0}s"),
            "the peak is in the table"
        );
    }
}
