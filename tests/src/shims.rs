//! C libraries that are preloaded to make a program's environment worse or faster (Linux only),
//! built with the linker's C compiler when needed.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

/// Builds a library of `tests/shims` into a folder and returns its path.
///
/// # Errors
/// There is no C compiler, or the system is not Linux with the GNU C library.
pub fn build(name: &str, folder: &Path) -> io::Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("shims/{name}.c"));
    let library = folder.join(format!("{name}.so"));
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .output()?;
    if output.status.success() {
        Ok(library)
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("{}: {said}", source.display())))
    }
}
