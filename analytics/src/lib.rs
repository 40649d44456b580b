//! From samples and events to reports, and to the people who read them.

pub mod commands;
pub mod dispatch;
#[doc(hidden)]
pub mod fuzzing;
pub mod schedule;
