//! The parts of an address, strictly enough that whatever passes can be requested.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// In bytes; what servers take is seldom more.
const LONGEST: usize = 2048;

/// How the first byte goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// `[scheme://][user-info@]host[:port][/path][?query][#fragment]`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    pub(super) scheme: Option<Scheme>,
    pub(super) user_info: Option<&'a str>,
    /// A name, an IPv4 address, or an IPv6 address in its brackets.
    pub(super) host: &'a str,
    pub(super) port: Option<u16>,
    /// Empty, or beginning with a slash.
    pub(super) path: &'a str,
    pub(super) query_or_fragment: bool,
}

impl Scheme {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub(super) const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl<'a> Parts<'a> {
    /// Takes an address apart. The error is a reason, in words, without the address.
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        if let Some(c) = text
            .chars()
            .find(|c| !c.is_ascii_graphic() || matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'))
        {
            return Err(format!("{c:?} cannot be part of a URL"));
        }
        let (scheme, rest) = split_scheme(text)?;
        let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, behind) = rest.split_at(authority_end);
        let (user_info, host_port) = match authority.rsplit_once('@') {
            Some((user_info, host_port)) => (Some(user_info), host_port),
            None => (None, authority),
        };
        if user_info.is_some_and(|text| !is_percent_encoded(text)) {
            return Err("its user-info holds characters that must be percent-encoded".to_owned());
        }
        let (host, port) = split_port(host_port)?;
        check_host(host)?;
        let path = &behind[..behind.find(['?', '#']).unwrap_or(behind.len())];
        if !is_percent_encoded(path) {
            return Err("its path holds characters that must be percent-encoded".to_owned());
        }
        Ok(Self { scheme, user_info, host, port, path, query_or_fragment: path.len() != behind.len() })
    }

    /// Whether a connection to the host stays on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        let bare = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(self.host);
        match bare.parse::<IpAddr>() {
            Ok(addr) => addr.to_canonical().is_loopback(),
            Err(_) => self.host.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
        }
    }
}

fn split_scheme(text: &str) -> Result<(Option<Scheme>, &str), String> {
    match text.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?', '#', '@']) => {
            let known = [Scheme::Http, Scheme::Https].into_iter().find(|s| s.as_str().eq_ignore_ascii_case(scheme));
            Ok((Some(known.ok_or_else(|| format!("its scheme is {scheme:?}, neither \"https\" nor \"http\""))?), rest))
        }
        _ => Ok((None, text.strip_prefix("//").unwrap_or(text))),
    }
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let host_end = if text.starts_with('[') {
        text.find(']').ok_or("the bracket around its IPv6 address is not closed")? + 1
    } else {
        text.find(':').unwrap_or(text.len())
    };
    let (host, behind) = text.split_at(host_end);
    let digits = match behind.strip_prefix(':') {
        None if behind.is_empty() => "",
        Some(digits) => digits,
        None => return Err(format!("{behind:?} cannot stand behind its host")),
    };
    if digits.is_empty() {
        return Ok((host, None));
    }
    if digits.contains(':') {
        return Err("it has too many colons; an IPv6 address needs brackets around it".to_owned());
    }
    let port = Some(digits).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    match port.and_then(|digits| digits.parse().ok()) {
        Some(port) if port != 0 => Ok((host, Some(port))),
        _ => Err(format!("its port {digits:?} is not a number from 1 to 65535")),
    }
}

fn check_host(host: &str) -> Result<(), String> {
    if host.is_empty() {
        return Err("it names no host".to_owned());
    }
    if let Some(addr) = host.strip_prefix('[') {
        let addr = addr.strip_suffix(']').unwrap_or(addr);
        return addr.parse::<Ipv6Addr>().map(drop).map_err(|_| format!("{addr:?} is not an IPv6 address"));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(format!("{host:?} is not a host name"));
    }
    // like everybody who requests URLs: a host that ends in a number is an IPv4 address
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    if is_number && host.parse::<Ipv4Addr>().is_err() {
        return Err(format!("{host:?} is not an IPv4 address"));
    }
    Ok(())
}

/// Whether each percent sign begins an escape and each other character may stand in a path or in user-info.
fn is_percent_encoded(text: &str) -> bool {
    let mut pieces = text.split('%');
    let is_plain = |piece: &str| piece.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'[' | b']' | b'@'));
    pieces.next().is_none_or(is_plain)
        && pieces.all(|piece| {
            piece.get(..2).is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())) && is_plain(&piece[2..])
        })
}

/// An address as it may be shown: the user-info hidden, an endless one cut, quoted.
pub(super) fn shown(text: &str) -> String {
    let start = text.find("://").map_or(0, |index| index + 3);
    let text = match text.rfind('@') {
        Some(at) if at >= start => format!("{}<redacted>{}", &text[..start], &text[at..]),
        _ => text.to_owned(),
    };
    let mut shown: String = text.chars().take(256).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}
