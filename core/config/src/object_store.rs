//! Access to an object store: the table `object_store`.

use std::path::PathBuf;

use mailqos_model::AccountName;

use super::{
    Config, Problems, Table,
    key::{Defaulted, Optional, key},
    message::Bytes,
    reference::Key,
    value::reference,
};

keys! {
    OBJECT_STORE_CACHE: ObjectStoreCacheKeys {
        /// Largest size of the local cache for parts of the lake's files. What was used least
        /// recently is removed from it; 0 keeps nothing.
        cache: Optional<Bytes> = key().otherwise("10GB");
    }
}

keys! {
    OBJECT_STORE: ObjectStoreKeys {
        /// The address of a store other than the cloud provider's own:
        /// `https://minio.example.com:9000`.
        endpoint: Optional<String> = key();
        /// The bucket's region.
        region: Optional<String> = key();
        /// The account to authenticate with: access key ID and secret (S3), storage account and key
        /// (Azure), or the service account's JSON as the password (Google).
        account: Optional<AccountName> = key();
        /// A file with PEM certificates that are trusted in addition to the platform's.
        ca_file: Optional<PathBuf> = key();
        /// Allow an endpoint without TLS.
        allow_http: Defaulted<bool> = key().default("false");
    }
}

/// Access to an object store; missing settings come from the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectStoreOptions {
    /// Address of a store that is not the cloud provider's own, such as
    /// `https://minio.example.com:9000`.
    pub endpoint: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// Credentials: access key id and secret (S3), storage account and key (Azure), the service
    /// account's JSON as the password (Google).
    pub account: Option<AccountName>,
    /// File with PEM certificates that are trusted in addition to the platform's.
    pub ca_file: Option<PathBuf>,
    /// Whether the endpoint may use plain HTTP.
    pub allow_http: bool,
    /// Largest size in bytes of the local cache for parts of the lake's files.
    pub cache: Option<u64>,
}

/// Reads the table, if there is one. `account` reads the reference to an account.
pub(super) fn read(
    root: &mut Table,
    key: &Key,
    config: &Config,
    problems: &mut Problems,
) -> ObjectStoreOptions {
    let mut table = root.table_or_empty(key, problems);
    let mut options = options(&mut table, config, problems);
    options.cache = table.read(&OBJECT_STORE_CACHE.cache, problems).map(|Bytes(size)| size);
    table.finish(problems);
    options
}

/// Reads the options from another table.
pub(super) fn options(
    table: &mut Table,
    config: &Config,
    problems: &mut Problems,
) -> ObjectStoreOptions {
    let options = ObjectStoreOptions {
        endpoint: table.read(&OBJECT_STORE.endpoint, problems),
        region: table.read(&OBJECT_STORE.region, problems),
        account: reference(table, &OBJECT_STORE.account, "account", &config.accounts, problems),
        ca_file: table.read(&OBJECT_STORE.ca_file, problems),
        allow_http: table.read(&OBJECT_STORE.allow_http, problems),
        cache: None,
    };
    if let Some(endpoint) = &options.endpoint
        && endpoint.starts_with("http://")
        && !options.allow_http
    {
        problems.push(
            table
                .problem(&OBJECT_STORE.endpoint, "data would be sent in plaintext", "http://")
                .help("use https://, or set allow_http = true to allow this"),
        );
    }
    options
}

/// Returns whether a table sets any of the options itself.
pub(super) fn is_any_set(table: &mut Table) -> bool {
    ObjectStoreKeys::KEYS.iter().any(|key| table.node(key).is_some())
}
