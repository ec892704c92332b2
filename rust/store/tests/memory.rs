//! What memory promises: lessons by skill, run and words, in an order that does not depend on when they were written.

use std::collections::BTreeMap;

use moevolve_store::{Error, Lesson, MemoryStore, Options, RunStore, Scope};
use proptest::prelude::*;
use tempfile::{TempDir, tempdir};

fn options() -> Options {
    Options::new(1)
}

fn fresh() -> (TempDir, MemoryStore) {
    let folder = tempdir().expect("a temporary folder");
    let memory = MemoryStore::ensure(folder.path(), options()).expect("a new memory");
    (folder, memory)
}

fn lesson(id: &str, skill: &str, run: &str, cycle: u64, text: &str) -> Lesson {
    Lesson {
        id: id.to_owned(),
        skill: skill.to_owned(),
        run: run.to_owned(),
        cycle,
        text: text.to_owned(),
        body: id.as_bytes().to_vec(),
    }
}

fn ids(bodies: moevolve_store::Result<Vec<Vec<u8>>>) -> Vec<String> {
    bodies
        .expect("a reading")
        .into_iter()
        .map(|body| String::from_utf8(body).expect("an id"))
        .collect()
}

#[test]
fn most_shared_words_come_first_then_the_shorter_then_the_smaller_id() {
    let (_folder, memory) = fresh();
    memory
        .put(&[
            lesson("b", "s", "r", 1, "Carry the digits, carry them all"),
            lesson("a", "s", "r", 1, "carry digits"),
            lesson("c", "t", "r", 1, "carry"),
            lesson("d", "s", "r", 1, "unrelated words"),
            lesson("e", "s", "q", 1, "CARRY"),
        ])
        .unwrap();
    let everywhere = Scope::default();
    assert_eq!(
        ids(memory.search("digits: carry!", everywhere, 10)),
        ["a", "b", "c", "e"]
    );
    assert_eq!(
        ids(memory.search("digits: carry!", everywhere, 2)),
        ["a", "b"]
    );
    let skill = Scope {
        skill: Some("s"),
        run: None,
    };
    assert_eq!(ids(memory.search("carry", skill, 10)), ["e", "a", "b"]);
    let run = Scope {
        skill: None,
        run: Some("q"),
    };
    assert_eq!(ids(memory.search("carry", run, 1)), ["e"]);
    assert!(ids(memory.search("", everywhere, 10)).is_empty());
    assert!(
        ids(memory.search("car", everywhere, 10)).is_empty(),
        "words are whole"
    );
}

#[test]
fn a_skills_lessons_come_by_run_with_the_newest_cycle_first() {
    let (_folder, memory) = fresh();
    memory
        .put(&[
            lesson("1", "s/x", "a", 2, ""),
            lesson("2", "s/x", "a", 300, ""),
            lesson("3", "s/x", "b", 1, ""),
            lesson("4", "s/xy", "a", 1, ""),
        ])
        .unwrap();
    assert_eq!(ids(memory.by_skill("s/x", None, 10)), ["3", "2", "1"]);
    assert_eq!(ids(memory.by_skill("s/x", Some("a"), 1)), ["2"]);
    assert!(ids(memory.by_skill("s", None, 10)).is_empty());
}

#[test]
fn a_known_id_is_replaced_and_a_forgotten_one_gone_from_every_index() {
    let (_folder, memory) = fresh();
    memory
        .put(&[lesson("a", "s", "r", 1, "old words")])
        .unwrap();
    memory
        .put(&[lesson("a", "t", "r", 2, "new words")])
        .unwrap();
    assert_eq!(memory.count().unwrap(), 1);
    assert!(ids(memory.by_skill("s", None, 10)).is_empty());
    assert!(ids(memory.search("old", Scope::default(), 10)).is_empty());
    assert_eq!(ids(memory.search("new", Scope::default(), 10)), ["a"]);
    assert!(memory.forget("a").unwrap());
    assert!(!memory.forget("a").unwrap());
    assert!(ids(memory.search("words", Scope::default(), 10)).is_empty());
    assert!(ids(memory.by_skill("t", None, 10)).is_empty());
}

#[test]
fn a_memory_that_is_not_there_is_none_and_is_not_made() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("memory");
    assert!(MemoryStore::open(&path, options()).unwrap().is_none());
    assert!(!path.exists());
}

#[test]
fn a_run_is_no_memory() {
    let folder = tempdir().unwrap();
    drop(RunStore::create(folder.path(), options()).unwrap());
    let error = match MemoryStore::open(&folder.path().join("journal"), options()) {
        Err(error) => error,
        Ok(_) => panic!("a run was opened as a memory"),
    };
    assert!(matches!(error, Error::Alien { .. }), "{error}");
}

#[test]
fn names_that_do_not_fit_a_key_are_refused() {
    let (_folder, memory) = fresh();
    for bad in ["", "a\0b", &"x".repeat(200)] {
        assert!(matches!(
            memory.put(&[lesson(bad, "s", "r", 1, "")]),
            Err(Error::Name { .. })
        ));
    }
    assert_eq!(memory.count().unwrap(), 0);
}

#[test]
fn long_words_and_many_lessons_fit() {
    let (_folder, memory) = fresh();
    let long = "ä".repeat(4000);
    let many: Vec<_> = (0..500)
        .map(|i| {
            lesson(
                &format!("{i:04}"),
                "s",
                "r",
                i,
                &format!("{long} number{i}"),
            )
        })
        .collect();
    memory.put(&many).unwrap();
    assert_eq!(
        ids(memory.search("number77", Scope::default(), 5)),
        ["0077"]
    );
    assert_eq!(
        ids(memory.search(&long, Scope::default(), 2)),
        ["0000", "0001"]
    );
    assert_eq!(ids(memory.all(None, 3)), ["0000", "0001", "0002"]);
    assert_eq!(ids(memory.all(Some("0497"), 9)), ["0498", "0499"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn search_ranks_as_a_scan_would_whatever_the_order_of_writing(
        texts in prop::collection::btree_map("[a-f]{1,2}", "[ab]{1}( [abcd]{1,2}){0,5}", 0..20),
        query in "[abcd]{1,2}( [abcd]{1,2}){0,3}",
        seed in any::<u64>(),
    ) {
        use std::collections::BTreeSet;
        let words = |text: &str| -> BTreeSet<String> { text.split(' ').map(str::to_owned).collect() };
        let wanted = words(&query);
        let mut ranked: Vec<_> = texts
            .iter()
            .map(|(id, text)| (wanted.intersection(&words(text)).count(), words(text).len(), id.clone()))
            .filter(|(shared, _, _)| *shared > 0)
            .collect();
        ranked.sort_by_key(|(shared, length, id)| (usize::MAX - shared, *length, id.clone()));

        let (_folder, memory) = fresh();
        let mut order: Vec<_> = texts.iter().collect();
        order.sort_by_key(|(id, _)| blake3::hash(format!("{seed}{id}").as_bytes()).to_string());
        for (id, text) in order {
            memory.put(&[lesson(id, "s", "r", 1, text)]).unwrap();
        }
        let expected: Vec<_> = ranked.into_iter().map(|(_, _, id)| id).collect();
        prop_assert_eq!(ids(memory.search(&query, Scope::default(), 100)), expected);
        let all: BTreeMap<_, _> = texts;
        prop_assert_eq!(ids(memory.all(None, 100)), all.into_keys().collect::<Vec<_>>());
    }
}
