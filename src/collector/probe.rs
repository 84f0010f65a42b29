//! Whether a collector is there, who it is, what its clock says, and whether it takes this node's credentials: for a person
//! who wants to know. No row is fetched, acknowledged or answered.

use std::time::Duration;

use tokio::time::timeout;

use crate::action::time::Timestamp;
use crate::collector::certificate::not_after;
use crate::collector::dialect;
use crate::collector::http::{Http, HttpError, Seen};
use crate::collector::{CollectorError, http};
use crate::config::QueueSettings;

/// What one exchange has shown.
#[derive(Debug)]
pub struct Probe {
    /// `Ok`: the credentials are good, and a queue is where one is looked for.
    pub accepted: Result<(), CollectorError>,
    /// What the collector, or what stands before it, has for the time.
    pub date: Option<Timestamp>,
    /// Until when its certificate is good.
    pub expires: Option<Timestamp>,
}

/// Asks, once. It takes no longer than a connection and a pause of an exchange may.
pub async fn probe(settings: &QueueSettings) -> Probe {
    let nothing = |err: HttpError| Probe { accepted: Err(err.into()), date: None, expires: None };
    let http = match Http::observing(settings) {
        Ok(http) => http,
        Err(err) => return nothing(err),
    };
    let dialect = dialect::of(settings);
    let request = dialect.probe();
    let url = request.url.clone();
    let limit = settings.connect_timeout.saturating_add(settings.request_timeout);
    match timeout(limit, http.observe(request)).await {
        Ok(Ok((answer, Seen { date, certificate }))) => Probe {
            accepted: dialect.probed(answer).map_err(|err| err.without(&settings.uuid)),
            date: date.as_deref().and_then(http_date),
            expires: certificate.as_deref().and_then(not_after),
        },
        Ok(Err(err)) => nothing(err),
        Err(_) => nothing(HttpError::Endless { url, limit }),
    }
}

/// Until when this node's own certificate is good, where it has one to show. `None`: that cannot be read.
#[must_use]
pub fn own_certificate_expires(settings: &QueueSettings) -> Option<Timestamp> {
    let (path, _) = settings.tls.client_identity.as_ref()?;
    http::certificates_in(path).ok()?.iter().filter_map(|der| not_after(der)).min()
}

/// The date of RFC 9110, 5.6.7, in the only form that may still be sent: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    format!("{year}-{month:02}-{day}T{time}Z").parse().ok()
}

/// How far the clock of this machine is off, if a collector's `date`, which was cut to the second, was written between
/// `before` and `after`; positive: this machine is ahead.
#[must_use]
pub fn skew(date: Timestamp, before: Timestamp, after: Timestamp) -> (bool, Duration) {
    let latest = date.plus(Duration::from_secs(1));
    if before > latest { (true, before.since(latest)) } else { (false, date.since(after)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_as_servers_write_it() {
        let date = http_date("Sat, 21 Nov 2026 08:50:03 GMT").unwrap();
        assert_eq!(date.to_string(), "2026-11-21T08:50:03.000Z");
        for other in
            ["", "Sat, 21 Nov 2026 08:50:03", "Sat, 41 Nov 2026 08:50:03 GMT", "Sat, 21 X 2026 08:50:03 GMT", "é"]
        {
            assert_eq!(http_date(other), None, "{other}");
        }
    }

    #[test]
    fn what_the_exchange_took_is_no_skew() {
        let at = |seconds| Timestamp { seconds, nanos: 0 };
        let of = |date, before, after| {
            (skew(at(date), at(before), at(after)).0, skew(at(date), at(before), at(after)).1.as_secs())
        };
        assert_eq!(of(100, 95, 105), (false, 0));
        assert_eq!(of(100, 101, 101), (false, 0), "the second was cut off");
        assert_eq!(of(100, 111, 112), (true, 10));
        assert_eq!(of(100, 80, 90), (false, 10));
    }
}
