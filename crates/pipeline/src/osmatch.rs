//! Wazuh's OSMatch patterns ("sregex"), as `os_match_compile.c` and `os_match_execute.c` of 4.14
//! read them: a leading `!` negates the whole; `|` separates alternatives and cannot be escaped;
//! in each a leading `^` anchors the beginning and a trailing `$` the end; an empty alternative
//! matches everything; letters match without regard to ASCII case. Nothing else has a meaning.

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OsMatch {
    negated: bool,
    alternatives: Vec<Alternative>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Alternative {
    /// In lower case.
    text: Vec<u8>,
    at_start: bool,
    at_end: bool,
}

impl OsMatch {
    pub(crate) fn new(pattern: &str) -> Self {
        let (negated, rest) = match pattern.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        let alternative = |text: &str| {
            let (at_start, text) =
                text.strip_prefix('^').map_or((false, text), |rest| (true, rest));
            let (at_end, text) = text.strip_suffix('$').map_or((false, text), |rest| (true, rest));
            Alternative { text: text.to_ascii_lowercase().into_bytes(), at_start, at_end }
        };
        Self { negated, alternatives: rest.split('|').map(alternative).collect() }
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        let text = text.as_bytes();
        let hit = self.alternatives.iter().any(|wanted| match (wanted.at_start, wanted.at_end) {
            _ if wanted.text.is_empty() && !(wanted.at_start && wanted.at_end) => true,
            (true, true) => text == wanted.text,
            (true, false) => text.starts_with(&wanted.text),
            (false, true) => text.ends_with(&wanted.text),
            (false, false) => text.windows(wanted.text.len()).any(|part| part == wanted.text),
        });
        hit != self.negated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_wazuh_means() {
        #[rustfmt::skip]
        let table = [
            // pattern,          text,                matches
            ("syscheck",         "Syscheck",          true),
            ("^/var/log",        "/var/log/auth.log", true),
            ("^/var/log",        "x/var/log",         false),
            (".log$",            "/var/log/auth.LOG", true),
            (".log$",            "/var/log.1",        false),
            ("^sca$",            "sca",               true),
            ("^sca$",            "scab",              false),
            ("a|b",              "xbx",               true),
            ("!a|b",             "xbx",               false),
            ("!a|b",             "xcx",               true),
            ("a||z",             "nothing of them",   true),
            ("",                 "anything",          true),
            ("a!b",              "a!b",               true),
            ("a.b",              "axb",               false),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(OsMatch::new(pattern).matches(text), expected, "{pattern} on {text}");
        }
    }
}
