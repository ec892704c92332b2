//! Texts that a model may write: a grammar, a regular expression or a JSON schema as masks over its tokens.
//!
//! [`Vocabulary`] knows the tokens' bytes, [`Constraint`] is a grammar compiled for them, and a [`Walk`] follows one
//! text through it. What may come next is exact: it depends on the grammar and the text so far alone.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};

/// Bytes of a grammar's source, at most.
pub const LARGEST_SOURCE: usize = 1 << 20;

/// Lexer states that one grammar may make: a kilobyte or two each.
const MOST_STATES: usize = 50_000;

/// What is wrong with a grammar or a vocabulary.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How a grammar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A JSON schema: the text is an instance of it.
    Json,
    /// A regular expression in Rust's syntax that the whole text matches.
    Regex,
    /// A grammar in Lark's syntax, as llguidance reads it; its rule `start` is the whole text.
    Lark,
}

impl Form {
    /// The form of this name: `json`, `regex` or `lark`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "regex" => Some(Self::Regex),
            "lark" => Some(Self::Lark),
            _ => None,
        }
    }
}

/// What a token adds to a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    Bytes(Vec<u8>),
    /// Steers the model and is no text; a Lark grammar may name it.
    Special(String),
    /// A row of the embedding that no token has.
    Spare,
}

/// A model's tokens, indexed by their bytes.
pub struct Vocabulary {
    factory: ParserFactory,
}

impl Vocabulary {
    /// The tokens by id; `ends` are those that end a text.
    pub fn new(tokens: Vec<Token>, ends: &[u32]) -> Result<Self> {
        let size = u32::try_from(tokens.len()).map_err(|_| Error("too many tokens".to_owned()))?;
        let Some(&end) = ends.iter().find(|&&end| end < size) else {
            return Err(Error(
                "the model names no token that ends a text, so none can be held to a form"
                    .to_owned(),
            ));
        };
        let words: Vec<Vec<u8>> = tokens
            .into_iter()
            .map(|token| match token {
                // A byte that no text has marks what is none.
                Token::Bytes(bytes) if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) => {
                    Vec::new()
                }
                Token::Bytes(bytes) => bytes,
                Token::Special(name) => {
                    [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat()
                }
                Token::Spare => Vec::new(),
            })
            .collect();
        let ends: Vec<u32> = ends.iter().copied().filter(|&end| end < size).collect();
        let trie = TokTrie::from(&TokRxInfo::new(size, end), &words).with_eos_tokens(&ends);
        let tokens: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&tokens)
            .map_err(|e| Error(format!("the vocabulary: {e}")))?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.max_lexer_states = MOST_STATES;
        limits.verbose_errors = false;
        Ok(Self { factory })
    }

    /// Compiles a grammar.
    pub fn compile(&self, form: Form, source: &str) -> Result<Constraint> {
        if source.len() > LARGEST_SOURCE {
            return Err(Error(format!(
                "a grammar of {} bytes; at most {LARGEST_SOURCE}",
                source.len()
            )));
        }
        let grammar = match form {
            Form::Json => TopLevelGrammar::from_json_schema(
                serde_json::from_str(source).map_err(|e| Error(format!("no JSON: {e}")))?,
            ),
            Form::Regex => TopLevelGrammar::from_regex(source),
            Form::Lark => TopLevelGrammar::from_lark(source.to_owned()),
        };
        let made = llguidance::panic_utils::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.factory.create_parser(grammar)
        }));
        let mut start = Matcher::new(Ok(made.map_err(|e| Error(reason(&e.to_string())))?));
        // A grammar that allows nothing is found out here, and not in the middle of a batch.
        start
            .compute_mask_or_eos()
            .map_err(|e| Error(reason(&e.to_string())))?;
        Ok(Constraint(Arc::new(Compiled {
            form,
            source: source.into(),
            start: Mutex::new(start),
        })))
    }
}

/// The first line of a library's message, without the state of its parser.
fn reason(message: &str) -> String {
    let line = message.lines().find(|line| !line.trim().is_empty());
    line.unwrap_or("it cannot be compiled").trim().to_owned()
}

struct Compiled {
    form: Form,
    source: Box<str>,
    start: Mutex<Matcher>,
}

/// A grammar for one vocabulary; copies share what it is compiled to.
#[derive(Clone)]
pub struct Constraint(Arc<Compiled>);

impl Constraint {
    /// A text that begins.
    pub fn begin(&self) -> Walk {
        let start = self.0.start.lock().unwrap_or_else(PoisonError::into_inner);
        Walk(start.deep_clone())
    }
}

impl PartialEq for Constraint {
    fn eq(&self, other: &Self) -> bool {
        (self.0.form, &self.0.source) == (other.0.form, &other.0.source)
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Constraint({:?}, {:?})", self.0.form, self.0.source)
    }
}

/// One text on its way through a grammar.
pub struct Walk(Matcher);

impl Walk {
    /// Takes the logits of tokens that may not come next to minus infinity. False if it cannot be told which: the grammar
    /// has become too complex.
    pub fn mask(&mut self, logits: &mut [f32]) -> bool {
        let Ok(allowed) = self.0.compute_mask_or_eos() else {
            return false;
        };
        forbid(&allowed, logits);
        true
    }

    /// Goes on by a token that the mask allowed; false if it did not.
    pub fn take(&mut self, token: u32) -> bool {
        self.0.consume_token(token).is_ok()
    }
}

impl fmt::Debug for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Walk({:?})", self.0.stop_reason())
    }
}

/// Minus infinity for every token that is not in the set.
fn forbid(allowed: &SimpleVob, logits: &mut [f32]) {
    for (logits, &word) in logits.chunks_mut(32).zip(allowed.as_slice()) {
        if word == u32::MAX {
            continue;
        }
        for (bit, logit) in logits.iter_mut().enumerate() {
            if word & (1 << bit) == 0 {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}
