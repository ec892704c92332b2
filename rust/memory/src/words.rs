//! The words of a text, as they are indexed and searched.

/// Words are compared by so many bytes.
const MAX_WORD: usize = 64;

/// The words of a text with their numbers of occurrences, by word: runs of letters and digits in lower case. In scripts that
/// write no blanks between words every letter is a word.
pub fn counted(text: &str) -> Vec<(String, u32)> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    for letter in text.chars() {
        if !letter.is_alphanumeric() {
            flush(&mut word, &mut words);
        } else if unspaced(letter) {
            flush(&mut word, &mut words);
            words.push(letter.to_string());
        } else {
            word.extend(letter.to_lowercase());
        }
    }
    flush(&mut word, &mut words);
    words.sort_unstable();
    let mut counted: Vec<(String, u32)> = Vec::with_capacity(words.len());
    for word in words {
        match counted.last_mut() {
            Some((last, count)) if *last == word => *count += 1,
            _ => counted.push((word, 1)),
        }
    }
    counted
}

fn flush(word: &mut String, words: &mut Vec<String>) {
    if !word.is_empty() {
        word.truncate(word.floor_char_boundary(MAX_WORD));
        words.push(std::mem::take(word));
    }
}

/// Letters of Chinese, Japanese, Thai, Lao, Khmer and Burmese.
fn unspaced(letter: char) -> bool {
    matches!(u32::from(letter),
        0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x3040..=0x30FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF
        | 0xF900..=0xFAFF | 0x20000..=0x3FFFF)
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn words_are_lower_case_runs_of_letters_and_digits() {
        let words = counted("Carry the 7, carry THE seven! ÉTÉ");
        let expected = [("7", 1), ("carry", 2), ("seven", 1), ("the", 2), ("été", 1)];
        assert_eq!(
            words,
            expected.map(|(word, count)| (word.to_owned(), count))
        );
    }

    #[test]
    fn unspaced_scripts_are_indexed_letter_by_letter() {
        let words: Vec<String> = counted("数字abc字")
            .into_iter()
            .map(|(word, _)| word)
            .collect();
        assert_eq!(words, ["abc", "字", "数"]);
    }

    #[test]
    fn a_long_word_is_cut_between_letters() {
        let words = counted(&"é".repeat(100));
        assert_eq!(words[0].0.len(), 64);
    }
}
