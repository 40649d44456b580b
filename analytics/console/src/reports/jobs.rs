//! Reports that are being generated or were generated lately, each in a separate folder.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use mailqos_base::lock::IgnorePoison as _;

use super::{
    maker::ARGUMENT,
    order::{Composed, Line, MadeFile, Order},
};
use crate::access::{self, NoRandomness, viewer::Owner};

/// Reports that are generated at the same time.
const MAX_RUNNING: usize = 2;
/// Unfinished reports of a user.
const MAX_OF_USER: usize = 4;
/// Unfinished reports of all users.
const MAX_UNFINISHED: usize = 40;
/// Longest time for a report.
const MAX_TIME: Duration = Duration::from_secs(600);
/// Time for which finished reports are kept.
const KEEP: Duration = Duration::from_secs(3_600);
/// Finished reports that are kept.
const MAX_KEPT: usize = 200;
/// Size of all kept files, in bytes.
const MAX_BYTES: u64 = 1 << 30;
/// Interval at which a process is checked.
const LOOK: Duration = Duration::from_millis(50);
/// Longest output of a process, in bytes.
const MAX_OUTPUT: u64 = 4 << 20;

/// Reasons why a report is not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    /// The user has too many unfinished reports.
    #[error("this user has too many unfinished reports")]
    TooManyOfUser,
    /// There are too many unfinished reports.
    #[error("there are too many unfinished reports")]
    TooMany,
    /// The folder can't be made.
    #[error("{0}")]
    Folder(io::Error),
    /// No id can be chosen.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

/// State of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Others are generated first.
    Waiting,
    /// Samples are read.
    Reading,
    /// Files are written.
    Writing,
    /// All files are complete.
    Done,
    /// It can't be generated, for this reason.
    Failed(String),
    /// Someone cancelled it.
    Cancelled,
}

impl State {
    /// Whether nothing changes any more.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Done | Self::Failed(_) | Self::Cancelled)
    }

    /// Returns the word of the API.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Reading => "reading",
            Self::Writing => "writing",
            Self::Done => "done",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A report.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// The user.
    pub(crate) owner: Owner,
    /// Title to show until the report has one.
    pub(crate) title: String,
    /// Address of the form that it was asked for with.
    pub(crate) again: String,
    /// State.
    pub(crate) state: State,
    /// Composed reports.
    pub(crate) reports: Vec<Composed>,
    /// Complete files.
    pub(crate) files: Vec<MadeFile>,
    begun: Instant,
    is_cancelled: bool,
}

#[derive(Debug, Default)]
struct Inner {
    jobs: BTreeMap<String, Job>,
    running: usize,
    is_stopping: bool,
}

/// All reports.
#[derive(Debug)]
pub(crate) struct Jobs {
    folder: PathBuf,
    program: Option<PathBuf>,
    inner: Arc<(Mutex<Inner>, Condvar)>,
}

impl Jobs {
    /// Returns an empty collection; files of an earlier process are removed.
    pub(crate) fn new(state: &Path) -> Self {
        let folder = state.join("reports");
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "console: old reports can't be removed");
        }
        // Found now: after an upgrade, the path of the running program no longer exists.
        Self { folder, program: std::env::current_exe().ok(), inner: Arc::default() }
    }

    /// Starts generating a report, and returns its id.
    ///
    /// # Errors
    /// There are too many, or the folder can't be made.
    pub(crate) fn start(
        &self,
        mut order: Order,
        owner: Owner,
        title: &str,
        again: String,
    ) -> Result<String, JobError> {
        self.tidy();
        let id = access::random_text()?;
        let folder = self.folder.join(&id);
        order.folder.clone_from(&folder);
        let job = Job {
            owner,
            title: title.to_owned(),
            again,
            state: State::Waiting,
            reports: Vec::new(),
            files: Vec::new(),
            begun: Instant::now(),
            is_cancelled: false,
        };
        {
            let mut inner = self.inner.0.lock().ignore_poison();
            let unfinished = || inner.jobs.values().filter(|job| !job.state.is_over());
            let own = |other: &&Job| other.owner.name == job.owner.name && !other.is_cancelled;
            if unfinished().filter(own).count() >= MAX_OF_USER {
                return Err(JobError::TooManyOfUser);
            }
            if unfinished().count() >= MAX_UNFINISHED {
                return Err(JobError::TooMany);
            }
            std::fs::create_dir_all(&folder).map_err(JobError::Folder)?;
            inner.jobs.insert(id.clone(), job);
        }
        let run = Run {
            id: id.clone(),
            order,
            program: self.program.clone(),
            inner: Arc::clone(&self.inner),
        };
        let thread = thread::Builder::new().name("report".to_owned());
        if let Err(error) = thread.spawn(move || run.run()) {
            self.inner.0.lock().ignore_poison().jobs.remove(&id);
            return Err(JobError::Folder(error));
        }
        Ok(id)
    }

    /// Returns a report of this user.
    pub(crate) fn get(&self, id: &str, owner: &Owner) -> Option<Job> {
        let inner = self.inner.0.lock().ignore_poison();
        inner.jobs.get(id).filter(|job| job.owner == *owner).cloned()
    }

    /// Returns the reports of a user, newest first.
    pub(crate) fn of(&self, owner: &Owner) -> Vec<(String, Job)> {
        let inner = self.inner.0.lock().ignore_poison();
        let own = inner.jobs.iter().filter(|(_, job)| job.owner == *owner);
        let mut own: Vec<_> = own.map(|(id, job)| (id.clone(), job.clone())).collect();
        own.sort_by_key(|(_, job)| std::cmp::Reverse(job.begun));
        own
    }

    /// Returns the path of a complete file of a report.
    pub(crate) fn path(&self, id: &str, job: &Job, name: &str) -> Option<PathBuf> {
        let file = job.files.iter().find(|file| file.name == name)?;
        Some(self.folder.join(id).join(&file.name))
    }

    /// Cancels a report.
    pub(crate) fn cancel(&self, id: &str, owner: &Owner) {
        let mut inner = self.inner.0.lock().ignore_poison();
        if let Some(job) = inner.jobs.get_mut(id).filter(|job| job.owner == *owner) {
            job.is_cancelled = true;
        }
        self.inner.1.notify_all();
    }

    /// Ends all processes.
    pub(crate) fn stop(&self) {
        let (inner, changed) = &*self.inner;
        let mut inner = inner.lock().ignore_poison();
        inner.is_stopping = true;
        changed.notify_all();
        let wait = changed.wait_timeout_while(inner, LOOK * 40, |inner| inner.running > 0);
        drop(wait);
    }

    /// Removes reports that are old, many or large; the oldest first.
    fn tidy(&self) {
        let mut inner = self.inner.0.lock().ignore_poison();
        let over = inner.jobs.iter().filter(|(_, job)| job.state.is_over());
        let mut over: Vec<(Instant, u64, String)> = over
            .map(|(id, job)| (job.begun, job.files.iter().map(|file| file.bytes).sum(), id.clone()))
            .collect();
        over.sort();
        over.reverse();
        let (mut kept, mut bytes) = (0, 0_u64);
        for (begun, size, id) in over {
            kept += 1;
            bytes = bytes.saturating_add(size);
            if begun.elapsed() > KEEP || kept > MAX_KEPT || bytes > MAX_BYTES {
                inner.jobs.remove(&id);
                let _ = std::fs::remove_dir_all(self.folder.join(&id));
            }
        }
    }
}

/// The work on a report.
struct Run {
    id: String,
    order: Order,
    program: Option<PathBuf>,
    inner: Arc<(Mutex<Inner>, Condvar)>,
}

impl Run {
    fn run(self) {
        let (inner, changed) = &*self.inner;
        let is_wanted = |inner: &Inner| {
            !inner.is_stopping && inner.jobs.get(&self.id).is_some_and(|job| !job.is_cancelled)
        };
        {
            let inner = inner.lock().ignore_poison();
            let mut inner = changed
                .wait_while(inner, |inner| is_wanted(inner) && inner.running >= MAX_RUNNING)
                .ignore_poison();
            if !is_wanted(&inner) {
                drop(inner);
                self.end(State::Cancelled);
                return;
            }
            inner.running += 1;
        }
        self.change(|job| job.state = State::Reading);
        let state = match self.make() {
            Ok(state) => state,
            Err(error) => State::Failed(format!("the process can't be started: {error}")),
        };
        inner.lock().ignore_poison().running -= 1;
        self.end(state);
        changed.notify_all();
    }

    fn end(&self, state: State) {
        if let State::Failed(reason) = &state {
            tracing::warn!(%reason, "console: a report failed");
        }
        if state != State::Done {
            let _ = std::fs::remove_dir_all(&self.order.folder);
        }
        self.change(|job| {
            if state != State::Done {
                job.files.clear();
            }
            job.state = state;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Job)) {
        let mut inner = self.inner.0.lock().ignore_poison();
        if let Some(job) = inner.jobs.get_mut(&self.id) {
            change(job);
        }
    }

    fn is_wanted(&self) -> bool {
        let inner = self.inner.0.lock().ignore_poison();
        !inner.is_stopping && inner.jobs.get(&self.id).is_some_and(|job| !job.is_cancelled)
    }

    /// Runs the process until it ends, is cancelled or takes too long.
    fn make(&self) -> io::Result<State> {
        let program = self.program.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let mut order = serde_json::to_vec(&self.order)?;
        order.push(b'\n');
        let mut child = Command::new(program)
            .arg(ARGUMENT)
            // The settings that `report` gives its allocator.
            .env("MIMALLOC_PURGE_DELAY", "100")
            .env("MIMALLOC_ALLOW_THP", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take();
        let output = child.stdout.take();
        let (last, ended) = thread::scope(|scope| {
            let reading = scope.spawn(|| output.map(|output| self.read(output)));
            if let Some(input) = &mut input {
                // A process that ended early reports the reason differently.
                let _ = input.write_all(&order);
            }
            let ended = self.wait(&mut child);
            // The process ends with its input.
            drop(input);
            (reading.join().ok().flatten().flatten(), ended)
        });
        Ok(match (ended?, last) {
            (Ended::Cancelled, _) => State::Cancelled,
            (Ended::Late, _) => State::Failed(format!(
                "it took longer than {} minutes; choose fewer monitors or a shorter period",
                MAX_TIME.as_secs() / 60
            )),
            (Ended::By(status), Some(Line::Done)) if status.success() => State::Done,
            (Ended::By(_), Some(Line::Failed(reason))) => State::Failed(reason),
            (Ended::By(status), _) => State::Failed(format!(
                "the process ended unexpectedly ({status}), for example because it needed too much memory; \
                 choose fewer monitors or a shorter period"
            )),
        })
    }

    /// Reads the lines of the process, and returns the last one.
    fn read(&self, output: impl io::Read) -> Option<Line> {
        let mut last = None;
        for line in BufReader::new(output.take(MAX_OUTPUT)).lines().map_while(Result::ok) {
            let Ok(line) = serde_json::from_str::<Line>(&line) else { continue };
            match &line {
                Line::Report(report) => self.change(|job| {
                    job.state = State::Writing;
                    job.reports.push(report.clone());
                }),
                Line::File(file) if is_plain(&file.name) => {
                    self.change(|job| job.files.push(file.clone()));
                }
                Line::File(_) | Line::Done | Line::Failed(_) => {}
            }
            last = Some(line);
        }
        last
    }

    fn wait(&self, child: &mut Child) -> io::Result<Ended> {
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Ended::By(status));
            }
            let is_late = begun.elapsed() > MAX_TIME;
            if is_late || !self.is_wanted() {
                child.kill()?;
                child.wait()?;
                return Ok(if is_late { Ended::Late } else { Ended::Cancelled });
            }
            thread::sleep(LOOK);
        }
    }
}

/// How a process ended.
enum Ended {
    By(ExitStatus),
    Cancelled,
    Late,
}

/// Whether a name is that of a file in the folder itself.
fn is_plain(name: &str) -> bool {
    !name.starts_with('.') && Path::new(name).file_name().is_some_and(|it| it == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::reports::order::Subject;

    fn order() -> Order {
        Order {
            config: PathBuf::new(),
            lake: PathBuf::new(),
            subject: Subject::Template("trend".to_owned()),
            monitors: None,
            only: None,
            period: None,
            language: None,
            formats: Vec::new(),
            folder: PathBuf::new(),
        }
    }

    fn owner(name: &str, tags: Option<&str>) -> Owner {
        let tags = tags.map(|tag| BTreeSet::from([tag.to_owned()]));
        Owner { name: name.to_owned(), tags }
    }

    /// A collection whose process waits forever, whatever its argument is.
    fn jobs(folder: &Path) -> Jobs {
        let program = folder.join("program");
        std::fs::write(&program, "#!/bin/sh\nexec sleep 600\n").expect("written");
        #[cfg(unix)]
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("a mode");
        Jobs { program: Some(program), ..Jobs::new(folder) }
    }

    fn wait_for(jobs: &Jobs, id: &str, owner: &Owner, state: &State) {
        let begun = Instant::now();
        while jobs.get(id, owner).expect("a report").state != *state {
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", jobs.get(id, owner));
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[cfg(unix)]
    #[test]
    fn reports_are_bounded_cancelled_and_only_their_users() {
        let folder = tempfile::tempdir().expect("a folder");
        let jobs = jobs(folder.path());
        let anna = owner("anna", None);
        let start = |owner: &Owner| jobs.start(order(), owner.clone(), "Title", String::new());
        let ids: Vec<String> = (0..MAX_OF_USER).map(|_| start(&anna).expect("begun")).collect();
        assert!(matches!(start(&anna), Err(JobError::TooManyOfUser)));
        let running = || {
            let states = ids.iter().filter_map(|id| jobs.get(id, &anna)).map(|job| job.state);
            states.filter(|state| *state == State::Reading).count()
        };
        let begun = Instant::now();
        while running() < MAX_RUNNING {
            assert!(begun.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(running(), MAX_RUNNING, "the others wait");
        // Another user, and the same user with other rights, see nothing and can't cancel.
        for other in [owner("berta", None), owner("anna", Some("acme"))] {
            assert!(jobs.get(&ids[0], &other).is_none() && jobs.of(&other).is_empty());
            jobs.cancel(&ids[0], &other);
        }
        assert!(!jobs.get(&ids[0], &anna).expect("a report").is_cancelled);
        for id in &ids {
            jobs.cancel(id, &anna);
        }
        for id in &ids {
            wait_for(&jobs, id, &anna, &State::Cancelled);
            assert!(!jobs.folder.join(id).exists());
        }
        let id = start(&anna).expect("begun");
        wait_for(&jobs, &id, &anna, &State::Reading);
        jobs.stop();
        wait_for(&jobs, &id, &anna, &State::Cancelled);
    }

    #[test]
    fn names_of_files_stay_in_their_folder() {
        for (name, plain) in [
            ("trend-2026-11.pdf", true),
            ("東京.html", true),
            ("../users.json", false),
            ("a/b", false),
            ("..", false),
            (".hidden", false),
            ("", false),
        ] {
            assert_eq!(is_plain(name), plain, "{name:?}");
        }
    }
}
