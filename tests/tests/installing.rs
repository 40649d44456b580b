//! Installation on a new machine: programs without further dependencies, completions and man pages
//! for all commands.

#![allow(clippy::expect_used, missing_docs)]

use std::{
    path::Path,
    process::{Command, Stdio},
};

use mailqos_tests::binaries::command;

const PROGRAMS: [&str; 2] = ["mailqos-probe", "mailqos-analytics"];

/// Runs a program in a folder and returns its standard output.
fn said(name: &str, folder: &Path, arguments: &[&str]) -> String {
    let output =
        command(name).args(arguments).current_dir(folder).output().expect("the binary starts");
    let stdout = String::from_utf8(output.stdout).expect("text");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {stdout}{stderr}");
    stdout
}

/// Returns the subcommands that `--help` lists.
fn subcommands(name: &str, folder: &Path) -> Vec<String> {
    let help = said(name, folder, &["--help"]);
    let (_, list) = help.split_once("Commands:\n").expect("a list of commands");
    list.lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next().map(str::to_owned))
        .filter(|command| !command.is_empty() && command != "help")
        .collect()
}

#[test]
fn completions_and_man_pages_know_every_command() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in PROGRAMS {
        let commands = subcommands(name, folder.path());
        assert!(commands.len() > 10, "{commands:?}");
        let written = said(name, folder.path(), &["man", "man1"]);
        let paths: Vec<&str> = written.lines().collect();
        for command in &commands {
            let page = format!("man1/{name}-{command}.1");
            assert!(paths.contains(&page.as_str()), "no {page} among {paths:?}");
        }
        for path in paths {
            let page = std::fs::read_to_string(folder.path().join(path)).expect("a page");
            assert!(page.contains(".TH") && page.contains("DESCRIPTION"), "{path}: {page}");
        }
        for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
            let script = said(name, folder.path(), &["completions", shell]);
            for command in &commands {
                assert!(script.contains(command.as_str()), "{shell} does not know {command}");
            }
        }
    }
}

#[test]
fn shells_take_the_completions() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in PROGRAMS {
        for (shell, completes) in [
            ("bash", format!("source ./script && complete -p {name}")),
            ("zsh", "autoload -U compinit && compinit -u -D && source ./script".to_owned()),
            (
                "fish",
                format!("source ./script; and complete -C '{name} ru' | string match -q 'run*'"),
            ),
        ] {
            let script = said(name, folder.path(), &["completions", shell]);
            std::fs::write(folder.path().join("script"), script).expect("a file");
            let tried = Command::new(shell)
                .args(["-c", &completes])
                .current_dir(folder.path())
                .env("HOME", folder.path())
                .stdin(Stdio::null())
                .output();
            match tried {
                Ok(output) => assert!(
                    output.status.success(),
                    "{shell}: {}",
                    String::from_utf8_lossy(&output.stderr)
                ),
                Err(_) => eprintln!("{shell} is not here: not tried"),
            }
        }
    }
}

#[test]
fn programs_need_nothing_beside_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let templates = said("mailqos-analytics", folder.path(), &["templates", "list"]);
    for template in ["executive-summary", "monthly-operations", "service-level"] {
        assert!(templates.contains(template), "{templates}");
    }
    assert!(
        !said("mailqos-analytics", folder.path(), &["templates", "show", "trend"]).is_empty(),
        "an empty template"
    );
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder").collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn the_package_has_all_units_and_documents_and_every_file_that_it_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("probe/Cargo.toml")).expect("the manifest");
    let manifest: toml_edit::DocumentMut = text.parse().expect("TOML");
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().expect("assets");
    let sources: Vec<&str> = assets
        .iter()
        .filter_map(|asset| asset.as_array()?.get(0)?.as_str()?.strip_prefix("../"))
        .collect();
    // Files of a folder with this extension, excluding subfolders.
    let files = |folder: &str, ending: &str| -> Vec<String> {
        let entries = std::fs::read_dir(root.join(folder)).expect("a folder").flatten();
        let names = entries.filter(|entry| entry.path().is_file());
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.ends_with(ending)).map(|name| format!("{folder}/{name}")).collect()
    };
    for source in sources.iter().filter(|source| !source.starts_with("packaging/debian/made/")) {
        let found = match source.split_once('*') {
            Some((folder, ending)) => !files(folder.trim_end_matches('/'), ending).is_empty(),
            None => root.join(source).is_file(),
        };
        assert!(found, "the package names {source}, which is not there");
    }
    let packed = |path: &String| {
        sources.iter().any(|source| match source.split_once('*') {
            Some((folder, ending)) => path
                .strip_prefix(folder)
                .is_some_and(|name| !name.contains('/') && name.ends_with(ending)),
            None => source == path,
        })
    };
    let mut all = [files("packaging", ".service"), files("packaging", ".timer")].concat();
    all.extend(
        [files("docs", ".md"), files("docs/guide", ".md"), files("docs", ".schema.json")].concat(),
    );
    assert!(all.len() > 12, "{all:?}");
    for path in all {
        assert!(packed(&path), "{path} is not in the package");
    }
}
