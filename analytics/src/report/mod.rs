//! Reports: definitions and templates (what to show), sections (figures → blocks), media (blocks → files).

mod calendar_keys;
pub mod definition;
mod deliveries;
pub mod digest;
pub mod dispatch;
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
pub mod sections;
pub mod theme;

pub(crate) use deliveries::among;
