//! What memory promises: one query over words and vectors, filters first, successors before what they supersede.
//!
//! One file above 400 lines: every promise is held by the same few lessons and one way of asking.

use std::collections::{BTreeMap, BTreeSet};

use moevolve_memory::{Error, Hit, Kind, Lesson, MemoryStore, Options, Query, Standing};
use proptest::prelude::*;
use tempfile::{TempDir, tempdir};

fn fresh() -> (TempDir, MemoryStore) {
    let folder = tempdir().expect("a temporary folder");
    let memory = MemoryStore::ensure(folder.path(), Options::new(4)).expect("a new memory");
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
        ..Lesson::default()
    }
}

fn ids(bodies: moevolve_memory::Result<Vec<Vec<u8>>>) -> Vec<String> {
    let text = |body| String::from_utf8(body).expect("an id");
    bodies.expect("a reading").into_iter().map(text).collect()
}

fn hits(memory: &MemoryStore, query: &Query<'_>) -> Vec<Hit> {
    memory.search(query).expect("a search")
}

fn names(memory: &MemoryStore, query: &Query<'_>) -> Vec<String> {
    hits(memory, query).into_iter().map(|hit| hit.id).collect()
}

fn by_words(text: &str) -> Query<'_> {
    Query {
        text: Some(text),
        k: 100,
        ..Query::default()
    }
}

/// Directions that look random.
fn direction(seed: u64, dimensions: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..dimensions)
        .map(|_| {
            let mut sum = 0.0;
            for _ in 0..4 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                sum += (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
            }
            sum
        })
        .collect()
}

#[test]
fn rare_words_and_short_lessons_rank_first() {
    let (_folder, memory) = fresh();
    memory
        .put(&[
            lesson(
                "a",
                "s",
                "r",
                1,
                "carry the digits of the sum and the digits of the other sum",
            ),
            lesson("b", "s", "r", 1, "carry the digits"),
            lesson("c", "s", "r", 1, "the the the the"),
            lesson("d", "s", "r", 1, "reverse the word"),
        ])
        .unwrap();
    assert_eq!(names(&memory, &by_words("carry, DIGITS!")), ["b", "a"]);
    assert_eq!(names(&memory, &by_words("reverse the"))[0], "d");
    assert!(names(&memory, &by_words("")).is_empty());
    assert!(
        names(&memory, &by_words("car")).is_empty(),
        "words are whole"
    );
}

#[test]
fn filters_come_before_the_ranking_is_cut() {
    let (_folder, memory) = fresh();
    let many: Vec<_> = (0..3000)
        .map(|i| {
            lesson(
                &format!("{i:04}"),
                if i == 2999 { "rare/leaf" } else { "common" },
                "r",
                i / 1000,
                "carry the digits",
            )
        })
        .collect();
    memory.put(&many).unwrap();
    let mut old = lesson("tool", "common", "q", 7, "carry a lot of other words too");
    (old.kind, old.source) = (Kind::Tool, "agent-1".to_owned());
    memory.put(&[old]).unwrap();
    let of = |change: fn(&mut Query<'_>)| {
        let mut query = Query {
            k: 1,
            ..by_words("carry digits")
        };
        change(&mut query);
        names(&memory, &query)
    };
    assert_eq!(of(|query| query.skill = Some("rare/leaf")), ["2999"]);
    assert_eq!(
        of(|query| query.skill = Some("rare")),
        ["2999"],
        "a node holds what its leaves hold"
    );
    assert!(of(|query| query.skill = Some("rar")).is_empty());
    assert_eq!(of(|query| query.run = Some("q")), ["tool"]);
    assert_eq!(of(|query| query.source = Some("agent-1")), ["tool"]);
    assert_eq!(of(|query| query.kinds = &[Kind::Tool]), ["tool"]);
    assert!(of(|query| query.kinds = &[Kind::Preference]).is_empty());
    let either = of(|query| query.kinds = &[Kind::Preference, Kind::Tool]);
    assert_eq!(either, ["tool"]);
    assert_eq!(of(|query| query.before_cycle = Some(1)), ["0000"]);
    assert!(of(|query| query.before_cycle = Some(0)).is_empty());
}

#[test]
fn a_superseded_lesson_is_not_returned_while_its_successor_holds() {
    let (_folder, memory) = fresh();
    let mut later = lesson(
        "later",
        "s",
        "r",
        5,
        "the port is 9090 now, said with many more words than before",
    );
    later.supersedes = Some("first".to_owned());
    memory
        .put(&[lesson("first", "s", "r", 1, "the port is 8080"), later])
        .unwrap();
    let query = by_words("the port is 8080");
    assert_eq!(names(&memory, &query), ["later"]);
    assert_eq!(
        names(
            &memory,
            &Query {
                before_cycle: Some(3),
                ..query
            }
        ),
        ["first"],
        "as it was known then"
    );
    let mut third = lesson("third", "s", "r", 6, "no port");
    third.supersedes = Some("later".to_owned());
    memory.put(&[third.clone()]).unwrap();
    assert_eq!(names(&memory, &query), ["third"]);

    third.id = "fourth".to_owned();
    let refused = memory.put(&[third.clone()]);
    assert!(
        matches!(refused, Err(Error::Name { .. })),
        "two successors of one lesson"
    );
    third.supersedes = Some("nothing".to_owned());
    assert!(matches!(memory.put(&[third]), Err(Error::Name { .. })));

    assert!(memory.purge("later").unwrap());
    assert_eq!(
        names(&memory, &query),
        ["third"],
        "the chain holds over a purged link"
    );
    assert!(memory.purge("third").unwrap());
    assert_eq!(names(&memory, &query), ["first"]);
    memory.check().unwrap();
}

#[test]
fn a_thousand_planted_updates_are_never_ranked_below_what_they_update() {
    let (_folder, memory) = fresh();
    let dimensions = 32;
    let mut first = Vec::new();
    let mut second = Vec::new();
    for i in 0..1000u64 {
        let mut old = lesson(
            &format!("old{i}"),
            "s",
            "r",
            1,
            &format!("setting {i} has value {}", i * 7),
        );
        old.vector = Some(direction(i, dimensions));
        let mut new = lesson(
            &format!("new{i}"),
            "s",
            "r",
            2,
            &format!("value of setting {i} was changed"),
        );
        new.vector = Some(direction(i + 5000, dimensions));
        new.supersedes = Some(old.id.clone());
        first.push(old);
        second.push(new);
    }
    memory.put(&first).unwrap();
    memory.put(&second).unwrap();
    for old in &first {
        let query = Query {
            text: Some(&old.text),
            vector: old.vector.as_deref(),
            k: 10,
            ..Query::default()
        };
        let names = names(&memory, &query);
        assert!(!names.contains(&old.id));
    }
}

#[test]
fn lessons_hold_from_their_cycle_until_their_end() {
    let (_folder, memory) = fresh();
    let mut short = lesson("short", "s", "r", 2, "carry");
    short.until = Some(4);
    memory.put(&[short]).unwrap();
    let at = |cycle| {
        names(
            &memory,
            &Query {
                before_cycle: Some(cycle),
                ..by_words("carry")
            },
        )
        .len()
    };
    assert_eq!([2, 3, 4, 5].map(at), [0, 1, 0, 0]);
}

#[test]
fn both_rankings_make_one_order_and_absent_vectors_lose_nothing() {
    let (_folder, memory) = fresh();
    let mut near = lesson("near", "s", "r", 1, "unrelated text");
    near.vector = Some(vec![1.0, 0.1, 0.0]);
    let mut both = lesson("both", "s", "r", 1, "carry digits");
    both.vector = Some(vec![1.0, 0.2, 0.0]);
    let mut far = lesson("far", "s", "r", 1, "carry digits");
    far.vector = Some(vec![-1.0, 0.0, 0.1]);
    memory
        .put(&[near, both, far, lesson("bare", "s", "r", 1, "carry digits")])
        .unwrap();
    let vector = [1.0, 0.0, 0.0];
    let query = Query {
        vector: Some(&vector),
        ..by_words("carry digits")
    };
    let found = hits(&memory, &query);
    assert_eq!(found[0].id, "both");
    let order: Vec<_> = found.iter().map(|hit| hit.id.as_str()).collect();
    assert!(order[1..].contains(&"bare") && order.contains(&"near") && order.contains(&"far"));
    assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score));
    let by_vector = Query {
        vector: Some(&vector),
        k: 2,
        ..Query::default()
    };
    assert_eq!(names(&memory, &by_vector), ["near", "both"]);
    let refused = memory.search(&Query {
        vector: Some(&[1.0]),
        k: 1,
        ..Query::default()
    });
    assert!(
        matches!(refused, Err(Error::Name { .. })),
        "other dimensions"
    );
    for bad in [vec![0.0; 3], vec![f32::NAN, 0.0, 0.0], vec![]] {
        assert!(
            memory
                .search(&Query {
                    vector: Some(&bad),
                    k: 1,
                    ..Query::default()
                })
                .is_err()
        );
    }
}

#[test]
fn below_a_confidence_nothing_is_returned() {
    let (_folder, memory) = fresh();
    let texts = [
        "carry the digits of a sum",
        "reverse the letters of a word",
        "count the vowels of a word",
    ];
    let lessons: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(i, text)| lesson(&i.to_string(), "s", "r", 1, text))
        .collect();
    memory.put(&lessons).unwrap();
    let sure = |text| {
        names(
            &memory,
            &Query {
                confidence: 0.6,
                ..by_words(text)
            },
        )
    };
    assert_eq!(sure("how do I carry digits"), ["0"]);
    assert_eq!(sure("carry digts"), ["0"], "a typing error");
    assert!(sure("boil the potatoes of a farmer").is_empty());
    assert!(
        sure("carry potatoes").is_empty(),
        "half of a question is not its answer"
    );
}

#[test]
fn standings_change_what_is_returned_and_survive() {
    let (folder, memory) = fresh();
    memory
        .put(&[
            lesson("a", "s", "r", 1, "carry"),
            lesson("b", "s", "r", 1, "carry"),
            lesson("c", "s", "r", 1, "carry"),
        ])
        .unwrap();
    let changed = memory.set_standings(&[
        (
            "a".to_owned(),
            Standing {
                trust: 0.0,
                ..Standing::default()
            },
        ),
        (
            "c".to_owned(),
            Standing {
                trust: 1.0,
                pinned: true,
                ..Standing::default()
            },
        ),
        (
            "b".to_owned(),
            Standing {
                forgotten: true,
                ..Standing::default()
            },
        ),
        ("x".to_owned(), Standing::default()),
    ]);
    assert_eq!(changed.unwrap(), 3);
    assert_eq!(names(&memory, &by_words("carry")), ["c", "a"]);
    assert_eq!(ids(memory.by_skill("s", None, 9)), ["c", "a"]);
    drop(memory);
    let memory = MemoryStore::open(folder.path(), Options::new(4))
        .unwrap()
        .unwrap();
    assert!(memory.standing("c").unwrap().unwrap().pinned);
    assert_eq!(memory.statistics().unwrap().forgotten, 1);
    assert!(
        memory
            .set_standings(&[(
                "a".to_owned(),
                Standing {
                    trust: f32::NAN,
                    ..Standing::default()
                }
            )])
            .is_err()
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
    let newest = Query {
        skill: Some("s"),
        k: 2,
        ..Query::default()
    };
    assert_eq!(
        names(&memory, &newest),
        ["4", "3"],
        "without a text the last written come first"
    );
}

#[test]
fn a_known_id_is_replaced_and_a_purged_one_gone_from_every_index() {
    let (_folder, memory) = fresh();
    memory
        .put(&[lesson("a", "s", "r", 1, "old words")])
        .unwrap();
    memory
        .put(&[
            lesson("a", "t", "r", 2, "twice"),
            lesson("a", "t", "r", 2, "new words"),
        ])
        .unwrap();
    assert_eq!(memory.count().unwrap(), 1);
    assert!(ids(memory.by_skill("s", None, 10)).is_empty());
    assert!(names(&memory, &by_words("old twice")).is_empty());
    assert_eq!(names(&memory, &by_words("new")), ["a"]);
    memory.check().unwrap();
    assert!(memory.purge("a").unwrap());
    assert!(!memory.purge("a").unwrap());
    assert!(names(&memory, &by_words("words")).is_empty());
    assert!(ids(memory.by_skill("t", None, 10)).is_empty());
    assert_eq!(memory.check().unwrap(), 0);
}

#[test]
fn a_memory_that_is_not_there_is_none_and_is_not_made() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("memory");
    assert!(MemoryStore::open(&path, Options::new(4)).unwrap().is_none());
    assert!(!path.exists());
}

#[test]
fn a_run_is_no_memory() {
    let folder = tempdir().unwrap();
    drop(moevolve_store::RunStore::create(folder.path(), Options::new(4)).unwrap());
    let error = match MemoryStore::open(&folder.path().join("journal"), Options::new(4)) {
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
fn what_is_good_in_both_comes_first_though_neither_ranking_names_it() {
    let (_folder, memory) = fresh();
    let towards = |x: f32, seed: u64| {
        let mut vector = direction(seed, 64);
        vector.iter_mut().for_each(|v| *v *= 0.05);
        vector[0] += x;
        vector[1] += (1.0 - x * x).sqrt();
        Some(vector)
    };
    // 600 lessons have all the words and point elsewhere, 600 point there and have no word, and one has half of each.
    let mut all = Vec::new();
    for i in 0..6000u64 {
        let (text, x) = match i {
            0..600 => ("carry the digit when a sum passes nine", 0.0),
            600..1200 => ("an umbrella", 0.95),
            5999 => ("carry the digit when it rains", 0.8),
            _ => ("nothing of the kind", -0.2),
        };
        let mut one = lesson(&format!("{i:04}"), "s", "r", 1, text);
        one.vector = towards(x, i);
        all.push(one);
    }
    memory.put(&all).unwrap();
    let vector = towards(1.0, 9999).unwrap();
    let query = Query {
        text: Some("carry digit sum nine"),
        vector: Some(&vector),
        k: 3,
        ..Query::default()
    };
    assert_eq!(names(&memory, &query)[0], "5999");
}

#[test]
fn weights_and_confidence_that_mean_nothing_are_refused() {
    let (_folder, memory) = fresh();
    memory.put(&[lesson("a", "s", "r", 1, "carry")]).unwrap();
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        for place in 0..4 {
            let mut query = by_words("carry");
            let weights = &mut query.weights;
            *[
                &mut weights.words,
                &mut weights.vector,
                &mut weights.trust,
                &mut query.confidence,
            ][place] = bad;
            let refused = memory.search(&query);
            assert!(
                matches!(&refused, Err(Error::Name { why, .. }) if why.contains("finite")),
                "{refused:?}"
            );
        }
    }
}

#[test]
fn another_embedder_drops_the_vectors_and_asks_for_new_ones() {
    let (_folder, memory) = fresh();
    memory.set_embedder("first").unwrap();
    let mut held = lesson("a", "s", "r", 1, "carry");
    held.vector = Some(vec![1.0, 0.0]);
    memory
        .put(&[held.clone(), lesson("b", "s", "r", 1, "digits")])
        .unwrap();
    assert_eq!(
        memory.without_vector(0, 9).unwrap().1,
        [("b".to_owned(), "digits".to_owned())]
    );
    held.vector = Some(vec![1.0, 0.0, 0.0]);
    assert!(memory.put(&[held.clone()]).is_err(), "other dimensions");
    memory.set_embedder("first").unwrap();
    assert_eq!(memory.statistics().unwrap().vectors, 1);
    memory.set_embedder("second").unwrap();
    assert_eq!(memory.without_vector(0, 9).unwrap().1.len(), 2);
    assert_eq!(
        memory
            .set_vectors(&[
                ("a".to_owned(), vec![0.0, 1.0, 0.0]),
                ("no".to_owned(), vec![1.0; 3])
            ])
            .unwrap(),
        1
    );
    assert_eq!(
        names(
            &memory,
            &Query {
                vector: Some(&[0.0, 1.0, 0.0]),
                k: 1,
                ..Query::default()
            }
        ),
        ["a"]
    );
    memory.check().unwrap();
}

#[test]
fn estimates_choose_what_an_exact_scan_would() {
    let (_folder, memory) = fresh();
    let dimensions = 64;
    let shift = direction(77, dimensions);
    let vector = |i: u64| -> Vec<f32> {
        let centre = direction(100_000 + i % 50, dimensions);
        direction(i, dimensions)
            .iter()
            .zip(&centre)
            .zip(&shift)
            .map(|((x, c), s)| x + c + 2.0 * s)
            .collect()
    };
    let lessons: Vec<Lesson> = (0..9000)
        .map(|i| Lesson {
            vector: Some(vector(i)),
            ..lesson(&format!("{i:05}"), "s", "r", 1, "")
        })
        .collect();
    for part in lessons.chunks(1500) {
        memory.put(part).unwrap();
    }
    let unit = |v: &[f32]| {
        let norm = v.iter().map(|x| x * x).sum::<f32>().sqrt();
        v.iter().map(|x| x / norm).collect::<Vec<f32>>()
    };
    let (mut shared, mut wanted) = (0, 0);
    for i in 0..40 {
        let query = vector(1_000_000 + i);
        let of_query = unit(&query);
        let mut exact: Vec<(f32, &str)> = lessons
            .iter()
            .map(|lesson| {
                let v = unit(lesson.vector.as_ref().unwrap());
                (
                    v.iter().zip(&of_query).map(|(x, q)| x * q).sum::<f32>(),
                    lesson.id.as_str(),
                )
            })
            .collect();
        exact.sort_by(|a, b| b.0.total_cmp(&a.0));
        let exact: BTreeSet<&str> = exact[..10].iter().map(|(_, id)| *id).collect();
        let found = names(
            &memory,
            &Query {
                vector: Some(&query),
                k: 10,
                ..Query::default()
            },
        );
        shared += found
            .iter()
            .filter(|id| exact.contains(id.as_str()))
            .count();
        wanted += 10;
    }
    assert!(
        shared as f64 / f64::from(wanted) >= 0.98,
        "recall {shared} of {wanted}"
    );
}

fn score(texts: &BTreeMap<String, String>, query: &BTreeSet<String>, text: &str) -> f64 {
    let split = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let count = texts.len() as f64;
    let mean = texts
        .values()
        .map(|text| split(text).len() as f64)
        .sum::<f64>()
        / count;
    let words = split(text);
    let mut score = 0.0;
    for word in query {
        let rows = texts
            .values()
            .filter(|text| split(text).contains(word))
            .count() as f64;
        let weight = (1.0 + (count - rows + 0.5) / (rows + 0.5)).ln();
        let times = words.iter().filter(|other| *other == word).count() as f64;
        let norm = 1.2 * (1.0 - 0.75 + 0.75 * words.len() as f64 / mean);
        score += weight * times * 2.2 / (times + norm);
    }
    score
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A memory of schema 3 adds every batch to the words' blocks; one of schema 4 when sixteen have come, or one is changed.
    #[test]
    fn batches_that_lie_apart_answer_as_those_that_were_merged(
        steps in prop::collection::vec((0u8..8, prop::collection::vec(("[a-h]", "[a-e]{1,2}( [a-e]{1,2}){0,4}"), 1..5)), 1..60),
        query in "[a-e]{1,2}( [a-e]{1,2}){0,2}",
    ) {
        let folders = [tempdir().expect("a folder"), tempdir().expect("a folder")];
        let memories = [3, 4].map(|schema| {
            let folder = folders[schema as usize - 3].path();
            MemoryStore::ensure(folder, Options::new(schema)).expect("a new memory")
        });
        for (number, (purged, texts)) in steps.iter().enumerate() {
            let lessons: Vec<Lesson> = texts.iter().map(|(id, text)| lesson(&format!("{id}{}", number % 20), "s", "r", 1, text)).collect();
            for memory in &memories {
                memory.put(&lessons).expect("a commit");
                if *purged == 0 {
                    memory.purge(&lessons[0].id).expect("a commit");
                }
            }
            let [merged, apart] = memories.each_ref().map(|memory| hits(memory, &by_words(&query)));
            prop_assert_eq!(merged, apart);
            let [merged, apart] = memories.each_ref().map(|memory| memory.statistics().expect("counts"));
            prop_assert_eq!(merged, apart);
        }
        let [merged, apart] = memories.each_ref().map(|memory| memory.check().expect("indices that agree"));
        prop_assert_eq!(merged, apart);
    }

    #[test]
    fn words_rank_by_the_formula_whatever_was_replaced_before(
        texts in prop::collection::btree_map("[a-f]{1,2}", "[ab]{1}( [abcd]{1,2}){0,5}", 1..24),
        query in "[abcd]{1,2}( [abcd]{1,2}){0,3}",
        replaced in prop::collection::vec("[a-f]{1,2}", 0..8),
    ) {
        let (_folder, memory) = fresh();
        for id in &replaced {
            memory.put(&[lesson(id, "s", "r", 1, "a bb ccc a")]).unwrap();
        }
        for id in &replaced {
            if !texts.contains_key(id) {
                memory.purge(id).unwrap();
            }
        }
        for (id, text) in &texts {
            memory.put(&[lesson(id, "s", "r", 1, text)]).unwrap();
        }
        prop_assert_eq!(memory.check().unwrap(), texts.len() as u64);
        let wanted: BTreeSet<String> = query.split(' ').map(str::to_owned).collect();
        let expected: BTreeMap<&String, f64> = texts.iter().map(|(id, text)| (id, score(&texts, &wanted, text))).filter(|(_, score)| *score > 0.0).collect();
        let found = hits(&memory, &by_words(&query));
        prop_assert_eq!(found.iter().map(|hit| &hit.id).collect::<BTreeSet<_>>(), expected.keys().copied().collect());
        for pair in found.windows(2) {
            prop_assert!(expected[&pair[0].id] >= expected[&pair[1].id] - 1e-5);
        }
    }

    /// More rows than are added whole: the common words' postings are only looked up.
    #[test]
    fn cut_off_rankings_are_those_of_the_whole_sum(seed in 0u64..1000) {
        let (_folder, memory) = fresh();
        let rare = ["alpha", "beta", "gamma", "delta"];
        let lessons: Vec<Lesson> = (0..6000u64).map(|i| {
            let noise = (i + 1).wrapping_mul(seed | 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut text = "the of".to_owned();
            for (bit, word) in rare.iter().enumerate() {
                if (noise >> (8 * bit) & 0xFF) < 6 { text += " "; text += word; }
            }
            if noise >> 60 < 4 { text += " the the"; }
            if i == 3000 { text = "alpha beta gamma".to_owned(); }
            lesson(&format!("{i:04}"), "s", "r", 1, &text)
        }).collect();
        memory.put(&lessons).unwrap();
        let query = "alpha beta the of";
        let found = hits(&memory, &Query { k: 5, ..by_words(query) });
        let all = hits(&memory, &Query { k: 6000, ..by_words(query) });
        prop_assert_eq!(found.len(), 5);
        for (few, many) in found.iter().zip(&all) {
            prop_assert_eq!(&few.id, &many.id);
            prop_assert!((few.score - many.score).abs() < 1e-5);
        }
    }
}
