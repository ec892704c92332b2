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

impl Standing {
    /// Refuses a trust that is no share.
    pub(crate) fn check(&self, id: &str) -> Result<()> {
        if (0.0..=1.0).contains(&self.trust) {
            return Ok(());
        }
        Err(Error::Name {
            what: "the trust of lesson",
            name: id.to_owned(),
            why: "it must lie between 0 and 1".to_owned(),
        })
    }
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
    pub facts: Option<Facts<'a>>,
    pub body: &'a [u8],
}

/// What else a record says of its lesson, for `check` to hold columns and chains to; records of earlier versions lack it.
pub(crate) struct Facts<'a> {
    pub kind: u32,
    pub source: &'a str,
    pub until: Option<u64>,
    pub supersedes: Option<&'a str>,
}

/// The bit of a record's cycle that says that facts follow.
const WITH_FACTS: u64 = 1 << 63;

/// Last cycle that a column can hold.
const LAST_CYCLE: u64 = u32::MAX as u64 - 1;

impl<'a> Record<'a> {
    pub fn of(lesson: &'a Lesson) -> Self {
        Self {
            id: &lesson.id,
            skill: &lesson.skill,
            run: &lesson.run,
            cycle: lesson.cycle,
            text: &lesson.text,
            facts: Some(Facts {
                kind: lesson.kind as u32,
                source: &lesson.source,
                until: lesson.until,
                supersedes: lesson.supersedes.as_deref(),
            }),
            body: &lesson.body,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.text.len() + self.body.len() + 96);
        for text in [self.id, self.skill, self.run, self.text] {
            put_text(&mut out, text);
        }
        let Some(facts) = &self.facts else {
            out.extend_from_slice(&self.cycle.to_le_bytes());
            out.extend_from_slice(self.body);
            return out;
        };
        out.extend_from_slice(&(self.cycle | WITH_FACTS).to_le_bytes());
        out.extend_from_slice(&facts.kind.to_le_bytes());
        out.extend_from_slice(&facts.until.unwrap_or(u64::MAX).to_le_bytes());
        put_text(&mut out, facts.source);
        put_text(&mut out, facts.supersedes.unwrap_or_default());
        out.extend_from_slice(self.body);
        out
    }

    pub fn decode(value: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(value);
        let (id, skill, run) = (reader.text()?, reader.text()?, reader.text()?);
        let (text, cycle) = (reader.text()?, reader.u64()?);
        let facts = if cycle & WITH_FACTS == 0 {
            None
        } else {
            Some(Facts {
                kind: reader.u32()?,
                until: Some(reader.u64()?).filter(|until| *until != u64::MAX),
                source: reader.text()?,
                supersedes: Some(reader.text()?).filter(|old| !old.is_empty()),
            })
        };
        Some(Self {
            id,
            skill,
            run,
            cycle: cycle & !WITH_FACTS,
            text,
            facts,
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
    /// Refuses names that do not fit in a key, cycles that do not fit in a column, and vectors that are no direction.
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
        if self.cycle > LAST_CYCLE {
            return Err(Error::Name {
                what: "the cycle of lesson",
                name: self.id.clone(),
                why: format!("it must be at most {LAST_CYCLE}"),
            });
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
