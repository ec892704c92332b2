//! Kernels compiled for the twin while a test runs: of a text, or of this crate's sources with a change.

#![allow(dead_code)] // Each test crate uses a part.

use std::ffi::{CString, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use moevolve_kernels_cuda::Device;
use moevolve_kernels_cuda::twin::{Calls, LaunchCall, Twin};
use tempfile::TempDir;

pub struct Library {
    calls: Calls,
    _folder: TempDir,
}

impl Library {
    /// The twin with the kernels of one source.
    pub fn of(name: &str, source: &str) -> Self {
        let folder = copy_of_sources();
        let path = folder.path().join(name);
        std::fs::write(&path, source).unwrap();
        Self::link(folder, &[path])
    }

    fn link(folder: TempDir, sources: &[PathBuf]) -> Self {
        let mut objects: Vec<PathBuf> = sources.iter().map(|source| compile(source)).collect();
        objects.push(compile(&folder.path().join("host/launch.cc")));
        Self::open(folder, &objects)
    }

    fn open(folder: TempDir, objects: &[PathBuf]) -> Self {
        let library = folder.path().join("twin.so");
        let mut link = Command::new(compiler());
        link.args(["-shared", "-Wl,-Bsymbolic", "-o"])
            .arg(&library)
            .args(objects);
        run(&mut link);
        let path = CString::new(library.to_str().unwrap()).unwrap();
        // SAFETY: the library's constructors register kernels, no more.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!handle.is_null());
        let symbol = |name: &str| {
            let name = CString::new(name).unwrap();
            // SAFETY: the handle is open, and stays so.
            let symbol = unsafe { libc::dlsym(handle, name.as_ptr()) };
            assert!(!symbol.is_null());
            symbol
        };
        // SAFETY: these are the functions' types in host/launch.cc.
        let calls = unsafe {
            Calls {
                allocate: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(usize) -> *mut c_void,
                >(symbol("twin_allocate")),
                free: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(*mut c_void, usize) -> bool,
                >(symbol("twin_free")),
                launch: std::mem::transmute::<*mut c_void, LaunchCall>(symbol("twin_launch")),
            }
        };
        Self {
            calls,
            _folder: folder,
        }
    }

    pub fn device(&self, seed: u64) -> Arc<dyn Device> {
        Twin::device_with(self.calls, seed)
    }
}

fn copy_of_sources() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels-cuda/cuda");
    std::fs::create_dir(folder.path().join("host")).unwrap();
    for part in ["", "host"] {
        for entry in std::fs::read_dir(from.join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path.file_name().unwrap();
                std::fs::copy(&path, folder.path().join(part).join(name)).unwrap();
            }
        }
    }
    folder
}

/// This crate's kernels, compiled once, of which one file at a time is changed.
pub struct Sources {
    folder: TempDir,
    /// Names, and objects without a change.
    objects: Vec<(&'static str, PathBuf)>,
    launch: PathBuf,
}

impl Sources {
    pub fn new(names: &[&'static str]) -> Self {
        let folder = copy_of_sources();
        let objects = names
            .iter()
            .map(|&name| (name, compile(&folder.path().join(name))))
            .collect();
        let launch = compile(&folder.path().join("host/launch.cc"));
        Self {
            folder,
            objects,
            launch,
        }
    }

    pub fn unchanged(&self) -> Library {
        self.library(|_| false)
    }

    /// With `from`, which occurs once, replaced by `to` in one file.
    pub fn changed(&self, file: &str, from: &str, to: &str) -> Library {
        let path = self.folder.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        let count = text.matches(from).count();
        assert_eq!(count, 1, "{file} has {count} of {from:?}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let library = self.library(|name| name == file || self.includes(name, file));
        std::fs::write(&path, text).unwrap();
        library
    }

    /// Whether a file includes another, at whatever depth.
    fn includes(&self, name: &str, header: &str) -> bool {
        // Headers of the host, whose names are relative to theirs, are never changed.
        let text = std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        let mut named = text
            .lines()
            .filter_map(|line| line.strip_prefix("#include \"")?.strip_suffix('"'));
        named.any(|name| name == header || self.includes(name, header))
    }

    fn library(&self, again: impl Fn(&str) -> bool) -> Library {
        let into = tempfile::tempdir().unwrap();
        let object = |(name, object): &(&'static str, PathBuf)| {
            if !again(name) {
                return object.clone();
            }
            let changed = into.path().join(name).with_extension("o");
            compile_to(&self.folder.path().join(name), &changed);
            changed
        };
        let mut objects: Vec<PathBuf> = self.objects.iter().map(object).collect();
        objects.push(self.launch.clone());
        Library::open(into, &objects)
    }
}

/// A driver's library over the twin with these kernels, and the folder that it lies in.
pub fn driver(names: &[&str]) -> (PathBuf, TempDir) {
    let folder = copy_of_sources();
    let sources = names
        .iter()
        .copied()
        .chain(["host/launch.cc", "host/driver.cc"]);
    let objects: Vec<PathBuf> = sources
        .map(|name| compile(&folder.path().join(name)))
        .collect();
    let library = folder.path().join("libcuda.so.1");
    let mut link = Command::new(compiler());
    link.args(["-shared", "-Wl,-Bsymbolic", "-o"])
        .arg(&library)
        .args(objects);
    run(&mut link);
    (library, folder)
}

fn compiler() -> String {
    std::env::var("CXX").unwrap_or("c++".to_owned())
}

fn run(command: &mut Command) {
    let run = command.output().expect("the C++ compiler runs");
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
}

/// The object beside a source.
fn compile(source: &Path) -> PathBuf {
    let object = source.with_extension("o");
    compile_to(source, &object);
    object
}

fn compile_to(source: &Path, object: &Path) {
    let include = source
        .ancestors()
        .find(|folder| folder.join("device.cuh").exists())
        .unwrap();
    let flags = [
        "-std=c++17",
        "-O1",
        "-fPIC",
        "-fno-strict-aliasing",
        "-w",
        "-fno-gnu-unique",
        "-x",
        "c++",
        "-c",
    ];
    run(Command::new(compiler())
        .args(flags)
        .arg("-I")
        .arg(include)
        .arg(source)
        .arg("-o")
        .arg(object));
}
