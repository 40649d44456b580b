//! The domain's words as types; each word is defined in the contracts and has the same name everywhere.

mod event;
mod id;
mod round_trip;
mod sample;
mod time;

pub use event::{Event, EventKind};
pub use id::{AccountName, InvalidName, MonitorId, Name, ObjectId, SiteName};
pub use round_trip::RoundTrip;
pub use sample::{Exclusion, Hop, Outcome, Sample, Stage, UnknownWord};
pub use time::{Micros, ParseDurationError, UtcMicros};
