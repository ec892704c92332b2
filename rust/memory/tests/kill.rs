//! Writers killed with SIGKILL beside readers: every acknowledged lesson is there, all indices agree, what superseded
//! what is known, and the file is bounded.
//!
//! The writer is this test's own program, started again with a folder to write to; it says each commit on stdout only
//! after the store has acknowledged it. `MOEVOLVE_KILLS` asks for more rounds than the usual ones.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use moevolve_memory::{Lesson, MemoryStore, Options, Query};

const FOLDER: &str = "MOEVOLVE_MEMORY_TEST_FOLDER";

fn lesson(number: u64) -> Lesson {
    let vector = (0..48)
        .map(|i| ((number * 31 + i * 17) % 97) as f32 - 48.5)
        .collect();
    Lesson {
        id: format!("{number:08}"),
        skill: format!("skill/{}", number % 7),
        run: "r".to_owned(),
        source: "writer".to_owned(),
        cycle: number,
        // Every second one replaces its neighbour in what it says.
        supersedes: (number % 2 == 1).then(|| format!("{:08}", number - 1)),
        text: format!(
            "lesson number{number} with words {} and {}",
            number % 13,
            number % 29
        ),
        vector: Some(vector),
        body: number.to_le_bytes().to_vec(),
        ..Lesson::default()
    }
}

/// Not a test by itself: the writer that the test below starts and kills.
#[test]
fn writer() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let memory = MemoryStore::ensure(folder.as_ref(), Options::new(4)).expect("the memory");
    loop {
        let next = memory.count().expect("a count");
        let size = 2 * (1 + next % 9);
        let batch: Vec<Lesson> = (next..next + size).map(lesson).collect();
        memory.put(&batch).expect("a commit");
        println!("\nack {}", next + size);
    }
}

#[test]
fn no_acknowledged_lesson_is_lost_and_indices_agree() {
    let rounds: u64 = std::env::var("MOEVOLVE_KILLS")
        .map_or(10, |kills| kills.parse().expect("a number of kills"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    drop(MemoryStore::ensure(folder.path(), Options::new(4)).expect("a memory"));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..8u64 {
            let (path, stop) = (folder.path(), &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let memory = MemoryStore::open(path, Options::new(4))
                        .expect("a sound memory")
                        .expect("a memory");
                    let count = memory.count().expect("a count");
                    if count > 0 {
                        let wanted = lesson(reader.wrapping_mul(7919) % count);
                        let query = Query {
                            text: Some(&wanted.text),
                            vector: wanted.vector.as_deref(),
                            k: 5,
                            ..Query::default()
                        };
                        assert!(!memory.search(&query).expect("a search").is_empty());
                    }
                }
            });
        }
        let mut told = 0;
        for round in 0..rounds {
            let mut child = Command::new(std::env::current_exe().expect("this program"))
                .args(["writer", "--exact", "--nocapture", "--test-threads=1"])
                .env(FOLDER, folder.path())
                .stdout(Stdio::piped())
                .spawn()
                .expect("a writer");
            let lines = BufReader::new(child.stdout.take().expect("its words")).lines();
            let wanted = 1 + round % 4;
            let mut acknowledged = 0;
            for line in lines {
                let line = line.expect("a line");
                let Some(count) = line.strip_prefix("ack ") else {
                    continue;
                };
                told = count.parse().expect("a count");
                acknowledged += 1;
                if acknowledged == wanted {
                    child.kill().expect("a kill");
                }
            }
            child.wait().expect("an end");
            let memory = MemoryStore::open(folder.path(), Options::new(4))
                .expect("a sound memory")
                .expect("a memory");
            let count = memory.check().expect("indices that agree");
            assert!(count >= told, "{count} lessons, {told} acknowledged");
            assert_eq!(count % 2, 0, "a batch is there whole or not at all");
        }
        stop.store(true, Ordering::Relaxed);
    });
    bounded(folder.path());
}

/// The file is no larger than a few times one that was written once, without kills and readers.
fn bounded(folder: &std::path::Path) {
    let size = |folder: &std::path::Path| {
        let file = std::fs::metadata(folder.join("data.mdb")).expect("the file");
        file.len()
    };
    let killed = MemoryStore::open(folder, Options::new(4))
        .expect("a sound memory")
        .expect("a memory");
    let count = killed.count().expect("a count");
    let once = tempfile::tempdir().expect("a temporary folder");
    let fresh = MemoryStore::ensure(once.path(), Options::new(4)).expect("a memory");
    let lessons: Vec<Lesson> = (0..count).map(lesson).collect();
    for batch in lessons.chunks(16) {
        fresh.put(batch).expect("a commit");
    }
    let (size, least) = (size(folder), size(once.path()));
    println!("{count} lessons: {size} bytes, {least} where nothing was killed");
    assert!(
        size <= 4 * least,
        "{count} lessons take {size} bytes, and {least} where nothing was killed"
    );
}
