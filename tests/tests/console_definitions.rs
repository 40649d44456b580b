//! Report definitions in the web console: saving, schedules, targets, deliveries and the archive.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use mailqos_model::{Micros, UtcMicros};
use mailqos_tests::{
    console::{Client, Scene},
    servers::FtpServer,
};

/// A field of a page's form by name.
fn field(page: &str, name: &str) -> String {
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).expect("a field");
    rest.split('"').next().expect("its end").to_owned()
}

/// A scene with a folder and an FTP server as targets.
async fn scene(monitors: usize) -> (Scene, FtpServer) {
    let ftp = FtpServer::start().await.expect("a server");
    let mut scene = Scene::new(monitors, 9);
    scene.setting.add(&format!(
        "[target.shelf]\nkind = \"folder\"\npath = \"shelf\"\n\
         [target.site]\nkind = \"ftp\"\nserver = \"127.0.0.1\"\nport = {}\ntls = \"none\"\ntimeout = \"5s\"\n\
         [target.nowhere]\nkind = \"ftp\"\nserver = \"127.0.0.1\"\nport = 1\ntls = \"none\"",
        ftp.port()
    ));
    scene.setting.write();
    (scene, ftp)
}

/// Saves a new definition.
fn save(client: &mut Client, name: &str, fields: &[(&str, &str)]) {
    let mut all = vec![("action", "save"), ("name", name)];
    all.extend(fields);
    let answer = client.send_form("/reports/new", "/reports/new", &all);
    assert_eq!(answer.status, 303, "{}", answer.body);
}

/// Generates and delivers what is due this many days from now.
fn pass(scene: &Scene, days: i64) {
    let now = UtcMicros::now() + Micros::from_secs(days * 86_400);
    scene.setting.run("mailqos-analytics", &["schedule", "run-due", "--now", &now.to_string()]);
}

const WEEKLY: [(&str, &str); 8] = [
    ("template", "top-bottom"),
    ("title", "Weekly \"mail\" <report>"),
    ("monitor", "tag:acme"),
    ("period", "last-7d"),
    ("format", "html"),
    ("format", "json"),
    ("every", "day"),
    ("at", "06:30"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_is_saved_scheduled_delivered_and_archived() {
    let (scene, ftp) = scene(8).await;
    let server = scene.serve();
    let mut client = server.administrator();
    // From the form of a template: the choices are taken along.
    let form = "/reports/templates/top-bottom";
    let fields = [
        ("action", "save"),
        ("which", "all"),
        ("tag", "acme"),
        ("period", "last-7d"),
        ("language", "de"),
    ];
    let answer = client.send_form(form, form, &fields);
    let page = client.get(answer.header("location")).body;
    assert!(page.contains("tag:acme") && page.contains("value=\"top-bottom\" selected"), "{page}");
    // All problems of a definition are named, and what was typed stays.
    let wrong = [
        ("action", "save"),
        ("name", "weekly"),
        ("template", "top-bottom"),
        ("every", "month"),
        ("on", "someday"),
        ("at", "25:00"),
    ];
    let page = client.send_form("/reports/new", "/reports/new", &wrong);
    assert_eq!(page.status, 422);
    for words in ["someday", "25:00", "period", "value=\"weekly\""] {
        assert!(page.body.contains(words), "{words}: {}", page.body);
    }
    // A day that no month has (apache/superset#42486).
    let never = [
        ("action", "save"),
        ("name", "weekly"),
        ("template", "top-bottom"),
        ("period", "last-7d"),
        ("every", "cron"),
        ("cron", "0 0 30 2 *"),
    ];
    assert_eq!(client.send_form("/reports/new", "/reports/new", &never).status, 422);
    assert!(!scene.setting.path("reports/weekly.toml").exists());
    let mut fields = WEEKLY.to_vec();
    fields.extend([("target", "shelf"), ("target", "site")]);
    save(&mut client, "weekly", &fields);
    let text = std::fs::read_to_string(scene.setting.path("reports/weekly.toml")).expect("saved");
    assert!(text.contains("[schedule]") && text.contains("target = \"site\""), "{text}");
    scene.setting.succeed("mailqos-analytics", &["templates", "check"]);
    let page = client.get("/reports/definitions/weekly").body;
    assert!(page.contains("Weekly &quot;mail&quot; &lt;report&gt;"), "{page}");
    let (_, runs) = page.split_once("<ol class=\"runs\">").expect("runs");
    let runs = runs.split("</ol>").next().expect("their end");
    assert_eq!(runs.matches("<li>").count(), 5, "{runs}");
    assert!(runs.contains("06:30"), "{runs}");
    assert!(client.get("/reports/definitions").body.contains("weekly"));
    // The time stays as it was entered, and the page names its zone (matomo-org/matomo#11459,
    // OpenNMS/opennms#3274).
    assert!(page.contains("name=\"at\" value=\"06:30\"") && page.contains("Europe/Stockholm"));
    // The 31st is the last day of shorter months (rilldata/rill#6508).
    let monthly = [
        ("template", "trend"),
        ("period", "last-month"),
        ("every", "month"),
        ("on", "31"),
        ("at", "07:00"),
    ];
    save(&mut client, "monthly", &monthly);
    let page = client.get("/reports/definitions/monthly").body;
    assert!(page.replace('\u{a0}', " ").contains("28 Feb 2027"), "{page}");
    std::fs::remove_file(scene.setting.path("reports/monthly.toml")).expect("removed");

    // The first pass makes the definition known, the second one is a day later.
    pass(&scene, 0);
    pass(&scene, 1);
    assert!(ftp.names().iter().any(|name| name.ends_with(".html")), "{:?}", ftp.names());
    let page = client.get("/reports/deliveries").body;
    assert!(page.contains("site") && page.contains("shelf") && page.contains("weekly-"), "{page}");
    let archive = client.get("/reports/archive").body;
    let (_, rest) = archive.split_once("href=\"/reports/archive/").expect("a report");
    let file = format!("/reports/archive/{}", rest.split('"').next().expect("its end"));
    let (answer, bytes) = client.download(&file);
    assert_eq!(answer.status, 200);
    assert!(String::from_utf8_lossy(&bytes).contains("Weekly"), "{file}");
    assert!(client.get("/audit").body.contains("Downloaded an archived report"));
    for path in
        ["..%2F..%2Fconsole/users.json", "weekly/..%2Fx.html", "none/a.html", "weekly/x.html"]
    {
        assert_eq!(client.get(&format!("/reports/archive/{path}")).status, 404, "{path}");
    }

    // A restricted user sees the archived report only if all of its monitors are its own.
    let mut own = server.user(&mut client, "vera", "viewer", "acme");
    assert!(own.get("/reports/archive").body.contains("weekly-"));
    assert_eq!(own.get(&file).status, 200);
    let mut other = server.user(&mut client, "berta", "administrator", "borealis");
    assert!(!other.get("/reports/archive").body.contains("weekly-"));
    assert_eq!(other.get(&file).status, 404);
    for path in ["/reports/new", "/reports/deliveries", "/reports/targets"] {
        assert_eq!(other.get(path).status, 404, "{path}");
        assert_eq!(own.get(path).status, 404, "{path}");
    }
    // So it does with definitions. Targets stay hidden.
    assert_eq!(other.get("/reports/definitions/weekly").status, 404);
    let list = other.get("/reports/definitions");
    assert!(list.status == 200 && !list.body.contains("weekly"), "{}", list.body);
    assert!(own.get("/reports/definitions").body.contains("weekly"));
    let page = own.get("/reports/definitions/weekly");
    for hidden in ["shelf", "name=\"text\"", "value=\"save\"", "Latest deliveries"] {
        assert!(page.status == 200 && !page.body.contains(hidden), "{hidden}: {}", page.body);
    }
    let csrf = other.get("/account").csrf();
    for action in ["view", "save", "save-text", "remove"] {
        let fields = [("csrf", csrf.as_str()), ("action", action), ("version", "0")];
        assert_eq!(other.post("/reports/definitions/weekly", &fields).status, 404, "{action}");
    }
    // A viewer of all monitors views it, and changes nothing.
    let mut viewer = server.user(&mut client, "carl", "viewer", "");
    let page = viewer.get("/reports/definitions/weekly");
    assert!(page.status == 200 && !page.body.contains("save-text"), "{}", page.body);
    let csrf = viewer.get("/account").csrf();
    for action in ["save", "save-text", "remove"] {
        let fields = [("csrf", csrf.as_str()), ("action", action), ("version", "0")];
        assert_eq!(viewer.post("/reports/definitions/weekly", &fields).status, 404, "{action}");
    }
    assert_eq!(viewer.get("/reports/targets").status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_save_the_second_sees_the_difference_and_comments_stay() {
    let (scene, _ftp) = scene(3).await;
    let server = scene.serve();
    let mut anna = server.administrator();
    save(&mut anna, "weekly", &WEEKLY);
    let file = scene.setting.path("reports/weekly.toml");
    let text = std::fs::read_to_string(&file).expect("saved");
    std::fs::write(&file, format!("# For the board.\n{text}")).expect("written");
    let here = "/reports/definitions/weekly";
    let mut berta = server.user(&mut anna, "berta", "administrator", "");
    let (first, second) = (anna.get(here).body, berta.get(here).body);
    let send = |client: &mut Client, page: &str, title: &str| {
        let (csrf, version) = (field(page, "csrf"), field(page, "version"));
        let mut fields =
            vec![("csrf", csrf.as_str()), ("version", version.as_str()), ("action", "save")];
        fields.extend(WEEKLY.iter().filter(|(name, _)| *name != "title"));
        fields.push(("title", title));
        client.post(here, &fields)
    };
    assert_eq!(send(&mut anna, &first, "Of Anna").status, 303);
    let answer = send(&mut berta, &second, "Of Berta");
    assert_eq!(answer.status, 422);
    assert!(answer.body.contains("Someone else has changed"), "{}", answer.body);
    assert!(answer.body.contains("- title = &quot;Of Anna&quot;"), "{}", answer.body);
    assert!(answer.body.contains("+ title = &quot;Of Berta&quot;"), "{}", answer.body);
    let text = std::fs::read_to_string(&file).expect("a file");
    assert!(text.starts_with("# For the board.") && text.contains("Of Anna"), "{text}");
    // With the difference seen, it is saved.
    assert_eq!(send(&mut berta, &answer.body, "Of Berta").status, 303);
    // As text, with sections; mistakes are shown with their lines.
    let text = "title = \"Own\"\nperiod = \"yesterday\"\n[[section]]\nkind = \"outagez\"\n";
    let page = anna.get(here).body;
    let version = field(&page, "version");
    let fields = [("action", "save-text"), ("version", version.as_str()), ("text", text)];
    let answer = anna.send_form(here, here, &fields);
    assert!(answer.status == 422 && answer.body.contains("outagez"), "{}", answer.body);
    let text = text.replace("outagez", "outages").replace('\n', "\r\n");
    let fields = [("action", "save-text"), ("version", version.as_str()), ("text", &text)];
    assert_eq!(anna.send_form(here, here, &fields).status, 303);
    let saved = std::fs::read_to_string(&file).expect("a file");
    assert!(saved.contains("kind = \"outages\"") && !saved.contains('\r'), "{saved}");
    // An invalid file is shown with its problems, and can be corrected.
    std::fs::write(&file, "title = \"Own\n").expect("written");
    assert!(anna.get("/reports/definitions").body.contains("has errors"));
    let page = anna.get(here);
    assert!(
        page.status == 200 && page.body.contains("no report is generated from it"),
        "{}",
        page.body
    );
    let version = field(&page.body, "version");
    let fields = [("action", "remove"), ("version", version.as_str())];
    assert_eq!(anna.send_form(here, here, &fields).status, 303);
    assert!(!file.exists() && anna.get(here).status == 404);
    for name in ["../up", "a/b", "", "x y", ".."] {
        let fields = [("action", "save"), ("name", name), ("template", "trend")];
        let answer = anna.send_form("/reports/new", "/reports/new", &fields);
        assert_eq!(answer.status, 422, "{name:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_are_tried_and_failed_deliveries_retried() {
    let (scene, ftp) = scene(3).await;
    let server = scene.serve();
    let mut admin = server.administrator();
    let mut operator = server.user(&mut admin, "olga", "operator", "");
    let page =
        operator.send_form("/reports/targets", "/reports/targets", &[("target", "site")]).body;
    assert!(page.contains("site: works"), "{page}");
    assert!(page.matches("✓").count() > 2, "{page}");
    assert!(ftp.names().is_empty(), "the test file is removed: {:?}", ftp.names());
    let page =
        operator.send_form("/reports/targets", "/reports/targets", &[("target", "nowhere")]).body;
    assert!(page.contains("nowhere: failed") && page.contains("127.0.0.1"), "{page}");
    for target in ["none", "../x", ""] {
        let answer =
            operator.send_form("/reports/targets", "/reports/targets", &[("target", target)]);
        assert_eq!(answer.status, 404, "{target}");
    }
    let mut fields = WEEKLY.to_vec();
    fields.push(("target", "nowhere"));
    save(&mut admin, "weekly", &fields);
    pass(&scene, 0);
    pass(&scene, 1);
    let page = operator.get("/reports/deliveries").body;
    assert!(page.contains("Waiting") && page.contains("nowhere"), "{page}");
    let id = field(&page, "id");
    // Viewers may not.
    let mut viewer = server.user(&mut admin, "vera", "viewer", "");
    let csrf = viewer.get("/account").csrf();
    let fields = [("csrf", csrf.as_str()), ("action", "drop"), ("id", id.as_str())];
    assert_eq!(viewer.post("/reports/deliveries", &fields).status, 404);
    let here = "/reports/deliveries";
    let answer = operator.send_form(here, here, &[("action", "retry"), ("id", &id)]);
    assert_eq!(answer.status, 303, "{}", answer.body);
    for other in ["none", "../../console", ""] {
        let answer = operator.send_form(here, here, &[("action", "drop"), ("id", other)]);
        assert_eq!(answer.status, 409, "{other}");
    }
    let answer = operator.send_form(here, here, &[("action", "drop"), ("id", &id)]);
    assert_eq!(answer.status, 303, "{}", answer.body);
    assert!(!operator.get(here).body.contains(&id));
    let audit = admin.get("/audit").body;
    for words in ["Tried a target", "Retried a delivery", "Removed a delivery"] {
        assert!(audit.contains(words), "{words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sections_are_edited_one_by_one_with_a_preview() {
    let (scene, _ftp) = scene(3).await;
    let server = scene.serve();
    let mut admin = server.administrator();
    save(&mut admin, "weekly", &WEEKLY);
    let here = "/reports/definitions/weekly";
    let file = scene.setting.path("reports/weekly.toml");
    let send = |client: &mut Client, fields: &[(&str, &str)]| {
        let page = client.get(here).body;
        let version = field(&page, "version");
        let mut all = vec![("version", version.as_str())];
        all.extend(fields);
        client.send_form(here, here, &all)
    };
    let kinds = || -> Vec<String> {
        let text = std::fs::read_to_string(&file).expect("a file");
        let lines = text.lines().filter_map(|line| line.strip_prefix("kind = "));
        lines.map(|kind| kind.trim_matches('"').to_owned()).collect()
    };
    assert_eq!(send(&mut admin, &[("action", "sections-own")]).status, 303);
    let before = kinds();
    assert!(before.len() > 2, "{before:?}");
    assert_eq!(send(&mut admin, &[("action", "section-down"), ("section", "0")]).status, 303);
    assert_eq!(kinds()[..2], [before[1].clone(), before[0].clone()]);
    assert_eq!(send(&mut admin, &[("action", "section-up"), ("section", "1")]).status, 303);
    assert_eq!(kinds(), before);
    // The fields of a kind are those of its declaration.
    let page = admin.get(&format!("{here}?add=outages")).body;
    assert!(page.contains("name=\"o-limit\"") && page.contains("value=\"section-add\""), "{page}");
    let add = [("action", "section-add"), ("kind", "outages"), ("o-limit", "many")];
    let answer = send(&mut admin, &add);
    assert!(answer.status == 422 && answer.body.contains("limit"), "{}", answer.body);
    assert_eq!(kinds(), before, "nothing is saved");
    let add = [("action", "section-add"), ("kind", "outages"), ("o-limit", "4")];
    let answer = send(&mut admin, &add);
    assert_eq!(answer.status, 303, "{}", answer.body);
    let last = before.len().to_string();
    let set = [("action", "section-set"), ("section", last.as_str()), ("o-limit", "7")];
    assert_eq!(send(&mut admin, &set).status, 303);
    assert!(std::fs::read_to_string(&file).expect("a file").contains("limit = 7"));
    let answer = send(&mut admin, &[("action", "section-remove"), ("section", &last)]);
    assert_eq!((answer.status, kinds()), (303, before));
    // The preview shows the changed report.
    let preview = answer.header("location").split('#').next().expect("an address").to_owned();
    assert!(preview.contains("?preview="), "{preview}");
    let begun = std::time::Instant::now();
    while !admin.get(&preview).body.contains("<iframe") {
        assert!(begun.elapsed() < mailqos_tests::setting::PATIENCE * 4, "no preview");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    // With an old version, nothing changes; sections that don't exist are refused.
    let page = admin.get(here).body;
    let csrf = field(&page, "csrf");
    let fields =
        [("csrf", csrf.as_str()), ("version", "0"), ("action", "section-remove"), ("section", "0")];
    let answer = admin.post(here, &fields);
    assert!(answer.status == 422 && answer.body.contains("Someone else"), "{}", answer.body);
    assert_eq!(send(&mut admin, &[("action", "section-remove"), ("section", "99")]).status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_save_definitions_and_try_targets() {
    let (scene, _ftp) = scene(3).await;
    let server = scene.serve();
    let mut admin = server.administrator();
    let token = |client: &mut Client, role: &str| {
        let fields = [("action", "add-token"), ("name", role), ("role", role)];
        let page = client.send_form("/account", "/account", &fields).body;
        let (_, rest) = page.split_once("value=\"mailqos_").expect("a token");
        let token = format!("Bearer mailqos_{}", rest.split('"').next().expect("its end"));
        let mut program = server.client();
        program.headers = vec![("Authorization".to_owned(), token)];
        program
    };
    let mut program = token(&mut admin, "administrator");
    let mut reader = token(&mut admin, "viewer");
    let here = "/api/v1/reports/definitions/weekly";
    let text = "template = \"trend\"\nperiod = \"yesterday\"\n[schedule]\nevery = \"day\"\n";
    assert_eq!(reader.post(here, &[("text", text)]).status, 404);
    // A session alone is not enough.
    assert_eq!(admin.post(here, &[("text", text)]).status, 403);
    let saved = program.post(here, &[("text", text)]);
    assert_eq!(saved.status, 200, "{}", saved.body);
    let saved = saved.json();
    assert_eq!(saved["next_runs"].as_array().map(Vec::len), Some(5), "{saved}");
    let version = saved["version"].as_str().expect("a version").to_owned();
    assert_eq!(program.post(here, &[("text", text)]).status, 409, "there already");
    let other = text.replace("trend", "top-bottom");
    assert_eq!(program.post(here, &[("text", &other), ("version", &version)]).status, 200);
    let conflict = program.post(here, &[("text", text), ("version", &version)]);
    assert_eq!((conflict.status, conflict.json()["text"].as_str()), (409, Some(other.as_str())));
    assert_eq!(program.post(here, &[("text", "x ="), ("version", "0")]).status, 422);
    assert_eq!(reader.get("/api/v1/reports/definitions").json()[0]["name"], "weekly");
    assert_eq!(reader.get("/api/v1/reports/archive").json(), serde_json::json!([]));
    let outbox = reader.get("/api/v1/reports/deliveries").json();
    assert!(outbox["ledger"].is_array() && outbox["waiting"].is_array(), "{outbox}");
    let trial = program.post("/api/v1/reports/targets/shelf/try", &[]).json();
    assert_eq!(trial["works"], true, "{trial}");
    assert!(trial["steps"].as_array().is_some_and(|steps| steps.len() > 3), "{trial}");
    for (path, status) in [("targets/shelf/try", 404), ("deliveries/none/retry", 404)] {
        let path = format!("/api/v1/reports/{path}");
        assert_eq!(reader.post(&path, &[]).status, status, "{path}");
    }
    let mut other = server.user(&mut admin, "vera", "administrator", "acme");
    for path in ["definitions/weekly", "deliveries", "targets"] {
        assert_eq!(other.get(&format!("/api/v1/reports/{path}")).status, 404, "{path}");
    }
    assert_eq!(other.get("/api/v1/reports/definitions").json(), serde_json::json!([]));
}

/// The stems of the archived reports of a definition, as the page lists them.
fn archived(client: &mut Client, slug: &str) -> usize {
    client.get("/reports/archive").body.matches(&format!("<td>{slug}-")).count()
}

/// Runs of a definition that still are to be delivered are kept in the archive whatever its rule,
/// as are files that someone has changed or added (RhetTbull/osxphotos#739). Rules of others removed
/// nothing at all (reportportal/reportportal#2150, GHPReporter/Ghpr.NUnit#72).
#[tokio::test(flavor = "multi_thread")]
async fn old_reports_leave_the_archive_once_they_are_delivered() {
    let (mut scene, _ftp) = scene(3).await;
    scene.setting.add("[archive]\nkeep_last = 2");
    scene.setting.write();
    let server = scene.serve();
    let mut admin = server.administrator();
    for (name, target) in [("weekly", "site"), ("waiting", "nowhere")] {
        let mut fields = WEEKLY.to_vec();
        fields.push(("target", target));
        save(&mut admin, name, &fields);
    }
    assert!(admin.get("/reports/archive").body.contains("the last 2 runs are kept"));
    let folder = scene.setting.data().join("state/reports/weekly");
    for day in 0..=2 {
        pass(&scene, day);
    }
    assert_eq!((archived(&mut admin, "weekly"), archived(&mut admin, "waiting")), (2, 2));
    // People keep their own files next to reports, and write into reports.
    std::fs::write(folder.join("weekly-notes.html"), "mine").expect("written");
    let oldest = std::fs::read_dir(&folder).expect("a folder").flatten().map(|entry| entry.path());
    let oldest = oldest.filter(|path| path.extension().is_some_and(|it| it == "json")).min();
    std::fs::write(oldest.as_ref().expect("a report"), "{}").expect("written");
    for day in 3..=4 {
        pass(&scene, day);
    }
    // Two runs, the changed file of an older one, and what is not ours.
    assert_eq!((archived(&mut admin, "weekly"), archived(&mut admin, "waiting")), (4, 4));
    assert!(folder.join("weekly-notes.html").exists() && oldest.is_some_and(|path| path.exists()));
    // What is no longer to be delivered goes with the next pass.
    let here = "/reports/deliveries";
    while admin.get(here).body.contains("value=\"drop\"") {
        let id = field(&admin.get(here).body, "id");
        assert_eq!(admin.send_form(here, here, &[("action", "drop"), ("id", &id)]).status, 303);
    }
    pass(&scene, 4);
    assert_eq!(archived(&mut admin, "waiting"), 2);
}

/// A delivery is repeated only after a confirmation, and a confirmation that is sent twice repeats
/// it once: others sent reports several times (getsentry/sentry#86174, d4software/QueryTree#107), or
/// let only a manual request repeat one (matomo-org/matomo#6392).
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_has_arrived_is_sent_again_after_a_confirmation() {
    let (scene, ftp) = scene(3).await;
    let server = scene.serve();
    let mut admin = server.administrator();
    let mut fields = WEEKLY.to_vec();
    fields.push(("target", "site"));
    save(&mut admin, "weekly", &fields);
    pass(&scene, 0);
    pass(&scene, 1);
    let here = "/reports/deliveries";
    let mut operator = server.user(&mut admin, "olga", "operator", "");
    let page = operator.get(here).body;
    assert!(page.contains("value=\"again\""), "{page}");
    let id = field(&page, "id");
    let mut viewer = server.user(&mut admin, "vera", "viewer", "");
    assert!(!viewer.get(here).body.contains("value=\"again\""));
    let csrf = viewer.get("/account").csrf();
    for action in ["again", "again-confirmed"] {
        let fields = [("csrf", csrf.as_str()), ("action", action), ("id", id.as_str())];
        assert_eq!(viewer.post(here, &fields).status, 404, "{action}");
    }
    let ledger = || scene.setting.succeed("mailqos-analytics", &["outbox", "ledger"]);
    let count = |text: &str| text.matches("\"delivered_at\"").count();
    let before = count(&ledger());
    let asked = operator.send_form(here, here, &[("action", "again"), ("id", &id)]);
    assert!(asked.status == 200 && asked.body.contains("Send again?"), "{}", asked.body);
    pass(&scene, 1);
    assert_eq!(count(&ledger()), before, "nothing is sent before the confirmation");
    let (csrf, occasion) = (asked.csrf(), field(&asked.body, "occasion"));
    let confirmation = [
        ("csrf", csrf.as_str()),
        ("action", "again-confirmed"),
        ("id", id.as_str()),
        ("occasion", occasion.as_str()),
    ];
    for _ in 0..2 {
        assert_eq!(operator.post(here, &confirmation).status, 303);
    }
    let names = ftp.names();
    pass(&scene, 1);
    assert_eq!(
        operator.post(here, &confirmation).status,
        303,
        "sent a third time, after it arrived"
    );
    pass(&scene, 1);
    let after = ledger();
    assert_eq!(count(&after), before + 1, "{after}");
    assert!(after.contains(&format!("\"repeats\":\"{id}\"")), "{after}");
    assert_eq!(ftp.names(), names, "the same files");
    assert!(operator.get(here).body.contains("Sent again"));
    let audit = admin.get("/audit").body;
    assert!(audit.contains("Sent a delivery again") && audit.contains("olga"), "{audit}");
    // Changed or removed files are not passed off as the report that was delivered.
    let folder = scene.setting.data().join("state/reports/weekly");
    for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
        let bytes = std::fs::read(entry.path()).expect("a file");
        let changed = String::from_utf8_lossy(&bytes).replace("Weekly", "Meekly");
        std::fs::write(entry.path(), changed).expect("written");
    }
    let other = [
        ("csrf", csrf.as_str()),
        ("action", "again-confirmed"),
        ("id", id.as_str()),
        ("occasion", "another"),
    ];
    assert_eq!(operator.post(here, &other).status, 409);
    std::fs::remove_dir_all(&folder).expect("removed");
    assert!(!operator.get(here).body.contains("value=\"again\""));
    for id in ["none", "../x", ""] {
        let fields = [("csrf", csrf.as_str()), ("action", "again-confirmed"), ("id", id)];
        assert_eq!(operator.post(here, &fields).status, 409, "{id}");
    }
}

/// Others' dashboards opened by their address (apache/superset#17913), and the names of others'
/// projects were shown (obiba/opal#3798).
#[tokio::test(flavor = "multi_thread")]
async fn a_restricted_administrator_changes_definitions_about_own_monitors_only() {
    let (scene, _ftp) = scene(6).await;
    let server = scene.serve();
    let mut admin = server.administrator();
    let targets = [("target", "shelf")];
    for (name, monitors) in
        [("mine", "tag:acme"), ("all", ""), ("theirs", "tag:borealis"), ("mixed", "m0000*")]
    {
        let mut fields = vec![("template", "trend"), ("monitor", monitors), ("period", "last-7d")];
        fields.extend(targets);
        save(&mut admin, name, &fields);
    }
    let text = "template = \"trend\"\nmonitors = [\"tag:acme\"]\nperiod = \"last-7d\"\n\n\
        [[section]]\nkind = \"outages\"\nmonitors = [\"tag:borealis\"]\n";
    std::fs::write(scene.setting.path("reports/sneaky.toml"), text).expect("written");
    let mut own = server.user(&mut admin, "akim", "administrator", "acme");
    let list = own.get("/reports/definitions");
    assert!(list.body.contains("mine"), "{}", list.body);
    for hidden in ["all", "theirs", "mixed", "sneaky", "none"] {
        let path = format!("/reports/definitions/{hidden}");
        assert!(!list.body.contains(&path), "{hidden}: {}", list.body);
        assert_eq!(own.get(&path).status, 404, "{hidden}");
        assert_eq!(own.get(&format!("/api/v1{path}")).status, 404, "{hidden}");
    }
    let here = "/reports/definitions/mine";
    let file = scene.setting.path("reports/mine.toml");
    let read = || std::fs::read_to_string(&file).expect("a file");
    let version = field(&own.get(here).body, "version");
    let mut fields = vec![
        ("action", "save"),
        ("version", version.as_str()),
        ("title", "Ours"),
        ("monitor", "tag:acme"),
        ("period", "last-month"),
        ("template", "top-bottom"),
        ("target", "site"),
    ];
    let answer = own.send_form(here, here, &fields);
    assert_eq!(answer.status, 303, "{}", answer.body);
    let saved = read();
    assert!(saved.contains("title = \"Ours\"") && saved.contains("last-month"), "{saved}");
    assert!(saved.contains("\"trend\"") && saved.contains("shelf"), "{saved}");
    assert!(!saved.contains("top-bottom") && !saved.contains("site"), "{saved}");
    // Monitors of others can't be added, however they are named.
    let version = field(&own.get(here).body, "version");
    fields[1].1 = version.as_str();
    for monitors in ["tag:borealis", "m0000*", "m00005", "object:mx1", "lyon/m00005", "*", ""] {
        fields[3].1 = monitors;
        let answer = own.send_form(here, here, &fields);
        assert_eq!(answer.status, 422, "{monitors}: {}", answer.body);
        assert!(!answer.body.contains("Porto"), "{}", answer.body);
    }
    for action in ["save-text", "section-add", "section-remove", "remove", "sections-own"] {
        let fields =
            [("action", action), ("version", version.as_str()), ("kind", "outages"), ("text", "x")];
        assert_eq!(own.send_form(here, here, &fields).status, 404, "{action}");
    }
    assert_eq!(read(), saved);
    assert_eq!(own.send_form(here, here, &[("action", "view")]).status, 303);
}

/// Sections in columns and per monitor are changed one by one, as all others are.
#[tokio::test(flavor = "multi_thread")]
async fn sections_in_others_are_changed_by_forms() {
    let (scene, _ftp) = scene(3).await;
    let server = scene.serve();
    let mut admin = server.administrator();
    let text =
        "title = \"Nested\"\nperiod = \"last-7d\"\n\n# First.\n[[section]]\nkind = \"outages\"\n";
    std::fs::create_dir_all(scene.setting.path("reports")).expect("a folder");
    std::fs::write(scene.setting.path("reports/nested.toml"), text).expect("written");
    let here = "/reports/definitions/nested";
    let read =
        || std::fs::read_to_string(scene.setting.path("reports/nested.toml")).expect("a file");
    let mut change = |fields: &[(&str, &str)]| {
        let version = field(&admin.get(here).body, "version");
        let mut all = vec![("version", version.as_str())];
        all.extend(fields);
        let answer = admin.send_form(here, here, &all);
        assert_eq!(answer.status, 303, "{fields:?}: {}", answer.body);
    };
    change(&[("action", "section-add"), ("kind", "columns")]);
    change(&[("action", "section-add"), ("kind", "per-monitor")]);
    change(&[("action", "section-add"), ("kind", "distribution"), ("parent", "1.column.0")]);
    change(&[("action", "section-set"), ("section", "1.column.0.section.0"), ("o-limit", "3")]);
    change(&[("action", "section-up"), ("section", "1.column.0.section.1")]);
    change(&[("action", "section-add"), ("parent", "1")]);
    change(&[("action", "section-add"), ("kind", "heading"), ("o-text", "Each"), ("parent", "2")]);
    change(&[("action", "section-remove"), ("section", "1.column.2")]);
    let saved = read();
    assert!(saved.starts_with("title = \"Nested\"\n") && saved.contains("# First."), "{saved}");
    let heads: Vec<&str> = saved.lines().filter(|line| line.starts_with("kind")).collect();
    let kinds = [
        "outages",
        "columns",
        "distribution",
        "outages",
        "alarms",
        "per-monitor",
        "availability-table",
        "heading",
    ];
    assert_eq!(heads, kinds.map(|kind| format!("kind = \"{kind}\"")), "{saved}");
    assert!(saved.contains("limit = 3"), "{saved}");
    let page = admin.get(here).body;
    for text in ["class=\"depth-2\"", "value=\"1.column.0.section.1\"", "Add a column"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    let page = admin.get(&format!("{here}?add=top&in=2")).body;
    assert!(page.contains("name=\"parent\" value=\"2\""), "{page}");
}
