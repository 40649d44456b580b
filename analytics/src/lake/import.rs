//! Measurements of another tool become samples: CSV and Parquet with a map of columns, values and units.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::File,
    path::Path,
};

use jiff::tz::TimeZone;
use mailqos_core::{
    lake::{Cell, Column, DayReader, Hold, Record as _, SiteLock, day_path},
    model::{MonitorId, Sample, SiteName, UtcMicros},
};
use polars::prelude::{AnyValue, ParquetReader, SerReader as _, TimeUnit};

use super::{UpkeepError, upkeep::write_into};

/// How many wrong rows and duplicates are named.
const NAMED: usize = 5;

/// Where a column of ours comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Our column.
    pub ours: String,
    /// The file's column.
    pub theirs: String,
    /// How many microseconds one of theirs is, where it is a number.
    pub unit: Option<i64>,
}

impl std::str::FromStr for Mapping {
    type Err = String;

    /// `round_trip_us=latency:ms`: our column, their column, and the unit if theirs is a number of something else than µs.
    fn from_str(text: &str) -> Result<Self, String> {
        let (ours, theirs) = text
            .split_once('=')
            .ok_or("write OURS=THEIRS, such as started_at=time, or OURS=THEIRS:UNIT with s, ms or us")?;
        if !Sample::columns().iter().any(|column| column.name == ours) {
            let names: Vec<_> = Sample::columns().iter().map(|column| column.name).collect();
            return Err(format!(
                "{ours:?} is no column of a sample; there are {}",
                names.join(", ")
            ));
        }
        let (theirs, unit) = match theirs.rsplit_once(':') {
            Some((theirs, "s")) => (theirs, Some(1_000_000)),
            Some((theirs, "ms")) => (theirs, Some(1_000)),
            Some((theirs, "us")) => (theirs, Some(1)),
            _ => (theirs, None),
        };
        Ok(Self {
            ours: ours.to_owned(),
            theirs: theirs.to_owned(),
            unit,
        })
    }
}

/// What is imported, and how it is to be understood.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The site that the samples go to.
    pub site: SiteName,
    /// The monitor of all rows, where the file has no column for it.
    pub monitor: Option<MonitorId>,
    /// Columns that have other names or units.
    pub mappings: Vec<Mapping>,
    /// Outcomes by the file's words.
    pub outcomes: BTreeMap<String, String>,
    /// Where times without an offset are read.
    pub timezone: TimeZone,
    /// Leave out what the lake has already, instead of refusing.
    pub skip_duplicates: bool,
}

/// What an import did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Rows of the file.
    pub rows: u64,
    /// Samples that were new.
    pub new: u64,
    /// Samples that the lake or the file had already.
    pub duplicates: u64,
    /// Days that they go into.
    pub days: u64,
    /// The first and the last start.
    pub span: Option<(UtcMicros, UtcMicros)>,
}

/// A value of the file.
enum Value {
    Null,
    Text(String),
    Number(f64),
    Int(i64),
    Moment(i64),
    Flag(bool),
}

/// Reads the file and, with `apply`, writes its samples into the lake. All or nothing: a row that can't be understood, and
/// duplicates unless they are to be left out, refuse the whole import.
///
/// # Errors
/// The file or the lake can't be read or written, or what is in the file is not right.
pub fn import(data: &Path, file: &Path, plan: &Plan, apply: bool) -> Result<Imported, UpkeepError> {
    let samples = if file.extension().is_some_and(|extension| extension == "parquet") {
        if plan.mappings.is_empty() && plan.outcomes.is_empty() && plan.monitor.is_none() {
            DayReader::<Sample>::open(file)?
                .ok_or_else(|| UpkeepError::Import(format!("{}: there is no such file", file.display())))?
                .collect::<Result<Vec<_>, _>>()?
        } else {
            parquet(file, plan)?
        }
    } else {
        csv(file, plan)?
    };
    // The lock first: what is there must not change between the look and the writing.
    let _lock = apply.then(|| SiteLock::take(data, &plan.site)).transpose()?;
    let mut imported = Imported {
        rows: samples.len() as u64,
        ..Imported::default()
    };
    let mut days: BTreeMap<_, BTreeMap<(MonitorId, UtcMicros), Sample>> = BTreeMap::new();
    let mut duplicates = Vec::new();
    for sample in samples {
        let at = sample.started_at;
        imported.span = Some(match imported.span {
            Some((first, last)) => (first.min(at), last.max(at)),
            None => (at, at),
        });
        let key = (sample.monitor.clone(), at);
        let day = days.entry(at.utc_date()).or_default();
        match day.entry(key) {
            Entry::Occupied(there) => duplicates.push(there.key().clone()),
            Entry::Vacant(place) => {
                place.insert(sample);
            }
        }
    }
    for (date, day) in &mut days {
        let there = DayReader::<Sample>::open(&day_path::<Sample>(data, &plan.site, *date))?;
        for sample in there.into_iter().flatten() {
            let sample = sample?;
            if let Some((key, _)) = day.remove_entry(&(sample.monitor, sample.started_at)) {
                duplicates.push(key);
            }
        }
    }
    days.retain(|_, day| !day.is_empty());
    imported.duplicates = duplicates.len() as u64;
    imported.new = days.values().map(|day| day.len() as u64).sum();
    imported.days = days.len() as u64;
    if !(duplicates.is_empty() || plan.skip_duplicates) {
        let named: Vec<String> = duplicates
            .iter()
            .take(NAMED)
            .map(|(monitor, at)| format!("{monitor} at {at}"))
            .collect();
        return Err(UpkeepError::Import(format!(
            "{} of {} samples are there already, or twice in the file: {}{}; nothing was imported, --skip-duplicates leaves them out",
            duplicates.len(),
            imported.rows,
            named.join(", "),
            if duplicates.len() > NAMED { ", …" } else { "" }
        )));
    }
    if apply {
        for day in days.into_values() {
            write_into(data, &plan.site, day.into_values().collect(), None)?;
        }
    }
    Ok(imported)
}

/// A column of ours, where it stands in the file, and how many microseconds one of theirs is.
type Place = (&'static Column<Sample>, usize, i64);

/// The columns of ours that the file has, with the place and the unit of theirs.
fn columns(file: &Path, plan: &Plan, theirs: &[String]) -> Result<Vec<Place>, UpkeepError> {
    let mut columns = Vec::new();
    for column in Sample::columns() {
        let mapping = plan.mappings.iter().find(|mapping| mapping.ours == column.name);
        let name = mapping.map_or(column.name, |mapping| mapping.theirs.as_str());
        let unit = mapping.and_then(|mapping| mapping.unit).unwrap_or(1);
        let given = column.name == "monitor" && plan.monitor.is_some();
        match theirs.iter().position(|theirs| theirs == name) {
            // Lists can't be told in CSV, and other tools have other ones.
            _ if column.holds == Hold::Hops || given => {}
            Some(index) => columns.push((column, index, unit)),
            None if column.required || mapping.is_some() => {
                let remedy = if column.name == "monitor" {
                    "; name it with --as-monitor ID"
                } else {
                    ""
                };
                return Err(UpkeepError::Import(format!(
                    "{}: no column {name:?} for {}; there are {}{remedy}",
                    file.display(),
                    column.name,
                    theirs.join(", "),
                )));
            }
            None => {}
        }
    }
    Ok(columns)
}

/// Collects samples, and what is wrong with rows.
struct Collector<'a> {
    plan: &'a Plan,
    samples: Vec<Sample>,
    wrong: Vec<String>,
    count: usize,
}

impl Collector<'_> {
    fn row(&mut self, columns: &[Place], line: u64, value: impl Fn(usize) -> Value) {
        let mut sample = Sample::blank();
        if let Some(monitor) = &self.plan.monitor {
            sample.monitor = monitor.clone();
        }
        for (column, index, unit) in columns {
            let set = cell(column, value(*index), *unit, self.plan).and_then(|cell| (column.set)(&mut sample, cell));
            if let Err(reason) = set {
                self.count += 1;
                if self.wrong.len() < NAMED {
                    self.wrong.push(format!("row {line}, {}: {reason}", column.name));
                }
                return;
            }
        }
        self.samples.push(sample);
    }

    fn end(self, file: &Path) -> Result<Vec<Sample>, UpkeepError> {
        if self.count == 0 {
            return Ok(self.samples);
        }
        Err(UpkeepError::Import(format!(
            "{}: {} rows can't be understood; nothing was imported\n  {}",
            file.display(),
            self.count,
            self.wrong.join("\n  ")
        )))
    }
}

fn collector(plan: &Plan) -> Collector<'_> {
    Collector {
        plan,
        samples: Vec::new(),
        wrong: Vec::new(),
        count: 0,
    }
}

fn csv(file: &Path, plan: &Plan) -> Result<Vec<Sample>, UpkeepError> {
    let error = |error: csv::Error| UpkeepError::Import(format!("{}: {error}", file.display()));
    let mut reader = csv::Reader::from_path(file).map_err(error)?;
    let head: Vec<String> = reader
        .headers()
        .map_err(error)?
        .iter()
        .map(|name| name.trim_start_matches('\u{feff}').trim().to_owned())
        .collect();
    let columns = columns(file, plan, &head)?;
    let mut collector = collector(plan);
    for record in reader.records() {
        let record = record.map_err(error)?;
        let line = record.position().map_or(0, csv::Position::line);
        collector.row(&columns, line, |index| match record.get(index).map(str::trim) {
            None | Some("") => Value::Null,
            Some(text) => Value::Text(text.to_owned()),
        });
    }
    collector.end(file)
}

fn parquet(file: &Path, plan: &Plan) -> Result<Vec<Sample>, UpkeepError> {
    let error = |error: polars::error::PolarsError| UpkeepError::Import(format!("{}: {error}", file.display()));
    let open = File::open(file).map_err(UpkeepError::io(file))?;
    let frame = ParquetReader::new(open).finish().map_err(error)?;
    let names: Vec<String> = frame.get_column_names().iter().map(ToString::to_string).collect();
    let columns = columns(file, plan, &names)?;
    let mut collector = collector(plan);
    for row in 0..frame.height() {
        let value = |index: usize| {
            let value = frame.columns().get(index).map(|column| column.get(row));
            match value {
                Some(Ok(value)) => of(&value),
                _ => Value::Null,
            }
        };
        collector.row(&columns, row as u64, value);
    }
    collector.end(file)
}

fn of(value: &AnyValue<'_>) -> Value {
    match value {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(flag) => Value::Flag(*flag),
        AnyValue::Datetime(at, unit, _) => Value::Moment(micros(*at, *unit)),
        AnyValue::DatetimeOwned(at, unit, _) => Value::Moment(micros(*at, *unit)),
        AnyValue::Duration(span, unit) => Value::Int(micros(*span, *unit)),
        AnyValue::Float32(_) | AnyValue::Float64(_) => value.extract::<f64>().map_or(Value::Null, Value::Number),
        AnyValue::String(text) => Value::Text((*text).to_owned()),
        AnyValue::StringOwned(text) => Value::Text(text.to_string()),
        other => match other.extract::<i64>() {
            Some(value) => Value::Int(value),
            None => Value::Text(other.to_string()),
        },
    }
}

fn micros(value: i64, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Nanoseconds => value.div_euclid(1_000),
        TimeUnit::Microseconds => value,
        TimeUnit::Milliseconds => value.saturating_mul(1_000),
    }
}

/// A value of the file as a cell of our column.
fn cell(column: &Column<Sample>, value: Value, unit: i64, plan: &Plan) -> Result<Cell, String> {
    let text = match value {
        Value::Null => return Ok(Cell::Null),
        Value::Moment(at) => return Ok(Cell::Int(at)),
        Value::Flag(flag) if column.holds == Hold::Bool => return Ok(Cell::Bool(flag)),
        Value::Flag(flag) => flag.to_string(),
        Value::Int(value) if matches!(column.holds, Hold::Long | Hold::Int | Hold::Timestamp) => {
            return value
                .checked_mul(unit)
                .map(Cell::Int)
                .ok_or_else(|| format!("{value} is too large"));
        }
        Value::Int(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::Text(text) => text,
    };
    match column.holds {
        Hold::Word if column.name == "outcome" => Ok(Cell::Text(plan.outcomes.get(&text).cloned().unwrap_or(text))),
        Hold::Word | Hold::Hops => Ok(Cell::Text(text)),
        Hold::Bool => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" => Ok(Cell::Bool(true)),
            "false" | "no" | "0" => Ok(Cell::Bool(false)),
            _ => Err(format!("{text:?} is neither true nor false")),
        },
        Hold::Real => match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Cell::Real(value)),
            _ => Err(format!("{text:?} is no number")),
        },
        Hold::Timestamp => match number(&text, unit) {
            Ok(at) => Ok(Cell::Int(at)),
            Err(_) => moment(&text, &plan.timezone).map(Cell::Int),
        },
        Hold::Long | Hold::Int => number(&text, unit).map(Cell::Int),
    }
}

fn number(text: &str, unit: i64) -> Result<i64, String> {
    if let Ok(value) = text.parse::<i64>() {
        return value.checked_mul(unit).ok_or_else(|| format!("{text} is too large"));
    }
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    let micros = (value * unit as f64).round();
    // Beyond 2^53 a floating-point number has no microseconds.
    if micros.abs() < 9_007_199_254_740_992.0 {
        Ok(micros as i64)
    } else {
        Err(format!("{text:?} is no number that can be meant"))
    }
}

fn moment(text: &str, timezone: &TimeZone) -> Result<i64, String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(at.as_microsecond());
    }
    let civil: jiff::civil::DateTime = text.parse().map_err(|_| {
        format!("{text:?} is no time; write 2026-03-01T12:00:00Z, or a number with a unit: started_at=time:ms")
    })?;
    timezone
        .to_ambiguous_timestamp(civil)
        .compatible()
        .map(|at| at.as_microsecond())
        .map_err(|error| error.to_string())
}
