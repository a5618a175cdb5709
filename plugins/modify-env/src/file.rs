//! The language of the file.
//!
//! ```text
//!   # comment                      NAME=VALUE     sets
//!                                  NAME           removes
//!   "   begins and ends quoting: newline, space, tab and # are then part of the value
//!   \c  is c
//!   $NAME (letters, digits, _) is the variable's value at the restart, or the one that this file gave it before
//!   space, tab or # outside of quotes ends the value
//! ```

/// Longest file.
const MOST: usize = 12_288;
/// Names and values are shorter than this.
const LONGEST: usize = 1000;

/// What is to become of a variable.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// The variable.
    pub name: Vec<u8>,
    /// Its value; `None`: it is removed.
    pub value: Option<Vec<u8>>,
}

/// Reads a file; `outer` gives variables of the restart's environment. The error is a sentence.
pub fn parse(text: &[u8], outer: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Result<Vec<Change>, String> {
    if text.len() > MOST {
        return Err(format!("the file has {} bytes; the limit is {MOST}", text.len()));
    }
    let mut changes = Vec::new();
    let mut reader = Reader { text, at: 0, line: 1 };
    while let Some(first) = reader.peek() {
        match first {
            b'\n' | b' ' | b'\t' => reader.skip(),
            b'#' => reader.skip_line(),
            _ => {
                let change = reader.change(&changes, &outer)?;
                changes.push(change);
            }
        }
    }
    Ok(changes)
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip(&mut self) {
        self.line += usize::from(self.peek() == Some(b'\n'));
        self.at += 1;
    }

    fn skip_line(&mut self) {
        while self.peek().is_some_and(|byte| byte != b'\n') {
            self.skip();
        }
    }

    fn fail(&self, what: &str) -> String {
        format!("line {}: {what}", self.line)
    }

    fn change(&mut self, earlier: &[Change], outer: &impl Fn(&[u8]) -> Option<Vec<u8>>) -> Result<Change, String> {
        let start = self.at;
        while self.peek().is_some_and(|byte| !matches!(byte, b'=' | b'\n' | b' ' | b'\t' | b'#')) {
            self.skip();
        }
        let name = self.text[start..self.at].to_vec();
        if name.is_empty() || name.contains(&0) {
            return Err(self.fail("a variable without a name"));
        }
        if name.len() >= LONGEST {
            return Err(self.fail(&format!("a name of {} bytes; the limit is {}", name.len(), LONGEST - 1)));
        }
        let value = if self.peek() == Some(b'=') {
            self.skip();
            Some(self.value(earlier, outer)?)
        } else {
            None
        };
        self.skip_line();
        Ok(Change { name, value })
    }

    fn value(&mut self, earlier: &[Change], outer: &impl Fn(&[u8]) -> Option<Vec<u8>>) -> Result<Vec<u8>, String> {
        let begin = self.line;
        let mut value = Vec::new();
        let mut quoted = false;
        while let Some(byte) = self.peek() {
            if !quoted && matches!(byte, b'\n' | b' ' | b'\t' | b'#') {
                break;
            }
            self.skip();
            match byte {
                b'"' => quoted = !quoted,
                b'\\' => {
                    value.extend(self.peek());
                    self.skip();
                }
                b'$' => {
                    let start = self.at;
                    while self.peek().is_some_and(is_name) {
                        self.skip();
                    }
                    value.extend(expand(&self.text[start..self.at], earlier, outer));
                }
                0 => return Err(self.fail("a value with a zero byte")),
                _ => value.push(byte),
            }
        }
        if quoted {
            return Err(format!("line {begin}: the quote is never closed"));
        }
        if value.len() >= LONGEST {
            return Err(self.fail(&format!("a value of {} bytes; the limit is {}", value.len(), LONGEST - 1)));
        }
        Ok(value)
    }
}

/// The value behind a dollar sign. A dollar sign without a name stands for itself.
fn expand(name: &[u8], earlier: &[Change], outer: &impl Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    if name.is_empty() {
        return b"$".to_vec();
    }
    match earlier.iter().rev().find(|change| change.name == name) {
        Some(change) => change.value.clone().unwrap_or_default(),
        None => outer(name).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, Option<String>)> {
        let outer = |name: &[u8]| (name == b"HOME").then(|| b"/home/new".to_vec());
        let text_of = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        parse(text.as_bytes(), outer).unwrap().into_iter().map(|c| (text_of(c.name), c.value.map(text_of))).collect()
    }

    fn set(name: &str, value: &str) -> (String, Option<String>) {
        (name.into(), Some(value.into()))
    }

    #[test]
    fn lines_set_and_remove() {
        assert_eq!(read("# c\n\nA=1\nB\n  C=x # y\n"), [set("A", "1"), ("B".into(), None), set("C", "x")]);
        assert_eq!(read("A="), [set("A", "")], "the last line needs no newline");
    }

    #[test]
    fn quotes_and_backslashes_keep_what_would_end_a_value() {
        assert_eq!(read("A=\"b c\n#d\"e f\n"), [set("A", "b c\n#de")]);
        assert_eq!(read("A=b\\ c\\\"\\$HOME\n"), [set("A", "b c\"$HOME")]);
    }

    #[test]
    fn names_are_expanded_from_the_restart_unless_the_file_has_set_them() {
        assert_eq!(read("A=$HOME/x\n"), [set("A", "/home/new/x")]);
        assert_eq!(read("HOME=/old\nA=$HOME:$NOWHERE:$\n"), [set("HOME", "/old"), set("A", "/old::$")]);
        assert_eq!(read("HOME\nA=\"$HOME.\"\n"), [("HOME".into(), None), set("A", ".")]);
    }

    #[test]
    fn limits_and_open_quotes_are_errors_with_a_line() {
        let fail = |text: &str| parse(text.as_bytes(), |_| None).unwrap_err();
        assert_eq!(fail("A=1\nB=\"x\ny\n"), "line 2: the quote is never closed");
        assert!(fail(&format!("A={}\n", "x".repeat(1000))).starts_with("line 1: a value of 1000 bytes"));
        assert!(fail(&"\n".repeat(12_289)).contains("12289 bytes"));
        assert_eq!(fail("=x\n"), "line 1: a variable without a name");
    }
}
