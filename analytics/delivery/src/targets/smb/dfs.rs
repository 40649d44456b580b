//! Resolves the links of a DFS namespace (MS-DFSC).
//!
//! The client requests referrals and parses those of version 4, which Windows sends. On others,
//! such as those of version 3 that Samba sends, it panics (smb-msg 0.12.1,
//! `IoctlResponse::parse_fsctl`). The panic ends a separate task here and is reported as an error.

use std::{
    cell::Cell,
    pin::Pin,
    sync::{Arc, Once},
    task::{Context, Poll},
};

use ::smb::{EntryV3Value, Error, ReferralEntryValue, Tree};

/// Maximum number of targets tried for a link.
const MAX: usize = 16;
/// Message for a referral that the client can't parse.
pub(super) const UNREADABLE: &str = "the server's DFS referral can't be read";

/// The targets of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Referral {
    /// Number of UTF-16 units of the path that the link covers.
    pub(super) consumed: usize,
    /// Targets in the form `\server\share\folder`.
    pub(super) targets: Vec<String>,
}

/// Asks a server for the targets of a path.
pub(super) async fn ask(tree: Arc<Tree>, path: &str) -> Result<Referral, Error> {
    let path = path.to_owned();
    let asked = async move {
        let root = tree.as_dfs_tree_unchecked();
        let answer = root.dfs_get_referrals(&path).await?;
        let targets = answer.referral_entries.iter().take(MAX);
        let targets = targets.filter_map(|entry| match &entry.value {
            ReferralEntryValue::V1(entry) => Some(entry.share_name.to_string()),
            ReferralEntryValue::V2(entry) => Some(entry.network_address.to_string()),
            ReferralEntryValue::V3(entry) => match &entry.value {
                EntryV3Value::DfsPath(paths) => Some(paths.network_address.to_string()),
                EntryV3Value::NetworkAddress(_) => None,
            },
            ReferralEntryValue::V4(entry) => Some(entry.refs.network_address.to_string()),
        });
        Ok(Referral { consumed: usize::from(answer.path_consumed) / 2, targets: targets.collect() })
    };
    contained(asked).await.unwrap_or(Err(Error::Other(UNREADABLE)))
}

/// Returns the result of a future, or nothing if it panics.
async fn contained<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    tokio::spawn(Quiet(Box::pin(work))).await.ok()
}

thread_local! {
    /// Whether a panic of this thread is expected and should not be reported.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// A future whose panics are not reported.
struct Quiet<F>(Pin<Box<F>>);

/// Ends the suppression of panic messages when dropped, also during a panic.
struct Aloud;

impl Drop for Aloud {
    fn drop(&mut self) {
        QUIET.set(false);
    }
}

impl<F: Future> Future for Quiet<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let usual = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                if !QUIET.get() {
                    usual(panic);
                }
            }));
        });
        QUIET.set(true);
        let _aloud = Aloud;
        self.0.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_only_its_task() {
        assert_eq!(contained(async { 7 }).await, Some(7));
        let panics = async {
            tokio::task::yield_now().await;
            assert!(std::hint::black_box(false), "as over a referral of version 3");
        };
        assert_eq!(contained(panics).await, None);
        assert!(!QUIET.get());
    }
}
