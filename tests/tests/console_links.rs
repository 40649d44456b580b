//! Revocable links of the web console: one tag's monitors for everyone who has the link.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use std::time::Instant;

use mailqos_lake::MonitorState;
use mailqos_tests::{
    console::{Answer, Client, Scene, Server},
    setting::{PATIENCE, find_bytes},
};

/// Makes a link, and returns its token.
fn add_link(admin: &mut Client, tag: &str) -> String {
    let fields = [("action", "add"), ("name", "the board"), ("tag", tag), ("days", "7")];
    let page = admin.send_form("/links", "/links", &fields);
    assert_eq!(page.status, 200, "{}", page.body);
    let (_, rest) = page.body.split_once("/shared/").expect("a link");
    rest.split('"').next().expect("its end").to_owned()
}

/// Opens a link as a visitor.
fn open(server: &Server, token: &str) -> (Client, Answer) {
    let mut guest = server.client();
    let answer = guest.get(&format!("/shared/{token}"));
    (guest, answer)
}

/// The first word about monitors of other tags.
fn foreign(text: &str) -> Option<String> {
    let ids = (0..24).filter(|n| n / 4 % 3 != 0).map(|n| format!("m{n:05}"));
    let objects = ["mx1.", "mx2.", "mx4.", "mx5."].map(str::to_owned);
    let names = ["borealis", "corvus"].map(str::to_owned);
    ids.chain(objects).chain(names).find(|word| text.contains(word.as_str()))
}

#[test]
fn a_link_shows_one_tag_and_nothing_about_the_others() {
    let scene = Scene::new(24, 2);
    let server = scene.serve();
    let mut admin = server.administrator();
    let token = add_link(&mut admin, "acme");
    assert!(!admin.get("/links").body.contains(&token), "shown once");
    let state = scene.setting.data().join("state");
    assert_eq!(find_bytes(&state, token.as_bytes()), None, "only its hash is stored");
    let (mut guest, answer) = open(&server, &token);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.contains("http-equiv=\"refresh\""), "{}", answer.body);
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    let cookie = answer.header("set-cookie");
    for part in ["; HttpOnly", "; SameSite=Strict", "; Max-Age=60"] {
        assert!(cookie.contains(part), "{part}: {cookie}");
    }
    for path in [
        "/",
        "/?view=table&group=tag",
        "/?view=wall&group=object",
        "/monitors/lyon/m00000?period=week",
        "/reports",
        "/reports/templates/executive-summary",
        "/api/v1/status",
        "/api/v1/monitors?day=true",
        "/api/v1/alarms",
        "/api/v1/monitors/lyon/m00000/figures",
    ] {
        let page = guest.get(path);
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        // Browsers would send forms with `Origin: null`.
        let is_form = path.starts_with("/reports");
        let policy = if is_form { "same-origin" } else { "no-referrer" };
        assert_eq!(page.header("referrer-policy"), policy, "{path}");
        assert_eq!(foreign(&page.body), None, "{path}: {}", page.body);
        assert!(!page.body.contains("the board"), "{path}: the name is for administrators");
    }
    let page = guest.get("/");
    assert_eq!(page.keys().len(), 8);
    assert!(page.body.contains("of 8</h1>"), "{}", page.body);
    for (path, none) in [
        ("/monitors/lyon/m00004", "/monitors/lyon/none"),
        ("/monitors/lyon/m00004/figures", "/monitors/lyon/none/figures"),
        ("/api/v1/monitors/lyon/m00004", "/api/v1/monitors/lyon/none"),
        ("/events?id=m00004&site=lyon", "/events?id=none&site=lyon"),
        ("/users", "/nothing"),
        ("/audit", "/nothing"),
        ("/links", "/nothing"),
        ("/account", "/nothing"),
    ] {
        let (one, other) = (guest.get(path), guest.get(none));
        assert_eq!((one.status, one.body), (404, other.body), "{path}");
    }
    // The token of its forms, such as that of reports, gives a visitor no account.
    let csrf = guest.get("/reports/templates/executive-summary").csrf();
    for path in ["/account", "/links", "/users"] {
        assert_eq!(guest.post(path, &[("action", "add")]).status, 403, "{path}");
        let fields = [("csrf", csrf.as_str()), ("action", "add-token"), ("name", "x")];
        assert!(matches!(guest.post(path, &fields).status, 400 | 404), "{path}");
    }
    // Another user's session is not affected by it.
    assert_eq!(admin.get(&format!("/shared/{token}")).status, 400);
    assert_eq!(admin.get("/").keys().len(), 24);
}

#[test]
fn a_revoked_link_shows_nothing_and_ends_its_streams() {
    let scene = Scene::new(24, 1);
    let server = scene.serve();
    let mut admin = server.administrator();
    let (token, other) = (add_link(&mut admin, "acme"), add_link(&mut admin, "borealis"));
    let ((mut guest, _), (mut stays, _)) = (open(&server, &token), open(&server, &other));
    let mut events = guest.stream("/events");
    events.wait_for("event: hello");
    // The list is sorted by hashes: revoke the link of `acme`.
    let page = admin.get("/links").body;
    let row = page.split("<tr>").find(|row| row.contains(">acme<")).expect("a row");
    let (_, rest) = row.split_once("name=\"link\" value=\"").expect("a form");
    let hash = rest.split('"').next().expect("its end").to_owned();
    let fields = [("action", "revoke"), ("link", hash.as_str())];
    assert_eq!(admin.send_form("/links", "/links", &fields).status, 303);
    scene.publish(|status| status.monitors[0].state = MonitorState::Failed);
    let begun = Instant::now();
    while !events.is_over && !events.text.ends_with("0\r\n\r\n") {
        assert!(begun.elapsed() < PATIENCE, "the stream goes on: {}", events.text);
        events.read();
    }
    assert!(!events.text.contains("m00000"), "{}", events.text);
    assert_eq!(guest.get("/api/v1/monitors").status, 401);
    let page = guest.get("/");
    assert_eq!(page.status, 403);
    assert!(page.body.contains("it was revoked"), "{}", page.body);
    assert_eq!(guest.get("/").status, 303, "then there is the sign-in");
    for wrong in [token.as_str(), "x", "..%2fusers"] {
        assert_eq!(open(&server, wrong).1.status, 400, "{wrong}");
    }
    assert_eq!(stays.get("/").keys().len(), 8, "other links stay valid");
    let page = admin.get("/audit").body;
    for words in ["Added a link", "Revoked a link"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(!server.log().contains(&token));
    // Links survive a restart.
    assert!(server.stop().success());
    let server = scene.serve();
    stays.address.clone_from(&server.address);
    assert_eq!(stays.get("/").keys().len(), 8);
}

#[test]
fn a_click_on_another_site_finds_the_session() {
    let scene = Scene::new(2, 1);
    let server = scene.serve();
    server.administrator();
    let mut client = server.client();
    let headers = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")];
    client.headers =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    // Browsers send `SameSite=Strict` cookies only from the console's own pages.
    let page = client.get("/monitors/lyon/m00001?period=week");
    assert_eq!(page.status, 200);
    assert!(page.body.contains("m00001?period=week"), "{}", page.body);
    assert!(!page.body.contains("Malmö"), "{}", page.body);
    client.headers.clear();
    let answer = client.get("/monitors/lyon/m00001?period=week");
    assert_eq!(answer.status, 303);
    assert!(answer.header("location").ends_with("m00001%3Fperiod%3Dweek"));
}
