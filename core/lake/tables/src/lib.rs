//! Whole lakes: samples of many day files as columns, import, export, verification, repair and
//! retention.
//!
//! [`Lake`] finds the day files, [`SeriesQuery`] selects what to read, and each monitor's samples
//! are returned as a [`Series`]. This crate doesn't know figures or reports. The probe does not use
//! it, and so does not link polars; the code for day files that both programs need is in
//! `mailqos-lake`.

mod batch;
mod catalogue;
mod days;
mod declared;
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
mod object;
pub mod parallel;
mod part;
pub mod place;
mod query;
mod receipt;
mod receipt_columns;
pub mod repair;
pub mod retention;
mod series;
mod source;

pub use mailqos_lake::LakeError;

pub use batch::SeriesIter;
pub use days::{Day, LakeAdminError, SiteInfo, Tree, info, list};
pub use declared::{Declaration, Declarations};
pub use durations::{Durations, Values};
pub use lake::{Lake, RowGroup, SiteAndMonitor, SiteEvents};
pub use metric::{Column, Metric};
pub use query::SeriesQuery;
pub use receipt::{Receipt, TlsFacts};
pub use series::{HopDelay, Series, SeriesKey, has_mails};
