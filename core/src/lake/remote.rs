//! A lake in an object store (Amazon S3 and its kin, Azure, Google): day files are put whole, each with a condition against a
//! second writer, and mirrored into a folder to be read. Its layout is that of a lake in a folder.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::TryStreamExt as _;
use object_store::{
    ClientOptions, Error as StoreError, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig,
    UpdateVersion, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder,
    path::Path as Key,
};
use tokio::task::JoinSet;

use super::work_folder;
use crate::{
    config::ObjectStoreOptions,
    mail::{Secret, one_line},
};

/// Deadline of a connection.
const CONNECTING: Duration = Duration::from_secs(15);
/// Deadline of a request, the transfer included.
const REQUEST: Duration = Duration::from_secs(120);
/// How long a request that fails is tried again.
const RETRYING: Duration = Duration::from_secs(20);
/// The largest object that is read.
const LARGEST: u64 = 2 * 1024 * 1024 * 1024;
/// So long after it was last written, nobody writes a file of a mirror any more.
const ABANDONED: Duration = Duration::from_secs(3600);
/// Objects that are fetched at once.
const AT_ONCE: usize = 8;
/// Which version of which object a mirror holds.
const VERSIONS: &str = "versions.json";

/// What goes wrong with an object store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RemoteError {
    /// The address or the options make no sense.
    #[error("{address}: {reason}")]
    Options {
        /// The lake's address.
        address: String,
        /// Why.
        reason: String,
    },
    /// The store refused, or could not be reached.
    #[error("{address}: {reason}")]
    Store {
        /// The object's address.
        address: String,
        /// What the store said.
        reason: String,
    },
    /// Somebody else has written the object meanwhile.
    #[error("{0}: somebody else has written it meanwhile")]
    Changed(String),
    /// The mirror's folder can't be written.
    #[error("{path}: {reason}", path = path.display())]
    Mirror {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A version of an object, for conditions.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Version {
    e_tag: Option<String>,
    version: Option<String>,
}

/// An object in the store.
#[derive(Debug, Clone)]
pub struct Object {
    /// Relative to the lake, with `/`.
    pub name: String,
    /// For conditions, and to tell whether it changed.
    pub version: Version,
}

/// A lake in an object store.
#[derive(Debug, Clone)]
pub struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    address: String,
}

impl Remote {
    /// Opens the lake at `s3://bucket/prefix`, `az://container/prefix` or `gs://bucket/prefix`. What the options leave open comes
    /// from the environment, by the names that each store's own tools use. Nothing is sent yet.
    ///
    /// # Errors
    /// The address or the options make no sense.
    pub fn open(
        address: &str,
        options: &ObjectStoreOptions,
        credentials: Option<(&str, &Secret)>,
    ) -> Result<Self, RemoteError> {
        let wrong = |reason: String| RemoteError::Options {
            address: address.to_owned(),
            reason,
        };
        let Some((scheme, rest)) = address.split_once("://") else {
            return Err(wrong("it is no address of an object store".into()));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(wrong(format!("the bucket is missing: write {scheme}://bucket/prefix")));
        }
        let mut client = ClientOptions::new()
            .with_timeout(REQUEST)
            .with_connect_timeout(CONNECTING)
            .with_allow_http(options.allow_http);
        if let Some(file) = &options.ca_file {
            let pem = fs::read(file).map_err(|error| wrong(format!("{}: {error}", file.display())))?;
            let certificates = object_store::Certificate::from_pem_bundle(&pem)
                .map_err(|error| wrong(format!("{}: {error}", file.display())))?;
            for certificate in certificates {
                client = client.with_root_certificate(certificate);
            }
        }
        let retry = RetryConfig {
            max_retries: 4,
            retry_timeout: RETRYING,
            ..RetryConfig::default()
        };
        let refused = |error: StoreError| wrong(one_line(&error.to_string(), &[]));
        let store: Arc<dyn ObjectStore> = match scheme {
            "s3" | "s3a" => {
                let mut builder = AmazonS3Builder::from_env()
                    .with_bucket_name(bucket)
                    .with_client_options(client)
                    .with_retry(retry);
                if let Some(region) = &options.region {
                    builder = builder.with_region(region);
                }
                if let Some(endpoint) = &options.endpoint {
                    builder = builder.with_endpoint(endpoint);
                }
                if let Some((id, secret)) = credentials {
                    builder = builder.with_access_key_id(id).with_secret_access_key(secret.expose());
                }
                Arc::new(builder.build().map_err(refused)?)
            }
            "az" | "azure" | "abfs" | "abfss" => {
                let mut builder = MicrosoftAzureBuilder::from_env()
                    .with_container_name(bucket)
                    .with_client_options(client)
                    .with_retry(retry);
                if let Some(endpoint) = &options.endpoint {
                    builder = builder.with_endpoint(endpoint.clone());
                }
                if let Some((account, key)) = credentials {
                    builder = builder.with_account(account).with_access_key(key.expose());
                }
                Arc::new(builder.build().map_err(refused)?)
            }
            "gs" => {
                let mut builder = GoogleCloudStorageBuilder::from_env()
                    .with_bucket_name(bucket)
                    .with_client_options(client)
                    .with_retry(retry);
                if let Some((_, key)) = credentials {
                    builder = builder.with_service_account_key(key.expose());
                }
                Arc::new(builder.build().map_err(refused)?)
            }
            other => {
                return Err(wrong(format!(
                    "{other}:// is no object store that is known; write s3://, az:// or gs://"
                )));
            }
        };
        Ok(Self {
            store,
            prefix: prefix.trim_matches('/').to_owned(),
            address: address.trim_end_matches('/').to_owned(),
        })
    }

    /// Where the lake is.
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
            StoreError::Precondition { .. } | StoreError::AlreadyExists { .. } => RemoteError::Changed(address),
            other => RemoteError::Store {
                address,
                reason: one_line(&reason(other), &[]),
            },
        }
    }

    /// Puts an object whole. `known` is the version that it replaces; without one it must not be there yet.
    ///
    /// # Errors
    /// [`RemoteError::Changed`] if it is not as it was known; the store refuses or can't be reached.
    pub async fn put(&self, name: &str, bytes: Vec<u8>, known: Option<&Version>) -> Result<Version, RemoteError> {
        let mode = match known {
            None => PutMode::Create,
            Some(known) => PutMode::Update(UpdateVersion {
                e_tag: known.e_tag.clone(),
                version: known.version.clone(),
            }),
        };
        let options = PutOptions {
            mode,
            ..PutOptions::default()
        };
        let put = self.store.put_opts(&self.key(name), bytes.into(), options).await;
        let put = put.map_err(|error| self.error(name, &error))?;
        Ok(Version {
            e_tag: put.e_tag,
            version: put.version,
        })
    }

    /// Puts an object whole, over whatever is there.
    ///
    /// # Errors
    /// The store refuses or can't be reached.
    pub async fn replace(&self, name: &str, bytes: Vec<u8>) -> Result<(), RemoteError> {
        let put = self.store.put(&self.key(name), bytes.into()).await;
        put.map(|_| ()).map_err(|error| self.error(name, &error))
    }

    /// The size of an object; `None` if there is none.
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

    /// The object's version and content; `None` if there is none.
    ///
    /// # Errors
    /// The store refuses or can't be reached; the object is larger than any of ours.
    pub async fn get(&self, name: &str) -> Result<Option<(Version, Vec<u8>)>, RemoteError> {
        let found = match self.store.get(&self.key(name)).await {
            Ok(found) => found,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.error(name, &error)),
        };
        let version = Version {
            e_tag: found.meta.e_tag.clone(),
            version: found.meta.version.clone(),
        };
        if found.meta.size > LARGEST {
            return Err(RemoteError::Store {
                address: format!("{}/{name}", self.address),
                reason: format!("{} bytes are more than a day file has", found.meta.size),
            });
        }
        let bytes = found.bytes().await.map_err(|error| self.error(name, &error))?;
        Ok(Some((version, bytes.to_vec())))
    }

    /// Deletes an object; one that is gone already is no error.
    ///
    /// # Errors
    /// The store refuses or can't be reached.
    pub async fn delete(&self, name: &str) -> Result<(), RemoteError> {
        match self.store.delete(&self.key(name)).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error(name, &error)),
        }
    }

    /// All objects in a folder of the lake.
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
        let start = if self.prefix.is_empty() {
            0
        } else {
            self.prefix.len() + 1
        };
        let objects = found.into_iter().filter_map(|meta| {
            Some(Object {
                name: meta.location.as_ref().get(start..)?.to_owned(),
                version: Version {
                    e_tag: meta.e_tag,
                    version: meta.version,
                },
            })
        });
        Ok(objects.collect())
    }

    /// Brings a folder up to what the store has of those objects that are `wanted`: fetches what is new or has changed, and
    /// removes what is gone. Each file is replaced whole, so that whoever reads there reads a whole one.
    ///
    /// # Errors
    /// The store refuses or can't be reached; the folder can't be written.
    pub async fn mirror(&self, folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Mirrored, RemoteError> {
        let trouble = |path: &Path, error: std::io::Error| RemoteError::Mirror {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        fs::create_dir_all(folder).map_err(|error| trouble(folder, error))?;
        let index = folder.join(VERSIONS);
        let mut held: BTreeMap<String, Version> = fs::read(&index)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let mut mirrored = Mirrored::default();
        let mut there = BTreeMap::new();
        for kind in ["samples", "events"] {
            for object in self.list(kind).await? {
                // A name from outside becomes a path: nothing may lead out of the folder.
                let tame = object
                    .name
                    .split('/')
                    .all(|part| !part.is_empty() && part != "." && part != "..");
                if tame && object.name.ends_with(".parquet") && wanted(&object.name) {
                    there.insert(object.name.clone(), object);
                }
            }
        }
        let gone: Vec<String> = held
            .keys()
            .filter(|name| wanted(name) && !there.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            let path = folder.join(&name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(trouble(&path, error)),
                _ => held.remove(&name),
            };
            mirrored.removed += 1;
        }
        let mut missing = there
            .into_values()
            .filter(|object| held.get(&object.name) != Some(&object.version) || !folder.join(&object.name).exists())
            .collect::<Vec<_>>()
            .into_iter();
        let mut fetching = JoinSet::new();
        loop {
            while fetching.len() < AT_ONCE
                && let Some(object) = missing.next()
            {
                let (remote, folder) = (self.clone(), folder.to_owned());
                fetching.spawn(async move {
                    let Some((version, bytes)) = remote.get(&object.name).await? else {
                        // It was removed since the listing.
                        return Ok(None);
                    };
                    write_whole(&folder, &object.name, &bytes).map_err(|error| RemoteError::Mirror {
                        path: folder.join(&object.name),
                        reason: error.to_string(),
                    })?;
                    Ok(Some((object.name, version, bytes.len() as u64)))
                });
            }
            match fetching.join_next().await {
                None => break,
                Some(Ok(Ok(Some((name, version, bytes))))) => {
                    held.insert(name, version);
                    mirrored.fetched += 1;
                    mirrored.bytes += bytes;
                }
                Some(Ok(Ok(None))) => {}
                Some(Ok(Err(error))) => {
                    // What was fetched need not be fetched again.
                    let _ = write_whole(folder, VERSIONS, &serde_json::to_vec(&held).unwrap_or_default());
                    return Err(error);
                }
                Some(Err(_)) => return Err(trouble(folder, std::io::Error::other("a transfer was broken off"))),
            }
        }
        sweep(&work_folder(folder));
        let bytes = serde_json::to_vec(&held).map_err(|error| trouble(&index, error.into()))?;
        write_whole(folder, VERSIONS, &bytes).map_err(|error| trouble(&index, error))?;
        Ok(mirrored)
    }
}

/// What a mirroring did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mirrored {
    /// Files that were new or had changed.
    pub fetched: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were gone.
    pub removed: usize,
}

/// An error in words: the innermost cause says most and comes first, as the rest may be cut.
fn reason(error: &StoreError) -> String {
    let text = error.to_string();
    let innermost = std::iter::successors(std::error::Error::source(error), |inner| inner.source()).last();
    match innermost.map(ToString::to_string) {
        Some(words) if !text.contains(&words) => format!("{words} ({text})"),
        _ => text,
    }
}

/// Replaces a file of a mirror. It is written where the lake's writers work: nothing but day files stands in the trees, whatever
/// moment a reader chooses; and each process has a file of its own there.
fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let (path, work) = (folder.join(name), work_folder(folder));
    fs::create_dir_all(path.parent().unwrap_or(folder))?;
    fs::create_dir_all(&work)?;
    let temporary = work.join(format!("{}.{}.fetched", name.replace('/', "."), std::process::id()));
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}

/// Removes what processes have left that were ended while they wrote; nobody writes for so long.
fn sweep(work: &Path) {
    for entry in fs::read_dir(work).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|data| data.modified());
        let is_left = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED));
        if is_left && entry.path().extension().is_some_and(|ending| ending == "fetched") {
            // The next mirroring tries again.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn remote(prefix: &str) -> Remote {
        Remote {
            store: Arc::new(InMemory::new()),
            prefix: prefix.to_owned(),
            address: "s3://bucket".to_owned(),
        }
    }

    #[tokio::test]
    async fn an_object_is_replaced_only_by_who_knows_it() {
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
        assert_eq!((version, bytes), (second, b"2".to_vec()));
        assert_eq!(remote.get("samples/none").await.expect("get"), None);
        assert_eq!(remote.list("samples").await.expect("list")[0].name, name);
    }

    #[tokio::test]
    async fn a_mirror_follows_and_fetches_only_what_changed() {
        let remote = remote("");
        let folder = tempfile::tempdir().expect("folder");
        let name = |day: u32| format!("samples/site=a/date=2026-11-{day}/samples.parquet");
        let first = remote.put(&name(22), b"1".to_vec(), None).await.expect("put");
        remote.put(&name(23), b"22".to_vec(), None).await.expect("put");
        remote.put("writers/a.json", b"{}".to_vec(), None).await.expect("put");
        let all = |_: &str| true;
        let told = |fetched, bytes, removed| Mirrored {
            fetched,
            bytes,
            removed,
        };
        assert_eq!(remote.mirror(folder.path(), all).await.expect("mirror"), told(2, 3, 0));
        assert_eq!(remote.mirror(folder.path(), all).await.expect("mirror"), told(0, 0, 0));
        remote.put(&name(22), b"333".to_vec(), Some(&first)).await.expect("put");
        remote.delete(&name(23)).await.expect("delete");
        // What is not wanted now is left as it is.
        let other = |name: &str| name.contains("11-22");
        assert_eq!(
            remote.mirror(folder.path(), other).await.expect("mirror"),
            told(1, 3, 0)
        );
        assert_eq!(remote.mirror(folder.path(), all).await.expect("mirror"), told(0, 0, 1));
        assert_eq!(fs::read(folder.path().join(name(22))).expect("read"), b"333");
        // Nothing half fetched is left, also of a process that was killed.
        let left = fs::File::create(work_folder(folder.path()).join("samples.1.fetched")).expect("made");
        let long_ago = std::time::SystemTime::now() - 2 * ABANDONED;
        left.set_modified(long_ago).expect("set");
        assert_eq!(remote.mirror(folder.path(), all).await.expect("mirror"), told(0, 0, 0));
        assert_eq!(fs::read_dir(work_folder(folder.path())).expect("list").count(), 0);
        assert!(!folder.path().join(name(23)).exists());
        assert!(!folder.path().join("writers").exists());
    }

    #[test]
    fn an_address_that_makes_no_sense_is_refused() {
        let open = |address| {
            Remote::open(address, &ObjectStoreOptions::default(), None)
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        assert!(
            open("ftp://bucket/x")
                .expect_err("refused")
                .contains("s3://, az:// or gs://")
        );
        assert!(open("s3:///x").expect_err("refused").contains("the bucket is missing"));
        let region = ObjectStoreOptions {
            region: Some("eu-central-1".into()),
            ..ObjectStoreOptions::default()
        };
        assert!(Remote::open("s3://bucket/x", &region, Some(("id", &Secret::new("key")))).is_ok());
    }
}
