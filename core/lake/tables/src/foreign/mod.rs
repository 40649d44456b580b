//! Measurements of other tools as tables: rows of text under our column names or theirs.
//!
//! Knows files and their peculiarities; must not know samples or the lake (see `import`).

mod clock;
mod numbers;
mod presets;
mod table;

pub(super) use clock::{Local, resolve};
pub use numbers::Mark;
pub(super) use numbers::with_unit;
pub(super) use presets::ExportSelection;
pub use presets::Preset;
pub(super) use table::{Row, Table, read_csv};

/// Words for "no value", in addition to an empty field (spreadsheets, RRDtool, Grafana, pandas,
/// PostgreSQL).
const MISSING: [&str; 18] = [
    "-",
    "--",
    "–",
    "—",
    "U",
    "NaN",
    "nan",
    "NAN",
    "-nan",
    "null",
    "NULL",
    "Null",
    "N/A",
    "n/a",
    "None",
    "\\N",
    "undefined",
    "-NaN",
];

/// Returns whether a field has no value.
pub(super) fn is_missing(text: &str, own_words: &[String]) -> bool {
    text.is_empty() || MISSING.contains(&text) || own_words.iter().any(|word| word == text)
}
