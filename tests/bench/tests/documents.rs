//! Every example in the documents is valid: configurations and report definitions can be read,
//! commands parse, links lead somewhere, and tests named in `SECURITY.md` exist.

#![allow(clippy::expect_used, missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use mailqos_tests::{binaries::binary, toml::json};
use toml_edit::DocumentMut;

/// Context that examples of single tables refer to.
const AROUND: &str = r#"
site = "stockholm"
[account.probe]
user = "probe@example.com"
password = { env = "PASSWORD" }
[account.alerts]
user = "alerts@example.com"
password = { env = "PASSWORD" }
[account.reports]
user = "reports@example.com"
password = { env = "PASSWORD" }
[object.relay]
address = "relay.example.com"
[monitor.mail-1]
object = "relay"
from = "probe@example.com"
to = "probe@example.com"
smtp = { account = "probe" }
pickup = { protocol = "imap", account = "probe" }
tags = ["core", "office", "customer"]
[operator.anna]
email = "anna@example.com"
[operator.ben]
email = "ben@example.com"
[mail_server.alerts]
server = "smtp.example.net"
from = "alerts@example.net"
[mail_server.other]
server = "smtp.example.org"
from = "alerts@example.net"
[mail_server.relay]
server = "smtp.example.com"
from = "alerts@example.net"
[mail_server.backup]
server = "smtp.example.org"
from = "alerts@example.net"
[action_list.operations]
actions = [{ email = "anna", mail_server = "alerts" }]
[target.share]
kind = "folder"
path = "share"
[target.people]
kind = "email"
mail_server = "alerts"
to = "anna"
"#;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the documents with their texts.
fn documents() -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    collect(&root().join("docs"), &mut paths);
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "tests/fuzz/README.md",
    ] {
        paths.push(root().join(name));
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| (path.clone(), fs::read_to_string(path).expect("a document")))
        .collect()
}

/// Returns the fenced blocks of a language, each with its first line.
fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String, bool)> = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(word)) => open = Some((number + 1, String::new(), word == language)),
            (Some(_), Some(_)) => {
                if let Some((number, block, true)) = open.take() {
                    found.push((number, block));
                }
            }
            (Some((_, block, _)), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

/// Adds what an example omits.
fn completed(example: &str) -> String {
    let mut whole: DocumentMut = AROUND.parse().expect("TOML");
    let own: DocumentMut = example.parse().unwrap_or_else(|error| panic!("{error}\n{example}"));
    for (key, item) in own.iter() {
        match (whole.get_mut(key).and_then(|known| known.as_table_mut()), item.as_table()) {
            (Some(known), Some(table)) => {
                for (name, inner) in table {
                    known.insert(name, inner.clone());
                }
            }
            _ => {
                whole.insert(key, item.clone());
            }
        }
    }
    whole.to_string()
}

/// Returns the published schema of a kind of file.
fn validator(name: &str) -> jsonschema::Validator {
    let text =
        fs::read_to_string(root().join(format!("docs/{name}.schema.json"))).expect("the schema");
    jsonschema::draft7::new(&serde_json::from_str(&text).expect("JSON")).expect("a schema")
}

/// Returns what a schema rejects in a file.
fn refusals(validator: &jsonschema::Validator, text: &str, place: &str) -> Vec<String> {
    validator
        .iter_errors(&json(text))
        .map(|error| format!("{place}: the schema refuses {}: {error}", error.instance_path()))
        .collect()
}

#[test]
fn what_is_shipped_fits_the_schemas() {
    let mut wrong = Vec::new();
    let mut read = 0;
    for (folder, kind) in
        [("reports", "definition"), ("templates", "template"), ("templates/themes", "theme")]
    {
        let validator = validator(kind);
        for entry in fs::read_dir(root().join(folder)).expect("a folder").flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let text = fs::read_to_string(&path).expect("a file");
                wrong.extend(refusals(&validator, &text, &path.display().to_string()));
                read += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(read > 10, "only {read} files were found");
}

#[test]
fn every_configuration_and_definition_is_accepted() {
    let (configuration, definitions) = (validator("mailqos"), validator("definition"));
    let mut wrong = Vec::new();
    let mut read = 0;
    for (path, text) in documents() {
        for (line, example) in blocks(&text, "toml") {
            let place = format!("{}:{line}", path.display());
            let folder = tempfile::tempdir().expect("a folder");
            for name in ["dkim.pem", "ca.pem", "store.secret", "teams.json"] {
                fs::write(folder.path().join(name), "{}").expect("a file");
            }
            fs::write(folder.path().join("holidays.txt"), "2026-12-24 Christmas Eve\n")
                .expect("a file");
            let file = folder.path().join("mailqos.toml");
            let own: DocumentMut = match example.parse() {
                Ok(own) => own,
                Err(error) => {
                    wrong.push(format!("{place}: {error}"));
                    continue;
                }
            };
            read += 1;
            if ["section", "template", "schedule", "deliver", "theme"]
                .iter()
                .any(|key| own.contains_key(key))
            {
                fs::write(&file, AROUND).expect("a file");
                fs::create_dir(folder.path().join("reports")).expect("a folder");
                let mut definition = own.clone();
                if !definition.contains_key("template") {
                    definition.insert("title", toml_edit::value("An example"));
                }
                if !definition.contains_key("section") && !definition.contains_key("template") {
                    definition.insert("template", toml_edit::value("trend"));
                }
                if definition.contains_key("schedule") && !definition.contains_key("period") {
                    definition.insert("period", toml_edit::value("last-month"));
                }
                let definition = definition.to_string();
                wrong.extend(refusals(&definitions, &definition, &place));
                fs::write(folder.path().join("reports/example.toml"), definition).expect("a file");
                let output = Command::new(binary("mailqos-analytics"))
                    .args(["templates", "check"])
                    .current_dir(folder.path())
                    .env("NO_COLOR", "1")
                    .output()
                    .expect("the binary starts");
                if !output.status.success() {
                    wrong.push(format!("{place}: {}", String::from_utf8_lossy(&output.stderr)));
                }
                continue;
            }
            let whole =
                if own.contains_key("site") { example.clone() } else { completed(&example) };
            fs::write(&file, &whole).expect("a file");
            if let Err(problems) = mailqos_config::load(&file) {
                wrong.push(format!("{place}: {problems}"));
            }
            wrong.extend(refusals(&configuration, &whole, &place));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(read > 12, "only {read} examples were found");
}

/// Splits a command into words as a shell would, up to a redirection; quotes keep blanks.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for character in line.chars() {
        match (quote, character) {
            (None, '>' | '|' | '#') => break,
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), c) if c == open => quote = None,
            (None, c) if c.is_whitespace() => words.push(String::new()),
            (_, c) => {
                if let Some(word) = words.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Measurements and benchmarks that documents name.
const MEASURES: [(&str, &str); 10] = [
    ("couriers", env!("CARGO_BIN_EXE_couriers")),
    ("crash", env!("CARGO_BIN_EXE_crash")),
    ("demo", env!("CARGO_BIN_EXE_demo")),
    ("lake_of", env!("CARGO_BIN_EXE_lake_of")),
    ("load", env!("CARGO_BIN_EXE_load")),
    ("measure", env!("CARGO_BIN_EXE_measure")),
    ("pages", env!("CARGO_BIN_EXE_pages")),
    ("record", env!("CARGO_BIN_EXE_record")),
    ("soak", env!("CARGO_BIN_EXE_soak")),
    ("truth", env!("CARGO_BIN_EXE_truth")),
];
/// Other programs that documents may name.
const OTHERS: [&str; 9] = [
    "editor",
    "export",
    "for",
    "install",
    "mount",
    "pip",
    "podman",
    "systemctl",
    "systemd-analyze",
];

/// Returns commands in the running text, between backticks.
fn inline_commands(text: &str) -> Vec<String> {
    let mut open = false;
    let prose: Vec<&str> = text
        .lines()
        .filter(|line| {
            let fence = line.trim_start().starts_with("```");
            open ^= fence;
            !open && !fence
        })
        .collect();
    let prose = prose.join(" ");
    let spans = prose.split('`').skip(1).step_by(2);
    let starts = [
        "mailqos-probe ",
        "mailqos-analytics ",
        "cargo ",
        "tests/real/",
        "tests/fuzz/run",
        "packaging/debian/build",
    ];
    spans
        .filter(|span| starts.iter().any(|start| span.starts_with(start)))
        .map(str::to_owned)
        .collect()
}

/// Returns the problem of a `cargo test`, if any: its package, its file and, with `--exact`, its
/// test must exist.
fn wrong_test(arguments: &[String]) -> Option<String> {
    let mut file = None;
    let mut words = arguments.iter().skip(1).map(String::as_str);
    let exact = arguments.iter().any(|word| word == "--exact");
    while let Some(word) = words.next() {
        match word {
            "-p" | "--package" => {
                let package = words.next().unwrap_or_default();
                let manifest = format!("name = \"{package}\"");
                let lock = fs::read_to_string(root().join("Cargo.lock")).expect("the lock file");
                if !lock.lines().any(|line| line == manifest) {
                    return Some(format!("there is no package {package:?}"));
                }
            }
            "--test" => {
                let test = words.next().unwrap_or_default();
                let folders =
                    ["tests/tests", "tests/bench/tests"].map(|folder| root().join(folder));
                let paths = folders.map(|folder| folder.join(format!("{test}.rs")));
                let path = paths.iter().find(|path| path.is_file()).unwrap_or(&paths[0]);
                match fs::read_to_string(path) {
                    Ok(text) => file = Some(text),
                    Err(error) => return Some(format!("{}: {error}", path.display())),
                }
            }
            "--" => break,
            name if exact && !name.starts_with('-') => {
                let known =
                    file.as_deref().is_some_and(|text| text.contains(&format!("fn {name}()")));
                if !known {
                    return Some(format!("there is no test {name}"));
                }
            }
            _ => {}
        }
    }
    None
}

#[test]
fn measures_build_the_programs_that_they_run() {
    let folder = root().join("tests/bench/src/bin");
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let text = fs::read_to_string(entry.path()).expect("a program");
        let own = text.contains("var_os(\"MAILQOS_BIN\")") || text.contains("\"target/");
        assert!(!own, "{} looks for programs itself: use `binaries`", entry.path().display());
    }
}

/// Returns the problem of a command, if any.
fn wrong_command(command: &str, folder: &Path) -> Option<String> {
    let mut words = words(command);
    // Variables and `sudo -u mailqos` may precede it.
    while words.first().is_some_and(|word| word.contains('=')) {
        words.remove(0);
    }
    if words.first().is_some_and(|word| word == "sudo") {
        words.drain(..if words.get(1).is_some_and(|word| word == "-u") { 3 } else { 1 });
    }
    let (program, arguments) = words.split_first()?;
    let after = |option: &str| {
        let at = arguments.iter().position(|word| word == option)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let is_there = |path: &str| match root().join(path).exists() {
        true => None,
        false => Some(format!("there is no {path}")),
    };
    // Placeholders for the reader's values; the help is only shown if everything before it is
    // valid.
    let helped = |program: &Path, arguments: &[String]| {
        let arguments = arguments
            .iter()
            .filter(|word| !word.starts_with('['))
            .map(|word| match word.trim_end_matches('…') {
                name if name.chars().all(|c| c.is_ascii_uppercase()) => name.to_lowercase(),
                said => said.to_owned(),
            })
            .filter(|word| !word.is_empty());
        let output = Command::new(program)
            .args(arguments)
            .arg("--help")
            .current_dir(folder)
            .stdin(Stdio::null())
            .output()
            .expect("the program starts");
        (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let measure = |name: &str, arguments: &[String]| match MEASURES
        .iter()
        .find(|(known, _)| *known == name)
    {
        Some((_, path)) => helped(Path::new(path), arguments),
        None => Some(format!("there is no program {name}")),
    };
    let own =
        arguments.iter().position(|word| word == "--").map_or(&[][..], |at| &arguments[at + 1..]);
    match (program.as_str(), arguments.first().map(String::as_str)) {
        ("mailqos-probe" | "mailqos-analytics", _) => helped(&binary(program), arguments),
        ("cargo", Some("run")) => measure(after("--bin").unwrap_or_default(), own),
        ("cargo", Some("demo")) => measure("demo", &arguments[1..]),
        ("cargo", Some("install")) => {
            after("--path").and_then(|path| is_there(&format!("{path}/Cargo.toml")))
        }
        ("cargo", Some("test")) => wrong_test(arguments),
        ("cargo", Some("build")) => after("--bin")
            .and_then(|program| is_there(&format!("tests/bench/src/bin/{program}.rs"))),
        ("cargo", Some("audit" | "clippy" | "deny" | "fmt")) => None,
        // Requests to the console's API, whose paths `tests/tests/console.rs` covers.
        ("curl", _) => None,
        ("python3", Some(script)) => is_there(script),
        (path, _) if path.contains('/') => is_there(path),
        (other, _) if OTHERS.contains(&other) => None,
        _ => Some("no test covers it: add it to the tests of the documents".to_owned()),
    }
}

#[test]
fn every_command_is_understood() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for (path, text) in documents() {
        let mut commands = inline_commands(&text);
        for (_, block) in blocks(&text, "sh") {
            commands.extend(block.lines().flat_map(|line| line.split("&&")).map(str::to_owned));
        }
        for command in commands {
            tried += 1;
            if let Some(reason) = wrong_command(&command, folder.path()) {
                wrong.push(format!("{}: {command}\n{reason}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried > 100, "only {tried} commands were found");
}

#[test]
fn every_block_is_of_a_language_that_is_tried() {
    let mut strange = Vec::new();
    for (path, text) in documents() {
        let mut open = false;
        for (number, line) in text.lines().enumerate() {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                open = !open;
                // Queries are for the reader's engine, text is a drawing, and Rust is quoted from
                // the sources (below).
                if open && !["sh", "toml", "sql", "text", "rust"].contains(&language) {
                    strange.push(format!("{}:{}: {language:?}", path.display(), number + 1));
                }
            }
        }
        assert!(!open, "{}: a block is not closed", path.display());
    }
    assert!(strange.is_empty(), "{strange:#?}");
}

#[test]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    for (path, text) in documents() {
        let folder = path.parent().expect("a folder");
        for link in
            text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link)
        {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") || link.contains(' ') {
                continue;
            }
            let target = if file.is_empty() { path.clone() } else { folder.join(file) };
            let has_anchor = || {
                let heads = fs::read_to_string(&target).unwrap_or_default();
                let slug = |head: &str| -> String {
                    let head = head.trim_start_matches('#').trim().to_lowercase();
                    head.chars()
                        .filter_map(|c| match c {
                            ' ' => Some('-'),
                            c if c.is_alphanumeric() || matches!(c, '-' | '_') => Some(c),
                            _ => None,
                        })
                        .collect()
                };
                heads.lines().any(|line| line.starts_with('#') && slug(line) == anchor)
            };
            if !target.exists() || (!anchor.is_empty() && !has_anchor()) {
                dead.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

/// `SECURITY.md` names tests as `file.rs: function`, several in a file separated by commas.
#[test]
fn tests_that_are_named_are_there() {
    let text = fs::read_to_string(root().join("SECURITY.md")).expect("SECURITY.md");
    let (mut missing, mut found) = (Vec::new(), 0);
    for quoted in text.split('`').skip(1).step_by(2) {
        let Some((file, functions)) =
            quoted.split_once(": ").filter(|(file, _)| file.ends_with(".rs"))
        else {
            if quoted.ends_with(".rs") {
                missing.push(format!("{quoted} without the test's name"));
            }
            continue;
        };
        let source = fs::read_to_string(root().join(file)).unwrap_or_default();
        for function in functions.split(", ") {
            found += 1;
            let head = format!("fn {function}(");
            let is_test = source.find(&head).is_some_and(|at| {
                source[at.saturating_sub(200)..at].contains("test")
                    || source[..at].contains("proptest!")
            });
            if !is_test {
                missing.push(format!("{file}: {function}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(found > 20, "only {found} tests are named");
}

#[test]
fn every_line_of_rust_is_quoted_from_the_sources() {
    let folder = root().join("core/config/src");
    let files = fs::read_dir(&folder).expect("the sources");
    let sources: String =
        files.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok()).collect();
    let mut quoted = 0;
    for (path, text) in documents() {
        let blocks = text.split("```rust\n").skip(1);
        for line in blocks.flat_map(|block| block.split("```").next().unwrap_or_default().lines()) {
            assert!(sources.contains(line), "{}: not in the sources: {line}", path.display());
            quoted += 1;
        }
    }
    assert!(quoted > 0, "no quotation was found");
}
