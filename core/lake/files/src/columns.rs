//! Columns of the lake: their names, their types, and the fields of records that hold their values.

use mailqos_model::{
    Event, EventKind, Exclusion, Hop, Micros, MonitorId, Outcome, Placement, Sample, Stage,
    UtcMicros,
};

/// A value that is read from or written to a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Unknown.
    Null,
    /// A duration, a time in microseconds, or a count.
    Int(i64),
    /// A word or a text.
    Text(String),
    /// A boolean.
    Bool(bool),
    /// A score.
    Real(f64),
    /// The hops of a mail.
    Hops(Vec<Hop>),
}

/// Type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// `string` with few distinct values.
    Word,
    /// `timestamp(µs, UTC)`.
    Timestamp,
    /// `int64`.
    Long,
    /// `int32`.
    Int,
    /// `boolean`.
    Bool,
    /// `double`.
    Real,
    /// `list<struct>` of [`Hop`].
    Hops,
}

/// A column of a record.
pub struct Column<R> {
    /// Name in the file.
    pub name: &'static str,
    /// Type of the column.
    pub holds: Hold,
    /// Whether the column is never null.
    pub required: bool,
    /// Returns the value of a record.
    pub get: fn(&R) -> Cell,
    /// Sets the value of a record; a value of the wrong type is an error.
    pub set: fn(&mut R, Cell) -> Result<(), String>,
}

/// A record that is stored in day files.
pub trait Record: Clone + Send + 'static {
    /// Folder in the lake, and base name of the files.
    const FOLDER: &'static str;
    /// Returns all columns, in the order of the file.
    fn columns() -> &'static [Column<Self>];
    /// Returns an empty record to be filled in.
    fn blank() -> Self;
    /// Returns the sort key, which is unique within a site: the monitor and a time.
    fn key(&self) -> (&str, i64);
    /// Returns whether this record replaces another one with the same key.
    fn replaces(&self, other: &Self) -> bool;
}

/// A record field that is stored in a column.
trait Field: Sized {
    const HOLDS: Hold;
    const REQUIRED: bool = false;
    fn cell(&self) -> Cell;
    fn of(cell: Cell) -> Result<Self, String>;
}

/// A non-null value of a column.
trait Value: Sized {
    const HOLDS: Hold;
    fn cell(&self) -> Cell;
    fn of(cell: Cell) -> Result<Self, String>;
}

impl<T: Value> Field for Option<T> {
    const HOLDS: Hold = T::HOLDS;
    fn cell(&self) -> Cell {
        self.as_ref().map_or(Cell::Null, T::cell)
    }
    fn of(cell: Cell) -> Result<Self, String> {
        (cell != Cell::Null).then(|| T::of(cell)).transpose()
    }
}

/// Implements [`Field`] for fields that are never null.
macro_rules! required {
    ($($type:ty),+) => {$(
        impl Field for $type {
            const HOLDS: Hold = <Self as Value>::HOLDS;
            const REQUIRED: bool = true;
            fn cell(&self) -> Cell {
                Value::cell(self)
            }
            fn of(cell: Cell) -> Result<Self, String> {
                if cell == Cell::Null {
                    return Err("it is null".to_owned());
                }
                Value::of(cell)
            }
        }
    )+};
}

required!(MonitorId, UtcMicros, Outcome, EventKind);

/// Implements [`Value`] for types that convert to and from one kind of cell.
macro_rules! values {
    ($($type:ty: $holds:ident = |$value:ident| $cell:expr, $kind:ident($content:ident) => $made:expr, $what:literal;)+) => {$(
        impl Value for $type {
            const HOLDS: Hold = Hold::$holds;
            fn cell(&self) -> Cell {
                let $value = self;
                $cell
            }
            fn of(cell: Cell) -> Result<Self, String> {
                match cell {
                    Cell::$kind($content) => $made,
                    other => Err(format!(concat!("{:?} is not ", $what), other)),
                }
            }
        }
    )+};
}

/// Words come from outside, so an unknown one is an error that includes it.
fn word<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{error}"))
}

values! {
    Micros: Long = |value| Cell::Int(value.0), Int(value) => Ok(Self(value)), "a number";
    UtcMicros: Timestamp = |value| Cell::Int(value.0), Int(value) => Ok(Self(value)), "a number";
    i32: Int = |value| Cell::Int((*value).into()), Int(value) => Self::try_from(value).map_err(|_| format!("{value} is too large")), "a number";
    String: Word = |value| Cell::Text(value.clone()), Text(value) => Ok(value), "a text";
    bool: Bool = |value| Cell::Bool(*value), Bool(value) => Ok(value), "true or false";
    f64: Real = |value| Cell::Real(*value), Real(value) => Ok(value), "a score";
    Vec<Hop>: Hops = |value| Cell::Hops(value.clone()), Hops(value) => Ok(value), "a list of hops";
    MonitorId: Word = |value| Cell::Text(value.as_str().to_owned()), Text(value) => word(&value), "a text";
    Outcome: Word = |value| Cell::Text(value.as_str().to_owned()), Text(value) => word(&value), "a text";
    Stage: Word = |value| Cell::Text(value.as_str().to_owned()), Text(value) => word(&value), "a text";
    Exclusion: Word = |value| Cell::Text(value.as_str().to_owned()), Text(value) => word(&value), "a text";
    Placement: Word = |value| Cell::Text(value.as_str().to_owned()), Text(value) => word(&value), "a text";
    EventKind: Word = |value| Cell::Text(value.as_str().to_owned()), Text(value) => word(&value), "a text";
}

/// Returns the type of the column that stores a field.
const fn field<R, T: Field>(
    name: &'static str,
    get: fn(&R) -> Cell,
    set: fn(&mut R, Cell) -> Result<(), String>,
    _of: fn(&R) -> &T,
) -> Column<R> {
    Column { name, holds: T::HOLDS, required: T::REQUIRED, get, set }
}

macro_rules! column {
    ($name:literal, $field:ident) => {
        field(
            $name,
            |record| Field::cell(&record.$field),
            |record, cell| {
                record.$field = Field::of(cell)?;
                Ok(())
            },
            |record| &record.$field,
        )
    };
}

macro_rules! sample_table {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $column:literal,)+) => {
        static SAMPLE: &[Column<Sample>] = &[
            column!("monitor", monitor),
            column!("started_at", started_at),
            column!("outcome", outcome),
            $(column!($column, $field),)+
        ];
    };
}

mailqos_model::sample_columns!(sample_table);

impl Record for Sample {
    const FOLDER: &'static str = "samples";

    fn columns() -> &'static [Column<Self>] {
        SAMPLE
    }

    fn blank() -> Self {
        #[allow(clippy::expect_used, reason = "the text is a constant that is a name")]
        let monitor = "blank".parse().expect("a name");
        Self::new(monitor, UtcMicros(0), Outcome::NotTested)
    }

    fn key(&self) -> (&str, i64) {
        (self.monitor.as_str(), self.started_at.0)
    }

    /// Returns whether it replaces the other sample: a settled sample is never replaced by a
    /// provisional one.
    fn replaces(&self, other: &Self) -> bool {
        other.is_provisional() || !self.is_provisional()
    }
}

static EVENT: &[Column<Event>] = &[
    // The key must not be null: an event of the whole site has an empty text here.
    Column {
        name: "monitor",
        holds: Hold::Word,
        required: true,
        get: |event| {
            Cell::Text(
                event
                    .monitor
                    .as_ref()
                    .map_or_else(String::new, |monitor| monitor.as_str().to_owned()),
            )
        },
        set: |event, cell| {
            event.monitor = match cell {
                Cell::Text(text) if text.is_empty() => None,
                cell => Field::of(cell)?,
            };
            Ok(())
        },
    },
    column!("at", at),
    column!("kind", kind),
    column!("text", text),
    column!("actor", actor),
    column!("until", until),
    column!("detail", detail),
];

impl Record for Event {
    const FOLDER: &'static str = "events";

    fn columns() -> &'static [Column<Self>] {
        EVENT
    }

    fn blank() -> Self {
        Self::new(None, UtcMicros(0), EventKind::ProbeStarted)
    }

    fn key(&self) -> (&str, i64) {
        (self.monitor.as_ref().map_or("", |monitor| monitor.as_str()), self.at.0)
    }

    fn replaces(&self, _other: &Self) -> bool {
        true
    }
}
