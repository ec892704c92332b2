//! Memory: lessons that outlive the runs, found by skill or by the words of their text.
//!
//! An environment of its own, written by any number of processes (LMDB lets one write at a time). Three databases:
//! `lessons` by id, `skills` by (skill, run, cycle, id), and `words` by (word, id), an inverted index whose values carry
//! the lesson's skill and number of distinct words. One write transaction keeps all three together.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use heed::types::Bytes;
use heed::{AnyTls, Database, RoTxn, RwTxn};

use crate::databases::{Kind, Options};
use crate::env::Env;
use crate::error::{Error, Fault, Result};

const MEMORY: Kind = Kind {
    name: "memory",
    databases: &["lessons", "skills", "words"],
};

/// Longest id, skill and run name, in bytes: together with their separators they fit in a key of LMDB.
pub const MAX_NAME: usize = 160;

/// Words are compared by so many bytes.
const MAX_WORD: usize = 64;

/// What memory keeps. `body` is the caller's encoding of the whole lesson and comes back as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lesson {
    pub id: String,
    pub skill: String,
    pub run: String,
    pub cycle: u64,
    /// What searches look at.
    pub text: String,
    pub body: Vec<u8>,
}

/// Which lessons a question is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scope<'a> {
    pub skill: Option<&'a str>,
    pub run: Option<&'a str>,
}

/// An open memory.
pub struct MemoryStore {
    env: Env,
    lessons: Table,
    skills: Table,
    words: Table,
}

type Table = Database<'static, Bytes, Bytes>;

impl MemoryStore {
    /// Opens the memory in `folder`, or None if there is none yet.
    pub fn open(folder: &Path, options: Options) -> Result<Option<Self>> {
        match Env::open(folder, folder, MEMORY, options) {
            Ok(env) => Self::assemble(env).map(Some),
            Err(Error::Absent { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the memory in `folder` and makes it if there is none.
    pub fn ensure(folder: &Path, options: Options) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|error| Error::io(folder, "cannot create", error))?;
        let env = match Env::create(folder, folder, MEMORY, options) {
            Err(Error::Exists { .. }) => Env::open(folder, folder, MEMORY, options)?,
            other => other?,
        };
        Self::assemble(env)
    }

    fn assemble(env: Env) -> Result<Self> {
        Ok(Self {
            lessons: env.database("lessons")?,
            skills: env.database("skills")?,
            words: env.database("words")?,
            env,
        })
    }

    /// Writes lessons in one durable commit; one with a known id replaces it.
    pub fn put(&self, lessons: &[Lesson]) -> Result<()> {
        for lesson in lessons {
            check_name("lesson id", &lesson.id)?;
            check_name("skill", &lesson.skill)?;
            check_name("run name", &lesson.run)?;
        }
        self.env.write("cannot write to", |txn, path| {
            for lesson in lessons {
                self.remove(txn, path, &lesson.id)?;
                self.lessons
                    .put(txn, lesson.id.as_bytes(), &encode(lesson))?;
                self.skills.put(txn, &skill_key(lesson), &[])?;
                let words = words(&lesson.text);
                let value = [&(words.len() as u32).to_le_bytes(), lesson.skill.as_bytes()].concat();
                for word in &words {
                    self.words.put(txn, &word_key(word, &lesson.id), &value)?;
                }
            }
            Ok(())
        })
    }

    /// Forgets a lesson; false if there was none of this id.
    pub fn forget(&self, id: &str) -> Result<bool> {
        check_name("lesson id", id)?;
        self.env
            .write("cannot write to", |txn, path| self.remove(txn, path, id))
    }

    /// Number of lessons.
    pub fn count(&self) -> Result<u64> {
        self.env
            .read("cannot read", |txn, _| Ok(self.lessons.len(txn)?))
    }

    /// The bodies of at most `limit` lessons whose id comes after `after`, by id.
    pub fn all(&self, after: Option<&str>, limit: usize) -> Result<Vec<Vec<u8>>> {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.as_bytes()));
        self.env.read("cannot read", |txn, path| {
            let range: (Bound<&[u8]>, Bound<&[u8]>) = (from, Bound::Unbounded);
            self.lessons
                .range(txn, &range)?
                .take(limit)
                .map(|item| Ok(decode(path, item?)?.body))
                .collect()
        })
    }

    /// The bodies of at most `limit` lessons of a skill: by run from the last name to the first, in a run from the
    /// newest cycle to the oldest.
    pub fn by_skill(&self, skill: &str, run: Option<&str>, limit: usize) -> Result<Vec<Vec<u8>>> {
        let mut prefix = [skill.as_bytes(), b"\0"].concat();
        if let Some(run) = run {
            prefix.extend([run.as_bytes(), b"\0"].concat());
        }
        self.env.read("cannot read", |txn, path| {
            let mut found = Vec::new();
            for item in self.skills.rev_prefix_iter(txn, &prefix)?.take(limit) {
                let (key, _) = item?;
                let id = id_of_skill_key(key).ok_or_else(|| torn(path, "skills"))?;
                let lesson = self
                    .lesson(txn, path, id)?
                    .ok_or_else(|| torn(path, "skills"))?;
                found.push(lesson.body);
            }
            Ok(found)
        })
    }

    /// The bodies of the `limit` lessons that share most words with `text`; of equals the shorter, then the smaller id.
    /// Lessons that share none are left out.
    pub fn search(&self, text: &str, scope: Scope<'_>, limit: usize) -> Result<Vec<Vec<u8>>> {
        self.env.read("cannot read", |txn, path| {
            let mut shared: HashMap<&[u8], (u32, u32)> = HashMap::new();
            for word in words(text) {
                let prefix = word_key(&word, "");
                for item in self.words.prefix_iter(txn, &prefix)? {
                    let (key, value) = item?;
                    let (length, skill) = value
                        .split_first_chunk::<4>()
                        .ok_or_else(|| torn(path, "words"))?;
                    if scope.skill.is_none_or(|wanted| wanted.as_bytes() == skill) {
                        let id = &key[prefix.len()..];
                        shared
                            .entry(id)
                            .or_insert((0, u32::from_le_bytes(*length)))
                            .0 += 1;
                    }
                }
            }
            let mut ranked: Vec<_> = shared.into_iter().collect();
            ranked.sort_unstable_by_key(|&(id, (hits, length))| (u32::MAX - hits, length, id));
            let mut found = Vec::new();
            for (id, _) in ranked {
                if found.len() == limit {
                    break;
                }
                let lesson = self
                    .lesson(txn, path, id)?
                    .ok_or_else(|| torn(path, "words"))?;
                if scope.run.is_none_or(|run| run == lesson.run) {
                    found.push(lesson.body);
                }
            }
            Ok(found)
        })
    }

    fn lesson(
        &self,
        txn: &RoTxn<'_, AnyTls>,
        path: &Path,
        id: &[u8],
    ) -> Result<Option<Lesson>, Fault> {
        match self.lessons.get(txn, id)? {
            Some(value) => Ok(Some(decode(path, (id, value))?)),
            None => Ok(None),
        }
    }

    fn remove(&self, txn: &mut RwTxn<'_>, path: &Path, id: &str) -> Result<bool, Fault> {
        let Some(lesson) = self.lesson(txn, path, id.as_bytes())? else {
            return Ok(false);
        };
        self.lessons.delete(txn, id.as_bytes())?;
        self.skills.delete(txn, &skill_key(&lesson))?;
        for word in words(&lesson.text) {
            self.words.delete(txn, &word_key(&word, id))?;
        }
        Ok(true)
    }
}

/// The distinct words of a text: runs of letters and digits, lower case.
fn words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| {
            let lower = word.to_lowercase();
            lower[..lower.floor_char_boundary(MAX_WORD)].to_owned()
        })
        .collect()
}

fn check_name(what: &'static str, name: &str) -> Result<()> {
    if name.is_empty() || name.contains('\0') || name.len() > MAX_NAME {
        return Err(Error::Name {
            what,
            name: name.to_owned(),
            why: format!("it must have 1 to {MAX_NAME} bytes and no zero byte"),
        });
    }
    Ok(())
}

fn skill_key(lesson: &Lesson) -> Vec<u8> {
    [
        lesson.skill.as_bytes(),
        b"\0",
        lesson.run.as_bytes(),
        b"\0",
        &lesson.cycle.to_be_bytes(),
        lesson.id.as_bytes(),
    ]
    .concat()
}

fn id_of_skill_key(key: &[u8]) -> Option<&[u8]> {
    let zero = |bytes: &[u8]| bytes.iter().position(|&byte| byte == 0);
    let rest = &key[zero(key)? + 1..];
    let rest = &rest[zero(rest)? + 1..];
    rest.get(8..)
}

fn word_key(word: &str, id: &str) -> Vec<u8> {
    [word.as_bytes(), b"\0", id.as_bytes()].concat()
}

/// Skill, run and text with their lengths, the cycle, then the body.
fn encode(lesson: &Lesson) -> Vec<u8> {
    let mut value = Vec::with_capacity(lesson.text.len() + lesson.body.len() + 64);
    for text in [&lesson.skill, &lesson.run, &lesson.text] {
        value.extend_from_slice(&(text.len() as u32).to_le_bytes());
        value.extend_from_slice(text.as_bytes());
    }
    value.extend_from_slice(&lesson.cycle.to_le_bytes());
    value.extend_from_slice(&lesson.body);
    value
}

fn decode(path: &Path, (id, value): (&[u8], &[u8])) -> Result<Lesson> {
    fn text(rest: &mut &[u8]) -> Option<String> {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (bytes, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        *rest = after;
        String::from_utf8(bytes.to_vec()).ok()
    }
    let mut rest = value;
    let mut parts = || {
        let (skill, run, text) = (text(&mut rest)?, text(&mut rest)?, text(&mut rest)?);
        let (cycle, body) = rest.split_first_chunk::<8>()?;
        Some(Lesson {
            id: String::from_utf8(id.to_vec()).ok()?,
            skill,
            run,
            cycle: u64::from_le_bytes(*cycle),
            text,
            body: body.to_vec(),
        })
    };
    parts().ok_or_else(|| torn(path, "lessons"))
}

fn torn(path: &Path, database: &str) -> Error {
    Error::Torn {
        path: path.to_path_buf(),
        why: format!("its database {database} has an entry that does not fit"),
    }
}
