//! Writers killed with SIGKILL at arbitrary moments: what was acknowledged is there, the chain holds, the lock is free.
//!
//! The writer is this test's own program, started again with a folder to write to; it says each commit on stdout only
//! after the store has acknowledged it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use moevolve_store::{Batch, GENESIS, NewEntry, Options, Put, RunStore, link};

const FOLDER: &str = "MOEVOLVE_STORE_TEST_FOLDER";

/// Entries, a row and a blob that belong together; a function of the first sequence number.
fn batch(seq: u64) -> Batch {
    let size = if seq.is_multiple_of(5) { 30_000 } else { 200 };
    let body = |i: u64| [(seq + i).to_le_bytes().as_slice(), &vec![seq as u8; size]].concat();
    Batch {
        entries: (0..3)
            .map(|i| NewEntry {
                body: body(i),
                timing: Vec::new(),
            })
            .collect(),
        puts: vec![Put {
            table: "last".to_owned(),
            key: "seq".to_owned(),
            value: Some((seq + 3).to_le_bytes().to_vec()),
        }],
        blobs: vec![seq.to_le_bytes().to_vec()],
    }
}

/// Not a test by itself: the writer that the tests below start and kill.
#[test]
fn writer() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    let store = RunStore::open(folder, true, Options::new(1))
        .or_else(|_| RunStore::create(folder, Options::new(1)))
        .expect("the run, nobody else writes it");
    loop {
        let seq = store.len().expect("a length");
        store.set_state(&seq.to_le_bytes()).expect("a state");
        let head = store.commit(&batch(seq)).expect("a commit");
        println!("\nack {} {head}", seq + 3);
    }
}

struct Writer {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(folder: &Path) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .args(["writer", "--exact", "--nocapture"])
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a writer");
        let stdout = child.stdout.take().expect("its output");
        Self {
            child,
            lines: BufReader::new(stdout).lines(),
        }
    }

    /// Reads until the writer has acknowledged `count` commits more.
    fn acknowledged(&mut self, count: usize, told: &mut Told) {
        let mut left = count;
        while left > 0 {
            let line = self
                .lines
                .next()
                .expect("the writer lives")
                .expect("its output");
            left -= usize::from(told.hear(&line));
        }
    }

    /// Kills it and reads what it had said.
    fn kill(mut self, told: &mut Told) {
        self.child.kill().expect("a process to kill");
        self.child.wait().expect("its end");
        for line in self.lines.map_while(Result::ok) {
            told.hear(&line);
        }
    }
}

/// What writers have acknowledged so far.
#[derive(Default)]
struct Told {
    length: u64,
    head: String,
}

impl Told {
    fn hear(&mut self, line: &str) -> bool {
        // The test harness shares the writer's stdout, and the last line may be cut by the kill.
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["ack", length, head] if head.len() == 64 => {
                self.length = length.parse().expect("a number");
                self.head = head.to_owned();
                true
            }
            _ => false,
        }
    }
}

fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Delays that cover the parts of a commit: from nothing to a few milliseconds.
fn delay(round: u64) -> Duration {
    let noise = u64::from_le_bytes(
        blake3::hash(&round.to_le_bytes()).as_bytes()[..8]
            .try_into()
            .expect("8 bytes"),
    );
    Duration::from_micros(noise % 6000)
}

#[test]
fn what_a_killed_writer_acknowledged_is_there_and_the_next_goes_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut told = Told::default();
    for round in 0..12 {
        let mut writer = Writer::start(folder.path());
        writer.acknowledged(1 + round as usize % 3, &mut told);
        spin(delay(round));
        writer.kill(&mut told);

        let store = RunStore::open(folder.path(), true, Options::new(1))
            .expect("a free lock and a sound file");
        let length = store.verify().expect("an unbroken chain");
        assert!(
            length >= told.length,
            "{length} entries, {} acknowledged",
            told.length
        );
        let last = store.entries(told.length - 1, 1).expect("entries");
        assert_eq!(last[0].hash.to_string(), told.head);
        // A batch is there whole or not at all.
        assert_eq!(length % 3, 0);
        let row = store.get("last", "seq").expect("a reading").expect("a row");
        assert_eq!(row, length.to_le_bytes());
        let blob = (length - 3).to_le_bytes();
        assert_eq!(
            store
                .blob(&blake3::hash(&blob).to_string())
                .expect("a blob"),
            blob
        );
        assert!(store.state().expect("a state").is_some());
    }
    let store = RunStore::open(folder.path(), false, Options::new(1)).expect("the run");
    let mut head = GENESIS;
    for entry in store.entries(0, usize::MAX).expect("entries") {
        let expected = &batch(entry.seq / 3 * 3).entries[entry.seq as usize % 3];
        assert_eq!(entry.body, expected.body);
        head = link(&head, entry.seq, &entry.body);
    }
    assert_eq!(store.head().expect("a head"), head);
}

#[test]
fn a_reader_follows_writers_that_come_and_die() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut told = Told::default();
    let mut writer = Writer::start(folder.path());
    writer.acknowledged(1, &mut told);
    let reader = RunStore::open(folder.path(), false, Options::new(1)).expect("a live run");
    let (mut seen, mut head) = (0, GENESIS);
    for round in 0..5 {
        for _ in 0..4 {
            assert!(reader.writer_alive().expect("an answer"));
            writer.acknowledged(1, &mut told);
            assert!(reader.len().expect("a length") >= told.length);
            for entry in reader.entries(seen, 1000).expect("entries") {
                head = link(&head, entry.seq, &entry.body);
                assert_eq!((entry.seq, entry.hash), (seen, head));
                seen += 1;
            }
            assert!(seen >= told.length);
        }
        spin(delay(round));
        writer.kill(&mut told);
        assert!(!reader.writer_alive().expect("an answer"));
        writer = Writer::start(folder.path());
        writer.acknowledged(1, &mut told);
    }
    writer.kill(&mut told);
    assert!(reader.verify().expect("an unbroken chain") >= seen);
}

#[test]
fn a_reader_that_is_killed_in_the_middle_leaves_the_writer_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = RunStore::create(folder.path(), Options::new(1)).expect("a run");
    store.commit(&batch(0)).expect("a commit");
    for _ in 0..3 {
        // A second writer is turned away, and reads until it dies: its reader slots are swept, not waited for.
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .args(["reader", "--exact", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a reader");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        assert!(
            lines
                .by_ref()
                .map_while(Result::ok)
                .any(|line| line == "reading")
        );
        for _ in 0..5 {
            let seq = store.len().expect("a length");
            store.commit(&batch(seq)).expect("a commit");
        }
        child.kill().expect("a process to kill");
        child.wait().expect("its end");
    }
    assert_eq!(store.verify().expect("an unbroken chain"), 48);
}

/// Not a test by itself: the reader that the test above starts and kills.
#[test]
fn reader() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    assert!(RunStore::open(folder, true, Options::new(1)).is_err());
    let store = RunStore::open(folder, false, Options::new(1)).expect("a live run");
    println!("\nreading");
    loop {
        assert!(!store.entries(0, usize::MAX).expect("entries").is_empty());
    }
}
