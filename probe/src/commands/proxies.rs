//! Proxies in use, for `check`. Only hosts and ports are shown: the rest of an address may be a
//! secret.

use std::collections::BTreeSet;

use mailqos_base::{SecretError, SecretSource};
use mailqos_config as config;
use mailqos_config::{Action, Config, DataLocation};
use mailqos_net::http::{HttpError, Place, Route};

use super::access;

/// Reasons why the proxy in use is unknown.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error("its address comes from a command, which check does not run")]
    Program,
    #[error("{0}")]
    Secret(#[from] SecretError),
    #[error("{0}")]
    Address(#[from] HttpError),
}

/// Returns a line for each server that receives requests, if any of them uses a proxy.
pub(super) async fn describe(config: &Config) -> Vec<String> {
    let (mut lines, mut any) = (BTreeSet::new(), false);
    for (what, url, own) in requests(config) {
        let line = match proxy_of(config, &url, own).await {
            Ok(Some(proxy)) => {
                any = true;
                format!("{what}: through the proxy {proxy}")
            }
            Ok(None) => format!("{what}: without a proxy"),
            Err(reason) => format!("{what}: unknown proxy: {reason}"),
        };
        lines.insert(line);
    }
    if any || config.proxy.address.is_some() { lines.into_iter().collect() } else { Vec::new() }
}

/// Returns the requests in use, their destinations, and their own proxies.
fn requests(config: &Config) -> Vec<(String, SecretSource, Option<&SecretSource>)> {
    let literal = |url: &str| SecretSource::Literal(mailqos_base::Secret::new(url));
    let mut found = Vec::new();
    for step in config.action_lists.values().flat_map(|list| &list.steps) {
        if let Action::Webhook(hook) = &step.action {
            found.push((step.action.route(), hook.url.clone(), hook.proxy.as_ref()));
        }
    }
    for (name, account) in &config.accounts {
        if let Some(oauth) = account.oauth() {
            found.push((
                format!("OAuth tokens of account {name}"),
                literal(&oauth.token_url),
                None,
            ));
        }
    }
    for endpoint in access::of_graph(config) {
        let url = format!("https://{}:{}/", endpoint.server, endpoint.port);
        found.push((format!("Microsoft Graph at {}", endpoint.server), literal(&url), None));
    }
    if let DataLocation::ObjectStore(address) = &config.data {
        let endpoint = config.object_store.endpoint.as_deref();
        let url = endpoint.map_or_else(|| usual_endpoint(address), str::to_owned);
        found.push((format!("the lake at {address}"), literal(&url), None));
    }
    found
}

/// Returns the host of a cloud service, as `NO_PROXY` may list it.
fn usual_endpoint(address: &str) -> String {
    let host = match address.split("://").next() {
        Some("gs") => "storage.googleapis.com",
        Some("s3" | "s3a") => "s3.amazonaws.com",
        _ => "blob.core.windows.net",
    };
    format!("https://{host}/")
}

async fn proxy_of(
    config: &Config,
    url: &SecretSource,
    own: Option<&SecretSource>,
) -> Result<Option<String>, Unknown> {
    let proxy = own.or(config.proxy.address.as_ref());
    if [Some(url), proxy]
        .into_iter()
        .flatten()
        .any(|source| matches!(source, SecretSource::Command(_)))
    {
        return Err(Unknown::Program);
    }
    let place = Place::parse(url.fetch().await?.expose())?;
    let via: Route = match own {
        Some(address) => config::via(address).await?,
        None => config.proxy.via().await?,
    };
    Ok(via.proxy_for(&place)?)
}
