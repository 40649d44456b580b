//! Reports from outside: what bad names, templates and missing files get, the same bytes twice, verification, the preview.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use jiff::tz::TimeZone;
use mailqos_core::model::{Micros, Outcome, Stage, UtcMicros};
use mailqos_tests::{
    binaries::binary,
    setting::{Setting, until},
    simulation::{self, Habits},
};

/// 2026-03-02, a Monday, midnight UTC.
const MONDAY: UtcMicros = UtcMicros(1_772_409_600_000_000);
const WEEK: [&str; 4] = ["--from", "2026-03-02", "--to", "2026-03-09"];
/// Names that mean something to one format or another, each with its monitor's id.
const NAMES: [(&str, &str); 8] = [
    ("script", "<script>alert(1)</script><img src=x onerror=alert(1)>"),
    ("quotes", r#"The "quoted" 'name' & more"#),
    ("emoji", "Post 📬 büro ☃"),
    ("rtl", "\u{202e}\u{5d3}\u{5d5}\u{5d0}\u{5e8} البريد"),
    ("typst", "#panic(\"x\") #set text(red) *b* $x$ @ref <l> //c"),
    ("tera", "{{ 7 * 7 }}{% if x %}{{ title }}"),
    ("tex", r"\textbf{x} \input{/etc/passwd} %c"),
    ("formula", "=cmd|' /C calc'!A1"),
];

/// Monitors with the names and ids, a week of tests of each, with an outage on Wednesday.
fn setting(names: &[(&str, &str)]) -> Setting {
    let mut setting = Setting::new("here");
    setting.replace("timezone = \"Europe/Stockholm\"", "timezone = \"UTC\"");
    let mut all = Vec::new();
    for (seed, (id, name)) in names.iter().enumerate() {
        let name = serde_json::to_string(name).expect("a string");
        setting.add(&format!(
            "[object.{id}]\naddress = \"127.0.0.1\"\nname = {name}\n[monitor.{id}]\nobject = \"{id}\"\nname = {name}\n\
             kind = \"mail-qos\"\nfrom = \"a@b.example\"\nto = \"a@b.example\"\nsmtp = {{ port = 587, account = \"probe\" }}\n\
             pickup = {{ protocol = \"pop3\", account = \"probe\" }}"
        ));
        let mut habits = Habits::calm(id.parse().unwrap(), 1.0 + seed as f64 / 4.0);
        habits.outage = Some((
            4,
            9,
            40,
            Outcome::SmtpFailed,
            Stage::SmtpConnect,
            "refused: =1+1 <b> #x {{ y }}",
        ));
        let to = MONDAY + Micros::from_secs(7 * 86_400);
        let mut samples = simulation::samples(&habits, seed as u64, &TimeZone::UTC, MONDAY, to);
        // Every second test is enough.
        let mut number = 0;
        samples.retain(|_| {
            number += 1;
            number % 2 == 0
        });
        all.extend(samples);
    }
    simulation::write(&setting.data(), &"here".parse().unwrap(), all).unwrap();
    setting.write();
    setting
}

fn report(setting: &Setting, arguments: &[&str], output: &str) -> Output {
    let output = setting.path(output);
    let folder = output.to_str().expect("a path");
    setting.run(
        "mailqos-analytics",
        &[&["report"], arguments, &WEEK, &["--output", folder]].concat(),
    )
}

/// The files that a report wrote, sorted.
fn files(output: &Output) -> Vec<PathBuf> {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let mut files: Vec<PathBuf> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(PathBuf::from)
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no file: {said}");
    files
}

fn read(files: &[PathBuf], extension: &str) -> String {
    let path = files
        .iter()
        .find(|path| path.extension().is_some_and(|e| e == extension));
    let bytes = fs::read(path.unwrap_or_else(|| panic!("no {extension} in {files:?}"))).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What it said, on one line: messages are broken for the terminal.
fn said(output: &Output) -> String {
    let words: Vec<String> = String::from_utf8_lossy(&output.stderr)
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    words.join(" ").replace("│ ", "")
}

/// Whether a tool that only looks is on this machine.
fn have(tool: &str) -> bool {
    let version = Command::new(tool)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.is_ok()
}

#[test]
fn names_are_shown_as_they_are_and_do_nothing() {
    let long = "long ".repeat(40);
    let names = [&NAMES[..], &[("long", long.trim_end())]].concat();
    let setting = setting(&names);
    let all = ["--template", "executive-summary", "--format", "html,pdf,xlsx,csv,json"];
    let output = report(&setting, &all, "out");
    let files = files(&output);
    assert_eq!(files.len(), 5, "{files:?}");
    let html = read(&files, "html");
    assert!(
        !html.contains("<script>alert") && !html.contains("<img src=x"),
        "a name became markup"
    );
    assert!(html.contains("&lt;script&gt;alert(1)&lt;"), "a name is not shown");
    assert!(
        html.contains("{{ 7 * 7 }}") && html.contains("#panic("),
        "a name was changed"
    );
    assert!(html.contains(r"\input{/etc/passwd}") && html.contains(long.trim_end()));
    let csv = read(&files, "csv");
    for field in csv.split([',', '\n']) {
        let field = field.trim_start_matches('"');
        assert!(
            !field.starts_with(['=', '@']),
            "a spreadsheet would calculate {field:?}"
        );
    }
    assert!(csv.contains("'=cmd|"), "the name is not there");
    let json: serde_json::Value = serde_json::from_str(&read(&files, "json")).expect("JSON");
    let json = json.to_string();
    for (_, name) in &names {
        // Marks that turn the direction of what follows are taken out of drawings, not of data.
        let quoted = serde_json::to_string(name).unwrap();
        assert!(json.contains(quoted.trim_matches('"')), "{name:?} is not in the JSON");
    }
    assert!(read(&files, "pdf").starts_with("%PDF-1."));
    let pdf = files
        .iter()
        .find(|path| path.extension().is_some_and(|e| e == "pdf"))
        .unwrap();
    if have("qpdf") {
        let checked = Command::new("qpdf").arg("--check").arg(pdf).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
    if Command::new("pdftotext").arg("-v").output().is_ok() {
        let text = Command::new("pdftotext")
            .args(["-raw"])
            .arg(pdf)
            .arg("-")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&text.stdout).replace('\n', " ");
        for word in [
            "<script>alert(1)</script>",
            "#panic(",
            "{{ 7 * 7 }}",
            "=cmd|",
            r"\input{/etc/passwd}",
        ] {
            assert!(text.contains(word), "{word} is not in the PDF");
        }
    }
}

#[test]
fn the_same_samples_give_the_same_bytes_and_can_be_verified() {
    let mut setting = setting(&NAMES[..2]);
    let all = ["--template", "executive-summary", "--format", "html,pdf,xlsx,csv,json"];
    let first = files(&report(&setting, &all, "one"));
    let second = files(&report(&setting, &all, "two"));
    for (one, two) in first.iter().zip(&second) {
        assert!(
            fs::read(one).unwrap() == fs::read(two).unwrap(),
            "{} differs",
            one.display()
        );
    }
    let verify = |setting: &Setting, file: &Path| {
        setting.run("mailqos-analytics", &["report", "verify", file.to_str().unwrap()])
    };
    let verifiable: Vec<&PathBuf> = first
        .iter()
        .filter(|path| {
            path.extension()
                .is_some_and(|e| e == "html" || e == "pdf" || e == "json")
        })
        .collect();
    assert_eq!(verifiable.len(), 3);
    for file in &verifiable {
        let output = verify(&setting, file);
        assert!(output.status.success(), "{}: {}", file.display(), said(&output));
    }
    // What the file says is changed.
    let html = verifiable
        .iter()
        .find(|path| path.extension().is_some_and(|e| e == "html"))
        .unwrap();
    let text = fs::read_to_string(html).unwrap();
    let at = text.find("\"samples\":").expect("the provenance") + "\"samples\":".len();
    let forged = setting.path("forged.html");
    fs::write(&forged, format!("{}9{}", &text[..at], &text[at..])).unwrap();
    let output = verify(&setting, &forged);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("has been changed"), "{}", said(&output));
    // What the lake holds is changed: one sample less.
    let mut samples = simulation::samples(
        &Habits::calm("script".parse().unwrap(), 1.0),
        0,
        &TimeZone::UTC,
        MONDAY,
        MONDAY + Micros::from_secs(86_400),
    );
    samples.pop();
    fs::remove_dir_all(setting.data()).unwrap();
    simulation::write(&setting.data(), &"here".parse().unwrap(), samples).unwrap();
    setting.add("");
    for file in verifiable {
        let output = verify(&setting, file);
        assert_eq!(output.status.code(), Some(1), "{}", file.display());
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            text.contains("The lake differs") && text.contains("script at here"),
            "{text}"
        );
    }
}

#[test]
fn a_template_without_end_is_stopped() {
    let setting = setting(&NAMES[1..2]);
    // A page of 10^10 letters, and a partial that includes itself.
    let letters = "0123456789".repeat(100);
    let loops = "{% for a in range(end=10000) %}{% for b in range(end=1000) %}".to_owned();
    let cases = [
        (format!("{loops}{letters}{{% endfor %}}{{% endfor %}}"), "endless loop"),
        ("{% include \"heading.html\" %}".to_owned(), "html"),
    ];
    for (partial, word) in cases {
        fs::create_dir_all(setting.path("templates/html")).unwrap();
        fs::write(setting.path("templates/html/heading.html"), partial).unwrap();
        let output = report(
            &setting,
            &["--template", "executive-summary", "--format", "html"],
            "out",
        );
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(word), "{}", said(&output));
        let made = fs::read_dir(setting.path("out")).map_or(0, Iterator::count);
        assert_eq!(made, 0, "a part of the page is there");
    }
}

#[test]
fn what_is_missing_is_warned_of_and_leaves_a_placeholder() {
    let setting = setting(&NAMES[1..2]);
    fs::create_dir_all(setting.path("reports")).unwrap();
    let definition = "title = \"House\"\nformats = [\"html\", \"pdf\"]\n[theme]\ncompany = \"ACME\"\nlogo = \"no-logo.svg\"\n\
                      fonts = [\"no-font.ttf\"]\n\
                      [[section]]\nkind = \"image\"\nfile = \"no-image.png\"\nalternative = \"Our house\"\n";
    fs::write(setting.path("reports/house.toml"), definition).unwrap();
    let output = report(&setting, &["house"], "out");
    let files = files(&output);
    let said = said(&output);
    for word in ["no-logo.svg", "no-font.ttf", "no-image.png"] {
        assert!(said.contains(word), "{word} is not warned of: {said}");
    }
    let html = read(&files, "html");
    assert!(html.contains("logo-missing\">ACME<"), "no placeholder of the logo");
    assert!(html.contains("Picture missing"), "no placeholder of the picture");
    assert!(read(&files, "pdf").starts_with("%PDF-1."));
}

/// The answer of a preview.
fn get(address: &str, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn the_preview_is_made_anew_when_a_file_changes() {
    let setting = setting(&NAMES[1..2]);
    fs::create_dir_all(setting.path("reports")).unwrap();
    let definition = |text: &str| format!("title = \"Draft\"\n[[section]]\nkind = \"text\"\nmarkdown = \"{text}\"\n");
    let file = setting.path("reports/draft.toml");
    fs::write(&file, definition("first words")).unwrap();
    let mut child = Command::new(binary("mailqos-analytics"))
        .arg("--config")
        .arg(setting.path("mailqos.toml"))
        .args(["report", "draft", "--preview", "--port", "0"])
        .args(WEEK)
        .env("PROBE_PASSWORD", "p")
        .env("WRONG_PASSWORD", "w")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let url = lines.next().expect("a line").expect("text");
    let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{url}");
    let shows = |text: &str| get(&address, "/", "127.0.0.1").contains(text);
    until("the first page", || shows("first words")).await;
    assert!(shows("/version"), "the page reloads itself");
    let version = || {
        get(&address, "/version", "localhost")
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned()
    };
    let before = version();
    fs::write(&file, definition("second words")).unwrap();
    until("the second page", || shows("second words")).await;
    assert_ne!(version(), before, "the browser learns of it");
    // A mistake is shown where one looks, and mended.
    fs::write(&file, "title = \"Draft\"\n[[section]]\nkind = \"txt\"\n").unwrap();
    until("the error", || shows("txt") && shows("draft.toml")).await;
    fs::write(&file, definition("third words")).unwrap();
    until("the third page", || shows("third words")).await;
    assert!(get(&address, "/", "evil.example").starts_with("HTTP/1.1 403"));
    child.kill().unwrap();
    child.wait().unwrap();
}
