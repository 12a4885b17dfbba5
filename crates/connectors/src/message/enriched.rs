//! What lookups said of an event before it was sent: for templates as it is, for people a fact each.
//!
//! Source: `reference` of Wazuh 4.14 `virustotal.py` for the shape of an answer: an object under the
//! integration's name, with `error` or `found`.

use holdfast_model::Enrichment;
use serde_json::{Map, Value, json};

use super::{FACT_CHARS_MAX, Fact, facts, one_line};

/// Answers of one lookup that a message tells of.
const TOLD_MAX: usize = 3;

/// What an answer says, where it is no verdict: the first of these that it has, at most three.
const TELLING: &[&str] =
    &["/verdict", "/name", "/indicator/name", "/category", "/type", "/value", "/comment", "/score"];

/// For templates: a lookup's name, and its answers or the problem.
pub(super) fn values(enrichments: &[Enrichment]) -> Map<String, Value> {
    let value = |one: &Enrichment| match &one.answers {
        Ok(answers) => answers.iter().map(|answer| read(answer)).collect(),
        Err(problem) => json!({ "problem": problem }),
    };
    enrichments.iter().map(|one| (one.lookup.to_string(), value(one))).collect()
}

/// One short fact a lookup; none where there was nothing to ask about.
pub(super) fn told(enrichments: &[Enrichment]) -> Vec<Fact> {
    let fact = |one: &Enrichment| {
        let value = match &one.answers {
            Ok(answers) => verdicts(&answers.iter().map(|answer| read(answer)).collect::<Vec<_>>()),
            Err(problem) => format!("not known: {problem}"),
        };
        let value = one_line(&value, FACT_CHARS_MAX);
        (!value.is_empty()).then(|| Fact { name: one.lookup.to_string().into(), value })
    };
    enrichments.iter().filter_map(fact).collect()
}

fn read(answer: &[u8]) -> Value {
    let text = String::from_utf8_lossy(answer);
    serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned()))
}

fn verdicts(answers: &[Value]) -> String {
    let mut told: Vec<String> =
        answers.iter().map(verdict).filter(|text| !text.is_empty()).collect();
    told.dedup();
    let more = told.len().saturating_sub(TOLD_MAX);
    told.truncate(TOLD_MAX);
    let text = told.join("; ");
    if more > 0 { format!("{text}; and {more} more") } else { text }
}

/// What one answer comes to.
fn verdict(answer: &Value) -> String {
    let integration = answer["integration"].as_str().unwrap_or_default();
    let said = answer.get(integration).unwrap_or(answer);
    let text = |pointer: &str| facts::text(said, pointer);
    if let Some(error) = text("/error") {
        let problem = text("/description").unwrap_or(error);
        return format!("not known: {problem}");
    }
    let yes = |pointer: &str| match said.pointer(pointer)? {
        Value::Bool(yes) => Some(*yes),
        Value::Number(number) => Some(number.as_f64() != Some(0.0)),
        _ => None,
    };
    let word = match (yes("/found"), yes("/malicious")) {
        (Some(false), _) => return "unknown there".to_owned(),
        (_, Some(true)) => "malicious",
        (_, Some(false)) => "clean",
        (Some(true), None) => "found",
        (None, None) => "",
    };
    if let (Some(positives), Some(total)) = (text("/positives"), text("/total")) {
        return format!("{word}, {positives} of {total}");
    }
    if let (Some(rows), false) = (text("/rows"), word.is_empty()) {
        return format!("{word}, {rows} rows");
    }
    let telling = TELLING.iter().filter_map(|pointer| text(pointer)).take(TOLD_MAX);
    let parts: Vec<String> =
        (!word.is_empty()).then(|| word.to_owned()).into_iter().chain(telling).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use holdfast_model::Name;

    use super::*;
    use crate::message::Message;

    fn of(lookup: &str, answers: Result<&[&str], &str>) -> Enrichment {
        let answers = answers.map_err(str::to_owned);
        let answers = answers.map(|all| all.iter().map(|text| text.to_string().into()).collect());
        Enrichment { lookup: Name::new(lookup).unwrap(), answers }
    }

    fn told_of(answers: Result<&[&str], &str>) -> Option<String> {
        told(&[of("vt", answers)]).pop().map(|fact| {
            assert_eq!(fact.name, "vt");
            fact.value
        })
    }

    #[test]
    fn each_lookup_is_one_fact_with_its_verdict() {
        let vt = |said: &str| format!(r#"{{"integration":"virustotal","virustotal":{{{said}}}}}"#);
        let bad = vt(r#""found":1,"malicious":1,"positives":52,"total":70"#);
        let clean = vt(r#""found":1,"malicious":0,"positives":0,"total":70"#);
        let unknown = vt(r#""found":0,"malicious":0"#);
        let limited =
            vt(r#""error":204,"description":"Error: Public API request rate limit reached""#);
        let misp = r#"{"integration":"misp","misp":{"category":"Payload delivery","type":"md5","value":"44d8"}}"#;
        let osquery = r#"{"integration":"osquery","osquery":{"name":"q","found":1,"rows":3}}"#;
        #[rustfmt::skip]
        let table: [(&[&str], Option<&str>); 10] = [
            (&[&bad],            Some("malicious, 52 of 70")),
            (&[&clean],          Some("clean, 0 of 70")),
            (&[&unknown],        Some("unknown there")),
            (&[&limited],        Some("not known: Error: Public API request rate limit reached")),
            (&[misp],            Some("Payload delivery, md5, 44d8")),
            (&[osquery],         Some("found, 3 rows")),
            (&[misp, misp],      Some("Payload delivery, md5, 44d8")),
            (&["{}"],            None),
            (&["no json"],       None),
            (&[],                None),
        ];
        for (answers, expected) in table {
            assert_eq!(told_of(Ok(answers)).as_deref(), expected, "{answers:?}");
        }
        let many: Vec<String> = (0..5).map(|n| format!(r#"{{"name":"n{n}"}}"#)).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(told_of(Ok(&many)).unwrap(), "n0; n1; n2; and 2 more");
        let late = "no answer within 5s";
        assert_eq!(told_of(Err(late)).unwrap(), "not known: no answer within 5s");
    }

    #[test]
    fn a_message_tells_them_first_within_its_limits_and_templates_have_them_whole() {
        let mut member = crate::testing::alert(1, r#"{"rule":{"id":"554"}}"#.to_owned());
        let long = format!(r#"{{"name":"{}\u0007\n<!channel>"}}"#, "x".repeat(2_000));
        let answers = [long.as_str(); 1];
        member.enrichments = vec![of("vt", Ok(&answers)), of("misp", Err("it is paused"))];
        let message = Message::of(&member);
        let names: Vec<&str> = message.facts.iter().map(|fact| &*fact.name).collect();
        assert_eq!(names, ["vt", "misp", "Rule"]);
        assert_eq!(message.facts[0].value.chars().count(), FACT_CHARS_MAX);
        assert!(message.facts.iter().all(|fact| !fact.value.contains(['\n', '\u{7}'])));
        assert!(message.plain().contains("misp: not known: it is paused\n"));
        assert_eq!(message.enrich["misp"]["problem"], "it is paused");
        assert_eq!(message.enrich["vt"][0]["name"].as_str().unwrap().len(), 2_000 + 12);
    }
}
