//! From what a keyword says to the address that is requested, one rule for each dialect.

use super::url::{Parts, Scheme};

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// See [`super::QueueSettings::base_url`].
    pub(super) url: String,
    /// Whether requests, and the node's secret in them, could be read on their way.
    pub(super) exposed: bool,
}

/// `node.dbopensvc`: scheme, host and port, and the first part of the path, which is the application (default `feed`).
/// The port is always written out and the rest of the path is always the same.
pub(super) fn rpc(value: &str) -> Result<Endpoint, String> {
    let parts = Parts::parse(value)?;
    if parts.user_info.is_some() {
        return Err("user and password cannot stand here; the node authenticates with node.uuid".to_owned());
    }
    if parts.query_or_fragment {
        return Err("a query or a fragment cannot stand here".to_owned());
    }
    let scheme = parts.scheme.unwrap_or(Scheme::Https);
    let app = segments(parts.path).into_iter().next().unwrap_or("feed");
    let port = parts.port.unwrap_or(scheme.default_port());
    let url = format!("{}://{}:{port}/{app}/default/call/xmlrpc", scheme.as_str(), parts.host);
    Ok(Endpoint { url, exposed: exposed(&parts) })
}

/// `node.collector` with `/feeder` behind its path, or `node.collector_feeder` as it is (an empty `suffix`). User-info,
/// query and fragment are dropped.
pub(super) fn oc3(value: &str, suffix: &str) -> Result<Endpoint, String> {
    let parts = Parts::parse(value)?;
    let scheme = parts.scheme.unwrap_or(Scheme::Https);
    let mut url = format!("{}://{}{}", scheme.as_str(), parts.host, port_suffix(&parts));
    for segment in segments(parts.path) {
        url.push('/');
        url.push_str(segment);
    }
    url.push_str(suffix);
    Ok(Endpoint { url, exposed: exposed(&parts) })
}

/// `proxy` of the own settings: scheme (default `http`), perhaps user-info, host, perhaps a port.
pub(super) fn proxy(value: &str) -> Result<String, String> {
    let parts = Parts::parse(value)?;
    if !segments(parts.path).is_empty() || parts.query_or_fragment {
        return Err("a path, a query or a fragment cannot stand here".to_owned());
    }
    let scheme = parts.scheme.unwrap_or(Scheme::Http).as_str();
    let user_info = parts.user_info.map(|text| format!("{text}@")).unwrap_or_default();
    Ok(format!("{scheme}://{user_info}{}{}", parts.host, port_suffix(&parts)))
}

/// The port as it is written behind a host; nothing if none was given.
fn port_suffix(parts: &Parts) -> String {
    parts.port.map(|port| format!(":{port}")).unwrap_or_default()
}

fn exposed(parts: &Parts) -> bool {
    parts.scheme == Some(Scheme::Http) && !parts.is_loopback()
}

/// The parts of a path, cleaned of empty ones and of dots.
fn segments(path: &str) -> Vec<&str> {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::super::url::shown;
    use super::*;

    fn url(endpoint: Result<Endpoint, String>) -> String {
        endpoint.map_or_else(|reason| format!("! {reason}"), |endpoint| endpoint.url)
    }

    #[test]
    fn rpc_endpoints() {
        for (value, expected) in [
            ("collector", "https://collector:443/feed/default/call/xmlrpc"),
            ("https://c", "https://c:443/feed/default/call/xmlrpc"),
            ("http://c:8080", "http://c:8080/feed/default/call/xmlrpc"),
            ("http://c", "http://c:80/feed/default/call/xmlrpc"),
            ("c:8443", "https://c:8443/feed/default/call/xmlrpc"),
            ("https://c/feed/default/call/xmlrpc", "https://c:443/feed/default/call/xmlrpc"),
            ("c/feed", "https://c:443/feed/default/call/xmlrpc"),
            ("https://c/other", "https://c:443/other/default/call/xmlrpc"),
            ("https://c/other/x/y", "https://c:443/other/default/call/xmlrpc"),
            ("https://c/", "https://c:443/feed/default/call/xmlrpc"),
            ("https://c//", "https://c:443/feed/default/call/xmlrpc"),
            ("https://c:/", "https://c:443/feed/default/call/xmlrpc"),
            ("HTTPS://C", "https://C:443/feed/default/call/xmlrpc"),
            ("https://[::1]:8443", "https://[::1]:8443/feed/default/call/xmlrpc"),
            ("[2001:db8::1]", "https://[2001:db8::1]:443/feed/default/call/xmlrpc"),
            ("https://10.0.0.1", "https://10.0.0.1:443/feed/default/call/xmlrpc"),
            ("https://u:p@c/feed", "! user and password cannot stand here; the node authenticates with node.uuid"),
            ("https://c?x=1", "! a query or a fragment cannot stand here"),
            ("https://c/#x", "! a query or a fragment cannot stand here"),
        ] {
            assert_eq!(url(rpc(value)), expected, "{value}");
        }
    }

    #[test]
    fn oc3_bases() {
        for (value, suffix, expected) in [
            ("https://c", "/feeder", "https://c/feeder"),
            ("https://c/", "/feeder", "https://c/feeder"),
            ("http://c:8080/base", "/feeder", "http://c:8080/base/feeder"),
            ("http://c:8080//base//./x/../", "/feeder", "http://c:8080/base/feeder"),
            ("https://c", "", "https://c"),
            ("https://c/x/", "", "https://c/x"),
            ("c.example.com", "/feeder", "https://c.example.com/feeder"),
            ("c.example.com:8080", "/feeder", "https://c.example.com:8080/feeder"),
            ("//c/x", "/feeder", "https://c/x/feeder"),
            ("https://[fd00::1]:8443/", "/feeder", "https://[fd00::1]:8443/feeder"),
            ("https://u:p@c/x?y#z", "", "https://c/x"),
            ("https://u:p@c/x?y#z", "/feeder", "https://c/x/feeder"),
            ("c/x?u=http://y", "/feeder", "https://c/x/feeder"),
            ("https://c/a%20b", "", "https://c/a%20b"),
        ] {
            assert_eq!(url(oc3(value, suffix)), expected, "{value}");
        }
    }

    #[test]
    fn proxies() {
        for (value, expected) in [
            ("http://proxy:3128", Some("http://proxy:3128")),
            ("proxy:3128", Some("http://proxy:3128")),
            ("https://u:p%40@proxy/", Some("https://u:p%40@proxy")),
            ("socks5://proxy", None),
            ("http://proxy/x", None),
        ] {
            assert_eq!(proxy(value).ok().as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn what_cannot_be_a_url_is_refused() {
        for (value, part) in [
            ("https://", "names no host"),
            ("https:///x", "names no host"),
            ("/x", "names no host"),
            ("https://:443", "names no host"),
            ("ftp://c", "its scheme is \"ftp\""),
            ("https://a:b:c", "too many colons"),
            ("::1", "too many colons"),
            ("fe80::1", "too many colons"),
            ("https://[::1", "not closed"),
            ("https://[c]", "not an IPv6 address"),
            ("https://[fe80::1%25eth0]", "not an IPv6 address"),
            ("https://[::1]x", "cannot stand behind its host"),
            ("https://c:0", "not a number from 1"),
            ("https://c:65536", "not a number from 1"),
            ("https://c:+1", "not a number from 1"),
            ("mailto:x", "not a number from 1"),
            ("https://a..b", "not a host name"),
            ("https://.", "not a host name"),
            ("https://1.2.3", "not an IPv4 address"),
            ("https://256.1.1.1", "not an IPv4 address"),
            ("https://0x7f", "not an IPv4 address"),
            ("https://c d", "' ' cannot be part"),
            ("\"https://c\"", "'\"' cannot be part"),
            ("https://c\nx", "'\\n' cannot be part"),
            ("https://cé", "'é' cannot be part"),
            ("https://c/%zz", "percent-encoded"),
            ("https://c/%", "percent-encoded"),
        ] {
            for endpoint in [rpc(value), oc3(value, "/feeder")] {
                assert!(url(endpoint.clone()).contains(part), "{value}: {endpoint:?}");
            }
        }
    }

    #[test]
    fn only_plain_http_that_leaves_the_machine_is_exposed() {
        for (value, expected) in [
            ("https://c", false),
            ("c", false),
            ("http://c", true),
            ("http://10.0.0.1", true),
            ("http://localhost.example.com", true),
            ("http://localhost:8080", false),
            ("http://LOCALHOST.", false),
            ("http://127.1.2.3", false),
            ("http://[::1]", false),
            ("http://[::ffff:127.0.0.1]", false),
            ("http://[::2]", true),
        ] {
            assert_eq!(rpc(value).unwrap().exposed, expected, "{value}");
            assert_eq!(oc3(value, "").unwrap().exposed, expected, "{value}");
        }
    }

    #[test]
    fn user_info_is_never_shown() {
        for (value, expected) in [
            ("https://u:p@c/x", "\"https://<redacted>@c/x\""),
            ("u:p@c", "\"<redacted>@c\""),
            ("u:p@x@c", "\"<redacted>@c\""),
            ("https://c", "\"https://c\""),
        ] {
            assert_eq!(shown(value), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_gives_whole_urls(
            value in ".*",
            likely in "(https?://)?([a-z]{0,3}:?[a-z]{0,3}@)?[\\[\\]a-z0-9.:%_-]{0,12}(:[0-9]{0,6})?[a-z0-9/.%?#]{0,12}",
        ) {
            for value in [value, likely] {
                let _ = shown(&value);
                let urls = [rpc(&value).map(|e| e.url), oc3(&value, "/feeder").map(|e| e.url), proxy(&value)];
                for url in urls.into_iter().flatten() {
                    let again = Parts::parse(&url).map(|parts| (parts.scheme.is_some(), parts.query_or_fragment));
                    assert_eq!(again, Ok((true, false)), "{value:?} gave {url:?}");
                }
            }
        }
    }
}
