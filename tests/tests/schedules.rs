//! Schedules and the outbox, by the real binary: once, whole, and never silently not at all.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use mailqos_core::model::{Micros, UtcMicros};
use mailqos_tests::{
    setting::Setting,
    simulation::{self, Habits},
};

const DEFINITION: &str = r#"
template = "executive-summary"
title = "Wochenbericht für Łódź"
period = "last-week"
formats = ["html"]
[schedule]
every = "day"
at = "07:00"
catch_up = "all"
[[deliver]]
target = "shelf"
path = "{{ period.year }}"
"#;

fn setting() -> Setting {
    let mut setting = Setting::new("here");
    setting.add("[object.lyon]\naddress = \"127.0.0.1\"");
    setting.add("[target.shelf]\nkind = \"folder\"\npath = \"shelf\"");
    let to = UtcMicros::now();
    let samples = simulation::samples(
        &Habits::calm("lyon".parse().unwrap(), 1.0),
        3,
        &jiff::tz::TimeZone::UTC,
        to - Micros::from_secs(16 * 86_400),
        to,
    );
    simulation::write(&setting.data(), &"here".parse().unwrap(), samples).unwrap();
    std::fs::create_dir_all(setting.path("reports")).unwrap();
    std::fs::write(setting.path("reports/weekly.toml"), DEFINITION).unwrap();
    setting
}

fn pass(setting: &Setting, day: i64) -> std::process::Output {
    let now = UtcMicros::now() + Micros::from_secs(day * 86_400);
    setting.run("mailqos-analytics", &["schedule", "run-due", "--now", &now.to_string()])
}

fn ledger(setting: &Setting) -> usize {
    setting
        .succeed("mailqos-analytics", &["outbox", "ledger"])
        .lines()
        .count()
}

#[test]
fn what_is_due_is_delivered_once_also_what_fell_due_in_between() {
    let setting = setting();
    assert!(pass(&setting, 0).status.success());
    assert_eq!(ledger(&setting), 0, "a new definition owes nothing of the time before");
    assert!(pass(&setting, 1).status.success());
    assert_eq!(ledger(&setting), 1);
    assert!(pass(&setting, 1).status.success());
    assert_eq!(ledger(&setting), 1, "not twice");
    assert!(pass(&setting, 4).status.success());
    assert_eq!(ledger(&setting), 4, "each of the three days in between");
    let mut names = Vec::new();
    for year in std::fs::read_dir(setting.path("shelf")).unwrap().flatten() {
        for file in std::fs::read_dir(year.path()).unwrap().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            assert!(name.starts_with("weekly-") && name.ends_with(".html"), "{name}");
            let page = std::fs::read_to_string(file.path()).unwrap();
            assert!(page.contains("Wochenbericht für Łódź") && page.trim_end().ends_with("</html>"));
            names.push(name);
        }
    }
    assert!(!names.is_empty());
}

#[test]
fn what_fails_waits_in_the_outbox_and_arrives_when_it_can() {
    let setting = setting();
    assert!(pass(&setting, 0).status.success());
    std::fs::write(setting.path("shelf"), "in the way").unwrap();
    let failed = pass(&setting, 1);
    assert_eq!(failed.status.code(), Some(1));
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(said.contains("shelf") && said.contains("tried again"), "{said}");
    assert_eq!(ledger(&setting), 0);
    assert!(
        setting
            .succeed("mailqos-analytics", &["outbox", "list"])
            .contains("shelf")
    );
    std::fs::remove_file(setting.path("shelf")).unwrap();
    setting.succeed("mailqos-analytics", &["outbox", "retry"]);
    assert_eq!(ledger(&setting), 1);
    assert!(setting.succeed("mailqos-analytics", &["outbox", "list"]).is_empty());
}

#[test]
fn a_wrong_definition_is_named_and_holds_up_no_other() {
    let setting = setting();
    std::fs::write(
        setting.path("reports/a-broken.toml"),
        "template = \"executive-sumary\"\nperiod = \"last-week\"\n",
    )
    .unwrap();
    pass(&setting, 0);
    let output = pass(&setting, 1);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("did you mean \"executive-summary\""), "{said}");
    assert_eq!(ledger(&setting), 1);
}
