//! A model in several files: `NAME-00001-of-00003.gguf` and its like. The first has the metadata, each has some of the tensors.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::entry::Entry;
use super::header::Gguf;
use crate::error::{Error, Result};
use crate::files::MappedFile;

const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";
/// Parts that a model may have: their number has sixteen bits in a file.
const MOST: usize = 0xffff;
const ARCHITECTURE: &str = "general.architecture";

/// Place of a file among those of its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// From 0 on.
    number: usize,
    count: usize,
}

impl Place {
    /// What the name of such a file ends with.
    fn ending(self) -> String {
        format!("-{:05}-of-{:05}.gguf", self.number + 1, self.count)
    }
}

/// The mapped files of one model, in order.
#[derive(Debug)]
pub struct Parts(Vec<Arc<MappedFile>>);

impl Parts {
    /// Maps the file at `path` and, where it is one of several, the others beside it; any of them may be named.
    pub fn open(path: &Path) -> Result<Self> {
        let named = MappedFile::open(path)?;
        let place = Gguf::parse(&named, &named.name)?.place()?;
        let Some(place) = place else {
            return Ok(Self(vec![named]));
        };
        let (stem, count) = (stem(path, place)?, place.count);
        let mut files = Vec::new();
        for number in 0..count {
            if number == place.number {
                files.push(Arc::clone(&named));
                continue;
            }
            let ending = Place { number, count }.ending();
            let part = path.with_file_name(format!("{stem}{ending}"));
            if !part.exists() {
                let reason = format!("is missing: part {} of {count} of the model", number + 1);
                return Err(Error::file(&part, reason));
            }
            files.push(MappedFile::open(&part)?);
        }
        Ok(Self(files))
    }

    pub fn files(&self) -> &[Arc<MappedFile>] {
        &self.0
    }

    /// The header of the whole: metadata of the first file, tensors of all.
    pub fn parse(&self) -> Result<Gguf<'_>> {
        let mut headers = self.0.iter().map(|file| Gguf::parse(file, &file.name));
        let Some(first) = headers.next() else {
            return Err(Error::Request("a model has no file".to_owned()));
        };
        let mut whole = first?;
        for header in headers {
            whole.join(header?)?;
        }
        if whole.parts.len() > 1
            && let Some(promised) = whole.size(TENSORS)?
            && promised != whole.tensors.len()
        {
            let there = whole.tensors.len();
            let reason = format!("says {promised} tensors, but the parts hold {there}");
            return whole.wrong(TENSORS, reason);
        }
        Ok(whole)
    }
}

/// Names of the files of a model that is written in so many parts instead of `path`.
pub(super) fn part_names(path: &Path, count: usize) -> Result<Vec<String>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".gguf").unwrap_or(&name);
    if count > MOST {
        let reason = format!("would have {count} parts, more than {MOST}: allow larger ones");
        return Err(Error::file(path, reason));
    }
    let ending = |number| Place { number, count }.ending();
    Ok((0..count)
        .map(|number| format!("{stem}{}", ending(number)))
        .collect())
}

/// What part `number` says of itself, in the types that llama.cpp insists on.
pub(super) fn split_entries(
    number: usize,
    count: usize,
    tensors: usize,
) -> Result<Vec<(String, Entry)>> {
    let (Ok(number), Ok(count), Ok(tensors)) = (
        u16::try_from(number),
        u16::try_from(count),
        i32::try_from(tensors),
    ) else {
        return Err(Error::Request(format!(
            "{count} parts of {tensors} tensors are too many"
        )));
    };
    Ok(vec![
        (NUMBER.to_owned(), Entry::U16(number)),
        (COUNT.to_owned(), Entry::U16(count)),
        (TENSORS.to_owned(), Entry::I32(tensors)),
    ])
}

/// What the names of a model's files begin with, given one of them.
fn stem(path: &Path, place: Place) -> Result<String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if let Some(stem) = name.strip_suffix(&place.ending()) {
        return Ok(stem.to_owned());
    }
    let (one, count, ending) = (place.number + 1, place.count, place.ending());
    let reason =
        format!("is part {one} of {count} of a split model, so its name must end with {ending}");
    Err(Error::file(path, reason))
}

impl<'a> Gguf<'a> {
    /// The file's place, if its model has several.
    fn place(&self) -> Result<Option<Place>> {
        let count = match self.size(COUNT)? {
            None | Some(0 | 1) => return Ok(None),
            Some(count @ 2..=MOST) => count,
            Some(count) => return self.wrong(COUNT, format!("{count} is above {MOST}")),
        };
        match self.size(NUMBER)? {
            None => self.wrong(NUMBER, "is missing"),
            Some(number) if number < count => Ok(Some(Place { number, count })),
            Some(number) => self.wrong(NUMBER, format!("{number} is not below {COUNT} {count}")),
        }
    }

    /// Adds the tensors of the next part, which must say that it is that.
    fn join(&mut self, part: Self) -> Result<()> {
        let foreign = |reason: String| {
            Err(Error::File {
                file: part.file.clone(),
                reason: format!("is not of the same model as {}: {reason}", self.file),
            })
        };
        let (number, mine) = (self.parts.len(), self.place()?);
        match (part.place()?, mine) {
            (Some(there), Some(mine)) if there == (Place { number, ..mine }) => {}
            (Some(Place { number, count }), _) => {
                return foreign(format!("it says that it is part {} of {count}", number + 1));
            }
            (None, _) => return foreign("it says that it is whole".to_owned()),
        }
        if let (Some(a), Some(b)) = (self.text(ARCHITECTURE)?, part.text(ARCHITECTURE)?)
            && a != b
        {
            return foreign(format!("{ARCHITECTURE} is {b:?}, not {a:?}"));
        }
        let names: HashSet<&str> = self.tensors.iter().map(|tensor| tensor.name).collect();
        let mut tensors = part.tensors.iter();
        if let Some(twice) = tensors.find(|tensor| names.contains(tensor.name)) {
            let reason = format!("lies in {} too", self.file_of(twice.name));
            return Err(part.torn(twice.name, reason));
        }
        self.parts.extend(part.parts);
        for mut tensor in part.tensors {
            tensor.part = number;
            self.tensors.push(tensor);
        }
        Ok(())
    }
}
