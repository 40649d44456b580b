//! Reports in the web console: the gallery, reports for selected monitors, their files, and what
//! users who are restricted to tags can't get.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use std::{process::Command, time::Instant};

use mailqos_tests::{
    console::{Client, Scene},
    setting::PATIENCE,
};
use serde_json::Value;

/// Waits until a report is over, and returns its last state.
fn finished(client: &mut Client, address: &str) -> Value {
    let id = address.strip_prefix("/reports/made/").expect("the address of a report");
    let begun = Instant::now();
    loop {
        let answer = client.get(&format!("/api/v1/reports/made/{id}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let report = answer.json();
        if report["is_over"] == true {
            return report;
        }
        assert!(begun.elapsed() < PATIENCE * 4, "not finished: {report}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// Asks for a report, and returns its address.
fn ask(client: &mut Client, template: &str, fields: &[(&str, &str)]) -> String {
    let form = format!("/reports/templates/{template}");
    let answer = client.send_form(&form, &form, fields);
    assert_eq!(answer.status, 303, "{}", answer.body);
    answer.header("location").to_owned()
}

/// What a program prints about a file.
fn printed(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_report_for_selected_monitors_is_viewed_and_downloaded() {
    let scene = Scene::new(6, 3);
    let server = scene.serve();
    let mut client = server.administrator();
    let gallery = client.get("/reports").body;
    for words in ["Mail quality", "Monthly operations report", "/assets/trend-", "Service-level"] {
        assert!(gallery.contains(words), "{words}: {gallery}");
    }
    // The search keeps what is typed and chosen.
    let form = "/reports/templates/monthly-operations";
    let fields = [
        ("action", "search"),
        ("q", "Köln"),
        ("monitor", "lyon/m00001"),
        ("period", "last-month"),
        ("from", "2026-11-01"),
    ];
    let page = client.send_form(form, form, &fields).body;
    assert!(page.contains("value=\"lyon/m00001\" checked"), "{page}");
    assert!(page.contains("value=\"lyon/m00002\"") && !page.contains("value=\"lyon/m00003\""));
    assert!(page.contains("<option value=\"last-month\" selected>"), "{page}");
    assert!(page.contains("value=\"2026-11-01\""), "{page}");

    let fields = [
        ("action", "view"),
        ("which", "some"),
        ("monitor", "lyon/m00001"),
        ("monitor", "lyon/m00004"),
        ("period", "last-7d"),
        ("language", "de"),
    ];
    let address = ask(&mut client, "monthly-operations", &fields);
    let report = finished(&mut client, &address);
    assert_eq!(report["state"], "done", "{report}");
    let page = client.get(&address);
    let policy = page.header("content-security-policy").to_owned();
    assert!(policy.contains("frame-src 'self'") && !policy.contains("unsafe"), "{policy}");
    assert!(page.body.contains("<iframe") && page.body.contains("sandbox="), "{}", page.body);
    let view = client.get(&format!("{address}/view"));
    let policy = view.header("content-security-policy").to_owned();
    assert!(policy.starts_with("sandbox; default-src 'none'"), "{policy}");
    assert_eq!(view.header("x-frame-options"), "SAMEORIGIN");
    for (words, is_there) in
        [("Malmö 1", true), ("Porto 4", true), ("Köln 2", false), ("Verfügbarkeit", true)]
    {
        assert_eq!(view.body.contains(words), is_there, "{words}");
    }

    let folder = scene.setting.path("downloads");
    std::fs::create_dir_all(&folder).expect("a folder");
    let files = report["files"].as_array().expect("files").clone();
    let formats: Vec<&str> = files.iter().filter_map(|file| file["format"].as_str()).collect();
    assert_eq!(formats, ["html", "pdf", "xlsx", "csv", "json"]);
    for file in &files {
        let (answer, bytes) = client.download(file["href"].as_str().expect("an address"));
        assert_eq!(answer.status, 200);
        assert_eq!(Some(bytes.len() as u64), file["bytes"].as_u64());
        let disposition = answer.header("content-disposition");
        assert!(disposition.starts_with("attachment; filename=\"monthly-operations-"));
        let path = folder.join(format!("report.{}", file["format"].as_str().expect("a format")));
        std::fs::write(&path, bytes).expect("written");
    }
    let path = |name: &str| folder.join(name).display().to_string();
    let text = printed("pdftotext", &["-layout", &path("report.pdf"), "-"]);
    assert!(text.contains("Malmö 1") && text.contains("Porto 4"), "{text}");
    assert!(!text.contains("Köln 2"), "{text}");
    let parts = printed("unzip", &["-l", &path("report.xlsx")]);
    assert!(parts.contains("xl/workbook.xml"), "{parts}");
    let csv = std::fs::read_to_string(path("report.csv")).expect("CSV");
    assert!(csv.contains("Malmö 1") && !csv.contains("Köln 2"));
    let json = std::fs::read(path("report.json")).expect("JSON");
    let json: Value = serde_json::from_slice(&json).expect("valid JSON");
    assert!(json.to_string().contains("Porto 4"));
    // It is in the list, and the form shows the choices again.
    assert!(client.get("/reports").body.contains(&address));
    let (_, rest) = page.body.split_once("<p class=\"after\"><a href=\"").expect("a link");
    let again = rest.split('"').next().expect("its end").replace("&amp;", "&");
    let form = client.get(&again).body;
    assert!(form.contains("value=\"lyon/m00004\" checked"), "{form}");
}

#[test]
fn wrong_choices_are_reported_together_and_kept() {
    let scene = Scene::new(3, 1);
    let server = scene.serve();
    let mut client = server.administrator();
    let form = "/reports/templates/trend";
    let fields = [
        ("which", "some"),
        ("from", "2026-11-30"),
        ("to", "2026-11-01"),
        ("language", "xx"),
        ("q", "\"><script>alert(1)</script>"),
    ];
    let page = client.send_form(form, form, &fields);
    assert_eq!(page.status, 422);
    for words in [
        "Choose at least one monitor.",
        "This is not a period",
        "Choose one of these languages.",
        "value=\"2026-11-30\"",
        "&lt;script&gt;",
    ] {
        assert!(page.body.contains(words), "{words}: {}", page.body);
    }
    assert!(!page.body.contains("<script>alert"));
    // Without a token of the page, or with monitors and templates that don't exist.
    assert_eq!(client.post(form, &[("which", "all")]).status, 403);
    for monitor in ["lyon/none", "m00001", "../m00001", "lyon/*"] {
        let fields = [("which", "some"), ("monitor", monitor)];
        assert_eq!(client.send_form(form, form, &fields).status, 404, "{monitor}");
    }
    for name in ["none", "..%2F..%2Fusers", "trend%00", "%2e%2e"] {
        let status = client.get(&format!("/reports/templates/{name}")).status;
        assert!(matches!(status, 400 | 404), "{name}: {status}");
    }
}

#[test]
fn a_restricted_user_gets_reports_of_own_monitors_only() {
    let scene = Scene::new(12, 2);
    let server = scene.serve();
    let mut admin = server.administrator();
    let mut viewer = server.user(&mut admin, "vera", "viewer", "borealis");
    // Monitors m00004 to m00007 are those with the tag.
    let form = "/reports/templates/monthly-operations";
    let page = viewer.get(form).body;
    assert!(page.contains("lyon/m00004") && page.contains("All 4 monitors"), "{page}");
    for hidden in ["m00003", "acme", "corvus", "Porto mail"] {
        assert!(!page.contains(hidden), "{hidden}: {page}");
    }
    for monitor in ["lyon/m00003", "lyon/m00011"] {
        let fields = [("which", "some"), ("monitor", "lyon/m00004"), ("monitor", monitor)];
        assert_eq!(viewer.send_form(form, form, &fields).status, 404, "{monitor}");
    }
    let address = ask(&mut viewer, "monthly-operations", &[("which", "all")]);
    let report = finished(&mut viewer, &address);
    assert_eq!(report["state"], "done", "{report}");
    let view = viewer.get(&format!("{address}/view")).body;
    for id in 0..12 {
        let name = ["Lyon", "Malmö", "Köln", "Graz", "Porto", "Łódź", "Tartu", "Cork"][id % 8];
        let is_own = (4..8).contains(&id);
        let is_there =
            view.contains(&format!("{name} {id}<")) || view.contains(&format!("m{id:05}"));
        assert_eq!(is_there, is_own, "{name} {id}");
    }
    assert!(!view.contains("acme") && !view.contains("corvus"));
    // No one else sees the report, not even an administrator; and it is gone with other rights.
    let id = address.strip_prefix("/reports/made/").expect("an id");
    for path in [address.clone(), format!("{address}/view"), format!("/api/v1/reports/made/{id}")] {
        assert_eq!(admin.get(&path).status, 404, "{path}");
        assert_eq!(viewer.get(&path).status, 200, "{path}");
    }
    let file = report["files"][0]["href"].as_str().expect("an address").to_owned();
    assert_eq!(admin.get(&file).status, 404);
    assert_eq!(server.client().get(&file).status, 401);
    let fields = [
        ("action", "change"),
        ("name", "vera"),
        ("role", "viewer"),
        ("scope", "tags"),
        ("tags", "corvus"),
    ];
    assert_eq!(admin.send_form("/users", "/users", &fields).status, 303);
    assert_eq!(viewer.get(&address).status, 404);
    assert_eq!(viewer.get(&file).status, 404);
}

#[test]
fn hostile_names_of_monitors_and_templates_stay_text() {
    let mut scene = Scene::new(3, 1);
    scene.setting.replace("name = \"Lyon 0\"", "name = \"<img src=x onerror=alert(1)>\"");
    // hhurz/tableExport.jquery.plugin#230.
    scene.setting.replace("name = \"Malmö 1\"", "name = \"=cmd|' /C calc'!A0\"");
    scene.setting.write();
    let templates = scene.setting.path("templates");
    std::fs::create_dir_all(&templates).expect("a folder");
    let text = "title = \"<b>Own</b>\"\ndescription = \"\\\"><script>alert(2)</script>\"\n\
        [[section]]\nkind = \"availability-table\"\n";
    std::fs::write(templates.join("own's & <x>.toml"), text).expect("written");
    std::fs::write(templates.join("broken.toml"), "title = 1\n").expect("written");
    let server = scene.serve();
    let mut client = server.administrator();
    let gallery = client.get("/reports").body;
    assert!(!gallery.contains("<script>alert") && !gallery.contains("<b>Own"), "{gallery}");
    assert!(gallery.contains("&lt;b&gt;Own"), "{gallery}");
    assert!(gallery.contains("This template has errors"), "{gallery}");
    assert_eq!(client.get("/reports/templates/broken").status, 400);
    let form = "/reports/templates/own%27s%20%26%20%3Cx%3E";
    assert!(client.get(form).body.contains("&lt;img src=x"));
    let answer = client.send_form(form, form, &[("which", "all"), ("period", "last-7d")]);
    assert_eq!(answer.status, 303, "{}", answer.body);
    let address = answer.header("location").to_owned();
    let report = finished(&mut client, &address);
    assert_eq!(report["state"], "done", "{report}");
    let file = report["files"][0]["href"].as_str().expect("an address").to_owned();
    let answer = client.get(&file);
    assert_eq!(answer.status, 200);
    // GhostManager/Ghostwriter#497.
    let disposition = answer.header("content-disposition");
    assert!(disposition.bytes().all(|byte| (32..127).contains(&byte)), "{disposition}");
    let is_csv = |file: &&Value| file["format"] == "csv";
    let csv = report["files"].as_array().expect("files").iter().find(is_csv).expect("CSV");
    let csv = client.get(csv["href"].as_str().expect("an address")).body;
    assert!(csv.contains("'=cmd|") && !csv.contains(",=cmd|") && !csv.contains("\n=cmd|"), "{csv}");
    // A restricted user does not see custom templates, whose texts may name other customers.
    let mut viewer = server.user(&mut client, "vera", "viewer", "acme");
    assert!(!viewer.get("/reports").body.contains("Own"));
    assert_eq!(viewer.get(form).status, 404);
}

#[test]
fn programs_make_reports_with_a_token() {
    let scene = Scene::new(3, 2);
    let server = scene.serve();
    let mut client = server.administrator();
    let page =
        client.send_form("/account", "/account", &[("action", "add-token"), ("name", "scripts")]);
    let (_, rest) = page.body.split_once("value=\"mailqos_").expect("a token");
    let token = format!("mailqos_{}", rest.split('"').next().expect("its end"));
    let fields = [("template", "top-bottom"), ("monitor", "lyon/m00001"), ("period", "last-7d")];
    // A session alone is not enough: another site could send this form.
    assert_eq!(client.post("/api/v1/reports", &fields).status, 403);
    let mut program = server.client();
    program.headers = vec![("Authorization".to_owned(), format!("Bearer {token}"))];
    let templates = program.get("/api/v1/reports/templates").json();
    assert_eq!(templates.as_array().map(Vec::len), Some(9));
    let answer = program.post("/api/v1/reports", &fields);
    assert_eq!(answer.status, 202, "{}", answer.body);
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    let report = finished(&mut program, &format!("/reports/made/{id}"));
    assert_eq!(report["state"], "done", "{report}");
    let pdf = program.download(report["files"][1]["href"].as_str().expect("an address")).1;
    assert!(pdf.starts_with(b"%PDF-"));
    let answer = program.post("/api/v1/reports", &[("template", "trend"), ("period", "soon")]);
    assert_eq!(answer.status, 422);
    assert!(answer.json()["period"].as_str().is_some());
    // A configuration that was broken since is reported, and the console keeps working.
    let file = scene.setting.path("mailqos.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, format!("{text}\n[monitor.broken]\nobject = \"none\"\n"))
        .expect("written");
    let answer = program.post("/api/v1/reports", &fields);
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    let report = finished(&mut program, &format!("/reports/made/{id}"));
    assert_eq!(report["state"], "failed", "{report}");
    assert!(report["reason"].as_str().is_some_and(|it| it.contains("none")), "{report}");
    assert_eq!(program.get("/api/v1/monitors").status, 200);
    let paths = &program.get("/api/v1/openapi.json").json()["paths"];
    assert!(paths["/api/v1/reports"]["post"].is_object(), "{paths}");
}
