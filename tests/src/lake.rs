//! Reads the sample lake by its specification alone, independently of the product's reader.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
};

use parquet::{
    file::reader::{FileReader as _, SerializedFileReader},
    record::Field,
};

/// A sample in the lake.
#[derive(Debug, Clone)]
pub struct Row {
    /// The site, from the partition.
    pub site: String,
    /// The UTC date, from the partition.
    pub date: String,
    fields: BTreeMap<String, Field>,
}

impl Row {
    /// Returns a text; `None` for null.
    ///
    /// # Panics
    /// The column does not exist or is not text.
    pub fn text(&self, column: &str) -> Option<&str> {
        match self.field(column) {
            Field::Null => None,
            Field::Str(text) => Some(text),
            other => panic!("{column} holds {other:?}"),
        }
    }

    /// Returns a number of microseconds, a timestamp or a count; `None` for null.
    ///
    /// # Panics
    /// The column does not exist or is not a number.
    pub fn number(&self, column: &str) -> Option<i64> {
        match self.field(column) {
            Field::Null => None,
            Field::Long(number) | Field::TimestampMicros(number) => Some(*number),
            Field::Int(number) => Some((*number).into()),
            other => panic!("{column} holds {other:?}"),
        }
    }

    /// Returns a Boolean; `None` for null or if the column is missing.
    pub fn flag(&self, column: &str) -> Option<bool> {
        match self.fields.get(column) {
            Some(Field::Bool(flag)) => Some(*flag),
            _ => None,
        }
    }

    /// Returns the monitor.
    pub fn monitor(&self) -> &str {
        self.text("monitor").expect("monitor is never null")
    }

    /// Returns the outcome.
    pub fn outcome(&self) -> &str {
        self.text("outcome").expect("outcome is never null")
    }

    fn field(&self, column: &str) -> &Field {
        self.fields
            .get(column)
            .unwrap_or_else(|| panic!("there is no column {column}: {:?}", self.fields.keys()))
    }
}

/// Returns the day files of a lake: `samples/site=…/date=…/samples.parquet`.
pub fn day_files(data: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let sites = list(&data.join("samples"));
    let dates = sites.iter().flat_map(|site| list(site));
    dates.map(|date| date.join("samples.parquet")).filter(|file| file.exists()).collect()
}

/// Returns all samples of a lake, in the order of its files.
///
/// # Panics
/// A file can't be read: files must be readable at any time.
pub fn rows(data: &Path) -> Vec<Row> {
    day_files(data).iter().flat_map(|file| rows_of(file)).collect()
}

/// Returns the samples of one day file.
///
/// # Panics
/// The file can't be read.
pub fn rows_of(file: &Path) -> Vec<Row> {
    let partition = |name: &str| -> String {
        let mut parts =
            file.iter().filter_map(|part| part.to_str()?.strip_prefix(name)?.strip_prefix('='));
        parts
            .next()
            .unwrap_or_else(|| panic!("{} has no partition {name}", file.display()))
            .to_owned()
    };
    let open = File::open(file).expect("a day file opens");
    let reader = SerializedFileReader::new(open)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let rows = reader.get_row_iter(None).expect("rows");
    rows.map(|row| {
        let row = row.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let fields =
            row.get_column_iter().map(|(name, field)| (name.clone(), field.clone())).collect();
        Row { site: partition("site"), date: partition("date"), fields }
    })
    .collect()
}

/// What the specification requires of each column: name, Parquet type, whether it can be null.
pub const CONTRACT: [(&str, &str, bool); 12] = [
    ("monitor", "string", false),
    ("started_at", "timestamp", false),
    ("outcome", "string", false),
    ("stage", "string", true),
    ("error", "string", true),
    ("smtp_connect_us", "int64", true),
    ("smtp_send_us", "int64", true),
    ("pickup_connect_us", "int64", true),
    ("pickup_login_us", "int64", true),
    ("pickup_receive_us", "int64", true),
    ("round_trip_us", "int64", true),
    ("round_trip_error_us", "int64", true),
];

/// Checks a lake against the specification: layout, schema, order, uniqueness, compression.
///
/// # Panics
/// Something violates the specification.
pub fn check(data: &Path) {
    use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type};
    for file in day_files(data) {
        let reader = SerializedFileReader::new(File::open(&file).expect("a day file opens"))
            .expect("Parquet");
        let metadata = reader.metadata();
        let rows = rows_of(&file);
        for (name, kind, nullable) in CONTRACT {
            let columns = metadata.file_metadata().schema_descr().columns();
            let column = columns.iter().find(|column| column.path().string() == name);
            let column = column.unwrap_or_else(|| panic!("{}: no column {name}", file.display()));
            let logical = column.logical_type_ref();
            let right = match kind {
                "string" => {
                    column.physical_type() == Type::BYTE_ARRAY
                        && logical == Some(&LogicalType::String)
                }
                "timestamp" => {
                    column.physical_type() == Type::INT64
                        && matches!(logical, Some(LogicalType::Timestamp(kind)) if kind.is_adjusted_to_u_t_c && kind.unit == TimeUnit::MICROS)
                }
                _ => column.physical_type() == Type::INT64 && logical.is_none(),
            };
            assert!(
                right,
                "{}: {name} is {:?} {logical:?}",
                file.display(),
                column.physical_type()
            );
            let optional = column.self_type().get_basic_info().repetition() == Repetition::OPTIONAL;
            assert!(
                !optional || nullable || rows.iter().all(|row| row.fields[name] != Field::Null),
                "{name}"
            );
        }
        for group in metadata.row_groups() {
            for column in group.columns() {
                assert!(
                    matches!(column.compression(), Compression::ZSTD(_)),
                    "{}: not zstd",
                    file.display()
                );
            }
        }
        let key = |row: &Row| (row.monitor().to_owned(), row.number("started_at"));
        for pair in rows.windows(2) {
            assert!(
                key(&pair[0]) < key(&pair[1]),
                "{}: not sorted, or not unique: {pair:?}",
                file.display()
            );
        }
        for row in &rows {
            let started = row.number("started_at").expect("started_at is never null");
            let date = mailqos_model::UtcMicros(started).utc_date();
            assert_eq!(row.date, date.to_string(), "{}", file.display());
            assert!(row.text("error").is_none_or(|error| !error.contains('\n')), "{row:?}");
            for (name, kind, _) in CONTRACT {
                if kind == "int64" {
                    assert!(row.number(name).is_none_or(|micros| micros >= 0), "{name}: {row:?}");
                }
            }
        }
    }
}
