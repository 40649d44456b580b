//! The figures of the contracts, exact; a file a family. Knows no report.
//!
//! [`Lake`] reads, [`Series`] holds one monitor's samples as sorted columns, and each family makes its figures of a series
//! and a range of its rows. What the samples don't support is `None`, never NaN and never 0 % or 100 %.

pub mod alarm_log;
pub mod availability;
mod columns;
mod day_file;
pub mod delivered_within;
pub mod lake;
pub mod local_clock;
pub mod outages;
mod packed;
pub mod parallel;
pub mod patterns;
pub mod percentiles;
pub mod periods;
mod random;
pub mod rounding;
pub mod series;
pub mod service_level;
pub mod significance;
pub mod stats;
pub mod trend;

pub use alarm_log::AlarmLog;
pub use availability::{Counts, Share};
pub use lake::{Column, Lake, LakeError, SeriesQuery};
pub use outages::{Outage, State, Timeline};
pub use packed::Packed;
pub use percentiles::{DeliveredPercentile, Distribution, Percentile, Summary, percentiles};
pub use periods::{Bucket, Calendar, Period, PeriodError, Unit, period_like};
pub use series::{Durations, Metric, Series, SeriesKey, Values, has_mails};
