//! The store for Python: `RunStore`, which `moevolve.journal.store` wraps in records.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use moevolve_store as store;
use moevolve_store::{Batch, Error, NewEntry, Options, Put, Scan};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// (sequence number, hash, timing, body)
type EntryTuple<'py> = (u64, String, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

/// An open run; see the stub for the documentation of its methods.
#[pyclass(module = "moevolve._native", name = "RunStore")]
struct PyRunStore {
    store: Open<store::RunStore>,
    path: PathBuf,
}

#[pymethods]
impl PyRunStore {
    #[staticmethod]
    #[pyo3(signature = (path, schema, map_size=None))]
    fn create(
        py: Python<'_>,
        path: PathBuf,
        schema: u32,
        map_size: Option<usize>,
    ) -> PyResult<Self> {
        let options = options(py, schema, map_size)?;
        let opened = py.detach(|| store::RunStore::create(&path, options));
        Self::wrap(py, path, opened)
    }

    #[staticmethod]
    #[pyo3(signature = (path, schema, *, write=false, map_size=None))]
    fn open(
        py: Python<'_>,
        path: PathBuf,
        schema: u32,
        write: bool,
        map_size: Option<usize>,
    ) -> PyResult<Self> {
        let options = options(py, schema, map_size)?;
        let opened = py.detach(|| store::RunStore::open(&path, write, options));
        Self::wrap(py, path, opened)
    }

    #[staticmethod]
    fn is_run(path: PathBuf) -> bool {
        store::RunStore::is_run(&path)
    }

    fn close(&self, py: Python<'_>) {
        self.store.close(py);
    }

    fn commit(
        &self,
        py: Python<'_>,
        entries: Vec<(Vec<u8>, Vec<u8>)>,
        puts: Vec<(String, String, Option<Vec<u8>>)>,
        blobs: Vec<Vec<u8>>,
    ) -> PyResult<String> {
        let batch = Batch {
            entries: entries
                .into_iter()
                .map(|(body, timing)| NewEntry { body, timing })
                .collect(),
            puts: puts
                .into_iter()
                .map(|(table, key, value)| Put { table, key, value })
                .collect(),
            blobs,
        };
        self.work(py, |store| store.commit(&batch))
            .map(|head| head.to_string())
    }

    fn entries<'py>(
        &self,
        py: Python<'py>,
        start: u64,
        limit: usize,
    ) -> PyResult<Vec<EntryTuple<'py>>> {
        let entries = self.work(py, |store| store.entries(start, limit))?;
        Ok(entries
            .iter()
            .map(|entry| {
                (
                    entry.seq,
                    entry.hash.to_string(),
                    PyBytes::new(py, &entry.timing),
                    PyBytes::new(py, &entry.body),
                )
            })
            .collect())
    }

    fn head(&self, py: Python<'_>) -> PyResult<String> {
        self.work(py, store::RunStore::head)
            .map(|head| head.to_string())
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.work(py, store::RunStore::len)
            .map(|length| usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn verify(&self, py: Python<'_>) -> PyResult<u64> {
        self.work(py, store::RunStore::verify)
    }

    fn put_blob(&self, py: Python<'_>, data: &[u8]) -> PyResult<String> {
        self.work(py, |store| store.put_blob(data))
            .map(|hash| hash.to_string())
    }

    fn blob<'py>(&self, py: Python<'py>, hash: &str) -> PyResult<Bound<'py, PyBytes>> {
        let data = self.work(py, |store| store.blob(hash))?;
        Ok(PyBytes::new(py, &data))
    }

    fn get<'py>(
        &self,
        py: Python<'py>,
        table: &str,
        key: &str,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let value = self.work(py, |store| store.get(table, key))?;
        Ok(value.map(|value| PyBytes::new(py, &value)))
    }

    #[pyo3(signature = (table, prefix="", *, limit=None, reverse=false))]
    fn scan<'py>(
        &self,
        py: Python<'py>,
        table: &str,
        prefix: &str,
        limit: Option<usize>,
        reverse: bool,
    ) -> PyResult<Vec<(String, Bound<'py, PyBytes>)>> {
        let scan = Scan {
            prefix,
            reverse,
            limit,
        };
        let rows = self.work(py, |store| store.scan(table, scan))?;
        Ok(rows
            .into_iter()
            .map(|(key, value)| (key, PyBytes::new(py, &value)))
            .collect())
    }

    fn set_state(&self, py: Python<'_>, state: &[u8]) -> PyResult<()> {
        self.work(py, |store| store.set_state(state))
    }

    fn state<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let state = self.work(py, store::RunStore::state)?;
        Ok(state.map(|state| PyBytes::new(py, &state)))
    }

    fn writer_alive(&self, py: Python<'_>) -> PyResult<bool> {
        self.work(py, store::RunStore::writer_alive)
    }
}

impl PyRunStore {
    fn wrap(
        py: Python<'_>,
        path: PathBuf,
        opened: store::Result<store::RunStore>,
    ) -> PyResult<Self> {
        match opened {
            Ok(store) => Ok(Self {
                store: Open::new(store),
                path,
            }),
            Err(error) => Err(raise(py, &error)),
        }
    }

    /// Works on the store without the GIL.
    fn work<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&store::RunStore) -> store::Result<T> + Send,
    ) -> PyResult<T> {
        self.store.work(py, &self.path, work)
    }
}

/// A store that several threads may work on, until one closes it.
pub struct Open<T>(RwLock<Option<T>>);

impl<T: Send + Sync> Open<T> {
    pub fn new(store: T) -> Self {
        Self(RwLock::new(Some(store)))
    }

    /// Lets go of the store, once those who work on it are done.
    pub fn close(&self, py: Python<'_>) {
        py.detach(|| {
            let store = self
                .0
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            drop(store);
        });
    }

    /// Works on the store without the GIL; one that was closed, of which `path` is the name, is an error.
    pub fn work<R: Send>(
        &self,
        py: Python<'_>,
        path: &Path,
        work: impl FnOnce(&T) -> store::Result<R> + Send,
    ) -> PyResult<R> {
        let done = py.detach(|| {
            let store = self.0.read().unwrap_or_else(PoisonError::into_inner);
            store.as_ref().map(work)
        });
        match done {
            Some(done) => done.map_err(|error| raise(py, &error)),
            None => Err(closed(py, path)),
        }
    }
}

/// The variable that says whether commits wait for the disk: `on`, as without it, or `off`.
const SYNC: &str = "MOEVOLVE_SYNC";

/// How to open a store; `UsageError` for a value that the variable cannot have.
pub fn options(py: Python<'_>, schema: u32, map_size: Option<usize>) -> PyResult<Options> {
    Ok(Options {
        map_size: map_size.unwrap_or(store::MAP_SIZE),
        sync: synced(py)?,
        ..Options::new(schema)
    })
}

/// Whether commits wait for the disk.
#[pyfunction]
pub fn synced(py: Python<'_>) -> PyResult<bool> {
    match std::env::var(SYNC).as_deref() {
        Err(std::env::VarError::NotPresent) | Ok("on" | "") => Ok(true),
        Ok("off") => Ok(false),
        _ => Err(named(
            py,
            "UsageError",
            format!("{SYNC} is `on` (commits wait for the disk) or `off`"),
        )),
    }
}

fn closed(py: Python<'_>, path: &Path) -> PyErr {
    named(
        py,
        "StoreError",
        format!("{} was closed: open it again", path.display()),
    )
}

/// Which exception of `moevolve.errors` an error of the store is.
pub fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let name = match error {
        Error::Absent { .. } | Error::Exists { .. } | Error::Name { .. } => "UsageError",
        Error::Busy { .. } => "StoreBusyError",
        Error::Schema { .. } => "SchemaError",
        Error::Full { .. } => "StorageFullError",
        _ => "StoreError",
    };
    named(py, name, error.to_string())
}

fn named(py: Python<'_>, name: &str, message: String) -> PyErr {
    let class = py
        .import("moevolve.errors")
        .and_then(|errors| errors.getattr(name));
    match class.and_then(|class| class.call1((message,))) {
        Ok(instance) => PyErr::from_value(instance),
        Err(failed) => failed,
    }
}

/// Adds this room's classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyRunStore>()?;
    module.add_function(wrap_pyfunction!(synced, module)?)
}
