//! Analytics: scheduled reports to a mail server, an object store and a folder, through proxies;
//! the process is sometimes killed.

use std::{
    collections::BTreeMap,
    fs,
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use jiff::tz::TimeZone;
use mailqos_model::{Micros, UtcMicros};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use super::{Path, Plan, Toll, shapes, treatment};
use mailqos_tests::{
    process,
    proxy::{Proxy, Treatment},
    secrets::{self, secret_file},
    servers::{KEY_ID, Landing, MailServer, ObjectStore, Options},
    setting::Setting,
    simulation::{self, Habits},
};

const RELAY: &str = "Relay-Geheimnis-4Tn\"1";
const BUCKET: &str = "Bucket-Hemlighet-6Bc/3";
/// How often pending deliveries are retried before they count as lost.
const TRIES: i64 = 60;
/// A pass that takes longer hangs and is killed.
const MAX_LENGTH: Duration = Duration::from_secs(120);

const DEFINITION: &str = r#"
template = "executive-summary"
period = "yesterday"
timezone = "UTC"
formats = ["html"]
[schedule]
every = "day"
at = "07:00"
catch_up = "all"
[[deliver]]
target = "people"
[[deliver]]
target = "bucket"
[[deliver]]
target = "shelf"
"#;

struct Office {
    setting: Setting,
    memory: AtomicU64,
}

impl Office {
    /// Runs a command to its end, or kills it after a while; returns whether it ended on its own.
    async fn run(&self, arguments: &[&str], life: Duration) -> bool {
        let log = || {
            let path = self.setting.path("analytics.log");
            fs::File::options().create(true).append(true).open(path).expect("the log")
        };
        let mut command = self.setting.command("mailqos-analytics");
        command
            .args(arguments)
            .env("RUST_LOG", "debug,mailqos=trace")
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log());
        let mut child = command.spawn().expect("analytics start");
        let begun = Instant::now();
        loop {
            if child.try_wait().expect("the state of analytics").is_some() {
                return true;
            }
            self.memory.fetch_max(process::peak_memory(child.id()), Ordering::Relaxed);
            if begun.elapsed() > life {
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn due(&self, now: UtcMicros, life: Duration) -> bool {
        let now = now.to_string();
        self.run(&["schedule", "run-due", "--now", &now], life).await
    }

    fn waits(&self) -> bool {
        !self.setting.succeed("mailqos-analytics", &["outbox", "list"]).is_empty()
    }
}

pub(super) async fn run(plan: &Plan) -> Toll {
    let server = MailServer::start(Options {
        users: ["reports@example.com", "anna@example.com"]
            .map(|user| (user.to_owned(), RELAY.to_owned()))
            .to_vec(),
        seed: plan.seed,
        ..Options::default()
    })
    .await
    .expect("an embedded server");
    let store = ObjectStore::start().await.expect("a store");
    let proxy =
        async |port: u16| Proxy::start(([127, 0, 0, 1], port).into()).await.expect("a proxy");
    let (mail, objects) = (proxy(server.smtp_port()).await, proxy(store.port()).await);
    let secrets_folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, secret: &str| {
        let path = secrets_folder.path().join(name);
        secret_file(&path, secret);
        format!("{{ file = {:?} }}", path.display().to_string())
    };
    let mut setting = Setting::new("office");
    fs::write(setting.path("relay.pem"), server.authority().pem()).expect("a file");
    setting.add(&format!(
        "[object.lyon]\naddress = \"127.0.0.1\"\n[delivery]\nfirst_pause = \"1s\"\nlongest_pause = \"1s\"\n\
         [account.relay]\nuser = \"reports@example.com\"\npassword = {}\n[account.store]\nuser = \"{KEY_ID}\"\npassword = {}\n\
         [mail_server.relay]\nserver = \"127.0.0.1\"\nport = {}\ntls = \"starttls\"\naccount = \"relay\"\nfrom = \"reports@example.com\"\nca_file = \"relay.pem\"\ntimeout = \"3s\"\n\
         [target.people]\nkind = \"email\"\nto = [\"anna@example.com\"]\n[target.shelf]\nkind = \"folder\"\npath = \"shelf\"\n\
         [target.bucket]\nkind = \"object-store\"\nurl = \"s3://bucket/reports\"\nendpoint = \"http://127.0.0.1:{}\"\nallow_http = true\nregion = \"eu-north-1\"\naccount = \"store\"",
        file("relay", RELAY),
        file("store", BUCKET),
        mail.port(),
        objects.port(),
    ));
    setting.write();
    let first = UtcMicros((UtcMicros::now().0 / 86_400_000_000 - 40) * 86_400_000_000);
    let day = |number: usize| first + Micros::from_secs(86_400 * number as i64);
    let samples = simulation::samples(
        &Habits::calm("lyon".parse().expect("a name"), 1.0),
        plan.seed,
        &TimeZone::UTC,
        day(0) - Micros::from_secs(86_400),
        day(plan.reports + 1),
    );
    simulation::write(&setting.data(), &"office".parse().expect("a name"), samples)
        .expect("a lake");
    fs::create_dir_all(setting.path("reports")).expect("a folder");
    fs::write(setting.path("reports/daily.toml"), DEFINITION).expect("a definition");
    let office = Office { setting, memory: AtomicU64::new(0) };
    let mut random = Pcg64Mcg::seed_from_u64(plan.seed);
    let mut paths = ["analytics - SMTP", "analytics - object store", "analytics itself (SIGKILL)"]
        .map(|name| Path { name: name.to_owned(), ..Path::default() });
    // A new definition owes no earlier runs; that time ends when the first day's run has become
    // due.
    let start = day(0) + Micros::from_secs(8 * 3_600);
    office.due(start, MAX_LENGTH).await;
    let begun = Instant::now();
    office.due(start, MAX_LENGTH).await;
    let rest = begun.elapsed();
    // The shortest pass so far that generated a report: a kill must precede its end.
    let mut shortest = rest + Duration::from_millis(2_500);
    for number in 1..=plan.reports {
        let now = day(number) + Micros::from_secs(8 * 3_600);
        let path = (number - 1) % 3;
        let proxy = [&mail, &objects].get(path).copied();
        let struck = proxy.map_or(0, Proxy::struck);
        let mut life = MAX_LENGTH;
        match proxy {
            Some(proxy) => proxy.treat(without_doubt(path == 0, treatment(&mut random, 6_000))),
            None => {
                let work = shortest.saturating_sub(rest).max(Duration::from_millis(100));
                let into = work.mul_f64(random.random_range(0.0..0.6));
                // If the machine has become faster, every kill may have been too late.
                let escaped = number > 3 && paths[path].injected == 0;
                life = if escaped { rest.mul_f64(0.7) } else { rest + into };
            }
        }
        let begun = Instant::now();
        let ended = office.due(now, life).await;
        if ended {
            shortest = shortest.min(begun.elapsed());
        }
        for proxy in [&mail, &objects] {
            proxy.treat(Treatment::default());
        }
        let felt = proxy.map_or(!ended, |proxy| proxy.struck() > struck);
        paths[path].injected += u64::from(felt);
        // Killed work continues where it ended; pending deliveries are retried.
        let mut well = false;
        for try_again in 1..=TRIES {
            let ended = office.due(now + Micros::from_secs(300 * try_again), MAX_LENGTH).await;
            if ended && !office.waits() {
                well = true;
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        if !well {
            eprintln!("{}: report {number} is not delivered", paths[path].name);
        }
        paths[path].survived += u64::from(felt && well);
    }
    let mut toll = Toll { paths: paths.to_vec(), ..Toll::default() };
    toll.analytics_memory = office.memory.load(Ordering::Relaxed);
    // The last mails are still in transit to the mailbox.
    tokio::time::sleep(Duration::from_secs(1)).await;
    count(plan, (&office, &store), &server.landings(), &day, &mut toll);
    for (number, mail) in server.landings().iter().enumerate() {
        let _ = fs::write(office.setting.path(&format!("{number}.eml")), &mail.content);
    }
    let planted = [RELAY, BUCKET];
    toll.secrets = planted.len() as u64;
    toll.search = secrets::search(
        &office.setting.path(""),
        &shapes(&planted, &["reports@example.com", KEY_ID]),
    );
    toll
}

/// If the acceptance of a mail is not received, it is unknown whether it was accepted, and it is
/// sent again. Only the other cases are to be counted, so no connection to a mail server ends or
/// stalls while its replies arrive.
fn without_doubt(is_mail: bool, treatment: Treatment) -> Treatment {
    if is_mail && (treatment.cut_after_received.is_some() || treatment.stall_after.is_some()) {
        return Treatment {
            cut_after_received: treatment.cut_after_received.map(|bytes| bytes / 8),
            stall_after: treatment.stall_after.map(|bytes| bytes / 8),
            ..treatment
        };
    }
    treatment
}

/// Returns the mail server's queue id of a mail; the program that stored it added another field
/// above.
fn queue_id(mail: &Landing) -> String {
    let text = String::from_utf8_lossy(&mail.content);
    let id = text.split("(Postfix) with ").nth(1).and_then(|rest| rest.split(" id ").nth(1));
    let id = id.and_then(|id| id.split([' ', ';', '\r', '\n']).next());
    id.unwrap_or("a mail without a queue id").to_owned()
}

/// Each report must have arrived once, completely, at each of the three targets.
fn count(
    plan: &Plan,
    (office, store): (&Office, &ObjectStore),
    mails: &[Landing],
    day: &impl Fn(usize) -> UtcMicros,
    toll: &mut Toll,
) {
    let mut copies: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for number in 1..=plan.reports {
        let date = day(number - 1).utc_date().to_string();
        copies.entry(format!("daily-{date}.html")).or_default();
    }
    toll.reports = copies.len() as u64 * 3;
    let shelf = fs::read_dir(office.setting.path("shelf")).into_iter().flatten().flatten();
    let shelf: Vec<(String, Vec<u8>)> = shelf
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).unwrap_or_default())
        })
        .collect();
    let objects: Vec<(String, Vec<u8>)> = store
        .names()
        .iter()
        .map(|name| {
            let base = name.rsplit('/').next().unwrap_or_default().to_owned();
            (base, store.get(name).unwrap_or_default())
        })
        .collect();
    for (place, files) in [(0, &shelf), (1, &objects)] {
        for (name, bytes) in files {
            let whole = String::from_utf8_lossy(bytes).trim_end().ends_with("</html>");
            match copies.get_mut(name) {
                Some(counts) if whole => counts[place] += 1,
                // A file with a name that no report has, or an incomplete one.
                _ => toll.reports_doubled += u64::from(!name.starts_with('.')),
            }
        }
    }
    // Each report's mail has a unique Message-ID, the same for each attempt; each copy has a
    // separate queue id, in chronological order.
    let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mail in mails.iter().filter(|mail| mail.to == "anna@example.com") {
        let id = mail.field("Message-ID").unwrap_or_default();
        ids.entry(id).or_default().push(queue_id(mail));
    }
    toll.reports_lost += (copies.len() as u64).saturating_sub(ids.len() as u64);
    toll.reports_doubled += (ids.len() as u64).saturating_sub(copies.len() as u64);
    let ledger = office.setting.succeed("mailqos-analytics", &["outbox", "ledger"]);
    for (id, mut queued) in ids {
        queued.sort();
        let last = queued.pop().unwrap_or_default();
        // A copy before the one in the ledger: the process was killed between the server's reply
        // and the disk, which can't be avoided. A copy after it could have been.
        if ledger.contains(&last) {
            toll.reports_in_doubt += queued.len() as u64;
        } else {
            eprintln!("{id}: queued as {queued:?} and {last}, which is not in the ledger");
            toll.reports_doubled += queued.len().max(1) as u64;
        }
    }
    for (name, counts) in &copies {
        for (place, count) in ["folder", "object store"].iter().zip(counts) {
            toll.reports_lost += u64::from(*count == 0);
            toll.reports_doubled += count.saturating_sub(1);
            if *count != 1 {
                eprintln!("{name}: {count} times in the {place}");
            }
        }
    }
}
