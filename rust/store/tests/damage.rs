//! Files that were cut or overwritten: an error that names the file, never a dead process or a wrong record.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use moevolve_store::{Batch, Error, NewEntry, Options, Put, RunStore, Scan};
use proptest::prelude::*;
use tempfile::{TempDir, tempdir};

const PAGE: usize = 4096;

/// A copy of a closed run, which is made once.
fn written() -> (TempDir, PathBuf) {
    static RUN: OnceLock<Vec<u8>> = OnceLock::new();
    let bytes = RUN.get_or_init(|| {
        {
            let (_folder, data) = make();
            fs::read(data)
        }
        .expect("the run's file")
    });
    let folder = tempdir().expect("a temporary folder");
    let journal = folder.path().join("journal");
    fs::create_dir(&journal).expect("a folder");
    fs::write(journal.join("data.mdb"), bytes).expect("a copy");
    (folder, journal.join("data.mdb"))
}

/// A closed run with short and long entries, rows and blobs, some deleted again.
fn make() -> (TempDir, PathBuf) {
    let folder = tempdir().expect("a temporary folder");
    let store = RunStore::create(folder.path(), Options::new(1)).expect("a new run");
    for round in 0..40usize {
        let body = vec![round as u8; if round % 7 == 0 { 20_000 } else { 150 }];
        store
            .commit(&Batch {
                entries: vec![
                    NewEntry {
                        body,
                        timing: vec![1; 10]
                    };
                    5
                ],
                puts: vec![
                    put(round, Some(vec![round as u8; 300])),
                    put(round / 2, None),
                ],
                blobs: vec![vec![round as u8; 9000]],
            })
            .expect("a commit");
    }
    let data = folder.path().join("journal/data.mdb");
    (folder, data)
}

fn put(key: usize, value: Option<Vec<u8>>) -> Put {
    Put {
        table: "t".to_owned(),
        key: key.to_string(),
        value,
    }
}

/// Reads all there is; Ok only if every byte was as written.
fn read_all(folder: &Path) -> Result<(), Error> {
    let store = RunStore::open(folder, false, Options::new(1))?;
    let length = store.verify()?;
    assert_eq!(store.entries(0, usize::MAX)?.len() as u64, length);
    if length == 195 {
        // A meta page was hit just so that the one before it counts: the last commit is gone, whole.
        return Ok(());
    }
    assert_eq!(length, 200);
    store.scan("t", Scan::default())?;
    for round in 0..40u8 {
        let data = vec![round; 9000];
        assert_eq!(store.blob(&blake3::hash(&data).to_string())?, data);
    }
    Ok(())
}

#[test]
fn a_sound_file_passes_every_check() {
    let (folder, _) = written();
    read_all(folder.path()).unwrap();
}

#[test]
fn a_file_cut_anywhere_is_refused_by_name() {
    let (folder, data) = written();
    let whole = fs::metadata(&data).unwrap().len();
    for tenth in (0..10).rev() {
        let file = OpenOptions::new().write(true).open(&data).unwrap();
        file.set_len(whole * tenth / 10 / 4096 * 4096 + 100)
            .unwrap();
        let error = read_all(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Torn { .. }), "{error}");
        assert!(error.to_string().contains("data.mdb"), "{error}");
    }
}

#[test]
fn a_file_cut_while_it_is_open_is_refused_by_name_and_read_again_once_it_is_back() {
    let (folder, data) = written();
    let bytes = fs::read(&data).unwrap();
    let store = RunStore::open(folder.path(), false, Options::new(1)).unwrap();
    for length in [bytes.len() - 4096, 8192, 100, 0] {
        let file = OpenOptions::new().write(true).open(&data).unwrap();
        file.set_len(length as u64).unwrap();
        for error in [
            store.entries(0, 10).unwrap_err(),
            store.len().unwrap_err(),
            store.scan("t", Scan::default()).unwrap_err(),
            store.verify().unwrap_err(),
        ] {
            assert!(matches!(error, Error::Torn { .. }), "{error}");
            assert!(error.to_string().contains("data.mdb"), "{error}");
        }
        file.write_all_at(&bytes, 0).unwrap();
        assert_eq!(store.len().unwrap(), 200);
    }
}

#[test]
fn a_lock_file_cut_while_it_is_open_is_refused_by_name_and_a_store_that_is_opened_again_reads_on() {
    let (folder, data) = written();
    let lock = data.with_file_name("lock.mdb");
    for length in [0, 100, 8192] {
        let store = RunStore::open(folder.path(), true, Options::new(1)).unwrap();
        assert_eq!(store.len().unwrap(), 200);
        let file = OpenOptions::new().write(true).open(&lock).unwrap();
        file.set_len(length).unwrap();
        for error in [
            store.len().unwrap_err(),
            store.put_blob(b"text").unwrap_err(),
            store.scan("t", Scan::default()).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Torn { .. }), "{error}");
            assert!(error.to_string().contains("lock.mdb"), "{error}");
        }
    }
    read_all(folder.path()).unwrap();
}

#[test]
fn a_foreign_file_is_refused_and_nothing_is_made_beside_it() {
    let folder = tempdir().unwrap();
    let journal = folder.path().join("journal");
    fs::create_dir(&journal).unwrap();
    fs::write(journal.join("data.mdb"), vec![0x55; 3 * PAGE]).unwrap();
    let error = read_all(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Torn { .. }), "{error}");
    assert_eq!(fs::read_dir(&journal).unwrap().count(), 1);
}

#[test]
fn a_changed_record_is_named_by_its_number() {
    let (folder, data) = written();
    // The 36th entry is the first of the round that writes 20,000 sevens: a value with pages of its own.
    let bytes = fs::read(&data).unwrap();
    let at = bytes
        .windows(15_000)
        .position(|part| part.iter().all(|&byte| byte == 7))
        .unwrap();
    let file = OpenOptions::new().write(true).open(&data).unwrap();
    file.write_all_at(&[8], at as u64 + 5000).unwrap();
    match read_all(folder.path()).unwrap_err() {
        Error::Broken { seq, .. } => assert!((35..40).contains(&seq), "{seq}"),
        error => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn overwritten_bytes_never_kill_the_reader(
        hits in prop::collection::vec((any::<u16>(), 0..PAGE, prop::collection::vec(any::<u8>(), 1..64)), 1..4),
    ) {
        let (folder, data) = written();
        let pages = fs::metadata(&data).unwrap().len() as usize / PAGE;
        let file = OpenOptions::new().write(true).open(&data).unwrap();
        for (page, at, bytes) in &hits {
            let place = *page as usize % pages * PAGE + at;
            file.write_all_at(bytes, place as u64).unwrap();
        }
        // Free pages may be hit, so success is possible; `read_all` asserts that it then read what was written.
        let _ = read_all(folder.path());
    }

    #[test]
    fn overwritten_page_heads_never_kill_the_reader(
        page in any::<u16>(), at in 0..160usize, bytes in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let (folder, data) = written();
        let pages = fs::metadata(&data).unwrap().len() as usize / PAGE;
        let file = OpenOptions::new().write(true).open(&data).unwrap();
        file.write_all_at(&bytes, (page as usize % pages * PAGE + at) as u64).unwrap();
        let _ = read_all(folder.path());
    }
}
