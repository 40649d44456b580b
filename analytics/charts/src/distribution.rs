//! Distribution chart: the share of tests delivered within a time, and a histogram of the times.

use super::{
    Chart, Data, Datum, Measure,
    axis::{Axis, TimeSpan},
    canvas::{At, Canvas, Hover, SMALL, TEXT, text_width},
    locale::{ChartLocale, DASH},
    palette::Ink,
    plot::{ChartContent, Plot, period, sentence},
    reduce::median,
};

/// Maximum number of points of the curve.
const COLUMNS: usize = 400;

/// Input of the chart.
#[derive(Debug, Clone)]
pub struct Distribution {
    /// Title of the chart; if empty, the finding is the title.
    pub title: String,
    /// Name of the metric within a sentence, such as `round trip`.
    pub metric: String,
    /// Width of the chart in pixels.
    pub width: u32,
    /// Period shown.
    pub period: TimeSpan,
    /// Values of delivered tests, in microseconds, in any order.
    pub values: Vec<f64>,
    /// Number of counted tests, including those whose mail never arrived.
    pub tests: u64,
    /// Thresholds to mark, in microseconds.
    pub thresholds: Vec<f64>,
}

/// The values to draw, in ascending order, and the informative thresholds.
struct Times {
    values: Vec<f64>,
    /// Number of counted tests, including those without a value.
    tests: u64,
    thresholds: Vec<f64>,
}

impl Times {
    fn of(data: &Distribution) -> Self {
        let sorted = |values: &[f64], is_valid: fn(f64) -> bool| {
            let valid = |value: &f64| value.is_finite() && is_valid(*value);
            let mut values: Vec<f64> = values.iter().copied().filter(valid).collect();
            values.sort_unstable_by(f64::total_cmp);
            values
        };
        let values = sorted(&data.values, |value| value >= 0.0);
        let mut thresholds = sorted(&data.thresholds, |limit| limit > 0.0);
        thresholds.dedup();
        let times =
            Self { tests: data.tests.max(values.len() as u64), values, thresholds: Vec::new() };
        // Of the thresholds that all mails met, only the first is informative.
        let greatest = times.greatest();
        let kept = thresholds
            .iter()
            .position(|limit| *limit >= greatest)
            .map_or(thresholds.len(), |first| first + 1);
        thresholds.truncate(kept);
        Self { thresholds, ..times }
    }

    fn greatest(&self) -> f64 {
        self.values.last().copied().unwrap_or(1e6)
    }

    /// Returns the number of values within a limit.
    fn within(&self, limit: f64) -> u64 {
        self.values.partition_point(|value| *value <= limit) as u64
    }

    /// Returns the share of the tests within a limit, if there are tests.
    fn share(&self, limit: f64) -> Option<f64> {
        (self.tests > 0).then(|| self.within(limit) as f64 / self.tests as f64)
    }

    fn axis(&self, locale: &dyn ChartLocale) -> Axis {
        let least = self.values.first().copied().unwrap_or(1e5).max(1.0);
        let greatest = self.greatest();
        let last = self.thresholds.last().copied().unwrap_or(greatest);
        Axis::log(least, last.max(greatest), 7, locale)
    }
}

/// Draws the chart.
pub fn chart(data: &Distribution, locale: &dyn ChartLocale) -> Chart {
    let times = Times::of(data);
    let width = data.width.clamp(240, 2_000);
    let axis = times.axis(locale);
    let lane = 15.0;
    let marks = marks(&times.thresholds, &axis, (44.0, f64::from(width) - 10.0), |limit| {
        let share = times.share(limit);
        let share = share.map_or_else(|| DASH.to_owned(), |share| locale.share(share));
        format!("{}: {share}", locale.duration(limit))
    });
    let lanes = marks.iter().map(|mark| mark.lane + 1).max().unwrap_or(0) as f64;
    let curve = Plot {
        left: 44.0,
        right: f64::from(width) - 10.0,
        top: 6.0 + lanes * lane,
        bottom: 6.0 + lanes * lane + 150.0,
    };
    let bars = Plot { top: curve.bottom + 22.0, bottom: curve.bottom + 92.0, ..curve };
    let height = (bars.bottom + 22.0).ceil();
    let bins = bins(bars, &axis, &times.values);
    let pen = |canvas: &mut Canvas| {
        let percent = Axis::share(0.0, 1.0, 5, locale);
        bars.value_axis_below(canvas, &axis, f64::from(width));
        for tick in &axis.ticks {
            let x = curve.x(axis.place(tick.value));
            canvas.line((x, curve.top), (x, curve.bottom), Ink::Hair, 0.75);
        }
        curve.value_axis(canvas, &percent);
        for mark in &marks {
            mark.draw(canvas, 12.0 + mark.lane as f64 * lane, bars.bottom);
        }
        if times.values.is_empty() {
            curve.no_values(canvas, TEXT, locale);
            return;
        }
        steps(canvas, curve, &axis, &times);
        label(canvas, curve, &times, locale);
        histogram(canvas, bars, &bins, locale);
    };
    ChartContent {
        title: &data.title,
        subtitle: format!(
            "{}. {}",
            sentence(&[
                &locale.fill("share of all tests by {0}", &[&data.metric]),
                locale.t("below: how often each value occurred"),
                locale.t("logarithmic scale"),
            ]),
            period(data.period, locale)
        ),
        finding: finding(&times, &data.metric, locale),
        data: table(&axis, &times, locale),
    }
    .chart(width, height, pen)
    .hovering(&hover(bars, &axis, &bins, locale))
}

/// Draws the name of the curve, and the number of mails that it omits.
fn label(canvas: &mut Canvas, curve: Plot, times: &Times, locale: &dyn ChartLocale) {
    canvas.text(
        locale.t("delivered within"),
        At::Start.point(curve.left + 5.0, curve.top + 14.0),
        Ink::Accent,
        TEXT,
    );
    let found = times.values.len();
    let lost = times.tests - found as u64;
    if lost > 0 {
        let text = locale.fill("{0} with no observed arrival", &[&locale.count(lost)]);
        let y = curve.y(found as f64 / times.tests as f64);
        let base = if y - curve.top > 16.0 { y - 5.0 } else { y + 14.0 };
        curve.framed(canvas, &text, At::End.point(curve.right - 3.0, base));
    }
}

/// A threshold and the position of its label.
struct Mark {
    x: f64,
    lane: usize,
    left: bool,
    text: String,
}

impl Mark {
    /// Draws the threshold down to `bottom`, with its label on a base line.
    fn draw(&self, canvas: &mut Canvas, base: f64, bottom: f64) {
        canvas.line((self.x, base - 10.0), (self.x, bottom), Ink::Ink, 0.8);
        canvas.dashed("1 3");
        let anchor = if self.left {
            At::End.point(self.x - 4.0, base)
        } else {
            At::Start.point(self.x + 4.0, base)
        };
        canvas.text(&self.text, anchor, Ink::Ink, SMALL);
    }
}

/// Places each text in the first lane in which it overlaps no other.
fn marks(
    thresholds: &[f64],
    axis: &Axis,
    (left, right): (f64, f64),
    text: impl Fn(f64) -> String,
) -> Vec<Mark> {
    let mut taken: Vec<Vec<(f64, f64)>> = Vec::new();
    thresholds
        .iter()
        .map(|limit| {
            let x = left + axis.place(*limit) * (right - left);
            let text = text(*limit);
            let width = text_width(&text, SMALL) + 10.0;
            let leans = x + width > right + 10.0;
            let span = if leans { (x - width, x) } else { (x, x + width) };
            let free = |lane: &Vec<(f64, f64)>| {
                lane.iter().all(|(from, to)| span.1 <= *from || span.0 >= *to)
            };
            let lane = taken.iter().position(free).unwrap_or(taken.len());
            if lane == taken.len() {
                taken.push(Vec::new());
            }
            taken[lane].push(span);
            Mark { x, lane, left: leans, text }
        })
        .collect()
}

/// Returns the curve: exact for few values, one point per column for many.
fn steps(canvas: &mut Canvas, plot: Plot, axis: &Axis, times: &Times) {
    let (values, tests) = (&times.values, times.tests);
    let y = |count: usize| plot.y(count as f64 / tests as f64);
    let mut points = vec![(plot.left, y(0))];
    if values.len() <= COLUMNS {
        for (index, value) in values.iter().enumerate() {
            let x = plot.x(axis.place(*value));
            points.push((x, y(index)));
            points.push((x, y(index + 1)));
        }
    } else {
        for column in 1..=COLUMNS {
            let place = column as f64 / COLUMNS as f64;
            let value = axis.low * (axis.high / axis.low).powf(place);
            points.push((plot.x(place), y(values.partition_point(|one| *one <= value))));
        }
    }
    points.push((plot.right, y(values.len())));
    points.dedup();
    canvas.path(&points, Ink::Accent, 1.8);
}

/// Returns the number of values in each bar.
fn bins(plot: Plot, axis: &Axis, values: &[f64]) -> Vec<u64> {
    let count = ((plot.width() / 9.0) as usize).clamp(8, 120);
    let mut bins = vec![0_u64; count];
    for value in values {
        let bin = ((axis.place(*value) * count as f64) as usize).min(count - 1);
        bins[bin] += 1;
    }
    bins
}

/// Returns the tooltips of the bars.
fn hover(plot: Plot, axis: &Axis, bins: &[u64], locale: &dyn ChartLocale) -> Hover {
    let count = bins.len();
    let room = plot.width() / count as f64;
    let edge = |bin: usize| {
        locale.duration(axis.low * (axis.high / axis.low).powf(bin as f64 / count as f64))
    };
    let names = (0..=count).map(edge);
    let tests = bins.iter().map(|tests| locale.count(*tests)).collect();
    Hover::table((0..=count).map(|bin| plot.left + bin as f64 * room), [plot.top, plot.bottom])
        .saying(names.collect(), vec![tests], "{0}: {1}")
        .between()
}

fn histogram(canvas: &mut Canvas, plot: Plot, bins: &[u64], locale: &dyn ChartLocale) {
    let count = bins.len();
    let most = bins.iter().copied().max().unwrap_or(0).max(1);
    canvas.line((plot.left, plot.bottom), (plot.right, plot.bottom), Ink::Mist, 1.0);
    let room = plot.width() / count as f64;
    for (bin, tests) in bins.iter().enumerate().filter(|(_, tests)| **tests > 0) {
        // A single test stays visible.
        let tall = (*tests as f64 / most as f64 * (plot.bottom - plot.top)).max(1.5);
        canvas.rect(
            (plot.left + bin as f64 * room, plot.bottom - tall),
            (room - 1.0, tall),
            Ink::Calm,
        );
    }
    let text = locale.fill("tests, up to {0} per bar", &[&locale.count(most)]);
    canvas.text(&text, At::Start.point(plot.left + 5.0, plot.top - 6.0), Ink::Grey, SMALL);
}

fn finding(times: &Times, metric: &str, locale: &dyn ChartLocale) -> String {
    let values = times.values.as_slice();
    if values.is_empty() {
        return locale.fill("No {0} was measured.", &[metric]);
    }
    if let ([only], 1) = (values, times.tests) {
        return locale.fill("The only test had a {0} of {1}.", &[metric, &locale.duration(*only)]);
    }
    // The first threshold that nearly all tests met is the most informative.
    let telling = times
        .thresholds
        .iter()
        .find(|limit| times.share(**limit).is_some_and(|share| share >= 0.95))
        .or(times.thresholds.last());
    match telling.and_then(|limit| Some((limit, times.share(*limit)?))) {
        Some((limit, share)) => locale.fill(
            "Mail was delivered within {0} in {1} of {2} tests.",
            &[&locale.duration(*limit), &locale.share(share), &locale.count(times.tests)],
        ),
        None => {
            let median = median(values.to_vec()).unwrap_or_default();
            locale.fill("The median {0} was {1}.", &[metric, &locale.duration(median)])
        }
    }
}

fn table(axis: &Axis, times: &Times, locale: &dyn ChartLocale) -> Data {
    let mut limits: Vec<f64> =
        axis.ticks.iter().map(|tick| tick.value).chain(times.thresholds.iter().copied()).collect();
    limits.sort_by(f64::total_cmp);
    limits.dedup();
    let rows = limits
        .into_iter()
        .map(|limit| {
            vec![
                Datum::measured(Some(limit), Measure::Duration, locale),
                Datum::count(times.within(limit), locale),
                Datum::measured(times.share(limit), Measure::Share, locale),
            ]
        })
        .collect();
    Data::new(
        ["within", "tests", "share of all tests"].map(|head| locale.t(head).to_owned()).into(),
        rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn few_values_are_drawn_as_steps() {
        let (mut data, locale) = samples::distribution(6);
        data.tests = 7;
        insta::assert_snapshot!(samples::shown(&chart(&data, &locale)));
    }

    #[test]
    fn many_values_give_a_small_file_and_lost_mail_stays_in_the_denominator() {
        let (mut data, locale) = samples::distribution(20_000);
        data.tests = 40_000;
        let chart = chart(&data, &locale);
        assert!(chart.svg.len() < 40_000, "{} bytes", chart.svg.len());
        assert!(chart.svg.contains("20,000 with no observed arrival"));
        assert!(chart.alternative.contains("50.0"), "{}", chart.alternative);
    }

    #[test]
    fn an_empty_chart_states_that_nothing_was_measured() {
        let (mut data, locale) = samples::distribution(0);
        data.values = vec![f64::NAN];
        let chart = chart(&data, &locale);
        assert!(chart.svg.contains("no values") && !chart.svg.contains("NaN"));
    }
}
