//! The last 24 hours of each monitor, in half-hours: the strip and the line of the overview.

use std::{collections::HashMap, fmt::Write as _, path::Path, sync::Arc};

use mailqos_lake_tables::{Lake, LakeError, Metric, Series, SeriesQuery};
use mailqos_model::{Exclusion, Micros, Outcome, UtcMicros};

/// Number of cells.
pub(crate) const CELLS: usize = 48;
/// Length of a cell.
pub(crate) const CELL: Micros = Micros::from_secs(1_800);
/// Memory for samples while they are read, in bytes.
const BUDGET: usize = 128 << 20;
/// Height of the strip and of the line above it, in units of the drawing.
const STRIP: usize = 6;
const LINE: f64 = 16.0;
/// Width of a cell, in units of the drawing.
const WIDTH: usize = 4;

/// State of a cell: the worst of its tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cell {
    /// No test that counts.
    #[default]
    None,
    /// Only tests in maintenance.
    Maintenance,
    /// All tests succeeded.
    Ok,
    /// A mail was late.
    Late,
    /// A test failed.
    Failed,
}

impl Cell {
    /// Returns the class of the drawing, and the word of the API.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Maintenance => "maintenance",
            Self::Ok => "ok",
            Self::Late => "late",
            Self::Failed => "failed",
        }
    }
}

/// The last 24 hours of a monitor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Day {
    /// States, oldest first.
    pub(crate) cells: [Cell; CELLS],
    /// Median round trips in milliseconds, oldest first; negative if there is none.
    pub(crate) medians: [f32; CELLS],
    /// Counted tests.
    pub(crate) tests: u32,
    /// Counted tests that succeeded.
    pub(crate) ok: u32,
    /// Median round trip of all counted tests, in microseconds.
    pub(crate) median: Option<f64>,
}

impl Default for Day {
    fn default() -> Self {
        Self { cells: [Cell::None; CELLS], medians: [-1.0; CELLS], tests: 0, ok: 0, median: None }
    }
}

/// The last 24 hours of all monitors, by site and id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Days {
    /// By site and id.
    pub(crate) all: HashMap<(Arc<str>, Arc<str>), Arc<Day>>,
    /// Reason why the lake can't be read, or which files are damaged.
    pub(crate) error: Option<String>,
}

/// Returns the start of the first cell: cells begin at full and half hours of UTC.
pub(crate) fn start(now: UtcMicros) -> UtcMicros {
    let end = now.0.div_euclid(CELL.0) * CELL.0 + CELL.0;
    UtcMicros(end - CELL.0 * CELLS as i64)
}

/// Reads the last 24 hours of all monitors.
///
/// # Errors
/// The lake can't be read at all; damaged files are skipped and named.
pub(crate) fn read(folder: &Path, now: UtcMicros) -> Result<Days, LakeError> {
    let lake = Lake::open(folder)?.skip_corrupt(true);
    let from = start(now);
    let to = from + Micros(CELL.0 * CELLS as i64);
    let query = SeriesQuery::new(from..to).metrics(&[Metric::RoundTrip]).budget(BUDGET);
    let days = lake.map(&query, |series| {
        let key = (Arc::clone(&series.site), Arc::clone(&series.monitor));
        (key, Arc::new(Day::of(series, from)))
    })?;
    let mut all: HashMap<_, Arc<Day>> = HashMap::with_capacity(days.len());
    for (key, day) in days {
        // A monitor whose kind was changed has two series: the one with more tests is shown.
        match all.get(&key) {
            Some(other) if other.tests >= day.tests => {}
            _ => drop(all.insert(key, day)),
        }
    }
    let skipped = lake.skipped();
    let error = skipped.first().map(|(path, reason)| format!("{}: {reason}", path.display()));
    Ok(Days { all, error })
}

impl Day {
    fn of(series: &Series, from: UtcMicros) -> Self {
        let mut day = Self::default();
        let mut values: Vec<i64> = Vec::new();
        for cell in 0..CELLS {
            let at = |number: usize| from + Micros(CELL.0 * number as i64);
            let rows = series.rows(at(cell), at(cell + 1));
            values.clear();
            for row in rows {
                if series.exclusion(row) == Some(Exclusion::Maintenance) {
                    day.cells[cell] = day.cells[cell].max(Cell::Maintenance);
                }
                if !series.counts(row) {
                    continue;
                }
                day.tests += 1;
                let state = match series.outcome[row] {
                    Outcome::Ok => Cell::Ok,
                    Outcome::Late => Cell::Late,
                    _ => Cell::Failed,
                };
                day.ok += u32::from(state == Cell::Ok);
                day.cells[cell] = day.cells[cell].max(state);
                values.extend(series.metric(Metric::RoundTrip).get(row).map(|value| value.0));
            }
            if let Some(median) = median(&mut values) {
                day.medians[cell] = (median / 1_000.0) as f32;
            }
        }
        let mut all = series.values(Metric::RoundTrip, series.inside.clone());
        day.median = median(&mut all);
        day
    }

    /// Draws the line of the round trip above the strip of states, as SVG with classes.
    pub(crate) fn svg(&self) -> String {
        let mut paths = [const { String::new() }; 5];
        let mut at = 0;
        for run in self.cells.chunk_by(|one, other| one == other) {
            let path = &mut paths[run[0] as usize];
            let width = run.len() * WIDTH - usize::from(!run.is_empty());
            // Writing to a `String` can't fail.
            let _ = write!(path, "M{} 20h{width}v{STRIP}h-{width}z", at * WIDTH);
            at += run.len();
        }
        let mut svg = format!(
            "<svg viewBox=\"0 0 {} 26\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
            CELLS * WIDTH
        );
        let line = self.line();
        if !line.is_empty() {
            let _ = write!(svg, "<path class=\"line\" d=\"{line}\"/>");
        }
        const CLASSES: [Cell; 5] =
            [Cell::None, Cell::Maintenance, Cell::Ok, Cell::Late, Cell::Failed];
        for (class, path) in CLASSES.iter().zip(&paths).filter(|(_, path)| !path.is_empty()) {
            let _ = write!(svg, "<path class=\"cell-{}\" d=\"{path}\"/>", class.word());
        }
        svg.push_str("</svg>");
        svg
    }

    /// Returns the path of the line; gaps stay gaps. It starts at zero, so that noise does not look
    /// like a change.
    fn line(&self) -> String {
        let most = self.medians.iter().copied().fold(0.0_f32, f32::max);
        let mut path = String::new();
        if most <= 0.0 {
            return path;
        }
        let mut open = false;
        for (number, value) in self.medians.iter().enumerate() {
            if *value < 0.0 {
                open = false;
                continue;
            }
            let x = number * WIDTH + WIDTH / 2 - 1;
            let y = 1.0 + LINE - f64::from(value / most) * LINE;
            let is_alone = !open && self.medians.get(number + 1).is_none_or(|next| *next < 0.0);
            let _ = write!(path, "{}{x} {y:.1}", if open { 'L' } else { 'M' });
            if is_alone {
                path.push_str("h1");
            }
            open = true;
        }
        path
    }
}

/// Returns the median by linear interpolation, as the figures define it.
fn median(values: &mut [i64]) -> Option<f64> {
    mailqos_figures::percentiles::percentiles(values, &[0.5]).first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_ends_with_the_current_half_hour() {
        let now = UtcMicros(1_780_000_000_000_000);
        let from = start(now);
        assert_eq!(from.0 % CELL.0, 0);
        let end = from + Micros(CELL.0 * CELLS as i64);
        assert!(end > now && end - now <= CELL);
    }

    #[test]
    fn a_day_is_drawn_with_classes_and_gaps() {
        let mut day = Day::default();
        assert!(!day.svg().contains("line"));
        day.cells[3] = Cell::Failed;
        for cell in [4, 5, 9] {
            (day.cells[cell], day.medians[cell]) = (Cell::Ok, 100.0);
        }
        let svg = day.svg();
        assert!(svg.contains("<path class=\"cell-failed\" d=\"M12 20h3v6h-3z\"/>"), "{svg}");
        assert!(svg.contains("class=\"cell-ok\" d=\"M16 20h7v6h-7zM36 20h3v6h-3z\""), "{svg}");
        assert!(svg.contains("d=\"M17 1.0L21 1.0M37 1.0h1\""), "{svg}");
        assert!(!svg.contains("style"), "the policy of the pages forbids styles");
    }
}
