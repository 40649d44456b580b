//! A wrong configuration: all problems together, each with file, line and remedy; exit code 2; no
//! lake.

#![allow(clippy::expect_used, missing_docs)]

use mailqos_tests::{
    binaries::command,
    setting::{Setting, words_of},
};

/// Runs a command with a configuration; returns exit code, standard output and standard error.
fn run(name: &str, config: &std::path::Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = command(name)
        .arg("--config")
        .arg(config)
        .args(arguments)
        .output()
        .expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const FINE: &str = r#"
site = "here"
[account.probe]
user = "probe@example.com"
password = { env = "PROBE_PASSWORD" }
[object.mail]
address = "127.0.0.1"
[monitor.mail]
object = "mail"
kind = "mail-qos"
from = "probe@example.com"
to = "probe@example.com"
smtp = { port = 587, tls = "starttls", account = "probe" }
pickup = { protocol = "pop3", port = 995, tls = "implicit", account = "probe" }
"#;

fn write(folder: &tempfile::TempDir, content: impl AsRef<[u8]>) -> std::path::PathBuf {
    let path = folder.path().join("mailqos.toml");
    std::fs::write(&path, content).expect("a file");
    path
}

#[test]
fn a_valid_configuration_is_reported_as_valid() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, stdout, stderr) = run("mailqos-probe", &write(&folder, FINE), &["check"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
}

#[test]
fn a_public_metrics_endpoint_causes_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    for (address, warned) in
        [("127.0.0.1:9925", false), ("[::1]:9925", false), ("0.0.0.0:9925", true)]
    {
        let text =
            FINE.replace("site = \"here\"", &format!("site = \"here\"\nmetrics = \"{address}\""));
        let (code, stdout, stderr) = run("mailqos-probe", &write(&folder, text), &["check"]);
        let said = stdout + &stderr;
        assert_eq!((code, said.contains("not loopback")), (Some(0), warned), "{address}: {said}");
    }
}

#[test]
fn all_errors_are_reported_together_with_location_and_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = FINE
        .replace("address = \"127.0.0.1\"", "adress = \"127.0.0.1\"\naddress = \"imap://mail\"")
        .replace("password = { env = \"PROBE_PASSWORD\" }", "password = \"hunter2-in-clear\"")
        .replace("port = 587", "port = 70000")
        .replace(
            "to = \"probe@example.com\"",
            "to = \"probe at example\"\nmax_round_trip = \"10s\"\ncheck_interval = \"20s\"",
        )
        .replace(
            "tls = \"implicit\", account = \"probe\"",
            "tls = \"implicit\", account = \"prob\"",
        );
    let file = write(&folder, text);
    for arguments in [&["check"][..], &["run"], &["test", "mail"]] {
        let (code, stdout, stderr) = run("mailqos-probe", &file, arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {stdout}{stderr}");
        let said = stdout + &stderr;
        for part in [
            "mailqos.toml:7",
            "adress",
            "did you mean \"address\"",
            "imap://mail",
            "in plaintext",
            "70000",
            "probe at example",
            "check interval",
            "did you mean \"probe\"",
        ] {
            assert!(said.contains(part), "{arguments:?} does not say {part:?}:\n{said}");
        }
        assert!(!said.contains("hunter2"), "{arguments:?} shows a secret:\n{said}");
    }
    assert!(!folder.path().join("data").exists(), "a lake was made");
}

#[test]
fn a_file_other_than_a_configuration_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for (what, content) in [
        ("no text", &b"site = \"\xff\xfe\"\n"[..]),
        ("no TOML", b"site = here and there\n"),
        ("empty", b""),
        ("unknown kind", b"site = \"a\"\n[monitor.x]\nkind = \"ping\"\n"),
    ] {
        for name in ["mailqos-probe", "mailqos-analytics"] {
            let arguments: &[&str] = if name == "mailqos-probe" {
                &["check"]
            } else {
                &["stats", "--from", "2026-01-01", "--to", "2026-01-02", "--format", "json"]
            };
            let (code, stdout, stderr) = run(name, &write(&folder, content), arguments);
            assert_eq!(code, Some(2), "{what}: {stdout}{stderr}");
            assert!((stdout + &stderr).contains("mailqos.toml"), "{what}");
        }
    }
    for path in [folder.path().join("absent.toml"), folder.path().to_owned()] {
        let (code, _, stderr) = run("mailqos-probe", &path, &["run"]);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(&*path.to_string_lossy()), "{stderr}");
    }
}

#[test]
fn an_unavailable_secret_is_named_but_not_shown() {
    let mut setting = Setting::new("secrets");
    setting.add("[object.mail]\naddress = \"127.0.0.1\"\n[monitor.mail]\nobject = \"mail\"\nfrom = \"a@example.com\"\nto = \"a@example.com\"\naction_list = \"none\"");
    setting.add(
        "smtp = { port = 1, account = \"absent\" }\npickup = { port = 1, account = \"absent\" }",
    );
    setting.add("[account.absent]\nuser = \"a\"\npassword = { env = \"NO_SUCH_VARIABLE\" }");
    let output = setting.run("mailqos-probe", &["test", "mail"]);
    let said = words_of(&output);
    assert!(!output.status.success() && said.contains("NO_SUCH_VARIABLE"), "{said}");
    // It may exist where the probe runs, so this is a warning.
    let output = setting.run("mailqos-probe", &["check"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let told =
        said.contains("account absent: the environment variable NO_SUCH_VARIABLE is not set");
    assert!(output.status.success() && told && said.contains("with 1 warning"), "{said}");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for name in ["mailqos-probe", "mailqos-analytics"] {
        for arguments in [&["no-such-command"][..], &["--no-such-option"], &[]] {
            let output = command(name).args(arguments).output().expect("the binary starts");
            assert_eq!(output.status.code(), Some(2), "{name} {arguments:?}");
        }
    }
    let mut setting = Setting::new("usage");
    setting.add("[object.mail]\naddress = \"127.0.0.1\"");
    assert_eq!(setting.run("mailqos-probe", &["test", "absent"]).status.code(), Some(2));
    let dates = ["stats", "--from", "2026-02-01", "--to", "2026-01-01", "--format", "json"];
    assert_eq!(setting.run("mailqos-analytics", &dates).status.code(), Some(2), "from after to");
}

#[test]
fn the_examples_of_the_readme_pass_the_check() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"))
        .expect("the README");
    let examples: Vec<&str> = readme
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(example, _)| example))
        .filter(|example| example.contains("site = "))
        .collect();
    assert!(examples.len() >= 3, "{} examples", examples.len());
    for example in examples {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("mailqos.toml");
        std::fs::write(&file, example).expect("a file");
        let config =
            mailqos_config::load(&file).unwrap_or_else(|problems| panic!("{problems}\n{example}"));
        assert!(config.warnings.is_empty(), "{}\n{example}", config.warnings);
    }
}
