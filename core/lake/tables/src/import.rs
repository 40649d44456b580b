//! Converts measurements of other tools to samples: CSV and Parquet with a mapping of columns,
//! values and units.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::File,
    path::Path,
};

use jiff::{civil::DateTime, tz::TimeZone};
use mailqos_lake::{Cell, Column, DayReader, Hold, Record as _, SiteLock, day_path, io_error};
use mailqos_model::{Micros, MonitorId, Outcome, Sample, SiteName, UtcMicros};
use polars::prelude::{AnyValue, ParquetReader, SerReader as _, TimeUnit};

pub use super::foreign::{Mark, Preset};
use super::{
    LakeAdminError,
    foreign::{self, ExportSelection, Local, Table, is_missing},
    repair::write_into,
};

/// How many wrong rows and duplicates are listed.
const NAMED: usize = 5;
/// Earliest start that is accepted: 1990-01-01. Seconds that are mistaken for microseconds are in
/// 1970.
const OLDEST: UtcMicros = UtcMicros(631_152_000_000_000);

/// Source of one of our columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Our column.
    pub ours: String,
    /// The file's column.
    pub theirs: String,
    /// Microseconds per unit of the file's column, if it is a number.
    pub unit: Option<i64>,
}

impl std::str::FromStr for Mapping {
    type Err = String;

    /// Parses `round_trip_us=latency:ms`: our column, the file's column, and its unit if it is a
    /// number in another unit than µs.
    fn from_str(text: &str) -> Result<Self, String> {
        let (ours, theirs) = text.split_once('=').ok_or(
            "use OURS=THEIRS, such as started_at=time, or OURS=THEIRS:UNIT with min, s, ms or us",
        )?;
        if !Sample::columns().iter().any(|column| column.name == ours) {
            let names: Vec<_> = Sample::columns().iter().map(|column| column.name).collect();
            return Err(format!(
                "{ours:?} is not a column of samples; available: {}",
                names.join(", ")
            ));
        }
        let (theirs, unit) = match theirs.rsplit_once(':') {
            Some((theirs, "s")) => (theirs, Some(1_000_000)),
            Some((theirs, "ms")) => (theirs, Some(1_000)),
            Some((theirs, "us")) => (theirs, Some(1)),
            Some((theirs, "min")) => (theirs, Some(60_000_000)),
            _ => (theirs, None),
        };
        Ok(Self { ours: ours.to_owned(), theirs: theirs.to_owned(), unit })
    }
}

/// What to import and how to interpret it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The site of the samples.
    pub site: SiteName,
    /// The monitor of all rows, overriding the file.
    pub monitor: Option<MonitorId>,
    /// Columns that have other names or units.
    pub mappings: Vec<Mapping>,
    /// The file's words for outcomes.
    pub outcomes: BTreeMap<String, String>,
    /// The outcome of all rows, overriding the file, unless a mapping names a column for it.
    pub outcome: Option<Outcome>,
    /// The delimiter of a CSV file (default: inferred from its header).
    pub delimiter: Option<u8>,
    /// The format of times (strftime), if it is not one of the usual ones.
    pub time_format: Option<String>,
    /// The time zone of times without an offset.
    pub timezone: TimeZone,
    /// Skip duplicates of samples in the lake instead of refusing the import.
    pub skip_duplicates: bool,
    /// The tool that exported the file, if its format is known.
    pub preset: Option<Preset>,
    /// Words for "no value" in the file, in addition to the usual ones.
    pub missing: Vec<String>,
    /// The outcome of rows without a round trip, if `outcome` holds for the rest; they are skipped
    /// by default, because nothing is known about these tests.
    pub missing_outcome: Option<Outcome>,
    /// The decimal mark of numbers (default: inferred from each column).
    pub decimal_mark: Option<Mark>,
}

/// Result of an import or of a dry run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Rows in the file.
    pub rows: u64,
    /// New samples.
    pub new: u64,
    /// Samples that were already in the lake or earlier in the file.
    pub duplicates: u64,
    /// Days that receive samples.
    pub days: u64,
    /// The first and the last start.
    pub span: Option<(UtcMicros, UtcMicros)>,
    /// Notes for the user, one line each.
    pub notes: Vec<String>,
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

/// The samples of a file and notes on it.
#[derive(Debug, Default)]
struct Read {
    samples: Vec<Sample>,
    notes: Vec<String>,
}

/// Reads the file and, with `apply`, writes its samples into the lake. All or nothing: the import
/// is refused if a row is invalid, or if there are duplicates that are not to be skipped.
///
/// # Errors
/// The file or the lake can't be read or written, or the file's content is invalid.
pub fn import(
    data: &Path,
    file: &Path,
    plan: &Plan,
    apply: bool,
) -> Result<Imported, LakeAdminError> {
    let Read { samples, notes } = if let Some(preset) = plan.preset {
        export(file, preset, plan)?
    } else if file.extension().is_some_and(|extension| extension == "parquet") {
        let is_mapped = !(plan.mappings.is_empty() && plan.outcomes.is_empty());
        let is_given = plan.monitor.is_some() || plan.outcome.is_some();
        if is_mapped || is_given && !is_ours(file)? {
            parquet(file, plan)?
        } else {
            ours(file, plan)?
        }
    } else {
        table(file, plan, foreign::read_csv(file, plan.delimiter)?)?
    };
    // Take the lock first: the lake must not change between check and write.
    let _lock = apply.then(|| SiteLock::take(data, &plan.site)).transpose()?;
    let mut imported = Imported { rows: samples.len() as u64, notes, ..Imported::default() };
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
        return Err(LakeAdminError::Import(format!(
            "{} of {} samples are already in the lake or occur twice in the file: {}{}; nothing was imported; \
             use --skip-duplicates to skip them",
            duplicates.len(),
            imported.rows,
            named.join(", "),
            if duplicates.len() > NAMED { ", …" } else { "" }
        )));
    }
    if apply {
        for day in days.into_values() {
            write_into(data, &plan.site, day.into_values().collect())?;
        }
    }
    Ok(imported)
}

/// One of our columns, its index in the file, and the microseconds per unit of the file's column.
type Place = (&'static Column<Sample>, usize, i64);

/// Returns our columns that the file has, with their indices and units.
fn columns(file: &Path, plan: &Plan, theirs: &[String]) -> Result<Vec<Place>, LakeAdminError> {
    let mut columns = Vec::new();
    for column in Sample::columns() {
        let mapping = plan.mappings.iter().find(|mapping| mapping.ours == column.name);
        let name = mapping.map_or(column.name, |mapping| mapping.theirs.as_str());
        let unit = mapping.and_then(|mapping| mapping.unit).unwrap_or(1);
        let given = match column.name {
            "monitor" => plan.monitor.is_some(),
            "outcome" => plan.outcome.is_some() && mapping.is_none(),
            _ => false,
        };
        match theirs.iter().position(|theirs| theirs == name) {
            // CSV can't represent lists, and other tools' lists differ.
            _ if column.holds == Hold::Hops || given => {}
            Some(index) => columns.push((column, index, unit)),
            None if column.required || mapping.is_some() => {
                let remedy = match column.name {
                    "monitor" if mapping.is_none() => {
                        "; name the column, or set the monitor with --as-monitor ID"
                    }
                    "outcome" if mapping.is_none() => {
                        "; name the column, or set one outcome for all rows with \
                        --as-outcome ok"
                    }
                    _ if mapping.is_none() => "; name the column, such as --column started_at=time",
                    _ if name.contains(':') => "; units are min, s, ms and us",
                    _ if theirs.len() < 2 => {
                        "; if fields are separated differently, set --delimiter"
                    }
                    _ => "",
                };
                return Err(LakeAdminError::Import(format!(
                    "{}: no column {name:?} for {}; available: {}{remedy}",
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

/// Collects samples and errors in rows.
struct Collector<'a> {
    plan: &'a Plan,
    samples: Vec<Sample>,
    wrong: Vec<String>,
    count: usize,
    now: UtcMicros,
    /// Local starts of samples without an offset: index of the sample, and time.
    locals: Vec<(usize, Local)>,
    /// Rows without information about their test.
    empty: u64,
}

impl Collector<'_> {
    fn row(
        &mut self,
        columns: &[Place],
        line: u64,
        value: impl Fn(usize) -> Value,
        mark: impl Fn(usize) -> Mark,
    ) {
        let mut sample = Sample::blank();
        if let Some(monitor) = &self.plan.monitor {
            sample.monitor = monitor.clone();
        }
        if let Some(outcome) = self.plan.outcome {
            sample.outcome = outcome;
        }
        for (column, index, unit) in columns {
            let found = cell(column, value(*index), *unit, mark(*index), self.plan);
            let set = match found {
                Ok(Found::Local(at)) if column.name == "started_at" => {
                    self.locals.push((self.samples.len(), Local { at, line }));
                    Ok(())
                }
                Ok(Found::Local(at)) => in_zone(at, &self.plan.timezone)
                    .and_then(|cell| (column.set)(&mut sample, cell)),
                Ok(Found::Cell(cell)) => plausible(column, cell, self.now)
                    .and_then(|cell| (column.set)(&mut sample, cell)),
                Err(reason) => Err(reason),
            };
            if let Err(reason) = set {
                self.locals.retain(|(index, _)| *index < self.samples.len());
                return self.refuse(format!("row {line}, {}: {reason}", column.name));
            }
        }
        let has_outcome = columns.iter().any(|(column, ..)| column.name == "outcome");
        let measures = columns.iter().any(|(column, ..)| column.name == "round_trip_us");
        // An outcome given for all rows does not turn a row without a value into a good test.
        if !has_outcome && measures && sample.round_trip.is_none() {
            match self.plan.missing_outcome {
                Some(outcome) => sample.outcome = outcome,
                None => {
                    self.empty += 1;
                    self.locals.retain(|(index, _)| *index < self.samples.len());
                    return;
                }
            }
        }
        self.samples.push(sample);
    }

    fn refuse(&mut self, reason: String) {
        self.count += 1;
        if self.wrong.len() < NAMED {
            self.wrong.push(reason);
        }
    }

    /// Resolves local starts, monitor by monitor.
    fn place(&mut self) {
        let mut by_monitor: BTreeMap<MonitorId, Vec<(usize, Local)>> = BTreeMap::new();
        for (index, local) in std::mem::take(&mut self.locals) {
            by_monitor.entry(self.samples[index].monitor.clone()).or_default().push((index, local));
        }
        for places in by_monitor.into_values() {
            let times: Vec<Local> = places.iter().map(|(_, local)| *local).collect();
            let moments = match foreign::resolve(&times, &self.plan.timezone) {
                Ok(moments) => moments,
                Err(error) => {
                    self.refuse(error.to_string());
                    continue;
                }
            };
            for ((index, local), moment) in places.into_iter().zip(moments) {
                match in_time(moment.into(), self.now) {
                    Ok(at) => self.samples[index].started_at = at,
                    Err(reason) => self.refuse(format!("row {}, started_at: {reason}", local.line)),
                }
            }
        }
    }

    fn end(mut self, file: &Path) -> Result<Read, LakeAdminError> {
        self.place();
        if self.count == 0 {
            let mut notes = Vec::new();
            if self.empty > 0 {
                notes.push(format!(
                    "{} rows skipped: no round trip, so the outcome of these tests is unknown; \
                     --missing-outcome lost counts them as failed",
                    self.empty
                ));
            }
            return Ok(Read { samples: self.samples, notes });
        }
        Err(LakeAdminError::Import(format!(
            "{}: {} rows can't be parsed; nothing was imported\n  {}",
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
        now: UtcMicros::now(),
        locals: Vec::new(),
        empty: 0,
    }
}

/// Rejects values that no test can have measured: usually a missing unit.
fn plausible(column: &Column<Sample>, cell: Cell, now: UtcMicros) -> Result<Cell, String> {
    match cell {
        Cell::Int(at) if column.name == "started_at" => {
            in_time(UtcMicros(at), now)?;
        }
        Cell::Int(value) if value < 0 && column.name.ends_with("_us") => {
            return Err(format!("{value} µs is a negative duration"));
        }
        _ => {}
    }
    Ok(cell)
}

/// Checks that a test can have started at this time.
fn in_time(at: UtcMicros, now: UtcMicros) -> Result<UtcMicros, String> {
    if at < OLDEST || at > now + Micros::from_secs(86_400) {
        return Err(format!(
            "it would be {at}, which is implausible; set the unit with started_at=COLUMN:s, :ms or :us"
        ));
    }
    Ok(at)
}

/// Reads the samples of a text table.
fn table(file: &Path, plan: &Plan, table: Table) -> Result<Read, LakeAdminError> {
    let columns = columns(file, plan, &table.head)?;
    let mut marks = vec![Mark::Point; table.head.len()];
    // Files with commas as delimiters use decimal points; in other files both marks are common.
    let usual = match table.delimiter {
        None | Some(b',') => Mark::Point,
        Some(_) => Mark::Comma,
    };
    for (column, index, _) in &columns {
        if !matches!(column.holds, Hold::Long | Hold::Int | Hold::Real | Hold::Timestamp) {
            continue;
        }
        let values = table.rows.iter().filter_map(|row| row.fields.get(*index).map(String::as_str));
        marks[*index] = match plan.decimal_mark {
            Some(mark) => mark,
            None => Mark::of(values, usual).map_err(|reason| {
                LakeAdminError::Import(format!("{}: {}: {reason}", file.display(), column.name))
            })?,
        };
    }
    let mut collector = collector(plan);
    for row in &table.rows {
        let value = |index: usize| match row.fields.get(index) {
            Some(text) if !is_missing(text, &plan.missing) => Value::Text(text.clone()),
            _ => Value::Null,
        };
        collector.row(&columns, row.line, value, |index| {
            marks.get(index).copied().unwrap_or(Mark::Point)
        });
    }
    let mut read = collector.end(file)?;
    read.notes.splice(0..0, table.notes);
    Ok(read)
}

/// Reads the samples of another tool's export.
fn export(file: &Path, preset: Preset, plan: &Plan) -> Result<Read, LakeAdminError> {
    let refuse = |reason: &str| LakeAdminError::Import(format!("{}: {reason}", file.display()));
    if plan.outcome.is_some() || plan.missing_outcome.is_some() || !plan.outcomes.is_empty() {
        return Err(refuse(
            "--from reads outcomes from the export; remove --as-outcome, --missing-outcome and --outcome",
        ));
    }
    let mut round_trip = None;
    for mapping in &plan.mappings {
        if mapping.ours != "round_trip_us" || mapping.unit.is_some() {
            return Err(refuse(
                "with --from, only the column of the round trip can be set: --column round_trip_us=NAME",
            ));
        }
        round_trip = Some(mapping.theirs.as_str());
    }
    let found = preset.read(file, ExportSelection { round_trip, delimiter: plan.delimiter })?;
    let plan = &Plan { mappings: Vec::new(), ..plan.clone() };
    table(file, plan, found)
}

/// Returns whether mailqos wrote a Parquet file.
fn is_ours(file: &Path) -> Result<bool, LakeAdminError> {
    let open = File::open(file).map_err(io_error(file))?;
    let mut reader = ParquetReader::new(open);
    let metadata = reader.get_metadata().map_err(unreadable(file))?;
    let writer = metadata.created_by.as_deref();
    Ok(writer.is_some_and(|writer| writer.starts_with("mailqos ")))
}

/// Reads the samples of a file in our own format, all columns as they are, except for values set
/// for all rows.
fn ours(file: &Path, plan: &Plan) -> Result<Read, LakeAdminError> {
    let reader = DayReader::<Sample>::open(file)?.ok_or_else(|| {
        LakeAdminError::Import(format!("{}: there is no such file", file.display()))
    })?;
    let mut samples = reader.collect::<Result<Vec<_>, _>>()?;
    for sample in &mut samples {
        if let Some(monitor) = &plan.monitor {
            sample.monitor = monitor.clone();
        }
        if let Some(outcome) = plan.outcome {
            sample.outcome = outcome;
        }
    }
    Ok(Read { samples, notes: Vec::new() })
}

fn unreadable(file: &Path) -> impl Fn(polars::error::PolarsError) -> LakeAdminError {
    move |error| LakeAdminError::Import(format!("{}: {error}", file.display()))
}

fn parquet(file: &Path, plan: &Plan) -> Result<Read, LakeAdminError> {
    let error = unreadable(file);
    let open = File::open(file).map_err(io_error(file))?;
    let mut reader = ParquetReader::new(open);
    // Some writers record their own in-memory types (dictionaries, large strings). Only the stored
    // type matters.
    let mut metadata = (**reader.get_metadata().map_err(&error)?).clone();
    metadata.key_value_metadata = None;
    reader.set_metadata(metadata.into());
    let frame = reader.finish().map_err(&error)?;
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
        collector.row(&columns, row as u64, value, |_| Mark::Point);
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
        AnyValue::Float32(_) | AnyValue::Float64(_) => {
            value.extract::<f64>().map_or(Value::Null, Value::Number)
        }
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

/// A converted value for one of our columns.
enum Found {
    Cell(Cell),
    /// A time without an offset.
    Local(DateTime),
}

/// Converts a value of the file to a cell of our column.
fn cell(
    column: &Column<Sample>,
    value: Value,
    unit: i64,
    mark: Mark,
    plan: &Plan,
) -> Result<Found, String> {
    let text = match value {
        Value::Null => return Ok(Found::Cell(Cell::Null)),
        Value::Moment(at) => return Ok(Found::Cell(Cell::Int(at))),
        Value::Flag(flag) if column.holds == Hold::Bool => {
            return Ok(Found::Cell(Cell::Bool(flag)));
        }
        Value::Flag(flag) => flag.to_string(),
        Value::Int(value) if matches!(column.holds, Hold::Long | Hold::Int | Hold::Timestamp) => {
            return value
                .checked_mul(unit)
                .map(|value| Found::Cell(Cell::Int(value)))
                .ok_or_else(|| format!("{value} is too large"));
        }
        Value::Int(value) => value.to_string(),
        // NaN in a Parquet file is not a value either.
        Value::Number(value) if value.is_nan() => return Ok(Found::Cell(Cell::Null)),
        Value::Number(value) => value.to_string(),
        Value::Text(text) => text,
    };
    let cell = match column.holds {
        Hold::Word if column.name == "outcome" => {
            Cell::Text(plan.outcomes.get(&text).cloned().unwrap_or(text))
        }
        Hold::Word | Hold::Hops => Cell::Text(text),
        Hold::Bool => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" => Cell::Bool(true),
            "false" | "no" | "0" => Cell::Bool(false),
            _ => return Err(format!("{text:?} is neither true nor false")),
        },
        Hold::Real => {
            Cell::Real(mark.parse(&text).ok_or_else(|| format!("{text:?} is not a number"))?)
        }
        // `30 s` is not a time of day.
        Hold::Timestamp if foreign::with_unit(&text).is_some() => return moment(&text, plan),
        Hold::Timestamp => match number(&text, unit, mark) {
            Ok(at) => Cell::Int(at),
            Err(_) => return moment(&text, plan),
        },
        Hold::Long | Hold::Int => Cell::Int(number(&text, unit, mark)?),
    };
    Ok(Found::Cell(cell))
}

fn number(text: &str, unit: i64, mark: Mark) -> Result<i64, String> {
    if let Ok(value) = text.parse::<i64>() {
        return value.checked_mul(unit).ok_or_else(|| format!("{text} is too large"));
    }
    // A unit in the field takes precedence over the one given for the column.
    let (digits, unit) = foreign::with_unit(text).unwrap_or((text, unit as f64));
    let value = mark.parse(digits).ok_or_else(|| format!("{text:?} is not a number"))?;
    let micros = (value * unit).round();
    // Above 2^53 floating-point numbers don't resolve microseconds.
    if micros.abs() < 9_007_199_254_740_992.0 {
        Ok(micros as i64)
    } else {
        Err(format!("{text:?} is too large a number"))
    }
}

fn moment(text: &str, plan: &Plan) -> Result<Found, String> {
    if let Some(format) = &plan.time_format {
        let parsed = jiff::fmt::strtime::parse(format, text)
            .map_err(|error| format!("{text:?} does not match the format {format:?}: {error}"))?;
        if let Ok(at) = parsed.to_timestamp() {
            return Ok(Found::Cell(Cell::Int(at.as_microsecond())));
        }
        let date = parsed.to_date().map_err(|error| error.to_string())?;
        // A date alone means midnight.
        let time = parsed.to_time().unwrap_or_else(|_| jiff::civil::Time::midnight());
        return Ok(Found::Local(date.to_datetime(time)));
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(Found::Cell(Cell::Int(at.as_microsecond())));
    }
    text.parse::<DateTime>().map(Found::Local).map_err(|_| {
        format!(
            "{text:?} is not a time; use 2026-03-01T12:00:00Z, set the format with --time-format \"%d.%m.%Y \
             %H:%M\", or set the unit of a number: started_at=time:ms"
        )
    })
}

/// Resolves a local time of a column whose order doesn't help.
fn in_zone(at: DateTime, zone: &TimeZone) -> Result<Cell, String> {
    zone.to_ambiguous_timestamp(at).unambiguous().map(|at| Cell::Int(at.as_microsecond())).map_err(
        |_| {
            format!(
                "{at} is skipped or ambiguous because of a clock change; set the offset of times, \
            or use UTC"
            )
        },
    )
}

#[cfg(test)]
mod tests;
