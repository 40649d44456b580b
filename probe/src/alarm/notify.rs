//! The worker that sends messages: those that are due together to one action list as one, again until somebody has them.

use std::{collections::BTreeMap, time::Duration};

use lettre::{
    Message,
    message::{Mailbox, header::ContentType},
};
use mailqos_core::{
    config::Action,
    mail::Mailer,
    model::{Event, EventKind, Micros, Name, UtcMicros},
};

use super::{Alarms, Pending, message};

/// Changes that come within this time are told together.
const GATHER: Duration = Duration::from_millis(500);
/// How long a message is tried: after that its alarm is history, and the event log says that nobody was told.
const GIVE_UP: Micros = Micros::from_secs(24 * 3600);

/// Sends what is pending until it is aborted.
pub(super) async fn work(alarms: Alarms) {
    loop {
        let next = alarms.lock().pending.iter().map(|pending| pending.next_try).min();
        let nap = next.map_or(Duration::from_secs(5), |at| (at - UtcMicros::now()).to_std());
        tokio::select! {
            () = alarms.wake.notified() => tokio::time::sleep(GATHER).await,
            () = tokio::time::sleep(nap.min(Duration::from_secs(5))) => {}
        }
        if alarms.lock().changed {
            alarms.keep();
        }
        let now = UtcMicros::now();
        let mut due: BTreeMap<Name, Vec<Pending>> = BTreeMap::new();
        for pending in alarms.lock().pending.iter().filter(|pending| pending.next_try <= now) {
            due.entry(pending.list.clone()).or_default().push(pending.clone());
        }
        for (list, changes) in due {
            let failure = send(&alarms, &list, &changes).await.err();
            settle(&alarms, &list, &changes, failure).await;
        }
    }
}

/// Takes what was accepted off the list, and puts the rest off.
async fn settle(alarms: &Alarms, list: &Name, changes: &[Pending], failure: Option<String>) {
    let now = UtcMicros::now();
    let mut events = Vec::new();
    {
        let mut kept = alarms.lock();
        for change in changes {
            let Some(index) = kept.pending.iter().position(|pending| pending.id == change.id) else {
                continue;
            };
            let event = |kind, text: String| {
                let mut event = Event::new(Some(change.monitor.clone()), now, kind).text(text);
                event.actor = Some(list.to_string());
                event
            };
            match &failure {
                None => {
                    kept.pending.remove(index);
                    events.push(event(
                        EventKind::NotificationSent,
                        format!("told through action list {list}"),
                    ));
                }
                Some(error) => {
                    let pending = &mut kept.pending[index];
                    pending.tries += 1;
                    // 5 s, 10 s, 20 s … 10 min.
                    let pause = Micros::from_secs((5i64 << pending.tries.min(8).saturating_sub(1)).min(600));
                    pending.next_try = now + pause;
                    let old = now - pending.sample.started_at > GIVE_UP;
                    if pending.tries == 1 || old {
                        events.push(event(EventKind::NotificationFailed, error.clone()));
                    }
                    if old {
                        kept.pending.remove(index);
                    }
                }
            }
        }
    }
    alarms.keep();
    if let Some(error) = &failure {
        tracing::error!(%list, "nobody could be told of {} change(s), trying again: {error}", changes.len());
    }
    for event in events {
        if let Err(error) = alarms.recorder.record_event(event).await {
            tracing::error!("an event can't be recorded: {error}");
        }
    }
}

/// Carries out the actions of a list; good when at least one channel accepted the message.
async fn send(alarms: &Alarms, list: &Name, changes: &[Pending]) -> Result<(), String> {
    let config = &alarms.config;
    let Some(actions) = config.action_lists.get(list).map(|list| &list.actions) else {
        return Err(format!("there is no action list {list} any more"));
    };
    let (subject, body) = message::write(config, changes);
    let mut failures = Vec::new();
    let mut accepted = false;
    for action in actions {
        let Action::Email { to, mail_server } = action;
        let Some(server) = config.mail_servers.get(mail_server) else {
            failures.push(format!("there is no mail server {mail_server} any more"));
            continue;
        };
        let mailer = Mailer::new(server, config.account(server.endpoint.account.as_ref()));
        let id = changes.first().map_or("", |change| change.id.as_str());
        let mail = match compose(
            &server.from,
            to,
            &subject,
            &body,
            &format!("{id}.{mail_server}"),
            config.site.as_str(),
        ) {
            Ok(mail) => mail,
            Err(error) => {
                failures.push(error);
                continue;
            }
        };
        match mailer.send(&mail).await {
            Ok(delivered) => {
                accepted = true;
                for (address, reply) in delivered.refused {
                    tracing::warn!(%list, "{address} is refused by {mail_server}: {reply}");
                }
            }
            Err(error) => failures.push(format!("{mail_server}: {error}")),
        }
    }
    if accepted { Ok(()) } else { Err(failures.join("; ")) }
}

fn compose(from: &str, to: &[String], subject: &str, body: &str, id: &str, site: &str) -> Result<Message, String> {
    let mailbox = |address: &str| {
        address
            .parse::<Mailbox>()
            .map_err(|error| format!("{address:?} is no mail address: {error}"))
    };
    let mut builder = Message::builder()
        .from(mailbox(from)?)
        .subject(subject)
        .message_id(Some(format!("<{id}@{site}.mailqos>")))
        // Nobody's holiday notice is to answer an alarm (RFC 3834, section 5).
        .header(AutoSubmitted);
    for address in to {
        builder = builder.to(mailbox(address)?);
    }
    builder
        .header(ContentType::TEXT_PLAIN)
        .body(body.to_owned())
        .map_err(|error| format!("the message can't be written: {error}"))
}

#[derive(Debug, Clone)]
struct AutoSubmitted;

impl lettre::message::header::Header for AutoSubmitted {
    fn name() -> lettre::message::header::HeaderName {
        lettre::message::header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> lettre::message::header::HeaderValue {
        lettre::message::header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}
