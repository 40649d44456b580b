//! The probe, its mail servers, its notification channels, and the object store of its lake: every
//! path has a proxy, and the probe is sometimes killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mailqos_lake::{Status, read_day};
use mailqos_model::{Event, EventKind, Micros};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use serde_json::Value;
use tokio::task::JoinSet;

use super::{PATIENCE, Path, Plan, Toll, shapes, treatment};
use mailqos_tests::{
    clock::{Given, SetClock},
    crash::Said,
    hooks::{Hooks, Manner},
    lake, lock, process,
    proxy::{Proxy, Treatment},
    secrets::{self, secret_file},
    servers::{Delays, INBOX, KEY_ID, MailServer, ObjectStore, Options, Protocol, StoredMail},
    setting::{Probe, Setting},
};

const USERS: [&str; 3] = ["smtp@example.com", "pop3@example.com", "imap@example.com"];
const MAILBOX: &str = "Mailbox-Geheimnis-7Qz\"4";
const ALERTS: &str = "Alerts-Hemlighet-9Wx'5";
const STORE: &str = "Object-Store-Secret-5Rt/8";
const HOOK: &str = "Webhook-Segreto-2Lp-token";
const SIGNING: &str = "Signing-Salaisuus-8Jy-and-some-more-of-it";
/// Time for a fault to have an effect.
const STRIKING: Duration = Duration::from_secs(20);

/// Number of additional processes that may upload what the store refused until the end.
const MORE_LIVES: usize = 3;

/// What the probe has logged so far.
#[derive(Default)]
struct Heard {
    said: Said,
    /// Number of successful tests of each monitor.
    good: BTreeMap<String, u64>,
}

/// A path with injected faults.
struct Struck {
    name: &'static str,
    proxy: Arc<Proxy>,
    /// Returns how often it is known to have worked.
    works: Box<dyn Fn() -> u64 + Send + Sync>,
}

async fn mail_server(users: &[&str], password: &str, seed: u64) -> MailServer {
    let server = MailServer::start(Options {
        users: users.iter().map(|user| ((*user).to_owned(), password.to_owned())).collect(),
        delays: Delays::Uniform(Duration::from_millis(20), Duration::from_millis(300)),
        seed,
        ..Options::default()
    });
    server.await.expect("an embedded server")
}

async fn proxy(port: u16) -> Arc<Proxy> {
    Arc::new(Proxy::start(([127, 0, 0, 1], port).into()).await.expect("a proxy"))
}

/// Creates foreign mails: some ordinary ones, and some that pretend to be ours.
fn foreign(server: &MailServer) -> Vec<Vec<StoredMail>> {
    for user in USERS {
        server.fill(user, 10);
        let forged = (0..10).map(|number| {
            format!(
                "From: {user}\r\nTo: {user}\r\nSubject: mailqos test\r\nMessage-ID: <{number}@forged>\r\nX-Mailqos: mq1:measure:{}:fq0p2hcjls:0123456789abcd{number:02}:Zm9yZ2Vk\r\n\r\nmq1:measure:smtp:fq0p2hcjls:0123456789abcd{number:02}:Zm9yZ2Vk\r\n",
                user.split('@').next().unwrap_or_default()
            )
            .into_bytes()
        });
        server.put(user, INBOX, forged);
    }
    mails(server)
}

fn mails(server: &MailServer) -> Vec<Vec<StoredMail>> {
    let of = |user: &&str| {
        let mails = server.mails(user, INBOX).into_iter();
        mails.filter(|mail| mail.foreign).collect()
    };
    USERS.iter().map(of).collect()
}

/// Returns the mails of `before` that are gone or changed.
fn touched(before: &[Vec<StoredMail>], after: &[Vec<StoredMail>]) -> u64 {
    let same =
        |a: &StoredMail, b: &StoredMail| a.uid == b.uid && a.bytes == b.bytes && a.flags == b.flags;
    let pairs = before.iter().zip(after);
    pairs
        .map(|(before, after)| {
            before.iter().filter(|mail| !after.iter().any(|left| same(mail, left))).count() as u64
        })
        .sum()
}

pub(super) async fn run(plan: &Plan) -> Toll {
    let tested = mail_server(&USERS, MAILBOX, plan.seed).await;
    let weak = mail_server(&["weak@example.com"], MAILBOX, plan.seed).await;
    let alerts =
        Arc::new(mail_server(&["alerts@example.net", "anna@example.net"], ALERTS, plan.seed).await);
    let hooks = Arc::new(Hooks::start(Manner::Status(200)).await.expect("a server for webhooks"));
    let store = Arc::new(ObjectStore::start().await.expect("a store"));
    let before = foreign(&tested);
    let (smtp, pop3, imap) = (
        proxy(tested.smtp_port()).await,
        proxy(tested.pop3s_port()).await,
        proxy(tested.imaps_port()).await,
    );
    let (hook, alarm, objects) =
        (proxy(hooks.port()).await, proxy(alerts.smtp_port()).await, proxy(store.port()).await);

    let secrets = tempfile::tempdir().expect("a folder");
    let file = |name: &str, secret: &str| {
        let path = secrets.path().join(name);
        secret_file(&path, secret);
        format!("{{ file = {:?} }}", path.display().to_string())
    };
    let mut setting = Setting::new("measure");
    setting.replace("data = \"data\"", "data = \"s3://bucket/lake\"");
    setting.replace(
        "seal_interval",
        &format!("signing_key = {}\nseal_interval", file("signing", SIGNING)),
    );
    setting.replace(
        "test_interval = \"5s\"",
        // On a busy machine there are fewer tests, and each may differ from the previous one: an
        // alarm that then flaps and stays open sends no more notifications.
        "test_interval = \"1s\"\nalarm_after = 1\nalarm = { flapping = false }\naction_list = \"default\"",
    );
    setting.replace("{ env = \"PROBE_PASSWORD\" }", &file("probe", MAILBOX));
    let mut more = format!(
        "[object_store]\nendpoint = \"http://127.0.0.1:{}\"\nallow_http = true\nregion = \"eu-north-1\"\naccount = \"store\"\n\
         [account.store]\nuser = \"{KEY_ID}\"\npassword = {}\n[account.alerts]\nuser = \"alerts@example.net\"\npassword = {}\n\
         [mail_server.alerts]\nserver = \"127.0.0.1\"\nport = {}\ntls = \"starttls\"\naccount = \"alerts\"\nfrom = \"alerts@example.net\"\nca_file = \"alerts.pem\"\n\
         [action_list.default]\nactions = [{{ email = \"anna@example.net\", mail_server = \"alerts\", timeout = \"3s\", retry_for = \"1h\" }}, \
         {{ webhook = {{ url = \"http://127.0.0.1:{}/hook\", body = '{{ \"alarms\": {{{{ alarms | json }}}} }}', headers = {{ Authorization = {} }} }}, timeout = \"3s\", retry_for = \"1h\" }}]\n",
        objects.port(),
        file("store", STORE),
        file("alerts", ALERTS),
        alarm.port(),
        hook.port(),
        file("hook", HOOK),
    );
    std::fs::write(setting.path("alerts.pem"), alerts.authority().pem()).expect("a file");
    for user in USERS {
        let name = user.split('@').next().unwrap_or_default();
        let _ = writeln!(
            more,
            "[account.{name}]\nuser = \"{user}\"\npassword = {}",
            file(name, MAILBOX)
        );
    }
    let _ = writeln!(
        more,
        "[account.weak]\nuser = \"weak@example.com\"\npassword = {}",
        file("weak", MAILBOX)
    );
    setting.add(&more);
    let through = |id: &str, server: &MailServer, ports: [(u16, u16); 2], imap: bool| {
        let mut monitor = setting.monitor(id, server);
        for (from, to) in ports {
            let swap =
                |text: &str| text.replace(&format!("port = {from},"), &format!("port = {to},"));
            (monitor.smtp, monitor.pickup) = (swap(&monitor.smtp), swap(&monitor.pickup));
        }
        if imap {
            monitor.pickup = monitor.pickup.replace("pop3", "imap");
        }
        let account = format!("account = \"{id}\"");
        monitor.smtp = monitor.smtp.replace("account = \"probe\"", &account);
        monitor.pickup = monitor.pickup.replace("account = \"probe\"", &account);
        (monitor.from, monitor.to) = (format!("{id}@example.com"), format!("{id}@example.com"));
        monitor
    };
    let monitors = [
        through("smtp", &tested, [(tested.smtp_port(), smtp.port()), (0, 0)], false),
        through("pop3", &tested, [(tested.pop3s_port(), pop3.port()), (0, 0)], false),
        through("imap", &tested, [(tested.pop3s_port(), imap.port()), (0, 0)], true),
        through("weak", &weak, [(0, 0), (0, 0)], false),
    ];
    for monitor in &monitors {
        setting.add_monitor(monitor);
    }

    let heard = Arc::new(Mutex::new(Heard::default()));
    let good = |monitor: &'static str| {
        let heard = Arc::clone(&heard);
        Box::new(move || lock(&heard).good.get(monitor).copied().unwrap_or(0))
            as Box<dyn Fn() -> u64 + Send + Sync>
    };
    let (told, mailed, kept) = (Arc::clone(&hooks), Arc::clone(&alerts), Arc::clone(&store));
    let paths = [
        ("probe - SMTP", smtp, good("smtp")),
        ("probe - POP3", pop3, good("pop3")),
        ("probe - IMAP", imap, good("imap")),
        ("probe - webhook", hook, Box::new(move || told.taken().len() as u64)),
        ("probe - alarm mail", alarm, Box::new(move || mailed.landings().len() as u64)),
        ("probe - object store", objects, Box::new(move || kept.writes())),
    ]
    .map(|(name, proxy, works)| Struck { name, proxy, works });
    // A path that has had all its faults continues to work: others depend on it, and the end of the
    // lake passes through its proxy.
    let open: Vec<Arc<Proxy>> = paths.iter().map(|path| Arc::clone(&path.proxy)).collect();

    let setting = Arc::new(setting);
    let memory = Arc::new(AtomicU64::new(0));
    let end = Arc::new(AtomicBool::new(false));
    // Calls are answered as long as a path waits for the probe to work again.
    let silence = Arc::new(AtomicBool::new(false));
    let listening =
        tokio::spawn(listen(setting.path("probe.log"), Arc::clone(&heard), Arc::clone(&silence)));
    let clock = SetClock::new(&setting.path("")).expect("a clock");
    let given = clock.given();
    let setting_clock = tokio::spawn(set_clock(clock, Arc::clone(&end), plan.seed));
    let killing = tokio::spawn(kill(
        (Arc::clone(&setting), given.clone()),
        good("smtp"),
        Arc::clone(&memory),
        Arc::clone(&end),
        plan.seed,
    ));
    let toggling = tokio::spawn(toggle(weak, Arc::clone(&end)));
    let mut striking = JoinSet::new();
    for (number, path) in paths.into_iter().enumerate() {
        striking.spawn(strike(path, plan.faults, plan.seed + number as u64));
    }
    let mut toll = Toll { paths: striking.join_all().await, ..Toll::default() };
    toll.paths.sort_by(|a, b| b.name.cmp(&a.name));
    end.store(true, Ordering::Relaxed);
    let (killed, probe) = killing.await.expect("the killer ends");
    let weak = toggling.await.expect("the toggler ends");
    toll.paths.push(killed);
    toll.clock_steps = setting_clock.await.expect("the clock is set right");
    memory.fetch_max(process::peak_memory(probe.id()), Ordering::Relaxed);
    let log = probe.log();
    assert!(probe.stop().success(), "the probe does not end well:\n{log}");
    silence.store(true, Ordering::Relaxed);
    listening.await.expect("the listener ends");

    // Acknowledged samples are in the store, or are uploaded by the next processes.
    let here = setting.path("fetched");
    let mut rows = Vec::new();
    for life in 0..=MORE_LIVES {
        let _ = std::fs::remove_dir_all(&here);
        store.copy_to("bucket/lake/", &here);
        rows = lake::rows(&here);
        if life == MORE_LIVES || lock(&heard).said.compare(&rows).lost == 0 {
            break;
        }
        let probe = begin(&setting, &given);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(probe.stop().success(), "the probe does not end well");
    }
    drop(open);
    let site = "measure".parse().expect("a name");
    let status = Status::read(&setting.path("state/lake"), &site).ok().flatten();
    count_alarms(&mut toll, &here, status.as_ref(), &hooks);
    let heard = lock(&heard);
    let found = heard.said.compare(&rows);
    toll.samples = heard.said.acknowledged() as u64;
    (toll.samples_lost, toll.samples_doubled) = (found.lost as u64, found.doubled);
    toll.foreign = before.iter().map(|mails| mails.len() as u64).sum();
    toll.foreign_touched = touched(&before, &mails(&tested));
    toll.probe_memory = memory.load(Ordering::Relaxed);

    // Mails, messages and rows, in addition to the files that the probe wrote itself.
    let _ = std::fs::write(setting.path("rows.txt"), format!("{rows:?}"));
    for (number, body) in hooks.taken().iter().enumerate() {
        let _ = std::fs::write(setting.path(&format!("{number}.hook")), &body.body);
    }
    let landings = [&tested, &weak, &alerts].map(|server| server.landings()).concat();
    for (number, landing) in landings.iter().enumerate() {
        let _ = std::fs::write(setting.path(&format!("{number}.eml")), &landing.content);
    }
    let planted = [MAILBOX, ALERTS, STORE, HOOK, SIGNING];
    let mut users = USERS.to_vec();
    users.extend(["alerts@example.net", KEY_ID]);
    toll.secrets = planted.len() as u64;
    toll.search = secrets::search(&setting.path(""), &shapes(&planted, &users));
    toll
}

/// Counts results of alarms: each must be reported in order, and closed where it was opened.
fn count_alarms(toll: &mut Toll, lake: &std::path::Path, status: Option<&Status>, hooks: &Hooks) {
    let days = std::fs::read_dir(lake.join("events/site=measure")).into_iter().flatten().flatten();
    for day in days {
        let events = read_day::<Event>(&day.path().join("events.parquet")).unwrap_or_default();
        toll.alarms +=
            events.iter().filter(|event| event.kind == EventKind::AlarmRaised).count() as u64;
    }
    // Whether recipients know about an alarm of a monitor. Repetitions, because an answer was lost,
    // change nothing.
    let mut open: BTreeMap<String, bool> = BTreeMap::new();
    let mut ended: BTreeSet<(String, String)> = BTreeSet::new();
    for hook in hooks.accepted() {
        let Ok(message) = serde_json::from_str::<Value>(&hook.body) else {
            continue;
        };
        for alarm in message["alarms"].as_array().into_iter().flatten() {
            let monitor = alarm["monitor"].as_str().unwrap_or_default().to_owned();
            let is_end = alarm["kind"] == "recovery";
            let before = open.insert(monitor.clone(), !is_end);
            toll.alarms_told += u64::from(!is_end && before != Some(true));
            let which = (monitor, alarm["since"].as_str().unwrap_or_default().to_owned());
            if is_end {
                ended.insert(which);
            } else {
                toll.alarms_disordered += u64::from(ended.contains(&which));
            }
        }
    }
    // An alarm that has not cleared may be open; a notification may wait for a channel to accept
    // it.
    let may_be_open = |monitor: &str| {
        let mut monitors = status.iter().flat_map(|status| &status.monitors);
        monitors.any(|one| one.id.as_str() == monitor && (one.alarm.is_some() || one.unsent > 0))
            || status.is_some_and(|status| {
                let (alarms, is_own) = (&status.probe.alarms, monitor.starts_with("mailqos."));
                is_own
                    && (status.probe.unsent > 0 || alarms.keys().any(|id| id.as_str() == monitor))
            })
    };
    let left = open.iter().filter(|(monitor, open)| **open && !may_be_open(monitor));
    toll.alarms_left_open = left.count() as u64;
}

/// Sets the probe's wall clock forward and back until the end.
async fn set_clock(mut clock: SetClock, end: Arc<AtomicBool>, seed: u64) -> u64 {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut steps = 0;
    let mut off = Micros::ZERO;
    while !end.load(Ordering::Relaxed) {
        let by = Micros::from_secs(random.random_range(-5_400..5_400)) - off;
        clock.set(by);
        off = off + by;
        steps += 1;
        wait(Duration::from_secs(7), || end.load(Ordering::Relaxed)).await;
    }
    clock.set(Micros(-off.0));
    steps
}

/// Injects faults on a path repeatedly, each time until it works again.
async fn strike(path: Struck, faults: usize, seed: u64) -> Path {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut counted = Path { name: path.name.to_owned(), ..Path::default() };
    // Not before it has worked once.
    wait(PATIENCE, || (path.works)() > 0).await;
    for _ in 0..faults {
        let treatment = treatment(&mut random, 3_000);
        let struck = path.proxy.struck();
        path.proxy.treat(treatment.clone());
        path.proxy.cut();
        let felt = wait(STRIKING, || path.proxy.struck() > struck).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1_000))).await;
        path.proxy.treat(Treatment::default());
        let worked = (path.works)();
        if !felt {
            continue;
        }
        counted.injected += 1;
        if wait(PATIENCE, || (path.works)() > worked).await {
            counted.survived += 1;
        } else {
            eprintln!("{}: does not work again after {treatment:?}", path.name);
        }
    }
    counted
}

async fn wait(longest: Duration, so: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !so() {
        if begun.elapsed() > longest {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

/// Kills and restarts the probe until the end.
async fn kill(
    (setting, clock): (Arc<Setting>, Given),
    works: Box<dyn Fn() -> u64 + Send + Sync>,
    memory: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    seed: u64,
) -> (Path, Probe) {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut counted = Path { name: "the probe itself (SIGKILL)".to_owned(), ..Path::default() };
    let mut probe = begin(&setting, &clock);
    while !end.load(Ordering::Relaxed) {
        let life = Duration::from_millis(random.random_range(4_000..12_000));
        wait(life, || end.load(Ordering::Relaxed)).await;
        if end.load(Ordering::Relaxed) {
            break;
        }
        memory.fetch_max(process::peak_memory(probe.id()), Ordering::Relaxed);
        probe.kill();
        counted.injected += 1;
        probe = begin(&setting, &clock);
        let worked = works();
        counted.survived += u64::from(wait(PATIENCE, || works() > worked).await);
    }
    (counted, probe)
}

fn begin(setting: &Setting, clock: &Given) -> Probe {
    let mut command = setting.command("mailqos-probe");
    clock.give_to(&mut command);
    command.args(["--log-format", "json", "run"]).env("RUST_LOG", "debug,mailqos=trace");
    setting.start(&mut command)
}

/// Breaks and repairs a server, so that there are alarms and recoveries.
async fn toggle(server: MailServer, end: Arc<AtomicBool>) -> MailServer {
    while !end.load(Ordering::Relaxed) {
        server.refuse(Protocol::Smtp);
        wait(Duration::from_secs(3), || end.load(Ordering::Relaxed)).await;
        server.admit(Protocol::Smtp);
        wait(Duration::from_secs(3), || end.load(Ordering::Relaxed)).await;
    }
    server
}

/// Reads the probe's log as it grows, and the rest at the end.
async fn listen(log: PathBuf, heard: Arc<Mutex<Heard>>, end: Arc<AtomicBool>) {
    let (mut place, mut rest) = (0, String::new());
    loop {
        let ending = end.load(Ordering::Relaxed);
        let mut bytes = Vec::new();
        if let Ok(mut file) = std::fs::File::open(&log)
            && file.seek(SeekFrom::Start(place)).is_ok()
        {
            let _ = file.read_to_end(&mut bytes);
        }
        place += bytes.len() as u64;
        rest.push_str(&String::from_utf8_lossy(&bytes));
        let whole = rest.rfind('\n').map_or(0, |at| at + 1);
        {
            let mut heard = lock(&heard);
            for line in rest[..whole].lines() {
                let Ok(line) = serde_json::from_str::<Value>(line) else {
                    continue;
                };
                let fields = &line["fields"];
                heard.said.take(fields);
                if fields["message"] == "tested" && fields["outcome"] == "ok" {
                    let monitor = fields["monitor"].as_str().unwrap_or_default().to_owned();
                    *heard.good.entry(monitor).or_default() += 1;
                }
            }
        }
        rest.drain(..whole);
        // No one writes any more: one more read gets the rest.
        if ending && bytes.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
