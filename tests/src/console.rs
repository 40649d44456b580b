//! A console to talk to: a lake of the last days, a published status, the real program, and a
//! client that keeps cookies as a browser does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use mailqos_lake::{
    AcknowledgementStatus, AlarmStatus, LastTest, MaintenanceStatus, MonitorState, MonitorStatus,
    ProbeStatus, STATUS_VERSION, Status,
};
use mailqos_model::{Micros, MonitorId, Outcome, SiteName, Stage, UtcMicros};

use crate::{
    setting::{PATIENCE, Setting},
    simulation::{self, Habits},
};

/// Site of the scene.
pub const SITE: &str = "lyon";
/// Tags of the monitors, by turns: of customers, say.
pub const TAGS: [&str; 3] = ["acme", "borealis", "corvus"];
/// Password of all users.
pub const PASSWORD: &str = "correct horse battery staple";

/// A folder with a configuration, samples and a status.
pub struct Scene {
    /// The folder.
    pub setting: Setting,
    /// Ids of the monitors.
    pub ids: Vec<String>,
}

/// Names of servers.
const PLACES: [&str; 8] = ["Lyon", "Malmö", "Köln", "Graz", "Porto", "Łódź", "Tartu", "Cork"];

impl Scene {
    /// A scene of monitors, with samples of the last days.
    ///
    /// # Panics
    /// It can't be written.
    pub fn new(monitors: usize, days: i64) -> Self {
        let mut setting = Setting::new(SITE);
        setting.replace("test_interval = \"5s\"", "test_interval = \"5m\"\nkind = \"mail-qos\"");
        setting.replace("max_round_trip = \"3s\"", "max_round_trip = \"30s\"");
        setting.replace("horizon = \"6s\"", "horizon = \"1h\"");
        let mut text = String::new();
        let objects = monitors.div_ceil(4).max(1);
        for object in 0..objects {
            let place = PLACES[object % PLACES.len()];
            writeln!(
                text,
                "[object.mx{object}]\nname = \"{place} mail {object}\"\naddress = \"mx{object}.example.com\"\n\
                 tags = [\"{}\"]",
                TAGS[object % TAGS.len()]
            )
            .expect("writing into a string");
        }
        let mut ids = Vec::new();
        for number in 0..monitors {
            let id = format!("m{number:05}");
            writeln!(
                text,
                "[monitor.{id}]\nname = \"{} {number}\"\nobject = \"mx{}\"\nfrom = \"a@example.com\"\n\
                 to = \"b@example.com\"\nsmtp = {{ port = 465, tls = \"implicit\" }}\npickup = {{ port = 995, tls = \"implicit\", account = \"probe\" }}",
                PLACES[number % PLACES.len()],
                number / 4
            )
            .expect("writing into a string");
            ids.push(id);
        }
        setting.add(&text);
        setting.write();
        let scene = Self { setting, ids };
        scene.write_samples(days);
        scene.publish(|_| {});
        scene
    }

    fn write_samples(&self, days: i64) {
        let zone = jiff::tz::TimeZone::get("Europe/Stockholm").expect("a zone");
        let now = UtcMicros::now();
        let site: SiteName = SITE.parse().expect("a name");
        let mut all = Vec::new();
        for (number, id) in self.ids.iter().enumerate() {
            let median = 0.8 + (number * 7 % 11) as f64 * 0.35;
            let mut habits = Habits::calm(id.parse().expect("an id"), median);
            if number % 9 == 1 {
                let text = "connection refused by mx.example.com:25";
                habits.outage = Some((0, 3, 95, Outcome::SmtpFailed, Stage::SmtpConnect, text));
            }
            if number % 7 == 3 {
                habits.maintenance = Some((0, 1, 120));
                habits.late = 0.02;
            }
            let from = now - Micros::from_secs(days * 86_400);
            all.extend(simulation::samples(&habits, 7, &zone, from, now));
        }
        simulation::write(&self.setting.data(), &site, all).expect("samples");
    }

    /// Publishes a status with states of all kinds, changed as wanted.
    ///
    /// # Panics
    /// It can't be written.
    pub fn publish(&self, change: impl FnOnce(&mut Status)) {
        let mut status = status(&self.ids);
        change(&mut status);
        status.publish(&self.setting.data()).expect("a status");
    }

    /// Starts the console on a free port.
    ///
    /// # Panics
    /// It does not start.
    pub fn serve(&self) -> Server {
        self.serve_with(&["--listen", "127.0.0.1:0", "--no-schedule"])
    }

    /// Starts the console with these arguments.
    ///
    /// # Panics
    /// It does not start.
    pub fn serve_with(&self, arguments: &[&str]) -> Server {
        let log = self.setting.path("console.log");
        let mut command = self.setting.command("mailqos-analytics");
        Server::start(command.arg("serve").args(arguments), &log)
    }
}

/// A status of these monitors, with states of all kinds.
fn status(ids: &[String]) -> Status {
    let now = UtcMicros::now();
    let ago = |seconds: i64| (now - Micros::from_secs(seconds)).timestamp();
    let monitor = |(number, id): (usize, &String)| {
        let mut monitor = MonitorStatus {
            id: id.parse::<MonitorId>().expect("an id"),
            name: format!("{} {number}", PLACES[number % PLACES.len()]),
            object: format!("mx{}", number / 4).parse().expect("an id"),
            state: MonitorState::Ok,
            failing_since: None,
            failures: 0,
            reason: None,
            last: Some(LastTest {
                started_at: ago(number as i64 % 240 + 10),
                outcome: "ok".to_owned(),
                round_trip_us: Some(800_000 + (number as i64 * 7 % 11) * 350_000),
                round_trip_error_us: Some(20_000),
            }),
            last_ok: Some(ago(number as i64 % 240 + 10)),
            next: Some((now + Micros::from_secs(120)).timestamp()),
            alarm: None,
            maintenance: None,
            unsent: 0,
        };
        match number % 40 {
            3 | 11 => {
                monitor.state = MonitorState::Alarm;
                monitor.failures = 9;
                monitor.failing_since = Some(ago(3_000));
                monitor.last_ok = Some(ago(3_300));
                monitor.reason =
                    Some("SMTP connection: mx.example.com:25 refused the connection".to_owned());
                let last = monitor.last.as_mut().expect("a test");
                (last.outcome, last.round_trip_us) = ("smtp_failed".to_owned(), None);
                let acknowledged = (number % 40 == 11).then(|| AcknowledgementStatus {
                    by: "Anna Åberg".to_owned(),
                    at: ago(1_200),
                    note: Some("the provider is informed".to_owned()),
                });
                let since = ago(2_400);
                monitor.alarm =
                    Some(AlarmStatus { since, notified_at: Some(ago(2_390)), acknowledged });
            }
            6 => {
                monitor.state = MonitorState::Failed;
                monitor.failures = 1;
                monitor.failing_since = Some(ago(200));
                monitor.reason = Some("the mail is late: not in the mailbox after 30 s".to_owned());
            }
            14 => {
                monitor.state = MonitorState::Maintenance;
                monitor.maintenance = Some(MaintenanceStatus {
                    name: "patching".to_owned(),
                    until: (now + Micros::from_secs(5_400)).timestamp(),
                    reason: Some("new firmware".to_owned()),
                });
            }
            22 => monitor.state = MonitorState::Disabled,
            _ => {}
        }
        monitor
    };
    Status {
        version: STATUS_VERSION,
        site: SITE.parse().expect("a name"),
        written_at: now.timestamp(),
        interval_s: 3_600,
        probe: ProbeStatus { running: true, program: "0.1.0".to_owned(), ..ProbeStatus::default() },
        monitors: ids.iter().enumerate().map(monitor).collect(),
        channels: BTreeMap::new(),
    }
}

/// A running console; dropping it kills it.
pub struct Server {
    child: Child,
    log: std::path::PathBuf,
    /// Address that it listens on: `127.0.0.1:PORT`.
    pub address: String,
}

impl Server {
    /// Starts a console and waits until it listens.
    ///
    /// # Panics
    /// It does not start.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let earlier = std::fs::read_to_string(log).unwrap_or_default().len();
        let open = || {
            std::fs::File::options().create(true).append(true).open(log).expect("the console's log")
        };
        let child = command.stdout(Stdio::null()).stderr(open()).spawn();
        let mut child = child.expect("the console starts");
        let begun = Instant::now();
        loop {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let new = text.get(earlier..).unwrap_or_default();
            let line = new.lines().find(|line| line.contains("console started"));
            let address = line.and_then(|line| line.split("address=").nth(1));
            if let Some(address) = address.and_then(|rest| rest.split_whitespace().next()) {
                return Self { child, log: log.to_owned(), address: address.to_owned() };
            }
            assert!(child.try_wait().expect("its state").is_none(), "the console ended:\n{text}");
            assert!(begun.elapsed() < PATIENCE, "the console does not start:\n{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The path of the last one-time link in its log.
    ///
    /// # Panics
    /// There is none.
    pub fn welcome(&self) -> String {
        let begun = Instant::now();
        loop {
            let log = self.log();
            if let Some((_, token)) = log.rsplit_once("/welcome/")
                && let Some((token, _)) = token.split_once('\n')
            {
                return format!("/welcome/{token}");
            }
            assert!(begun.elapsed() < PATIENCE, "no link in the log:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A client that is not signed in.
    pub fn client(&self) -> Client {
        Client { address: self.address.clone(), cookies: BTreeMap::new(), headers: Vec::new() }
    }

    /// A client that has set up the administrator `admin`.
    ///
    /// # Panics
    /// It can't.
    pub fn administrator(&self) -> Client {
        let mut client = self.client();
        client.accept_link(&self.welcome(), Some("admin"));
        client
    }

    /// Adds a user as an administrator, and returns a client that is signed in as that user.
    ///
    /// # Panics
    /// It can't.
    pub fn user(&self, administrator: &mut Client, name: &str, role: &str, tags: &str) -> Client {
        let scope = if tags.is_empty() { "all" } else { "tags" };
        let fields =
            [("action", "add"), ("name", name), ("role", role), ("scope", scope), ("tags", tags)];
        let page = administrator.send_form("/users", "/users", &fields);
        assert_eq!(page.status, 200, "{}", page.body);
        let (_, rest) = page.body.split_once("/welcome/").expect("a link");
        let token = rest.split('"').next().expect("its end");
        let mut client = self.client();
        client.accept_link(&format!("/welcome/{token}"), None);
        client
    }

    /// Tells it to end (SIGTERM) and waits for that.
    ///
    /// # Panics
    /// It does not end in time.
    pub fn stop(mut self) -> std::process::ExitStatus {
        crate::setting::signal(self.child.id(), "TERM");
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "the console does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the console said:\n{}", self.log());
        }
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Header fields: names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body as text.
    pub body: String,
}

impl Answer {
    /// The first header field of a name; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// It is not.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The token of the first form on the page.
    ///
    /// # Panics
    /// There is none.
    pub fn csrf(&self) -> String {
        let (_, rest) = self.body.split_once("name=\"csrf\" value=\"").expect("a form");
        rest.split('"').next().expect("its end").to_owned()
    }

    /// The keys of the monitors on the page.
    pub fn keys(&self) -> BTreeSet<String> {
        let keys = self.body.split("data-key=\"").skip(1);
        keys.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
    }
}

/// A client that keeps cookies as a browser does. Each request has its own connection.
#[derive(Debug, Clone)]
pub struct Client {
    /// Address of the console.
    pub address: String,
    /// Cookies.
    pub cookies: BTreeMap<String, String>,
    /// Header fields of all requests.
    pub headers: Vec<(String, String)>,
}

/// Encodes a form.
pub fn encode(fields: &[(&str, &str)]) -> String {
    let escape = |text: &str| -> String {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        };
        text.bytes().map(byte).collect()
    };
    let pairs = fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value)));
    pairs.collect::<Vec<_>>().join("&")
}

impl Client {
    /// Sends bytes as they are, and returns the answer.
    ///
    /// # Panics
    /// The console does not answer in time.
    pub fn raw(&self, request: &[u8]) -> Answer {
        parse(&self.bytes(request))
    }

    fn bytes(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        // The console may refuse before it has read all.
        let _ = stream.write_all(request);
        let mut bytes = Vec::new();
        if let Err(error) = stream.read_to_end(&mut bytes) {
            assert!(!bytes.is_empty(), "no answer: {error}");
        }
        bytes
    }

    /// Gets a file; returns the answer and the bytes of the file.
    ///
    /// # Panics
    /// There is no answer.
    pub fn download(&self, path: &str) -> (Answer, Vec<u8>) {
        let bytes = self.bytes(&self.request("GET", path, "", ""));
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        (parse(&bytes), bytes[end..].to_vec())
    }

    /// The text of a request, with the client's cookies and headers.
    pub fn request(&self, method: &str, path: &str, more: &str, body: &str) -> Vec<u8> {
        let mut text =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        let pairs = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
        let cookies = pairs.collect::<Vec<_>>().join("; ");
        if !cookies.is_empty() {
            text.push_str(&format!("Cookie: {cookies}\r\n"));
        }
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(more);
        if method == "POST" {
            text.push_str(&format!(
                "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
                body.len()
            ));
        }
        format!("{text}\r\n{body}").into_bytes()
    }

    /// Gets a page, and keeps its cookies.
    pub fn get(&mut self, path: &str) -> Answer {
        let answer = self.raw(&self.request("GET", path, "", ""));
        self.keep(&answer);
        answer
    }

    /// Posts a form with an `Origin`, as browsers do.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let origin = format!("Origin: http://{}\r\n", self.address);
        let answer = self.raw(&self.request("POST", path, &origin, &encode(fields)));
        self.keep(&answer);
        answer
    }

    /// Opens a page and posts its form.
    pub fn send_form(&mut self, page: &str, to: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.get(page).csrf();
        let mut all = vec![("csrf", csrf.as_str())];
        all.extend(fields);
        self.post(to, &all)
    }

    /// Sets the password with a one-time link.
    ///
    /// # Panics
    /// It is refused.
    pub fn accept_link(&mut self, path: &str, name: Option<&str>) {
        let mut fields = vec![("password", PASSWORD), ("again", PASSWORD)];
        fields.extend(name.map(|name| ("user", name)));
        let answer = self.send_form(path, path, &fields);
        assert_eq!(answer.status, 303, "{}", answer.body);
    }

    /// Signs in; returns the answer.
    pub fn sign_in(&mut self, user: &str, password: &str) -> Answer {
        self.send_form("/sign-in", "/sign-in", &[("user", user), ("password", password)])
    }

    fn keep(&mut self, answer: &Answer) {
        for (name, value) in &answer.headers {
            if name != "set-cookie" {
                continue;
            }
            let (pair, rest) = value.split_once(';').unwrap_or((value, ""));
            let Some((name, value)) = pair.split_once('=') else { continue };
            if rest.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// Opens an event stream.
    ///
    /// # Panics
    /// The console can't be reached.
    pub fn stream(&self, path: &str) -> Events {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a deadline");
        stream.write_all(&self.request("GET", path, "", "")).expect("sent");
        Events { stream, text: String::new(), is_over: false }
    }
}

/// An open event stream.
pub struct Events {
    stream: TcpStream,
    /// Everything that has come so far.
    pub text: String,
    /// Whether the console has ended it.
    pub is_over: bool,
}

impl Events {
    /// Reads what has come.
    pub fn read(&mut self) {
        let mut bytes = [0; 65_536];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.is_over = true,
            Ok(count) => self.text.push_str(&String::from_utf8_lossy(&bytes[..count])),
            Err(_) => {}
        }
    }

    /// Reads until a text has come.
    ///
    /// # Panics
    /// It does not come in time.
    pub fn wait_for(&mut self, text: &str) {
        let begun = Instant::now();
        while !self.text.contains(text) {
            assert!(begun.elapsed() < PATIENCE, "no {text:?} in {}", self.text);
            assert!(!self.is_over, "the stream ended before {text:?}: {}", self.text);
            self.read();
        }
    }
}

fn parse(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let is_chunked =
        headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if is_chunked { unchunk(body) } else { body.to_owned() };
    Answer { status: status.unwrap_or_default(), headers, body }
}

fn unchunk(text: &str) -> String {
    let mut rest = text;
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || after.len() < size {
            break;
        }
        body.push_str(after.get(..size).unwrap_or_default());
        rest = after.get(size..).unwrap_or_default().trim_start_matches("\r\n");
    }
    body
}
