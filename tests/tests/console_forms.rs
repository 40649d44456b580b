//! The forms of the web console: monitors and objects are created, edited and removed in the same
//! files that the commands use.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use std::os::unix::fs::PermissionsExt as _;

use mailqos_tests::{
    console::{Client, Scene, Server},
    forms::{Form, wrong_fields},
    servers::{MailServer, Options, PASSWORD, PROBE},
    setting::{Setting, find_bytes, until},
};

const HOSTILE: &str = "Küche \"No. 1\" #2 <script>alert('x')</script> \\ = [a]";

fn file(scene: &Scene) -> String {
    std::fs::read_to_string(scene.setting.path("mailqos.toml")).expect("the configuration")
}

fn write(scene: &Scene, text: &str) {
    std::fs::write(scene.setting.path("mailqos.toml"), text).expect("the configuration");
}

/// The form of a monitor of a scene.
fn edit(client: &mut Client, id: &str) -> Form {
    let page = client.get(&format!("/monitors/lyon/{id}/edit"));
    assert_eq!(page.status, 200, "{}", page.body);
    Form::of(&page)
}

fn send(client: &mut Client, form: &Form, id: &str) -> mailqos_tests::console::Answer {
    form.send(client, &format!("/monitors/lyon/{id}/edit"))
}

fn start() -> (Scene, Server, Client) {
    let scene = Scene::new(6, 1);
    let server = scene.serve();
    let client = server.administrator();
    (scene, server, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_is_created_step_by_step_and_its_first_sample_appears() {
    let mut setting = Setting::new("lyon");
    let mail = MailServer::start(Options::default()).await.expect("a server");
    let first = setting.monitor("first", &mail);
    setting.add_monitor(&first);
    setting.add("# The end of our file.");
    let probe = setting.start_probe();
    until("the probe answers", || setting.data().join("state/site=lyon/control/socket").exists())
        .await;
    let log = setting.path("console.log");
    let mut command = setting.command("mailqos-analytics");
    let server =
        Server::start(command.args(["serve", "--listen", "127.0.0.1:0", "--no-schedule"]), &log);
    let mut client = server.administrator();

    // Step by step, as links and forms lead.
    let page = client.get("/objects");
    assert!(page.body.contains("href=\"/monitors/new\""), "{}", page.body);
    assert!(client.get("/monitors/new").body.contains("Step 1 of 3"));
    let page = client.get("/monitors/new?address=127.0.0.1");
    assert!(page.body.contains("Step 2 of 3") && page.body.contains("mailbox"), "{}", page.body);
    let page = client.get("/monitors/new?address=127.0.0.1&kind=mail-qos");
    assert_eq!(page.status, 200, "{}", page.body);
    // Inherited values are shown with their origin.
    assert!(page.body.contains("Default: 200ms, from [defaults]"), "{}", page.body);
    let form = Form::of(&page);
    assert_eq!((form.get("object"), form.get("object.address")), ("+new", "127.0.0.1"));
    let (smtp, pop3) = (mail.smtp_port().to_string(), mail.pop3s_port().to_string());
    let form = form.with_all(&[
        ("id", "second"),
        ("name", HOSTILE),
        ("object.id", "local"),
        ("from", PROBE),
        ("to", PROBE),
        ("smtp.port", &smtp),
        ("smtp.tls", "starttls"),
        ("smtp.account", "+new"),
        ("smtp.ca_file", "first.ca.pem"),
        ("pickup.protocol", "pop3"),
        ("pickup.port", &pop3),
        ("pickup.tls", "implicit"),
        ("pickup.account", "+new"),
        ("pickup.ca_file", "first.ca.pem"),
        ("account.name", "second"),
        ("account.user", PROBE),
        ("account.password", PASSWORD),
    ]);
    // Try now: with what is in the form, and without saving it.
    let before = std::fs::read_to_string(setting.path("mailqos.toml")).expect("a file");
    let wrong = form.clone().with("account.password", "hunter2 wrong");
    let answer = wrong.with_new("action", "try").send(&mut client, "/monitors/new");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.contains("smtp_failed at smtp_auth"), "{}", answer.body);
    assert!(!answer.body.contains("hunter2"), "{}", answer.body);
    let answer = form.clone().with_new("action", "try").send(&mut client, "/monitors/new");
    assert!(answer.body.contains("✓ ok: round trip"), "{}", answer.body);
    assert_eq!(Form::of(&answer).get("name"), HOSTILE, "what was typed is kept");
    // Live, as the script asks for it.
    let answer = form.send(&mut client, "/monitors/try");
    assert_eq!(answer.header("content-type"), "application/x-ndjson", "{}", answer.body);
    let lines: Vec<serde_json::Value> =
        answer.body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let html = |at: usize| lines[at]["html"].as_str().expect("a part of the page").to_owned();
    assert!(html(0).contains("The test is running"), "{}", html(0));
    assert!(
        lines.iter().any(|line| line["html"]
            .as_str()
            .is_some_and(|html| html.contains("The mail was sent"))),
        "{lines:?}"
    );
    assert!(html(lines.len() - 1).contains("✓ ok: round trip"), "{lines:?}");
    assert_eq!(std::fs::read_to_string(setting.path("mailqos.toml")).expect("a file"), before);
    assert!(!setting.path("secrets").exists() && setting.settled("second").is_empty());
    assert!(!probe.log().contains("hunter2") && !server.log().contains("hunter2"));

    let answer = form.send(&mut client, "/monitors/new");
    assert_eq!(answer.status, 303, "{}", answer.body);
    assert_eq!(answer.header("location"), "/monitors/lyon/second?done=applied", "{}", probe.log());
    until("a sample of the new monitor", || !setting.settled("second").is_empty()).await;
    assert_eq!(setting.settled("second")[0].outcome(), "ok", "{}", probe.log());
    let page = client.get("/monitors/lyon/second?done=applied");
    assert!(page.body.contains("the probe has applied it"), "{}", page.body);
    assert!(!page.body.contains("<script>alert"), "names are escaped");

    // The password has its own file, and is nowhere else.
    let secret = setting.path("secrets/second");
    let mode = std::fs::metadata(&secret).expect("the secret").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(&secret).expect("the secret"), PASSWORD);
    let text = std::fs::read_to_string(setting.path("mailqos.toml")).expect("a file");
    assert!(text.contains("password = { file = \"secrets/second\" }"), "{text}");
    assert!(text.contains("# The end of our file."), "{text}");
    let audit = setting.data().join("state/console/audit.jsonl");
    let audit = std::fs::read_to_string(audit).expect("the audit log");
    assert!(audit.contains("monitor_added") && audit.contains("second"), "{audit}");
    for place in [text, audit, server.log(), client.get("/monitors/lyon/second/edit").body] {
        assert!(!place.contains(PASSWORD), "{place}");
    }
    assert_eq!(find_bytes(&setting.data().join("state"), PASSWORD.as_bytes()), None);
}

#[test]
fn all_problems_appear_beside_their_fields_and_what_was_typed_is_kept() {
    let (scene, _server, mut client) = start();
    let before = file(&scene);
    let page = client.get("/monitors/new?object=mx0&kind=mail-qos");
    let form = Form::of(&page).with_all(&[
        ("id", "not valid"),
        ("name", HOSTILE),
        ("from", "nobody at example"),
        ("to", "b@example.com"),
        ("max_round_trip", "1m"),
        ("check_interval", "5m"),
        ("test_interval", "soon"),
        ("smtp.port", "99999"),
        ("pickup.server", "https://mail.example.com"),
        ("pickup.account", "+new"),
        ("account.name", "fresh"),
        ("account.user", "probe user"),
        ("account.password", "it's #1 and secret"),
    ]);
    let answer = form.send(&mut client, "/monitors/new");
    assert_eq!(answer.status, 422, "{}", answer.body);
    let wrong = wrong_fields(&answer);
    for field in ["id", "from", "check_interval", "test_interval", "smtp.port", "pickup.server"] {
        assert!(
            wrong.contains(&field.to_owned()),
            "{field} is not among {wrong:?}: {}",
            answer.body
        );
        assert!(
            answer.body.contains(&format!("href=\"#f-{}\"", field.replace('.', "-"))),
            "{field}"
        );
    }
    assert!(!wrong.contains(&"to".to_owned()) && !wrong.contains(&"name".to_owned()), "{wrong:?}");
    assert!(answer.body.contains("is not shorter than max round trip"), "{}", answer.body);
    let kept = Form::of(&answer);
    for (field, value) in [
        ("name", HOSTILE),
        ("check_interval", "5m"),
        ("smtp.port", "99999"),
        ("pickup.account", "+new"),
        ("account.user", "probe user"),
    ] {
        assert_eq!(kept.get(field), value);
    }
    assert!(!answer.body.contains("#1 and secret"), "a password is never sent back");
    assert_eq!(file(&scene), before);
    assert!(!scene.setting.path("secrets").exists(), "no file is left behind");
    // A monitor, an object and an account never replace existing ones.
    let form = Form::of(&page).with_all(&[("id", "m00000"), ("from", "a@example.com")]);
    let answer = form.send(&mut client, "/monitors/new");
    assert_eq!(wrong_fields(&answer), ["id"], "{}", answer.body);
}

#[test]
fn the_second_of_two_people_sees_the_difference() {
    let (scene, server, mut first) = start();
    let text = file(&scene).replace("[monitor.m00001]", "# Anna's.\n[monitor.m00001]");
    write(&scene, &text);
    let mut second = server.user(&mut first, "berta", "administrator", "");
    let mine = edit(&mut first, "m00001").with("max_round_trip", "40s");
    let other =
        edit(&mut second, "m00001").with_all(&[("max_round_trip", "50s"), ("name", "Other")]);
    let elsewhere = edit(&mut second, "m00002").with("max_round_trip", "20s");
    assert_eq!(send(&mut first, &mine, "m00001").status, 303);
    // Changes of other monitors are no conflict.
    assert_eq!(send(&mut second, &elsewhere, "m00002").status, 303);
    let answer = send(&mut second, &other, "m00001");
    assert_eq!(answer.status, 409, "{}", answer.body);
    assert!(answer.body.contains("40s") && answer.body.contains("50s"), "{}", answer.body);
    assert!(file(&scene).contains("40s") && !file(&scene).contains("50s"));
    let again = Form::of(&answer);
    assert_eq!((again.get("max_round_trip"), again.get("name")), ("50s", "Other"));
    assert_eq!(send(&mut second, &again, "m00001").status, 303);
    let text = file(&scene);
    assert!(text.contains("50s") && text.contains("# Anna's.") && text.contains("20s"), "{text}");
    // Without a probe, nothing can be tried, and the page says what to do.
    let answer = edit(&mut first, "m00001")
        .with_new("action", "try")
        .send(&mut first, "/monitors/lyon/m00001/edit");
    assert!(answer.body.contains("mailqos-probe run"), "{}", answer.body);
    // An unchanged form changes nothing.
    let form = edit(&mut first, "m00001");
    assert_eq!(send(&mut first, &form, "m00001").status, 303);
    assert_eq!(file(&scene), text);
}

#[test]
fn roles_and_tags_limit_what_can_be_changed_and_seen() {
    let (scene, server, mut admin) = start();
    let mut operator = server.user(&mut admin, "olga", "operator", "");
    let mut viewer = server.user(&mut admin, "vera", "viewer", "");
    let mut acme = server.user(&mut admin, "akim", "administrator", "acme");
    for (client, status) in [(&mut operator, 403), (&mut viewer, 403)] {
        for path in ["/monitors/lyon/m00000/edit", "/monitors/new", "/monitors/lyon/m00000/remove"]
        {
            assert_eq!(client.get(path).status, status, "{path}");
        }
        assert_eq!(client.get("/objects/mx0").status, 200);
    }
    // An operator disables and enables; a viewer does neither.
    let path = "/monitors/lyon/m00000/state";
    let answer = viewer.send_form("/account", path, &[("action", "disable")]);
    assert_eq!(answer.status, 403);
    let before = file(&scene);
    assert_eq!(operator.send_form("/account", path, &[("action", "disable")]).status, 303);
    assert!(file(&scene).contains("enabled = false"));
    assert_eq!(operator.send_form("/account", path, &[("action", "enable")]).status, 303);
    assert_eq!(file(&scene).replace("enabled = true\n", ""), before);
    // mx0 with m00000 to m00003 is of acme, mx1 of borealis.
    for path in ["/objects/mx1", "/monitors/lyon/m00005/edit", "/monitors/new?copy=m00005"] {
        assert_eq!(acme.get(path).status, 404, "{path}");
    }
    let page = acme.get("/objects");
    assert!(page.body.contains("mx0") && !page.body.contains("mx1"), "{}", page.body);
    let page = acme.get("/monitors/new?object=mx0&kind=mail-qos");
    assert!(page.body.contains("\"probe\"") && !page.body.contains("\"wrong\""), "{}", page.body);
    let form = Form::of(&page).with_all(&[
        ("id", "mine"),
        ("from", "a@example.com"),
        ("to", "b@example.com"),
        ("pickup.account", "wrong"),
        ("depends_on", "m00005"),
    ]);
    let answer = form.send(&mut acme, "/monitors/new");
    let wrong = wrong_fields(&answer);
    assert!(wrong.contains(&"pickup.account".to_owned()), "{wrong:?}");
    assert!(wrong.contains(&"depends_on".to_owned()), "{wrong:?}");
    for hidden in ["borealis", "mx1", "did you mean"] {
        assert!(!answer.body.contains(hidden), "{hidden}: {}", answer.body);
    }
    // The object of another customer is as unknown as one that does not exist.
    let form = form.with_all(&[("pickup.account", "probe"), ("depends_on", "")]);
    let other = form.clone().with("object", "mx1").send(&mut acme, "/monitors/new");
    let missing = form.clone().with("object", "nothing").send(&mut acme, "/monitors/new");
    assert_eq!((other.status, missing.status), (422, 422));
    assert!(!other.body.contains("mx1.example.com"));
    assert_eq!(form.send(&mut acme, "/monitors/new").status, 303);
    // Its own monitor can't leave its tags.
    let page = admin.get("/monitors/new?address=other.example.com&kind=mail-qos");
    let form = Form::of(&page).with_all(&[("id", "far"), ("object.id", "far")]);
    assert_eq!(acme.get("/monitors/lyon/far/edit").status, 404);
    let page = acme.get("/monitors/new?address=own.example.com&kind=mailbox");
    assert_eq!(Form::of(&page).get("tags"), "acme", "a tag is suggested");
    let untagged = Form::of(&page).with_all(&[("tags", ""), ("pickup.account", "probe")]);
    let answer = untagged.send(&mut acme, "/monitors/new");
    assert_eq!(wrong_fields(&answer), ["tags"], "{}", answer.body);
    drop(form);
}

#[test]
fn a_file_broken_by_hand_shows_where_and_the_rest_keeps_working() {
    let (scene, server, mut admin) = start();
    let mut acme = server.user(&mut admin, "akim", "administrator", "acme");
    let form = edit(&mut admin, "m00001").with("max_round_trip", "40s");
    let good = file(&scene);
    let lines = good.lines().count();
    for broken in [
        "[object.mx0]\naddress = \"twice\"\n",
        "[monitor.broken]\nobject = \"borealis-secret\"\nkind = \"mailbox\"\n",
        "site = = \n",
    ] {
        write(&scene, &format!("{good}{broken}"));
        assert_eq!(admin.get("/").status, 200);
        let page = admin.get("/objects");
        assert_eq!(page.status, 200);
        let place = format!("mailqos.toml:{}", lines + 1);
        let is_shown = page.body.contains(&place)
            || page.body.contains(&format!("mailqos.toml:{}", lines + 2));
        assert!(is_shown, "{broken}: {}", page.body);
        let page = acme.get("/objects");
        assert!(
            page.body.contains("have errors") && !page.body.contains("mailqos.toml"),
            "{}",
            page.body
        );
        let answer = send(&mut admin, &form, "m00001");
        assert_eq!(answer.status, 422, "{broken}: {}", answer.body);
        assert_eq!(file(&scene), format!("{good}{broken}"));
    }
    write(&scene, &good);
    assert_eq!(send(&mut admin, &form, "m00001").status, 303);
}

#[test]
fn monitors_and_objects_of_included_files_are_changed_where_they_are() {
    let scene = Scene::new(2, 1);
    let server = scene.serve();
    let part = "# A customer.\n[object.part]\naddress = \"part.example.com\" # leased\ntags = [\"acme\"]\n\n# Theirs.\n[monitor.part]\nobject = \"part\"\nkind = \"mailbox\"\npickup = { account = \"probe\" } # POP3\n";
    std::fs::create_dir(scene.setting.path("conf.d")).expect("a folder");
    let path = scene.setting.path("conf.d/part.toml");
    std::fs::write(&path, part).expect("a file");
    write(&scene, &format!("include = \"conf.d\"\n{}", file(&scene)));
    mailqos_tests::setting::signal(server.id(), "HUP");
    let mut admin = server.administrator();
    let begun = std::time::Instant::now();
    while admin.get("/objects/part").status != 200 {
        assert!(begun.elapsed() < mailqos_tests::setting::PATIENCE, "not reloaded");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let main = file(&scene);
    let form = edit(&mut admin, "part").with_all(&[("pickup.protocol", "imap"), ("name", "Part")]);
    assert!(!form.has("from") && !form.has("check_interval"), "a mailbox test sends nothing");
    assert_eq!(send(&mut admin, &form, "part").status, 303);
    let text = std::fs::read_to_string(&path).expect("a file");
    assert!(text.contains("protocol = \"imap\"") && text.contains("# POP3"), "{text}");
    assert_eq!(file(&scene), main);
    let form = Form::of(&admin.get("/objects/part"));
    let form = form.with("object.address", "new.example.com");
    assert_eq!(form.send(&mut admin, "/objects/part").status, 303);
    let text = std::fs::read_to_string(&path).expect("a file");
    assert!(text.contains("address = \"new.example.com\" # leased"), "{text}");
    assert_eq!(
        wrong_fields(&form.clone().with("object.address", "a b").send(&mut admin, "/objects/part"))
            .len(),
        0,
        "an old version is a conflict first"
    );
    let form = Form::of(&admin.get("/objects/part")).with("object.address", "a b");
    let answer = form.send(&mut admin, "/objects/part");
    assert_eq!(wrong_fields(&answer), ["object.address"], "{}", answer.body);
    // An object with a monitor stays; a removed monitor is asked for first.
    let answer = admin.send_form("/objects/part/remove", "/objects/part/remove", &[]);
    assert_eq!(answer.status, 409, "{}", answer.body);
    let page = admin.get("/monitors/lyon/part/remove");
    assert!(page.body.contains("Remove part?"), "{}", page.body);
    let answer = admin.send_form("/monitors/lyon/part/remove", "/monitors/lyon/part/remove", &[]);
    assert_eq!((answer.status, answer.header("location")), (303, "/objects/part?done=saved"));
    let answer = admin.send_form("/objects/part/remove", "/objects/part/remove", &[]);
    assert_eq!(answer.status, 303, "{}", answer.body);
    let text = std::fs::read_to_string(&path).expect("a file");
    assert!(!text.contains("[monitor.part]") && !text.contains("[object.part]"), "{text}");
    assert_eq!(file(&scene), main);
}

/// Public reports of forms in other products, each with its case.
#[test]
fn reported_defects_of_other_forms_do_not_occur() {
    let (scene, _server, mut client) = start();
    // Passwords with characters that have a meaning in a file, a form, a template or a shell:
    // louislam/uptime-kuma#5839, opnsense/core#7704, hestiacp/hestiacp#2303, wowpin/dumserver#14,
    // TheCrypt0/yi-hack-v4#207, martin-ger/esp32_nat_router#171, mcguirepr89/BirdNET-Pi#889.
    let passwords = [
        "qwertyu%sqwertyu%20{{ x }}",
        "/U\\Uabc",
        "(\\\"S(?.'\\$B7y\\bDPD'",
        "#hash // and \"quotes\"",
        "a=b=c",
        "one+two three ",
        "`id` $(id) ${HOME}",
        "  Pässwörd 密码 \u{1F511}",
    ];
    for (number, password) in passwords.iter().enumerate() {
        let id = format!("odd-{number}");
        let page = client.get("/monitors/new?object=mx0&kind=mailbox");
        let form = Form::of(&page).with_all(&[
            ("id", &id),
            ("pickup.account", "+new"),
            ("account.name", &id),
            ("account.user", "user name+tag@example.com \"#1\""),
            ("account.password", password),
        ]);
        let answer = form.send(&mut client, "/monitors/new");
        assert_eq!(answer.status, 303, "{password}: {}", answer.body);
        let path = scene.setting.path(&format!("secrets/{id}"));
        assert_eq!(&std::fs::read_to_string(&path).expect("the secret"), password);
        assert!(!file(&scene).contains(password), "{password}");
        // Passwords are not sent to the browser, and saving the form does not replace them by a
        // placeholder: grafana/grafana#2557, #8580, #14911.
        let page = client.get(&format!("/monitors/lyon/{id}/edit"));
        assert!(page.body.contains("autocomplete=\"new-password\""), "{}", page.body);
        let tag = page.body.split("id=\"f-account-password\"").nth(1).expect("the field");
        assert!(!tag.split('>').next().expect("its end").contains("value="), "{}", page.body);
        let form = Form::of(&page).with("name", "Odd");
        assert_eq!(send(&mut client, &form, &id).status, 303);
        assert_eq!(&std::fs::read_to_string(&path).expect("the secret"), password);
    }
    let text = file(&scene);
    let config = mailqos_config::load(&scene.setting.path("mailqos.toml"));
    let config = config.unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    assert_eq!(config.accounts["odd-3"].user, "user name+tag@example.com \"#1\"");
    // A monitor that is edited does not clash with its own name, and a problem of a field that is
    // folded away is visible: elastic/kibana#124005, KSJaay/Lunalytics#177.
    let form = edit(&mut client, "m00001");
    assert_eq!(send(&mut client, &form.clone().with("name", "Same"), "m00001").status, 303);
    let form = edit(&mut client, "m00001").with("horizon", "never");
    let answer = send(&mut client, &form, "m00001");
    assert_eq!(wrong_fields(&answer), ["horizon"], "{}", answer.body);
    assert!(answer.body.contains("<details class=\"more\" open>"), "{}", answer.body);
    // Spaces and line breaks around values are not part of them, and nothing that was pasted
    // becomes a second entry of the file.
    let pasted = " x\"]\n[monitor.evil]\nobject = \"mx1\" ";
    let form =
        edit(&mut client, "m00001").with_all(&[("name", pasted), ("max_round_trip", " 35s ")]);
    let answer = send(&mut client, &form, "m00001");
    assert_eq!(answer.status, 303, "{}", answer.body);
    let config = mailqos_config::load(&scene.setting.path("mailqos.toml"));
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    assert!(!config.monitors.contains_key("evil"), "{}", file(&scene));
    assert_eq!(config.monitors["m00001"].name, pasted.trim());
    assert!(file(&scene).contains("max_round_trip = \"35s\""), "{}", file(&scene));
}

/// Of two people who save the same object, the second sees the difference, field by field, and what
/// was typed stays.
#[test]
fn the_second_of_two_people_sees_what_differs_in_an_object() {
    let (scene, server, mut first) = start();
    let mut second = server.user(&mut first, "berta", "administrator", "");
    let object = |client: &mut Client| Form::of(&client.get("/objects/mx0"));
    let mine = object(&mut first).with("object.name", "Annas");
    let other = object(&mut second)
        .with_all(&[("object.name", "Bertas"), ("object.address", "new.example.com")]);
    assert_eq!(mine.send(&mut first, "/objects/mx0").status, 303);
    let answer = other.send(&mut second, "/objects/mx0");
    assert_eq!(answer.status, 409, "{}", answer.body);
    for text in ["Annas", "Bertas", "mx0.example.com", "new.example.com", "#f-object-name"] {
        assert!(answer.body.contains(text), "{text}: {}", answer.body);
    }
    assert!(file(&scene).contains("Annas") && !file(&scene).contains("Berta"));
    let again = Form::of(&answer);
    assert_eq!(again.get("object.address"), "new.example.com");
    assert_eq!(again.send(&mut second, "/objects/mx0").status, 303);
    assert!(file(&scene).contains("Bertas") && file(&scene).contains("new.example.com"));
}

/// Forms speak the language of the browser, up to the problems of their values.
#[test]
fn fields_and_problems_are_in_the_language_of_the_browser() {
    let (_scene, _server, mut client) = start();
    for (tag, about, problem) in [
        ("de", "Die längste Laufzeit, die als gut gilt. Von 100ms bis 1d.", "ist nicht kürzer als"),
        (
            "sv",
            "Den längsta leveranstiden som räknas som bra. Från 100ms till 1d.",
            "är inte kortare än",
        ),
    ] {
        client.headers = vec![("Accept-Language".to_owned(), tag.to_owned())];
        let form = edit(&mut client, "m00001").with("check_interval", "5m");
        let page = client.get("/monitors/lyon/m00001/edit").body;
        assert!(page.contains(about) && !page.contains("<p class=\"hint\" lang=\"en\">"), "{page}");
        let answer = send(&mut client, &form, "m00001");
        assert_eq!(wrong_fields(&answer), ["check_interval"]);
        assert!(answer.body.contains(problem), "{}", answer.body);
    }
}
