//! Line chart of several monitors: a line of medians for each, named at its end; lines beyond the
//! distinguishable colours are grey.

use mailqos_model::UtcMicros;

use super::{
    Chart, Data, Datum, Measure,
    axis::{Axis, Scale, TimeSpan, place},
    canvas::{At, Canvas, TEXT, widest},
    locale::ChartLocale,
    palette::{CATEGORIES, Ink},
    plot::{ChartContent, Plot, moment, period, sentence},
    reduce::{m4, median},
    round_trip::{self, Bucket},
};

/// Minimum distance between names, in pixels.
const PITCH: f64 = 15.0;
/// Maximum share of the width for names.
const NAMES: f64 = 0.26;
/// Maximum rows of the data table; of more buckets, an even selection is listed.
const MAX_ROWS: usize = 400;

/// Input of the chart.
#[derive(Debug, Clone)]
pub struct Lines {
    /// Title of the chart; if empty, the finding is the title.
    pub title: String,
    /// Name of the metric within a sentence, such as `round trip`.
    pub metric: String,
    /// Width of the chart in pixels.
    pub width: u32,
    /// Period shown.
    pub period: TimeSpan,
    /// Monitors, most important first.
    pub lines: Vec<Line>,
}

/// A monitor of the chart.
#[derive(Debug, Clone)]
pub struct Line {
    /// Display name.
    pub name: String,
    /// Median over the whole period, in microseconds.
    pub median: Option<f64>,
    /// Buckets in ascending order, the same for all monitors; a gap between two is a gap in the
    /// line.
    pub buckets: Vec<Bucket>,
}

impl Line {
    /// Returns the median of each bucket.
    fn values(&self) -> impl Iterator<Item = (&Bucket, f64)> {
        self.buckets.iter().filter_map(|bucket| {
            let of_points = || median(bucket.points.iter().map(|point| point.1).collect());
            let value = bucket.spread.map(|spread| spread[1]).or_else(of_points)?;
            (value.is_finite() && value >= 0.0).then_some((bucket, value))
        })
    }
}

/// Draws the chart.
pub fn chart(data: &Lines, locale: &dyn ChartLocale) -> Chart {
    let width = data.width.clamp(240, 2_000);
    let range = data
        .lines
        .iter()
        .flat_map(Line::values)
        .map(|(_, value)| (value, value))
        .reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
    let axis = round_trip::axis(range, None, 5, locale);
    let named = usize::from(CATEGORIES).min(data.lines.len());
    let most = f64::from(width) * NAMES;
    let names = widest(data.lines[..named].iter().map(|line| line.name.as_str()), TEXT).min(most);
    let height = 250.0_f64.max(named as f64 * PITCH + 60.0);
    let plot = Plot {
        left: (axis.label_width(TEXT) + 8.0).max(24.0),
        right: f64::from(width) - names - 12.0,
        top: 12.0,
        bottom: height - 24.0,
    };
    let finding = finding(data, locale);
    let pen = |canvas: &mut Canvas| {
        plot.value_axis(canvas, &axis);
        if range.is_none() {
            plot.no_values(canvas, TEXT, locale);
        }
        let mut ends = Vec::new();
        // The first line is drawn last, on top of the others.
        for (index, line) in data.lines.iter().enumerate().rev() {
            let ink = if index < named { Ink::Category(index as u8) } else { Ink::Mist };
            let last = trace(canvas, line, (data.period, plot, &axis), ink);
            if let Some(y) = last.filter(|_| index < named) {
                ends.push((y, index));
            }
        }
        label(canvas, ends, data, plot, names);
        plot.time_axis(canvas, data.period, (plot.bottom, f64::from(width)), locale);
    };
    let beyond = data.lines.len() - named;
    let metric = locale.fill("median {0}", &[&data.metric]);
    let mut parts = vec![metric.as_str()];
    if axis.scale == Scale::Log {
        parts.push(locale.t("logarithmic scale"));
    }
    let rest = locale.fill("grey: {0} more", &[&locale.count(beyond as u64)]);
    if beyond > 0 {
        parts.push(&rest);
    }
    ChartContent {
        title: &data.title,
        subtitle: format!("{}. {}", sentence(&parts), period(data.period, locale)),
        finding,
        data: table(data, locale),
    }
    .chart(width, height, pen)
}

/// Draws a line with its gaps and returns the y coordinate of its end.
fn trace(
    canvas: &mut Canvas,
    line: &Line,
    (span, plot, axis): (TimeSpan, Plot, &Axis),
    ink: Ink,
) -> Option<f64> {
    let y = |value: f64| plot.y(axis.place(value));
    let values: Vec<(&Bucket, f64)> = line.values().collect();
    let stroke = if ink == Ink::Mist { 0.75 } else { 1.8 };
    for run in values.chunk_by(|one, other| one.0.end == other.0.start) {
        if let [(bucket, value)] = run {
            let at = |moment: i64| plot.x(place(span, UtcMicros(moment)));
            let (from, to) = (at(bucket.start), at(bucket.end));
            canvas.line((from, y(*value)), (to.max(from + 3.0), y(*value)), ink, stroke);
        } else {
            let points: Vec<(f64, f64)> = run
                .iter()
                .map(|(bucket, value)| {
                    (place(span, UtcMicros(bucket.start / 2 + bucket.end / 2)), *value)
                })
                .collect();
            let points: Vec<(f64, f64)> = m4(&points, (plot.width() as usize).max(1))
                .iter()
                .map(|(x, value)| (plot.x(*x), y(*value)))
                .collect();
            canvas.path(&points, ink, stroke);
        }
        canvas.title(&line.name);
    }
    values.last().map(|(_, value)| y(*value))
}

/// Draws the names at the right, each as close to the end of its line as possible, with a
/// connecting stroke.
fn label(canvas: &mut Canvas, mut ends: Vec<(f64, usize)>, data: &Lines, plot: Plot, room: f64) {
    ends.sort_by(|one, other| one.0.total_cmp(&other.0));
    let heights = spread(&ends.iter().map(|end| end.0).collect::<Vec<_>>(), plot.top, plot.bottom);
    for ((y, index), height) in ends.into_iter().zip(heights) {
        let (line, ink) = (&data.lines[index], Ink::Category(index as u8));
        canvas.line((plot.right - 1.0, y), (plot.right + 7.0, height), ink, 1.0);
        // The stroke has the colour of the line; the name is dark enough to read.
        canvas.name(&line.name, At::Start.point(plot.right + 10.0, height + 4.0), room);
    }
}

/// Returns y coordinates in the same order, at least a line height apart and each as close as
/// possible to the original.
fn spread(wanted: &[f64], top: f64, bottom: f64) -> Vec<f64> {
    let mut heights: Vec<f64> = wanted.to_vec();
    let mut free = top;
    for height in &mut heights {
        *height = height.max(free);
        free = *height + PITCH;
    }
    let mut free = bottom;
    for height in heights.iter_mut().rev() {
        *height = height.min(free);
        free = *height - PITCH;
    }
    heights
}

fn finding(data: &Lines, locale: &dyn ChartLocale) -> String {
    let known: Vec<(&Line, f64)> =
        data.lines.iter().filter_map(|line| Some((line, line.median?))).collect();
    let by = |one: &&(&Line, f64), other: &&(&Line, f64)| one.1.total_cmp(&other.1);
    match (known.iter().min_by(by), known.iter().max_by(by)) {
        (Some((low, least)), Some((high, greatest))) if known.len() > 1 => locale.fill(
            "The median {0} ranged from {1} ({2}) to {3} ({4}).",
            &[
                &data.metric,
                &locale.duration(*least),
                &low.name,
                &locale.duration(*greatest),
                &high.name,
            ],
        ),
        (Some((_, value)), _) => {
            locale.fill("The median {0} was {1}.", &[&data.metric, &locale.duration(*value)])
        }
        _ => locale.fill("No {0} was measured.", &[&data.metric]),
    }
}

/// Returns a table with a row for each bucket and a column for each monitor.
fn table(data: &Lines, locale: &dyn ChartLocale) -> Data {
    let mut heads = vec![locale.t("from").to_owned()];
    heads.extend(data.lines.iter().map(|line| line.name.clone()));
    let mut starts: Vec<i64> =
        data.lines.iter().flat_map(Line::values).map(|(bucket, _)| bucket.start).collect();
    starts.sort_unstable();
    starts.dedup();
    let every = starts.len().div_ceil(MAX_ROWS).max(1);
    let lines: Vec<std::collections::BTreeMap<i64, f64>> = data
        .lines
        .iter()
        .map(|line| line.values().map(|(bucket, value)| (bucket.start, value)).collect())
        .collect();
    let rows =
        starts
            .into_iter()
            .step_by(every)
            .map(|start| {
                let at = UtcMicros(start);
                let mut row = vec![Datum::moment(moment(at, locale), at)];
                row.extend(lines.iter().map(|line| {
                    Datum::measured(line.get(&start).copied(), Measure::Duration, locale)
                }));
                row
            })
            .collect();
    Data::new(heads, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn lines_are_named_at_their_ends_and_gaps_stay_gaps() {
        let (mut data, locale) = samples::lines(3);
        for line in &mut data.lines {
            line.buckets.truncate(6);
        }
        data.lines[1].buckets.remove(3);
        insta::assert_snapshot!(samples::shown(&chart(&data, &locale)));
    }

    #[test]
    fn lines_beyond_the_palette_are_grey_and_counted() {
        let (data, locale) = samples::lines(40);
        let chart = chart(&data, &locale);
        assert!(chart.subtitle.contains("grey: 34 more"), "{}", chart.subtitle);
        assert_eq!(chart.svg.matches("class=\"mist-line\"><title>").count(), 34);
        assert_eq!(chart.data.heads.len(), 41);
    }

    proptest::proptest! {
        #[test]
        fn line_names_never_overlap(mut wanted in proptest::collection::vec(0.0_f64..200.0, 0..7)) {
            wanted.sort_by(f64::total_cmp);
            let heights = spread(&wanted, 0.0, 200.0);
            proptest::prop_assert!(heights.windows(2).all(|pair| pair[1] - pair[0] >= PITCH - 1e-9));
            proptest::prop_assert!(heights.iter().all(|height| (0.0..=200.0).contains(height)));
        }
    }
}
