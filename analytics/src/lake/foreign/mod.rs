//! Measurements of other tools as tables: rows of text under the names of our columns or of theirs.
//!
//! Knows files and their habits; must not know samples or the lake (see `import`).

mod clock;
mod numbers;
mod presets;
mod table;

pub use clock::{Local, Unresolved, resolve};
pub use numbers::Mark;
pub use presets::{Preset, Wish};
pub(super) use table::read_csv;
pub use table::{Row, Table};

/// Words that mean "no value", in addition to an empty field (spreadsheets, RRDtool, Grafana, pandas, PostgreSQL).
const MISSING: [&str; 16] = [
    "-", "--", "–", "—", "U", "NaN", "nan", "NAN", "-nan", "null", "NULL", "Null", "N/A", "n/a", "None", "\\N",
];

/// Whether a field holds no value.
pub fn is_missing(text: &str, own_words: &[String]) -> bool {
    text.is_empty() || MISSING.contains(&text) || own_words.iter().any(|word| word == text)
}
