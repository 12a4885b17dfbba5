use super::*;

/// Destinations and sources as `name type settings [old name]`, sources after a `|`.
fn prints(text: &str) -> Prints {
    let (destinations, sources) = text.split_once('|').unwrap_or((text, ""));
    let group = |text: &str| {
        let one = |text: &str| {
            let words: Vec<&str> = text.split_whitespace().collect();
            let [name, kind, settings, rest @ ..] = words.as_slice() else { return None };
            let mut hash = [0; 32];
            hash[..settings.len()].copy_from_slice(settings.as_bytes());
            let renamed_from = rest.first().map(|name| (*name).to_owned());
            let print = Print { line: 7, kind: (*kind).to_owned(), settings: hash, renamed_from };
            Some(((*name).to_owned(), print))
        };
        text.split(',').filter_map(one).collect()
    };
    Prints { destinations: group(destinations), sources: group(sources), fixed_secrets: Vec::new() }
}

fn change(name: &str) -> Step {
    Step::Change { name: name.to_owned() }
}

fn start(name: &str, adopts: Option<&str>) -> Step {
    Step::Start { name: name.to_owned(), adopts: adopts.map(str::to_owned) }
}

fn rename(from: &str, to: &str) -> Step {
    Step::Rename { from: from.to_owned(), to: to.to_owned() }
}

fn remove(name: &str) -> Step {
    Step::Remove { name: name.to_owned() }
}

/// A filter, a URL, a rate, an order, an express level: each is a setting like any other.
#[test]
fn each_kind_of_change_touches_the_lanes_that_it_is_about_and_no_others() {
    #[rustfmt::skip]
    let table: &[(&str, &str, &str, Vec<Step>)] = &[
        ("nothing",             "a hook 1, b hook 1", "a hook 1, b hook 1", vec![]),
        ("a setting",           "a hook 1, b hook 1", "a hook 2, b hook 1", vec![change("a")]),
        ("all settings",        "a hook 1, b hook 1", "a hook 2, b hook 2", vec![change("a"), change("b")]),
        ("a new one",           "a hook 1", "a hook 1, b hook 1", vec![start("b", None)]),
        ("one less",            "a hook 1, b hook 1", "b hook 1", vec![remove("a")]),
        ("none left",           "a hook 1", "", vec![remove("a")]),
        ("a start",             "", "a hook 1, b hook 1 o", vec![start("a", None), start("b", Some("o"))]),
        ("another name",        "a hook 1", "b hook 1 a", vec![rename("a", "b")]),
        ("name and setting",    "a hook 1", "b hook 2 a", vec![rename("a", "b")]),
        ("name without a word", "a hook 1", "b hook 1", vec![start("b", None), remove("a")]),
        ("an orphan's heir",    "a hook 1", "a hook 1, b hook 1 o", vec![start("b", Some("o"))]),
        ("the word stays",      "b hook 1 a", "b hook 1 a", vec![]),
        ("the word goes",       "b hook 1 a", "b hook 1", vec![]),
        ("the word comes late", "b hook 1", "b hook 1 a", vec![]),
        ("another type, name",  "a hook 1", "b slack 1", vec![start("b", None), remove("a")]),
    ];
    for (what, old, new, expected) in table {
        let plan = Plan::between(&prints(old), &prints(new)).unwrap();
        assert_eq!(&plan.lanes, expected, "{what}");
        assert_eq!(plan.is_idle(), expected.is_empty(), "{what}");
    }
}

#[test]
fn a_type_that_changes_under_one_name_is_a_fault() {
    for (old, new, key) in [
        ("a hook 1", "a slack 1", "destinations.a.type"),
        ("a hook 1", "b slack 1 a", "destinations.b.type"),
    ] {
        let faults = Plan::between(&prints(old), &prints(new)).unwrap_err();
        assert_eq!((faults.len(), faults[0].line, faults[0].key.as_str()), (1, 7, key));
        assert!(faults[0].problem.contains("\"slack\""), "{faults:?}");
        assert!(faults[0].problem.contains("\"hook\""), "{faults:?}");
    }
}

#[test]
fn a_word_that_comes_too_late_is_noted_once() {
    let (before, after) = (prints("b hook 1"), prints("b hook 1 a"));
    assert_eq!(Plan::between(&before, &after).unwrap().notes.len(), 1);
    assert_eq!(Plan::between(&after, &after).unwrap().notes.len(), 0);
}

#[test]
fn sources_that_did_not_change_go_on_and_others_end_before_they_begin() {
    #[rustfmt::skip]
    let table: &[(&str, &str, &[&str], &[&str])] = &[
        ("| a file 1",            "| a file 1",           &[],    &[]),
        ("| a file 1, b file 1",  "| a file 2, b file 1", &["a"], &["a"]),
        ("| a file 1",            "| b file 1",           &["a"], &["b"]),
        ("| a file 1",            "",                     &["a"], &[]),
        ("",                      "| a file 1",           &[],    &["a"]),
        ("| a file 1",            "| a tail 1",           &["a"], &["a"]),
    ];
    for (old, new, stop, start) in table {
        let plan = Plan::between(&prints(old), &prints(new)).unwrap();
        assert_eq!(
            (&*plan.sources_stop, &*plan.sources_start),
            (
                &*stop.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>(),
                &*start.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>(),
            ),
            "{old} -> {new}"
        );
    }
}
