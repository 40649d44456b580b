//! Footers of day files: their row groups, and which of them a query needs.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use mailqos_lake::LakeError;
use parquet::file::{
    metadata::{
        ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader,
        ParquetStatisticsPolicy, RowGroupMetaData,
    },
    statistics::Statistics,
};

use super::{
    metric::Column,
    object::{LakeFile, corrupt, renewed},
    query::SeriesQuery,
    source::{Identity, Source, is_of},
};

/// The requested monitors: by name, and between two names (the second one exclusive).
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) names: BTreeSet<String>,
    pub(crate) from: Option<Arc<str>>,
    pub(crate) to: Option<Arc<str>>,
}

impl SeriesQuery {
    /// Returns the selected monitors.
    pub(crate) fn wanted(&self) -> Wanted {
        let (from, to) = self.range.clone();
        Wanted { names: self.monitors.clone(), from, to }
    }
}

impl Wanted {
    pub(crate) fn is(&self, monitor: &str) -> bool {
        self.from.as_ref().is_none_or(|from| &**from <= monitor)
            && self.to.as_ref().is_none_or(|to| monitor < &**to)
            && (self.names.is_empty() || self.names.contains(monitor))
    }

    /// Returns whether a row group can contain one of them, by the smallest and largest name in it.
    pub(crate) fn may_be_in(&self, group: &Group) -> bool {
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

/// A column with values in less than this share of its rows is stored sparsely.
pub(crate) const SPARSE: f64 = 0.1;

/// A row group, as the footer describes it.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) rows: usize,
    /// The smallest and largest monitor, if the writer recorded them.
    pub(crate) monitors: Option<(Arc<str>, Arc<str>)>,
    /// No sample is provisional.
    pub(crate) all_settled: bool,
    /// No certificate was accepted unverified.
    pub(crate) all_verified: bool,
    /// Some tests are not of kind `mail-qos`.
    pub(crate) has_kinds: bool,
}

/// Catches panics of decoders on malformed bytes.
pub(crate) fn guarded<T, E: ToString>(
    file: &LakeFile,
    what: &str,
    read: impl FnOnce() -> Result<T, E>,
) -> Result<T, LakeError> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(corrupt(file, error)),
        Err(_) => Err(corrupt(file, format!("{what} can't be decoded"))),
    }
}

/// A file's footer, and the identity of the file.
#[derive(Debug)]
pub(crate) struct Footer {
    pub(crate) metadata: ParquetMetaData,
    pub(crate) of: Option<Identity>,
}

pub(crate) fn encrypted(file: &LakeFile, what: &str) -> LakeError {
    LakeError::Unsupported {
        path: file.path.clone(),
        reason: format!(
            "{what} is encrypted; write it again without encryption, with the program that has its key"
        ),
    }
}

impl Footer {
    /// Reads the footer. Encodings and sizes are not needed and would be a third of the work.
    pub(crate) fn read(file: &LakeFile, source: &Source) -> Result<Self, LakeError> {
        let options = ParquetMetaDataOptions::new()
            .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll)
            .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll);
        let reader = ParquetMetaDataReader::new().with_metadata_options(Some(options));
        let of = source.identity();
        if source.is_encrypted() {
            return Err(encrypted(file, "its footer"));
        }
        let metadata = guarded(file, "its footer", || reader.parse_and_finish(source))?;
        // Rows are counted and numbered in four bytes; a damaged footer may claim any number.
        let add = |sum: u32, group: &RowGroupMetaData| {
            sum.checked_add(u32::try_from(group.num_rows()).ok()?)
        };
        if metadata.row_groups().iter().try_fold(0, add).is_none() {
            return Err(corrupt(file, "its footer claims more rows than there can be"));
        }
        Ok(Self { metadata, of })
    }

    /// Returns its approximate size in memory, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.metadata.memory_size()
    }

    /// Estimates the size of a decoded row, in bytes, for the columns of a query that have values.
    pub(crate) fn bytes_per_row(&self, query: &SeriesQuery) -> usize {
        let share = |name: &str| {
            let (mut values, mut rows) = (0.0_f64, 0.0);
            for group in self.metadata.row_groups() {
                rows += group.num_rows() as f64;
                for chunk in group.columns().iter().filter(|chunk| is_of(chunk, name)).take(1) {
                    let nulls =
                        chunk.statistics().and_then(Statistics::null_count_opt).unwrap_or(0);
                    values += chunk.num_values() as f64 - nulls as f64;
                }
            }
            if rows > 0.0 { values / rows } else { 0.0 }
        };
        let full = |name: &str, bytes: usize| if share(name) > 0.0 { bytes } else { 0 };
        let sparse = |name: &str, bytes: usize| if share(name) > SPARSE { bytes } else { 0 };
        let metrics: usize = query.metrics.iter().map(|metric| full(&metric.column(), 4)).sum();
        let columns = query.columns.iter().map(|column| match column {
            Column::Stage => sparse(column.as_str(), 1),
            Column::Error => sparse(column.as_str(), 16),
            Column::SmtpReplyCode => sparse(column.as_str(), 8),
            Column::TestInterval | Column::MaxRoundTrip => full(column.as_str(), 4),
            Column::Unverified => full(column.as_str(), 1),
            // Approximation for hops: the share of rows with values is a third of that of the first
            // leaf.
            Column::Hops => full(column.as_str(), 150),
        });
        // started_at and outcome; exclusion and provisional state, if present.
        let receipts = if query.receipts { super::receipt::SIZE } else { 0 };
        9 + receipts + full("excluded", 1) + full("settled", 1) + metrics + columns.sum::<usize>()
    }
}

/// Returns the row groups of a file and the footer that they are from.
///
/// # Errors
/// The file can't be read or is not a Parquet file.
pub(crate) fn groups(file: &LakeFile) -> Result<(Vec<Group>, Footer), LakeError> {
    renewed(file, || {
        let footer = Footer::read(file, &Source::open(file)?)?;
        Ok((groups_of(&footer.metadata), footer))
    })
}

/// Returns whether a chunk has no values, by its statistics.
pub(crate) fn all_null(chunk: &ColumnChunkMetaData) -> bool {
    let nulls = chunk.statistics().and_then(Statistics::null_count_opt);
    nulls.is_some() && nulls == u64::try_from(chunk.num_values()).ok()
}

pub(crate) fn groups_of(metadata: &ParquetMetaData) -> Vec<Group> {
    let groups = metadata.row_groups().iter().map(|group| {
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        let chunk = |name: &str| {
            let is = |chunk: &&ColumnChunkMetaData| matches!(chunk.column_path().parts(), [only] if only == name);
            group.columns().iter().find(is)
        };
        let statistics = |name: &str| chunk(name)?.statistics();
        let monitors = statistics("monitor").and_then(|statistics| {
            // Truncated bounds are still bounds, if they are still text.
            let name = |bytes: Option<&[u8]>| Some(Arc::<str>::from(std::str::from_utf8(bytes?).ok()?));
            let bounds = (name(statistics.min_bytes_opt())?, name(statistics.max_bytes_opt())?);
            // Bounds in the wrong order, from a damaged footer, are useless.
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

#[cfg(test)]
mod tests {
    use parquet::{
        data_type::{ByteArray, ByteArrayType},
        file::{
            properties::WriterProperties, statistics::ValueStatistics, writer::SerializedFileWriter,
        },
        schema::parser::parse_message_type,
    };

    use super::*;

    /// Returns the row groups of a file whose footer claims these bounds of its monitors.
    fn claimed(least: &str, greatest: &str) -> Vec<Group> {
        let schema = Arc::new(
            parse_message_type("message rows { required binary monitor (UTF8); }")
                .expect("a schema"),
        );
        let mut file = Vec::new();
        let mut writer =
            SerializedFileWriter::new(&mut file, schema, Arc::new(WriterProperties::new()))
                .expect("one");
        let mut columns = writer.next_row_group().expect("a row group");
        let mut column = columns.next_column().expect("a column").expect("a column");
        let names = [ByteArray::from("a"), ByteArray::from("b")];
        column.typed::<ByteArrayType>().write_batch(&names, None, None).expect("values");
        column.close().expect("a column");
        columns.close().expect("a row group");
        let metadata = writer.close().expect("a file");
        let mut metadata = metadata.into_builder();
        let groups = metadata.take_row_groups().into_iter().map(|group| {
            let mut group = group.into_builder();
            let columns = group.take_columns().into_iter().map(|column| {
                let bound = |name: &str| Some(ByteArray::from(name));
                let bounds =
                    ValueStatistics::new(bound(least), bound(greatest), None, Some(0), false);
                let column = column.into_builder().set_statistics(Statistics::ByteArray(bounds));
                column.build().expect("a column")
            });
            group.set_column_metadata(columns.collect()).build().expect("a group")
        });
        groups_of(&metadata.set_row_groups(groups.collect()).build())
    }

    #[test]
    fn name_bounds_in_the_wrong_order_are_ignored() {
        let wanted = |name: &str| Wanted { names: [name.to_owned()].into(), ..Wanted::default() };
        let right = &claimed("a", "b")[0];
        assert!(wanted("a").may_be_in(right) && !wanted("c").may_be_in(right));
        assert!(wanted("a").may_be_in(&claimed("b", "a")[0]));
    }
}
