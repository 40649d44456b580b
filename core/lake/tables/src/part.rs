//! Decodes what a question needs of one file of samples, into columns that take little memory. Row groups and columns that
//! cannot matter are left out by the statistics in the file's footer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use mailqos_model::{Exclusion, Micros, Outcome, Stage};
use parquet::file::{
    metadata::{
        ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy,
        RowGroupMetaData,
    },
    statistics::Statistics,
};
use polars::prelude::{
    BooleanChunked, ChunkApply as _, Column as Frame, DataFrame, DataType, Int64Chunked, ParallelStrategy,
    ParquetReader, PolarsError, PolarsResult, SerReader as _, StringChunked, TimeUnit,
};

use super::{
    decoder::{Coded, Columns, Words},
    lake::{Column, LakeError, LakeFile, SeriesQuery},
    series::{Durations, HopDelay, Metric, Series, SeriesKey},
};

/// Which monitors are wanted: by name, and between two names (the second one excluded).
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) names: BTreeSet<String>,
    pub(super) from: Option<Arc<str>>,
    pub(super) to: Option<Arc<str>>,
}

impl Wanted {
    fn is(&self, monitor: &str) -> bool {
        self.from.as_ref().is_none_or(|from| &**from <= monitor)
            && self.to.as_ref().is_none_or(|to| monitor < &**to)
            && (self.names.is_empty() || self.names.contains(monitor))
    }

    /// Whether a row group can hold one: by the least and the greatest name in it.
    pub(super) fn may_be_in(&self, group: &Group) -> bool {
        let Some((least, greatest)) = &group.monitors else {
            return true;
        };
        self.from.as_ref().is_none_or(|from| from <= greatest)
            && self.to.as_ref().is_none_or(|to| least < to)
            && (self.names.is_empty()
                || self
                    .names
                    .range::<str, _>((
                        std::ops::Bound::Included(&**least),
                        std::ops::Bound::Included(&**greatest),
                    ))
                    .next()
                    .is_some())
    }
}

/// A row group, by the footer.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) rows: usize,
    /// The least and the greatest monitor, where the writer noted them.
    pub(super) monitors: Option<(Arc<str>, Arc<str>)>,
    /// No sample is marked as provisional.
    all_settled: bool,
    /// No certificate was accepted unverified.
    all_verified: bool,
    /// Some tests are not of kind `mail-qos`.
    pub(super) has_kinds: bool,
}

fn corrupt(file: &LakeFile, reason: impl ToString) -> LakeError {
    LakeError::Corrupt {
        path: file.path.clone(),
        reason: reason.to_string(),
    }
}

fn open(file: &LakeFile) -> Result<File, LakeError> {
    File::open(&file.path).map_err(|error| LakeError::Unreadable {
        path: file.path.clone(),
        reason: error.to_string(),
    })
}

/// A decoder may panic on bytes that no writer writes.
fn guarded<T, E: ToString>(file: &LakeFile, what: &str, read: impl FnOnce() -> Result<T, E>) -> Result<T, LakeError> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(corrupt(file, error)),
        Err(_) => Err(corrupt(file, format!("{what} can't be decoded"))),
    }
}

/// A file's footer, and of which file it is.
#[derive(Debug)]
pub(super) struct Footer {
    metadata: ParquetMetaData,
    of: Option<Identity>,
}

/// What tells a file from another that takes its place: today's is replaced while it is read.
type Identity = (u64, u64, SystemTime);

fn identity(source: &File) -> Option<Identity> {
    let about = source.metadata().ok()?;
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(&about);
    #[cfg(not(unix))]
    let number = 0;
    Some((number, about.len(), about.modified().ok()?))
}

/// Whether the footer of a file is encrypted: it ends with `PARE` then, in place of `PAR1`.
fn is_encrypted(mut source: &File) -> bool {
    let mut end = [0; 4];
    let read = source.seek(SeekFrom::End(-4)).and_then(|_| source.read_exact(&mut end));
    let is = read.is_ok() && &end == b"PARE";
    source.rewind().is_ok() && is
}

fn encrypted(file: &LakeFile, what: &str) -> LakeError {
    LakeError::Undecodable {
        path: file.path.clone(),
        reason: format!("{what} is encrypted; write it again without encryption, with the program that has its key"),
    }
}

impl Footer {
    /// Reads it. What it notes of encodings and sizes nobody asks for, and would be a third of the work.
    fn read(file: &LakeFile, source: &File) -> Result<Self, LakeError> {
        let options = ParquetMetaDataOptions::new()
            .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll)
            .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll);
        let reader = ParquetMetaDataReader::new().with_metadata_options(Some(options));
        let of = identity(source);
        if is_encrypted(source) {
            return Err(encrypted(file, "its footer"));
        }
        let metadata = guarded(file, "its footer", || reader.parse_and_finish(source))?;
        // Rows are added up and numbered in four bytes; a damaged footer may claim any number.
        let add = |sum: u32, group: &RowGroupMetaData| sum.checked_add(u32::try_from(group.num_rows()).ok()?);
        if metadata.row_groups().iter().try_fold(0, add).is_none() {
            return Err(corrupt(file, "its footer claims more rows than there can be"));
        }
        Ok(Self { metadata, of })
    }

    /// About how many bytes it holds.
    pub(super) fn size(&self) -> usize {
        self.metadata.memory_size()
    }

    /// Estimates how many bytes a decoded row takes of those columns of a query in which there is anything.
    pub(super) fn bytes_per_row(&self, query: &SeriesQuery) -> usize {
        let share = |name: &str| {
            let (mut values, mut rows) = (0.0_f64, 0.0);
            for group in self.metadata.row_groups() {
                rows += group.num_rows() as f64;
                for chunk in group.columns().iter().filter(|chunk| is_of(chunk, name)).take(1) {
                    let nulls = chunk.statistics().and_then(Statistics::null_count_opt).unwrap_or(0);
                    values += chunk.num_values() as f64 - nulls as f64;
                }
            }
            if rows > 0.0 { values / rows } else { 0.0 }
        };
        let full = |name: &str, bytes: usize| if share(name) > 0.0 { bytes } else { 0 };
        let sparse = |name: &str, bytes: usize| if share(name) > SPARSE { bytes } else { 0 };
        let metrics: usize = query.metrics.iter().map(|metric| full(&metric.column(), 4)).sum();
        let columns = query.columns.iter().map(|column| match column {
            Column::Stage => sparse("stage", 1),
            Column::Error => sparse("error", 16),
            Column::SmtpReplyCode => sparse("smtp_reply_code", 8),
            Column::TestInterval => full("test_interval_us", 4),
            Column::MaxRoundTrip => full("max_round_trip_us", 4),
            Column::Unverified => full("tls_unverified", 1),
            // The stations of a mail, about: a third of them is the first leaf's share of rows.
            Column::Hops => full("hops", 150),
        });
        // started_at and outcome; exclusion and provisional state, where there is any.
        9 + full("excluded", 1) + full("settled", 1) + metrics + columns.sum::<usize>()
    }
}

/// The row groups of a file, and the footer that they are from.
///
/// # Errors
/// It can't be read, or is no Parquet file.
pub(super) fn groups(file: &LakeFile) -> Result<(Vec<Group>, Footer), LakeError> {
    let footer = Footer::read(file, &open(file)?)?;
    Ok((groups_of(&footer.metadata), footer))
}

/// Whether a chunk belongs to a column of the schema's top level.
fn is_of(chunk: &ColumnChunkMetaData, name: &str) -> bool {
    chunk.column_path().parts().first().is_some_and(|root| root == name)
}

/// Whether a chunk has no value, by its statistics.
fn all_null(chunk: &ColumnChunkMetaData) -> bool {
    let nulls = chunk.statistics().and_then(Statistics::null_count_opt);
    nulls.is_some() && nulls == u64::try_from(chunk.num_values()).ok()
}

fn groups_of(metadata: &ParquetMetaData) -> Vec<Group> {
    let groups = metadata.row_groups().iter().map(|group| {
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        let chunk = |name: &str| {
            let is = |chunk: &&ColumnChunkMetaData| matches!(chunk.column_path().parts(), [only] if only == name);
            group.columns().iter().find(is)
        };
        let statistics = |name: &str| chunk(name)?.statistics();
        let monitors = statistics("monitor").and_then(|statistics| {
            // Shortened bounds are still bounds, if they are still text.
            let name = |bytes: Option<&[u8]>| Some(Arc::<str>::from(std::str::from_utf8(bytes?).ok()?));
            let bounds = (name(statistics.min_bytes_opt())?, name(statistics.max_bytes_opt())?);
            // Bounds in the wrong order, of a damaged footer, say nothing.
            (bounds.0 <= bounds.1).then_some(bounds)
        });
        let all = |name: &str, expected: bool| {
            chunk(name).is_none_or(|chunk| match chunk.statistics() {
                Some(Statistics::Boolean(flags)) if !all_null(chunk) => {
                    flags.min_opt() == Some(&expected) && flags.max_opt() == Some(&expected)
                }
                _ => all_null(chunk),
            })
        };
        Group {
            rows,
            monitors,
            all_settled: all("settled", true),
            all_verified: all("tls_unverified", false),
            has_kinds: chunk("kind").is_some_and(|chunk| !all_null(chunk)),
        }
    });
    groups.collect()
}

/// Columns of some row groups of a file: those that the probe wrote by our own decoder, and the others by polars.
struct Decoded {
    durations: BTreeMap<String, Durations>,
    moments: BTreeMap<String, Vec<i64>>,
    words: BTreeMap<String, Words>,
    codes: BTreeMap<String, Coded<i32>>,
    frame: DataFrame,
}

/// What a column is decoded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Durations,
    Moments,
    Words,
    Codes,
    /// As polars has it.
    Any,
}

/// Decodes some columns, as far as the file has them, of the row groups that a question needs; `None` where there is none.
/// `known` is the footer, if it has been read.
fn decode(
    file: &LakeFile,
    known: Option<&Footer>,
    columns: &[(&str, Form)],
    wanted: &Wanted,
) -> Result<Option<Decoded>, LakeError> {
    let source = open(file)?;
    let read;
    let footer = match known {
        Some(known) if known.of.is_some() && known.of == identity(&source) => known,
        _ => {
            read = Footer::read(file, &source)?;
            &read
        }
    };
    let metadata = &footer.metadata;
    let groups = groups_of(metadata);
    let needed: Vec<bool> = groups.iter().map(|group| wanted.may_be_in(group)).collect();
    let kept = || {
        groups
            .iter()
            .zip(&needed)
            .filter_map(|(group, needed)| needed.then_some(group))
    };
    if !groups.is_empty() && kept().map(|group| group.rows).sum::<usize>() == 0 {
        return Ok(None);
    }
    let locked = |name: &str| {
        let chunks = metadata.row_groups().iter().flat_map(|group| group.columns());
        chunks
            .filter(|chunk| is_of(chunk, name))
            .any(|chunk| chunk.crypto_metadata().is_some())
    };
    if let Some((name, _)) = columns.iter().find(|(name, _)| locked(name)) {
        return Err(encrypted(file, &format!("column {name}")));
    }
    let own = Columns::new(source, metadata, &needed);
    let mut decoded = Decoded {
        durations: BTreeMap::new(),
        moments: BTreeMap::new(),
        words: BTreeMap::new(),
        codes: BTreeMap::new(),
        frame: DataFrame::empty(),
    };
    let nothing_but_nulls = |name: &str| {
        let mut kept = metadata.row_groups().iter().zip(&needed).filter(|(_, needed)| **needed);
        kept.all(|(group, _)| {
            let mut leaves = group.columns().iter().filter(|chunk| is_of(chunk, name));
            leaves.all(all_null)
        })
    };
    // A damaged footer may claim any number of rows, and a null or a repeated word takes no room in a file; a moment does. Where
    // the moments can't be decoded here, nothing is.
    let mut trusted = true;
    if columns.contains(&("started_at", Form::Moments)) {
        match catch_unwind(AssertUnwindSafe(|| own.moments("started_at"))) {
            Ok(Some(values)) => drop(decoded.moments.insert("started_at".to_owned(), values)),
            _ => trusted = false,
        }
    }
    let mut rest = Vec::new();
    for (name, form) in columns {
        let says_nothing = match *name {
            "started_at" if trusted => true,
            "monitor" | "started_at" | "outcome" => false,
            "settled" => kept().all(|group| group.all_settled),
            "tls_unverified" => kept().all(|group| group.all_verified),
            name => nothing_but_nulls(name),
        };
        if says_nothing || !own.has(name) {
            continue;
        }
        // What it can't decode, damaged bytes among them, polars decodes or names.
        let done = catch_unwind(AssertUnwindSafe(|| {
            let name = (*name).to_owned();
            match form {
                _ if !trusted => return None,
                Form::Durations => {
                    let values = own.durations(&name)?;
                    decoded.durations.insert(name, values);
                }
                Form::Words => {
                    let values = own.words(&name)?;
                    decoded.words.insert(name, values);
                }
                Form::Codes => {
                    let values = own.codes(&name)?;
                    decoded.codes.insert(name, values);
                }
                Form::Moments | Form::Any => return None,
            }
            Some(())
        }));
        if !matches!(done, Ok(Some(()))) {
            rest.push((*name).to_owned());
        }
    }
    if !rest.is_empty() {
        let source = open(file)?;
        decoded.frame = guarded(file, "it", || by_polars(source, rest, &needed))?;
        if decoded.frame.height() != own.rows() {
            return Err(corrupt(file, "its columns are not equally long"));
        }
    }
    Ok(Some(decoded))
}

fn by_polars(source: File, columns: Vec<String>, needed: &[bool]) -> PolarsResult<DataFrame> {
    let mut reader = ParquetReader::new(source);
    // Some writers note their own in-memory types (dictionaries, large strings). What is stored is what counts.
    let mut metadata = (**reader.get_metadata()?).clone();
    metadata.key_value_metadata = None;
    let mut each = needed.iter();
    metadata.row_groups.retain(|_| each.next().copied().unwrap_or(true));
    metadata.num_rows = metadata.row_groups.iter().map(|group| group.num_rows()).sum();
    reader.set_metadata(Arc::new(metadata));
    reader
        .with_columns(Some(columns))
        .read_parallel(ParallelStrategy::None)
        .set_rechunk(false)
        .finish()
}

/// A column as text, if the file has it.
fn text(frame: &DataFrame, name: &str) -> PolarsResult<Option<StringChunked>> {
    let Ok(column) = frame.column(name) else {
        return Ok(None);
    };
    Ok(Some(column.cast(&DataType::String)?.str()?.clone()))
}

/// A column as whole numbers, if the file has it.
fn integers(frame: &DataFrame, name: &str) -> PolarsResult<Option<Int64Chunked>> {
    let Ok(column) = frame.column(name) else {
        return Ok(None);
    };
    let numbers = match column.dtype() {
        // pandas has no null among whole numbers: it makes them floats, and the nulls NaN.
        kind if kind.is_float() => column.cast(&DataType::Int64)?,
        kind if kind.is_integer() || *kind == DataType::Null => column.strict_cast(&DataType::Int64)?,
        kind => {
            let reason = format!("column {name:?} is of type {kind}, not of whole numbers");
            return Err(PolarsError::SchemaMismatch(reason.into()));
        }
    };
    Ok(Some(numbers.i64()?.clone()))
}

fn durations(frame: &DataFrame, name: &str) -> PolarsResult<Option<Durations>> {
    Ok(integers(frame, name)?.map(|column| {
        let mut durations = Durations::default();
        durations.reserve(column.len());
        for chunk in column.downcast_iter() {
            match chunk.validity() {
                Some(valid) if valid.unset_bits() > 0 => {
                    durations.append_nullable(chunk.values(), || {
                        let words = valid.chunks::<u64>();
                        let rest = words.remainder();
                        words.chain([rest])
                    });
                }
                _ => durations.append(chunk.values()),
            }
        }
        durations
    }))
}

fn booleans(frame: &DataFrame, name: &str) -> PolarsResult<Option<BooleanChunked>> {
    let Ok(column) = frame.column(name) else {
        return Ok(None);
    };
    Ok(Some(column.cast(&DataType::Boolean)?.bool()?.clone()))
}

/// A column of moments in microseconds.
fn moments(column: &Frame) -> PolarsResult<Int64Chunked> {
    if let kind @ (DataType::Date | DataType::Time | DataType::Duration(_)) = column.dtype() {
        let reason = format!("column {:?} is of type {kind}, not of moments", column.name());
        return Err(PolarsError::SchemaMismatch(reason.into()));
    }
    let physical = column.to_physical_repr().cast(&DataType::Int64)?;
    let values = physical.i64()?;
    Ok(match column.dtype() {
        DataType::Datetime(TimeUnit::Nanoseconds, _) => values.apply_values(|at| at.div_euclid(1000)),
        DataType::Datetime(TimeUnit::Milliseconds, _) => values.apply_values(|at| at.saturating_mul(1000)),
        _ => values.clone(),
    })
}

/// A column of words, as it was decoded.
enum Text {
    Words(Words),
    Strings(StringChunked),
}

impl Text {
    /// Calls `each` with every stretch of equal words, in order; `false` at a null.
    fn stretches(&self, mut each: impl FnMut(&str, Range<usize>)) -> bool {
        match self {
            Self::Words(words) => {
                let mut begin = 0;
                for (word, end) in words.runs() {
                    let Some(word) = word else { return false };
                    each(word, begin..end);
                    begin = end;
                }
            }
            Self::Strings(column) => {
                if column.null_count() > 0 {
                    return false;
                }
                let mut row = 0;
                for chunk in column.downcast_iter() {
                    // Equal views are equal words; unequal ones may be equal words in different places.
                    let views = chunk.views();
                    let mut begin = 0;
                    for end in 1..=views.len() {
                        if end < views.len() && views[end].as_u128() == views[begin].as_u128() {
                            continue;
                        }
                        each(chunk.value(begin), row + begin..row + end);
                        begin = end;
                    }
                    row += views.len();
                }
            }
        }
        true
    }

    /// What is made of each row's word.
    fn each<T: Clone>(&self, of: impl Fn(Option<&str>) -> T) -> Vec<T> {
        match self {
            Self::Words(words) => words.each(|word| of(word.map(String::as_str))),
            Self::Strings(column) => column.iter().map(of).collect(),
        }
    }

    fn all_null(&self) -> bool {
        match self {
            Self::Words(words) => words.all_null(),
            Self::Strings(column) => column.null_count() == column.len(),
        }
    }
}

impl Decoded {
    /// A column of words, if the file has it.
    fn text(&mut self, name: &str) -> PolarsResult<Option<Text>> {
        match self.words.remove(name) {
            Some(words) => Ok(Some(Text::Words(words))),
            None => Ok(text(&self.frame, name)?.map(Text::Strings)),
        }
    }

    /// A column of durations, if the file has it.
    fn durations(&mut self, name: &str) -> PolarsResult<Option<Durations>> {
        match self.durations.remove(name) {
            Some(durations) => Ok(Some(durations)),
            None => durations(&self.frame, name),
        }
    }

    /// A column of whole numbers in four bytes, if the file has it; greater ones are left out.
    fn codes(&mut self, name: &str) -> PolarsResult<Option<Vec<Option<i32>>>> {
        match self.codes.remove(name) {
            Some(codes) => Ok(Some(codes.each(|code| code.copied()))),
            None => Ok(integers(&self.frame, name)?.map(|column| {
                let code = |code: Option<i64>| code.and_then(|code| i32::try_from(code).ok());
                column.iter().map(code).collect()
            })),
        }
    }

    /// A column of moments without nulls, if the file has it; `Err(None)` where there is a null.
    fn moments(&mut self, name: &str) -> Result<Option<Vec<i64>>, Option<PolarsError>> {
        if let Some(moments) = self.moments.remove(name) {
            return Ok(Some(moments));
        }
        let Ok(column) = self.frame.column(name) else {
            return Ok(None);
        };
        let column = moments(column)?;
        if column.null_count() > 0 {
            return Err(None);
        }
        let mut values: Vec<i64> = Vec::with_capacity(column.len());
        for chunk in column.downcast_iter() {
            values.extend_from_slice(chunk.values());
        }
        Ok(Some(values))
    }
}

/// The rows of one monitor: consecutive, or picked where the file is not sorted.
enum Rows {
    Range(Range<usize>),
    Picked(Vec<u32>),
}

/// Where each wanted monitor's rows are; `None` if a sample has no monitor.
fn monitors_of(column: &Text, wanted: &Wanted) -> Option<Vec<(SeriesKey, Rows)>> {
    let mut runs: Vec<(Arc<str>, Range<usize>)> = Vec::new();
    let mut last: Option<(String, bool)> = None;
    let complete = column.stretches(|monitor, rows| {
        if let Some((name, is)) = &last
            && name == monitor
        {
            if *is && let Some((_, run)) = runs.last_mut() {
                run.end = rows.end;
            }
            return;
        }
        let is = wanted.is(monitor);
        if is {
            runs.push((Arc::from(monitor), rows));
        }
        last = Some((monitor.to_owned(), is));
    });
    if !complete {
        return None;
    }
    // Several runs of one monitor are only where the file is not sorted.
    runs.sort_by(|(a, rows), (b, others)| (a, rows.start).cmp(&(b, others.start)));
    let mut found: Vec<(SeriesKey, Rows)> = Vec::with_capacity(runs.len());
    for (monitor, run) in runs {
        match found.last_mut() {
            Some((last, rows)) if last.monitor == monitor => {
                let mut picked = match std::mem::replace(rows, Rows::Picked(Vec::new())) {
                    Rows::Range(rows) => rows.map(|row| row as u32).collect(),
                    Rows::Picked(rows) => rows,
                };
                picked.extend(run.map(|row| row as u32));
                *rows = Rows::Picked(picked);
            }
            _ => found.push((SeriesKey { monitor, kind: None }, Rows::Range(run))),
        }
    }
    Some(found)
}

/// Divides the rows of each monitor by the kind of its tests; a monitor has one, mostly.
fn by_kind(monitors: Vec<(SeriesKey, Rows)>, kinds: &[Option<Arc<str>>]) -> Vec<(SeriesKey, Rows)> {
    // Null and the word for it are the same kind.
    let kind = |row: usize| kinds.get(row).cloned().flatten().filter(|kind| **kind != *"mail-qos");
    let mut divided = Vec::with_capacity(monitors.len());
    for (SeriesKey { monitor, .. }, rows) in monitors {
        let mut all: Vec<u32> = match &rows {
            Rows::Range(rows) => rows.clone().map(|row| row as u32).collect(),
            Rows::Picked(rows) => rows.clone(),
        };
        let first = all.first().and_then(|row| kind(*row as usize));
        if all.iter().all(|row| kind(*row as usize) == first) {
            divided.push((SeriesKey { monitor, kind: first }, rows));
            continue;
        }
        let mut of_kind: BTreeMap<Option<Arc<str>>, Vec<u32>> = BTreeMap::new();
        for row in all.drain(..) {
            of_kind.entry(kind(row as usize)).or_default().push(row);
        }
        divided.extend(of_kind.into_iter().map(|(kind, rows)| {
            let monitor = Arc::clone(&monitor);
            (SeriesKey { monitor, kind }, Rows::Picked(rows))
        }));
    }
    divided
}

/// The monitors that have rows in a file.
///
/// # Errors
/// It can't be read, or is no samples' file.
pub(super) fn monitors(file: &LakeFile) -> Result<Vec<Arc<str>>, LakeError> {
    let wanted = Wanted::default();
    let Some(mut decoded) = decode(file, None, &[("monitor", Form::Words)], &wanted)? else {
        return Ok(Vec::new());
    };
    let column = decoded
        .text("monitor")
        .map_err(|error| corrupt(file, error))?
        .ok_or_else(|| corrupt(file, "it has no column \"monitor\""))?;
    let found = monitors_of(&column, &wanted).ok_or_else(|| corrupt(file, "a sample has no monitor"))?;
    Ok(found.into_iter().map(|(key, _)| key.monitor).collect())
}

/// The stations of a mail, where they are known.
type Way = Option<Arc<[HopDelay]>>;

/// The stations of each mail; nothing where the file has none, or none of the form that this version knows.
fn hops(frame: &DataFrame) -> Option<Vec<Way>> {
    let column = frame.column("hops").ok()?;
    let list = column.list().ok()?;
    let inner = list.get_inner();
    let stations = inner.struct_().ok()?;
    let by = stations.field_by_name("by").ok()?.cast(&DataType::String).ok()?;
    let delay = stations.field_by_name("delay_us").ok()?.cast(&DataType::Int64).ok()?;
    let suspect = stations
        .field_by_name("clock_suspect")
        .ok()?
        .cast(&DataType::Boolean)
        .ok()?;
    // A file names few stations, many times.
    let mut names: BTreeMap<&str, Arc<str>> = BTreeMap::new();
    let mut all: Vec<HopDelay> = Vec::with_capacity(stations.len());
    for ((by, delay), suspect) in by
        .str()
        .ok()?
        .iter()
        .zip(delay.i64().ok()?.iter())
        .zip(suspect.bool().ok()?.iter())
    {
        all.push(HopDelay {
            by: by.map(|by| Arc::clone(names.entry(by).or_insert_with(|| Arc::from(by)))),
            delay: delay.map(Micros),
            clock_suspect: suspect == Some(true),
        });
    }
    let mut ways = Vec::with_capacity(list.len());
    let mut before = 0;
    for chunk in list.downcast_iter() {
        for (row, edges) in chunk.offsets().as_slice().windows(2).enumerate() {
            let place = |edge: i64| usize::try_from(edge).ok().map(|edge| before + edge);
            let stations = place(edges[0])
                .zip(place(edges[1]))
                .and_then(|(from, to)| all.get(from..to));
            let known = chunk.validity().is_none_or(|valid| valid.get_bit(row));
            ways.push(stations.filter(|_| known).map(Arc::from));
        }
        before += chunk.values().len();
    }
    Some(ways)
}

/// A column with something in fewer rows than this share of them is held without the others.
const SPARSE: f64 = 0.1;

/// A column of which most rows may have nothing: errors and what belongs to them take little room.
enum Filled<T> {
    All(Vec<T>),
    /// The rows that have something, ascending.
    Few(Vec<(u32, T)>),
}

impl<T: Clone + Default + PartialEq> Filled<T> {
    fn of(column: Vec<T>) -> Self {
        let nothing = T::default();
        let filled = column.iter().filter(|value| **value != nothing).count();
        if filled as f64 > column.len() as f64 * SPARSE {
            return Self::All(column);
        }
        let rows = (0_u32..).zip(column);
        Self::Few(rows.filter(|(_, value)| *value != nothing).collect())
    }
}

/// The decoded rows of a file that a batch needs.
#[derive(Default)]
pub(super) struct Part {
    /// The file that it is of.
    pub(super) path: PathBuf,
    monitors: Vec<(SeriesKey, Rows)>,
    /// Where the rows of each monitor of the batch are among `monitors`.
    places: Vec<Option<u32>>,
    started_at: Vec<i64>,
    outcome: Vec<Outcome>,
    excluded: Option<Vec<Option<Exclusion>>>,
    provisional: Option<Vec<bool>>,
    stage: Option<Filled<Option<Stage>>>,
    error: Option<Filled<Option<Arc<str>>>>,
    smtp_reply_code: Option<Filled<Option<i32>>>,
    test_interval: Option<Durations>,
    max_round_trip: Option<Durations>,
    unverified: Option<Vec<bool>>,
    hops: Option<Vec<Way>>,
    metrics: Vec<(Metric, Option<Durations>)>,
}

impl Part {
    /// Reads what a query needs of a file; `known` is its footer, if it has been read.
    ///
    /// # Errors
    /// It can't be read, or is no samples' file.
    pub(super) fn read(
        file: &LakeFile,
        known: Option<&Footer>,
        query: &SeriesQuery,
        wanted: &Wanted,
    ) -> Result<Self, LakeError> {
        let mut columns = vec![
            ("monitor", Form::Words),
            ("started_at", Form::Moments),
            ("outcome", Form::Words),
            ("excluded", Form::Words),
            ("settled", Form::Any),
            ("kind", Form::Words),
        ];
        for column in &query.columns {
            columns.push(match column {
                Column::Stage => ("stage", Form::Words),
                Column::Error => ("error", Form::Words),
                Column::SmtpReplyCode => ("smtp_reply_code", Form::Codes),
                Column::TestInterval => ("test_interval_us", Form::Durations),
                Column::MaxRoundTrip => ("max_round_trip_us", Form::Durations),
                Column::Unverified => ("tls_unverified", Form::Any),
                Column::Hops => ("hops", Form::Any),
            });
        }
        let metrics: Vec<(Metric, String)> = query.metrics.iter().map(|m| (*m, m.column())).collect();
        columns.extend(metrics.iter().map(|(_, column)| (column.as_str(), Form::Durations)));
        let mut part = match decode(file, known, &columns, wanted)? {
            Some(decoded) => Self::of(file, decoded, &metrics, wanted)?,
            None => Self::default(),
        };
        part.path.clone_from(&file.path);
        Ok(part)
    }

    fn of(
        file: &LakeFile,
        mut decoded: Decoded,
        metrics: &[(Metric, String)],
        wanted: &Wanted,
    ) -> Result<Self, LakeError> {
        let wrong = |error: PolarsError| corrupt(file, error);
        let missing = |name: &str| corrupt(file, format!("it has no column {name:?}"));
        let monitors = decoded
            .text("monitor")
            .map_err(wrong)?
            .ok_or_else(|| missing("monitor"))?;
        let started_at = decoded
            .moments("started_at")
            .map_err(|error| error.map_or_else(|| corrupt(file, "a sample has no started_at"), wrong))?
            .ok_or_else(|| missing("started_at"))?;
        let outcomes = decoded
            .text("outcome")
            .map_err(wrong)?
            .ok_or_else(|| missing("outcome"))?;
        let mut outcome: Vec<Outcome> = Vec::with_capacity(started_at.len());
        let mut unknown = None;
        let complete = outcomes.stretches(|word, rows| match word.parse::<Outcome>() {
            Ok(value) => outcome.resize(rows.end, value),
            Err(error) => {
                unknown.get_or_insert(error.to_string());
            }
        });
        if let Some(error) = unknown {
            return Err(corrupt(file, error));
        }
        if !complete {
            return Err(corrupt(file, "a sample has no outcome"));
        }
        let excluded = decoded
            .text("excluded")
            .map_err(wrong)?
            .filter(|column| !column.all_null())
            // A reason that a later version adds is a reason all the same.
            .map(|column| column.each(|word| word.map(|word| word.parse().unwrap_or(Exclusion::Maintenance))));
        let stage = decoded
            .text("stage")
            .map_err(wrong)?
            .map(|column| column.each(|word| word.and_then(|word| word.parse().ok())));
        let mut columns = Vec::with_capacity(metrics.len());
        for (metric, name) in metrics {
            columns.push((*metric, decoded.durations(name).map_err(wrong)?));
        }
        let error = decoded
            .text("error")
            .map_err(wrong)?
            .filter(|column| !column.all_null())
            .map(|column| column.each(|line| line.map(Arc::from)));
        let smtp_reply_code = decoded.codes("smtp_reply_code").map_err(wrong)?;
        let test_interval = decoded.durations("test_interval_us").map_err(wrong)?;
        let max_round_trip = decoded.durations("max_round_trip_us").map_err(wrong)?;
        let kinds = decoded.text("kind").map_err(wrong)?.filter(|column| !column.all_null());
        let frame = &decoded.frame;
        let provisional = booleans(frame, "settled")
            .map_err(wrong)?
            .map(|column| column.iter().map(|settled| settled == Some(false)).collect());
        let unverified = booleans(frame, "tls_unverified")
            .map_err(wrong)?
            .map(|column| column.iter().map(|unverified| unverified == Some(true)).collect());
        let mut monitors = monitors_of(&monitors, wanted).ok_or_else(|| corrupt(file, "a sample has no monitor"))?;
        if let Some(kinds) = kinds {
            monitors = by_kind(monitors, &kinds.each(|kind| kind.map(Arc::from)));
        }
        Ok(Self {
            path: PathBuf::new(),
            monitors,
            places: Vec::new(),
            outcome,
            excluded,
            provisional,
            stage: stage.map(Filled::of),
            error: error.map(Filled::of),
            smtp_reply_code: smtp_reply_code.map(Filled::of),
            test_interval,
            max_round_trip,
            unverified,
            hops: hops(frame),
            metrics: columns,
            started_at,
        })
    }

    /// The monitors whose rows it has.
    pub(super) fn monitors(&self) -> impl Iterator<Item = &SeriesKey> {
        self.monitors.iter().map(|(monitor, _)| monitor)
    }

    /// Notes where the monitors of a batch, in order, are here: names are compared once, not once for each question.
    pub(super) fn place(&mut self, batch: &[SeriesKey]) {
        let mut own = self.monitors.iter().zip(0_u32..).peekable();
        let places = batch.iter().map(|monitor| {
            while own.next_if(|((name, _), _)| name < monitor).is_some() {}
            own.next_if(|((name, _), _)| name == monitor).map(|(_, place)| place)
        });
        self.places = places.collect();
    }

    /// The rows of a monitor, by its number in the batch.
    fn rows(&self, monitor: usize) -> Option<&Rows> {
        let place = (*self.places.get(monitor)?)?;
        self.monitors.get(place as usize).map(|(_, rows)| rows)
    }

    /// How many rows it has of a monitor.
    pub(super) fn count(&self, monitor: usize) -> usize {
        match self.rows(monitor) {
            None => 0,
            Some(Rows::Range(rows)) => rows.len(),
            Some(Rows::Picked(rows)) => rows.len(),
        }
    }

    /// The longest test interval of a monitor, where it may be longer than 71 minutes.
    pub(super) fn longest_interval(&self, monitor: usize) -> Option<Micros> {
        let intervals = self.test_interval.as_ref().filter(|column| column.may_be_long())?;
        match self.rows(monitor)? {
            Rows::Range(rows) => rows.clone().filter_map(|row| intervals.get(row)).max(),
            Rows::Picked(rows) => rows.iter().filter_map(|row| intervals.get(*row as usize)).max(),
        }
    }

    /// The same without the rows of other monitors than those that were wanted: of many files at once, they take much room.
    pub(super) fn of_wanted(mut self, query: &SeriesQuery) -> Self {
        fn known<T>(column: Vec<T>) -> Option<Vec<T>> {
            (!column.is_empty()).then_some(column)
        }
        fn measured(column: &mut Durations) -> Option<Durations> {
            (!column.is_empty()).then(|| std::mem::take(column))
        }
        let names: Vec<SeriesKey> = self.monitors().cloned().collect();
        self.place(&names);
        let mut series = Series::default();
        // No more room than is needed: there are many files.
        series.reserve((0..names.len()).map(|number| self.count(number)).sum(), query);
        let mut monitors = Vec::with_capacity(names.len());
        for (number, name) in names.into_iter().enumerate() {
            let first = series.len();
            self.add_to(&mut series, query, number);
            monitors.push((name, Rows::Range(first..series.len())));
        }
        Self {
            path: self.path,
            monitors,
            places: Vec::new(),
            test_interval: measured(&mut series.test_interval),
            max_round_trip: measured(&mut series.max_round_trip),
            metrics: query
                .metrics
                .iter()
                .map(|metric| (*metric, measured(&mut series.metrics[*metric as usize])))
                .collect(),
            started_at: series.started_at,
            outcome: series.outcome,
            excluded: known(series.excluded),
            provisional: known(series.provisional),
            stage: known(series.stage).map(Filled::of),
            error: known(series.error).map(Filled::of),
            smtp_reply_code: known(series.smtp_reply_code).map(Filled::of),
            unverified: known(series.unverified),
            hops: known(series.hops),
        }
    }

    /// Adds a monitor's rows to its series.
    pub(super) fn add_to(&self, series: &mut Series, query: &SeriesQuery, monitor: usize) {
        match self.rows(monitor) {
            None => {}
            Some(Rows::Range(rows)) => self.add(series, query, &Chosen::Range(rows.clone())),
            Some(Rows::Picked(rows)) => self.add(series, query, &Chosen::Picked(rows)),
        }
    }

    fn add(&self, series: &mut Series, query: &SeriesQuery, rows: &Chosen<'_>) {
        let before = series.len();
        rows.copy(&self.started_at, &mut series.started_at);
        rows.copy(&self.outcome, &mut series.outcome);
        rows.add(self.excluded.as_deref(), before, &mut series.excluded);
        rows.add(self.provisional.as_deref(), before, &mut series.provisional);
        for column in &query.columns {
            match column {
                Column::Stage => rows.add_filled(self.stage.as_ref(), before, &mut series.stage),
                Column::Error => rows.add_filled(self.error.as_ref(), before, &mut series.error),
                Column::SmtpReplyCode => {
                    rows.add_filled(self.smtp_reply_code.as_ref(), before, &mut series.smtp_reply_code);
                }
                Column::TestInterval => rows.durations(self.test_interval.as_ref(), before, &mut series.test_interval),
                Column::MaxRoundTrip => {
                    rows.durations(self.max_round_trip.as_ref(), before, &mut series.max_round_trip);
                }
                Column::Unverified => rows.add(self.unverified.as_deref(), before, &mut series.unverified),
                Column::Hops => rows.add(self.hops.as_deref(), before, &mut series.hops),
            }
        }
        for (metric, column) in &self.metrics {
            rows.durations(column.as_ref(), before, &mut series.metrics[*metric as usize]);
        }
    }
}

/// The rows that are added to a series.
enum Chosen<'a> {
    Range(Range<usize>),
    Picked(&'a [u32]),
}

impl Chosen<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Range(rows) => rows.len(),
            Self::Picked(rows) => rows.len(),
        }
    }

    fn copy<T: Clone>(&self, from: &[T], to: &mut Vec<T>) {
        match self {
            Self::Range(rows) => to.extend_from_slice(&from[rows.clone()]),
            Self::Picked(rows) => to.extend(rows.iter().map(|row| from[*row as usize].clone())),
        }
    }

    /// Adds rows of a column behind the `before` rows that there are. As long as nothing stands in any file, a column stays
    /// empty: it reads the same.
    fn add<T: Clone + Default>(&self, from: Option<&[T]>, before: usize, to: &mut Vec<T>) {
        match from {
            Some(from) => {
                to.resize(before, T::default());
                self.copy(from, to);
            }
            None if to.is_empty() => {}
            None => to.resize(before + self.len(), T::default()),
        }
    }

    /// As [`Chosen::add`], of a column of which most rows may have nothing.
    fn add_filled<T: Clone + Default>(&self, from: Option<&Filled<T>>, before: usize, to: &mut Vec<T>) {
        let few = match from {
            Some(Filled::All(all)) => return self.add(Some(all), before, to),
            Some(Filled::Few(few)) => few.as_slice(),
            None => return self.add(None, before, to),
        };
        to.resize(before + self.len(), T::default());
        match self {
            Self::Range(rows) => {
                let first = few.partition_point(|(row, _)| (*row as usize) < rows.start);
                let inside = few[first..].iter().take_while(|(row, _)| (*row as usize) < rows.end);
                for (row, value) in inside {
                    to[before + *row as usize - rows.start] = value.clone();
                }
            }
            Self::Picked(rows) => {
                for (place, row) in (before..).zip(*rows) {
                    if let Ok(found) = few.binary_search_by_key(row, |(row, _)| *row) {
                        to[place] = few[found].1.clone();
                    }
                }
            }
        }
    }

    fn durations(&self, from: Option<&Durations>, before: usize, to: &mut Durations) {
        if from.is_some() {
            to.push_nulls(before - to.len());
        }
        match (from, self) {
            (None, _) if to.is_empty() => {}
            (None, _) => to.push_nulls(self.len()),
            (Some(from), Self::Range(rows)) => to.append_rows(from, rows.clone()),
            (Some(from), Self::Picked(rows)) => rows.iter().for_each(|row| to.push(from.get(*row as usize))),
        }
    }
}

#[cfg(test)]
mod tests {
    use parquet::{
        data_type::{ByteArray, ByteArrayType, Int32Type},
        file::{properties::WriterProperties, statistics::ValueStatistics, writer::SerializedFileWriter},
        schema::parser::parse_message_type,
    };

    use super::*;

    /// The row groups of a file whose footer claims these bounds of its monitors.
    fn claimed(least: &str, greatest: &str) -> Vec<Group> {
        let schema =
            Arc::new(parse_message_type("message rows { required binary monitor (UTF8); }").expect("a schema"));
        let mut file = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::new(WriterProperties::new())).expect("one");
        let mut columns = writer.next_row_group().expect("a row group");
        let mut column = columns.next_column().expect("a column").expect("a column");
        let names = [ByteArray::from("a"), ByteArray::from("b")];
        column
            .typed::<ByteArrayType>()
            .write_batch(&names, None, None)
            .expect("values");
        column.close().expect("a column");
        columns.close().expect("a row group");
        let metadata = writer.close().expect("a file");
        let mut metadata = metadata.into_builder();
        let groups = metadata.take_row_groups().into_iter().map(|group| {
            let mut group = group.into_builder();
            let columns = group.take_columns().into_iter().map(|column| {
                let bound = |name: &str| Some(ByteArray::from(name));
                let bounds = ValueStatistics::new(bound(least), bound(greatest), None, Some(0), false);
                let column = column.into_builder().set_statistics(Statistics::ByteArray(bounds));
                column.build().expect("a column")
            });
            group.set_column_metadata(columns.collect()).build().expect("a group")
        });
        groups_of(&metadata.set_row_groups(groups.collect()).build())
    }

    #[test]
    fn a_date_is_no_moment() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("samples.parquet");
        let schema = "message rows { required binary monitor (UTF8); required int32 started_at (DATE);
            required binary outcome (UTF8); }";
        let schema = Arc::new(parse_message_type(schema).expect("a schema"));
        let file = File::create(&path).expect("a file");
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::new())).expect("one");
        let mut group = writer.next_row_group().expect("a row group");
        for word in ["m", "", "ok"] {
            let mut column = group.next_column().expect("a column").expect("a column");
            let written = if word.is_empty() {
                column.typed::<Int32Type>().write_batch(&[20_000], None, None)
            } else {
                let word = [ByteArray::from(word)];
                column.typed::<ByteArrayType>().write_batch(&word, None, None)
            };
            written.expect("a value");
            column.close().expect("a column");
        }
        group.close().expect("a row group");
        writer.close().expect("a file");
        let file = LakeFile {
            site: "here".into(),
            date: jiff::civil::date(2024, 10, 4),
            path,
        };
        let day = mailqos_model::UtcMicros(0)..mailqos_model::UtcMicros(1);
        let read = Part::read(&file, None, &SeriesQuery::new(day), &Wanted::default());
        assert!(matches!(read, Err(LakeError::Corrupt { .. })));
    }

    #[test]
    fn bounds_of_names_in_the_wrong_order_say_nothing() {
        let wanted = |name: &str| Wanted {
            names: [name.to_owned()].into(),
            ..Wanted::default()
        };
        let right = &claimed("a", "b")[0];
        assert!(wanted("a").may_be_in(right) && !wanted("c").may_be_in(right));
        assert!(wanted("a").may_be_in(&claimed("b", "a")[0]));
    }
}
