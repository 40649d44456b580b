//! Reads day files one row group at a time, whether this program wrote them or others wrote or
//! rewrote them (pyarrow, DuckDB, Spark), with any codec, page version, encoding, order and types.
//!
//! Three cases are distinguished: a *damaged* file, with bytes that no writer wrote; an intact file
//! that this program *can't decode* (encrypted, LZO); and an intact file that *contains no samples*
//! or is out of order. Only damaged files are ever replaced.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use jiff::civil::Date;
use mailqos_model::{Hop, Micros, SiteName, UtcMicros};
use parquet::{
    basic::{Compression, ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical},
    column::reader::ColumnReader,
    data_type::{ByteArray, FixedLenByteArray, Int96},
    errors::ParquetError,
    file::{
        reader::{ChunkReader, FileReader as _, RowGroupReader},
        serialized_reader::SerializedFileReader,
    },
    schema::types::{ColumnDescriptor, Type},
};

use super::{
    checksum::is_our_name,
    columns::{Cell, Column, Hold, Record},
    day_file::{DayWriter, Merged, SealedUpTo},
    day_path,
    error::{LakeError, POSITION_KEY, io_error, parquet_error},
};

/// The last bytes of a file with an encrypted footer, in place of `PAR1`.
const ENCRYPTED: [u8; 4] = *b"PARE";
/// Remedy for an encrypted file.
const DECRYPT: &str = "rewrite it without encryption, with the program that has its key; mailqos does not \
    change it";

/// Reads a day file, one row group at a time.
pub struct DayReader<R: Record, S: ChunkReader + 'static = File> {
    path: PathBuf,
    reader: SerializedFileReader<S>,
    group: usize,
    rows: std::vec::IntoIter<R>,
}

impl<R: Record> DayReader<R> {
    /// Opens the file; returns `None` if it does not exist.
    ///
    /// # Errors
    /// The file can't be read, is not a Parquet file, or can't be decoded by this program.
    pub fn open(path: &Path) -> Result<Option<Self>, LakeError> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(path)(error)),
        };
        let mut end = [0; 4];
        let has_end = file.seek(SeekFrom::End(-4)).is_ok() && file.read_exact(&mut end).is_ok();
        if has_end && end == ENCRYPTED {
            return Err(unsupported(path, format!("its footer is encrypted; {DECRYPT}")));
        }
        file.rewind().map_err(io_error(path))?;
        let reader =
            guarded(path, || SerializedFileReader::new(file).map_err(parquet_error(path)))?;
        Ok(Some(Self { path: path.to_owned(), reader, group: 0, rows: Vec::new().into_iter() }))
    }

    /// Returns the number of rows.
    pub fn row_count(&self) -> u64 {
        u64::try_from(self.reader.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Returns the journal position up to which records are contained, if a probe wrote the file.
    pub fn sealed(&self) -> Option<SealedUpTo> {
        let metadata = self.reader.metadata().file_metadata().key_value_metadata()?;
        let value = metadata.iter().find(|pair| pair.key == POSITION_KEY)?.value.as_ref()?;
        let (journal, position) = value.split_once(' ')?;
        Some(SealedUpTo { journal: journal.to_owned(), position: position.parse().ok()? })
    }

    /// Returns the name of the other program that wrote the file, or `None` if this program did.
    pub fn other_writer(&self) -> Option<&str> {
        let writer = self.reader.metadata().file_metadata().created_by()?;
        (!is_our_name(writer)).then_some(writer)
    }

    /// Returns the columns of the file that are unknown to this version.
    pub fn other_columns(&self) -> Vec<&str> {
        let fields = self.reader.metadata().file_metadata().schema().get_fields();
        let is_ours = |name: &str| R::columns().iter().any(|column| column.name == name);
        let names = fields.iter().map(|field| field.name());
        names.filter(|name| !is_ours(name)).collect()
    }

    #[cfg(test)]
    pub(super) fn file(&self) -> &SerializedFileReader<File> {
        &self.reader
    }
}

impl<R: Record, S: ChunkReader + 'static> DayReader<R, S> {
    fn next_group(&mut self) -> Result<bool, LakeError> {
        if self.group >= self.reader.num_row_groups() {
            return Ok(false);
        }
        self.rows = read_group::<R>(&self.path, &self.reader, self.group)?.into_iter();
        self.group += 1;
        Ok(true)
    }
}

impl<R: Record, S: ChunkReader + 'static> Iterator for DayReader<R, S> {
    type Item = Result<R, LakeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.rows.next() {
                return Some(Ok(row));
            }
            match self.next_group() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.group = usize::MAX;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// Reads all rows of a day file in file order. Returns no rows if the file does not exist.
///
/// # Errors
/// The file can't be read.
pub fn read_day<R: Record>(path: &Path) -> Result<Vec<R>, LakeError> {
    match DayReader::open(path)? {
        Some(reader) => reader.collect(),
        None => Ok(Vec::new()),
    }
}

/// Reads all rows of a day file whose bytes are in memory, in file order. `path` is its name in
/// errors.
///
/// # Errors
/// They are not those of a day file, or can't be decoded by this program.
pub fn read_day_bytes<R: Record>(path: &Path, bytes: Bytes) -> Result<Vec<R>, LakeError> {
    if bytes.ends_with(&ENCRYPTED) {
        return Err(unsupported(path, format!("its footer is encrypted; {DECRYPT}")));
    }
    let reader = guarded(path, || SerializedFileReader::new(bytes).map_err(parquet_error(path)))?;
    DayReader { path: path.to_owned(), reader, group: 0, rows: Vec::new().into_iter() }.collect()
}

/// Reads all rows of a day file in the order of their keys and without duplicates, however the file
/// was written. Returns no rows if the file does not exist.
///
/// # Errors
/// The file can't be read.
pub fn read_sorted<R: Record>(path: &Path) -> Result<Vec<R>, LakeError> {
    Ok(sorted(read_day(path)?))
}

/// Sorts rows by their keys. Of several rows with the same key, keeps the last one that replaces
/// those before it.
fn sorted<R: Record>(mut rows: Vec<R>) -> Vec<R> {
    if rows.is_sorted_by(|a, b| a.key() < b.key()) {
        return rows;
    }
    rows.sort_by(|a, b| a.key().cmp(&b.key()));
    let mut kept: Vec<R> = Vec::with_capacity(rows.len());
    for row in rows {
        match kept.last_mut() {
            Some(last) if last.key() == row.key() => {
                if row.replaces(last) {
                    *last = row;
                }
            }
            _ => kept.push(row),
        }
    }
    kept
}

/// Iterates over the rows of a day file in the order of their keys and without duplicates: one row
/// group at a time if this program wrote the file, otherwise all together. Returns `None` if the
/// file does not exist.
///
/// # Errors
/// The file can't be read.
pub fn open_sorted<R: Record>(
    path: &Path,
) -> Result<Box<dyn Iterator<Item = Result<R, LakeError>>>, LakeError> {
    Ok(match DayReader::<R>::open(path)? {
        None => Box::new(std::iter::empty()),
        Some(reader) if reader.other_writer().is_none() => Box::new(reader),
        Some(reader) => {
            Box::new(sorted(reader.collect::<Result<Vec<R>, _>>()?).into_iter().map(Ok))
        }
    })
}

/// Replaces a site's day file by one that contains only these rows, in any order. Returns the
/// number of its rows.
///
/// # Errors
/// The day file can't be written; an existing one is unchanged.
pub fn rewrite_day<R: Record>(
    data: &Path,
    site: &SiteName,
    date: Date,
    rows: Vec<R>,
    sealed: Option<&SealedUpTo>,
) -> Result<u64, LakeError> {
    let mut writer = DayWriter::create(data, site, date)?;
    for row in sorted(rows) {
        writer.push(row)?;
    }
    writer.publish(sealed)
}

/// Merges sorted rows without duplicates into a site's day file and replaces it. The existing file
/// may be in any order. Returns the resulting number of rows.
///
/// # Errors
/// The day file can't be read or written, and is unchanged.
pub fn merge_into_day<R: Record>(
    data: &Path,
    site: &SiteName,
    date: Date,
    later: Vec<R>,
    sealed: Option<&SealedUpTo>,
) -> Result<u64, LakeError> {
    let path = day_path::<R>(data, site, date);
    let write = |earlier: &mut dyn Iterator<Item = Result<R, LakeError>>, later: Vec<R>| {
        let mut writer = DayWriter::create(data, site, date)?;
        for row in Merged::new(earlier, later.into_iter()) {
            writer.push(row?)?;
        }
        writer.publish(sealed)
    };
    let Some(mut earlier) = DayReader::<R>::open(&path)? else {
        return write(&mut std::iter::empty(), later);
    };
    if earlier.other_writer().is_none() {
        match write(&mut earlier, later.clone()) {
            // Another version may have sorted differently; the slower method accepts any order.
            Err(LakeError::Order { .. }) => {}
            written => return written,
        }
    }
    write(&mut read_sorted::<R>(&path)?.into_iter().map(Ok), later)
}

/// The readable rows, and the number of unreadable ones.
pub type Salvaged<R> = (Vec<R>, u64);

/// Reads the readable rows of a day file, in no particular order, and counts the others.
///
/// # Errors
/// Nothing can be read, because the Parquet footer is missing or damaged.
pub fn salvage<R: Record>(path: &Path) -> Result<Salvaged<R>, LakeError> {
    let Some(reader) = DayReader::<R>::open(path)? else {
        return Ok((Vec::new(), 0));
    };
    let (mut rows, mut lost) = (Vec::new(), 0);
    for index in 0..reader.reader.num_row_groups() {
        let count = reader.reader.metadata().row_group(index).num_rows();
        match read_group::<R>(path, &reader.reader, index) {
            Ok(found) => rows.extend(found),
            Err(_) => lost += u64::try_from(count).unwrap_or(0),
        }
    }
    Ok((rows, lost))
}

fn unsupported(path: &Path, reason: String) -> LakeError {
    LakeError::Unsupported { path: path.to_owned(), reason }
}

fn damaged(path: &Path, reason: &str) -> LakeError {
    parquet_error(path)(ParquetError::General(reason.to_owned()))
}

/// Catches panics of the decoder, which may occur on corrupt bytes.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, LakeError>) -> Result<T, LakeError> {
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
    match read.unwrap_or_else(|_| Err(damaged(path, "it is damaged and can't be decoded"))) {
        Err(LakeError::Parquet { path, source: ParquetError::NYI(reason) }) => {
            Err(LakeError::Unsupported { path, reason })
        }
        read => read,
    }
}

fn read_group<R: Record>(
    path: &Path,
    reader: &SerializedFileReader<impl ChunkReader + 'static>,
    index: usize,
) -> Result<Vec<R>, LakeError> {
    guarded(path, || {
        let group = reader.get_row_group(index).map_err(parquet_error(path))?;
        let root = reader.metadata().file_metadata().schema();
        decode_group(path, group.as_ref(), root)
    })
}

fn decode_group<R: Record>(
    path: &Path,
    group: &dyn RowGroupReader,
    root: &Type,
) -> Result<Vec<R>, LakeError> {
    let count = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
    let mut rows = Vec::new();
    if count == 0 {
        return Ok(rows);
    }
    // Columns that this file lacks stay null; columns that only this file has are ignored.
    let mut leaves: HashMap<String, usize> = HashMap::new();
    for (index, column) in group.metadata().columns().iter().enumerate() {
        leaves.insert(column.column_path().string(), index);
    }
    for column in R::columns() {
        let error = |reason: String| LakeError::Column {
            path: path.to_owned(),
            column: column.name.to_owned(),
            reason,
        };
        let cells = if column.holds == Hold::Hops {
            read_hops(path, group, root, column.name, count)?
        } else {
            match leaves.get(column.name) {
                Some(&leaf) => Some(read_column(path, group, leaf, (column.holds, count))?.0),
                None if column.required => return Err(error("the column is missing".into())),
                None => None,
            }
        };
        let Some(cells) = cells else { continue };
        if cells.len() != count {
            let reason = format!("column {} has {} rows, not {count}", column.name, cells.len());
            return Err(damaged(path, &reason));
        }
        // Allocated only now, because the row count of a damaged file is unreliable.
        rows.resize(count, R::blank());
        set_all(column, &mut rows, cells).map_err(error)?;
    }
    Ok(rows)
}

fn set_all<R>(column: &Column<R>, rows: &mut [R], cells: Vec<Cell>) -> Result<(), String> {
    for (row, cell) in rows.iter_mut().zip(cells) {
        (column.set)(row, cell)?;
    }
    Ok(())
}

type Levels = (Vec<i16>, Vec<i16>);

/// How the values of a leaf are interpreted.
struct Form {
    holds: Hold,
    /// Ratio of the file's unit to a microsecond.
    unit: TimeUnit,
    /// Whether integers are unsigned.
    unsigned: bool,
}

impl Form {
    /// Returns how values of a leaf are converted to those of a column, or why they can't be.
    fn of(holds: Hold, leaf: &ColumnDescriptor) -> Result<Self, String> {
        let mut form = Self { holds, unit: TimeUnit::MICROS, unsigned: false };
        match (leaf.logical_type_ref(), leaf.converted_type()) {
            (Some(LogicalType::Timestamp(kind)), _) => form.unit = kind.unit,
            (None, ConvertedType::TIMESTAMP_MILLIS) => form.unit = TimeUnit::MILLIS,
            (Some(LogicalType::Integer(kind)), _) => form.unsigned = !kind.is_signed,
            (Some(LogicalType::Date | LogicalType::Time(_) | LogicalType::Decimal(_)), _) => {
                return Err("it contains dates, times of day or decimals".to_owned());
            }
            (None, ConvertedType::DATE | ConvertedType::DECIMAL) => {
                return Err("it contains dates or decimals".to_owned());
            }
            _ => {}
        }
        let fits = match (holds, leaf.physical_type()) {
            (_, Physical::INT96) => holds == Hold::Timestamp,
            (Hold::Word, Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY) => true,
            (Hold::Timestamp, physical) => physical == Physical::INT64,
            (Hold::Long | Hold::Int | Hold::Real, physical) => !matches!(
                physical,
                Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY | Physical::BOOLEAN
            ),
            (Hold::Bool, physical) => matches!(physical, Physical::BOOLEAN | Physical::INT32),
            _ => false,
        };
        if fits {
            return Ok(form);
        }
        let expected = match holds {
            Hold::Word | Hold::Hops => "text",
            Hold::Timestamp => "moments",
            Hold::Long | Hold::Int => "whole numbers",
            Hold::Real => "numbers",
            Hold::Bool => "booleans",
        };
        Err(format!("it contains {:?}, not {expected}", leaf.physical_type()))
    }

    fn int(&self, value: i64) -> Cell {
        match self.holds {
            Hold::Timestamp => Cell::Int(match self.unit {
                TimeUnit::MILLIS => value.saturating_mul(1_000),
                TimeUnit::MICROS => value,
                TimeUnit::NANOS => value.div_euclid(1_000),
            }),
            Hold::Bool => Cell::Bool(value != 0),
            Hold::Real => Cell::Real(value as f64),
            _ => Cell::Int(value),
        }
    }

    /// Converts a floating-point number. pandas has no null among integers: it converts them to
    /// floating-point numbers, and nulls to NaN.
    fn real(&self, value: f64) -> Cell {
        match self.holds {
            Hold::Real => Cell::Real(value),
            _ if value.is_nan() => Cell::Null,
            _ => Cell::Int(value as i64),
        }
    }
}

/// Reads a leaf column's cells, including nulls, and its levels.
fn read_column(
    path: &Path,
    group: &dyn RowGroupReader,
    leaf: usize,
    (holds, count): (Hold, usize),
) -> Result<(Vec<Cell>, Levels), LakeError> {
    let chunk = group.metadata().column(leaf);
    let name = chunk.column_path().string();
    if chunk.crypto_metadata().is_some() {
        return Err(unsupported(path, format!("column {name} is encrypted; {DECRYPT}")));
    }
    if chunk.compression() == Compression::LZO {
        let reason = format!(
            "column {name} is compressed with LZO; rewrite it with another codec, such as zstd"
        );
        return Err(unsupported(path, reason));
    }
    let form = Form::of(holds, chunk.column_descr()).map_err(|reason| LakeError::Column {
        path: path.to_owned(),
        column: name.clone(),
        reason,
    })?;
    let maximum = chunk.column_descr().max_def_level();
    let (mut definitions, mut repetitions) = (Vec::new(), Vec::new());
    let reader = group.get_column_reader(leaf).map_err(parquet_error(path))?;
    macro_rules! read {
        ($reader:expr, $cell:expr) => {{
            let mut reader = $reader;
            let mut values = Vec::new();
            let mut done = 0;
            while done < count {
                let (records, _, _) = reader
                    .read_records(
                        count - done,
                        Some(&mut definitions),
                        Some(&mut repetitions),
                        &mut values,
                    )
                    .map_err(parquet_error(path))?;
                if records == 0 {
                    return Err(damaged(path, &format!("column {name} ends early")));
                }
                done += records;
            }
            values.into_iter().map($cell).collect::<Vec<Cell>>()
        }};
    }
    let text = |bytes: &[u8]| Cell::Text(String::from_utf8_lossy(bytes).into_owned());
    let values = match reader {
        ColumnReader::Int64ColumnReader(reader) => read!(reader, |value: i64| form.int(value)),
        ColumnReader::Int32ColumnReader(reader) if form.unsigned => {
            read!(reader, |value: i32| form.int(i64::from(value as u32)))
        }
        ColumnReader::Int32ColumnReader(reader) => {
            read!(reader, |value: i32| form.int(i64::from(value)))
        }
        ColumnReader::Int96ColumnReader(reader) => {
            read!(reader, |value: Int96| Cell::Int(value.to_micros()))
        }
        ColumnReader::BoolColumnReader(reader) => read!(reader, Cell::Bool),
        ColumnReader::DoubleColumnReader(reader) => read!(reader, |value: f64| form.real(value)),
        ColumnReader::FloatColumnReader(reader) => {
            read!(reader, |value: f32| form.real(f64::from(value)))
        }
        ColumnReader::ByteArrayColumnReader(reader) => {
            read!(reader, |value: ByteArray| text(value.data()))
        }
        ColumnReader::FixedLenByteArrayColumnReader(reader) => {
            read!(reader, |value: FixedLenByteArray| text(value.data()))
        }
    };
    if maximum == 0 {
        return Ok((values, (definitions, repetitions)));
    }
    let mut values = values.into_iter();
    let cells = definitions
        .iter()
        .map(
            |level| {
                if *level == maximum { values.next().unwrap_or(Cell::Null) } else { Cell::Null }
            },
        )
        .collect();
    Ok((cells, (definitions, repetitions)))
}

/// Returns the leaves of the list of hops: the number and descriptor of each field. Writers name
/// the levels in between differently: `list.element`, `list.item`, `bag.array_element`, `array`.
fn hop_leaves(group: &dyn RowGroupReader, name: &str) -> HashMap<String, usize> {
    let columns = group.metadata().columns().iter().enumerate();
    let found = columns.filter_map(|(index, column)| {
        let parts = column.column_path().parts();
        let is_field =
            parts.len() >= 3 && parts[0] == name && column.column_descr().max_rep_level() == 1;
        is_field.then(|| Some((parts.last()?.clone(), index)))?
    });
    found.collect()
}

/// Returns the definition level from which a list has an element, by the schema: one more for each
/// optional and repeated node down to the repeated one.
fn element_level(root: &Type, path: &[String]) -> Option<i16> {
    let mut fields = root.get_fields();
    let mut level = 0;
    for part in path {
        let node = fields.iter().find(|field| field.name() == part)?;
        match node.get_basic_info().repetition() {
            Repetition::REQUIRED => {}
            Repetition::OPTIONAL => level += 1,
            Repetition::REPEATED => return Some(level + 1),
        }
        fields = if node.is_group() {
            node.get_fields()
        } else {
            return None;
        };
    }
    None
}

/// Reads the hops of each row. Returns no hops if the file has none, or none in a form that this
/// version supports.
fn read_hops(
    path: &Path,
    group: &dyn RowGroupReader,
    root: &Type,
    name: &str,
    count: usize,
) -> Result<Option<Vec<Cell>>, LakeError> {
    let leaves = hop_leaves(group, name);
    let Some(first) = leaves.get("by").copied() else {
        return Ok(None);
    };
    let Some(element) = element_level(root, group.metadata().column(first).column_path().parts())
    else {
        return Ok(None);
    };
    let (by, (definitions, repetitions)) = read_column(path, group, first, (Hold::Word, count))?;
    let mut fields = Vec::new();
    for (field, holds) in [
        ("from", Hold::Word),
        ("at", Hold::Timestamp),
        ("delay_us", Hold::Long),
        ("clock_suspect", Hold::Bool),
    ] {
        fields.push(match leaves.get(field) {
            Some(leaf) => read_column(path, group, *leaf, (holds, count))?.0.into_iter(),
            None => Vec::new().into_iter(),
        });
    }
    let mut rows: Vec<Cell> = Vec::new();
    for ((by, definition), repetition) in by.into_iter().zip(definitions).zip(repetitions) {
        let others: Vec<Cell> =
            fields.iter_mut().map(|field| field.next().unwrap_or(Cell::Null)).collect();
        if definition < element - 1 {
            rows.push(Cell::Null);
            continue;
        }
        if repetition == 0 {
            rows.push(Cell::Hops(Vec::new()));
        }
        if definition < element {
            continue;
        }
        let text = |cell: &Cell| match cell {
            Cell::Text(text) => Some(text.clone()),
            _ => None,
        };
        let int = |cell: Option<&Cell>| match cell {
            Some(Cell::Int(value)) => Some(*value),
            _ => None,
        };
        if let Some(Cell::Hops(hops)) = rows.last_mut() {
            hops.push(Hop {
                by: text(&by),
                from: others.first().and_then(text),
                at: int(others.get(1)).map(UtcMicros),
                delay: int(others.get(2)).map(Micros),
                clock_suspect: others.get(3) == Some(&Cell::Bool(true)),
            });
        }
    }
    Ok(Some(rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Intact, intact};
    use mailqos_model::{Outcome, Sample};

    const MINUTE: i64 = 60_000_000;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lakes/foreign")
    }

    /// Returns the samples that `make.py` writes.
    fn expected() -> Vec<Sample> {
        let own = folder().with_file_name("columns-2").join("samples.parquet");
        let base = read_day::<Sample>(&own).expect("our own file");
        let first = base[0].started_at;
        let hop = |by: Option<&str>, from: Option<&str>| Hop {
            by: by.map(str::to_owned),
            from: from.map(str::to_owned),
            at: None,
            delay: None,
            clock_suspect: by.is_none(),
        };
        let samples = (0..12).map(|index: i64| {
            let mut sample = base[usize::try_from(index % 2).expect("a number")].clone();
            sample.monitor = format!("m{}", index / 6).parse().expect("a name");
            sample.started_at = first + Micros(index % 6 * MINUTE);
            sample.hops = match index % 3 {
                0 => {
                    let mut hops = vec![hop(Some("a.example.com"), None), hop(None, Some("b"))];
                    (hops[0].at, hops[0].delay) =
                        (Some(sample.started_at), Some(Micros(5 * index)));
                    Some(hops)
                }
                1 => Some(Vec::new()),
                _ => None,
            };
            sample
        });
        samples.collect()
    }

    fn files() -> Vec<(String, PathBuf)> {
        let entries = std::fs::read_dir(folder()).expect("a folder");
        let files = entries.map(|entry| entry.expect("an entry").path());
        let parquet =
            files.filter(|path| path.extension().is_some_and(|ending| ending == "parquet"));
        parquet
            .map(|path| (path.file_stem().expect("a name").to_string_lossy().into_owned(), path))
            .collect()
    }

    #[test]
    fn files_of_pyarrow_duckdb_pandas_and_polars_are_read() {
        let expected = expected();
        let mut tried = 0;
        for (name, path) in files() {
            match name.as_str() {
                "encrypted-footer" | "encrypted-columns" => continue,
                "empty" => assert_eq!(read_sorted::<Sample>(&path).expect("read"), []),
                "pandas-floats" => {
                    let short = |sample: &Sample| {
                        (
                            sample.monitor.clone(),
                            sample.started_at,
                            sample.outcome,
                            sample.round_trip,
                        )
                    };
                    let found: Vec<_> =
                        read_sorted::<Sample>(&path).expect("read").iter().map(short).collect();
                    assert_eq!(found, expected.iter().map(short).collect::<Vec<_>>());
                }
                _ => {
                    let found = read_sorted::<Sample>(&path)
                        .unwrap_or_else(|error| panic!("{name}: {error}"));
                    assert_eq!(found, expected, "{name}");
                }
            }
            let reader = DayReader::<Sample>::open(&path).expect("open").expect("there");
            assert!(reader.other_writer().is_some(), "{name}");
            assert_eq!(intact(&path).expect("read"), Intact::Foreign, "{name}");
            tried += 1;
        }
        assert!(tried >= 24, "{tried} files");
    }

    #[test]
    fn an_encrypted_file_is_reported_and_does_not_count_as_damaged() {
        for name in ["encrypted-footer", "encrypted-columns"] {
            let path = folder().join(format!("{name}.parquet"));
            let error = read_day::<Sample>(&path).expect_err("nobody has the key");
            assert!(matches!(error, LakeError::Unsupported { .. }), "{name}: {error}");
            assert!(
                !error.is_damage_of(&path) && error.to_string().contains("encrypt"),
                "{name}: {error}"
            );
        }
    }

    #[test]
    fn a_day_of_another_program_continues_with_all_its_rows() {
        let site: SiteName = "here".parse().expect("a name");
        let all = expected();
        let mut new = Sample::new(
            "m1".parse().expect("a name"),
            all[0].started_at + Micros(30 * MINUTE),
            Outcome::Ok,
        );
        new.round_trip = Some(Micros(1));
        for (name, path) in files() {
            let data = tempfile::tempdir().expect("a folder");
            let day = day_path::<Sample>(data.path(), &site, new.started_at.utc_date());
            std::fs::create_dir_all(day.parent().expect("a folder")).expect("a folder");
            std::fs::copy(&path, &day).expect("a copy");
            let merge = || {
                merge_into_day(
                    data.path(),
                    &site,
                    new.started_at.utc_date(),
                    vec![new.clone()],
                    None,
                )
            };
            if name.starts_with("encrypted") {
                merge().expect_err("nobody has the key");
                assert_eq!(
                    std::fs::read(&day).expect("read"),
                    std::fs::read(&path).expect("read"),
                    "{name}"
                );
                continue;
            }
            let before = read_sorted::<Sample>(&path).expect("read");
            assert_eq!(merge().expect("merged"), before.len() as u64 + 1, "{name}");
            let after = read_day::<Sample>(&day).expect("read");
            assert_eq!(after[..before.len()], before, "{name}");
            assert_eq!(after.last(), Some(&new), "{name}");
            assert_eq!(intact(&day).expect("read"), Intact::Yes, "{name}");
        }
    }

    #[test]
    fn the_settled_row_of_a_key_is_kept() {
        let mut provisional = expected().remove(0);
        provisional.settled = Some(false);
        let settled = Sample { settled: Some(true), ..provisional.clone() };
        for rows in [[&provisional, &settled], [&settled, &provisional]] {
            assert!(sorted(rows.map(Clone::clone).to_vec()) == vec![settled.clone()]);
        }
    }
}
