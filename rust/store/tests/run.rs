//! What a run's store promises: order, chain, atomic batches, one writer, any number of readers.
//!
//! One file above 400 lines: every promise is held against the same small vocabulary of batches.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use moevolve_store::{Batch, Error, GENESIS, NewEntry, Options, Put, RunStore, Scan, link};
use proptest::prelude::*;
use tempfile::{TempDir, tempdir};

fn options() -> Options {
    Options::new(1)
}

fn fresh() -> (TempDir, RunStore) {
    let folder = tempdir().expect("a temporary folder");
    let store = RunStore::create(folder.path(), options()).expect("a new run");
    (folder, store)
}

fn entry(body: &[u8]) -> NewEntry {
    NewEntry {
        body: body.to_vec(),
        timing: b"clock".to_vec(),
    }
}

fn entries(bodies: &[&[u8]]) -> Batch {
    Batch {
        entries: bodies.iter().map(|body| entry(body)).collect(),
        ..Batch::default()
    }
}

fn put(table: &str, key: &str, value: Option<&[u8]>) -> Put {
    Put {
        table: table.to_owned(),
        key: key.to_owned(),
        value: value.map(<[u8]>::to_vec),
    }
}

fn refused<T>(result: moevolve_store::Result<T>) -> Error {
    match result {
        Ok(_) => panic!("it should have been refused"),
        Err(error) => error,
    }
}

#[test]
fn an_empty_run_has_the_genesis_head() {
    let (_folder, store) = fresh();
    assert_eq!(store.head().unwrap(), GENESIS);
    assert!(store.is_empty().unwrap());
    assert_eq!(store.verify().unwrap(), 0);
    assert!(store.entries(0, 10).unwrap().is_empty());
}

#[test]
fn the_head_is_the_chain_over_all_bodies_and_ignores_timings() {
    let (_folder, store) = fresh();
    store.commit(&entries(&[b"one", b"two"])).unwrap();
    let head = store.commit(&entries(&[b"three"])).unwrap();
    let expected = [b"one".as_slice(), b"two", b"three"]
        .iter()
        .zip(0..)
        .fold(GENESIS, |head, (body, seq)| link(&head, seq, body));
    assert_eq!(head, expected);
    assert_eq!(store.head().unwrap(), expected);

    let (_other, again) = fresh();
    let mut batch = entries(&[b"one", b"two", b"three"]);
    for entry in &mut batch.entries {
        entry.timing = b"another clock".to_vec();
    }
    assert_eq!(again.commit(&batch).unwrap(), expected);
}

#[test]
fn entries_come_back_in_order_and_from_anywhere() {
    let (_folder, store) = fresh();
    let bodies: Vec<Vec<u8>> = (0..300u32).map(|i| i.to_le_bytes().to_vec()).collect();
    let views: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
    store.commit(&entries(&views)).unwrap();
    let found = store.entries(250, 20).unwrap();
    assert_eq!(found.len(), 20);
    assert_eq!((found[0].seq, &found[0].body), (250, &bodies[250]));
    assert_eq!(found[0].timing, b"clock");
    assert!(store.entries(300, 1).unwrap().is_empty());
    assert_eq!(store.len().unwrap(), 300);
}

#[test]
fn a_long_chain_is_verified_in_strides() {
    let (_folder, store) = fresh();
    let bodies: Vec<Vec<u8>> = (0..10_000u32).map(|i| i.to_le_bytes().to_vec()).collect();
    let views: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
    store.commit(&entries(&views)).unwrap();
    assert_eq!(store.verify().unwrap(), 10_000);
}

#[test]
fn a_batch_is_refused_whole() {
    let (_folder, store) = fresh();
    let mut batch = entries(&[b"never"]);
    batch.blobs.push(b"nor this".to_vec());
    batch.puts.push(put("table", "good", Some(b"1")));
    batch.puts.push(put("table", &"k".repeat(600), Some(b"2")));
    assert!(matches!(refused(store.commit(&batch)), Error::Name { .. }));
    assert!(store.is_empty().unwrap());
    assert_eq!(store.get("table", "good").unwrap(), None);
    let hash = blake3::hash(b"nor this").to_string();
    assert!(matches!(refused(store.blob(&hash)), Error::NoBlob { .. }));
}

#[test]
fn tables_are_apart_and_their_rows_sorted() {
    let (_folder, store) = fresh();
    let puts = vec![
        put("a", "2", Some(b"two")),
        put("a", "1", Some(b"one")),
        put("a", "10", Some(b"ten")),
        put("ab", "1", Some(b"other")),
        put("a", "é", Some(b"accent")),
    ];
    store
        .commit(&Batch {
            puts,
            ..Batch::default()
        })
        .unwrap();
    let keys = |scan: Scan<'_>| -> Vec<String> {
        let rows = store.scan("a", scan).unwrap();
        rows.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys(Scan::default()), ["1", "10", "2", "é"]);
    assert_eq!(
        keys(Scan {
            prefix: "1",
            ..Scan::default()
        }),
        ["1", "10"]
    );
    let last = Scan {
        reverse: true,
        limit: Some(2),
        ..Scan::default()
    };
    assert_eq!(keys(last), ["é", "2"]);
    store
        .commit(&Batch {
            puts: vec![put("a", "1", None), put("a", "none", None)],
            ..Batch::default()
        })
        .unwrap();
    assert_eq!(store.get("a", "1").unwrap(), None);
    assert_eq!(store.get("ab", "1").unwrap().unwrap(), b"other");
}

#[test]
fn a_blob_is_named_by_its_hash_and_stored_once() {
    let (folder, store) = fresh();
    let data = vec![7u8; 300_000];
    let hash = store.put_blob(&data).unwrap();
    assert_eq!(hash, blake3::hash(&data));
    let size = || {
        folder
            .path()
            .join("journal/data.mdb")
            .metadata()
            .unwrap()
            .len()
    };
    let before = size();
    for _ in 0..5 {
        store.put_blob(&data).unwrap();
    }
    assert!(size() < before + 100_000);
    assert_eq!(store.blob(&hash.to_string()).unwrap(), data);
    assert!(matches!(
        refused(store.blob("nonsense")),
        Error::Name { .. }
    ));
}

#[test]
fn a_second_writer_is_told_who_writes() {
    let (folder, store) = fresh();
    let Error::Busy { pid, .. } = refused(RunStore::open(folder.path(), true, options())) else {
        panic!("not busy");
    };
    assert_eq!(pid, Some(std::process::id()));
    assert!(store.writer_alive().unwrap());
    let reader = RunStore::open(folder.path(), false, options()).unwrap();
    assert!(reader.writer_alive().unwrap());
    drop(store);
    assert!(!reader.writer_alive().unwrap());
    let writer = RunStore::open(folder.path(), true, options()).unwrap();
    writer.commit(&entries(&[b"again"])).unwrap();
    assert_eq!(reader.len().unwrap(), 1);
}

#[test]
fn a_readers_question_never_turns_a_writer_away() {
    let (folder, store) = fresh();
    drop(store);
    let reader = RunStore::open(folder.path(), false, options()).unwrap();
    let written = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !written.load(Ordering::Relaxed) {
                reader.writer_alive().unwrap();
            }
        });
        let turns = (0..200).map(|_| RunStore::open(folder.path(), true, options()).map(drop));
        let turned_away = turns.filter(Result::is_err).count();
        written.store(true, Ordering::Relaxed);
        assert_eq!(turned_away, 0, "nobody else writes");
    });
}

#[test]
fn a_reader_may_not_write() {
    let (folder, store) = fresh();
    let reader = RunStore::open(folder.path(), false, options()).unwrap();
    assert!(matches!(
        refused(reader.commit(&entries(&[b"x"]))),
        Error::ReadOnly { .. }
    ));
    assert!(matches!(
        refused(reader.put_blob(b"x")),
        Error::ReadOnly { .. }
    ));
    assert!(matches!(
        refused(reader.set_state(b"x")),
        Error::ReadOnly { .. }
    ));
    drop(store);
}

#[test]
fn the_newest_state_is_read_and_a_long_one_refused() {
    let (folder, store) = fresh();
    assert_eq!(store.state().unwrap(), None);
    for i in 0..100u32 {
        store.set_state(format!("state {i}").as_bytes()).unwrap();
    }
    assert_eq!(store.state().unwrap().unwrap(), b"state 99");
    assert!(matches!(
        refused(store.set_state(&[0; 9000])),
        Error::Name { .. }
    ));
    drop(store);
    let writer = RunStore::open(folder.path(), true, options()).unwrap();
    assert_eq!(writer.state().unwrap().unwrap(), b"state 99");
    writer.set_state(b"state 100").unwrap();
    assert_eq!(writer.state().unwrap().unwrap(), b"state 100");
}

#[test]
fn a_half_written_state_leaves_the_one_before() {
    let (folder, store) = fresh();
    store.set_state(b"first").unwrap();
    store.set_state(b"second").unwrap();
    let path = folder.path().join("journal/state");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(6).position(|part| part == b"second").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(store.state().unwrap().unwrap(), b"first");
}

#[test]
fn what_is_no_run_is_refused_and_left_alone() {
    let folder = tempdir().unwrap();
    let open = |path: &Path| refused(RunStore::open(path, true, options()));
    assert!(matches!(open(folder.path()), Error::Absent { .. }));
    assert!(matches!(
        open(&folder.path().join("nowhere")),
        Error::Absent { .. }
    ));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let (run, _store) = fresh();
    assert!(matches!(
        refused(RunStore::create(run.path(), options())),
        Error::Busy { .. }
    ));
    drop(_store);
    assert!(matches!(
        refused(RunStore::create(run.path(), options())),
        Error::Exists { .. }
    ));
}

#[test]
fn a_run_that_was_never_finished_making_can_be_made_again() {
    let folder = tempdir().unwrap();
    std::fs::create_dir(folder.path().join("journal")).unwrap();
    std::fs::write(folder.path().join("journal/data.mdb"), b"").unwrap();
    assert!(matches!(
        refused(RunStore::open(folder.path(), false, options())),
        Error::Absent { .. }
    ));
    assert!(RunStore::create(folder.path(), options()).is_ok());
}

#[test]
fn a_folder_that_was_replaced_is_not_taken_for_the_one_before() {
    let (folder, store) = fresh();
    store.commit(&entries(&[b"old"])).unwrap();
    std::fs::remove_dir_all(folder.path().join("journal")).unwrap();
    std::fs::create_dir(folder.path().join("journal")).unwrap();
    let create = || RunStore::create(folder.path(), options());
    assert!(matches!(refused(create()), Error::Replaced { .. }));
    drop(store);
    assert!(create().unwrap().is_empty().unwrap());
}

#[test]
fn a_newer_schema_names_both_versions_and_the_way_out() {
    let folder = tempdir().unwrap();
    drop(RunStore::create(folder.path(), Options::new(7)).unwrap());
    let error = refused(RunStore::open(folder.path(), true, Options::new(3)));
    let text = error.to_string();
    assert!(matches!(
        error,
        Error::Schema {
            found: 7,
            supported: 3,
            ..
        }
    ));
    for part in [
        "7",
        "3",
        "newer Moevolve",
        &folder.path().display().to_string(),
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(RunStore::open(folder.path(), true, Options::new(7)).is_ok());
}

#[test]
fn a_store_that_does_not_wait_for_the_disk_reads_as_any_other() {
    let folder = tempdir().unwrap();
    let unsynced = Options {
        sync: false,
        ..options()
    };
    let store = RunStore::create(folder.path(), unsynced).unwrap();
    for _ in 0..50 {
        store.commit(&entries(&[b"one", b"two"])).unwrap();
    }
    drop(store);
    let again = RunStore::open(folder.path(), true, options()).unwrap();
    assert_eq!(again.verify().unwrap(), 100);
    again.commit(&entries(&[b"three"])).unwrap();
    assert_eq!(again.verify().unwrap(), 101);
}

#[test]
fn a_full_map_says_so_and_keeps_what_was_committed() {
    let folder = tempdir().unwrap();
    let small = Options {
        map_size: 1 << 20,
        ..options()
    };
    let store = RunStore::create(folder.path(), small).unwrap();
    let mut acknowledged = 0;
    let error = loop {
        match store.commit(&entries(&[&[1; 20_000]])) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full { .. }));
    assert!(error.to_string().contains("larger map size"), "{error}");
    assert!(acknowledged > 10);
    assert_eq!(store.verify().unwrap(), acknowledged);
    store.set_state(b"full").unwrap();
    drop(store);
    let store = RunStore::open(folder.path(), true, options()).unwrap();
    assert_eq!(store.verify().unwrap(), acknowledged);
    store.commit(&entries(&[&[1; 20_000]])).unwrap();
    assert_eq!(store.verify().unwrap(), acknowledged + 1);
}

#[test]
fn many_readers_of_one_process_share_the_map() {
    let (folder, store) = fresh();
    store.commit(&entries(&[b"x"])).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let reader = RunStore::open(folder.path(), false, options()).unwrap();
                    // The file grows meanwhile, and no reader takes what another one saw for a cut.
                    for _ in 0..50 {
                        assert!(reader.len().unwrap() > 0);
                    }
                }
            });
        }
        for _ in 0..200 {
            store.commit(&entries(&[&[1; 20_000]])).unwrap();
        }
    });
}

/// What a property test does to a run.
#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Vec<u8>>),
    Put(u8, Vec<u8>),
    Delete(u8),
    Blob(Vec<u8>),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..6000);
    prop_oneof![
        prop::collection::vec(bytes(), 0..5).prop_map(Step::Append),
        (any::<u8>(), bytes()).prop_map(|(key, value)| Step::Put(key, value)),
        any::<u8>().prop_map(Step::Delete),
        bytes().prop_map(Step::Blob),
        Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_run_is_what_was_written(steps in prop::collection::vec(step(), 1..25)) {
        let (folder, store) = fresh();
        let mut store = Some(store);
        let mut bodies: Vec<Vec<u8>> = Vec::new();
        let mut table: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut blobs: Vec<Vec<u8>> = Vec::new();
        for step in steps {
            let run = store.as_ref().expect("open");
            let mut batch = Batch::default();
            match step {
                Step::Append(fresh) => {
                    batch.entries = fresh.iter().map(|body| entry(body)).collect();
                    bodies.extend(fresh);
                }
                Step::Put(key, value) => {
                    batch.puts.push(put("t", &key.to_string(), Some(&value)));
                    table.insert(key.to_string(), value);
                }
                Step::Delete(key) => {
                    batch.puts.push(put("t", &key.to_string(), None));
                    table.remove(&key.to_string());
                }
                Step::Blob(data) => {
                    batch.blobs.push(data.clone());
                    blobs.push(data);
                }
                Step::Reopen => {
                    drop(store.take());
                    store = Some(RunStore::open(folder.path(), true, options()).unwrap());
                    continue;
                }
            }
            run.commit(&batch).unwrap();
        }
        let run = store.as_ref().expect("open");
        prop_assert_eq!(run.verify().unwrap(), bodies.len() as u64);
        let found: Vec<_> = run.entries(0, usize::MAX).unwrap().into_iter().map(|e| e.body).collect();
        prop_assert_eq!(&found, &bodies);
        let head = bodies.iter().zip(0..).fold(GENESIS, |head, (body, seq)| link(&head, seq, body));
        prop_assert_eq!(run.head().unwrap(), head);
        let rows: BTreeMap<_, _> = run.scan("t", Scan::default()).unwrap().into_iter().collect();
        prop_assert_eq!(rows, table);
        for data in blobs {
            prop_assert_eq!(run.blob(&blake3::hash(&data).to_string()).unwrap(), data);
        }
    }
}
