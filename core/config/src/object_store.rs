//! How an object store is reached: the table `object_store`.

use std::path::PathBuf;

use mailqos_model::AccountName;

use super::{Problems, Table};

/// How an object store is reached; what is left open comes from the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectStoreOptions {
    /// Address of a store that is not the cloud's own, such as `https://minio.example.com:9000`.
    pub endpoint: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// Who asks: access key id and secret (S3), storage account and key (Azure), the service account's JSON as the password
    /// (Google).
    pub account: Option<AccountName>,
    /// PEM certificates that are trusted beside the platform's.
    pub ca_file: Option<PathBuf>,
    /// The endpoint may be one without TLS.
    pub allow_http: bool,
}

/// Reads the table, where there is one; `account` reads the reference to an account.
pub(super) fn read(
    root: &mut Table,
    problems: &mut Problems,
    account: impl FnOnce(&mut Table, &mut Problems) -> Option<AccountName>,
) -> ObjectStoreOptions {
    let Some(mut table) = root.table("object_store", problems) else {
        return ObjectStoreOptions::default();
    };
    let options = options(&mut table, problems, account);
    table.finish(problems);
    options
}

/// Reads the options where they stand in another table.
pub(super) fn options(
    table: &mut Table,
    problems: &mut Problems,
    account: impl FnOnce(&mut Table, &mut Problems) -> Option<AccountName>,
) -> ObjectStoreOptions {
    let options = ObjectStoreOptions {
        endpoint: table.get("endpoint", problems),
        region: table.get("region", problems),
        account: account(table, problems),
        ca_file: table.get("ca_file", problems),
        allow_http: table.get("allow_http", problems).unwrap_or(false),
    };
    if let Some(endpoint) = &options.endpoint
        && endpoint.starts_with("http://")
        && !options.allow_http
    {
        problems.push(
            table
                .problem("endpoint", "what is sent would travel in clear", "http://")
                .help("write https://, or set allow_http = true where that is meant"),
        );
    }
    options
}
