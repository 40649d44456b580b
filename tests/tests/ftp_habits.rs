//! Deliveries to FTP servers with habits of real ones: once, complete, under the right name, and
//! never claimed without evidence.

#![cfg(unix)]
#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use std::process::Output;

use mailqos_tests::{
    servers::{
        Beginning, Drives, Extended, Facts, FtpHabits, FtpServer, Names, Shown, Trouble, ftp_habits,
    },
    setting::Setting,
};

const NAME: &str = "Bericht März – 東京.pdf";

fn setting(server: &FtpServer, keys: &str) -> Setting {
    let mut setting = Setting::new("here");
    let timeout = if keys.contains("timeout") { "" } else { "timeout = \"30s\"" };
    setting.add(&format!(
        "[target.site]\nkind = \"ftp\"\nserver = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n{timeout}\n{keys}",
        server.port()
    ));
    setting
}

fn deliver(setting: &Setting, name: &str, content: &[u8], folder: &str) -> Output {
    std::fs::write(setting.path(name), content).unwrap();
    setting.run("mailqos-analytics", &["deliver", name, "--to", "site", "--folder", folder])
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn try_out(setting: &Setting) -> (bool, String) {
    let output = setting.run("mailqos-analytics", &["targets", "test"]);
    (output.status.success(), said(&output))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_habit_receives_a_file_once_and_the_ledger_shows_what_is_known() {
    let mut all = Vec::new();
    for named in ftp_habits() {
        let server = FtpServer::with(named.habits.clone()).await.unwrap();
        all.push(tokio::task::spawn_blocking(move || {
            let setting = setting(&server, named.keys);
            for content in [&b"first"[..], b"the second, which replaces it"] {
                let output = deliver(&setting, NAME, content, "2026/Q4");
                assert!(output.status.success(), "{}: {}", named.name, said(&output));
                let name = match named.habits.names {
                    Names::Ansi => "2026/Q4/Bericht Maerz - _6771_4eac.pdf",
                    _ => "2026/Q4/Bericht März – 東京.pdf",
                };
                if named.habits.taken_away {
                    let taken = server.taken();
                    let (taken_name, bytes) = taken.last().expect("taken");
                    assert_eq!(
                        (taken_name.as_str(), bytes.as_slice()),
                        (name, content),
                        "{}",
                        named.name
                    );
                } else {
                    assert_eq!(server.names(), [name], "{}", named.name);
                    assert_eq!(server.get(name).unwrap(), content, "{}", named.name);
                }
                let entry = setting.ledger().pop().unwrap();
                let reply = entry["reply"].as_str().unwrap();
                assert!(reply.starts_with(named.said), "{}: {reply}", named.name);
                assert_eq!(reply.contains("ASCII"), named.habits.names == Names::Ansi, "{reply}");
            }
            // Nothing is left to do, and nothing is repeated.
            let before = server.heard().len();
            assert!(setting.run("mailqos-analytics", &["outbox", "retry"]).status.success());
            assert_eq!(server.heard().len(), before, "{}", named.name);
            assert_eq!(server.taken().len(), if named.habits.taken_away { 2 } else { 0 });
            let (works, text) = try_out(&setting);
            assert!(works && text.starts_with("site  ok  ftp://"), "{}: {text}", named.name);
            named.name
        }));
    }
    for one in all {
        one.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drives_of_windows_are_written_in_any_form() {
    for drives in [Drives::Slashed, Drives::Bare, Drives::Backslashed] {
        for path in ["/C:/reports", "C:/reports", r"C:\reports", r"\C:\reports\", "c:/reports"] {
            let server = FtpServer::with(FtpHabits {
                drives,
                home: "C:/home",
                folders: &["C:", "C:/home", "C:/reports", "c:", "c:/reports"],
                ..FtpHabits::default()
            })
            .await
            .unwrap();
            let setting = setting(&server, &format!("path = '{path}'"));
            let output = deliver(&setting, "a.pdf", b"a", "2026/Q4");
            assert!(output.status.success(), "{drives:?} {path}: {}", said(&output));
            let drive = if path.contains('c') && path.contains("c:") { "c:" } else { "C:" };
            assert_eq!(
                server.names(),
                [format!("{drive}/reports/2026/Q4/a.pdf")],
                "{drives:?} {path}"
            );
            let (works, text) = try_out(&setting);
            assert!(works, "{drives:?} {path}: {text}");
        }
        // Below the login folder, which is on a drive.
        let server = FtpServer::with(FtpHabits {
            drives,
            home: "C:/home",
            folders: &["C:", "C:/home"],
            ..FtpHabits::default()
        })
        .await
        .unwrap();
        let setting = setting(&server, "path = 'reports'");
        assert!(deliver(&setting, "a.pdf", b"a", "").status.success());
        assert_eq!(server.names(), ["C:/home/reports/a.pdf"]);
        let places = setting.ledger().pop().unwrap()["places"][0].as_str().unwrap().to_owned();
        assert!(places.ends_with("/C:/home/reports/a.pdf"), "{places}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_that_never_come_hold_up_no_delivery() {
    let server = FtpServer::with(FtpHabits {
        shown: Shown::Sizeless("502 Not supported"),
        facts: Facts::Silent,
        ..FtpHabits::default()
    })
    .await
    .unwrap();
    let setting = setting(&server, "timeout = \"2s\"");
    let output = deliver(&setting, "r.pdf", b"whole", "");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(server.get("r.pdf").unwrap(), b"whole");
    assert_eq!(setting.ledger().len(), 1);
}

/// FileZilla and lftp see 426 after a complete file if a server misses the TLS closing alert; 421
/// if it stops during a transfer; 451 if its disk or its scanner fails at the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_refused_behind_its_last_byte_is_due_and_then_there_once() {
    for reply in [
        "426 Connection closed; transfer aborted.",
        "421 Service not available, closing control connection.",
        "451 Requested action aborted: local error in processing.",
        "425 Unable to build data connection: Operation not permitted",
    ] {
        let server = FtpServer::start().await.unwrap();
        let setting = setting(&server, "");
        server.trouble(Some(Trouble::Denied(reply)));
        let output = deliver(&setting, "r.pdf", b"whole", "");
        assert!(!output.status.success(), "{reply}");
        assert!(said(&output).contains(reply), "{reply}: {}", said(&output));
        assert!(setting.ledger().is_empty(), "claimed after {reply}");
        let retried = setting.run("mailqos-analytics", &["outbox", "retry"]);
        assert!(retried.status.success(), "{reply}: {}", said(&retried));
        assert_eq!(server.names(), ["r.pdf"], "{reply}");
        assert_eq!(server.get("r.pdf").unwrap(), b"whole");
        assert_eq!(setting.ledger().len(), 1, "{reply}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_cannot_be_reached_is_remembered() {
    let server =
        FtpServer::with(FtpHabits { extended: Extended::Unreachable, ..FtpHabits::default() })
            .await
            .unwrap();
    let setting = setting(&server, "");
    let asked = || server.heard().iter().filter(|line| *line == "EPSV").count();
    assert!(deliver(&setting, "a.pdf", b"a", "").status.success());
    let first = asked();
    assert!(first >= 1);
    assert!(deliver(&setting, "b.pdf", b"b", "").status.success());
    assert_eq!(asked(), first, "it is asked again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mode_that_is_configured_is_the_only_one() {
    let server =
        FtpServer::with(FtpHabits { extended: Extended::Unreachable, ..FtpHabits::default() })
            .await
            .unwrap();
    let forced = setting(&server, "mode = \"epsv\"");
    let text = said(&deliver(&forced, "a.pdf", b"a", ""));
    assert!(text.contains("can't be reached") && text.contains("set mode"), "{text}");
    let forced = setting(&server, "mode = \"pasv\"");
    let before = server.heard().iter().filter(|line| *line == "EPSV").count();
    assert!(deliver(&forced, "a.pdf", b"a", "").status.success());
    assert_eq!(server.heard().iter().filter(|line| *line == "EPSV").count(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_gone_to_directly_and_only_what_is_missing_is_made() {
    let habits = FtpHabits {
        home: "home/acme/in",
        folders: &[
            "home",
            "home/acme",
            "home/acme/in",
            "home/acme/in/a \"b\" c",
            "srv",
            "srv/reports",
        ],
        closed: &["", "home", "home/acme", "srv"],
        ..FtpHabits::default()
    };
    for (one_level, path, folder, place, made) in [
        (false, "/srv/reports", "", "srv/reports/r.pdf", &[][..]),
        (false, "/srv/reports", "2026/ä", "srv/reports/2026/ä/r.pdf", &["MKD 2026", "MKD ä"]),
        (false, "a \\\"b\\\" c", "", "home/acme/in/a \"b\" c/r.pdf", &[]),
        (false, "", "2026", "home/acme/in/2026/r.pdf", &["MKD 2026"]),
        (false, "x/y", "z", "home/acme/in/x/y/z/r.pdf", &["MKD x", "MKD y", "MKD z"]),
        (true, "x/y", "z", "home/acme/in/x/y/z/r.pdf", &["MKD x", "MKD y", "MKD z"]),
    ] {
        let server = FtpServer::with(FtpHabits { one_level, ..habits.clone() }).await.unwrap();
        let setting = setting(&server, &format!("path = \"{path}\""));
        for content in [&b"one"[..], b"two!"] {
            let output = deliver(&setting, "r.pdf", content, folder);
            assert!(output.status.success(), "{path}: {}", said(&output));
            assert_eq!(server.names(), [place]);
        }
        let heard = server.heard();
        let makes: Vec<&String> = heard.iter().filter(|line| line.starts_with("MKD")).collect();
        assert_eq!(makes, made, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_folder_is_reported_with_its_name() {
    let server = FtpServer::with(FtpHabits {
        folders: &["private"],
        closed: &["private"],
        ..FtpHabits::default()
    })
    .await
    .unwrap();
    let setting = setting(&server, "path = \"private\"");
    let text = said(&deliver(&setting, "r.pdf", b"x", ""));
    assert!(text.contains("CWD private: 550 Permission denied"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_target_needs_is_found_out() {
    for (habits, word) in [
        (
            FtpHabits { no_dots: true, ..FtpHabits::default() },
            "temporary = \"{{ name }}.{{ hash }}.part\" works",
        ),
        (
            FtpHabits { no_dots: true, no_endings: &[".part"], ..FtpHabits::default() },
            "temporary = \"{{ name }}.{{ hash }}.tmp\" works",
        ),
        (FtpHabits { no_renames: true, ..FtpHabits::default() }, "temporary = \"none\" works"),
        (FtpHabits { longest: 80, ..FtpHabits::default() }, "short ASCII names are accepted"),
    ] {
        let server = FtpServer::with(habits).await.unwrap();
        let site = setting(&server, "");
        let (works, text) = try_out(&site);
        assert!(!works && text.contains(word), "{word}: {text}");
        assert!(server.names().is_empty(), "{:?}", server.names());
        assert!(server.folders().is_empty(), "{:?}", server.folders());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_lists_what_a_target_supports() {
    let server = FtpServer::start().await.unwrap();
    let (works, text) = try_out(&setting(&server, ""));
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert!(works && lines[0].ends_with("(size and SHA-256 checked, and removed)"), "{text}");
    for what in [
        "subfolders",
        "long non-ASCII names",
        "temporary name",
        "rename",
        "size",
        "read back",
        "replace a file",
        "remove a file",
    ] {
        let line = lines.iter().find(|line| line.starts_with(what)).expect(what);
        assert!(line[what.len()..].trim_start().starts_with("yes"), "{line}");
    }
    assert!(server.names().is_empty() && server.folders().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_temporary_name_names_its_key_and_heals_with_it() {
    let server =
        FtpServer::with(FtpHabits { no_dots: true, ..FtpHabits::default() }).await.unwrap();
    let mut site = setting(&server, "");
    let text = said(&deliver(&site, "r.pdf", b"x", ""));
    assert!(text.contains("553") && text.contains("temporary"), "{text}");
    assert!(server.names().is_empty());
    site.replace("tls = \"none\"", "tls = \"none\"\ntemporary = \"{{ name }}.{{ hash }}.tmp\"");
    assert!(site.run("mailqos-analytics", &["outbox", "retry"]).status.success());
    assert_eq!(server.names(), ["r.pdf"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_box_without_renames_is_reported_once_and_not_filled() {
    let server = FtpServer::with(FtpHabits {
        shown: Shown::Refused("550 Permission denied."),
        no_renames: true,
        ..FtpHabits::default()
    })
    .await
    .unwrap();
    let site = setting(&server, "");
    let text = said(&deliver(&site, "r.pdf", b"x", ""));
    assert!(text.contains("temporary = \"none\""), "{text}");
    let stored = || server.heard().iter().filter(|line| line.starts_with("STOR")).count();
    assert_eq!(stored(), 1);
    site.run("mailqos-analytics", &["schedule", "run-due"]);
    assert_eq!(stored(), 1, "it is written again and again");
    assert!(setting_ledger_is_empty(&site));
}

fn setting_ledger_is_empty(setting: &Setting) -> bool {
    !setting.succeed("mailqos-analytics", &["outbox", "ledger"]).contains("r.pdf")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_before_the_data_counts_for_nothing_in_a_drop_box() {
    let server = FtpServer::with(FtpHabits {
        beginning: Beginning::Completed,
        shown: Shown::Refused("550 Permission denied."),
        ..FtpHabits::default()
    })
    .await
    .unwrap();
    let site = setting(&server, "temporary = \"none\"");
    let output = deliver(&site, "r.pdf", b"x", "");
    assert!(!output.status.success());
    assert!(said(&output).contains("its arrival can't be verified"), "{}", said(&output));
    assert!(setting_ledger_is_empty(&site));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_old_file_is_taken_for_the_beginning_of_a_new_one() {
    // Without a hash in the pattern, a file with the temporary name may be anything.
    let server = FtpServer::start().await.unwrap();
    server.put("r.pdf.tmp", b"something else");
    let site = setting(&server, "temporary = \"{{ name }}.tmp\"");
    assert!(deliver(&site, "r.pdf", b"the report, which is longer", "").status.success());
    assert_eq!(server.names(), ["r.pdf"]);
    assert_eq!(server.get("r.pdf").unwrap(), b"the report, which is longer");
    assert!(!server.heard().iter().any(|line| line.starts_with("REST")));
}
