//! E-mail: a text, its HTML form, and the files attached; who can't take that much gets it in pieces or is told where it is.
//! Each recipient is served once, whatever becomes of the others.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use lettre::{
    Address, Message,
    address::Envelope,
    message::{Attachment, Body, Mailbox, MultiPart, SinglePart, header::ContentType},
};
use mailqos_core::{
    config::{Config, EmailTarget, FilesTarget, Kind, MailServer, Target, TooLarge},
    mail::{MailError, Mailer, Reply, hex, one_line},
    model::{MonitorId, Name, UtcMicros},
};

use super::{DeliveryError, Parcel, Progress, Receipt, Served, put};

/// How often a mail is made smaller for a server before it is given up.
const ROUNDS: usize = 6;
/// How the keys of mails begin: what is done of them is kept on disk under these.
const WHOLE: &str = "whole";
const SPLIT: &str = "split";
const LINK: &str = "link";
const LEAVE: &str = "leave";
/// What head, text and the seams between the parts have at the most.
const AROUND: u64 = 200_000;

/// A file that is attached.
struct Attached {
    name: String,
    bytes: Vec<u8>,
}

/// What some recipients get.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Variant {
    /// Everything in one mail.
    Whole,
    /// Mails with so many bytes of files at the most.
    Split(u64),
    /// The text, and where the files are.
    Link,
    /// The text only.
    Leave,
}

/// One mail of a variant.
struct Mail<'a> {
    /// What tells it from the others of the delivery.
    key: String,
    /// What is added to the subject.
    part: Option<(usize, usize)>,
    /// What is added to the text.
    note: Option<String>,
    attached: Vec<Piece<'a>>,
}

/// A file, or a piece of one.
struct Piece<'a> {
    name: String,
    bytes: &'a [u8],
}

/// Everything that all the mails of a delivery have in common.
struct Content<'a> {
    config: &'a Config,
    target: &'a EmailTarget,
    parcel: &'a Parcel,
    html: Option<String>,
    files: Vec<Attached>,
    /// The domain of all Message-IDs, whichever server takes the mail.
    domain: String,
}

pub(in crate::delivery) async fn deliver(
    config: &Config,
    target: &EmailTarget,
    parcel: &Parcel,
    progress: &mut Progress<'_>,
) -> Result<Receipt, DeliveryError> {
    let (servers, why) = servers(config, target)?;
    let content = Content::read(config, target, parcel, &target.mail_servers).await?;
    let total: u64 = content.files.iter().map(|file| file.bytes.len() as u64).sum();
    let all: Vec<&String> = target.to.iter().chain(&target.cc).chain(&target.bcc).collect();
    let mut limits: BTreeMap<&String, u64> = BTreeMap::new();
    for address in &all {
        let limit = match begun(address, progress) {
            Some(Variant::Split(limit)) => Some(limit),
            _ => target.limits.get(*address).copied().or(target.attachments),
        };
        if let Some(limit) = limit {
            limits.insert(address, limit);
        }
    }
    let mut links: Option<(String, Receipt)> = None;
    let mut replies = BTreeSet::new();
    let mut trouble = None;
    for _ in 0..ROUNDS {
        let mut groups: BTreeMap<Variant, Vec<&String>> = BTreeMap::new();
        for address in &all {
            let limit = limits.get(address).copied();
            let variant = variant(begun(address, progress), limit, total, &target.too_large);
            groups.entry(variant).or_default().push(address);
        }
        let mut smaller = false;
        trouble = None;
        for (variant, addresses) in &groups {
            if *variant == Variant::Link && links.is_none() {
                links = Some(link(config, target, parcel).await?);
            }
            'mails: for mail in content.mails(variant, links.as_ref().map(|(lines, _)| lines.as_str())) {
                let open = addresses
                    .iter()
                    .copied()
                    .filter(|address| !progress.done.contains_key(&key(address, &mail.key)));
                // A mail for an address beyond ASCII can't pass servers that know no SMTPUTF8 (RFC 6531): only they wait for it.
                let (plain, foreign): (Vec<&String>, Vec<&String>) = open.partition(|address| address.is_ascii());
                for open in [plain, foreign] {
                    if open.is_empty() {
                        continue;
                    }
                    match content.send(&servers, &mail, &open, progress).await {
                        Ok(sent) => {
                            replies.insert(sent.reply);
                            trouble = sooner(trouble, sent.waiting);
                        }
                        Err(Failed::TooLarge(limit)) if !mail.attached.is_empty() => {
                            for address in &open {
                                let known = limits.get(*address).copied().unwrap_or(u64::MAX);
                                limits.insert(address, limit.min(known.saturating_sub(1)));
                            }
                            smaller = true;
                            break 'mails;
                        }
                        Err(Failed::TooLarge(_)) => {
                            let text = "the server takes no mail of this size, even without the files";
                            trouble = sooner(trouble, Some(DeliveryError::Letter(text.into())));
                        }
                        // What the others get, these don't: that is said for each of them.
                        Err(Failed::Other(DeliveryError::Refused { server, reason })) if open.len() < all.len() => {
                            refuse(&open, &mail, &format!("{server}: {reason}"), progress)?;
                        }
                        Err(Failed::Other(error)) => trouble = sooner(trouble, Some(error)),
                        // Nothing more is sent that could not be written down.
                        Err(Failed::Unwritten(error)) => return Err(error),
                    }
                }
            }
        }
        if !smaller {
            break;
        }
    }
    if let Some(error) = trouble {
        return Err(error);
    }
    let mut receipt = receipt(&all, &replies, why, progress);
    if receipt.places.is_empty() && !receipt.refused.is_empty() {
        // Nobody got it: whoever tries again tries all.
        progress.done.clear();
        let reason = receipt
            .refused
            .iter()
            .map(|(address, reply)| format!("{address}: {reply}"));
        return Err(DeliveryError::Refused {
            server: "all recipients refused".into(),
            reason: reason.collect::<Vec<_>>().join("; "),
        });
    }
    if let (Some((_, linked)), TooLarge::Link(name)) = (links, &target.too_large) {
        receipt.linked = Some((name.to_string(), Box::new(linked)));
    }
    Ok(receipt)
}

/// Of two failures the one after which another try may succeed sooner: as long as somebody may be served, the delivery is not over.
fn sooner(known: Option<DeliveryError>, new: Option<DeliveryError>) -> Option<DeliveryError> {
    match (known, new) {
        (Some(known), Some(new)) if new.again() < known.again() => Some(new),
        (Some(known), _) => Some(known),
        (None, new) => new,
    }
}

/// Writes down that a mail was refused for some recipients for good.
fn refuse(to: &[&String], mail: &Mail<'_>, reply: &str, progress: &mut Progress<'_>) -> Result<(), DeliveryError> {
    for address in to {
        let served = Served {
            recipient: (*address).clone(),
            at: UtcMicros::now().to_string(),
            reply: reply.to_owned(),
            refused: true,
        };
        progress.done.insert(key(address, &mail.key), served);
    }
    (progress.save)(&progress.done).map_err(|source| DeliveryError::Io {
        what: "the outbox".into(),
        source,
    })
}

fn key(address: &str, mail: &str) -> String {
    format!("{address} {mail}")
}

/// What an attempt before has begun to serve a recipient with.
fn begun(address: &str, progress: &Progress<'_>) -> Option<Variant> {
    let begins = format!("{address} ");
    let served = progress.done.iter().filter(|(_, served)| !served.refused);
    let mails = served.filter_map(|(key, _)| key.strip_prefix(&begins));
    mails
        .filter_map(|mail| match mail.split(' ').collect::<Vec<_>>()[..] {
            [SPLIT, limit, _] => limit.parse().ok().map(Variant::Split),
            [LINK] => Some(Variant::Link),
            [LEAVE] => Some(Variant::Leave),
            [WHOLE] => Some(Variant::Whole),
            _ => None,
        })
        .min()
}

/// What a recipient gets. Who has a piece gets the other pieces, and who has the files, or the mail without them, gets no other mail,
/// whatever another server would take or the configuration says by now.
fn variant(begun: Option<Variant>, limit: Option<u64>, total: u64, too_large: &TooLarge) -> Variant {
    match (begun, limit) {
        // The pieces that are left may have to be smaller.
        (Some(Variant::Split(_)), Some(limit)) => Variant::Split(limit),
        (Some(begun), _) => begun,
        (None, Some(limit)) if total > limit => match too_large {
            TooLarge::Split => Variant::Split(limit),
            TooLarge::Link(_) => Variant::Link,
            TooLarge::Leave => Variant::Leave,
        },
        (None, _) => Variant::Whole,
    }
}

/// What became of all recipients, also in the attempts before.
fn receipt(all: &[&String], replies: &BTreeSet<String>, why: Option<String>, progress: &Progress<'_>) -> Receipt {
    let mut receipt = Receipt::default();
    for address in all {
        let mut served: Vec<&Served> = progress
            .done
            .values()
            .filter(|served| served.recipient == **address)
            .collect();
        served.sort_by(|a, b| a.at.cmp(&b.at));
        if let Some(refused) = served.iter().find(|served| served.refused) {
            receipt.refused.push(((*address).clone(), refused.reply.clone()));
        } else if let Some(last) = served.last() {
            receipt.places.push((*address).clone());
            receipt.accepted.push((*last).clone());
        }
    }
    let mut reply = replies.iter().cloned().collect::<Vec<_>>().join("; ");
    if reply.is_empty() {
        reply = receipt
            .accepted
            .last()
            .map(|served| served.reply.clone())
            .unwrap_or_default();
    }
    if let Some(why) = why {
        reply = format!("{reply} ({why})");
    }
    receipt.reply = reply;
    receipt
}

/// Mail servers by their names.
type Servers<'a> = Vec<(Name, &'a MailServer)>;

/// The servers in the order in which they are tried: those last through which a monitor is in alarm.
fn servers<'a>(config: &'a Config, target: &EmailTarget) -> Result<(Servers<'a>, Option<String>), DeliveryError> {
    let mut servers = Vec::new();
    for name in &target.mail_servers {
        let server = config
            .mail_servers
            .get(name)
            .ok_or_else(|| DeliveryError::NoTarget(name.to_string()))?;
        servers.push((name.clone(), server));
    }
    if servers.len() < 2 {
        return Ok((servers, None));
    }
    let failing = failing(config);
    let ill = |server: &MailServer| {
        config.monitors.values().find(|monitor| {
            let Kind::MailQos(test) = &monitor.kind;
            failing.contains(&monitor.id)
                && test.smtp.port == server.endpoint.port
                && test.smtp.server.eq_ignore_ascii_case(&server.endpoint.server)
        })
    };
    let why = servers.first().and_then(|(name, server)| {
        ill(server).map(|monitor| format!("not through {name}: the monitor {} is in alarm", monitor.id))
    });
    let first = servers.first().map(|(name, _)| name.clone());
    servers.sort_by_key(|(_, server)| ill(server).is_some());
    // All of them in alarm: the order is as it was.
    let changed = servers.first().map(|(name, _)| name.clone()) != first;
    Ok((servers, why.filter(|_| changed)))
}

/// The monitors in alarm, as the probe of this machine keeps them; none where there is no probe.
fn failing(config: &Config) -> HashSet<MonitorId> {
    #[derive(serde::Deserialize)]
    struct Kept {
        #[serde(default)]
        states: BTreeMap<MonitorId, State>,
    }
    #[derive(serde::Deserialize)]
    struct State {
        #[serde(default)]
        status: String,
    }
    let file = config.state.join(format!("site={}", config.site)).join("alarms.json");
    let kept: Option<Kept> = std::fs::read(file)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    kept.map(|kept| kept.states)
        .unwrap_or_default()
        .into_iter()
        .filter(|(_, state)| state.status == "alarm")
        .map(|(monitor, _)| monitor)
        .collect()
}

/// Puts the files where those find them who can't take them; gives the lines that say so, and what became of the files.
async fn link(config: &Config, target: &EmailTarget, parcel: &Parcel) -> Result<(String, Receipt), DeliveryError> {
    let TooLarge::Link(name) = &target.too_large else {
        return Ok(Default::default());
    };
    let Some(Target::Files(place)) = config.targets.get(name) else {
        return Err(DeliveryError::NoTarget(name.to_string()));
    };
    let receipt = put(config, place, parcel)
        .await
        .map_err(|error| DeliveryError::Linked {
            target: name.clone(),
            error: Box::new(error),
        })?;
    let lines = receipt.places.iter().zip(&parcel.items).map(|(at, item)| {
        let at = address_of(place, parcel, at).unwrap_or_else(|| at.clone());
        format!("{}: {at}", item.name)
    });
    let lines = lines.collect::<Vec<_>>().join("\n");
    Ok((lines, receipt))
}

/// Where a browser finds a file, if the target says so.
fn address_of(place: &FilesTarget, parcel: &Parcel, at: &str) -> Option<String> {
    let url = place.url.as_ref()?.trim_end_matches('/');
    let name = at.rsplit(['/', '\\']).next()?;
    let folder = parcel.folder.split(['/', '\\']).filter(|part| !part.is_empty());
    let path: Vec<String> = folder.chain([name]).map(escaped).collect();
    Some(format!("{url}/{}", path.join("/")))
}

/// A part of a URL's path (RFC 3986, section 2.3).
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// What was sent, and who waits for another try.
struct Sent {
    reply: String,
    waiting: Option<DeliveryError>,
}

enum Failed {
    /// The files may have so many bytes.
    TooLarge(u64),
    /// What became of a mail can't be written down.
    Unwritten(DeliveryError),
    Other(DeliveryError),
}

impl<'a> Content<'a> {
    async fn read(
        config: &'a Config,
        target: &'a EmailTarget,
        parcel: &'a Parcel,
        servers: &[Name],
    ) -> Result<Self, DeliveryError> {
        let letter = &parcel.letter;
        // Without a form of its own, the first page among the files is the mail's HTML form.
        let page = match &letter.html {
            Some(_) => None,
            None => parcel.items.iter().position(|item| item.name.ends_with(".html")),
        };
        let mut html = letter.html.clone();
        let mut files = Vec::new();
        for (index, item) in parcel.items.iter().enumerate() {
            let bytes = tokio::fs::read(&item.path)
                .await
                .map_err(DeliveryError::io(&item.path))?;
            if Some(index) == page {
                html = Some(String::from_utf8_lossy(&bytes).into_owned());
            } else {
                files.push(Attached {
                    name: item.name.clone(),
                    bytes,
                });
            }
        }
        let domain = servers
            .first()
            .and_then(|name| config.mail_servers.get(name))
            .and_then(|server| server.from.trim_end_matches('>').rsplit_once('@'))
            .map_or_else(|| "localhost".to_owned(), |(_, domain)| domain.to_owned());
        Ok(Self {
            config,
            target,
            parcel,
            html,
            files,
            domain,
        })
    }

    /// The mails of a variant.
    fn mails(&self, variant: &Variant, links: Option<&str>) -> Vec<Mail<'_>> {
        let whole = |file: &'_ Attached| file.name.clone();
        let size = |file: &Attached| bytes_in_words(file.bytes.len() as u64);
        let names = || {
            let names = self.files.iter().map(|file| format!("{} ({})", file.name, size(file)));
            names.collect::<Vec<_>>().join("\n")
        };
        match variant {
            Variant::Whole => vec![Mail {
                key: WHOLE.into(),
                part: None,
                note: None,
                attached: self
                    .files
                    .iter()
                    .map(|file| Piece {
                        name: whole(file),
                        bytes: &file.bytes,
                    })
                    .collect(),
            }],
            Variant::Link => vec![Mail {
                key: LINK.into(),
                part: None,
                note: Some(format!(
                    "The files are too large for this mail. They are here:\n\n{}",
                    links.unwrap_or("")
                )),
                attached: Vec::new(),
            }],
            Variant::Leave => vec![Mail {
                key: LEAVE.into(),
                part: None,
                note: Some(format!(
                    "These files are too large for this mail and not in it:\n\n{}",
                    names()
                )),
                attached: Vec::new(),
            }],
            Variant::Split(limit) => {
                let bins = split(&self.files, *limit);
                let count = bins.len();
                bins.into_iter()
                    .enumerate()
                    .map(|(index, (attached, cut))| Mail {
                        key: format!("{SPLIT} {limit} {}/{count}", index + 1),
                        part: Some((index + 1, count)),
                        note: cut.map(|name| joined(&name)),
                        attached,
                    })
                    .collect()
            }
        }
    }

    /// Sends a mail through the first server that takes it.
    async fn send(
        &self,
        servers: &Servers<'_>,
        mail: &Mail<'_>,
        to: &[&String],
        progress: &mut Progress<'_>,
    ) -> Result<Sent, Failed> {
        let mut errors = Vec::new();
        let (mut transient, mut mendable) = (false, false);
        for (name, server) in servers {
            let place = format!("{}:{}", server.endpoint.server, server.endpoint.port);
            let (envelope, bytes) = self.write(server, mail, to).map_err(Failed::Other)?;
            let size = bytes.len() as u64;
            let account = self.config.account(server.endpoint.account.as_ref());
            let sent = Mailer::new(server, account).patient().send_raw(&envelope, bytes).await;
            match sent {
                Ok(delivered) => {
                    let at = UtcMicros::now().to_string();
                    let mut waiting = Vec::new();
                    let words = |reply: &Reply| format!("{place}: {}", said(reply));
                    let mut settle = |address: &Address, reply: String, refused: bool| {
                        let recipient = to
                            .iter()
                            .find(|known| ***known == address.to_string())
                            .map_or_else(|| address.to_string(), |known| (*known).clone());
                        progress.done.insert(
                            key(&recipient, &mail.key),
                            Served {
                                recipient,
                                at: at.clone(),
                                reply,
                                refused,
                            },
                        );
                    };
                    for address in &delivered.accepted {
                        settle(address, words(&delivered.reply), false);
                    }
                    for (address, reply) in &delivered.refused {
                        if reply.is_transient() {
                            waiting.push(format!("{address}: {}", said(reply)));
                        } else {
                            settle(address, words(reply), true);
                        }
                    }
                    // Before anything else: what is forgotten here is sent twice.
                    (progress.save)(&progress.done).map_err(|source| {
                        Failed::Unwritten(DeliveryError::Io {
                            what: "the outbox".into(),
                            source,
                        })
                    })?;
                    return Ok(Sent {
                        reply: words(&delivered.reply),
                        waiting: (!waiting.is_empty()).then(|| DeliveryError::Server {
                            server: place.clone(),
                            step: "recipients".into(),
                            reason: waiting.join("; "),
                            transient: true,
                        }),
                    });
                }
                Err(MailError::TooLarge { limit, .. }) => return Err(Failed::TooLarge(room(limit))),
                Err(error) if is_too_large(&error) => return Err(Failed::TooLarge(room(size / 2))),
                Err(error) => {
                    tracing::debug!(server = %name, "{error}");
                    // It may have been taken: through another server it would come twice.
                    let uncertain = error.is_uncertain();
                    transient |= error.is_transient();
                    mendable |= error.is_mendable();
                    errors.push((place, one_line(&error.to_string(), &[])));
                    if uncertain {
                        break;
                    }
                }
            }
        }
        let server = errors
            .iter()
            .map(|(place, _)| place.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        let reason = match errors.as_slice() {
            [(_, only)] => only.clone(),
            several => several
                .iter()
                .map(|(place, error)| format!("{place}: {error}"))
                .collect::<Vec<_>>()
                .join("; "),
        };
        Err(Failed::Other(if transient || mendable {
            DeliveryError::Server {
                server,
                step: "mail".into(),
                reason,
                transient,
            }
        } else {
            DeliveryError::Refused { server, reason }
        }))
    }

    fn write(
        &self,
        server: &MailServer,
        mail: &Mail<'_>,
        to: &[&String],
    ) -> Result<(Envelope, Vec<u8>), DeliveryError> {
        let wrong = |error: &dyn std::fmt::Display| DeliveryError::Letter(error.to_string());
        let mailbox = |address: &str| -> Result<Mailbox, DeliveryError> {
            address
                .parse()
                .map_err(|error| DeliveryError::Letter(format!("{address:?} is no mail address: {error}")))
        };
        let sender = mailbox(&server.from)?;
        let recipients = to
            .iter()
            .map(|address| mailbox(address).map(|mailbox| mailbox.email))
            .collect::<Result<Vec<_>, _>>()?;
        let envelope = Envelope::new(Some(sender.email.clone()), recipients).map_err(|error| wrong(&error))?;
        let mut builder = Message::builder().envelope(envelope.clone()).from(sender);
        let plain = to.iter().all(|address| address.is_ascii());
        let shown = |address: &&String| !plain || address.is_ascii();
        for address in self.target.to.iter().filter(shown) {
            builder = builder.to(mailbox(address)?);
        }
        for address in self.target.cc.iter().filter(shown) {
            builder = builder.cc(mailbox(address)?);
        }
        if let Some(address) = &self.target.reply_to {
            builder = builder.reply_to(mailbox(address)?);
        }
        let letter = &self.parcel.letter;
        let subject = match mail.part {
            Some((part, count)) if count > 1 => format!("{} ({part}/{count})", letter.subject),
            _ => letter.subject.clone(),
        };
        // Whoever gets the same report twice, after a reply that was lost, sees it once: mail programs know it by this.
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        hash.update(letter.id.as_bytes());
        if mail.key != WHOLE {
            hash.update(mail.key.as_bytes());
        }
        let id = hex(&hash.finish().as_ref()[..16]);
        let builder = builder
            .subject(subject)
            .message_id(Some(format!("<{id}.mailqos@{}>", self.domain)))
            .header(Generated)
            .date_now();
        let note = mail.note.as_ref();
        let text = note.map_or_else(|| letter.text.clone(), |note| format!("{note}\n\n{}", letter.text));
        let first = mail.part.is_none_or(|(part, _)| part == 1);
        let body = match self.html.as_ref().filter(|_| first) {
            Some(html) => {
                let html = note.map_or_else(|| html.clone(), |note| with_note(html, note));
                let shown = letter
                    .pictures
                    .iter()
                    .filter(|picture| html.contains(&format!("cid:{}", picture.id)));
                let shown: Vec<_> = shown.collect();
                if shown.is_empty() {
                    MultiPart::alternative_plain_html(text, html)
                } else {
                    let mut related = MultiPart::related().singlepart(SinglePart::html(html));
                    for picture in shown {
                        let media = ContentType::parse(&picture.media_type).map_err(|error| wrong(&error))?;
                        let inline = Attachment::new_inline(picture.id.clone());
                        related = related.singlepart(inline.body(Body::new(picture.bytes.clone()), media));
                    }
                    MultiPart::alternative()
                        .singlepart(SinglePart::plain(text))
                        .multipart(related)
                }
            }
            None => MultiPart::mixed().singlepart(SinglePart::plain(text)),
        };
        let mut whole = MultiPart::mixed().multipart(body);
        for piece in &mail.attached {
            let media = ContentType::parse(media(&piece.name)).map_err(|error| wrong(&error))?;
            whole = whole.singlepart(Attachment::new(piece.name.clone()).body(Body::new(piece.bytes.to_vec()), media));
        }
        let message = builder.multipart(whole).map_err(|error| wrong(&error))?;
        Ok((envelope, message.formatted()))
    }
}

/// Says that no person wrote it (RFC 3834): no holiday answers come back.
#[derive(Debug, Clone, Copy)]
struct Generated;

impl lettre::message::header::Header for Generated {
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

/// The bytes of files in a mail of a size: Base64 and its line ends make a third and a little more of them.
fn room(mail: u64) -> u64 {
    mail.saturating_sub(AROUND) / 78 * 57
}

/// RFC 1870, section 6.1, and RFC 3463: the mail is too large.
fn is_too_large(error: &MailError) -> bool {
    let MailError::Smtp(error) = error else { return false };
    error.reply.as_ref().is_some_and(|reply| {
        reply.enhanced_status() == Some("5.3.4") || reply.code == 552 && reply.enhanced_status() != Some("5.2.2")
    })
}

fn said(reply: &Reply) -> String {
    one_line(&format!("{} {}", reply.code, reply.lines.join(" ")), &[])
}

fn media(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("pdf") => "application/pdf",
        Some("html") => "text/html; charset=utf-8",
        Some("csv") => "text/csv; charset=utf-8",
        Some("json") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        Some("xlsx") => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        _ => "application/octet-stream",
    }
}

fn bytes_in_words(bytes: u64) -> String {
    if bytes < 1_000_000 {
        format!("{} kB", bytes.div_ceil(1_000))
    } else {
        format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
    }
}

/// Distributes files over mails; one that is too large by itself is cut. Each mail comes with the name of the file that it has a piece of.
fn split(files: &[Attached], limit: u64) -> Vec<(Vec<Piece<'_>>, Option<String>)> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).max(10_000);
    let mut mails: Vec<(Vec<Piece<'_>>, Option<String>)> = Vec::new();
    let mut used = usize::MAX;
    for file in files {
        if file.bytes.len() <= limit {
            if used.saturating_add(file.bytes.len()) > limit {
                mails.push((Vec::new(), None));
                used = 0;
            }
            used += file.bytes.len();
            if let Some((pieces, _)) = mails.last_mut() {
                pieces.push(Piece {
                    name: file.name.clone(),
                    bytes: &file.bytes,
                });
            }
            continue;
        }
        for (index, bytes) in file.bytes.chunks(limit).enumerate() {
            let name = format!("{}.{:03}", file.name, index + 1);
            mails.push((vec![Piece { name, bytes }], Some(file.name.clone())));
        }
        used = usize::MAX;
    }
    if mails.is_empty() {
        mails.push((Vec::new(), None));
    }
    mails
}

/// How a file is put together again.
fn joined(name: &str) -> String {
    format!(
        "The file {name} is too large for one mail and comes in pieces, one in each mail. Save all of them in one folder, then:\n\n\
         Windows: copy /b \"{name}.*\" \"{name}\"\nLinux, macOS: cat \"{name}\".??? > \"{name}\""
    )
}

/// The HTML form with a note at its head.
fn with_note(html: &str, note: &str) -> String {
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
    let body = small
        .find("<body")
        .and_then(|at| small[at..].find('>').map(|end| at + end + 1));
    match body {
        Some(at) => format!("{}{note}{}", &html[..at], &html[at..]),
        None => format!("{note}{html}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Inline, Item, Letter};

    fn config(folder: &std::path::Path) -> Config {
        let file = folder.join("mailqos.toml");
        std::fs::write(
            &file,
            "site = \"here\"\n[mail_server.a]\nserver = \"a.example.com\"\nfrom = \"reports@example.com\"\n\
             [target.people]\nkind = \"email\"\nto = [\"a@example.com\"]\nbcc = [\"hidden@example.com\"]\nreply_to = \"desk@example.com\"\n",
        )
        .expect("written");
        mailqos_core::config::load(&file).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn people(config: &Config) -> &EmailTarget {
        match config.targets.values().next() {
            Some(Target::Email(target)) => target,
            _ => panic!("no mails"),
        }
    }

    #[tokio::test]
    async fn the_mail_has_text_html_and_attachment_and_hides_bcc() {
        let folder = tempfile::tempdir().expect("folder");
        let config = config(folder.path());
        let target = people(&config);
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
                html: Some("<html><body class=\"x\"><p>Grüße</p><img src=\"cid:chart-1\"></body></html>".into()),
                pictures: ["chart-1", "not-shown"]
                    .map(|id| Inline {
                        id: id.into(),
                        media_type: "image/png".into(),
                        bytes: vec![0x89, b'P'],
                    })
                    .to_vec(),
                id: "monthly 2026-10".into(),
            },
        };
        let content = Content::read(&config, target, &parcel, &target.mail_servers)
            .await
            .expect("read");
        let server = config.mail_servers.values().next().expect("a server");
        let all = ["a@example.com".to_owned(), "hidden@example.com".to_owned()];
        let to: Vec<&String> = all.iter().collect();
        let write = |variant: &Variant| {
            let mails = content.mails(variant, Some("r.pdf: https://files.example.com/r.pdf"));
            let (envelope, bytes) = content.write(server, &mails[0], &to).expect("a mail");
            (envelope, String::from_utf8_lossy(&bytes).into_owned())
        };
        let (envelope, text) = write(&Variant::Whole);
        assert!(
            text.contains("multipart/alternative") && text.contains("application/pdf"),
            "{text}"
        );
        assert!(
            text.contains("Reply-To: desk@example.com") && text.contains("Auto-Submitted: auto-generated"),
            "{text}"
        );
        assert!(!text.contains("hidden@example.com"), "{text}");
        assert!(
            text.contains("multipart/related") && text.contains("Content-ID: <chart-1>"),
            "{text}"
        );
        assert!(!text.contains("not-shown"), "{text}");
        assert_eq!(envelope.to().len(), 2);
        let id = |text: &str| {
            text.lines()
                .find(|line| line.starts_with("Message-ID"))
                .map(str::to_owned)
                .expect("an id")
        };
        assert_eq!(id(&text), id(&write(&Variant::Whole).1));
        let (_, linked) = write(&Variant::Link);
        assert_ne!(id(&text), id(&linked));
        assert!(!linked.contains("application/pdf"), "{linked}");
        assert!(linked.contains("https://files.example.com/r.pdf"), "{linked}");
    }

    #[test]
    fn who_was_served_otherwise_gets_no_other_mail() {
        let link = TooLarge::Link("share".parse().expect("a name"));
        let after = |mails: &[&str], limit: Option<u64>, too_large: &TooLarge| {
            let mut progress = Progress::forgotten();
            for mail in mails {
                let served = Served {
                    recipient: "anna@example.com".into(),
                    at: String::new(),
                    reply: "250 OK".into(),
                    refused: false,
                };
                progress.done.insert(key("anna@example.com", mail), served);
            }
            variant(begun("anna@example.com", &progress), limit, 30_000, too_large)
        };
        assert_eq!(after(&[], Some(20_000), &link), Variant::Link);
        assert_eq!(after(&[], Some(30_000), &link), Variant::Whole);
        assert_eq!(after(&[], None, &link), Variant::Whole);
        // The configuration has changed since.
        for limit in [None, Some(20_000)] {
            assert_eq!(after(&[LINK], limit, &TooLarge::Split), Variant::Link);
            assert_eq!(after(&[LEAVE], limit, &TooLarge::Split), Variant::Leave);
            assert_eq!(after(&[WHOLE], limit, &TooLarge::Split), Variant::Whole);
        }
        let pieces = ["split 20000 1/2", "split 15000 1/2"];
        assert_eq!(after(&pieces, Some(15_000), &link), Variant::Split(15_000));
    }

    #[test]
    fn files_are_split_and_come_whole_again() {
        let file = |name: &str, size: usize| Attached {
            name: name.to_owned(),
            bytes: (0..size).map(|at| (at % 251) as u8).collect(),
        };
        let files = [
            file("a.csv", 8_000),
            file("b.csv", 9_000),
            file("c.pdf", 45_000),
            file("d.csv", 100),
        ];
        let mails = split(&files, 20_000);
        let names: Vec<Vec<&str>> = mails
            .iter()
            .map(|(pieces, _)| pieces.iter().map(|piece| piece.name.as_str()).collect())
            .collect();
        assert_eq!(
            names,
            [
                vec!["a.csv", "b.csv"],
                vec!["c.pdf.001"],
                vec!["c.pdf.002"],
                vec!["c.pdf.003"],
                vec!["d.csv"]
            ]
        );
        let whole: Vec<u8> = mails
            .iter()
            .filter(|(_, cut)| cut.is_some())
            .flat_map(|(pieces, _)| pieces.iter().flat_map(|piece| piece.bytes.iter().copied()))
            .collect();
        assert_eq!(whole, files[2].bytes);
    }

    #[test]
    fn a_note_stands_at_the_head_of_the_page() {
        assert_eq!(
            with_note("<html><BODY style=\"a\"><p>x</p></BODY></html>", "a < b\nc"),
            "<html><BODY style=\"a\"><p style=\"font-family:sans-serif;\">a &lt; b<br>\nc</p><p>x</p></BODY></html>"
        );
        assert_eq!(escaped("a b/ö.pdf"), "a%20b%2F%C3%B6.pdf");
    }
}
