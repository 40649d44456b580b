//! The demonstration: sends mails, records samples and opens a report, without any configuration.
//!
//! Embedded mail servers with realistic delays and occasional failures, the real `mailqos-probe`
//! testing them, a month of simulated samples under a separate site name, and the real
//! `mailqos-analytics` generating the report.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use clap::Parser;
use jiff::tz::TimeZone;
use mailqos_model::{Micros, Outcome, SiteName, Stage, UtcMicros};
use mailqos_tests::{
    binaries,
    lake::{self, Row},
    servers::{Delays, Fault, MailServer, Mishap, Options, Protocol, When},
    setting::signal,
    simulation::{self, Habits},
};

/// Demonstrate mailqos without any configuration: send mails, record samples, open a report.
#[derive(Parser)]
#[command(name = "cargo demo")]
struct Arguments {
    /// How long the probe tests, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(3..=3600))]
    seconds: u64,
    /// Folder for the lake and the report; an earlier demonstration in it is replaced.
    #[arg(long, default_value = "out/demo")]
    output: PathBuf,
    /// Seed of all random numbers.
    #[arg(long, default_value_t = 20)]
    seed: u64,
    /// Keep the probe running afterwards, and start the web console.
    #[arg(long)]
    serve: bool,
}

/// Errors are messages for the user.
type DemoResult<T> = Result<T, String>;

const PASSWORD: &str = "demonstration";
/// Marks a folder that a demonstration created and may replace.
const MARK: &str = ".mailqos-demonstration";

/// A monitor of the demonstration.
struct Place {
    id: &'static str,
    name: &'static str,
    tag: &'static str,
    /// Median of the live mails, in milliseconds.
    live: u64,
    smtp_implicit: bool,
    pickup_implicit: bool,
}

const PLACES: [Place; 6] = [
    Place {
        id: "stockholm",
        name: "Stockholm head office",
        tag: "europe",
        live: 350,
        smtp_implicit: false,
        pickup_implicit: true,
    },
    Place {
        id: "lyon",
        name: "Lyon plant",
        tag: "europe",
        live: 700,
        smtp_implicit: false,
        pickup_implicit: true,
    },
    Place {
        id: "rotterdam",
        name: "Rotterdam harbour",
        tag: "europe",
        live: 450,
        smtp_implicit: true,
        pickup_implicit: false,
    },
    Place {
        id: "toronto",
        name: "Toronto sales",
        tag: "america",
        live: 900,
        smtp_implicit: false,
        pickup_implicit: false,
    },
    Place {
        id: "osaka",
        name: "Osaka research",
        tag: "asia",
        live: 1_100,
        smtp_implicit: true,
        pickup_implicit: true,
    },
    Place {
        id: "cloud",
        name: "Mail in the cloud",
        tag: "cloud",
        live: 550,
        smtp_implicit: false,
        pickup_implicit: true,
    },
];

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Dropping this ends everything in order: the probe seals its samples.
    let result = tokio::select! {
        biased;
        () = told_to_end() => {
            println!("\nStopped. Whatever was written until now is whole and readable: {}", arguments.output.display());
            return ExitCode::SUCCESS;
        }
        result = demonstrate(&arguments) => result,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("\ndemonstration: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn demonstrate(arguments: &Arguments) -> DemoResult<()> {
    let folder = prepare(&arguments.output)?;
    println!("mailqos demonstration in {}\n", folder.display());

    step(1, "Building the two programs (the first time takes minutes)");
    let built = tokio::task::spawn_blocking(|| binaries::build(Stdio::inherit())).await;
    let built = built
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("the programs could not be built: {error}"))?;
    let program =
        |name: &str| built.get(name).cloned().ok_or_else(|| format!("cargo built no {name}"));
    let (probe, analytics) = (program("mailqos-probe")?, program("mailqos-analytics")?);

    step(2, "Simulating a month of earlier samples, marked as simulated");
    let zone = TimeZone::system();
    let begun = UtcMicros::now();
    let count = simulate(&folder, arguments.seed, &zone, begun)?;
    println!("  {count} samples of {} monitors in site=demo-simulated", PLACES.len());

    step(
        3,
        &format!(
            "Starting {} mail servers, and testing them for {} s",
            PLACES.len(),
            arguments.seconds
        ),
    );
    let servers = start_servers(arguments.seed).await?;
    let config = folder.join("mailqos.toml");
    fs::write(&config, configuration(&servers, &folder)?)
        .map_err(|error| format!("{}: {error}", config.display()))?;
    test(&probe, &config, &folder, Duration::from_secs(arguments.seconds)).await?;
    // With --serve, the servers go on receiving mails.
    let servers = Some(servers).filter(|_| arguments.serve);

    step(4, "Making the reports, as HTML and PDF");
    let (today, tomorrow) = (day(&zone, begun, 0)?, day(&zone, begun, 1)?);
    let month = Wanted {
        site: "demo-simulated",
        from: day(&zone, begun, -30)?,
        to: tomorrow.clone(),
        output: folder.join("report"),
    };
    let live =
        Wanted { site: "demo", from: today, to: tomorrow, output: folder.join("report/live") };
    let mut page = None;
    for (what, wanted) in [
        ("Done. The report of the simulated month:", month),
        ("The same of the tests that you have just seen:", live),
    ] {
        let files = report(&analytics, &config, &folder, &wanted).await?;
        println!("\n{what}");
        for file in files {
            println!("  {}", file.display());
            if page.is_none() && file.extension().is_some_and(|extension| extension == "html") {
                page = Some(file);
            }
        }
    }
    print_hints(&analytics, &folder, page.as_deref(), &zone, begun)?;
    if arguments.serve {
        serve((&probe, &analytics), &config, &folder).await?;
    } else {
        println!("See tests live in the web console:\n  cargo demo --serve");
    }
    drop(servers);
    Ok(())
}

/// Prints what can be done with the result.
fn print_hints(
    analytics: &Path,
    folder: &Path,
    page: Option<&Path>,
    zone: &TimeZone,
    begun: UtcMicros,
) -> DemoResult<()> {
    println!();
    if let Some(page) = page {
        let open = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
        println!("Open it in a browser:\n  {open} {}", quoted(page));
    }
    println!("The samples, for any Parquet reader:\n  {}", folder.join("data/samples").display());
    println!(
        "Look at the figures:\n  {} stats --data {} --from {} --to {}",
        analytics.display(),
        quoted(&folder.join("data")),
        day(zone, begun, -30)?,
        day(zone, begun, 1)?
    );
    Ok(())
}

/// Runs the probe and the web console until one of them ends.
async fn serve((probe, analytics): (&Path, &Path), config: &Path, folder: &Path) -> DemoResult<()> {
    let log = || {
        let file = fs::File::options().create(true).append(true).open(folder.join("probe.log"));
        file.map_err(|error| error.to_string())
    };
    let start = |program: &Path, command: &mut Command| {
        let child = command.stdin(Stdio::null()).spawn();
        child.map(Running).map_err(|error| format!("{}: {error}", program.display()))
    };
    println!("\nThe web console starts; stop everything with Ctrl-C.");
    let mut testing = Command::new(probe);
    testing.arg("--config").arg(config).arg("run").stdout(log()?).stderr(log()?);
    let mut testing = start(probe, &mut testing)?;
    let mut console = Command::new(analytics);
    console.arg("--config").arg(config).args(["serve", "--no-schedule"]);
    let mut console = start(analytics, &mut console)?;
    loop {
        for (name, child) in [("mailqos-probe", &mut testing), ("the web console", &mut console)] {
            if let Some(status) = child.0.try_wait().map_err(|error| error.to_string())? {
                return Err(format!("{name} ended ({status})"));
            }
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn step(number: u32, what: &str) {
    println!("{number}/4 {what}");
    let _ = io::stdout().flush();
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

/// Returns an empty folder; only one that an earlier demonstration created is emptied.
fn prepare(output: &Path) -> DemoResult<PathBuf> {
    let error = |error: io::Error| format!("{}: {error}", output.display());
    if output.exists()
        && !output.join(MARK).exists()
        && fs::read_dir(output).map_err(error)?.next().is_some()
    {
        return Err(format!(
            "{} is not empty, and no demonstration made it; name another folder with --output",
            output.display()
        ));
    }
    if output.join(MARK).exists() {
        fs::remove_dir_all(output).map_err(error)?;
    }
    fs::create_dir_all(output).map_err(error)?;
    fs::write(output.join(MARK), "Made by `cargo demo`, which replaces it each time.\n")
        .map_err(error)?;
    output.canonicalize().map_err(error)
}

fn day(zone: &TimeZone, moment: UtcMicros, days: i64) -> DemoResult<String> {
    let date = zone.to_datetime(moment.timestamp()).date();
    date.checked_add(jiff::Span::new().days(days))
        .map(|date| date.to_string())
        .map_err(|error| error.to_string())
}

/// Simulates a month of the same monitors, with incidents.
fn simulate(folder: &Path, seed: u64, zone: &TimeZone, to: UtcMicros) -> DemoResult<usize> {
    let from = to - Micros::from_secs(31 * 86_400);
    let mut all = Vec::new();
    for place in &PLACES {
        let monitor = place.id.parse().map_err(|error| format!("{error}"))?;
        let mut habits = Habits::calm(monitor, place.live as f64 / 250.0);
        match place.id {
            "lyon" => {
                let refused = (
                    Outcome::SmtpFailed,
                    Stage::SmtpConnect,
                    "connection refused: the server runs, but nothing listens on port 587",
                );
                habits.outage = Some((9, 9, 42, refused.0, refused.1, refused.2));
            }
            "rotterdam" => habits.shift = Some((11, 1.45)),
            "toronto" => {
                let refused = (
                    Outcome::PickupFailed,
                    Stage::PickupLogin,
                    "the server refused the login: -ERR [SYS/TEMP] Temporary authentication failure",
                );
                habits.outage = Some((17, 14, 125, refused.0, refused.1, refused.2));
                habits.busy = 1.6;
            }
            "osaka" => (habits.late, habits.lost) = (0.004, 0.001),
            "cloud" => habits.maintenance = Some((5, 22, 120)),
            _ => {}
        }
        all.extend(simulation::samples(&habits, seed, zone, from, to));
    }
    let count = all.len();
    let site: SiteName = "demo-simulated".parse().map_err(|error| format!("{error}"))?;
    simulation::write(&folder.join("data"), &site, all).map_err(|error| error.to_string())?;
    Ok(count)
}

/// Starts a mail server for each place, with its speed and its weaknesses.
async fn start_servers(seed: u64) -> DemoResult<Vec<MailServer>> {
    let mut servers = Vec::new();
    for (number, place) in PLACES.iter().enumerate() {
        let options = Options {
            seed: seed.wrapping_mul(31).wrapping_add(number as u64),
            host_name: format!("mail.{}.example.com", place.id),
            users: vec![(format!("probe@{}.example.com", place.id), PASSWORD.to_owned())],
            delays: Delays::LogNormal {
                median: Duration::from_millis(place.live),
                sigma: 0.5,
                shortest: Duration::from_millis(40),
                longest: Duration::from_secs(4),
            },
            ..Options::default()
        };
        let server = MailServer::start(options)
            .await
            .map_err(|error| format!("no mail server could be started: {error}"))?;
        server.befall(None, Mishap::Late(Duration::from_secs(4)), When::Chance(0.04));
        match place.id {
            "lyon" => server.inject(
                Protocol::Smtp,
                "RCPT",
                Fault::Reply("552 5.2.2 Mailbox is full".into()),
                When::Chance(0.12),
            ),
            "toronto" => server.inject(
                Protocol::Pop3,
                "LOGIN",
                Fault::Reply("-ERR [SYS/TEMP] Try again later.".into()),
                When::Chance(0.1),
            ),
            "osaka" => server.befall(None, Mishap::Lose, When::Chance(0.08)),
            "cloud" => server.inject(Protocol::Smtp, "GREETING", Fault::Close, When::Chance(0.06)),
            _ => {}
        }
        servers.push(server);
    }
    Ok(servers)
}

fn configuration(servers: &[MailServer], folder: &Path) -> DemoResult<String> {
    let write = |name: String, text: &str| {
        let path = folder.join(&name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok::<_, String>(path)
    };
    let secret = write("password".to_owned(), PASSWORD)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))
            .map_err(|error| error.to_string())?;
    }
    let _ = secret;
    let mut text = String::from(
        "# Written by the demonstration.\nsite = \"demo\"\ndata = \"data\"\nseal_interval = \"1s\"\n\n\
         [defaults]\ntest_interval = \"3s\"\nmax_round_trip = \"3s\"\ncheck_interval = \"200ms\"\nhorizon = \"8s\"\ntimeout = \"2s\"\n",
    );
    for (place, server) in PLACES.iter().zip(servers) {
        let Place { id, name, tag, .. } = place;
        write(format!("{id}.ca.pem"), server.authority().pem())?;
        let (smtp, smtp_tls) = if place.smtp_implicit {
            (server.smtps_port(), "implicit")
        } else {
            (server.smtp_port(), "starttls")
        };
        let (pickup, pickup_tls) = if place.pickup_implicit {
            (server.pop3s_port(), "implicit")
        } else {
            (server.pop3_port(), "starttls")
        };
        write!(
            text,
            "\n[account.{id}]\nuser = \"probe@{id}.example.com\"\npassword = {{ file = \"password\" }}\n\n\
             [object.{id}]\nname = \"{name}\"\naddress = \"127.0.0.1\"\ntags = [\"{tag}\"]\n\n\
             [monitor.{id}]\nname = \"{name}\"\nobject = \"{id}\"\nkind = \"mail-qos\"\nfrom = \"probe@{id}.example.com\"\nto = \"probe@{id}.example.com\"\n\
             smtp = {{ port = {smtp}, tls = \"{smtp_tls}\", account = \"{id}\", ca_file = \"{id}.ca.pem\" }}\n\
             pickup = {{ protocol = \"pop3\", port = {pickup}, tls = \"{pickup_tls}\", account = \"{id}\", ca_file = \"{id}.ca.pem\" }}\n",
        )
        .map_err(|error| error.to_string())?;
    }
    Ok(text)
}

/// Runs the probe for a while and shows the samples in the lake.
async fn test(probe: &Path, config: &Path, folder: &Path, time: Duration) -> DemoResult<()> {
    let log = fs::File::create(folder.join("probe.log")).map_err(|error| error.to_string())?;
    let errors = log.try_clone().map_err(|error| error.to_string())?;
    let child = Command::new(probe)
        .arg("--config")
        .arg(config)
        .arg("run")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn();
    let mut child = Running(child.map_err(|error| format!("{}: {error}", probe.display()))?);
    let begun = Instant::now();
    let mut view = View::new(folder.join("data/samples/site=demo"));
    loop {
        let left = time.saturating_sub(begun.elapsed());
        if left.is_zero() {
            break;
        }
        view.show(begun.elapsed(), time);
        if let Some(status) = child.0.try_wait().map_err(|error| error.to_string())? {
            let said = fs::read_to_string(folder.join("probe.log")).unwrap_or_default();
            return Err(format!("mailqos-probe ended too early ({status}):\n{said}"));
        }
        tokio::time::sleep(left.min(Duration::from_millis(250))).await;
    }
    signal(child.0.id(), "TERM");
    let status = tokio::task::spawn_blocking(move || child.0.wait())
        .await
        .map_err(|error| error.to_string())?;
    let status = status.map_err(|error| error.to_string())?;
    view.finish(time);
    if status.success() {
        Ok(())
    } else {
        let said = fs::read_to_string(folder.join("probe.log")).unwrap_or_default();
        Err(format!("mailqos-probe ended with {status}:\n{said}"))
    }
}

/// A child process that is stopped if the demonstration ends early.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            signal(self.0.id(), "TERM");
            let _ = self.0.wait();
        }
    }
}

/// Waits for Ctrl-C, or for SIGTERM.
async fn told_to_end() {
    #[cfg(unix)]
    {
        let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
        if let Ok(mut terminate) = terminate {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// Samples so far, redrawn in a terminal and printed line by line elsewhere.
struct View {
    samples: PathBuf,
    terminal: bool,
    drawn: usize,
    told: Duration,
}

impl View {
    fn new(samples: PathBuf) -> Self {
        Self { samples, terminal: io::stdout().is_terminal(), drawn: 0, told: Duration::ZERO }
    }

    fn rows(&self) -> BTreeMap<String, Vec<Row>> {
        let mut monitors: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        let dates = fs::read_dir(&self.samples).into_iter().flatten().flatten();
        let files =
            dates.map(|date| date.path().join("samples.parquet")).filter(|file| file.exists());
        for row in files.flat_map(|file| lake::rows_of(&file)) {
            monitors.entry(row.monitor().to_owned()).or_default().push(row);
        }
        monitors
    }

    fn show(&mut self, elapsed: Duration, time: Duration) {
        if self.terminal {
            self.draw(elapsed, time);
        } else if self.told.is_zero() || elapsed >= self.told + Duration::from_secs(5) {
            self.told = elapsed.max(Duration::from_millis(1));
            self.tell(elapsed);
        }
    }

    fn finish(&mut self, time: Duration) {
        if self.terminal {
            self.draw(time, time);
        } else {
            self.tell(time);
        }
    }

    /// Prints one line: the number of each outcome, and the last round trip.
    fn tell(&self, elapsed: Duration) {
        let monitors = self.rows();
        let rows: Vec<&Row> = monitors.values().flatten().collect();
        println!("  {:>3} s  {}", elapsed.as_secs(), summary(&rows));
    }

    /// Draws a table over the previous one.
    fn draw(&mut self, elapsed: Duration, time: Duration) {
        let monitors = self.rows();
        let mut text = String::new();
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        for place in &PLACES {
            let empty = Vec::new();
            let rows = monitors.get(place.id).unwrap_or(&empty);
            let marks: String =
                rows.iter().rev().take(24).rev().map(|row| mark(row.outcome())).collect();
            let blank = " ".repeat(24 - rows.len().min(24));
            let last = rows.iter().rev().find_map(|row| row.number("round_trip_us"));
            let last = last.map_or("–".to_owned(), |micros| format!("{} ms", micros / 1_000));
            let _ = writeln!(text, "\r\x1b[K  {:<24}{marks}{blank}  {last:>9}", place.name);
        }
        let width = 30;
        let done = (elapsed.as_millis() * width / time.as_millis().max(1)).min(width) as usize;
        let rows: Vec<&Row> = monitors.values().flatten().collect();
        let bar = format!("{}{}", "━".repeat(done), "╌".repeat(width as usize - done));
        let _ = writeln!(text, "\r\x1b[K  {bar} {:>3} s  {}", elapsed.as_secs(), summary(&rows));
        self.drawn = PLACES.len() + 1;
        print!("{text}");
        let _ = io::stdout().flush();
    }
}

/// Returns the sign of an outcome, so that it does not depend on colour alone.
fn mark(outcome: &str) -> &'static str {
    match outcome {
        "ok" => "\x1b[32m●\x1b[0m",
        "late" => "\x1b[33m◐\x1b[0m",
        "not_tested" => "\x1b[2m·\x1b[0m",
        _ => "\x1b[31m✗\x1b[0m",
    }
}

fn summary(rows: &[&Row]) -> String {
    let mut parts = Vec::new();
    for outcome in Outcome::ALL {
        let count = rows.iter().filter(|row| row.outcome() == outcome.as_str()).count();
        if count > 0 || *outcome == Outcome::Ok {
            parts.push(format!("{count} {}", outcome.as_str().replace('_', " ")));
        }
    }
    let last = rows
        .iter()
        .filter(|row| row.number("round_trip_us").is_some())
        .max_by_key(|row| row.number("started_at"));
    if let Some((row, micros)) = last.and_then(|row| Some((row, row.number("round_trip_us")?))) {
        parts.push(format!("last round trip {} ms ({})", micros / 1_000, row.monitor()));
    }
    parts.join(" · ")
}

/// A report to generate.
struct Wanted {
    site: &'static str,
    from: String,
    to: String,
    output: PathBuf,
}

/// Generates a report; returns its files.
async fn report(
    analytics: &Path,
    config: &Path,
    folder: &Path,
    wanted: &Wanted,
) -> DemoResult<Vec<PathBuf>> {
    let output = tokio::process::Command::new(analytics)
        .arg("--config")
        .arg(config)
        .args(["report", "--template", "monthly-operations", "--site", wanted.site])
        .args(["--from", &wanted.from, "--to", &wanted.to, "--output"])
        .arg(&wanted.output)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("{}: {error}", analytics.display()))?;
    if !output.status.success() {
        return Err(format!("mailqos-analytics ended with {}", output.status));
    }
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let files: Vec<PathBuf> = printed
        .lines()
        .map(|line| folder.join(line.trim()))
        .filter(|path| path.is_file())
        .collect();
    if files.is_empty() {
        Err(format!("mailqos-analytics named no file:\n{printed}"))
    } else {
        Ok(files)
    }
}
