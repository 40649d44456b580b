//! Charts: data in, SVG out; a file each. Knows no report and no figure.
//!
//! Every colour of a drawing is there twice: as an attribute, for print and for programs that know no style sheets, and
//! as a class, which [`palette::dark_rules`] turns for a dark page.

pub mod axis;
pub mod budget;
pub mod calendar;
mod canvas;
mod data;
pub mod distribution;
pub mod dumbbell;
pub mod heat_map;
pub mod lines;
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
pub mod voice;
#[rustfmt::skip]
mod widths;

use mailqos_model::UtcMicros;
use serde::Serialize;

pub use canvas::DRAWING;
pub use data::{Data, Figure};
use voice::DASH;
pub use voice::{English, Measure, Voice};

/// Width of a chart across the page.
pub const WIDTH: u32 = 720;
/// Width of a chart beside another.
pub const HALF: u32 = 352;

/// A drawn chart. Title and subtitle are set by the page, not drawn.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Chart {
    /// A whole `<svg>` element with a `viewBox`; safe to put into a page as it is.
    #[serde(skip)]
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
    #[serde(skip)]
    pub data: Data,
    /// What is said of the place that somebody points at, as JSON for the script of a page; empty where the drawing's own
    /// titles say all.
    #[serde(skip)]
    pub hover: String,
}

impl Chart {
    /// With something to say of the place that somebody points at.
    #[must_use]
    fn hovering(mut self, hover: &canvas::Hover) -> Self {
        self.hover = hover.json();
        self
    }
}

/// A cell of what is drawn: as it is shown, and exactly.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Datum {
    /// What is shown; a dash for nothing.
    pub text: String,
    /// The exact value in its unit.
    pub value: Option<f64>,
    /// The unit of the exact value: `s`, `%`, or nothing for a count.
    pub unit: &'static str,
    /// The moment, where it is one.
    pub moment: Option<UtcMicros>,
}

impl Datum {
    /// A word.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// A moment as it is shown, and exactly.
    pub(crate) fn moment(text: impl Into<String>, moment: UtcMicros) -> Self {
        Self {
            moment: Some(moment),
            ..Self::text(text)
        }
    }

    /// A number of things.
    pub(crate) fn count(count: u64, voice: &dyn Voice) -> Self {
        Self {
            value: Some(count as f64),
            ..Self::text(voice.count(count))
        }
    }

    /// A duration in microseconds or a share, as the measure says; a dash for none.
    pub(crate) fn measured(value: Option<f64>, measure: Measure, voice: &dyn Voice) -> Self {
        let value = value.filter(|value| value.is_finite());
        let (scale, unit) = match measure {
            Measure::Duration => (1e-6, "s"),
            Measure::Share => (100.0, "%"),
        };
        Self {
            value: value.map(|value| value * scale),
            unit,
            ..Self::text(value.map_or_else(|| DASH.to_owned(), |value| measure.text(value, voice)))
        }
    }
}
