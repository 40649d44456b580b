//! The subcommands `completions` and `man` of both programs: shell completions and man pages,
//! generated from the command line that the program itself parses, so that they always agree.
//! Depends on clap and on nothing of mailqos.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Command, ValueEnum as _};
use clap_complete::Shell;
use clap_mangen::Man;

/// Options of `completions`.
#[derive(Debug, Clone, clap::Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum, required_unless_present = "folder")]
    shell: Option<Shell>,
    /// Write the completions for all shells to this folder, under the names that the shells expect,
    /// and print their paths.
    #[arg(long, value_name = "DIR", conflicts_with = "shell")]
    folder: Option<PathBuf>,
}

/// Options of `man`.
#[derive(Debug, Clone, clap::Args)]
pub struct ManArgs {
    /// Output folder; created if missing.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Returns the requested completions: the script itself, or the paths of the written files, one per
/// line.
///
/// # Errors
/// The folder can't be created or written.
pub fn completions(args: &CompletionsArgs, mut command: Command) -> io::Result<Vec<u8>> {
    let name = command.get_name().to_owned();
    if let Some(shell) = args.shell {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, name, &mut script);
        return Ok(script);
    }
    let folder = args.folder.as_deref().unwrap_or(Path::new("."));
    make(folder)?;
    let mut written = Vec::new();
    for shell in Shell::value_variants() {
        written.push(clap_complete::generate_to(*shell, &mut command, &name, folder)?);
    }
    Ok(lines(&written))
}

/// Writes a page for the program and one for each of its subcommands; returns their paths, one per
/// line.
///
/// # Errors
/// The folder can't be created or written.
pub fn man(args: &ManArgs, command: Command) -> io::Result<Vec<u8>> {
    make(&args.folder)?;
    let mut command = command.disable_help_subcommand(true);
    // Options of all subcommands are on every page.
    command.build();
    let mut written = Vec::new();
    pages(&command, &args.folder, &mut written)?;
    Ok(lines(&written))
}

fn pages(command: &Command, folder: &Path, written: &mut Vec<PathBuf>) -> io::Result<()> {
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        pages(inner, folder, written)?;
    }
    // Built commands include the name of their parents: mailqos-probe-run.
    let page = Man::new(command.clone()).manual("mailqos");
    let path = folder.join(page.get_filename());
    let mut text = Vec::new();
    page.render(&mut text)?;
    fs::write(&path, text).map_err(|error| named(error, &path))?;
    written.push(path);
    Ok(())
}

fn make(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder).map_err(|error| named(error, folder))
}

fn named(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn lines(paths: &[PathBuf]) -> Vec<u8> {
    paths.iter().flat_map(|path| format!("{}\n", path.display()).into_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    fn command() -> Command {
        Command::new("prog")
            .about("Does things.")
            .arg(Arg::new("config").long("config").global(true).help("The configuration."))
            .subcommand(
                Command::new("lake")
                    .about("Looks after the lake.")
                    .subcommand(Command::new("verify").about("Reads all.")),
            )
            .subcommand(Command::new("secret").hide(true))
    }

    #[test]
    fn each_command_that_is_shown_has_a_page() {
        let folder = tempfile::tempdir().expect("a folder");
        let args = ManArgs { folder: folder.path().join("man1") };
        let said = String::from_utf8(man(&args, command()).expect("pages")).expect("text");
        let names: Vec<&str> = said.lines().filter_map(|path| path.rsplit('/').next()).collect();
        assert_eq!(names, ["prog-lake-verify.1", "prog-lake.1", "prog.1"]);
        let page = fs::read_to_string(args.folder.join("prog-lake-verify.1")).expect("a page");
        assert!(page.contains("Reads all.") && page.contains("The configuration."), "{page}");
    }

    #[test]
    fn each_shell_gets_its_script() {
        let folder = tempfile::tempdir().expect("a folder");
        let args = CompletionsArgs { shell: None, folder: Some(folder.path().to_owned()) };
        let said =
            String::from_utf8(completions(&args, command()).expect("scripts")).expect("text");
        assert_eq!(said.lines().count(), Shell::value_variants().len());
        for path in said.lines() {
            assert!(fs::read_to_string(path).expect("a script").contains("verify"), "{path}");
        }
        let one = CompletionsArgs { shell: Some(Shell::Bash), folder: None };
        let script = completions(&one, command()).expect("a script");
        assert_eq!(script, fs::read(folder.path().join("prog.bash")).expect("the same script"));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let args = ManArgs { folder: "/dev/null/man".into() };
        let error = man(&args, command()).expect_err("no folder");
        assert!(error.to_string().contains("/dev/null/man"), "{error}");
    }
}
