//! Reads the configuration file and what it includes into a [`Config`].

use std::path::Path;

use super::{Config, Problems};

/// Reads and checks the configuration.
///
/// # Errors
/// All that is wrong with it.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let _ = path;
    Err(Problems::default())
}
