//! Reports: definitions and templates (what to show), sections (figures → blocks), media (blocks → files).

pub mod document;
