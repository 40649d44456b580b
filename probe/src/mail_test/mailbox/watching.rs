//! The watch over a mailbox (IDLE), which runs as long as mails are expected in it.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use mailqos_base::lock::IgnorePoison as _;
use mailqos_mail::LoginRefusal;
use tokio::task::JoinHandle;

use super::{
    super::{
        connections::WatchPlace,
        evidence::Moment,
        pickup::{self, Memory, NextPoll, WatchControl},
    },
    LINGER, Mailbox,
    registry::Registry,
};

/// Marks a mailbox as watched until dropped.
struct Mark<'a>(&'a AtomicBool);

impl<'a> Mark<'a> {
    fn set(is_watching: &'a AtomicBool) -> Self {
        is_watching.store(true, Ordering::Relaxed);
        Self(is_watching)
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A running watch, which ends when this is dropped.
pub(super) struct RunningWatch(JoinHandle<()>);

impl Drop for RunningWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RunningWatch {
    /// Starts the watch.
    pub(super) fn begin(
        mailbox: &Arc<Mailbox>,
        registry: &Arc<Registry>,
        memory: &Memory,
        place: WatchPlace,
    ) -> Self {
        let director = Director {
            mailbox: mailbox.clone(),
            registry: registry.clone(),
            last_awaited: Mutex::new(Moment::now()),
        };
        let learned = memory.imap.for_watch();
        let attach = place.task();
        let task = tokio::spawn(async move {
            let _place = place;
            let mailbox = &director.mailbox;
            let _mark = Mark::set(&mailbox.is_watching);
            let watched = match mailbox.credentials().await {
                Ok(credentials) => {
                    pickup::imap::watch(&mailbox.door, credentials.as_ref(), learned, &director)
                        .await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = watched {
                tracing::debug!(server = %mailbox.key.server, user = %mailbox.key.user, %error, "IDLE failed");
                if error.refusal == Some(LoginRefusal::Connections) {
                    director.registry.connections.refused(&mailbox.place(), true);
                }
            }
        });
        attach(task.abort_handle());
        Self(task)
    }

    pub(super) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// Directs the watch over a mailbox according to the expected mails.
struct Director {
    mailbox: Arc<Mailbox>,
    registry: Arc<Registry>,
    last_awaited: Mutex<Moment>,
}

impl WatchControl for Director {
    fn look(&self) -> NextPoll {
        let next = self.registry.next_poll(self.mailbox.id);
        let now = Moment::now();
        if next.is_some() {
            *self.last_awaited.lock().ignore_poison() = now;
        } else if now - *self.last_awaited.lock().ignore_poison() > LINGER {
            return NextPoll::Stop;
        }
        next.flatten().map_or(NextPoll::Wait, NextPoll::Poll)
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            // Check periodically whether any test still waits.
            let _ =
                tokio::time::timeout(LINGER.to_std() / 3, self.mailbox.attention.notified()).await;
        })
    }

    /// Triggers a visit without waiting for the next check. Foreign mails arrive as well, so there
    /// is a limit, except for precise monitors.
    fn landed(&self) {
        let now = Moment::now();
        self.registry.each_plan(self.mailbox.id, |plan| {
            if plan.precise_from.is_some() || plan.is_attended {
                plan.next = plan.next.min(now);
            } else if plan.on_landing > 0 && now < plan.deadline {
                plan.on_landing -= 1;
                plan.next = plan.next.min(now);
            }
        });
        self.mailbox.wake.notify_one();
    }
}
