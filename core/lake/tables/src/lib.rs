//! Whole lakes: samples of many day files as columns, import, export, verification, repair and
//! retention.
//!
//! [`Lake`] finds the day files, [`SeriesQuery`] says what to read of them, and each monitor's
//! samples come as a [`Series`]. This crate knows no figure and no report. The probe does not use
//! it, so that it links no polars; what both programs need of day files is in `mailqos-lake`.

mod batch;
mod catalogue;
mod days;
mod decoded;
mod decoder;
mod durations;
pub mod export;
mod folders;
mod footer;
mod foreign;
pub mod import;
mod lake;
mod metric;
pub mod parallel;
mod part;
pub mod place;
mod query;
pub mod repair;
mod series;

pub use mailqos_lake::LakeError;

pub use batch::SeriesIter;
pub use days::{Day, LakeAdminError, SiteInfo, Tree, info, list};
pub use durations::{Durations, Values};
pub use lake::{Lake, SiteAndMonitor, SiteEvents};
pub use metric::{Column, Metric};
pub use query::SeriesQuery;
pub use series::{HopDelay, Series, SeriesKey, has_mails};
