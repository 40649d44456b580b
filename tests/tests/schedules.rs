//! Schedules and the outbox with the real binary: once, completely, and never silently skipped.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use mailqos_model::{Micros, UtcMicros};
use mailqos_tests::{
    hooks::{Hooks, Manner},
    setting::{Setting, until},
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

/// Runs a pass this many days from now, at midnight: no report becomes due between two passes on
/// the same day.
fn pass(setting: &Setting, day: i64) -> std::process::Output {
    let now = midnight(day).to_string();
    setting.run("mailqos-analytics", &["schedule", "run-due", "--now", &now])
}

#[test]
fn what_is_due_is_delivered_once_also_what_fell_due_in_between() {
    let setting = setting();
    assert!(pass(&setting, 0).status.success());
    assert_eq!(setting.ledger().len(), 0, "a new definition owes nothing of the time before");
    assert!(pass(&setting, 1).status.success());
    assert_eq!(setting.ledger().len(), 1);
    assert!(pass(&setting, 1).status.success());
    assert_eq!(setting.ledger().len(), 1, "not twice");
    assert!(pass(&setting, 4).status.success());
    assert_eq!(setting.ledger().len(), 4, "each of the three days in between");
    let mut names = Vec::new();
    for year in std::fs::read_dir(setting.path("shelf")).unwrap().flatten() {
        for file in std::fs::read_dir(year.path()).unwrap().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            assert!(name.starts_with("weekly-") && name.ends_with(".html"), "{name}");
            let page = std::fs::read_to_string(file.path()).unwrap();
            assert!(
                page.contains("Wochenbericht für Łódź") && page.trim_end().ends_with("</html>")
            );
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
    assert!(said.contains("shelf") && said.contains("not delivered"), "{said}");
    assert_eq!(setting.ledger().len(), 0);
    assert!(setting.succeed("mailqos-analytics", &["outbox", "list"]).contains("shelf"));
    std::fs::remove_file(setting.path("shelf")).unwrap();
    setting.succeed("mailqos-analytics", &["outbox", "retry"]);
    assert_eq!(setting.ledger().len(), 1);
    assert!(setting.succeed("mailqos-analytics", &["outbox", "list"]).is_empty());
}

#[test]
fn a_run_that_was_ordered_before_a_crash_is_not_ordered_again_with_other_figures() {
    use sha2::Digest as _;
    let setting = setting();
    let text =
        DEFINITION.replace("period = \"last-week\"", "period = \"yesterday\"\ntimezone = \"UTC\"");
    std::fs::write(setting.path("reports/weekly.toml"), text).unwrap();
    pass_at(&setting, midnight(-3));
    pass_at(&setting, midnight(-2));
    assert_eq!(setting.ledger().len(), 1);
    let more = |name: &str| {
        let samples = simulation::samples(
            &Habits::calm(name.parse().unwrap(), 1.0),
            3,
            &jiff::tz::TimeZone::UTC,
            midnight(-6),
            midnight(0),
        );
        simulation::write(&setting.data(), &"here".parse().unwrap(), samples).unwrap();
    };
    // As left by a crash: everything is ordered but not yet recorded. Meanwhile the figures have
    // changed.
    let crash = |ordered: bool| {
        let file = setting.path("data/state/schedule.json");
        let mut state: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let due = state["reports"]["weekly"]["seen"].as_i64().unwrap();
        state["reports"]["weekly"]["owed"] =
            serde_json::json!([{ "at": due, "look": 0, "told": false }]);
        std::fs::write(file, state.to_string()).unwrap();
        let hash = sha2::Sha256::digest(format!("weekly {}", UtcMicros(due)).as_bytes());
        let key: String = hash[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = setting.path("data/state/outbox/runs").join(key);
        if ordered {
            std::fs::create_dir(&folder).unwrap();
        }
        folder
    };
    more("malmo");
    let folder = crash(true);
    pass_at(&setting, midnight(-2) + Micros::from_secs(60));
    assert_eq!(setting.ledger().len(), 1, "it was ordered");
    assert!(!folder.exists(), "the run is over");
    // Otherwise it would be generated again, with other figures.
    crash(false);
    pass_at(&setting, midnight(-2) + Micros::from_secs(120));
    assert_eq!(setting.ledger().len(), 2);
}

#[test]
fn an_invalid_definition_is_named_and_delays_no_other() {
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
    assert_eq!(setting.ledger().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_definition_is_reported_once_and_delays_nothing() {
    let mut setting = setting();
    let hooks = Hooks::start(Manner::Silent).await.unwrap();
    setting.add(&format!(
        "[delivery]\naction_list = \"bosses\"\n[action_list.bosses]\n\
         actions = [{{ webhook = {{ url = \"{}\", body = '{{}}' }}, timeout = \"60s\" }}]",
        hooks.url("/told")
    ));
    assert!(pass(&setting, 0).status.success());
    std::fs::write(setting.path("reports/a-broken.toml"), "perid = \"last-week\"\n").unwrap();
    let now = midnight(1).to_string();
    let mut command = setting.command("mailqos-analytics");
    let _telling = setting.start(command.args(["schedule", "run-due", "--now", &now]));
    until("a notification is being sent", || !hooks.taken().is_empty()).await;
    until("the report is ordered", || {
        setting.succeed("mailqos-analytics", &["outbox", "list"]).contains("shelf")
    })
    .await;
    assert_eq!(pass(&setting, 1).status.code(), Some(1));
    assert_eq!(setting.ledger().len(), 1);
    assert_eq!(hooks.taken().len(), 1);
}

/// Returns midnight UTC this many days from now.
fn midnight(days: i64) -> UtcMicros {
    let day = 86_400_000_000;
    UtcMicros((UtcMicros::now().0 / day + days) * day)
}

fn pass_at(setting: &Setting, moment: UtcMicros) {
    setting.succeed("mailqos-analytics", &["schedule", "run-due", "--now", &moment.to_string()]);
}

#[test]
fn missed_runs_are_made_up_for_according_to_the_definition() {
    let setting = setting();
    let definition = |name: &str, catch_up: &str| {
        let text = DEFINITION
            .replace("catch_up = \"all\"", &format!("catch_up = \"{catch_up}\""))
            .replace("period = \"last-week\"", "period = \"yesterday\"\ntimezone = \"UTC\"");
        std::fs::write(setting.path(&format!("reports/{name}.toml")), text).unwrap();
    };
    std::fs::remove_file(setting.path("reports/weekly.toml")).unwrap();
    for catch_up in ["all", "latest", "none"] {
        definition(catch_up, catch_up);
    }
    pass_at(&setting, midnight(-5));
    assert_eq!(setting.ledger().len(), 0);
    // Three runs became due while no schedule was running.
    pass_at(&setting, midnight(-2));
    let runs = |report: &str| -> Vec<String> {
        let lines = setting.ledger().into_iter();
        lines
            .filter(|line| line["report"] == report)
            .map(|line| line["files"][0]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let day = |days: i64| midnight(days).to_string()[..10].to_owned();
    // Each with its original period: the day before it was due.
    assert_eq!(runs("all"), [-6, -5, -4].map(|days| format!("all-{}.html", day(days))));
    assert_eq!(runs("latest"), [format!("latest-{}.html", day(-4))]);
    assert!(runs("none").is_empty());
    // On time, all are generated.
    pass_at(&setting, midnight(-2) + Micros::from_secs(7 * 3_600 + 5));
    assert_eq!((runs("all").len(), runs("latest").len(), runs("none").len()), (4, 2, 1));
}

#[test]
fn a_report_waits_for_its_period_but_not_for_ever() {
    let setting = setting();
    let text = DEFINITION
        .replace("period = \"last-week\"", "period = \"today\"\ntimezone = \"UTC\"")
        .replace("at = \"07:00\"", "at = \"07:00\"\ngrace = \"6h\"");
    std::fs::write(setting.path("reports/weekly.toml"), text).unwrap();
    let hour = |hours: i64| midnight(-1) + Micros::from_secs(hours * 3_600 + 5);
    pass_at(&setting, hour(0));
    pass_at(&setting, hour(7));
    pass_at(&setting, hour(12));
    assert_eq!(setting.ledger().len(), 0, "today is not over");
    pass_at(&setting, hour(13));
    assert_eq!(setting.ledger().len(), 1, "it has waited long enough");
    for year in std::fs::read_dir(setting.path("shelf")).unwrap().flatten() {
        for file in std::fs::read_dir(year.path()).unwrap().flatten() {
            assert!(
                std::fs::read_to_string(file.path()).unwrap().contains("The period has not ended.")
            );
        }
    }
}

#[test]
fn the_next_runs_are_listed_in_the_reports_zone_and_in_utc() {
    let setting = setting();
    let text = DEFINITION
        .replace("period = \"last-week\"", "period = \"last-week\"\ntimezone = \"Asia/Kathmandu\"");
    std::fs::write(setting.path("reports/weekly.toml"), text).unwrap();
    let list = setting.succeed("mailqos-analytics", &["schedule", "list"]);
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 6, "{list}");
    assert!(lines[0].starts_with("weekly  "), "{list}");
    for line in &lines[1..] {
        assert!(
            line.contains("T07:00:00+05:45[Asia/Kathmandu]") && line.ends_with("T01:15:00Z"),
            "{line}"
        );
    }
}

/// Lists the next runs of a definition with this schedule; returns the output without its first
/// line.
fn listed(schedule: &str, keys: &str) -> Vec<String> {
    let setting = setting();
    let text = format!(
        "template = \"executive-summary\"\nperiod = \"last-quarter\"\n{keys}\n[schedule]\n{schedule}\n[[deliver]]\ntarget = \"shelf\"\n"
    );
    std::fs::write(setting.path("reports/weekly.toml"), text).unwrap();
    let list = setting.succeed("mailqos-analytics", &["schedule", "list"]);
    list.lines().skip(1).map(str::to_owned).collect()
}

/// akaunting/akaunting#1834: quarters of a year from February were calendar quarters.
#[test]
fn quarters_and_years_fall_due_as_the_year_begins() {
    let months = |schedule: &str, keys: &str| {
        let runs = listed(schedule, keys);
        assert_eq!(runs.len(), 5, "{runs:?}");
        let mut months: Vec<String> = runs.iter().map(|run| run.trim()[5..10].to_owned()).collect();
        months.sort();
        months.dedup();
        months
    };
    assert_eq!(
        months("every = \"quarter\"", "year_start = \"february\""),
        ["02-01", "05-01", "08-01", "11-01"]
    );
    assert_eq!(months("every = \"quarter\"", ""), ["01-01", "04-01", "07-01", "10-01"]);
    assert_eq!(months("every = \"year\"\non = 6", "year_start = 4"), ["04-06"]);
    // The first day of a week is a Sunday here, and any other can be set.
    for (schedule, weekday) in [
        ("every = \"week\"", jiff::civil::Weekday::Sunday),
        ("every = \"week\"\non = \"tuesday\"", jiff::civil::Weekday::Tuesday),
    ] {
        for run in listed(schedule, "week_start = \"sunday\"") {
            let date: jiff::civil::Date = run.trim()[..10].parse().unwrap();
            assert_eq!(date.weekday(), weekday, "{run}");
        }
    }
}

#[test]
fn an_expression_whose_years_are_past_is_listed_as_such() {
    let runs = listed("cron = \"0 0 7 1 1 * 2020\"", "");
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert!(runs[0].contains("no more runs"), "{runs:?}");
}

#[test]
fn a_run_that_waits_or_fails_remains_due() {
    let setting = setting();
    let text = DEFINITION
        .replace("period = \"last-week\"", "period = \"today\"\ntimezone = \"UTC\"")
        .replace("catch_up = \"all\"", "catch_up = \"latest\"\ngrace = \"30h\"");
    std::fs::write(setting.path("reports/weekly.toml"), &text).unwrap();
    let hour = |hours: i64| midnight(-2) + Micros::from_secs(hours * 3_600 + 5);
    pass_at(&setting, hour(0));
    // Due at 7, before its day is over; a day later the next one becomes due.
    for hours in [7, 8, 31] {
        pass_at(&setting, hour(hours));
    }
    let runs = || -> Vec<String> {
        let lines = setting.ledger().into_iter();
        lines.map(|line| line["run"].as_str().unwrap()[..10].to_owned()).collect()
    };
    let day = |days: i64| midnight(days).to_string()[..10].to_owned();
    assert_eq!(runs(), [day(-2)], "the first is made once its day is over");
    // An invalid definition affects no owed runs: they are generated once it is valid again.
    std::fs::write(setting.path("reports/weekly.toml"), text.replace("period", "perid")).unwrap();
    let moment = hour(62).to_string();
    let output = setting.run("mailqos-analytics", &["schedule", "run-due", "--now", &moment]);
    assert_eq!(output.status.code(), Some(1));
    std::fs::write(setting.path("reports/weekly.toml"), &text).unwrap();
    pass_at(&setting, hour(62));
    assert_eq!(runs(), [day(-2), day(-1)]);
}

#[test]
fn a_clock_that_was_ahead_stops_no_report() {
    let setting = setting();
    pass_at(&setting, midnight(5));
    pass_at(&setting, midnight(6));
    let made = setting.ledger().len();
    // The clock is right again.
    pass_at(&setting, midnight(0));
    pass_at(&setting, midnight(1));
    assert_eq!(setting.ledger().len(), made + 1);
}

/// Notices need no probe next to analytics, and an endless template does not prevent them.
#[tokio::test(flavor = "multi_thread")]
async fn analytics_notifies_alone_and_with_the_built_in_form_if_a_template_grows_without_bounds() {
    let mut setting = setting();
    let hooks = Hooks::start(Manner::Status(200)).await.unwrap();
    let grows = "{% set a = subject %}{% for i in range(end=90000) %}{% for j in range(end=90000) %}\
                 {% set_global a = a ~ a ~ a %}{% endfor %}{% endfor %}{{ a }}";
    std::fs::write(setting.path("grows.json"), grows).unwrap();
    setting.add(
        "[delivery]\naction_list = \"bosses\"\n[action_list.bosses]\n\
         actions = [{ webhook = { kind = \"slack\", url = { env = \"HOOK\" }, template = \"grows.json\" }, timeout = \"60s\" }]",
    );
    setting.write();
    std::fs::write(setting.path("reports/a-broken.toml"), "perid = \"last-week\"\n").unwrap();
    // A folder without other programs.
    let alone = setting.path("alone");
    std::fs::create_dir(&alone).unwrap();
    std::fs::copy(
        mailqos_tests::binaries::binary("mailqos-analytics"),
        alone.join("mailqos-analytics"),
    )
    .unwrap();
    let output = std::process::Command::new(alone.join("mailqos-analytics"))
        .arg("--config")
        .arg(setting.path("mailqos.toml"))
        .args(["schedule", "run-due"])
        .env("PATH", &alone)
        .env("HOOK", hooks.url("/told"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(hooks.accepted().len(), 1, "{said}");
    let content = hooks.accepted()[0].json().to_string();
    assert!(content.contains("a-broken.toml is invalid"), "{content}");
    assert!(said.contains("the configured template failed"), "{said}");
}
