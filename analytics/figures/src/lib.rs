//! All figures, exact, one file per family. Doesn't know reports.
//!
//! Each family computes its figures from a [`Series`](mailqos_lake_tables::Series), one monitor's
//! samples as sorted columns, and a range of its rows. Figures that the samples don't support are
//! `None`, never NaN and never 0 % or 100 %.

pub mod alarm_log;
pub mod availability;
pub mod deliverability;
pub mod delivered_within;
pub mod explain;
pub mod local_clock;
pub mod outages;
mod packed;
pub mod patterns;
pub mod percentiles;
pub mod periods;
pub mod radix;
mod random;
pub mod rounding;
pub mod service_level;
pub mod share_changes;
pub mod significance;
pub mod stats;
pub mod trend;
mod wire;

pub use alarm_log::AlarmLog;
pub use availability::{Counts, Share};
pub use deliverability::{Deliverability, MailShare};
pub use outages::{Outage, State, Timeline};
pub use packed::Packed;
pub use percentiles::{
    DeliveredPercentile, Distribution, Percentile, Summary, distribution_of, percentiles,
    percentiles_of,
};
pub use periods::{Bucket, Calendar, Period, PeriodError, Unit, period_like};
