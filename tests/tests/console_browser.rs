//! The web console in a real browser: headless Chromium over WebDriver. The tests are skipped where
//! it is not installed, unless `MAILQOS_BROWSER` is set.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use mailqos_lake::MonitorState;
use mailqos_model::{Micros, UtcMicros};
use mailqos_tests::{
    browser::{self, Browser},
    console::{PASSWORD, Scene, Server},
    servers::{FtpServer, MailServer, Options, PASSWORD as MAILBOX_PASSWORD, PROBE},
    setting::{Probe, Setting, until},
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

/// A probe with one monitor, and its console.
async fn running(mail: &MailServer) -> (Setting, Probe, Server) {
    let mut setting = Setting::new("lyon");
    let first = setting.monitor("first", mail);
    setting.add_monitor(&first);
    let probe = setting.start_probe();
    let socket = setting.data().join("state/site=lyon/control/socket");
    until("the probe answers", || socket.exists()).await;
    let log = setting.path("console.log");
    let mut command = setting.command("mailqos-analytics");
    command.args(["serve", "--listen", "127.0.0.1:0", "--no-schedule"]);
    let server = Server::start(&mut command, &log);
    (setting, probe, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_monitor_is_tried_and_saved_and_its_first_sample_appears_live() {
    let Some(browser) = Browser::start() else { return };
    let mail = MailServer::start(Options::default()).await.expect("a server");
    let (setting, _probe, server) = running(&mail).await;
    browser.accept_link(&server, &server.welcome());
    let mut walk = Walk::new(&browser);
    browser.click(&browser.find_text(".bar nav a", "Objects"));
    browser.click_on("a[href=\"/monitors/new\"]");
    browser.fill("input[name=address]", "127.0.0.1");
    browser.click_on("form.wide button");
    browser.click_on("button.choice[value=mail-qos]");
    // Nothing is saved while something is missing, and the problems are at their fields.
    browser.click_on("button[name=action][value=save]");
    browser.find("#problems");
    walk.check_here("new-monitor-problems");
    for details in ["details.more", "#new-account"] {
        if browser.all(&format!("{details}[open]")).is_empty() {
            // By keyboard: the bar with the buttons may cover it.
            browser.type_into(&browser.find(&format!("{details} summary")), "\u{e007}");
        }
    }
    let (smtp, pop3) = (mail.smtp_port().to_string(), mail.pop3s_port().to_string());
    for (name, value) in [
        ("id", "second"),
        ("name", "Second monitor"),
        ("object.id", "local"),
        ("from", PROBE),
        ("to", PROBE),
        ("smtp.port", &smtp),
        ("smtp.ca_file", "first.ca.pem"),
        ("pickup.port", &pop3),
        ("pickup.ca_file", "first.ca.pem"),
    ] {
        browser.fill(&format!("input[name=\"{name}\"]"), value);
    }
    for (name, value) in [
        ("smtp.tls", "starttls"),
        ("smtp.account", "+new"),
        ("pickup.protocol", "pop3"),
        ("pickup.tls", "implicit"),
        ("pickup.account", "+new"),
    ] {
        browser.choose(&format!("select[name=\"{name}\"]"), value);
    }
    browser.fill("input[name=\"account.name\"]", "second");
    browser.fill("input[name=\"account.user\"]", PROBE);
    browser.fill("input[name=\"account.password\"]", MAILBOX_PASSWORD);
    browser.click_on("button[name=action][value=try]");
    browser.find_text("#trial", "✓ ok: round trip");
    walk.check_here("new-monitor-tried");
    browser.click_on("button[name=action][value=save]");
    browser.find("body.monitor");
    assert!(browser.address().contains("/monitors/lyon/second"), "{}", browser.address());
    browser.run("window.isSamePage = true;");
    browser.wait_until("round trip", |browser| {
        let value = browser.text_of("#head .value");
        value.chars().any(|letter| letter.is_ascii_digit())
    });
    assert_eq!(browser.run("return window.isSamePage;"), true, "without a reload");
    assert!(!setting.settled("second").is_empty());
    walk.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_of_a_running_probe_appears_live_and_is_acknowledged() {
    let Some(browser) = Browser::start() else { return };
    let mail = MailServer::start(Options::default()).await.expect("a server");
    let (_setting, _probe, server) = running(&mail).await;
    browser.accept_link(&server, &server.welcome());
    let mut walk = Walk::new(&browser);
    browser.go(&format!("http://{}/alarms", server.address));
    browser.fill("#simulate input[name=monitors]", "first");
    browser.click_on("#simulate button");
    browser.wait_until("alarm", |browser| {
        browser.go(&format!("http://{}/alarms", server.address));
        !browser.all("ul.alarms input[name=monitor]").is_empty()
    });
    walk.check_here("alarm-open");
    browser.click_on("ul.alarms input[name=monitor]");
    browser.fill("input[name=note]", "the provider is informed");
    browser.click_on("button[name=action][value=acknowledge]");
    browser.find_text(".ack", "Acknowledged by admin");
    walk.check_here("alarm-acknowledged");
    browser.go(&format!("http://{}/", server.address));
    browser.find_text("[data-key=\"lyon/first\"] .detail", "Acknowledged by admin");
    // What another client does appears without a reload.
    browser.run("window.isSamePage = true;");
    let mut operator = server.client();
    assert_eq!(operator.sign_in("admin", PASSWORD).status, 303);
    let fields = [("action", "withdraw"), ("monitor", "first")];
    let answer = operator.send_form("/alarms", "/alarms", &fields);
    assert_eq!(answer.status, 303, "{}", answer.body);
    browser.find_text("[data-key=\"lyon/first\"] .detail", "Not acknowledged");
    assert_eq!(browser.run("return window.isSamePage;"), true);
    let window = [
        ("action", "plan"),
        ("monitors", "first"),
        ("from", "2030-01-05T10:00"),
        ("to", "2030-01-05T12:00"),
        ("reason", "new firmware"),
    ];
    let answer = operator.send_form("/maintenance", "/maintenance", &window);
    assert_eq!(answer.status, 303, "{}", answer.body);
    walk.check(&format!("http://{}/maintenance", server.address));
    walk.finish();
}

/// A scene with definitions, targets, reports and deliveries.
fn scene_with_reports(monitors: usize, ftp: &FtpServer) -> Scene {
    let mut scene = Scene::new(monitors, 3);
    scene.setting.add(&format!(
        "[target.shelf]\nkind = \"folder\"\npath = \"shelf\"\n\
         [target.site]\nkind = \"ftp\"\nserver = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n\
         [target.nowhere]\nkind = \"ftp\"\nserver = \"127.0.0.1\"\nport = 1\ntls = \"none\"",
        ftp.port()
    ));
    scene.setting.write();
    scene
}

/// Generates and delivers what is due this many days from now.
fn pass(scene: &Scene, days: i64) {
    let now = UtcMicros::now() + Micros::from_secs(days * 86_400);
    scene.setting.run("mailqos-analytics", &["schedule", "run-due", "--now", &now.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_delivers_to_an_ftp_target_that_was_tried() {
    let Some(browser) = Browser::start() else { return };
    let ftp = FtpServer::start().await.expect("a server");
    let scene = scene_with_reports(4, &ftp);
    let server = scene.serve();
    browser.accept_link(&server, &server.welcome());
    browser.click(&browser.find_text(".bar nav a", "Reports"));
    browser.click(&browser.find_text("main a", "Targets"));
    browser.click_on("form:has(input[value=site]) button");
    browser.find_text(".note.good h2", "site: works");
    assert!(ftp.names().is_empty(), "the test file is removed: {:?}", ftp.names());
    browser.click_on("form:has(input[value=nowhere]) button");
    browser.find_text(".note.bad h2", "nowhere: failed");
    // From a template to a definition with a schedule.
    browser.go(&format!("http://{}/reports/templates/top-bottom", server.address));
    browser.choose("select[name=period]", "yesterday");
    browser.click_on("button[name=action][value=save]");
    browser.fill("input[name=name]", "daily");
    browser.click_on("input[name=format][value=html]");
    browser.choose("select[name=every]", "day");
    browser.fill("input[name=at]", "06:30");
    browser.click_on("input[name=target][value=site]");
    browser.click_on("button[name=action][value=save]");
    browser.find("ol.runs li:nth-child(5)");
    assert!(browser.address().ends_with("/reports/definitions/daily"), "{}", browser.address());
    // The first pass makes the definition known, the second one is a day later.
    pass(&scene, 0);
    pass(&scene, 1);
    browser.go(&format!("http://{}/reports/deliveries", server.address));
    browser.find_text("main table", "daily-");
    let names = ftp.names();
    assert!(names.iter().any(|name| name.ends_with(".html")), "{names:?}");
    browser.go(&format!("http://{}/reports/archive", server.address));
    browser.click(&browser.find_text("main table a", "HTML"));
    let bytes = std::fs::read(browser.downloaded("html")).expect("a file");
    assert!(String::from_utf8_lossy(&bytes).contains("</html>"));
    assert_eq!(browser.errors(), [""; 0]);
}

/// A walk over pages: each is looked at on a phone and on a desk, in light and dark.
struct Walk<'a> {
    browser: &'a Browser,
    /// Script of axe-core; without it, only the width is checked.
    axe: Option<String>,
    findings: Vec<String>,
}

impl<'a> Walk<'a> {
    fn new(browser: &'a Browser) -> Self {
        Self { browser, axe: browser::axe(), findings: Vec::new() }
    }

    /// Opens a page and checks it.
    fn check(&mut self, address: &str) {
        self.browser.go(address);
        let path = address.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        self.check_here(path.map_or("start", |(_, path)| path));
    }

    /// Checks the page as it is now.
    fn check_here(&mut self, name: &str) {
        let browser = self.browser;
        for (is_dark, width) in [(false, 390), (true, 390), (true, 1_400), (false, 1_400)] {
            browser.prefer_dark(is_dark);
            browser.resize(width, 900);
            let wider = browser.run(
                "return document.documentElement.scrollWidth - document.documentElement.clientWidth;",
            );
            if wider.as_i64().is_some_and(|by| by > 0) {
                self.findings.push(format!("{name} {width}: {wider} pixels too wide"));
            }
            if let Some(axe) = &self.axe {
                for finding in browser.serious_findings(axe) {
                    self.findings.push(format!("{name} {width} dark={is_dark}: {finding}"));
                }
            }
            if let Some(folder) = std::env::var_os("MAILQOS_PICTURES") {
                let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
                let name: String = name.chars().take(50).map(letter).collect();
                let look = if is_dark { "dark" } else { "light" };
                let path = std::path::Path::new(&folder).join(format!("{name}.{width}.{look}.png"));
                std::fs::write(path, browser.whole_picture()).expect("written");
            }
        }
    }

    /// Reports everything that was found.
    fn finish(self) {
        assert!(self.findings.is_empty(), "{}", self.findings.join("\n"));
    }
}

/// The first link of this kind on a page.
fn link_in(page: &str, start: &str) -> String {
    let (_, rest) = page.split_once(start).expect("a link");
    format!("{start}{}", rest.split(['"', '<']).next().expect("its end"))
}

#[tokio::test(flavor = "multi_thread")]
async fn axe_finds_nothing_serious_on_any_page() {
    let Some(browser) = Browser::start() else { return };
    let ftp = FtpServer::start().await.expect("a server");
    let scene = scene_with_reports(24, &ftp);
    let server = scene.serve();
    let at = |path: &str| format!("http://{}{path}", server.address);
    let link = server.welcome();
    let mut walk = Walk::new(&browser);
    walk.check(&at("/sign-in"));
    walk.check(&at(&link));
    browser.accept_link(&server, &link);
    // Something of everything: users, a token, a link, definitions, deliveries, archived reports.
    let mut admin = server.client();
    assert_eq!(admin.sign_in("admin", PASSWORD).status, 303);
    server.user(&mut admin, "vera", "viewer", "acme");
    let token = [("action", "add-token"), ("name", "scripts"), ("role", "viewer"), ("days", "30")];
    assert_eq!(admin.send_form("/account", "/account", &token).status, 200);
    let shared = [("action", "add"), ("name", "the board"), ("tag", "acme"), ("days", "7")];
    let shared = link_in(&admin.send_form("/links", "/links", &shared).body, "/shared/");
    let definition = [
        ("action", "save"),
        ("name", "daily"),
        ("title", "Mail of the day"),
        ("monitor", "tag:acme"),
        ("period", "yesterday"),
        ("template", "top-bottom"),
        ("format", "html"),
        ("every", "day"),
        ("at", "06:30"),
        ("target", "shelf"),
        ("target", "nowhere"),
    ];
    let answer = admin.send_form("/reports/new", "/reports/new", &definition);
    assert_eq!(answer.status, 303, "{}", answer.body);
    pass(&scene, 0);
    pass(&scene, 1);
    std::fs::write(scene.setting.path("reports/broken.toml"), "title = \"Own\n").expect("written");
    let view = [("action", "view"), ("period", "yesterday"), ("which", "all")];
    let form = "/reports/templates/executive-summary";
    let made = admin.send_form(form, form, &view).header("location").to_owned();
    for path in [
        "/",
        "/?view=table&group=tag",
        "/?view=wall&group=object",
        "/?q=nothing-like-this",
        "/monitors/lyon/m00003",
        "/monitors/lyon/m00014?period=day",
        "/monitors/lyon/m00011?period=week",
        "/monitors/lyon/none",
        "/monitors/lyon/m00003/edit",
        "/monitors/lyon/m00003/remove",
        "/monitors/new",
        "/monitors/new?address=mail.example.com",
        "/monitors/new?address=mail.example.com&kind=mail-qos",
        "/objects",
        "/objects/mx0",
        "/objects/mx0/remove",
        "/reports",
        "/reports/templates/executive-summary",
        "/reports/new",
        "/reports/definitions",
        "/reports/definitions/daily",
        "/reports/definitions/daily?add=outages",
        "/reports/definitions/broken",
        "/reports/archive",
        "/reports/deliveries",
        "/reports/targets",
        "/links",
        "/alarms",
        "/maintenance",
        "/users",
        "/account",
        "/audit",
    ] {
        walk.check(&at(path));
    }
    browser.go(&at(&made));
    browser.find("iframe.report-frame");
    browser.wait_until("complete report", |browser| browser.all(".progress").is_empty());
    walk.check_here("report-made");
    // A report that can't be made, and a form with problems.
    browser.go(&at("/reports/new"));
    browser.fill("input[name=name]", "wrong");
    browser.choose("select[name=every]", "month");
    browser.fill("input[name=at]", "25:00");
    browser.click_on("button[name=action][value=save]");
    browser.find("[role=alert]");
    walk.check_here("definition-problems");
    // A visitor with a link.
    browser.click_on(".who button");
    browser.find("body.narrow input[name=user]");
    browser.go(&at(&shared));
    browser.find("body.overview");
    walk.check_here("shared-link");
    walk.finish();
}
