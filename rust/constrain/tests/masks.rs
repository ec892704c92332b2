//! Masks of small grammars over a vocabulary of single bytes and a few longer tokens.

use moevolve_constrain::{Form, Token, Vocabulary};

const END: u32 = 260;

fn vocabulary() -> Vocabulary {
    let mut tokens: Vec<Token> = (0..=255u8).map(|byte| Token::Bytes(vec![byte])).collect();
    tokens.push(Token::Bytes(b"true".to_vec()));
    tokens.push(Token::Bytes(b"{\"".to_vec()));
    tokens.push(Token::Special("<|call|>".to_owned()));
    tokens.push(Token::Spare);
    tokens.push(Token::Special("<|end|>".to_owned()));
    Vocabulary::new(tokens, &[END]).unwrap()
}

/// The tokens that may follow a text.
fn after(form: Form, source: &str, text: &str) -> Vec<u32> {
    let mut walk = vocabulary().compile(form, source).unwrap().begin();
    for byte in text.bytes() {
        assert!(walk.take(u32::from(byte)), "{text:?} fits");
    }
    let mut logits = vec![0.0; 300];
    assert!(walk.mask(&mut logits));
    let allowed = (0..261).filter(|&i| logits[i as usize] == 0.0);
    allowed.collect()
}

fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

#[test]
fn a_regular_expression_allows_what_goes_on_and_ends_where_it_may() {
    assert_eq!(after(Form::Regex, "[01]{2}", ""), bytes("01"));
    assert_eq!(after(Form::Regex, "[01]{2}", "1"), bytes("01"));
    assert_eq!(after(Form::Regex, "[01]{2}", "10"), vec![END]);
    let open = after(Form::Regex, "(?s:.*)", "a");
    assert!(
        open.contains(&END) && open.contains(&256),
        "text and its end"
    );
    assert!(
        !open.contains(&258) && !open.contains(&259),
        "no special token, no spare row"
    );
}

#[test]
fn a_schema_allows_its_instances() {
    let schema = r#"{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"],
        "additionalProperties":false,"x-guidance":{"whitespace_flexible":false}}"#;
    assert_eq!(
        after(Form::Json, schema, ""),
        [bytes("{"), vec![257]].concat()
    );
    assert_eq!(
        after(Form::Json, schema, "{\"ok\":"),
        [bytes("ft"), vec![256]].concat()
    );
    assert_eq!(after(Form::Json, schema, "{\"ok\":true}"), vec![END]);
}

#[test]
fn a_lark_grammar_may_name_special_tokens() {
    let grammar = "start: <|call|> \"x\"+\n";
    assert_eq!(after(Form::Lark, grammar, ""), vec![258]);
}

#[test]
fn samples_of_one_constraint_do_not_touch_each_other() {
    let constraint = vocabulary().compile(Form::Regex, "ab|cd").unwrap();
    let (mut one, mut other) = (constraint.begin(), constraint.begin());
    assert!(one.take(u32::from(b'a')));
    let mut logits = vec![0.0; 261];
    assert!(other.mask(&mut logits));
    assert_eq!(logits[usize::from(b'c')], 0.0);
    assert!(one.mask(&mut logits));
    assert!(!one.take(u32::from(b'c')), "only b may follow");
}

#[test]
fn what_cannot_be_compiled_says_why_in_one_line() {
    let vocabulary = vocabulary();
    for (form, source) in [
        (Form::Regex, "[a"),
        (Form::Json, "{"),
        (Form::Json, r#"{"type":"nothing"}"#),
        (Form::Lark, "start: missing"),
        (Form::Lark, "root ::= \"7\""),
        (Form::Json, r#"{"type":"integer","minimum":3,"maximum":2}"#),
    ] {
        let error = vocabulary.compile(form, source).err();
        let said = error
            .unwrap_or_else(|| panic!("{source} compiles"))
            .to_string();
        assert!(!said.is_empty() && !said.contains('\n'), "{source}: {said}");
    }
    assert!(Vocabulary::new(vec![Token::Spare], &[]).is_err(), "no end");
}
