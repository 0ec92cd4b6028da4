"""Pydantic models and dataclasses: in as schemas, out as objects."""

from __future__ import annotations

import datetime
import enum
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Optional

import pydantic
import pytest

from vllm_batch import LLM, SamplingParams, StructuredOutputsParams
from vllm_batch.curate import TaskSchema, curate
from vllm_batch.testing import ScriptedLLM


class Topic(enum.Enum):
    BUG = "bug"
    BILLING = "billing"


class Person(pydantic.BaseModel):
    name: str
    age: int


class SupportMail(pydantic.BaseModel):
    """What a mail to the support says."""

    topic: Topic = pydantic.Field(description="What it is about.")
    tone: Literal["formal", "casual"]
    urgency: int = pydantic.Field(ge=1, le=5, title="How urgent?")
    minutes: int = pydantic.Field(default=0, gt=-1)
    cost: Optional[Annotated[float, pydantic.Field(ge=0)]]
    is_angry: bool
    version: str = pydantic.Field(default="1", pattern="^[0-9.]+$", max_length=8)
    words: list[Annotated[str, pydantic.Field(max_length=9)]] = []
    topics: list[Topic] = pydantic.Field(default=[], min_length=1, max_length=2)
    day: Optional[datetime.date] = None
    at: Optional[datetime.datetime] = None
    people: list[Person] = []


PEOPLE = {
    "type": "array",
    "items": {"$ref": "#/$defs/Person"},
    "$defs": {
        "Person": {
            "additionalProperties": False,
            "properties": {"name": {"title": "Name", "type": "string"}, "age": {"title": "Age", "type": "integer"}},
            "required": ["name", "age"],
            "title": "Person",
            "type": "object",
        }
    },
}
QUESTIONS = [
    {"id": "topic", "help": "What it is about.", "required": True, "type": "choice", "options": ["bug", "billing"]},
    {"id": "tone", "required": True, "type": "choice", "options": ["formal", "casual"]},
    {"id": "urgency", "title": "How urgent?", "required": True, "type": "rating", "min": 1, "max": 5},
    {"id": "minutes", "required": False, "type": "number", "integer": True, "min": 0},
    {"id": "cost", "required": False, "type": "number", "min": 0},
    {"id": "is_angry", "required": True, "type": "boolean"},
    {"id": "version", "required": False, "type": "text", "max_chars": 8, "pattern": "[0-9.]+"},
    {"id": "words", "required": False, "type": "text", "max_chars": 9, "many": True},
    {"id": "topics", "required": False, "type": "choice", "multiple": True, "options": ["bug", "billing"], "min": 1, "max": 2},
    {"id": "day", "required": False, "type": "date", "only": "date"},
    {"id": "at", "required": False, "type": "date", "only": "date_time"},
    {"id": "people", "required": False, "type": "structured", "schema": PEOPLE},
]
ANSWERS: dict[str, Any] = {
    "topic": "bug",
    "tone": "casual",
    "urgency": 4,
    "is_angry": True,
    "words": ["a", "b"],
    "topics": ["billing"],
    "day": "2026-01-31",
    "at": "2026-01-31T12:30:00Z",
    "people": [{"name": "Ann", "age": 40}],
}
MAIL = SupportMail(
    topic=Topic.BUG,
    tone="casual",
    urgency=4,
    cost=None,
    is_angry=True,
    words=["a", "b"],
    topics=[Topic.BILLING],
    day=datetime.date(2026, 1, 31),
    at=datetime.datetime(2026, 1, 31, 12, 30, tzinfo=datetime.timezone.utc),
    people=[Person(name="Ann", age=40)],
)


def test_a_pydantic_model_is_a_schema_and_answers_are_its_objects() -> None:
    schema = TaskSchema.from_model(SupportMail, fields=["body", {"id": "sender", "type": "text", "pii": "mask"}])
    expected = {
        "format": 1,
        "id": "support_mail",
        "version": "1.0.0",
        "description": "What a mail to the support says.",
        "fields": [{"id": "body", "type": "text"}, {"id": "sender", "type": "text", "pii": "mask"}],
        "questions": QUESTIONS,
    }
    assert schema.to_dict() == TaskSchema.from_dict(expected).to_dict()
    assert schema.parse(json.dumps(ANSWERS)).to_model() == MAIL

    record = {"id": "a", "fields": {"body": "Hi", "sender": "ann"}}
    curated = curate(ScriptedLLM(lambda messages: json.dumps(ANSWERS)), schema, [record], use_tqdm=False)
    assert curated.rejections == [] and curated.models() == [MAIL]
    missing = curate(ScriptedLLM(lambda messages: '{"tone": "casual"}'), schema, [record], use_tqdm=False)
    assert missing.models() == [None]
    with pytest.raises(TypeError, match="not made from a class"):
        curate(ScriptedLLM(), TaskSchema.from_dict(schema.to_dict()), [record], use_tqdm=False).models()


def test_more_can_be_said_about_the_document() -> None:
    schema = TaskSchema.from_model(Person, id="who", version="2.1.0", questions={"name": {"pii": "mask"}}, gold={"manual": False})
    document = schema.to_dict()
    assert (schema.reference, document["questions"][0]["pii"], document["gold"]["manual"]) == ("who@2.1.0", "mask", False)
    with pytest.raises(TypeError, match="Person has no fields of these names: nme"):
        TaskSchema.from_model(Person, questions={"nme": {}})


@dataclass
class Note:
    tone: Topic
    stars: Annotated[int, pydantic.Field(ge=1, le=5), "From 1 to 5."]
    summary: str = field(default="", metadata={"description": "In a line.", "max_length": 80})
    author: Optional[str] = None


def test_a_dataclass_is_a_schema_too() -> None:
    schema = TaskSchema.from_model(Note)
    questions = [
        {"id": "tone", "required": True, "type": "choice", "options": ["bug", "billing"]},
        {"id": "stars", "help": "From 1 to 5.", "required": True, "type": "rating", "min": 1, "max": 5},
        {"id": "summary", "help": "In a line.", "required": False, "type": "text", "max_chars": 80},
        {"id": "author", "required": False, "type": "text"},
    ]
    text = {"id": "text", "type": "text"}
    assert schema == TaskSchema.from_dict(
        {"format": 1, "id": "note", "version": "1.0.0", "fields": [text], "questions": questions}
    )
    assert schema.parse('{"tone": "bug", "stars": 3}').to_model() == Note(Topic.BUG, 3)


class Blob(pydantic.BaseModel):
    data: bytes


class Level(pydantic.BaseModel):
    level: Literal[1, 2]


class Either(pydantic.BaseModel):
    either: int | str


class Above(pydantic.BaseModel):
    share: float = pydantic.Field(gt=0)


class Few(pydantic.BaseModel):
    words: list[str] = pydantic.Field(max_length=3)


@dataclass
class Hidden:
    who: "Nobody"  # type: ignore[name-defined]


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (Blob, "^Blob.data: there is no question for <class 'bytes'>"),
        (Level, "^Level.level: options are texts"),
        (Either, r"^Either.either: there is no question for int \| str"),
        (Above, "^Above.share: its question cannot have gt"),
        (Few, "^Few.words: its question cannot have max_length"),
        (Hidden, "^Hidden: its annotations cannot be read: name 'Nobody' is not defined"),
        (int, "expected a pydantic model or a dataclass, found <class 'int'>"),
    ],
)
def test_what_is_no_question_is_named(model: type, match: str) -> None:
    with pytest.raises(TypeError, match=match):
        TaskSchema.from_model(model)


def test_a_field_may_have_an_alias() -> None:
    class Camel(pydantic.BaseModel):
        first_name: str = pydantic.Field(alias="firstName")

    made = TaskSchema.from_model(Camel).parse('{"first_name": "Ann"}').to_model()
    assert made == Camel(firstName="Ann")


def test_a_pattern_that_is_found_somewhere_is_one_of_the_whole() -> None:
    class Code(pydantic.BaseModel):
        code: str = pydantic.Field(pattern="[0-9]{2}|x")

    schema = TaskSchema.from_model(Code)
    said = {text: schema.parse(json.dumps({"code": text})).values for text in ("a12b", "abc", "x")}
    assert said == {"a12b": {"code": "a12b"}, "abc": {}, "x": {"code": "x"}}


def test_structured_outputs_are_objects(demo: LLM) -> None:
    class Review(pydantic.BaseModel):
        label: Literal["good", "bad"]

    params = SamplingParams(temperature=0, max_tokens=32, structured_outputs=StructuredOutputsParams(json=Review))
    messages = [{"role": "user", "content": "I love it. Is this good or bad?"}]
    by_chat = demo.chat(messages, params, use_tqdm=False)[0].outputs[0]
    by_text = demo.generate(["I love it. "], params, use_tqdm=False)[0].outputs[0]
    for output in (by_chat, by_text):
        assert isinstance(output.parsed, Review) and output.parsed.label in ("good", "bad")
    plain = demo.generate("Hi", SamplingParams(max_tokens=1), use_tqdm=False)[0].outputs[0]
    assert plain.parsed is None


def test_objects_have_no_other_properties_unless_the_model_allows_them() -> None:
    class Open(pydantic.BaseModel, extra="allow"):
        type: str
        properties: list[Person]

    body = StructuredOutputsParams(json=Open).to_body()["json"]
    assert body["additionalProperties"] is True and body["$defs"]["Person"]["additionalProperties"] is False
    assert set(body["properties"]) == {"type", "properties"}


def test_an_answer_that_was_cut_off_is_no_object() -> None:
    params = SamplingParams(max_tokens=1, structured_outputs=StructuredOutputsParams(json=Person))
    output = ScriptedLLM(lambda prompt: '{"name": "Ann"}').generate("Who?", params, use_tqdm=False)[0].outputs[0]
    with pytest.raises(ValueError, match="JSON"):
        assert output.parsed
