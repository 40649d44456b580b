//! Connections to mailbox servers. Servers limit connections per address or per user (Courier: 4
//! per address, Dovecot: 10 per user and address), so watches (IDLE) count towards the limits and
//! yield to pick-ups. A server's limit is learned from its refusals.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_model::Micros;
use tokio::{sync::Notify, task::AbortHandle};

use super::evidence::Moment;

/// Time after which a learned limit expires. Other programs may have held the connections.
const LEARNT_FOR: Micros = Micros::from_secs(3600);
/// Time after which a limit expires if the server closed the connection without a reason, which may
/// have been another one.
const SUSPECTED_FOR: Micros = Micros::from_secs(600);
/// Maximum time for a watch to end.
const YIELDING: Duration = Duration::from_secs(1);

/// Id of a mailbox, which changes with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct MailboxId(u64);

impl MailboxId {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Self(COUNT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A running watch.
struct Watch {
    id: u64,
    mailbox: MailboxId,
    task: Option<AbortHandle>,
}

/// Connections to one server.
#[derive(Default)]
struct Server {
    visits: usize,
    watches: Vec<Watch>,
    /// Number of connections that the server accepts, if known, and how long that is assumed.
    limit: Option<(usize, Moment)>,
}

impl Server {
    fn learned(&self) -> Option<usize> {
        self.limit.filter(|(_, until)| Moment::now() < *until).map(|(limit, _)| limit)
    }

    fn open(&self) -> usize {
        self.visits + self.watches.len()
    }
}

/// All connections to mailbox servers, by server and port.
#[derive(Default)]
pub(crate) struct Connections {
    servers: Mutex<HashMap<String, Server>>,
    /// Value of `limits.per_server`; 0 if it is not set.
    configured: AtomicU64,
    /// Signals that a connection has ended.
    ended: Notify,
}

impl Connections {
    pub(super) fn configure(&self, per_server: Option<u32>) {
        self.configured.store(per_server.unwrap_or(0).into(), Ordering::Relaxed);
    }

    fn budget(&self, server: &Server) -> usize {
        let configured = match self.configured.load(Ordering::Relaxed) {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        configured.min(server.learned().unwrap_or(usize::MAX))
    }

    /// Takes a slot for a watch, if that leaves one for a pick-up.
    pub(super) fn watch(self: &Arc<Self>, place: &str, mailbox: MailboxId) -> Option<WatchPlace> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut servers = self.servers.lock().ignore_poison();
        let server = servers.entry(place.to_owned()).or_default();
        if server.watches.len() + 1 + server.visits.max(1) > self.budget(server) {
            return None;
        }
        let id = COUNT.fetch_add(1, Ordering::Relaxed);
        server.watches.push(Watch { id, mailbox, task: None });
        Some(WatchPlace { all: self.clone(), place: place.to_owned(), id })
    }

    /// Takes a slot for a pick-up. Watches yield, unneeded ones first. Waits for other pick-ups for
    /// at most `patience`.
    pub(crate) async fn visit(
        self: &Arc<Self>,
        place: &str,
        patience: Duration,
        is_awaited: impl Fn(MailboxId) -> bool + Send,
    ) -> VisitPlace {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let ended = self.ended.notified();
            let wait = {
                let mut servers = self.servers.lock().ignore_poison();
                let server = servers.entry(place.to_owned()).or_default();
                let excess = (server.open() + 1).saturating_sub(self.budget(server));
                let full = server.learned().is_some_and(|limit| server.visits >= limit);
                let now = tokio::time::Instant::now();
                if excess == 0 || now >= deadline || (server.watches.is_empty() && !full) {
                    server.visits += 1;
                    break;
                }
                let yields = yield_watches(server, excess, &is_awaited);
                if yields { YIELDING.min(deadline - now) } else { deadline - now }
            };
            if tokio::time::timeout(wait, ended).await.is_err() && wait == YIELDING {
                // The watch does not end, so let the server decide.
                self.servers.lock().ignore_poison().entry(place.to_owned()).or_default().visits +=
                    1;
                break;
            }
        }
        VisitPlace { all: self.clone(), place: place.to_owned() }
    }

    /// Learns from a refusal, or from a closed connection. All watches on the server yield. Returns
    /// whether there were any.
    pub(super) fn refused(&self, place: &str, said_so: bool) -> bool {
        let mut servers = self.servers.lock().ignore_poison();
        let server = servers.entry(place.to_owned()).or_default();
        // The count includes the refused connection.
        let limit = server.open().saturating_sub(1).max(1);
        let had_watches = !server.watches.is_empty();
        if said_so || had_watches {
            let believed = if said_so { LEARNT_FOR } else { SUSPECTED_FOR };
            let limit = server.learned().map_or(limit, |known| known.min(limit));
            server.limit = Some((limit, Moment::now() + believed));
            tracing::debug!(server = place, limit, "the server accepts no more connections");
        }
        let count = server.watches.len();
        yield_watches(server, count, &|_| true);
        had_watches
    }

    fn end(&self, place: &str, work: impl FnOnce(&mut Server)) {
        let mut servers = self.servers.lock().ignore_poison();
        if let Some(server) = servers.get_mut(place) {
            work(server);
            if server.open() == 0 && server.learned().is_none() {
                servers.remove(place);
            }
        }
        drop(servers);
        self.ended.notify_waiters();
    }
}

/// Ends watches; returns whether any was running.
fn yield_watches(
    server: &mut Server,
    count: usize,
    is_awaited: &impl Fn(MailboxId) -> bool,
) -> bool {
    server.watches.sort_by_key(|watch| is_awaited(watch.mailbox));
    let yielding = server.watches.iter().take(count);
    yielding.filter_map(|watch| watch.task.as_ref()).map(AbortHandle::abort).count() > 0
}

/// The slot of a watch, released when this is dropped.
pub(super) struct WatchPlace {
    all: Arc<Connections>,
    place: String,
    id: u64,
}

impl WatchPlace {
    /// Returns a function that registers the abort handle of the watch's task.
    pub(super) fn task(&self) -> impl Fn(AbortHandle) + use<> {
        let (all, place, id) = (self.all.clone(), self.place.clone(), self.id);
        move |task| {
            if let Some(server) = all.servers.lock().ignore_poison().get_mut(&place)
                && let Some(watch) = server.watches.iter_mut().find(|watch| watch.id == id)
            {
                watch.task = Some(task);
            }
        }
    }
}

impl Drop for WatchPlace {
    fn drop(&mut self) {
        let id = self.id;
        self.all.end(&self.place, |server| server.watches.retain(|watch| watch.id != id));
    }
}

/// The slot of a pick-up, released when this is dropped.
pub(crate) struct VisitPlace {
    all: Arc<Connections>,
    place: String,
}

impl Drop for VisitPlace {
    fn drop(&mut self) {
        self.all.end(&self.place, |server| server.visits = server.visits.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn watch(
        connections: &Arc<Connections>,
        mailbox: MailboxId,
    ) -> Option<tokio::task::JoinHandle<()>> {
        let place = connections.watch("a:993", mailbox)?;
        let attach = place.task();
        let task = tokio::spawn(async move {
            let _place = place;
            std::future::pending::<()>().await;
        });
        attach(task.abort_handle());
        Some(task)
    }

    #[tokio::test]
    async fn watches_leave_room_for_pickups_and_yield_to_them() {
        let connections = Arc::new(Connections::default());
        connections.configure(Some(3));
        let (first, second, third) = (MailboxId::new(), MailboxId::new(), MailboxId::new());
        let (first_watch, second_watch) = (watch(&connections, first), watch(&connections, second));
        assert!(watch(&connections, third).is_none(), "one place is left for a pick-up");
        let visit = connections.visit("a:993", PATIENCE, |_| true).await;
        assert!(
            !first_watch.as_ref().expect("a watch or a task").is_finished()
                && !second_watch.as_ref().expect("a watch or a task").is_finished()
        );
        // With one more, the unneeded watch yields.
        let other = connections.visit("a:993", PATIENCE, |mailbox| mailbox == first).await;
        assert!(second_watch.expect("a watch or a task").await.expect_err("ended").is_cancelled());
        assert!(!first_watch.as_ref().expect("a watch or a task").is_finished());
        drop((visit, other));
        assert!(watch(&connections, third).is_some());
        // Another server is not affected.
        assert!(connections.watch("b:993", third).is_some());
    }

    #[tokio::test]
    async fn a_limit_is_learned_from_a_rejection() {
        let connections = Arc::new(Connections::default());
        let watches: Vec<_> = (0..4)
            .map(|_| watch(&connections, MailboxId::new()).expect("a watch or a task"))
            .collect();
        let refused = connections.visit("a:993", PATIENCE, |_| true).await;
        assert!(connections.refused("a:993", true));
        drop(refused);
        for watch in watches {
            assert!(watch.await.expect_err("ended").is_cancelled());
        }
        // Four connections are in use: three watches and a pick-up.
        let watches: Vec<_> = (0..4).map_while(|_| watch(&connections, MailboxId::new())).collect();
        assert_eq!(watches.len(), 3);
        // A server that closes the connection although none of ours competes has another reason.
        let _visit = connections.visit("b:993", PATIENCE, |_| true).await;
        assert!(!connections.refused("b:993", false));
        assert!(connections.watch("b:993", MailboxId::new()).is_some());
    }

    #[tokio::test]
    async fn pickups_beyond_a_known_limit_wait_for_each_other() {
        let connections = Arc::new(Connections::default());
        let first = connections.visit("a:993", PATIENCE, |_| true).await;
        connections.refused("a:993", true);
        let second = tokio::spawn({
            let connections = connections.clone();
            async move { connections.visit("a:993", PATIENCE, |_| true).await }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        drop(second.await.expect("a watch or a task"));
        // The wait is limited.
        let _first = connections.visit("a:993", PATIENCE, |_| true).await;
        connections.visit("a:993", Duration::from_millis(5), |_| true).await;
    }
}
