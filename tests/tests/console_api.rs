//! The API of definitions: what the forms do, for programs.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use mailqos_tests::{
    console::{Answer, Client, PASSWORD as SECRET, Scene, Server},
    servers::{MailServer, Options, PASSWORD, PROBE},
    setting::{Setting, find_bytes, until},
};
use serde_json::{Value, json};

const MONITORS: &str = "/api/v1/definitions/monitors";
const OBJECTS: &str = "/api/v1/definitions/objects";

/// A program with a token of a user.
fn program(server: &Server, user: &mut Client, role: &str) -> Client {
    let fields = [("action", "add-token"), ("name", "scripts"), ("role", role)];
    let page = user.send_form("/account", "/account", &fields);
    let (_, rest) = page.body.split_once("value=\"mailqos_").expect("a token");
    let token = format!("mailqos_{}", rest.split('"').next().expect("its end"));
    let mut program = server.client();
    program.headers = vec![("Authorization".to_owned(), format!("Bearer {token}"))];
    program
}

/// Sends JSON, with header fields.
fn send(client: &Client, (method, path): (&str, &str), more: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{more}",
        client.address
    );
    for (name, value) in &client.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str("Content-Type: application/json\r\n");
    }
    client.raw(format!("{text}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
}

fn fields(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let problems = json["problems"].as_array().expect("problems");
    problems.iter().map(|problem| problem["field"].as_str().expect("a field").to_owned()).collect()
}

fn file(scene: &Scene) -> String {
    std::fs::read_to_string(scene.setting.path("mailqos.toml")).expect("the configuration")
}

/// Writes that ignore `If-Match` or a missing version lose updates (xerj-org/xerj#210,
/// coddingtonbear/obsidian-local-rest-api#286); `PATCH` reset what it did not name
/// (NUWCDIVNPT/stig-manager#1614, mindersec/minder#2672, nexodus-io/nexodus#667), could not clear a
/// value (hotosm/tasking-manager#1953), or dropped unknown keys without a word
/// (paperclipai/paperclip#10190).
#[test]
fn definitions_are_read_changed_and_removed_with_their_versions() {
    let scene = Scene::new(6, 1);
    let server = scene.serve();
    let mut admin = server.administrator();
    let mut chief = program(&server, &mut admin, "administrator");
    let kinds = chief.get("/api/v1/definitions/kinds").json();
    assert_eq!(kinds[0]["name"], "mail-qos", "{kinds}");
    let path = format!("{MONITORS}/m00001");
    let shown = chief.get(&path);
    let found = shown.json();
    assert_eq!((shown.status, &found["kind"]), (200, &json!("mail-qos")), "{}", shown.body);
    assert_eq!(found["definition"]["smtp"], json!({"port": 465, "tls": "implicit"}), "{found}");
    let version = found["version"].as_str().expect("a version").to_owned();
    assert_eq!(shown.header("etag"), format!("\"{version}\""));
    let change = json!({"definition": {"max_round_trip": "40s"}});
    let answer = send(&chief, ("PATCH", &path), "", &change);
    assert_eq!(answer.status, 428, "{}", answer.body);
    let matching = format!("If-Match: \"{version}\"\r\n");
    let answer = send(&chief, ("PATCH", &path), &matching, &change);
    assert_eq!(answer.status, 200, "{}", answer.body);
    // Nothing else has changed.
    let text = file(&scene);
    assert!(text.contains("max_round_trip = \"40s\""), "{text}");
    assert_eq!(answer.json()["definition"]["smtp"]["port"], 465);
    // The old version is a conflict; the answer shows what it is now.
    let other = json!({"definition": {"max_round_trip": "50s"}});
    let answer = send(&chief, ("PATCH", &path), &matching, &other);
    assert_eq!(answer.status, 412, "{}", answer.body);
    assert_eq!(answer.json()["current"]["definition"]["max_round_trip"], "40s");
    let weak = format!("If-Match: W/\"{version}\"\r\n");
    assert_eq!(send(&chief, ("PATCH", &path), &weak, &other).status, 412);
    let old = json!({"version": version, "definition": {"max_round_trip": "50s"}});
    assert_eq!(send(&chief, ("PUT", &path), "", &old).status, 409);
    assert_eq!(file(&scene), text);
    // A key is cleared by null, and unknown ones are problems, all at once.
    let now = chief.get(&path).json()["version"].clone();
    let wrong = json!({"version": now, "definition": {
        "max_round_trip": "soon", "nothing": 1, "smtp": {"port": 99_999, "prot": 1}, "tags": {"a": 1},
    }});
    let answer = send(&chief, ("PATCH", &path), "", &wrong);
    assert_eq!(
        (answer.status, fields(&answer)),
        (422, vec!["nothing".into(), "smtp.prot".into(), "tags".into()])
    );
    let wrong =
        json!({"version": now, "definition": {"max_round_trip": "soon", "smtp": {"port": 99_999}}});
    let answer = send(&chief, ("PATCH", &path), "", &wrong);
    let wrong = fields(&answer);
    assert!(
        wrong.contains(&"max_round_trip".into()) && wrong.contains(&"smtp.port".into()),
        "{}",
        answer.body
    );
    let clear = json!({"version": now, "definition": {"max_round_trip": null}});
    let answer = send(&chief, ("PATCH", &path), "", &clear);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(!file(&scene).contains("40s"), "{}", file(&scene));
    // A copy, and a removal.
    let copy = json!({"copy": "m00001", "id": "copy", "definition": {"name": "Copy"}});
    let answer = send(&chief, ("POST", MONITORS), "", &copy);
    assert_eq!(
        (answer.status, answer.header("location")),
        (201, &*format!("{MONITORS}/copy")),
        "{}",
        answer.body
    );
    assert_eq!(answer.json()["definition"]["from"], "a@example.com");
    assert_eq!(send(&chief, ("POST", MONITORS), "", &copy).status, 422, "the id is taken");
    let answer = send(
        &chief,
        ("DELETE", &format!("{MONITORS}/copy")),
        "If-Match: \"old\"\r\n",
        &Value::Null,
    );
    assert_eq!(answer.status, 412, "{}", answer.body);
    let answer =
        send(&chief, ("DELETE", &format!("{MONITORS}/copy")), "If-Match: *\r\n", &Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(chief.get(&format!("{MONITORS}/copy")).status, 404);
    // Objects.
    let new = json!({"id": "extra", "definition": {"address": "extra.example.com"}});
    let answer = send(&chief, ("POST", OBJECTS), "", &new);
    assert_eq!(answer.status, 201, "{}", answer.body);
    let path = format!("{OBJECTS}/extra");
    let version = answer.json()["version"].clone();
    let wrong = json!({"version": version, "definition": {"address": "a b"}});
    let answer = send(&chief, ("PATCH", &path), "", &wrong);
    assert_eq!(
        (answer.status, fields(&answer)),
        (422, vec!["object.address".into()]),
        "{}",
        answer.body
    );
    let named = json!({"version": version, "definition": {"name": "Extra"}});
    let answer = send(&chief, ("PATCH", &path), "", &named);
    assert_eq!(answer.json()["definition"]["address"], "extra.example.com", "{}", answer.body);
    assert_eq!(send(&chief, ("PUT", &path), "", &named).status, 409);
    let answer = send(&chief, ("DELETE", &format!("{OBJECTS}/mx0")), "", &Value::Null);
    assert_eq!(answer.status, 422, "it has monitors: {}", answer.body);
    assert_eq!(send(&chief, ("DELETE", &path), "", &Value::Null).status, 200);
    let listed = chief.get(OBJECTS).json();
    assert!(listed.as_array().expect("a list").iter().all(|object| object["id"] != "extra"));
    let audit = chief.get("/api/v1/audit").json().to_string();
    for action in
        ["monitor_changed", "monitor_added", "monitor_removed", "object_added", "object_removed"]
    {
        assert!(audit.contains(action), "{action}: {audit}");
    }
}

#[test]
fn roles_tags_and_sessions_bound_the_api_of_definitions() {
    let scene = Scene::new(6, 1);
    let server = scene.serve();
    let mut admin = server.administrator();
    let mut acme = server.user(&mut admin, "akim", "administrator", "acme");
    let operator = program(&server, &mut admin, "operator");
    let mut restricted = program(&server, &mut acme, "administrator");
    let before = file(&scene);
    let any = "If-Match: *\r\n";
    let change = json!({"definition": {"name": "Mine"}});
    for (method, path) in [("PATCH", "m00000"), ("PUT", "m00000"), ("DELETE", "m00000")] {
        let answer = send(&operator, (method, &format!("{MONITORS}/{path}")), any, &change);
        assert_eq!(answer.status, 403, "{method}");
    }
    assert_eq!(operator.clone().get(MONITORS).status, 403);
    assert_eq!(file(&scene), before);
    let answer = send(&operator, ("POST", &format!("{MONITORS}/m00000/disable")), "", &Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = send(&operator, ("POST", &format!("{MONITORS}/m00000/enable")), "", &Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.body);
    // Monitors and objects of others don't exist, and neither do their names in answers.
    for (method, path) in [
        ("GET", format!("{MONITORS}/m00005")),
        ("PATCH", format!("{MONITORS}/m00005")),
        ("DELETE", format!("{MONITORS}/m00005")),
        ("POST", format!("{MONITORS}/m00005/disable")),
        ("POST", format!("{MONITORS}/m00005/try")),
        ("GET", format!("{OBJECTS}/mx1")),
        ("DELETE", format!("{OBJECTS}/mx1")),
    ] {
        let answer = send(&restricted, (method, &path), any, &change);
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.body);
    }
    for path in [MONITORS, OBJECTS] {
        let list = restricted.get(path);
        assert_eq!(list.status, 200);
        assert!(!list.body.contains("borealis") && !list.body.contains("mx1"), "{}", list.body);
    }
    let copy = json!({"copy": "m00005", "id": "stolen"});
    assert_eq!(fields(&send(&restricted, ("POST", MONITORS), "", &copy)), ["copy"]);
    let away = json!({"definition": {"tags": ["borealis"], "object": "mx0"}});
    let answer = send(&restricted, ("PATCH", &format!("{MONITORS}/m00000")), any, &away);
    assert_eq!(answer.status, 200, "it keeps the object's tag: {}", answer.body);
    // Without a token of its forms, a session changes nothing: a page of another site has none.
    let path = format!("{MONITORS}/m00000");
    let cookies = admin.cookies.iter().map(|(name, value)| format!("{name}={value}"));
    let cookies = format!("Cookie: {}\r\n", cookies.collect::<Vec<_>>().join("; "));
    let mut session = server.client();
    session.headers.clear();
    let more = format!("{cookies}{any}");
    assert_eq!(send(&session, ("PATCH", &path), &more, &change).status, 403);
    let more = format!("{more}X-CSRF-Token: {}\r\n", admin.get("/").csrf());
    assert_eq!(send(&session, ("PATCH", &path), &more, &change).status, 200);
    let more = format!("{more}Sec-Fetch-Site: cross-site\r\n");
    assert_eq!(send(&session, ("PATCH", &path), &more, &change).status, 403);
    assert_eq!(send(&server.client(), ("DELETE", &path), any, &Value::Null).status, 401);
    for body in ["{", "[]", "{\"definition\": 1}", "{\"unknown\": \"s3cret\"}"] {
        let chief = program(&server, &mut admin, "administrator");
        let text = format!(
            "PATCH {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{}: {}\r\nIf-Match: *\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            chief.address,
            chief.headers[0].0,
            chief.headers[0].1,
            body.len()
        );
        let answer = chief.raw(text.as_bytes());
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        assert!(!answer.body.contains("s3cret"), "{}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_is_added_tried_and_gets_a_new_password_by_programs() {
    let mut setting = Setting::new("lyon");
    let mail = MailServer::start(Options::default()).await.expect("a server");
    let first = setting.monitor("first", &mail);
    setting.add_monitor(&first);
    let probe = setting.start_probe();
    until("the probe answers", || setting.data().join("state/site=lyon/control/socket").exists())
        .await;
    let log = setting.path("console.log");
    let mut command = setting.command("mailqos-analytics");
    let server =
        Server::start(command.args(["serve", "--listen", "127.0.0.1:0", "--no-schedule"]), &log);
    let mut admin = server.administrator();
    let mut chief = program(&server, &mut admin, "administrator");
    let wanted = json!({
        "id": "second",
        "definition": {
            "from": PROBE, "to": PROBE, "object": "local",
            "smtp": {"port": mail.smtp_port(), "tls": "starttls", "ca_file": "first.ca.pem", "account": "second"},
            "pickup": {"port": mail.pop3s_port(), "tls": "implicit", "ca_file": "first.ca.pem", "account": "second"},
        },
        "new_object": {"id": "local", "definition": {"address": "127.0.0.1"}},
        "new_account": {"name": "second", "user": PROBE, "password": PASSWORD},
    });
    let answer = send(&chief, ("POST", &format!("{MONITORS}/try")), "", &wanted);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let trial = answer.json();
    assert_eq!(trial["ok"], true, "{trial}");
    assert!(trial["phases"].as_array().is_some_and(|phases| phases.len() > 2), "{trial}");
    assert!(!setting.path("secrets").exists(), "a trial stores nothing");
    let answer = send(&chief, ("POST", MONITORS), "", &wanted);
    assert_eq!(
        (answer.status, &answer.json()["probe"]),
        (201, &json!("applied")),
        "{}",
        answer.body
    );
    until("a sample", || {
        let state = chief.get("/api/v1/monitors/lyon/second").json();
        state["last"]["outcome"] == "ok"
    })
    .await;
    let answer = send(&chief, ("POST", &format!("{MONITORS}/second/try")), "", &Value::Null);
    assert_eq!(answer.json()["ok"], true, "{}", answer.body);
    // Another password: the old file goes, and the next test uses the new one.
    let accounts = chief.get("/api/v1/accounts");
    assert!(!accounts.body.contains(PASSWORD), "{}", accounts.body);
    let path = "/api/v1/accounts/second/password";
    assert_eq!(send(&chief, ("POST", path), "", &json!({"password": "a\nb"})).status, 422);
    let answer = send(&chief, ("POST", path), "", &json!({"password": "wrong \"one\""}));
    assert_eq!(
        (answer.status, &answer.json()["probe"]),
        (200, &json!("applied")),
        "{}",
        answer.body
    );
    let stored = std::fs::read_to_string(setting.path("secrets/second-2")).expect("the new file");
    assert_eq!(stored, "wrong \"one\"");
    assert!(!setting.path("secrets/second").exists(), "the old one is removed");
    let answer = send(&chief, ("POST", &format!("{MONITORS}/second/try")), "", &Value::Null);
    assert_eq!(answer.json()["ok"], false, "{}", answer.body);
    let page = admin.get("/accounts");
    assert!(page.body.contains("second") && !page.body.contains("wrong \"one\""), "{}", page.body);
    let form = [("password", PASSWORD), ("again", "other")];
    assert_eq!(admin.send_form("/accounts", "/accounts/second", &form).status, 422);
    let form = [("password", PASSWORD), ("again", PASSWORD)];
    assert_eq!(admin.send_form("/accounts", "/accounts/second", &form).status, 303);
    let answer = send(&chief, ("POST", &format!("{MONITORS}/second/try")), "", &Value::Null);
    assert_eq!(answer.json()["ok"], true, "{}", answer.body);
    let text = std::fs::read_to_string(setting.path("mailqos.toml")).expect("a file");
    assert!(text.contains("password = { file = \"secrets/second\" }"), "{text}");
    for place in [text, server.log(), chief.get("/api/v1/audit").body] {
        assert!(!place.contains(PASSWORD) && !place.contains("wrong \"one\""), "{place}");
    }
    assert_eq!(find_bytes(&setting.data().join("state"), PASSWORD.as_bytes()), None);
    assert!(probe.stop().success());
}

/// How a figure is calculated is one click away; a restricted user learns nothing of others.
#[test]
fn figures_are_explained_down_to_their_samples() {
    let scene = Scene::new(6, 2);
    let server = scene.serve();
    let mut admin = server.administrator();
    let page = admin.get("/monitors/lyon/m00001?period=week");
    let (_, rest) = page.body.split_once("<dl class=\"figures\">").expect("key figures");
    let (_, rest) = rest.split_once("<a href=\"").expect("a link");
    let href = rest.split('"').next().expect("its end").replace("&amp;", "&");
    assert!(href.starts_with("/monitors/lyon/m00001/explain?figure=availability&from="), "{href}");
    let page = admin.get(&href);
    assert_eq!(page.status, 200, "{}", page.body);
    for text in ["counted tests", "Definition: ", "Availability"] {
        assert!(page.body.contains(text), "{text}: {}", page.body);
    }
    let page = admin.get("/monitors/lyon/m00001/explain?figure=round_trip_p95&period=week");
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(
        page.body.contains("aria-current=\"true\">Round trip, 95th percentile"),
        "{}",
        page.body
    );
    assert_eq!(admin.get("/monitors/lyon/m00001/explain?figure=secret").status, 400);
    let mut chief = program(&server, &mut admin, "viewer");
    let path = "/api/v1/monitors/lyon/m00001/explain?figure=availability&period=week";
    let explained = chief.get(path).json();
    assert_eq!(explained["figure"], "availability", "{explained}");
    let value = explained["value"].as_f64().expect("a value");
    let figures = chief.get("/api/v1/monitors/lyon/m00001/figures?period=week").json();
    assert_eq!(figures[0]["availability"].as_f64(), Some(value), "the same as everywhere");
    let path = path.replace("availability", "round_trip_p95");
    let explained = chief.get(&path).json();
    assert!(explained["samples"].as_array().is_some_and(|all| !all.is_empty()), "{explained}");
    let mut acme = server.user(&mut admin, "akim", "viewer", "acme");
    assert_eq!(acme.get("/monitors/lyon/m00001/explain").status, 200);
    assert_eq!(acme.get("/monitors/lyon/m00005/explain").status, 404);
    assert_eq!(acme.get("/api/v1/monitors/lyon/m00005/explain").status, 404);
}

/// Only sessions change passwords; all other sessions of the user end, and guessing is slowed down.
#[test]
fn passwords_are_changed_by_their_owner_and_reset_by_an_administrator() {
    let scene = Scene::new(2, 1);
    let server = scene.serve();
    let mut admin = server.administrator();
    let mut vera = server.user(&mut admin, "vera", "operator", "");
    let mut phone = server.client();
    assert_eq!(phone.sign_in("vera", SECRET).status, 303);
    let mut token = program(&server, &mut vera, "viewer");
    assert_eq!(token.get("/api/v1/status").status, 200);
    let new = "another horse battery 42";
    let change = |current: &str, again: &str| {
        let fields =
            [("action", "password"), ("current", current), ("password", new), ("again", again)];
        fields.map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let send_all = |client: &mut Client, fields: &[(String, String)]| {
        let fields: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        client.send_form("/account", "/account", &fields)
    };
    assert_eq!(send_all(&mut vera, &change("wrong", new)).status, 422);
    assert_eq!(send_all(&mut vera, &change(SECRET, "typo")).status, 422);
    assert_eq!(phone.get("/").status, 200);
    let answer = send_all(&mut vera, &change(SECRET, new));
    assert_eq!(answer.status, 303, "{}", answer.body);
    assert_eq!(vera.get("/").status, 200, "its own session goes on");
    assert_ne!(phone.get("/").status, 200, "the other one has ended");
    assert_ne!(server.client().sign_in("vera", SECRET).status, 303);
    let mut laptop = server.client();
    assert_eq!(laptop.sign_in("vera", new).status, 303);
    // In a stolen session, the current password can't be guessed for long.
    let answers: Vec<String> =
        (0..8).map(|_| send_all(&mut laptop, &change("guess", new)).body).collect();
    assert!(answers.last().is_some_and(|page| page.contains("Too many failed attempts")));
    // An administrator never learns a password: a new link ends the sessions at once.
    let page = admin.send_form("/users", "/users", &[("action", "link"), ("name", "vera")]);
    let (_, rest) = page.body.split_once("/welcome/").expect("a link");
    let link = format!("/welcome/{}", rest.split('"').next().expect("its end"));
    assert_ne!(laptop.get("/").status, 200);
    assert_ne!(vera.get("/").status, 200);
    let mut fresh = server.client();
    fresh.accept_link(&link, None);
    assert_eq!(fresh.get("/").status, 200);
    assert_eq!(token.get("/api/v1/status").status, 401, "tokens end with the old password");
    let audit = admin.get("/audit").body;
    for words in ["Changed the password", "Issued a one-time link", "Set the password"] {
        assert!(audit.contains(words), "{words}: {audit}");
    }
    // Removed tokens are in the log, too.
    let mut chief = program(&server, &mut admin, "administrator");
    let page = admin.get("/account").body;
    let (_, rest) = page.split_once("name=\"token\" value=\"").expect("a token");
    let hash = rest.split('"').next().expect("its end").to_owned();
    let fields = [("action", "remove-token"), ("token", hash.as_str())];
    assert_eq!(admin.send_form("/account", "/account", &fields).status, 303);
    assert_eq!(chief.get("/api/v1/status").status, 401);
    assert!(admin.get("/audit").body.contains("Removed a token"));
}
