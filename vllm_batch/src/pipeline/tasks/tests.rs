//! A task store over SQLite.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use serde_json::{Map, Value, json};

use super::*;
use crate::curate::export::{ExportFormat, ExportOptions, Splits};
use crate::curate::{AgentKind, ResponseStatus, Strategy, TaskSchema};
use crate::jobs::{Batch, BatchStatus, ByteStream};

const NOW: i64 = 1_700_000_000;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(future)
}

/// A schema with a rule for gold, in two versions.
fn mail(version: &str) -> TaskSchema {
    let tone = if version.starts_with('1') { "tone" } else { "voice" };
    let document = json!({
        "format": 1, "id": "mail", "version": version,
        "fields": [{"id": "subject", "type": "text"}],
        "questions": [
            {"id": tone, "type": "choice", "options": ["formal", "casual"], "required": true},
            {"id": "clear", "type": "boolean", "required": false},
        ],
        "gold": {"manual": true, "auto": {"min_agreement": 1.0, "min_annotators": 2}},
        "migrations": if tone == "voice" { json!([{"op": "rename_question", "since": "2.0.0", "from": "tone", "to": "voice"}]) } else { json!([]) },
    });
    TaskSchema::from_value(&document).unwrap().schema
}

fn named() -> SchemaRef {
    "mail@1.0.0".parse().unwrap()
}

async fn store() -> TaskStore {
    let mut schemas = SchemaRegistry::builtin();
    schemas.register(mail("1.0.0")).unwrap();
    TaskStore::open(&SqlStore::connect("sqlite::memory:").await.unwrap(), schemas).await.unwrap()
}

fn record(id: &str) -> NewTask {
    NewTask::new(id).with_field("subject", format!("About {id}"))
}

fn suggested(id: &str, said: &[(&str, &str, f64)]) -> NewTask {
    let mut record = record(id);
    for (model, tone, score) in said {
        let answers = json!({"tone": tone}).as_object().cloned().unwrap();
        let scores = [("tone".to_owned(), *score)].into();
        record.suggestions.push(NewSuggestions { model: (*model).to_owned(), answers, scores });
    }
    record
}

// Values are written where they are passed.
#[allow(clippy::needless_pass_by_value)]
fn answers(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

fn id(record: &str) -> String {
    TaskStore::task_id(&named(), record)
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    result.unwrap_err().code()
}

#[test]
fn records_are_added_once_and_those_that_do_not_fit_are_told() {
    block_on(async {
        let tasks = store().await;
        let mut bad_answer = suggested("c", &[("m", "rude", 0.5)]);
        bad_answer.suggestions[0].answers.insert("clear".to_owned(), json!(true));
        let records = [record("a"), NewTask::new("b"), bad_answer, NewTask::new(""), record("a")];
        let report = tasks.create(&named(), &records, NOW).await.unwrap();
        assert_eq!(report.created, [id("a"), id("c")]);
        assert_eq!(report.existing, [id("a")]);
        let rejected: Vec<_> = report.rejected.iter().map(|one| (one.line, one.code.as_str())).collect();
        assert_eq!(rejected, [(2, "missing_field"), (3, "unknown_option"), (4, "invalid_record")]);

        let again = tasks.create(&named(), &records, NOW + 1).await.unwrap();
        assert_eq!((again.created.len(), again.existing), (0, vec![id("a"), id("c"), id("a")]));
        let task = tasks.task(&id("c")).await.unwrap();
        assert_eq!((task.created_at, task.version, task.record.fields["subject"].as_str()), (NOW, 1, Some("About c")));
        assert_eq!(json!(task.record.suggestions[0].answers()), json!({"clear": true}));
        assert_eq!(task.record.suggestions[0].agent.kind, AgentKind::Model);
        assert_eq!(code(tasks.task("task_0").await), "unknown_task");
        assert_eq!(code(tasks.create(&"mail@9.0.0".parse().unwrap(), &[], NOW).await), "unknown_schema");
    });
}

#[test]
fn a_person_has_one_response_that_is_checked_and_replaced_as_a_whole() {
    block_on(async {
        let tasks = store().await;
        tasks.create(&named(), &[record("a")], NOW).await.unwrap();
        let (id, formal) = (id("a"), answers(json!({"tone": "formal"})));
        let wrong = answers(json!({"tone": 5, "clear": "x", "other": 1}));
        let error = tasks.respond(&id, &NewResponse::submitted("ann", wrong), NOW).await.unwrap_err();
        let TaskStoreError::InvalidAnswers { errors } = error else { panic!("{error}") };
        let codes: BTreeSet<_> = errors.iter().map(|error| (error.question.as_str(), error.code())).collect();
        let expected = [("clear", "wrong_type"), ("other", "unknown_question"), ("tone", "wrong_type")];
        assert_eq!(codes, expected.into());
        let missing = tasks.respond(&id, &NewResponse::submitted("ann", Map::new()), NOW).await;
        assert_eq!(code(missing), "invalid_answers");

        let draft = tasks.respond(&id, &NewResponse::draft("ann", Map::new()), NOW + 1).await.unwrap();
        assert_eq!((draft.version, draft.status()), (2, TaskStatus::Pending));
        let mut response = NewResponse::submitted("ann", formal.clone());
        (response.lead_time, response.prefilled, response.seen_version) = (Some(2.5), Some(true), Some(2));
        let task = tasks.respond(&id, &response, NOW + 2).await.unwrap();
        assert_eq!((task.version, task.status(), task.record.responses.len()), (3, TaskStatus::Annotated, 1));
        assert_eq!(task.record.responses[0].lead_time, Some(2.5));
        let expected = ResponseNote { version: 3, created_at: NOW + 1, updated_at: NOW + 2, external: None };
        assert_eq!(task.notes["ann"], expected);
        assert_eq!(tasks.task(&id).await.unwrap(), task);

        // Another window of the same person has seen an earlier version; another person is not in their way.
        assert_eq!(code(tasks.respond(&id, &response, NOW + 3).await), "version_conflict");
        response.annotator = "bob".to_owned();
        assert!(tasks.respond(&id, &response, NOW + 3).await.is_ok());
        let task = tasks.respond(&id, &NewResponse::discarded("ann"), NOW + 4).await.unwrap();
        assert_eq!(task.record.responses[0].status, ResponseStatus::Discarded);
        let task = tasks.withdraw(&id, "ann", NOW + 5).await.unwrap();
        assert_eq!(task.record.responses.iter().map(|one| one.agent.name.as_str()).collect::<Vec<_>>(), ["bob"]);
        let same = tasks.withdraw(&id, "nobody", NOW + 6).await.unwrap();
        assert_eq!((same.version, same.updated_at), (task.version, NOW + 5), "nothing changed");
        assert_eq!(code(tasks.respond(&id, &NewResponse::discarded(" "), NOW).await), "invalid_parameter");
    });
}

#[test]
fn gold_is_what_the_schema_says_by_hand_and_by_rule() {
    block_on(async {
        let tasks = store().await;
        tasks.create(&named(), &[record("a"), record("b")], NOW).await.unwrap();
        let formal = || answers(json!({"tone": "formal"}));
        tasks.respond(&id("a"), &NewResponse::submitted("ann", formal()), NOW).await.unwrap();
        let task = tasks.respond(&id("a"), &NewResponse::submitted("bob", formal()), NOW).await.unwrap();
        assert!(task.decision.is_gold, "{:?}", task.decision);
        let marks = tasks.mark_all_gold(&[id("a"), "x".to_owned()], Some(false), "eve", NOW).await.unwrap();
        assert_eq!(marks, GoldMarks { marked: vec![id("a")], unknown: vec!["x".to_owned()] });
        let task = tasks.task(&id("a")).await.unwrap();
        assert_eq!((task.decision.is_gold, task.gold_by.as_deref()), (false, Some("eve")));
        assert!(tasks.mark_gold(&id("a"), None, "eve", NOW).await.unwrap().decision.is_gold);

        let mut query = TaskQuery::of_schema("mail", 10);
        query.status = Some(TaskStatus::Gold);
        let gold = tasks.tasks(&query).await.unwrap();
        assert_eq!(gold.data.iter().map(|task| task.record.id.as_str()).collect::<Vec<_>>(), ["a"]);
        let stats = tasks.stats("mail", Some("1.0.0")).await.unwrap();
        assert_eq!((stats.total, stats.pending, stats.annotated, stats.gold), (2, 1, 1, 1));
        assert_eq!(stats.mean_agreement, Some(1.0));
        assert_eq!(
            stats.annotators.iter().map(|one| (&*one.annotator, one.submitted)).collect::<Vec<_>>(),
            [("ann", 1), ("bob", 1)]
        );
        assert_eq!(tasks.stats("none", None).await.unwrap(), TaskStats::default());
    });
}

#[test]
fn lists_come_in_pages_and_filters_hold() {
    block_on(async {
        let tasks = store().await;
        let records: Vec<_> = (0..7).map(|number| record(&format!("R_{number}%"))).collect();
        tasks.create(&named(), &records, NOW).await.unwrap();
        tasks
            .create(&"cv_parsing@1.0.0".parse().unwrap(), &[NewTask::new("cv").with_field("resume_text", "x")], NOW)
            .await
            .unwrap();
        let mut query = TaskQuery::of_schema("mail", 3);
        let mut seen = Vec::new();
        loop {
            let page = tasks.tasks(&query).await.unwrap();
            query.after = page.data.last().map(|task| task.id.clone());
            seen.extend(page.data.into_iter().map(|task| task.record.id));
            if !page.has_more {
                break;
            }
        }
        assert_eq!(seen, records.iter().map(|record| record.id.clone()).collect::<Vec<_>>());

        tasks.respond(&id("R_3%"), &NewResponse::draft("ann", Map::new()), NOW).await.unwrap();
        let tasks = &tasks;
        let found = |query: TaskQuery| async move {
            let page = tasks.tasks(&query).await.unwrap();
            page.data.into_iter().map(|task| task.record.id).collect::<Vec<_>>()
        };
        let all = TaskQuery { limit: 100, ..TaskQuery::default() };
        assert_eq!(found(all.clone()).await.len(), 8);
        assert_eq!(found(TaskQuery { search: Some("r_5%".to_owned()), ..all.clone() }).await, ["R_5%"]);
        assert_eq!(found(TaskQuery { search: Some("RX5".to_owned()), ..all.clone() }).await, Vec::<String>::new());
        assert_eq!(found(TaskQuery { annotator: Some("ann".to_owned()), ..all.clone() }).await, ["R_3%"]);
        assert_eq!(
            found(TaskQuery { schema_version: Some("2.0.0".to_owned()), ..all.clone() }).await,
            Vec::<String>::new()
        );
        assert_eq!(code(tasks.tasks(&TaskQuery { limit: 0, ..all.clone() }).await), "invalid_parameter");
        assert_eq!(code(tasks.tasks(&TaskQuery { after: Some("x".to_owned()), ..all }).await), "unknown_task");
    });
}

#[test]
fn what_is_worth_most_comes_first_and_two_people_get_different_records() {
    block_on(async {
        let tasks = store().await;
        let records = [
            suggested("sure", &[("m", "formal", 0.9)]),
            suggested("unsure", &[("m", "formal", 0.2)]),
            suggested("disputed", &[("a", "formal", 0.8), ("b", "casual", 0.8)]),
        ];
        tasks.create(&named(), &records, NOW).await.unwrap();
        let next = |annotator: &str, strategy, now| {
            let mut query = NextQuery::new(named(), annotator);
            (query.strategy, query.wanted_responses) = (strategy, Some(1));
            let tasks = tasks.clone();
            async move { tasks.next(&query, now).await.unwrap().into_iter().map(|task| task.record.id).next() }
        };
        let some = |id: &str| Some(id.to_owned());
        assert_eq!(next("ann", Strategy::Uncertainty, NOW).await, some("unsure"));
        assert_eq!(next("ann", Strategy::Uncertainty, NOW + 1).await, some("unsure"), "asking again gives the same");
        assert_eq!(next("bob", Strategy::Uncertainty, NOW + 1).await, some("disputed"));
        assert_eq!(next("eve", Strategy::Uncertainty, NOW + 1).await, some("sure"));
        assert_eq!(next("dan", Strategy::Uncertainty, NOW + 1).await, None);
        // Whoever leaves loses it after a while.
        let later = NOW + 2 + next::CLAIM_SECONDS;
        assert_eq!(next("dan", Strategy::Disagreement, later).await, some("disputed"));
        let formal = answers(json!({"tone": "formal"}));
        tasks.respond(&id("unsure"), &NewResponse::submitted("ann", formal), later).await.unwrap();
        tasks.respond(&id("sure"), &NewResponse::discarded("ann"), later).await.unwrap();
        assert_eq!(next("ann", Strategy::Uncertainty, later).await, None, "the third one is dan's");
        assert_eq!(next("bob", Strategy::Random, later).await, some("sure"), "what ann discards, bob may answer");

        let mut query = NextQuery::new(named(), "gil");
        (query.limit, query.wanted_responses) = (3, Some(5));
        let found = tasks.next(&query, later).await.unwrap();
        assert_eq!(found.iter().map(|task| &*task.record.id).collect::<Vec<_>>(), ["unsure", "disputed", "sure"]);
        query.after = Some(id("disputed"));
        let found = tasks.next(&query, later).await.unwrap();
        assert_eq!(found.iter().map(|task| &*task.record.id).collect::<Vec<_>>(), ["sure", "unsure", "disputed"]);
    });
}

#[test]
fn chance_gives_every_record_once_from_a_place_that_the_seed_decides() {
    block_on(async {
        let tasks = store().await;
        let records: Vec<_> = (0..20).map(|number| record(&number.to_string())).collect();
        tasks.create(&named(), &records, NOW).await.unwrap();
        let mut orders = BTreeSet::new();
        for seed in 0..4 {
            let mut query = NextQuery::new(named(), "ann");
            (query.strategy, query.seed, query.limit) = (Strategy::Random, seed, 20);
            let order: Vec<_> = tasks.next(&query, NOW).await.unwrap().into_iter().map(|task| task.id).collect();
            assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 20);
            orders.insert(order);
        }
        assert!(orders.len() > 1, "{orders:?}");
    });
}

#[test]
fn many_people_at_once_lose_nothing() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("tasks.db").display());
        let mut schemas = SchemaRegistry::new();
        schemas.register(mail("1.0.0")).unwrap();
        let tasks = TaskStore::open(&SqlStore::connect(&url).await.unwrap(), schemas).await.unwrap();
        tasks.create(&named(), &[record("a")], NOW).await.unwrap();
        let respond = |number: usize| {
            let tasks = tasks.clone();
            async move {
                let response = NewResponse::submitted(format!("p{number}"), answers(json!({"tone": "formal"})));
                tasks.respond(&id("a"), &response, NOW).await
            }
        };
        let results = futures::future::join_all((0..24).map(respond)).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        let task = tasks.task(&id("a")).await.unwrap();
        assert_eq!((task.record.responses.len(), task.version, task.decision.num_annotators), (24, 25, 24));
    });
}

fn batch() -> Batch {
    let mut batch = Batch::new("batch_1", "/v1/chat/completions", "file-1", NOW);
    batch.status = BatchStatus::Completed;
    batch
}

fn file(lines: &[Value]) -> ByteStream {
    let text: Vec<u8> = lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
    // In parts that do not end where lines do.
    let parts: Vec<_> = text.chunks(100).map(|part| Ok(part.to_vec().into())).collect();
    futures::stream::iter(parts).boxed()
}

fn asked(id: &str) -> Value {
    let body = json!({"model": "m", "messages": [{"role": "system", "content": "?"}, {"role": "user", "content": format!("About {id}")}]});
    json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body})
}

fn answered(id: &str, text: &str) -> Value {
    let message = json!({"role": "assistant", "content": text});
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    });
    json!({"id": "batch_req_1", "custom_id": id, "response": {"status_code": 200, "request_id": "r", "body": body}, "error": null})
}

fn files() -> BatchFiles {
    let failed = json!({"id": "batch_req_2", "custom_id": "d", "response": null,
        "error": {"code": "batch_cancelled", "message": "cancelled", "param": null, "line": 4}});
    BatchFiles {
        input: Some(file(&[asked("a"), asked("b"), asked("c"), asked("d")])),
        output: Some(file(&[
            answered("a", r#"{"tone": "formal", "clear": true}"#),
            answered("b", r#"{"tone": "rude", "clear": false}"#),
            answered("c", "I do not know"),
            answered("x", r#"{"tone": "formal"}"#),
        ])),
        errors: Some(file(&[failed])),
    }
}

#[test]
fn answers_of_a_batch_become_suggestions_once() {
    block_on(async {
        let tasks = store().await;
        tasks.create(&named(), &[record("a")], NOW).await.unwrap();
        let report = tasks.import_batch(&batch(), &named(), files(), NOW + 1).await.unwrap();
        assert_eq!((report.created, report.suggested, report.error.as_deref()), (3, 3, None));
        let rejections = tasks.rejections("batch_1", "mail", 0, 100).await.unwrap();
        let found: Vec<_> =
            rejections.iter().map(|one| (one.line, one.id.as_deref().unwrap_or(""), one.code.as_str())).collect();
        assert!(found.contains(&(2, "b", "unknown_option")), "{found:?}");
        assert!(found.contains(&(4, "x", "unknown_record")), "{found:?}");
        assert!(found.contains(&(1, "d", "batch_cancelled")), "{found:?}");
        assert_eq!(report.rejected as usize, rejections.len());

        let task = tasks.task(&id("a")).await.unwrap();
        assert_eq!(json!(task.record.suggestions[0].answers()), json!({"tone": "formal", "clear": true}));
        let provenance = &task.record.suggestions[0].provenance;
        assert_eq!(
            (provenance.batch_id.as_deref(), provenance.custom_id.as_deref(), &*provenance.model),
            (Some("batch_1"), Some("a"), "m")
        );
        assert_eq!(tasks.task(&id("d")).await.unwrap().record.fields["subject"], "About d");

        // A second call, and one after a crash that lost the note that it was done, change nothing.
        let again = tasks.import_batch(&batch(), &named(), BatchFiles::default(), NOW + 2).await.unwrap();
        assert_eq!(again, report);
        let forget = Statement::new("DELETE FROM curation_imports");
        let mut tx = tasks.database.begin().await.unwrap();
        forget.execute(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        let repeated = tasks.import_batch(&batch(), &named(), files(), NOW + 3).await.unwrap();
        assert_eq!((repeated.created, repeated.suggested, repeated.rejected), (0, 3, report.rejected));
        assert_eq!(tasks.task(&id("a")).await.unwrap(), task);
        assert_eq!(tasks.rejections("batch_1", "mail", 0, 100).await.unwrap(), rejections);

        let mut running = batch();
        (running.id, running.status) = ("batch_2".to_owned(), BatchStatus::InProgress);
        assert_eq!(code(tasks.import_batch(&running, &named(), files(), NOW).await), "invalid_parameter");
    });
}

#[test]
fn schemas_are_registered_for_all_who_share_the_database() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("tasks.db").display());
        let jobs = SqlStore::connect(&url).await.unwrap();
        let one = TaskStore::open(&jobs, SchemaRegistry::new()).await.unwrap();
        let other = TaskStore::open(&jobs, SchemaRegistry::new()).await.unwrap();
        one.register(mail("1.0.0"), NOW).await.unwrap();
        one.register(mail("1.0.0"), NOW).await.unwrap();
        assert_eq!(other.schema(&named()).await.unwrap().schema().id, "mail");
        let mut changed = mail("1.0.0");
        changed.questions.pop();
        assert_eq!(code(other.register(changed.clone(), NOW).await), "schema_conflict");
        changed.version = "1.0.1".parse().unwrap();
        assert_eq!(code(other.register(changed, NOW).await), "bump_too_small");
        other.register(mail("2.0.0"), NOW).await.unwrap();
        assert_eq!(one.find_schema("mail@2.0.0").await.unwrap().schema().version.major, 2);
        assert_eq!(one.find_schema("mail").await.unwrap().schema().version.major, 2);
        assert_eq!(code(one.find_schema("Mail!").await), "invalid_parameter");
        assert_eq!(code(one.find_schema("post").await), "unknown_schema");
        // Tasks that there are decide which version is worked with.
        one.create(&named(), &[record("a")], NOW).await.unwrap();
        assert_eq!(one.find_used_schema("mail").await.unwrap().schema().version.major, 1);
    });
}

#[test]
fn tasks_go_on_to_a_newer_version_with_their_answers() {
    block_on(async {
        let tasks = store().await;
        tasks.register(mail("2.0.0"), NOW).await.unwrap();
        tasks.create(&named(), &[suggested("a", &[("m", "casual", 0.5)]), record("b")], NOW).await.unwrap();
        tasks.respond(&id("a"), &NewResponse::submitted("ann", answers(json!({"tone": "formal"}))), NOW).await.unwrap();
        let to: SchemaRef = "mail@2.0.0".parse().unwrap();
        let report = tasks.migrate(&to, NOW + 1).await.unwrap();
        assert_eq!((report.migrated, report.unfit.len(), report.answers.num_records), (2, 0, 2));
        let task = tasks.task(&id("a")).await.unwrap();
        assert_eq!((&task.schema, json!(task.record.responses[0].answers)), (&to, json!({"voice": "formal"})));
        assert_eq!(json!(task.record.suggestions[0].answers()), json!({"voice": "casual"}));
        assert_eq!(tasks.migrate(&to, NOW + 2).await.unwrap().migrated, 0);
        assert_eq!(code(tasks.migrate(&named(), NOW).await), "migration_backwards");
    });
}

#[test]
fn gold_records_become_rows_and_the_report_says_why_others_do_not() {
    block_on(async {
        let tasks = store().await;
        let records: Vec<_> = (0..450).map(|number| record(&format!("{number:03}"))).collect();
        tasks.create(&named(), &records, NOW).await.unwrap();
        for number in 0..9 {
            let said = NewResponse::submitted("ann", answers(json!({"tone": "formal"})));
            tasks.respond(&id(&format!("{number:03}")), &said, NOW).await.unwrap();
        }
        tasks.mark_all_gold(&["000", "001", "002"].map(id), Some(true), "ann", NOW).await.unwrap();
        let tasks = &tasks;
        let rows = |export: TaskExport| async move {
            let mut lines = tasks.export(&export).await.unwrap();
            let mut text = Vec::new();
            while let Some(part) = lines.next().await {
                text.extend(part.unwrap());
            }
            String::from_utf8(text)
                .unwrap()
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap())
                .collect::<Vec<_>>()
        };
        let export = TaskExport::new(named(), ExportOptions::new(ExportFormat::TrlMessages));
        let gold = rows(export.clone()).await;
        assert_eq!(
            gold.iter().map(|row| row["record_id"].as_str().unwrap()).collect::<Vec<_>>(),
            ["000", "001", "002"]
        );
        let report = tasks.export_report(&export).await.unwrap();
        assert_eq!((report.num_rows, report.skipped["not_gold"]), (3, 447));

        let mut split = export.clone();
        split.options.answers = crate::curate::export::AnswerSource::SingleResponse;
        split.splits = Some(Splits::new(0.0, 0.5, "s").unwrap());
        let all = rows(split.clone()).await;
        split.split = Some(crate::curate::export::Split::Test);
        let tests = rows(split).await;
        assert_eq!(all.len(), 9);
        assert!(!tests.is_empty() && tests.len() < 9);
        assert_eq!(tests, all.into_iter().filter(|row| row["split"] == "test").collect::<Vec<_>>());
    });
}

#[test]
fn agreement_is_that_of_the_stored_answers() {
    block_on(async {
        use crate::curate::agreement::{AgreementOptions, Compared, Shown};
        let tasks = store().await;
        tasks.create(&named(), &[suggested("a", &[("m", "formal", 0.5)]), record("b")], NOW).await.unwrap();
        for (record, name, tone) in
            [("a", "ann", "formal"), ("a", "bob", "formal"), ("b", "ann", "formal"), ("b", "bob", "casual")]
        {
            let said = NewResponse::submitted(name, answers(json!({"tone": tone})));
            tasks.respond(&id(record), &said, NOW).await.unwrap();
        }
        let report = tasks.agreement(&named(), &AgreementOptions::default()).await.unwrap();
        assert_eq!(report.group(&Compared::Humans, Shown::All).unwrap().overall, Some(0.5));
        let model = Compared::ModelHuman { model: "m".to_owned() };
        assert_eq!(report.group(&model, Shown::All).unwrap().overall, Some(1.0));
    });
}

/// An event of Label Studio about an annotation of the record.
fn event(action: &str, record: &str, tone: &str, updated_at: &str) -> Value {
    let result =
        json!([{"from_name": "tone", "to_name": "src_vb_record", "type": "choices", "value": {"choices": [tone]}}]);
    json!({
        "action": action,
        "task": {"id": 5, "data": {"vb_record": record, "vb_schema": "mail@1.0.0", "subject": "About"}},
        "annotation": {"id": 7, "completed_by": {"email": "ann@example.org"}, "result": result, "ground_truth": true,
            "updated_at": updated_at},
        "project": {"id": 2},
    })
}

#[test]
fn events_of_label_studio_count_by_their_own_time_and_once() {
    block_on(async {
        let tasks = store().await;
        tasks.create(&named(), &[record("a")], NOW).await.unwrap();
        let saved = EventOutcome::Saved { task: id("a"), left_out: vec![] };
        let ignored = |reason| EventOutcome::Ignored { reason };
        let (early, late) = ("2026-01-31T12:00:00.000001Z", "2026-01-31T12:00:00.000002Z");
        let cases = [
            (event("ANNOTATION_CREATED", "a", "formal", early), saved.clone(), Some("formal")),
            (event("ANNOTATION_CREATED", "a", "casual", early), ignored(IgnoredEvent::NotNewer), Some("formal")),
            (event("ANNOTATION_UPDATED", "a", "casual", late), saved, Some("casual")),
            (event("ANNOTATION_CREATED", "a", "formal", early), ignored(IgnoredEvent::NotNewer), Some("casual")),
            (event("ANNOTATION_UPDATED", "b", "casual", late), ignored(IgnoredEvent::UnknownRecord), Some("casual")),
            (json!({"action": "PROJECT_UPDATED"}), ignored(IgnoredEvent::OtherAction), Some("casual")),
            (
                json!({"action": "ANNOTATION_CREATED", "annotation": {"id": 1}, "task": {"id": 1}}),
                ignored(IgnoredEvent::ForeignTask),
                Some("casual"),
            ),
            (
                json!({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 8}]}),
                ignored(IgnoredEvent::UnknownRecord),
                Some("casual"),
            ),
            (
                json!({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 7}]}),
                EventOutcome::Removed { task: id("a") },
                None,
            ),
        ];
        for (event, outcome, tone) in cases {
            assert_eq!(tasks.apply_label_studio(&event, NOW).await.unwrap(), [outcome], "{event}");
            let task = tasks.task(&id("a")).await.unwrap();
            let said = task.record.responses.first().map(|response| json!(response.answers)["tone"].clone());
            assert_eq!(said, tone.map(Value::from), "{event}");
            assert_eq!(task.record.gold, tone.map(|_| true), "{event}");
        }
    });
}
