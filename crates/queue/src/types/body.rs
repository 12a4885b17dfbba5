//! An event's body in texts: a JSON object as it is, anything else as base64, so that every byte
//! reads back. In binary records it is the bare bytes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::value::RawValue;

const MARK: &str = "base64:";

pub(crate) fn serialize<S: Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    if !serializer.is_human_readable() {
        return body.serialize(serializer);
    }
    match as_object(body) {
        Some(object) => object.serialize(serializer),
        None => serializer.collect_str(&format_args!("{MARK}{}", STANDARD.encode(body))),
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    if !deserializer.is_human_readable() {
        return Bytes::deserialize(deserializer);
    }
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    let raw = raw.get();
    if raw.starts_with('{') {
        return Ok(Bytes::copy_from_slice(raw.as_bytes()));
    }
    let bad = || D::Error::custom("it is neither an object nor a text that begins with `base64:`");
    let text: String = serde_json::from_str(raw).map_err(|_| bad())?;
    let bytes = STANDARD.decode(text.strip_prefix(MARK).ok_or_else(bad)?);
    bytes.map(Bytes::from).map_err(|error| D::Error::custom(format!("it is not base64: {error}")))
}

/// The body, if it is one line of JSON that stands for itself.
fn as_object(body: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(body).ok()?;
    let stands = text.starts_with('{') && text.ends_with('}') && !text.contains(['\n', '\r']);
    stands.then(|| RawValue::from_string(text.to_owned()).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Holder {
        #[serde(with = "super")]
        body: Bytes,
    }

    #[test]
    fn every_body_reads_back_byte_for_byte_as_text_and_as_a_record() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(127), "]".repeat(127));
        let bodies: [&[u8]; 8] = [
            br#"{"a":1}"#,
            br#"{ "a" : 1.0e5, "a":2 }"#,
            b"{\n \"a\": 1}",
            b"",
            b"no json",
            b"{\"full_log\":\"\xff\xfe\"}",
            br#" {"a":1}"#,
            deep.as_bytes(),
        ];
        for body in bodies {
            let holder = Holder { body: Bytes::copy_from_slice(body) };
            let text = serde_json::to_string(&holder).unwrap();
            assert!(!text.contains('\n'), "{text}");
            assert_eq!(serde_json::from_str::<Holder>(&text).unwrap(), holder, "{text}");
            let record = postcard::to_stdvec(&holder).unwrap();
            assert_eq!(postcard::from_bytes::<Holder>(&record).unwrap(), holder);
        }
        assert!(
            serde_json::to_string(&Holder { body: "{\"a\":1}".into() }).unwrap().contains("{\"a\"")
        );
    }

    #[test]
    fn a_body_that_is_neither_is_refused_with_a_reason() {
        for (text, reason) in [
            (r#"{"body":"plain"}"#, "base64:"),
            (r#"{"body":7}"#, "neither an object"),
            (r#"{"body":"base64:%%"}"#, "not base64"),
        ] {
            let error = serde_json::from_str::<Holder>(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
