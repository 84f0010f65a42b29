//! A TOML file, taken key by key, so that each mistake names its line and nothing is passed over.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::keywords::Located;
use super::nearest::nearest;
use super::source::line_at;

/// Every key that was asked for, with its table.
pub(super) type Asked = RefCell<BTreeSet<String>>;

/// A file's text, for turning positions into lines.
#[derive(Clone, Copy)]
struct File<'a> {
    path: &'a Arc<Path>,
    text: &'a str,
    asked: Option<&'a Asked>,
}

/// A table whose keys are taken one by one; [`Table::finish`] refuses the rest.
pub(super) struct Table<'a> {
    file: File<'a>,
    /// With a dot behind it; empty for the top of the file.
    prefix: String,
    keys: BTreeMap<String, Item<'a>>,
    /// The keys that were asked for.
    known: Vec<&'static str>,
}

/// A value with its place.
pub(super) struct Item<'a> {
    file: File<'a>,
    key: String,
    line: usize,
    value: DeValue<'a>,
}

impl File<'_> {
    fn line(&self, offset: usize) -> usize {
        line_at(self.text.as_bytes(), offset)
    }
}

impl<'a> Table<'a> {
    /// Parses a file.
    pub(super) fn parse(path: &'a Arc<Path>, text: &'a str) -> Result<Self, ConfigError> {
        let file = File { path, text, asked: None };
        match DeTable::parse(text) {
            Ok(table) => Ok(Self::new(file, String::new(), table.into_inner())),
            Err(error) => Err(ConfigError::Syntax {
                path: path.to_path_buf(),
                line: file.line(error.span().unwrap_or_default().start),
                reason: error.message().trim_end().replace('\n', ", "),
            }),
        }
    }

    /// An empty file that remembers what it is asked for.
    pub(super) fn listening(path: &'a Arc<Path>, asked: &'a Asked) -> Self {
        Self::new(File { path, text: "", asked: Some(asked) }, String::new(), DeTable::new())
    }

    fn new(file: File<'a>, prefix: String, table: DeTable<'a>) -> Self {
        let item = |(key, value): (Spanned<_>, Spanned<_>)| {
            let line = file.line(key.span().start);
            let name: std::borrow::Cow<'a, str> = key.into_inner();
            let item = Item { file, key: format!("{prefix}{name}"), line, value: value.into_inner() };
            (name.into_owned(), item)
        };
        let keys = table.into_iter().map(item).collect();
        Self { file, prefix, keys, known: Vec::new() }
    }

    /// Takes a key, if it is there.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.known.push(key);
        if let Some(asked) = self.file.asked {
            asked.borrow_mut().insert(format!("{}{key}", self.prefix));
        }
        self.keys.remove(key)
    }

    /// Takes a key that holds a table; an empty one if it is not there.
    pub(super) fn table(&mut self, key: &'static str) -> Result<Table<'a>, ConfigError> {
        match self.take(key) {
            Some(item) => item.into_table(),
            None => Ok(Self::new(self.file, format!("{}{key}.", self.prefix), DeTable::new())),
        }
    }

    /// In an empty file that remembers what it is asked for: a table of this name in this one, whose names are free.
    pub(super) fn listening_to(&self, name: &str) -> Option<Table<'a>> {
        self.file.asked.map(|_| Self::new(self.file, format!("{}{name}.", self.prefix), DeTable::new()))
    }

    /// Everything that is left, by name, when any name will do.
    pub(super) fn into_items(self) -> impl Iterator<Item = (String, Item<'a>)> {
        self.keys.into_iter()
    }

    /// Refuses every key that was not taken.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        let Some((key, item)) = self.keys.into_iter().min_by_key(|(_, item)| item.line) else {
            return Ok(());
        };
        let hint = nearest(&key, self.known).map(|known| format!("; did you mean {known:?}?")).unwrap_or_default();
        let table = match self.prefix.strip_suffix('.') {
            None => "the top table".to_owned(),
            Some(name) => format!("[{name}]"),
        };
        Err(ConfigError::UnknownKey { path: item.file.path.to_path_buf(), line: item.line, key, table, hint })
    }
}

impl<'a> Item<'a> {
    /// An error about this value.
    pub(super) fn error(&self, reason: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            path: self.file.path.to_path_buf(),
            line: self.line,
            key: self.key.clone(),
            reason: reason.into(),
        }
    }

    /// A value from this place.
    pub(super) fn locate<T>(&self, value: T) -> Located<T> {
        Located { value, path: Arc::clone(self.file.path), line: self.line }
    }

    fn expected(&self, what: &str) -> ConfigError {
        let article = match self.value.type_str() {
            "integer" | "array" => "an",
            _ => "a",
        };
        self.error(format!("expected {what}, not {article} {}", self.value.type_str()))
    }

    /// The text of a string.
    pub(super) fn text(&self) -> Result<&str, ConfigError> {
        self.value.as_str().ok_or_else(|| self.expected("a string"))
    }

    /// Reads a string with a function whose error is a reason, in words.
    pub(super) fn read<T>(self, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Located<T>, ConfigError> {
        let value = read(self.text()?).map_err(|reason| self.error(reason))?;
        Ok(self.locate(value))
    }

    /// Reads each string of an array in the same way; a mistake names the line of the element.
    pub(super) fn read_each<T>(
        mut self,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Located<Vec<T>>, ConfigError> {
        let elements = self.take_elements("an array of strings")?;
        let read_one = |item: Item| item.read(&read).map(|located| located.value);
        let values = elements.into_iter().map(read_one).collect::<Result<_, _>>()?;
        Ok(self.locate(values))
    }

    /// Reads the strings of an array together; a mistake names the line of the element whose number comes with the
    /// reason.
    pub(super) fn read_list<T>(
        mut self,
        read: impl FnOnce(&[String]) -> Result<T, (usize, String)>,
    ) -> Result<Located<T>, ConfigError> {
        let elements = self.take_elements("an array of strings")?;
        let texts: Vec<_> = elements.iter().map(|item| item.text().map(str::to_owned)).collect::<Result<_, _>>()?;
        match read(&texts) {
            Ok(value) => Ok(self.locate(value)),
            Err((index, reason)) => Err(elements.get(index).unwrap_or(&self).error(reason)),
        }
    }

    /// The tables of an array, each with the line of its header.
    pub(super) fn into_tables(mut self) -> Result<Vec<(usize, Table<'a>)>, ConfigError> {
        let elements = self.take_elements("an array of tables, each in double brackets")?;
        elements.into_iter().map(|item| Ok((item.line, item.into_table()?))).collect()
    }

    fn take_elements(&mut self, expected: &str) -> Result<Vec<Item<'a>>, ConfigError> {
        match std::mem::replace(&mut self.value, DeValue::Boolean(false)) {
            DeValue::Array(array) => {
                let element = |value: Spanned<DeValue<'a>>| {
                    let line = self.file.line(value.span().start);
                    Item { file: self.file, key: self.key.clone(), line, value: value.into_inner() }
                };
                Ok(array.into_iter().map(element).collect())
            }
            other => {
                self.value = other;
                Err(self.expected(expected))
            }
        }
    }

    /// Reads a boolean.
    pub(super) fn boolean(self) -> Result<Located<bool>, ConfigError> {
        let value = self.value.as_bool().ok_or_else(|| self.expected("true or false"))?;
        Ok(self.locate(value))
    }

    /// Reads a whole number within bounds.
    pub(super) fn number(self, range: &RangeInclusive<u32>) -> Result<Located<u32>, ConfigError> {
        let DeValue::Integer(integer) = &self.value else { return Err(self.expected("a whole number")) };
        match u32::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if range.contains(&number) => Ok(self.locate(number)),
            _ => Err(self.error(format!(
                "{} is out of range; it must be from {} to {}",
                integer.as_str(),
                range.start(),
                range.end()
            ))),
        }
    }

    /// Whether this is an array.
    pub(super) fn is_array(&self) -> bool {
        self.value.is_array()
    }

    /// The table that this is.
    pub(super) fn into_table(self) -> Result<Table<'a>, ConfigError> {
        let wrong = self.expected("a table");
        match self.value {
            DeValue::Table(table) => Ok(Table::new(self.file, format!("{}.", self.key), table)),
            _ => Err(wrong),
        }
    }
}
