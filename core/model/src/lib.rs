//! The terms of mailqos as types: names, times, durations, samples and events. Each term is defined
//! once and has the same name in the configuration, the lake and the reports.
//!
//! This crate depends on no file, network or configuration.

mod deliverability;
mod direction;
mod event;
mod id;
mod round_trip;
mod sample;
mod time;
mod words;

pub use deliverability::{EnhancedStatus, Placement, Verdict};
pub use direction::Direction;
pub use event::{Event, EventKind, MAX_DECLARATION_DELAY};
pub use id::{AccountName, InvalidName, MonitorId, Name, ObjectId, SiteName};
pub use round_trip::RoundTrip;
pub use sample::{Exclusion, Hop, Outcome, Sample, Stage};
#[doc(hidden)]
pub use serde;
pub use time::{Micros, ParseDurationError, UtcMicros};
pub use words::UnknownWord;
