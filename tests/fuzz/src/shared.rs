//! The targets of the crates in `core/`: inputs of both programs from outside, and guarantees that
//! must hold for any content.

use std::{
    cell::RefCell,
    path::Path,
    time::{Duration, Instant},
};

use jiff::tz::TimeZone;
use mailqos_base::{Secret, fuzzing::in_file};
use mailqos_config as config;
use mailqos_config::Cron;
use mailqos_lake as lake;
use mailqos_lake::{DayReader, Record};
use mailqos_mail::{Credentials, Smtp, Wire, oauth::OAuth};
use mailqos_model::{Direction, Event, Sample, Stage, UtcMicros};
use mailqos_net::{Trust, http};
use tokio::runtime::Runtime;

/// Fuzz targets: each one's name, which is also that of its folder of seeds, and its function.
pub(crate) const TARGETS: [(&str, crate::Target); 8] = [
    ("configuration", configuration),
    ("schedule", schedule),
    ("day_file", day_file),
    ("smtp_reply", smtp_reply),
    ("http_reply", http_reply),
    ("token_server", token_server),
    ("id_token", id_token),
    ("autoconfig", autoconfig),
];

/// A word that no message may show.
const PASSWORD: &str = "Xyzzy-4711-Plugh";
/// Number of occurrences of an expression that are checked.
const RUNS: usize = 3;

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"),
    );
}

fn wait_for<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with_borrow(|runtime| runtime.block_on(future))
}

/// Checks a message that users read: one line, not too long, without the password.
fn is_presentable(text: &str, most: usize) {
    assert!(
        text.chars().count() <= most && !text.contains(['\r', '\n']) && !text.contains(PASSWORD),
        "{text:?}"
    );
}

/// Reads a configuration file, or reports all its problems.
pub(crate) fn configuration(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let path = Path::new("/nowhere/mailqos.toml");
    match config::of_text(path, text.to_owned()) {
        Ok(config) => {
            assert!(!config.warnings.has_errors());
            let _ = config.warnings.render(false);
            // If it also occurs elsewhere, it is not a secret.
            let is_secret = text.matches(PASSWORD).count() == 1
                && text.contains(&format!("\npassword = \"{PASSWORD}\"\n"));
            assert!(!is_secret || !format!("{config:?}").contains(PASSWORD), "a secret is shown");
            let now = UtcMicros(1_795_456_800_000_000);
            for monitor in config.monitors.values() {
                if let Some(calendar) = &monitor.calendar {
                    assert!(calendar.next(now).is_none_or(|next| next > now));
                }
            }
            for window in &config.maintenance {
                assert!(window.when.next(now).is_none_or(|(from, to)| from < to && now < to));
            }
            for level in config.service_levels.values() {
                let _ = level.hours.within(now, UtcMicros(now.0 + 3 * 86_400_000_000));
            }
        }
        Err(problems) => {
            assert!(problems.has_errors());
            assert!(!problems.render(false).is_empty() && !problems.render(true).is_empty());
        }
    }
}

/// Parses a cron expression, followed on the next lines by a time zone and the second since 1970
/// after which the next time is requested.
pub(crate) fn schedule(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines();
    let expression = lines.next().unwrap_or_default();
    let Ok(cron) = expression.parse::<Cron>() else {
        return;
    };
    let zone = lines.next().and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC);
    let second: i64 = lines.next().and_then(|line| line.parse().ok()).unwrap_or(1_795_456_800);
    let mut at = UtcMicros(second.clamp(0, 32_503_680_000) * 1_000_000);
    for _ in 0..RUNS {
        let Some(next) = cron.next(at, &zone) else {
            return;
        };
        assert!(next > at, "{expression:?} in {zone:?}: {next} after {at}");
        at = next;
    }
}

/// Reads a day file of the lake.
pub(crate) fn day_file(bytes: &[u8]) {
    in_file("samples.parquet", bytes, |path| {
        rows::<Sample>(path);
        rows::<Event>(path);
        let _ = lake::intact(path);
    });
}

fn rows<R: Record>(path: &Path) {
    if let Ok(Some(reader)) = DayReader::<R>::open(path) {
        let _ = reader.sealed();
        let rows: Result<Vec<R>, _> = reader.collect();
        if let Err(error) = rows {
            assert!(error.to_string().contains("samples.parquet"), "{error}");
        }
    }
    let _ = lake::salvage::<R>(path);
}

/// Replays a server's side of a plaintext SMTP session: greeting, EHLO, AUTH, MAIL, RCPT, DATA.
pub(crate) fn smtp_reply(said: &[u8]) {
    let step = Duration::from_secs(10);
    let endpoint = config::Endpoint {
        server: "script".to_owned(),
        port: 25,
        tls: config::TlsMode::None,
        trust: Trust::default(),
        account: None,
        helo: None,
        proxy: None,
    };
    let address: lettre::Address = "probe@example.com".parse().expect("an address");
    let mut smtp = Smtp::new(&endpoint, step);
    let mut reached = false;
    let result = wait_for(async {
        smtp.converse_over(Wire::scripted(said.to_vec(), step), Instant::now()).await?;
        let _ = smtp.size_limit();
        smtp.authenticate(&Credentials::password("user", Secret::new(PASSWORD))).await?;
        smtp.envelope(Some(&address), std::slice::from_ref(&address), 100, false).await?;
        smtp.data(|| {
            reached = true;
            b"Subject: x\r\n\r\ny\r\n".to_vec()
        })
        .await
    });
    match result {
        Ok(reply) => assert!(reached && reply.is_success()),
        Err(error) => {
            assert!(
                error.text.chars().count() <= 600 && !error.text.contains(['\r', '\n']),
                "{error}"
            );
            // The server can't reveal a password that it has not received.
            let heard = !matches!(error.stage, Stage::SmtpConnect | Stage::SmtpGreeting);
            assert!(!heard || !error.text.contains(PASSWORD), "{error}");
            assert!(!error.uncertain || (reached && error.stage == Stage::SmtpData), "{error:?}");
        }
    }
    let transcript = smtp.transcript().expect("the transcript");
    let sent = transcript.chunks().filter(|chunk| chunk.direction == Direction::Sent);
    for chunk in sent {
        assert!(!String::from_utf8_lossy(&chunk.bytes).contains(PASSWORD), "a password is shown");
    }
}

/// Parses the answer of a webhook's server.
pub(crate) fn http_reply(said: &[u8]) {
    const MAX: usize = 512;
    let request = http::Request {
        method: "POST".to_owned(),
        url: Secret::new("http://script/hook"),
        headers: Vec::new(),
        body: b"{}".to_vec(),
        via: http::Route::Direct,
    };
    match wait_for(http::replay(said.to_vec(), &request, MAX)) {
        Ok(answer) => {
            assert!(answer.body.len() <= MAX && (100..1000).contains(&answer.status), "{answer:?}");
            let summary = answer.summary(&[]);
            assert!(summary.chars().count() <= 300 && !summary.contains(['\r', '\n']), "{summary}");
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
}

/// Parses the statement of who signed in.
pub(crate) fn id_token(said: &[u8]) {
    let token = String::from_utf8_lossy(said);
    match mailqos_mail::sign_in::replay_identity(&token, "client") {
        Ok(identity) => {
            assert!(identity.user.is_none_or(|user| !user.contains(['\r', '\n', '\u{1b}'])));
        }
        Err(error) => is_presentable(&error.to_string(), 200),
    }
}

/// Parses an autoconfig file.
pub(crate) fn autoconfig(text: &[u8]) {
    let address = "anna@example.com".parse().expect("an address");
    match mailqos_discovery::replay_document(text, &address) {
        Ok(count) => assert!((1..=16).contains(&count), "{count} servers"),
        Err(reason) => is_presentable(&reason, 600),
    }
}

/// Parses the answer of an OAuth 2.0 token server.
pub(crate) fn token_server(said: &[u8]) {
    let oauth = OAuth::new(config::OAuthOptions {
        token_url: "http://script/token".to_owned(),
        client_id: "client".to_owned(),
        client_secret: None,
        certificate: None,
        federated_token_file: None,
        graph: None,
        scope: None,
        refresh_token: None,
        authorize_url: None,
        device_url: None,
        service_account: None,
        user: String::new(),
        sign_in_expires: None,
        secret_expires: None,
        trust: Trust::default(),
        kept: "/nowhere/kept".into(),
        proxy: mailqos_config::Proxy::default(),
    });
    let (secret, refresh) = (Secret::new(PASSWORD), Secret::new("refresh-0815"));
    for refresh in [None, Some(&refresh)] {
        match wait_for(oauth.replay(said.to_vec(), &secret, refresh)) {
            Ok((token, _)) => assert!(said.len() >= token.expose().len()),
            Err(error) => {
                is_presentable(&error.to_string(), 600);
                assert!(
                    refresh.is_none() || !error.to_string().contains("refresh-0815"),
                    "{error}"
                );
            }
        }
    }
}
