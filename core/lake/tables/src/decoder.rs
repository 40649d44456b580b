//! Decodes columns of day files in the encodings that the probe writes, directly into the form that
//! figures use: integers from DELTA_BINARY_PACKED, text from dictionaries.
//!
//! Why not polars alone: it decodes into columns of eight bytes a value, which were then copied
//! into those of figures. For a year of 21 million samples, that took 2.94 s and 964 MB; since each
//! value is touched once, and row groups end at a monitor's end, it takes 2.11 s and 477 MB. By
//! day, 4.74 s and 1,098 MB became 3.91 s and 615 MB. DuckDB took three times as long (measured by
//! `tests/bench/speed.py` at commit 5420fb9).
//!
//! Columns of any other shape, from other writers, are refused here (`None`) and left to polars,
//! which reads all of them and reports what is wrong with damaged ones. The format:
//! <https://parquet.apache.org/docs/file-format/data-pages/encodings/>.

use std::sync::Arc;

use parquet::{
    basic::{ConvertedType, Encoding, LogicalType, Repetition, TimeUnit, Type},
    column::page::Page,
    file::{
        metadata::{ParquetMetaData, RowGroupMetaData},
        properties::{ReaderProperties, ReaderPropertiesPtr},
        reader::RowGroupReader as _,
        serialized_reader::SerializedRowGroupReader,
    },
    schema::types::ColumnDescriptor,
};

use super::{durations::Durations, source::Source};

/// Most rows that are allocated in advance: a damaged footer may claim any number.
const ROOM: usize = 1 << 20;
/// Marks null among the values of a column.
const NOTHING: u32 = u32::MAX;

/// Some row groups of a file.
pub(crate) struct Columns<'a> {
    file: Arc<Source>,
    metadata: &'a ParquetMetaData,
    properties: ReaderPropertiesPtr,
    groups: Vec<usize>,
    rows: usize,
}

impl<'a> Columns<'a> {
    /// Selects the row groups of a file that are marked as needed, one mark for each group.
    pub(crate) fn new(file: Source, metadata: &'a ParquetMetaData, needed: &[bool]) -> Self {
        let groups: Vec<usize> = (0..needed.len()).filter(|group| needed[*group]).collect();
        let rows =
            |group: &usize| usize::try_from(metadata.row_group(*group).num_rows()).unwrap_or(0);
        Self {
            file: Arc::new(file),
            metadata,
            properties: Arc::new(ReaderProperties::builder().build()),
            rows: groups.iter().map(rows).sum(),
            groups,
        }
    }

    /// Returns the number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Returns whether the file has the column.
    pub(crate) fn has(&self, name: &str) -> bool {
        let root = self.metadata.file_metadata().schema();
        root.get_fields().iter().any(|field| field.name() == name)
    }

    /// Returns a column of durations in microseconds.
    pub(crate) fn durations(&self, name: &str) -> Option<Durations> {
        let mut values: Vec<u32> = Vec::with_capacity(self.rows.min(ROOM));
        let is_number = |column: &ColumnDescriptor| {
            column.physical_type() == Type::INT64
                && match column.logical_type_ref() {
                    None => matches!(
                        column.converted_type(),
                        ConvertedType::NONE | ConvertedType::INT_64
                    ),
                    Some(LogicalType::Integer(kind)) => kind.bit_width == 64 && kind.is_signed,
                    Some(_) => false,
                }
        };
        self.pages(name, is_number, |page| {
            let Content::Deltas(deltas) = page.content else {
                return None;
            };
            match page.valid {
                Some(levels) if levels.valid < page.rows => {
                    deltas.narrow_into(levels.valid, &levels.gaps()?, &mut values)?;
                }
                _ => deltas.narrow_into(page.rows, &[], &mut values)?,
            }
            Some(())
        })?;
        Some(Durations::narrow(values))
    }

    /// Returns a column of timestamps in microseconds without nulls.
    pub(crate) fn moments(&self, name: &str) -> Option<Vec<i64>> {
        let mut values: Vec<i64> = Vec::with_capacity(self.rows.min(ROOM));
        let is_moment = |column: &ColumnDescriptor| {
            column.physical_type() == Type::INT64
                && match column.logical_type_ref() {
                    Some(LogicalType::Timestamp(kind)) => kind.unit == TimeUnit::MICROS,
                    _ => column.converted_type() == ConvertedType::TIMESTAMP_MICROS,
                }
        };
        self.pages(name, is_moment, |page| match (page.content, page.valid) {
            (Content::Deltas(_), Some(levels)) if levels.valid < page.rows => None,
            (Content::Deltas(deltas), _) => deltas.each(page.rows, |value| values.push(value)),
            _ => None,
        })?;
        Some(values)
    }

    /// Returns a text column.
    pub(crate) fn words(&self, name: &str) -> Option<Words> {
        let is_text = |column: &ColumnDescriptor| {
            column.physical_type() == Type::BYTE_ARRAY
                && (matches!(column.logical_type_ref(), Some(LogicalType::String))
                    || column.converted_type() == ConvertedType::UTF8)
        };
        self.coded(name, is_text, |bytes| {
            let length = u32::from_le_bytes(*take(bytes)?) as usize;
            let (word, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Some(std::str::from_utf8(word).ok()?.to_owned())
        })
    }

    /// Returns a column of 32-bit integers.
    pub(crate) fn codes(&self, name: &str) -> Option<Coded<i32>> {
        let is_code = |column: &ColumnDescriptor| {
            column.physical_type() == Type::INT32
                && column.logical_type_ref().is_none()
                && matches!(column.converted_type(), ConvertedType::NONE | ConvertedType::INT_32)
        };
        self.coded(name, is_code, |bytes| Some(i32::from_le_bytes(*take(bytes)?)))
    }

    fn coded<T: Default>(
        &self,
        name: &str,
        fits: impl Fn(&ColumnDescriptor) -> bool,
        next: impl Fn(&mut &[u8]) -> Option<T>,
    ) -> Option<Coded<T>> {
        let mut values = Coded::default();
        self.pages(name, fits, |page| match page.content {
            Content::Dictionary(bytes) => values.learn(page.rows, bytes, &next),
            Content::Indices(indices) => values.append(page.rows, page.valid, indices),
            Content::Deltas(_) => None,
        })?;
        Some(values)
    }

    /// Passes the pages of a column to `take` in order; `None` as soon as something differs from
    /// what the probe writes.
    fn pages(
        &self,
        name: &str,
        fits: impl Fn(&ColumnDescriptor) -> bool,
        mut take: impl FnMut(Decoded<'_>) -> Option<()>,
    ) -> Option<()> {
        for group in &self.groups {
            let (file, properties) = (Arc::clone(&self.file), Arc::clone(&self.properties));
            let group = self.metadata.row_group(*group);
            let group = SerializedRowGroupReader::new(file, group, None, properties).ok()?;
            let rows = usize::try_from(group.metadata().num_rows()).ok()?;
            let column = place(group.metadata(), name)?;
            let described = group.metadata().column(column).column_descr();
            let optional = match described.self_type().get_basic_info().repetition() {
                Repetition::REQUIRED => false,
                Repetition::OPTIONAL => true,
                Repetition::REPEATED => return None,
            };
            if !fits(described) {
                return None;
            }
            let (mut seen, mut learned) = (0_usize, false);
            let mut pages = group.get_column_page_reader(column).ok()?;
            while let Some(page) = pages.get_next_page().ok()? {
                let decoded = Decoded::of(&page, optional)?;
                match decoded.content {
                    Content::Dictionary(_) => learned = true,
                    // Another row group's dictionary has different words.
                    Content::Indices(_) if !learned => return None,
                    Content::Indices(_) | Content::Deltas(_) => {
                        seen = seen.checked_add(decoded.rows)?
                    }
                }
                if seen > rows {
                    return None;
                }
                take(decoded)?;
            }
            if seen != rows {
                return None;
            }
        }
        Some(())
    }
}

/// Returns the index of a column at the top level of the schema.
fn place(group: &RowGroupMetaData, name: &str) -> Option<usize> {
    let is = |column: &parquet::file::metadata::ColumnChunkMetaData| matches!(column.column_path().parts(), [only] if only == name);
    group.columns().iter().position(is)
}

/// A decoded page.
struct Decoded<'a> {
    /// Number of rows, or of words in a dictionary.
    rows: usize,
    /// Which rows are not null; `None` if none can be null.
    valid: Option<Levels<'a>>,
    content: Content<'a>,
}

enum Content<'a> {
    Dictionary(&'a [u8]),
    Indices(&'a [u8]),
    Deltas(Deltas<'a>),
}

impl<'a> Decoded<'a> {
    fn of(page: &'a Page, optional: bool) -> Option<Self> {
        let rows = page.num_values() as usize;
        let (levels, values) = match page {
            Page::DictionaryPage { buf, encoding, .. } => {
                return matches!(encoding, Encoding::PLAIN | Encoding::PLAIN_DICTIONARY)
                    .then_some(Self { rows, valid: None, content: Content::Dictionary(buf) });
            }
            Page::DataPage { buf, def_level_encoding, .. } => {
                if !optional {
                    (None, &buf[..])
                } else if *def_level_encoding == Encoding::RLE {
                    let (length, rest) = buf.split_first_chunk::<4>()?;
                    let (levels, values) =
                        rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                    (Some(levels), values)
                } else {
                    return None;
                }
            }
            Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
                if *rep_levels_byte_len != 0 {
                    return None;
                }
                let (levels, values) = buf.split_at_checked(*def_levels_byte_len as usize)?;
                (optional.then_some(levels), values)
            }
        };
        let valid = match levels {
            None => None,
            Some(levels) => Some(Levels::of(levels, rows)?),
        };
        let content = match page.encoding() {
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => Content::Indices(values),
            Encoding::DELTA_BINARY_PACKED => Content::Deltas(Deltas::of(values)?),
            _ => return None,
        };
        Some(Self { rows, valid, content })
    }
}

/// Splits this many bytes off the front.
fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(first)
}

/// Splits an unsigned LEB128 number off the front.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 127) << shift;
        if first & 128 == 0 {
            return Some(value);
        }
    }
    None
}

fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// A run in the hybrid of run-length encoding and bit packing.
enum Run<'a> {
    /// One value and how often it repeats.
    Same(u32, usize),
    /// Packed values and their maximum number: the last ones may be padding.
    Packed(&'a [u8], usize),
}

/// Splits the next run of values with this many bits off the front; `left` is the number of values
/// still expected.
fn run<'a>(bytes: &mut &'a [u8], bits: u32, left: usize) -> Option<Run<'a>> {
    let header = varint(bytes)?;
    let count = usize::try_from(header >> 1).ok()?;
    if header & 1 == 1 {
        let (packed, rest) =
            bytes.split_at_checked(count.checked_mul(bits as usize)?.min(bytes.len()))?;
        *bytes = rest;
        let values = count.checked_mul(8)?.min(left);
        // Some writers omit the bytes after the last value.
        (packed.len() * 8 >= values.checked_mul(bits as usize)?)
            .then_some(Run::Packed(packed, values))
    } else {
        let (value, rest) = bytes.split_at_checked(bits.div_ceil(8) as usize)?;
        *bytes = rest;
        let value = value.iter().rev().fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte));
        (0 < count && count <= left).then_some(Run::Same(value, count))
    }
}

/// Which rows of a page are not null.
#[derive(Clone, Copy)]
struct Levels<'a> {
    bytes: &'a [u8],
    rows: usize,
    valid: usize,
}

impl<'a> Levels<'a> {
    fn of(bytes: &'a [u8], rows: usize) -> Option<Self> {
        let mut levels = Self { bytes, rows, valid: 0 };
        let mut valid = 0;
        levels.runs(|run| {
            valid += match run {
                Run::Same(0, _) => 0,
                Run::Same(1, count) => count,
                Run::Same(..) => return None,
                Run::Packed(bits, count) => {
                    let whole: u32 = bits[..count / 8].iter().map(|byte| byte.count_ones()).sum();
                    let rest = bits.get(count / 8).map_or(0, |byte| {
                        (u32::from(*byte) & ((1 << (count % 8)) - 1)).count_ones()
                    });
                    (whole + rest) as usize
                }
            };
            Some(())
        })?;
        levels.valid = valid;
        Some(levels)
    }

    fn runs(&self, mut take: impl FnMut(Run<'a>) -> Option<()>) -> Option<()> {
        let (mut bytes, mut left) = (self.bytes, self.rows);
        while left > 0 {
            let run = run(&mut bytes, 1, left)?;
            left -= match run {
                Run::Same(_, count) | Run::Packed(_, count) => count,
            };
            take(run)?;
        }
        Some(())
    }

    /// Returns the runs of null rows: the first row of each, and the number of rows.
    fn gaps(&self) -> Option<Vec<(usize, usize)>> {
        let mut gaps: Vec<(usize, usize)> = Vec::new();
        let mut row = 0;
        let mut null = |row: usize, count: usize| match gaps.last_mut() {
            Some((from, length)) if *from + *length == row => *length += count,
            _ => gaps.push((row, count)),
        };
        self.runs(|run| {
            row += match run {
                Run::Same(value, count) => {
                    if value == 0 {
                        null(row, count);
                    }
                    count
                }
                Run::Packed(bits, count) => {
                    for bit in (0..count).step_by(8).filter(|bit| bits[bit / 8] != u8::MAX) {
                        let byte = bits[bit / 8];
                        (0..(count - bit).min(8))
                            .filter(|place| byte >> place & 1 == 0)
                            .for_each(|place| null(row + bit + place, 1));
                    }
                    count
                }
            };
            Some(())
        })?;
        Some(gaps)
    }
}

/// Integers, each stored as the difference to the previous one.
struct Deltas<'a> {
    bytes: &'a [u8],
    block: usize,
    miniblocks: usize,
    count: usize,
    first: i64,
}

/// Longest miniblock that is decoded here; the probe's have 64 values.
const MINIBLOCK: usize = 256;

impl<'a> Deltas<'a> {
    fn of(mut bytes: &'a [u8]) -> Option<Self> {
        let block = usize::try_from(varint(&mut bytes)?).ok()?;
        let miniblocks = usize::try_from(varint(&mut bytes)?).ok()?;
        let count = usize::try_from(varint(&mut bytes)?).ok()?;
        let first = zigzag(varint(&mut bytes)?);
        let values = block.checked_div(miniblocks)?;
        (values * miniblocks == block && values % 8 == 0 && 0 < values && values <= MINIBLOCK)
            .then_some(Self { bytes, block, miniblocks, count, first })
    }

    /// Calls `each` with every value; there must be `count` values.
    fn each(&self, count: usize, mut each: impl FnMut(i64)) -> Option<()> {
        if self.count != count {
            return None;
        }
        if count == 0 {
            return Some(());
        }
        let values = self.block / self.miniblocks;
        let (mut bytes, mut left, mut last) = (self.bytes, count - 1, self.first);
        each(last);
        // Eight bytes more than a miniblock can have, so that each value can be read as one word.
        let mut packed = [0_u8; MINIBLOCK * 8 + 8];
        while left > 0 {
            let least = zigzag(varint(&mut bytes)?);
            let (widths, rest) = bytes.split_at_checked(self.miniblocks)?;
            bytes = rest;
            for width in widths {
                if left == 0 {
                    break;
                }
                let width = usize::from(*width);
                let (used, here) = (values * width / 8, values.min(left));
                left -= here;
                // A wider value can span nine bytes.
                if width > 57 {
                    return None;
                }
                let (miniblock, rest) = bytes.split_at_checked(used.min(bytes.len()))?;
                // Some writers omit the bytes after the last value.
                if miniblock.len() * 8 < here * width {
                    return None;
                }
                bytes = rest;
                packed[..miniblock.len()].copy_from_slice(miniblock);
                let mask = u64::MAX.checked_shr(64 - width as u32).unwrap_or(0);
                for bit in (0..here).map(|index| index * width) {
                    let word = packed[bit / 8..].first_chunk::<8>()?;
                    let delta = (u64::from_le_bytes(*word) >> (bit % 8)) & mask;
                    last = last.wrapping_add(least).wrapping_add(delta as i64);
                    each(last);
                }
            }
        }
        Some(())
    }

    /// Appends all values in four bytes each, with null in the gaps; `None` if a value needs more.
    fn narrow_into(&self, count: usize, gaps: &[(usize, usize)], to: &mut Vec<u32>) -> Option<()> {
        let begin = to.len();
        let mut gaps = gaps.iter();
        let mut gap = gaps.next();
        let row = |gap: Option<&(usize, usize)>| gap.map_or(usize::MAX, |(row, _)| begin + row);
        let mut stop = row(gap);
        let mut fill = |to: &mut Vec<u32>| {
            to.resize(to.len() + gap.map_or(0, |(_, length)| *length), Durations::NULL);
            gap = gaps.next();
            row(gap)
        };
        let mut high = 0_u64;
        let mut greatest = 0_u32;
        self.each(count, |value| {
            if to.len() == stop {
                stop = fill(to);
            }
            high |= value as u64;
            greatest = greatest.max(value as u32);
            to.push(value as u32);
        })?;
        if to.len() == stop {
            fill(to);
        }
        (high >> 32 == 0 && greatest != Durations::NULL).then_some(())
    }
}

/// A text column.
pub(crate) type Words = Coded<String>;

/// A column with few different values in long runs.
#[derive(Debug, Default)]
pub(crate) struct Coded<T> {
    known: Vec<T>,
    /// Index of the first value of the current row group.
    begin: u32,
    /// Value of each run, and the row after its end.
    runs: Vec<(u32, usize)>,
}

impl<T> Coded<T> {
    /// Returns the number of rows.
    pub(crate) fn len(&self) -> usize {
        self.runs.last().map_or(0, |(_, end)| *end)
    }

    /// Returns whether no row has a value.
    pub(crate) fn all_null(&self) -> bool {
        self.runs.iter().all(|(value, _)| *value == NOTHING)
    }

    /// Returns every run of rows with the same value, in order, with the row after its end.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (Option<&T>, usize)> {
        let value = |value: u32| self.known.get(value as usize);
        self.runs.iter().map(move |(index, end)| (value(*index), *end))
    }

    /// Maps the value of each row.
    pub(crate) fn each<V: Clone>(&self, of: impl Fn(Option<&T>) -> V) -> Vec<V> {
        let mut all = Vec::with_capacity(self.len());
        for (value, end) in self.runs() {
            all.resize(end, of(value));
        }
        all
    }

    /// Reads the dictionary of a row group, value by value.
    fn learn(
        &mut self,
        count: usize,
        mut bytes: &[u8],
        mut next: impl FnMut(&mut &[u8]) -> Option<T>,
    ) -> Option<()> {
        self.begin = u32::try_from(self.known.len()).ok()?;
        for _ in 0..count {
            self.known.push(next(&mut bytes)?);
        }
        Some(())
    }

    fn push(&mut self, value: u32, count: usize) {
        let end = self.len() + count;
        match self.runs.last_mut() {
            Some((last, before)) if *last == value => *before = end,
            _ => self.runs.push((value, end)),
        }
    }

    fn append(&mut self, rows: usize, valid: Option<Levels<'_>>, indices: &[u8]) -> Option<()> {
        let valid_rows = valid.map_or(rows, |levels| levels.valid);
        let mut values: Vec<(u32, usize)> = Vec::new();
        if valid_rows > 0 {
            let (bits, mut bytes) = indices.split_first()?;
            let bits = u32::from(*bits);
            if bits > 24 {
                return None;
            }
            let mut left = valid_rows;
            while left > 0 {
                match run(&mut bytes, bits, left)? {
                    Run::Same(index, count) => {
                        values.push((self.known(index)?, count));
                        left -= count;
                    }
                    Run::Packed(packed, count) => {
                        for bit in (0..count).map(|index| index * bits as usize) {
                            let mut value = [0_u8; 4];
                            let from = packed.get(bit / 8..).unwrap_or_default();
                            let length = from.len().min(4);
                            value[..length].copy_from_slice(&from[..length]);
                            let index =
                                (u32::from_le_bytes(value) >> (bit % 8)) & ((1 << bits) - 1);
                            values.push((self.known(index)?, 1));
                        }
                        left -= count;
                    }
                }
            }
        }
        let mut values = values.into_iter();
        let mut current = (NOTHING, 0);
        let mut take = |this: &mut Self, mut count: usize| {
            while count > 0 {
                if current.1 == 0 {
                    current = values.next()?;
                }
                let part = count.min(current.1);
                this.push(current.0, part);
                current.1 -= part;
                count -= part;
            }
            Some(())
        };
        let Some(levels) = valid else {
            return take(self, rows);
        };
        levels.runs(|run| match run {
            Run::Same(0, count) => {
                self.push(NOTHING, count);
                Some(())
            }
            Run::Same(_, count) => take(self, count),
            Run::Packed(bits, count) => {
                for row in 0..count {
                    if bits[row / 8] >> (row % 8) & 1 == 1 {
                        take(self, 1)?;
                    } else {
                        self.push(NOTHING, 1);
                    }
                }
                Some(())
            }
        })
    }

    /// Returns the index of a value of the current row group.
    fn known(&self, index: u32) -> Option<u32> {
        let place = self.begin.checked_add(index)?;
        ((place as usize) < self.known.len()).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use parquet::{
        basic::Compression,
        data_type::{ByteArray, ByteArrayType, Int64Type},
        file::{
            metadata::ParquetMetaDataReader,
            properties::{WriterProperties, WriterVersion},
            writer::SerializedFileWriter,
        },
        schema::{parser::parse_message_type, types::ColumnPath},
    };
    use proptest::prelude::*;

    use super::*;

    /// One row: a timestamp, a duration, a word.
    type Row = (i64, Option<i64>, Option<String>);

    const SCHEMA: &str = "message rows {
        required int64 at (TIMESTAMP(MICROS,true));
        optional int64 took;
        optional binary word (UTF8);
    }";

    /// Returns rows as the probe writes them, in row groups of this many rows.
    fn written(rows: &[Row], group: usize, version: WriterVersion) -> Vec<u8> {
        let mut builder = WriterProperties::builder()
            .set_writer_version(version)
            .set_compression(Compression::ZSTD(Default::default()))
            // Several pages per column.
            .set_data_page_row_count_limit(100)
            .set_write_batch_size(50);
        for name in ["at", "took"] {
            builder = builder
                .set_column_dictionary_enabled(ColumnPath::from(name), false)
                .set_column_encoding(ColumnPath::from(name), Encoding::DELTA_BINARY_PACKED);
        }
        let schema = Arc::new(parse_message_type(SCHEMA).expect("a schema"));
        let mut file = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::new(builder.build()))
            .expect("a writer");
        for rows in rows.chunks(group) {
            let mut columns = writer.next_row_group().expect("a row group");
            let mut column = columns.next_column().expect("a column").expect("a column");
            let at: Vec<i64> = rows.iter().map(|row| row.0).collect();
            column.typed::<Int64Type>().write_batch(&at, None, None).expect("values");
            column.close().expect("a column");
            let mut column = columns.next_column().expect("a column").expect("a column");
            let took: Vec<i64> = rows.iter().filter_map(|row| row.1).collect();
            let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.1.is_some())).collect();
            let typed = column.typed::<Int64Type>();
            typed.write_batch(&took, Some(&levels), None).expect("values");
            column.close().expect("a column");
            let mut column = columns.next_column().expect("a column").expect("a column");
            let words = rows.iter().filter_map(|row| row.2.as_deref().map(ByteArray::from));
            let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.2.is_some())).collect();
            let typed = column.typed::<ByteArrayType>();
            let words: Vec<ByteArray> = words.collect();
            typed.write_batch(&words, Some(&levels), None).expect("values");
            column.close().expect("a column");
            columns.close().expect("a row group");
        }
        writer.close().expect("a file");
        file
    }

    type Read = (Option<Vec<i64>>, Option<Durations>, Option<Vec<Option<String>>>);

    fn read(file: &[u8]) -> Option<(usize, Read)> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.parquet");
        std::fs::write(&path, file).expect("a file");
        let file = File::open(path).expect("a file");
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).ok()?;
        let columns =
            Columns::new(Source::File(file), &metadata, &vec![true; metadata.num_row_groups()]);
        let words = columns.words("word").map(|words| {
            let mut each = Vec::new();
            for (word, end) in words.runs() {
                each.resize(end, word.cloned());
            }
            each
        });
        Some((columns.rows(), (columns.moments("at"), columns.durations("took"), words)))
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let at = prop_oneof![0_i64..1_000, 1_700_000_000_000_000_i64..1_800_000_000_000_000];
        let took = prop_oneof![
            8 => (0_i64..70_000_000).prop_map(Some),
            2 => (0_i64..4_294_967_295).prop_map(Some),
            1 => Just(None)
        ];
        let word = prop_oneof![5 => "[ab]", 1 => "[a-zä]{0,4}"];
        let stretch = (at, took, proptest::option::of(word), 1_usize..60, 0_i64..400);
        proptest::collection::vec(stretch, 0..24).prop_map(|stretches| {
            let each = stretches.into_iter().flat_map(|(at, took, word, count, step)| {
                (0..count as i64).map(move |row| {
                    (at + row * step, took.map(|took| took ^ (row & 7)), word.clone())
                })
            });
            each.collect()
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(rows in rows(), group in 1_usize..400, second in any::<bool>()) {
            let version = if second { WriterVersion::PARQUET_2_0 } else { WriterVersion::PARQUET_1_0 };
            let (count, (at, took, words)) = read(&written(&rows, group, version)).expect("a file");
            prop_assert_eq!(count, rows.len());
            prop_assert_eq!(at, Some(rows.iter().map(|row| row.0).collect::<Vec<_>>()));
            let expected: Durations = rows.iter().map(|row| row.1.map(mailqos_model::Micros)).collect();
            prop_assert_eq!(took, Some(expected));
            prop_assert_eq!(words, Some(rows.iter().map(|row| row.2.clone()).collect::<Vec<_>>()));
        }

        #[test]
        fn damaged_bytes_are_refused_or_give_as_many_rows(
            rows in rows(),
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut file = written(&rows, 200, WriterVersion::PARQUET_1_0);
            for (place, byte) in damage {
                let place = place.index(file.len());
                file[place] = byte;
            }
            // The page reader may panic; code that reads day files guards against that.
            let read = std::panic::catch_unwind(|| read(&file)).ok().flatten();
            if let Some((count, (at, took, words))) = read {
                prop_assert!(at.is_none_or(|at| at.len() == count));
                prop_assert!(took.is_none_or(|took| took.len() == count));
                prop_assert!(words.is_none_or(|words| words.len() == count));
            }
        }
    }

    #[test]
    fn what_needs_more_than_four_bytes_is_left_to_others() {
        for value in [-1, u32::MAX.into(), 1 << 40] {
            let file = written(
                &[(0, Some(5), None), (1, Some(value), None)],
                10,
                WriterVersion::PARQUET_1_0,
            );
            let (_, (at, took, _)) = read(&file).expect("a file");
            assert_eq!(at, Some(vec![0, 1]));
            assert_eq!(took, None, "{value}");
        }
    }

    #[test]
    fn columns_of_other_kinds_are_left_to_others() {
        let file = written(&[(0, Some(5), Some("a".to_owned()))], 10, WriterVersion::PARQUET_1_0);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.parquet");
        std::fs::write(&path, file).expect("a file");
        let file = File::open(path).expect("a file");
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).expect("a footer");
        let columns = Columns::new(Source::File(file), &metadata, &[true]);
        assert!(columns.durations("at").is_none() && columns.durations("word").is_none());
        assert!(columns.moments("took").is_none() && columns.words("took").is_none());
        assert!(columns.words("none").is_none() && !columns.has("none") && columns.has("took"));
    }
}
