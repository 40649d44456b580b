//! Object stores: Amazon S3 and compatible ones, Azure and Google. An object appears complete in
//! one step.

use std::path::Path;

use mailqos_base::Secret;
use mailqos_config::{Config, ObjectStoreOptions};
use mailqos_lake::{Remote, RemoteError, Status, StatusError};
use mailqos_model::SiteName;

use super::{
    DeliveryError,
    file_store::{Extent, FileStore, Hash, Hashing},
};

/// The store, and the entered prefix below the target's own.
pub(super) struct Store {
    remote: Remote,
    below: String,
}

impl Store {
    pub(super) async fn open(
        config: &Config,
        url: &str,
        options: &ObjectStoreOptions,
    ) -> Result<Self, DeliveryError> {
        let account = config.account(options.account.as_ref());
        let secret: Option<Secret> = match account {
            Some(account) => Some(mailqos_mail::credentials(account).await?.secret),
            None => None,
        };
        let credentials =
            account.zip(secret.as_ref()).map(|(account, secret)| (account.user.as_str(), secret));
        let via = config.proxy.via().await.map_err(|error| DeliveryError::Store {
            reason: format!("the address of the proxy: {error}"),
            transient: true,
        })?;
        Ok(Self {
            remote: Remote::open(url, options, credentials, &via).map_err(failed)?,
            below: String::new(),
        })
    }

    /// Reads the published status of a site's probe, if the store contains a lake.
    pub(super) async fn status(&self, site: &SiteName) -> Result<Option<Status>, StatusError> {
        Status::download(&self.remote, site).await
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.below)
    }
}

fn failed(error: RemoteError) -> DeliveryError {
    let text = error.to_string();
    let reason = if text.contains("NoSuchBucket") {
        format!("{text}; create the bucket")
    } else if text.contains("AccessDenied") || text.contains("403") {
        format!("{text}; give the account write permission there")
    } else {
        text
    };
    DeliveryError::Store { reason, transient: !matches!(error, RemoteError::Options { .. }) }
}

impl FileStore for Store {
    const AT_ONCE: bool = true;

    async fn enter(&mut self, below: &[String], _make: bool) -> Result<bool, DeliveryError> {
        self.below = below.iter().map(|part| format!("{part}/")).collect();
        Ok(true)
    }

    async fn extent(&mut self, name: &str) -> Result<Extent, DeliveryError> {
        let size = self.remote.size(&self.key(name)).await.map_err(failed)?;
        Ok(size.map_or(Extent::Absent, Extent::Bytes))
    }

    async fn write(&mut self, name: &str, from: &Path, _offset: u64) -> Result<(), DeliveryError> {
        let bytes = tokio::fs::read(from).await.map_err(DeliveryError::io(from))?;
        self.remote.replace(&self.key(name), bytes).await.map_err(failed)
    }

    async fn hash(&mut self, name: &str, _size: u64) -> Result<Option<Hash>, DeliveryError> {
        match self.remote.get(&self.key(name)).await {
            Ok(Some((_, bytes))) => {
                let mut hashing = Hashing::default();
                hashing.update(&bytes);
                Ok(Some(hashing.finish().1))
            }
            Ok(None) => Ok(None),
            // Write-only accounts are common.
            Err(error)
                if error.to_string().contains("403")
                    || error.to_string().contains("AccessDenied") =>
            {
                Ok(None)
            }
            Err(error) => Err(failed(error)),
        }
    }

    async fn publish(&mut self, _part: &str, _name: &str) -> Result<(), DeliveryError> {
        Ok(())
    }

    async fn remove(&mut self, name: &str) -> Result<(), DeliveryError> {
        self.remote.delete(&self.key(name)).await.map_err(failed)
    }

    /// Does nothing: an object store has no folders, only names with slashes.
    async fn remove_folder(&mut self) -> Result<(), DeliveryError> {
        Ok(())
    }

    fn place(&self, name: &str) -> String {
        format!("{}/{}", self.remote.address(), self.key(name))
    }
}
