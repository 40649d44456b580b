//! The probe: schedules tests, runs them, records their samples, and raises alarms.

pub mod alarm;
pub mod boot;
pub mod commands;
pub mod control;
pub mod heartbeat;
pub mod mail_test;
mod mailbox_test;
pub mod maintenance;
pub mod record;
pub mod schedule;
pub mod status;
pub mod tester;
mod testing;
mod trial;
mod verdict;
