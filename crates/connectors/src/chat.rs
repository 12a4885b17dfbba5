//! What chat vendors have in common: text that cannot break out of its mark-up, and addresses
//! that are credentials.
//!
//! Pure. What an alert says is written by whoever attacks the agent, so it may mention nobody,
//! hide no link behind other words and end no code block.

use holdfast_model::{DeliveryError, Secret};
use reqwest::Url;

use crate::{http::mask, message::clip};

const CUT: &str = " … [cut]";

/// A text with `&`, `<` and `>` as entities (Slack's mrkdwn, Telegram's HTML), at most so many
/// characters long when written so. No entity is cut in two; what is cut says so.
pub(crate) fn entities(text: &str, chars_max: usize) -> String {
    let entity = |c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        c => c.to_string(),
    };
    escaped(text, chars_max, entity)
}

/// A text in which nothing is Markdown, as Discord and Mattermost read it, at most so many
/// characters long when written so.
pub(crate) fn plain_markdown(text: &str, chars_max: usize) -> String {
    let escape = |c: char| match c {
        '\\' | '*' | '_' | '~' | '`' | '|' | '[' | ']' | '(' | ')' | '<' | '>' | '#' => {
            format!("\\{c}")
        }
        // A space without width: a name behind it is not a mention.
        '@' => "@\u{200b}".to_owned(),
        c => c.to_string(),
    };
    escaped(text, chars_max, escape)
}

/// A text in a code block of Markdown, whatever it holds, at most so many characters long.
pub(crate) fn fenced(text: &str, chars_max: usize) -> String {
    const FENCES_CHARS: usize = 8;
    let text = text.replace("```", "'''");
    format!("```\n{}\n```", clip(&text, chars_max.saturating_sub(FENCES_CHARS)))
}

fn escaped(text: &str, chars_max: usize, escape: impl Fn(char) -> String) -> String {
    let cut_chars = CUT.chars().count();
    let mut whole = String::new();
    let mut chars = 0;
    // Where the text may be cut so that the note still fits.
    let mut cut_at = 0;
    for c in text.chars() {
        let piece = escape(c);
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

/// The error without these secrets.
pub(crate) fn masked(mut error: DeliveryError, secrets: &[Secret]) -> DeliveryError {
    error.excerpt = mask(&error.excerpt, secrets);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_text_is_within_its_limit_and_ends_between_escapes() {
        assert_eq!(entities("a<b>&c", 99), "a&lt;b&gt;&amp;c");
        assert_eq!(entities("a<b>&c", 16), "a&lt;b&gt;&amp;c");
        assert_eq!(entities("a<b>&c", 15), "a&lt;b … [cut]");
        assert_eq!(entities("<<<<", 13), "&lt; … [cut]");
        assert_eq!(entities("<<<<", 3), "");
        assert_eq!(plain_markdown("*[x](y) @all", 99), "\\*\\[x\\]\\(y\\) @\u{200b}all");
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
