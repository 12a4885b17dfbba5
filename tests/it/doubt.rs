//! In doubt: an object was made there, and its answer never came back. No second one is made.
//!
//! The fakes model what each vendor's system does with repeats: some merge them, the others make
//! another object each time and can only be searched, and their search shows a new object no
//! earlier than [`SEARCH_LAG`] after it was made. A control that does not wait that long shows
//! that they would.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    wait::{holds, now_ns, since},
    *,
};

/// How long a new object stays out of the searches. The gateway's own default is longer.
const SEARCH_LAG: Duration = Duration::from_secs(10);
const EVENTS: u64 = 3;

/// What becomes of an object's first answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    None,
    /// The connection breaks, a proxy answers 502, or a page of its own: in turn.
    Lost,
    /// It does not come while the gateway lives.
    Late,
}

/// How a vendor's system treats repeats.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Repeats {
    Merged,
    Searched,
}

const VENDORS: [(&str, Repeats); 7] = [
    ("jira", Repeats::Searched),
    ("servicenow", Repeats::Searched),
    ("xsoar", Repeats::Searched),
    ("thehive", Repeats::Merged),
    ("pagerduty", Repeats::Merged),
    ("opsgenie", Repeats::Merged),
    (HASTY, Repeats::Searched),
];

/// The control: Jira again, but its lane does not wait for the search.
const HASTY: &str = "hasty";

struct Object {
    key: String,
    made_ns: u64,
}

/// One vendor's system.
#[derive(Default)]
struct System {
    objects: Vec<Object>,
    creates: HashMap<String, usize>,
    searches: usize,
}

struct World {
    systems: Mutex<BTreeMap<String, System>>,
    trouble: Mutex<Trouble>,
}

impl World {
    fn new() -> Arc<Self> {
        let systems = Mutex::new(BTreeMap::new());
        Arc::new(Self { systems, trouble: Mutex::new(Trouble::None) })
    }

    fn set(&self, trouble: Trouble) {
        *self.trouble.lock().unwrap() = trouble;
    }

    /// `/<vendor>/…`
    fn answer(&self, request: &Request) -> Reply {
        let vendor = request.path.split(['/', '?']).nth(1).unwrap_or_default().to_owned();
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let path = request.path.as_str();
        match vendor.as_str() {
            "jira" | HASTY if path.ends_with("/search/jql") => {
                let jql = body["jql"].as_str().unwrap();
                let rows = self.search(&vendor, between(jql, "labels = \"", "\""));
                let row = |key: &String| json!({ "key": "SEC-1", "fields": { "labels": [key] } });
                said(200, &json!({ "issues": rows.iter().map(row).collect::<Vec<_>>() }))
            }
            "jira" | HASTY if path.ends_with("/rest/api/3/issue") => {
                let ours = format!(".{vendor}");
                let labels = body["fields"]["labels"].as_array().unwrap();
                let key = labels.iter().filter_map(Value::as_str).find(|key| key.ends_with(&ours));
                self.create(&vendor, key.unwrap(), said(201, &json!({ "key": "SEC-1" })))
            }
            "servicenow" if request.method == "GET" => {
                let key = between(path, "correlation_id%3D", "%5E");
                let row =
                    |key: &String| json!({ "sys_id": ID, "state": "1", "correlation_id": key });
                let rows: Vec<Value> = self.search(&vendor, key).iter().map(row).collect();
                said(200, &json!({ "result": rows }))
            }
            "servicenow" => {
                let reply = said(201, &json!({ "result": { "sys_id": ID } }));
                self.create(&vendor, body["correlation_id"].as_str().unwrap(), reply)
            }
            "xsoar" if path.ends_with("/incidents/search") => {
                let query = body["filter"]["query"].as_str().unwrap();
                let rows = self.search(&vendor, between(query, "holdfastkey:\"", "\""));
                let row = |key: &String| json!({ "id": "7", "status": 0, "customFields": { "holdfastkey": key } });
                let data: Vec<Value> = rows.iter().map(row).collect();
                let none = data.is_empty();
                let data = if none { Value::Null } else { data.into() };
                said(200, &json!({ "total": rows.len(), "data": data }))
            }
            "xsoar" => {
                let key = body["customFields"]["holdfastkey"].as_str().unwrap();
                self.create(&vendor, key, said(201, &json!({ "id": "7" })))
            }
            "thehive" => {
                let key = body["sourceRef"].as_str().unwrap();
                self.create(&vendor, key, said(201, &json!({ "_id": "~7" })))
            }
            "pagerduty" => {
                let key = body["dedup_key"].as_str().unwrap();
                self.create(&vendor, key, said(202, &json!({ "dedup_key": key })))
            }
            "opsgenie" => {
                let key = body["alias"].as_str().unwrap();
                self.create(&vendor, key, said(202, &json!({ "requestId": "7", "took": 0.1 })))
            }
            _ => Reply::status(404),
        }
    }

    /// The keys of the objects that the search shows by now.
    fn search(&self, vendor: &str, key: &str) -> Vec<String> {
        let mut systems = self.systems.lock().unwrap();
        let system = systems.entry(vendor.to_owned()).or_default();
        system.searches += 1;
        let shown = |one: &&Object| one.key == key && since(one.made_ns) >= SEARCH_LAG;
        system.objects.iter().filter(shown).map(|one| one.key.clone()).collect()
    }

    fn create(&self, vendor: &str, key: &str, reply: Reply) -> Reply {
        let mut systems = self.systems.lock().unwrap();
        let system = systems.entry(vendor.to_owned()).or_default();
        let first = !system.creates.contains_key(key);
        *system.creates.entry(key.to_owned()).or_default() += 1;
        let known = system.objects.iter().any(|one| one.key == key);
        let merges = VENDORS.contains(&(vendor, Repeats::Merged));
        if !(known && merges) {
            system.objects.push(Object { key: key.to_owned(), made_ns: now_ns() });
        }
        let number = system.objects.len();
        if known && vendor == "thehive" {
            let text = format!("Alert wazuh:holdfast:{key} already exist in organisation soc");
            return said(400, &json!({ "type": "CreateError", "message": text }));
        }
        match *self.trouble.lock().unwrap() {
            Trouble::Lost if first => match number % 3 {
                0 => Reply::status(502),
                1 => Reply::Reset,
                _ => Reply::text(200, "<html>please log in</html>"),
            },
            Trouble::Late if first => Reply::Hang,
            Trouble::None | Trouble::Lost | Trouble::Late => reply,
        }
    }

    fn made(&self, vendor: &str) -> usize {
        self.systems.lock().unwrap().get(vendor).map_or(0, |system| system.creates.len())
    }
}

const ID: &str = "9d385017c611228701d22104cc95c371";

fn said(status: u16, body: &Value) -> Reply {
    Reply::text(status, &body.to_string()).with("Content-Type", "application/json")
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("no {begin} in {text}"));
    rest.split_once(end).map_or(rest, |(found, _)| found)
}

fn config(receiver: &Receiver) -> Config {
    let settings = |vendor: &str| {
        let url = receiver.url(&format!("/{vendor}"));
        let jira = "email = \"a@b.example\"\ntoken = \"jira-token\"\nproject = \"SEC\"";
        let rest = match vendor {
            "jira" => format!("type = \"jira\"\n{jira}"),
            HASTY => format!("type = \"jira\"\n{jira}\nsearch_lag = \"0s\""),
            "servicenow" => "type = \"servicenow\"\nuser = \"u\"\npassword = \"p-word\"".into(),
            "xsoar" => "type = \"xsoar\"\napi_key = \"xsoar-key\"\nkey_id = \"7\"\n\
                        key_field = \"holdfastkey\""
                .into(),
            "thehive" => "type = \"thehive\"\napi_key = \"thehive-key\"".into(),
            "pagerduty" => {
                let key = "0123456789abcdef0123456789abcdef";
                format!("type = \"pagerduty\"\nrouting_key = \"{key}\"")
            }
            _ => "type = \"opsgenie\"\napi_key = \"opsgenie-key\"".into(),
        };
        format!(
            "[destinations.{vendor}]\nurl = \"{url}\"\n{rest}\n\
             retry = {{ initial = \"20ms\", max = \"500ms\" }}\n"
        )
    };
    VENDORS.iter().fold(Config::new(), |config, (vendor, _)| config.table(&settings(vendor)))
}

#[test]
fn what_was_made_before_its_answer_was_lost_or_the_gateway_killed_is_not_made_again() {
    let world = World::new();
    let fakes = Arc::clone(&world);
    let receiver = Receiver::start(move |request| fakes.answer(request));
    let mut gateway = Gateway::start(config(&receiver));
    world.set(Trouble::Lost);
    gateway.accept(&alerts::ndjson(0..EVENTS));
    for (vendor, _) in VENDORS {
        gateway.wait_for_term(vendor, "delivered", EVENTS);
    }
    world.set(Trouble::Late);
    gateway.accept(&alerts::ndjson(EVENTS..2 * EVENTS));
    for (vendor, _) in VENDORS {
        let all = 2 * EVENTS as usize;
        eventually("every object was made once more", || holds(world.made(vendor) == all));
    }
    gateway.kill();
    world.set(Trouble::None);
    gateway.restart();
    for (vendor, _) in VENDORS {
        gateway.wait_for_term(vendor, "delivered", 2 * EVENTS);
    }
    gateway.finish();
    let systems = world.systems.lock().unwrap();
    println!("destination | repeats  | events | creates | searches | objects | most of one event");
    for (vendor, repeats) in VENDORS {
        let system = &systems[vendor];
        let of = |key: &String| system.objects.iter().filter(|one| one.key == **key).count();
        let most = system.creates.keys().map(of).max().unwrap();
        let (events, objects) = (system.creates.len(), system.objects.len());
        let creates: usize = system.creates.values().sum();
        let repeats = format!("{repeats:?}");
        println!(
            "{vendor:<11} | {repeats:<8} | {events:>6} | {creates:>7} | {:>8} | {objects:>7} | {most}",
            system.searches
        );
        assert_eq!(events as u64, 2 * EVENTS, "{vendor}");
        if vendor == HASTY {
            assert!(most > 1, "the control shows that the fakes would make a second object");
        } else {
            assert_eq!(most, 1, "{vendor}");
        }
    }
}
