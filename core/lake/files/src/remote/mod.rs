//! A lake in an object store (Amazon S3 or compatible, Azure, Google). Day files are written as a
//! whole, each with a condition that guards against a second writer, and mirrored to a folder for
//! reading. The layout is the same as in a folder.
//!
//! Stores handle conditions differently. The behaviour of a store is detected from its responses
//! and kept in [`Habits`]: some require unquoted ETags (Ceph's gateway), some reject conditions
//! (Backblaze B2), some ignore them, some require a checksum (object lock), and some never replace
//! an object. Whatever the behaviour, another writer's rows are not overwritten.

mod cache;
#[cfg(feature = "object-store")]
mod client;
#[cfg(not(feature = "object-store"))]
#[path = "no_client.rs"]
mod client;
#[cfg_attr(not(feature = "object-store"), allow(dead_code, reason = "clients use it"))]
mod dialect;
mod fetcher;
mod habits;
mod mirror;
mod ranges;
mod refusal;

use std::sync::{Arc, Mutex, atomic::Ordering};

use futures_util::TryStreamExt as _;
use object_store::{
    Error as StoreError, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, UpdateVersion,
    path::Path as Key,
};
use sha2::{Digest as _, Sha256};

pub use cache::Cache;
pub use fetcher::{Fetcher, Traffic};
pub use habits::{Conditions, Habits, Version};
pub use mirror::Mirrored;

use client::Clients;
use dialect::Dialect;
use mailqos_base::lock::IgnorePoison as _;
use mailqos_base::{Secret, hex};
use mailqos_config::ObjectStoreOptions;
use mailqos_net::http::Route;
use refusal::Refusal;

/// Largest object in bytes that is read.
const MAX: u64 = 2 * 1024 * 1024 * 1024;
/// An ETag that no object has, so a condition with it must fail.
const WRONG_ETAG: &str = "\"00000000000000000000000000000000\"";

/// Errors of an object store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RemoteError {
    /// The address or the options are invalid.
    #[error("{address}: {reason}")]
    Options {
        /// The lake's address.
        address: String,
        /// The reason.
        reason: String,
    },
    /// The store refused the request, or could not be reached.
    #[error("{address}: {reason}")]
    Store {
        /// The object's address.
        address: String,
        /// The store's message.
        reason: String,
        /// HTTP status of the response; `None` if there was none.
        status: Option<u16>,
    },
    /// Another writer has changed the object in the meantime.
    #[error("{0}: another writer has changed it in the meantime")]
    Changed(String),
    /// The store never replaces an object, and an object with different content exists.
    #[error(
        "{0}: this store never replaces an object, and the existing object has different content"
    )]
    WriteOnce(String),
    /// The mirror's folder can't be written.
    #[error("{path}: {reason}", path = path.display())]
    Mirror {
        /// The file or folder.
        path: std::path::PathBuf,
        /// The reason.
        reason: String,
    },
}

impl RemoteError {
    /// Returns whether the problem concerns the whole store: it can't be reached, or is too busy.
    pub fn is_of_store(&self) -> bool {
        matches!(self, Self::Store { status, .. } if status.is_none_or(|status| status == 429 || (500..=504).contains(&status) && status != 501))
    }

    /// Returns whether the store rejects the credentials.
    pub fn is_denial(&self) -> bool {
        matches!(self, Self::Store { status: Some(401 | 403), .. })
    }
}

/// A bucket and its access settings.
#[cfg_attr(not(feature = "object-store"), allow(dead_code, reason = "clients read it"))]
#[derive(Clone, Copy)]
struct Bucket<'a> {
    scheme: &'a str,
    name: &'a str,
    options: &'a ObjectStoreOptions,
    credentials: Option<(&'a str, &'a Secret)>,
}

/// An object in the store.
#[derive(Debug, Clone)]
pub struct Object {
    /// Name relative to the lake, with `/`.
    pub name: String,
    /// Version, for conditions and to detect changes.
    pub version: Version,
    /// Size in bytes.
    pub size: u64,
}

/// A lake in an object store.
#[derive(Debug, Clone)]
pub struct Remote {
    store: Arc<dyn ObjectStore>,
    /// Client that sends a checksum with each object, if the library supports it for this store.
    summing: Option<Arc<dyn ObjectStore>>,
    dialect: Arc<Dialect>,
    habits: Arc<Mutex<Habits>>,
    prefix: String,
    address: String,
}

impl Remote {
    /// Opens the lake at `s3://bucket/prefix`, `az://container/prefix` or `gs://bucket/prefix`.
    /// Missing options are taken from the environment variables that each store's own tools use.
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// The address or the options are invalid.
    pub fn open(
        address: &str,
        options: &ObjectStoreOptions,
        credentials: Option<(&str, &Secret)>,
        via: &Route,
    ) -> Result<Self, RemoteError> {
        let wrong = |reason: String| RemoteError::Options { address: address.to_owned(), reason };
        let Some((scheme, rest)) = address.split_once("://") else {
            return Err(wrong("it is not an address of an object store".into()));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(wrong(format!("the bucket is missing: use {scheme}://bucket/prefix")));
        }
        let dialect = Arc::new(Dialect::default());
        let bucket = Bucket { scheme, name: bucket, options, credentials };
        let Clients { store, summing } = client::open(&bucket, via, &dialect).map_err(wrong)?;
        Ok(Self {
            store,
            summing,
            dialect,
            habits: Arc::default(),
            prefix: prefix.trim_matches('/').to_owned(),
            address: address.trim_end_matches('/').to_owned(),
        })
    }

    /// Returns the address of the lake.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn key(&self, name: &str) -> Key {
        if self.prefix.is_empty() {
            Key::from(name)
        } else {
            Key::from(format!("{}/{name}", self.prefix))
        }
    }

    fn error(&self, name: &str, error: &StoreError) -> RemoteError {
        let address = format!("{}/{name}", self.address);
        match error {
            StoreError::Precondition { .. } | StoreError::AlreadyExists { .. } => {
                RemoteError::Changed(address)
            }
            other => {
                let Refusal { status, reason } = Refusal::of(other);
                RemoteError::Store { address, reason, status }
            }
        }
    }

    /// Returns the known behaviour of the store.
    pub fn habits(&self) -> Habits {
        *self.habits.lock().ignore_poison()
    }

    /// Sets the behaviour of the store that an earlier process detected.
    pub fn expect(&self, habits: Habits) {
        self.dialect.digest.store(habits.checksum, Ordering::Relaxed);
        *self.habits.lock().ignore_poison() = habits;
    }

    fn learn(&self, change: impl FnOnce(&mut Habits)) {
        let mut habits = self.habits();
        change(&mut habits);
        if habits != self.habits() {
            tracing::info!(store = %self.address, habits = %habits.told().join("; "), "object store tested");
        }
        self.expect(habits);
    }

    /// Sends a PUT in the form that the store is known to require, without checking the existing
    /// object.
    async fn put_once(
        &self,
        name: &str,
        bytes: &[u8],
        mode: PutMode,
    ) -> Result<Version, StoreError> {
        let options = PutOptions { mode, ..PutOptions::default() };
        let store = match &self.summing {
            Some(summing) if self.habits().checksum => summing,
            _ => &self.store,
        };
        let put = store.put_opts(&self.key(name), bytes.to_vec().into(), options).await?;
        Ok(Version {
            e_tag: put.e_tag,
            version: put.version,
            digest: Some(hex(&Sha256::digest(bytes))),
            stamp: None,
        })
    }

    /// Sends a PUT, and repeats it with a checksum if the store requires one.
    async fn put_summed(
        &self,
        name: &str,
        bytes: &[u8],
        mode: &PutMode,
    ) -> Result<Version, StoreError> {
        match self.put_once(name, bytes, mode.clone()).await {
            Err(error) if !self.habits().checksum && wants_checksum(&Refusal::of(&error)) => {
                self.learn(|habits| habits.checksum = true);
                self.put_once(name, bytes, mode.clone()).await
            }
            put => put,
        }
    }

    /// Writes an object as a whole. `known` is the version to replace; without one, the object must
    /// not exist yet.
    ///
    /// # Errors
    /// [`RemoteError::Changed`] if the object has another version; the store refuses or can't be
    /// reached.
    pub async fn put(
        &self,
        name: &str,
        bytes: Vec<u8>,
        known: Option<&Version>,
    ) -> Result<Version, RemoteError> {
        if known.is_some() && self.habits().write_once {
            return match self.get(name).await? {
                Some((current, content)) if content == bytes => Ok(current),
                _ => Err(RemoteError::WriteOnce(format!("{}/{name}", self.address))),
            };
        }
        // Each round detects some behaviour of the store, or is the last one.
        for _ in 0..4 {
            let habits = self.habits();
            if !habits.guards() || known.is_some_and(|known| !known.has_tag()) {
                return self.put_compared(name, bytes, known).await;
            }
            let mode = match known {
                None => PutMode::Create,
                Some(known) => PutMode::Update(UpdateVersion {
                    e_tag: known.tag().map(|tag| match habits.conditions {
                        Conditions::Unquoted => tag.to_owned(),
                        _ => format!("\"{tag}\""),
                    }),
                    version: known.version.clone(),
                }),
            };
            let error = match self.put_summed(name, &bytes, &mode).await {
                Ok(version) => return Ok(version),
                Err(error) => error,
            };
            let refusal = Refusal::of(&error);
            let is_conflict =
                matches!(error, StoreError::Precondition { .. } | StoreError::AlreadyExists { .. });
            if !is_conflict && !knows_no_conditions(&refusal) && !refuses_to_replace(&refusal) {
                return Err(self.error(name, &error));
            }
            if !is_conflict && knows_no_conditions(&refusal) {
                self.learn(|habits| habits.conditions = Conditions::Refused);
                continue;
            }
            // Either the object has changed, or the store did not understand the condition.
            let Some((current, content)) = self.get(name).await? else {
                return Err(self.error(name, &error));
            };
            if content == bytes {
                // An earlier attempt succeeded, but its response was lost.
                return Ok(current);
            }
            if !known.is_some_and(|known| known.is(&current)) {
                return Err(RemoteError::Changed(format!("{}/{name}", self.address)));
            }
            if !is_conflict {
                // A store that never replaces objects responds like this, but so does one that
                // denies this client any access.
                if self.may_create().await {
                    self.learn(|habits| habits.write_once = true);
                    return Err(RemoteError::WriteOnce(format!("{}/{name}", self.address)));
                }
                return Err(self.error(name, &error));
            }
            self.learn(|habits| {
                habits.conditions = match habits.conditions {
                    Conditions::Kept => Conditions::Unquoted,
                    _ => Conditions::Refused,
                };
            });
        }
        Err(RemoteError::Changed(format!("{}/{name}", self.address)))
    }

    /// Returns whether this client may write a new object.
    async fn may_create(&self) -> bool {
        let mut random = [0; 8];
        if getrandom::fill(&mut random).is_err() {
            return false;
        }
        let name = format!("writers/check-{}.json", hex(&random));
        let created = self.put_summed(&name, b"{}", &PutMode::Create).await.is_ok();
        let _ = self.delete(&name).await;
        created
    }

    /// Writes an object to a store that does not support conditional writes, reading the existing
    /// one before and after. Content of another writer is not knowingly overwritten, and a write in
    /// between is detected.
    async fn put_compared(
        &self,
        name: &str,
        bytes: Vec<u8>,
        known: Option<&Version>,
    ) -> Result<Version, RemoteError> {
        let changed = || RemoteError::Changed(format!("{}/{name}", self.address));
        match (known, self.get(name).await?) {
            (_, Some((current, content))) if content == bytes => return Ok(current),
            (None, None) => {}
            (Some(known), Some((current, _))) if known.is(&current) => {}
            _ => return Err(changed()),
        }
        let put = self.put_summed(name, &bytes, &PutMode::Overwrite).await;
        if let Err(error) = put {
            let is_held = known.is_some()
                && refuses_to_replace(&Refusal::of(&error))
                && self.may_create().await;
            if is_held {
                self.learn(|habits| habits.write_once = true);
                return Err(RemoteError::WriteOnce(format!("{}/{name}", self.address)));
            }
            return Err(self.error(name, &error));
        }
        match self.get(name).await? {
            Some((version, content)) if content == bytes => Ok(version),
            _ => Err(changed()),
        }
    }

    /// Tests how the store handles conditions, with an object that was just written and can be
    /// written again unchanged. There is no other way to detect that a store ignores conditions.
    ///
    /// # Errors
    /// The store refuses or can't be reached.
    pub async fn try_conditions(&self, name: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        if !self.habits().guards() {
            return Ok(());
        }
        let wrong = UpdateVersion {
            e_tag: Some(WRONG_ETAG.to_owned()),
            // Google uses generations, which are timestamps, so none equals this one.
            version: Some("1".to_owned()),
        };
        for mode in [PutMode::Create, PutMode::Update(wrong)] {
            match self.put_summed(name, bytes, &mode).await {
                Ok(_) => {
                    self.learn(|habits| habits.conditions = Conditions::Ignored);
                    return Ok(());
                }
                Err(StoreError::Precondition { .. } | StoreError::AlreadyExists { .. }) => {}
                Err(error) => {
                    let refusal = Refusal::of(&error);
                    if knows_no_conditions(&refusal) {
                        self.learn(|habits| habits.conditions = Conditions::Refused);
                        return Ok(());
                    }
                    if !refuses_to_replace(&refusal) {
                        return Err(self.error(name, &error));
                    }
                }
            }
        }
        Ok(())
    }

    /// Tests everything that a lake requires of the store with a separate object, which is deleted
    /// again, and returns the results.
    ///
    /// # Errors
    /// The store refuses or can't be reached, or a written object can't be read back.
    pub async fn try_all(&self) -> Result<Habits, RemoteError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| RemoteError::Options {
            address: self.address.clone(),
            reason: format!("the system provides no random numbers: {error}"),
        })?;
        let name = format!("writers/check-{}.json", hex(&random));
        let tried = self.try_object(&name).await;
        let deleted = self.delete(&name).await;
        tried?;
        if let Err(error) = deleted {
            // If nothing can be deleted or replaced, retention removes the test object.
            tracing::warn!(%error, "test object not deleted");
        }
        self.list("samples").await?;
        Ok(self.habits())
    }

    async fn try_object(&self, name: &str) -> Result<(), RemoteError> {
        let first = br#"{"tried":1}"#.to_vec();
        let version = self.put(name, first.clone(), None).await?;
        self.try_conditions(name, &first).await?;
        let second = br#"{"tried":2}"#.to_vec();
        let expected = match self.put(name, second.clone(), Some(&version)).await {
            Ok(_) => second,
            Err(RemoteError::WriteOnce(_)) => first,
            Err(error) => return Err(error),
        };
        match self.get(name).await? {
            Some((_, content)) if content == expected => Ok(()),
            _ => Err(RemoteError::Store {
                address: format!("{}/{name}", self.address),
                reason: "the object read back differs from the one written".to_owned(),
                status: None,
            }),
        }
    }

    /// Writes a complete object, replacing any existing one.
    ///
    /// # Errors
    /// The store refuses or can't be reached.
    pub async fn replace(&self, name: &str, bytes: Vec<u8>) -> Result<(), RemoteError> {
        let put = self.put_summed(name, &bytes, &PutMode::Overwrite).await;
        put.map(|_| ()).map_err(|error| self.error(name, &error))
    }

    /// Returns the size of an object, or `None` if it does not exist.
    ///
    /// # Errors
    /// The store refuses or can't be reached.
    pub async fn size(&self, name: &str) -> Result<Option<u64>, RemoteError> {
        match self.store.head(&self.key(name)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error(name, &error)),
        }
    }

    /// Returns an object's version and content, or `None` if it does not exist.
    ///
    /// # Errors
    /// The store refuses or can't be reached, or the object is larger than any valid one.
    pub async fn get(&self, name: &str) -> Result<Option<(Version, Vec<u8>)>, RemoteError> {
        self.get_within(name, MAX).await
    }

    /// Returns an object of at most `limit` bytes, like [`Remote::get`].
    ///
    /// # Errors
    /// The object is larger; the store refuses or can't be reached.
    pub async fn get_within(
        &self,
        name: &str,
        limit: u64,
    ) -> Result<Option<(Version, Vec<u8>)>, RemoteError> {
        let found = match self.store.get(&self.key(name)).await {
            Ok(found) => found,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.error(name, &error)),
        };
        let (e_tag, version) = (found.meta.e_tag.clone(), found.meta.version.clone());
        if found.meta.size > limit {
            return Err(RemoteError::Store {
                address: format!("{}/{name}", self.address),
                reason: format!(
                    "the object has {} bytes; at most {limit} are read",
                    found.meta.size
                ),
                status: None,
            });
        }
        let bytes = found.bytes().await.map_err(|error| self.error(name, &error))?;
        let version =
            Version { e_tag, version, digest: Some(hex(&Sha256::digest(&bytes))), stamp: None };
        Ok(Some((version, bytes.to_vec())))
    }

    /// Deletes an object; a missing one is not an error.
    ///
    /// # Errors
    /// The store refuses or can't be reached.
    pub async fn delete(&self, name: &str) -> Result<(), RemoteError> {
        match self.store.delete(&self.key(name)).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error(name, &error)),
        }
    }

    /// Lists all objects in a folder of the lake.
    ///
    /// # Errors
    /// The store refuses or can't be reached.
    pub async fn list(&self, folder: &str) -> Result<Vec<Object>, RemoteError> {
        let prefix = self.key(folder);
        let found: Vec<object_store::ObjectMeta> = self
            .store
            .list(Some(&prefix))
            .try_collect()
            .await
            .map_err(|error| self.error(folder, &error))?;
        let start = if self.prefix.is_empty() { 0 } else { self.prefix.len() + 1 };
        let objects = found.into_iter().filter_map(|meta| {
            Some(Object {
                name: meta.location.as_ref().get(start..)?.to_owned(),
                size: meta.size,
                version: Version::of(meta),
            })
        });
        Ok(objects.collect())
    }
}

/// Returns whether a store requires a checksum. Amazon: "Content-MD5 OR x-amz-checksum- HTTP header
/// is required for Put Object requests with Object Lock parameters"; other stores mention only one
/// of the two.
fn wants_checksum(refusal: &Refusal) -> bool {
    refusal.status.is_some_and(|status| (400..500).contains(&status))
        && [
            "content-md5",
            "x-amz-checksum",
            "x-amz-sdk-checksum",
            "MissingContentMD5",
            "checksum is required",
        ]
        .iter()
        .any(|words| refusal.says(words))
}

/// Returns whether a store does not support conditions. Backblaze: "501 NotImplemented: A header
/// you provided implies functionality that is not implemented".
fn knows_no_conditions(refusal: &Refusal) -> bool {
    refusal.status == Some(501)
        || matches!(refusal.status, Some(400 | 405 | 422))
            && [
                "NotImplemented",
                "not implemented",
                "if-none-match",
                "if-match",
                "unsupported header",
                "not supported",
            ]
            .iter()
            .any(|words| refusal.says(words))
}

/// Returns whether a refusal is one that stores give if a retention rule forbids replacing objects.
fn refuses_to_replace(refusal: &Refusal) -> bool {
    matches!(refusal.status, Some(403 | 405 | 409))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::work_folder;
    use object_store::memory::InMemory;
    use std::fs;

    fn remote(prefix: &str) -> Remote {
        Remote {
            store: Arc::new(InMemory::new()),
            summing: None,
            dialect: Arc::default(),
            habits: Arc::default(),
            prefix: prefix.to_owned(),
            address: "s3://bucket".to_owned(),
        }
    }

    #[tokio::test]
    async fn an_object_is_replaced_only_if_its_version_is_known() {
        let remote = remote("lake");
        let name = "samples/site=a/date=2026-11-23/samples.parquet";
        let first = remote.put(name, b"1".to_vec(), None).await.expect("put");
        assert!(matches!(
            remote.put(name, b"2".to_vec(), None).await,
            Err(RemoteError::Changed(_))
        ));
        let second = remote.put(name, b"2".to_vec(), Some(&first)).await.expect("put");
        assert!(matches!(
            remote.put(name, b"3".to_vec(), Some(&first)).await,
            Err(RemoteError::Changed(_))
        ));
        let (version, bytes) = remote.get(name).await.expect("get").expect("there");
        assert!(version.is(&second) && bytes == b"2");
        assert!(remote.get("samples/none").await.expect("get").is_none());
        assert_eq!(remote.list("samples").await.expect("list")[0].name, name);
    }

    #[tokio::test]
    async fn a_mirror_fetches_only_changed_objects() {
        let remote = remote("");
        let folder = tempfile::tempdir().expect("folder");
        let name = |day: u32| format!("samples/site=a/date=2026-11-{day}/samples.parquet");
        let first = remote.put(&name(22), b"1".to_vec(), None).await.expect("put");
        remote.put(&name(23), b"22".to_vec(), None).await.expect("put");
        remote.put("writers/a.json", b"{}".to_vec(), None).await.expect("put");
        let all = |_: &str| true;
        let told = |fetched, bytes, removed| Mirrored { fetched, bytes, removed };
        assert_eq!(remote.mirror(folder.path(), all).await.expect("mirror"), told(2, 3, 0));
        assert_eq!(remote.mirror(folder.path(), all).await.expect("mirror"), told(0, 0, 0));
        remote.put(&name(22), b"333".to_vec(), Some(&first)).await.expect("put");
        remote.delete(&name(23)).await.expect("delete");
        // Objects that are not wanted are left alone.
        let other = |name: &str| name.contains("11-22");
        assert_eq!(remote.mirror(folder.path(), other).await.expect("mirror"), told(1, 3, 0));
        assert_eq!(remote.mirror(folder.path(), all).await.expect("mirror"), told(0, 0, 1));
        assert_eq!(fs::read(folder.path().join(name(22))).expect("read"), b"333");
        // No partial download is left, even by a killed process.
        let left =
            fs::File::create(work_folder(folder.path()).join("samples.1.fetched")).expect("made");
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(2 * 3600);
        left.set_modified(long_ago).expect("set");
        assert_eq!(remote.mirror(folder.path(), all).await.expect("mirror"), told(0, 0, 0));
        assert_eq!(fs::read_dir(work_folder(folder.path())).expect("list").count(), 0);
        assert!(!folder.path().join(name(23)).exists());
        assert!(!folder.path().join("writers").exists());
    }

    #[test]
    fn an_invalid_address_is_rejected() {
        let open = |address| {
            Remote::open(address, &ObjectStoreOptions::default(), None, &Route::Environment)
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        assert!(open("ftp://bucket/x").expect_err("refused").contains("s3://, az:// or gs://"));
        assert!(open("s3:///x").expect_err("refused").contains("the bucket is missing"));
        let region = ObjectStoreOptions {
            region: Some("eu-central-1".into()),
            ..ObjectStoreOptions::default()
        };
        assert!(
            Remote::open(
                "s3://bucket/x",
                &region,
                Some(("id", &Secret::new("key"))),
                &Route::Environment
            )
            .is_ok()
        );
    }
}
