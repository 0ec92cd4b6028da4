"""Batches of tables that other engines hand out: predictors, seeds of rows, and Spark's function of frames."""

from __future__ import annotations

import functools
import pickle
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow
import pytest

from vllm_batch import LLM, SamplingParams, predictor, spark
from vllm_batch.predictor import BatchPredictor
from vllm_batch.testing import ScriptedLLM

SAMPLED = SamplingParams(temperature=1.0, max_tokens=8)
COLOURS = ["red", "green", "blue", "red"]


def test_answers_follow_from_rows_and_not_from_places(demo: LLM) -> None:
    predict = BatchPredictor(lambda: demo, "Say something {colour}.", sampling_params=SAMPLED)
    together = predict({"colour": COLOURS})["output"]
    apart = [predict({"colour": [colour]})["output"][0] for colour in reversed(COLOURS)]
    assert apart[::-1] == together
    assert together[0] == together[3] and len(set(together)) == 3


def test_seeds_tell_rows_apart_that_ask_the_same(demo: LLM) -> None:
    rows = [{"id": number, "colour": "red"} for number in range(4)]
    ask = functools.partial(demo.map, prompt="Say something {colour}.", sampling_params=SAMPLED)
    answers = [row["output"] for row in ask(rows, seed_from="{id}")]
    assert len(set(answers)) == 4
    assert [row["output"] for row in ask(rows[::-1], seed_from=lambda row: str(row["id"]))] == answers[::-1]
    other = SamplingParams(temperature=1.0, max_tokens=8, seed=1)
    assert [row["output"] for row in ask(rows, seed_from="{id}", sampling_params=other)] != answers


def test_without_seeds_answers_follow_from_places(demo: LLM) -> None:
    rows = [{"colour": "red"}] * 4
    ask = functools.partial(demo.map, rows, "Say something {colour}.", sampling_params=SAMPLED)
    answers = [row["output"] for row in ask()]
    assert len(set(answers)) == 4 and [row["output"] for row in ask()] == answers
    one = SamplingParams(temperature=1.0, max_tokens=8, seed=1)
    assert len({row["output"] for row in ask(sampling_params=one)}) == 1


def test_a_file_of_answers_has_the_same_seeds(demo: LLM, tmp_path: Path) -> None:
    rows = [{"id": number} for number in range(3)]
    ask = functools.partial(demo.map, rows, "Say something.", sampling_params=SAMPLED, seed_from="{id}")
    assert ask(resume=tmp_path / "run.jsonl") == ask()


def test_columns_of_numpy_come_back_as_columns() -> None:
    batch = {"word": numpy.array(["a", "b"], dtype=object), "n": numpy.array([[1, 2], [3, 4]])}
    answered = BatchPredictor(ScriptedLLM, lambda row: f"{row['word']} {row['n']}")(batch)
    assert answered["n"] is batch["n"]
    assert (answered["output"], answered["error"]) == (["a [1, 2]", "b [3, 4]"], [None, None])


OPTIONAL = {"anyOf": [{"$ref": "#/$defs/Level"}, {"type": "null"}]}
SCHEMA = {
    "type": "object",
    "$defs": {"Level": {"enum": [1, 2, 2.5]}},
    "properties": {
        "text": {"type": "string"},
        "label": {"enum": ["a", "b"]},
        "count": {"type": ["integer", "null"]},
        "share": {"type": "number"},
        "sure": {"const": True},
        "tags": {"type": "array", "items": {"type": "string"}},
        "level": OPTIONAL,
        "any": {},
    },
}
TYPES = {"text": "string", "label": "string", "count": "int64", "share": "double", "sure": "bool", "tags": "list<item: string>"}


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        ('{"text":"t","count":1,"share":2,"sure":true,"tags":[],"level":1}', ["t", None, 1, 2.0, True, [], 1.0, None]),
        ('{"share":2.5,"any":[1]}', [None, None, None, 2.5, None, None, None, "[1]"]),
        ('{"any":"a"}', [None] * 7 + ['"a"']),
        ("no JSON", [None] * 8),
    ],
)
def test_types_of_arrow_follow_from_the_schema(answer: str, values: list[Any]) -> None:
    table = pyarrow.table({"n": [1]})
    answered = BatchPredictor(lambda: ScriptedLLM(lambda _: answer), "x", schema=SCHEMA)(table).drop_columns(["n", "error"])
    types = {field.name: str(field.type) for field in answered.schema}
    assert types == {**TYPES, "level": "double", "any": "string"}
    assert list(answered.to_pylist()[0].values()) == values


def test_numbers_that_are_too_large_are_kept_as_json() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    huge = 1 << 70
    answered = ScriptedLLM(lambda _: f'{{"n":{huge}}}').map(pyarrow.table({"x": [1]}), "{x}", schema=schema)
    assert answered["n"].to_pylist() == [str(huge)]


def test_threads_are_those_of_the_scheduler(demo_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(predictor, "LLM", lambda model, **options: given.append(options["threads"]))
    for number in ("3", "", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", number)
        predictor.load(demo_model, {})
    predictor.load(demo_model, {"threads": 5})
    assert given == [3, None, None, None, 5]


def test_a_model_that_is_made_takes_no_options() -> None:
    with pytest.raises(TypeError, match="max_model_len"):
        BatchPredictor(ScriptedLLM, "x", max_model_len=64)


def frames() -> list[pandas.DataFrame]:
    return [pandas.DataFrame({"word": [word, "x"]}) for word in ("a", "b", "c")]


def test_a_process_of_spark_loads_the_model_once() -> None:
    loaded: list[Any] = []

    def model() -> ScriptedLLM:
        loaded.append(model)
        return ScriptedLLM(lambda messages: messages[-1]["content"].upper())

    ask = spark.map_in_pandas(model, "say {word}")
    assert loaded == []
    for _ in range(2):
        answered = pandas.concat(ask(iter(frames())))
        assert list(answered["output"]) == ["SAY A", "SAY X", "SAY B", "SAY X", "SAY C", "SAY X"]
    assert len(loaded) == 1
    list(spark.map_in_pandas(ScriptedLLM, "say {word}")(iter(frames())))
    list(ask(iter(frames())))
    assert len(loaded) == 2


@pytest.mark.filterwarnings("ignore")
def test_each_task_of_spark_finds_the_model_of_its_function(tmp_path: Path) -> None:
    cloudpickle = pytest.importorskip("ray.cloudpickle", reason="Ray is not installed; .ci/wheel.txt has it")

    def asks(answer: str) -> bytes:
        def model() -> ScriptedLLM:
            with (tmp_path / answer).open("a") as file:
                file.write("loaded ")
            return ScriptedLLM(lambda _: answer)

        pickled: bytes = cloudpickle.dumps(spark.map_in_pandas(model, "{word}"))
        return pickled

    first, second = asks("first"), asks("second")
    answers = []
    for pickled in (first, first, second):
        ask = pickle.loads(pickled)
        answers.append([answer for frame in ask(iter(frames())) for answer in frame["output"]])
        del ask
    assert answers == [["first"] * 6, ["first"] * 6, ["second"] * 6]
    assert [(tmp_path / name).read_text() for name in ("first", "second")] == ["loaded ", "loaded "]


def test_what_predictors_are_made_of_can_be_sent(demo_model: Path) -> None:
    arguments = {"model": demo_model, "prompt": "x", "sampling_params": SAMPLED, "schema": SCHEMA}
    assert pickle.loads(pickle.dumps(arguments)) == arguments
