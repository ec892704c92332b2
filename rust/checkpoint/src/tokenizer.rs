//! Text to ids and back through `tokenizer.json`, and what the files beside it say.

mod beside;
mod bounds;
mod characters;
mod quiet;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokenizers::{Decoder, ModelWrapper};

use crate::error::{Error, Result};
use crate::files::{is_there, read_text, write_atomically};
use quiet::guarded;

const FILE: &str = "tokenizer.json";
const SETTINGS: &str = "tokenizer_config.json";
const TEMPLATE: &str = "chat_template.jinja";
/// Folder of further templates, each a file by its name.
const TEMPLATES: &str = "additional_chat_templates";
/// How such a file's name ends.
const JINJA: &str = ".jinja";

/// Name of the chat template that counts where nothing else is asked for.
pub(crate) const DEFAULT: &str = "default";

/// The texts of a tokenizer's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Texts<'a> {
    /// `tokenizer.json`.
    pub tokenizer: Option<&'a str>,
    /// `tokenizer_config.json`.
    pub settings: Option<&'a str>,
    /// The chat templates that count, by name.
    pub templates: Option<&'a BTreeMap<String, String>>,
}

/// The special tokens that a tokenizer puts around a text of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub before: Vec<u32>,
    pub after: Vec<u32>,
}

/// A tokenizer and the files it came from, so that saving changes nothing. What files beside them say about tokens is
/// merged into the two.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    json: Arc<str>,
    settings: Option<Arc<str>>,
    /// Whether tokens like `<0x0A>` are bytes of characters.
    bytes_fall_back: bool,
    /// Texts of special tokens by role, where the settings name them.
    special: Arc<BTreeMap<String, String>>,
    /// Chat templates of the settings, by name.
    named: Arc<BTreeMap<String, String>>,
    /// Chat templates in files of their own, by name: where there is one, those of the settings do not count.
    templates: Arc<BTreeMap<String, String>>,
    /// What could not be taken over exactly from a file of another kind.
    notes: Arc<[String]>,
}

impl Tokenizer {
    /// Reads the folder's tokenizer, if it has one; its ids must lie in the vocabulary.
    pub fn load(folder: &Path, vocabulary: usize) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        if !is_there(&path) {
            return Ok(None);
        }
        let json = read_text(&path)?;
        let beside = beside::read(folder)?;
        let mut inner = parsed(&json, vocabulary, &path)?;
        let merged = guarded(|| beside::add(&mut inner, &beside, &json))
            .map_err(|e| Error::file(&path, format!("cannot take the tokens beside it: {e}")))?;
        let settings = match &beside.settings {
            None => None,
            Some(_) if !beside.changed => Some(read_text(&folder.join(SETTINGS))?),
            Some(settings) => Some(format!("{:#}\n", json!(settings))),
        };
        let mut tokenizer = Self::with(inner, merged.unwrap_or(json), settings, &path)?;
        tokenizer.templates = Arc::new(templates(folder)?);
        Ok(Some(tokenizer))
    }

    /// Makes a tokenizer from the text of `tokenizer.json`; `path` names it in errors.
    pub fn parse(
        json: &str,
        settings: Option<String>,
        vocabulary: usize,
        path: &Path,
    ) -> Result<Self> {
        let inner = parsed(json, vocabulary, path)?;
        Self::with(inner, json.to_owned(), settings, path)
    }

    fn with(
        inner: tokenizers::Tokenizer,
        json: String,
        settings: Option<String>,
        path: &Path,
    ) -> Result<Self> {
        let file = path.with_file_name(SETTINGS);
        let said: Map<String, Value> = match &settings {
            None => Map::new(),
            Some(text) => serde_json::from_str(text)
                .map_err(|e| Error::file(&file, format!("is not a JSON object: {e}")))?,
        };
        let split = said.get("split_special_tokens");
        if split.is_some_and(|split| !split.is_null() && *split != false) {
            let reason = "is supported as false alone: special tokens of a text are tokens";
            return Err(beside::wrong(&file, "split_special_tokens", reason));
        }
        let special = beside::named(&said, &file)?.into_iter().collect();
        Ok(Self {
            bytes_fall_back: characters::bytes_fall_back(&inner),
            inner: Arc::new(inner),
            json: json.into(),
            settings: settings.map(Into::into),
            special: Arc::new(special),
            named: Arc::new(templates_of(&said, &file)?),
            templates: Arc::default(),
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

    /// Whether words that are tokens stay whole, whatever the merges say.
    pub fn takes_whole_words(&self) -> bool {
        matches!(self.inner.get_model(), ModelWrapper::BPE(model) if model.ignore_merges)
    }

    /// Texts of the tokens that are found in a text before it is split.
    pub fn added(&self) -> Vec<String> {
        let added = self.inner.get_added_tokens_decoder();
        added.into_values().map(|token| token.content).collect()
    }

    /// Whether each token is a whole word: a text of others becomes unknown tokens.
    pub fn has_words_alone(&self) -> bool {
        matches!(self.inner.get_model(), ModelWrapper::WordLevel(_))
    }

    /// What stands around each text: found by encoding one, whatever post-processors say so.
    pub fn frame(&self) -> Result<Frame> {
        for text in ["a", "0", "e", " ", "\u{4e00}"] {
            let (bare, whole) = (self.encode(text, false)?, self.encode(text, true)?);
            let at = whole
                .windows(bare.len().max(1))
                .position(|part| part == bare);
            if let Some(at) = at {
                let (before, after) = (whole[..at].to_vec(), whole[at + bare.len()..].to_vec());
                return Ok(Frame { before, after });
            }
        }
        if self.encode("", true)?.is_empty() {
            return Ok(Frame::default());
        }
        let reason = "the tokenizer hides what it puts around a text";
        Err(Error::Request(reason.to_owned()))
    }

    /// Text of ids, special tokens left out if `skip_special`; bytes that are no character become U+FFFD each, beside
    /// whatever characters are whole.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        let failed = |e: String| Error::Request(format!("the tokens cannot be decoded: {e}"));
        let text = guarded(|| self.inner.decode(ids, skip_special)).map_err(failed)?;
        // The library marks every byte of a row of which one is no character.
        if !self.bytes_fall_back || !text.contains(char::REPLACEMENT_CHARACTER) {
            return Ok(text);
        }
        let added = self.inner.get_added_vocabulary();
        let tokens = ids
            .iter()
            .filter_map(|&id| self.inner.id_to_token(id))
            .filter(|token| !skip_special || !added.is_special_token(token));
        let tokens = characters::whole(tokens.collect());
        guarded(|| match self.inner.get_decoder() {
            Some(decoder) => decoder.decode(tokens),
            None => Ok(text),
        })
        .map_err(failed)
    }

    /// Chat templates by name: those in files of their own, else those of the settings.
    pub fn chat_templates(&self) -> BTreeMap<String, String> {
        self.counting().clone()
    }

    fn counting(&self) -> &BTreeMap<String, String> {
        if self.templates.is_empty() {
            &self.named
        } else {
            &self.templates
        }
    }

    /// The template for conversations without more to say about them; none of several where none is called so.
    pub fn chat_template(&self) -> Option<String> {
        self.chat_templates().remove(DEFAULT)
    }

    /// Texts of special tokens by role, where the settings name them.
    pub fn special(&self) -> BTreeMap<String, String> {
        self.special.as_ref().clone()
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
            templates: Some(self.counting()),
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
        for (name, template) in self.templates.iter() {
            let file = if name == DEFAULT {
                folder.join(TEMPLATE)
            } else {
                let inside = folder.join(TEMPLATES);
                fs::create_dir_all(&inside).map_err(|e| Error::file(&inside, e))?;
                inside.join(format!("{name}{JINJA}"))
            };
            write_atomically(&file, template.as_bytes())?;
        }
        write_atomically(&folder.join(SETTINGS), settings.as_bytes())
    }
}

/// The library's tokenizer of a text that asks for nothing beyond bounds. What the file says about cutting and filling up
/// texts is for training's batches: transformers sets it anew for each call, and nothing does here.
fn parsed(json: &str, vocabulary: usize, path: &Path) -> Result<tokenizers::Tokenizer> {
    if let Some(reason) = bounds::refusal(json) {
        return Err(Error::file(path, reason));
    }
    let made = guarded(|| {
        let mut inner: tokenizers::Tokenizer = json.parse()?;
        inner.with_truncation(None)?;
        inner.with_padding(None);
        Ok(inner)
    });
    let inner = made.map_err(|e| Error::file(path, format!("is not a tokenizer: {e}")))?;
    // Tokens that somebody added without growing the model are refused where they are used, not here.
    let highest = inner.get_vocab(false).into_iter().max_by_key(|&(_, id)| id);
    if let Some((token, id)) = highest.filter(|&(_, id)| id as usize >= vocabulary) {
        let reason = format!(
            "token {token:?} has id {id}, but the model's vocabulary has {vocabulary} entries"
        );
        return Err(Error::file(path, reason));
    }
    Ok(inner)
}

/// Chat templates in files of their own.
fn templates(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let default = folder.join(TEMPLATE);
    if is_there(&default) {
        found.insert(DEFAULT.to_owned(), read_text(&default)?);
    }
    let inside = folder.join(TEMPLATES);
    if !inside.is_dir() {
        return Ok(found);
    }
    for entry in fs::read_dir(&inside).map_err(|e| Error::file(&inside, e))? {
        let path = entry.map_err(|e| Error::file(&inside, e))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(name) = name.and_then(|name| name.strip_suffix(JINJA)) {
            found.insert(name.to_owned(), read_text(&path)?);
        }
    }
    Ok(found)
}

/// Chat templates of the settings: a text, which is the default, or several by name.
fn templates_of(settings: &Map<String, Value>, file: &Path) -> Result<BTreeMap<String, String>> {
    let wrong = || {
        let reason = "is neither a text nor texts by name".to_owned();
        let (file, key) = (file.display().to_string(), "chat_template".to_owned());
        Error::Config { file, key, reason }
    };
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(wrong);
    match settings.get("chat_template") {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::String(only)) => Ok(BTreeMap::from([(DEFAULT.to_owned(), only.clone())])),
        Some(Value::Array(named)) => named
            .iter()
            .map(|entry| Ok((text(&entry["name"])?, text(&entry["template"])?)))
            .collect(),
        Some(Value::Object(named)) => named
            .iter()
            .map(|(name, template)| Ok((name.clone(), text(template)?)))
            .collect(),
        Some(_) => Err(wrong()),
    }
}
