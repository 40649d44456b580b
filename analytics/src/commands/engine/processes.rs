//! Runs workers as processes of this machine.

use std::{
    io::{self, Read, Write as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use super::{collect::Runner, shard::Shard};
use crate::commands::Failure;

/// How often a shard is tried.
const MAX_ATTEMPTS: usize = 3;
/// Largest output of a worker, in bytes.
const MAX_OUTPUT: u64 = 1 << 30;
/// Largest standard error of a worker that is kept, in bytes.
const MAX_MESSAGES: u64 = 16 << 10;
/// How often it is checked whether a worker that has closed its output has ended.
const TICK: Duration = Duration::from_millis(5);

/// Workers as child processes.
#[derive(Debug)]
pub(super) struct Processes {
    program: PathBuf,
    timeout: Duration,
    /// Largest output of a worker, in bytes.
    output: u64,
    count: usize,
}

impl Processes {
    /// One process per core, each running a program, or this one; none may take longer than
    /// `timeout` for a shard.
    ///
    /// # Errors
    /// The path of this program is unknown.
    pub(super) fn new(program: Option<PathBuf>, timeout: Duration) -> io::Result<Self> {
        let program = match program {
            Some(program) => program,
            None => std::env::current_exe()?,
        };
        let count = thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { program, timeout, output: MAX_OUTPUT, count })
    }

    /// Runs a worker until it succeeds, and returns its output.
    fn attempts(&self, shard: &Shard, stop: &AtomicBool) -> Result<String, String> {
        let mut last = String::new();
        for _ in 0..MAX_ATTEMPTS {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            match self.attempt(shard) {
                Ok(output) => return Ok(output),
                Err(error) => last = error,
            }
            tracing::debug!(shard = shard.shard, error = %last, "worker failed");
        }
        Err(last)
    }

    fn attempt(&self, shard: &Shard) -> Result<String, String> {
        let program = self.program.display();
        let failed = |error: io::Error| format!("the worker {program} can't be run: {error}");
        let mut line = serde_json::to_vec(shard).map_err(|error| error.to_string())?;
        line.push(b'\n');
        // Names are part of the line, never of the command.
        let mut child = Command::new(&self.program)
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let deadline = Instant::now() + self.timeout;
        let ended = follow(&mut child, line, self.output, deadline);
        if ended.is_err() {
            // It may have ended meanwhile.
            let _ = child.kill();
            let _ = child.wait();
        }
        let (status, output, messages) = ended?;
        if !status.success() {
            let messages = String::from_utf8_lossy(&messages);
            return Err(format!("a worker failed ({status}): {}", messages.trim()));
        }
        String::from_utf8(output).map_err(|_| "a worker wrote something else than text".to_owned())
    }
}

/// Writes the input of a worker, and returns how it ended, with its output and its messages.
///
/// Its streams are read by threads that no one waits for: a process that a worker has started may
/// keep them open.
fn follow(
    child: &mut Child,
    input: Vec<u8>,
    limit: u64,
    deadline: Instant,
) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), String> {
    if let Some(mut stdin) = child.stdin.take() {
        // A worker that ended early has a better message than a broken pipe.
        thread::spawn(move || stdin.write_all(&input));
    }
    let late = || "a worker did not end in time; see timeout in [engine]".to_owned();
    let left = || deadline.saturating_duration_since(Instant::now());
    let output = child.stdout.take().map(|stream| read(stream, limit));
    let messages = child.stderr.take().map(|stream| read(stream, MAX_MESSAGES));
    let output = match output.map(|output| output.recv_timeout(left())) {
        Some(Ok(Ok((output, true)))) => output,
        Some(Ok(Ok((_, false)))) => {
            return Err(format!("a worker wrote more than {limit} bytes"));
        }
        Some(Ok(Err(error))) => return Err(format!("the output of a worker: {error}")),
        Some(Err(_)) | None => return Err(late()),
    };
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if left().is_zero() => return Err(late()),
            Ok(None) => thread::sleep(TICK),
            Err(error) => return Err(format!("the end of a worker: {error}")),
        }
    };
    let messages = messages.and_then(|messages| messages.recv_timeout(left()).ok());
    let messages = messages.and_then(Result::ok).map(|(messages, _)| messages).unwrap_or_default();
    Ok((status, output, messages))
}

/// Reads a stream up to a size in bytes; the flag is true if this was all of it. The rest is read
/// and dropped for messages, so that the worker can end.
fn read(
    stream: impl Read + Send + 'static,
    limit: u64,
) -> mpsc::Receiver<io::Result<(Vec<u8>, bool)>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut limited = stream.take(limit + 1);
        let result = limited.read_to_end(&mut bytes);
        let is_all = bytes.len() as u64 <= limit;
        bytes.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        // No one receives if the worker was ended.
        let _ = send.send(result.map(|_| (bytes, is_all)));
        if limit == MAX_MESSAGES {
            let _ = io::copy(&mut limited.into_inner(), &mut io::sink());
        }
    });
    receive
}

impl Runner for Processes {
    fn run(
        &self,
        shards: &[&Shard],
        take: &mut dyn FnMut(&str) -> Result<(), Failure>,
        done: &(dyn Fn() + Sync),
    ) -> Result<(), Failure> {
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (send, receive) = mpsc::sync_channel::<Result<String, String>>(1);
        thread::scope(|scope| {
            for _ in 0..self.count.min(shards.len()) {
                let (send, next, stop) = (send.clone(), &next, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed)
                        && let Some(shard) = shards.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        // Everything is received, also after a failure.
                        let _ = send.send(self.attempts(shard, stop));
                        done();
                    }
                });
            }
            drop(send);
            let mut result = Ok(());
            for output in receive {
                if result.is_ok() {
                    result = output
                        .map_err(Failure::work)
                        .and_then(|output| output.lines().try_for_each(&mut *take));
                    stop.store(result.is_err(), Ordering::Relaxed);
                }
            }
            result
        })
    }

    fn count(&self) -> usize {
        self.count
    }

    fn threads(&self) -> usize {
        1
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use mailqos_figures::{Calendar, Period};
    use mailqos_lake_tables::SeriesQuery;
    use mailqos_model::UtcMicros;

    use super::{
        super::shard::{PROTOCOL, Question, Work},
        *,
    };

    fn shard() -> Shard {
        let calendar = Calendar::new(jiff::tz::TimeZone::UTC);
        let period = Period::new(UtcMicros(0), UtcMicros(1), calendar).expect("a period");
        let work = Work::Outages { long: false };
        let question = Question::new(&SeriesQuery::new(&period), &period, UtcMicros(1), work);
        Shard {
            protocol: PROTOCOL,
            program: "1".into(),
            shard: 0,
            data: "/nowhere".into(),
            config: None,
            site: "a".into(),
            from: None,
            to: None,
            // More than fits into a pipe.
            monitors: (0..50_000).map(|number| format!("m{number}")).collect::<BTreeSet<_>>(),
            skip_corrupt: false,
            left_out: BTreeMap::new(),
            threads: 1,
            question: question.expect("a question"),
        }
    }

    #[test]
    fn a_worker_that_writes_without_end_or_reads_nothing_is_ended() {
        let timeout = Duration::from_secs(600);
        let mut processes = Processes::new(Some("yes".into()), timeout).expect("processes");
        processes.output = 1 << 20;
        let error = processes.attempt(&shard()).expect_err("too much");
        assert!(error.contains("more than 1048576 bytes"), "{error}");
        // It ends without reading its input.
        processes.program = "true".into();
        assert_eq!(processes.attempt(&shard()), Ok(String::new()));
        processes.program = "/nowhere/mailqos-analytics".into();
        let error = processes.attempt(&shard()).expect_err("missing");
        assert!(error.contains("can't be run"), "{error}");
    }
}
