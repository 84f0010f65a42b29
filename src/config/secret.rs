//! A value that is never shown.

use std::fmt;

use zeroize::Zeroize;

/// What is printed in place of a secret.
pub const REDACTED: &str = "<redacted>";

/// The node's shared secret. `Debug` and `Display` print [`REDACTED`]; the memory is zeroed on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the value over.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_shown_by_nothing_but_expose() {
        let secret = Secret::new("s3cret");
        assert_eq!(format!("{secret} {secret:?} {secret:#?}"), "<redacted> <redacted> <redacted>");
        assert_eq!(secret.expose(), "s3cret");
    }
}
