//! Setup with commands: a first monitor in one command, existing entries are kept, invalid ones are
//! not written.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use std::process::Output;

use mailqos_tests::{
    binaries::command,
    hooks::{Hooks, Manner},
    servers::{MailServer, Options, PASSWORD, PROBE},
    setting::words_of,
};

struct Folder(tempfile::TempDir);

impl Folder {
    fn run(&self, arguments: &[&str]) -> Output {
        command("mailqos-probe")
            .args(arguments)
            .current_dir(self.0.path())
            .env("PROBE_PASSWORD", PASSWORD)
            .env_remove("RUST_LOG")
            .output()
            .unwrap()
    }

    fn well(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = words_of(&output);
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
    // The certificate is not trusted: nothing is written.
    let output = folder.run(&arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("--pin") && said.contains("SHA-256"),
        "{said}"
    );
    assert_eq!(folder.config(), "");
    // Editors find the schema in that folder.
    let schema = folder.well(&["schema"]);
    let schema = &schema[schema.find('{').unwrap()..];
    std::fs::write(folder.0.path().join("mailqos.schema.json"), schema).unwrap();
    let said = folder.well(&[&arguments[..], &["--pin"]].concat());
    assert!(said.contains("✓ ok: round trip"), "{said}");
    let config = folder.config();
    assert!(config.starts_with("#:schema ./mailqos.schema.json\n"), "{config}");
    assert!(
        config.contains("# The monitored server.") && config.contains("fingerprint = \""),
        "{config}"
    );
    assert!(!config.contains("word\\ß"), "the password is in the configuration");
    folder.well(&["check"]);
    assert_eq!(folder.well(&["test", "mail", "--no-record"]).matches('✓').count(), 1);
    // Without a terminal there are no prompts: missing options are named.
    let output = folder.run(&["init", "--site", "x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--address"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_tests_does_not_wait_for_the_check_interval() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let server = MailServer::start(Options::default()).await.unwrap();
    let (smtp, pop3) = (server.smtp_port().to_string(), server.pop3s_port().to_string());
    let said = folder.well(&[
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
        "--pin",
        "--check-interval",
        "10m",
        "--max-round-trip",
        "20m",
    ]);
    let explained = |said: &str| {
        let (_, round_trip) = said.split_once("✓ ok: round trip ").expect(said);
        let seconds: f64 = round_trip.split(' ').next().unwrap().parse().unwrap();
        assert!(seconds < 60.0, "the test waited for the check interval: {said}");
        assert!(said.contains(" pick-up") && said.contains(" after sending"), "{said}");
    };
    explained(&said);
    explained(&folder.well(&["test", "mail", "--no-record"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_is_set_up_without_an_smtp_server() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let server = MailServer::start(Options::default()).await.unwrap();
    let imap = server.imaps_port().to_string();
    let said = folder.well(&[
        "init",
        "--yes",
        "--kind",
        "mailbox",
        "--site",
        "lyon",
        "--address",
        "127.0.0.1",
        "--object",
        "mail",
        "--mailbox",
        PROBE,
        "--pickup-port",
        &imap,
        "--password-env",
        "PROBE_PASSWORD",
        "--pin",
    ]);
    assert!(said.contains("✓ ok") && !said.contains("round trip"), "{said}");
    let config = folder.config();
    assert!(config.contains("kind = \"mailbox\"") && !config.contains("smtp"), "{config}");
    folder.well(&["check"]);
    // A key for mails is refused, but defaults for other monitors are not.
    let path = folder.0.path().join("mailqos.toml");
    let add = |line: &str| {
        std::fs::write(
            &path,
            config.replace("kind = \"mailbox\"", &format!("kind = \"mailbox\"\n{line}")),
        )
    };
    add("max_round_trip = \"1m\"").unwrap();
    let refused = String::from_utf8(folder.run(&["check"]).stderr).unwrap();
    assert!(refused.contains("\"max_round_trip\" does not apply to kind \"mailbox\""), "{refused}");
    add("alarm = { round_trip = \"10s\", pickup_login = \"2s\" }").unwrap();
    let refused = String::from_utf8(folder.run(&["check"]).stderr).unwrap();
    assert!(refused.contains("\"round_trip\" does not apply"), "{refused}");
    let defaults = "[defaults]\nmax_round_trip = \"1m\"\nfrom = \"a@example.com\"\nalarm = { round_trip = \"10s\" }\n";
    std::fs::write(&path, format!("{config}\n{defaults}")).unwrap();
    folder.well(&["check"]);
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
    folder.well(&["add", "account", "other", "--user", "o", "--password-credential", "other"]);
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
    assert!(config.contains("pickup = { protocol = \"imap\", account = \"other\" }"), "{config}");
    let listed = folder.well(&["list", "monitor", "tag:gold"]);
    assert!(
        listed.contains("new-1") && listed.contains("1m") && !listed.contains("included"),
        "{listed}"
    );
    let rows: serde_json::Value =
        serde_json::from_slice(&folder.run(&["list", "object", "--format", "json"]).stdout)
            .unwrap();
    assert_eq!(rows.as_array().map(Vec::len), Some(2));
    let shown = folder.well(&["show", "new-1"]);
    assert!(shown.contains("new.example:993 TLS over IMAP"), "{shown}");
    // For what was already written, there is no need to reload.
    for hints in [true, false] {
        let output = folder.run(&["disable", "included"]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "included: disabled\n");
        let notes = String::from_utf8_lossy(&output.stderr);
        assert_eq!(notes.contains("mailqos-probe reload"), hints, "{notes}");
    }
    let included = std::fs::read_to_string(folder.0.path().join("more/a.toml")).unwrap();
    assert!(
        included.starts_with("# more\n")
            && included.contains("# inner")
            && included.contains("enabled = false"),
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
    let output = folder.run(&["remove", "monitor", "new-1"]);
    let (said, notes) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.starts_with("monitor new-1 removed from ") && !said.contains("reload"), "{said}");
    assert!(notes.contains("mailqos-probe reload"), "{notes}");
    folder.well(&["remove", "object", "new"]);
    folder.well(&["remove", "account", "other"]);
    assert!(folder.config().starts_with(before));
    folder.well(&["check"]);
}

#[test]
fn explicit_settings_override_the_provider() {
    let microsoft = [
        "--preset",
        "microsoft-365",
        "--tenant",
        "contoso.onmicrosoft.com",
        "--client-id",
        "f00d",
        "--client-secret-env",
        "PROBE_PASSWORD",
    ];
    let over_imap = [&microsoft[..], &["--protocol", "imap"]].concat();
    let google = [
        "--preset",
        "google-workspace",
        "--login",
        "oauth",
        "--client-id",
        "f00d",
        "--client-secret-env",
        "PROBE_PASSWORD",
        "--refresh-token-file",
        "token",
        "--protocol",
        "pop3",
    ];
    let password = ["--password-env", "PROBE_PASSWORD"];
    let national = [&microsoft[..], &["--cloud", "us-government"]].concat();
    let cases: [(&[&str], &[&str]); 11] = [
        // Microsoft Graph is the default, unless options name a server of another protocol.
        (
            &microsoft,
            &[
                "address = \"graph.microsoft.com\"",
                "smtp = { protocol = \"graph\", account = \"microsoft-365\" }",
                "pickup = { protocol = \"graph\", account = \"microsoft-365\" }",
            ],
        ),
        (&national, &["address = \"graph.microsoft.us\"", "cloud = \"us-government\""]),
        (
            &[&microsoft[..], &["--smtp-port", "587"]].concat(),
            &["address = \"smtp.office365.com\"", "port = 587"],
        ),
        (
            &over_imap,
            &[
                "address = \"smtp.office365.com\"",
                "smtp = { port = 587, tls = \"starttls\", account = \"microsoft-365\" }",
                "pickup = { protocol = \"imap\", server = \"outlook.office365.com\", port = 993, tls = \"implicit\", account = \"microsoft-365\" }",
                "oauth = { preset = \"microsoft-365\", tenant = \"contoso.onmicrosoft.com\", client_id = \"f00d\", client_secret = { env = \"PROBE_PASSWORD\" } }",
            ],
        ),
        (&google, &["server = \"pop.gmail.com\", port = 995", "refresh_token = { file = \""]),
        (
            &[&["--preset", "google-workspace"], &password[..]].concat(),
            &["server = \"imap.gmail.com\", port = 993", "password = { env = \"PROBE_PASSWORD\" }"],
        ),
        (
            &[
                &["--preset", "fastmail", "--smtp-port", "587", "--smtp-tls", "starttls"],
                &password[..],
            ]
            .concat(),
            &["address = \"smtp.fastmail.com\"", "port = 587, tls = \"starttls\""],
        ),
        (
            &[&["--preset", "yahoo"], &password[..]].concat(),
            &["\"imap.mail.yahoo.com\", port = 993"],
        ),
        (&[&["--preset", "zoho"], &password[..]].concat(), &["\"smtp.zoho.com\""]),
        (&[&["--preset", "gmx"], &password[..]].concat(), &["\"mail.gmx.net\""]),
        (
            &[&["--preset", "ionos", "--pickup-server", "imap.ionos.de"], &password[..]].concat(),
            &["server = \"imap.ionos.de\""],
        ),
    ];
    for (arguments, expected) in cases {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.well(
            &[&["init", "--yes", "--offline", "--mailbox", "probe@contoso.example"], arguments]
                .concat(),
        );
        let config = folder.config();
        for part in expected {
            assert!(config.contains(part), "{arguments:?}: no {part} in\n{config}");
        }
        folder.well(&["check"]);
    }
    // Missing options for a provider are named; nothing is written.
    let folder = Folder(tempfile::tempdir().unwrap());
    for (arguments, missing) in [
        (&microsoft[..2], "--tenant"),
        (&microsoft[..4], "--client-id"),
        (&microsoft[..4], "https://entra.microsoft.com, App registrations"),
        (
            &["--preset", "microsoft-365", "--login", "sign-in", "--protocol", "imap"],
            "allow public client flows",
        ),
        (
            &["--preset", "google-workspace", "--login", "sign-in", "--protocol", "imap"],
            "https://console.cloud.google.com/auth/clients",
        ),
        (&microsoft[..6], "--client-secret-env"),
        (&google[..8], "--refresh-token-env"),
        (&["--preset", "gmail"], "google-workspace"),
    ] {
        let output = folder.run(
            &[&["init", "--yes", "--offline", "--mailbox", "probe@contoso.example"], arguments]
                .concat(),
        );
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(missing), "{arguments:?}: {said}");
    }
    assert_eq!(folder.config(), "");
}

/// The options that set up a monitor of this server.
fn monitor_of(server: &MailServer) -> Vec<String> {
    let (smtp, pop3) = (server.smtp_port().to_string(), server.pop3s_port().to_string());
    let options = format!(
        "init --yes --pin --site lyon --address 127.0.0.1 --object mail --mailbox {PROBE} --smtp-port {smtp} \
         --smtp-tls starttls --protocol pop3 --pickup-port {pop3} --password-env PROBE_PASSWORD"
    );
    options.split_whitespace().map(str::to_owned).collect()
}

fn with<'a>(options: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    options.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_tried_before_it_is_written() {
    const WARNING: &str = "no one is notified of alarms of mail";
    let folder = Folder(tempfile::tempdir().unwrap());
    let server = MailServer::start(Options::default()).await.unwrap();
    let options = monitor_of(&server);
    // Nobody listens there: the monitor is written, and no action list.
    let hooks = Hooks::start(Manner::Status(200)).await.unwrap();
    let topic = hooks.url("/alarms");
    hooks.set(Manner::Status(403));
    let output = folder.run(&with(&options, &["--notify", "ntfy", "--notify-url", &topic]));
    let said = words_of(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("✗ ntfy at 127.0.0.1") && said.contains("not accepted"), "{said}");
    let config = folder.config();
    assert!(config.contains("[monitor.mail]") && !config.contains("\n[action_list"), "{config}");
    assert!(folder.well(&["check"]).contains(WARNING));
    // Who wants no notifications says so.
    let path = folder.0.path().join("mailqos.toml");
    let silent = config.replace("[monitor.mail]", "[monitor.mail]\naction_list = \"none\"");
    std::fs::write(&path, silent).unwrap();
    assert!(!folder.well(&["check"]).contains(WARNING));
    // It is accepted: the list is written, and the next monitor uses it.
    std::fs::remove_file(&path).unwrap();
    hooks.set(Manner::Status(200));
    let said = folder.well(&with(
        &options,
        &["--notify", "ntfy", "--notify-url", &topic, "--notify-token-env", "PROBE_PASSWORD"],
    ));
    assert!(said.contains("✓ ntfy at 127.0.0.1: accepted"), "{said}");
    assert!(!said.contains(PASSWORD) && !said.contains("no one is notified"), "{said}");
    let told = hooks.accepted();
    let told = told.last().unwrap();
    assert_eq!(told.json()["topic"], "alarms");
    assert!(told.head.contains(&format!("Bearer {PASSWORD}")), "{}", told.head);
    let config = folder.config();
    assert!(
        config.contains("[action_list.default]") && !config.contains("# [action_list"),
        "{config}"
    );
    assert!(!folder.well(&["check"]).contains(WARNING));
    let again = folder.run(&with(&options, &["--monitor", "b", "--notify", "none"]));
    assert!(again.status.success(), "{}", words_of(&again));
    let again = folder
        .run(&with(&options, &["--monitor", "c", "--notify", "ntfy", "--notify-url", &topic]));
    assert!(words_of(&again).contains("already exists"), "{}", words_of(&again));
    assert!(!folder.config().contains("[monitor.c]"), "{}", folder.config());
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_about_alarms_go_through_another_server() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let server = MailServer::start(Options::default()).await.unwrap();
    let other = MailServer::start(Options::default()).await.unwrap();
    let port = other.smtp_port().to_string();
    let options = monitor_of(&server);
    let email = ["--notify", "email", "--notify-to", PROBE, "--notify-port", &port];
    // The tested server can't report its own failure.
    let own = [&email[..], &["--notify-server", "127.0.0.1"]].concat();
    let refused = words_of(&folder.run(&with(&options, &own)));
    assert!(refused.contains("this server is tested"), "{refused}");
    std::fs::remove_file(folder.0.path().join("mailqos.toml")).unwrap();
    let login = ["--notify-server", "localhost", "--notify-password-env", "PROBE_PASSWORD"];
    let said = folder.well(&with(&options, &[&email[..], &login].concat()));
    assert!(said.contains(&format!("✓ e-mail to {PROBE} through alarms: accepted")), "{said}");
    let config = folder.config();
    for part in
        ["[account.alarms]", "[mail_server.alarms]", "fingerprint = ", "server = \"localhost\""]
    {
        assert!(config.contains(part), "{part}: {config}");
    }
    let mails = other.accepted();
    let text = String::from_utf8_lossy(&mails.first().expect("a mail").content).into_owned();
    assert!(text.contains("Subject: TEST"), "{text}");
    folder.well(&["actions", "test"]);
    // Offline, nothing is tried.
    std::fs::remove_file(folder.0.path().join("mailqos.toml")).unwrap();
    drop(other);
    folder.well(&with(&options, &[&email[..], &login, &["--offline"]].concat()));
    folder.well(&["check"]);
}
