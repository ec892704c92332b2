//! Memory for Python: `MemoryStore`, which `moevolve.journal.lessons` wraps in records.

use std::path::PathBuf;

use moevolve_memory as memory;
use moevolve_memory::{Kind, Lesson, Query, Standing, Weights};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::store::{Open, options, raise};

/// (id, kind, skill, run, source, cycle, until, supersedes, text, vector as f32, body)
type LessonTuple = (
    String,
    String,
    String,
    String,
    String,
    u64,
    Option<u64>,
    Option<String>,
    String,
    Option<Vec<u8>>,
    Vec<u8>,
);

/// A lesson, and how it stands.
type AdoptedTuple = (LessonTuple, StandingTuple);

/// (id, score, by words, by vector, confidence, trust, pinned, body)
type HitTuple<'py> = (
    String,
    f32,
    Option<f32>,
    Option<f32>,
    f32,
    f32,
    bool,
    Bound<'py, PyBytes>,
);

/// (trust, pinned, forgotten)
type StandingTuple = (f32, bool, bool);

/// An open memory; see the stub for the documentation of its methods.
#[pyclass(module = "moevolve._native", name = "MemoryStore")]
struct PyMemoryStore {
    store: Open<memory::MemoryStore>,
    path: PathBuf,
}

#[pymethods]
impl PyMemoryStore {
    #[staticmethod]
    #[pyo3(signature = (path, schema, *, create=false, map_size=None))]
    fn open(
        py: Python<'_>,
        path: PathBuf,
        schema: u32,
        create: bool,
        map_size: Option<usize>,
    ) -> PyResult<Option<Self>> {
        let options = options(py, schema, map_size)?;
        let opened = py.detach(|| {
            if create {
                memory::MemoryStore::ensure(&path, options).map(Some)
            } else {
                memory::MemoryStore::open(&path, options)
            }
        });
        let store = opened.map_err(|error| raise(py, &error))?;
        Ok(store.map(|store| Self {
            store: Open::new(store),
            path,
        }))
    }

    fn close(&self, py: Python<'_>) {
        self.store.close(py);
    }

    fn put(&self, py: Python<'_>, lessons: Vec<LessonTuple>) -> PyResult<()> {
        let lessons = lessons
            .into_iter()
            .map(lesson)
            .collect::<PyResult<Vec<_>>>()?;
        self.work(py, |store| store.put(&lessons))
    }

    fn adopt(&self, py: Python<'_>, lessons: Vec<AdoptedTuple>) -> PyResult<()> {
        let lessons = lessons
            .into_iter()
            .map(|(given, standing)| Ok((lesson(given)?, standing_of(standing))))
            .collect::<PyResult<Vec<_>>>()?;
        self.work(py, |store| store.adopt(&lessons))
    }

    fn purge(&self, py: Python<'_>, id: &str) -> PyResult<bool> {
        self.work(py, |store| store.purge(id))
    }

    fn count(&self, py: Python<'_>) -> PyResult<u64> {
        self.work(py, memory::MemoryStore::count)
    }

    fn check(&self, py: Python<'_>) -> PyResult<u64> {
        self.work(py, memory::MemoryStore::check)
    }

    fn get<'py>(&self, py: Python<'py>, id: &str) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let body = self.work(py, |store| store.get(id))?;
        Ok(body.map(|body| PyBytes::new(py, &body)))
    }

    #[pyo3(signature = (after, limit))]
    fn all<'py>(
        &self,
        py: Python<'py>,
        after: Option<&str>,
        limit: usize,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        self.bodies(py, |store| store.all(after, limit))
    }

    #[pyo3(signature = (skill, run, limit))]
    fn by_skill<'py>(
        &self,
        py: Python<'py>,
        skill: &str,
        run: Option<&str>,
        limit: usize,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        self.bodies(py, |store| store.by_skill(skill, run, limit))
    }

    #[pyo3(signature = (*, text=None, vector=None, kinds=vec![], skill=None, besides=None, run=None, source=None,
                        before_cycle=None, forgotten=false, k=8, confidence=0.0, weights=(0.5, 0.5, 0.2)))]
    #[expect(clippy::too_many_arguments, reason = "keywords of one query")]
    fn search<'py>(
        &self,
        py: Python<'py>,
        text: Option<&str>,
        vector: Option<&[u8]>,
        kinds: Vec<String>,
        skill: Option<&str>,
        besides: Option<&str>,
        run: Option<&str>,
        source: Option<&str>,
        before_cycle: Option<u64>,
        forgotten: bool,
        k: usize,
        confidence: f32,
        weights: (f32, f32, f32),
    ) -> PyResult<Vec<HitTuple<'py>>> {
        let vector = vector.map(floats).transpose()?;
        let (words, by_vector, trust) = weights;
        let kinds = kinds
            .iter()
            .map(|kind| kind_of(kind))
            .collect::<PyResult<Vec<_>>>()?;
        let query = Query {
            text,
            vector: vector.as_deref(),
            kinds: &kinds,
            skill,
            besides,
            run,
            source,
            before_cycle,
            forgotten,
            k,
            confidence,
            weights: Weights {
                words,
                vector: by_vector,
                trust,
            },
        };
        let hits = self.work(py, |store| store.search(&query))?;
        Ok(hits
            .into_iter()
            .map(|hit| {
                (
                    hit.id,
                    hit.score,
                    hit.words,
                    hit.vector,
                    hit.confidence,
                    hit.standing.trust,
                    hit.standing.pinned,
                    PyBytes::new(py, &hit.body),
                )
            })
            .collect())
    }

    fn standing(&self, py: Python<'_>, id: &str) -> PyResult<Option<StandingTuple>> {
        let standing = self.work(py, |store| store.standing(id))?;
        Ok(standing.map(|standing| (standing.trust, standing.pinned, standing.forgotten)))
    }

    fn set_standings(
        &self,
        py: Python<'_>,
        standings: Vec<(String, StandingTuple)>,
    ) -> PyResult<usize> {
        let standings: Vec<_> = standings
            .into_iter()
            .map(|(id, standing)| (id, standing_of(standing)))
            .collect();
        self.work(py, |store| store.set_standings(&standings))
    }

    fn embedder(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.work(py, memory::MemoryStore::embedder)
    }

    fn set_embedder(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        self.work(py, |store| store.set_embedder(name))
    }

    fn without_vector(
        &self,
        py: Python<'_>,
        start: u32,
        limit: usize,
    ) -> PyResult<(u32, Vec<(String, String)>)> {
        self.work(py, |store| store.without_vector(start, limit))
    }

    fn set_vectors(&self, py: Python<'_>, vectors: Vec<(String, Vec<u8>)>) -> PyResult<usize> {
        let vectors = vectors
            .into_iter()
            .map(|(id, vector)| Ok((id, floats(&vector)?)))
            .collect::<PyResult<Vec<_>>>()?;
        self.work(py, |store| store.set_vectors(&vectors))
    }

    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let statistics = self.work(py, memory::MemoryStore::statistics)?;
        let told = PyDict::new(py);
        told.set_item("current", statistics.current)?;
        told.set_item("superseded", statistics.superseded)?;
        told.set_item("forgotten", statistics.forgotten)?;
        told.set_item("words", statistics.words)?;
        told.set_item("vectors", statistics.vectors)?;
        told.set_item("dimensions", statistics.dimensions)?;
        told.set_item("embedder", statistics.embedder)?;
        Ok(told)
    }
}

impl PyMemoryStore {
    /// Works on the store without the GIL.
    fn work<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&memory::MemoryStore) -> memory::Result<T> + Send,
    ) -> PyResult<T> {
        self.store.work(py, &self.path, work)
    }

    fn bodies<'py>(
        &self,
        py: Python<'py>,
        work: impl FnOnce(&memory::MemoryStore) -> memory::Result<Vec<Vec<u8>>> + Send,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let bodies = self.work(py, work)?;
        Ok(bodies.iter().map(|body| PyBytes::new(py, body)).collect())
    }
}

fn lesson(tuple: LessonTuple) -> PyResult<Lesson> {
    let (id, kind, skill, run, source, cycle, until, supersedes, text, vector, body) = tuple;
    Ok(Lesson {
        id,
        kind: kind_of(&kind)?,
        skill,
        run,
        source,
        cycle,
        until,
        supersedes,
        text,
        vector: vector.as_deref().map(floats).transpose()?,
        body,
    })
}

fn standing_of((trust, pinned, forgotten): StandingTuple) -> Standing {
    Standing {
        trust,
        pinned,
        forgotten,
    }
}

fn kind_of(name: &str) -> PyResult<Kind> {
    Kind::of(name).ok_or_else(|| PyValueError::new_err(format!("{name:?} is no kind of lesson")))
}

fn floats(bytes: &[u8]) -> PyResult<Vec<f32>> {
    let (chunks, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(PyValueError::new_err(
            "a vector is bytes of f32, four for each dimension",
        ));
    }
    Ok(chunks
        .iter()
        .map(|chunk| f32::from_le_bytes(*chunk))
        .collect())
}

/// Adds this room's classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyMemoryStore>()
}
