//! Columns of one day file. Columns in the probe's encoding use our own decoder, all others polars.

use std::{
    collections::BTreeMap,
    fs::File,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use mailqos_lake::{Hold, LakeError, Record as _, io_error};
use mailqos_model::Sample;
use polars::io::mmap::MmapBytesReader;
use polars::prelude::{
    BooleanChunked, ChunkApply as _, Column as Frame, DataFrame, DataType, Int64Chunked,
    ParallelStrategy, ParquetReader, PolarsError, PolarsResult, SerReader as _, StringChunked,
    TimeUnit,
};

use super::{
    decoder::{Coded, Columns, Words},
    durations::Durations,
    footer::{Footer, Wanted, all_null, encrypted, groups_of, guarded},
    object::{LakeFile, corrupt, renewed},
    source::{Blocks, Source, is_of},
};

/// Columns of some row groups of a file. Columns in the probe's encoding use our own decoder, all
/// others polars.
pub(crate) struct Decoded {
    durations: BTreeMap<String, Durations>,
    moments: BTreeMap<String, Vec<i64>>,
    words: BTreeMap<String, Words>,
    codes: BTreeMap<String, Coded<i32>>,
    pub(crate) frame: DataFrame,
}

/// What a column is decoded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Durations,
    Moments,
    Words,
    Codes,
    /// Polars' own representation.
    Any,
}

impl Form {
    /// Returns the form of a column, by its type in the table of columns.
    fn of(name: &str) -> Self {
        let column = Sample::columns().iter().find(|column| column.name == name);
        match column.map(|column| column.holds) {
            Some(Hold::Word) => Self::Words,
            Some(Hold::Timestamp) => Self::Moments,
            Some(Hold::Long) => Self::Durations,
            Some(Hold::Int) => Self::Codes,
            Some(Hold::Bool | Hold::Real | Hold::Hops) | None => Self::Any,
        }
    }
}

/// Decodes columns that the file has, in the row groups that a query needs; `None` if there are no
/// such row groups. `known` is the footer, if it has been read.
pub(crate) fn decode(
    file: &LakeFile,
    known: Option<&Footer>,
    columns: &[&str],
    wanted: &Wanted,
) -> Result<Option<Decoded>, LakeError> {
    renewed(file, || decode_once(file, known, columns, wanted))
}

fn decode_once(
    file: &LakeFile,
    known: Option<&Footer>,
    columns: &[&str],
    wanted: &Wanted,
) -> Result<Option<Decoded>, LakeError> {
    let mut source = Source::open(file)?;
    let read;
    let footer = match known {
        Some(known) if known.of.is_some() && known.of == source.identity() => known,
        _ => {
            read = Footer::read(file, &source)?;
            &read
        }
    };
    let metadata = &footer.metadata;
    let groups = groups_of(metadata);
    let needed: Vec<bool> = groups.iter().map(|group| wanted.may_be_in(group)).collect();
    let kept = || groups.iter().zip(&needed).filter_map(|(group, needed)| needed.then_some(group));
    if !groups.is_empty() && kept().map(|group| group.rows).sum::<usize>() == 0 {
        return Ok(None);
    }
    let locked = |name: &str| {
        let chunks = metadata.row_groups().iter().flat_map(|group| group.columns());
        chunks.filter(|chunk| is_of(chunk, name)).any(|chunk| chunk.crypto_metadata().is_some())
    };
    if let Some(name) = columns.iter().find(|name| locked(name)) {
        return Err(encrypted(file, &format!("column {name}")));
    }
    let nothing_but_nulls = |name: &str| {
        let mut kept = metadata.row_groups().iter().zip(&needed).filter(|(_, needed)| **needed);
        kept.all(|(group, _)| {
            let mut leaves = group.columns().iter().filter(|chunk| is_of(chunk, name));
            leaves.all(all_null)
        })
    };
    let says_nothing = |name: &str| match name {
        "monitor" | "started_at" | "outcome" => false,
        "settled" => kept().all(|group| group.all_settled),
        "tls_unverified" => kept().all(|group| group.all_verified),
        name => nothing_but_nulls(name),
    };
    let columns: Vec<&str> = columns.iter().copied().filter(|name| !says_nothing(name)).collect();
    source.load(file, metadata, &needed, &columns)?;
    let blocks = source.blocks();
    let own = Columns::new(source, metadata, &needed);
    let mut decoded = Decoded {
        durations: BTreeMap::new(),
        moments: BTreeMap::new(),
        words: BTreeMap::new(),
        codes: BTreeMap::new(),
        frame: DataFrame::empty(),
    };
    // A damaged footer may claim any number of rows. Nulls and repeated words take no space in a
    // file, but timestamps do, so nothing is decoded here unless the timestamps can be.
    let mut trusted = true;
    if columns.contains(&"started_at") {
        match catch_unwind(AssertUnwindSafe(|| own.moments("started_at"))) {
            Ok(Some(values)) => drop(decoded.moments.insert("started_at".to_owned(), values)),
            _ => trusted = false,
        }
    }
    let mut rest = Vec::new();
    for name in &columns {
        if (*name == "started_at" && trusted) || !own.has(name) {
            continue;
        }
        // Columns that it can't decode, because of damage for example, are left to polars, which
        // decodes them or reports the error.
        let done = catch_unwind(AssertUnwindSafe(|| {
            let name = (*name).to_owned();
            match Form::of(&name) {
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
        decoded.frame = remaining(file, blocks, rest, &needed)?;
        if decoded.frame.height() != own.rows() {
            return Err(corrupt(file, "its columns differ in length"));
        }
    }
    Ok(Some(decoded))
}

/// Decodes columns with polars.
fn remaining(
    file: &LakeFile,
    blocks: Option<Blocks>,
    columns: Vec<String>,
    needed: &[bool],
) -> Result<DataFrame, LakeError> {
    let Some(blocks) = blocks else {
        let source = File::open(&file.path).map_err(io_error(&file.path))?;
        return guarded(file, "it", || by_polars(source, columns, needed));
    };
    guarded(file, "it", || by_polars(blocks.filled(), columns, needed))
}

fn by_polars(
    source: impl MmapBytesReader,
    columns: Vec<String>,
    needed: &[bool],
) -> PolarsResult<DataFrame> {
    let mut reader = ParquetReader::new(source);
    // Some writers record their own in-memory types (dictionaries, large strings). Only the stored
    // type matters.
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

/// Returns a column as text, if the file has it.
fn text(frame: &DataFrame, name: &str) -> PolarsResult<Option<StringChunked>> {
    let Ok(column) = frame.column(name) else {
        return Ok(None);
    };
    Ok(Some(column.cast(&DataType::String)?.str()?.clone()))
}

/// Returns a column as integers, if the file has it.
fn integers(frame: &DataFrame, name: &str) -> PolarsResult<Option<Int64Chunked>> {
    let Ok(column) = frame.column(name) else {
        return Ok(None);
    };
    let numbers = match column.dtype() {
        // pandas has no null among integers: it converts them to floats, and nulls to NaN.
        kind if kind.is_float() => column.cast(&DataType::Int64)?,
        kind if kind.is_integer() || *kind == DataType::Null => {
            column.strict_cast(&DataType::Int64)?
        }
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

pub(crate) fn booleans(frame: &DataFrame, name: &str) -> PolarsResult<Option<BooleanChunked>> {
    let Ok(column) = frame.column(name) else {
        return Ok(None);
    };
    Ok(Some(column.cast(&DataType::Boolean)?.bool()?.clone()))
}

/// Returns a column of timestamps in microseconds.
fn moments(column: &Frame) -> PolarsResult<Int64Chunked> {
    if let kind @ (DataType::Date | DataType::Time | DataType::Duration(_)) = column.dtype() {
        let reason = format!("column {:?} contains {kind} values, not timestamps", column.name());
        return Err(PolarsError::SchemaMismatch(reason.into()));
    }
    let physical = column.to_physical_repr().cast(&DataType::Int64)?;
    let values = physical.i64()?;
    Ok(match column.dtype() {
        DataType::Datetime(TimeUnit::Nanoseconds, _) => {
            values.apply_values(|at| at.div_euclid(1000))
        }
        DataType::Datetime(TimeUnit::Milliseconds, _) => {
            values.apply_values(|at| at.saturating_mul(1000))
        }
        _ => values.clone(),
    })
}

/// A decoded text column.
pub(crate) enum Text {
    Words(Words),
    Strings(StringChunked),
}

impl Text {
    /// Calls `each` with every run of equal values, in order; returns `false` at a null.
    pub(crate) fn stretches(&self, mut each: impl FnMut(&str, Range<usize>)) -> bool {
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
                    // Equal views are equal values, but unequal views may be equal values in
                    // different places.
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

    /// Maps the value of each row.
    pub(crate) fn each<T: Clone>(&self, of: impl Fn(Option<&str>) -> T) -> Vec<T> {
        match self {
            Self::Words(words) => words.each(|word| of(word.map(String::as_str))),
            Self::Strings(column) => column.iter().map(of).collect(),
        }
    }

    pub(crate) fn all_null(&self) -> bool {
        match self {
            Self::Words(words) => words.all_null(),
            Self::Strings(column) => column.null_count() == column.len(),
        }
    }
}

impl Decoded {
    /// Returns a text column, if the file has it.
    pub(crate) fn text(&mut self, name: &str) -> PolarsResult<Option<Text>> {
        match self.words.remove(name) {
            Some(words) => Ok(Some(Text::Words(words))),
            None => Ok(text(&self.frame, name)?.map(Text::Strings)),
        }
    }

    /// Returns a column of durations, if the file has it.
    pub(crate) fn durations(&mut self, name: &str) -> PolarsResult<Option<Durations>> {
        match self.durations.remove(name) {
            Some(durations) => Ok(Some(durations)),
            None => durations(&self.frame, name),
        }
    }

    /// Returns a copy of a column of durations, if the file has it.
    pub(crate) fn copied_durations(&self, name: &str) -> PolarsResult<Option<Durations>> {
        match self.durations.get(name) {
            Some(durations) => Ok(Some(durations.clone())),
            None => durations(&self.frame, name),
        }
    }

    /// Returns a column of 32-bit integers, if the file has it; larger values become null.
    pub(crate) fn codes(&mut self, name: &str) -> PolarsResult<Option<Vec<Option<i32>>>> {
        match self.codes.remove(name) {
            Some(codes) => Ok(Some(codes.each(|code| code.copied()))),
            None => Ok(integers(&self.frame, name)?.map(|column| {
                let code = |code: Option<i64>| code.and_then(|code| i32::try_from(code).ok());
                column.iter().map(code).collect()
            })),
        }
    }

    /// Returns a column of scores, if the file has it; values that are not finite become null.
    pub(crate) fn reals(&self, name: &str) -> PolarsResult<Option<Vec<Option<f64>>>> {
        let Ok(column) = self.frame.column(name) else {
            return Ok(None);
        };
        let column = column.cast(&DataType::Float64)?;
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
        Ok(Some(column.f64()?.iter().map(finite).collect()))
    }

    /// Returns a column of timestamps, if the file has it.
    pub(crate) fn nullable_moments(&self, name: &str) -> PolarsResult<Option<Vec<Option<i64>>>> {
        let Ok(column) = self.frame.column(name) else {
            return Ok(None);
        };
        Ok(Some(moments(column)?.iter().collect()))
    }

    /// Returns a column of timestamps without nulls, if the file has it; `Err(None)` if it has a
    /// null.
    pub(crate) fn moments(&mut self, name: &str) -> Result<Option<Vec<i64>>, Option<PolarsError>> {
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
