//! Keys of a JSON object, read with errors that name the file and the key.

use serde_json::{Map, Value};

use moevolve_checkpoint::{Error, Result};

pub struct Fields<'a> {
    pub file: &'a str,
    pub map: &'a Map<String, Value>,
}

impl Fields<'_> {
    pub fn wrong<T>(&self, key: &str, reason: impl Into<String>) -> Result<T> {
        Err(Error::Config {
            file: self.file.to_owned(),
            key: key.to_owned(),
            reason: reason.into(),
        })
    }

    /// A value that is there and not null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub fn size_or(&self, key: &str, default: Option<usize>) -> Result<usize> {
        match (self.get(key), default) {
            (None, Some(default)) => Ok(default),
            (None, None) => self.wrong(key, "is missing"),
            (Some(value), _) => match value.as_u64() {
                Some(size @ 1..=0x7fff_ffff) => Ok(size as usize),
                _ => self.wrong(key, format!("{value} is not a positive whole number")),
            },
        }
    }

    pub fn size(&self, key: &str) -> Result<usize> {
        self.size_or(key, None)
    }

    pub fn number(&self, key: &str, default: f64) -> Result<f64> {
        Ok(self.number_or(key)?.unwrap_or(default))
    }

    pub fn number_or(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if number.is_finite() && number > 0.0 => Ok(Some(number)),
                _ => self.wrong(key, format!("{value} is not a positive number")),
            },
        }
    }

    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value) => self.wrong(key, format!("{value} is neither true nor false")),
        }
    }

    /// A field that may say only what this decoder does.
    pub fn only(&self, key: &str, allowed: &Value) -> Result<()> {
        match self.get(key) {
            Some(value) if value != allowed => {
                self.wrong(key, format!("{value} is not supported, only {allowed}"))
            }
            _ => Ok(()),
        }
    }

    /// A list of which every item may say only what this decoder does.
    pub fn every(&self, key: &str, allowed: &Value) -> Result<()> {
        let items = match self.get(key) {
            None => return Ok(()),
            Some(Value::Array(items)) => items,
            Some(other) => return self.wrong(key, format!("{other} is not a list")),
        };
        match items.iter().find(|item| *item != allowed) {
            Some(item) => self.wrong(key, format!("{item} is not supported, only {allowed}")),
            None => Ok(()),
        }
    }

    /// A count that may be 0, where the file has it.
    pub fn count_or(&self, key: &str) -> Result<Option<u64>> {
        match self.get(key).map(|value| (value, value.as_u64())) {
            None => Ok(None),
            Some((_, Some(count))) => Ok(Some(count)),
            Some((value, None)) => self.wrong(key, format!("{value} is not a whole number")),
        }
    }
}
