//! A headless Chromium for tests of the web console, driven over WebDriver (W3C WebDriver, level 2).
//!
//! The protocol is JSON over HTTP, so this small blocking client suffices; the crates for it depend
//! on an old HTTP library (`webdriver`) or on an asynchronous client for the sake of a few requests.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    console::{PASSWORD, Server},
    setting::PATIENCE,
};

/// Programs that drive Chromium, by the names of distributions.
const DRIVERS: [&str; 2] = ["chromedriver", "chromium.chromedriver"];
/// Programs that are Chromium, by the names of distributions.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
/// Version of axe-core that `tests/browser/axe` downloads.
pub const AXE_VERSION: &str = "4.14.1";
/// Name of elements in answers (W3C WebDriver, section 12.1).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Largest answer of the driver, in bytes: a screenshot.
const MAX_ANSWER: u64 = 64 << 20;
/// How often a condition is checked again.
const PAUSE: Duration = Duration::from_millis(50);

/// A browser with one window; dropping it ends the browser.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// Folder of downloaded files.
    downloads: TempDir,
    _profile: TempDir,
}

/// An element of a page.
#[derive(Debug, Clone)]
pub struct Element(String);

/// Returns the first of these programs in `PATH`.
fn find_program(names: &[&str]) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
    names
        .iter()
        .find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()))
}

/// Reports that a test is skipped because something is not installed.
///
/// # Panics
/// `MAILQOS_BROWSER` is set: the tests must then run.
fn skip(what: &str) {
    let text = format!("{what} is not installed; .ci/run installs it");
    assert!(std::env::var_os("MAILQOS_BROWSER").is_none(), "{text}");
    eprintln!("skipped: {text}");
}

/// Returns the script of axe-core: the file that `MAILQOS_AXE` names, or the one that
/// `tests/browser/axe` has downloaded. Without it, or if `MAILQOS_AXE` is `none`, reports that the
/// test is skipped.
///
/// # Panics
/// There is none, and `MAILQOS_BROWSER` is set.
pub fn axe() -> Option<String> {
    let path = std::env::var_os("MAILQOS_AXE").map(PathBuf::from).or_else(|| {
        let home = PathBuf::from(std::env::var_os("HOME")?);
        Some(home.join(format!(".cache/mailqos/axe-core-{AXE_VERSION}/axe.min.js")))
    });
    if path.as_deref() == Some(Path::new("none")) {
        eprintln!("skipped: axe-core could not be downloaded");
        return None;
    }
    let text = path.and_then(|path| std::fs::read_to_string(path).ok());
    if text.is_none() {
        skip("axe-core");
    }
    text
}

impl Browser {
    /// Starts a browser. Without one on this machine, reports that the test is skipped.
    ///
    /// # Panics
    /// It does not start; or there is none, and `MAILQOS_BROWSER` is set.
    pub fn start() -> Option<Self> {
        let (driver, browser) = (find_program(&DRIVERS), find_program(&BROWSERS));
        let Some((program, chromium)) = driver.zip(browser) else {
            skip("Chromium with chromedriver");
            return None;
        };
        let (profile, downloads) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let mut command = Command::new(program);
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        // The profile also keeps what the browser would write into the home folder.
        command.env("HOME", profile.path()).env("LC_ALL", "C.UTF-8");
        let mut driver = command.spawn().expect("chromedriver starts");
        let output = driver.stdout.take().expect("its output");
        let mut lines = BufReader::new(output).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("started successfully on port ")?;
            rest.trim_end_matches('.').parse().ok()
        });
        // Whatever it prints later must not block it.
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Self {
            driver,
            port: port.expect("the port of chromedriver"),
            session: String::new(),
            downloads,
            _profile: profile,
        };
        browser.open(&chromium);
        Some(browser)
    }

    fn open(&mut self, chromium: &Path) {
        let arguments = [
            "--headless=new",
            // Tests may run as root and in containers, where the sandbox is not available.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--lang=en",
            &format!("--user-data-dir={}", self._profile.path().display()),
            "--window-size=1400,1000",
        ];
        let body = json!({ "capabilities": { "alwaysMatch": {
            "acceptInsecureCerts": true,
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": {
                "binary": chromium,
                "args": arguments,
                "prefs": {
                    "intl.accept_languages": "en",
                    "download.default_directory": self.downloads.path(),
                    "download.prompt_for_download": false,
                    "plugins.always_open_pdf_externally": true,
                },
            },
        }}});
        let answer = self.call("POST", "/session", Some(&body)).expect("a session");
        self.session = answer["sessionId"].as_str().expect("its id").to_owned();
    }

    /// Sends a command of the session, and returns its value.
    ///
    /// # Panics
    /// The driver refuses it.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        self.call(method, &format!("/session/{}{path}", self.session), body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let text = |error: std::io::Error| error.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(text)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).map_err(text)?;
        let mut reader = BufReader::new(stream.take(MAX_ANSWER));
        let mut length = None;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).map_err(text)?;
            let Some((name, value)) = line.split_once(':') else {
                if line.trim().is_empty() {
                    break;
                }
                continue;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse::<usize>().ok();
            }
        }
        let mut bytes = vec![0; length.ok_or("an answer without a length")?];
        reader.read_exact(&mut bytes).map_err(text)?;
        let mut answer: Value =
            serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        let value = answer["value"].take();
        match value["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", value["message"])),
            None => Ok(value),
        }
    }

    /// Opens an address.
    pub fn go(&self, address: &str) {
        self.ask("POST", "/url", Some(&json!({ "url": address })));
    }

    /// Sets the password of a one-time link of a console, until the overview is shown.
    pub fn accept_link(&self, server: &Server, link: &str) {
        self.go(&format!("http://{}{link}", server.address));
        self.fill("input[name=password]", PASSWORD);
        self.fill("input[name=again]", PASSWORD);
        self.click_on("main form button");
        self.find("body.overview");
    }

    /// Returns the address of the page.
    pub fn address(&self) -> String {
        self.ask("GET", "/url", None).as_str().unwrap_or_default().to_owned()
    }

    /// Returns the elements that match a CSS selector now.
    pub fn all(&self, selector: &str) -> Vec<Element> {
        let body = json!({ "using": "css selector", "value": selector });
        let found = self.ask("POST", "/elements", Some(&body));
        let ids = found.as_array().into_iter().flatten();
        ids.filter_map(|element| element[ELEMENT].as_str().map(|id| Element(id.to_owned())))
            .collect()
    }

    /// Returns the first element that matches a CSS selector, once there is one.
    ///
    /// # Panics
    /// None appears in time.
    pub fn find(&self, selector: &str) -> Element {
        let mut found = None;
        self.wait_until(selector, |browser| {
            found = browser.all(selector).into_iter().next();
            found.is_some()
        });
        found.expect("an element")
    }

    /// Returns the first element of a selector whose text contains these words, once there is one.
    ///
    /// # Panics
    /// None appears in time.
    pub fn find_text(&self, selector: &str, words: &str) -> Element {
        let mut found = None;
        self.wait_until(&format!("{selector} with {words:?}"), |browser| {
            let mut all = browser.all(selector).into_iter();
            found = all.find(|element| browser.text(element).contains(words));
            found.is_some()
        });
        found.expect("an element")
    }

    /// Waits until a condition is met.
    ///
    /// # Panics
    /// It is not met in time.
    pub fn wait_until(&self, what: &str, mut is_met: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !is_met(self) {
            if begun.elapsed() > PATIENCE {
                panic!("no {what} on {}:\n{}", self.address(), self.text_of("body"));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Returns the visible text of an element; empty if the page has replaced it meanwhile.
    pub fn text(&self, element: &Element) -> String {
        let path = format!("/session/{}/element/{}/text", self.session, element.0);
        let text = self.call("GET", &path, None).unwrap_or_default();
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Returns the visible text of the first element of a selector; empty if there is none.
    pub fn text_of(&self, selector: &str) -> String {
        self.all(selector).first().map(|element| self.text(element)).unwrap_or_default()
    }

    /// Clicks on an element.
    pub fn click(&self, element: &Element) {
        self.ask("POST", &format!("/element/{}/click", element.0), Some(&json!({})));
    }

    /// Clicks on the first element of a selector, once there is one.
    pub fn click_on(&self, selector: &str) {
        self.click(&self.find(selector));
    }

    /// Types into the first element of a selector, instead of what it contains.
    pub fn fill(&self, selector: &str, text: &str) {
        let element = self.find(selector);
        self.ask("POST", &format!("/element/{}/clear", element.0), Some(&json!({})));
        self.type_into(&element, text);
    }

    /// Types into an element.
    pub fn type_into(&self, element: &Element, text: &str) {
        let body = json!({ "text": text });
        self.ask("POST", &format!("/element/{}/value", element.0), Some(&body));
    }

    /// Chooses the option with this value in the first list of a selector.
    pub fn choose(&self, selector: &str, value: &str) {
        self.click_on(&format!("{selector} option[value=\"{value}\"]"));
    }

    /// Runs a script, and returns its value.
    pub fn run(&self, script: &str) -> Value {
        self.ask("POST", "/execute/sync", Some(&json!({ "script": script, "args": [] })))
    }

    /// Runs a script that calls its last argument with the value.
    pub fn run_until_called(&self, script: &str) -> Value {
        self.ask("POST", "/execute/async", Some(&json!({ "script": script, "args": [] })))
    }

    /// Sets the size of the page, in CSS pixels: WebDriver's own command can't make narrow windows.
    pub fn resize(&self, width: u32, height: u32) {
        let is_phone = width < 600;
        let parameters = json!({ "width": width, "height": height, "deviceScaleFactor": 1,
            "mobile": is_phone });
        self.devtools("Emulation.setDeviceMetricsOverride", &parameters);
    }

    /// Sets the appearance that the device prefers.
    pub fn prefer_dark(&self, is_dark: bool) {
        let value = if is_dark { "dark" } else { "light" };
        let parameters = json!({ "features": [
            { "name": "prefers-color-scheme", "value": value },
            // Contrast is measured on finished pages, not during a transition.
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]});
        self.devtools("Emulation.setEmulatedMedia", &parameters);
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.ask("POST", "/goog/cdp/execute", Some(&body))
    }

    /// Reads the first frame of a selector: what follows is about its document, until
    /// [`Browser::leave_frame`].
    pub fn enter_frame(&self, selector: &str) {
        let Element(id) = self.find(selector);
        self.ask("POST", "/frame", Some(&json!({ "id": { ELEMENT: id } })));
    }

    /// Returns to the page around the frame.
    pub fn leave_frame(&self) {
        self.ask("POST", "/frame", Some(&json!({ "id": null })));
    }

    /// Returns a picture of the page as PNG.
    ///
    /// # Panics
    /// The driver sends something else.
    pub fn picture(&self) -> Vec<u8> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let text = self.ask("GET", "/screenshot", None);
        STANDARD.decode(text.as_str().expect("a picture")).expect("Base64")
    }

    /// Returns a picture of the whole page, at most 4,000 pixels high, as PNG.
    ///
    /// # Panics
    /// The driver sends something else.
    pub fn whole_picture(&self) -> Vec<u8> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let size = self.run(
            "return [document.documentElement.clientWidth, document.documentElement.scrollHeight];",
        );
        let parameters = json!({ "format": "png", "captureBeyondViewport": true, "clip": {
            "x": 0, "y": 0, "scale": 1, "width": size[0],
            "height": size[1].as_u64().unwrap_or(900).min(4_000),
        }});
        let answer = self.devtools("Page.captureScreenshot", &parameters);
        STANDARD.decode(answer["data"].as_str().expect("a picture")).expect("Base64")
    }

    /// Returns errors that scripts and the page have logged since the last call: uncaught
    /// exceptions, and what the Content-Security-Policy has refused.
    pub fn errors(&self) -> Vec<String> {
        let entries = self.ask("POST", "/se/log", Some(&json!({ "type": "browser" })));
        let entries = entries.as_array().into_iter().flatten();
        entries
            .filter(|entry| entry["level"] == "SEVERE")
            .filter_map(|entry| entry["message"].as_str().map(str::to_owned))
            .collect()
    }

    /// Returns the first downloaded file with this extension, once it is complete.
    ///
    /// # Panics
    /// None appears in time.
    pub fn downloaded(&self, extension: &str) -> PathBuf {
        let mut found = None;
        self.wait_until(&format!("downloaded .{extension}"), |browser| {
            let files = std::fs::read_dir(browser.downloads.path()).expect("a folder");
            let mut paths = files.flatten().map(|entry| entry.path());
            found = paths.find(|path| path.extension().is_some_and(|it| it == extension));
            found.is_some()
        });
        found.expect("a file")
    }

    /// Returns what axe-core finds serious on the page: rule, its help, and the elements.
    ///
    /// # Panics
    /// axe-core fails.
    pub fn serious_findings(&self, axe: &str) -> Vec<String> {
        self.run(&format!("{axe}\n;window.axe = axe;"));
        let found = self.run_until_called(
            "const done = arguments[arguments.length - 1];
             axe.run(document, { resultTypes: ['violations'] }).then(
               result => done({ violations: result.violations
                 .filter(it => ['serious', 'critical'].includes(it.impact))
                 .map(it => `${it.id}: ${it.help}: ` + it.nodes.slice(0, 5)
                   .map(node => node.html.slice(0, 200) + ' ' + (node.any[0]?.message ?? '')).join(' | ')),
                 passes: result.passes.length }),
               error => done({ error: String(error) }));",
        );
        assert!(found["error"].is_null(), "axe-core failed: {found}");
        // Without this, a page on which nothing was checked would be faultless.
        assert!(
            found["passes"].as_u64().is_some_and(|count| count > 0),
            "nothing checked: {found}"
        );
        let violations = found["violations"].as_array().into_iter().flatten();
        violations.filter_map(|text| text.as_str().map(str::to_owned)).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            if std::thread::panicking() {
                eprintln!("the browser shows {}", self.address_or_nothing());
            }
            let _ = self.call("DELETE", &format!("/session/{}", self.session), None);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

impl Browser {
    fn address_or_nothing(&self) -> String {
        let path = format!("/session/{}/url", self.session);
        let address = self.call("GET", &path, None).unwrap_or_default();
        address.as_str().unwrap_or_default().to_owned()
    }
}
