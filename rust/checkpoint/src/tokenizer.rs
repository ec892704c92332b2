//! Text to ids and back through `tokenizer.json`.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::files::{read_text, write_atomically};

const FILE: &str = "tokenizer.json";
const SETTINGS: &str = "tokenizer_config.json";
const TEMPLATE: &str = "chat_template.jinja";

/// Name of the chat template that counts where nothing else is asked for.
const DEFAULT: &str = "default";

/// Special tokens that templates may name.
const ROLES: [&str; 4] = ["bos_token", "eos_token", "pad_token", "unk_token"];

/// The texts of a tokenizer's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Texts<'a> {
    /// `tokenizer.json`.
    pub tokenizer: Option<&'a str>,
    /// `tokenizer_config.json`.
    pub settings: Option<&'a str>,
    /// A chat template in a file of its own.
    pub template: Option<&'a str>,
}

/// A tokenizer and the very files it came from, so that saving changes nothing.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    json: Arc<str>,
    settings: Option<Arc<str>>,
    /// A chat template in a file of its own.
    template: Option<Arc<str>>,
    /// What could not be taken over exactly from a file of another kind.
    notes: Arc<[String]>,
}

impl Tokenizer {
    /// Reads the folder's tokenizer, if it has one; its ids must lie in the vocabulary.
    pub fn load(folder: &Path, vocabulary: usize) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let optional = |name: &str| {
            let path = folder.join(name);
            path.exists().then(|| read_text(&path)).transpose()
        };
        let json = read_text(&path)?;
        let mut tokenizer = Self::parse(&json, optional(SETTINGS)?, vocabulary, &path)?;
        tokenizer.template = optional(TEMPLATE)?.map(Into::into);
        Ok(Some(tokenizer))
    }

    /// Makes a tokenizer from the text of `tokenizer.json`; `path` names it in errors.
    pub fn parse(
        json: &str,
        settings: Option<String>,
        vocabulary: usize,
        path: &Path,
    ) -> Result<Self> {
        // The library takes broken JSON inside some of its parts for a bug of its own, and panics.
        serde_json::from_str::<IgnoredAny>(json)
            .map_err(|e| Error::file(path, format!("is not JSON: {e}")))?;
        let inner: tokenizers::Tokenizer = guarded(|| json.parse())
            .map_err(|e| Error::file(path, format!("is not a tokenizer: {e}")))?;
        let highest = inner.get_vocab(true).into_iter().max_by_key(|&(_, id)| id);
        if let Some((token, id)) = highest.filter(|&(_, id)| id as usize >= vocabulary) {
            let reason = format!(
                "token {token:?} has id {id}, but the model's vocabulary has {vocabulary} entries"
            );
            return Err(Error::file(path, reason));
        }
        Ok(Self {
            inner: Arc::new(inner),
            json: json.into(),
            settings: settings.map(Into::into),
            template: None,
            notes: Arc::default(),
        })
    }

    pub(crate) fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }

    /// Ids of a text; with `add_special`, also the special tokens that the tokenizer puts around a text of its own.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        guarded(|| self.inner.encode_fast(text, add_special))
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|e| Error::Request(format!("the text cannot be encoded: {e}")))
    }

    /// Text of ids, special tokens left out if `skip_special`.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        guarded(|| self.inner.decode(ids, skip_special))
            .map_err(|e| Error::Request(format!("the tokens cannot be decoded: {e}")))
    }

    /// Chat templates by name: of the settings a text, which is the `default`, or a list; a file of its own comes first.
    pub fn chat_templates(&self) -> BTreeMap<String, String> {
        let mut templates = BTreeMap::new();
        match self.setting("chat_template") {
            Some(Value::String(text)) => {
                templates.insert(DEFAULT.to_owned(), text);
            }
            Some(Value::Array(named)) => {
                let entry = |entry: &Value| {
                    let text = |key: &str| entry.get(key)?.as_str().map(str::to_owned);
                    Some((text("name")?, text("template")?))
                };
                templates.extend(named.iter().filter_map(entry));
            }
            _ => {}
        }
        if let Some(template) = &self.template {
            templates.insert(DEFAULT.to_owned(), template.to_string());
        }
        templates
    }

    /// The template for conversations without more to say about them.
    pub fn chat_template(&self) -> Option<String> {
        let mut templates = self.chat_templates();
        let default = templates.remove(DEFAULT);
        default.or_else(|| templates.into_values().next())
    }

    /// Texts of special tokens by role, where the settings name them.
    pub fn special(&self) -> BTreeMap<String, String> {
        let text = |role: &str| match self.setting(role)? {
            Value::String(text) => Some(text),
            Value::Object(token) => Some(token.get("content")?.as_str()?.to_owned()),
            _ => None,
        };
        ROLES
            .iter()
            .filter_map(|role| Some(((*role).to_owned(), text(role)?)))
            .collect()
    }

    fn setting(&self, key: &str) -> Option<Value> {
        let settings: Value = serde_json::from_str(self.settings.as_deref()?).ok()?;
        settings.get(key).cloned()
    }

    /// The same with notes of what its file said otherwise.
    pub fn with_notes(self, notes: Vec<String>) -> Self {
        let notes = notes.into();
        Self { notes, ..self }
    }

    /// What could not be taken over exactly from the file that it came from, for people to read.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The files' texts.
    pub fn texts(&self) -> Texts<'_> {
        Texts {
            tokenizer: Some(&self.json),
            settings: self.settings.as_deref(),
            template: self.template.as_deref(),
        }
    }

    /// Writes the files.
    pub fn save(&self, folder: &Path) -> Result<()> {
        write_atomically(&folder.join(FILE), self.json.as_bytes())?;
        let default = || {
            format!(
                "{}\n",
                json!({"tokenizer_class": "PreTrainedTokenizerFast"})
            )
        };
        let settings = self.settings.as_deref().map_or_else(default, str::to_owned);
        if let Some(template) = &self.template {
            write_atomically(&folder.join(TEMPLATE), template.as_bytes())?;
        }
        write_atomically(&folder.join(SETTINGS), settings.as_bytes())
    }
}

/// Work of the tokenizers library on what a file says: odd files make it panic, which is an error like any other.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> std::result::Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(|e| e.to_string()),
        Err(_) => Err("the tokenizers library failed on it".to_owned()),
    }
}
