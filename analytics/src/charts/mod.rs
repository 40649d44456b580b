//! Charts: data in, SVG out; a file each. Knows no report and no figure.

use serde::Serialize;

/// A drawn chart. Title and subtitle are set by the page, not drawn.
#[derive(Debug, Clone, Serialize)]
pub struct Chart {
    /// A whole `<svg>` element with a `viewBox`; safe to put into a page as it is.
    pub svg: String,
    /// Width of the view box.
    pub width: u32,
    /// Height of the view box.
    pub height: u32,
    /// What it shows happening.
    pub title: String,
    /// What is drawn, in which unit, over which period and zone.
    pub subtitle: String,
    /// The finding in a sentence, for those who can't see it.
    pub alternative: String,
    /// What is drawn, as a table.
    pub data: Data,
}

/// What is drawn, as a table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Data {
    /// Heads of the columns.
    pub heads: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}
