//! Autoconfig documents (draft-ietf-mailmaint-autoconfig, "config-v1.1.xml"): the servers that a
//! provider publishes for its users. Declares no entities and expands none.

use mailqos_config::TlsMode;
use quick_xml::{Reader, events::Event};

use crate::{
    Protocol, Server,
    address::{MailAddress, ascii_host},
};

/// The largest document that is read; Thunderbird's database has none above 16 KiB.
pub(crate) const MAX_DOCUMENT: usize = 256 * 1024;
/// The deepest nesting of elements.
const MAX_DEPTH: usize = 32;
/// Maximum number of servers used from a document.
const MAX_SERVERS: usize = 16;
/// Maximum length of the text of an element, in bytes.
const MAX_TEXT: usize = 1024;

/// A server in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    /// The server.
    pub(crate) server: Server,
    /// The user name to log in with, if the document states one that could be filled in.
    pub(crate) user: Option<String>,
    /// Whether the only authentication is OAuth 2.0.
    pub(crate) tokens_only: bool,
}

/// Why a document can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DocumentError {
    /// The XML is not well-formed.
    #[error("not well-formed XML: {0}")]
    Xml(String),
    /// It declares a document type, the place where entities are defined.
    #[error("it contains a document type declaration, which autoconfig files must not have")]
    DocumentType,
    /// Elements are nested too deeply.
    #[error("its elements are nested more than {MAX_DEPTH} deep")]
    Depth,
    /// The root element has another name.
    #[error("it is not an autoconfig file (no element clientConfig)")]
    Other,
    /// It names no server of a protocol in use.
    #[error("it names no IMAP, POP3 or SMTP server")]
    Empty,
}

/// The fields of a server while its element is read.
#[derive(Debug, Default)]
struct Draft {
    kind: String,
    outgoing: bool,
    host: String,
    port: String,
    socket: String,
    user: String,
    methods: Vec<String>,
}

/// Reads the servers of a document in its order.
///
/// # Errors
/// It is not a valid document, or names no server.
pub(crate) fn read(text: &[u8], address: &MailAddress) -> Result<Vec<Published>, DocumentError> {
    let text = decoded(text);
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let mut parser = Parser::new(address);
    loop {
        let event = reader
            .read_event()
            .map_err(|error| DocumentError::Xml(mailqos_base::one_line(&error.to_string(), &[])))?;
        match event {
            Event::DocType(_) => return Err(DocumentError::DocumentType),
            Event::Start(start) => parser.open(start.local_name().as_ref(), &kind_of(&start))?,
            Event::Empty(start) => {
                parser.open(start.local_name().as_ref(), &kind_of(&start))?;
                parser.close();
            }
            Event::End(_) => parser.close(),
            Event::Text(text) => parser.text(&String::from_utf8_lossy(&text)),
            Event::CData(text) => parser.text(&String::from_utf8_lossy(&text)),
            Event::GeneralRef(reference) => {
                // Entities of a server's own can't exist without a document type. Files of providers
                // contain wrong ones ("&amP;" in that of web.de), in texts for people.
                let character = match reference.resolve_char_ref() {
                    Ok(Some(character)) => Some(character),
                    _ => predefined(&reference),
                };
                parser.text(&character.unwrap_or('\u{fffd}').to_string());
            }
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
    parser.finish()
}

/// Decodes a document. Those that are not in UTF-8 failed elsewhere (chatmail/core#3158): UTF-16 has
/// a byte order mark (XML 1.0, section 4.3.3), and in other encodings, hosts and ports are in ASCII.
fn decoded(text: &[u8]) -> std::borrow::Cow<'_, str> {
    let units = |bytes: &[u8], read: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| read([pair[0], pair[1]])).collect();
        String::from_utf16_lossy(&units).into()
    };
    match text {
        [0xff, 0xfe, rest @ ..] => units(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => units(rest, u16::from_be_bytes),
        _ => String::from_utf8_lossy(text),
    }
}

/// Reads a document for the fuzz targets: the number of servers, or the reason.
///
/// # Errors
/// It is not a valid document, or names no server.
#[cfg(feature = "test-hooks")]
pub fn replay_document(text: &[u8], address: &MailAddress) -> Result<usize, String> {
    read(text, address).map(|found| found.len()).map_err(|error| error.to_string())
}

/// The five entities of XML itself.
fn predefined(name: &[u8]) -> Option<char> {
    Some(match name {
        b"amp" => '&',
        b"lt" => '<',
        b"gt" => '>',
        b"quot" => '"',
        b"apos" => '\'',
        _ => return None,
    })
}

fn kind_of(start: &quick_xml::events::BytesStart<'_>) -> String {
    let kind = start.try_get_attribute("type").ok().flatten();
    kind.map(|kind| String::from_utf8_lossy(&kind.value).to_lowercase()).unwrap_or_default()
}

struct Parser<'address> {
    address: &'address MailAddress,
    /// Names of the open elements.
    path: Vec<String>,
    content: String,
    providers: usize,
    draft: Option<Draft>,
    found: Vec<Published>,
}

impl<'address> Parser<'address> {
    fn new(address: &'address MailAddress) -> Self {
        Self {
            address,
            path: Vec::new(),
            content: String::new(),
            providers: 0,
            draft: None,
            found: Vec::new(),
        }
    }

    fn open(&mut self, name: &[u8], kind: &str) -> Result<(), DocumentError> {
        let name = String::from_utf8_lossy(name).into_owned();
        if self.path.is_empty() && name != "clientConfig" {
            return Err(DocumentError::Other);
        }
        self.content.clear();
        if self.path.len() == 1 && name == "emailProvider" {
            self.providers += 1;
        }
        // A second provider in a file is for other domains.
        if self.path.len() == 2 && self.path[1] == "emailProvider" && self.providers == 1 {
            let outgoing = name == "outgoingServer";
            if outgoing || name == "incomingServer" {
                self.draft = Some(Draft { kind: kind.to_owned(), outgoing, ..Draft::default() });
            }
        }
        self.path.push(name);
        if self.path.len() > MAX_DEPTH {
            return Err(DocumentError::Depth);
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        if self.draft.is_some() && self.content.len() + text.len() <= MAX_TEXT {
            self.content.push_str(text);
        }
    }

    fn close(&mut self) {
        let Some(name) = self.path.pop() else { return };
        let content = std::mem::take(&mut self.content);
        let content = content.trim();
        match (self.path.len(), &mut self.draft) {
            (3, Some(draft)) => match name.as_str() {
                "hostname" => content.clone_into(&mut draft.host),
                "port" => content.clone_into(&mut draft.port),
                "socketType" => draft.socket = content.to_uppercase(),
                "username" => content.clone_into(&mut draft.user),
                "authentication" => draft.methods.push(content.to_lowercase()),
                _ => {}
            },
            (2, Some(_)) => {
                let draft = self.draft.take().unwrap_or_default();
                if self.found.len() < MAX_SERVERS {
                    self.found.extend(self.server(&draft));
                }
            }
            _ => {}
        }
    }

    fn server(&self, draft: &Draft) -> Option<Published> {
        let protocol = match (draft.outgoing, draft.kind.as_str()) {
            (true, "smtp") => Protocol::Smtp,
            (false, "imap") => Protocol::Imap,
            (false, "pop3") => Protocol::Pop3,
            _ => return None,
        };
        let tls = match draft.socket.as_str() {
            "SSL" | "TLS" => TlsMode::Implicit,
            "STARTTLS" => TlsMode::StartTls,
            _ => TlsMode::None,
        };
        let host = self.filled(&draft.host)?;
        let host = match host.parse::<std::net::IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => ascii_host(&host)?,
        };
        let port = draft.port.parse::<u16>().ok().filter(|port| *port != 0)?;
        let user = self.filled(&draft.user);
        let mut methods = draft.methods.iter().peekable();
        let tokens_only = methods.peek().is_some() && methods.all(|method| method == "oauth2");
        Some(Published {
            server: Server { protocol, host, port, tls },
            user: user.filter(|user| !user.is_empty() && !user.contains(char::is_whitespace)),
            tokens_only,
        })
    }

    /// Replaces placeholders; `None` if there is one that an address can't fill in.
    fn filled(&self, text: &str) -> Option<String> {
        let text = text
            .replace("%EMAILADDRESS%", &self.address.to_string())
            .replace("%EMAILLOCALPART%", self.address.local())
            .replace("%EMAILDOMAIN%", self.address.domain());
        (!text.contains('%') || self.address.local().contains('%')).then_some(text)
    }

    fn finish(self) -> Result<Vec<Published>, DocumentError> {
        match (self.path.is_empty(), self.found.is_empty()) {
            (false, _) => Err(DocumentError::Xml("it ends within an element".to_owned())),
            (true, true) if self.providers == 0 => Err(DocumentError::Other),
            (true, true) => Err(DocumentError::Empty),
            (true, false) => Ok(self.found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn anna() -> MailAddress {
        "anna@example.com".parse().expect("an address")
    }

    fn parsed(text: &str) -> Result<Vec<Published>, DocumentError> {
        read(text.as_bytes(), &anna())
    }

    /// A file with a server whose elements are these.
    fn file(server: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<clientConfig version=\"1.1\"><emailProvider id=\"example.com\">\
             <domain>example.com</domain>{server}</emailProvider></clientConfig>"
        )
    }

    const IMAP: &str = "<incomingServer type=\"imap\"><hostname>imap.%EMAILDOMAIN%</hostname><port>993</port>\
        <socketType>SSL</socketType><username>%EMAILLOCALPART%</username>\
        <authentication>OAuth2</authentication><authentication>password-cleartext</authentication></incomingServer>";

    #[test]
    fn other_encodings_and_placeholders_in_hosts_are_read() {
        // mailcow/mailcow#71 publishes placeholders, chatmail/core#3158 is about encodings.
        let text = file(&IMAP.replace("imap.%EMAILDOMAIN%", "mail.%EMAILDOMAIN%"));
        let le: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let be: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let latin = text.replace("<domain>", "<domain>\u{e9}").into_bytes();
        let latin = [&latin[..], b"<!-- \xe9 -->"].concat();
        for bytes in [
            text.clone().into_bytes(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            [&b"\xff\xfe"[..], &le].concat(),
            [&b"\xfe\xff"[..], &be].concat(),
            latin,
        ] {
            let found = read(&bytes, &anna()).expect("a server");
            assert_eq!(found[0].server.host, "mail.example.com");
        }
    }

    #[test]
    fn servers_are_read_in_order_with_placeholders_filled_in() {
        let smtp = "<outgoingServer type=\"smtp\"><hostname><![CDATA[Smtp.Example.com]]></hostname><port> 587 </port>\
            <socketType>STARTTLS</socketType><username>%EMAILADDRESS%</username>\
            <authentication>OAuth2</authentication></outgoingServer>";
        let plain = "<incomingServer type=\"pop3\"><hostname>b&#252;cher.example</hostname><port>110</port>\
            <socketType>plain</socketType><username>%REALNAME%</username></incomingServer>";
        let exchange = "<incomingServer type=\"exchange\"><hostname>x.example</hostname><port>443</port></incomingServer>";
        let found = parsed(&file(&format!("{exchange}{IMAP}{smtp}{plain}"))).expect("servers");
        let places: Vec<String> = found.iter().map(|found| found.server.to_string()).collect();
        assert_eq!(
            places,
            [
                "IMAP imap.example.com:993 TLS",
                "SMTP smtp.example.com:587 STARTTLS",
                "POP3 xn--bcher-kva.example:110 in plaintext"
            ]
        );
        let users: Vec<Option<&str>> = found.iter().map(|found| found.user.as_deref()).collect();
        assert_eq!(users, [Some("anna"), Some("anna@example.com"), None]);
        let tokens: Vec<bool> = found.iter().map(|found| found.tokens_only).collect();
        assert_eq!(tokens, [false, true, false]);
    }

    #[test]
    fn slips_of_real_files_do_not_matter() {
        // web.de.xml in Thunderbird's database: a wrong entity in a text for people.
        let text = file(IMAP)
            .replace("</emailProvider>", "</emailProvider><enable><i>POP3 &amP; IMAP</i></enable>");
        assert_eq!(parsed(&text).expect("a server").len(), 1);
        // A byte order mark, an empty element, servers of a second provider.
        let text = format!("\u{feff}{}", file(IMAP)).replace(
            "</clientConfig>",
            &format!("<webMail/><emailProvider>{IMAP}</emailProvider></clientConfig>"),
        );
        assert_eq!(parsed(&text).expect("a server").len(), 1);
    }

    #[test]
    fn what_is_not_an_autoconfig_file_is_refused() {
        let bomb = format!(
            "<?xml version=\"1.0\"?><!DOCTYPE lolz [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]>{}",
            file(&IMAP.replace("imap.", "&b;"))
        );
        assert_eq!(parsed(&bomb), Err(DocumentError::DocumentType));
        let external = "<!DOCTYPE x SYSTEM \"file:///etc/passwd\"><clientConfig/>";
        assert_eq!(parsed(external), Err(DocumentError::DocumentType));
        let deep = format!("<clientConfig>{}", "<a>".repeat(100_000));
        assert_eq!(parsed(&deep), Err(DocumentError::Depth));
        assert_eq!(parsed("<html><body>parked</body></html>"), Err(DocumentError::Other));
        assert_eq!(parsed(""), Err(DocumentError::Other));
        assert_eq!(parsed(&file("")), Err(DocumentError::Empty));
        assert!(matches!(parsed("<clientConfig><emailProvider>"), Err(DocumentError::Xml(_))));
        assert!(matches!(parsed("<clientConfig></b>"), Err(DocumentError::Xml(_))));
        for wrong in [
            IMAP.replace("993", "70000"),
            IMAP.replace("993", "0"),
            IMAP.replace("imap.%EMAILDOMAIN%", "imap.example.com/x"),
            IMAP.replace("imap.%EMAILDOMAIN%", "&unknown;.example.com"),
            IMAP.replace("imap.%EMAILDOMAIN%", ""),
            IMAP.replace("type=\"imap\"", "type=\"jmap\""),
        ] {
            assert_eq!(parsed(&file(&wrong)), Err(DocumentError::Empty), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_file_is_read_or_refused(parts in proptest::collection::vec(prop_oneof![
            Just("<clientConfig>".to_owned()), Just("</clientConfig>".to_owned()),
            Just("<emailProvider>".to_owned()), Just("</emailProvider>".to_owned()),
            Just(IMAP.to_owned()), Just("<incomingServer type='imap'>".to_owned()), Just("&#x0;".to_owned()),
            Just("&x;".to_owned()), Just("<![CDATA[".to_owned()), "\\PC{0,12}",
        ], 0..12)) {
            if let Ok(found) = parsed(&parts.concat()) {
                prop_assert!(!found.is_empty() && found.len() <= MAX_SERVERS);
            }
        }
    }
}
