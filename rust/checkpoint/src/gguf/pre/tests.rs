//! Rules by name beside what llama.cpp makes of the same text.

use tokenizers::PreTokenizedString;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizer, PreTokenizerWrapper};

use super::*;

const TEXT: &str = "I'M don't 12345:x={y}`z` b،(c\n\n  d की  ";
/// What llama.cpp's `unicode_regex_split` makes of the text by each name.
const PIECES: [(&str, &str); 18] = [
    (
        "default",
        "I¦'¦M¦ don¦'¦t¦ ¦123¦45¦:¦x¦={¦y¦}¦`¦z¦`¦ b¦،(¦c¦\n\n ¦ d¦ क¦ी¦  ",
    ),
    (
        "falcon",
        "I¦'¦M¦ don¦'¦t¦ ¦123¦45¦:¦x¦={¦y¦}`¦z¦`¦ b¦،(¦c¦\n\n ¦ d¦ क¦ी¦  ",
    ),
    (
        "deepseek-coder",
        "I¦'¦M¦ don¦'¦t¦ ¦1¦2¦3¦4¦5¦:¦x¦=¦{¦y¦}¦`¦z¦`¦ b¦،(¦c¦\n¦\n¦ ¦ d¦ ¦क¦ी¦  ",
    ),
    (
        "deepseek-llm",
        "I¦'¦M¦ don¦'¦t¦ ¦12345¦:¦x¦={¦y¦}`¦z¦`¦ b¦،¦(¦c¦\n¦\n¦ ¦ d¦ ¦की¦  ",
    ),
    (
        "bloom",
        "I'M¦ don't¦ 12345:x={y}`z`¦ b¦،(¦c¦\n\n ¦ d¦ की¦  ",
    ),
    (
        "viking",
        "I'M¦ don't¦ ¦1¦2¦3¦4¦5¦:x={y}`z`¦ b¦،(¦c¦\n\n ¦ d¦ की¦  ",
    ),
    (
        "minicpm5",
        "I¦'M¦ don¦'t¦ ¦123¦45¦:x¦={¦y¦}`¦z¦`¦ b¦،(¦c¦\n\n¦ ¦ d¦ क¦ी¦  ",
    ),
    (
        "ufakzeka",
        "I¦'M¦ don¦'t¦ ¦1¦2¦3¦4¦5¦:x¦={¦y¦}`¦z¦`¦ b¦،(¦c¦\n\n¦ ¦ d¦ क¦ी¦  ",
    ),
    (
        "bailingmoe",
        "I¦'M¦ don¦'t¦ ¦1¦2¦3¦4¦5¦:x¦={¦y¦}`¦z¦`¦ b¦،(¦c¦\n\n¦ ¦ d¦ क¦ी¦  ",
    ),
    (
        "qwen35",
        "I¦'M¦ don¦'t¦ ¦1¦2¦3¦4¦5¦:x¦={¦y¦}`¦z¦`¦ b¦،(¦c¦\n\n¦ ¦ d¦ की¦  ",
    ),
    (
        "hy_v4",
        "I¦'M¦ don¦'t¦ ¦123¦45¦:x¦={¦y¦}`¦z¦`¦ b¦،(¦c¦\n\n¦ ¦ d¦ की¦  ",
    ),
    (
        "gpt-2",
        "I¦'¦M¦ don¦'t¦ 12345¦:¦x¦={¦y¦}`¦z¦`¦ b¦،(¦c¦\n\n ¦ d¦ क¦ी¦  ",
    ),
    (
        "glm4",
        "I¦'M¦ don¦'t¦ ¦123¦45¦:x¦={¦y¦}`¦z¦`¦ b¦،(¦c¦\n\n¦ ¦ d¦ क¦ी¦  ",
    ),
    (
        "jais-2",
        "I¦'M¦ don¦'t¦ ¦123¦45¦:x¦={¦y¦}`¦z¦`¦ b¦،(¦c¦\n\n¦ ¦ d¦ क¦ी¦  ",
    ),
    (
        "spark2_5",
        "I¦'M¦ don¦'t¦ ¦1¦2¦3¦4¦5¦:x¦={¦y¦}`¦z¦`¦ b¦،(¦c¦\n¦\n¦ ¦ d¦ की¦  ",
    ),
    (
        "exaone-moe",
        "I¦'M¦ don¦'t¦ ¦1¦2¦3¦4¦5¦:x¦={¦y¦}`¦z¦`¦ b¦،(¦c¦\n\n¦ ¦ d की¦  ",
    ),
    (
        "laguna",
        "I¦'M¦ don¦'t¦ ¦1¦2¦3¦4¦5¦:x¦={¦y¦}`¦z¦`¦ b¦،(¦c¦\n\n¦ ¦ d¦ क¦ी¦  ",
    ),
    (
        "chameleon",
        "I¦'¦M¦ don¦'¦t¦ ¦1¦2¦3¦4¦5¦:¦x¦=¦{¦y¦}¦`¦z¦`¦ b¦،¦(¦c¦\n¦\n¦  ¦d¦ क¦ी¦  ",
    ),
];

/// Tokens of images, runs of blanks, numbers of other scripts.
const MIXED: &str = "<sentinel:12>IMGIMGABZ $x~!?  \t\n  a b c1\r\n/é 'LL…—x         Ⅷ٣४5 日本\u{3000}ひら\u{a0}\n\n end  ";
const MIXED_PIECES: [(&str, &str); 5] = [
    (
        "jais-2",
        "<sentinel¦:¦12¦>IMGIMGABZ¦ $¦x¦~!?¦  \t\n¦ ¦ a¦ b¦ c¦1¦\r\n¦/é¦ '¦LL¦…—¦x¦        ¦ ¦Ⅷ٣४¦5¦ 日本¦\u{3000}ひら¦\u{a0}\n\n¦ end¦  ",
    ),
    (
        "spark2_5",
        "<sentinel¦:¦1¦2¦>IMGIMGABZ¦ $¦x¦~!?¦  \t\n ¦ a¦ b¦ c¦1¦\r¦\n¦/¦é¦ '¦LL¦…—¦x¦         ¦Ⅷ¦٣¦४¦5¦ ¦日本¦\u{3000}¦ひら¦\u{a0}\n\n¦ end¦  ",
    ),
    (
        "exaone-moe",
        "<sentinel¦:¦1¦2¦>IMGIMGABZ¦ $¦x¦~!?¦  \t\n¦ ¦ a b c¦1¦\r\n¦/é¦ '¦LL¦…—¦x¦        ¦ ¦Ⅷ¦٣¦४¦5¦ 日本¦\u{3000}ひら¦\u{a0}\n\n¦ end¦  ",
    ),
    (
        "laguna",
        "<sentinel¦:¦1¦2¦>IMGIMGABZ¦ $¦x¦~!?¦  \t¦\n¦ ¦ a¦ b¦ c¦1¦\r¦\n¦/é¦ '¦LL¦…—¦x¦        ¦ ¦Ⅷ¦٣¦४¦5¦ 日本¦\u{3000}ひら¦\u{a0}¦\n\n¦ end¦  ",
    ),
    (
        "chameleon",
        "<¦sentinel¦:¦1¦2¦>¦IMGIMGABZ¦ ¦$¦x¦~¦!¦?¦  ¦\t¦\n¦  ¦a¦ b¦ c¦1¦\r¦\n¦/¦é¦ ¦'¦LL¦…¦—¦x¦    ¦    ¦ ¦Ⅷ¦٣¦४¦5¦ 日本¦\u{3000}¦ひら¦\u{a0}¦\n¦\n¦ end¦  ",
    ),
];

fn pieces(name: &str, of: &'static str) -> Vec<&'static str> {
    let rule = Rule::named(name).expect("known").pre_tokenizer();
    let split: PreTokenizerWrapper = serde_json::from_value(rule).expect("a pre-tokenizer");
    let mut text = PreTokenizedString::from(of);
    split.pre_tokenize(&mut text).expect("split");
    let splits = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
    splits
        .into_iter()
        .map(|(_, (from, to), _)| &of[from..to])
        .collect()
}

#[test]
fn a_name_splits_a_text_as_it_does_in_llama_cpp() {
    for (name, expected) in PIECES {
        assert_eq!(pieces(name, TEXT).join("¦"), expected, "{name}");
    }
    for (name, expected) in MIXED_PIECES {
        assert_eq!(pieces(name, MIXED).join("¦"), expected, "{name}");
    }
    assert_eq!(pieces("poro-chat", TEXT), pieces("bloom", TEXT));
    assert_eq!(pieces("gpt3-finnish", TEXT), pieces("bloom", TEXT));
}

#[test]
fn words_of_glm_4_stay_whole_and_those_of_chatglm_do_not() {
    let whole = |name| Rule::named(name).expect("known").whole_words;
    assert_eq!(
        ["glm4", "glm5", "chatglm-bpe"].map(whole),
        [true, true, false]
    );
}

#[test]
fn a_rule_is_found_by_what_it_is_spelt_as() {
    for rule in &RULES {
        let found = Rule::spelt(&rule.pre_tokenizer(), rule.composed, rule.whole_words);
        let found = found.expect(rule.names[0]);
        assert_eq!(found.pre_tokenizer(), rule.pre_tokenizer());
    }
}

#[test]
fn a_split_that_takes_every_character_may_remove_the_rest() {
    let spelt = |regex: &str, behavior: &str, invert: bool| {
        let split = json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert});
        let level = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false});
        let whole = json!({"type": "Sequence", "pretokenizers": [split, level]});
        Rule::spelt(&whole, false, false).map(|rule| rule.names[0])
    };
    assert_eq!(spelt(GPT4O, "Removed", true), Ok("gpt-4o"));
    for (regex, behavior, invert) in [
        (GPT4O, "Removed", false),
        (GPT4O, "MergedWithPrevious", false),
        (BLOOM, "Removed", true),
    ] {
        let refused = spelt(regex, behavior, invert).expect_err("refused");
        assert!(refused.contains(behavior), "{refused}");
    }
}
