//! What supersedes what, once successors are forgotten, written again, or come from another memory.

use moevolve_memory::{Error, Lesson, MemoryStore, Options, Query, Standing};
use tempfile::{TempDir, tempdir};

fn fresh() -> (TempDir, MemoryStore) {
    let folder = tempdir().expect("a temporary folder");
    let memory = MemoryStore::ensure(folder.path(), Options::new(4)).expect("a new memory");
    (folder, memory)
}

fn lesson(id: &str, supersedes: Option<&str>) -> Lesson {
    Lesson {
        id: id.to_owned(),
        skill: "s".to_owned(),
        run: "r".to_owned(),
        supersedes: supersedes.map(str::to_owned),
        text: format!("the port is {id}"),
        body: id.as_bytes().to_vec(),
        ..Lesson::default()
    }
}

/// What a query returns, by id.
fn holding(memory: &MemoryStore) -> Vec<String> {
    let query = Query {
        text: Some("port"),
        k: 100,
        ..Query::default()
    };
    let found = memory.search(&query).expect("a search");
    let mut ids: Vec<_> = found.into_iter().map(|hit| hit.id).collect();
    ids.sort();
    memory.check().expect("indices that agree");
    ids
}

fn forget(memory: &MemoryStore, id: &str, forgotten: bool) {
    let standing = Standing {
        forgotten,
        ..Standing::default()
    };
    let changed = memory.set_standings(&[(id.to_owned(), standing)]);
    assert_eq!(changed.expect("a change"), 1);
}

fn refused(result: moevolve_memory::Result<()>, why: &str) {
    match result {
        Err(Error::Name { why: said, .. }) => assert!(said.contains(why), "{said}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lesson_that_holds_again_may_be_superseded_again() {
    let (_folder, memory) = fresh();
    memory.put(&[lesson("a", None)]).unwrap();
    memory.put(&[lesson("b", Some("a"))]).unwrap();
    refused(memory.put(&[lesson("c", Some("a"))]), "name that one");
    forget(&memory, "b", true);
    assert_eq!(holding(&memory), ["a"]);
    memory.put(&[lesson("c", Some("a"))]).unwrap();
    assert_eq!(holding(&memory), ["c"]);
    refused(memory.put(&[lesson("d", Some("a"))]), "name that one");
    refused(memory.put(&[lesson("d", Some("b"))]), "name that one");
    forget(&memory, "c", true);
    assert_eq!(holding(&memory), ["a"]);
    forget(&memory, "b", false);
    assert_eq!(holding(&memory), ["b"]);
    forget(&memory, "c", false);
    assert_eq!(
        holding(&memory),
        ["c"],
        "what came last comes last in the chain"
    );
}

#[test]
fn a_chain_over_purged_lessons_holds_as_well() {
    let (_folder, memory) = fresh();
    memory.put(&[lesson("a", None)]).unwrap();
    memory.put(&[lesson("b", Some("a"))]).unwrap();
    memory.put(&[lesson("c", Some("b"))]).unwrap();
    assert!(memory.purge("b").unwrap());
    refused(memory.put(&[lesson("d", Some("a"))]), "name that one");
    assert!(memory.purge("c").unwrap());
    memory.put(&[lesson("d", Some("a"))]).unwrap();
    assert_eq!(holding(&memory), ["d"]);
    memory.put(&[lesson("e", Some("d"))]).unwrap();
    assert_eq!(holding(&memory), ["e"]);
}

#[test]
fn no_circle_closes_over_what_was_forgotten() {
    let (_folder, memory) = fresh();
    refused(
        memory.put(&[lesson("a", Some("b")), lesson("b", Some("a"))]),
        "already",
    );
    memory.put(&[lesson("a", None)]).unwrap();
    memory.put(&[lesson("b", Some("a"))]).unwrap();
    forget(&memory, "b", true);
    refused(
        memory.put(&[lesson("c", Some("d")), lesson("d", Some("c"))]),
        "already",
    );
    refused(memory.put(&[lesson("c", Some("c"))]), "itself");
    assert_eq!(holding(&memory), ["a"]);
}

#[test]
fn a_lesson_that_is_written_again_keeps_its_place() {
    let (_folder, memory) = fresh();
    let chain = [
        lesson("a", None),
        lesson("b", Some("a")),
        lesson("c", Some("b")),
    ];
    memory.put(&chain).unwrap();
    memory.put(&chain[1..2]).unwrap();
    assert!(!holding(&memory).contains(&"a".to_owned()));
    memory.put(&chain).unwrap();
    assert_eq!(holding(&memory), ["c"]);
    memory.put(&chain[..1]).unwrap();
    assert_eq!(holding(&memory), ["c"], "the first supersedes nothing");
    memory.put(&chain[2..]).unwrap();
    assert_eq!(holding(&memory), ["c"]);
}

#[test]
fn another_memorys_lessons_stand_as_they_stood_there() {
    let (_folder, memory) = fresh();
    memory.put(&[lesson("a", None)]).unwrap();
    memory.put(&[lesson("b", Some("a"))]).unwrap();
    let stood = |trust, forgotten| Standing {
        trust,
        pinned: false,
        forgotten,
    };
    memory
        .adopt(&[
            (lesson("c", Some("a")), stood(0.75, false)),
            (lesson("d", Some("a")), stood(0.5, true)),
            (lesson("e", Some("nobody")), stood(0.25, false)),
        ])
        .unwrap();
    assert_eq!(
        holding(&memory),
        ["c", "e"],
        "c came after b, and d is forgotten"
    );
    assert_eq!(memory.standing("c").unwrap(), Some(stood(0.75, false)));
    assert_eq!(memory.standing("d").unwrap(), Some(stood(0.5, true)));
    let before = memory.count().unwrap();
    let bad = [
        (lesson("f", None), stood(0.5, false)),
        (lesson("g", None), stood(1.5, false)),
    ];
    refused(memory.adopt(&bad), "between 0 and 1");
    let circle = [
        (lesson("f", Some("g")), stood(0.5, false)),
        (lesson("g", Some("f")), stood(0.5, false)),
    ];
    refused(memory.adopt(&circle), "already");
    assert_eq!(memory.count().unwrap(), before, "all or nothing");
}

#[test]
fn forgotten_lessons_are_found_by_who_asks_for_them() {
    let (_folder, memory) = fresh();
    memory
        .put(&[lesson("a", None), lesson("b", None), lesson("c", None)])
        .unwrap();
    memory.put(&[lesson("d", Some("a"))]).unwrap();
    forget(&memory, "a", true);
    forget(&memory, "b", true);
    assert_eq!(holding(&memory), ["c", "d"]);
    let found = memory.search(&Query {
        text: Some("port"),
        forgotten: true,
        k: 9,
        ..Query::default()
    });
    let ids: Vec<_> = found.unwrap().into_iter().map(|hit| hit.id).collect();
    assert_eq!(ids, ["a", "b"]);
}

#[test]
fn a_skill_besides_brings_its_own_lessons_and_not_those_below_it() {
    let (_folder, memory) = fresh();
    let of = |id: &str, skill: &str| Lesson {
        skill: skill.to_owned(),
        ..lesson(id, None)
    };
    memory
        .put(&[
            of("a", "math/add"),
            of("b", "general"),
            of("c", "general/x"),
            of("d", "text"),
        ])
        .unwrap();
    let ask = |skill, k| {
        let query = Query {
            text: Some("port"),
            skill: Some(skill),
            besides: Some("general"),
            k,
            ..Query::default()
        };
        let found = memory.search(&query).unwrap();
        found.into_iter().map(|hit| hit.id).collect::<Vec<_>>()
    };
    assert_eq!(ask("math", 9), ["a", "b"]);
    assert_eq!(ask("nothing", 9), ["b"]);
    assert_eq!(ask("general", usize::MAX), ["b", "c"]);
}

#[test]
fn a_cycle_that_no_column_holds_is_refused() {
    let (_folder, memory) = fresh();
    let mut late = lesson("a", None);
    late.cycle = u64::from(u32::MAX);
    refused(memory.put(&[late.clone()]), "at most");
    late.cycle -= 1;
    memory.put(&[late]).unwrap();
    assert_eq!(holding(&memory), ["a"]);
}
