//! Charts as SVG, one file per kind of chart. This crate does not depend on reports.
//!
//! Each colour of a drawing occurs twice: as an attribute, for print and for programs without style
//! sheets, and as a class, which [`palette::dark_rules`] recolours on dark pages.

pub mod axis;
pub mod budget;
pub mod calendar;
mod canvas;
mod data;
pub mod distribution;
pub mod dumbbell;
pub mod heat_map;
pub mod lines;
pub mod locale;
pub mod palette;
pub mod phases;
mod plot;
mod reduce;
pub mod round_trip;
#[cfg(test)]
mod samples;
pub mod small_multiples;
pub mod sparkline;
pub mod strip;
#[rustfmt::skip]
mod widths;

use mailqos_model::UtcMicros;
use serde::Serialize;

pub use canvas::DRAWING;
pub use data::{Data, Figure};
use locale::DASH;
pub use locale::{ChartLocale, English, Measure};

/// Width of a chart across the page, in pixels.
pub const WIDTH: u32 = 720;
/// Width of a chart next to another, in pixels.
pub const HALF: u32 = 352;

/// A drawn chart. The page sets the title and the subtitle; they are not part of the drawing.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Chart {
    /// Complete `<svg>` element with a `viewBox`, safe to insert into a page.
    #[serde(skip)]
    pub svg: String,
    /// Second drawing for narrow screens; empty if there is none.
    #[serde(skip)]
    pub narrow: String,
    /// Width of the view box, in pixels.
    pub width: u32,
    /// Height of the view box, in pixels.
    pub height: u32,
    /// Title: the finding.
    pub title: String,
    /// Subtitle: what is drawn, the unit, the period and the time zone.
    pub subtitle: String,
    /// Text alternative: the finding in a sentence.
    pub alternative: String,
    /// Drawn values as a table.
    #[serde(skip)]
    pub data: Data,
    /// Texts to show under the pointer, as JSON for the script of a page; empty if the titles
    /// within the drawing suffice.
    #[serde(skip)]
    pub hover: String,
    /// Part of the drawing with a time axis, if there is one.
    #[serde(skip)]
    pub time: Option<TimeArea>,
}

/// The part of a drawing that shows a period from left to right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeArea {
    /// The period.
    pub span: axis::TimeSpan,
    /// Left edge, in pixels of the view box.
    pub left: f64,
    /// Right edge, in pixels of the view box.
    pub right: f64,
}

impl Chart {
    /// Adds where the drawing shows which times.
    #[must_use]
    fn over(mut self, span: axis::TimeSpan, plot: plot::Plot) -> Self {
        self.time = Some(TimeArea { span, left: plot.left, right: plot.right });
        self
    }

    /// Adds texts to show under the pointer.
    #[must_use]
    fn hovering(mut self, hover: &canvas::Hover) -> Self {
        self.hover = hover.json();
        self
    }
}

/// A cell of the data table: the displayed text and the exact value.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Datum {
    /// Displayed text; a dash for a missing value.
    pub text: String,
    /// Exact value in its unit.
    pub value: Option<f64>,
    /// Unit of the exact value: `s`, `%`, or empty for a count.
    pub unit: &'static str,
    /// Time, if the cell is one.
    pub moment: Option<UtcMicros>,
}

impl Datum {
    /// Returns a text cell.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// Returns a cell with a time.
    pub(crate) fn moment(text: impl Into<String>, moment: UtcMicros) -> Self {
        Self { moment: Some(moment), ..Self::text(text) }
    }

    /// Returns a cell with a count.
    pub(crate) fn count(count: u64, locale: &dyn ChartLocale) -> Self {
        Self { value: Some(count as f64), ..Self::text(locale.count(count)) }
    }

    /// Returns a cell with a duration in microseconds or a share, depending on the measure; a dash
    /// if there is no value.
    pub(crate) fn measured(value: Option<f64>, measure: Measure, locale: &dyn ChartLocale) -> Self {
        let value = value.filter(|value| value.is_finite());
        let (scale, unit) = match measure {
            Measure::Duration => (1e-6, "s"),
            Measure::Share => (100.0, "%"),
        };
        Self {
            value: value.map(|value| value * scale),
            unit,
            ..Self::text(value.map_or_else(|| DASH.to_owned(), |value| measure.text(value, locale)))
        }
    }
}
