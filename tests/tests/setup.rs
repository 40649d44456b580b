//! Setting up by commands: a first monitor in one, what was there is kept, what is wrong is not written.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use std::process::{Command, Output};

use mailqos_tests::{
    binaries::binary,
    servers::{MailServer, Options, PASSWORD, PROBE},
};

struct Folder(tempfile::TempDir);

impl Folder {
    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(binary("mailqos-probe"))
            .args(arguments)
            .current_dir(self.0.path())
            .env("PROBE_PASSWORD", PASSWORD)
            .env("NO_COLOR", "1")
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap()
    }

    fn well(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    }

    fn config(&self) -> String {
        std::fs::read_to_string(self.0.path().join("mailqos.toml")).unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_monitor_is_set_up_by_one_command() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let server = MailServer::start(Options::default()).await.unwrap();
    let (smtp, pop3) = (server.smtp_port().to_string(), server.pop3s_port().to_string());
    let arguments = [
        "init",
        "--yes",
        "--site",
        "lyon",
        "--address",
        "127.0.0.1",
        "--object",
        "mail",
        "--mailbox",
        PROBE,
        "--smtp-port",
        &smtp,
        "--smtp-tls",
        "starttls",
        "--protocol",
        "pop3",
        "--pickup-port",
        &pop3,
        "--password-env",
        "PROBE_PASSWORD",
        "--check-interval",
        "200ms",
        "--max-round-trip",
        "5s",
    ];
    // Nobody vouches for the certificate: nothing is written.
    let output = folder.run(&arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("--pin") && said.contains("SHA-256"),
        "{said}"
    );
    assert_eq!(folder.config(), "");
    let said = folder.well(&[&arguments[..], &["--pin"]].concat());
    assert!(said.contains("✓ ok: round trip"), "{said}");
    let config = folder.config();
    assert!(
        config.contains("# The server under watch.") && config.contains("fingerprint = \""),
        "{config}"
    );
    assert!(!config.contains("word\\ß"), "the password stands in the configuration");
    folder.well(&["check"]);
    assert_eq!(folder.well(&["test", "mail", "--no-record"]).matches('✓').count(), 1);
    // Without a terminal nothing is asked: what is missing is named.
    let output = folder.run(&["init", "--site", "x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--address"));
}

#[test]
fn what_was_there_is_kept_and_what_is_wrong_is_not_written() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let before = "# my file\nsite = \"lyon\" # here\ninclude = [\"more\"]\n\n[defaults]\nfrom = \"a@b.example\"\nto = \"a@b.example\"\nsmtp = {}\n\n[object.old] # first\naddress = \"old.example\"\n";
    std::fs::write(folder.0.path().join("mailqos.toml"), before).unwrap();
    std::fs::create_dir(folder.0.path().join("more")).unwrap();
    std::fs::write(
        folder.0.path().join("more/a.toml"),
        "# more\n[account.box]\nuser = \"u\"\npassword = { env = \"X\" }\n\n[monitor.included] # inner\nobject = \"old\"\npickup = { account = \"box\" }\n",
    )
    .unwrap();
    folder.well(&["add", "object", "new", "--address", "new.example", "--tag", "dc2"]);
    folder.well(&[
        "add",
        "account",
        "other",
        "--user",
        "o",
        "--password-credential",
        "other",
    ]);
    folder.well(&[
        "add",
        "monitor",
        "new-1",
        "--object",
        "new",
        "--protocol",
        "imap",
        "--pickup-account",
        "other",
        "--test-interval",
        "1m",
        "--tag",
        "gold",
    ]);
    let config = folder.config();
    assert!(config.starts_with(before), "{config}");
    assert!(
        config.contains("pickup = { protocol = \"imap\", account = \"other\" }"),
        "{config}"
    );
    let listed = folder.well(&["list", "monitor", "tag:gold"]);
    assert!(
        listed.contains("new-1") && listed.contains("1m") && !listed.contains("included"),
        "{listed}"
    );
    let rows: serde_json::Value = serde_json::from_slice(&folder.run(&["list", "object", "--json"]).stdout).unwrap();
    assert_eq!(rows.as_array().map(Vec::len), Some(2));
    let shown = folder.well(&["show", "new-1"]);
    assert!(shown.contains("new.example:993 TLS over IMAP"), "{shown}");
    folder.well(&["disable", "included"]);
    let included = std::fs::read_to_string(folder.0.path().join("more/a.toml")).unwrap();
    assert!(
        included.starts_with("# more\n") && included.contains("# inner") && included.contains("enabled = false"),
        "{included}"
    );
    folder.well(&["enable", "inc*"]);

    let config = folder.config();
    for wrong in [
        &["add", "monitor", "x", "--object", "nowhere"][..],
        &["add", "object", "new", "--address", "again.example"],
        &["add", "object", "Upper Case", "--address", "x.example"],
        &["remove", "object", "new"],
        &["remove", "account", "nobody"],
        &["show", "nobody"],
    ] {
        let output = folder.run(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {output:?}");
        assert_eq!(folder.config(), config, "{wrong:?}");
    }
    folder.well(&["remove", "monitor", "new-1"]);
    folder.well(&["remove", "object", "new"]);
    folder.well(&["remove", "account", "other"]);
    assert!(folder.config().starts_with(before));
    folder.well(&["check"]);
}
