//! What chat vendors have in common: text that cannot break out of its mark-up, and addresses
//! that are credentials.
//!
//! Pure. What an alert says is written by whoever attacks the agent, so it may mention nobody,
//! hide no link behind other words and end no code block.

use holdfast_model::Secret;
use reqwest::Url;

use crate::message::{Severity, clip};

const CUT: &str = " … [cut]";

/// With a space without width, so that the name behind it is not a mention.
const UNNAMED_AT: &str = "@\u{200b}";

/// A text with `&`, `<` and `>` as entities (Slack's mrkdwn, Telegram's HTML), at most so many
/// characters long when written so. No entity is cut in two; what is cut says so.
pub(crate) fn entities(text: &str, chars_max: usize) -> String {
    let entity = |_: char, c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        c => c.to_string(),
    };
    escaped(text, chars_max, entity)
}

/// A text in which nothing is Markdown, as Discord and Mattermost read it, at most so many
/// characters long when written so. A bare address stays one that can be followed.
pub(crate) fn plain_markdown(text: &str, chars_max: usize) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#&=%+,;!$".contains(c);
    let is_address = text.starts_with("https://") || text.starts_with("http://");
    if is_address && text.chars().all(harmless) && text.len() <= chars_max {
        return text.to_owned();
    }
    let escape = |before: char, c: char| match c {
        '\\' | '*' | '_' | '~' | '`' | '|' | '[' | ']' | '(' | ')' | '<' | '>' | '#' => {
            format!("\\{c}")
        }
        '@' if begins_mention(before) => UNNAMED_AT.to_owned(),
        c => c.to_string(),
    };
    escaped(text, chars_max, escape)
}

/// A text that mentions nobody and is otherwise as it was.
pub(crate) fn unmentioning(text: &str) -> String {
    let mut before = ' ';
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '@' if begins_mention(before) => out.push_str(UNNAMED_AT),
            c => out.push(c),
        }
        before = c;
    }
    out
}

/// Within a word it is an address of e-mail, which people copy.
fn begins_mention(before: char) -> bool {
    !before.is_alphanumeric()
}

/// The colour beside a message, as red, green and blue.
pub(crate) fn colour(severity: Severity) -> u32 {
    match severity {
        Severity::Low => 0x2e_a0_43,
        Severity::Medium => 0xd2_99_22,
        Severity::High => 0xdb_6d_28,
        Severity::Critical => 0xda_36_33,
    }
}

/// A text in a code block of Markdown, whatever it holds, at most so many characters long.
pub(crate) fn fenced(text: &str, chars_max: usize) -> String {
    const FENCES_CHARS: usize = 8;
    let text = text.replace("```", "'''");
    format!("```\n{}\n```", clip(&text, chars_max.saturating_sub(FENCES_CHARS)))
}

fn escaped(text: &str, chars_max: usize, escape: impl Fn(char, char) -> String) -> String {
    let cut_chars = CUT.chars().count();
    let mut whole = String::new();
    let mut chars = 0;
    // Where the text may be cut so that the note still fits.
    let mut cut_at = 0;
    let mut before = ' ';
    for c in text.chars() {
        let piece = escape(before, c);
        before = c;
        chars += piece.chars().count();
        if chars > chars_max {
            whole.truncate(cut_at);
            if cut_chars <= chars_max {
                whole.push_str(CUT);
            }
            return whole;
        }
        whole.push_str(&piece);
        if chars + cut_chars <= chars_max {
            cut_at = whole.len();
        }
    }
    whole
}

/// The parts of an address that are its secret, to be masked where an answer repeats them alone:
/// the last segment of the path, and what the query holds under `names`.
pub(crate) fn parts(url: &Url, names: &[&str]) -> Vec<Secret> {
    let last = url.path_segments().and_then(|mut segments| segments.next_back());
    let mut secrets: Vec<Secret> = last.map(Secret::new).into_iter().collect();
    for (name, value) in url.query_pairs() {
        if names.contains(&name.as_ref()) {
            secrets.push(Secret::new(value.into_owned()));
        }
    }
    secrets
}

#[cfg(test)]
mod tests {
    use holdfast_model::DeliveryError;

    use super::*;
    use crate::http::masked;

    #[test]
    fn an_escaped_text_is_within_its_limit_and_ends_between_escapes() {
        assert_eq!(entities("a<b>&c", 99), "a&lt;b&gt;&amp;c");
        assert_eq!(entities("a<b>&c", 16), "a&lt;b&gt;&amp;c");
        assert_eq!(entities("a<b>&c", 15), "a&lt;b … [cut]");
        assert_eq!(entities("<<<<", 13), "&lt; … [cut]");
        assert_eq!(entities("<<<<", 3), "");
        assert_eq!(plain_markdown("*[x](y) @all", 99), "\\*\\[x\\]\\(y\\) @\u{200b}all");
        assert_eq!(plain_markdown("https://x.example/a_b", 99), "https://x.example/a_b");
        assert_eq!(
            plain_markdown("https://x.example/[a](b)", 99),
            "https://x.example/\\[a\\]\\(b\\)"
        );
        assert_eq!(plain_markdown("a@b.example", 99), "a@b.example");
        assert_eq!(unmentioning("@all *x* a@b (@here"), "@\u{200b}all *x* a@b (@\u{200b}here");
        for limit in 0..60 {
            let text = "é<*@".repeat(20);
            assert!(entities(&text, limit).chars().count() <= limit);
            assert!(plain_markdown(&text, limit).chars().count() <= limit);
        }
    }

    #[test]
    fn nothing_ends_a_code_block_but_its_end() {
        assert_eq!(fenced("a```b", 99), "```\na'''b\n```");
        assert_eq!(fenced(&"`".repeat(3000), 1000).chars().count(), 1000);
        assert_eq!(fenced(&"`".repeat(3000), 1000).matches("```").count(), 2);
    }

    #[test]
    fn the_secret_parts_of_an_address_are_masked() {
        let url = "https://x.example/hooks/abcdefgh?api-version=1&sig=s%2Bcret-s".parse().unwrap();
        let error = DeliveryError::new(holdfast_model::Reason::Refused)
            .with_excerpt("no hook abcdefgh; sig s+cret-s");
        let error = masked(error, &parts(&url, &["sig"]));
        assert_eq!(error.excerpt, "no hook [masked]; sig [masked]");
    }
}
