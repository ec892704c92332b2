use crate::query::Query;
use moevolve_store::{Error, Options};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::lesson::{Kind, Lesson};
use crate::segments::APART;
use crate::{block, codes, segments, vectors};

/// A memory whose lesson `new` supersedes `old`, both with vectors, beside one that was purged.
fn memory() -> (TempDir, MemoryStore) {
    let folder = tempdir().unwrap();
    let memory = MemoryStore::ensure(folder.path(), Options::new(4)).unwrap();
    let lesson = |id: &str, at: u32| Lesson {
        id: id.to_owned(),
        skill: format!("skill/{id}"),
        run: "r".to_owned(),
        source: "writer".to_owned(),
        text: format!("words of {id}"),
        cycle: u64::from(at),
        vector: Some((0..40).map(|i| ((i * 7 + at) % 11) as f32 - 5.2).collect()),
        ..Lesson::default()
    };
    let mut new = lesson("new", 2);
    (new.supersedes, new.until) = (Some("old".to_owned()), Some(9));
    memory
        .put(&[lesson("old", 1), new, lesson("gone", 3)])
        .unwrap();
    assert!(memory.purge("gone").unwrap());
    assert_eq!(memory.check().unwrap(), 2);
    (folder, memory)
}

/// The database that `check` names after a change that no call makes.
fn told(change: impl FnOnce(&MemoryStore, &mut heed::RwTxn<'_>) -> Work<()>) -> String {
    let (_folder, memory) = memory();
    memory.write(|txn, _| change(&memory, txn)).unwrap();
    match memory.check() {
        Err(Error::Torn { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

fn changed(row: u32, change: impl FnOnce(&mut Row)) -> String {
    told(|memory, txn| {
        let mut columns = memory.columns.get(txn, row)?;
        change(&mut columns);
        Ok(memory.columns.put(txn, &[(row, columns)])?)
    })
}

/// The database that a query names after a change that no call makes.
fn searched(change: impl FnOnce(&MemoryStore, &mut heed::RwTxn<'_>) -> Work<()>) -> String {
    let (_folder, memory) = memory();
    memory.write(|txn, _| change(&memory, txn)).unwrap();
    let vector = [1.0; 40];
    match memory.search(&Query {
        text: Some("words of new"),
        vector: Some(&vector),
        k: 3,
        ..Query::default()
    }) {
        Err(Error::Torn { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_query_names_the_database_whose_block_is_torn() {
    let cut = |database: heed::Database<heed::types::Bytes, heed::types::Bytes>,
               txn: &mut heed::RwTxn<'_>| {
        let (key, value) = database
            .first(txn)?
            .map(|(k, v)| (k.to_vec(), v.to_vec()))
            .unwrap();
        Ok(database.put(txn, &key, &value[..value.len() - 1])?)
    };
    assert!(searched(|memory, txn| cut(memory.vectors.vectors, txn)).contains("database vectors"));
    assert!(searched(|memory, txn| cut(memory.postings.blocks, txn)).contains("database postings"));
}

#[test]
fn a_batch_that_was_lost_or_cut_is_found() {
    let folder = tempdir().unwrap();
    let memory = MemoryStore::ensure(folder.path(), Options::new(3)).unwrap();
    let batches = |memory: &MemoryStore| {
        let count = memory.read(|txn, _| Ok(memory.postings.apart(txn)?.unwrap().len()));
        count.unwrap()
    };
    let lesson = |id: u32| Lesson {
        id: format!("lesson {id}"),
        skill: "s".to_owned(),
        run: "r".to_owned(),
        text: format!("number {id}"),
        ..Lesson::default()
    };
    memory.put(&[lesson(1)]).unwrap();
    assert_eq!(
        batches(&memory),
        0,
        "a memory of an earlier schema has none"
    );
    let folder = tempdir().unwrap();
    let memory = MemoryStore::ensure(folder.path(), Options::new(4)).unwrap();
    for id in 0..APART as u32 + 3 {
        assert_eq!(batches(&memory), id as usize % APART);
        memory.put(&[lesson(id)]).unwrap();
    }
    assert_eq!(memory.check().unwrap(), APART as u64 + 3);
    let key = segments::key(APART as u32 + 1);
    let held = memory.read(|txn, _| Ok(memory.postings.blocks.get(txn, &key)?.unwrap().to_vec()));
    let held = held.unwrap();
    for torn in [&held[..held.len() - 1], &[][..]] {
        let change = memory.write(|txn, _| match torn {
            [] => Ok(memory.postings.blocks.delete(txn, &key).map(drop)?),
            torn => Ok(memory.postings.blocks.put(txn, &key, torn)?),
        });
        change.unwrap();
        match memory.check() {
            Err(Error::Torn { why, .. }) => assert!(why.contains("postings"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_memory_of_an_earlier_schema_has_blocks_that_its_version_reads() {
    for (schema, most) in [(3, block::BLOCK), (4, block::LARGE)] {
        let folder = tempdir().unwrap();
        let memory = MemoryStore::ensure(folder.path(), Options::new(schema)).unwrap();
        let lessons: Vec<Lesson> = (0..2500)
            .map(|id| Lesson {
                id: format!("{id:04}"),
                skill: "s".to_owned(),
                run: "r".to_owned(),
                text: "common".to_owned(),
                ..Lesson::default()
            })
            .collect();
        lessons
            .chunks(400)
            .for_each(|part| memory.put(part).unwrap());
        // What lies apart is merged.
        assert!(memory.purge("2499").unwrap());
        let sizes = memory.read(|txn, path| {
            let blocks = memory.postings.blocks(txn, &[], "common")?;
            let blocks = blocks.ok_or_else(|| torn(path, "postings"))?;
            Ok(blocks.iter().map(Block::len).collect::<Vec<_>>())
        });
        let sizes = sizes.unwrap();
        assert_eq!(sizes.iter().sum::<usize>(), 2499);
        assert_eq!(sizes.iter().max(), Some(&most), "schema {schema}");
    }
}

#[test]
fn a_batch_of_many_postings_joins_what_lay_apart_before_it() {
    let folder = tempdir().unwrap();
    let memory = MemoryStore::ensure(folder.path(), Options::new(4)).unwrap();
    let lesson = |id: u32, words: u32| Lesson {
        id: format!("{id:04}"),
        skill: "s".to_owned(),
        run: "r".to_owned(),
        text: (0..words).fold(format!("own{id} common"), |text, word| {
            format!("{text} w{}", (id + word) % 70)
        }),
        ..Lesson::default()
    };
    let apart = || {
        let count = memory.read(|txn, _| Ok(memory.postings.apart(txn)?.unwrap().len()));
        count.unwrap()
    };
    let hits = |text: &str| -> Vec<String> {
        let query = Query {
            text: Some(text),
            k: 100,
            ..Query::default()
        };
        let hits = memory.search(&query).unwrap();
        hits.into_iter().map(|hit| hit.id).collect()
    };
    for id in 0..3 {
        memory.put(&[lesson(id, 5)]).unwrap();
    }
    assert_eq!(apart(), 3);
    memory
        .put(&(3..43).map(|id| lesson(id, 60)).collect::<Vec<_>>())
        .unwrap();
    assert_eq!(apart(), 0, "rows of a word ascend from block to block");
    memory.put(&[lesson(43, 5)]).unwrap();
    // One that was merged leaves what lies apart alone; one that lies apart does not.
    assert!(memory.purge("0001").unwrap());
    assert_eq!(apart(), 1);
    assert!(memory.purge("0043").unwrap());
    assert_eq!(apart(), 0);
    memory.put(&[lesson(44, 5), lesson(2, 7)]).unwrap();
    assert_eq!(memory.check().unwrap(), 43);
    assert_eq!(memory.statistics().unwrap().words, 43 + 1 + 70);
    assert_eq!(hits("common").len(), 43);
    for (id, there) in [(1, false), (2, true), (20, true), (43, false), (44, true)] {
        let found = hits(&format!("own{id}"));
        assert_eq!(found, vec![format!("{id:04}"); usize::from(there)]);
    }
}

#[test]
fn a_lost_supersession_is_found() {
    assert!(changed(0, |old| old.successor = NONE).contains("columns"));
}

#[test]
fn a_supersession_that_no_lesson_asked_for_is_found() {
    let (folder, memory) = memory();
    let other = Lesson {
        id: "other".to_owned(),
        skill: "s".to_owned(),
        run: "r".to_owned(),
        ..Lesson::default()
    };
    memory.put(&[other]).unwrap();
    let link = memory.write(|txn, _| {
        let mut columns = memory.columns.get(txn, 1)?;
        columns.successor = 3;
        Ok(memory.columns.put(txn, &[(1, columns)])?)
    });
    link.unwrap();
    assert!(memory.check().is_err());
    drop(folder);
}

#[test]
fn chains_that_end_nowhere_or_meet_are_found() {
    assert!(
        changed(1, |new| new.successor = 0).contains("columns"),
        "a circle"
    );
    assert!(
        changed(1, |new| new.successor = 77).contains("columns"),
        "no such row"
    );
    assert!(
        changed(2, |gone| gone.successor = 1).contains("columns"),
        "two before one"
    );
}

#[test]
fn a_column_that_differs_from_its_record_is_found() {
    for (what, change) in [
        ("kind", (|row| row.kind = Kind::Tool as u8) as fn(&mut Row)),
        ("skill", |row| row.skill += 1),
        ("run", |row| row.run += 1),
        ("source", |row| row.source += 1),
        ("cycle", |row| row.cycle += 1),
        ("until", |row| row.until = NONE),
        ("trust", |row| row.trust = 2.0),
    ] {
        assert!(changed(1, change).contains("columns"), "{what}");
    }
    assert!(
        changed(2, |gone| *gone = Row {
            successor: NONE,
            flags: 0,
            ..*gone
        })
        .contains("totals"),
        "a row without a lesson"
    );
}

#[test]
fn a_code_that_is_not_its_vectors_is_found() {
    let flipped = |row: u32| {
        told(|memory, txn| {
            let (key, words) = (row_key(0), words_of(40));
            let mut block = memory.vectors.codes.get(txn, &key)?.unwrap().to_vec();
            let mut code = Codes::read(&block, words)
                .unwrap()
                .code(row as usize)
                .unwrap();
            code.bits[0] ^= 0xFF << 8;
            codes::write(&mut block, words, row as usize, &code);
            Ok(memory.vectors.codes.put(txn, &key, &block)?)
        })
    };
    assert!(flipped(1).contains("codes"));
    assert!(flipped(2).contains("codes"), "of a lesson that was purged");
}

#[test]
fn a_vector_without_its_lesson_or_another_one_is_found() {
    let with = |row: usize, fill: u8| {
        told(|memory, txn| {
            let key = row_key(0);
            let mut block = memory.vectors.vectors.get(txn, &key)?.unwrap().to_vec();
            assert_eq!(block.len(), vectors::BLOCK * 80);
            block[row * 80..(row + 1) * 80].fill(fill);
            Ok(memory.vectors.vectors.put(txn, &key, &block)?)
        })
    };
    assert!(
        with(2, 0x30).contains("vectors"),
        "of a lesson that was purged"
    );
    assert!(with(1, 0x30).contains("vectors"), "of another length");
}
