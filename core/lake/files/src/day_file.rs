//! Day files are written completely under a temporary name and renamed, read one row group at a
//! time, and merged with later rows.
//!
//! Encodings: durations and times are delta-encoded, because neighbouring rows of a monitor are
//! similar. Words use dictionaries, and zstd compresses everything. Row groups are small enough to
//! read one monitor's rows without most of the others.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::civil::Date;
use mailqos_model::SiteName;
use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    column::writer::ColumnWriter,
    data_type::ByteArray,
    errors::ParquetError,
    file::{
        metadata::{KeyValue, SortingColumn},
        properties::{EnabledStatistics, WriterProperties},
        writer::SerializedFileWriter,
    },
    schema::{
        parser::parse_message_type,
        types::{ColumnPath, Type},
    },
};

use super::{
    checksum::{CHECKSUM_KEY, UNSEALED, write_checksum},
    columns::{Cell, Hold, Record},
    day_path,
    error::{LakeError, POSITION_KEY, VERSION_KEY, io_error, parquet_error},
    work_folder,
};

/// Maximum number of rows in a row group: about a hundred monitors' day at five minutes. A group
/// ends a little earlier at the end of a monitor's rows, so that readers processing some monitors
/// at a time read each group once.
const ROW_GROUP: usize = 32 * 1024;
/// Column version that this program writes.
const VERSION: &str = "2";
/// Definition levels of a hop's field: a null list, an empty list, a null field, a value.
const HOP_LEVELS: [i16; 4] = [0, 1, 2, 3];

/// Position up to which a day file contains a journal's records: the journal's name (a new one if
/// the state folder was lost) and the position after the last record.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SealedUpTo {
    /// Random name of the journal.
    pub journal: String,
    /// Position before which every record is contained.
    pub position: u64,
}

/// Writes a day file. No file is visible under the final name until [`DayWriter::publish`].
pub struct DayWriter<R: Record> {
    path: PathBuf,
    temporary: PathBuf,
    writer: Option<SerializedFileWriter<File>>,
    rows: Vec<R>,
    written: u64,
    last: Option<(String, i64)>,
}

impl<R: Record> DayWriter<R> {
    /// Creates the file of a site's day in the lake at `data`. The caller must hold the site's
    /// [`SiteLock`](super::SiteLock).
    ///
    /// # Errors
    /// The file can't be created.
    pub fn create(data: &Path, site: &SiteName, date: Date) -> Result<Self, LakeError> {
        let folder = work_folder(data);
        std::fs::create_dir_all(&folder).map_err(io_error(&folder))?;
        let temporary = folder.join(format!("{}.{site}.{date}.new", R::FOLDER));
        let file = File::create(&temporary).map_err(io_error(&temporary))?;
        let writer = SerializedFileWriter::new(file, schema::<R>(), Arc::new(properties::<R>()))
            .map_err(parquet_error(&temporary))?;
        Ok(Self {
            path: day_path::<R>(data, site, date),
            temporary,
            writer: Some(writer),
            rows: Vec::new(),
            written: 0,
            last: None,
        })
    }

    /// Adds a row. Rows must be added in the order of their keys, and each key only once.
    ///
    /// # Errors
    /// The file can't be written; [`LakeError::Order`] if the row's key is not greater than the
    /// previous one.
    pub fn push(&mut self, row: R) -> Result<(), LakeError> {
        let (monitor, at) = row.key();
        let other = self.last.as_ref().is_some_and(|(last, _)| last != monitor);
        if other && self.rows.len() >= ROW_GROUP / 4 * 3 {
            self.flush()?;
        }
        match &mut self.last {
            Some((last, moment)) => {
                if (last.as_str(), *moment) >= (monitor, at) {
                    return Err(LakeError::Order {
                        path: self.path.clone(),
                        row: self.written + self.rows.len() as u64,
                    });
                }
                if last != monitor {
                    monitor.clone_into(last);
                }
                *moment = at;
            }
            last => *last = Some((monitor.to_owned(), at)),
        }
        self.rows.push(row);
        if self.rows.len() >= ROW_GROUP {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LakeError> {
        let rows = std::mem::take(&mut self.rows);
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        if rows.is_empty() {
            return Ok(());
        }
        write_group(writer, &rows).map_err(parquet_error(&self.temporary))?;
        self.written += rows.len() as u64;
        Ok(())
    }

    /// Makes the file durable and then visible; returns the number of its rows.
    ///
    /// # Errors
    /// The file can't be written; an earlier file, if any, is still in place.
    pub fn publish(mut self, sealed: Option<&SealedUpTo>) -> Result<u64, LakeError> {
        self.flush()?;
        let Some(mut writer) = self.writer.take() else {
            return Ok(self.written);
        };
        let mut note = |key: &str, value: String| {
            writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value))
        };
        note(VERSION_KEY, VERSION.to_owned());
        note(CHECKSUM_KEY, String::from_utf8_lossy(&UNSEALED).into_owned());
        if let Some(sealed) = sealed {
            note(POSITION_KEY, format!("{} {}", sealed.journal, sealed.position));
        }
        let mut file = match writer.into_inner() {
            Ok(file) => file,
            Err(source) => {
                let _ = std::fs::remove_file(&self.temporary);
                return Err(parquet_error(&self.temporary)(source));
            }
        };
        file.flush().map_err(io_error(&self.temporary))?;
        drop(file);
        write_checksum(&self.temporary).map_err(io_error(&self.temporary))?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(io_error(folder))?;
        std::fs::rename(&self.temporary, &self.path).map_err(io_error(&self.path))?;
        // New folders are not durable until synced, like the file: date, site, samples and the
        // lake.
        for folder in folder.ancestors().take(4) {
            mailqos_base::files::sync_folder(folder).map_err(io_error(folder))?;
        }
        Ok(self.written)
    }
}

impl<R: Record> Drop for DayWriter<R> {
    /// Removes the temporary file of an unpublished day.
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

fn schema<R: Record>() -> Arc<Type> {
    use std::fmt::Write as _;
    let mut text = format!("message {} {{\n", R::FOLDER);
    for column in R::columns() {
        let presence = if column.required { "required" } else { "optional" };
        let name = column.name;
        let _ = match column.holds {
            Hold::Word => writeln!(text, "{presence} binary {name} (STRING);"),
            Hold::Timestamp => writeln!(text, "{presence} int64 {name} (TIMESTAMP(MICROS,true));"),
            Hold::Long => writeln!(text, "{presence} int64 {name};"),
            Hold::Int => writeln!(text, "{presence} int32 {name};"),
            Hold::Bool => writeln!(text, "{presence} boolean {name};"),
            Hold::Real => writeln!(text, "{presence} double {name};"),
            Hold::Hops => writeln!(
                text,
                "optional group {name} (LIST) {{ repeated group list {{ required group element {{
                    optional binary by (STRING);
                    optional binary from (STRING);
                    optional int64 at (TIMESTAMP(MICROS,true));
                    optional int64 delay_us;
                    optional boolean clock_suspect;
                }} }} }}"
            ),
        };
    }
    text.push('}');
    #[allow(
        clippy::expect_used,
        reason = "the text is made of constants; every test writes with it"
    )]
    Arc::new(parse_message_type(&text).expect("the schema is well formed"))
}

fn properties<R: Record>() -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("mailqos ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(6).unwrap_or_default()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_sorting_columns(Some(vec![ascending(0), ascending(1)]));
    for column in R::columns() {
        if matches!(column.holds, Hold::Long | Hold::Timestamp) {
            let path = ColumnPath::from(column.name);
            builder = builder
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
    }
    builder.build()
}

fn ascending(column_idx: i32) -> SortingColumn {
    SortingColumn { column_idx, descending: false, nulls_first: false }
}

fn write_group<R: Record>(
    writer: &mut SerializedFileWriter<File>,
    rows: &[R],
) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    for column in R::columns() {
        let cells: Vec<Cell> = rows.iter().map(column.get).collect();
        if column.holds == Hold::Hops {
            for field in 0..5 {
                let (values, definitions, repetitions) = hop_levels(&cells, field);
                write_column(&mut group, &values, Some(&definitions), Some(&repetitions))?;
            }
        } else if column.required {
            write_column(&mut group, &cells, None, None)?;
        } else {
            let definitions: Vec<i16> =
                cells.iter().map(|cell| i16::from(*cell != Cell::Null)).collect();
            let values: Vec<Cell> = cells.into_iter().filter(|cell| *cell != Cell::Null).collect();
            write_column(&mut group, &values, Some(&definitions), None)?;
        }
    }
    group.close()?;
    Ok(())
}

/// Writes the non-null values into the next column.
fn write_column(
    group: &mut parquet::file::writer::SerializedRowGroupWriter<'_, File>,
    values: &[Cell],
    definitions: Option<&[i16]>,
    repetitions: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General("the schema has fewer columns than the record".into()));
    };
    let int = |cell: &Cell| match cell {
        Cell::Int(value) => *value,
        _ => 0,
    };
    match column.untyped() {
        ColumnWriter::Int64ColumnWriter(writer) => {
            let values: Vec<i64> = values.iter().map(int).collect();
            writer.write_batch(&values, definitions, repetitions)?;
        }
        ColumnWriter::Int32ColumnWriter(writer) => {
            let values: Vec<i32> =
                values.iter().map(|cell| i32::try_from(int(cell)).unwrap_or(i32::MAX)).collect();
            writer.write_batch(&values, definitions, repetitions)?;
        }
        ColumnWriter::BoolColumnWriter(writer) => {
            let values: Vec<bool> = values.iter().map(|cell| *cell == Cell::Bool(true)).collect();
            writer.write_batch(&values, definitions, repetitions)?;
        }
        ColumnWriter::DoubleColumnWriter(writer) => {
            let real = |cell: &Cell| match cell {
                Cell::Real(value) => *value,
                _ => f64::NAN,
            };
            let values: Vec<f64> = values.iter().map(real).collect();
            writer.write_batch(&values, definitions, repetitions)?;
        }
        ColumnWriter::ByteArrayColumnWriter(writer) => {
            let values: Vec<ByteArray> = values
                .iter()
                .map(|cell| match cell {
                    Cell::Text(text) => ByteArray::from(text.as_str()),
                    _ => ByteArray::from(""),
                })
                .collect();
            writer.write_batch(&values, definitions, repetitions)?;
        }
        _ => {
            return Err(ParquetError::General("a column has a type that is never written".into()));
        }
    }
    column.close()
}

/// Encodes one field of all hops as Parquet values, definition levels and repetition levels.
fn hop_levels(cells: &[Cell], field: usize) -> (Vec<Cell>, Vec<i16>, Vec<i16>) {
    let [null, empty, absent, present] = HOP_LEVELS;
    let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    for cell in cells {
        let Cell::Hops(hops) = cell else {
            definitions.push(null);
            repetitions.push(0);
            continue;
        };
        if hops.is_empty() {
            definitions.push(empty);
            repetitions.push(0);
        }
        for (index, hop) in hops.iter().enumerate() {
            let value = match field {
                0 => hop.by.clone().map(Cell::Text),
                1 => hop.from.clone().map(Cell::Text),
                2 => hop.at.map(|at| Cell::Int(at.0)),
                3 => hop.delay.map(|delay| Cell::Int(delay.0)),
                _ => Some(Cell::Bool(hop.clock_suspect)),
            };
            definitions.push(if value.is_some() { present } else { absent });
            repetitions.push(i16::from(index > 0));
            values.extend(value);
        }
    }
    (values, definitions, repetitions)
}

/// Merges two sorted sequences. If both contain a key, the later record is kept if it replaces the
/// earlier one.
pub struct Merged<R, A: Iterator, B: Iterator> {
    earlier: std::iter::Peekable<A>,
    later: std::iter::Peekable<B>,
    record: std::marker::PhantomData<R>,
}

impl<R, A, B> Merged<R, A, B>
where
    R: Record,
    A: Iterator<Item = Result<R, LakeError>>,
    B: Iterator<Item = R>,
{
    /// Merges a file's rows with later ones. Both must be sorted and without duplicates.
    pub fn new(earlier: A, later: B) -> Self {
        Self {
            earlier: earlier.peekable(),
            later: later.peekable(),
            record: std::marker::PhantomData,
        }
    }
}

impl<R, A, B> Iterator for Merged<R, A, B>
where
    R: Record,
    A: Iterator<Item = Result<R, LakeError>>,
    B: Iterator<Item = R>,
{
    type Item = Result<R, LakeError>;

    fn next(&mut self) -> Option<Self::Item> {
        use std::cmp::Ordering;
        let order = match (self.earlier.peek(), self.later.peek()) {
            (None, _) => return self.later.next().map(Ok),
            (Some(Err(_)), _) | (_, None) => return self.earlier.next(),
            (Some(Ok(earlier)), Some(later)) => earlier.key().cmp(&later.key()),
        };
        match order {
            Ordering::Less => self.earlier.next(),
            Ordering::Greater => self.later.next().map(Ok),
            Ordering::Equal => {
                let earlier = self.earlier.next()?;
                let later = self.later.next();
                Some(match (earlier, later) {
                    (Ok(earlier), Some(later)) => {
                        Ok(if later.replaces(&earlier) { later } else { earlier })
                    }
                    (earlier, _) => earlier,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DayReader, Intact, intact, read_day};
    use mailqos_model::{Hop, Micros, Outcome, Sample, Stage, UtcMicros};
    use parquet::file::reader::FileReader as _;
    use proptest::prelude::*;

    fn hop() -> impl Strategy<Value = Hop> {
        (
            proptest::option::of("[a-zß]{0,8}"),
            proptest::option::of("[a-z]{1,8}"),
            proptest::option::of(any::<i64>()),
            proptest::option::of(any::<i64>()),
            any::<bool>(),
        )
            .prop_map(|(by, from, at, delay, clock_suspect)| Hop {
                by,
                from,
                at: at.map(UtcMicros),
                delay: delay.map(Micros),
                clock_suspect,
            })
    }

    prop_compose! {
        fn sample()(
            monitor in "[a-c]",
            started_at in 0i64..40,
            outcome in proptest::sample::select(Outcome::ALL),
            stage in proptest::option::of(proptest::sample::select(Stage::ALL)),
            error in proptest::option::of(".{0,20}"),
            round_trip in proptest::option::of(any::<i64>()),
            code in proptest::option::of(any::<i32>()),
            settled in proptest::option::of(any::<bool>()),
            hops in proptest::option::of(proptest::collection::vec(hop(), 0..3)),
        ) -> Sample {
            let mut sample = Sample::new(monitor.parse().expect("a name"), UtcMicros(started_at), outcome);
            sample.stage = stage;
            sample.error = error;
            sample.round_trip = round_trip.map(Micros);
            sample.smtp_reply_code = code;
            sample.settled = settled;
            sample.hops = hops;
            sample
        }
    }

    fn sorted(samples: Vec<Sample>) -> Vec<Sample> {
        let mut by_key = std::collections::BTreeMap::new();
        for sample in samples {
            by_key.insert((sample.monitor.clone(), sample.started_at), sample);
        }
        by_key.into_values().collect()
    }

    fn begin(data: &Path) -> (DayWriter<Sample>, PathBuf) {
        let site: SiteName = "here".parse().expect("a name");
        let date = UtcMicros(0).utc_date();
        let path = day_path::<Sample>(data, &site, date);
        (DayWriter::create(data, &site, date).expect("create"), path)
    }

    fn write(data: &Path, samples: &[Sample], sealed: Option<&SealedUpTo>) -> PathBuf {
        let (mut writer, path) = begin(data);
        for sample in samples {
            writer.push(sample.clone()).expect("push");
        }
        assert_eq!(writer.publish(sealed).expect("publish"), samples.len() as u64);
        path
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn written_rows_are_read_back(samples in proptest::collection::vec(sample(), 0..30).prop_map(sorted)) {
            let folder = tempfile::tempdir().expect("folder");
            let sealed = SealedUpTo { journal: "j".into(), position: 7 };
            let path = write(folder.path(), &samples, Some(&sealed));
            prop_assert_eq!(DayReader::<Sample>::open(&path).expect("open").and_then(|reader| reader.sealed()), Some(sealed));
            prop_assert_eq!(read_day::<Sample>(&path).expect("read"), samples);
        }

        #[test]
        fn a_merge_keeps_each_key_once_and_never_unsettles(
            earlier in proptest::collection::vec(sample(), 0..30).prop_map(sorted),
            later in proptest::collection::vec(sample(), 0..30).prop_map(sorted),
        ) {
            let merged: Vec<Sample> = Merged::new(earlier.iter().cloned().map(Ok), later.iter().cloned())
                .collect::<Result<_, _>>()
                .expect("no error goes in");
            prop_assert!(merged.windows(2).all(|pair| pair[0].key() < pair[1].key()));
            for sample in earlier.iter().chain(&later) {
                prop_assert_eq!(merged.iter().filter(|kept| kept.key() == sample.key()).count(), 1);
            }
            for kept in &merged {
                let was_settled = earlier.iter().chain(&later).any(|s| s.key() == kept.key() && !s.is_provisional());
                prop_assert_eq!(kept.is_provisional(), !was_settled);
            }
        }
    }

    #[test]
    fn many_rows_form_several_row_groups() {
        let folder = tempfile::tempdir().expect("folder");
        let samples: Vec<Sample> = (0..ROW_GROUP as i64 + 5)
            .map(|at| Sample::new("m".parse().expect("a name"), UtcMicros(at), Outcome::Ok))
            .collect();
        let path = write(folder.path(), &samples, None);
        let reader = DayReader::<Sample>::open(&path).expect("open").expect("there");
        assert_eq!((reader.row_count(), reader.file().num_row_groups()), (samples.len() as u64, 2));
        assert_eq!(reader.collect::<Result<Vec<_>, _>>().expect("read"), samples);
    }

    #[test]
    fn row_groups_end_where_a_monitors_rows_end() {
        let folder = tempfile::tempdir().expect("folder");
        let samples: Vec<Sample> = (0..200)
            .flat_map(|monitor| {
                (0..288).map(move |at| {
                    let name = format!("m{monitor:03}").parse().expect("a name");
                    Sample::new(name, UtcMicros(at), Outcome::Ok)
                })
            })
            .collect();
        let path = write(folder.path(), &samples, None);
        let reader = DayReader::<Sample>::open(&path).expect("open").expect("there");
        let metadata = reader.file().metadata();
        let rows: Vec<i64> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
        assert_eq!(rows, [86 * 288, 86 * 288, 28 * 288]);
        assert_eq!(reader.collect::<Result<Vec<_>, _>>().expect("read"), samples);
    }

    #[test]
    fn an_unpublished_day_file_is_invisible() {
        let folder = tempfile::tempdir().expect("folder");
        let (mut writer, path) = begin(folder.path());
        writer.push(Sample::blank()).expect("push");
        assert!(!path.exists());
        drop(writer);
        let left = std::fs::read_dir(work_folder(folder.path())).expect("list");
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn a_file_with_fewer_columns_and_an_unknown_one_is_read() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("samples.parquet");
        let schema = parse_message_type(
            "message samples {
                required int64 started_at (TIMESTAMP(MICROS,true));
                optional int64 from_the_future;
                required binary outcome (STRING);
                required binary monitor (STRING);
                optional int64 round_trip_us;
            }",
        )
        .expect("a schema");
        let file = File::create(&path).expect("create");
        let mut writer = SerializedFileWriter::new(
            file,
            Arc::new(schema),
            Arc::new(WriterProperties::default()),
        )
        .expect("writer");
        let mut group = writer.next_row_group().expect("group");
        let text = |text: &str| vec![Cell::Text(text.into())];
        write_column(&mut group, &[Cell::Int(5)], None, None).expect("write");
        write_column(&mut group, &[Cell::Int(1)], Some(&[1]), None).expect("write");
        write_column(&mut group, &text("late"), None, None).expect("write");
        write_column(&mut group, &text("m"), None, None).expect("write");
        write_column(&mut group, &[Cell::Int(7)], Some(&[1]), None).expect("write");
        group.close().expect("close");
        writer.close().expect("close");
        let mut expected = Sample::new("m".parse().expect("a name"), UtcMicros(5), Outcome::Late);
        expected.round_trip = Some(Micros(7));
        assert_eq!(read_day::<Sample>(&path).expect("read"), [expected]);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_detected() {
        let versions = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lakes");
        let bytes = std::fs::read(versions.join("columns-2/samples.parquet")).expect("read");
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("samples.parquet");
        let told = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("write");
            intact(&path).expect("read")
        };
        assert_eq!(told(&bytes), Intact::Yes);
        // Testing every byte would take a minute without optimisation.
        for at in (0..bytes.len()).step_by(19) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            assert_eq!(told(&damaged), Intact::No, "byte {at} of {}", bytes.len());
        }
        for length in (0..bytes.len()).step_by(211) {
            assert_eq!(told(&bytes[..length]), Intact::No, "{length} bytes");
        }
        let old = std::fs::read(versions.join("columns-1/samples.parquet")).expect("read");
        assert_eq!(told(&old), Intact::Unknown);
    }

    /// There is a small file of every column version. A new version adds one and leaves the others
    /// unchanged.
    #[test]
    fn a_file_of_every_version_is_read() {
        let versions = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lakes");
        for version in 1..=VERSION.parse().expect("a number") {
            let path = versions.join(format!("columns-{version}/samples.parquet"));
            let samples = read_day::<Sample>(&path).expect("read");
            let outcomes: Vec<_> = samples.iter().map(|sample| sample.outcome).collect();
            assert_eq!(outcomes, [Outcome::Ok, Outcome::Lost], "version {version}");
            assert_eq!(samples[0].round_trip, Some(Micros(153_500)), "version {version}");
            assert_eq!(samples[1].round_trip, None, "version {version}");
            // These columns were added with version 2.
            let since_2 = version >= 2;
            assert_eq!(samples[0].spam_score, since_2.then_some(-0.5), "version {version}");
            assert_eq!(samples[0].spf.as_deref(), since_2.then_some("pass"), "version {version}");
            assert_eq!(samples[1].send_uncertain, since_2.then_some(true), "version {version}");
        }
    }
}
