//! How much of a question a lesson speaks of: the confidence below which memory rather says nothing.
//!
//! A score says which lesson comes first, and not whether any answers: a lesson about the right thing's other side scores
//! as well as one that answers a longer question. So what counts is the share of the question's own words that the
//! lesson has, typing errors and endings forgiven, words that every question has left out.

use crate::words;

/// Words that questions and sentences are made of, whatever they are about.
const COMMON: [&str; 92] = [
    "a", "about", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can", "could",
    "did", "do", "does", "for", "from", "get", "give", "had", "has", "have", "he", "her", "his",
    "how", "i", "if", "in", "into", "is", "it", "its", "know", "many", "me", "much", "my", "need",
    "no", "not", "of", "on", "one", "or", "our", "please", "s", "say", "she", "should", "show",
    "so", "some", "such", "t", "tell", "than", "that", "the", "their", "them", "then", "there",
    "these", "they", "this", "those", "to", "up", "us", "use", "used", "uses", "was", "we", "were",
    "what", "when", "where", "which", "who", "whose", "why", "will", "with", "would", "you",
    "your", "yours",
];

/// Shortest word whose misspellings are recognised.
const FORGIVEN: usize = 5;

/// The words of a question that a lesson should have.
pub struct Asked(Vec<Vec<char>>);

impl Asked {
    /// Of a text; `common` tells which words most lessons have. If all are common, all count.
    pub fn of(text: &str, mut common: impl FnMut(&str) -> bool) -> Self {
        let all: Vec<String> = words::counted(text)
            .into_iter()
            .map(|(word, _)| word)
            .collect();
        let own = all
            .iter()
            .filter(|word| COMMON.binary_search(&word.as_str()).is_err() && !common(word));
        let mut asked: Vec<Vec<char>> = own.map(|word| word.chars().collect()).collect();
        if asked.is_empty() {
            asked = all.iter().map(|word| word.chars().collect()).collect();
        }
        Self(asked)
    }

    /// The share of them that a text has, in [0, 1]; 1 of no words at all.
    pub fn covered(&self, text: &str) -> f32 {
        if self.0.is_empty() {
            return 1.0;
        }
        let has: Vec<Vec<char>> = words::counted(text)
            .into_iter()
            .map(|(word, _)| word.chars().collect())
            .collect();
        let met = self
            .0
            .iter()
            .filter(|word| has.iter().any(|other| alike(word, other)))
            .count();
        met as f32 / self.0.len() as f32
    }
}

/// Whether two words are the same but for one letter that is not the first; numbers must be the same.
fn alike(a: &[char], b: &[char]) -> bool {
    if a == b {
        return true;
    }
    if a.len().max(b.len()) < FORGIVEN || a.first() != b.first() {
        return false;
    }
    let numbers = a.iter().chain(b).any(|letter| letter.is_numeric());
    !numbers && a.len().abs_diff(b.len()) <= 1 && distance(a, b) <= 1
}

/// Letters to insert, delete, replace or swap with their neighbour (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted() {
        assert!(COMMON.is_sorted());
    }

    #[test]
    fn what_is_asked_are_the_words_of_its_own() {
        let asked = Asked::of("What is the port of zarvex?", |_| false);
        assert_eq!(asked.covered("the port of zarvex is 80"), 1.0);
        assert_eq!(asked.covered("the owner of zarvex"), 0.5);
        assert_eq!(
            Asked::of("what is it", |_| false).covered("it is"),
            2.0 / 3.0
        );
        assert_eq!(Asked::of("", |_| false).covered("anything"), 1.0);
    }

    #[test]
    fn typing_errors_and_endings_are_forgiven_but_not_in_numbers() {
        let covered = |a: &str, b: &str| Asked::of(a, |_| false).covered(b);
        for (a, b) in [
            ("zravex", "zarvex"),
            ("zarvx", "zarvex"),
            ("ports", "port"),
            ("reversing", "reversed"),
        ] {
            assert_eq!(
                covered(a, b),
                if a == "reversing" { 0.0 } else { 1.0 },
                "{a}"
            );
        }
        assert_eq!(covered("12345", "12346"), 0.0);
        assert_eq!(covered("cat", "car"), 0.0);
        assert_eq!(covered("consequences", "consequence"), 1.0);
    }

    #[test]
    fn distances_are_symmetric_and_small_for_swaps() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(distance(&chars("abcd"), &chars("abdc")), 1);
        assert_eq!(distance(&chars("kitten"), &chars("sitting")), 3);
        assert_eq!(distance(&chars("sitting"), &chars("kitten")), 3);
        assert_eq!(distance(&[], &chars("abc")), 3);
    }
}
