//! Alarms and status when clocks are set, channels refuse, the configuration changes during open
//! alarms, and the probe itself can't test.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;

use mailqos_model::{Micros, Outcome, Sample, UtcMicros};
use mailqos_tests::{
    clock::SetClock,
    hooks::{Hooks, Manner},
    servers::{MailServer, Options, Protocol},
    setting::{Probe, Setting, find_bytes, until, words_of},
};
use serde_json::Value;

const HOUR: Micros = Micros::from_secs(3600);
const BACK: Micros = Micros(-HOUR.0);

/// Returns a webhook action that sends the kind, the monitor and the text.
fn hook(hooks: &Hooks, path: &str, more: &str) -> String {
    format!(
        "{{ webhook = {{ url = \"{}\", body = '{{ \"kind\": {{{{ alarms[0].kind | json }}}}, \"monitor\": {{{{ alarms[0].monitor | json }}}}, \
         \"what\": {{{{ body | json }}}} }}' }}{more} }}",
        hooks.url(path)
    )
}

fn pagerduty(hooks: &Hooks, key: &str) -> String {
    format!(
        "{{ webhook = {{ kind = \"pagerduty\", url = \"{}\", key = {{ env = \"{key}\" }} }} }}",
        hooks.url("/pagerduty")
    )
}

async fn scene(name: &str) -> (Setting, MailServer, Hooks) {
    let mut setting = Setting::new(name);
    setting.replace("test_interval = \"5s\"", "test_interval = \"1s\"\nalarm_after = 2");
    let server = MailServer::start(Options::default()).await.unwrap();
    let hooks = Hooks::start(Manner::Status(200)).await.unwrap();
    (setting, server, hooks)
}

fn start(setting: &Setting, clock: Option<&SetClock>) -> Probe {
    let mut command = setting.command("mailqos-probe");
    command.arg("run").env("OLD_KEY", "old").env("NEW_KEY", "new");
    if let Some(clock) = clock {
        clock.give_to(&mut command);
    }
    setting.start(&mut command)
}

fn status(setting: &Setting) -> Value {
    let output = setting.run("mailqos-probe", &["status", "--format", "json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn state(setting: &Setting, monitor: &str) -> String {
    let status = status(setting);
    let monitors = status["monitors"].as_array().cloned().unwrap_or_default();
    let found = monitors.iter().find(|one| one["id"] == monitor);
    found.map_or_else(String::new, |one| one["state"].as_str().unwrap_or_default().to_owned())
}

/// Returns what was sent to a path, in order.
fn sent(hooks: &Hooks, path: &str) -> Vec<Value> {
    let taken = hooks.taken().into_iter();
    let line = format!("POST {path} ");
    taken.filter(|hook| hook.line.starts_with(&line)).map(|hook| hook.json()).collect()
}

fn kinds(hooks: &Hooks, path: &str) -> Vec<String> {
    let kind = |hook: Value| hook["kind"].as_str().unwrap_or_default().to_owned();
    sent(hooks, path).into_iter().map(kind).collect()
}

/// Returns what PagerDuty received: key, action, incident.
fn incidents(hooks: &Hooks) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let told = sent(hooks, "/pagerduty").into_iter();
    told.map(|hook| {
        (text(&hook["routing_key"]), text(&hook["event_action"]), text(&hook["dedup_key"]))
    })
    .collect()
}

fn tests(probe: &Probe) -> usize {
    probe.log().lines().filter(|line| line.contains(" tested ")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_stops_and_doubles_no_test() {
    let (mut setting, server, _hooks) = scene("lyon").await;
    setting.add_monitor(&setting.monitor("mail1", &server));
    let mut hourly = setting.monitor("hourly", &server);
    hourly.more = "schedule = \"0 * * * *\"".to_owned();
    setting.add_monitor(&hourly);
    setting.write();
    let mut clock = SetClock::new(&setting.path("")).unwrap();
    // An hour ahead at the start, then corrected. Then by more than calendars look back, and
    // forward.
    clock.set(HOUR);
    let probe = start(&setting, Some(&clock));
    until("tests", || tests(&probe) >= 5).await;
    for step in [BACK, Micros(BACK.0 * 30), Micros(HOUR.0 * 31)] {
        clock.set(step);
        let before = tests(&probe);
        until("tests after the clock was set", || tests(&probe) >= before + 8).await;
        until("a state that is known", || state(&setting, "mail1") == "ok").await;
    }
    // Suspended for eight hours: missed tests are not made up for.
    clock.suspend(Micros(HOUR.0 * 8));
    let before = tests(&probe);
    until("tests after the machine was suspended", || tests(&probe) >= before + 8).await;
    until("a state that is known", || state(&setting, "mail1") == "ok").await;
    assert!(probe.stop().success());
    let rows = setting.rows();
    let starts: Vec<(String, i64)> = rows
        .iter()
        .map(|row| (row.monitor().to_owned(), row.number("started_at").unwrap()))
        .collect();
    let unique: BTreeSet<&(String, i64)> = starts.iter().collect();
    assert_eq!(unique.len(), starts.len(), "(monitor, started_at) is unique");
    let good = rows.iter().filter(|row| row.monitor() == "mail1" && row.outcome() == "ok").count();
    assert!(good >= 35, "{good} of {}", rows.len());
    // The skipped hour is made up for once, each time.
    let hourly = rows.iter().filter(|row| row.monitor() == "hourly").count();
    assert!(hourly <= 5, "{hourly}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_whose_clock_is_wrong_from_one_life_to_the_next_knows_its_alarms() {
    let (mut setting, server, hooks) = scene("lyon").await;
    setting.add(&format!("[action_list.default]\nactions = [{}]", hook(&hooks, "/", "")));
    setting.add_monitor(&setting.monitor("mail1", &server));
    setting.write();
    let mut clock = SetClock::new(&setting.path("")).unwrap();
    clock.set(HOUR);
    server.refuse(Protocol::Smtp);
    let probe = start(&setting, Some(&clock));
    until("the alarm", || kinds(&hooks, "/").len() == 1).await;
    assert!(probe.stop().success());
    clock.set(BACK);
    let probe = start(&setting, Some(&clock));
    until("tests of the next life", || tests(&probe) >= 8).await;
    assert_eq!(state(&setting, "mail1"), "alarm");
    server.admit(Protocol::Smtp);
    until("the recovery", || kinds(&hooks, "/").len() == 2).await;
    assert_eq!(kinds(&hooks, "/"), ["alarm", "recovery"]);
    assert!(probe.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_neither_overtakes_an_alarm_nor_comes_without_one() {
    let (mut setting, server, hooks) = scene("lyon").await;
    let actions = [hook(&hooks, "/people", ""), pagerduty(&hooks, "OLD_KEY")].join(", ");
    setting.add(&format!("[action_list.default]\nactions = [{actions}]"));
    setting.add_monitor(&setting.monitor("mail1", &server));
    hooks.set(Manner::Status(503));
    server.refuse(Protocol::Smtp);
    let probe = start(&setting, None);
    until("the alarm is offered to both", || hooks.taken().len() >= 2).await;
    server.admit(Protocol::Smtp);
    until("it is over", || state(&setting, "mail1") == "ok").await;
    hooks.set(Manner::Status(200));
    let refused = [kinds(&hooks, "/people").len(), incidents(&hooks).len()];
    let before = tests(&probe);
    // Longer than the first pauses between two attempts.
    until("some tests", || tests(&probe) >= before + 25).await;
    let now = [kinds(&hooks, "/people").len(), incidents(&hooks).len()];
    assert_eq!(now, refused, "no notification about an alarm that no one was notified of");
    // The next one is reported and closed.
    server.refuse(Protocol::Smtp);
    until("the second alarm", || {
        kinds(&hooks, "/people").len() > refused[0] && incidents(&hooks).len() > refused[1]
    })
    .await;
    server.admit(Protocol::Smtp);
    until("its end", || {
        kinds(&hooks, "/people").len() > refused[0] + 1 && incidents(&hooks).len() > refused[1] + 1
    })
    .await;
    assert_eq!(kinds(&hooks, "/people").split_off(refused[0]), ["alarm", "recovery"]);
    let told = incidents(&hooks).split_off(refused[1]);
    assert_eq!(told[0].1, "trigger");
    assert_eq!((told[1].1.as_str(), &told[1].2), ("resolve", &told[0].2));
    assert!(probe.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_is_notified_as_long_as_it_is_open() {
    let (mut setting, server, hooks) = scene("lyon").await;
    let action = hook(&hooks, "/", ", retry_for = \"2s\"");
    setting.add(&format!("[action_list.default]\nactions = [{action}]"));
    setting.add_monitor(&setting.monitor("mail1", &server));
    hooks.set(Manner::Status(503));
    server.refuse(Protocol::Smtp);
    let probe = start(&setting, None);
    // After five and ten more seconds: long after the retry period.
    until("three tries", || hooks.taken().len() >= 3).await;
    hooks.set(Manner::Status(200));
    until("the alarm is accepted", || {
        status(&setting)["monitors"][0]["alarm"]["notified_at"].is_string()
    })
    .await;
    server.admit(Protocol::Smtp);
    until("the recovery", || kinds(&hooks, "/").last().is_some_and(|kind| kind == "recovery"))
        .await;
    assert!(probe.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_alarm_is_closed_where_it_was_opened_whatever_is_reloaded() {
    let (mut setting, server, hooks) = scene("lyon").await;
    let list = |key: &str, path: &str| {
        let actions = [hook(&hooks, path, ""), pagerduty(&hooks, key)].join(", ");
        format!("actions = [{actions}]")
    };
    setting.add(&format!("[action_list.default]\n{}", list("OLD_KEY", "/old")));
    for id in ["removed", "disabled", "moved"] {
        let mut monitor = setting.monitor(id, &server);
        monitor.more = format!("# {id}");
        setting.add_monitor(&monitor);
    }
    server.refuse(Protocol::Smtp);
    let probe = start(&setting, None);
    until("three incidents", || incidents(&hooks).len() == 3).await;
    // The key is changed, and one list is another, too.
    setting.add(&format!("[action_list.other]\n{}", list("NEW_KEY", "/new")));
    setting.replace("# disabled", "enabled = false");
    setting.replace("# moved", "action_list = \"other\"");
    setting.replace("[monitor.\"removed\"]", "[monitor.\"another\"]");
    setting.write();
    setting.succeed("mailqos-probe", &["reload"]);
    let resolved = |key: &str| {
        let told = incidents(&hooks).into_iter();
        let ends = told.filter(|(by, what, _)| by == key && what == "resolve");
        ends.map(|(.., incident)| incident).collect::<BTreeSet<_>>()
    };
    let opened = |key: &str| {
        let told = incidents(&hooks).into_iter();
        let begins = told.filter(|(by, what, _)| by == key && what == "trigger");
        begins.map(|(.., incident)| incident).collect::<BTreeSet<_>>()
    };
    let is_of = |incident: &str, monitor: &str| incident.contains(&format!("/{monitor}/"));
    until("three ends by the old key", || {
        ["removed", "disabled", "moved"]
            .iter()
            .all(|monitor| resolved("old").iter().any(|one| is_of(one, monitor)))
    })
    .await;
    until("the other team hears of the alarm", || {
        opened("new").iter().any(|incident| is_of(incident, "moved"))
            && kinds(&hooks, "/new") == ["alarm"]
    })
    .await;
    let words: Vec<String> =
        sent(&hooks, "/old").iter().map(|hook| hook["what"].to_string()).collect();
    for said in ["has been removed", "has been disabled", "the action list other"] {
        assert!(words.iter().any(|word| word.contains(said)), "{said}: {words:?}");
    }
    server.admit(Protocol::Smtp);
    until("all is closed", || opened("old") == resolved("old") && opened("new") == resolved("new"))
        .await;
    until("the other team hears of its end", || kinds(&hooks, "/new") == ["alarm", "recovery"])
        .await;
    // The new key is not used for incidents that the other key opened.
    assert!(resolved("new").iter().all(|incident| is_of(incident, "moved")));
    assert!(probe.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_is_killed_closes_what_it_has_opened_by_the_old_configuration() {
    let (mut setting, server, hooks) = scene("lyon").await;
    setting.add(&format!("[action_list.default]\nactions = [{}]", pagerduty(&hooks, "OLD_KEY")));
    setting.add_monitor(&setting.monitor("mail1", &server));
    server.refuse(Protocol::Smtp);
    let mut probe = start(&setting, None);
    until("the incident", || incidents(&hooks).len() == 1).await;
    until("it is on record", || {
        status(&setting)["monitors"][0]["alarm"]["notified_at"].is_string()
    })
    .await;
    probe.kill();
    server.admit(Protocol::Smtp);
    setting.replace("OLD_KEY", "NEW_KEY");
    probe = start(&setting, None);
    until("it is closed", || incidents(&hooks).iter().any(|(_, what, _)| what == "resolve")).await;
    let told = incidents(&hooks);
    let end = told.iter().find(|(_, what, incident)| what == "resolve" && *incident == told[0].2);
    assert_eq!(end.map(|(key, ..)| key.as_str()), Some("old"), "{told:?}");
    assert!(probe.stop().success());
    let kept = find_bytes(&setting.data(), b"OLD_KEY");
    assert_eq!(kept, None, "it is forgotten when nothing is open there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_cannot_test_reports_it() {
    let (mut setting, server, hooks) = scene("lyon").await;
    // Nothing answers there (RFC 6761, section 6.4): the probe assumes that it has lost its own
    // network.
    setting.replace(
        "timezone =",
        "reference_addresses = [\"nowhere.invalid:53\"]\nmetrics = \"127.0.0.1:0\"\ntimezone =",
    );
    setting.add(&format!("[action_list.default]\nactions = [{}]", hook(&hooks, "/", "")));
    setting.add_monitor(&setting.monitor("mail1", &server));
    let probe = start(&setting, None);
    until("it is good", || state(&setting, "mail1") == "ok").await;
    let plugin = || setting.run("mailqos-probe", &["status", "--format", "nagios"]);
    assert_eq!(plugin().status.code(), Some(0));
    server.refuse(Protocol::Smtp);
    until("nobody knows", || state(&setting, "mail1") == "unknown").await;
    let said = plugin();
    assert_eq!(said.status.code(), Some(3), "{}", words_of(&said));
    until("an alarm of the probe's own", || !kinds(&hooks, "/").is_empty()).await;
    let told = sent(&hooks, "/").remove(0);
    assert_eq!((&told["kind"], &told["monitor"]), (&"alarm".into(), &"mailqos.probe".into()));
    assert!(told["what"].as_str().unwrap().contains("1 of 1 monitors can't be tested"), "{told}");
    let said = plugin();
    assert_eq!(said.status.code(), Some(3), "{}", words_of(&said));
    assert!(words_of(&said).contains("can't test 1 monitor: mail1"), "{}", words_of(&said));
    assert!(setting.succeed("mailqos-probe", &["status"]).contains("NOT TESTED: 1 monitor"));
    server.admit(Protocol::Smtp);
    until("it is over", || kinds(&hooks, "/") == ["alarm", "recovery"]).await;
    until("it is good again", || state(&setting, "mail1") == "ok").await;
    assert_eq!(plugin().status.code(), Some(0));
    assert!(probe.stop().success());
}

/// The file as versions up to 48347ca wrote it: an open alarm, and the pending end of another one.
#[tokio::test(flavor = "multi_thread")]
async fn the_alarms_of_an_earlier_version_are_closed_where_they_were_opened() {
    let (mut setting, server, hooks) = scene("lyon").await;
    setting.add(&format!(
        "[action_list.default]\nactions = [{}, {}]",
        hook(&hooks, "/hook", ""),
        pagerduty(&hooks, "OLD_KEY")
    ));
    setting.add_monitor(&setting.monitor("mail1", &server));
    setting.add_monitor(&setting.monitor("mail2", &server));
    let risen = UtcMicros::now() - HOUR;
    let sample = |monitor: &str| {
        serde_json::to_value(Sample::new(monitor.parse().unwrap(), risen, Outcome::Lost))
            .expect("JSON")
    };
    let state = serde_json::json!({
        "status": "alarm", "failures": 3, "good": 0, "failing_since": risen.0, "last_ok": null,
        "last": { "started_at": risen.0, "outcome": "lost", "round_trip": null },
        "reason": "the mail did not arrive", "flapping": false, "held_by": null,
    });
    let incident = |monitor: &str| format!("mailqos/lyon/{monitor}/{}", risen.0);
    let taken = serde_json::json!({ "times": 1, "last": risen.0, "incident": incident("mail1") });
    let old = serde_json::json!({
        "states": { "mail1": state },
        "episodes": { "mail1": {
            "raised_at": risen.0, "list": "default", "sample": sample("mail1"),
            "taken": { "webhook at 127.0.0.1": taken, "pagerduty at 127.0.0.1": taken },
            "notified_at": risen.0, "acknowledged": null,
        } },
        "outbox": [{
            "id": "mail2.1", "monitor": "mail2", "why": "cleared", "sample": sample("mail2"), "state": state,
            "list": "default", "step": "webhook at 127.0.0.1", "incident": incident("mail2"),
            "created": risen.0, "tries": 3, "next_try": risen.0,
        }],
        "channels": {}, "simulations": {},
    });
    let folder = setting.data().join("state/site=lyon");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("alarms.json"), old.to_string()).unwrap();
    let probe = start(&setting, None);
    until("both ends", || sent(&hooks, "/hook").len() >= 2 && !incidents(&hooks).is_empty()).await;
    let log = probe.log();
    assert!(probe.stop().success(), "{log}");
    let mut ends: Vec<String> =
        sent(&hooks, "/hook").iter().map(|hook| hook["monitor"].to_string()).collect();
    ends.sort_unstable();
    assert_eq!(ends, ["\"mail1\"", "\"mail2\""]);
    assert_eq!(kinds(&hooks, "/hook"), ["recovery", "recovery"]);
    assert_eq!(incidents(&hooks), [("old".to_owned(), "resolve".to_owned(), incident("mail1"))]);
    assert!(
        !folder.join("alarms.damaged").exists()
            && log.contains("imported the alarm states of an earlier version")
    );
}
