//! Reports: definition → sections → blocks → media.
