//! The remote engine against a real server. `scripts/test_remote_llama_cpp.sh` starts one and runs this.

use futures::executor::block_on;
use serde_json::{Value, json};
use vllm_batch::{
    BatchEngine, BatchEngineExt, FinishReason, Flavour, Message, RemoteEngine, Request, RequestError, RequestOutput,
    SamplingParams, StructuredOutput,
};

fn engine() -> RemoteEngine {
    let url = std::env::var("VLLM_BATCH_TEST_SERVER").expect("VLLM_BATCH_TEST_SERVER with the server's URL");
    let builder = RemoteEngine::builder(url).flavour(Flavour::LlamaCpp).discover(true);
    builder.max_num_seqs(4).build().expect("a server that can be reached")
}

fn texts(results: &[Result<RequestOutput, RequestError>]) -> Vec<&str> {
    results.iter().map(|result| result.as_ref().expect("an answer").outputs[0].text.as_str()).collect()
}

#[test]
#[ignore = "needs a server: scripts/test_remote_llama_cpp.sh starts one"]
fn real_server() {
    let engine = engine();
    let greedy = SamplingParams::greedy().with_max_tokens(8);
    let prompts = ["The capital of France is", "Two and two make"];
    let plain = || prompts.map(|prompt| Request::new(prompt, prompt).with_sampling_params(greedy.clone()));
    let answers = engine.generate(plain());
    assert!(texts(&answers)[0].contains("Paris"), "{answers:?}");
    assert_eq!(texts(&engine.generate(plain())), texts(&answers));
    for output in answers.iter().flatten() {
        assert!(output.usage.prompt_tokens >= 3 && output.usage.completion_tokens <= 8, "{output:?}");
    }

    let conversations: Vec<_> = (0..6).map(|_| vec![Message::user("What is the capital of France?")]).collect();
    let chat = engine.chat(conversations, &SamplingParams::greedy().with_max_tokens(3));
    assert!(texts(&chat).iter().all(|text| *text == texts(&chat)[0] && !text.is_empty()), "{chat:?}");
    assert_eq!(chat[0].as_ref().map(|output| output.outputs[0].finish_reason), Ok(FinishReason::Length));
}

#[test]
#[ignore = "needs a server: scripts/test_remote_llama_cpp.sh starts one"]
fn real_server_with_schemas_and_errors() {
    let engine = engine();
    let properties = json!({"city": {"type": "string", "enum": ["Paris", "Rome"]}});
    let schema = json!({"type": "object", "properties": properties, "required": ["city"]});
    let params = SamplingParams::greedy().with_max_tokens(64);
    let asked = vec![Message::user("What is the capital of France? Answer in JSON.")];
    let held = params.clone().with_structured_outputs(StructuredOutput::json_schema(schema));
    let answer = engine.chat([asked], &held);
    let value: Value = serde_json::from_str(texts(&answer)[0]).expect("JSON");
    assert!(["Paris", "Rome"].map(|city| json!({"city": city})).contains(&value), "{value}");

    let long = Request::new("long", "word ".repeat(20_000)).with_sampling_params(params);
    let error = block_on(engine.submit(long).output()).expect_err("a prompt that is too long");
    assert_eq!(error.code(), "context_length_exceeded", "{error:?}");
}
