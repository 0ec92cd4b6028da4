"""Curation: schemas, how a model is asked, what it says, review by people, and training data."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas
import pytest
from fake_label_studio import TOKEN, FakeLabelStudio

from vllm_batch import LLM, CurationError, Interrupted, LabelStudioError, SchemaError, cli
from vllm_batch.curate import (
    Curated,
    GoldSet,
    LabelStudio,
    RequestOptions,
    SchemaRegistry,
    TaskSchema,
    acurate,
    aexport,
    agreement,
    avalidate_dataset,
    curate,
    decide_gold,
    export,
    export_formats,
    mark_gold,
    rows,
    select_for_review,
    validate_dataset,
)
from vllm_batch.testing import ScriptedLLM

DOCUMENT: dict[str, Any] = {
    "format": 1,
    "id": "mail",
    "version": "1.0.0",
    "fields": [{"id": "body", "type": "text"}, {"id": "sender", "type": "text", "required": False, "pii": "mask"}],
    "questions": [
        {"id": "tone", "type": "choice", "options": ["formal", "casual"]},
        {"id": "urgency", "type": "rating", "min": 1, "max": 5},
    ],
}
SCHEMA = TaskSchema.from_dict(DOCUMENT)
RECORDS: list[dict[str, Any]] = [
    {"id": "a", "fields": {"body": "Dear Sir, now!", "sender": "ann"}, "metadata": {"day": 1}},
    {"id": "b", "fields": {"body": "Hi, whenever."}},
]


@dataclass
class Tone:
    """What a mail sounds like."""

    tone: Literal["formal", "casual"]


def said(name: str, tone: str, urgency: int) -> dict[str, Any]:
    agent = {"name": name, "kind": "human"}
    return {"agent": agent, "answers": {"tone": tone, "urgency": urgency}, "status": "submitted"}


def reviewed() -> list[dict[str, Any]]:
    """Both records, with what two people said."""
    a, b = (dict(record) for record in RECORDS)
    a["responses"] = [said("ann", "formal", 5), said("bob", "formal", 4)]
    b["responses"] = [said("ann", "casual", 1), said("bob", "formal", 1)]
    return [a, b]


def script(messages: list[dict[str, Any]]) -> str:
    """Formal or casual, and a rating that does not hold for casual mails."""
    is_formal = "Dear" in messages[-1]["content"]
    return json.dumps({"tone": "formal" if is_formal else "casual", "urgency": 5 if is_formal else 9})


# --- Schemas ---


def test_all_that_is_wrong_with_a_schema_is_told_with_its_place() -> None:
    wrong = {**DOCUMENT, "id": "Mail", "questions": [{"id": "tone", "type": "choise"}, {"id": "x", "type": "text", "min_chars": "1"}]}
    with pytest.raises(SchemaError, match="cannot be used") as raised:
        TaskSchema.from_dict(wrong)
    found = [(one["code"], one["severity"], one["path"]) for one in raised.value.diagnostics]
    assert found == [
        ("invalid_id", "error", "/id"),
        ("unknown_word", "error", "/questions/0/type"),
        ("wrong_type", "error", "/questions/1/min_chars"),
    ]
    assert raised.value.code == "invalid_schema" and raised.value.diagnostics[1]["help"] == "`choice` is meant?"


def test_a_schema_comes_from_a_dict_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mail.json"
    path.write_text(json.dumps(DOCUMENT))
    schema = TaskSchema.from_file(path)
    assert schema == SCHEMA and hash(schema) == hash(SCHEMA) and repr(schema) == "TaskSchema('mail@1.0.0')"
    assert (schema.id, schema.version, schema.warnings) == ("mail", "1.0.0", [])
    assert TaskSchema.from_dict(schema.to_dict()) == schema
    assert schema.json_schema()["required"] == ["tone", "urgency"]
    assert schema.answer_schema()["properties"]["urgency"]["maximum"] == 5
    strange = TaskSchema.from_dict({**DOCUMENT, "colour": "red"})
    assert [one["code"] for one in strange.warnings] == ["unknown_key"]


def test_a_registry_keeps_versions_and_migrates_answers(tmp_path: Path) -> None:
    step = {"op": "map_options", "since": "2.0.0", "question": "tone", "map": {"casual": "loose"}}
    tone = {"id": "tone", "type": "choice", "options": ["formal", "loose"]}
    second = {**DOCUMENT, "version": "2.0.0", "questions": [tone], "migrations": [step]}
    registry = SchemaRegistry()
    registry.register(SCHEMA)
    with pytest.raises(SchemaError) as raised:
        registry.register(TaskSchema.from_dict({**second, "version": "1.1.0", "migrations": []}))
    assert (raised.value.code, raised.value.diagnostics) == ("bump_too_small", [])
    registry.register(TaskSchema.from_dict(second))
    assert [schema.version for schema in registry] == ["1.0.0", "2.0.0"]
    newest, first = registry.get("mail"), registry.get("mail", "1.0.0")
    assert (newest and newest.version, first == SCHEMA, registry.get("male")) == ("2.0.0", True, None)
    assert registry.find("mail", "^1") == SCHEMA
    diff = registry.diff("mail", "1.0.0", "2.0.0")
    assert diff and diff.bump == "major" and {"path": "/questions/1", "kind": "question_removed", "bump": "major"} in diff.changes

    migrated, report = registry.migrate(reviewed(), "mail@1.0.0", "mail@2.0.0")
    assert [[one["answers"] for one in record["responses"]] for record in migrated] == [
        [{"tone": "formal"}, {"tone": "formal"}],
        [{"tone": "loose"}, {"tone": "formal"}],
    ]
    assert (report.num_records, report.num_lost) == (2, 4)
    with pytest.raises(CurationError) as wrong:
        registry.get("mail", "one")
    assert wrong.value.code == "invalid_version"


def test_a_folder_of_schemas_tells_of_each_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(DOCUMENT))
    (tmp_path / "b.json").write_text("{")
    registry = SchemaRegistry.from_dir(tmp_path)
    assert [(Path(file.path).name, file.schema, file.code) for file in registry.files] == [
        ("a.json", "mail@1.0.0", None),
        ("b.json", None, "invalid_schema"),
    ]
    assert [schema.id for schema in SchemaRegistry.builtin()][:2] == ["candidate_evaluation", "cartographer"]


# --- Questions to a model ---


def test_a_request_is_for_chat_and_for_batch_files(echo: ScriptedLLM) -> None:
    options = RequestOptions(max_tokens=64, examples=[{"fields": {"body": "Yo"}, "answers": {"tone": "casual", "urgency": 1}}])
    request = SCHEMA.request(RECORDS[0], options, model="m")
    assert [message["role"] for message in request.messages] == ["system", "user", "assistant", "user"]
    assert request.messages == SCHEMA.prompt(RECORDS[0], options)
    params = request.sampling_params
    assert (params.max_tokens, params.temperature, params.logprobs) == (64, 0, 0)
    assert params.structured_outputs and params.structured_outputs.json == SCHEMA.json_schema()
    assert request.to_dict()["custom_id"] == "a" and request.to_dict()["body"]["model"] == "m"
    assert "Dear Sir" in echo.chat(request.messages, params, use_tqdm=False)[0].outputs[0].text


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: SCHEMA.prompt({"id": "a", "fields": {}}), "invalid_fields"),
        (lambda: SCHEMA.prompt({"id": "a", "field": {}}), "malformed_record"),
        (lambda: SCHEMA.request(RECORDS[0], RequestOptions(max_tokens=2, whole_answers=True)), "no_room"),
        (lambda: SCHEMA.request(RECORDS[0], RequestOptions(examples=[{"fields": {}, "answers": {"tone": 1}}])), "wrong_type"),
        (lambda: agreement(SCHEMA, [{**RECORDS[0], "responses": [said("ann", "loud", 1)]}]), "invalid_answer"),
        (lambda: mark_gold(SCHEMA, RECORDS, ["a", "z"]), "unknown_records"),
        (lambda: GoldSet.load(SCHEMA, "nowhere.jsonl"), "snapshot_io"),
        (lambda: validate_dataset("nowhere.jsonl", "alpaca"), "io"),
        (lambda: SCHEMA.label_studio_task({"id": "a", "fields": {}}), "unusable_record"),
    ],
)
def test_what_cannot_be_done_has_a_code(call: Callable[[], object], code: str) -> None:
    with pytest.raises(CurationError) as raised:
        call()
    assert raised.value.code == code


def test_what_a_model_wrote_is_read_and_mended() -> None:
    answers = SCHEMA.parse("Tone: Formal\nUrgency: 9")
    assert answers.values == {"tone": "formal"}
    assert [(error["question"], error["code"]) for error in answers.errors] == [("urgency", "out_of_range")]
    assert answers.repairs == ["lines", "tone:option_by_spelling"]
    with pytest.raises(TypeError, match="not made from a class"):
        answers.to_model()


def check(curated: Curated) -> None:
    """What the script's answers come to."""
    assert [record["id"] for record in curated.records] == ["a", "b"]
    assert [
        {key: value for key, value in row.items() if not key.endswith("_score")} for row in curated.rows()
    ] == [{"id": "a", "tone": "formal", "urgency": 5}, {"id": "b", "tone": "casual"}]
    assert [(one["id"], one["stage"], one["code"]) for one in curated.rejections] == [("b", "answer", "out_of_range")]
    report = curated.report
    assert (report.records, report.suggested, report.rejected, report.unreadable_answers) == (2, 2, 0, 1)
    assert report.batch and report.batch.total == 2 and str(report).startswith("2 of 2 records have suggestions")


def test_a_model_suggests_answers() -> None:
    llm = ScriptedLLM(script)
    curated = curate(llm, SCHEMA, RECORDS, use_tqdm=False)
    check(curated)
    assert curated.records[0]["metadata"] == {"day": 1}
    assert not Path(curated.report.suggestions_path).exists()
    check(asyncio.run(acurate(llm, SCHEMA, RECORDS)))


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    llm = ScriptedLLM(script)
    curate(llm, SCHEMA, RECORDS[:1], folder=tmp_path / "run", use_tqdm=False)
    check(curate(llm, SCHEMA, RECORDS, folder=tmp_path / "run", use_tqdm=False))
    assert llm.stats.submitted == 2
    check(curate(llm, SCHEMA, tmp_path / "run/records.jsonl", folder=tmp_path / "other", use_tqdm=False))


def test_an_interrupt_gives_what_is_there(interrupt_when: Callable[[Callable[[], bool]], None]) -> None:
    llm = ScriptedLLM(script, held=True)
    llm.release(1)
    interrupt_when(lambda: llm.stats.finished == 1)
    with pytest.raises(Interrupted, match="1 of 2 records have suggestions") as raised:
        curate(llm, SCHEMA, RECORDS, use_tqdm=False)
    partial = raised.value.partial
    assert [record["id"] for record in partial.records] == ["a"]
    assert [(one["id"], one["stage"], one["code"]) for one in partial.rejections] == [("b", "model", "no_answer")]


def test_to_cancel_a_task_ends_its_run(tmp_path: Path) -> None:
    llm = ScriptedLLM(script, held=True)

    async def cancelled() -> None:
        task = asyncio.create_task(acurate(llm, SCHEMA, RECORDS, folder=tmp_path))
        while llm.stats.submitted < 2:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert (llm.stats.aborted, llm.stats.running) == (2, 0)
    llm.release()
    check(curate(llm, SCHEMA, RECORDS, folder=tmp_path, use_tqdm=False))


def test_what_progress_raises_ends_a_run() -> None:
    def stop(progress: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        curate(ScriptedLLM(script), SCHEMA, RECORDS, use_tqdm=False, on_progress=stop)
    held = ScriptedLLM(script, held=True)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(acurate(held, SCHEMA, RECORDS, on_progress=stop))
    assert held.stats.running == 0


def test_records_keep_what_was_said_before() -> None:
    first = curate(ScriptedLLM(script, served_model_name="one"), SCHEMA, reviewed(), use_tqdm=False)
    marked = mark_gold(SCHEMA, first.records, ["a"])
    records = curate(ScriptedLLM(script, served_model_name="two"), SCHEMA, iter(marked), use_tqdm=False).records
    assert [[one["agent"]["name"] for one in record["suggestions"]] for record in records] == [["one", "two"]] * 2
    assert [record["responses"] for record in records] == [record["responses"] for record in first.records]
    assert [record.get("gold") for record in records] == [True, None]


def test_schemas_can_be_sent() -> None:
    sent = pickle.loads(pickle.dumps(SCHEMA))
    assert sent == SCHEMA and sent.warnings == SCHEMA.warnings
    model = TaskSchema.from_model(Tone, fields=["body"])
    sent = pickle.loads(pickle.dumps(model))
    assert sent == model and sent.parse('{"tone": "casual"}').to_model() == Tone("casual")


def test_records_of_a_table() -> None:
    days = pandas.to_datetime(["2026-01-31", None])
    table = pandas.DataFrame({"body": ["x", pandas.NA], "n": [7, 8], "share": [1.5, float("nan")], "day": days})
    metadata = {"share": 1.5, "day": days[0]}
    expected: list[dict[str, Any]] = [
        {"id": "7", "fields": {"body": "x"}, "metadata": metadata, "suggestions": [], "responses": []},
        {"id": "8", "fields": {}, "metadata": {}, "suggestions": [], "responses": []},
    ]
    found = SCHEMA.records(table, id_column="n", metadata_columns=["share", "day"])
    assert list(map(dict, found)) == expected
    asked = curate(ScriptedLLM(script), SCHEMA, found, use_tqdm=False).records
    assert [record["metadata"] for record in asked] == [{"share": 1.5, "day": "2026-01-31T00:00:00"}]
    assert [record["id"] for record in SCHEMA.records([{"body": "x"}, {"body": "y"}])] == ["0", "1"]
    with pytest.raises(ValueError, match="no columns of these names: nobody"):
        SCHEMA.records(table, id_column="nobody")


def test_answers_of_a_model_have_scores(demo: LLM) -> None:
    curated = curate(demo, SCHEMA, RECORDS, options=RequestOptions(max_tokens=64), use_tqdm=False)
    table = pandas.DataFrame(curated.rows())
    assert list(table["id"]) == ["a", "b"] and set(table["tone"]) <= {"formal", "casual"}
    assert table["tone_score"].between(0, 1).all() and table["urgency"].between(1, 5).all()
    provenance = curated.records[0]["suggestions"][0]["provenance"]
    assert provenance["schema"] == {"id": "mail", "version": "1.0.0"} and provenance["schema_sha256"] == SCHEMA.sha256


# --- Review ---


def test_agreement_is_a_table() -> None:
    report = agreement(SCHEMA, reviewed(), num_resamples=100, seed=1)
    table = pandas.DataFrame(report.rows())
    tone = table[(table["question"] == "tone") & (table["shown"] == "all")].iloc[0]
    assert (tone["compared"], tone["num_units"], tone["similarity"]) == ("humans", 2, 0.5)
    assert 0 <= tone["similarity_low"] <= 0.5 <= tone["similarity_high"] <= 1
    one = agreement(SCHEMA, [reviewed()[0]]).to_dict()["groups"][0]["questions"][0]
    assert one["alpha"] == {"undefined": "one_value"}


def test_records_are_chosen_by_what_is_unsure() -> None:
    def suggested(name: str, score: float) -> dict[str, Any]:
        answers = [{"question": "tone", "answer": "formal", "score": score, "score_kind": "logprob"}]
        suggestions = [{"agent": {"name": "m", "kind": "model"}, "suggestions": answers, "provenance": {}}]
        return {"id": name, "fields": {"body": "x"}, "suggestions": suggestions}

    records = [suggested("sure", 0.99), suggested("unsure", 0.1), reviewed()[0]]
    chosen = select_for_review(SCHEMA, records, limit=5)
    assert [(one.index, one.id) for one in chosen] == [(1, "unsure"), (0, "sure")]
    assert chosen[0].priority > chosen[1].priority
    assert rows(records)[0] == {"id": "sure", "tone": "formal", "tone_score": 0.99}
    with pytest.raises(ValueError, match="expected uncertainty, disagreement, random, found `luck`"):
        select_for_review(SCHEMA, records, strategy="luck")


def test_gold_by_hand_is_frozen(tmp_path: Path) -> None:
    assert decide_gold(SCHEMA, reviewed()[0]).reasons == ["nobody said that it is gold, and there is no rule"]
    records = mark_gold(SCHEMA, reviewed(), ["a"])
    gold = GoldSet.freeze(SCHEMA, records)
    assert [(row["id"], row["answers"]["tone"], row["manual"]) for row in gold.rows] == [("a", "formal", True)]
    assert list(gold.others) == ["b"] and not gold.others["b"].is_gold
    path = gold.save(tmp_path)
    assert GoldSet.load(SCHEMA, path).id == gold.id == GoldSet.freeze(SCHEMA, reversed(records)).id
    assert SCHEMA.prompt(RECORDS[1], RequestOptions(examples=gold.rows))[1]["content"].startswith("body")
    Path(path).write_text(Path(path).read_text().replace("formal", "casual"))
    with pytest.raises(CurationError) as raised:
        GoldSet.load(SCHEMA, path)
    assert raised.value.code == "changed_snapshot"


def test_gold_by_a_rule() -> None:
    ruled = TaskSchema.from_dict({**DOCUMENT, "gold": {"auto": {"min_agreement": 0.5, "min_annotators": 2}}})
    decisions = [decide_gold(ruled, record) for record in reviewed()]
    assert [(one.is_gold, one.agreement, one.num_annotators) for one in decisions] == [(True, 0.5, 2), (True, 0.5, 2)]


# --- Label Studio ---


@pytest.fixture
def fake() -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as server:
        yield server


def test_records_go_to_people_and_come_back(fake: FakeLabelStudio, tmp_path: Path) -> None:
    server = LabelStudio(fake.url, TOKEN, max_retries=0)
    curated = curate(ScriptedLLM(script), SCHEMA, RECORDS, use_tqdm=False)
    project = server.ensure_project(SCHEMA)
    assert (server.version(), project.id, project.schema) == ("1.23.2", 1, "mail@1.0.0")
    assert server.ensure_project(SCHEMA) == project and project.label_config == SCHEMA.label_studio_config().strip()

    cursor = tmp_path / "cursor.jsonl"
    first = server.import_records(1, SCHEMA, curated.records[:1], cursor=cursor)
    second = asyncio.run(server.aimport_records(1, SCHEMA, curated.records, cursor=cursor))
    third = server.import_records(1, SCHEMA, curated.records)
    counts = [(one.imported, one.present, one.rejected) for one in (first, second, third)]
    assert counts == [(1, 0, []), (1, 1, []), (0, 2, [])] and fake.imports == [1, 1]
    left_out = server.import_records(1, SCHEMA, [{"id": "c", "fields": {}}]).rejected
    assert [one["id"] for one in left_out] == ["c"]
    assert fake.tasks[0]["data"]["sender"] == "[masked]" and fake.tasks[0]["predictions"]

    assert server.harvest(1, SCHEMA) == []
    fake.annotate("a", "tone", "casual")
    harvested = server.harvest(1, SCHEMA, originals=curated.records)
    assert harvested == asyncio.run(server.aharvest(1, SCHEMA, originals=curated.records))
    assert [one.errors for one in harvested] == [[]] and harvested[0].withheld == []
    record = harvested[0].record
    assert record["fields"] == RECORDS[0]["fields"] and record["metadata"]["day"] == 1
    assert record["gold"] is True and record["responses"][0]["answers"] == {"tone": "casual"}
    assert server.harvest(1, SCHEMA)[0].withheld == ["sender"]
    server.delete_project(1)
    assert fake.project is None


def test_a_server_that_refuses_says_how(fake: FakeLabelStudio) -> None:
    with pytest.raises(LabelStudioError) as raised:
        LabelStudio(fake.url, "wrong", max_retries=0).version()
    error = raised.value
    assert (error.code, error.status, error.is_retryable) == ("unauthorized", 401, False)
    with pytest.raises(LabelStudioError, match="url"):
        LabelStudio("nowhere", TOKEN)
    with pytest.raises(ValueError, match="expected all, annotated, gold"):
        LabelStudio(fake.url, TOKEN).harvest(1, SCHEMA, filter="some")


@pytest.mark.skipif("VLLM_BATCH_LABEL_STUDIO_URL" not in os.environ, reason="scripts/start_label_studio.sh starts a server")
def test_a_real_server() -> None:
    server = LabelStudio(os.environ["VLLM_BATCH_LABEL_STUDIO_URL"], os.environ["VLLM_BATCH_LABEL_STUDIO_TOKEN"])
    schema = TaskSchema.from_dict({**DOCUMENT, "id": "python_mail"})
    project = server.ensure_project(schema)
    try:
        curated = curate(ScriptedLLM(script), schema, RECORDS, use_tqdm=False)
        assert server.import_records(project.id, schema, curated.records).imported == 2
        assert server.import_records(project.id, schema, curated.records).present == 2
        harvested = server.harvest(project.id, schema, filter="all", originals=curated.records)
        found = sorted((one.record["id"], one.record["fields"]["body"], one.errors == []) for one in harvested)
        assert found == [(record["id"], record["fields"]["body"], True) for record in RECORDS]
        assert [row["tone"] for row in rows(sorted((one.record for one in harvested), key=lambda one: one["id"]))] == ["formal", "casual"]
    finally:
        server.delete_project(project.id)


@pytest.mark.parametrize("status", [201, 500])
def test_what_a_handler_of_signals_raises_ends_an_import(fake: FakeLabelStudio, status: int) -> None:
    server, handled = LabelStudio(fake.url, TOKEN, max_retries=0), threading.Event()
    server.ensure_project(SCHEMA)

    def handle(number: int, frame: object) -> None:
        handled.set()
        raise ZeroDivisionError

    def interrupt() -> int:
        os.kill(os.getpid(), signal.SIGINT)
        handled.wait()
        return status

    before, fake.on_import = signal.signal(signal.SIGINT, handle), interrupt
    try:
        with pytest.raises(ZeroDivisionError):
            server.import_records(1, SCHEMA, RECORDS)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(fake.tasks) == (2 if status == 201 else 0)


# --- Training data ---


def test_training_data_are_written_and_checked(tmp_path: Path) -> None:
    records = mark_gold(SCHEMA, reviewed(), ["a"])
    written = export(SCHEMA, records, "trl_messages", tmp_path / "data", splits=(0.0, 1.0), salt="1")
    assert (written.num_rows, written.num_records, written.skipped) == (1, 1, {"not_gold": 1})
    assert written.conflicts == {"tone": 1, "urgency": 1}
    path = written.files[0]["path"]
    assert (written.files[0]["split"], Path(path).name) == ("test", "test.jsonl")
    row = json.loads(Path(path).read_text())
    assert json.loads(row["messages"][-1]["content"])["tone"] == "formal"
    assert validate_dataset(path, "trl_messages").is_valid
    problems = asyncio.run(avalidate_dataset(path, "alpaca")).problems
    assert {(one.line, one.effect) for one in problems} == {(1, "skipped")}
    assert asyncio.run(aexport(SCHEMA, records, "alpaca", tmp_path / "other")).num_rows == 1
    table = export(SCHEMA, records, "alpaca", tmp_path / "table", parquet=True)
    assert pandas.read_parquet(table.files[0]["path"])["output"].map(json.loads)[0]["urgency"] in (4, 5)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"format": "csv"}, "there is no format \"csv\": there are openai_chat"),
        ({"answers": "best"}, "expected gold, single_response, found `best`"),
        ({"annotators": "some"}, "expected omitted, pseudonyms, names, found `some`"),
        ({"splits": (0.5, 0.6)}, "shares are from 0 to 1"),
    ],
)
def test_options_of_exports_have_domains(tmp_path: Path, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        export(SCHEMA, [], folder=tmp_path, **{"format": "alpaca", **options})


def test_all_formats_can_be_named(tmp_path: Path) -> None:
    records = [{**record, "gold": True} for record in curate(ScriptedLLM(script), SCHEMA, reviewed()[:1], use_tqdm=False).records]
    records = [{**record, "responses": reviewed()[0]["responses"]} for record in records]
    assert len(export_formats()) == 16
    for format in export_formats():
        for file in export(SCHEMA, records, format, tmp_path / format).files:
            assert validate_dataset(file["path"], format).num_rows == 1


# --- The program ---


def test_the_program_goes_from_records_to_training_data(
    fake: FakeLabelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mail.json").write_text(json.dumps(DOCUMENT))
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    monkeypatch.setattr(cli, "LLM", lambda model, **options: ScriptedLLM(script))
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    monkeypatch.chdir(tmp_path)
    arguments = ["curate", "--model", "m", "-i", "records.jsonl", "-o", "out", "--schema", "mail.json", "--format", "alpaca"]
    assert cli.main(arguments) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.suffix in (".xml", ".json")) == ["page.xml", "tasks.json"]

    online = [*arguments, "--label-studio", fake.url, "--report", "json"]
    capsys.readouterr()
    assert cli.main(online) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["imported"]["imported"], report["reviewed"], report["training"]) == (2, 0, None)
    fake.annotate("a", "tone", "formal")
    fake.tasks[0]["annotations"][0]["result"].append(
        {"from_name": "urgency", "to_name": "src_vb_record", "type": "rating", "value": {"rating": 2}}
    )
    assert cli.main(online[:-2]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"{fake.url}/projects/1: 0 new, 2 there before, 0 left out",
        "1 rows of 1 reviewed records",
    ]
    row = json.loads((tmp_path / "out/training/data/train.jsonl").read_text())
    assert json.loads(row["output"]) == {"tone": "formal", "urgency": 2}


@pytest.fixture
def by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The program's arguments without a review server, in a folder of its own."""
    (tmp_path / "mail.json").write_text(json.dumps(DOCUMENT))
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    monkeypatch.setattr(cli, "LLM", lambda model, **options: ScriptedLLM(script))
    monkeypatch.chdir(tmp_path)
    return ["curate", "--model", "m", "-i", "records.jsonl", "-o", "out", "--schema", "mail.json", "--report", "json"]


def test_review_by_hand_keeps_what_reviewers_do_not_see(by_hand: list[str]) -> None:
    assert cli.main(by_hand) == 0
    task = json.loads(Path("out/tasks.json").read_text())[0]
    assert task["data"]["sender"] == "[masked]"
    region = {"from_name": "tone", "to_name": "src_vb_record", "type": "choices", "value": {"choices": ["formal"]}}
    annotation = {"id": 1, "completed_by": {"id": 1, "email": "ann@example.org"}, "result": [region]}
    Path("out/export.json").write_text(json.dumps([{**task, "id": 7, "project": 1, "annotations": [annotation]}]))
    assert cli.main(by_hand) == 0
    reviewed = json.loads(Path("out/reviewed.jsonl").read_text())
    assert (reviewed["fields"], reviewed["metadata"]["day"]) == (RECORDS[0]["fields"], 1)
    assert reviewed["responses"][0]["answers"] == {"tone": "formal"}


def test_records_that_cannot_be_shown_are_left_out(
    by_hand: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make = TaskSchema.label_studio_task

    def task(schema: TaskSchema, record: dict[str, Any]) -> dict[str, Any]:
        return make(schema, record if record["id"] == "b" else {"id": "a", "fields": {}})

    monkeypatch.setattr(TaskSchema, "label_studio_task", task)
    assert cli.main(by_hand) == 0
    assert [one["id"] for one in json.loads(capsys.readouterr().out)["left_out"]] == ["a"]
    assert [one["data"]["vb_record"] for one in json.loads(Path("out/tasks.json").read_text())] == ["b"]
    assert Path("out/page.xml").is_file() and cli.main(by_hand[:-2]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("1 records are no tasks, the first one since: ")


def test_the_program_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    monkeypatch.setattr(cli, "LLM", lambda model, **options: ScriptedLLM(script))
    (tmp_path / "records.jsonl").write_text('{"id": "a", "fields": {}}\n')
    arguments = ["curate", "--model", "m", "-i", str(tmp_path / "records.jsonl"), "-o", str(tmp_path / "out"), "--schema"]
    assert cli.main([*arguments, "no_such_schema"]) == 1
    assert capsys.readouterr().err == "error: no_such_schema is neither a schema of the library nor a file\n"
    assert cli.main([*arguments, "cv_parsing", "--label-studio", "http://127.0.0.1:1"]) == 1
    assert "token" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert cli.main([*arguments, "cv_parsing"]) == 3
    with pytest.raises(SystemExit, match="2"):
        cli.main(["curate", "--model", "m"])
