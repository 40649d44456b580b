//! Phases chart: a stacked bar for each monitor, with the phases in chronological order.

use super::{
    Chart, Data, Datum, Measure,
    axis::{Axis, TimeSpan},
    canvas::{At, Canvas, NAMES, SMALL, TEXT, text_width, widest},
    locale::ChartLocale,
    palette::{CATEGORIES, Ink},
    plot::{ChartContent, Plot, in_lines, period, sentence},
};

/// Input of the chart.
#[derive(Debug, Clone)]
pub struct Phases {
    /// Title of the chart; if empty, the finding is the title.
    pub title: String,
    /// Description of the bars, such as `median of each phase`.
    pub measure: String,
    /// Width of the chart in pixels.
    pub width: u32,
    /// Period shown.
    pub period: TimeSpan,
    /// Names of the phases, in chronological order. Phases beyond the sixth share a colour.
    pub phases: Vec<String>,
    /// Monitors, from top to bottom.
    pub rows: Vec<Row>,
}

/// A monitor of the chart.
#[derive(Debug, Clone)]
pub struct Row {
    /// Display name.
    pub name: String,
    /// Duration of each phase, in microseconds; `None` if the phase is unknown or does not occur.
    pub parts: Vec<Option<f64>>,
}

impl Row {
    /// Returns the known phases with their durations.
    fn known(&self) -> impl Iterator<Item = (usize, f64)> {
        let known = |(phase, part): (usize, &Option<f64>)| part.map(|part| (phase, part));
        self.parts
            .iter()
            .enumerate()
            .filter_map(known)
            .filter(|(_, part)| part.is_finite() && *part > 0.0)
    }

    fn total(&self) -> f64 {
        self.known().map(|(_, part)| part).sum()
    }
}

fn ink(phase: usize) -> Ink {
    match u8::try_from(phase) {
        Ok(phase) if phase < CATEGORIES => Ink::Category(phase),
        _ => Ink::Mist,
    }
}

/// Draws the chart.
pub fn chart(data: &Phases, locale: &dyn ChartLocale) -> Chart {
    let width = data.width.clamp(240, 2_000);
    let pitch = match data.rows.len() {
        0..=3 => 40.0,
        4..=12 => 28.0,
        _ => 20.0,
    };
    let names = widest(data.rows.iter().map(|row| row.name.as_str()), TEXT)
        .min(f64::from(width) * NAMES)
        .ceil();
    let greatest = data.rows.iter().map(Row::total).fold(0.0, f64::max);
    let axis = Axis::from_zero(greatest, 6, locale);
    let key = Key::of(data, f64::from(width));
    let plot = Plot {
        left: names + 10.0,
        right: f64::from(width) - 62.0,
        top: key.height + 6.0,
        bottom: key.height + 6.0 + pitch * data.rows.len().max(1) as f64,
    };
    let height = (plot.bottom + 22.0).ceil();
    let finding = finding(data, locale);
    let bars = Bars { data, plot, axis: &axis, locale };
    let pen = |canvas: &mut Canvas| {
        key.draw(canvas, data);
        plot.value_axis_below(canvas, &axis, f64::from(width));
        for (index, row) in data.rows.iter().enumerate() {
            let middle = plot.top + pitch * (index as f64 + 0.5);
            canvas.name(&row.name, At::End.point(plot.left - 10.0, middle + 4.0), names);
            bars.draw(canvas, row, (middle, (pitch * 0.72).min(26.0)));
        }
        canvas.line((plot.left, plot.top), (plot.left, plot.bottom), Ink::Mist, 1.0);
    };
    ChartContent {
        title: &data.title,
        subtitle: format!("{}. {}", sentence(&[&data.measure]), period(data.period, locale)),
        finding,
        data: table(data, locale),
    }
    .chart(width, height, pen)
}

/// The bars of a chart and their scale.
struct Bars<'a> {
    data: &'a Phases,
    plot: Plot,
    axis: &'a Axis,
    locale: &'a dyn ChartLocale,
}

impl Bars<'_> {
    /// Draws the phases of a row in sequence, and their sum.
    fn draw(&self, canvas: &mut Canvas, row: &Row, (middle, tall): (f64, f64)) {
        let Self { data, plot, axis, locale } = *self;
        let mut sum = 0.0;
        for (phase, part) in row.known() {
            let from = plot.x(axis.place(sum));
            sum += part;
            let room = plot.x(axis.place(sum)) - from;
            // A white seam between neighbours, unless it would cover them.
            let seam = if room > 3.0 { 1.0 } else { 0.0 };
            canvas.rect((from, middle - tall / 2.0), ((room - seam).max(0.4), tall), ink(phase));
            let name = data.phases.get(phase).map_or("", String::as_str);
            canvas.title(format!("{name}: {}", locale.duration(part)));
            let text = locale.duration(part);
            if text_width(&text, SMALL) + 6.0 < room {
                let centre = from + (room - seam) / 2.0;
                canvas.text(
                    &text,
                    At::Middle.point(centre, middle + 4.0),
                    ink(phase).text_on(),
                    SMALL,
                );
            }
        }
        let total = if sum > 0.0 { locale.duration(sum) } else { locale.t("unknown").to_owned() };
        canvas.text(
            &total,
            At::Start.point(plot.x(axis.place(sum)) + 5.0, middle + 4.0),
            Ink::Ink,
            TEXT,
        );
    }
}

/// Draws the legend of the phases.
struct Key {
    entries: Vec<(usize, f64, f64)>,
    height: f64,
}

impl Key {
    fn of(data: &Phases, width: f64) -> Self {
        let has = |phase| data.rows.iter().any(|row| row.known().any(|(known, _)| known == phase));
        let shown: Vec<(usize, &String)> =
            data.phases.iter().enumerate().filter(|(phase, _)| has(*phase)).collect();
        let (places, height) =
            in_lines(shown.iter().map(|(_, name)| 14.0 + text_width(name, SMALL)), width);
        let entries = shown.iter().zip(places);
        Self { entries: entries.map(|((phase, _), (x, line))| (*phase, x, line)).collect(), height }
    }

    fn draw(&self, canvas: &mut Canvas, data: &Phases) {
        for (phase, x, line) in &self.entries {
            canvas.rect((*x, line + 2.0), (10.0, 10.0), ink(*phase));
            let name = data.phases.get(*phase).map_or("", String::as_str);
            canvas.text(name, At::Start.point(x + 14.0, line + 11.0), Ink::Grey, SMALL);
        }
    }
}

fn finding(data: &Phases, locale: &dyn ChartLocale) -> String {
    let mut sums = vec![0.0; data.phases.len()];
    for (phase, part) in data.rows.iter().flat_map(Row::known) {
        if let Some(sum) = sums.get_mut(phase) {
            *sum += part;
        }
    }
    let whole: f64 = sums.iter().sum();
    let most = sums.iter().enumerate().max_by(|one, other| one.1.total_cmp(other.1));
    match most {
        Some((phase, sum)) if whole > 0.0 => locale.fill(
            "Most of the time goes to {0}: {1}.",
            &[&data.phases[phase], &locale.share(sum / whole)],
        ),
        _ => locale.t("The duration of the phases is unknown.").to_owned(),
    }
}

fn table(data: &Phases, locale: &dyn ChartLocale) -> Data {
    let mut heads = vec![locale.t("monitor").to_owned()];
    heads.extend(data.phases.iter().cloned());
    heads.push(locale.t("sum").to_owned());
    let duration = |value| Datum::measured(value, Measure::Duration, locale);
    let rows = data
        .rows
        .iter()
        .map(|row| {
            let mut cells = vec![Datum::text(&row.name)];
            cells.extend(
                (0..data.phases.len())
                    .map(|phase| duration(row.parts.get(phase).copied().flatten())),
            );
            cells.push(duration(Some(row.total()).filter(|total| *total > 0.0)));
            cells
        })
        .collect();
    Data::new(heads, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn phases_are_in_chronological_order() {
        let (data, locale) = samples::phases(3);
        insta::assert_snapshot!(samples::shown(&chart(&data, &locale)));
    }

    #[test]
    fn an_empty_chart_states_that_nothing_is_known() {
        let (mut data, locale) = samples::phases(1);
        data.rows[0].parts = vec![None, Some(f64::NAN)];
        let chart = chart(&data, &locale);
        assert_eq!(chart.alternative, "The duration of the phases is unknown.");
        assert!(chart.svg.contains(">unknown<") && !chart.svg.contains("NaN"));
    }
}
