//! `mailqos-analytics stats`: the contracts' figures per monitor or group of monitors, and bucket of time.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    process::ExitCode,
    sync::Arc,
};

use mailqos_core::model::{Micros, UtcMicros};
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::{
    Failure, Global,
    explain::{self, Figure},
    print,
    source::{Source, SourceArgs, lake_failure},
    table::{Cell, Format, Table},
};
use crate::figures::{
    DeliveredPercentile, Distribution,
    delivered_within::LIMITS,
    lake::SeriesQuery,
    percentiles::{CONTRACT, percentiles},
    periods::{Calendar, Period, Unit},
    series::{Metric, Series},
    stats::{Pool, Question, Row, Share, Whose},
};

/// About how many bytes of values are held at a time where several monitors' are put together.
const BUDGET: usize = 1536 * 1024 * 1024;
/// How much of an answer is held back, so that one which fails midway leaves none rather than a part of one.
const HELD: usize = 64 * 1024 * 1024;
/// How many parts of the period a line in the table shows.
const SPARK: i64 = 24;

/// Figures per monitor and bucket of time: counts of outcomes, availability by tests and by time, outages, coverage, and the
/// distribution of each metric in milliseconds.
///
/// The period is half-open: --to names the first day that does not belong to it. Buckets without a sample are left out.
/// A bucket begins where its hour, day, week or month begins, also where the period begins within it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,

    /// One row for the whole period, or one a bucket of local time.
    #[arg(long, value_enum, default_value = "total")]
    by: By,

    /// Whose samples are put together: a monitor's at a site, or those of all monitors of an object, with a tag, of a site,
    /// or all. Objects and tags are those of the configuration.
    #[arg(long, value_enum, default_value = "monitor")]
    group: Group,

    /// Further percentiles, such as 75,99.9.
    #[arg(long, value_name = "P", value_delimiter = ',', value_parser = percentile)]
    percentiles: Vec<Asked>,

    /// Further metrics, such as smtp_tls,pickup_list; they are the lake's columns without _us.
    #[arg(long, value_name = "METRIC", value_delimiter = ',')]
    metrics: Vec<Metric>,

    /// Beside each figure, that of the period before, or of the same one a year ago.
    #[arg(long, value_enum, value_name = "WITH")]
    compare: Option<Compare>,

    /// How one figure of one monitor comes about: its definition, what it is of, what was left out and why, and the samples.
    #[arg(long, num_args = 2, value_names = ["MONITOR", "FIGURE"], conflicts_with_all = ["monitor", "compare", "group"])]
    explain: Vec<String>,

    /// With --explain: all samples instead of the first and last ones.
    #[arg(long, requires = "explain")]
    all: bool,

    /// How the answer is written.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    Total,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

impl By {
    fn unit(self) -> Option<Unit> {
        match self {
            Self::Total => None,
            Self::Hour => Some(Unit::Hour),
            Self::Day => Some(Unit::Day),
            Self::Week => Some(Unit::Week),
            Self::Month => Some(Unit::Month),
            Self::Quarter => Some(Unit::Quarter),
            Self::Year => Some(Unit::Year),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Group {
    Monitor,
    Object,
    Tag,
    Site,
    All,
}

impl Group {
    /// What a group is called in the answer, where it is neither site nor monitor.
    fn name(self) -> Option<&'static str> {
        match self {
            Self::Object => Some("object"),
            Self::Tag => Some("tag"),
            Self::Monitor | Self::Site | Self::All => None,
        }
    }

    /// The groups to which a monitor's samples belong.
    fn of(self, series: &Series, source: &Source) -> Vec<Whose> {
        let whose = |site: Option<&Arc<str>>, group: Option<Arc<str>>| Whose {
            site: site.cloned(),
            monitor: None,
            group,
        };
        let configured = || source.config.as_ref()?.monitors.get(&*series.monitor);
        match self {
            Self::Monitor => vec![Whose {
                site: Some(Arc::clone(&series.site)),
                monitor: Some(Arc::clone(&series.monitor)),
                group: None,
            }],
            Self::Site => vec![whose(Some(&series.site), None)],
            Self::All => vec![whose(None, None)],
            Self::Object => vec![whose(None, configured().map(|monitor| monitor.object.as_str().into()))],
            Self::Tag => match configured() {
                Some(monitor) if !monitor.tags.is_empty() => monitor
                    .tags
                    .iter()
                    .map(|tag| whose(None, Some(tag.as_str().into())))
                    .collect(),
                _ => vec![whose(None, None)],
            },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Compare {
    Previous,
    Year,
}

/// A percentile that was asked for, as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    name: String,
    q: f64,
}

/// `99.9` as 0.999.
pub(super) fn percentile(text: &str) -> Result<Asked, String> {
    let wrong = || format!("{text:?} is no percentile; write a number from 0 to 100, such as 99.9");
    let name = text.strip_prefix('p').unwrap_or(text);
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(wrong());
    }
    // Read as a hundredth at once: 99.9 / 100 is not the number nearest to 0.999.
    let q: f64 = format!("{name}e-2").parse().map_err(|_| wrong())?;
    if !(0.0..=1.0).contains(&q) {
        return Err(wrong());
    }
    Ok(Asked {
        name: format!("p{name}"),
        q,
    })
}

impl Asked {
    /// In [0, 1].
    pub(super) fn q(&self) -> f64 {
        self.q
    }

    /// Such as `p99.9`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// Which figures an answer has, and in which order.
pub(super) struct Shape {
    metrics: Vec<Metric>,
    percentiles: Vec<Asked>,
    group: Group,
    calendar: Calendar,
}

impl Shape {
    /// The contracts' figures of single monitors.
    pub(super) fn of_monitors(calendar: Calendar, metrics: &[Metric], asked: &[Asked]) -> Self {
        let mut all = Metric::CONTRACT.to_vec();
        all.extend(
            metrics
                .iter()
                .copied()
                .filter(|metric| !Metric::CONTRACT.contains(metric)),
        );
        all.dedup();
        let mut percentiles: Vec<Asked> = ["p50", "p90", "p95", "p99"]
            .into_iter()
            .zip(CONTRACT)
            .map(|(name, q)| Asked {
                name: name.to_owned(),
                q,
            })
            .collect();
        for one in asked {
            if percentiles.iter().all(|known| known.q.to_bits() != one.q.to_bits()) {
                percentiles.push(one.clone());
            }
        }
        Self {
            metrics: all,
            percentiles,
            group: Group::Monitor,
            calendar,
        }
    }

    /// The question to which these figures are the answer.
    pub(super) fn question(&self, period: &Period, by: Option<Unit>) -> Question {
        let qs: Vec<f64> = self.percentiles.iter().map(Asked::q).collect();
        Question::new(period.clone(), UtcMicros::now(), by, &self.metrics, &qs)
    }

    /// RFC 3339 with the zone's offset at that moment.
    fn bucket(&self, row: &Row) -> Option<String> {
        let bucket = self.calendar.zoned(row.bucket?);
        Some(bucket.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
    }
}

/// Runs the command.
///
/// # Errors
/// Wrong usage, or a lake that can't be read.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    if let [monitor, figure] = args.explain.as_slice() {
        let figure: Figure = figure
            .parse()
            .map_err(|message| Failure::usage(message, Figure::HELP))?;
        let source = SourceArgs {
            monitor: vec![monitor.clone()],
            ..args.source.clone()
        }
        .open(global)?;
        return explain::run(&source, &figure, args.all, args.format);
    }
    if args.compare.is_some() && args.by != By::Total {
        return Err(Failure::usage(
            "--compare is of whole periods",
            "leave out --by, or ask for each period on its own",
        ));
    }
    let source = args.source.open(global)?;
    if args.group.name().is_some() && source.config.is_none() {
        return Err(Failure::usage(
            "objects and tags are in the configuration, and none was read",
            "name it with --config FILE; --data may stay",
        ));
    }
    let shape = Shape {
        group: args.group,
        ..Shape::of_monitors(source.period.calendar.clone(), &args.metrics, &args.percentiles)
    };
    let mut answer = Answer::new(args.format, &shape, &source)?;
    if let Some(with) = args.compare {
        let now = rows(&source, &shape, &source.period, None)?;
        let before = match with {
            Compare::Previous => source.period.previous(),
            Compare::Year => source.period.year_ago(),
        };
        let mut earlier: BTreeMap<Whose, Row> = rows(&source, &shape, &before, None)?
            .into_iter()
            .map(|row| (row.whose.clone(), row))
            .collect();
        answer.compared_with(before);
        for row in now {
            let before = earlier.remove(&row.whose);
            let one = answer.render(&[row], before.as_ref(), &[]);
            answer.take(one)?;
        }
    } else if args.group == Group::Monitor {
        let question = shape.question(&source.period, args.by.unit());
        let query = query(&source, &question);
        let spark = args.format == Format::Table && args.by == By::Total;
        let render = answer.renderer();
        source.lake.for_each(
            &query,
            |series| {
                let lines = if spark {
                    vec![sparkline(&series, &question)]
                } else {
                    Vec::new()
                };
                render.render(&question.rows(&series), None, &lines)
            },
            |rendered| answer.take(rendered),
        )?;
    } else {
        for row in rows(&source, &shape, &source.period, args.by.unit())? {
            let one = answer.render(&[row], None, &[]);
            answer.take(one)?;
        }
    }
    let empty = answer.finish()?;
    source.remarks(empty);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn query(source: &Source, question: &Question) -> SeriesQuery {
    SeriesQuery {
        sites: source.sites.clone(),
        monitors: source.monitors.clone(),
        ..SeriesQuery::new(question.period.clone())
            .metrics(&question.metrics)
            .for_outages()
    }
}

/// The rows of a period, of monitors or groups, in order.
fn rows(source: &Source, shape: &Shape, period: &Period, by: Option<Unit>) -> Result<Vec<Row>, Failure> {
    let whole = shape.question(period, by);
    if shape.group == Group::Monitor {
        let rows = source
            .lake
            .map(&query(source, &whole), |series| whole.rows(&series))
            .map_err(lake_failure)?;
        return Ok(rows.into_iter().flatten().collect());
    }
    // Exact percentiles over several monitors need all their values at once: as many metrics at a time as fit.
    let samples = source.lake.count(&query(source, &whole)).map_err(lake_failure)?;
    let at_a_time = (BUDGET / (4 * samples).max(1)).clamp(1, whole.metrics.len());
    let mut all: Vec<Row> = Vec::new();
    for (number, metrics) in whole.metrics.chunks(at_a_time).enumerate() {
        let mut question = whole.clone();
        question.metrics = metrics.to_vec();
        let mut pools: BTreeMap<Whose, Pool> = BTreeMap::new();
        let mut seen: BTreeSet<(Arc<str>, Arc<str>)> = BTreeSet::new();
        source.lake.for_each(
            &query(source, &question),
            |series| {
                let whose = (Arc::clone(&series.site), Arc::clone(&series.monitor));
                (whose, shape.group.of(&series, source), question.share(&series))
            },
            |(whose, groups, share): (_, Vec<Whose>, Share)| {
                if !share.is_empty() {
                    seen.insert(whose);
                }
                let Some((last, others)) = groups.split_last() else {
                    return Ok(());
                };
                for group in others {
                    pools.entry(group.clone()).or_default().add(share.clone());
                }
                pools.entry(last.clone()).or_default().add(share);
                Ok::<_, Failure>(())
            },
        )?;
        // A monitor without any sample makes its group no better known.
        for group in untested(source, shape, &seen) {
            if let Some(pool) = pools.get_mut(&group) {
                pool.add_untested(&question);
            }
        }
        let found = pools.into_iter().flat_map(|(whose, pool)| pool.rows(&question, &whose));
        if number == 0 {
            all = found.collect();
        } else {
            for (row, more) in all.iter_mut().zip(found) {
                row.metrics.extend(more.metrics);
            }
        }
    }
    Ok(all)
}

/// The groups of the configured monitors that are asked for and have no sample at all, once for each.
fn untested(source: &Source, shape: &Shape, seen: &BTreeSet<(Arc<str>, Arc<str>)>) -> Vec<Whose> {
    let Some(config) = &source.config else {
        return Vec::new();
    };
    let site: Arc<str> = config.site.as_str().into();
    if !source.sites.is_empty() && !source.sites.contains(&*site) {
        return Vec::new();
    }
    config
        .monitors
        .values()
        .filter(|monitor| monitor.enabled)
        .filter(|monitor| source.monitors.is_empty() || source.monitors.contains(monitor.id.as_str()))
        .map(|monitor| (Arc::clone(&site), Arc::from(monitor.id.as_str())))
        .filter(|whose| !seen.contains(whose))
        .flat_map(|(site, monitor)| {
            let mut series = Series::default();
            (series.site, series.monitor) = (site, monitor);
            shape.group.of(&series, source)
        })
        .collect()
}

/// The median round trip of each part of the period, as a line.
fn sparkline(series: &Series, question: &Question) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let Some(past) = &question.past else {
        return String::new();
    };
    let at =
        |part: i64| past.from + Micros((i128::from(past.duration().0) * i128::from(part) / i128::from(SPARK)) as i64);
    let medians: Vec<Option<f64>> = (0..SPARK)
        .map(|part| {
            let mut values = series.values(Metric::RoundTrip, series.rows(at(part), at(part + 1)));
            percentiles(&mut values, &[0.5]).first().copied()
        })
        .collect();
    let known = || medians.iter().flatten().copied();
    let (least, greatest) = (known().fold(f64::MAX, f64::min), known().fold(0.0, f64::max));
    medians
        .iter()
        .map(|median| match median {
            None => '·',
            // A level line where nothing differs.
            Some(_) if greatest <= least => STEPS[0],
            Some(median) => STEPS[(((median - least) / (greatest - least) * 7.0).round() as usize).min(7)],
        })
        .collect()
}

/// Writes rows in one of the formats, as they come.
struct Answer<'a> {
    renderer: Renderer<'a>,
    out: Vec<u8>,
    table: Table,
    rows: usize,
}

/// Turns rows into what is written, on any thread.
#[derive(Clone)]
struct Renderer<'a> {
    format: Format,
    shape: &'a Shape,
    source: &'a Source,
    compared: Option<Period>,
}

/// What has become of some rows: bytes, or the cells of a table.
struct Rendered {
    bytes: Vec<u8>,
    cells: Vec<Vec<Cell>>,
    rows: usize,
}

impl<'a> Answer<'a> {
    fn new(format: Format, shape: &'a Shape, source: &'a Source) -> Result<Self, Failure> {
        Ok(Self {
            renderer: Renderer {
                format,
                shape,
                source,
                compared: None,
            },
            out: Vec::new(),
            table: Table::default(),
            rows: 0,
        })
    }

    fn compared_with(&mut self, period: Period) {
        self.renderer.compared = Some(period);
    }

    fn renderer(&self) -> Renderer<'a> {
        self.renderer.clone()
    }

    fn render(&self, rows: &[Row], before: Option<&Row>, lines: &[String]) -> Rendered {
        self.renderer.render(rows, before, lines)
    }

    fn take(&mut self, rendered: Rendered) -> Result<(), Failure> {
        if rendered.rows == 0 {
            return Ok(());
        }
        if self.rows == 0 {
            self.begin()?;
        }
        if self.renderer.format == Format::Json && self.rows > 0 {
            self.out.write_all(b",\n")?;
        }
        self.rows += rendered.rows;
        self.out.write_all(&rendered.bytes)?;
        for row in rendered.cells {
            self.table.push(row);
        }
        if self.out.len() > HELD {
            print(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Failure> {
        match self.renderer.format {
            Format::Json => self.out.write_all(b"[\n")?,
            Format::Csv => {
                let head = self.renderer.columns().join(",");
                writeln!(self.out, "{head}")?;
            }
            Format::Parquet => self.table = Table::new(self.renderer.columns()),
            Format::Table => self.table = Table::new(self.renderer.shown_columns()),
        }
        Ok(())
    }

    /// Writes what remains; says whether there was no row at all.
    fn finish(mut self) -> Result<bool, Failure> {
        if self.rows == 0 {
            self.begin()?;
        }
        let format = self.renderer.format;
        if format == Format::Json {
            self.out.write_all(if self.rows == 0 { b"]\n" } else { b"\n]\n" })?;
        }
        if matches!(format, Format::Table | Format::Parquet) {
            self.out.write_all(&self.table.bytes(format)?)?;
        }
        if format == Format::Table {
            if let Some(before) = &self.renderer.compared {
                writeln!(self.out, "\nBefore: {before}.")?;
            }
            for (path, reason) in self.renderer.source.lake.skipped() {
                writeln!(self.out, "\nLeft out: {} ({reason}).", path.display())?;
            }
        }
        print(&self.out)?;
        Ok(self.rows == 0)
    }
}

impl Renderer<'_> {
    fn render(&self, rows: &[Row], before: Option<&Row>, lines: &[String]) -> Rendered {
        let mut rendered = Rendered {
            bytes: Vec::new(),
            cells: Vec::new(),
            rows: rows.len(),
        };
        let skipped = self.skipped();
        for (number, row) in rows.iter().enumerate() {
            match self.format {
                Format::Json => {
                    if number > 0 {
                        rendered.bytes.extend_from_slice(b",\n");
                    }
                    let row = JsonRow {
                        row,
                        shape: self.shape,
                        before: self.compared.as_ref().map(|period| (period, before)),
                        skipped: &skipped,
                    };
                    // Into memory, and of numbers and text alone: there is nothing that could fail.
                    let _ = serde_json::to_writer(&mut rendered.bytes, &row);
                }
                Format::Csv => {
                    let cells: Vec<String> = self.cells(row, before, &skipped).iter().map(Cell::csv).collect();
                    rendered.bytes.extend_from_slice(cells.join(",").as_bytes());
                    rendered.bytes.push(b'\n');
                }
                Format::Parquet => rendered.cells.push(self.cells(row, before, &skipped)),
                Format::Table => rendered.cells.push(self.shown(row, before, lines.get(number))),
            }
        }
        rendered
    }

    /// The corrupt files that are left out of the answer.
    fn skipped(&self) -> Vec<String> {
        let skipped = self.source.lake.skipped();
        skipped
            .into_iter()
            .map(|(path, _)| path.display().to_string())
            .collect()
    }

    /// Names of all figures, one column each.
    fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = vec!["site".into(), "monitor".into()];
        columns.extend(self.shape.group.name().map(str::to_owned));
        columns.push("bucket".into());
        let figures = self.figure_columns();
        columns.extend(figures.iter().cloned());
        if self.compared.is_some() {
            columns.extend(figures.iter().map(|name| format!("before_{name}")));
        }
        if self.source.lake.skips() {
            columns.push("skipped_files".into());
        }
        columns
    }

    fn figure_columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = [
            "tests",
            "ok",
            "late",
            "lost",
            "smtp_failed",
            "pickup_failed",
            "not_tested",
            "availability",
        ]
        .map(str::to_owned)
        .to_vec();
        for metric in &self.shape.metrics {
            columns.extend(["count", "min", "mean", "max"].map(|name| format!("{metric}_{name}")));
            columns.extend(
                self.shape
                    .percentiles
                    .iter()
                    .map(|asked| format!("{metric}_{}", asked.name)),
            );
        }
        columns.extend(
            [
                "monitors",
                "excluded",
                "provisional",
                "availability_low",
                "availability_high",
                "delivery_rate",
                "coverage",
                "availability_by_time",
                "downtime_s",
                "unknown_s",
                "maintenance_s",
                "outages",
                "longest_outage_s",
                "mttr_s",
                "mtbf_s",
            ]
            .map(str::to_owned),
        );
        columns.extend(LIMITS.map(|limit| format!("delivered_within_{}", limit_name(limit))));
        columns.push("delivered_within_max_round_trip".into());
        for asked in &self.shape.percentiles {
            columns.push(format!("delivered_{}", asked.name));
            columns.push(format!("round_trip_{}_low", asked.name));
            columns.push(format!("round_trip_{}_high", asked.name));
        }
        columns
    }

    /// The cells under [`Renderer::columns`].
    fn cells(&self, row: &Row, before: Option<&Row>, skipped: &[String]) -> Vec<Cell> {
        let mut cells = vec![
            Cell::text(row.whose.site.as_deref()),
            Cell::text(row.whose.monitor.as_deref()),
        ];
        if self.shape.group.name().is_some() {
            cells.push(Cell::text(row.whose.group.as_deref()));
        }
        cells.push(Cell::text(self.shape.bucket(row)));
        self.figure_cells(row, &mut cells);
        if self.compared.is_some() {
            let begin = cells.len();
            match before {
                Some(before) => self.figure_cells(before, &mut cells),
                None => cells.resize(begin + self.figure_columns().len(), Cell::None),
            }
        }
        if self.source.lake.skips() {
            cells.push(Cell::Count(skipped.len() as u64));
        }
        cells
    }

    fn figure_cells(&self, row: &Row, cells: &mut Vec<Cell>) {
        let (counts, time) = (&row.counts, &row.time);
        let tests = counts.tests();
        cells.extend(
            [
                tests,
                counts.ok,
                counts.late,
                counts.lost,
                counts.smtp_failed,
                counts.pickup_failed,
                counts.not_tested,
            ]
            .map(Cell::Count),
        );
        cells.push(Cell::share(counts.availability(), tests));
        for found in &row.metrics {
            let summary = found.as_ref().map(|found| &found.summary);
            cells.push(Cell::Count(summary.map_or(0, |summary| summary.count)));
            cells.push(Cell::number(summary.map(|s| s.min.as_millis_f64()), 1));
            cells.push(Cell::number(summary.map(|s| s.mean / 1000.0), 1));
            cells.push(Cell::number(summary.map(|s| s.max.as_millis_f64()), 1));
            for index in 0..self.shape.percentiles.len() {
                let value = summary.and_then(|summary| summary.percentiles.get(index));
                cells.push(Cell::number(value.map(|micros| micros / 1000.0), 1));
            }
        }
        let interval = counts.availability_interval();
        cells.extend([row.monitors, counts.excluded, counts.provisional].map(Cell::Count));
        cells.push(Cell::share(interval.map(|share| share.low), tests));
        cells.push(Cell::share(interval.map(|share| share.high), tests));
        cells.push(Cell::share(counts.delivery_rate(), tests));
        cells.push(Cell::share(time.coverage(), tests));
        cells.push(Cell::share(time.availability(), tests));
        cells.extend([time.downtime, time.unknown, time.excluded].map(|time| Cell::number(Some(seconds(time)), 0)));
        cells.push(Cell::Count(time.outages));
        cells.extend([time.longest, time.mttr(), time.mtbf()].map(|time| Cell::number(time.map(seconds), 0)));
        cells.extend(row.within.map(|within| Cell::share(share(within, tests), tests)));
        cells.push(Cell::share(share(counts.ok, tests), tests));
        let round_trip = row.metrics.first().and_then(Option::as_ref);
        for index in 0..self.shape.percentiles.len() {
            cells.push(match row.delivered.get(index) {
                Some(DeliveredPercentile::Within(micros)) => Cell::number(Some(micros / 1000.0), 1),
                // A number column can't say it in words; tests without a delivered percentile do.
                Some(DeliveredPercentile::NotDelivered) | None => Cell::None,
            });
            let interval = round_trip.and_then(|found| found.intervals.get(index).copied().flatten());
            cells.push(Cell::number(interval.map(|(low, _)| low / 1000.0), 1));
            cells.push(Cell::number(interval.map(|(_, high)| high / 1000.0), 1));
        }
    }

    fn shown_columns(&self) -> Vec<String> {
        let mut columns: Vec<&str> = match self.shape.group {
            Group::Monitor => vec!["site", "monitor"],
            Group::Site => vec!["site"],
            Group::Object => vec!["object"],
            Group::Tag => vec!["tag"],
            Group::All => Vec::new(),
        };
        if self.shape.group != Group::Monitor {
            columns.push("monitors");
        }
        columns.extend(["bucket", "tests", "failed", "availability", "95_%_interval", "coverage"]);
        if self.compared.is_some() {
            columns.extend(["before", "p50_ms", "before", "p95_ms", "before", "p99_ms", "before"]);
        } else {
            columns.extend([
                "outages",
                "downtime",
                "p50_ms",
                "p95_ms",
                "p99_ms",
                "95_%_interval",
                "delivered_p99",
                "max_ms",
            ]);
        }
        let mut columns: Vec<String> = columns.into_iter().map(str::to_owned).collect();
        let extra = || self.shape.percentiles.iter().skip(CONTRACT.len());
        columns.extend(extra().map(|asked| format!("{}_ms", asked.name)));
        if self.compared.is_none() {
            columns.push("round_trip".to_owned());
        }
        columns
    }

    /// What fits a terminal: counts, availability with its interval and coverage, outages, and the round trip.
    fn shown(&self, row: &Row, before: Option<&Row>, line: Option<&String>) -> Vec<Cell> {
        let (counts, time, tests) = (&row.counts, &row.time, row.counts.tests());
        let mut cells = match self.shape.group {
            Group::Monitor => vec![
                Cell::text(row.whose.site.as_deref()),
                Cell::text(row.whose.monitor.as_deref()),
            ],
            Group::Site => vec![Cell::text(row.whose.site.as_deref())],
            Group::Object | Group::Tag => vec![Cell::text(row.whose.group.as_deref())],
            Group::All => Vec::new(),
        };
        if self.shape.group != Group::Monitor {
            cells.push(Cell::Count(row.monitors));
        }
        cells.push(Cell::text(self.shape.bucket(row)));
        cells.push(Cell::Count(tests));
        cells.push(Cell::Count(counts.failed()));
        cells.push(Cell::share(counts.availability(), tests));
        cells.push(Cell::text(counts.availability_interval().map(|share| {
            use super::table::per_cent;
            format!("{} to {}", per_cent(share.low, tests), per_cent(share.high, tests))
        })));
        cells.push(Cell::share(time.coverage(), tests));
        let percentile = |row: Option<&Row>, index: usize| {
            let found = row.and_then(|row| row.metrics.first()).and_then(Option::as_ref);
            let value = found.and_then(|found| found.summary.percentiles.get(index).copied());
            Cell::number(value.map(|micros| micros / 1000.0), 0)
        };
        let (p50, p95, p99) = (0, 2, 3);
        if self.compared.is_some() {
            let counts = before.map(|before| &before.counts);
            cells.push(Cell::share(
                counts.and_then(|counts| counts.availability()),
                counts.map_or(0, |counts| counts.tests()),
            ));
            for index in [p50, p95, p99] {
                cells.push(percentile(Some(row), index));
                cells.push(percentile(before, index));
            }
        } else {
            let round_trip = row.metrics.first().and_then(Option::as_ref);
            cells.push(Cell::Count(time.outages));
            cells.push(Cell::Text(long(time.downtime)));
            cells.extend([p50, p95, p99].map(|index| percentile(Some(row), index)));
            let interval = round_trip.and_then(|found| found.intervals.get(p99).copied().flatten());
            cells.push(Cell::text(
                interval.map(|(low, high)| format!("{:.0} to {:.0}", low / 1000.0, high / 1000.0)),
            ));
            cells.push(match row.delivered.get(p99) {
                None => Cell::None,
                Some(DeliveredPercentile::NotDelivered) => Cell::Text("not delivered".into()),
                Some(DeliveredPercentile::Within(micros)) => Cell::Text(format!("{:.0}", micros / 1000.0)),
            });
            cells.push(Cell::number(
                round_trip.map(|found| found.summary.max.as_millis_f64()),
                0,
            ));
        }
        cells.extend((CONTRACT.len()..self.shape.percentiles.len()).map(|index| percentile(Some(row), index)));
        if self.compared.is_none() {
            cells.push(Cell::text(line.cloned()));
        }
        cells
    }
}

pub(super) fn seconds(time: Micros) -> f64 {
    time.0 as f64 / 1e6
}

/// `1 d 2 h 3 min`, the two greatest units.
pub(super) fn long(time: Micros) -> String {
    let seconds = time.0 / 1_000_000;
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut words = Vec::new();
    for (length, unit) in units {
        if rest >= length && words.len() < 2 {
            words.push(format!("{} {unit}", rest / length));
            rest %= length;
        }
    }
    if words.is_empty() {
        "0".to_owned()
    } else {
        words.join(" ")
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    crate::figures::availability::share(part, whole)
}

fn limit_name(limit: Micros) -> String {
    match limit.0 / 1_000_000 {
        seconds if seconds % 60 == 0 => format!("{}min", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

struct JsonRow<'a> {
    row: &'a Row,
    shape: &'a Shape,
    /// The period compared with, and its figures if there are any.
    before: Option<(&'a Period, Option<&'a Row>)>,
    skipped: &'a [String],
}

impl Serialize for JsonRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = self.row;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("site", &row.whose.site.as_deref())?;
        map.serialize_entry("monitor", &row.whose.monitor.as_deref())?;
        if let Some(name) = self.shape.group.name() {
            map.serialize_entry(name, &row.whose.group.as_deref())?;
        }
        map.serialize_entry("bucket", &self.shape.bucket(row))?;
        figures(&mut map, row, self.shape)?;
        if let Some((period, before)) = self.before {
            map.serialize_entry("before", &JsonBefore(period, before, self.shape))?;
        }
        if !self.skipped.is_empty() {
            map.serialize_entry("skipped_files", self.skipped)?;
        }
        map.end()
    }
}

struct JsonBefore<'a>(&'a Period, Option<&'a Row>, &'a Shape);

impl Serialize for JsonBefore<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let moment = |at: UtcMicros| {
            let zoned = self.0.calendar.zoned(at);
            zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("from", &moment(self.0.from))?;
        map.serialize_entry("to", &moment(self.0.to))?;
        match self.1 {
            Some(row) => figures(&mut map, row, self.2)?,
            None => map.serialize_entry("tests", &0)?,
        }
        map.end()
    }
}

fn figures<M: serde::ser::SerializeMap>(map: &mut M, row: &Row, shape: &Shape) -> Result<(), M::Error> {
    let (counts, time) = (&row.counts, &row.time);
    let tests = counts.tests();
    map.serialize_entry("tests", &tests)?;
    map.serialize_entry("ok", &counts.ok)?;
    map.serialize_entry("late", &counts.late)?;
    map.serialize_entry("lost", &counts.lost)?;
    map.serialize_entry("smtp_failed", &counts.smtp_failed)?;
    map.serialize_entry("pickup_failed", &counts.pickup_failed)?;
    map.serialize_entry("not_tested", &counts.not_tested)?;
    map.serialize_entry("availability", &counts.availability())?;
    map.serialize_entry("metrics", &JsonMetrics(row, shape))?;
    let interval = counts.availability_interval();
    map.serialize_entry("monitors", &row.monitors)?;
    map.serialize_entry("excluded", &counts.excluded)?;
    map.serialize_entry("provisional", &counts.provisional)?;
    map.serialize_entry("availability_interval", &interval.map(|share| (share.low, share.high)))?;
    map.serialize_entry("delivery_rate", &counts.delivery_rate())?;
    map.serialize_entry("coverage", &time.coverage())?;
    map.serialize_entry("availability_by_time", &time.availability())?;
    map.serialize_entry("downtime_s", &seconds(time.downtime))?;
    map.serialize_entry("unknown_s", &seconds(time.unknown))?;
    map.serialize_entry("maintenance_s", &seconds(time.excluded))?;
    map.serialize_entry("outages", &time.outages)?;
    map.serialize_entry("longest_outage_s", &time.longest.map(seconds))?;
    map.serialize_entry("mttr_s", &time.mttr().map(seconds))?;
    map.serialize_entry("mtbf_s", &time.mtbf().map(seconds))?;
    map.serialize_entry("delivered_within", &JsonWithin(row))?;
    map.serialize_entry("delivered", &JsonDelivered(row, shape))
}

struct JsonWithin<'a>(&'a Row);

impl Serialize for JsonWithin<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tests = self.0.counts.tests();
        let mut map = serializer.serialize_map(Some(LIMITS.len() + 1))?;
        for (limit, within) in LIMITS.iter().zip(self.0.within) {
            map.serialize_entry(&limit_name(*limit), &share(within, tests))?;
        }
        map.serialize_entry("max_round_trip", &share(self.0.counts.ok, tests))?;
        map.end()
    }
}

/// Percentiles of the round trip in which undelivered mail is slower than any.
struct JsonDelivered<'a>(&'a Row, &'a Shape);

impl Serialize for JsonDelivered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (index, asked) in self.1.percentiles.iter().enumerate() {
            match self.0.delivered.get(index) {
                None => map.serialize_entry(&asked.name, &None::<f64>)?,
                Some(DeliveredPercentile::NotDelivered) => map.serialize_entry(&asked.name, "not delivered")?,
                Some(DeliveredPercentile::Within(micros)) => map.serialize_entry(&asked.name, &(micros / 1000.0))?,
            }
        }
        map.end()
    }
}

struct JsonMetrics<'a>(&'a Row, &'a Shape);

impl Serialize for JsonMetrics<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.1.metrics.len()))?;
        for (metric, found) in self.1.metrics.iter().zip(&self.0.metrics) {
            map.serialize_entry(metric.as_str(), &JsonDistribution(found.as_ref(), self.1))?;
        }
        map.end()
    }
}

struct JsonDistribution<'a>(Option<&'a Distribution>, &'a Shape);

impl Serialize for JsonDistribution<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let summary = self.0.map(|found| &found.summary);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("count", &summary.map_or(0, |summary| summary.count))?;
        map.serialize_entry("min", &summary.map(|s| s.min.as_millis_f64()))?;
        map.serialize_entry("mean", &summary.map(|s| s.mean / 1000.0))?;
        map.serialize_entry("max", &summary.map(|s| s.max.as_millis_f64()))?;
        for (index, asked) in self.1.percentiles.iter().enumerate() {
            let value = summary.and_then(|summary| summary.percentiles.get(index));
            map.serialize_entry(&asked.name, &value.map(|micros| micros / 1000.0))?;
        }
        map.serialize_entry("intervals", &JsonIntervals(self.0, self.1))?;
        map.end()
    }
}

struct JsonIntervals<'a>(Option<&'a Distribution>, &'a Shape);

impl Serialize for JsonIntervals<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.1.percentiles.len()))?;
        for (index, asked) in self.1.percentiles.iter().enumerate() {
            let interval = self.0.and_then(|found| found.intervals.get(index).copied().flatten());
            map.serialize_entry(&asked.name, &interval.map(|(low, high)| (low / 1000.0, high / 1000.0)))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_read_exactly() {
        assert_eq!(percentile("99.9").map(|asked| asked.q), Ok(0.999));
        assert_eq!(percentile("p95").map(|asked| asked.name), Ok("p95".to_owned()));
        for wrong in ["", "p", "101", "-1", "fast", "1e1", "NaN", "."] {
            assert!(percentile(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn long_times_are_short() {
        assert_eq!(long(Micros::from_secs(93_784)), "1 d 2 h");
        assert_eq!(long(Micros::from_secs(59)), "59 s");
        assert_eq!(long(Micros::ZERO), "0");
    }
}
