//! Bytes that are nearly always text (paths, link texts), as text in JSON that loses nothing.
//!
//! Printable UTF-8 stays as it is; a backslash and every other byte become `\xNN`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes that are written as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteText(pub Vec<u8>);

impl ByteText {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for ByteText {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

/// Text for a person: what cannot be printed is escaped.
impl std::fmt::Display for ByteText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c == '\\' || c.is_control() {
                    let mut buffer = [0; 4];
                    for byte in c.encode_utf8(&mut buffer).bytes() {
                        write!(f, "\\x{byte:02x}")?;
                    }
                } else {
                    write!(f, "{c}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for ByteText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let [first, after @ ..] = rest {
            if *first != b'\\' {
                out.push(*first);
                rest = after;
                continue;
            }
            let digits =
                rest.get(2..4).filter(|_| rest.get(1) == Some(&b'x')).and_then(|d| std::str::from_utf8(d).ok());
            let byte = digits.and_then(|d| u8::from_str_radix(d, 16).ok());
            out.push(byte.ok_or_else(|| de::Error::custom("a backslash without xNN after it"))?);
            rest = &rest[4..];
        }
        Ok(Self(out))
    }
}

#[cfg(test)]
mod tests {
    use super::ByteText;

    #[test]
    fn nothing_is_lost() {
        for bytes in [&b"/tmp/a file"[..], b"\xff\n\\x41\\", "/gr\u{fc}n/\u{1f980}".as_bytes(), b"", b"\0"] {
            let json = serde_json::to_string(&ByteText::from(bytes)).unwrap();
            assert_eq!(serde_json::from_str::<ByteText>(&json).unwrap().bytes(), bytes, "{json}");
        }
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(ByteText::from(&b"/tmp/a b"[..]).to_string(), "/tmp/a b");
        assert_eq!(ByteText::from(&b"a\nb\xfe"[..]).to_string(), "a\\x0ab\\xfe");
    }

    #[test]
    fn a_broken_escape_is_an_error() {
        assert!(serde_json::from_str::<ByteText>(r#""a\\q""#).is_err());
        assert!(serde_json::from_str::<ByteText>(r#""a\\x4""#).is_err());
    }
}
