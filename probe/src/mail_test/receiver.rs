//! Which fields of a mail's header the receiving system wrote, rather than the sender (RFC 8601,
//! sections 1.2, 5 and 7.1).
//!
//! Each server writes its fields above those that exist already, so the header consists of blocks,
//! each with the `Received` field of one server. What the receiving system wrote ends where the
//! block of the server before it begins. A field that claims to be of the receiving system but is
//! further down was written by the sender or by a server on the way.

use super::{head::all_fields, received};

/// Microsoft's mail servers omit their own name in `Authentication-Results`.
const NAMELESS: [&str; 3] = ["outlook.com", "office365.com", "microsoft.com"];

/// The system that received a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Receiver {
    /// Hosts and domains that are configured; empty for those of the receiving domain.
    ids: Vec<String>,
    /// Domains of the mailbox and of its server.
    domains: Vec<String>,
}

/// The fields that the receiving system wrote, and whose names it has.
pub(super) struct TrustedFields {
    /// Names and values, topmost first, and the number of `Received` fields above.
    fields: Vec<(usize, String, String)>,
    ids: Vec<String>,
    domains: Vec<String>,
}

impl Receiver {
    /// Creates the receiver of mails to an address, in a mailbox on a server; `ids` are the
    /// configured hosts, if any.
    pub(super) fn new(to: &str, server: &str, ids: &[String]) -> Self {
        let domain = to.rsplit_once('@').map_or("", |(_, domain)| domain);
        let domains = [domain, server].into_iter().filter_map(organisation);
        Self { ids: ids.to_vec(), domains: domains.collect() }
    }

    /// Returns the fields of a mail that the receiving system wrote.
    pub(super) fn fields(&self, mail: &[u8]) -> TrustedFields {
        let mut trusted = TrustedFields {
            fields: Vec::new(),
            ids: self.ids.clone(),
            domains: self.domains.iter().cloned().chain(self.ids.iter().cloned()).collect(),
        };
        // The server that stored the mail is a host of the receiving domain, whatever its name: no
        // one else can write above its field.
        let (mut has_newest, mut is_past_border, mut above) = (false, false, 0);
        for (name, value) in all_fields(mail) {
            if !name.eq_ignore_ascii_case("Received") {
                trusted.fields.push((above, name, value));
                continue;
            }
            above += 1;
            if is_past_border {
                break;
            }
            let hop = received::hop(&value);
            let by = hop.by.filter(|by| is_domain(by));
            // Gmail's newest field names an address, and no sender.
            if !has_newest && (by.is_some() || hop.from.is_some()) {
                has_newest = true;
                trusted.domains.extend(by.as_deref().and_then(organisation));
            }
            if by.is_some_and(|by| !trusted.is_of_domain(&by)) {
                break;
            }
            is_past_border =
                hop.from.is_some_and(|from| is_domain(&from) && !trusted.is_of_domain(&from));
        }
        trusted
    }
}

impl TrustedFields {
    /// Returns the values of fields with a name, topmost first, each with the number of `Received`
    /// fields above it.
    pub(super) fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        let named = self.fields.iter().filter(move |(_, key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(above, _, value)| (*above, &**value))
    }

    /// Returns whether `Authentication-Results` of a host count; `None` is a field without a name.
    pub(super) fn is_from(&self, host: Option<&str>) -> bool {
        match host {
            Some(host) if self.ids.is_empty() => self.is_of_domain(host),
            Some(host) => self.ids.iter().any(|id| is_below(host, id)),
            None => {
                self.ids.is_empty()
                    && self.domains.iter().any(|domain| NAMELESS.contains(&&**domain))
            }
        }
    }

    fn is_of_domain(&self, host: &str) -> bool {
        self.domains.iter().any(|domain| is_below(host, domain))
    }
}

/// Returns whether a host is a domain or below it.
fn is_below(host: &str, domain: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Returns whether a name in a `Received` field is that of a host on the Internet, not an address
/// or a name of a local network.
fn is_domain(name: &str) -> bool {
    name.contains('.') && name.parse::<std::net::IpAddr>().is_err()
}

/// Second-level domains below which organisations of a country register their own.
const SHARED: [&str; 11] = ["ac", "co", "com", "edu", "gov", "go", "gob", "ne", "net", "or", "org"];

/// Returns the domain of the organisation that a host belongs to.
fn organisation(host: &str) -> Option<String> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host.is_empty() || host.parse::<std::net::IpAddr>().is_ok() {
        return None;
    }
    let labels: Vec<&str> = host.split('.').collect();
    let count = match labels.as_slice() {
        [.., second, top] if top.len() == 2 && SHARED.contains(second) => 3,
        _ => 2,
    };
    Some(labels[labels.len().saturating_sub(count)..].join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORGED: &str = "Authentication-Results: mx.example.com; spf=pass; dkim=pass; dmarc=pass";

    fn names(header: &[&str]) -> Vec<String> {
        let mail = format!("{}\r\n\r\n", header.join("\r\n"));
        let receiver = Receiver::new("probe@example.com", "imap.example.com", &[]);
        let trusted = receiver.fields(mail.as_bytes());
        trusted.fields.into_iter().map(|(_, name, value)| format!("{name}: {value}")).collect()
    }

    #[test]
    fn fields_below_the_block_of_the_receiving_system_are_not_its_own() {
        let filed =
            "Received: from mx.example.com (mx [192.0.2.2]) by imap.example.com with LMTP; x";
        let border =
            "Received: from out.sender.example ([192.0.2.1]) by mx.example.com with ESMTPS; x";
        let sent = "Received: from client ([10.0.0.1]) by out.sender.example with ESMTPSA; x";
        let forged_hop = "Received: from a.example by mx.example.com with ESMTP; x";
        // A milter's field is above or below the `Received` field of the same server.
        for header in [
            vec![filed, "X-Own: 1", border, sent, FORGED],
            vec![filed, border, "X-Own: 1", sent, FORGED],
            vec!["X-Own: 1", border, sent, FORGED],
            vec!["X-Own: 1", border, sent, FORGED, forged_hop, FORGED],
            vec!["X-Own: 1", filed, border, forged_hop, FORGED, sent],
        ] {
            assert_eq!(names(&header), ["X-Own: 1"], "{header:?}");
        }
    }

    #[test]
    fn local_hosts_and_addresses_do_not_end_the_block_of_the_receiving_system() {
        // Gmail: the newest field names an address, and its results are below the border's field.
        let gmail = [
            "Received: by 2002:a05:6402:1b0d:b0:5c9 with SMTP id x; y",
            "Received: from out.sender.example (out.sender.example. [192.0.2.1]) by mx.google.com with ESMTPS id x; y",
            "Authentication-Results: mx.google.com; spf=pass",
            "Received: by out.sender.example with ESMTPSA; y",
            FORGED,
        ];
        assert_eq!(names(&gmail), ["Authentication-Results: mx.google.com; spf=pass"]);
        // A content filter on the same machine.
        let filter = [
            "Received: from localhost (localhost [127.0.0.1]) by mx.example.com (Postfix); x",
            "Received: from mx.example.com ([127.0.0.1]) by localhost (mx.example.com) with ESMTP; x",
            "X-Own: 1",
            "Received: from out.sender.example by mx.example.com; x",
            "Received: from client by out.sender.example; x",
            FORGED,
        ];
        assert_eq!(names(&filter), ["X-Own: 1"]);
    }

    #[test]
    fn a_host_belongs_to_its_organisation() {
        for (host, expected) in [
            ("mx1.mail.example.com", Some("example.com")),
            ("mx.example.co.uk", Some("example.co.uk")),
            ("mail.web.de", Some("web.de")),
            ("example.se.", Some("example.se")),
            ("localhost", Some("localhost")),
            ("192.0.2.1", None),
        ] {
            assert_eq!(organisation(host).as_deref(), expected, "{host}");
        }
        assert!(
            is_below("MX.Example.com.", "example.com") && is_below("example.com", "example.com")
        );
        assert!(!is_below("badexample.com", "example.com") && !is_below("com", "example.com"));
    }

    #[test]
    fn configured_hosts_count_instead_of_the_receiving_domain() {
        let ids = ["filter.example.net".to_owned()];
        let receiver = Receiver::new("probe@example.com", "outlook.office365.com", &ids);
        let trusted = receiver.fields(b"Subject: x\r\n\r\n");
        assert!(trusted.is_from(Some("eu.filter.example.net")));
        assert!(!trusted.is_from(Some("mx.example.com")) && !trusted.is_from(None));
        let receiver = Receiver::new("probe@example.com", "outlook.office365.com", &[]);
        let trusted = receiver.fields(b"Subject: x\r\n\r\n");
        assert!(trusted.is_from(Some("mx.example.com")) && trusted.is_from(None));
        assert!(!trusted.is_from(Some("mx.example.org")));
    }
}
