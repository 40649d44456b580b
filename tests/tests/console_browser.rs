//! The web console in a real browser: headless Chromium over WebDriver. The tests are skipped where
//! it is not installed, unless `MAILQOS_BROWSER` is set.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use mailqos_lake::MonitorState;
use mailqos_tests::{
    browser::{self, Browser},
    console::{PASSWORD, Scene, Server},
    servers::{MailServer, Options},
    setting::{Setting, until},
};

/// The states of the monitors on the page, by their keys.
fn state_of(browser: &Browser, key: &str) -> String {
    browser.text_of(&format!("[data-key=\"{key}\"] .word"))
}

#[test]
fn the_first_start_leads_from_the_link_to_a_live_overview() {
    let Some(browser) = Browser::start() else { return };
    let scene = Scene::new(8, 1);
    let server = scene.serve();
    browser.go(&format!("http://{}/", server.address));
    assert!(browser.text_of("main").contains("There is no administrator yet"));
    let link = server.welcome();
    browser.go(&format!("http://{}{link}", server.address));
    // The browser itself refuses short passwords, the console those that differ.
    browser.fill("input[name=password]", "short");
    browser.fill("input[name=again]", "short");
    browser.click_on("main form button");
    assert!(browser.address().ends_with(&link));
    browser.fill("input[name=password]", PASSWORD);
    browser.fill("input[name=again]", "something else entirely");
    browser.click_on("main form button");
    browser.find_text("[role=alert]", "differ");
    browser.accept_link(&server, &link);
    assert_eq!(browser.all(".tile").len(), 8);
    assert_eq!(state_of(&browser, "lyon/m00001"), "OK");
    // A change arrives without a reload: the marker survives.
    browser.run("window.isSamePage = true;");
    scene.publish(|status| {
        status.monitors[1].state = MonitorState::Alarm;
        status.monitors[1].reason = Some("the mailbox is <b>full</b>".to_owned());
    });
    browser.wait_until("alarm", |browser| state_of(browser, "lyon/m00001") == "Alarm");
    browser.find_text("[data-key=\"lyon/m00001\"] .detail", "the mailbox is <b>full</b>");
    browser.find_text("h1", "2 monitors in alarm");
    assert_eq!(browser.run("return window.isSamePage;"), true);
    // Search by keyboard, then a monitor's page and its figures.
    browser.type_into(&browser.find("body"), "/");
    browser.wait_until("focus on the search", |browser| {
        browser.run("return document.activeElement.id;") == "q"
    });
    browser.type_into(&browser.find("#q"), "m00001\u{e007}");
    browser.wait_until("search", |browser| browser.all("[data-key]").len() == 1);
    browser.click_on("[data-key=\"lyon/m00001\"] a.name");
    browser.find("#figures figure svg");
    // The session outlives the page; a used link does not work again.
    browser.go(&format!("http://{}{link}", server.address));
    browser.find_text("main", "This link is not valid");
    browser.find_text(".who button", "Sign out");
    browser.click_on(".who button");
    browser.find("body.narrow input[name=user]");
    // Wrong password, then the right one, which leads to the page that was asked for.
    browser.go(&format!("http://{}/monitors/lyon/m00002", server.address));
    browser.fill("input[name=user]", "admin");
    browser.fill("input[name=password]", "wrong wrong wrong");
    browser.click_on("main form button");
    browser.find_text("[role=alert]", "User name or password is wrong");
    browser.fill("input[name=password]", PASSWORD);
    browser.click_on("main form button");
    browser.find("body.monitor");
    assert!(browser.address().ends_with("/monitors/lyon/m00002"), "{}", browser.address());
    // Chromium logs answers with an error status, such as those to wrong passwords.
    let errors = browser.errors();
    let is_answer = |text: &&String| text.contains("Failed to load resource");
    assert_eq!(errors.iter().filter(|text| !is_answer(text)).count(), 0, "{errors:?}");
}

#[test]
fn a_viewer_restricted_to_a_tag_sees_only_its_monitors() {
    let Some(browser) = Browser::start() else { return };
    // Objects by turns have the tags acme, borealis and corvus, four monitors each.
    let scene = Scene::new(24, 1);
    let server = scene.serve();
    let mut admin = server.administrator();
    let fields = [
        ("action", "add"),
        ("name", "vera"),
        ("role", "viewer"),
        ("scope", "tags"),
        ("tags", "acme"),
    ];
    let page = admin.send_form("/users", "/users", &fields).body;
    let (_, rest) = page.split_once("/welcome/").expect("a link");
    let link = format!("/welcome/{}", rest.split('"').next().expect("its end"));
    browser.accept_link(&server, &link);
    assert_eq!(browser.all("[data-key]").len(), 8);
    let is_silent = |browser: &Browser| {
        let page = browser.run("return document.documentElement.outerHTML;").to_string();
        !["borealis", "corvus", "m00005", "mx1."].iter().any(|word| page.contains(word))
    };
    assert!(is_silent(&browser));
    // All monitors change, and only those of the tag appear.
    scene.publish(|status| {
        for monitor in &mut status.monitors {
            monitor.state = MonitorState::Alarm;
            monitor.reason = Some(format!("about {}", monitor.id));
        }
    });
    browser.wait_until("alarm", |browser| state_of(browser, "lyon/m00000") == "Alarm");
    browser.find_text("h1", "8 monitors in alarm");
    assert!(is_silent(&browser));
    for path in ["/monitors/lyon/m00005", "/users", "/audit"] {
        browser.go(&format!("http://{}{path}", server.address));
        browser.find_text("main", "There is nothing at this address");
    }
    browser.go(&format!("http://{}/monitors/lyon/m00000", server.address));
    browser.find("#figures figure svg");
    assert!(is_silent(&browser));
}

#[test]
fn a_report_for_selected_monitors_is_viewed_and_downloaded() {
    let Some(browser) = Browser::start() else { return };
    let scene = Scene::new(4, 3);
    let server = scene.serve();
    browser.accept_link(&server, &server.welcome());
    browser.click(&browser.find_text(".bar nav a", "Reports"));
    browser.click_on("a[href=\"/reports/templates/executive-summary\"]");
    browser.choose("select[name=period]", "yesterday");
    browser.click_on("input[name=which][value=some]");
    browser.click_on("input[name=monitor][value=\"lyon/m00001\"]");
    browser.click_on("button[name=action][value=view]");
    // The page shows the report as soon as it is complete.
    browser.find("iframe.report-frame");
    browser.enter_frame("iframe.report-frame");
    let text = browser.text_of("body");
    assert!(text.contains("Malmö 1") && !text.contains("Köln 2"), "{text}");
    browser.leave_frame();
    for (format, start) in [("PDF", &b"%PDF-"[..]), ("CSV", b""), ("XLSX", b"PK")] {
        browser.click(&browser.find_text(".downloads a", format));
        let path = browser.downloaded(&format.to_lowercase());
        let bytes = std::fs::read(&path).expect("a file");
        assert!(bytes.len() > 100 && bytes.starts_with(start), "{}", path.display());
    }
    assert_eq!(browser.errors(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_of_a_running_probe_appears_and_is_acknowledged() {
    let Some(browser) = Browser::start() else { return };
    let mail = MailServer::start(Options::default()).await.expect("a server");
    let mut setting = Setting::new("lyon");
    let first = setting.monitor("first", &mail);
    setting.add_monitor(&first);
    let _probe = setting.start_probe();
    let socket = setting.data().join("state/site=lyon/control/socket");
    until("the probe answers", || socket.exists()).await;
    let log = setting.path("console.log");
    let mut command = setting.command("mailqos-analytics");
    command.args(["serve", "--listen", "127.0.0.1:0", "--no-schedule"]);
    let server = Server::start(&mut command, &log);
    browser.accept_link(&server, &server.welcome());
    browser.go(&format!("http://{}/alarms", server.address));
    browser.fill("#simulate input[name=monitors]", "first");
    browser.click_on("#simulate button");
    browser.wait_until("alarm", |browser| {
        browser.go(&format!("http://{}/alarms", server.address));
        !browser.all("ul.alarms input[name=monitor]").is_empty()
    });
    browser.click_on("ul.alarms input[name=monitor]");
    browser.fill("input[name=note]", "the provider is informed");
    browser.click_on("button[name=action][value=acknowledge]");
    browser.find_text(".ack", "Acknowledged by admin");
    browser.go(&format!("http://{}/", server.address));
    browser.find_text("[data-key=\"lyon/first\"] .detail", "Acknowledged by admin");
}

#[test]
fn axe_finds_nothing_serious_on_any_page() {
    let (Some(browser), Some(axe)) = (Browser::start(), browser::axe()) else { return };
    let scene = Scene::new(48, 2);
    let server = scene.serve();
    let link = server.welcome();
    let mut findings = Vec::new();
    let mut check = |path: &str| {
        browser.go(&format!("http://{}{path}", server.address));
        for is_dark in [false, true] {
            browser.prefer_dark(is_dark);
            for width in [390, 1_400] {
                browser.resize(width, 900);
                let wider = browser.run(
                    "return document.documentElement.scrollWidth - document.documentElement.clientWidth;",
                );
                if wider.as_i64().is_some_and(|by| by > 0) {
                    findings.push(format!("{path} {width}: {wider} pixels too wide"));
                }
                for finding in browser.serious_findings(&axe) {
                    findings.push(format!("{path} {width} dark={is_dark}: {finding}"));
                }
                if let Some(folder) = std::env::var_os("MAILQOS_PICTURES") {
                    let name: String = path
                        .chars()
                        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
                        .collect();
                    let name = format!("{}-{width}-{is_dark}.png", &name[..name.len().min(40)]);
                    let path = std::path::Path::new(&folder).join(name);
                    std::fs::write(path, browser.picture()).expect("written");
                }
            }
        }
    };
    check("/sign-in");
    check(&link);
    browser.accept_link(&server, &link);
    for path in [
        "/",
        "/?view=table&group=tag",
        "/?view=wall&group=object",
        "/?q=nothing-like-this",
        "/monitors/lyon/m00003",
        "/monitors/lyon/m00014?period=day",
        "/monitors/lyon/none",
        "/reports",
        "/reports/templates/executive-summary",
        "/links",
        "/alarms",
        "/maintenance",
        "/users",
        "/account",
        "/audit",
    ] {
        check(path);
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}
