//! What a torn header says, and one of another network.

use moevolve_checkpoint::gguf::{Gguf, Value};
use moevolve_model::checkpoint::gguf::config;

use crate::draft::{Draft, text, typed};

#[test]
fn a_torn_header_says_where() {
    let good = Draft::new().bytes();
    let gguf = Gguf::parse(&good, "m.gguf").expect("whole");
    assert_eq!(gguf.tensors[0].range.len(), 16);
    assert!(matches!(gguf.metadata["a"], Value::Integer(7)));
    for cut in 0..good.len() {
        assert!(Gguf::parse(&good[..cut], "m.gguf").is_err(), "cut at {cut}");
    }
    let draft = Draft::new;
    let tensor = |dims: &[u64], kind, offset| {
        let tensor = ("t".to_owned(), dims.to_vec(), kind, offset);
        Draft { tensor, ..draft() }.error()
    };
    let key = |value: Vec<u8>| {
        let metadata = vec![("k".to_owned(), value)];
        Draft {
            metadata,
            ..draft()
        }
        .error()
    };
    let huge = u64::MAX.to_le_bytes();
    let cases = [
        (
            Draft {
                version: 1,
                ..draft()
            }
            .error(),
            "m.gguf: has version 1",
        ),
        (
            Draft {
                version: 3 << 24,
                ..draft()
            }
            .error(),
            "big-endian",
        ),
        (
            Draft {
                count: 1 << 40,
                ..draft()
            }
            .error(),
            "tensors are promised",
        ),
        (
            Draft {
                twice: true,
                ..draft()
            }
            .error(),
            "tensor t: comes twice",
        ),
        (tensor(&[], 0, 0), "tensor t: has 0 dimensions"),
        (tensor(&[1; 5], 0, 0), "tensor t: has 5 dimensions"),
        (tensor(&[0], 0, 0), "tensor t: its dimension 0"),
        (tensor(&[1 << 40, 1 << 40], 0, 0), "tensor t: its dimension"),
        (tensor(&[4], 99, 0), "tensor t: has ggml type 99"),
        (
            tensor(&[256], 16, 0),
            "tensor t: has ggml type IQ2_XXS, which is not among F32, F16",
        ),
        (
            tensor(&[4], 8, 0),
            "tensor t: its rows of 4 are not whole blocks of 32",
        ),
        (
            tensor(&[4], 0, 3),
            "tensor t: its offset 3 is not a multiple of 32",
        ),
        (tensor(&[4], 0, u64::MAX), "tensor t: its offset"),
        (tensor(&[8], 0, 0), "tensor t: lies at bytes 0 to 32"),
        (key(typed(13, &[])), "m.gguf: k: value type 13 is unknown"),
        (
            key(typed(8, &huge)),
            "m.gguf: k: 18446744073709551615 bytes are promised",
        ),
        (key(typed(7, &[2])), "m.gguf: k: 2 is neither"),
        (key(typed(9, &typed(8, &huge))), "elements are promised"),
        (
            key(typed(8, &[&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat())),
            "UTF-8",
        ),
    ];
    for (message, part) in cases {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    let nested = (0..6).fold(typed(0, &0u64.to_le_bytes()), |inner, _| {
        typed(9, &[&1u64.to_le_bytes()[..], &inner].concat())
    });
    assert!(key(typed(9, &nested)).contains("k: "));
    let alignment = |n: u32| {
        let metadata = vec![("general.alignment".to_owned(), typed(4, &n.to_le_bytes()))];
        Draft {
            metadata,
            ..draft()
        }
        .error()
    };
    assert!(alignment(24).contains("general.alignment: 24 is not a power of two"));
    assert!(alignment(0).contains("general.alignment"));
    let double = vec![draft().metadata[0].clone(), draft().metadata[0].clone()];
    let message = Draft {
        metadata: double,
        ..draft()
    }
    .error();
    assert_eq!(message, "m.gguf: a: comes twice");
}

#[test]
fn a_header_of_another_network_names_the_key() {
    let metadata = |list: &[(&str, Vec<u8>)]| {
        let metadata = list
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.clone()))
            .collect();
        let bytes = Draft {
            metadata,
            ..Draft::new()
        }
        .bytes();
        let gguf = Gguf::parse(&bytes, "m.gguf").expect("whole");
        config(&gguf).expect_err("refused").to_string()
    };
    let name = |name: &str| ("general.architecture", typed(8, &text(name)));
    assert!(metadata(&[]).contains("general.architecture: is missing"));
    assert!(metadata(&[name("mamba")]).contains("\"mamba\" is not supported, only minimax-m2"));
    assert!(metadata(&[name("qwen3")]).contains("qwen3.embedding_length: is missing"));
    let zero = ("qwen3.embedding_length", typed(4, &0u32.to_le_bytes()));
    assert!(metadata(&[name("qwen3"), zero]).contains("qwen3.embedding_length: is 0"));
}
