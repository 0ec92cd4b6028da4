"""``RemoteLLM`` against a small server that speaks OpenAI's API, in this process."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from vllm_batch import LoadError, RemoteLLM, SamplingParams

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


class Server(ThreadingHTTPServer):
    """Answers with the prompt in capitals. Is out of order for the first request that says so; refuses what is ``bad``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str | None, dict[str, Any]]] = []
        self.out_of_order = {"tired"}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._answer(200, {"object": "list", "data": [{"id": "small", "object": "model", "max_model_len": 128}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, self.headers["Authorization"], body))
        prompt = body["messages"][-1]["content"] if "messages" in body else body.get("prompt", "")
        if prompt in self.server.out_of_order:
            self.server.out_of_order.remove(prompt)
            return self._answer(503, {"error": {"message": "tired", "type": "server_error"}}, {"Retry-After": "0"})
        if prompt == "bad":
            error = {"message": "too bad", "type": "invalid_request_error", "param": "prompt", "code": None}
            return self._answer(400, {"error": error})
        self._answer(200, self._body(prompt.upper()))

    def _body(self, text: str) -> dict[str, Any]:
        whole = {"id": "x", "created": 0, "model": "small", "usage": USAGE}
        if self.path == "/v1/embeddings":
            return {**whole, "object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -1.0]}]}
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
        if self.path == "/v1/completions":
            return {**whole, "object": "text_completion", "choices": [{**choice, "text": text}]}
        return {**whole, "object": "chat.completion", "choices": [{**choice, "message": {"role": "assistant", "content": text}}]}

    def _answer(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(payload)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *arguments: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_prompts_go_to_the_server(server: Server) -> None:
    with RemoteLLM(server.url, api_key="secret") as llm:
        assert repr(llm) == "RemoteLLM('small', max_model_len=128)"
        output = llm.generate("hello", SamplingParams(temperature=0, max_tokens=7, seed=5))[0]
        assert (output.outputs[0].text, output.outputs[0].finish_reason) == ("HELLO", "stop")
        assert (output.usage.prompt_tokens, output.usage.completion_tokens, output.prompt) == (3, 2, "hello")
        assert llm.chat([{"role": "user", "content": "hi"}])[0].outputs[0].text == "HI"
        assert llm.embed("hi")[0].outputs.embedding == [0.5, -1.0]
    paths, keys, bodies = zip(*server.seen)
    assert paths == ("/v1/completions", "/v1/chat/completions", "/v1/embeddings")
    assert set(keys) == {"Bearer secret"}
    first = {name: bodies[0][name] for name in ("model", "prompt", "temperature", "max_tokens", "seed")}
    assert first == {"model": "small", "prompt": "hello", "temperature": 0, "max_tokens": 7, "seed": 5}
    assert bodies[1]["messages"] == [{"role": "user", "content": "hi"}]


def test_rows_of_a_table_fail_alone_and_are_tried_again(server: Server) -> None:
    rows = [{"word": word} for word in ("tree", "bad", "tired", "house")]
    answered = RemoteLLM(server.url).map(rows, "{word}", seed_from="{word}")
    assert [row["output"] for row in answered] == ["TREE", None, "TIRED", "HOUSE"]
    errors = [row["error"] for row in answered]
    assert [errors[0], *errors[2:]] == [None] * 3 and "too bad" in errors[1]
    seeds: dict[str, set[int]] = {}
    for _, _, body in server.seen:
        seeds.setdefault(body["messages"][-1]["content"], set()).add(body["seed"])
    # The one that was sent twice had the same seed, and no other has it.
    assert len(server.seen) == 5 and len(set.union(*seeds.values())) == len(rows)


def test_a_server_that_is_not_there() -> None:
    with Server() as server:
        url = server.url
    with pytest.raises(LoadError, match="connection_failed"):
        RemoteLLM(url, max_retries=0)


@pytest.mark.parametrize(("options", "match"), [({"flavour": "mine"}, "flavour"), ({"timeout": -1.0}, "timeout")])
def test_wrong_options_are_named(server: Server, options: dict[str, Any], match: str) -> None:
    with pytest.raises(LoadError, match=match):
        RemoteLLM(server.url, **options)
