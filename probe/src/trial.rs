//! Trials: runs a test of a monitor with settings that are not saved, and reports what happens.
//! Nothing is recorded in the lake.

use std::{sync::Arc, time::Instant};

use mailqos_base::SecretSource;
use mailqos_config::{Config, load_with};
use mailqos_control::{
    response::ErrorResponse,
    trial::{MAX_TRIAL, TrialEvent, TrialPhase, TrialRequest, TrialResult},
};
use mailqos_model::{MonitorId, Outcome};
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::Semaphore,
};

use crate::{
    tester::{Part, TestResult, Tester, Timeline},
    verdict::{verdict, what_to_do},
};

/// Trials at the same time.
static TRIALS: Semaphore = Semaphore::const_new(4);
/// Time between two messages that the test is still running.
const BEAT: std::time::Duration = std::time::Duration::from_secs(1);

/// Runs a trial, and writes its events, one JSON document a line. The test ends early if the other
/// end closes the connection.
///
/// # Errors
/// The other end has closed the connection.
pub(crate) async fn run(
    current: &Config,
    request: TrialRequest,
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    let refused = |error: String| ErrorResponse { error };
    let Ok(_permit) = TRIALS.try_acquire() else {
        return send(&mut write, &refused("too many trials run at the moment".to_owned())).await;
    };
    let (monitor, by) = (request.monitor.clone(), request.by.clone());
    tracing::info!(monitor = %monitor, by = %by, "trying a monitor with settings that are not saved");
    let prepared = match prepare(current, request).await {
        Ok(prepared) => prepared,
        Err(error) => return send(&mut write, &refused(error)).await,
    };
    let (config, id) = prepared;
    let Some(monitor) = config.monitors.get(&id) else {
        return send(&mut write, &refused(format!("no monitor is named {id:?}"))).await;
    };
    let tester = match Tester::new(Arc::clone(&config), None).await {
        Ok(tester) => tester,
        Err(error) => return send(&mut write, &refused(error.to_string())).await,
    };
    tester.attend();
    let mut sent = tester.sent();
    let begun = Instant::now();
    let mut closed = [0; 1];
    let deadline = tokio::time::Instant::now() + MAX_TRIAL;
    let mut beats = tokio::time::interval(BEAT);
    let test = tester.test(monitor);
    tokio::pin!(test);
    let written = async {
        send(&mut write, &TrialEvent::Started { plan: monitor.kind.plan() }).await?;
        loop {
            let event = tokio::select! {
                result = &mut test => break Ok(result),
                changed = sent.changed(), if sent.has_changed().is_ok() => {
                    let _ = changed;
                    TrialEvent::Sent { phases: phases(&sent.borrow_and_update().clone()) }
                }
                _ = beats.tick() => TrialEvent::Waiting {
                    took: i64::try_from(begun.elapsed().as_micros()).unwrap_or(i64::MAX),
                },
                // What is sent after the request means nothing; the end means that no one waits.
                _ = read.read(&mut closed) => {
                    return Err(std::io::ErrorKind::BrokenPipe.into());
                }
                () = tokio::time::sleep_until(deadline) => {
                    tester.stop().await;
                    break Ok((&mut test).await);
                }
            };
            send(&mut write, &event).await?;
        }
    };
    let written: std::io::Result<TestResult> = written.await;
    tester.shutdown().await;
    let result = written?;
    let kind = &monitor.kind;
    let done = TrialResult {
        ok: result.sample.outcome == Outcome::Ok,
        verdict: verdict(&result.sample, kind),
        remedy: what_to_do(kind, result.sample.stage, result.sample.error.as_deref()),
        phases: phases(&result.timeline),
        notes: result.notes,
    };
    send(&mut write, &TrialEvent::Done(done)).await?;
    write.shutdown().await
}

/// Reads the configuration with the texts and secrets of a request.
async fn prepare(
    current: &Config,
    request: TrialRequest,
) -> Result<(Arc<Config>, MonitorId), String> {
    let TrialRequest { monitor, files, secrets, .. } = request;
    let file = current.file.clone();
    let loaded = tokio::task::spawn_blocking(move || load_with(&file, &files)).await;
    let loaded = loaded.map_err(|error| error.to_string())?;
    let mut config = loaded.map_err(|problems| problems.errors().to_string())?;
    for (name, account) in &mut config.accounts {
        if let Some(secret) = secrets.get(name.as_str()) {
            account.login =
                mailqos_config::Login::Password(SecretSource::Literal(secret.0.clone()));
        }
    }
    let id = monitor.parse::<MonitorId>().map_err(|error| error.to_string())?;
    Ok((Arc::new(config), id))
}

fn phases(timeline: &Timeline) -> Vec<TrialPhase> {
    let part = |part| match part {
        Part::Smtp => "smtp",
        Part::Transit => "transit",
        Part::Pickup => "pickup",
    };
    let phases = timeline.phases.iter().map(|phase| TrialPhase {
        part: part(phase.part).to_owned(),
        name: phase.name.to_owned(),
        begin: phase.begin.0,
        took: phase.took.0,
    });
    phases.collect()
}

async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    document: &impl Serialize,
) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(document)?;
    line.push(b'\n');
    to.write_all(&line).await
}
