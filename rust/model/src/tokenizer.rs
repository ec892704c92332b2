//! Text to ids and back through `tokenizer.json`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::checkpoint::write_atomically;
use crate::error::{Error, Result};

const FILE: &str = "tokenizer.json";
const SETTINGS: &str = "tokenizer_config.json";

/// A tokenizer and the very files it came from, so that saving changes nothing.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    json: Arc<str>,
    settings: Option<Arc<str>>,
}

impl Tokenizer {
    /// Reads the folder's tokenizer, if it has one; its ids must lie in the vocabulary.
    pub fn load(folder: &Path, vocabulary: usize) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let read = |path: &Path| fs::read_to_string(path).map_err(|e| Error::file(path, e));
        let json = read(&path)?;
        let settings = folder.join(SETTINGS);
        let settings = settings.exists().then(|| read(&settings)).transpose()?;
        Self::parse(&json, settings, vocabulary, &path).map(Some)
    }

    /// Makes a tokenizer from the text of `tokenizer.json`; `path` names it in errors.
    pub fn parse(
        json: &str,
        settings: Option<String>,
        vocabulary: usize,
        path: &Path,
    ) -> Result<Self> {
        let inner: tokenizers::Tokenizer = json
            .parse()
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
        })
    }

    /// Ids of a text; no special tokens are added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match self.inner.encode_fast(text, false) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(e) => Err(Error::Request(format!("the text cannot be encoded: {e}"))),
        }
    }

    /// Text of ids; special tokens are left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner
            .decode(ids, true)
            .map_err(|e| Error::Request(format!("the tokens cannot be decoded: {e}")))
    }

    /// Writes both files.
    pub fn save(&self, folder: &Path) -> Result<()> {
        write_atomically(&folder.join(FILE), self.json.as_bytes())?;
        let default = || {
            format!(
                "{}\n",
                json!({"tokenizer_class": "PreTrainedTokenizerFast"})
            )
        };
        let settings = self.settings.as_deref().map_or_else(default, str::to_owned);
        write_atomically(&folder.join(SETTINGS), settings.as_bytes())
    }
}
