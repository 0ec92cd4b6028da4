"""Batch files: the same bytes as by the library, resume, interrupts, progress, and the program."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vllm_batch import BatchReport, Interrupted, Progress, RunError, cli, run_batch
from vllm_batch.testing import ScriptedLLM

CREATED = 1_700_000_000


def strict() -> ScriptedLLM:
    """The model of the golden files of the contracts: a small context, and two names."""
    return ScriptedLLM(served_model_name=["scripted", "alias"], max_model_len=8, max_num_seqs=1)


def lines(count: int) -> str:
    body = {"model": "scripted", "max_tokens": 16}
    rows = (
        {"custom_id": f"r-{row}", "method": "POST", "url": "/v1/completions", "body": {**body, "prompt": f"row {row}"}}
        for row in range(count)
    )
    return "".join(json.dumps(row) + "\n" for row in rows)


def rows(path: Path) -> list[str]:
    return sorted(path.read_text().splitlines()) if path.exists() else []


@pytest.mark.parametrize(
    ("input", "output", "errors", "contract", "llm"),
    [
        ("input.jsonl", "output.jsonl", "errors.jsonl", "lenient", ScriptedLLM),
        ("openai.input.jsonl", "openai.output.jsonl", "openai.errors.jsonl", "openai", strict),
        ("vllm.input.jsonl", "vllm.output.jsonl", None, "vllm", strict),
        ("parts.input.jsonl", "parts.output.jsonl", "parts.errors.jsonl", "lenient", ScriptedLLM),
        ("parts.input.jsonl", "parts.vllm.output.jsonl", None, "vllm", ScriptedLLM),
        ("tools.input.jsonl", "tools.output.jsonl", None, "lenient", ScriptedLLM),
        ("tools.input.jsonl", "tools.output.jsonl", None, "openai", ScriptedLLM),
        ("tools.input.jsonl", "vllm.tools.output.jsonl", None, "vllm", ScriptedLLM),
    ],
)
def test_files_come_out_byte_for_byte(
    golden: Path, tmp_path: Path, input: str, output: str, errors: str | None, contract: str, llm: Any
) -> None:
    report = run_batch(golden / input, tmp_path / "out.jsonl", model=llm(), contract=contract, created=CREATED)
    assert rows(tmp_path / "out.jsonl") == rows(golden / output)
    assert rows(tmp_path / "out.errors.jsonl") == (rows(golden / errors) if errors else [])
    assert report.status == "completed" and report.completed + report.failed == report.total
    again = run_batch(golden / input, tmp_path / "out.jsonl", model=llm(), contract=contract, created=CREATED)
    assert (again.skipped, again.completed) == (report.total, 0)


def test_every_problem_of_a_file_is_told(golden: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError) as raised:
        run_batch(golden / "openai.invalid.jsonl", tmp_path / "out.jsonl", model=strict(), contract="openai")
    assert raised.value.code == "validation_failed"
    assert raised.value.problems == json.loads((golden / "openai.problems.json").read_text())["data"]
    assert not (tmp_path / "out.jsonl").exists()


def test_asynchronous_runs(golden: Path, tmp_path: Path, echo: ScriptedLLM) -> None:
    seen: list[tuple[int, int]] = []

    def tell(progress: Progress) -> None:
        assert threading.current_thread() is threading.main_thread()
        seen.append((progress.done, progress.total))

    call = echo.arun_batch(golden / "input.jsonl", tmp_path / "out.jsonl", created=CREATED, on_progress=tell)
    report = asyncio.run(call)
    assert rows(tmp_path / "out.jsonl") == rows(golden / "output.jsonl")
    assert (report.total, seen[-1]) == (21, (21, 21))


def test_a_cancelled_task_cancels_its_run(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(lines(10))
    llm = ScriptedLLM(held=True)
    llm.release(4)

    async def run() -> None:
        call = asyncio.create_task(llm.arun_batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl"))
        while llm.stats.finished < 4:
            await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(run())
    assert len(rows(tmp_path / "out.jsonl")) == 4 and llm.stats.running == 0
    report = run_batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl", model=ScriptedLLM())
    assert (report.skipped, report.completed) == (4, 6)


def test_an_interrupted_run_can_be_resumed(tmp_path: Path, interrupt_when: Callable[[Callable[[], bool]], None]) -> None:
    (tmp_path / "in.jsonl").write_text(lines(10))
    llm = ScriptedLLM(held=True)
    llm.release(4)
    interrupt_when(lambda: llm.stats.finished == 4)
    # Without a bar: one that an interrupt leaves half made warns of itself.
    with pytest.raises(Interrupted, match="4 of 10 rows") as raised:
        run_batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl", model=llm, use_tqdm=False)
    report = raised.value.partial
    assert (report.status, report.completed) == ("cancelled", 4) and len(rows(tmp_path / "out.jsonl")) == 4
    report = run_batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl", model=ScriptedLLM())
    assert (report.status, report.skipped, report.completed) == ("completed", 4, 6)


def test_what_the_callback_raises_ends_the_run(tmp_path: Path, echo: ScriptedLLM) -> None:
    (tmp_path / "in.jsonl").write_text(lines(10))

    def fail(progress: Progress) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        run_batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl", model=echo, on_progress=fail)
    assert run_batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl", model=echo).status == "completed"


def test_what_progress_raises_ends_an_asynchronous_run(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(lines(10))
    llm = ScriptedLLM(held=True)

    def fail(progress: Progress) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        asyncio.run(llm.arun_batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl", on_progress=fail))
    assert llm.stats.running == 0


def test_bars_follow_the_run(tmp_path: Path, echo: ScriptedLLM) -> None:
    (tmp_path / "in.jsonl").write_text(lines(10))

    class Bar:
        n = 0
        options: dict[str, Any] = {}

        def __init__(self, **options: Any) -> None:
            Bar.options = options

        def set_postfix_str(self, text: str, refresh: bool) -> None:
            assert text.endswith("tok/s")

        def update(self, n: int) -> None:
            Bar.n += n

        def close(self) -> None: ...

    run_batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl", model=echo, use_tqdm=Bar)
    assert (Bar.n, Bar.options["total"]) == (10, 10)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"contract": "mine"}, ValueError, "contract.*lenient, openai, vllm"),
        ({"plan": "random"}, ValueError, "plan.*prefix, fifo"),
        ({"dtype": "auto"}, TypeError, "dtype"),
        ({"resume": False}, RunError, "out.jsonl"),
    ],
)
def test_wrong_options_are_named(
    tmp_path: Path, echo: ScriptedLLM, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    (tmp_path / "in.jsonl").write_text(lines(1))
    run_batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl", model=echo)
    with pytest.raises(error, match=match):
        run_batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl", model=echo, **options)


def test_reports_are_shown(tmp_path: Path, echo: ScriptedLLM) -> None:
    (tmp_path / "in.jsonl").write_text(lines(2))
    report = echo.run_batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert "2" in str(report) and "<td>completed</td>" in report._repr_html_()
    assert report.to_dict()["completed"] == 2 and "text" not in report.to_dict()


# The program


def test_the_program_answers_a_file(demo_model: Path, tmp_path: Path) -> None:
    body = {"model": "demo", "prompt": "The capital of France is", "max_tokens": 3, "temperature": 0}
    row = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": body}
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    program = [sys.executable, "-m", "vllm_batch.cli", "run-batch", "--model", str(demo_model), "-i", "in.jsonl", "-o", "out.jsonl"]
    options = ["--served-model-name", "demo", "--report", "json", "--progress", "json", "--max-model-len", "64"]
    done = subprocess.run([*program, *options], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["completed"] == 1
    assert json.loads(done.stderr.splitlines()[-1])["completed"] == 1
    answer = json.loads((tmp_path / "out.jsonl").read_text())["response"]["body"]
    assert answer["model"] == "demo" and "Paris" in answer["choices"][0]["text"]


def test_the_program_tells_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run-batch", "--model", "./no.gguf", "-i", "in.jsonl", "-o", "out.jsonl"]) == 1
    assert capsys.readouterr().err.startswith("error: cannot read")
    for arguments in ([], ["run-batch"], ["run-batch", "--model", "m", "-i", "a", "-o", "b", "--contract", "mine"]):
        with pytest.raises(SystemExit) as exit:
            cli.main(arguments)
        assert exit.value.code == 2


@pytest.mark.parametrize(
    ("status", "failed", "code"), [("completed", 0, 0), ("completed", 1, 3), ("expired", 0, 4), ("cancelled", 0, 130)]
)
def test_exit_codes(
    tmp_path: Path, echo: ScriptedLLM, monkeypatch: pytest.MonkeyPatch, status: str, failed: int, code: int
) -> None:
    (tmp_path / "in.jsonl").write_text(lines(1))
    report = echo.run_batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    report.status, report.failed = status, failed
    monkeypatch.setattr(cli, "run_batch", lambda *paths, **options: report)
    assert cli.main(["run-batch", "--model", "m", "-i", "in.jsonl", "-o", "out.jsonl"]) == code


def test_adapters_have_names(echo: ScriptedLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.jsonl").write_text(lines(1))
    report = echo.run_batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    told: list[Any] = []

    def run(*paths: str, **options: Any) -> BatchReport:
        told.append(options["lora_modules"])
        return report

    monkeypatch.setattr(cli, "run_batch", run)
    arguments = ["run-batch", "--model", "m", "-i", "in.jsonl", "-o", "out.jsonl", "--lora-modules"]
    assert cli.main([*arguments, "a=x", "b=y=z", "--lora-modules", "c=w"]) == 0
    assert told == [{"a": "x", "b": "y=z", "c": "w"}]
    with pytest.raises(SystemExit, match="2"):
        cli.main([*arguments, "a"])


def test_serve_becomes_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = tmp_path / cli.SERVER
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    called: list[Any] = []
    monkeypatch.setattr(os, "execv", lambda *arguments: called.append(arguments))
    cli.main(["serve", "--port", "8000"])
    assert called == [(str(server), [str(server), "--port", "8000"])]


def test_serve_needs_the_server(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    assert cli.main(["serve"]) == 1
    assert cli.SERVER in capsys.readouterr().err
