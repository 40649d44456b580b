//! Lakes that other programs wrote, on limited file systems, with unwanted copies: nothing is lost,
//! duplicated or moved, and unreadable files are named.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use std::path::{Path, PathBuf};

use mailqos_model::UtcMicros;
use mailqos_tests::{
    servers::{MailServer, Options},
    setting::{Setting, complaint_of, until, words_of},
};

/// The day of the files of other programs.
const DAY: &str = "2026-11-23";

fn foreign() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/lake/files/tests/lakes/foreign")
}

/// Puts a file into the lake as the day of a site.
fn lake_of(setting: &Setting, site: &str, file: &Path) -> PathBuf {
    let day = setting.data().join(format!("samples/site={site}/date={DAY}"));
    std::fs::create_dir_all(&day).expect("a folder");
    let path = day.join("samples.parquet");
    std::fs::copy(file, &path).expect("a copy");
    path
}

fn tests_of(setting: &Setting, more: &[&str]) -> (u64, String) {
    let mut arguments =
        vec!["stats", "--from", DAY, "--to", "2026-11-24", "--timezone", "UTC", "--format", "json"];
    arguments.extend(more);
    let output = setting.run("mailqos-analytics", &arguments);
    assert!(output.status.success(), "{}", complaint_of(&output));
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let tests =
        rows.as_array().expect("rows").iter().map(|row| row["tests"].as_u64().unwrap_or_default());
    (tests.sum(), complaint_of(&output))
}

#[test]
fn files_of_other_programs_are_verified_kept_exported_and_imported() {
    let files = std::fs::read_dir(foreign())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path());
    let files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|ending| ending == "parquet")).collect();
    let setting = Setting::new("here");
    setting.write();
    let (mut rows, mut kept) = (0, Vec::new());
    for file in &files {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        if !name.starts_with("encrypted") {
            rows += if name == "empty" { 0 } else { 12 };
            kept.push((lake_of(&setting, &name, file), std::fs::read(file).expect("read")));
        }
    }
    assert!(kept.len() > 23, "{files:?}");
    let verified = setting.run("mailqos-analytics", &["lake", "verify"]);
    assert!(verified.status.success(), "{}", words_of(&verified));
    setting.succeed("mailqos-analytics", &["lake", "repair", "--apply"]);
    for (path, before) in &kept {
        assert!(std::fs::read(path).expect("still there") == *before, "{}", path.display());
    }
    assert!(!setting.data().join(".mailqos/aside").exists());
    assert_eq!(tests_of(&setting, &[]).0, rows);
    let exported = setting.succeed("mailqos-analytics", &["lake", "export"]);
    assert_eq!(exported.lines().count() as u64, rows + 1);
    for name in
        ["pyarrow-snappy", "pyarrow-int96", "pyarrow-unsorted", "duckdb-gzip", "pandas-floats"]
    {
        let file = foreign().join(format!("{name}.parquet"));
        let (file, site) = (file.to_string_lossy().into_owned(), format!("from-{name}"));
        setting
            .succeed("mailqos-analytics", &["lake", "import", &file, "--into", &site, "--apply"]);
        assert_eq!(tests_of(&setting, &["--site", &site]).0, 12, "{name}");
    }
}

#[test]
fn an_encrypted_file_is_named_and_not_changed() {
    for name in ["encrypted-footer", "encrypted-columns"] {
        let setting = Setting::new("here");
        setting.write();
        let file = foreign().join(format!("{name}.parquet"));
        let path = lake_of(&setting, "here", &file);
        let verified = setting.run("mailqos-analytics", &["lake", "verify"]);
        assert_eq!(verified.status.code(), Some(1), "{name}");
        assert!(words_of(&verified).contains("encrypted"), "{name}: {}", words_of(&verified));
        let repaired = setting.succeed("mailqos-analytics", &["lake", "repair", "--apply"]);
        assert!(repaired.contains("1 unchanged"), "{name}: {repaired}");
        let same =
            std::fs::read(&path).expect("still there") == std::fs::read(&file).expect("read");
        assert!(same && !setting.data().join(".mailqos/aside").exists(), "{name}");
        let refused =
            setting.run("mailqos-analytics", &["stats", "--from", DAY, "--to", "2026-11-24"]);
        let said = complaint_of(&refused);
        assert_eq!(refused.status.code(), Some(1), "{name}");
        assert!(said.contains("encrypted") && !said.contains("is corrupt"), "{name}: {said}");
    }
}

#[test]
fn copies_of_a_day_count_once_and_are_named() {
    let setting = Setting::new("here");
    setting.write();
    let path = lake_of(&setting, "here", &foreign().join("pyarrow-snappy.parquet"));
    for copy in [
        "samples.sync-conflict-20261123-184717-5RQAITR.parquet",
        "samples (1).parquet",
        "samples - Copy.parquet",
        "samples~.parquet",
        "samples.bak.parquet",
        "samples (conflicted copy 2026-11-23).parquet",
    ] {
        let copy = path.with_file_name(copy);
        std::fs::copy(&path, &copy).expect("a copy");
        let (tests, said) = tests_of(&setting, &[]);
        assert_eq!(tests, 12, "{}", copy.display());
        assert!(
            said.contains(&copy.display().to_string()) && said.contains("counted once"),
            "{said}"
        );
        let verified = setting.run("mailqos-analytics", &["lake", "verify"]);
        assert_eq!(verified.status.code(), Some(1));
        let words = words_of(&verified);
        assert!(words.contains("all of its 12 samples are also in samples.parquet"), "{words}");
        std::fs::remove_file(copy).expect("removed");
    }
    // A copy of the whole site, and of the day.
    let day = path.parent().expect("a folder").to_owned();
    let site = day.parent().expect("a folder").to_owned();
    for folder in
        [day.with_file_name(format!("date={DAY} (1)")), site.with_file_name("site=here - Copy")]
    {
        let inner = if folder.starts_with(&site) {
            folder.clone()
        } else {
            folder.join(format!("date={DAY}"))
        };
        std::fs::create_dir_all(&inner).expect("a folder");
        std::fs::copy(&path, inner.join("samples.parquet")).expect("a copy");
        let (tests, said) = tests_of(&setting, &[]);
        assert_eq!(tests, 12, "{said}");
        assert!(said.contains("was skipped"), "{said}");
        std::fs::remove_dir_all(folder).expect("removed");
    }
    // A file with rows that no other file has counts completely.
    std::fs::rename(&path, path.with_file_name("part-00000.snappy.parquet")).expect("renamed");
    assert_eq!(tests_of(&setting, &[]).0, 12);
    assert_eq!(setting.succeed("mailqos-analytics", &["lake", "export"]).lines().count(), 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn todays_file_continues_after_another_program_rewrote_it() {
    let server = MailServer::start(Options::default()).await.expect("an embedded server");
    let mut setting = Setting::new("here");
    setting.replace("test_interval = \"5s\"", "test_interval = \"1s\"");
    setting.add_monitor(&setting.monitor("mail", &server));
    setting.write();
    let today = UtcMicros::now().utc_date();
    // Today's file as another program leaves it: unsorted, Snappy. Its rows are from another day,
    // which is not checked here.
    let day = setting.data().join(format!("samples/site=here/date={today}"));
    std::fs::create_dir_all(&day).expect("a folder");
    std::fs::copy(foreign().join("pyarrow-unsorted.parquet"), day.join("samples.parquet"))
        .expect("a copy");
    let probe = setting.start_probe();
    until("samples are sealed", || setting.rows().len() >= 15).await;
    assert!(probe.log().contains("day file of another program"), "{}", probe.log());
    assert!(probe.stop().success());
    assert!(!setting.data().join(".mailqos/aside").exists());
    let of_others = setting
        .rows()
        .iter()
        .filter(|row| row.text("monitor").is_some_and(|monitor| monitor != "mail"))
        .count();
    assert_eq!(of_others, 12);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn file_systems_without_folder_sync_links_and_locks_are_lived_with_or_explained() {
    let server = MailServer::start(Options::default()).await.expect("an embedded server");
    let library = |setting: &Setting| {
        mailqos_tests::shims::build("odd", &setting.path(".")).expect("a C compiler")
    };
    for errno in ["22", "95"] {
        let mut setting = Setting::new("here");
        setting.replace("test_interval = \"5s\"", "test_interval = \"1s\"");
        setting.add_monitor(&setting.monitor("mail", &server));
        setting.write();
        let mut command = setting.command("mailqos-probe");
        command
            .arg("run")
            .env("LD_PRELOAD", library(&setting))
            .env("MAILQOS_ODD_FOLDER_SYNC", errno)
            .env("MAILQOS_ODD_LINK", "1");
        let probe = setting.start(&mut command);
        until("samples are sealed", || setting.rows().len() >= 2).await;
        let log = probe.log();
        assert_eq!(log.matches("can't sync folders").count(), 1, "{log}");
        assert!(probe.stop().success(), "{log}");
    }
    for errno in ["37", "95"] {
        let mut setting = Setting::new("here");
        setting.add_monitor(&setting.monitor("mail", &server));
        setting.write();
        let mut command = setting.command("mailqos-probe");
        command.arg("run").env("LD_PRELOAD", library(&setting)).env("MAILQOS_ODD_LOCK", errno);
        let output = command.output().expect("it ends");
        assert_eq!(output.status.code(), Some(1));
        let said = complaint_of(&output);
        assert!(
            said.contains("does not support locks")
                && !said.contains("the disk does not accept writes"),
            "{said}"
        );
    }
}
