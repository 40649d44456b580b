//! Service levels: whether each objective was met, its remaining error budget, and its forecast.

use mailqos_charts::{
    ChartLocale, WIDTH,
    budget::{self, Budget, Budgets},
};
use mailqos_config::{
    LevelTarget, Problems, Table as Toml,
    key::{Defaulted, Optional, key},
    keys,
};
use mailqos_figures::service_level::{
    Entry, LevelReport, TargetResult, UndecidedReason, Value, Verdict,
};
use mailqos_lake_tables::Metric;
use mailqos_model::Micros;

use super::{Kind, Scope, Section, View, percentiles::metric_name, round_trip::stretch, strings};
use crate::{
    document::{Block, Cell, ChartBlock, Column, Note, Row, Status, Table},
    locale::{DASH, Locale},
};

/// Maximum number of bars in the chart, highest use first.
const MAX_BARS: usize = 12;
/// Maximum number of rows in the table, highest use first.
const MAX_ROWS: usize = 60;

#[derive(Debug)]
struct ServiceLevels {
    levels: Vec<String>,
    quiet: bool,
    brief: bool,
}

keys! {
    SERVICE_LEVEL: ServiceLevelKeys {
        /// Only these service levels; globs may be used.
        levels: Optional<Vec<String>> = key().otherwise("all");
        /// Only the verdict.
        brief: Defaulted<bool> = key().default("false");
        /// Omit the section if there are no service levels.
        quiet: Defaulted<bool> = key().default("false");
    }
}

/// The kind of section.
pub(super) const KIND: Kind = Kind::new(
    "Objectives met or missed, error budgets and how long they will last.",
    ServiceLevelKeys::KEYS,
    read,
);

fn read(table: &mut Toml, problems: &mut Problems) -> Option<Box<dyn Section>> {
    Some(Box::new(ServiceLevels {
        levels: strings(table, &SERVICE_LEVEL.levels, problems),
        quiet: table.read(&SERVICE_LEVEL.quiet, problems),
        brief: table.read(&SERVICE_LEVEL.brief, problems),
    }))
}

impl Section for ServiceLevels {
    fn scope(&self) -> Scope {
        Scope::Any
    }

    fn blocks(&self, view: &View<'_>) -> Vec<Block> {
        let l = view.locale;
        let mut blocks = Vec::new();
        for report in &view.facts.levels {
            if !self.levels.is_empty()
                && !self.levels.iter().any(|wanted| mailqos_config::glob(wanted, &report.id))
            {
                continue;
            }
            let whole = view.monitors.len() == view.facts.monitors.len();
            let mut rows: Vec<(&Entry, &TargetResult)> = report
                .entries
                .iter()
                .filter(|entry| whole || shown_here(entry, view))
                .flat_map(|entry| entry.targets.iter().map(move |judgement| (entry, judgement)))
                .collect();
            if rows.is_empty() {
                continue;
            }
            if self.brief {
                let Note { status, title, text } = verdict_note(report, &rows, view);
                let title = format!("{}: {}", report.name, l.inline(&title));
                blocks.push(Block::Note(Note { status, title, text }));
            } else {
                blocks.extend(panel(report, &mut rows, view));
            }
        }
        if blocks.is_empty() && !self.quiet {
            blocks.push(Block::Note(Note {
                status: Status::Unknown,
                title: l.t("No service level defined.").to_owned(),
                text: l
                    .t("These monitors have no objectives: no [service_level.NAME] in the configuration selects them.")
                    .to_owned(),
            }));
        }
        blocks
    }
}

fn shown_here(entry: &Entry, view: &View<'_>) -> bool {
    entry.monitor.as_ref().is_some_and(|(site, id)| {
        view.monitors.iter().any(|monitor| monitor.site == **site && monitor.id == **id)
    })
}

fn panel(
    report: &LevelReport,
    rows: &mut Vec<(&Entry, &TargetResult)>,
    view: &View<'_>,
) -> Vec<Block> {
    let l = view.locale;
    let note = verdict_note(report, rows, view);
    // Worst first; equal ones stay in the order of their names.
    rows.sort_by(|(_, a), (_, b)| {
        let key = |judgement: &TargetResult| judgement.spent().unwrap_or(-1.0);
        b.verdict.cmp(&a.verdict).then(key(b).total_cmp(&key(a)))
    });
    let mut blocks = vec![
        Block::Heading {
            level: 2,
            text: format!("{}, {}", report.name, l.period(&report.period)),
            id: view.ids.unique(&format!("service-level-{}", report.id)),
        },
        Block::Note(note),
    ];
    let known = rows.iter().filter(|(_, judgement)| judgement.spent().is_some()).count();
    if known > 0 {
        blocks.push(chart(report, rows, view));
    }
    blocks.push(table(report, rows, view));
    blocks
}

fn name_of(entry: &Entry, view: &View<'_>) -> String {
    let l = view.locale;
    match &entry.monitor {
        None => l.count(entry.monitors as u64, "1 monitor", "{0} monitors combined"),
        Some((site, id)) => view
            .facts
            .monitors
            .iter()
            .find(|monitor| monitor.site == **site && monitor.id == **id)
            .map(|monitor| &monitor.name)
            .or_else(|| view.facts.names.get(&**id))
            .map_or_else(|| id.to_string(), Clone::clone),
    }
}

/// Returns the text of an objective.
fn promise(target: &LevelTarget, l: &Locale) -> String {
    let share = |share: &mailqos_config::Percent| {
        let chart_locale: &dyn ChartLocale = l;
        let text = share.to_string().replace('.', &chart_locale.decimal().to_string());
        format!("{text}{}", chart_locale.percent_sign())
    };
    match target {
        LevelTarget::Availability(goal) => l.fill("{0} of tests on time", &[&share(goal)]),
        LevelTarget::Uptime(goal) => l.fill("{0} uptime", &[&share(goal)]),
        LevelTarget::DeliveredWithin { limit, share: goal } => {
            l.fill("{0} within {1}", &[&share(goal), &l.span(*limit)])
        }
        LevelTarget::Mails { figure, share: goal } => match *figure {
            "inbox_placement" => l.fill("{0} in the inbox in time", &[&share(goal)]),
            "first_attempt_rate" => l.fill("{0} accepted at the first attempt", &[&share(goal)]),
            other => {
                let name = other.trim_end_matches("_pass_rate").to_uppercase();
                l.fill("{0} pass {1}", &[&share(goal), &name])
            }
        },
        LevelTarget::Percentile { metric, q, limit } => {
            let name = metric.parse::<Metric>().map_or(*metric, |metric| metric_name(metric, l));
            l.fill("{0}: p{1} at most {2}", &[name, &q.to_string(), &l.span(*limit)])
        }
    }
}

/// Returns the overall finding of a service level in one or two sentences.
fn verdict_note(report: &LevelReport, rows: &[(&Entry, &TargetResult)], view: &View<'_>) -> Note {
    let l = view.locale;
    let worst = highest(rows, |result| {
        (result.verdict == Verdict::Missed).then(|| result.spent().unwrap_or(0.0))
    });
    let threatened = highest(rows, |result| {
        let spent = result.forecast.map(|forecast| forecast.spent);
        spent.filter(|spent| result.verdict == Verdict::Open && *spent > 1.0)
    });
    let undecided = rows
        .iter()
        .filter(|(_, result)| matches!(result.verdict, Verdict::NotDecidable(_)))
        .count();
    let (status, title, mut text) = if let Some(worst) = worst {
        missed(report, rows, worst, view)
    } else if undecided == rows.len() {
        (
            Status::Unknown,
            l.t("Undetermined."),
            l.t("There is too little data to judge whether the objectives were met.").to_owned(),
        )
    } else if report.is_over {
        met(rows.len() as u64, undecided as u64, l)
    } else if let Some((entry, result)) = threatened {
        let forecast = result.forecast.map_or(0.0, |forecast| forecast.spent);
        let text = l.fill(
            "{1}: on the current trend, the objective ({0}) will be missed and {2} of the error budget spent.",
            &[
                &promise(&result.target, l),
                &name_of(entry, view),
                &l.share_beside(forecast, 1.0, 0),
            ],
        );
        (Status::Warn, l.t("At risk."), text)
    } else {
        on_track(rows.len() as u64, undecided as u64, l)
    };
    if !report.is_over {
        text.push(' ');
        text.push_str(&l.fill("As of {0}.", &[&l.moment(report.until)]));
    }
    Note { status, title: title.to_owned(), text }
}

/// Returns the row for which `value` is highest, among those that have one.
fn highest<'a>(
    rows: &[(&'a Entry, &'a TargetResult)],
    value: impl Fn(&TargetResult) -> Option<f64>,
) -> Option<(&'a Entry, &'a TargetResult)> {
    rows.iter()
        .filter_map(|row| Some((*row, value(row.1)?)))
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(row, _)| row)
}

/// Returns status, title and text if an objective was missed; `worst` is the one by the widest
/// margin.
fn missed(
    report: &LevelReport,
    rows: &[(&Entry, &TargetResult)],
    (entry, worst): (&Entry, &TargetResult),
    view: &View<'_>,
) -> (Status, &'static str, String) {
    let l = view.locale;
    let title = if report.is_over { l.t("Missed.") } else { l.t("Already missed.") };
    let main = l.fill(
        "{1}: objective {0}, measured {2}.",
        &[&promise(&worst.target, l), &name_of(entry, view), &measured(entry, worst, l)],
    );
    let all = rows.len() as u64;
    let is_missed = |(_, result): &&(&Entry, &TargetResult)| result.verdict == Verdict::Missed;
    let missed = rows.iter().filter(is_missed).count() as u64;
    let count = if all > 1 {
        format!(
            " {}",
            l.fill("Missed: {0} of {1} objectives.", &[&l.integer(missed), &l.integer(all)])
        )
    } else {
        String::new()
    };
    (Status::Bad, title, main + &count)
}

/// Returns status, title and text of a period that is over and in which no objective was missed.
fn met(all: u64, undecided: u64, l: &Locale) -> (Status, &'static str, String) {
    let met = all - undecided;
    let text = l.count(
        met,
        "The objective was met.",
        if met == 2 { "Both objectives were met." } else { "All objectives ({0}) were met." },
    );
    if undecided == 0 {
        (Status::Good, l.t("Met."), text)
    } else {
        let rest = l.fill(
            "Met: {0} of {1} objectives; there is too little data on the others.",
            &[&l.integer(met), &l.integer(all)],
        );
        (Status::Unknown, l.t("Met, as far as known."), rest)
    }
}

/// Returns status, title and text of a period that continues without an objective at risk.
fn on_track(all: u64, undecided: u64, l: &Locale) -> (Status, &'static str, String) {
    let title = l.t("On track.");
    if undecided == 0 {
        let text = l.count(
            all,
            "On the current trend, the objective will be met.",
            if all == 2 {
                "On the current trend, both objectives will be met."
            } else {
                "On the current trend, all objectives ({0}) will be met."
            },
        );
        (Status::Good, title, text)
    } else {
        let text = l.fill(
            "On track: {0} of {1} objectives; there is too little data on the others.",
            &[&l.integer(all - undecided), &l.integer(all)],
        );
        (Status::Unknown, title, text)
    }
}

/// Returns the measured value; a share is never rounded up to its objective.
fn measured(entry: &Entry, judgement: &TargetResult, l: &Locale) -> String {
    match judgement.value {
        Value::Unknown => DASH.to_owned(),
        Value::Share(share) => {
            let least = match judgement.tests {
                Some(_) => super::super::locale::decimals_for(entry.tests),
                None => 2,
            };
            match &judgement.target {
                LevelTarget::Availability(goal)
                | LevelTarget::Uptime(goal)
                | LevelTarget::DeliveredWithin { share: goal, .. }
                | LevelTarget::Mails { share: goal, .. } => {
                    l.share_beside(share, goal.as_f64(), least)
                }
                LevelTarget::Percentile { .. } => l.percent(share, least),
            }
        }
        Value::Time(micros) => match &judgement.target {
            LevelTarget::Percentile { limit, .. } => l.duration_beside(micros, limit.0 as f64),
            _ => l.duration(micros),
        },
        Value::NotDelivered => l.t("not delivered").to_owned(),
    }
}

/// Returns the spent and allowed parts of the budget in words: `14 failed, 8 allowed`; empty
/// if unknown.
fn amount(judgement: &TargetResult, l: &Locale) -> String {
    if judgement.value == Value::Unknown {
        return String::new();
    }
    if let Some(tests) = judgement.tests {
        // With a budget of 8.9 tests, eight may fail.
        let failed = l.integer(tests.spent.round() as u64);
        let allowed = l.integer((tests.whole + 1e-6) as u64);
        return l.fill("{0} failed, {1} allowed", &[&failed, &allowed]);
    }
    judgement.time.map_or_else(String::new, |time| {
        let (spent, whole) = l.spans_beside(time.spent, time.whole);
        let down = if time.spent < 0.5e6 && time.spent <= time.whole {
            l.t("no downtime").to_owned()
        } else {
            l.fill("{0} downtime", &[&spent])
        };
        l.fill("{0}, {1} allowed", &[&down, &whole])
    })
}

fn chart(report: &LevelReport, rows: &[(&Entry, &TargetResult)], view: &View<'_>) -> Block {
    let l = view.locale;
    let (rows, beyond) = rows.split_at(rows.len().min(MAX_BARS));
    let spent: Vec<f64> = beyond.iter().filter_map(|(_, judgement)| judgement.spent()).collect();
    let service: i64 = rows.iter().map(|(entry, _)| entry.service.0).sum();
    let passed: i64 = rows.iter().map(|(entry, _)| entry.passed.0).sum();
    let budgets = Budgets {
        title: String::new(),
        width: WIDTH,
        period: stretch(&report.period),
        passed: if report.is_over || service == 0 { 1.0 } else { passed as f64 / service as f64 },
        rows: rows
            .iter()
            .map(|(entry, judgement)| Budget {
                name: name_of(entry, view),
                promise: promise(&judgement.target, l),
                amount: amount(judgement, l),
                spent: judgement.spent(),
                forecast: judgement.forecast.map(|forecast| forecast.spent),
            })
            .collect(),
        beyond: (spent.len() as u64, spent.iter().filter(|spent| **spent > 1.0).count() as u64),
    };
    Block::Chart(ChartBlock {
        id: view.ids.unique(&format!("budget-{}", report.id)),
        chart: budget::chart(&budgets, l),
    })
}

fn verdict_cell(judgement: &TargetResult, is_over: bool, l: &Locale) -> Cell {
    let chance = if judgement.is_certain { "" } else { l.t("not significant") };
    match judgement.verdict {
        Verdict::Met => Cell::text(l.t("met")).status(Status::Good).detail(chance),
        Verdict::Missed if is_over => Cell::text(l.t("missed")).status(Status::Bad).detail(chance),
        Verdict::Missed => Cell::text(l.t("already missed")).status(Status::Bad),
        Verdict::Open => {
            let cell = Cell::text(l.t("open"));
            match judgement.forecast {
                Some(forecast) if forecast.spent > 1.0 => cell.status(Status::Warn),
                _ => cell,
            }
        }
        Verdict::NotDecidable(why) => Cell::text(l.t("undetermined"))
            .detail(l.t(match why {
                UndecidedReason::FewTests => "too few tests",
                UndecidedReason::Coverage => "too little data",
                UndecidedReason::NoTests => "no tests",
            }))
            .status(Status::Unknown),
    }
}

/// Adds to a verdict what it would be if maintenance that was declared afterwards had been planned.
fn with_declared(
    mut cell: Cell,
    (entry, result, is_over): (&Entry, &TargetResult, bool),
    l: &Locale,
) -> Cell {
    let Some((value, verdict)) = result.excluding_declared else {
        return cell;
    };
    let other = TargetResult { value, verdict, ..result.clone() };
    let word = verdict_cell(&other, is_over, l).text;
    let text = l.fill(
        "excluding maintenance declared afterwards: {0}, {1}",
        &[&measured(entry, &other, l), &word],
    );
    cell.detail = if cell.detail.is_empty() { text } else { format!("{}; {text}", cell.detail) };
    cell
}

fn table(report: &LevelReport, rows: &[(&Entry, &TargetResult)], view: &View<'_>) -> Block {
    let l = view.locale;
    let several = rows.iter().any(|(entry, _)| entry.monitor != rows[0].0.monitor);
    let mut columns = Vec::new();
    if several {
        columns.push(Column::wide(3, l.t("Monitor")));
    }
    columns.extend([
        Column::wide(3, l.t("Objective")),
        Column::wide(3, l.t("Measured")),
        Column::wide(2, l.t("Result")),
        Column::wide(3, l.t("Error budget")),
        Column::number(l.t("Spent"), "%"),
        Column::number(l.t("Burn rate"), ""),
    ]);
    if !report.is_over {
        columns.push(Column { width: 2, ..Column::number(l.t("Forecast"), "%") });
    }
    columns.extend([
        Column::measured(l.t("Maintenance"), "min"),
        Column::measured(l.t("Unknown"), "min"),
    ]);
    let row = |(entry, result): &(&Entry, &TargetResult)| {
        let mut cells = cells(entry, result, report.is_over, l);
        if several {
            cells.insert(0, Cell::text(name_of(entry, view)));
        }
        Row { cells, strong: false }
    };
    Block::Table(Table {
        id: view.ids.unique(&format!("promises-{}", report.id)),
        title: l.fill("{0}: objectives and error budgets", &[&report.name]),
        subtitle: l
            .t("The error budget is the permitted share of failures; measured values come with their 95 % confidence intervals")
            .to_owned(),
        columns,
        rows: rows.iter().take(MAX_ROWS).map(row).collect(),
        note: remarks(report, rows.len(), l),
    })
}

/// Returns the cells of an objective, without the name of its monitor.
fn cells(entry: &Entry, result: &TargetResult, is_over: bool, l: &Locale) -> Vec<Cell> {
    let interval = result.interval.map_or_else(String::new, |(low, high)| match result.value {
        Value::Time(_) | Value::NotDelivered => {
            format!("({}–{})", l.duration(low), l.duration(high))
        }
        _ => {
            let decimals = super::super::locale::decimals_for(entry.tests).max(1);
            format!("({}–{})", l.number(low * 100.0, decimals), l.percent(high, decimals))
        }
    });
    let percent = |share: Option<f64>| {
        share.map_or_else(
            || Cell::text(DASH),
            |share| Cell::number(l.percent_bare(share, 0), Some(share * 100.0)),
        )
    };
    let minutes = |time: Micros| {
        let text = if time == Micros::ZERO { "0".to_owned() } else { l.span(time) };
        Cell::number(text, Some(time.0 as f64 / 60e6))
    };
    let mut cells = vec![
        Cell::text(promise(&result.target, l)),
        Cell::text(measured(entry, result, l)).detail(interval),
        with_declared(verdict_cell(result, is_over, l), (entry, result, is_over), l),
        Cell::text(amount(result, l)),
        percent(result.spent()),
        result
            .burn_rate
            .map_or_else(|| Cell::text(DASH), |rate| Cell::number(l.number(rate, 2), Some(rate))),
    ];
    if !is_over {
        let forecast = result.forecast;
        let range = forecast
            .and_then(|forecast| forecast.interval)
            .map_or_else(String::new, |(low, high)| {
                format!("({}–{})", l.number(low * 100.0, 0), l.number(high * 100.0, 0))
            });
        cells.push(percent(forecast.map(|forecast| forecast.spent)).detail(range));
    }
    cells.extend([minutes(entry.maintenance), minutes(entry.unknown)]);
    cells
}

/// Returns the remarks below the table: service hours, holidays, how to read it, omitted rows.
fn remarks(report: &LevelReport, rows: usize, l: &Locale) -> String {
    let mut remarks = Vec::new();
    if !report.hours.is_empty() {
        let zone = report.period.timezone().iana_name().unwrap_or("UTC").to_owned();
        let hours: Vec<String> = report.hours.iter().map(|hours| l.hours(hours)).collect();
        remarks.push(l.fill("Service hours: {0} ({1}).", &[&hours.join("; "), &zone]));
    }
    if report.holidays > 0 {
        remarks.push(l.count(
            report.holidays as u64,
            "One day was a holiday without service hours.",
            "{0} days were holidays without service hours.",
        ));
    }
    remarks.push(
        l.t("At a burn rate of 1, the error budget lasts exactly until the end of the period. Maintenance and unknown time within service hours do not count.")
            .to_owned(),
    );
    if !report.is_over {
        remarks.push(
            l.t("In brackets: 90 % range of the forecast, resampled from past days.").to_owned(),
        );
    }
    if rows > MAX_ROWS {
        remarks.push(l.fill(
            "The {0} of {1} error budgets with the highest use are listed.",
            &[&l.integer(MAX_ROWS as u64), &l.integer(rows as u64)],
        ));
    }
    remarks.join(" ")
}
