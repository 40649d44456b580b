//! Small multiples: a small chart for each of many monitors, on a common scale, most important
//! first.

use mailqos_model::UtcMicros;

use super::{
    Chart, Data, Datum, Measure,
    axis::{Axis, Scale, TimeSpan, place, time_ticks},
    canvas::{At, BOLD, Canvas, SMALL, TEXT, shorten, text_width},
    locale::ChartLocale,
    palette::Ink,
    plot::{ChartContent, Plot, period, sentence},
    round_trip::{self, Bucket, Failure, RoundTrip},
};

/// Minimum width of a panel, and maximum width to fit its name, in pixels.
const PANEL: (f64, f64) = (150.0, 212.0);
/// Height of a panel's plot, in pixels.
const TALL: f64 = 58.0;
/// Height of a panel with its name and its failures, in pixels.
const PITCH: f64 = TALL + 42.0;

/// Input of the chart.
#[derive(Debug, Clone)]
pub struct SmallMultiples {
    /// Title of the chart; if empty, the finding is the title.
    pub title: String,
    /// Name of the metric within a sentence, such as `round trip`.
    pub metric: String,
    /// Width of the chart in pixels.
    pub width: u32,
    /// Period shown.
    pub period: TimeSpan,
    /// Monitors, most important first.
    pub panels: Vec<Panel>,
}

/// A monitor of the chart.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Display name.
    pub name: String,
    /// Figure next to the name, such as its median; may be empty.
    pub figure: String,
    /// Median and p95 over the whole period, if known; they can't be derived from the buckets.
    pub typical: Option<[f64; 2]>,
    /// Buckets, in ascending order.
    pub buckets: Vec<Bucket>,
    /// Failed tests.
    pub failures: Vec<Failure>,
}

/// Draws the chart.
pub fn chart(data: &SmallMultiples, locale: &dyn ChartLocale) -> Chart {
    let width = data.width.clamp(240, 2_000);
    let range = data
        .panels
        .iter()
        .filter_map(|panel| round_trip::range(&panel.buckets))
        .reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
    let greatest = range.map_or(0.0, |range| range.1);
    let axis = round_trip::axis(range, None, 4, locale).snug(greatest);
    let left = axis.label_width(TEXT).ceil() + 8.0;
    let gap = 16.0;
    let room = f64::from(width) - left;
    // Panels are as wide as their names; if name and figure don't fit into one line, the figure is
    // below.
    let widest = |text: &dyn Fn(&Panel) -> f64| data.panels.iter().map(text).fold(0.0, f64::max);
    let beside = widest(&|panel| name_width(panel) + 8.0 + text_width(&panel.figure, SMALL));
    let stacked = beside > PANEL.1;
    let needed = if stacked { widest(&name_width) } else { beside };
    let columns = ((room + gap) / (needed.clamp(PANEL.0, PANEL.1) + gap))
        .floor()
        .clamp(1.0, data.panels.len().max(1) as f64);
    let wide = (room - gap * (columns - 1.0)) / columns;
    let head = if stacked { 33.0 } else { 20.0 };
    let pitch = PITCH + head - 20.0;
    let columns = columns as usize;
    let lines = data.panels.len().max(1).div_ceil(columns);
    let height = (pitch * lines as f64 + 16.0).ceil();
    let finding = finding(data, range, locale);
    let pen = |canvas: &mut Canvas| {
        if data.panels.is_empty() {
            canvas.text(locale.t("no monitors"), At::Start.point(left, 20.0), Ink::Grey, TEXT);
        }
        for (index, panel) in data.panels.iter().enumerate() {
            let (column, line) = (index % columns, index / columns);
            let x = left + column as f64 * (wide + gap);
            let top = line as f64 * pitch + head;
            let plot = Plot { left: x, right: x + wide, top, bottom: top + TALL };
            for tick in &axis.ticks {
                let y = plot.y(axis.place(tick.value));
                let ink = if tick.value == 0.0 { Ink::Mist } else { Ink::Hair };
                canvas.line((plot.left, y), (plot.right, y), ink, 0.75);
                // The scale is common, so only the first panel of each line has labels.
                if column == 0 {
                    canvas.text(
                        &tick.label,
                        At::End.point(plot.left - 6.0, y + 4.0),
                        Ink::Grey,
                        SMALL,
                    );
                }
            }
            let taken = if stacked { 0.0 } else { text_width(&panel.figure, SMALL) + 8.0 };
            // Bold text is wider.
            let name = shorten(&panel.name, (wide - taken) / BOLD, SMALL);
            canvas.strong(&name, At::Start.point(plot.left, top - head + 13.0), Ink::Ink, SMALL);
            if name != panel.name {
                canvas.title(&panel.name);
            }
            let (x, at) = if stacked { (plot.left, At::Start) } else { (plot.right, At::End) };
            canvas.text(&panel.figure, at.point(x, top - 7.0), Ink::Grey, SMALL);
            let one = RoundTrip {
                title: String::new(),
                metric: data.metric.clone(),
                width,
                period: data.period,
                median: None,
                buckets: panel.buckets.clone(),
                limit: None,
                failures: panel.failures.clone(),
                maintenance: Vec::new(),
                alarms: Vec::new(),
                shifts: Vec::new(),
            };
            if round_trip::range(&panel.buckets).is_none() {
                plot.no_values(canvas, SMALL, locale);
            }
            round_trip::lines(canvas, &one, &axis, plot, locale);
            // Time labels are below the last panel of each column.
            if index + columns >= data.panels.len() {
                times(canvas, plot, data.period, locale);
            }
        }
    };
    ChartContent {
        title: &data.title,
        subtitle: subtitle(data, &axis, locale),
        finding,
        data: table(data, locale),
    }
    .chart(width, height, pen)
}

fn name_width(panel: &Panel) -> f64 {
    text_width(&panel.name, SMALL) * BOLD
}

/// Reduces the number of labels, because the panels are small.
fn times(canvas: &mut Canvas, plot: Plot, span: TimeSpan, locale: &dyn ChartLocale) {
    let ticks = time_ticks(span, plot.width(), SMALL, locale);
    let every = ticks.len().div_ceil(4).max(1);
    for tick in ticks.iter().step_by(every) {
        let x = plot.x(place(span, tick.at));
        canvas.line((x, plot.bottom + 15.0), (x, plot.bottom + 18.0), Ink::Mist, 0.75);
        let half = text_width(&tick.label, SMALL) / 2.0;
        let middle = x.max(plot.left - 6.0 + half).min(plot.right - half);
        canvas.text(&tick.label, At::Middle.point(middle, plot.bottom + 29.0), Ink::Grey, SMALL);
    }
}

fn subtitle(data: &SmallMultiples, axis: &Axis, locale: &dyn ChartLocale) -> String {
    let scale = match axis.scale {
        Scale::Log => locale.t("common logarithmic scale"),
        Scale::Linear => locale.t("common scale"),
    };
    let first = locale.fill("{0}, median and middle 90 % of tests", &[&data.metric]);
    let mut parts = vec![first.as_str(), scale];
    if data.panels.iter().any(|panel| !panel.failures.is_empty()) {
        parts.push(locale.t("ticks below: failed tests"));
    }
    format!("{}. {}", sentence(&parts), period(data.period, locale))
}

fn finding(data: &SmallMultiples, range: Option<(f64, f64)>, locale: &dyn ChartLocale) -> String {
    if range.is_none() {
        return locale.fill("No {0} was measured.", &[&data.metric]);
    }
    let known: Vec<(&Panel, f64)> =
        data.panels.iter().filter_map(|panel| Some((panel, panel.typical?[1]))).collect();
    let by = |one: &&(&Panel, f64), other: &&(&Panel, f64)| one.1.total_cmp(&other.1);
    match (known.iter().min_by(by), known.iter().max_by(by)) {
        (Some((low, least)), Some((high, greatest))) if known.len() > 1 => locale.fill(
            "The 95th-percentile {0} ranged from {1} ({2}) to {3} ({4}).",
            &[
                &data.metric,
                &locale.duration(*least),
                &low.name,
                &locale.duration(*greatest),
                &high.name,
            ],
        ),
        (Some((_, value)), _) => locale
            .fill("The 95th-percentile {0} was {1}.", &[&data.metric, &locale.duration(*value)]),
        _ => locale.fill("No {0} was measured.", &[&data.metric]),
    }
}

fn table(data: &SmallMultiples, locale: &dyn ChartLocale) -> Data {
    let duration = |value| Datum::measured(value, Measure::Duration, locale);
    let within = |at: UtcMicros| at >= data.period.from && at < data.period.to;
    let rows = data
        .panels
        .iter()
        .map(|panel| {
            let range = round_trip::range(&panel.buckets);
            vec![
                Datum::text(&panel.name),
                duration(range.map(|range| range.0)),
                duration(panel.typical.map(|[median, _]| median)),
                duration(panel.typical.map(|[_, p95]| p95)),
                duration(range.map(|range| range.1)),
                Datum::count(
                    panel.failures.iter().filter(|failure| within(failure.at)).count() as u64,
                    locale,
                ),
            ]
        })
        .collect();
    Data::new(
        ["monitor", "lowest p5", "median", "p95", "highest p95", "failed tests"]
            .map(|head| locale.t(head).to_owned())
            .into(),
        rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn two_monitors_share_a_scale() {
        let (mut data, locale) = samples::small_multiples(2);
        for panel in &mut data.panels {
            panel.buckets.truncate(6);
        }
        insta::assert_snapshot!(samples::shown(&chart(&data, &locale)));
    }

    #[test]
    fn a_monitor_without_values_keeps_its_place() {
        let (mut data, locale) = samples::small_multiples(3);
        data.panels[1].buckets.clear();
        data.panels[1].typical = None;
        let chart = chart(&data, &locale);
        assert!(chart.svg.contains(">no values<"));
        assert_eq!(chart.data.rows().nth(1).expect("a row")[2].text, "–");
    }
}
