//! Trends: lasting changes of each metric, with their figures and significance.

use mailqos_config::{
    Problems, Table as Toml,
    key::{Defaulted, key},
    keys,
};
use mailqos_figures::{
    patterns::{Pattern, PatternFinding},
    significance::LEVEL,
};

use super::{Kind, Scope, Section, View, percentiles::metric_name};
use crate::{
    digest::{Need, Needs},
    document::{Block, Cell, Column, Row, Span, Table},
    locale::Locale,
    pattern_words,
};

#[derive(Debug)]
struct Trends {
    limit: usize,
}

keys! {
    TRENDS: TrendsKeys {
        /// The maximum number of changes.
        limit: Defaulted<u32> = key().default("40");
    }
}

/// The kind of section.
pub(super) const KIND: Kind =
    Kind::new("Lasting changes of each metric, with their strength.", TrendsKeys::KEYS, read);

fn read(table: &mut Toml, problems: &mut Problems) -> Option<Box<dyn Section>> {
    let limit = table.read(&TRENDS.limit, problems);
    Some(Box::new(Trends { limit: limit.max(1) as usize }))
}

impl Section for Trends {
    fn scope(&self) -> Scope {
        Scope::Any
    }

    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let mut found: Vec<&PatternFinding> =
            of_view(view).filter(|found| found.pattern.is_change()).collect();
        if found.is_empty() {
            return vec![Block::paragraph(l.fill(
                "No metric shows a significant lasting change (significance level {0}).",
                &[&l.percent(LEVEL, 0)],
            ))];
        }
        let all = found.len();
        // The largest changes, in the order of the monitors.
        found.sort_by(|a, b| b.pattern.effect().total_cmp(&a.pattern.effect()));
        found.truncate(self.limit);
        let several = view.monitors.len() > 1;
        let rows = pattern_words::told(found.into_iter())
            .into_iter()
            .filter_map(|found| row(found, several, view))
            .collect();
        let mut columns = Vec::new();
        if several {
            columns.push(Column::wide(3, l.t("Monitor")));
        }
        columns.extend([
            Column::wide(3, l.t("Metric")),
            Column::wide(4, l.t("Finding")),
            Column::measured(l.t("Before"), "s"),
            Column::measured(l.t("After"), "s"),
            Column::measured(l.t("Change"), "%"),
            Column::wide(3, l.t("Significance")),
        ]);
        let cut = if all > self.limit {
            l.fill(
                "The {0} largest of {1} changes are listed. ",
                &[&l.integer(self.limit as u64), &l.integer(all as u64)],
            )
        } else {
            String::new()
        };
        vec![Block::Table(Table {
            id: view.ids.unique("trends"),
            title: l.count(all as u64, "One lasting change", "{0} lasting changes"),
            subtitle: l
                .t("From daily medians, adjusted for weekly patterns; slopes with 95 % confidence intervals")
                .to_owned(),
            columns,
            rows,
            note: cut
                + l.t("Theil–Sen slopes with Mann–Kendall significance; shifts located by PELT with Pettitt significance; Holm-corrected for multiple testing."),
        })]
    }

    fn needs(&self, needs: &mut Needs) {
        needs.add(Need::Patterns);
    }
}

/// Returns the findings on the monitors of a section.
pub(super) fn of_view<'a>(view: &'a View<'_>) -> impl Iterator<Item = &'a PatternFinding> {
    view.facts.patterns().iter().filter(|found| {
        view.monitors
            .iter()
            .any(|monitor| *monitor.site == *found.site && *monitor.id == *found.monitor)
    })
}

/// Returns the name of a monitor.
pub(super) fn name_of(found: &PatternFinding, view: &View<'_>) -> String {
    view.monitors
        .iter()
        .find(|monitor| *monitor.site == *found.site && *monitor.id == *found.monitor)
        .map_or_else(|| found.monitor.to_string(), |monitor| monitor.name.clone())
}

fn row(found: &PatternFinding, several: bool, view: &View<'_>) -> Option<Row> {
    let l = view.locale;
    let (metric, happened, detail, from, to) = match &found.pattern {
        Pattern::Trend { metric, per_day, interval, from, to, .. } => (
            *metric,
            l.fill(
                if *per_day > 0.0 { "rose by {0} per day" } else { "fell by {0} per day" },
                &[&l.duration(per_day.abs())],
            ),
            range(*interval, *per_day < 0.0, l),
            *from,
            *to,
        ),
        Pattern::Shift { metric, at, before, after } => (
            *metric,
            l.fill(
                if after > before {
                    "rose on {0} and stayed higher"
                } else {
                    "fell on {0} and stayed lower"
                },
                &[&l.day(*at)],
            ),
            String::new(),
            *before,
            *after,
        ),
        _ => return None,
    };
    let change = to / from - 1.0;
    let mut cells = Vec::new();
    if several {
        cells.push(Cell::text(name_of(found, view)));
    }
    cells.extend([
        Cell::text(metric_name(metric, l)),
        Cell::text(happened).detail(detail),
        Cell::number(l.duration(from), Some(from / 1e6)),
        Cell::number(l.duration(to), Some(to / 1e6)),
        Cell::number(l.change(change), Some(change * 100.0)),
        Cell::text(pattern_words::test(&found.pattern, l))
            .detail(pattern_words::strength(found.p, l)),
    ]);
    Some(Row { cells, strong: false })
}

fn range((low, high): (f64, f64), falls: bool, l: &Locale) -> String {
    let (low, high) = if falls { (-high, -low) } else { (low, high) };
    format!("({}–{})", l.duration(low), l.duration(high))
}

/// Returns a finding as a list item: the monitor, if there are several, the sentence, and its
/// significance.
pub(super) fn item(found: &PatternFinding, several: bool, view: &View<'_>) -> Vec<Span> {
    let l = view.locale;
    let mut spans = Vec::new();
    if several {
        spans.push(Span::strong(format!("{}: ", name_of(found, view))));
    }
    spans.push(Span::plain(pattern_words::sentence(&found.pattern, l)));
    spans.push(Span {
        emphasis: true,
        ..Span::plain(format!(
            " ({}, {})",
            pattern_words::test(&found.pattern, l),
            pattern_words::strength(found.p, l)
        ))
    });
    spans
}
