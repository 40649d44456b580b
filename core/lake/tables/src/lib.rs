//! Whole lakes: samples of many day files as columns, import, export, verification, repair and retention.
//!
//! [`Lake`] finds the day files, [`SeriesQuery`] says what to read of them, and each monitor's samples come as a [`Series`].
//! This crate knows no figure and no report. The probe does not use it, so that it links no polars; what both programs need
//! of day files is in `mailqos-lake`.

mod days;
mod decoder;
pub mod export;
mod foreign;
pub mod import;
mod lake;
pub mod parallel;
mod part;
pub mod place;
pub mod repair;
mod series;

pub use days::{Day, SiteInfo, Tree, UpkeepError, info, list};
pub use lake::{Column, Lake, LakeError, SeriesQuery, SiteAndMonitor, SiteEvents};
pub use series::{Durations, HopDelay, Metric, Series, SeriesKey, Values, has_mails};
