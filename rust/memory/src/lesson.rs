//! What memory keeps.

use moevolve_store::{Error, Result};

use crate::bytes::{Reader, put_text};

/// Longest id, skill, run and source, in bytes: together with their separators they fit in a key of LMDB.
pub const MAX_NAME: usize = 160;

/// What a lesson is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    #[default]
    Fact = 0,
    Procedure = 1,
    Failure = 2,
    Tool = 3,
    Preference = 4,
}

impl Kind {
    /// The kind of a name.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "fact" => Self::Fact,
            "procedure" => Self::Procedure,
            "failure" => Self::Failure,
            "tool" => Self::Tool,
            "preference" => Self::Preference,
            _ => return None,
        })
    }
}

/// One lesson. Its text never changes; `supersedes` names the lesson that it replaces.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lesson {
    pub id: String,
    pub kind: Kind,
    pub skill: String,
    pub run: String,
    /// Who wrote it: filters and quotas go by it.
    pub source: String,
    pub cycle: u64,
    /// First cycle in which it no longer holds; None: it holds until something supersedes it.
    pub until: Option<u64>,
    pub supersedes: Option<String>,
    /// What searches look at.
    pub text: String,
    /// Its embedding, of any length but zero; all of a store have the same number of dimensions.
    pub vector: Option<Vec<f32>>,
    /// The caller's encoding of the whole lesson, given back as it came.
    pub body: Vec<u8>,
}

/// What changes about a lesson after it was written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// How far outcomes speak for it, in [0, 1]; .5 before there are any.
    pub trust: f32,
    /// Kept whatever outcomes say.
    pub pinned: bool,
    /// Forgotten: no query returns it, and its text is still on file until it is purged.
    pub forgotten: bool,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            trust: 0.5,
            pinned: false,
            forgotten: false,
        }
    }
}

/// The immutable part on file.
pub(crate) struct Record<'a> {
    pub id: &'a str,
    pub skill: &'a str,
    pub run: &'a str,
    pub cycle: u64,
    pub text: &'a str,
    pub body: &'a [u8],
}

impl<'a> Record<'a> {
    pub fn of(lesson: &'a Lesson) -> Self {
        Self {
            id: &lesson.id,
            skill: &lesson.skill,
            run: &lesson.run,
            cycle: lesson.cycle,
            text: &lesson.text,
            body: &lesson.body,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.text.len() + self.body.len() + 96);
        for text in [self.id, self.skill, self.run, self.text] {
            put_text(&mut out, text);
        }
        out.extend_from_slice(&self.cycle.to_le_bytes());
        out.extend_from_slice(self.body);
        out
    }

    pub fn decode(value: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(value);
        Some(Self {
            id: reader.text()?,
            skill: reader.text()?,
            run: reader.text()?,
            text: reader.text()?,
            cycle: reader.u64()?,
            body: reader.0,
        })
    }

    /// The key in the index by skill: runs by name, cycles ascending.
    pub fn skill_key(&self) -> Vec<u8> {
        [
            self.skill.as_bytes(),
            b"\0",
            self.run.as_bytes(),
            b"\0",
            &self.cycle.to_be_bytes(),
            self.id.as_bytes(),
        ]
        .concat()
    }
}

/// Refuses what does not fit in a key.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<()> {
    if name.is_empty() || name.contains('\0') || name.len() > MAX_NAME {
        return Err(Error::Name {
            what,
            name: name.to_owned(),
            why: format!("it must have 1 to {MAX_NAME} bytes and no zero byte"),
        });
    }
    Ok(())
}

impl Lesson {
    /// Refuses names that do not fit in a key, and vectors that are no direction.
    pub(crate) fn check(&self) -> Result<()> {
        check_name("lesson id", &self.id)?;
        check_name("skill", &self.skill)?;
        check_name("run name", &self.run)?;
        if !self.source.is_empty() {
            check_name("source", &self.source)?;
        }
        if let Some(old) = &self.supersedes {
            check_name("superseded id", old)?;
        }
        if let Some(vector) = &self.vector {
            check_vector(vector).map_err(|why| Error::Name {
                what: "the vector of lesson",
                name: self.id.clone(),
                why: why.to_owned(),
            })?;
        }
        Ok(())
    }
}

/// What is wrong with a vector.
pub(crate) fn check_vector(vector: &[f32]) -> std::result::Result<(), &'static str> {
    const MAX_DIMENSIONS: usize = 8192;
    if vector.is_empty() || vector.len() > MAX_DIMENSIONS {
        return Err("it must have 1 to 8,192 dimensions");
    }
    if vector.iter().any(|x| !x.is_finite()) {
        return Err("it has a number that is not finite");
    }
    if vector.iter().all(|&x| x == 0.0) {
        return Err("it is zero and points nowhere");
    }
    Ok(())
}
