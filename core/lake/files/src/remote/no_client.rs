//! Replaces the clients in builds without object stores.

use std::sync::Arc;

use mailqos_net::http::Route;
use object_store::ObjectStore;

use super::{Bucket, dialect::Dialect};

/// Clients of a store, which this build lacks.
pub(super) struct Clients {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) summing: Option<Arc<dyn ObjectStore>>,
}

/// Returns an error that names the cargo feature.
pub(super) fn open(bucket: &Bucket<'_>, _: &Route, _: &Arc<Dialect>) -> Result<Clients, String> {
    let Bucket { scheme, name, .. } = bucket;
    Err(format!(
        "this build cannot reach {scheme}://{name}: it was built without the cargo feature \"object-store\""
    ))
}
