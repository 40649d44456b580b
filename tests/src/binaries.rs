//! Builds the real binaries in the profile of the running program, for the end-to-end tests and the
//! demonstration.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::OnceLock,
};

/// Packages whose binaries are built.
const PACKAGES: [&str; 2] = ["mailqos-probe", "mailqos-analytics"];

/// Returns the path of `mailqos-probe` or `mailqos-analytics`, built if necessary, or in the folder
/// that `MAILQOS_BIN` names.
///
/// # Panics
/// The binary can't be built: the tests can't continue then.
pub fn binary(name: &str) -> PathBuf {
    static BUILT: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    if let Some(folder) = std::env::var_os("MAILQOS_BIN") {
        return named(Path::new(&folder), name);
    }
    let built = BUILT.get_or_init(|| build(Stdio::piped()).expect("cargo builds the binaries"));
    built.get(name).unwrap_or_else(|| panic!("there is no binary {name}")).clone()
}

/// Returns the path of a program in the folder that `MAILQOS_BIN` names. It is absolute because
/// programs start in other folders than the caller's.
fn named(folder: &Path, name: &str) -> PathBuf {
    std::path::absolute(folder).expect("the current folder").join(name)
}

/// Returns a command that runs one of the binaries, with output without colours and in long lines.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(binary(name));
    command.env("NO_COLOR", "1").env("COLUMNS", "200").stdin(Stdio::null());
    command
}

/// Builds the binaries, showing cargo's progress, unless `MAILQOS_BIN` names their folder.
///
/// # Errors
/// The exit code for the program if they can't be built; the reason has been printed.
pub fn ensure() -> Result<(), ExitCode> {
    if std::env::var_os("MAILQOS_BIN").is_none()
        && let Err(error) = build(Stdio::inherit())
    {
        eprintln!("the programs could not be built: {error}");
        return Err(ExitCode::FAILURE);
    }
    Ok(())
}

/// Builds the binaries with cargo, in the profile and target folder of the running program; cargo's
/// progress goes to `progress`. Cargo itself serialises simultaneous builds.
///
/// # Errors
/// Cargo can't be started, or fails.
pub fn build(progress: Stdio) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut command =
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.args(["build", "--bins", "--message-format=json-render-diagnostics"]);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    if let Some((target, profile)) = place(&std::env::current_exe()?) {
        let profile = if profile == "debug" { "dev".into() } else { profile };
        command.arg("--target-dir").arg(target).arg("--profile").arg(profile);
    }
    // Variables that cargo sets for the running program would make some build scripts run again.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        }) {
            command.env_remove(name);
        }
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(progress)
        .stdout(Stdio::piped())
        .spawn()?
        .wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("cargo build ended with {}\n{said}", output.status)));
    }
    let executable = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let path = PathBuf::from(message.get("executable")?.as_str()?);
        Some((message.get("target")?.get("name")?.as_str()?.to_owned(), path))
    };
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(executable).collect())
}

/// Returns the target folder and the profile's folder name of a program that cargo built.
fn place(program: &Path) -> Option<(PathBuf, OsString)> {
    let mut folder = program.parent()?;
    if folder.ends_with("deps") || folder.ends_with("examples") {
        folder = folder.parent()?;
    }
    Some((folder.parent()?.to_owned(), folder.file_name()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_folder_is_that_of_the_caller() {
        let here = std::env::current_dir().expect("a folder");
        assert_eq!(named(Path::new("target/release"), "demo"), here.join("target/release/demo"));
    }

    #[test]
    fn the_profile_is_found_from_the_program() {
        for program in ["/a/target/debug/demo", "/a/target/debug/deps/servers-1234"] {
            assert_eq!(place(Path::new(program)), Some(("/a/target".into(), "debug".into())));
        }
    }
}
