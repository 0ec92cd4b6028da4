use proptest::prelude::*;

use super::*;

/// What is wrong with lines, as `line path code effect`.
pub(in super::super) fn problems(format: ExportFormat, lines: &str) -> Vec<String> {
    let report = validate(lines.as_bytes(), format).unwrap();
    let told = |one: DatasetProblem| format!("{} {} {} {:?}", one.line, one.path, one.code, one.effect);
    report.problems.into_iter().map(told).filter(|one| !one.contains("too_few_rows")).collect()
}

/// Files, and what is wrong with them.
const CASES: &[(ExportFormat, &str, &[&str])] = &[
    (
        ExportFormat::OpenAiChat,
        "{}\n[]\n\n{\"messages\": NaN}\n",
        &[
            "1 /messages missing_key Refused",
            "2  not_an_object Refused",
            "3  blank_line Refused",
            "4  invalid_json Refused",
        ],
    ),
    (
        ExportFormat::OpenAiChat,
        r#"{"messages":[{"role":"user","content":"x","weight":1},{"role":"bot","content":3}],"id":"1"}"#,
        &[
            "1 /id unknown_key Refused",
            "1 /messages/1/role unknown_role Refused",
            "1 /messages/1/content not_a_text Refused",
            "1 /messages/0/weight invalid_weight Refused",
            "1 /messages nothing_to_learn Refused",
        ],
    ),
    (
        ExportFormat::OpenAiDpo,
        r#"{"input":{"messages":[{"role":"assistant","content":"x"}]},"preferred_output":[{"role":"user","content":"y"}],"non_preferred_output":[{"role":"user","content":"y"}]}"#,
        &[
            "1 /input/messages role_order Refused",
            "1 /preferred_output role_order Refused",
            "1 /non_preferred_output role_order Refused",
            "1 /non_preferred_output equal_pair Misread",
        ],
    ),
    (
        ExportFormat::TrlPromptCompletion,
        r#"{"prompt":[{"role":"system","content":"x"}],"completion":[],"label":true}"#,
        &["1 /label unknown_key Refused", "1 /prompt role_order Refused", "1 /completion no_messages Refused"],
    ),
    (ExportFormat::TrlPromptCompletion, r#"{"prompt":"x","completion":"y"}"#, &[]),
    (ExportFormat::TrlKto, r#"{"prompt":"x","completion":"y","label":"yes"}"#, &["1 /label wrong_type Refused"]),
    (ExportFormat::TrlMessages, r#"{"messages":[{"role":"user","content":"x"}]}"#, &["1 /messages role_order Misread"]),
    (
        ExportFormat::Alpaca,
        "{\"instruction\":\"x\",\"output\":\"y\",\"n\":1}\n{\"instruction\":\"x\",\"output\":\"\",\"n\":\"1\",\"m\":1}\n",
        &["2 /n column_type Refused", "2 /m different_columns Refused", "2 /output empty_text Skipped"],
    ),
    (
        ExportFormat::Alpaca,
        r#"{"instruction":"x","output":{"a":1},"history":[["a","b"]]}"#,
        &["1 /output not_a_text Skipped", "1 /history trained_on_history Misread"],
    ),
    (
        ExportFormat::ShareGpt,
        r#"{"conversations":[{"from":"gpt","value":"x"},{"from":"human","value":"y"}]}"#,
        &["1 /conversations role_order Skipped"],
    ),
    (
        ExportFormat::ShareGpt,
        r#"{"conversations":[{"from":"system","value":"s"},{"from":"human","value":"x"}]}"#,
        &["1 /conversations odd_turns Skipped"],
    ),
    (
        ExportFormat::ShareGptPreference,
        r#"{"conversations":[{"from":"human","value":"x"},{"from":"gpt","value":"y"}],"chosen":{"from":"human","value":"a"},"rejected":"b"}"#,
        &["1 /conversations even_turns Skipped", "1 /chosen role_order Skipped", "1 /rejected not_a_message Skipped"],
    ),
    (
        ExportFormat::ShareGptPreference,
        r#"{"conversations":[{"from":"human","value":"x"}],"chosen":{"from":"gpt","value":"a"},"rejected":{"from":"gpt","value":"a"}}"#,
        &["1 /rejected equal_pair Misread"],
    ),
    (
        ExportFormat::AlpacaPreference,
        r#"{"instruction":"x","input":"","chosen":{"a":1}}"#,
        &["1 /chosen not_a_text Skipped", "1 /rejected missing_key Skipped"],
    ),
    (
        ExportFormat::Axolotl,
        r#"{"messages":[{"role":"user","content":"x","train":false},{"role":"assistant","content":"y","train":false}]}"#,
        &["1 /messages nothing_to_learn Skipped"],
    ),
    (
        ExportFormat::Argilla,
        r#"{"id":"a","fields":{"x":1},"metadata":{},"suggestions":[{"question_name":"q","value":"v","agent":"a+b","score":2}],"responses":[{"question_name":"q","value":"v","user_id":"ann","status":"done"}]}"#,
        &[
            "1 /fields/x not_a_text Refused",
            "1 /suggestions/0/agent invalid_agent Refused",
            "1 /suggestions/0/score invalid_score Refused",
            "1 /responses/0/user_id invalid_user_id Refused",
            "1 /responses/0/status unknown_status Refused",
        ],
    ),
    (
        ExportFormat::IclMessages,
        "{\"id\":\"a\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":\"y\"}]}\n{\"id\":\"a\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}\n",
        &["2 /id duplicate_id Misread", "2 /messages role_order Misread"],
    ),
    (
        ExportFormat::IclJson,
        r#"{"id":"a","schema":"s@1.0.0","input":{},"output":{},"rendered":{"user":"x"},"quality":{}}"#,
        &["1 /rendered/assistant not_a_text Refused"],
    ),
    (
        ExportFormat::IclText,
        "<example>\n<record>\nx\n</record>\n<answer>\ny\n</answer>\n</example>\nmore",
        &["9  broken_example Misread"],
    ),
    (
        ExportFormat::Distilabel,
        r#"{"prompt":"","prompt_id":"1","messages":[{"role":"assistant","content":"y"}]}"#,
        &["1 /prompt empty_text Refused"],
    ),
    (ExportFormat::TrlPreference, "", &["0  no_rows Refused"]),
    (
        ExportFormat::TrlPreference,
        "\u{feff}{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"b\"}",
        &["1  byte_order_mark Refused", "1 /rejected equal_pair Misread"],
    ),
];

#[test]
fn each_reader_has_its_own_rules() {
    for (format, lines, expected) in CASES {
        assert_eq!(problems(*format, lines), *expected, "{format}: {lines}");
    }
}

#[test]
fn openai_wants_ten_examples() {
    let line = r#"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}]}"#;
    let report =
        |count: usize| validate(format!("{line}\n").repeat(count).as_bytes(), ExportFormat::OpenAiChat).unwrap();
    assert_eq!(report(9).problems[0].code, "too_few_rows");
    assert!(report(10).is_valid());
    let long = format!(
        r#"{{"messages":[{{"role":"user","content":"{}"}},{{"role":"assistant","content":"y"}}]}}"#,
        "x".repeat(300_000)
    );
    assert_eq!(problems(ExportFormat::OpenAiChat, &long), ["1 /messages too_long Truncated"]);
}

proptest! {
    #[test]
    fn no_line_makes_the_check_panic(line in "\\PC{0,60}", key in "(messages|prompt|output|conversations|fields)", value in "(null|1|\"x\"|\\[\\]|\\{\\}|\\[1\\]|\\[\\{\"role\":1\\}\\])") {
        for format in ExportFormat::ALL {
            for text in [line.clone(), format!("{{\"{key}\": {value}}}")] {
                prop_assert!(!validate(text.as_bytes(), format).unwrap().is_valid());
            }
        }
    }
}
