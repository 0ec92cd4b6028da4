//! The schemas that come with the library, and the files of the system that had them first.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use vllm_batch::curate::{
    CompiledSchema, FieldKind, QuestionKind, QuestionRole, ReadSchema, Scale, SchemaReader, SchemaRegistry, TaskSchema,
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/schemas/original");

const IDS: [&str; 6] =
    ["candidate_evaluation", "cartographer", "cv_parsing", "email_evaluation", "quil_email", "report_evaluation"];

fn originals() -> Vec<(PathBuf, ReadSchema)> {
    let path = |id: &&str| Path::new(FOLDER).join(format!("{id}.json"));
    let read = |path: PathBuf| {
        let read = TaskSchema::from_json(&fs::read_to_string(&path).unwrap()).unwrap();
        (path, read)
    };
    IDS.iter().map(path).map(read).collect()
}

#[test]
fn all_six_are_there_and_sound() {
    let registry = SchemaRegistry::builtin();
    let all: Vec<String> = registry.iter().map(|schema| schema.schema().reference().to_string()).collect();
    assert_eq!(all, IDS.map(|id| format!("{id}@1.0.0")));
    for schema in registry.iter() {
        assert_eq!(schema.warnings(), [], "{}", schema.schema().id);
        assert!(schema.schema().guidelines.is_some());
        assert!(schema.schema().questions.iter().all(|question| question.help.is_some()));
        let group = schema.schema().export.group_by.as_ref().unwrap();
        assert!(schema.schema().field(group).is_some());
    }
}

#[test]
fn what_they_are_written_as_is_what_they_are() {
    for schema in SchemaRegistry::builtin().iter() {
        let json = serde_json::to_string(schema.schema()).unwrap();
        let again = TaskSchema::from_json(&json).unwrap();
        assert_eq!((&again.schema, again.warnings.len()), (schema.schema(), 0));
        assert_eq!(again.schema.compile().unwrap().sha256(), schema.sha256());
    }
}

#[test]
fn no_answer_about_an_answer_is_learnt() {
    let registry = SchemaRegistry::builtin();
    let reviews = |schema: &CompiledSchema| -> Vec<String> {
        let questions = schema.schema().questions.iter().filter(|question| question.role == QuestionRole::Review);
        questions.map(|question| question.id.to_string()).collect()
    };
    let all: BTreeMap<&str, Vec<String>> = IDS.iter().map(|id| (*id, reviews(&registry.get(id).unwrap()))).collect();
    let expected: [(&str, &[&str]); 6] = [
        ("candidate_evaluation", &["notes"]),
        ("cartographer", &[]),
        ("cv_parsing", &[]),
        ("email_evaluation", &["notes"]),
        ("quil_email", &["quality_score", "improvements"]),
        ("report_evaluation", &["notes"]),
    ];
    let expected = expected.map(|(id, reviews)| (id, reviews.iter().map(|id| (*id).to_owned()).collect()));
    assert_eq!(all, BTreeMap::from(expected));
}

/// Ids with types: what a schema asks and shows, whatever the words are.
fn shape(schema: &TaskSchema) -> (Vec<String>, Vec<String>) {
    let kind = |kind: &FieldKind| match kind {
        FieldKind::Text { .. } => "text",
        FieldKind::Structured { .. } => "structured",
        other => panic!("{other:?}"),
    };
    let mut fields: Vec<String> = schema
        .fields
        .iter()
        .map(|field| format!("{} {} {:?} {}", field.id, kind(&field.kind), field.display, field.required))
        .collect();
    let num_options = |kind: &QuestionKind| kind.options().len();
    let mut questions: Vec<String> = schema
        .questions
        .iter()
        .map(|one| format!("{} {} {} {}", one.id, one.kind.name(), num_options(&one.kind), one.required))
        .collect();
    fields.sort();
    questions.sort();
    (fields, questions)
}

#[test]
fn they_ask_and_show_what_the_older_files_do() {
    let registry = SchemaRegistry::builtin();
    for (path, read) in originals() {
        let ours = registry.get(&read.schema.id).unwrap();
        assert_eq!(shape(ours.schema()), shape(&read.schema), "{}", path.display());
    }
}

#[test]
fn older_files_load_unchanged_and_say_what_was_guessed() {
    for (path, ReadSchema { schema, warnings, .. }) in originals() {
        let structured: Vec<usize> = (0..schema.questions.len())
            .filter(|at| matches!(schema.questions[*at].kind, QuestionKind::Structured { .. }))
            .collect();
        let guessed = structured.iter().map(|at| ("structured_without_schema", format!("/questions/{at}")));
        let dropped = [("unknown_key", "/rendering/customTemplate".to_owned())];
        let expected: Vec<_> = guessed.chain(dropped).collect();
        let found: Vec<_> = warnings.iter().map(|one| (one.code, one.path.clone())).collect();
        assert_eq!(found, expected, "{}", path.display());

        for question in &schema.questions {
            let QuestionKind::Rating { scale: Scale::Levels { levels } } = &question.kind else { continue };
            let scores: Vec<usize> = levels.iter().map(|level| level.score.unwrap() as usize).collect();
            assert_eq!(scores, (1..=levels.len()).rev().collect::<Vec<_>>(), "{}", question.id);
        }
        assert!(schema.prompt.system.is_some() && schema.prompt.user.is_some() && schema.prompt.assistant.is_some());
        assert_eq!(schema.export.outputs.as_ref().unwrap().len(), schema.questions.len());
        assert_eq!(schema.format, 1);
        let json = serde_json::to_string(&schema).unwrap();
        assert_eq!(TaskSchema::from_json(&json).unwrap().schema, schema);
        schema.compile().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

#[test]
fn fields_that_only_the_reviewer_of_an_older_file_sees_are_told_of() {
    let unseen = |schema: TaskSchema| -> Vec<String> {
        let fields = schema.fields.clone();
        let compiled = schema.compile().unwrap();
        let told = compiled.warnings().iter().filter(|one| one.code == "field_not_in_prompt");
        let at = |path: &str| path.strip_prefix("/fields/").unwrap().parse::<usize>().unwrap();
        told.map(|one| fields[at(&one.path)].id.to_string()).collect()
    };
    let all: Vec<Vec<String>> = originals().into_iter().map(|(_, read)| unseen(read.schema)).collect();
    let expected: [&[&str]; 6] =
        [&["location", "resume", "linkedin"], &[], &["linkedin_url"], &["context"], &[], &["date", "full_report"]];
    assert_eq!(all, expected);
}

#[test]
fn a_folder_of_older_files_is_a_registry() {
    let folder = SchemaRegistry::from_dir(FOLDER).unwrap();
    assert_eq!(folder.files.len(), 6);
    assert!(folder.files.iter().all(|file| file.result.is_ok() && !file.warnings.is_empty()));
    assert_eq!(folder.registry.len(), 6);

    let texts = SchemaReader::new().option_values(vllm_batch::curate::OptionValues::Text);
    let folder = SchemaRegistry::from_dir_with(FOLDER, texts).unwrap();
    let cartographer = folder.registry.get("cartographer").unwrap();
    let values: Vec<&str> =
        cartographer.schema().questions[0].kind.options().iter().map(|option| option.value.as_str()).collect();
    assert_eq!(
        values,
        ["Early Career (0-3 years)", "Mid-Level (4-7 years)", "Senior (8-12 years)", "Staff+ (13+ years)"]
    );
}
