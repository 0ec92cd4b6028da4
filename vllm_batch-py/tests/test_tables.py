"""``map``: the table that comes back is the one that went in, with answers and errors beside."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas
import polars
import pyarrow
import pytest

from vllm_batch import LLM, Interrupted, SamplingParams, StructuredOutputsParams
from vllm_batch.testing import ScriptedLLM

RECORDS = [{"word": "tree", "n": 1}, {"word": "bad", "n": 2}, {"word": "house", "n": 3}]
ANSWERED = [
    {"word": "tree", "n": 1, "output": "SAY TREE!", "error": None},
    {"word": "bad", "n": 2, "output": None, "error": "invalid_value: invalid value for `prompt`: no"},
    {"word": "house", "n": 3, "output": "SAY HOUSE!", "error": None},
]


def script(messages: list[dict[str, Any]]) -> str:
    text: str = messages[-1]["content"]
    if "bad" in text:
        raise ValueError("no")
    return text.upper()


def from_pandas(table: Any) -> list[dict[str, Any]]:
    assert list(table.index) == [7, 8, 9]
    records: list[dict[str, Any]] = table.to_dict("records")
    return records


TABLES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "list": (list, list),
    "pandas": (lambda rows: pandas.DataFrame(rows, index=[7, 8, 9]), from_pandas),
    "polars": (polars.DataFrame, lambda table: table.to_dicts()),
    "pyarrow": (pyarrow.Table.from_pylist, lambda table: table.to_pylist()),
    "datasets": (datasets.Dataset.from_list, lambda table: table.to_list()),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_come_back_as_they_were(kind: str) -> None:
    make, read = TABLES[kind]
    table = make(RECORDS)
    answered = ScriptedLLM(script).map(table, "Say {word}!")
    assert type(answered) is type(table) and read(answered) == ANSWERED
    assert read(table) == RECORDS


@pytest.mark.parametrize("kind", TABLES)
def test_tables_without_rows_or_errors(kind: str) -> None:
    make, read = TABLES[kind]
    answered = ScriptedLLM(script).map(make([RECORDS[0], RECORDS[2], RECORDS[0]]), "Say {word}!")
    assert read(answered) == [ANSWERED[0], ANSWERED[2], ANSWERED[0]]


def test_other_tables_come_through_arrow() -> None:
    class Stream:
        def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
            return pyarrow.Table.from_pylist(RECORDS).__arrow_c_stream__(requested_schema)

    assert ScriptedLLM(script).map(Stream(), "Say {word}!").to_pylist() == ANSWERED


def test_columns_of_the_input_are_not_copied() -> None:
    table = pyarrow.Table.from_pylist(RECORDS)
    answered = ScriptedLLM(script).map(table, "Say {word}!")
    addresses = [[buffer.address for buffer in t["word"].chunk(0).buffers() if buffer] for t in (table, answered)]
    assert addresses[0] == addresses[1]


def test_prompts_by_functions_and_a_system_message() -> None:
    seen: list[Any] = []

    def record(messages: Any) -> str:
        seen.append(messages)
        return "x"

    llm = ScriptedLLM(record)
    llm.map(RECORDS[:1], lambda row: f"{row['word']} {row['n']}", system="Be kind.")
    llm.map(RECORDS[:1], lambda row: [{"role": "user", "content": row["word"]}, {"role": "assistant", "content": "I"}])
    assert [[(message["role"], message["content"]) for message in messages] for messages in seen] == [
        [("system", "Be kind."), ("user", "tree 1")],
        [("user", "tree"), ("assistant", "I")],
    ]


SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}, "sure": {"type": "boolean"}}}


def test_fields_of_a_schema_become_columns() -> None:
    answers = iter(['{"label":"a","sure":true}', '{"label":"b"}', "oops"])
    llm = ScriptedLLM(lambda prompt: next(answers), max_num_seqs=1)
    rows = llm.map(RECORDS, "Say {word}!", schema=SCHEMA, window=1)
    assert [(row["label"], row["sure"]) for row in rows] == [("a", True), ("b", None), (None, None)]
    assert [row["error"] and row["error"].split(":")[0] for row in rows] == [None, None, "invalid_json"]
    cut = ScriptedLLM(lambda prompt: '{"label": "a"}').map(RECORDS[:1], "{word}", schema=SCHEMA, sampling_params=SamplingParams(max_tokens=1))
    assert cut[0]["error"].startswith("incomplete: ")


def answering(*answers: str) -> ScriptedLLM:
    """A model that gives one answer after the other."""
    rest = iter(answers)
    return ScriptedLLM(lambda prompt: next(rest), max_num_seqs=1)


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize(
    ("schema", "answers", "typed", "plain"),
    [
        ({"type": "number"}, [1, 2.5, None], [1.0, 2.5, None], [1, 2.5, None]),
        ({"type": ["string", "integer"]}, ["a", 1, None], ['"a"', "1", None], ["a", 1, None]),
        ({"type": "array", "items": {"type": "number"}}, [[1, 2.5], [], None], [[1.0, 2.5], [], None], [[1, 2.5], [], None]),
        ({"type": "object"}, [{"a": 1}, {"a": "x"}, {}], ['{"a": 1}', '{"a": "x"}', "{}"], [{"a": 1}, {"a": "x"}, {}]),
        ({"type": "string"}, ["a", "\ud800", "b"], ['"a"', '"\\ud800"', '"b"'], ["a", "\ud800", "b"]),
    ],
)
def test_no_answer_is_lost_to_the_type_of_its_column(
    kind: str, schema: dict[str, Any], answers: list[Any], typed: list[Any], plain: list[Any]
) -> None:
    make, read = TABLES[kind]
    llm = answering(*(json.dumps({"v": answer}) for answer in answers))
    answered = read(llm.map(make(RECORDS), "{word}", schema={"type": "object", "properties": {"v": schema}}, window=1))
    assert [row["error"] for row in answered] == [None] * 3
    assert [row["v"] for row in answered] == (plain if kind in ("list", "pandas") else typed)


def test_json_that_is_no_object_is_an_error_of_its_row() -> None:
    rows = answering("[1]", '{"label":"b"}', "[" * 100_000).map(RECORDS, "{word}", schema=SCHEMA, window=1)
    assert [(row["label"], row["error"] and row["error"].split(":")[0]) for row in rows] == [
        (None, "invalid_json"),
        ("b", None),
        (None, "invalid_json"),
    ]


@pytest.mark.parametrize(
    ("outputs", "answers", "expected"),
    [
        ({"choice": ["good", "bad"]}, ["good", "bad", "1"], ["good", "bad", "1"]),
        ({"regex": "[0-9]+"}, ["12", "7", "0"], ["12", "7", "0"]),
        ({"json_object": True}, ['{"a":1}', "{}", '{"a":[]}'], [{"a": 1}, {}, {"a": []}]),
        ({"json": {"type": "array"}}, ["[1]", "[]", "[[]]"], [[1], [], [[]]]),
    ],
)
def test_only_json_is_read_as_json(outputs: dict[str, Any], answers: list[str], expected: list[Any]) -> None:
    params = SamplingParams(structured_outputs=StructuredOutputsParams(**outputs))
    rows = answering(*answers).map(RECORDS, "{word}", sampling_params=params, window=1)
    assert [(row["output"], row["error"]) for row in rows] == [(value, None) for value in expected]


def test_fields_of_a_model_that_leads_into_itself_become_columns() -> None:
    schema = {
        "$defs": {"Node": {"type": "object", "properties": {"name": {"type": "string"}, "next": {"$ref": "#/$defs/Node"}}}},
        "$ref": "#/$defs/Node",
    }
    table = answering('{"name":"a","next":{"name":"b"}}').map(pyarrow.table({"n": [1]}), "{n}", schema=schema)
    assert table.to_pylist() == [{"n": 1, "name": "a", "next": '{"name": "b"}', "error": None}]


def test_lists_without_an_end_in_their_schema_are_json() -> None:
    tree = {"type": "array", "items": {"$ref": "#/properties/tree"}}
    schema = {"type": "object", "properties": {"tree": tree}}
    table = answering('{"tree":[[],[[]]]}').map(pyarrow.table({"n": [1]}), "{n}", schema=schema)
    assert table["tree"].to_pylist() == ["[[], [[]]]"]


def test_a_schema_on_the_demo_model(demo: LLM, tmp_path: Path) -> None:
    label = {"enum": ["good", "bad"]}
    schema = {"type": "object", "properties": {"label": label}, "required": ["label"], "additionalProperties": False}
    reviews = polars.DataFrame({"review": ["I love it.", "I hate it."]})
    params = SamplingParams(temperature=0)
    direct = demo.map(reviews, "Is this review good or bad? {review}", schema=schema, sampling_params=params)
    assert set(direct["label"]) <= {"good", "bad"} and direct["error"].to_list() == [None, None]
    path = tmp_path / "run.jsonl"
    resumed = demo.map(reviews, "Is this review good or bad? {review}", schema=schema, sampling_params=params, resume=path)
    assert resumed.equals(direct)


@pytest.mark.parametrize(
    ("prompt", "options", "match"),
    [
        ("{nobody}", {}, "no columns of these names: nobody"),
        ("{word}", {"output_column": "n"}, "columns of these names: n"),
        ("{word}", {"schema": {"type": "object", "properties": {"word": {}}}}, "columns of these names: word"),
    ],
)
def test_columns_must_fit(prompt: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ScriptedLLM(script).map(RECORDS, prompt, **options)


def test_columns_must_be_of_one_length() -> None:
    with pytest.raises(ValueError, match=r"different lengths \(word: 2, n: 1\)"):
        ScriptedLLM(script).map({"word": ["a", "b"], "n": [1]}, "{word}")


def test_what_is_no_table() -> None:
    with pytest.raises(TypeError, match="expected a table"):
        ScriptedLLM().map(7, "x")


def test_a_map_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    llm = ScriptedLLM(script)
    assert llm.map(RECORDS[:2], "Say {word}!", resume=path) == ANSWERED[:2]
    assert llm.stats.submitted == 2
    # One more row, and nothing is asked twice.
    assert asyncio.run(llm.amap(RECORDS, "Say {word}!", resume=path)) == ANSWERED
    assert llm.stats.submitted == 3
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.errors.jsonl", "run.jsonl"]
    # Another prompt is another question.
    assert llm.map(RECORDS[:1], "Sing {word}!", resume=path)[0]["output"] == "SING TREE!"


def test_an_interrupt_gives_the_table_so_far(interrupt_when: Callable[[Callable[[], bool]], None]) -> None:
    llm = ScriptedLLM(held=True)
    llm.release(1)
    interrupt_when(lambda: llm.stats.finished == 1)
    with pytest.raises(Interrupted, match="1 of 3 rows") as raised:
        llm.map(RECORDS, "Say {word}!")
    rows = raised.value.partial
    assert rows[0]["output"] == "Say tree!" and [row["error"] is None for row in rows] == [True, False, False]
    sent = pickle.loads(pickle.dumps(raised.value))
    assert (str(sent), sent.partial) == (str(raised.value), rows)


def test_a_long_table_takes_memory_for_its_answers_only(resident: Callable[[], int]) -> None:
    def prompt(row: dict[str, Any]) -> str:
        return f"{row['n']}" + "x" * 4096

    table = pyarrow.table({"n": range(100_000)})
    llm = ScriptedLLM(lambda messages: "x")
    llm.map(table.slice(0, 1000), prompt)
    before = resident()
    answered = llm.map(table, prompt)
    assert answered["output"].to_pylist() == ["x"] * 100_000 and answered["error"].null_count == 100_000
    # All prompts at once would be 400 MB.
    assert resident() - before < 64 << 20


def test_asynchronous_maps() -> None:
    assert asyncio.run(ScriptedLLM(script).amap(RECORDS, "Say {word}!")) == ANSWERED


def test_values_are_written_as_json_where_they_are_no_texts() -> None:
    table = pandas.DataFrame({"n": [1, 2]})
    answered = ScriptedLLM(script).map(table, lambda row: json.dumps(row))
    assert list(answered["output"]) == ['{"N": 1}', '{"N": 2}']
