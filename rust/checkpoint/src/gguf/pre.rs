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

/// The rule of GPT-2 first: it stands in where a name is not known.
pub static RULES: [Rule; 11] = [
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
        names: &["dbrx", "smaug-bpe", "chatglm-bpe", "glm4", "glm5"],
        splits: &[LLAMA3],
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
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        splits: &[r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK],
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
            match step["type"].as_str() {
                Some("Split") => match step["pattern"]["Regex"].as_str() {
                    Some(regex) => splits.push(regex),
                    None => return Err("it splits at a text, not an expression".to_owned()),
                },
                Some("Digits") if step["individual_digits"] == true => splits.push(DIGIT),
                Some("ByteLevel") if step["add_prefix_space"] != true => {
                    gpt2 = Some(step["use_regex"] != false);
                }
                other => {
                    let name = other.unwrap_or("nothing");
                    return Err(format!("its pre-tokenizer has a step {name}"));
                }
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
