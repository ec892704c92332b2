//! Models in several files: the same as whole ones, and a part that is missing or another model's is named.

use std::fs;
use std::path::{Path, PathBuf};

use moevolve_checkpoint::gguf::Gguf;
use moevolve_model::{Engine, plan};

use crate::common::{create, families};
use crate::draft::{text, typed};

const U16: u32 = 2;
const I32: u32 = 5;

/// What a part says of itself.
#[derive(Clone, Copy)]
struct Says {
    number: u16,
    count: u16,
    tensors: i32,
}

impl Says {
    fn metadata(self) -> Vec<u8> {
        let entry = |key: &str, kind, value: &[u8]| [text(key), typed(kind, value)].concat();
        [
            entry("split.no", U16, &self.number.to_le_bytes()),
            entry("split.count", U16, &self.count.to_le_bytes()),
            entry("split.tensors.count", I32, &self.tensors.to_le_bytes()),
        ]
        .concat()
    }
}

/// A part with these tensors of a whole file; the first part has its metadata.
fn part(whole: &[u8], says: Says, tensors: std::ops::Range<usize>) -> Vec<u8> {
    let gguf = Gguf::parse(whole, "whole").expect("whole");
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    let first = says.number == 0;
    let entries = 3 + if first { gguf.metadata.len() as u64 } else { 0 };
    out.extend(entries.to_le_bytes());
    if first {
        // From behind the counts to the first tensor's name.
        let name = text(gguf.tensors[0].name);
        let end = whole.windows(name.len()).position(|at| at == name);
        out.extend(&whole[24..end.expect("the directory")]);
    }
    out.extend(says.metadata());
    let mut data: Vec<u8> = Vec::new();
    for tensor in &gguf.tensors[tensors] {
        out.extend(text(tensor.name));
        out.extend((tensor.dims.len() as u32).to_le_bytes());
        tensor
            .dims
            .iter()
            .for_each(|&d| out.extend((d as u64).to_le_bytes()));
        out.extend(tensor.format.to_ggml().expect("ggml's").to_le_bytes());
        out.extend((data.len() as u64).to_le_bytes());
        data.extend(gguf.bytes_of(tensor));
        data.resize(data.len().next_multiple_of(32), 0);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(data);
    out
}

fn name(folder: &Path, number: u16, count: u16) -> PathBuf {
    folder.join(format!("m-{:05}-of-{count:05}.gguf", number + 1))
}

/// Writes a file in parts; the first has no tensors, as some tools have it.
fn split(whole: &[u8], folder: &Path, count: u16) {
    let all = Gguf::parse(whole, "whole").expect("whole").tensors.len();
    for number in 0..count {
        let at = |n: u16| usize::from(n) * all / usize::from(count - 1);
        let tensors = if number == 0 {
            0..0
        } else {
            at(number - 1)..at(number)
        };
        let says = Says {
            number,
            count,
            tensors: all as i32,
        };
        fs::write(name(folder, number, count), part(whole, says, tensors)).expect("written");
    }
}

/// A random model of a family as one file.
fn whole(family: &str, folder: &Path) -> PathBuf {
    let (_, config) = families()
        .into_iter()
        .find(|(name, _)| *name == family)
        .expect("a family");
    let file = folder.join("whole.gguf");
    create(&config, 7)
        .save(&file, Some("q8_0"))
        .expect("written");
    file
}

#[test]
fn a_split_model_is_the_whole_one_whichever_part_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    for family in ["llama", "minimax_m2"] {
        let file = whole(family, folder.path());
        let bytes = fs::read(&file).expect("read");
        let expected = Engine::load(&file, 1).expect(family);
        let weighed = plan::of_path(&file).expect(family);
        for count in [2, 3, 5] {
            split(&bytes, folder.path(), count);
            for number in [0, 1, count - 1] {
                let part = name(folder.path(), number, count);
                let engine = Engine::load(&part, 1).expect(family);
                assert_eq!(
                    engine.fingerprint(),
                    expected.fingerprint(),
                    "{family} {count}"
                );
                assert_eq!(engine.config().eos, expected.config().eos);
                assert_eq!(
                    plan::of_path(&part).expect(family),
                    weighed,
                    "{family} {count}"
                );
            }
        }
    }
}

#[test]
fn a_part_that_is_missing_or_anothers_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = fs::read(whole("llama", folder.path())).expect("read");
    let all = Gguf::parse(&bytes, "whole").expect("whole").tensors.len();
    let (first, second, third) = (
        name(folder.path(), 0, 3),
        name(folder.path(), 1, 3),
        name(folder.path(), 2, 3),
    );
    let refusal = |path: &Path| {
        let said = Engine::load(path, 1).err().expect("refused").to_string();
        assert_eq!(plan::of_path(path).expect_err("refused").to_string(), said);
        said
    };
    let says = |number, count| Says {
        number,
        count,
        tensors: all as i32,
    };
    let with_second = |other: Vec<u8>| {
        split(&bytes, folder.path(), 3);
        fs::write(&second, other).expect("written");
        refusal(&first)
    };

    split(&bytes, folder.path(), 3);
    fs::remove_file(&second).expect("removed");
    let said = refusal(&first);
    assert!(
        said.contains("m-00002-of-00003.gguf: is missing: part 2 of 3"),
        "{said}"
    );

    let said = with_second(part(&bytes, says(2, 3), 0..2));
    assert!(
        said.contains("m-00002-of-00003.gguf: is not of the same model"),
        "{said}"
    );
    assert!(said.ends_with("it says that it is part 3 of 3"), "{said}");
    let said = with_second(part(&bytes, says(1, 4), 0..2));
    assert!(said.ends_with("it says that it is part 2 of 4"), "{said}");
    let said = with_second(bytes.clone());
    assert!(said.ends_with("it says that it is whole"), "{said}");
    let said = with_second(part(&bytes, says(1, 3), 0..all));
    assert!(
        said.contains("m-00003-of-00003.gguf: tensor ") && said.contains("lies in"),
        "{said}"
    );
    let said = with_second(part(&bytes, says(1, 3), 0..1));
    assert!(said.contains("split.tensors.count: says"), "{said}");

    split(&bytes, folder.path(), 3);
    let renamed = folder.path().join("renamed.gguf");
    fs::copy(&third, &renamed).expect("copied");
    let said = refusal(&renamed);
    assert!(
        said.contains("renamed.gguf: is part 3 of 3 of a split model"),
        "{said}"
    );
    assert!(
        said.ends_with("must end with -00003-of-00003.gguf"),
        "{said}"
    );
}

#[test]
fn a_model_saved_in_parts_is_the_whole_one() {
    let folder = tempfile::tempdir().expect("a folder");
    for family in ["llama", "minimax_m2"] {
        let file_whole = whole(family, folder.path());
        let expected = Engine::load(&file_whole, 1).expect(family);
        let out = folder.path().join(family);
        fs::create_dir(&out).expect("a folder");
        let file = out.join("m.gguf");
        let bytes = fs::metadata(&file_whole).expect("its size").len() as usize;
        for most in [1, bytes / 7, bytes / 2] {
            expected
                .save_parts(&file, Some("q8_0"), Some(most))
                .expect("written");
            let names = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
            let mut parts: Vec<_> = fs::read_dir(&out).expect("listed").map(names).collect();
            parts.sort();
            let last = format!("m-{0:05}-of-{0:05}.gguf", parts.len());
            assert!(
                parts.len() > 1 && parts[parts.len() - 1] == *last,
                "{parts:?}"
            );
            for part in parts {
                let again = Engine::load(&out.join(&part), 1).expect(family);
                assert_eq!(again.fingerprint(), expected.fingerprint(), "{part:?}");
                let weighed = plan::of_path(&out.join(&part)).expect(family);
                assert_eq!(weighed, plan::of_path(&file_whole).expect(family));
            }
            fs::remove_dir_all(&out).expect("emptied");
            fs::create_dir(&out).expect("a folder");
        }
        expected
            .save_parts(&file, Some("q8_0"), Some(usize::MAX))
            .expect("written");
        assert!(file.exists(), "one part is a whole file");
        let error = expected.save_parts(&out.join("folder"), None, Some(9));
        assert!(error.expect_err("refused").is_usage());
    }
}
