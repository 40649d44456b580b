//! Reports: definitions and templates (what to show), sections (figures to blocks) and media
//! (blocks to files).
//!
//! This crate depends neither on schedules nor on delivery.

pub mod archive;
mod calendar_keys;
pub mod definition;
mod definition_file;
pub mod definitions;
pub mod deliverability;
mod deliveries;
pub mod digest;
pub mod document;
pub mod facts;
pub mod findings;
pub mod generate;
mod languages;
pub mod locale;
pub mod media;
pub mod naming;
pub mod pattern_words;
pub mod provenance;
pub mod reference;
mod rule;
pub mod schedule_keys;
pub mod sections;
mod stems;
pub mod theme;

pub use deliveries::among;
pub use mailqos_config::weekday;
