//! Availability strips: a row for each monitor, with a cell for each day or hour.

use mailqos_model::UtcMicros;

use super::{
    Chart, Data, Datum, Measure,
    axis::{TimeSpan, place},
    canvas::{At, Canvas, Hover, NAMES, SMALL, TEXT, text_width, widest},
    locale::{ChartLocale, DASH},
    palette::Ink,
    plot::{ChartContent, Plot, hatched, in_lines, moment, period, sentence},
};

/// Width in pixels below which cells are merged.
const NARROW: f64 = 2.5;

/// Input of the chart.
#[derive(Debug, Clone)]
pub struct Strip {
    /// Title of the chart; if empty, the finding is the title.
    pub title: String,
    /// Width of the chart in pixels.
    pub width: u32,
    /// Period shown.
    pub period: TimeSpan,
    /// Monitors, from top to bottom.
    pub rows: Vec<Row>,
}

/// A monitor of the chart.
#[derive(Debug, Clone)]
pub struct Row {
    /// Display name.
    pub name: String,
    /// Figure after the strip, such as the availability; may be empty.
    pub figure: String,
    /// Cells in ascending order; gaps between them are unknown.
    pub cells: Vec<Cell>,
}

/// A day or an hour of a monitor.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// Time span of the cell.
    pub span: TimeSpan,
    /// Number of counted tests.
    pub tests: u64,
    /// Number of failed tests.
    pub failed: u64,
    /// Whether tests were excluded because of maintenance.
    pub maintenance: bool,
}

/// State of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Ok,
    Some,
    All,
    Maintenance,
    Unknown,
}

const STATES: [(State, &str); 5] = [
    (State::Ok, "all tests succeeded"),
    (State::Some, "some failed (height: share)"),
    (State::All, "all failed"),
    (State::Maintenance, "maintenance"),
    (State::Unknown, "no tests"),
];

impl Cell {
    pub(super) fn state(&self) -> State {
        match (self.tests, self.failed) {
            (0, _) if self.maintenance => State::Maintenance,
            (0, _) => State::Unknown,
            (_, 0) => State::Ok,
            (tests, failed) if failed >= tests => State::All,
            _ => State::Some,
        }
    }

    pub(super) fn words(&self, locale: &dyn ChartLocale) -> String {
        let when = moment(self.span.from, locale);
        match self.state() {
            State::Maintenance => format!("{when}: {}", locale.t("maintenance")),
            State::Unknown => format!("{when}: {}", locale.t("no tests")),
            _ => locale.fill(
                "{0}: {1} of {2} tests failed",
                &[&when, &locale.count(self.failed), &locale.count(self.tests)],
            ),
        }
    }
}

/// Draws the chart.
pub fn chart(data: &Strip, locale: &dyn ChartLocale) -> Chart {
    let width = data.width.clamp(240, 2_000);
    let pitch = match data.rows.len() {
        0..=2 => 34.0,
        3..=8 => 26.0,
        9..=20 => 20.0,
        _ => 16.0,
    };
    let names = widest(data.rows.iter().map(|row| row.name.as_str()), TEXT)
        .min(f64::from(width) * NAMES)
        .ceil();
    let figures = widest(data.rows.iter().map(|row| row.figure.as_str()), TEXT).min(110.0).ceil();
    let left = names + 10.0;
    let right = f64::from(width) - if figures > 0.0 { figures + 10.0 } else { 2.0 };
    let rows: Vec<Vec<Cell>> =
        data.rows.iter().map(|row| joined(row, data.period, right - left)).collect();
    let mut states: Vec<State> = rows.iter().flatten().map(Cell::state).collect();
    states.sort_unstable();
    states.dedup();
    let key = Key::of(&states, f64::from(width), locale);
    let top = key.height + 8.0;
    let plot = Plot { left, right, top, bottom: top + pitch * data.rows.len().max(1) as f64 };
    let height = (plot.bottom + 24.0).ceil();
    let finding = finding(data, locale);
    let pen = |canvas: &mut Canvas| {
        key.draw(canvas);
        if data.rows.is_empty() {
            canvas.text(
                locale.t("no monitors"),
                At::Start.point(left, plot.top + 20.0),
                Ink::Grey,
                TEXT,
            );
        }
        let middle = |index: usize| plot.top + pitch * (index as f64 + 0.5);
        // If nothing is drawn above this line, nothing is known.
        for index in 0..rows.len() {
            let y = middle(index);
            canvas.line((plot.left, y), (plot.right, y), Ink::Mist, 0.75);
        }
        // One state after another, so that similar cells become one path.
        for layer in LAYERS {
            for (index, cells) in rows.iter().enumerate() {
                strip(canvas, cells, (plot, data.period), (middle(index), pitch * 0.8), layer);
            }
        }
        for (index, row) in data.rows.iter().enumerate() {
            canvas.name(&row.name, At::End.point(left - 10.0, middle(index) + 4.0), names);
        }
        for (index, row) in data.rows.iter().enumerate() {
            canvas.name(&row.figure, At::End.point(f64::from(width), middle(index) + 4.0), figures);
        }
        plot.time_axis(canvas, data.period, (plot.bottom + 2.0, f64::from(width)), locale);
    };
    let each = cell_name(data, locale);
    ChartContent {
        title: &data.title,
        subtitle: format!("{}. {}", sentence(&[&each]), period(data.period, locale)),
        finding,
        data: table(data, locale),
    }
    .chart(width, height, pen)
    .hovering(&hover(&rows, data.period, plot, locale))
    .over(data.period, plot)
}

/// Returns the tooltips of the cells, if all rows have the same cells.
fn hover(rows: &[Vec<Cell>], whole: TimeSpan, plot: Plot, locale: &dyn ChartLocale) -> Hover {
    let Some(first) = rows.first() else {
        return Hover::default();
    };
    let alike = |row: &Vec<Cell>| {
        let spans = row.iter().zip(first);
        row.len() == first.len()
            && spans.fold(true, |all, (one, other)| all && one.span == other.span)
    };
    if !rows.iter().all(alike) {
        return Hover::default();
    }
    let x = |at: UtcMicros| plot.x(place(whole, at));
    let edges = first.iter().map(|cell| x(cell.span.from));
    let edges = edges.chain(first.last().map(|cell| x(cell.span.to)));
    let tall = (plot.bottom - plot.top) / rows.len() as f64;
    let said = |cell: &Cell| match cell.state() {
        State::Maintenance => locale.t("maintenance").to_owned(),
        State::Unknown => locale.t("no tests").to_owned(),
        _ => format!("{}|{}", locale.count(cell.failed), locale.count(cell.tests)),
    };
    Hover::table(edges, (0..=rows.len()).map(|row| plot.top + row as f64 * tall)).saying(
        first.iter().map(|cell| moment(cell.span.from, locale)).collect(),
        rows.iter().map(|row| row.iter().map(said).collect()).collect(),
        locale.t("{0}: {1} of {2} tests failed"),
    )
}

/// Merges neighbouring cells, with their tests added up, until they are wide enough to see.
fn joined(row: &Row, whole: TimeSpan, width: f64) -> Vec<Cell> {
    let mut cells: Vec<Cell> = row
        .cells
        .iter()
        .filter(|cell| cell.span.to > whole.from && cell.span.from < whole.to)
        .copied()
        .collect();
    let narrowest =
        |cell: &Cell| (place(whole, cell.span.to) - place(whole, cell.span.from)) * width;
    let usual = cells.get(cells.len() / 2).map_or(NARROW, narrowest).max(1e-3);
    let together = (NARROW / usual).ceil() as usize;
    if together > 1 {
        // By position, not by count, so that all rows are divided at the same times.
        let slot = |cell: &Cell| (place(whole, cell.span.from) * width / NARROW + 1e-6) as i64;
        cells = cells
            .chunk_by(|one, other| slot(one) == slot(other))
            .map(|chunk| Cell {
                span: TimeSpan { from: chunk[0].span.from, to: chunk[chunk.len() - 1].span.to },
                tests: chunk.iter().map(|cell| cell.tests).sum(),
                failed: chunk.iter().map(|cell| cell.failed).sum(),
                maintenance: chunk.iter().any(|cell| cell.maintenance),
            })
            .collect();
    }
    cells
}

/// Layer of the drawing; each is drawn for all cells before the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    /// Successful parts.
    Calm,
    /// Failed parts.
    Failed,
    /// Maintenance.
    Hatched,
}

/// All layers, from bottom to top.
pub(super) const LAYERS: [Layer; 3] = [Layer::Calm, Layer::Failed, Layer::Hatched];

/// Draws the cells of a row in one layer; `middle` is the middle of the row.
fn strip(
    canvas: &mut Canvas,
    cells: &[Cell],
    (plot, whole): (Plot, TimeSpan),
    (middle, tall): (f64, f64),
    layer: Layer,
) {
    let top = middle - tall / 2.0;
    let x = |at: UtcMicros| plot.x(place(whole, at));
    let usual = cells.get(cells.len() / 2).map_or(0.0, |cell| x(cell.span.to) - x(cell.span.from));
    let gap = if usual >= 4.0 { 1.0 } else { 0.0 };
    // Adjacent cells that look the same in this layer become one area.
    let looks = |cell: &Cell| match (cell.state(), layer) {
        (State::Ok | State::Some, Layer::Calm) => Some(State::Ok),
        (State::Some, Layer::Failed) => Some(State::Some),
        (State::Maintenance, Layer::Hatched) => Some(State::Maintenance),
        _ => None,
    };
    let runs = cells.chunk_by(|one, other| {
        gap == 0.0
            && one.span.to == other.span.from
            && looks(one).is_some()
            && looks(one) == looks(other)
    });
    for run in runs {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            continue;
        };
        let (from, to) = (x(first.span.from), x(last.span.to));
        let width = (to - from - gap).max(0.5);
        if run.len() > 1 && layer == Layer::Calm {
            // Failed parts are drawn on top of it.
            canvas.rect((from, top), (width, tall), Ink::Calm);
            continue;
        }
        if run.len() > 1 && layer == Layer::Failed {
            let bottom = top + tall;
            let steps = run.iter().flat_map(|cell| {
                let above = bottom - part(cell, tall);
                [(x(cell.span.from), above), (x(cell.span.to), above)]
            });
            let outline: Vec<_> =
                [(from, bottom)].into_iter().chain(steps).chain([(to, bottom)]).collect();
            canvas.polygon(&outline, Ink::Failed);
            continue;
        }
        mark(canvas, ((from, top), (width, tall)), first, (tall * 0.1, ""), layer);
    }
}

/// Returns the height of the failed part of a cell: always visible, and never the full height.
fn part(cell: &Cell, tall: f64) -> f64 {
    let share = cell.failed as f64 / cell.tests.max(1) as f64;
    (tall * (0.14 + 0.7 * share)).max(2.0)
}

/// Draws a cell, with a colour and a shape for its state. A cell in which everything failed extends
/// beyond its row on both sides by this many pixels, so outages are recognisable by their outline.
pub(super) fn mark(
    canvas: &mut Canvas,
    ((left, top), (width, tall)): ((f64, f64), (f64, f64)),
    cell: &Cell,
    (beyond, words): (f64, &str),
    layer: Layer,
) {
    let part = part(cell, tall);
    match (cell.state(), layer) {
        (State::Ok, Layer::Calm) => canvas.rect((left, top), (width, tall), Ink::Calm),
        (State::Some, Layer::Calm) => canvas.rect((left, top), (width, tall - part), Ink::Calm),
        (State::Some, Layer::Failed) => {
            canvas.rect((left, top + tall - part), (width, part), Ink::Failed)
        }
        (State::All, Layer::Failed) => {
            canvas.rect((left, top - beyond), (width, tall + 2.0 * beyond), Ink::Failed)
        }
        (State::Maintenance, Layer::Hatched) => {
            return hatched(canvas, (left, top), (width, tall), words);
        }
        _ => return,
    }
    canvas.title(words);
}

/// Draws the legend of the states that occur, in lines as wide as the canvas.
pub(super) struct Key {
    entries: Vec<(State, f64, f64, &'static str)>,
    pub(super) height: f64,
}

impl Key {
    pub(super) fn of(states: &[State], width: f64, locale: &dyn ChartLocale) -> Self {
        let shown = STATES.iter().filter(|(state, _)| states.contains(state));
        let shown: Vec<(State, &'static str)> =
            shown.map(|(state, text)| (*state, locale.t(text))).collect();
        let (places, height) =
            in_lines(shown.iter().map(|(_, text)| 15.0 + text_width(text, SMALL)), width);
        let entries = shown.into_iter().zip(places);
        Self {
            entries: entries.map(|((state, text), (x, line))| (state, x, line, text)).collect(),
            height,
        }
    }

    pub(super) fn draw(&self, canvas: &mut Canvas) {
        for (state, x, line, text) in &self.entries {
            let (x, top) = (*x, line + 2.0);
            match state {
                State::Ok => canvas.rect((x, top), (10.0, 10.0), Ink::Calm),
                State::Some => {
                    canvas.rect((x, top), (10.0, 6.0), Ink::Calm);
                    canvas.rect((x, top + 6.0), (10.0, 4.0), Ink::Failed);
                }
                State::All => canvas.rect((x, top - 1.0), (10.0, 12.0), Ink::Failed),
                State::Maintenance => hatched(canvas, (x, top), (10.0, 10.0), ""),
                State::Unknown => {
                    canvas.line((x, top + 5.0), (x + 10.0, top + 5.0), Ink::Mist, 0.75)
                }
            }
            canvas.text(text, At::Start.point(x + 15.0, top + 9.0), Ink::Grey, SMALL);
        }
    }
}

fn totals(row: &Row) -> (u64, u64) {
    let sum = |part: fn(&Cell) -> u64| row.cells.iter().map(part).sum();
    (sum(|cell| cell.tests), sum(|cell| cell.failed))
}

pub(super) fn finding(data: &Strip, locale: &dyn ChartLocale) -> String {
    let sums: Vec<(u64, u64)> = data.rows.iter().map(totals).collect();
    let tests: u64 = sums.iter().map(|sum| sum.0).sum();
    let failed: u64 = sums.iter().map(|sum| sum.1).sum();
    if tests == 0 {
        return locale.t("No tests took place.").to_owned();
    }
    if tests == 1 {
        return locale
            .t(if failed == 0 { "The only test succeeded." } else { "The only test failed." })
            .to_owned();
    }
    if failed == 0 {
        return locale.fill("None of {0} tests failed.", &[&locale.count(tests)]);
    }
    let worst = data.rows.iter().zip(&sums).max_by(|(_, one), (_, other)| {
        let share = |sum: &(u64, u64)| sum.1 as f64 / sum.0.max(1) as f64;
        share(one).total_cmp(&share(other))
    });
    let name = worst.map_or("", |(row, _)| row.name.as_str());
    let (worst_tests, worst_failed) = worst.map_or((0, 0), |(_, sum)| *sum);
    if data.rows.len() == 1 {
        return locale.fill(
            "{2}: {0} of {1} tests failed.",
            &[&locale.count(failed), &locale.count(tests), name],
        );
    }
    if sums.iter().all(|sum| sum.1 > 0) {
        return locale.fill(
            if data.rows.len() == 2 {
                "Tests failed at both monitors, most often at {1}: {2} of {3} tests."
            } else {
                "Tests failed at all monitors ({0}), most often at {1}: {2} of {3} tests."
            },
            &[
                &locale.count(data.rows.len() as u64),
                name,
                &locale.count(worst_failed),
                &locale.count(worst_tests),
            ],
        );
    }
    let touched = sums.iter().filter(|sum| sum.1 > 0).count() as u64;
    locale.fill(
        "Tests failed at {0} of {1} monitors, most often at {2}: {3} of {4} tests.",
        &[
            &locale.count(touched),
            &locale.count(data.rows.len() as u64),
            name,
            &locale.count(worst_failed),
            &locale.count(worst_tests),
        ],
    )
}

/// Returns the state of a cell.
fn cell_name(data: &Strip, locale: &dyn ChartLocale) -> String {
    let hours = data
        .rows
        .iter()
        .find_map(|row| row.cells.get(row.cells.len() / 2))
        .map_or(0, |cell| cell.span.to.0.saturating_sub(cell.span.from.0) / 3_600_000_000);
    let name = match hours {
        1 => "one cell per hour",
        23..=25 => "one cell per day",
        167..=169 => "one cell per week",
        _ => "state over the period",
    };
    locale.t(name).to_owned()
}

pub(super) fn table(data: &Strip, locale: &dyn ChartLocale) -> Data {
    let heads = [
        "monitor",
        "tests",
        "failed",
        "share of successful tests",
        "cells with failures",
        "worst cell",
    ];
    let rows = data
        .rows
        .iter()
        .map(|row| {
            let (tests, failed) = totals(row);
            let bad = row.cells.iter().filter(|cell| cell.failed > 0).count();
            let worst = row
                .cells
                .iter()
                .filter(|cell| cell.failed > 0)
                .max_by_key(|cell| (cell.failed, std::cmp::Reverse(cell.span.from)));
            let share = (tests > 0).then(|| (tests - failed.min(tests)) as f64 / tests as f64);
            vec![
                Datum::text(&row.name),
                Datum::count(tests, locale),
                Datum::count(failed, locale),
                Datum::measured(share, Measure::Share, locale),
                Datum::count(bad as u64, locale),
                Datum::text(worst.map_or_else(|| DASH.to_owned(), |cell| cell.words(locale))),
            ]
        })
        .collect();
    Data::new(heads.map(|head| locale.t(head).to_owned()).into(), rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn every_state_looks_different() {
        let (data, locale) = samples::strip_small();
        insta::assert_snapshot!(samples::shown(&chart(&data, &locale)));
    }

    #[test]
    fn a_failed_hour_of_a_year_stays_visible() {
        let (data, locale) = samples::strip_year_of_hours();
        let chart = chart(&data, &locale);
        // As areas or as thick lines.
        let paths = chart.svg.lines().filter(|line| line.contains("class=\"failed"));
        let marks: usize = paths.map(|path| path.matches(['M', 'm']).count()).sum();
        assert_eq!(marks, data.rows.len() + 1, "a mark a row, and the key");
        assert!(chart.svg.len() < 15_000, "{} bytes", chart.svg.len());
    }

    proptest::proptest! {
        #[test]
        fn any_cells_can_be_drawn(
            from: i64,
            to: i64,
            cells in proptest::collection::vec((proptest::num::i64::ANY, proptest::num::i64::ANY, 0_u64..1_000, 0_u64..1_000), 0..40),
        ) {
            let (mut data, locale) = samples::strip_small();
            data.period = TimeSpan { from: UtcMicros(from), to: UtcMicros(to) };
            data.rows[0].cells = cells
                .into_iter()
                .map(|(from, to, tests, failed)| Cell {
                    span: TimeSpan { from: UtcMicros(from), to: UtcMicros(to) },
                    tests,
                    failed,
                    maintenance: failed == 7,
                })
                .collect();
            let chart = chart(&data, &locale);
            proptest::prop_assert!(!chart.svg.contains("NaN") && !chart.svg.contains("inf"));
        }
    }

    #[test]
    fn names_are_escaped() {
        let (mut data, locale) = samples::strip_small();
        for (row, name) in data.rows.iter_mut().zip(samples::NAMES) {
            row.name = name.to_owned();
        }
        let chart = chart(&data, &locale);
        assert!(!chart.svg.contains("<script"));
        assert!(chart.svg.contains("&lt;script&gt;"));
        assert!(chart.svg.contains("…</text>"), "200 characters are cut");
        assert!(
            chart.svg.contains(&format!("<title>{}</title>", "long ".repeat(40))),
            "and told in full"
        );
    }
}
