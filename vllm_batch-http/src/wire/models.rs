//! Models, as `OpenAI` and vLLM list them.

use serde::Serialize;
use utoipa::ToSchema;
use vllm_batch::EngineSpec;
use vllm_batch::jobs::WorkerInfo;

/// A model that requests may name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ModelObject {
    /// Its name.
    pub(crate) id: String,
    /// Always `model`.
    object: &'static str,
    /// When the server learnt of it, in seconds since 1970.
    created: i64,
    /// Always `vllm_batch`.
    owned_by: &'static str,
    /// The name of the model that this one is another name or an adapter of (vLLM's field).
    #[schema(required)]
    root: Option<String>,
    /// The most tokens of prompt and answer together (vLLM's field); not known where only workers serve it.
    #[schema(required)]
    max_model_len: Option<usize>,
    /// Whether requests to the live endpoints may name it. An extension.
    is_live: bool,
}

/// All models.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// Always `list`.
    object: &'static str,
    /// The models.
    pub(crate) data: Vec<ModelObject>,
}

impl ModelList {
    /// Those of the engine, then those that only workers serve.
    pub(crate) fn new(spec: Option<&EngineSpec>, workers: &[WorkerInfo], now: i64) -> Self {
        let mut data: Vec<ModelObject> = spec.map(|spec| of_engine(spec, now)).unwrap_or_default();
        for worker in workers {
            for model in &worker.models {
                if !data.iter().any(|known| known.id == *model) {
                    data.push(of_worker(model, worker.started_at));
                }
            }
        }
        Self { object: "list", data }
    }
}

fn of_engine(spec: &EngineSpec, now: i64) -> Vec<ModelObject> {
    let model = |name: &String| ModelObject {
        root: Some(spec.model().to_owned()),
        max_model_len: Some(spec.max_model_len),
        is_live: true,
        ..of_worker(name, now)
    };
    spec.served_model_names.iter().map(model).collect()
}

/// A model of which a worker says no more than its name.
fn of_worker(name: &str, created: i64) -> ModelObject {
    ModelObject {
        id: name.to_owned(),
        object: "model",
        created,
        owned_by: "vllm_batch",
        root: None,
        max_model_len: None,
        is_live: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_listed_once() {
        let mut spec = EngineSpec::new("a", "r");
        spec.served_model_names.push("b".to_owned());
        let worker = WorkerInfo {
            name: "w".to_owned(),
            models: vec!["b".to_owned(), "c".to_owned()],
            started_at: 5,
            last_seen: 9,
            tokens_per_second: 0.0,
            rows_per_second: None,
        };
        let told = |list: &ModelList| {
            list.data.iter().map(|model| (model.id.clone(), model.is_live, model.created)).collect::<Vec<_>>()
        };
        let both = ModelList::new(Some(&spec), &[worker.clone(), worker.clone()], 7);
        let expected =
            [("a", true, 7), ("b", true, 7), ("c", false, 5)].map(|(id, live, at)| (id.to_owned(), live, at));
        assert_eq!(told(&both), expected);
        assert_eq!(told(&ModelList::new(None, &[worker], 7)).len(), 2);
    }
}
