//! Alarms and maintenance in the web console, with a running probe: what the pages do is what the
//! commands do, restricted to the monitors of the user.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use jiff::{Timestamp, tz::TimeZone};
use mailqos_tests::{
    console::{Answer, Client, Server},
    hooks::{Hooks, Manner},
    servers::{MailServer, Options, Protocol},
    setting::{Probe, Setting, until},
};
use serde_json::{Value, json};

struct Scene {
    setting: Setting,
    server: MailServer,
    hooks: Hooks,
}

impl Scene {
    /// Two monitors of two customers, tested every second; two failures raise an alarm.
    async fn new() -> Self {
        let mut setting = Setting::new("lyon");
        let server = MailServer::start(Options::default()).await.unwrap();
        let hooks = Hooks::start(Manner::Status(200)).await.unwrap();
        setting.replace("test_interval = \"5s\"", "test_interval = \"1s\"\nalarm_after = 2");
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        setting.add(&format!(
            "[action_list.default]\nactions = [{{ webhook = {{ url = \"{}\", body = '''{{ }}''' }} }}, {{ webhook = {{ url = \"http://{closed}/\", body = '''{{ }}''' }} }}]\n\
             [action_list.acme]\nactions = [{{ webhook = {{ url = \"{}\", body = '''{{ }}''' }} }}]\n\
             [maintenance.patches]\nhours = \"00:00-00:01\"\nweekdays = \"sun\"\nmonitors = [\"tag:beta\"]",
            hooks.url("/"),
            hooks.url("/acme"),
        ));
        for (id, more) in
            [("mail1", "tags = [\"acme\"]\naction_list = \"acme\""), ("mail2", "tags = [\"beta\"]")]
        {
            let mut monitor = setting.monitor(id, &server);
            monitor.more = more.to_owned();
            setting.add_monitor(&monitor);
        }
        setting.write();
        Self { setting, server, hooks }
    }

    fn serve(&self) -> Server {
        let mut command = self.setting.command("mailqos-analytics");
        command.args(["serve", "--listen", "127.0.0.1:0", "--no-schedule"]);
        Server::start(&mut command, &self.setting.path("console.log"))
    }

    /// State of a monitor, by the command line.
    fn state(&self, monitor: &str) -> Value {
        let output = self.setting.run("mailqos-probe", &["status", monitor, "--format", "json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        status["monitors"][0].clone()
    }

    fn by(&self, monitor: &str) -> Value {
        self.state(monitor)["alarm"]["acknowledged"]["by"].clone()
    }

    fn log(&self) -> String {
        self.setting.succeed("mailqos-probe", &["log", "--format", "json"])
    }

    /// Waits until the probe answers.
    async fn probe(&self) -> Probe {
        let probe = self.setting.start_probe();
        until("the probe", || !self.state("mail1").is_null()).await;
        probe
    }
}

fn alarms(client: &mut Client, action: &str, fields: &[(&str, &str)]) -> Answer {
    client.send_form("/alarms", "/alarms", &[&[("action", action)], fields].concat())
}

fn maintenance(client: &mut Client, action: &str, fields: &[(&str, &str)]) -> Answer {
    client.send_form("/maintenance", "/maintenance", &[&[("action", action)], fields].concat())
}

/// A client of the API with a token of this user.
fn program(server: &Server, user: &mut Client, role: &str) -> Client {
    let fields = [("action", "add-token"), ("name", "scripts"), ("role", role)];
    let page = user.send_form("/account", "/account", &fields);
    let (_, rest) = page.body.split_once("value=\"mailqos_").expect("a token");
    let token = format!("mailqos_{}", rest.split('"').next().expect("its end"));
    let mut program = server.client();
    program.headers = vec![("Authorization".to_owned(), format!("Bearer {token}"))];
    program
}

fn post(client: &Client, path: &str, body: &Value) -> Answer {
    let body = body.to_string();
    let mut text =
        format!("POST {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", client.address);
    for (name, value) in &client.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let length = body.len();
    text.push_str(&format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"));
    client.raw(format!("{text}{body}").as_bytes())
}

/// Bosun (bosun-monitor/bosun#115) and Naemon (naemon/naemon-core#349) lost acknowledgements when
/// they ended without a chance to write them; Icinga let the last of two win
/// (Icinga/icinga2#7695); phpservermon (#1) executed script in what users had typed; in Icinga Web
/// (Icinga/icingaweb2#5545) a withdrawn acknowledgement stayed.
#[tokio::test(flavor = "multi_thread")]
async fn alarms_are_acknowledged_withdrawn_and_simulated_in_the_console() {
    let scene = Scene::new().await;
    scene.server.refuse(Protocol::Smtp);
    let probe = scene.probe().await;
    let server = scene.serve();
    let mut admin = server.administrator();
    let mut viewer = server.user(&mut admin, "vera", "viewer", "");
    let mut bert = server.user(&mut admin, "bert", "operator", "beta");
    let mut carl = server.user(&mut admin, "carl", "operator", "");
    until("two alarms", || admin.get("/alarms").body.contains("2 open alarms (2 not")).await;

    // A viewer sees them and can do nothing.
    let page = viewer.get("/alarms").body;
    assert!(page.contains("mail1") && !page.contains("value=\"acknowledge\""), "{page}");
    let csrf = viewer.get("/account").csrf();
    for (page, action) in [("/alarms", "acknowledge"), ("/maintenance", "plan")] {
        let fields = [("csrf", csrf.as_str()), ("action", action), ("monitor", "mail1")];
        assert_eq!(viewer.post(page, &fields).status, 403);
    }
    // A restricted operator knows nothing of the other monitor, by no pattern.
    let page = bert.get("/alarms").body;
    assert!(page.contains("One open alarm") && !page.contains("mail1"), "{page}");
    for pattern in ["mail1", "tag:acme", "object:mail1", "nothing"] {
        let answer = alarms(&mut bert, "acknowledge", &[("monitors", pattern)]);
        assert_eq!(answer.status, 422, "{pattern}");
        assert!(answer.body.contains(&format!("{pattern} matches no monitor")), "{pattern}");
        assert_eq!(alarms(&mut bert, "simulate", &[("monitors", pattern)]).status, 422);
    }
    assert_eq!(alarms(&mut bert, "acknowledge", &[("monitors", "*")]).status, 303);
    assert_eq!((scene.by("mail1"), scene.by("mail2")), (Value::Null, json!("bert")));
    assert_eq!(alarms(&mut bert, "acknowledge", &[]).status, 422, "nothing is selected");

    // With name and note, which stays text.
    let note = "<script>alert(1)</script> \"disk\"\r\nis full";
    let answer = alarms(&mut admin, "acknowledge", &[("monitor", "mail1"), ("note", note)]);
    assert_eq!((answer.status, answer.header("location")), (303, "/alarms?done=acknowledged"));
    let known = scene.state("mail1")["alarm"]["acknowledged"].clone();
    assert_eq!(
        (&known["by"], &known["note"]),
        (&json!("admin"), &json!("<script>alert(1)</script> \"disk\"  is full"))
    );
    let page = carl.get("/alarms").body;
    assert!(page.contains("Acknowledged by admin") && page.contains("&lt;script&gt;alert(1)"));
    assert!(!page.contains("<script>alert"), "{page}");
    // The second one sees that, and may replace it.
    let answer = alarms(&mut carl, "acknowledge", &[("monitor", "mail1")]);
    assert_eq!(answer.status, 422);
    assert!(answer.body.contains("mail1 was already acknowledged by admin"), "{}", answer.body);
    assert_eq!(scene.by("mail1"), "admin");
    alarms(&mut carl, "acknowledge", &[("monitor", "mail1"), ("replace", "yes")]);
    assert_eq!(scene.by("mail1"), "carl");
    // An alarm that is no longer the one on the page is not acknowledged.
    let stale = [("monitor", "mail1@2026-01-01T00:00:00Z"), ("replace", "yes")];
    let answer = alarms(&mut admin, "acknowledge", &stale);
    assert!(answer.status == 422 && answer.body.contains("another one is open now"));
    assert_eq!(scene.by("mail1"), "carl");

    // It is on disk before anything else can happen.
    until("it is stored", || scene.log().contains("acknowledged")).await;
    probe.kill();
    let probe = scene.probe().await;
    assert_eq!((scene.by("mail1"), scene.by("mail2")), (json!("carl"), json!("bert")));
    assert_eq!(alarms(&mut carl, "withdraw", &[("monitor", "mail1")]).status, 303);
    assert_eq!(scene.by("mail1"), Value::Null);
    assert_eq!(alarms(&mut carl, "withdraw", &[("monitor", "mail1")]).status, 422);
    assert!(scene.log().contains("acknowledgement_withdrawn"));

    // Each action of a list has its result; others' lists don't exist.
    let answer = alarms(&mut carl, "try", &[("list", "default")]);
    assert_eq!(answer.status, 200);
    let rows = answer.body.split("id=\"try\"").nth(1).unwrap();
    assert!(
        rows.contains("<strong>accepted</strong>") && rows.contains("<strong>failed</strong>"),
        "{rows}"
    );
    let before = scene.hooks.taken().len();
    let answer = alarms(&mut bert, "try", &[("list", "acme")]);
    assert!(answer.status == 422 && answer.body.contains("no action list with this name"));
    assert!(!bert.get("/alarms").body.contains("acme"));
    assert_eq!(scene.hooks.taken().len(), before);

    // The alarms clear, and a simulated one follows.
    scene.server.admit(Protocol::Smtp);
    until("no alarm", || carl.get("/alarms").body.contains("No open alarms")).await;
    let answer = alarms(&mut carl, "simulate", &[("monitors", "mail2"), ("lasts", "90d")]);
    assert!(answer.status == 422 && answer.body.contains("at most 24h"), "{}", answer.body);
    assert_eq!(
        alarms(&mut carl, "simulate", &[("monitors", "mail2"), ("lasts", "10m")]).status,
        303
    );
    let page = bert.get("/alarms").body;
    assert!(page.contains("Simulated failures") && page.contains("One open alarm"), "{page}");
    assert_eq!(alarms(&mut bert, "end-simulation", &[("monitor", "mail2")]).status, 303);
    until("it is over", || bert.get("/alarms").body.contains("No open alarms")).await;
    let mut history = || {
        let page = admin.get("/alarms").body;
        page.split("id=\"history\"").nth(1).unwrap().to_owned()
    };
    until("the simulated alarm", || history().contains("simulated")).await;
    assert!(history().contains("bert"));

    // Everything is in the audit log, with what failed.
    let audit = admin.get("/audit").body;
    for words in [
        "Acknowledged an alarm",
        "Withdrew an acknowledgement",
        "Simulated a failure",
        "Ended a simulation",
        "Tried an action list",
    ] {
        assert!(audit.contains(words), "{words}");
    }

    // Without a probe, the console says so, and what to do.
    assert!(probe.stop().success());
    let answer = alarms(&mut carl, "acknowledge", &[("monitor", "mail1")]);
    assert_eq!(answer.status, 422);
    for words in ["The probe is not running", "Its last status is", "mailqos-probe run"] {
        assert!(answer.body.contains(words), "{words}: {}", answer.body);
    }
    let stopped = "The probe lyon is stopped";
    until("the stopped probe", || carl.get("/alarms").body.contains(stopped)).await;
    assert!(admin.get("/audit").body.contains("The change failed"));
}

/// Minutes before now in the time zone of the configuration, as a browser sends them.
fn local(minutes_ago: i64) -> String {
    let at = Timestamp::now() - jiff::SignedDuration::from_mins(minutes_ago);
    let zone = TimeZone::get("Europe/Stockholm").unwrap();
    zone.to_datetime(at).strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

/// The figures of this month, or null until its first samples are sealed: on the first day of a
/// month there are no older ones.
fn figures(scene: &Scene) -> Value {
    let arguments =
        ["stats", "--monitor", "mail1", "--full", "--period", "current-month", "--format", "json"];
    let output = scene.setting.run("mailqos-analytics", &arguments);
    let rows: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    rows.map_or(Value::Null, |rows| rows[0].clone())
}

/// In the mobile app of the VA (department-of-veterans-affairs/va-mobile-app#8892) the second of
/// two overlapping windows was not respected; in Checkmate (bluewave-labs/Checkmate#3720) monitors
/// stayed in maintenance; in Uptime Kuma (louislam/uptime-kuma#2987) recurring windows came once.
#[tokio::test(flavor = "multi_thread")]
async fn maintenance_is_planned_ended_and_declared_in_the_console() {
    let scene = Scene::new().await;
    scene.server.refuse(Protocol::Smtp);
    let probe = scene.probe().await;
    let server = scene.serve();
    let mut admin = server.administrator();
    let mut bert = server.user(&mut admin, "bert", "operator", "beta");

    // All problems at once, with what was typed.
    let wrong = [
        ("monitors", "nobody"),
        ("from", "2026-03-29T02:30"),
        ("lasts", "long"),
        ("cron", "x"),
        ("reason", "new <disks>"),
        ("pause", "yes"),
    ];
    let answer = maintenance(&mut admin, "plan", &wrong);
    assert_eq!(answer.status, 422);
    for words in [
        "nobody matches no monitor",
        "the clocks are put forward",
        "Enter a duration such as 2h",
        "value=\"nobody\"",
        "value=\"long\"",
        "value=\"new &lt;disks&gt;\"",
        "value=\"yes\" checked",
    ] {
        assert!(answer.body.contains(words), "{words}: {}", answer.body);
    }
    let over = [("monitors", "mail1"), ("from", &*local(90)), ("to", &*local(60))];
    assert!(
        maintenance(&mut admin, "plan", &over).body.contains("declare it as maintenance instead")
    );

    // Two overlapping windows: the monitor leaves maintenance with the later one.
    let fields =
        [("monitors", "mail1"), ("lasts", "1h"), ("name", "disks"), ("reason", "new disks")];
    assert_eq!(maintenance(&mut admin, "plan", &fields).status, 303);
    let fields = [("monitors", "mail1, mail2"), ("lasts", "2h"), ("name", "fans")];
    assert_eq!(maintenance(&mut admin, "plan", &fields).status, 303);
    assert!(maintenance(&mut admin, "plan", &fields).body.contains("already exists"));
    let listed = scene.setting.succeed("mailqos-probe", &["maintenance", "list"]);
    assert!(listed.contains("disks") && listed.contains("new disks"), "{listed}");
    assert_eq!(scene.state("mail1")["maintenance"]["name"], "fans");
    // The restricted operator sees what concerns its monitor, without the other one.
    let page = bert.get("/maintenance").body;
    assert!(page.contains("fans") && page.contains("patches"), "{page}");
    assert!(!page.contains("disks") && !page.contains("mail1"), "{page}");
    for (window, words) in [
        ("fans", "monitors that you can&#39;t see"),
        ("disks", "no maintenance window with this name"),
        ("patches", "in the configuration"),
    ] {
        let answer = maintenance(&mut bert, "end", &[("window", window)]);
        assert!(answer.status == 422 && answer.body.contains(words), "{window}: {}", answer.body);
    }
    assert_eq!(
        maintenance(&mut bert, "plan", &[("monitors", "mail1"), ("lasts", "1h")]).status,
        422
    );
    assert_eq!(maintenance(&mut bert, "plan", &[("lasts", "1h"), ("name", "own")]).status, 303);
    let listed = scene.setting.succeed("mailqos-probe", &["maintenance", "list"]);
    let own = listed.lines().find(|line| line.starts_with("own ")).unwrap();
    assert!(own.contains("mail2") && !own.contains("mail1"), "{own}");
    for window in ["fans", "disks"] {
        assert_eq!(maintenance(&mut admin, "end", &[("window", window)]).status, 303);
    }
    assert_eq!(scene.state("mail1")["maintenance"], Value::Null);
    // A recurring window has several occurrences.
    let fields =
        [("cron", "30 4 * * *"), ("lasts", "1h"), ("name", "nightly"), ("reason", "backup")];
    assert_eq!(maintenance(&mut admin, "plan", &fields).status, 303);
    let page = admin.get("/maintenance").body;
    assert!(page.contains("1\u{a0}h at 30 4 * * *"), "{page}");
    assert_eq!(maintenance(&mut admin, "end", &[("window", "nightly")]).status, 303);

    // Declared afterwards: both values, as by the command line.
    until("two failed tests", || scene.state("mail1")["failures"].as_u64() >= Some(2)).await;
    scene.server.admit(Protocol::Smtp);
    until("a good test", || scene.state("mail1")["last"]["outcome"] == "ok").await;
    let good = scene.state("mail1")["last"]["started_at"].as_str().unwrap().to_owned();
    let future = [("monitors", "mail1"), ("from", &*local(60)), ("to", &*local(-60))];
    let answer = maintenance(&mut admin, "declare", &future);
    assert!(answer.body.contains("Only a past period") && answer.body.contains("Enter the reason"));
    let begin = local(30);
    let fields = [
        ("monitors", "mail1"),
        ("from", begin.as_str()),
        ("to", good.as_str()),
        ("reason", "forgotten"),
        ("name", "late"),
    ];
    assert_eq!(maintenance(&mut bert, "declare", &fields).status, 422);
    let answer = maintenance(&mut admin, "declare", &fields);
    assert_eq!(answer.status, 303, "{}", answer.body);
    until("the samples", || figures(&scene)["declared"].as_u64() >= Some(2)).await;
    let row = figures(&scene);
    assert!(row["availability"].as_f64().unwrap() < 1.0, "{row}");
    assert_eq!(row["availability_excluding_declared"], 1.0, "{row}");
    // The page shows full minutes.
    let words = "Excluding maintenance that was declared afterwards";
    until(words, || admin.get("/monitors/lyon/mail1").body.contains(words)).await;
    assert_eq!(maintenance(&mut admin, "withdraw", &[("window", "late")]).status, 303);
    until("the withdrawal", || figures(&scene)["declared"] == 0).await;
    let row = figures(&scene);
    assert_eq!(row["availability"], row["availability_excluding_declared"], "{row}");

    // The same by the API, in the same bounds.
    let chief = program(&server, &mut admin, "operator");
    let looker = program(&server, &mut admin, "viewer");
    let restricted = program(&server, &mut bert, "operator");
    let plan = json!({"monitors": ["mail1"], "lasts": "1h", "name": "by-api", "reason": "disks"});
    assert_eq!(post(&looker, "/api/v1/maintenance", &plan).status, 403);
    let refused = post(&restricted, "/api/v1/maintenance", &plan);
    assert_eq!(
        (refused.status, &refused.json()["problems"][0]["field"]),
        (422, &json!("monitors"))
    );
    let added = post(&chief, "/api/v1/maintenance", &plan);
    assert_eq!((added.status, &added.json()["monitors"]), (200, &json!(1)), "{}", added.body);
    assert_eq!(post(&chief, "/api/v1/maintenance", &json!({"month": 1})).status, 400);
    assert_eq!(post(&chief, "/api/v1/maintenance", &plan).status, 409, "the name is taken");
    let mut reader = chief.clone();
    let windows = reader.get("/api/v1/maintenance").json();
    let window = windows.as_array().unwrap().iter().find(|window| window["name"] == "by-api");
    assert_eq!(window.unwrap()["by"], "admin");
    let mut reader = restricted.clone();
    assert!(!reader.get("/api/v1/maintenance").body.contains("by-api"));
    let end = json!({"name": "by-api"});
    assert_eq!(post(&restricted, "/api/v1/maintenance/end", &end).status, 422);
    assert_eq!(post(&chief, "/api/v1/maintenance/end", &end).status, 200);
    // The name of an ended window is free at once.
    let again = post(&chief, "/api/v1/maintenance", &plan);
    assert_eq!(again.status, 200, "{}", again.body);
    assert_eq!(post(&chief, "/api/v1/maintenance/end", &end).status, 200);
    // A session needs the token of its forms; a page of another site has none.
    let mut forged = admin.clone();
    forged.headers = vec![(
        "Cookie".to_owned(),
        admin
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("; "),
    )];
    assert_eq!(post(&forged, "/api/v1/maintenance", &plan).status, 403);
    forged.headers.push(("X-CSRF-Token".to_owned(), admin.get("/").csrf()));
    let plan = json!({"monitors": ["mail1"], "lasts": "1h", "name": "by-page", "reason": "disks"});
    assert_eq!(post(&forged, "/api/v1/maintenance", &plan).status, 200);

    assert!(probe.stop().success());
    let answer = post(&chief, "/api/v1/maintenance", &plan);
    assert!(answer.status == 503 && answer.body.contains("is not running"), "{}", answer.body);
}
