//! The wire trace of `-vv`: every exchange as it was, but for secrets.

use std::time::Instant;

use crate::action::redact;
use crate::config::Secret;

/// How much of a body is shown.
const BODY_LIMIT: usize = 64 * 1024;

/// Headers whose values are nobody's business.
const SECRET_HEADERS: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "set-cookie", "www-authenticate"];

/// One exchange under way. Does nothing, and costs nothing, when nobody looks.
pub(super) struct Trace<'a> {
    secret: &'a Secret,
    begun: Option<Instant>,
}

impl<'a> Trace<'a> {
    /// Shows a request. `authorized` says that it carries credentials, which are not shown.
    pub(super) fn request(
        secret: &'a Secret,
        (method, url): (&str, &str),
        content_type: &str,
        authorized: bool,
        body: Option<&[u8]>,
    ) -> Self {
        if !tracing::enabled!(tracing::Level::TRACE) {
            return Self { secret, begun: None };
        }
        let trace = Self { secret, begun: Some(Instant::now()) };
        tracing::trace!("> {method} {url}");
        tracing::trace!("> content-type: {content_type}");
        if authorized {
            tracing::trace!("> authorization: <redacted>");
        }
        trace.body('>', body.unwrap_or_default());
        trace
    }

    /// Shows the answer to it.
    pub(super) fn answer<'h>(&self, status: u16, headers: impl Iterator<Item = (&'h str, &'h [u8])>, body: &[u8]) {
        let Some(begun) = self.begun else { return };
        tracing::trace!("< {status} after {:.1} ms", begun.elapsed().as_secs_f64() * 1000.0);
        for (name, value) in headers {
            if SECRET_HEADERS.contains(&name) {
                tracing::trace!("< {name}: <redacted>");
            } else {
                tracing::trace!("< {name}: {}", self.clean(value));
            }
        }
        self.body('<', body);
    }

    fn body(&self, direction: char, body: &[u8]) {
        if body.is_empty() {
            return;
        }
        let shown = &body[..body.len().min(BODY_LIMIT)];
        for line in self.clean(shown).lines() {
            tracing::trace!("{direction} {line}");
        }
        if shown.len() < body.len() {
            tracing::trace!("{direction} … and {} bytes more", body.len() - shown.len());
        }
    }

    fn clean(&self, bytes: &[u8]) -> String {
        redact::in_text(&String::from_utf8_lossy(bytes).replace(self.secret.expose(), "<redacted>"))
    }
}
