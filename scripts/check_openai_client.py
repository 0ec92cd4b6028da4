#!/usr/bin/env python3
"""Uses a running server as a user of OpenAI's own Python client does: files, batches, results, cancellation, live requests.

Usage: check_openai_client.py BASE_URL API_KEY MODEL, with the package openai. Ends with the first thing that is not as it must be.
"""

import json
import sys
import time

import openai
from openai import OpenAI

WAIT_SECONDS = 300


def line(name, content, model, **parameters):
    body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 8, **parameters}
    return json.dumps({"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n"


def upload(client, lines):
    return client.files.create(file=("requests.jsonl", "".join(lines).encode()), purpose="batch")


def create(client, file, **parameters):
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", **parameters)


def wait(client, batch):
    deadline = time.monotonic() + WAIT_SECONDS
    while batch.status not in ("completed", "failed", "cancelled", "expired"):
        assert time.monotonic() < deadline, batch
        time.sleep(0.2)
        batch = client.batches.retrieve(batch.id)
    return batch


def refused(error, call):
    try:
        call()
    except error as refusal:
        assert refusal.body["message"] and refusal.request_id, refusal.body
        return refusal
    raise AssertionError(f"{error.__name__} did not come")


def check_files(client, model):
    content = line("a", "Hi", model)
    file = client.files.create(
        file=("requests.jsonl", content.encode()), purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3600})
    assert (file.bytes, file.filename, file.purpose) == (len(content), "requests.jsonl", "batch"), file
    assert file.expires_at == file.created_at + 3600, file
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).text == content
    second = upload(client, [content])
    listed = [found.id for found in client.files.list(limit=1, purpose="batch")]
    assert listed[:2] == [second.id, file.id], "the client walks through all pages, newest first"
    assert client.files.delete(second.id).deleted
    refused(openai.NotFoundError, lambda: client.files.retrieve(second.id))
    refused(openai.BadRequestError, lambda: client.files.create(file=("a", b"x"), purpose="fine-tune"))


def check_batch(client, model):
    names = [f"row-{number}" for number in range(8)]
    rows = [line(name, f"Say {name}.", model, temperature=0) for name in names]
    file = upload(client, [*rows, line("no-answer", "x " * 100_000, model)])
    batch = create(client, file, metadata={"team": "red"}, extra_body={"priority": 3})
    assert (batch.status, batch.object, batch.metadata) == ("validating", "batch", {"team": "red"}), batch
    batch = wait(client, batch)
    counts = batch.request_counts
    assert (batch.status, counts.total, counts.completed, counts.failed) == ("completed", 9, 8, 1), batch
    assert batch.usage.total_tokens == batch.usage.input_tokens + batch.usage.output_tokens > 0, batch
    answers = [json.loads(row) for row in client.files.content(batch.output_file_id).text.splitlines()]
    assert [answer["custom_id"] for answer in answers] == names, "in the order of the input"
    errors = [json.loads(row) for row in client.files.content(batch.error_file_id).text.splitlines()]
    assert [error["response"]["body"]["error"]["code"] for error in errors] == ["context_length_exceeded"], errors
    with client.files.with_streaming_response.content(batch.output_file_id) as response:
        assert len(list(response.iter_lines())) == 8

    live = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Say row-0."}], max_tokens=8, temperature=0)
    assert live.choices[0].message.content == answers[0]["response"]["body"]["choices"][0]["message"]["content"]


def check_refused_batches(client, model):
    broken = wait(client, create(client, upload(client, [line("a", "Hi", model), "oops\n"])))
    problem = broken.errors.data[0]
    assert (broken.status, problem.code, problem.line) == ("failed", "invalid_json_line", 2), broken
    other = wait(client, create(client, upload(client, [line("a", "Hi", "no-such-model")])))
    assert other.errors.data[0].code == "model_not_found", other
    refused(openai.NotFoundError, lambda: client.batches.create(
        input_file_id="file-none", endpoint="/v1/chat/completions", completion_window="24h"))


def check_cancel(client, model):
    rows = [line(str(number), f"Count to {number}.", model, max_tokens=200, min_tokens=200) for number in range(300)]
    batch = create(client, upload(client, rows))
    batch = client.batches.cancel(batch.id)
    assert batch.status in ("cancelling", "cancelled"), batch
    batch = wait(client, batch)
    counts = batch.request_counts
    assert batch.status == "cancelled" and counts.completed + counts.failed == counts.total == 300, batch
    files = [found for found in (batch.output_file_id, batch.error_file_id) if found]
    rows = [row for file in files for row in client.files.content(file).text.splitlines()]
    assert len({json.loads(row)["custom_id"] for row in rows}) == len(rows) == 300
    refused(openai.ConflictError, lambda: client.with_options(max_retries=0).batches.cancel(batch.id))
    ids = [found.id for found in client.batches.list(limit=2)]
    assert ids[0] == batch.id and len(ids) == len(set(ids)) == 4, ids


def check_live(client, model):
    messages = [{"role": "user", "content": "Count from one to ten."}]
    parameters = {"model": model, "messages": messages, "max_tokens": 24, "temperature": 0}
    whole = client.chat.completions.create(**parameters)
    stream = client.chat.completions.create(**parameters, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content and len(chunks) > 5, chunks
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens, chunks[-1]
    with client.chat.completions.stream(**parameters) as helper:
        final = helper.get_final_completion()
    assert final.choices[0].message.content == text

    tool = {"type": "function", "function": {"name": "now", "parameters": {
        "type": "object", "properties": {"zone": {"enum": ["CET", "UTC"]}}, "required": ["zone"]}}}
    with client.chat.completions.stream(**{**parameters, "max_tokens": 60}, tools=[tool], tool_choice="required") as helper:
        called = helper.get_final_completion().choices[0]
    call = called.message.tool_calls[0].function
    assert (called.finish_reason, call.name) == ("tool_calls", "now"), called
    assert json.loads(call.arguments)["zone"] in ("CET", "UTC"), call

    with client.chat.completions.create(**{**parameters, "max_tokens": 500}, stream=True) as stream:
        next(iter(stream))  # and then it is closed: the server aborts the request

    completion = client.completions.create(model=model, prompt="One, two,", max_tokens=4, stream=True)
    assert [chunk.choices[0].finish_reason for chunk in completion][-1] == "length"
    embedding = client.embeddings.create(model=model, input=["A cat.", "A dog."])
    assert [item.index for item in embedding.data] == [0, 1] and len(embedding.data[0].embedding) > 100
    refusal = refused(openai.NotFoundError, lambda: client.chat.completions.create(**{**parameters, "model": "gpt-4o"}))
    assert (refusal.code, refusal.param) == ("model_not_found", "model"), refusal.body
    refused(openai.BadRequestError, lambda: client.chat.completions.create(**parameters, extra_body={"colour": "red"}))


def main():
    base_url, api_key, model = sys.argv[1:]
    client = OpenAI(base_url=f"{base_url}/v1", api_key=api_key)
    models = [found.id for found in client.models.list()]
    assert model in models and client.models.retrieve(model).id == model, models
    refused(openai.AuthenticationError, lambda: client.with_options(api_key="wrong").models.list())
    for check in (check_files, check_batch, check_refused_batches, check_cancel, check_live):
        started = time.monotonic()
        check(client, model)
        print(f"{check.__name__}: {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
