//! The web console from outside: first start, sign-in, pages, live changes, API, languages.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use std::os::unix::fs::PermissionsExt as _;

use mailqos_lake::MonitorState;
use mailqos_model::{Micros, UtcMicros};
use mailqos_tests::{
    console::{PASSWORD, Scene},
    setting::find_bytes,
};

#[test]
fn the_first_start_prints_a_one_time_link_and_keeps_no_secret() {
    let scene = Scene::new(4, 1);
    let server = scene.serve();
    let mut client = server.client();
    // Before anyone is signed in, every page leads to the sign-in.
    for path in ["/", "/monitors/lyon/m00000", "/users", "/nothing"] {
        let answer = client.get(path);
        assert_eq!(answer.status, 303, "{path}");
        assert!(answer.header("location").starts_with("/sign-in"), "{path}");
    }
    assert!(client.get("/sign-in").body.contains("There is no administrator yet"));
    let link = server.welcome();
    for (password, again, words) in [
        ("Qx7-z", "Qx7-z", "too short"),
        ("passwordpassword", "passwordpassword", "easy to guess"),
        (PASSWORD, "another one entirely", "differ"),
    ] {
        let fields = [("user", "admin"), ("password", password), ("again", again)];
        let answer = client.send_form(&link, &link, &fields);
        assert_eq!(answer.status, 422);
        assert!(answer.body.contains(words), "{password}: {}", answer.body);
        assert!(!answer.body.contains(password), "typed passwords are not sent back");
    }
    client.accept_link(&link, Some("admin"));
    assert_eq!(client.get("/").status, 200);
    // The link is used up, for others and after a restart.
    assert_eq!(server.client().get(&link).status, 400);
    assert!(server.stop().success());
    let server = scene.serve();
    assert!(!server.log().rsplit_once("console started").expect("a start").1.contains("/welcome/"));
    client.address.clone_from(&server.address);
    assert_eq!(client.get("/").status, 200, "a restart ends no session");
    // Nothing of the password, the session and the link is on disk.
    let session = client.cookies.values().next().expect("a session").clone();
    let state = scene.setting.data().join("state");
    for secret in [PASSWORD, &session, link.trim_start_matches("/welcome/")] {
        assert_eq!(find_bytes(&state, secret.as_bytes()), None);
    }
    for file in ["users.json", "sessions.json", "audit.jsonl"] {
        let path = state.join("console").join(file);
        let mode = std::fs::metadata(&path).expect(file).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let mode = std::fs::metadata(state.join("console")).expect("a folder").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn an_administrator_who_forgot_the_password_gets_a_link_on_the_machine() {
    let scene = Scene::new(1, 1);
    let server = scene.serve();
    let mut old = server.administrator();
    let printed = scene.setting.succeed("mailqos-analytics", &["serve", "--reset-admin"]);
    let (_, token) = printed.trim().split_once("/welcome/").expect("a link");
    let link = format!("/welcome/{token}");
    let mut client = server.client();
    client.accept_link(&link, None);
    assert_eq!(client.get("/users").status, 200);
    assert_eq!(old.get("/").status, 303, "sessions of the old password have ended");
    let refused = scene.setting.run("mailqos-analytics", &["serve", "--reset-admin", "a/b"]);
    assert_eq!(refused.status.code(), Some(1));
}

#[test]
fn the_overview_shows_states_filters_and_pages() {
    let scene = Scene::new(130, 1);
    let server = scene.serve();
    let mut client = server.administrator();
    let page = client.get("/");
    assert_eq!(page.keys().len(), 100);
    assert!(page.body.contains("7 monitors in alarm (4 not acknowledged)"), "{}", page.body);
    assert!(page.body.contains("Acknowledged by Anna Åberg"));
    assert!(page.body.contains("rel=\"next\" href=\"/?page=2\""));
    assert_eq!(client.get("/?page=2").keys().len(), 30);
    assert_eq!(client.get("/?page=999").keys().len(), 30);
    // The most urgent first: an alarm that nobody has acknowledged.
    let first = page.body.split("data-key=\"").nth(1).expect("a monitor");
    let first = first.split('"').next().expect("a key");
    assert!(["lyon/m00003", "lyon/m00043", "lyon/m00083", "lyon/m00123"].contains(&first));
    for (query, count) in [
        ("?state=alarm", 7),
        ("?state=alarm&state=failed", 11),
        // "Malmö 17", and the four monitors of the object "Malmö mail 17".
        ("?q=malm%C3%B6+17", 5),
        ("?q=MX2.example.com", 4),
        ("?object=mx2", 4),
        ("?tag=acme&view=table", 44),
        ("?site=elsewhere", 0),
        ("?view=wall", 130),
        ("?group=tag&view=table&sort=name", 100),
        ("?state=nonsense&sort=nonsense&view=%00&page=-1", 100),
    ] {
        let page = client.get(&format!("/{query}"));
        assert_eq!((page.status, page.keys().len()), (200, count), "{query}");
    }
    // What is typed into the search comes back as text.
    let page = client.get("/?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E");
    assert!(!page.body.contains("<script>alert"), "{}", page.body);
    assert!(page.body.contains("&lt;script&gt;alert(1)"));
}

#[test]
fn a_silent_probe_is_never_shown_as_current() {
    let scene = Scene::new(8, 1);
    let server = scene.serve();
    let mut client = server.administrator();
    assert!(client.get("/").body.contains("One monitor in alarm"));
    let mut events = client.stream("/events");
    events.wait_for("event: hello");
    scene.publish(|status| {
        status.interval_s = 15;
        status.written_at = (UtcMicros::now() - Micros::from_secs(3_000)).timestamp();
    });
    events.wait_for("Last known: Alarm");
    let page = client.get("/");
    assert!(page.body.contains("The probe lyon has been silent for 50\u{a0}min"), "{}", page.body);
    assert!(page.body.contains("8 unknown of 8"), "{}", page.body);
    assert!(page.body.contains("Last known: Alarm"));
    let status = client.get("/api/v1/status").json();
    assert_eq!(status["counts"]["unknown"], 8);
    assert_eq!(status["probes"][0]["health"], "silent");
    // Damaged and absent statuses say so, too.
    let path = mailqos_lake::status_path(&scene.setting.data(), &"lyon".parse().expect("a name"));
    std::fs::write(&path, "{").expect("written");
    let mut client = client.clone();
    let page = eventually(&mut client, "can&#39;t be read");
    assert!(page.contains("8 unknown of 8"), "{page}");
    std::fs::remove_file(&path).expect("removed");
    eventually(&mut client, "has not reported yet");
}

/// The overview, once it contains a text.
fn eventually(client: &mut mailqos_tests::console::Client, text: &str) -> String {
    let begun = std::time::Instant::now();
    loop {
        let page = client.get("/").body;
        if page.contains(text) {
            return page;
        }
        assert!(begun.elapsed() < mailqos_tests::setting::PATIENCE, "no {text:?} in {page}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn changes_arrive_live_and_only_what_has_changed() {
    let scene = Scene::new(8, 1);
    let server = scene.serve();
    let mut client = server.administrator();
    let mut events = client.stream("/events");
    events.wait_for("event: hello");
    scene.publish(|status| {
        status.monitors[5].state = MonitorState::Alarm;
        status.monitors[5].reason = Some("the mailbox is <b>full</b>".to_owned());
    });
    events.wait_for("lyon/m00005");
    events.wait_for("the mailbox is <b>full</b>");
    assert!(client.get("/?state=alarm").keys().contains("lyon/m00005"));
    // The page shows the reason as text.
    assert!(client.get("/").body.contains("the mailbox is &lt;b&gt;full&lt;/b&gt;"));
    // A stream of one monitor has nothing about others.
    let mut one = client.stream("/events?id=m00001&site=lyon");
    one.wait_for("event: hello");
    scene.publish(|status| {
        status.monitors[1].state = MonitorState::Failed;
        status.monitors[2].state = MonitorState::Failed;
    });
    one.wait_for("lyon/m00001");
    assert!(!one.text.contains("lyon/m00002"), "{}", one.text);
}

#[test]
fn the_page_of_a_monitor_has_figures_for_every_period() {
    let scene = Scene::new(4, 3);
    let server = scene.serve();
    let mut client = server.administrator();
    for period in ["day", "week", "month", "year", "day&back=1", "2024", "last-week"] {
        let page = client.get(&format!("/monitors/lyon/m00001?period={period}"));
        assert_eq!(page.status, 200, "{period}");
        let is_empty = page.body.contains("No tests in this period.");
        assert_eq!(is_empty, period == "2024", "{period}");
        assert_eq!(page.body.contains("<figure"), period != "2024", "{period}");
        assert!(!page.body.contains("style=\""), "{period}: the policy forbids styles");
    }
    assert_eq!(client.get("/monitors/lyon/m00001?period=nonsense").status, 400);
    let part = client.get("/monitors/lyon/m00001/figures?period=week");
    assert!(part.body.contains("<figure") && !part.body.contains("<html"));
    assert_eq!(client.get("/monitors/lyon/none").status, 404);
}

#[test]
fn the_api_has_the_figures_of_stats_and_a_description() {
    let scene = Scene::new(4, 3);
    let server = scene.serve();
    let mut client = server.administrator();
    let page =
        client.send_form("/account", "/account", &[("action", "add-token"), ("name", "scripts")]);
    let (_, rest) = page.body.split_once("value=\"mailqos_").expect("a token");
    let token = format!("mailqos_{}", rest.split('"').next().expect("its end"));
    let mut program = server.client();
    assert_eq!(program.get("/api/v1/monitors").status, 401);
    program.headers = vec![("Authorization".to_owned(), format!("Bearer {token}"))];
    let monitors = program.get("/api/v1/monitors?day=true").json();
    assert_eq!((&monitors["total"], &monitors["page"]), (&4.into(), &1.into()));
    assert_eq!(monitors["monitors"][0]["day"]["cells"].as_array().map(Vec::len), Some(48));
    assert_eq!(program.get("/api/v1/alarms").json()[0]["monitor"], "m00003");
    // A token is for the API, not for pages.
    assert_eq!(program.get("/").status, 303);

    let yesterday = (UtcMicros::now() - Micros::from_secs(86_400)).utc_date().to_string();
    let day = (UtcMicros::now()).utc_date().to_string();
    let path = format!("/api/v1/monitors/lyon/m00001/figures?period={yesterday}");
    let found = program.get(&path).json();
    let arguments = ["stats", "--monitor", "m00001", "--from", &yesterday, "--to", &day];
    let stats = scene
        .setting
        .succeed("mailqos-analytics", &[&arguments[..], &["--format", "json"]].concat());
    let stats: serde_json::Value = serde_json::from_str(&stats).expect("JSON");
    for (key, value) in stats[0].as_object().expect("a row") {
        assert_eq!(&found[0][key], value, "{key}");
    }
    let hours = program.get(&format!("{path}&by=hour")).json();
    assert_eq!(hours.as_array().map(Vec::len), Some(24));

    let description = program.get("/api/v1/openapi.json").json();
    for path in ["status", "monitors", "monitors/{site}/{monitor}", "alarms"] {
        assert!(description["paths"][format!("/api/v1/{path}")].is_object(), "{path}");
    }
    assert!(description["components"]["schemas"]["FiguresAnswer"].is_object());
    // A removed token is refused.
    let page = client.get("/account").body;
    let (_, rest) = page.split_once("name=\"token\" value=\"").expect("a token");
    let hash = rest.split('"').next().expect("its end").to_owned();
    client.send_form("/account", "/account", &[("action", "remove-token"), ("token", &hash)]);
    assert_eq!(program.get("/api/v1/monitors").status, 401);
}

#[test]
fn pages_speak_the_language_of_the_browser_or_of_the_account() {
    let scene = Scene::new(4, 1);
    let server = scene.serve();
    let mut client = server.administrator();
    client.headers = vec![("Accept-Language".to_owned(), "de-DE,de;q=0.9,en;q=0.5".to_owned())];
    let page = client.get("/").body;
    assert!(page.contains("lang=\"de\"") && page.contains("Übersicht"), "{page}");
    assert!(page.contains("Zeiten in Europe/Stockholm"), "{page}");
    let page = client.get("/monitors/lyon/m00001").body;
    assert!(page.contains("Verfügbarkeit"), "the figures, too: {page}");
    client.send_form(
        "/account",
        "/account",
        &[("action", "display"), ("language", "sv"), ("look", "dark")],
    );
    let page = client.get("/").body;
    assert!(page.contains("lang=\"sv\" data-look=\"dark\""), "{page}");
    assert!(page.contains("Översikt"), "{page}");
}

#[test]
fn users_are_managed_and_every_change_is_in_the_audit_log() {
    let scene = Scene::new(4, 1);
    let server = scene.serve();
    let mut admin = server.administrator();
    let mut viewer = server.user(&mut admin, "vera", "viewer", "");
    assert_eq!(viewer.get("/").status, 200);
    for path in ["/users", "/audit"] {
        assert_eq!(viewer.get(path).status, 404, "{path}");
    }
    let csrf = viewer.get("/account").csrf();
    let fields = [
        ("csrf", csrf.as_str()),
        ("action", "change"),
        ("name", "vera"),
        ("role", "administrator"),
    ];
    assert_eq!(viewer.post("/users", &fields).status, 404);
    // The last administrator stays.
    for action in [("action", "remove"), ("action", "change")] {
        let fields = [action, ("name", "admin"), ("role", "viewer")];
        assert_eq!(admin.send_form("/users", "/users", &fields).status, 422);
    }
    let fields = [
        ("action", "change"),
        ("name", "vera"),
        ("role", "operator"),
        ("scope", "tags"),
        ("tags", "acme"),
    ];
    assert_eq!(admin.send_form("/users", "/users", &fields).status, 303);
    assert_eq!(viewer.get("/").keys().len(), 4, "all four are on an object of acme");
    assert_eq!(
        admin.send_form("/users", "/users", &[("action", "remove"), ("name", "vera")]).status,
        303
    );
    assert_eq!(viewer.get("/").status, 303);
    // Another user of the same name does not inherit the session.
    let _ = server.user(&mut admin, "vera", "viewer", "");
    assert_eq!(viewer.get("/").status, 303);
    let page = admin.get("/audit").body;
    for words in ["Added a user", "Changed a user", "Removed a user", "operator, acme", "127.0.0.1"]
    {
        assert!(page.contains(words), "{words}: {page}");
    }
}

#[test]
fn ten_thousand_monitors_make_a_small_page() {
    let scene = Scene::new(10_000, 0);
    let server = scene.serve();
    let mut client = server.administrator();
    for path in ["/", "/?view=table&group=tag", "/?view=wall", "/?q=lyon&sort=round-trip"] {
        let page = client.get(path);
        assert_eq!(page.status, 200, "{path}");
        assert!(page.body.len() < 300_000, "{path}: {} bytes", page.body.len());
    }
    assert!(client.get("/").body.contains("of 10,000"));
}

/// A self-signed certificate and its key, in PEM.
fn certificate() -> (String, String) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// The head of the sign-in page over TLS; an error if only another certificate is trusted.
fn over_tls(address: &str, trusted: &str) -> std::io::Result<String> {
    use std::{
        io::{Read as _, Write as _},
        sync::Arc,
    };

    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).expect("PEM")).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    let client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = rustls::StreamOwned::new(client, std::net::TcpStream::connect(address)?);
    let (_, port) = address.rsplit_once(':').expect("a port");
    write!(stream, "GET /sign-in HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    match stream.read_to_string(&mut text) {
        Err(error) if text.is_empty() => Err(error),
        _ => Ok(text),
    }
}

#[test]
fn a_renewed_certificate_is_used_without_a_restart() {
    let scene = Scene::new(1, 0);
    let (file, key_file) = (scene.setting.path("console.pem"), scene.setting.path("console.key"));
    let write = |(certificate, key): &(String, String)| {
        mailqos_tests::setting::write_private(&key_file, key);
        std::fs::write(&file, certificate).expect("written");
    };
    let (old, new) = (certificate(), certificate());
    write(&old);
    let files = [file.to_str().expect("text"), key_file.to_str().expect("text")];
    let arguments =
        ["--listen", "127.0.0.1:0", "--no-schedule", "--certificate", files[0], "--key", files[1]];
    let server = scene.serve_with(&arguments);
    let page = over_tls(&server.address, &old.0).expect("the old certificate");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    for part in ["__Host-mailqos-form=", "; Secure", "strict-transport-security: "] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(over_tls(&server.address, &new.0).is_err());
    // Half of a change: the old one stays in use.
    std::fs::write(&file, "nonsense").expect("written");
    let begun = std::time::Instant::now();
    while !server.log().contains("the previous one stays in use") {
        assert!(begun.elapsed() < mailqos_tests::setting::PATIENCE, "{}", server.log());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(over_tls(&server.address, &old.0).is_ok());
    write(&new);
    while over_tls(&server.address, &new.0).is_err() {
        assert!(begun.elapsed() < mailqos_tests::setting::PATIENCE, "{}", server.log());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(over_tls(&server.address, &old.0).is_err());
    // Without TLS there is no answer.
    let plain = server.client().raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(plain.status, 0);
}

#[test]
fn a_busy_address_does_not_stop_the_report_schedules() {
    let mut scene = Scene::new(1, 0);
    let busy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = busy.local_addr().expect("its address");
    scene.setting.add(&format!("[console]\nlisten = \"{address}\""));
    scene.setting.write();
    // Built before the wait begins.
    let mut command = scene.setting.command("mailqos-analytics");
    let log = scene.setting.path("console.log");
    let watched = log.clone();
    let freeing = std::thread::spawn(move || {
        let begun = std::time::Instant::now();
        loop {
            let text = std::fs::read_to_string(&watched).unwrap_or_default();
            if text.contains("schedules started") {
                assert!(text.contains("the console is not available"), "{text}");
                break;
            }
            assert!(begun.elapsed() < mailqos_tests::setting::PATIENCE, "{text}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        drop(busy);
    });
    let server = mailqos_tests::console::Server::start(command.arg("serve"), &log);
    freeing.join().expect("the schedules run");
    assert_eq!(server.client().get("/sign-in").status, 200);
    assert!(server.stop().success());
    // An address on the command line is meant for this start.
    let busy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = busy.local_addr().expect("its address").to_string();
    let refused = scene.setting.run("mailqos-analytics", &["serve", "--listen", &address]);
    assert_eq!(refused.status.code(), Some(1));
}
