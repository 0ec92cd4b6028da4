//! Which gold records stand in a prompt.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::duplicates::{Hashes, Signature, normalised, similarity};
use super::split::group_key;
use crate::curate::{AnswerForm, CompiledSchema, Example, GoldRow, Ident, PromptError, Record};

/// How examples are chosen.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ExampleOptions {
    /// How many; absent: as many as the schema's prompt has (`num_examples`).
    pub k: Option<usize>,
    /// The question whose answers are to be there equally often; absent: none.
    pub balance_by: Option<Ident>,
    /// Whether each next example is the one that is least like those before it.
    pub diverse: bool,
    /// The most that all examples together may take, as measured by the caller; absent: no limit. What does not fit is passed
    /// over.
    pub budget: Option<usize>,
    /// Decides what nothing else does.
    pub seed: u64,
}

impl Default for ExampleOptions {
    /// As many as the schema says, as different as there are, without a limit.
    fn default() -> Self {
        Self { k: None, balance_by: None, diverse: true, budget: None, seed: 0 }
    }
}

/// An example, and the record that it is of.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PickedExample {
    /// The record's name.
    pub record: String,
    /// What keeps the record together with others.
    pub(super) group: String,
    /// The example.
    pub example: Example,
}

/// One that may be chosen.
struct Candidate<'g> {
    row: &'g GoldRow,
    group: String,
    label: Option<String>,
    size: usize,
    signature: Signature,
    lot: u64,
}

/// Chooses examples among gold records; for one record, without the record itself, those of its group and those with the same
/// fields. `size` measures the text of an example, for the budget: in characters, or in tokens of a model.
///
/// Examples for all records of a job should be the same, so that an engine computes them once: then give no record, and keep
/// those that were chosen out of the job.
///
/// # Errors
/// An example cannot be written as a prompt.
///
/// # Example
/// ```
/// use vllm_batch::curate::export::{ExampleOptions, pick_examples};
/// use vllm_batch::curate::{Answer, Answers, GoldSnapshot, Record, Response};
/// # use vllm_batch::curate::{Field, FieldKind, Question, QuestionKind, TaskSchema, TextFormat, Version};
/// # let spam = QuestionKind::Boolean { yes: "yes".into(), no: "no".into() };
/// # let schema = TaskSchema::new("mail".parse()?, Version::new(1, 0, 0))
/// #     .with_field(Field::new("subject".parse()?, FieldKind::Text { format: TextFormat::Plain }))
/// #     .with_question(Question::new("spam".parse()?, spam));
/// # let schema = schema.compile()?;
///
/// let records = [("a", "You won!", true), ("b", "You won again!", true), ("c", "Lunch?", false)].map(|(id, subject, spam)| {
///     let mut record = Record::new(id).with_field("subject", subject);
///     let answers = Answers::from_iter([("spam".parse().unwrap(), Answer::Boolean(spam))]);
///     record.responses.push(Response::submitted("ann", answers));
///     record.gold = Some(true);
///     record
/// });
/// let (gold, _) = GoldSnapshot::freeze(&schema, &records)?;
///
/// let mut options = ExampleOptions::default();
/// (options.k, options.balance_by) = (Some(2), Some("spam".parse()?));
/// let picked = pick_examples(&schema, gold.rows(), Some(&records[0]), &options, |text| text.chars().count())?;
/// let mut names: Vec<_> = picked.iter().map(|one| one.record.as_str()).collect();
/// names.sort_unstable();
/// assert_eq!(names, ["b", "c"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pick_examples(
    schema: &CompiledSchema,
    gold: &[GoldRow],
    record: Option<&Record>,
    options: &ExampleOptions,
    size: impl Fn(&str) -> usize,
) -> Result<Vec<PickedExample>, PromptError> {
    let mut left = candidates(schema, gold, record, options, size)?;
    let k = options.k.unwrap_or(schema.schema().prompt.num_examples);
    let mut budget = options.budget.unwrap_or(usize::MAX);
    let mut picked: Vec<Candidate<'_>> = Vec::new();
    while picked.len() < k {
        left.retain(|one| one.size <= budget);
        let Some(next) = best(&left, &picked, options.diverse) else { break };
        let next = left.swap_remove(next);
        budget -= next.size;
        picked.push(next);
    }
    let example = |one: Candidate<'_>| PickedExample {
        record: one.row.id.clone(),
        group: one.group,
        example: Example::new(one.row.fields.clone(), one.row.answers.clone()),
    };
    Ok(picked.into_iter().map(example).collect())
}

fn candidates<'g>(
    schema: &CompiledSchema,
    gold: &'g [GoldRow],
    record: Option<&Record>,
    options: &ExampleOptions,
    size: impl Fn(&str) -> usize,
) -> Result<Vec<Candidate<'g>>, PromptError> {
    let hashes = Hashes::new(options.seed);
    let own_group = record.map(|record| group_key(schema.schema(), record));
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for row in gold {
        let mut whole = Record::new(&*row.id);
        whole.fields.clone_from(&row.fields);
        let group = group_key(schema.schema(), &whole);
        let is_own = record.is_some_and(|record| record.id == row.id || record.fields == row.fields);
        if is_own || own_group.as_ref() == Some(&group) || !seen.insert(&row.id) {
            continue;
        }
        let messages = schema.messages(&whole, &[])?;
        let text = messages.last().map_or("", |message| message.content.as_str());
        let answer = schema.answer_text(&row.answers, AnswerForm::Json)?;
        found.push(Candidate {
            row,
            group,
            label: options.balance_by.as_ref().map(|question| label(row, question)),
            size: size(text) + size(&answer),
            signature: hashes.signature(&normalised(text), 1),
            lot: crate::curate::select::lot(&row.id, options.seed),
        });
    }
    Ok(found)
}

fn label(row: &GoldRow, question: &Ident) -> String {
    row.answers.get(question).map_or(Value::Null, crate::curate::Answer::to_json).to_string()
}

/// The next one: of the rarest label so far, then the least like those before it, then by lot.
fn best(left: &[Candidate<'_>], picked: &[Candidate<'_>], diverse: bool) -> Option<usize> {
    let mut counts: BTreeMap<&Option<String>, usize> = BTreeMap::new();
    for one in picked {
        *counts.entry(&one.label).or_default() += 1;
    }
    let nearness = |one: &Candidate<'_>| {
        let alike = picked.iter().map(|other| similarity(&one.signature, &other.signature));
        if diverse { alike.fold(0.0, f64::max) } else { 0.0 }
    };
    let key = |one: &Candidate<'_>| (counts.get(&one.label).copied().unwrap_or(0), nearness(one), one.lot);
    let keyed = left.iter().enumerate().map(|(at, one)| (at, key(one)));
    let least = keyed.min_by(|(_, a), (_, b)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    least.map(|(at, _)| at)
}
