//! `mailqos-analytics top`: ranks the worst and best monitors by any figure.

use std::{cmp::Ordering, collections::BTreeSet, process::ExitCode};

use mailqos_figures::stats::{FiguresQuery, Row};
use mailqos_model::UtcMicros;

use super::{
    Failure, Global,
    engine::{EngineArgs, Item, Work},
    print,
    source::{SourceArgs, lake_failure},
    stats::{Figure, FigureValue, RequestedPercentile, Shape, query},
    table::{Cell, Format, Table, counted},
};

/// Rank monitors by a figure, worst and best, with confidence interval and coverage.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,

    #[command(flatten)]
    engine: EngineArgs,

    /// Figure to rank by: availability, delivery_rate, coverage, availability_by_time, downtime,
    /// outages, longest_outage, mttr, mtbf, lost, delivered_within_30s, delivered_p99,
    /// round_trip_p95, smtp_send_mean, inbox_placement, dkim_pass_rate, …
    #[arg(long, value_name = "FIGURE", default_value = "availability", value_parser = figure)]
    figure: Figure,

    /// Number of monitors to show at each end.
    #[arg(long, alias = "count", value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,

    /// Show only the worst or only the best.
    #[arg(long, value_enum, value_name = "END")]
    only: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum End {
    Worst,
    Best,
}

fn figure(text: &str) -> Result<Figure, String> {
    text.parse().map_err(|message| format!("{message}; {}", Figure::HELP))
}

/// Runs the command.
///
/// # Errors
/// Wrong usage, or the lake can't be read.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    let source = args.source.open(global)?;
    let figure = &args.figure;
    let asked: Vec<RequestedPercentile> = figure.percentile().cloned().into_iter().collect();
    let shape = Shape::of_monitors(source.period.calendar.clone(), &[figure.metric()], &asked)
        .with_receipts(figure.mail().is_some());
    let mut question = shape.question(&source.period, None);
    question.metrics = vec![figure.metric()];
    let query = query(&source, &question);
    let options = source.config.as_ref().map(|config| &config.engine);
    let rows: Vec<Vec<Row>> = match args.engine.engine(options)? {
        Some(engine) => {
            let work = Work::figures(&question, false);
            let asked = (&query, &source.period);
            let found = engine.ask(&source, asked, UtcMicros::now(), work)?;
            let rows = found.items(&source.lake).filter_map(|item| match item {
                Item::Figures { rows, .. } => Some(rows),
                _ => None,
            });
            rows.collect()
        }
        None => source.lake.map(&query, |series| question.rows(series)).map_err(lake_failure)?,
    };
    let rows: Vec<Row> = rows.into_iter().flatten().collect();
    let (mut known, unknown): (Vec<&Row>, Vec<&Row>) =
        rows.iter().partition(|row| figure.value(row, &question) != FigureValue::None);
    sort_best_first(&mut known, figure, &question);
    // Tests of different kinds are not compared: each kind has its own ranking.
    let kinds: BTreeSet<Option<&str>> = rows.iter().map(|row| row.whose.kind.as_deref()).collect();
    let names_kind = kinds.iter().any(Option::is_some);
    let ranking =
        Ranking { figure, question: &question, format: source.format, promises: source.promises() };
    let mut columns = Ranking::COLUMNS.to_vec();
    if names_kind {
        columns.insert(0, "kind");
    }
    let mut table = Table::new(columns);
    let count = args.limit as usize;
    let ends = [End::Worst, End::Best].into_iter();
    let ends = ends.filter(|end| args.only.is_none_or(|only| only == *end));
    for (kind, end) in kinds.iter().flat_map(|kind| ends.clone().map(move |end| (*kind, end))) {
        let known = known.iter().filter(|row| row.whose.kind.as_deref() == kind);
        let chosen: Vec<&Row> = match end {
            End::Worst => known.rev().take(count).copied().collect(),
            End::Best => known.take(count).copied().collect(),
        };
        for (rank, row) in chosen.into_iter().enumerate() {
            let mut cells = ranking.cells(end, rank, row);
            if names_kind {
                cells.insert(0, Cell::text(Some(kind.unwrap_or("mail-qos"))));
            }
            table.push(cells);
        }
    }
    source.print(table)?;
    if source.format == Format::Table && !unknown.is_empty() {
        print_unknown(&unknown, figure)?;
    }
    source.remarks(rows.is_empty());
    Ok(ExitCode::SUCCESS)
}

/// Sorts monitors with a known figure; ties keep the order of their names.
fn sort_best_first(known: &mut [&Row], figure: &Figure, question: &FiguresQuery) {
    known.sort_by(|a, b| {
        let order = match (figure.value(a, question), figure.value(b, question)) {
            (FigureValue::Is(a), FigureValue::Is(b)) => a.total_cmp(&b),
            (FigureValue::NotDelivered, FigureValue::Is(_)) => Ordering::Greater,
            (FigureValue::Is(_), FigureValue::NotDelivered) => Ordering::Less,
            _ => Ordering::Equal,
        };
        if figure.more_is_better() { order.reverse() } else { order }
    });
}

/// A figure to rank monitors by, and its display.
struct Ranking<'a> {
    figure: &'a Figure,
    question: &'a FiguresQuery,
    format: Format,
    promises: Vec<f64>,
}

impl Ranking<'_> {
    const COLUMNS: [&'static str; 10] = [
        "end",
        "rank",
        "site",
        "monitor",
        "value",
        "unit",
        "interval_low",
        "interval_high",
        "tests",
        "coverage",
    ];

    /// Returns the cells of a monitor; `rank` counts from zero.
    fn cells(&self, end: End, rank: usize, row: &Row) -> Vec<Cell> {
        let (figure, tests) = (self.figure, row.counts.tests());
        let cell = |value: f64| {
            if figure.unit() == "share" {
                Cell::share_beside(Some(value), tests, &self.promises)
            } else {
                Cell::number(Some(value), if figure.unit() == "ms" { 1 } else { 0 })
            }
        };
        let interval = figure.interval(row, self.question);
        vec![
            Cell::Text(if end == End::Worst { "worst" } else { "best" }.into()),
            Cell::Count(rank as u64 + 1),
            Cell::text(row.whose.site.as_deref()),
            Cell::text(row.whose.monitor.as_deref()),
            match figure.value(row, self.question) {
                FigureValue::Is(value) => cell(value),
                // A column of a file can't mix numbers and words.
                FigureValue::NotDelivered
                    if matches!(self.format, Format::Table | Format::Json) =>
                {
                    Cell::Text("not delivered".into())
                }
                FigureValue::NotDelivered | FigureValue::None => Cell::None,
            },
            Cell::Text(figure.unit().into()),
            interval.map_or(Cell::None, |(low, _)| cell(low)),
            interval.map_or(Cell::None, |(_, high)| cell(high)),
            Cell::Count(tests),
            Cell::share(row.time.coverage(), tests),
        ]
    }
}

/// Lists monitors that are not ranked.
fn print_unknown(unknown: &[&Row], figure: &Figure) -> Result<(), Failure> {
    let names: Vec<&str> =
        unknown.iter().filter_map(|row| row.whose.monitor.as_deref()).take(10).collect();
    print(format!(
        "\n{} {} no {figure}: {}{}.\n",
        counted(unknown.len() as u64, "monitor"),
        if unknown.len() == 1 { "has" } else { "have" },
        names.join(", "),
        if unknown.len() > names.len() { ", …" } else { "" }
    ))
}
