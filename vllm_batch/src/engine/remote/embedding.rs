//! An embedding, asked for and answered.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::{WireUsage, whole_prompt};
use super::body::{Flavour, unsupported};
use crate::error::RequestError;
use crate::output::{EmbeddingRequestOutput, Usage};
use crate::request::{PoolingParams, Prompt, Request};

/// Adds what a request says and returns the endpoint for it.
///
/// # Errors
/// [`RequestError`] for parameters that are outside their domain, or that servers of this flavour do not have.
pub(super) fn body(
    body: &mut Map<String, Value>,
    request: &Request,
    params: &PoolingParams,
    flavour: Flavour,
) -> Result<&'static str, RequestError> {
    params.validate()?;
    let is_vllm = flavour == Flavour::Vllm;
    let input = match &request.prompt {
        Prompt::Text(text) if text.is_empty() => return Err(RequestError::EmptyPrompt),
        Prompt::TokenIds(token_ids) if token_ids.is_empty() => return Err(RequestError::EmptyPrompt),
        Prompt::Text(text) => json!(text),
        Prompt::TokenIds(token_ids) => json!(token_ids),
        Prompt::Messages(_) => return Err(unsupported("messages", "a remote server embeds texts and token ids")),
    };
    let refused = [
        ("echo", request.echo),
        ("pooling_type", params.pooling_type.is_some()),
        ("normalize", params.normalize == Some(false) && !is_vllm),
        ("truncate_prompt_tokens", params.truncate_prompt_tokens.is_some() && !is_vllm),
        ("add_special_tokens", request.add_special_tokens.is_some() && !is_vllm),
    ];
    if let Some((param, _)) = refused.into_iter().find(|(_, is_set)| *is_set) {
        return Err(unsupported(param, "the remote server does not have it"));
    }
    body.insert("input".to_owned(), input);
    body.insert("encoding_format".to_owned(), json!("float"));
    let optional = [
        ("dimensions", params.dimensions.map(Value::from)),
        ("truncate_prompt_tokens", params.truncate_prompt_tokens.map(Value::from)),
        ("add_special_tokens", request.add_special_tokens.map(Value::from)),
        ("use_activation", params.normalize.map(Value::from)),
    ];
    body.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    Ok("/embeddings")
}

/// The body of an answer; what is not here is skipped.
#[derive(Debug, Deserialize)]
struct WireList {
    data: Vec<WireEmbedding>,
    #[serde(default)]
    usage: Option<WireUsage>,
}

#[derive(Debug, Deserialize)]
struct WireEmbedding {
    embedding: Vec<f32>,
}

/// Reads a body that is to hold one embedding. An error says what is wrong with it.
pub(super) fn parse(body: &[u8], request: &Request, params: &PoolingParams) -> Result<EmbeddingRequestOutput, String> {
    let mut list: WireList = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let (Some(embedding), true) = (list.data.pop(), list.data.is_empty()) else {
        return Err("not one embedding, where one was asked for".to_owned());
    };
    let embedding = embedding.embedding;
    match params.dimensions {
        Some(dimensions) if embedding.len() != dimensions as usize => {
            return Err(format!("{} dimensions, where {dimensions} were asked for", embedding.len()));
        }
        _ if embedding.is_empty() => return Err("an embedding without a number".to_owned()),
        _ => {}
    }
    let usage = list.usage.as_ref().map_or_else(Usage::default, Usage::from);
    let prompt_token_ids = whole_prompt(&request.prompt, params.truncate_prompt_tokens);
    Ok(EmbeddingRequestOutput::new(request.request_id.clone(), prompt_token_ids.into(), embedding, usage))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Message, PoolingType};

    fn sent(request: &Request, params: &PoolingParams, flavour: Flavour) -> Result<Value, RequestError> {
        let mut fields = Map::new();
        body(&mut fields, request, params, flavour).map(|path| {
            assert_eq!(path, "/embeddings");
            Value::Object(fields)
        })
    }

    #[test]
    fn what_is_asked_for_is_sent_in_the_server_s_names() {
        let all = PoolingParams::default().with_dimensions(3).with_normalize(false).with_truncate_prompt_tokens(-1);
        let plain = PoolingParams::default();
        let ids = Request::new("a", vec![1, 2]).with_add_special_tokens(false);
        let cases = [
            (Request::new("a", "Hi"), &plain, Flavour::OpenAi, json!({"input": "Hi", "encoding_format": "float"})),
            (
                ids,
                &all,
                Flavour::Vllm,
                json!({
                    "input": [1, 2], "encoding_format": "float", "dimensions": 3, "truncate_prompt_tokens": -1,
                    "add_special_tokens": false, "use_activation": false,
                }),
            ),
        ];
        for (request, params, flavour, expected) in cases {
            assert_eq!(sent(&request, params, flavour), Ok(expected));
        }
    }

    #[test]
    fn what_a_server_does_not_have_is_refused_by_name() {
        let text = || Request::new("a", "Hi");
        let params = PoolingParams::default;
        let cases = [
            (text(), params().with_pooling_type(PoolingType::Mean), Flavour::Vllm, Some("pooling_type")),
            (text(), params().with_normalize(false), Flavour::OpenAi, Some("normalize")),
            (text(), params().with_truncate_prompt_tokens(3), Flavour::LlamaCpp, Some("truncate_prompt_tokens")),
            (text().with_add_special_tokens(true), params(), Flavour::OpenAi, Some("add_special_tokens")),
            (text().with_echo(true), params(), Flavour::Vllm, Some("echo")),
            (Request::new("a", vec![Message::user("Hi")]), params(), Flavour::Vllm, Some("messages")),
            (text(), params().with_dimensions(0), Flavour::Vllm, Some("dimensions")),
            (Request::new("a", ""), params(), Flavour::Vllm, Some("prompt")),
        ];
        for (request, params, flavour, expected) in cases {
            let error = sent(&request, &params, flavour).expect_err("it is refused");
            assert_eq!(error.param(), expected, "{error}");
        }
    }

    #[test]
    fn answers_hold_one_embedding() {
        let request = Request::new("a", vec![7, 8]);
        let two = PoolingParams::default().with_dimensions(2);
        let read = |body: Value| parse(body.to_string().as_bytes(), &request, &two);
        let one = json!({"object": "embedding", "index": 0, "embedding": [0.6, -0.8]});
        let usage = json!({"prompt_tokens": 2, "total_tokens": 2});
        let expected = EmbeddingRequestOutput::new("a".to_owned(), [7, 8].into(), vec![0.6, -0.8], Usage::new(2, 0, 0));
        assert_eq!(read(json!({"object": "list", "data": [one], "usage": usage})), Ok(expected));
        let broken = [
            (json!({"data": []}), "not one embedding"),
            (json!({"data": [one, one]}), "not one embedding"),
            (json!({"data": [{"embedding": [1.0]}]}), "1 dimensions, where 2 were asked for"),
            (json!({"data": [{"embedding": "AAAA"}]}), "invalid type"),
            (json!({"choices": []}), "missing field `data`"),
        ];
        for (body, expected) in broken {
            let error = read(body).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }
}
