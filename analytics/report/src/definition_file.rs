//! Reading of definition, template and theme files.

use std::path::Path;

use mailqos_config::Problem;

/// Maximum size of a definition, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Returns the text of a file.
///
/// # Errors
/// The file can't be read or is too large.
pub(super) fn read_file(file: &Path) -> Result<String, Problem> {
    mailqos_base::files::read_text(file, MAX_FILE).map_err(|error| {
        let problem = Problem::error(format!("{}: {error}", file.display()));
        match error.kind() {
            std::io::ErrorKind::FileTooLarge => problem,
            _ => problem.help("name the file of a definition, or a name in the folder of reports"),
        }
    })
}
