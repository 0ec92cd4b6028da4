//! A run that is resumed does what is missing, and only that.

use std::fs;

use proptest::prelude::*;
use vllm_batch::batch::Contract;
use vllm_batch::testing::ScriptedEngine;
use vllm_batch::{EngineSpec, RunError};

use crate::{Job, counts, line, lines, moody, sorted};

/// Two answers and two errors, one of each kind.
fn mixed() -> String {
    [line("a", "x"), "oops".to_owned(), line("b", "fail"), line("c", "y z")].join("\n")
}

#[test]
fn killed_at_any_byte() {
    let valid = [line("a", "x"), line("b", "fail"), line("c", "y z")].join("\n");
    // One name and one piece of work twice.
    let vllm = [valid.clone(), line("a", "x"), line("a", "other"), line("d", "x").replace("/v1", "/v2")];
    for (contract, input) in
        [(Contract::Lenient, mixed()), (Contract::open_ai(), valid.clone()), (Contract::Vllm, vllm.join("\n"))]
    {
        let clean = Job::new(&input);
        clean.runner(&moody()).contract(contract).run().expect("the run completes");
        for name in ["out.jsonl", "out.errors.jsonl"] {
            cut_anywhere(&clean, &input, name, contract);
        }
    }
}

/// Cuts one of the files off at each byte; the other one is whole.
fn cut_anywhere(clean: &Job, input: &str, name: &str, contract: Contract) {
    let whole = clean.read(name);
    let other = if name == "out.jsonl" { "out.errors.jsonl" } else { "out.jsonl" };
    let others = clean.read(other);
    let job = Job::new(input);
    for length in 0..=whole.len() {
        if !others.is_empty() {
            fs::write(job.path(other), &others).expect("the folder is writable");
        }
        fs::write(job.path(name), &whole[..length]).expect("the folder is writable");
        // A row that lacks nothing but its line end is whole.
        let kept = whole[..whole.len().min(length + 1)].matches('\n').count();
        let report = job.runner(&moody()).contract(contract).resume(true).run().expect("the run can be resumed");
        let case = format!("{contract:?}, {name} cut off at {length}");
        assert_eq!((report.skipped, report.stale), (others.lines().count() + kept, 0), "{case}");
        assert_eq!(job.rows(), clean.rows(), "{case}");
    }
}

#[test]
fn only_what_changed_runs_again() {
    let job = Job::new([line("a", "x"), line("b", "y"), line("c", "z")].join("\n"));
    job.run(&ScriptedEngine::echo()).expect("the run completes");
    let before = job.sorted("out.jsonl");
    let row = |name: &str| {
        let mark = format!(r#""custom_id":"{name}""#);
        before.iter().find(|row| row.contains(&mark)).expect("every row is there").clone()
    };
    // Moved, changed, gone, new.
    let changed = [line("b", "other"), line("a", "x"), line("d", "y")].join("\n");
    job.set_input(&changed);
    let engine = ScriptedEngine::echo();
    assert_eq!(counts(&job.resume(&engine)), [3, 2, 0, 1, 0, 2]);
    assert_eq!(engine.stats().submitted, 2);
    let clean = Job::new(&changed);
    clean.run(&engine).expect("the run completes");
    assert_eq!(job.rows(), clean.rows());
    assert_eq!(job.sorted("out.stale.jsonl"), sorted(&[row("b"), row("c")].join("\n")));
    assert_eq!(job.names(), ["in.jsonl", "out.errors.jsonl", "out.jsonl", "out.stale.jsonl"]);
}

#[test]
fn layout_is_no_change_and_another_engine_is() {
    let job = Job::new(lines(3));
    job.run(&ScriptedEngine::echo()).expect("the run completes");
    job.set_input(lines(3).replace(r#","prompt""#, r#" , "prompt""#));
    assert_eq!(counts(&job.resume(&ScriptedEngine::echo())), [3, 0, 0, 3, 0, 0]);
    let other = ScriptedEngine::echo().with_spec(EngineSpec::new("scripted", "scripted-2"));
    assert_eq!(counts(&job.resume(&other)), [3, 3, 0, 0, 0, 3]);
}

#[test]
fn a_refusal_holds_as_long_as_its_reason() {
    let job = Job::new(lines(3));
    let other = ScriptedEngine::echo().with_spec(EngineSpec::new("other", "scripted-1"));
    assert_eq!(counts(&job.run(&other).expect("the run completes")), [3, 0, 3, 0, 0, 0]);
    assert_eq!(counts(&job.resume(&other)), [3, 0, 0, 3, 3, 0]);
    assert_eq!(counts(&job.resume(&ScriptedEngine::echo())), [3, 3, 0, 0, 0, 3]);
}

#[test]
fn foreign_lines_are_moved_aside_and_never_lost() {
    let job = Job::new(lines(2));
    job.run(&ScriptedEngine::echo()).expect("the run completes");
    let rows = job.read("out.jsonl");
    let (first, second) = rows.split_once('\n').expect("there are two rows");
    let foreign = ["my notes", "{}", r#"{"id":"vllm-1","custom_id":"x","response":null,"error":"text"}"#, "last words"];
    let [a, b, c, d] = foreign;
    // The second row is there twice, and the last line has no line end.
    fs::write(job.path("out.jsonl"), format!("{a}\n{first}\n{b}\n{c}\n{second}{second}{d}")).expect("it is writable");
    fs::write(job.path("out.stale.jsonl"), "older").expect("it is writable");
    assert_eq!(counts(&job.resume(&ScriptedEngine::echo())), [2, 0, 0, 2, 0, 5]);
    assert_eq!(job.read("out.jsonl"), rows);
    assert_eq!(job.read("out.stale.jsonl"), format!("older\n{a}\n{b}\n{c}\n{second}{d}\n"));
}

#[test]
fn resuming_what_never_began_just_begins() {
    let job = Job::new(lines(2));
    assert_eq!(counts(&job.resume(&ScriptedEngine::echo())), [2, 2, 0, 0, 0, 0]);
    match job.run(&ScriptedEngine::echo()) {
        Err(RunError::OutputExists { path }) => assert!(path.ends_with("out.jsonl"), "{}", path.display()),
        other => panic!("expected a refusal, found {other:?}"),
    }
}

/// One line of a random file.
fn any_line() -> impl Strategy<Value = String> {
    let name = (0..6_u32).prop_map(|name| format!("n{name}"));
    let good = (name.clone(), "[a-c ]{1,8}").prop_map(|(name, prompt)| line(&name, &prompt));
    prop_oneof![
        6 => good,
        1 => name.clone().prop_map(|name| line(&name, "fail")),
        1 => name.clone().prop_map(|name| line(&name, "x").replace("POST", "PUT")),
        1 => name.clone().prop_map(|name| line(&name, "x").replace("scripted", "other")),
        1 => name.prop_map(|name| line(&name, "x").replace("\"x\"", "7")),
        1 => Just(String::new()),
        2 => "[ -~]{0,20}",
    ]
}

/// The lines without those that the contract does not allow in its files. All of them are told at once with `OpenAI`'s.
fn valid_lines(mut lines: Vec<String>, contract: Contract) -> Vec<String> {
    loop {
        let job = Job::new(lines.join("\n"));
        let bad: Vec<u64> = match job.runner(&moody()).contract(contract).run() {
            Err(RunError::ValidationFailed { errors, .. }) => {
                errors.data.iter().filter_map(|problem| problem.line).collect()
            }
            Err(RunError::InvalidLine { error, .. }) => vec![error.line],
            _ => return lines,
        };
        assert_eq!(job.names(), ["in.jsonl"]);
        if bad.is_empty() {
            return lines;
        }
        let mut number = 0;
        lines.retain(|_| {
            number += 1;
            !bad.contains(&number)
        });
        if matches!(contract, Contract::OpenAi(_)) {
            return lines;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_file_killed_anywhere_ends_as_if_nothing_had_happened(
        contract in prop_oneof![Just(Contract::Lenient), Just(Contract::open_ai()), Just(Contract::Vllm)],
        lines in prop::collection::vec(any_line(), 1..20),
        window in 1..5_usize,
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4),
    ) {
        let lines = valid_lines(lines, contract);
        let clean = Job::new(lines.join("\n"));
        let total = lines.iter().filter(|line| !line.trim_ascii().is_empty()).count();
        prop_assume!(total > 0);
        let report = clean.runner(&moody()).contract(contract).run().expect("the run completes");
        let answered = clean.rows().iter().filter(|row| row.contains(r#""error":null"#) && row.contains(r#""status_code":200"#)).count();
        prop_assert_eq!(counts(&report), [total, answered, total - answered, 0, 0, 0]);
        prop_assert_eq!(clean.rows().len(), total);

        let job = Job::new(lines.join("\n"));
        job.runner(&moody()).contract(contract).window(window).run().expect("the run completes");
        for (output, errors) in cuts {
            for (name, cut) in [("out.jsonl", output), ("out.errors.jsonl", errors)] {
                if !job.path(name).exists() {
                    continue;
                }
                let text = job.read(name).into_bytes();
                fs::write(job.path(name), &text[..cut.index(text.len() + 1)]).expect("the folder is writable");
            }
            let report = job.runner(&moody()).contract(contract).window(window).resume(true).run().expect("the run completes");
            prop_assert_eq!((report.skipped + report.completed + report.failed, report.stale), (total, 0));
            prop_assert_eq!(job.rows(), clean.rows());
        }
    }
}
