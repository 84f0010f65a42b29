//! Passwords of users: kept as salted hashes only.

use std::num::NonZeroU32;

use ring::pbkdf2;

use crate::state::{StateError, random_bytes};

/// PBKDF2 with HMAC-SHA-512, so many times: what OWASP advises.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(210_000).expect("it is not zero");
/// How many bytes a password has at least and at most.
pub const LENGTH: std::ops::RangeInclusive<usize> = 8..=1024;

/// What is kept of a password.
#[derive(Clone)]
pub struct Hash {
    /// Random, for each password its own.
    pub salt: Vec<u8>,
    /// How often it was hashed.
    pub iterations: u32,
    /// The result, 32 bytes.
    pub hash: Vec<u8>,
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash")
    }
}

impl Hash {
    /// Hashes a password.
    ///
    /// # Errors
    /// The system gave no random bytes.
    pub fn new(password: &str) -> Result<Self, StateError> {
        let (salt, mut hash) = (random_bytes::<16>()?, [0; 32]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, ITERATIONS, &salt, password.as_bytes(), &mut hash);
        Ok(Self { salt: salt.into(), iterations: ITERATIONS.get(), hash: hash.into() })
    }

    /// A hash that no password has: checking against it takes as long as against another.
    #[must_use]
    pub fn of_nobody() -> Self {
        Self { salt: vec![0; 16], iterations: ITERATIONS.get(), hash: vec![0; 32] }
    }

    /// Whether this is the password. It takes its time: not for the thread that serves.
    #[must_use]
    pub fn matches(&self, password: &str) -> bool {
        let Some(iterations) = NonZeroU32::new(self.iterations).filter(|_| LENGTH.contains(&password.len())) else {
            return false;
        };
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA512;
        pbkdf2::verify(algorithm, iterations, &self.salt, password.as_bytes(), &self.hash).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_matches_and_no_other_and_nobody_has_none() {
        let hash = Hash::new("correct horse").unwrap();
        assert!(hash.matches("correct horse"));
        assert!(!hash.matches("correct hors") && !hash.matches("") && !hash.matches(&"x".repeat(2000)));
        assert!(!Hash::of_nobody().matches("correct horse"));
        assert_ne!(hash.salt, Hash::new("correct horse").unwrap().salt);
        assert_eq!(format!("{hash:?}"), "Hash");
    }
}
