//! The HTTP proxy for requests: webhooks, OAuth tokens, Microsoft Graph and object stores.

use mailqos_base::{SecretError, SecretSource};
use mailqos_net::http::{Route, check_proxy};

use super::{
    Problems, Table,
    key::{Optional, key},
    reference::Key,
    table::Node,
    value::secret,
};

/// Value for no proxy.
const NONE: &str = "none";

/// The proxy of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// Address of the proxy, or `none`. If absent, it comes from the environment.
    pub address: Option<SecretSource>,
    /// Servers reached without the proxy, as in `NO_PROXY`. If absent, that variable applies.
    pub exempt: Option<String>,
}

impl Proxy {
    /// Returns how requests reach their servers.
    ///
    /// # Errors
    /// The address is a secret that is not available.
    pub async fn via(&self) -> Result<Route, SecretError> {
        let Some(source) = &self.address else {
            return Ok(Route::Environment);
        };
        let exempt = self.exempt.clone().unwrap_or_else(exempt_by_environment);
        Ok(match via(source).await? {
            Route::Proxy(address) => Route::ProxyExcept(address, exempt),
            other => other,
        })
    }
}

/// Returns the route through a proxy that is set for one purpose.
///
/// # Errors
/// The address is a secret that is not available.
pub async fn via(address: &SecretSource) -> Result<Route, SecretError> {
    let address = address.fetch().await?;
    Ok(if address.expose().trim() == NONE { Route::Direct } else { Route::Proxy(address) })
}

fn exempt_by_environment() -> String {
    ["no_proxy", "NO_PROXY"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|list| !list.trim().is_empty()))
        .unwrap_or_default()
}

keys! {
    PROXY: ProxyKeys {
        /// The HTTP proxy for webhooks, OAuth tokens, Microsoft Graph and object stores:
        /// http://USER:PASSWORD@HOST:PORT (a secret if it contains a password), or `none`.
        proxy: Key = Key::text_or_secret()
            .otherwise("from the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY)");
        /// Servers reached without `proxy`: names including all names below them, addresses or
        /// networks, each optionally with a port.
        no_proxy: Optional<Vec<String>> = key().otherwise("NO_PROXY from the environment");
    }
}

/// Reads the top-level keys of the file.
pub(super) fn read(root: &mut Table, plaintext: bool, problems: &mut Problems) -> Proxy {
    let address = address(root, &PROXY.proxy, plaintext, problems);
    let exempt = root.read(&PROXY.no_proxy, problems);
    if exempt.is_some() && root.node(&PROXY.proxy).is_none() {
        problems.push(
            root.problem(&PROXY.no_proxy, "exemptions without a proxy", "without proxy")
                .help(
                    "add proxy = \"http://HOST:PORT\"; if the proxy comes from HTTPS_PROXY in the environment, \
                set NO_PROXY there",
                ),
        );
    }
    Proxy { address, exempt: exempt.map(|list| list.join(",")) }
}

/// Reads the address of a proxy, which must be a secret if it contains a password.
pub(super) fn address(
    table: &mut Table,
    key: &Key,
    plaintext: bool,
    problems: &mut Problems,
) -> Option<SecretSource> {
    let node: Node = table.node(key)?;
    let source = secret(&node, true, problems)?;
    let SecretSource::Literal(text) = &source else {
        return Some(source);
    };
    if text.expose().trim() == NONE {
        return Some(source);
    }
    if let Err(error) = check_proxy(text.expose()) {
        problems.push(
            node.problem(error.to_string(), "this address")
                .help("use http://HOST:PORT, or \"none\""),
        );
    } else if text.expose().contains('@') && !plaintext {
        // Reports the problem and the correct form.
        return secret(&node, false, problems);
    }
    Some(source)
}
