//! Reads parts of objects for code that is not asynchronous: on a separate thread, through a
//! cache.

use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc as blocking,
    },
};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use mailqos_base::lock::IgnorePoison as _;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    Cache, Object, Remote, RemoteError,
    ranges::{Part, requests},
};

/// Number of requests at the same time.
const AT_ONCE: usize = 24;

/// What was transferred so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Number of reading requests, without listings and retries.
    pub requests: u64,
    /// Bytes of objects that were fetched.
    pub fetched: u64,
    /// Bytes that were found in the cache.
    pub cached: u64,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    fetched: AtomicU64,
    cached: AtomicU64,
}

/// Returns the range of a whole object.
fn whole_of(object: &Object) -> Range<u64> {
    0..object.size
}

/// Reads objects of a store. Its methods block, except for the asynchronous ones.
#[derive(Debug)]
pub struct Fetcher {
    remote: Remote,
    cache: Cache,
    jobs: mpsc::UnboundedSender<BoxFuture<'static, ()>>,
    permits: Arc<Semaphore>,
    /// The store does not serve ranges.
    whole: AtomicBool,
    counters: Arc<Counters>,
    /// The version of each object that was read.
    versions: Mutex<BTreeMap<String, String>>,
}

impl Fetcher {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(remote: Remote, cache: Cache) -> io::Result<Self> {
        let (jobs, mut queue) = mpsc::unbounded_channel::<BoxFuture<'static, ()>>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("object store".to_owned()).spawn(move || {
            runtime.block_on(async move {
                while let Some(job) = queue.recv().await {
                    tokio::spawn(job);
                }
            });
        })?;
        Ok(Self {
            remote,
            cache,
            jobs,
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            whole: AtomicBool::new(false),
            counters: Arc::default(),
            versions: Mutex::default(),
        })
    }

    /// Returns the address of the lake.
    pub fn address(&self) -> &str {
        self.remote.address()
    }

    /// Returns what was transferred so far.
    pub fn traffic(&self) -> Traffic {
        let Counters { requests, fetched, cached } = &*self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic { requests: read(requests), fetched: read(fetched), cached: read(cached) }
    }

    /// Returns the names of the objects that were read, each with its version.
    pub fn versions(&self) -> BTreeMap<String, String> {
        self.versions.lock().ignore_poison().clone()
    }

    /// Lists all objects in a folder of the lake.
    ///
    /// # Errors
    /// The store refuses or can't be reached.
    pub async fn list(&self, folder: &'static str) -> Result<Vec<Object>, RemoteError> {
        let (send, receive) = oneshot::channel();
        let remote = self.remote.clone();
        let job = async move {
            // The request was abandoned.
            let _ = send.send(remote.list(folder).await);
        };
        let _ = self.jobs.send(Box::pin(job));
        receive.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    /// Returns the current version of an object, or `None` if it does not exist.
    ///
    /// # Errors
    /// The store refuses or can't be reached.
    pub fn head(&self, name: &str) -> Result<Option<Object>, RemoteError> {
        let (remote, name) = (self.remote.clone(), name.to_owned());
        self.wait(async move { remote.head(&name).await })
    }

    /// Returns ranges of an object, in the order in which they are given.
    ///
    /// # Errors
    /// [`RemoteError::Changed`]: another version has replaced it. The store refuses or can't be
    /// reached.
    pub fn read(&self, object: &Object, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, RemoteError> {
        let address = self.remote.address();
        let held = self.cache.read(address, object, ranges);
        let missing = ranges.iter().zip(&held).filter(|(_, held)| held.is_none());
        let missing: Vec<Range<u64>> = missing.map(|(range, _)| range.clone()).collect();
        let cached: usize = held.iter().flatten().map(Bytes::len).sum();
        self.counters.cached.fetch_add(cached as u64, Ordering::Relaxed);
        let version = object.version.name().to_owned();
        self.versions.lock().ignore_poison().insert(object.name.clone(), version);
        let fetched = if missing.is_empty() { Vec::new() } else { self.fetch(object, missing)? };
        let mut all = Vec::with_capacity(ranges.len());
        for (range, held) in ranges.iter().zip(held) {
            let found = held.or_else(|| fetched.iter().find_map(|part| part.get(range)));
            // It is shorter than its listing said.
            all.push(
                found.ok_or_else(|| RemoteError::Changed(format!("{address}/{}", object.name)))?,
            );
        }
        Ok(all)
    }

    fn fetch(&self, object: &Object, missing: Vec<Range<u64>>) -> Result<Vec<Part>, RemoteError> {
        let whole = || Vec::from([whole_of(object)]);
        let asked = match self.whole.load(Ordering::Relaxed) {
            true => whole(),
            false => requests(object, missing),
        };
        let parts = match self.fetch_all(object, asked)? {
            Some(parts) => parts,
            None => {
                if !self.whole.swap(true, Ordering::Relaxed) {
                    tracing::info!(store = %self.remote.address(), "the store serves no ranges: objects are read whole");
                }
                self.fetch_all(object, whole())?.unwrap_or_default()
            }
        };
        for part in &parts {
            self.cache.write(self.remote.address(), object, part.start, &part.bytes);
        }
        Ok(parts)
    }

    /// Fetches ranges, several at a time; `None` if the store does not serve them.
    fn fetch_all(
        &self,
        object: &Object,
        ranges: Vec<Range<u64>>,
    ) -> Result<Option<Vec<Part>>, RemoteError> {
        let (remote, permits) = (self.remote.clone(), Arc::clone(&self.permits));
        let (counters, object) = (Arc::clone(&self.counters), object.clone());
        self.wait(async move {
            let one = |range: Range<u64>| async {
                // The semaphore is never closed.
                let _permit = permits.acquire().await;
                counters.requests.fetch_add(1, Ordering::Relaxed);
                let part = match range == whole_of(&object) {
                    true => Some(remote.whole(&object).await?),
                    false => remote.part(&object, range).await?,
                };
                let size = part.as_ref().map_or(0, |part| part.bytes.len());
                counters.fetched.fetch_add(size as u64, Ordering::Relaxed);
                Ok(part)
            };
            let parts = stream::iter(ranges).map(one).buffered(AT_ONCE);
            let parts: Vec<Option<Part>> = parts.try_collect().await?;
            Ok(parts.into_iter().collect())
        })
    }

    /// Runs work on the thread and waits for it.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, RemoteError>> + Send + 'static,
    ) -> Result<T, RemoteError> {
        let (send, receive) = blocking::sync_channel(1);
        let job = async move {
            let _ = send.send(work.await);
        };
        let _ = self.jobs.send(Box::pin(job));
        receive.recv().unwrap_or_else(|_| Err(self.stopped()))
    }

    fn stopped(&self) -> RemoteError {
        RemoteError::Store {
            address: self.remote.address().to_owned(),
            reason: "the transfer was interrupted".to_owned(),
            status: None,
        }
    }
}
