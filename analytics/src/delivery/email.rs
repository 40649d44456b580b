//! E-mail: a text, its HTML form, and the files attached.

use lettre::{
    Message,
    message::{Attachment, Body, Mailbox, MultiPart, SinglePart, header::ContentType},
};
use mailqos_core::{
    config::Config,
    mail::{MailError, Mailer, Reply, one_line},
    model::Name,
};
use sha2::{Digest as _, Sha256};

use super::{DeliveryError, Parcel, Receipt};

/// Who gets a mail.
pub(super) struct Recipients<'a> {
    pub(super) to: &'a [String],
    pub(super) cc: &'a [String],
    pub(super) bcc: &'a [String],
    pub(super) reply_to: Option<&'a str>,
}

pub(super) async fn deliver(
    config: &Config,
    server: &Name,
    recipients: &Recipients<'_>,
    parcel: &Parcel,
) -> Result<Receipt, DeliveryError> {
    let options = config
        .mail_servers
        .get(server)
        .ok_or_else(|| DeliveryError::NoTarget(server.to_string()))?;
    let account = options
        .endpoint
        .account
        .as_ref()
        .and_then(|name| config.accounts.get(name));
    let message = write(&options.from, recipients, parcel).await?;
    let failed = |error: MailError| DeliveryError::Server {
        server: format!("{}:{}", options.endpoint.server, options.endpoint.port),
        step: "mail".into(),
        transient: error.is_transient(),
        reason: one_line(&error.to_string(), &[]),
    };
    let delivered = Mailer::new(options, account).send(&message).await.map_err(failed)?;
    Ok(Receipt {
        places: delivered.accepted.iter().map(ToString::to_string).collect(),
        reply: said(&delivered.reply),
        refused: delivered
            .refused
            .iter()
            .map(|(address, reply)| (address.to_string(), said(reply)))
            .collect(),
    })
}

fn said(reply: &Reply) -> String {
    one_line(&format!("{} {}", reply.code, reply.lines.join(" ")), &[])
}

async fn write(from: &str, recipients: &Recipients<'_>, parcel: &Parcel) -> Result<Message, DeliveryError> {
    let wrong = |error: &dyn std::fmt::Display| DeliveryError::Letter(error.to_string());
    let mailbox = |address: &str| -> Result<Mailbox, DeliveryError> {
        address
            .parse()
            .map_err(|error| DeliveryError::Letter(format!("{address:?} is no mail address: {error}")))
    };
    let sender = mailbox(from)?;
    let domain = sender.email.domain().to_owned();
    let mut builder = Message::builder().from(sender);
    for address in recipients.to {
        builder = builder.to(mailbox(address)?);
    }
    for address in recipients.cc {
        builder = builder.cc(mailbox(address)?);
    }
    for address in recipients.bcc {
        builder = builder.bcc(mailbox(address)?);
    }
    if let Some(address) = recipients.reply_to {
        builder = builder.reply_to(mailbox(address)?);
    }
    let letter = &parcel.letter;
    // Whoever gets the same report twice, after a reply that was lost, sees it once: mail programs know it by this.
    let hash = Sha256::digest(letter.id.as_bytes());
    let id: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let builder = builder
        .subject(letter.subject.clone())
        .message_id(Some(format!("<{id}.mailqos@{domain}>")))
        .date_now();
    // Without a form of its own, the first page among the files is the mail's HTML form.
    let page = match &letter.html {
        Some(_) => None,
        None => parcel.items.iter().find(|item| item.name.ends_with(".html")),
    };
    let html = match page {
        Some(item) => Some(
            tokio::fs::read_to_string(&item.path)
                .await
                .map_err(|source| DeliveryError::Io {
                    what: item.path.display().to_string(),
                    source,
                })?,
        ),
        None => letter.html.clone(),
    };
    let text = match html {
        Some(html) => MultiPart::alternative_plain_html(letter.text.clone(), html),
        None => MultiPart::mixed().singlepart(SinglePart::plain(letter.text.clone())),
    };
    let mut whole = MultiPart::mixed().multipart(text);
    for item in &parcel.items {
        if page.is_some_and(|page| page.name == item.name) {
            continue;
        }
        let bytes = tokio::fs::read(&item.path).await.map_err(|source| DeliveryError::Io {
            what: item.path.display().to_string(),
            source,
        })?;
        let media = match item.name.rsplit('.').next() {
            Some("pdf") => "application/pdf",
            Some("html") => "text/html; charset=utf-8",
            Some("csv") => "text/csv; charset=utf-8",
            Some("json") => "application/json",
            Some("txt") => "text/plain; charset=utf-8",
            _ => "application/octet-stream",
        };
        let media = ContentType::parse(media).map_err(|error| wrong(&error))?;
        whole = whole.singlepart(Attachment::new(item.name.clone()).body(Body::new(bytes), media));
    }
    builder.multipart(whole).map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Item, Letter};

    #[tokio::test]
    async fn the_mail_has_text_html_and_attachment_and_hides_bcc() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("r.pdf");
        std::fs::write(&path, b"%PDF-1.7").expect("written");
        let parcel = Parcel {
            items: vec![Item {
                name: "Bericht ö.pdf".into(),
                path,
            }],
            folder: String::new(),
            letter: Letter {
                subject: "Mail quality, Oktober ö".into(),
                text: "Grüße".into(),
                html: Some("<p>Grüße</p>".into()),
                id: "monthly 2026-10".into(),
            },
        };
        let (to, bcc) = (vec!["a@example.com".to_owned()], vec!["hidden@example.com".to_owned()]);
        let recipients = Recipients {
            to: &to,
            cc: &[],
            bcc: &bcc,
            reply_to: None,
        };
        let message = write("Reports <reports@example.com>", &recipients, &parcel)
            .await
            .expect("a mail");
        let text = String::from_utf8_lossy(&message.formatted()).into_owned();
        assert!(
            text.contains("multipart/alternative") && text.contains("application/pdf"),
            "{text}"
        );
        assert!(!text.contains("hidden@example.com"), "{text}");
        assert_eq!(message.envelope().to().len(), 2);
        let id = |text: &str| {
            text.lines()
                .find(|line| line.starts_with("Message-ID"))
                .map(str::to_owned)
        };
        let again = write("Reports <reports@example.com>", &recipients, &parcel)
            .await
            .expect("a mail");
        assert_eq!(id(&text), id(&String::from_utf8_lossy(&again.formatted())));
        assert!(id(&text).is_some());
    }
}
