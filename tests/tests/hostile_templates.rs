//! Malicious templates, and what a report reveals about the machine that generated it, with the
//! real binary.

#![allow(clippy::expect_used, missing_docs)]

use std::process::{Command, Stdio};

use mailqos_model::{Micros, UtcMicros};
use mailqos_tests::{
    setting::{Setting, find_bytes, words_of},
    simulation::{self, Habits},
};

/// Content of a file that no template may read, and of an environment variable.
const SECRET: &str = "Zwiebelkuchen-4Kp";

/// Returns what `templates check` prints about a custom partial.
fn refused(medium: &str, partial: &str, text: &str) -> String {
    let setting = Setting::new("here");
    std::fs::write(setting.path("secret.txt"), SECRET).expect("a file");
    let folder = setting.path("templates").join(medium);
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join(partial), text).expect("a partial");
    let output = setting
        .command("mailqos-analytics")
        .args(["templates", "check"])
        .env("PLANTED", SECRET)
        .output()
        .expect("the program starts");
    let said = words_of(&output);
    assert_eq!(output.status.code(), Some(2), "{medium}/{partial}: {text} is accepted: {said}");
    assert!(!said.contains(SECRET), "{medium}/{partial}: {said}");
    said
}

#[test]
fn pages_and_mails_read_no_files_and_no_environment() {
    for (medium, partial) in
        [("html", "paragraph.html"), ("email", "paragraph.html"), ("pdf", "paragraph.typ")]
    {
        for file in ["/etc/passwd", "../../secret.txt", "secret.txt"] {
            let said = refused(medium, partial, &format!("{{% include \"{file}\" %}}"));
            assert!(said.contains("nknown template") && said.contains(partial), "{said}");
        }
        let said = refused(medium, partial, "{{ get_env(name=\"PLANTED\") }}");
        assert!(said.contains("nknown function") && said.contains("get_env"), "{said}");
    }
}

#[test]
fn the_typesetter_reads_no_files_and_no_packages() {
    for text in [
        "#read(\"/etc/passwd\")",
        "#read(\"../../secret.txt\")",
        "#image(\"secret.txt\")",
        "#include \"/secret.txt\"",
        "#import \"@preview/cetz:0.2.0\"",
    ] {
        let said = refused("pdf", "paragraph.typ", text);
        assert!(said.contains("can't typeset the PDF"), "{text}: {said}");
    }
}

#[test]
fn a_pdf_names_its_producer_but_no_user_machine_or_folder() {
    let mut setting = Setting::new("here");
    setting.add("[object.lyon]\naddress = \"127.0.0.1\"");
    let now = UtcMicros::now();
    let samples = simulation::samples(
        &Habits::calm("lyon".parse().expect("a name"), 1.0),
        3,
        &jiff::tz::TimeZone::UTC,
        now - Micros::from_secs(3 * 86_400),
        now,
    );
    simulation::write(&setting.data(), &"here".parse().expect("a name"), samples).expect("a lake");
    let output = setting
        .command("mailqos-analytics")
        .args(
            "report --template executive-summary --period yesterday --format pdf --output out"
                .split(' '),
        )
        .env("USER", "Planted-Person")
        .env("LOGNAME", "Planted-Person")
        .env("HOSTNAME", "planted-machine")
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    // Uncompressed, so that nothing hides in compressed parts.
    let plain = setting.path("plain");
    std::fs::create_dir(&plain).expect("a folder");
    let copied = Command::new("qpdf")
        .args(["--qdf", "--object-streams=disable"])
        .arg(setting.path(&path))
        .arg(plain.join("report.pdf"))
        .stderr(Stdio::null())
        .status();
    if !copied.is_ok_and(|status| status.success()) {
        eprintln!("qpdf is not here: compressed parts are not searched");
        std::fs::copy(setting.path(&path), plain.join("report.pdf")).expect("copied");
    }
    assert!(find_bytes(&plain, b"mailqos").is_some(), "no maker");
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let folder = setting.path("").display().to_string();
    for word in [
        "Planted-Person",
        "planted-machine",
        host.trim(),
        folder.trim_end_matches('/'),
        "/home/",
        "/tmp/",
    ] {
        assert!(
            word.len() < 4 || find_bytes(&plain, word.as_bytes()).is_none(),
            "the PDF names {word}"
        );
    }
}
