//! Users: who may register nodes.

use rusqlite::{OptionalExtension, params};

use super::{Store, StoreError, check_name};
use crate::password::{Hash, LENGTH};

/// As many users are kept.
const USERS_MAX: i64 = 1000;

impl Store {
    /// Adds a user, or gives one another password.
    ///
    /// # Errors
    /// The name or the password is unusable, there are too many users, or the database failed.
    pub fn put_user(&mut self, name: &str, password: &str) -> Result<(), StoreError> {
        check_name("user name", name)?;
        if !LENGTH.contains(&password.len()) || password.contains(['\0', '\n', '\r']) {
            let text = format!("a password has {} to {} bytes, on one line", LENGTH.start(), LENGTH.end());
            return Err(StoreError::Invalid(text));
        }
        let hash = Hash::new(password)?;
        let tx = self.begin()?;
        let others: i64 = tx.query_row("SELECT count(*) FROM users WHERE name <> ?1", [name], |row| row.get(0))?;
        if others >= USERS_MAX {
            return Err(StoreError::Full("users"));
        }
        tx.execute(
            "INSERT INTO users (name, salt, iterations, hash) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET salt = ?2, iterations = ?3, hash = ?4",
            params![name, hash.salt, hash.iterations, hash.hash],
        )?;
        tx.commit()?;
        Ok(())
    }

    /// What is kept of a user's password; none: there is no such user.
    ///
    /// # Errors
    /// The database failed.
    pub fn user(&self, name: &str) -> Result<Option<Hash>, StoreError> {
        let mut query = self.db.prepare_cached("SELECT salt, iterations, hash FROM users WHERE name = ?1")?;
        let hash =
            query.query_row([name], |row| Ok(Hash { salt: row.get(0)?, iterations: row.get(1)?, hash: row.get(2)? }));
        Ok(hash.optional()?)
    }

    /// The users' names, in order.
    ///
    /// # Errors
    /// The database failed.
    pub fn users(&self) -> Result<Vec<String>, StoreError> {
        let mut query = self.db.prepare_cached("SELECT name FROM users ORDER BY name")?;
        let names = query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(names)
    }

    /// Removes a user; the nodes that it registered stay.
    ///
    /// # Errors
    /// There is none of this name, or the database failed.
    pub fn remove_user(&mut self, name: &str) -> Result<(), StoreError> {
        match self.db.execute("DELETE FROM users WHERE name = ?1", [name])? {
            0 => Err(StoreError::NoUser(name.to_owned())),
            _ => Ok(()),
        }
    }
}
