//! Location of the lake: a folder, or an object store that is mirrored into one.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use mailqos_base::hex;
use mailqos_config::{Config, DataLocation, ObjectStoreOptions};
use mailqos_lake::{Cache, Fetcher, LakeError, Remote, RemoteError};
use mailqos_net::http::Route;
use sha2::{Digest as _, Sha256};

use super::Lake;

/// Largest size of the cache in bytes, unless the configuration has another one.
const CACHE: u64 = 10_000_000_000;

/// Why the lake can't be located.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// No location was given.
    #[error("no lake found: set its folder with --data DIR")]
    Unknown,
    /// The name is not a valid location.
    #[error("{0}; {1}")]
    NoPlace(String, String),
    /// There is no folder for the mirror of an object store.
    #[error("no cache folder for data from the object store: set XDG_CACHE_HOME or HOME")]
    NoCache,
    /// The secret for the object store is not available.
    #[error("the account of the object store: {0}")]
    Secret(String),
    /// The object store refuses, or can't be reached.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The lake can't be opened.
    #[error(transparent)]
    Lake(#[from] LakeError),
}

/// Opens the lake at `--data`, or else that of the configuration. Of a lake in an object store,
/// only its listing is fetched now, and later those parts of files that are read; a local cache
/// keeps them.
///
/// # Errors
/// There is no lake, or the store can't be reached.
pub async fn lake(data: Option<&Path>, config: Option<&Config>) -> Result<Lake, PlaceError> {
    let address = match location(data, config)? {
        DataLocation::Folder(folder) => return Ok(Lake::open(&folder)?),
        DataLocation::ObjectStore(address) => address,
    };
    let folder = match config {
        Some(config) => config.state.clone(),
        None => cache_folder()?.join("mailqos"),
    };
    let limit = config.and_then(|config| config.object_store.cache).unwrap_or(CACHE);
    let remote = open(&address, config).await?;
    let fetcher = Fetcher::start(remote, Cache::new(folder.join("parts"), limit));
    let fetcher = fetcher.map_err(|source| LakeError::Io { path: folder, source })?;
    Ok(Lake::of_store(Arc::new(fetcher)).await?)
}

/// Returns the folder of the lake: that of `--data`, or else that of the configuration. A lake in
/// an object store is first mirrored into a local folder; unchanged files are not fetched again.
///
/// # Errors
/// There is no lake, or the store can't be reached.
pub async fn folder(data: Option<&Path>, config: Option<&Config>) -> Result<PathBuf, PlaceError> {
    match location(data, config)? {
        DataLocation::Folder(folder) => Ok(folder),
        DataLocation::ObjectStore(address) => {
            let mirror = mirror_folder(&address, config)?;
            let mirrored = open(&address, config).await?.mirror(&mirror, |_| true).await?;
            tracing::debug!(?mirrored, "the lake's mirror is up to date");
            Ok(mirror)
        }
    }
}

/// Returns the object store that the lake is in; `None` if it is in a folder. Nothing is sent.
///
/// # Errors
/// There is no lake, or the options of the store are not valid.
pub async fn store(
    data: Option<&Path>,
    config: Option<&Config>,
) -> Result<Option<Remote>, PlaceError> {
    match location(data, config)? {
        DataLocation::Folder(_) => Ok(None),
        DataLocation::ObjectStore(address) => open(&address, config).await.map(Some),
    }
}

fn location(data: Option<&Path>, config: Option<&Config>) -> Result<DataLocation, PlaceError> {
    let Some(data) = data else {
        return config.map(|config| config.data.clone()).ok_or(PlaceError::Unknown);
    };
    let named = data.to_str().map(|text| DataLocation::parse(text, Path::new("")));
    match named.transpose().map_err(|(why, help)| PlaceError::NoPlace(why, help))? {
        Some(DataLocation::ObjectStore(address)) => Ok(DataLocation::ObjectStore(address)),
        Some(DataLocation::Folder(_)) | None => Ok(DataLocation::Folder(data.to_owned())),
    }
}

async fn open(address: &str, config: Option<&Config>) -> Result<Remote, PlaceError> {
    let none = ObjectStoreOptions::default();
    let options = config.map_or(&none, |config| &config.object_store);
    let account = config.and_then(|config| config.account(options.account.as_ref()));
    let secret = match account {
        Some(account) => {
            let secret =
                mailqos_mail::credentials(account).await.map(|credentials| credentials.secret);
            Some(secret.map_err(|error| PlaceError::Secret(error.to_string()))?)
        }
        None => None,
    };
    let credentials =
        account.zip(secret.as_ref()).map(|(account, secret)| (account.user.as_str(), secret));
    let via = match config {
        Some(config) => config.proxy.via().await,
        None => Ok(Route::Environment),
    };
    let via =
        via.map_err(|error| PlaceError::Secret(format!("the address of the proxy: {error}")))?;
    Ok(Remote::open(address, options, credentials, &via)?)
}

/// Returns the folder of a mirror, in the state folder or the user's cache. Each lake has a
/// separate folder: updating a mirror deletes what its lake doesn't have.
fn mirror_folder(address: &str, config: Option<&Config>) -> Result<PathBuf, PlaceError> {
    if let Some(config) = config
        && matches!(&config.data, DataLocation::ObjectStore(own) if own == address)
    {
        return Ok(config.state.join("mirror"));
    }
    let digest = Sha256::digest(address);
    let name = hex(&digest[..8]);
    if let Some(config) = config {
        return Ok(config.state.join("mirrors").join(name));
    }
    Ok(cache_folder()?.join("mailqos").join(name))
}

/// Returns the folder of the user's caches.
fn cache_folder() -> Result<PathBuf, PlaceError> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    cache.ok_or(PlaceError::NoCache)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lakes_are_never_mirrored_into_one_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mailqos.toml");
        std::fs::write(&path, "site = \"here\"\ndata = \"s3://own/lake\"\n").expect("a file");
        let config = mailqos_config::load(&path).expect("a configuration");
        let of = |address| mirror_folder(address, Some(&config)).expect("a folder");
        assert_eq!(of("s3://own/lake"), config.state.join("mirror"));
        assert_ne!(of("s3://other/lake"), of("s3://own/lake"));
        assert_ne!(of("s3://other/lake"), of("s3://third/lake"));
    }
}
