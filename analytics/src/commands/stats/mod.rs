//! `mailqos-analytics stats`: prints the figures per monitor or group of monitors, and per time
//! bucket.

mod answer;
mod explain;
mod json;
mod mail_figure;
mod shape;

use std::{collections::BTreeMap, process::ExitCode, sync::Arc};

use self::answer::Answer;
pub(super) use self::shape::Shape;
use mailqos_config::Monitor;
pub(super) use mailqos_figures::explain::{
    figure::{Figure, FigureValue},
    percentile::RequestedPercentile,
};
use mailqos_figures::{
    explain::percentile::percentile,
    periods::{Period, Unit},
    stats::{FiguresQuery, Pool, Row, Share, Subject},
};
use mailqos_lake_tables::{Column, Metric, Series, SeriesQuery};

use super::{
    Failure, Global,
    engine::{Engine, EngineArgs, Grouping, Item, Seen, Work, sparkline},
    source::{Source, SourceArgs, lake_failure},
    table::Format,
};

/// Approximate maximum size in bytes of the values held at a time when several monitors are
/// combined.
const BUDGET: usize = 1536 * 1024 * 1024;
/// Bytes of output that are buffered, so that a failure midway leaves no partial output.
const HELD: usize = 64 * 1024 * 1024;

/// Show figures per monitor and time bucket: outcomes, availability by tests and by time, outages,
/// coverage, and the distribution of each metric in milliseconds.
///
/// The period is half-open: --to is the first day after it. Buckets without samples are omitted. A
/// bucket starts with its hour, day, week or month, even if the period starts later.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,

    #[command(flatten)]
    engine: EngineArgs,

    /// Row per period or per bucket of local time.
    #[arg(long, value_enum, default_value = "total")]
    by: By,

    /// Group samples by monitor and site, object, tag, site, or all together. Objects and tags come
    /// from the configuration.
    #[arg(long, value_enum, default_value = "monitor")]
    group: Group,

    /// Additional percentiles, such as 75,99.9.
    #[arg(long, value_name = "P", value_delimiter = ',', value_parser = percentile)]
    percentiles: Vec<RequestedPercentile>,

    /// Additional metrics: lake columns without _us, such as smtp_tls,pickup_list.
    #[arg(long, value_name = "METRIC", value_delimiter = ',')]
    metrics: Vec<Metric>,

    /// Compare each figure with the previous period or the same period a year ago.
    #[arg(long, value_enum, value_name = "WITH")]
    compare: Option<Compare>,

    /// With --format json, include all figures, as the other formats always do.
    #[arg(long)]
    full: bool,

    /// Explain one figure of one monitor: definition, samples, and what was excluded and why.
    #[arg(long, num_args = 2, value_names = ["MONITOR", "FIGURE"], conflicts_with_all = ["monitor", "compare", "group"])]
    explain: Vec<String>,

    /// With --explain, list all samples instead of the first and last ones.
    #[arg(long, requires = "explain")]
    all: bool,
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
    /// Returns the name of a group column, if it is neither site nor monitor.
    fn name(self) -> Option<&'static str> {
        match self {
            Self::Object => Some("object"),
            Self::Tag => Some("tag"),
            Self::Monitor | Self::Site | Self::All => None,
        }
    }

    /// Returns the groups to which monitors belong.
    fn grouping(self, source: &Source) -> Grouping {
        let named = |groups: &dyn Fn(&Monitor) -> Vec<String>| {
            let monitors = source.config.iter().flat_map(|config| config.monitors.values());
            let named = monitors.map(|monitor| (monitor.id.to_string(), groups(monitor)));
            Grouping::Named(named.collect())
        };
        match self {
            Self::Monitor => Grouping::Monitor,
            Self::Site => Grouping::Site,
            Self::All => Grouping::All,
            Self::Object => named(&|monitor| vec![monitor.object.as_str().to_owned()]),
            Self::Tag => named(&|monitor| monitor.tags.iter().map(|tag| tag.to_string()).collect()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Compare {
    Previous,
    Year,
}

/// Runs the command.
///
/// # Errors
/// Wrong usage, or the lake can't be read.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    if let [monitor, figure] = args.explain.as_slice() {
        if args.engine.elsewhere().is_some() {
            return Err(Failure::usage(
                "--explain is computed in this process only",
                "remove --engine, or use --engine local",
            ));
        }
        let figure: Figure =
            figure.parse().map_err(|message| Failure::usage(message, Figure::HELP))?;
        let source =
            SourceArgs { monitor: vec![monitor.clone()], ..args.source.clone() }.open(global)?;
        return explain::run(&source, &figure, args.all);
    }
    if args.compare.is_some() && args.by != By::Total {
        return Err(Failure::usage(
            "--compare works only with whole periods",
            "remove --by, or query each period separately",
        ));
    }
    let source = args.source.open(global)?;
    if args.group.name().is_some() && source.config.is_none() {
        return Err(Failure::usage(
            "objects and tags require a configuration file",
            "set --config FILE; --data can be combined with it",
        ));
    }
    let mut shape = Shape {
        group: args.group,
        full: args.full,
        kinds: false,
        // A table shows none of it, and the contract's JSON contains none of it.
        receipts: match source.format {
            Format::Json => args.full,
            Format::Csv | Format::Parquet => true,
            Format::Table => false,
        },
        ..Shape::of_monitors(source.period.calendar.clone(), &args.metrics, &args.percentiles)
    };
    let options = source.config.as_ref().map(|config| &config.engine);
    let engine = args.engine.engine(options)?;
    let by = args.by.unit();
    let empty = match (args.compare, &engine) {
        (None, None) if args.group == Group::Monitor => monitors(args, &source, &mut shape)?,
        (None, Some(engine)) if args.group == Group::Monitor => {
            monitors_elsewhere(args, engine, &source, &mut shape)?
        }
        (None, engine) => {
            let (rows, kinds) = rows((&source, engine.as_ref()), &shape, &source.period, by)?;
            shape.kinds = kinds;
            let mut answer = Answer::new(&shape, &source);
            for row in rows {
                let one = answer.render(&[row], None, &[]);
                answer.take(one)?;
            }
            answer.finish()?
        }
        (Some(with), engine) => compared(with, (&source, engine.as_ref()), &mut shape)?,
    };
    source.remarks(empty);
    Ok(ExitCode::SUCCESS)
}

/// Prints the figures of the period next to those of an earlier one; returns whether there are none.
fn compared(
    with: Compare,
    (source, engine): (&Source, Option<&Engine>),
    shape: &mut Shape,
) -> Result<bool, Failure> {
    let (now, kinds) = rows((source, engine), shape, &source.period, None)?;
    let before = match with {
        Compare::Previous => source.period.previous(),
        Compare::Year => source.period.year_ago(),
    };
    let (earlier, _) = rows((source, engine), shape, &before, None)?;
    let mut earlier: BTreeMap<Subject, Row> =
        earlier.into_iter().map(|row| (row.whose.clone(), row)).collect();
    shape.kinds = kinds;
    let mut answer = Answer::new(shape, source);
    answer.compared_with(before);
    for row in now {
        let before = earlier.remove(&row.whose);
        let one = answer.render(&[row], before.as_ref(), &[]);
        answer.take(one)?;
    }
    answer.finish()
}

/// Prints the figures of monitors; returns whether there are none.
fn monitors(args: &Args, source: &Source, shape: &mut Shape) -> Result<bool, Failure> {
    let question = shape.question(&source.period, args.by.unit());
    let query = query(source, &question);
    shape.kinds = source.lake.has_kinds(&query).map_err(lake_failure)?;
    let spark = source.format == Format::Table && args.by == By::Total;
    let mut answer = Answer::new(shape, source);
    let render = answer.renderer();
    source.lake.for_each(
        &query,
        |series| {
            let lines = if spark { vec![sparkline(series, &question)] } else { Vec::new() };
            render.render(&question.rows(series), None, &lines)
        },
        |rendered| answer.take(rendered),
    )?;
    answer.finish()
}

/// Prints the figures of monitors that an engine computes; returns whether there are none.
fn monitors_elsewhere(
    args: &Args,
    engine: &Engine,
    source: &Source,
    shape: &mut Shape,
) -> Result<bool, Failure> {
    let question = shape.question(&source.period, args.by.unit());
    let spark = source.format == Format::Table && args.by == By::Total;
    let work = Work::figures(&question, spark);
    let asked = (&query(source, &question), &source.period);
    let found = engine.ask(source, asked, question.now, work)?;
    shape.kinds = found.kinds;
    let mut answer = Answer::new(shape, source);
    let render = answer.renderer();
    for item in found.items(&source.lake) {
        if let Item::Figures { rows, line } = item {
            let lines: Vec<String> = line.into_iter().collect();
            answer.take(render.render(&rows, None, &lines))?;
        }
    }
    answer.finish()
}

pub(super) fn query(source: &Source, question: &FiguresQuery) -> SeriesQuery {
    let query = source.query(&question.period).metrics(&question.metrics);
    match question.receipts {
        // Bounces are recognised by the stage.
        true => query.receipts(true).columns(&[Column::Stage]),
        false => query,
    }
}

/// Returns the rows of a period, of monitors or groups, in order, and whether some tests are not of
/// kind `mail-qos`.
fn rows(
    (source, engine): (&Source, Option<&Engine>),
    shape: &Shape,
    period: &Period,
    by: Option<Unit>,
) -> Result<(Vec<Row>, bool), Failure> {
    let whole = shape.question(period, by);
    let all = query(source, &whole);
    let grouping = shape.group.grouping(source);
    match engine {
        Some(engine) if shape.group == Group::Monitor => {
            let work = Work::figures(&whole, false);
            let found = engine.ask(source, (&all, period), whole.now, work)?;
            let kinds = found.kinds;
            let rows = found.items(&source.lake).filter_map(|item| match item {
                Item::Figures { rows, .. } => Some(rows),
                _ => None,
            });
            Ok((rows.flatten().collect(), kinds))
        }
        Some(engine) => {
            let untested = |seen: &Seen| untested(source, &grouping, seen);
            let groups = engine.groups(source, (&all, &whole), &grouping, &untested)?;
            Ok((groups.rows, groups.kinds))
        }
        None => {
            let kinds = source.lake.has_kinds(&all).map_err(lake_failure)?;
            if shape.group == Group::Monitor {
                let rows =
                    source.lake.map(&all, |series| whole.rows(series)).map_err(lake_failure)?;
                return Ok((rows.into_iter().flatten().collect(), kinds));
            }
            Ok((pooled(source, &whole, &grouping)?, kinds))
        }
    }
}

/// Returns the rows of groups, in order.
fn pooled(source: &Source, whole: &FiguresQuery, grouping: &Grouping) -> Result<Vec<Row>, Failure> {
    // Exact percentiles over several monitors need all their values in memory, so as many metrics
    // as fit are read together.
    let samples = source.lake.count(&query(source, whole)).map_err(lake_failure)?;
    let at_a_time = (BUDGET / (4 * samples).max(1)).clamp(1, whole.metrics.len());
    let mut all: Vec<Row> = Vec::new();
    for (number, metrics) in whole.metrics.chunks(at_a_time).enumerate() {
        let mut question = whole.clone();
        question.metrics = metrics.to_vec();
        question.receipts &= number == 0;
        let mut pools: BTreeMap<Subject, Pool> = BTreeMap::new();
        let mut seen = Seen::new();
        source.lake.for_each(
            &query(source, &question),
            |series| {
                let whose = (Arc::clone(&series.site), Arc::clone(&series.monitor));
                (whose, grouping.of(series), question.share(series))
            },
            |(whose, groups, share): (_, Vec<Subject>, Share)| {
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
        // A monitor without samples lowers the coverage of its group.
        for group in untested(source, grouping, &seen) {
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

/// Returns the kind of a monitor's tests, as in a series.
fn kind_of(monitor: &Monitor) -> Option<Arc<str>> {
    let name = monitor.kind.name();
    (name != "mail-qos").then(|| name.into())
}

/// Returns the groups of the selected configured monitors that have no samples, each once.
fn untested(source: &Source, grouping: &Grouping, seen: &Seen) -> Vec<Subject> {
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
        .filter(|monitor| {
            source.monitors.is_empty() || source.monitors.contains(monitor.id.as_str())
        })
        .map(|monitor| (Arc::clone(&site), Arc::from(monitor.id.as_str())))
        .filter(|whose| !seen.contains(whose))
        .flat_map(|(site, monitor)| {
            let mut series = Series {
                kind: config.monitors.get(&*monitor).and_then(kind_of),
                ..Series::default()
            };
            (series.site, series.monitor) = (site, monitor);
            grouping.of(&series)
        })
        .collect()
}
