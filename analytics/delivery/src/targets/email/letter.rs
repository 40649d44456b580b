//! Composes the mail in one of its forms.

use lettre::{
    Address,
    address::Envelope,
    message::{Body, MultiPart, SinglePart, header},
};
use mailqos_base::hex;
use mailqos_config::{Config, EmailTarget, MailServer, Person};
use mailqos_mail::{Disposition, Head, NamedType};
use mailqos_model::UtcMicros;
use sha2::{Digest as _, Sha256};

use super::{
    form::Form,
    pictures::{halved, without_missing},
    servers::Servers,
};
use crate::{DeliveryError, Inline, Parcel};

/// Largest HTML page of a mail in bytes. Gmail clips messages above 102 kB.
const MAX_PAGE: usize = 100_000;
/// Number of pictures in [`Form::FewPictures`].
const FEW: usize = 2;
/// Maximum number of files that a notice names.
const NAMED: usize = 20;
/// Bytes reserved for the DKIM signature, which is added after the size is known.
const SIGNATURE: u64 = 2_000;

/// An attached file.
pub(super) struct Attached {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

/// Content shared by all mails of a delivery.
pub(super) struct Content<'a> {
    pub(super) config: &'a Config,
    pub(super) target: &'a EmailTarget,
    parcel: &'a Parcel,
    html: Option<String>,
    files: Vec<Attached>,
    /// Locations of the stored files, one per line.
    pub(super) links: Option<String>,
    /// Domain of all Message-IDs, whichever server accepts the mail.
    domain: String,
}

impl<'a> Content<'a> {
    pub(super) async fn read(
        config: &'a Config,
        target: &'a EmailTarget,
        parcel: &'a Parcel,
    ) -> Result<Self, DeliveryError> {
        let letter = &parcel.letter;
        let mut html = letter.html.clone();
        let mut files = Vec::new();
        for item in &parcel.items {
            let bytes = tokio::fs::read(&item.path).await.map_err(DeliveryError::io(&item.path))?;
            // If the mail has no HTML form, the first short page among the files is used.
            let is_page = html.is_none() && item.name.ends_with(".html") && bytes.len() <= MAX_PAGE;
            match String::from_utf8(bytes) {
                Ok(page) if is_page => html = Some(page),
                Ok(text) => {
                    files.push(Attached { name: item.name.clone(), bytes: text.into_bytes() })
                }
                Err(error) => {
                    files.push(Attached { name: item.name.clone(), bytes: error.into_bytes() })
                }
            }
        }
        let first = target.mail_servers.first().and_then(|name| config.mail_servers.get(name));
        let domain = first.map_or("localhost", |server| server.from.domain()).to_owned();
        Ok(Self { config, target, parcel, html, files, links: None, domain })
    }

    /// Returns the total size of the files in bytes.
    pub(super) fn files_size(&self) -> u64 {
        self.files.iter().map(|file| file.bytes.len() as u64).sum()
    }

    /// Returns the next smaller form that fits into the limit, or without a limit, the next one
    /// that is clearly smaller. Sizes are those of the complete mail as sent.
    pub(super) fn smaller(
        &self,
        servers: &Servers<'_>,
        form: Form,
        limit: Option<u64>,
    ) -> Result<Option<Form>, DeliveryError> {
        let Some((_, server)) = servers.first() else {
            return Ok(None);
        };
        let most = match limit {
            Some(limit) => limit.saturating_sub(SIGNATURE),
            None => self.write(server, form, &[])?.len() as u64 * 9 / 10,
        };
        for smaller in form.smaller() {
            if self.write(server, smaller, &[])?.len() as u64 <= most {
                return Ok(Some(smaller));
            }
        }
        // The notice is always tried last, because the limit that the server announced may be
        // wrong.
        Ok((form < Form::Notice).then_some(Form::Notice))
    }

    pub(super) fn envelope(
        &self,
        server: &MailServer,
        to: &[&Person],
    ) -> Result<Envelope, DeliveryError> {
        let wrong = |error: &dyn std::fmt::Display| DeliveryError::MailContent(error.to_string());
        let mailbox = |person: &Person| person.mailbox().map_err(|error| wrong(&error));
        let recipients: Vec<Address> =
            to.iter().map(|person| mailbox(person)).collect::<Result<_, _>>()?;
        Envelope::new(Some(mailbox(&server.from)?), recipients).map_err(|error| wrong(&error))
    }

    /// Composes the mail as it is sent.
    pub(super) fn write(
        &self,
        server: &MailServer,
        form: Form,
        to: &[&Person],
    ) -> Result<Vec<u8>, DeliveryError> {
        let letter = &self.parcel.letter;
        // Addresses beyond ASCII are shown only to recipients whose servers support them.
        let plain = to.iter().all(|person| person.address.is_ascii());
        let shown = |person: &&Person| !plain || person.address.is_ascii();
        let head = Head::new()
            .people("From", [&server.from])
            .people("To", self.target.to.iter().filter(shown))
            .people("Cc", self.target.cc.iter().filter(shown))
            .people("Reply-To", self.target.reply_to.iter().filter(shown))
            .text("Subject", &letter.subject)
            .date(UtcMicros::now())
            .message_id(&self.message_id(form))
            .auto_generated();
        let files: &[Attached] = if form.is_without_files() { &[] } else { &self.files };
        let body = self.body(form)?;
        if files.is_empty() {
            return Ok(match body {
                Written::One(part) => head.with(&part.formatted()),
                Written::Several(parts) => head.with(&parts.formatted()),
            });
        }
        let mut whole = match body {
            Written::One(part) => MultiPart::mixed().singlepart(part),
            Written::Several(parts) => MultiPart::mixed().multipart(parts),
        };
        for file in files {
            let part = SinglePart::builder()
                .header(NamedType::new(media(&file.name), &file.name))
                .header(Disposition::new("attachment", &file.name))
                .body(unchanged(file.bytes.clone())?);
            whole = whole.singlepart(part);
        }
        Ok(head.with(&whole.formatted()))
    }

    /// Returns the Message-ID. It is stable, so that a mail client shows a mail only once if it
    /// arrives again after a lost reply.
    fn message_id(&self, form: Form) -> String {
        let mut hash = Sha256::new();
        hash.update(self.parcel.letter.id.as_bytes());
        if form != Form::Whole {
            hash.update(form.word().as_bytes());
        }
        let id = hex(&hash.finalize()[..16]);
        format!("{id}.mailqos@{}", self.domain)
    }

    fn body(&self, form: Form) -> Result<Written, DeliveryError> {
        let letter = &self.parcel.letter;
        let note = self.note(form);
        if form == Form::Notice {
            let note = note.unwrap_or_else(|| letter.notes.too_large.clone());
            return Ok(Written::One(SinglePart::plain(format!("{}\n\n{note}\n", letter.subject))));
        }
        let text = match &note {
            Some(note) => format!("{note}\n\n{}", letter.text),
            None => letter.text.clone(),
        };
        let Some(html) = self.html.as_ref().filter(|_| form.has_page()) else {
            return Ok(Written::One(SinglePart::plain(text)));
        };
        let pictures = self.pictures(form, html);
        let html = without_missing(html, |id| pictures.iter().any(|picture| picture.id == id));
        let html = match &note {
            Some(note) => with_note(&html, note),
            None => html,
        };
        if pictures.is_empty() {
            return Ok(Written::Several(MultiPart::alternative_plain_html(text, html)));
        }
        let mut related = MultiPart::related().singlepart(SinglePart::html(html));
        for picture in pictures {
            let extension = picture.media_type.rsplit('/').next().unwrap_or("png");
            let name = format!("{}.{extension}", picture.id.split('@').next().unwrap_or("picture"));
            let part = SinglePart::builder()
                .header(header::ContentId::from(format!("<{}>", picture.id)))
                .header(NamedType::new(&picture.media_type, &name))
                .header(Disposition::new("inline", &name))
                .body(unchanged(picture.bytes)?);
            related = related.singlepart(part);
        }
        let alternative =
            MultiPart::alternative().singlepart(SinglePart::plain(text)).multipart(related);
        Ok(Written::Several(alternative))
    }

    /// Returns the pictures of a form that its page references.
    fn pictures(&self, form: Form, html: &str) -> Vec<Inline> {
        let shown = |picture: &&Inline| html.contains(&format!("cid:{}\"", picture.id));
        let shown = self.parcel.letter.pictures.iter().filter(shown);
        match form {
            Form::Whole | Form::Page => shown.cloned().collect(),
            Form::SmallPictures => shown.map(halved).collect(),
            Form::FewPictures => shown.take(FEW).map(halved).collect(),
            Form::NoPictures | Form::Text | Form::Notice => Vec::new(),
        }
    }

    /// Returns the note about files that are not attached.
    fn note(&self, form: Form) -> Option<String> {
        if !form.is_without_files() || self.files.is_empty() {
            return None;
        }
        let notes = &self.parcel.letter.notes;
        if let Some(links) = &self.links {
            return Some(format!("{}\n\n{links}", notes.elsewhere));
        }
        let size = |file: &Attached| bytes_in_words(file.bytes.len() as u64, notes.decimal);
        let named = self.files.iter().take(NAMED);
        let mut names: Vec<String> =
            named.map(|file| format!("{} ({})", file.name, size(file))).collect();
        if self.files.len() > NAMED {
            names.push(notes.more.replace("{0}", &(self.files.len() - NAMED).to_string()));
        }
        Some(format!("{}\n\n{}", notes.left_out, names.join("\n")))
    }
}

/// Body of a mail without the files.
enum Written {
    One(SinglePart),
    Several(MultiPart),
}

/// Returns a file's content for transfer byte by byte. As text, a CSV or JSON file would arrive
/// with changed line ends.
fn unchanged(bytes: Vec<u8>) -> Result<Body, DeliveryError> {
    Body::new_with_encoding(bytes, header::ContentTransferEncoding::Base64)
        .map_err(|_| DeliveryError::MailContent("a file can't be encoded in Base64".to_owned()))
}

fn media(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("pdf") => "application/pdf",
        Some("html") => "text/html; charset=utf-8",
        Some("csv") => "text/csv; charset=utf-8",
        Some("json") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        Some("zip") => "application/zip",
        Some("xlsx") => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        _ => "application/octet-stream",
    }
}

fn bytes_in_words(bytes: u64, decimal: char) -> String {
    if bytes < 1_000_000 {
        format!("{} kB", bytes.div_ceil(1_000))
    } else {
        format!("{}{decimal}{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
    }
}

/// Returns the HTML form with a note at the top.
pub(super) fn with_note(html: &str, note: &str) -> String {
    let mut words = String::new();
    for c in note.chars() {
        match c {
            '&' => words.push_str("&amp;"),
            '<' => words.push_str("&lt;"),
            '>' => words.push_str("&gt;"),
            '"' => words.push_str("&quot;"),
            '\n' => words.push_str("<br>\n"),
            c => words.push(c),
        }
    }
    let note = format!("<p style=\"font-family:sans-serif;\">{words}</p>");
    let small = html.to_ascii_lowercase();
    let body = small.find("<body").and_then(|at| small[at..].find('>').map(|end| at + end + 1));
    match body {
        Some(at) => format!("{}{note}{}", &html[..at], &html[at..]),
        None => format!("{note}{html}"),
    }
}
