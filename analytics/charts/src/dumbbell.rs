//! Comparison of two periods: the earlier and the later value of each monitor, sorted by change.

use super::{
    Chart, Data, Datum,
    axis::{Axis, Scale},
    canvas::{At, Canvas, NAMES, SMALL, TEXT, text_width, widest},
    locale::{ChartLocale, DASH, Measure},
    palette::Ink,
    plot::{ChartContent, Plot, sentence},
};

/// Changes below this are normal variation: for durations relative to the earlier value, for shares
/// as a difference.
const EVERYDAY: f64 = 0.05;
const EVERYDAY_POINTS: f64 = 0.000_5;

/// Input of the chart.
#[derive(Debug, Clone)]
pub struct Dumbbell {
    /// Title of the chart; if empty, the finding is the title.
    pub title: String,
    /// Name of the compared figure within a sentence, such as `median round trip`.
    pub metric: String,
    /// Kind of the values.
    pub measure: Measure,
    /// Whether lower values are better.
    pub less_is_better: bool,
    /// Width of the chart in pixels.
    pub width: u32,
    /// Earlier period in words.
    pub before: String,
    /// Later period in words, with the time zone.
    pub after: String,
    /// Monitors to compare.
    pub rows: Vec<Row>,
}

/// A monitor of the chart.
#[derive(Debug, Clone)]
pub struct Row {
    /// Display name.
    pub name: String,
    /// Value in the earlier period, if known.
    pub before: Option<f64>,
    /// Value in the later period, if known.
    pub after: Option<f64>,
    /// Whether the change is not statistically significant.
    pub by_chance: bool,
}

impl Row {
    fn change(&self) -> Option<f64> {
        Some(self.after? - self.before?)
    }

    /// Returns whether the change is significant and larger than normal variation.
    fn stands_out(&self, measure: Measure) -> bool {
        !self.by_chance && self.is_large(measure)
    }

    fn is_large(&self, measure: Measure) -> bool {
        let Some((before, change)) = self.before.zip(self.change()) else {
            return false;
        };
        match measure {
            Measure::Duration => change != 0.0 && change.abs() >= before * EVERYDAY,
            Measure::Share => change.abs() >= EVERYDAY_POINTS,
        }
    }
}

impl Dumbbell {
    /// Returns the size of a deterioration; negative for an improvement.
    fn worse(&self, change: f64) -> f64 {
        if self.less_is_better { change } else { -change }
    }

    /// Returns the rows without impossible values: worst change first; monitors that can't be
    /// compared last, in their original order.
    fn sorted_rows(&self) -> Vec<Row> {
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite() && *value >= 0.0);
        let mut rows: Vec<Row> = self
            .rows
            .iter()
            .map(|row| Row {
                name: row.name.clone(),
                before: finite(row.before),
                after: finite(row.after),
                by_chance: row.by_chance,
            })
            .collect();
        rows.sort_by(|one, other| {
            let key =
                |row: &Row| row.change().map_or(f64::NEG_INFINITY, |change| self.worse(change));
            key(other).total_cmp(&key(one))
        });
        rows
    }

    fn axis(&self, rows: &[Row], locale: &dyn ChartLocale) -> Axis {
        let values = || rows.iter().flat_map(|row| [row.before, row.after]).flatten();
        let least = values().fold(f64::INFINITY, f64::min);
        let greatest = values().fold(0.0, f64::max);
        match self.measure {
            Measure::Share => Axis::share(least, greatest, 6, locale),
            Measure::Duration if greatest > least.max(1.0) * 40.0 => {
                Axis::log(least, greatest, 6, locale)
            }
            Measure::Duration => Axis::from_zero(greatest, 6, locale),
        }
    }

    fn change_text(&self, row: &Row, locale: &dyn ChartLocale) -> String {
        row.change()
            .map_or_else(|| DASH.to_owned(), |change| self.measure.difference(change, locale))
    }

    /// Returns the colour of a row: failed for a change for the worse, `other` for another change
    /// that stands out.
    fn ink(&self, row: &Row, other: Ink) -> Ink {
        let stands_out = row.stands_out(self.measure);
        let bad = stands_out && row.change().is_some_and(|change| self.worse(change) > 0.0);
        match (bad, stands_out) {
            (true, _) => Ink::Failed,
            (false, true) => other,
            (false, false) => Ink::Grey,
        }
    }
}

/// Draws the chart.
pub fn chart(data: &Dumbbell, locale: &dyn ChartLocale) -> Chart {
    let rows = data.sorted_rows();
    let width = data.width.clamp(240, 2_000);
    let axis = data.axis(&rows, locale);
    let pitch = if rows.len() <= 12 { 26.0 } else { 18.0 };
    let names =
        widest(rows.iter().map(|row| row.name.as_str()), TEXT).ceil().min(f64::from(width) * NAMES);
    let changes: Vec<String> = rows.iter().map(|row| data.change_text(row, locale)).collect();
    let room = widest(changes.iter().map(String::as_str), TEXT).ceil();
    let plot = Plot {
        left: names + 18.0,
        right: f64::from(width) - room - 22.0,
        top: 22.0,
        bottom: 22.0 + pitch * rows.len().max(1) as f64,
    };
    let height = (plot.bottom + 22.0).ceil();
    let finding = finding(data, &rows, locale);
    let pen = |canvas: &mut Canvas| {
        legend(canvas, plot.left, data);
        plot.value_axis_below(canvas, &axis, f64::from(width));
        for (index, (row, change)) in rows.iter().zip(&changes).enumerate() {
            let y = plot.top + pitch * (index as f64 + 0.5);
            canvas.name(&row.name, At::End.point(names + 2.0, y + 4.0), names);
            marks(canvas, (data, row), |value| (plot.x(axis.place(value)), y), locale);
            // The sign shows the direction without colour.
            let ink = data.ink(row, Ink::Ink);
            canvas.text(change, At::End.point(f64::from(width), y + 4.0), ink, TEXT);
        }
    };
    ChartContent {
        title: &data.title,
        subtitle: format!(
            "{}. {} → {}",
            reading(data, &rows, &axis, locale),
            data.before,
            data.after
        ),
        finding,
        data: table(data, &rows, locale),
    }
    .chart(width, height, pen)
}

/// Draws the legend, with a hollow and a filled mark as in the rows.
fn legend(canvas: &mut Canvas, left: f64, data: &Dumbbell) {
    canvas.disc((left + 4.0, 7.0), 4.5, Ink::Grey);
    canvas.disc((left + 4.0, 7.0), 3.0, Ink::Ground);
    canvas.text(&data.before, At::Start.point(left + 13.0, 11.0), Ink::Grey, SMALL);
    let second = left + 28.0 + text_width(&data.before, SMALL);
    canvas.disc((second, 7.0), 4.5, Ink::Accent);
    canvas.text(&data.after, At::Start.point(second + 9.0, 11.0), Ink::Grey, SMALL);
}

/// Draws the two values of a row, and the line between them.
fn marks(
    canvas: &mut Canvas,
    (data, row): (&Dumbbell, &Row),
    point: impl Fn(f64) -> (f64, f64),
    locale: &dyn ChartLocale,
) {
    let ink = data.ink(row, Ink::Accent);
    if let (Some(before), Some(after)) = (row.before, row.after) {
        canvas.line(point(before), point(after), ink, 2.0);
    }
    if let Some(before) = row.before {
        canvas.disc(point(before), 4.5, Ink::Grey);
        canvas.disc(point(before), 3.0, Ink::Ground);
        canvas.title(format!("{}: {}", data.before, data.measure.text(before, locale)));
    }
    if let Some(after) = row.after {
        canvas.disc(point(after), 4.5, ink);
        canvas.title(format!("{}: {}", data.after, data.measure.text(after, locale)));
    }
}

/// Explains how to read the chart: metric, order, grey changes and a cut scale.
fn reading(data: &Dumbbell, rows: &[Row], axis: &Axis, locale: &dyn ChartLocale) -> String {
    let cut = if axis.is_cut() && axis.scale == Scale::Linear {
        locale.t("the scale does not begin at zero")
    } else if axis.is_cut() {
        locale.t("logarithmic scale")
    } else {
        ""
    };
    let small = if rows.iter().any(|row| row.change().is_some() && !row.stands_out(data.measure)) {
        let least = match data.measure {
            Measure::Duration => locale.share(EVERYDAY),
            Measure::Share => {
                data.measure.difference(EVERYDAY_POINTS, locale).trim_start_matches('+').to_owned()
            }
        };
        let text = if rows.iter().any(|row| row.by_chance && row.is_large(data.measure)) {
            "grey: changes that are below {0} or not significant"
        } else {
            "grey: changes below {0}"
        };
        locale.fill(text, &[&least])
    } else {
        String::new()
    };
    let parts: Vec<&str> = [data.metric.as_str(), locale.t("worst change first"), &small, cut]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    sentence(&parts)
}

fn table(data: &Dumbbell, rows: &[Row], locale: &dyn ChartLocale) -> Data {
    let row = |row: &Row| {
        let datum = |value| Datum::measured(value, data.measure, locale);
        let both = row.before.zip(row.after);
        let difference = Datum {
            text: data.change_text(row, locale),
            ..datum(both.map(|(before, after)| after - before))
        };
        vec![Datum::text(&row.name), datum(row.before), datum(row.after), difference]
    };
    Data::new(
        vec![
            locale.t("monitor").to_owned(),
            data.before.clone(),
            data.after.clone(),
            locale.t("change").to_owned(),
        ],
        rows.iter().map(row).collect(),
    )
}

fn finding(data: &Dumbbell, rows: &[Row], locale: &dyn ChartLocale) -> String {
    let changes: Vec<(&Row, f64)> =
        rows.iter().filter_map(|row| Some((row, row.change()?))).collect();
    let Some(first) = changes.first() else {
        return locale.t("No comparison is possible.").to_owned();
    };
    let is_bad = |row: &Row, change: f64| row.stands_out(data.measure) && data.worse(change) > 0.0;
    let bad = changes.iter().filter(|(row, change)| is_bad(row, *change)).count() as u64;
    // Significant changes are reported even if a larger, insignificant change occurred elsewhere.
    let by_chance = changes.iter().any(|(row, _)| row.by_chance && row.is_large(data.measure));
    let standing = || changes.iter().filter(|(row, _)| row.stands_out(data.measure));
    let (first, change) = standing().next().unwrap_or(first);
    let Some((last, gain)) = standing().next_back() else {
        if by_chance {
            return locale.fill("No significant change in {0}.", &[&data.metric]);
        }
        if let [(only, _)] = changes[..] {
            return locale
                .fill("{0} at {1} was unchanged.", &[&sentence(&[&data.metric]), &only.name]);
        }
        return locale.fill(
            if changes.len() == 2 {
                "{0} was unchanged at both monitors."
            } else {
                "{0} was unchanged at all monitors ({1})."
            },
            &[&sentence(&[&data.metric]), &locale.count(changes.len() as u64)],
        );
    };
    if let [(only, change)] = changes[..] {
        let text = if bad == 1 {
            "{0} at {1} deteriorated by {2}."
        } else {
            "{0} at {1} improved by {2}."
        };
        let difference = data.measure.difference(change.abs(), locale);
        let difference = difference.trim_start_matches('+');
        return locale.fill(text, &[&sentence(&[&data.metric]), &only.name, difference]);
    }
    let (row, change) = if bad == 0 { (last, *gain) } else { (first, *change) };
    let text = match (bad, by_chance) {
        (0, false) => "{0} did not deteriorate at any of {2} monitors; {3} improved most ({4}).",
        (0, true) => {
            "No significant deterioration in {0} at any of {2} monitors; {3} improved most ({4})."
        }
        (_, false) => "{0} deteriorated at {1} of {2} monitors, most at {3} ({4}).",
        (_, true) => "{0} deteriorated significantly at {1} of {2} monitors, most at {3} ({4}).",
    };
    let metric =
        if bad == 0 && by_chance { data.metric.clone() } else { sentence(&[&data.metric]) };
    locale.fill(
        text,
        &[
            &metric,
            &locale.count(bad),
            &locale.count(changes.len() as u64),
            &row.name,
            &data.measure.difference(change, locale),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn the_worst_change_comes_first() {
        let (data, locale) = samples::dumbbell(4);
        let chart = chart(&data, &locale);
        insta::assert_snapshot!(samples::shown(&chart));
    }

    #[test]
    fn an_insignificant_change_is_not_reported_as_a_change() {
        let (mut data, locale) = samples::dumbbell(3);
        (data.measure, data.less_is_better) = (Measure::Share, false);
        for (row, after) in data.rows.iter_mut().zip([0.90, 0.98, 0.995]) {
            (row.before, row.after, row.by_chance) = (Some(0.99), Some(after), after < 0.95);
        }
        let text = chart(&data, &locale).alternative;
        let second = &data.rows[1].name;
        let beyond = format!(
            "{} deteriorated significantly at 1 of 3 monitors, most at {second}",
            sentence(&[&data.metric])
        );
        assert!(text.starts_with(&beyond), "{text}");
        data.rows[1].after = Some(0.999);
        let text = chart(&data, &locale).alternative;
        assert!(text.starts_with("No significant deterioration"), "{text}");
        assert!(text.contains("at any of 3 monitors; "), "{text}");
        // A significant but small change is not described as insignificant.
        data.rows[1].after = Some(0.990_1);
        data.rows.truncate(2);
        let hardly = chart(&data, &locale).alternative;
        assert_eq!(hardly, format!("No significant change in {}.", data.metric));
        data.rows.truncate(1);
        let only = chart(&data, &locale);
        let expected = format!("No significant change in {}.", data.metric);
        assert_eq!(only.alternative, expected);
        assert!(only.subtitle.contains("not significant"), "{}", only.subtitle);
    }

    #[test]
    fn an_unchanged_zero_is_not_a_change() {
        let (mut data, locale) = samples::dumbbell(1);
        (data.rows[0].before, data.rows[0].after) = (Some(0.0), Some(0.0));
        let chart = chart(&data, &locale);
        assert!(chart.alternative.contains("was unchanged"), "{}", chart.alternative);
    }

    #[test]
    fn shares_of_100_percent_end_at_the_end_of_the_axis() {
        let (mut data, locale) = samples::dumbbell(2);
        data.measure = Measure::Share;
        for row in &mut data.rows {
            (row.before, row.after) = (Some(1.0), Some(1.0));
        }
        let svg = chart(&data, &locale).svg;
        assert_eq!(svg.matches(">100").count(), 1, "{svg}");
    }

    #[test]
    fn an_empty_comparison_states_it() {
        let (mut data, locale) = samples::dumbbell(2);
        data.rows[0].before = None;
        data.rows[1].after = Some(f64::NAN);
        let chart = chart(&data, &locale);
        assert_eq!(chart.alternative, "No comparison is possible.");
        assert!(!chart.svg.contains("NaN"));
    }
}
