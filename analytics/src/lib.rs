//! Analytics: turns samples and events into reports and delivers them.

pub mod commands;
pub mod dispatch;
#[doc(hidden)]
pub mod fuzzing;
pub mod schedule;
