//! From samples and events to reports, and to the people who read them.

pub mod charts;
pub mod commands;
pub mod delivery;
pub mod figures;
#[doc(hidden)]
pub mod fuzzing;
pub mod lake;
pub mod parallel;
pub mod report;
pub mod rounding;
pub mod schedule;
pub mod timing;
