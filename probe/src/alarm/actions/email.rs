//! A mail about alarms.

use lettre::{
    Message,
    message::{Attachment, Mailbox, MultiPart, SinglePart, header::ContentType},
};
use mailqos_core::{config::Config, mail::Mailer, model::Name};

use crate::alarm::message::Telling;

/// Sends the message through one mail server; returns the reply that accepted it.
pub(super) async fn send(config: &Config, server: &Name, to: &[String], telling: &Telling) -> Result<String, String> {
    let Some(options) = config.mail_servers.get(server) else {
        return Err(format!("there is no mail server {server} any more"));
    };
    let mailer = Mailer::new(options, config.account(options.endpoint.account.as_ref()));
    let mail = compose(&options.from, to, telling, server, config.site.as_str())?;
    let delivered = mailer.send(&mail).await.map_err(|error| error.to_string())?;
    let mut reply = delivered.reply.to_string();
    for (address, refusal) in delivered.refused {
        tracing::warn!("{address} is refused by {server}: {refusal}");
        reply = format!("{reply}; but {address} was refused: {refusal}");
    }
    Ok(reply)
}

fn compose(from: &str, to: &[String], telling: &Telling, server: &Name, site: &str) -> Result<Message, String> {
    let mailbox = |address: &str| {
        address
            .parse::<Mailbox>()
            .map_err(|error| format!("{address:?} is no mail address: {error}"))
    };
    let mut builder = Message::builder()
        .from(mailbox(from)?)
        .subject(&telling.subject)
        .message_id(Some(format!("<{}.{server}@{site}.mailqos>", telling.id)))
        // Nobody's holiday notice is to answer an alarm (RFC 3834, section 5).
        .header(AutoSubmitted);
    for address in to {
        builder = builder.to(mailbox(address)?);
    }
    let written = if telling.transcripts.is_empty() {
        builder.header(ContentType::TEXT_PLAIN).body(telling.body.clone())
    } else {
        let mut parts = MultiPart::mixed().singlepart(SinglePart::plain(telling.body.clone()));
        for (name, text) in &telling.transcripts {
            parts = parts.singlepart(Attachment::new(name.clone()).body(text.clone(), ContentType::TEXT_PLAIN));
        }
        builder.multipart(parts)
    };
    written.map_err(|error| format!("the message can't be written: {error}"))
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
