//! How texts come apart before byte pairs merge: a GGUF file names the rule, a `tokenizer.json` spells it out.

use serde_json::{Value, json};

/// A rule by one of its names in GGUF files. The expressions are those of the released tokenizers.
pub struct Rule {
    /// The first is the one that is written.
    pub names: &'static [&'static str],
    /// Splits, one after the other, each match a piece of its own.
    pub splits: &'static [&'static str],
    /// Whether GPT-2's split follows, which the byte-level step brings along.
    pub gpt2: bool,
    /// Whole words that are tokens stay whole, whatever the merges say.
    pub whole_words: bool,
    /// Texts are composed (Unicode NFC) first.
    pub composed: bool,
    /// Begins texts with the BOS token unless the file says otherwise.
    pub add_bos: bool,
}

const DIGIT: &str = r"\p{N}";
const THREE: &str = "[0-9][0-9][0-9]";

/// llama.cpp's rule for files that name none.
pub const UNNAMED: &str = "default";

const PLAIN: Rule = Rule {
    names: &[],
    splits: &[],
    gpt2: false,
    whole_words: false,
    composed: false,
    add_bos: false,
};

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SEED: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

/// GPT-2's own split, where others follow it.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LINE_END: &str = r"[\r\n]";
const CHINESE: &str = "[一-龥぀-ゟ゠-ヿ]+";
const EAST_ASIAN: &str = "[一-龥ࠀ-一가-\u{d7ff}]+";
const DEEPSEEK_LATIN: &str = r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
const DEEPSEEK_SIGNS: &str = r"\s?[!-/:-~！-／：-～‘-‟　-。]+";
const BLOOM: &str = r" ?[^(\s|[.,!?…。，、।۔،])]+";
const MINICPM5: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const UFAKZEKA: &str =
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const JAIS2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}";
const SPARK: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"##;
const EXAONE_MOE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";
/// Tokens of images and of what becomes of spans, blanks, and signs, before what comes of words.
const CHAMELEON: [&str; 5] = [
    "<sentinel:[0-9]+>",
    "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
    r"([\t\n]|    |  )",
    DIGIT,
    r"[\p{P}!-/:-@\[-`{-~]",
];

/// The rules that a name stands for; what has none here is refused.
pub static RULES: [Rule; 27] = [
    Rule {
        names: &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "gigachat",
            "jina-v2-es",
            "jina-v2-de",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "roberta-bpe",
            "jina-v1-en",
            "jina-v2-code",
            "exaone4",
            "mpt",
            "jais",
            "trillion",
            "granite-docling",
        ],
        gpt2: true,
        ..PLAIN
    },
    Rule {
        names: &["olmo"],
        gpt2: true,
        composed: true,
        ..PLAIN
    },
    Rule {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        splits: &[DIGIT],
        gpt2: true,
        ..PLAIN
    },
    Rule {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        splits: &[LLAMA3],
        whole_words: true,
        add_bos: true,
        ..PLAIN
    },
    Rule {
        names: &["dbrx", "smaug-bpe", "chatglm-bpe"],
        splits: &[LLAMA3],
        ..PLAIN
    },
    Rule {
        names: &["glm4", "glm5"],
        splits: &[LLAMA3],
        whole_words: true,
        ..PLAIN
    },
    Rule {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "megrez",
            "stablelm2",
            "hunyuan",
            "solar-open",
        ],
        splits: &[QWEN2],
        composed: true,
        ..PLAIN
    },
    Rule {
        names: &["grok-2"],
        splits: &[QWEN2],
        ..PLAIN
    },
    Rule {
        names: &["gpt-4o", "minimax-m2", "llama4", "kanana2", "talkie"],
        splits: &[GPT4O],
        ..PLAIN
    },
    Rule {
        names: &["tekken"],
        splits: &[TEKKEN],
        whole_words: true,
        add_bos: true,
        ..PLAIN
    },
    Rule {
        names: &["seed-coder"],
        splits: &[SEED],
        ..PLAIN
    },
    Rule {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        splits: &[r"\p{N}{1,3}", CHINESE, DEEPSEEK],
        ..PLAIN
    },
    // Where a file names no rule.
    Rule {
        names: &[UNNAMED],
        splits: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", THREE],
        ..PLAIN
    },
    Rule {
        names: &["falcon"],
        splits: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, THREE],
        ..PLAIN
    },
    Rule {
        names: &["deepseek-coder"],
        splits: &[LINE_END, r"\s?\p{L}+", r"\s?\p{P}+", EAST_ASIAN, DIGIT],
        ..PLAIN
    },
    Rule {
        names: &["deepseek-llm"],
        splits: &[
            LINE_END,
            DEEPSEEK_LATIN,
            DEEPSEEK_SIGNS,
            r"\s+$",
            EAST_ASIAN,
            r"\p{N}+",
        ],
        ..PLAIN
    },
    Rule {
        names: &["bloom", "poro-chat", "gpt3-finnish"],
        splits: &[BLOOM],
        ..PLAIN
    },
    Rule {
        names: &["viking"],
        splits: &[BLOOM, DIGIT],
        ..PLAIN
    },
    Rule {
        names: &["minicpm5"],
        splits: &[r"\p{N}{1,3}", MINICPM5],
        whole_words: true,
        ..PLAIN
    },
    Rule {
        names: &["ufakzeka"],
        splits: &[UFAKZEKA],
        ..PLAIN
    },
    Rule {
        names: &["bailingmoe", "bailingmoe2", "llada-moe"],
        splits: &[BAILING],
        ..PLAIN
    },
    Rule {
        names: &["qwen35"],
        splits: &[QWEN35],
        ..PLAIN
    },
    Rule {
        names: &["jais-2"],
        splits: &[JAIS2],
        ..PLAIN
    },
    Rule {
        names: &["spark2_5"],
        splits: &[r"\p{N}{1,3}", CHINESE, SPARK, DIGIT],
        ..PLAIN
    },
    Rule {
        names: &["exaone-moe"],
        splits: &[EXAONE_MOE],
        ..PLAIN
    },
    Rule {
        names: &["laguna"],
        splits: &[r"[^\n]+|[\n]+", QWEN2],
        ..PLAIN
    },
    Rule {
        names: &["chameleon"],
        splits: &CHAMELEON,
        gpt2: true,
        add_bos: true,
        ..PLAIN
    },
];

impl Rule {
    /// The rule of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.names.contains(&name))
    }

    /// The `pre_tokenizer` of a `tokenizer.json`.
    pub fn pre_tokenizer(&self) -> Value {
        let mut steps: Vec<Value> = self
            .splits
            .iter()
            .map(|regex| {
                json!({
                    "type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false,
                })
            })
            .collect();
        steps.push(json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": self.gpt2,
        }));
        json!({"type": "Sequence", "pretokenizers": steps})
    }

    /// The rule that a `pre_tokenizer` spells out, or what stands in the way; `composed` where NFC comes first, `whole_words`
    /// where words that are tokens stay whole. Where a split has but the other way with words, whoever writes it looks at words.
    pub fn spelt(
        pre_tokenizer: &Value,
        composed: bool,
        whole_words: bool,
    ) -> Result<&'static Self, String> {
        let alone = std::slice::from_ref(pre_tokenizer);
        let steps = match pre_tokenizer["pretokenizers"].as_array() {
            Some(steps) => &steps[..],
            None => alone,
        };
        let (mut splits, mut gpt2) = (Vec::new(), None);
        for step in steps {
            let name = step["type"].as_str().unwrap_or("nothing");
            if gpt2.is_some() {
                return Err(format!(
                    "its pre-tokenizer has a step {name} behind the byte-level one"
                ));
            }
            match name {
                "Split" => splits.push(split(step, steps)?),
                "Digits" if step["individual_digits"] == true => splits.push(DIGIT),
                "ByteLevel" if step["add_prefix_space"] == true => {
                    return Err("it puts a space before each text (add_prefix_space)".to_owned());
                }
                "ByteLevel" => gpt2 = Some(step["use_regex"] != false),
                _ => return Err(format!("its pre-tokenizer has a step {name}")),
            }
        }
        let Some(gpt2) = gpt2 else {
            return Err("it is not byte-level".to_owned());
        };
        let same = |rule: &&Self| rule.splits == splits && rule.gpt2 == gpt2;
        let split = splits.last().copied().unwrap_or_default();
        if !RULES.iter().any(|rule| same(&rule)) {
            return Err(format!("llama.cpp has no name for its split {split:?}"));
        }
        let composing = |rule: &&Self| same(rule) && rule.composed == composed;
        let exact = |rule: &&Self| composing(rule) && rule.whole_words == whole_words;
        let found = RULES.iter().find(exact);
        found.or_else(|| RULES.iter().find(composing)).ok_or_else(|| {
            let with = if composed { "after" } else { "without" };
            format!("llama.cpp's files have no name for its split {split:?} {with} composing texts (normalizer NFC)")
        })
    }
}

/// The expression of a split whose matches, and what lies between them, are pieces of their own.
fn split<'v>(step: &'v Value, steps: &[Value]) -> Result<&'v str, String> {
    let Some(regex) = step["pattern"]["Regex"].as_str() else {
        return Err("it splits at a text, not an expression".to_owned());
    };
    // An expression that takes every character leaves nothing to be removed: tokenizers of tiktoken's are spelt so.
    let whole =
        regex.ends_with(r"|\s+") && matches!(steps, [_, level] if level["use_regex"] == false);
    match step["behavior"].as_str() {
        Some("Isolated") => Ok(regex),
        Some("Removed") if step["invert"] == true && whole => Ok(regex),
        other => Err(format!(
            "llama.cpp has no split with behavior {}",
            other.unwrap_or("null")
        )),
    }
}

#[cfg(test)]
mod tests;
