//! What files beside `tokenizer.json` say about its tokens, merged into it and into `tokenizer_config.json` as transformers
//! reads them: `added_tokens_decoder`, or `special_tokens_map.json` and `added_tokens.json` where the settings have none.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use tokenizers::AddedToken;

use super::SETTINGS;
use crate::error::{Error, Result};
use crate::files::read_object;

/// Roles that every tokenizer of transformers knows.
pub const ROLES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// Tokens without a role: a list, or by names of the model's own. The older name counts where the newer one is empty.
const EXTRA: [&str; 2] = ["extra_special_tokens", "additional_special_tokens"];
/// Tokens by names of the model's own, which count where no other key has such.
const OWN: &str = "model_specific_special_tokens";
const DECODER: &str = "added_tokens_decoder";
const MAP: &str = "special_tokens_map.json";
const ADDED: &str = "added_tokens.json";

/// Settings and tokens of a folder.
pub struct Beside {
    /// `tokenizer_config.json` with what the map of special tokens puts over it; None where neither is there.
    pub settings: Option<Map<String, Value>>,
    /// Whether they are other than the file's.
    pub changed: bool,
    /// Tokens as the settings describe them, which counts before what the tokenizer's own file says.
    pub described: Vec<AddedToken>,
    /// Tokens that the tokenizer must know, in the order in which they get ids.
    pub needed: Vec<AddedToken>,
}

/// Reads the files beside a folder's tokenizer.
pub fn read(folder: &Path) -> Result<Beside> {
    let file = folder.join(SETTINGS);
    let read = read_object(&file)?;
    let mut settings = read.clone().unwrap_or_default();
    let (mut described, mut needed) = (Vec::new(), Vec::new());
    if let Some(decoder) = settings.get(DECODER).filter(|value| !value.is_null()) {
        described = decoded(decoder).map_err(|reason| wrong(&file, DECODER, &reason))?;
    } else {
        if let Some(map) = read_object(&folder.join(MAP))? {
            settings = joined(settings, map);
        }
        let added = folder.join(ADDED);
        if let Some(found) = read_object(&added)? {
            let mut by_id = BTreeMap::new();
            for (token, id) in found {
                let id = id.as_u64().ok_or_else(|| {
                    Error::file(&added, format!("{token:?} has {id}, which is no id"))
                })?;
                by_id.insert(id, token);
            }
            let special = specials(&settings, &file)?;
            let known = |token: &String| special.iter().any(|one| one.content == *token);
            needed.extend(by_id.into_values().map(|token| {
                let special = known(&token);
                AddedToken::from(token, special)
            }));
        }
    }
    needed.extend(specials(&settings, &file)?);
    let changed = read.as_ref() != Some(&settings);
    let there = read.is_some() || changed && !settings.is_empty();
    Ok(Beside {
        settings: there.then_some(settings),
        changed,
        described,
        needed,
    })
}

/// An error of a key of a file.
pub fn wrong(file: &Path, key: &str, reason: &str) -> Error {
    Error::Config {
        file: file.display().to_string(),
        key: key.to_owned(),
        reason: reason.to_owned(),
    }
}

/// The entries of `added_tokens_decoder` in the order of their ids.
fn decoded(decoder: &Value) -> std::result::Result<Vec<AddedToken>, String> {
    let mut by_id = BTreeMap::new();
    let entries = decoder.as_object().ok_or("is not an object")?;
    for (id, token) in entries {
        let id: u64 = id.parse().map_err(|_| format!("{id:?} is no id"))?;
        let content = token.get("content").and_then(Value::as_str);
        let content = content.ok_or_else(|| format!("{id} has no content"))?;
        by_id.insert(id, described(content, token, false));
    }
    Ok(by_id.into_values().collect())
}

/// A token with the properties that its entry has.
fn described(content: &str, entry: &Value, special: bool) -> AddedToken {
    let flag = |key: &str, default| entry.get(key).and_then(Value::as_bool).unwrap_or(default);
    let special = special || flag("special", false);
    AddedToken::from(content, special)
        .single_word(flag("single_word", false))
        .lstrip(flag("lstrip", false))
        .rstrip(flag("rstrip", false))
        .normalized(flag("normalized", !special))
}

/// Special tokens that the settings name: by role, by names of the model's own, and without one.
fn specials(settings: &Map<String, Value>, file: &Path) -> Result<Vec<AddedToken>> {
    let mut found = Vec::new();
    let own = own(settings);
    for (role, token) in named(settings, file)? {
        found.push(match own.get(&role).or(settings.get(&role)) {
            Some(entry) if entry.is_object() => described(&token, entry, true),
            _ => AddedToken::from(token, true),
        });
    }
    let Some((key, extra)) = extra(settings) else {
        return Ok(found);
    };
    let extra = match extra {
        Value::Object(_) => return Ok(found),
        Value::Array(extra) => extra,
        _ => return Err(wrong(file, key, "is not a list of tokens")),
    };
    for token in extra {
        let text = text_of(token).ok_or_else(|| wrong(file, key, "holds what is no token"))?;
        found.push(match token {
            Value::Object(_) => described(&text, token, true),
            _ => AddedToken::from(text, true),
        });
    }
    Ok(found)
}

/// Tokens without a role, under the key that counts.
fn extra(settings: &Map<String, Value>) -> Option<(&'static str, &Value)> {
    let empty = |value: &Value| match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        value => value.is_null(),
    };
    let mut there = EXTRA
        .into_iter()
        .filter_map(|key| Some((key, settings.get(key)?)));
    there.find(|(_, value)| !empty(value))
}

/// Whether a key names a token of the model's own beside the roles.
fn is_own(key: &str, value: &Value) -> bool {
    key.ends_with("_token") && value.is_string() && !ROLES.contains(&key)
}

/// Tokens by names of the model's own: keys of the settings and those among the tokens without a role, else those that have
/// a key for themselves.
fn own(settings: &Map<String, Value>) -> Map<String, Value> {
    let keys = settings.iter().filter(|(key, value)| is_own(key, value));
    let mut own: Map<_, _> = keys.map(|(k, v)| (k.clone(), v.clone())).collect();
    if let Some((_, Value::Object(named))) = extra(settings) {
        own.extend(named.clone());
    }
    match settings.get(OWN) {
        Some(Value::Object(named)) if own.is_empty() => named.clone(),
        _ => own,
    }
}

/// The settings with the map of special tokens over them. Roles are the map's, names of the model's own are the settings';
/// lists of further tokens are joined under the newer name, and under the older one the map's counts where the settings have
/// neither.
fn joined(mut settings: Map<String, Value>, mut map: Map<String, Value>) -> Map<String, Value> {
    let [newer, older] = EXTRA;
    let mut named = own(&settings);
    if map
        .iter()
        .any(|(key, value)| EXTRA.contains(&key.as_str()) || is_own(key, value))
    {
        let said = EXTRA.iter().any(|key| settings.contains_key(*key));
        let listed = match extra(&settings) {
            Some((_, Value::Array(list))) => Some(list.clone()),
            Some((_, Value::Object(_))) => None,
            _ => said.then(Vec::new),
        };
        let listed = match (map.remove(newer), map.remove(older)) {
            (Some(Value::Object(more)), older) => {
                named.extend(more);
                older
            }
            (Some(Value::Array(more)), _) => {
                let mut listed = listed.unwrap_or_default();
                for token in more {
                    if !listed.contains(&token) {
                        listed.push(token);
                    }
                }
                Some(Value::Array(listed))
            }
            (Some(other), _) => Some(other),
            (None, older) => listed.map(Value::Array).or(older),
        };
        let before = map.iter().filter(|(key, value)| is_own(key, value));
        let mut all: Map<_, _> = before.map(|(k, v)| (k.clone(), v.clone())).collect();
        all.extend(named);
        map.retain(|key, value| !is_own(key, value));
        settings.retain(|key, value| !is_own(key, value) && !EXTRA.contains(&key.as_str()));
        settings.remove(OWN);
        if !all.is_empty() {
            settings.insert(OWN.to_owned(), Value::Object(all));
        }
        if let Some(listed) = listed {
            settings.insert(newer.to_owned(), listed);
        }
    }
    settings.extend(map);
    settings
}

/// Texts of special tokens by role, in the order of the roles and then of the model's own names.
pub fn named(settings: &Map<String, Value>, file: &Path) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for role in ROLES {
        if let Some(value) = settings.get(role).filter(|value| !value.is_null()) {
            let text = text_of(value).ok_or_else(|| wrong(file, role, "is no token"))?;
            found.push((role.to_owned(), text));
        }
    }
    if settings
        .get(OWN)
        .is_some_and(|own| !own.is_object() && !own.is_null())
    {
        return Err(wrong(file, OWN, "is not an object"));
    }
    for (role, value) in own(settings) {
        if ROLES.contains(&role.as_str()) {
            continue;
        }
        let text = text_of(&value).ok_or_else(|| wrong(file, &role, "is no token"))?;
        found.push((role, text));
    }
    Ok(found)
}

/// A token's text: itself, or an object's `content`.
fn text_of(value: &Value) -> Option<String> {
    let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
    Some(text.to_owned())
}

/// Gives the tokenizer the tokens that it does not know so; the text of its file with them, or None where it knew all.
pub fn add(
    tokenizer: &mut tokenizers::Tokenizer,
    beside: &Beside,
    json: &str,
) -> tokenizers::Result<Option<String>> {
    let known: BTreeMap<String, AddedToken> = tokenizer
        .get_added_tokens_decoder()
        .into_values()
        .map(|token| (token.content.clone(), token))
        .collect();
    let new = |one: &&AddedToken| known.get(&one.content) != Some(*one);
    let mut fresh: Vec<AddedToken> = beside.described.iter().filter(new).cloned().collect();
    for token in &beside.needed {
        let there = |one: &AddedToken| one.content == token.content;
        match fresh.iter_mut().find(|one| there(one)) {
            Some(described) => described.special |= token.special,
            None if known.contains_key(&token.content) => {}
            None => fresh.push(token.clone()),
        }
    }
    fresh.retain(|token| !token.content.is_empty());
    if fresh.is_empty() {
        return Ok(None);
    }
    tokenizer.add_tokens(fresh)?;
    let mut whole: Map<String, Value> = serde_json::from_str(json)?;
    let mut all: Vec<_> = tokenizer.get_added_tokens_decoder().into_iter().collect();
    all.sort_by_key(|(id, _)| *id);
    let entry = |(id, token): (u32, AddedToken)| {
        json!({
            "id": id,
            "content": token.content,
            "single_word": token.single_word,
            "lstrip": token.lstrip,
            "rstrip": token.rstrip,
            "normalized": token.normalized,
            "special": token.special,
        })
    };
    let all: Vec<Value> = all.into_iter().map(entry).collect();
    whole.insert("added_tokens".to_owned(), Value::Array(all));
    Ok(Some(serde_json::to_string_pretty(&whole)?))
}
