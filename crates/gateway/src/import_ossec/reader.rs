//! `ossec.conf` as Wazuh reads it (`os_xml.c` of 4.14). Pure.
//!
//! It looks like XML and is not: entities stay as they are written, values keep their blanks, a
//! comment begins with `<!` anywhere and ends at `-->` or `!>`, `\<` is no tag, a file may have
//! several roots, and what follows an element's last child is its value.

/// Longest name or value, in bytes.
const TEXT_BYTES_MAX: usize = 20_480;

/// Deepest nesting; Wazuh's own files have three levels.
const DEPTH_MAX: usize = 32;

/// An element with what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) name: String,
    /// As it is written, comments left out.
    pub(crate) value: Vec<u8>,
    /// Where its name ends, counted from 1.
    pub(crate) line: usize,
    pub(crate) children: Vec<Element>,
}

/// Why a file cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("a comment is not closed")]
    OpenComment,
    #[error("`</` closes an element that was not opened")]
    NotOpened,
    #[error("<{0}> is not closed")]
    NotClosed(String),
    #[error("the file ends inside of an element")]
    Unfinished,
    #[error("an attribute is not `name=\"value\"`")]
    BadAttribute,
    #[error("a name or value is longer than {TEXT_BYTES_MAX} bytes")]
    TooLong,
    #[error("elements are nested deeper than {DEPTH_MAX}")]
    TooDeep,
}

/// Reads a whole file: its roots, or the line where it cannot be read on.
pub(crate) fn read(text: &[u8]) -> Result<Vec<Element>, (usize, Problem)> {
    let mut reader = Reader { text, at: 0, line: 1 };
    let mut roots = Vec::new();
    loop {
        match reader.element(0) {
            Ok(Some(root)) => roots.push(root),
            Ok(None) => return Ok(roots),
            Err(problem) => return Err((reader.line, problem)),
        }
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        self.line += usize::from(byte == b'\n');
        Some(byte)
    }

    fn sees(&self, wanted: &[u8]) -> bool {
        self.text[self.at..].starts_with(wanted)
    }

    /// Skips a comment whose `<` was read, if there is one.
    fn comment(&mut self) -> Result<bool, Problem> {
        if !self.sees(b"!") {
            return Ok(false);
        }
        self.at += 1;
        loop {
            let end = [&b"!>"[..], b"-->"].into_iter().find(|end| self.sees(end));
            if let Some(end) = end {
                self.at += end.len();
                return Ok(true);
            }
            self.next().ok_or(Problem::OpenComment)?;
        }
    }

    /// The next element; `None` at the end of the file, which only a root's place may be.
    fn element(&mut self, depth: usize) -> Result<Option<Element>, Problem> {
        if depth >= DEPTH_MAX {
            return Err(Problem::TooDeep);
        }
        if !self.find_opening()? {
            return if depth == 0 { Ok(None) } else { Err(Problem::Unfinished) };
        }
        let (name, closed) = self.opening()?;
        let line = self.line;
        let mut element = Element { name, value: Vec::new(), line, children: Vec::new() };
        if !closed {
            self.content(&mut element, depth)?;
        }
        Ok(Some(element))
    }

    /// Goes behind the next `<`; whether there is one.
    fn find_opening(&mut self) -> Result<bool, Problem> {
        let mut escaped = false;
        while let Some(byte) = self.next() {
            if byte == b'<' && !self.comment()? {
                if !escaped {
                    return if self.sees(b"/") { Err(Problem::NotOpened) } else { Ok(true) };
                }
                escaped = false;
            } else if byte != b'<' {
                escaped = byte == b'\\';
            }
        }
        Ok(false)
    }

    /// The name behind `<` and its attributes; whether it is closed already.
    fn opening(&mut self) -> Result<(String, bool), Problem> {
        let mut name = Vec::new();
        loop {
            let byte = self.next().ok_or(Problem::Unfinished)?;
            if byte == b'<' && self.comment()? {
                continue;
            }
            if byte != b'>' && !byte.is_ascii_whitespace() {
                push(&mut name, byte)?;
                continue;
            }
            let mut closed = name.last() == Some(&b'/');
            if closed {
                name.pop();
            }
            if byte != b'>' {
                closed |= self.attributes()?;
            }
            return Ok((String::from_utf8_lossy(&name).into_owned(), closed));
        }
    }

    /// Skips attributes up to `>`; whether `/` stands before it.
    fn attributes(&mut self) -> Result<bool, Problem> {
        let mut in_name = false;
        loop {
            match self.next().ok_or(Problem::BadAttribute)? {
                b'>' if in_name => return Err(Problem::BadAttribute),
                b'>' => return Ok(false),
                b'/' if !in_name && self.sees(b">") => {
                    self.at += 1;
                    return Ok(true);
                }
                b'=' => {
                    while self.sees(b" ") {
                        self.at += 1;
                    }
                    let quote = self.next().filter(|byte| matches!(byte, b'"' | b'\''));
                    let quote = quote.ok_or(Problem::BadAttribute)?;
                    while self.next().ok_or(Problem::BadAttribute)? != quote {}
                    in_name = false;
                }
                byte => in_name |= !byte.is_ascii_whitespace(),
            }
        }
    }

    fn content(&mut self, element: &mut Element, depth: usize) -> Result<(), Problem> {
        let mut escaped = false;
        loop {
            let byte = self.next().ok_or(Problem::Unfinished)?;
            if byte == b'<' {
                if self.comment()? {
                    continue;
                }
                if !escaped && self.sees(b"/") {
                    self.at += 1;
                    return self.closing(&element.name);
                }
                if !escaped {
                    self.at -= 1;
                    element.children.extend(self.element(depth + 1)?);
                    element.value.clear();
                    continue;
                }
            }
            escaped = byte == b'\\';
            push(&mut element.value, byte)?;
        }
    }

    fn closing(&mut self, opened: &str) -> Result<(), Problem> {
        let mut name = Vec::new();
        loop {
            match self.next().ok_or(Problem::Unfinished)? {
                b'>' if name == opened.as_bytes() => return Ok(()),
                b'>' => return Err(Problem::NotClosed(opened.to_owned())),
                b'<' if self.comment()? => {}
                byte => push(&mut name, byte)?,
            }
        }
    }
}

fn push(text: &mut Vec<u8>, byte: u8) -> Result<(), Problem> {
    if text.len() >= TEXT_BYTES_MAX {
        return Err(Problem::TooLong);
    }
    text.push(byte);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> String {
        let roots = read(format!("<r><v>{text}</v></r>").as_bytes()).unwrap();
        String::from_utf8(roots[0].children[0].value.clone()).unwrap()
    }

    #[test]
    fn values_are_what_wazuh_makes_of_them() {
        #[rustfmt::skip]
        let table = [
            ("a&amp;b & c",           "a&amp;b & c"),
            (" a\n",                  " a\n"),
            ("a<!-- x < y -->b",      "ab"),
            ("a<! x !>b",             "ab"),
            ("a<!-- ! -- > -->b",     "ab"),
            ("a\\<b",                 "a\\<b"),
            ("",                      ""),
            ("lost <x>1</x> kept",    " kept"),
            (">",                     ">"),
        ];
        for (text, expected) in table {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn several_roots_attributes_and_closed_elements() {
        let text = b"junk <a x=\"1\" y = '>' >\n<b/>\n<c z='1'/></a> <!-- <d> -->\n<a></a>\n";
        let roots = read(text).unwrap();
        assert_eq!(roots.len(), 2);
        let seen: Vec<_> = roots[0].children.iter().map(|c| (c.name.as_str(), c.line)).collect();
        assert_eq!(seen, [("b", 2), ("c", 3)]);
        assert_eq!(roots[1].line, 4);
        assert_eq!(read(b"").unwrap(), []);
    }

    #[test]
    fn what_is_not_closed_names_its_line() {
        #[rustfmt::skip]
        let table: [(&[u8], usize, Problem); 9] = [
            (b"<a>\n<b>x</c></a>",  2, Problem::NotClosed("b".into())),
            (b"<a>\n\n",            3, Problem::Unfinished),
            (b"<a>\n<!-- x",        2, Problem::OpenComment),
            (b"\n</a>",             2, Problem::NotOpened),
            (b"<a x>",              1, Problem::BadAttribute),
            (b"<a x=1>",            1, Problem::BadAttribute),
            (b"<a x=\"1>",          1, Problem::BadAttribute),
            (b"<a",                 1, Problem::Unfinished),
            (b"<a></A>",            1, Problem::NotClosed("a".into())),
        ];
        for (text, line, problem) in table {
            assert_eq!(read(text), Err((line, problem)), "{}", String::from_utf8_lossy(text));
        }
        let long = format!("<a>{}</a>", "x".repeat(TEXT_BYTES_MAX + 1));
        assert_eq!(read(long.as_bytes()), Err((1, Problem::TooLong)));
        assert_eq!(read("<a>".repeat(100).as_bytes()), Err((1, Problem::TooDeep)));
    }
}
