//! The document, and its parts that are neither fields nor questions.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::{
    AutoGold, ExportSpec, GoldPolicy, Ident, Layout, Migration, PromptSpec, Rendering, TaskSchema, Version,
};
use super::node::{DROPPED, Node, Object, Read};

impl Read for TaskSchema {
    fn read(node: &Node<'_>) -> Option<Self> {
        let mut object = node.object()?;
        // Read before: everything depends on it.
        object.node("format");
        let (id, version, name) = (object.required("id"), object.required("version"), object.optional("name"));
        let (description, guidelines) = (object.optional("description"), object.optional("guidelines"));
        let (fields, questions) = (object.required(("fields", "dataSources")), object.required("questions"));
        let prompt: Option<Option<PromptSpec>> = object.optional("prompt");
        let rendering = rendering(node, &mut object);
        let gold = object.or("gold", GoldPolicy::default());
        let export: Option<Option<Exports>> = object.optional("export");
        let migrations = object.or("migrations", Vec::new());
        let extra: Map<_, _> = object.unknown().map(|(key, value)| (key.clone(), value.clone())).collect();
        object.finish("kept, and has no effect");

        let Exports { export, prompt: older } = export?.unwrap_or_default();
        let mut schema = Self::new(id?, version?);
        schema.name = name?.unwrap_or(schema.name);
        (schema.description, schema.guidelines) = (description?, guidelines?);
        (schema.fields, schema.questions) = (fields?, questions?);
        schema.prompt = prompt?.or(older).unwrap_or_default();
        (schema.rendering, schema.gold, schema.export) = (rendering?, gold?, export);
        (schema.migrations, schema.extra) = (migrations?, extra);
        Some(schema)
    }
}

impl Read for PromptSpec {
    fn read(node: &Node<'_>) -> Option<Self> {
        let mut object = node.object()?;
        let (system, user, assistant) =
            (object.optional("system"), object.optional("user"), object.optional("assistant"));
        let num_examples = object.or("num_examples", 0);
        object.finish(DROPPED);
        Some(Self { system: system?, user: user?, assistant: assistant?, num_examples: num_examples? })
    }
}

/// The older system keeps a configuration at the root that stands here now.
fn rendering(node: &Node<'_>, root: &mut Object<'_, '_>) -> Option<Rendering> {
    let rendering = root.or("rendering", Rendering::default());
    let label_config = if node.report.legacy { root.optional("labelStudioConfig") } else { Some(None) };
    let (mut rendering, label_config) = (rendering?, label_config?);
    rendering.label_config = rendering.label_config.or(label_config);
    Some(rendering)
}

impl Read for Rendering {
    fn read(node: &Node<'_>) -> Option<Self> {
        let mut object = node.object()?;
        let words = [
            ("two-columns", Layout::TwoColumns),
            ("single-column", Layout::SingleColumn),
            ("grid", Layout::Grid),
            ("two-column", Layout::TwoColumns),
        ];
        let words = if node.report.legacy { &words[..] } else { &words[..3] };
        let layout = object.word("layout", words);
        let theme = object.optional("theme");
        let show_suggestions = object.or(("show_suggestions", "showLLMPrediction"), true);
        let show_fields = object.or(("show_fields", "showDataSources"), true);
        let show_help = object.or(("show_help", "showRubrics"), true);
        let custom_css = object.optional(("custom_css", "customCSS"));
        let label_config = object.optional("label_config");
        object.finish(DROPPED);
        Some(Self {
            layout: layout?,
            theme: theme?,
            show_suggestions: show_suggestions?,
            show_fields: show_fields?,
            show_help: show_help?,
            custom_css: custom_css?,
            label_config: label_config?,
        })
    }
}

impl Read for GoldPolicy {
    fn read(node: &Node<'_>) -> Option<Self> {
        let mut object = node.object()?;
        let manual = object.or("manual", true);
        let auto = object.optional("auto");
        let forbid_invalid = object.or("forbid_invalid", true);
        object.finish(DROPPED);
        Some(Self { manual: manual?, auto: auto?, forbid_invalid: forbid_invalid? })
    }
}

impl Read for AutoGold {
    fn read(node: &Node<'_>) -> Option<Self> {
        let default = Self::default();
        let mut object = node.object()?;
        let min_agreement = object.or("min_agreement", default.min_agreement);
        let min_annotators = object.or("min_annotators", default.min_annotators);
        let max_edit = object.optional("max_edit");
        let require_all_required = object.or("require_all_required", default.require_all_required);
        object.finish(DROPPED);
        Some(Self {
            min_agreement: min_agreement?,
            min_annotators: min_annotators?,
            max_edit: max_edit?,
            require_all_required: require_all_required?,
        })
    }
}

/// What training data consist of, and the templates that the older system keeps with it.
#[derive(Default)]
struct Exports {
    export: ExportSpec,
    prompt: Option<PromptSpec>,
}

impl Read for Exports {
    fn read(node: &Node<'_>) -> Option<Self> {
        let mut object = node.object()?;
        let (inputs, outputs) = (object.optional("inputs"), object.optional("outputs"));
        let group_by = object.optional("group_by");
        let (older, templates) = if node.report.legacy {
            (object.optional("finetuningFormat"), object.optional("iclFormat"))
        } else {
            (Some(None), Some(None))
        };
        object.finish(DROPPED);
        let mut export = ExportSpec { inputs: inputs?, outputs: outputs?, group_by: group_by? };
        if let Some(Older { inputs, outputs }) = older? {
            (export.inputs, export.outputs) = (export.inputs.or(inputs), export.outputs.or(outputs));
        }
        Some(Self { export, prompt: templates?.map(|Templates(prompt)| prompt) })
    }
}

struct Older {
    inputs: Option<Vec<Ident>>,
    outputs: Option<Vec<Ident>>,
}

impl Read for Older {
    fn read(node: &Node<'_>) -> Option<Self> {
        let mut object = node.object()?;
        let (inputs, outputs) = (object.optional("inputFields"), object.optional("outputFields"));
        object.finish(DROPPED);
        Some(Self { inputs: inputs?, outputs: outputs? })
    }
}

struct Templates(PromptSpec);

impl Read for Templates {
    fn read(node: &Node<'_>) -> Option<Self> {
        let mut object = node.object()?;
        let system = object.optional("systemPrompt");
        let user = object.optional("userPromptTemplate");
        let assistant = object.optional("assistantResponseTemplate");
        object.finish(DROPPED);
        let templates = PromptSpec { system: system?, user: user?, assistant: assistant?, num_examples: 0 };
        Some(Self(templates))
    }
}

type MigrationReader = fn(&mut Object<'_, '_>, Option<Version>) -> Option<Migration>;

const MIGRATIONS: &[(&str, MigrationReader)] = &[
    ("rename_question", |object, since| {
        let (from, to) = (object.required("from"), object.required("to"));
        Some(Migration::RenameQuestion { since: since?, from: from?, to: to? })
    }),
    ("map_options", |object, since| {
        let (question, map) = (object.required("question"), object.required("map"));
        Some(Migration::MapOptions { since: since?, question: question?, map: map? })
    }),
    ("map_scale", |object, since| {
        let (question, from, to) = (object.required("question"), object.required("from"), object.required("to"));
        Some(Migration::MapScale { since: since?, question: question?, from: from?, to: to? })
    }),
    ("choice_to_boolean", |object, since| {
        let (question, yes) = (object.required("question"), object.required("yes"));
        Some(Migration::ChoiceToBoolean { since: since?, question: question?, yes: yes? })
    }),
    ("set_default", |object, since| {
        let (question, value) = (object.required("question"), object.required("value"));
        Some(Migration::SetDefault { since: since?, question: question?, value: value? })
    }),
    ("drop_question", |object, since| {
        let question = object.required("question");
        Some(Migration::DropQuestion { since: since?, question: question? })
    }),
];

impl Read for Migration {
    fn read(node: &Node<'_>) -> Option<Self> {
        let mut object = node.object()?;
        let Some(op) = object.node("op") else {
            return node.error("missing_key", "`op` is missing");
        };
        let reader = op.word(MIGRATIONS)?;
        let since = object.required("since");
        let migration = reader(&mut object, since);
        object.finish(DROPPED);
        migration
    }
}

impl Read for (i64, i64) {
    fn read(node: &Node<'_>) -> Option<Self> {
        let bounds: Vec<i64> = Read::read(node)?;
        match bounds[..] {
            [low, high] => Some((low, high)),
            _ => node.error("wrong_type", format!("expected two numbers, lowest and highest, found {}", bounds.len())),
        }
    }
}

impl Read for BTreeMap<String, String> {
    fn read(node: &Node<'_>) -> Option<Self> {
        let Value::Object(members) = node.value else {
            return node.wrong_type("an object");
        };
        let texts: Vec<_> =
            members.iter().map(|(key, value)| Some((key.clone(), String::read(&node.below(key, value))?))).collect();
        texts.into_iter().collect()
    }
}
