//! Weekly pattern as a heat map: a cell for each hour of each weekday, darker for higher values.

use super::{
    Chart, Data, Datum,
    axis::TimeSpan,
    canvas::{At, Canvas, Hover, SMALL, TEXT, text_width, widest},
    locale::{ChartLocale, Measure},
    palette::{Ink, RAMP},
    plot::{ChartContent, Plot, period, sentence},
};

/// Font size of the values in the cells, in pixels.
const FIGURE: f64 = 10.0;

/// Input of the chart.
#[derive(Debug, Clone)]
pub struct HeatMap {
    /// Title of the chart; if empty, the finding is the title.
    pub title: String,
    /// Name of the figure within a sentence, such as `median round trip`.
    pub metric: String,
    /// Kind of the values.
    pub measure: Measure,
    /// Width of the chart in pixels.
    pub width: u32,
    /// Period shown.
    pub period: TimeSpan,
    /// Values by weekday, from Monday, and local hour; `None` if unknown.
    pub cells: [[Option<f64>; 24]; 7],
    /// Weekday of the first row, 1 for Monday to 7 for Sunday.
    pub first_day: i8,
}

impl HeatMap {
    fn known(&self) -> Vec<(usize, usize, f64)> {
        let mut known = Vec::new();
        for (day, hours) in self.cells.iter().enumerate() {
            for (hour, value) in hours.iter().enumerate() {
                if let Some(value) = value.filter(|value| value.is_finite() && *value >= 0.0) {
                    known.push((day, hour, value));
                }
            }
        }
        known
    }
}

/// Returns the unit of all cells: its size, its name, and the number of decimals that fit.
fn unit(measure: Measure, greatest: f64) -> (f64, &'static str, usize) {
    let (size, name) = match measure {
        Measure::Share => (0.01, "%"),
        Measure::Duration if greatest < 1e3 => (1.0, "µs"),
        Measure::Duration if greatest < 1e6 => (1e3, "ms"),
        Measure::Duration if greatest < 600e6 => (1e6, "s"),
        Measure::Duration => (60e6, "min"),
    };
    let decimals = match greatest / size {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    (size, name, if name == "µs" { 0 } else { decimals })
}

/// Draws the chart.
pub fn chart(data: &HeatMap, locale: &dyn ChartLocale) -> Chart {
    let width = data.width.clamp(240, 2_000);
    let known = data.known();
    let least = known.iter().map(|cell| cell.2).fold(f64::INFINITY, f64::min);
    let greatest = known.iter().map(|cell| cell.2).fold(0.0, f64::max);
    // The scale of shares starts at zero, so that zero looks like zero.
    let low = if data.measure == Measure::Share { 0.0 } else { least };
    let step = |value: f64| -> u8 {
        let place = (value - low) / (greatest - low);
        if place.is_finite() {
            (place * f64::from(RAMP)).clamp(0.0, f64::from(RAMP - 1)) as u8
        } else {
            0
        }
    };
    let (size, unit, decimals) = unit(data.measure, greatest);
    let days: Vec<usize> = (0..7)
        .map(|row| (row + usize::try_from(data.first_day).unwrap_or(1).saturating_sub(1)) % 7)
        .collect();
    // Indexed by rows and columns of the drawing.
    let of = |row: usize, hour: usize| {
        let found = known.iter().find(|cell| cell.0 == days[row] && cell.1 == hour);
        (row, hour, found.map(|cell| cell.2))
    };
    let cells: Vec<(usize, usize, Option<f64>)> =
        (0..7 * 24).map(|cell| of(cell / 24, cell % 24)).collect();
    let names: Vec<String> = days.iter().map(|day| locale.weekday(*day as i8 + 1)).collect();
    let left = widest(names.iter().map(String::as_str), TEXT).ceil() + 8.0;
    let room = (f64::from(width) - left) / 24.0;
    let tall = room.clamp(16.0, 24.0);
    let plot = Plot { left, right: f64::from(width), top: 36.0, bottom: 36.0 + 7.0 * tall };
    let height = (plot.bottom + 2.0).ceil();
    let fits = text_width(&locale.number(greatest / size, decimals), FIGURE) + 2.0 <= room;
    let finding = finding(data, &known, locale);
    let pen = |canvas: &mut Canvas| {
        if !known.is_empty() {
            let end = |value: f64| data.measure.text(value, locale);
            key(canvas, f64::from(width), &end(low), &end(greatest));
        }
        let every = if room >= 22.0 { 1 } else { 3 };
        for hour in (0..24).step_by(every) {
            let x = plot.left + (hour as f64 + 0.5) * room;
            canvas.text(&hour.to_string(), At::Middle.point(x, plot.top - 5.0), Ink::Grey, SMALL);
        }
        for (row, name) in names.iter().enumerate() {
            let base = plot.top + row as f64 * tall + tall / 2.0 + 4.0;
            canvas.text(name, At::End.point(plot.left - 8.0, base), Ink::Ink, TEXT);
        }
        // One colour step after another, so that the cells of a step become one path.
        for of in (0..RAMP).map(Some).chain([None]) {
            for (day, hour, _) in cells.iter().filter(|cell| cell.2.map(step) == of) {
                let (x, top) = (plot.left + *hour as f64 * room, plot.top + *day as f64 * tall);
                match of {
                    Some(of) => canvas.rect((x, top), (room - 1.0, tall - 1.0), Ink::Ramp(of)),
                    None => {
                        let middle = top + tall / 2.0;
                        canvas.line(
                            (x + room * 0.35, middle),
                            (x + room * 0.65, middle),
                            Ink::Mist,
                            0.75,
                        );
                    }
                }
            }
        }
        for (day, hour, value) in cells.iter().filter(|_| fits) {
            let Some(value) = value else { continue };
            let text = locale.number(value / size, decimals);
            let middle = plot.left + *hour as f64 * room + (room - 1.0) / 2.0;
            let base = plot.top + *day as f64 * tall + tall / 2.0 + 3.2;
            canvas.text(
                &text,
                At::Middle.point(middle, base),
                Ink::Ramp(step(*value)).text_on(),
                FIGURE,
            );
        }
    };
    let in_unit = format!("{}, {unit}", data.metric);
    ChartContent {
        title: &data.title,
        subtitle: format!(
            "{}. {}",
            sentence(&[&in_unit, locale.t("by weekday and local hour of the start of the test")]),
            period(data.period, locale)
        ),
        finding,
        data: table(data, &days, locale),
    }
    .chart(width, height, pen)
    .hovering(&Hover::table(
        (0..=24).map(|hour| plot.left + f64::from(hour) * room),
        (0..=7).map(|day| plot.top + f64::from(day) * tall),
    ))
}

/// Draws the colour scale with its limits, above the cells at the right.
fn key(canvas: &mut Canvas, right: f64, low: &str, high: &str) {
    let ramp = right - text_width(high, SMALL) - 8.0 - f64::from(RAMP) * 12.0;
    canvas.text(low, At::End.point(ramp - 5.0, 11.0), Ink::Grey, SMALL);
    for step in 0..RAMP {
        canvas.rect((ramp + f64::from(step) * 12.0, 2.0), (12.0, 10.0), Ink::Ramp(step));
    }
    canvas.text(high, At::End.point(right, 11.0), Ink::Grey, SMALL);
}

fn finding(data: &HeatMap, known: &[(usize, usize, f64)], locale: &dyn ChartLocale) -> String {
    let by = |one: &&(usize, usize, f64), other: &&(usize, usize, f64)| one.2.total_cmp(&other.2);
    let when = |cell: &(usize, usize, f64)| {
        format!("{} {}", locale.weekday(cell.0 as i8 + 1), clock(cell.1 as i8, locale))
    };
    let metric = sentence(&[&data.metric]);
    match (known.iter().max_by(by), known.iter().min_by(by)) {
        (Some(high), Some(low)) if high.2 > low.2 => locale.fill(
            "{0} was highest on {1} ({2}) and lowest on {3} ({4}).",
            &[
                &metric,
                &when(high),
                &data.measure.text(high.2, locale),
                &when(low),
                &data.measure.text(low.2, locale),
            ],
        ),
        (Some(high), _) => {
            locale.fill("{0} was {1} at all hours.", &[&metric, &data.measure.text(high.2, locale)])
        }
        _ => locale.fill("{0} is unknown.", &[&metric]),
    }
}

/// Formats the start of an hour.
fn clock(hour: i8, locale: &dyn ChartLocale) -> String {
    locale.clock(jiff::civil::time(hour, 0, 0, 0), false)
}

fn table(data: &HeatMap, days: &[usize], locale: &dyn ChartLocale) -> Data {
    let mut heads = vec![locale.t("hour").to_owned()];
    heads.extend(days.iter().map(|day| locale.weekday(*day as i8 + 1)));
    let rows = (0..24)
        .map(|hour| {
            let mut row = vec![Datum::text(clock(hour as i8, locale))];
            row.extend(days.iter().map(|day| {
                let value = data.cells[*day][hour].filter(|value| value.is_finite());
                Datum::measured(value, data.measure, locale)
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
    fn a_week_with_unknown_hours_is_drawn() {
        let (data, locale) = samples::heat_map();
        insta::assert_snapshot!(samples::shown(&chart(&data, &locale)));
    }

    #[test]
    fn unknown_and_single_values_are_not_errors() {
        let (mut data, locale) = samples::heat_map();
        data.cells = [[None; 24]; 7];
        assert_eq!(chart(&data, &locale).alternative, "Median round trip is unknown.");
        data.cells[3][4] = Some(1e6);
        let one = chart(&data, &locale);
        assert!(one.svg.contains("ramp0") && !one.svg.contains("NaN"));
    }
}
