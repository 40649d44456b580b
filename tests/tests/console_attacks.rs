//! Attacks on the web console. SECURITY.md names the test for each.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use mailqos_lake::MonitorState;
use mailqos_tests::{
    console::{Answer, Client, PASSWORD, Scene, encode},
    setting::{PATIENCE, complaint_of},
};

#[test]
fn names_with_markup_stay_text_everywhere() {
    const NAME: &str = "<img src=x onerror=alert(1)>\"'</script><script>alert(2)</script>";
    let mut scene = Scene::new(4, 1);
    scene.setting.replace("name = \"Malmö 1\"", &format!("name = '''{NAME}'''"));
    scene.setting.write();
    scene.publish(|status| {
        for monitor in &mut status.monitors {
            monitor.name = NAME.to_owned();
            monitor.state = MonitorState::Alarm;
            monitor.reason = Some(NAME.to_owned());
        }
    });
    let server = scene.serve();
    let mut client = server.administrator();
    for path in [
        "/",
        "/?view=table",
        "/?view=wall&group=object",
        "/monitors/lyon/m00001",
        "/monitors/lyon/m00001/figures",
    ] {
        let page = client.get(path).body;
        for part in ["<img src=x", "<script>alert", "onerror=alert(1)>\""] {
            assert!(!page.contains(part), "{path}: {part} in {page}");
        }
    }
    assert!(client.get("/").body.contains("&lt;img src=x onerror=alert(1)&gt;"));
    // Reflected, too: whatever an address or a form contains.
    let script = "%3Cscript%3Ealert(3)%3C/script%3E";
    for path in [
        format!("/?q={script}&site={script}&tag={script}&object={script}&sort={script}"),
        format!("/monitors/{script}/x"),
        format!("/{script}"),
        format!("/monitors/lyon/m00001?period={script}"),
    ] {
        assert!(!client.get(&path).body.contains("<script>alert"), "{path}");
    }
    let mut guest = server.client();
    let page = guest.sign_in("<script>alert(4)</script>", "x");
    assert!(!page.body.contains("<script>alert"), "{}", page.body);
    let page = guest.get(&format!("/sign-in?next=/%22%3E{script}"));
    assert!(!page.body.contains("<script>alert"), "{}", page.body);
}

#[test]
fn every_answer_carries_a_strict_policy_and_pages_have_no_inline_code() {
    let scene = Scene::new(4, 1);
    let server = scene.serve();
    let mut client = server.administrator();
    let mut guest = server.client();
    let mut answers: Vec<(String, Answer)> = Vec::new();
    for path in [
        "/",
        "/?view=table",
        "/?view=wall",
        "/monitors/lyon/m00001",
        "/users",
        "/account",
        "/audit",
        "/links",
        "/reports",
        "/reports/templates/executive-summary",
        "/nothing",
        "/api/v1/status",
    ] {
        answers.push((path.to_owned(), client.get(path)));
    }
    for path in ["/sign-in", "/", "/health", "/api/v1/status", "/welcome/none"] {
        answers.push((format!("guest {path}"), guest.get(path)));
    }
    for (path, answer) in &answers {
        let policy = answer.header("content-security-policy");
        assert!(
            policy.contains("default-src 'none'") && policy.contains("script-src 'self'"),
            "{path}"
        );
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{path}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        for part in ["style=\"", " onclick", " onload", "javascript:", "<style"] {
            assert!(!answer.body.contains(part), "{path}: {part}");
        }
        for script in answer.body.split("<script").skip(1) {
            let tag = script.split('>').next().expect("its end");
            let is_data = tag.contains("application/json");
            assert!(is_data || tag.contains("src=\"/assets/"), "{path}: {tag}");
        }
        for part in answer.body.split(['"', '\'']).filter(|part| part.starts_with("http")) {
            assert!(
                part.starts_with("http://127.0.0.1") || part.contains("w3.org"),
                "{path}: {part}"
            );
        }
    }
}

#[test]
fn traversal_finds_nothing() {
    let scene = Scene::new(2, 1);
    let server = scene.serve();
    let mut client = server.administrator();
    for path in [
        "/assets/../users",
        "/assets/..%2f..%2fetc%2fpasswd",
        "/assets/%2e%2e/%2e%2e/state/console/users.json",
        "/monitors/lyon/..%2f..%2fstate",
        "/monitors/..%2f..%2f/m00001",
        "/welcome/..%2fusers",
        "/../../etc/passwd",
        "//etc/passwd",
        "/assets/%00",
        "/%ff%fe",
    ] {
        let answer = client.get(path);
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
        assert!(!answer.body.contains("argon2") && !answer.body.contains("root:"), "{path}");
    }
}

#[test]
fn forms_from_elsewhere_change_nothing() {
    let scene = Scene::new(2, 1);
    let server = scene.serve();
    let mut client = server.administrator();
    let csrf = client.get("/users").csrf();
    let fields =
        [("action", "add"), ("name", "mallory"), ("role", "administrator"), ("scope", "all")];
    let with = |token: &str| {
        let mut all = vec![("csrf", token)];
        all.extend(fields);
        encode(&all)
    };
    let send = |client: &Client, more: &str, body: &str| {
        client.raw(&client.request("POST", "/users", more, body)).status
    };
    let own = format!("Origin: http://{}\r\n", server.address);
    // Without a token, with another one, with that of another session.
    assert_eq!(send(&client, &own, &encode(&fields)), 403);
    assert_eq!(send(&client, &own, &with("wrong")), 403);
    let mut other = server.client();
    assert_eq!(other.sign_in("admin", PASSWORD).status, 303);
    let foreign = other.get("/users").csrf();
    assert_eq!(send(&client, &own, &with(&foreign)), 403);
    // With the right token from another origin.
    for more in [
        "Origin: https://evil.example\r\n".to_owned(),
        "Origin: null\r\n".to_owned(),
        format!("Origin: http://{}.evil.example\r\n", server.address),
        "Sec-Fetch-Site: cross-site\r\n".to_owned(),
        "Sec-Fetch-Site: same-site\r\n".to_owned(),
    ] {
        assert_eq!(send(&client, &more, &with(&csrf)), 403, "{more}");
    }
    assert!(!client.get("/users").body.contains("mallory"));
    // Nor does signing in or out from elsewhere, and no change happens by GET.
    let mut guest = server.client();
    let answer = guest.post("/sign-in", &[("user", "admin"), ("password", PASSWORD)]);
    assert_eq!(answer.status, 403, "login CSRF");
    assert_eq!(client.post("/sign-out", &[]).status, 403);
    client.get(&format!("/users?csrf={csrf}&{}", encode(&fields)));
    assert!(!client.get("/users").body.contains("mallory"));
    assert_eq!(send(&client, &own, &with(&csrf)), 200, "the same form from the page itself");
}

#[test]
fn a_session_is_new_at_sign_in_and_over_at_sign_out() {
    let scene = Scene::new(2, 1);
    let server = scene.serve();
    server.administrator();
    let mut client = server.client();
    // An attacker has planted a session id and a form cookie.
    let planted = "A".repeat(43);
    client.cookies.insert("mailqos".to_owned(), planted.clone());
    assert_eq!(client.sign_in("admin", PASSWORD).status, 303);
    let first = client.cookies["mailqos"].clone();
    assert_ne!(first, planted);
    let mut attacker = server.client();
    attacker.cookies.insert("mailqos".to_owned(), planted);
    assert_eq!(attacker.get("/").status, 303);
    let page = client.send_form("/account", "/sign-out", &[]);
    assert_eq!(page.status, 303);
    client.cookies.insert("mailqos".to_owned(), first.clone());
    assert_eq!(client.get("/").status, 303, "the old id is worth nothing");
    assert_eq!(client.sign_in("admin", PASSWORD).status, 303);
    assert_ne!(client.cookies["mailqos"], first);
    let answer = client.get("/sign-in");
    assert_eq!(answer.status, 303);
}

#[test]
fn cookies_are_closed_to_scripts_and_other_sites() {
    let scene = Scene::new(2, 1);
    let server = scene.serve();
    server.administrator();
    let mut client = server.client();
    let answers = [client.get("/sign-in"), client.sign_in("admin", PASSWORD)];
    for answer in answers {
        let cookies: Vec<&String> = answer
            .headers
            .iter()
            .filter(|(name, _)| name == "set-cookie")
            .map(|(_, value)| value)
            .collect();
        assert!(!cookies.is_empty());
        for cookie in cookies {
            for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
                assert!(cookie.contains(part), "{cookie}");
            }
            assert!(!cookie.contains("Domain"), "{cookie}");
        }
    }
}

#[test]
fn line_breaks_reach_no_header() {
    let scene = Scene::new(2, 1);
    let server = scene.serve();
    server.administrator();
    let mut client = server.client();
    let csrf = client.get("/sign-in").csrf();
    let next = "/\r\nSet-Cookie: mailqos=planted\r\nX: y";
    let fields =
        [("csrf", csrf.as_str()), ("user", "admin"), ("password", PASSWORD), ("next", next)];
    let answer = client.post("/sign-in", &fields);
    assert_eq!((answer.status, answer.header("location")), (303, "/"));
    assert_eq!(answer.header("x"), "");
    let mut guest = server.client();
    let answer = guest.get("/a%0d%0aX:%20y");
    assert_eq!((answer.status, answer.header("x")), (303, ""));
    for next in ["//evil.example", "https://evil.example", "/%5cevil.example", "/%09/evil.example"]
    {
        let mut client = server.client();
        let csrf = client.get(&format!("/sign-in?next={next}")).csrf();
        let typed = next.replace("%5c", "\\").replace("%09", "\t");
        let fields =
            [("csrf", csrf.as_str()), ("user", "admin"), ("password", PASSWORD), ("next", &typed)];
        assert_eq!(client.post("/sign-in", &fields).header("location"), "/", "{next}");
    }
}

#[test]
fn guessing_passwords_is_slowed_down_and_nobody_else_is_locked_out() {
    let scene = Scene::new(2, 1);
    let server = scene.serve();
    let mut admin = server.administrator();
    let mut vera = server.user(&mut admin, "vera", "viewer", "");
    let mut attacker = server.client();
    let mut delayed = 0;
    let mut answers = Vec::new();
    for _ in 0..8 {
        let answer = attacker.sign_in("admin", "wrong wrong wrong");
        delayed += usize::from(answer.status == 429);
        answers.push(answer);
    }
    assert!(delayed >= 2, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
    // Even the right password has to wait at this address; sessions and other users don't.
    assert_eq!(attacker.sign_in("admin", PASSWORD).status, 429);
    assert_eq!(admin.get("/").status, 200);
    assert_eq!(vera.get("/").status, 200);
    assert_eq!(server.client().sign_in("vera", PASSWORD).status, 303);
    // Unknown users get the same answer.
    let known = &answers[0].body;
    let unknown = server.client().sign_in("nobody", "wrong wrong wrong");
    assert_eq!(unknown.status, 401);
    let plain = |body: &str| body.replace("nobody", "admin");
    let without_token = |body: &str| {
        let (_, main) = body.split_once("<main").expect("the content");
        let (before, rest) = main.split_once("name=\"csrf\" value=\"").expect("a form");
        format!("{before}{}", rest.split_once('"').expect("its end").1)
    };
    assert_eq!(without_token(&plain(&unknown.body)), without_token(&plain(known)));
}

#[test]
fn oversized_requests_are_refused() {
    let scene = Scene::new(2, 1);
    let server = scene.serve();
    let mut client = server.administrator();
    let body = format!("csrf=x&name={}", "a".repeat(1_000_000));
    let answer = client.raw(&client.request("POST", "/users", "", &body));
    assert_eq!(answer.status, 413);
    // A length that lies, and a body without a length.
    let head = format!(
        "POST /users HTTP/1.1\r\nHost: {}\r\nContent-Length: 99999999999\r\n\r\n",
        server.address
    );
    assert_eq!(client.raw(head.as_bytes()).status, 413);
    let chunk = format!("10000\r\n{}\r\n", "a".repeat(65_536)).repeat(4);
    let chunked = format!(
        "POST /users HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}",
        server.address
    );
    assert_eq!(client.raw(chunked.as_bytes()).status, 413);
    let long = format!("/?q={}", "a".repeat(10_000));
    assert!(matches!(client.get(&long).status, 414 | 431));
    let header = format!("X-Long: {}\r\n", "a".repeat(200_000));
    let answer = client.raw(&client.request("GET", "/", &header, ""));
    assert!(matches!(answer.status, 431 | 0), "{}", answer.status);
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn slow_requests_end_and_hold_up_nobody() {
    let scene = Scene::new(2, 1);
    let server = scene.serve();
    let mut client = server.administrator();
    let mut slow: Vec<TcpStream> = (0..150)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.address).expect("a connection");
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-").expect("sent");
            stream
        })
        .collect();
    let mut body = TcpStream::connect(&server.address).expect("a connection");
    let head = format!(
        "POST /sign-in HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000\r\n\r\nuser=",
        server.address
    );
    body.write_all(head.as_bytes()).expect("sent");
    assert_eq!(client.get("/").status, 200, "others are served meanwhile");
    let begun = Instant::now();
    for stream in slow.iter_mut().chain([&mut body]) {
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let mut rest = Vec::new();
        // It ends: with an answer or without.
        let _ = stream.read_to_end(&mut rest);
        assert!(begun.elapsed() < PATIENCE, "a slow request is never ended");
    }
}

#[test]
fn one_address_has_a_limited_number_of_connections() {
    let scene = Scene::new(2, 1);
    let server = scene.serve();
    let held: Vec<TcpStream> =
        (0..400).map(|_| TcpStream::connect(&server.address).expect("a connection")).collect();
    let mut ended = 0;
    let begun = Instant::now();
    while ended < 100 && begun.elapsed() < PATIENCE {
        ended = held
            .iter()
            .filter(|stream| {
                stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a deadline");
                let mut byte = [0];
                matches!(stream.peek(&mut byte), Ok(0))
            })
            .count();
    }
    assert!(ended >= 100, "only {ended} connections were ended");
}

#[test]
fn other_host_names_are_refused_on_loopback() {
    let scene = Scene::new(2, 1);
    let server = scene.serve();
    let client = server.administrator();
    for host in ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example", ""] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!(client.raw(request.as_bytes()).status, 400, "{host}");
    }
    let request = "GET /sign-in HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n";
    assert_eq!(client.raw(request.as_bytes()).status, 200);
}

#[test]
fn a_restricted_viewer_learns_nothing_about_other_tags() {
    // Objects by turns have the tags acme, borealis and corvus, four monitors each.
    let scene = Scene::new(24, 2);
    scene.publish(|status| {
        status.channels.insert(
            "webhook-to-corvus".to_owned(),
            mailqos_lake::ChannelStatus {
                failures: 3,
                error: Some("corvus.example refused".to_owned()),
                ..Default::default()
            },
        );
    });
    let server = scene.serve();
    let mut admin = server.administrator();
    let mut viewer = server.user(&mut admin, "vera", "viewer", "acme");
    let own: Vec<String> =
        (0..24).filter(|n| n / 4 % 3 == 0).map(|n| format!("lyon/m{n:05}")).collect();
    let foreign = |text: &str| {
        let ids = (0..24).filter(|n| n / 4 % 3 != 0).map(|n| format!("m{n:05}"));
        let objects = ["mx1.", "mx2.", "mx4.", "mx5."].map(str::to_owned);
        let names = ["borealis", "corvus"].map(str::to_owned);
        ids.chain(objects).chain(names).find(|word| text.contains(word.as_str()))
    };
    for path in [
        "/",
        "/?view=table&group=tag",
        "/?view=wall",
        "/?group=object",
        "/?tag=corvus",
        "/?q=m00005",
        "/monitors/lyon/m00000?period=week",
        "/account",
        "/api/v1/status",
        "/api/v1/monitors?day=true",
        "/api/v1/alarms",
        "/api/v1/monitors/lyon/m00000/figures",
    ] {
        let page = viewer.get(path);
        assert_eq!(page.status, 200, "{path}");
        let typed = ["corvus", "m00005"].iter().find(|typed| path.ends_with(**typed));
        let body = typed.map_or(page.body.clone(), |typed| page.body.replace(typed, ""));
        assert_eq!(foreign(&body), None, "{path}: {}", page.body);
    }
    assert!(admin.get("/").body.contains("webhook-to-corvus"));
    assert_eq!(viewer.get("/").keys().into_iter().collect::<Vec<_>>(), own);
    assert!(viewer.get("/").body.contains("of 8"), "no count of all");
    assert_eq!(viewer.get("/api/v1/monitors").json()["total"], 8);
    // Another tag's monitor and one that does not exist are the same.
    for (path, none) in [
        ("/monitors/lyon/m00004", "/monitors/lyon/none"),
        ("/monitors/lyon/m00004/figures", "/monitors/lyon/none/figures"),
        ("/api/v1/monitors/lyon/m00004", "/api/v1/monitors/lyon/none"),
        ("/api/v1/monitors/lyon/m00004/figures", "/api/v1/monitors/lyon/none/figures"),
        ("/events?id=m00004&site=lyon", "/events?id=none&site=lyon"),
        ("/users", "/nothing"),
        ("/audit", "/nothing"),
    ] {
        let (one, other) = (viewer.get(path), viewer.get(none));
        assert_eq!((one.status, one.body), (404, other.body), "{path}");
    }
    // The event stream does not reveal it either.
    let mut events = viewer.stream("/events");
    events.wait_for("event: hello");
    scene.publish(|status| {
        for monitor in &mut status.monitors {
            monitor.state = MonitorState::Failed;
            monitor.reason = Some(format!("about {}", monitor.id));
        }
    });
    events.wait_for("about m00000");
    assert_eq!(foreign(&events.text), None, "{}", events.text);
}

#[test]
fn a_token_has_the_rights_of_its_user_and_no_more() {
    let scene = Scene::new(24, 1);
    let server = scene.serve();
    let mut admin = server.administrator();
    let mut viewer = server.user(&mut admin, "vera", "viewer", "acme");
    let fields = [("action", "add-token"), ("name", "t"), ("role", "administrator")];
    let page = viewer.send_form("/account", "/account", &fields);
    let (_, rest) = page.body.split_once("value=\"mailqos_").expect("a token");
    let token = format!("mailqos_{}", rest.split('"').next().expect("its end"));
    assert!(!viewer.get("/account").body.contains(&token), "shown once");
    let mut program = server.client();
    program.headers = vec![("Authorization".to_owned(), format!("Bearer {token}"))];
    assert_eq!(program.get("/api/v1/monitors").json()["total"], 8);
    assert_eq!(program.get("/api/v1/monitors/lyon/m00004").status, 404);
    // Restricted further, the token is, too; without its user it is worth nothing.
    let fields = [
        ("action", "change"),
        ("name", "vera"),
        ("role", "viewer"),
        ("scope", "tags"),
        ("tags", "none"),
    ];
    assert_eq!(admin.send_form("/users", "/users", &fields).status, 303);
    assert_eq!(program.get("/api/v1/monitors").json()["total"], 0);
    admin.send_form("/users", "/users", &[("action", "remove"), ("name", "vera")]);
    assert_eq!(program.get("/api/v1/monitors").status, 401);
    for scheme in ["Basic", "Bearer", "bearer mailqos_", "Bearer  "] {
        program.headers = vec![("Authorization".to_owned(), scheme.to_owned())];
        assert_eq!(program.get("/api/v1/monitors").status, 401, "{scheme}");
    }
}

#[test]
fn a_stream_ends_when_its_user_is_removed() {
    let scene = Scene::new(4, 1);
    let server = scene.serve();
    let mut admin = server.administrator();
    let viewer = server.user(&mut admin, "vera", "viewer", "");
    let mut events = viewer.stream("/events");
    events.wait_for("event: hello");
    admin.send_form("/users", "/users", &[("action", "remove"), ("name", "vera")]);
    scene.publish(|status| status.monitors[0].state = MonitorState::Failed);
    let begun = Instant::now();
    // The terminating chunk, or the end of the connection.
    while !events.is_over && !events.text.ends_with("0\r\n\r\n") {
        assert!(begun.elapsed() < PATIENCE, "the stream goes on: {}", events.text);
        events.read();
    }
    assert!(!events.text.contains("m00000"), "{}", events.text);
}

#[test]
fn other_machines_are_not_served_in_plaintext_unless_allowed() {
    let scene = Scene::new(1, 1);
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let arguments = ["serve", "--no-schedule", "--listen", listen];
        let refused = scene.setting.run("mailqos-analytics", &arguments);
        assert_eq!(refused.status.code(), Some(2));
        assert!(complaint_of(&refused).contains("passwords would be sent in plaintext"));
    }
    let server = scene.serve_with(&["--listen", "0.0.0.0:0", "--no-schedule", "--allow-plaintext"]);
    assert!(server.address.starts_with("0.0.0.0:"));
}
