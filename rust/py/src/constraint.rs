//! Constraints for Python: grammars compiled for a model's tokens, and what the tokens are.

use std::sync::OnceLock;

use moevolve_constrain::{Form, Token, Vocabulary};
use moevolve_model::{Error, Piece, Result, Tokenizer};
use pyo3::prelude::*;

/// A compiled grammar; see the stub.
#[pyclass(module = "moevolve._native", frozen)]
pub struct Constraint(pub moevolve_constrain::Constraint);

/// A model's tokens, made ready when first asked for.
#[derive(Default)]
pub struct Tokens {
    pieces: OnceLock<Vec<Piece>>,
    vocabulary: OnceLock<std::result::Result<Vocabulary, String>>,
}

impl Tokens {
    /// The bytes of some tokens; a special one's are its name's.
    pub fn bytes(&self, tokenizer: &Tokenizer, size: usize, ids: &[u32]) -> Vec<Vec<u8>> {
        let pieces = self.pieces.get_or_init(|| tokenizer.pieces(size, &[]));
        let bytes = |id: &u32| match pieces.get(*id as usize) {
            Some(Piece::Bytes(bytes)) => bytes.clone(),
            Some(Piece::Special(name)) => name.clone().into_bytes(),
            Some(Piece::Spare) | None => Vec::new(),
        };
        ids.iter().map(bytes).collect()
    }

    /// Compiles a grammar; special tokens named in `marks`, the same in every call, are text.
    pub fn compile(
        &self,
        tokenizer: &Tokenizer,
        size: usize,
        ends: &[u32],
        marks: &[String],
        (form, source): (&str, &str),
    ) -> Result<Constraint> {
        let vocabulary = self.vocabulary.get_or_init(|| {
            let pieces = tokenizer.pieces(size, marks).into_iter();
            let tokens = pieces.map(|piece| match piece {
                Piece::Bytes(bytes) => Token::Bytes(bytes),
                Piece::Special(name) => Token::Special(name),
                Piece::Spare => Token::Spare,
            });
            Vocabulary::new(tokens.collect(), ends).map_err(|error| error.to_string())
        });
        let refused = |why: String| Error::Request(format!("{form}: {why}"));
        let vocabulary = vocabulary.as_ref().map_err(|why| refused(why.clone()))?;
        let known = Form::named(form)
            .ok_or_else(|| refused("a constraint is json, regex or lark".to_owned()))?;
        let compiled = vocabulary.compile(known, source);
        compiled.map(Constraint).map_err(|e| refused(e.to_string()))
    }
}

/// Adds this room's class to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Constraint>()
}
