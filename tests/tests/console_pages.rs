//! Explanations, accounts, forms and zoom of the console in a real browser. The tests are skipped
//! where it is not installed, unless `MAILQOS_BROWSER` is set.

#![cfg(unix)]
#![allow(clippy::expect_used, missing_docs)]

use jiff::Timestamp;
use mailqos_tests::{
    browser::{self, Browser},
    console::Scene,
};

/// Moves the pointer over the first chart, from one share of its plot to another.
fn drag(browser: &Browser, from: f64, to: f64) {
    browser.run(&format!(
        "const figure = document.querySelector('figure[data-from]'), svg = figure.querySelector('svg');
         svg.scrollIntoView({{ block: 'center' }});
         const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
         const [left, right] = [Number(figure.dataset.left), Number(figure.dataset.right)];
         const at = (type, share, buttons) => {{
           const clientX = box.left + (left + share * (right - left)) * scale;
           const clientY = box.top + box.height / 2;
           svg.dispatchEvent(new PointerEvent(type, {{ clientX, clientY, buttons, button: 0, pointerType: 'mouse', bubbles: true, cancelable: true }}));
         }};
         at('pointerdown', {from}, 1);
         at('pointermove', {to}, 1);
         at('pointerup', {to}, 0);"
    ));
}

/// Returns the ends of the period of the address.
fn ends(browser: &Browser) -> Option<(Timestamp, Timestamp)> {
    let address = browser.address();
    let (_, query) = address.split_once("?from=")?;
    let (from, to) = query.split_once("&to=")?;
    let read = |text: &str| text.replace("%3A", ":").parse::<Timestamp>().ok();
    read(from).zip(read(to))
}

/// Zoomed to other times than those of the marked span: elastic/kibana#47380,
/// home-assistant/frontend#24588, centreon/centreon-archived#8286. A click without a drag began the
/// next one: Kong/public-ui-components#3715.
#[test]
fn a_span_of_a_chart_is_dragged_and_a_part_is_clicked() {
    let Some(browser) = Browser::start() else { return };
    let scene = Scene::new(2, 9);
    let server = scene.serve();
    browser.accept_link(&server, &server.welcome());
    // A whole week in the past, so that its ends are known.
    let to = Timestamp::now().round(jiff::Unit::Hour).expect("a time");
    let hours = |count: i64| to - jiff::SignedDuration::from_hours(count);
    let page =
        format!("http://{}/monitors/lyon/m00000?from={}&to={to}", server.address, hours(168));
    browser.go(&page);
    browser.find("#figures figure[data-from] svg");
    drag(&browser, 0.25, 0.75);
    browser.wait_until("the zoom", |browser| {
        ends(browser).is_some_and(|(from, _)| from != hours(168))
    });
    let (from, until) = ends(&browser).expect("a period");
    let near = |one: Timestamp, other: Timestamp| {
        one.duration_since(other).abs() <= jiff::SignedDuration::from_mins(40)
    };
    assert!(near(from, hours(126)) && near(until, hours(42)), "{from} {until}");
    // Backwards, and beyond the edge.
    browser.go(&page);
    browser.find("#figures figure[data-from] svg");
    drag(&browser, 0.5, -0.2);
    browser.wait_until("the zoom", |browser| ends(browser).is_some_and(|(_, end)| end != to));
    let (from, until) = ends(&browser).expect("a period");
    assert!(near(from, hours(168)) && near(until, hours(84)), "{from} {until}");
    // A click leads to the part that is drawn there: a day of a week.
    browser.go(&page);
    browser.find("#figures figure[data-from] svg");
    drag(&browser, 0.5, 0.5);
    browser.wait_until("the part", |browser| {
        ends(browser).is_some_and(|(from, _)| from != hours(168))
    });
    let (from, until) = ends(&browser).expect("a period");
    assert!(from <= hours(84) && hours(84) <= until, "{from} {until}");
    assert!(until.duration_since(from) <= jiff::SignedDuration::from_hours(25), "{from} {until}");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn axe_finds_nothing_serious_on_explanations_accounts_and_forms() {
    let Some(browser) = Browser::start() else { return };
    let axe = browser::axe();
    let scene = Scene::new(6, 2);
    let text = "title = \"Nested\"\nperiod = \"last-7d\"\n\n[[section]]\nkind = \"columns\"\n\
        [[section.column]]\n[[section.column.section]]\nkind = \"outages\"\n\
        [[section.column]]\n[[section.column.section]]\nkind = \"alarms\"\n";
    std::fs::create_dir_all(scene.setting.path("reports")).expect("a folder");
    std::fs::write(scene.setting.path("reports/nested.toml"), text).expect("written");
    let server = scene.serve();
    browser.accept_link(&server, &server.welcome());
    let mut findings = Vec::new();
    for path in [
        "/monitors/lyon/m00001?period=week",
        "/monitors/lyon/m00001/explain?figure=availability&period=week",
        "/accounts",
        "/objects",
        "/objects/mx0",
        "/monitors/lyon/m00001/edit",
        "/reports/definitions",
        "/reports/definitions/nested",
    ] {
        browser.go(&format!("http://{}{path}", server.address));
        for (is_dark, width) in [(false, 390), (false, 1_400), (true, 390), (true, 1_400)] {
            browser.prefer_dark(is_dark);
            browser.resize(width, 900);
            let wider = browser.run(
                "return document.documentElement.scrollWidth - document.documentElement.clientWidth;",
            );
            if wider.as_i64().is_some_and(|by| by > 0) {
                findings.push(format!("{path} {width}: {wider} pixels too wide"));
            }
            let serious = axe.iter().flat_map(|axe| browser.serious_findings(axe));
            findings.extend(serious.map(|found| format!("{path} {width} dark={is_dark}: {found}")));
            if let Some(folder) = std::env::var_os("MAILQOS_PICTURES") {
                let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
                let name: String = path.chars().map(plain).take(40).collect();
                let file = format!("{name}-{width}-{is_dark}.png");
                std::fs::write(std::path::Path::new(&folder).join(file), browser.picture())
                    .expect("written");
            }
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}
