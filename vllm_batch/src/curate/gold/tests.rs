use super::*;
use crate::curate::{
    Agent, Answer, NumberQuestion, Provenance, QuestionOption, Suggestion, SuggestionSet, TextQuestion, Version,
};

fn schema(change: impl FnOnce(&mut TaskSchema)) -> CompiledSchema {
    let options = ["formal", "casual", "rude"].map(|value| QuestionOption::new(value, value)).to_vec();
    let tone = QuestionKind::Choice { options, multiple: false, min: 0, max: None };
    let mut notes = Question::new("notes".parse().unwrap(), QuestionKind::Text(TextQuestion::default()));
    notes.required = false;
    let mut words = Question::new("words".parse().unwrap(), QuestionKind::Number(NumberQuestion::default()));
    words.weight = 3.0;
    let mut schema = TaskSchema::new("mail".parse().unwrap(), Version::new(1, 0, 0))
        .with_question(Question::new("tone".parse().unwrap(), tone))
        .with_question(words)
        .with_question(notes);
    schema.gold.auto = Some(AutoGold { max_edit: Some(0.5), ..AutoGold::default() });
    change(&mut schema);
    schema.compile().unwrap()
}

fn answers(tone: &str, words: f64) -> Answers {
    let tone = ("tone".parse().unwrap(), Answer::Option(tone.to_owned()));
    let words = ("words".parse().unwrap(), Answer::Number(words));
    [tone, words].into_iter().collect()
}

fn record(people: &[Answers], model: &Answers) -> Record {
    let mut record = Record::new("r");
    record.responses =
        people.iter().enumerate().map(|(at, said)| Response::submitted(format!("p{at}"), said.clone())).collect();
    let suggestions = model.iter().map(|(id, answer)| Suggestion::new(id.clone(), answer.clone())).collect();
    record.suggestions = vec![SuggestionSet::new(Agent::model("m"), suggestions, Provenance::default())];
    record
}

#[test]
fn the_rule_says_all_that_speaks_against_a_record() {
    let schema = schema(|_| {});
    let (good, other) = (answers("formal", 1.0), answers("casual", 1.0));
    let without_words: Answers = [("tone".parse().unwrap(), Answer::Option("formal".to_owned()))].into_iter().collect();
    let missing = GoldReason::MissingAnswer { question: "words".to_owned() };
    let cases = [
        (record(&[good.clone(), good.clone()], &good), vec![GoldReason::Rule]),
        (record(std::slice::from_ref(&good), &good), vec![GoldReason::TooFewAnnotators { found: 1, wanted: 2 }]),
        (
            record(&[good.clone(), answers("casual", 2.0)], &good),
            vec![GoldReason::TooLittleAgreement { found: 0.0, wanted: 0.8 }],
        ),
        (
            record(&[other.clone(), other.clone()], &answers("formal", 2.0)),
            vec![GoldReason::TooManyEdits { found: 1.0, allowed: 0.5 }],
        ),
        (record(&[without_words.clone(), without_words.clone()], &without_words), vec![missing]),
        (
            record(&[], &Answers::new()),
            vec![GoldReason::NoAnswers, GoldReason::MissingAnswer { question: "tone".to_owned() }],
        ),
    ];
    for (at, (record, expected)) in cases.into_iter().enumerate() {
        let reasons = schema.decide_gold(&record).reasons;
        assert_eq!(reasons[..expected.len().min(reasons.len())], expected, "case {at}");
        assert_eq!(schema.decide_gold(&record).is_gold, expected == [GoldReason::Rule], "case {at}");
    }
}

#[test]
fn a_persons_word_comes_before_the_rule_where_it_counts() {
    let good = answers("formal", 1.0);
    let gold = |change: fn(&mut TaskSchema), said: Option<bool>| {
        let mut record = record(&[good.clone(), good.clone()], &good);
        record.gold = said;
        let decision = schema(change).decide_gold(&record);
        (decision.is_gold, decision.reasons)
    };
    assert_eq!(gold(|_| {}, Some(true)), (true, vec![GoldReason::Manual]));
    assert_eq!(gold(|_| {}, Some(false)), (false, vec![GoldReason::ManuallyRejected]));
    assert_eq!(gold(|schema| schema.gold.manual = false, Some(false)), (true, vec![GoldReason::Rule]));
    let by_word = |schema: &mut TaskSchema| schema.gold.auto = None;
    assert_eq!(gold(by_word, None), (false, vec![GoldReason::NobodySaid]));
    let by_nothing = |schema: &mut TaskSchema| (schema.gold.auto, schema.gold.manual) = (None, false);
    assert_eq!(gold(by_nothing, Some(true)), (false, vec![GoldReason::ManualNotAllowed]));
}

#[test]
fn answers_that_do_not_hold_are_never_gold_unless_that_is_allowed() {
    let bad = answers("polite", 1.0);
    let mut record = record(&[bad.clone(), bad.clone()], &bad);
    record.gold = Some(true);
    let decision = schema(|_| {}).decide_gold(&record);
    assert!(!decision.is_gold);
    assert!(
        matches!(&decision.reasons[..], [GoldReason::Manual, GoldReason::InvalidAnswer { question, .. }] if question == "tone")
    );
    assert!(schema(|schema| schema.gold.forbid_invalid = false).decide_gold(&record).is_gold);
}

#[test]
fn what_most_people_say_is_settled_and_a_model_speaks_where_nobody_did() {
    let schema = schema(|_| {});
    let model = answers("rude", 9.0);
    let people = [answers("casual", 1.0), answers("formal", 2.0), answers("formal", 1.0)];
    let decision = schema.decide_gold(&record(&people, &model));
    assert_eq!(decision.answers, answers("formal", 1.0));
    assert_eq!((decision.num_annotators, decision.agreement.map(|share| (share * 100.0).round())), (3, Some(33.0)));

    let mut alone = record(&[], &model);
    alone.gold = Some(true);
    let decision = schema.decide_gold(&alone);
    assert_eq!((decision.is_gold, decision.answers, decision.agreement), (true, model, None));
}
