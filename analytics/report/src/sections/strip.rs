//! Availability strip or calendar: the failures of each monitor, with a cell per day or hour.

use mailqos_charts::{
    WIDTH,
    axis::TimeSpan,
    calendar,
    strip::{self, Cell, Row, Strip as Drawing},
};
use mailqos_config::{
    Problems, Table,
    key::{Optional, OptionalWord, Word, key},
    keys, word,
};
use mailqos_figures::{Bucket, Period, Unit};
use mailqos_model::Micros;

use super::{Kind, Section, View, round_trip::stretch, rows_a_chart};
use crate::{
    digest::{Need, Needs, cell_of},
    document::{Block, ChartBlock},
    facts::Monitor,
    locale::Locale,
};

/// Maximum length of a period for a calendar.
const MAX_DAYS: Micros = Micros::from_secs(3 * 366 * 86_400);

#[derive(Debug)]
struct Strip {
    cell: Option<Unit>,
    calendar: bool,
    limit: Option<u32>,
}

keys! {
    STRIP: StripKeys {
        /// A row of cells for each monitor, or a calendar with a column for each week.
        shape: Word<bool> = word!([("strip", false), ("calendar", true)]).default("\"strip\"");
        /// What a cell covers; a calendar has days.
        cell: OptionalWord<Unit> = word!([("hour", Unit::Hour), ("day", Unit::Day)]).otherwise("by the period's length");
        /// The maximum number of monitors, worst first.
        limit: Optional<u32> = key().otherwise("all");
    }
}

/// The kind of section.
pub(super) const KIND: Kind = Kind::new("When each monitor failed.", StripKeys::KEYS, read);

fn read(table: &mut Table, problems: &mut Problems) -> Option<Box<dyn Section>> {
    let cell = table.read(&STRIP.cell, problems);
    let calendar = table.read(&STRIP.shape, problems);
    if calendar && cell == Some(Unit::Hour) {
        problems.push(table.problem(
            &STRIP.cell,
            "a calendar has a cell per day",
            "remove it, or set shape = \"strip\"",
        ));
    }
    let limit = table.read(&STRIP.limit, problems);
    Some(Box::new(Strip { cell, calendar, limit }))
}

impl Section for Strip {
    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let passed = &view.facts.passed;
        // A single monitor over a short period is shown at the highest resolution.
        let period = match view.monitors[..] {
            [only] => only.digest.window(passed),
            _ => passed.clone(),
        };
        let calendar = self.calendar && passed.duration() <= MAX_DAYS;
        let period = if calendar { passed.clone() } else { period };
        let unit = if calendar { Some(Unit::Day) } else { self.cell };
        let unit = unit.unwrap_or_else(|| cell_of(&period));
        let buckets = view.facts.buckets(&period, unit);
        let (shown, title) = self.worst(view);
        let parts = shown.chunks(rows_a_chart(shown.len()));
        let count = parts.len();
        parts
            .enumerate()
            .map(|(index, monitors)| {
                let drawing = Drawing {
                    title: title.clone(),
                    width: WIDTH,
                    period: stretch(&period),
                    rows: monitors
                        .iter()
                        .map(|monitor| row(monitor, (&period, unit), &buckets, view.locale))
                        .collect(),
                };
                let mut chart = if calendar {
                    let first = view.facts.period.calendar.week_start.to_monday_one_offset();
                    calendar::chart(&drawing, first, view.locale)
                } else {
                    strip::chart(&drawing, view.locale)
                };
                if count > 1 {
                    chart.title = format!("{} ({}/{count})", chart.title, index + 1);
                }
                Block::Chart(ChartBlock { id: view.ids.unique("availability-strip"), chart })
            })
            .collect()
    }

    fn needs(&self, needs: &mut Needs) {
        needs.add(Need::Tests(self.cell));
        if self.calendar {
            needs.add(Need::Tests(Some(Unit::Day)));
        }
    }
}

impl Strip {
    /// Returns the monitors to show: the worst ones if they exceed the limit, which the title then
    /// states.
    fn worst<'a>(&self, view: &View<'a>) -> (Vec<&'a Monitor>, String) {
        let l = view.locale;
        let mut monitors = view.monitors.clone();
        let limit = self.limit.map_or(usize::MAX, |limit| limit.max(1) as usize);
        if monitors.len() <= limit {
            return (monitors, String::new());
        }
        let failing = monitors.iter().filter(|monitor| monitor.counts.failed() > 0).count();
        let all = monitors.len();
        let share = |monitor: &Monitor| monitor.counts.availability().unwrap_or(2.0);
        monitors.sort_by(|a, b| share(a).total_cmp(&share(b)).then_with(|| a.id.cmp(&b.id)));
        monitors.truncate(limit);
        let title = l.fill(
            "Tests failed at {0} of {1} monitors; the {2} worst are shown",
            &[&l.integer(failing as u64), &l.integer(all as u64), &l.integer(limit as u64)],
        );
        (monitors, title)
    }
}

fn row(
    monitor: &Monitor,
    (period, unit): (&Period, Unit),
    buckets: &[Bucket],
    locale: &Locale,
) -> Row {
    Row {
        name: monitor.name.clone(),
        figure: locale.share(monitor.counts.ok, monitor.counts.tests()),
        cells: buckets
            .iter()
            .zip(monitor.digest.tests(period, unit))
            .map(|(bucket, tally)| Cell {
                span: TimeSpan {
                    from: bucket.start.max(period.from),
                    to: bucket.end.min(period.to),
                },
                tests: tally.tests.into(),
                failed: tally.failed.into(),
                maintenance: tally.maintenance,
            })
            .collect(),
    }
}
