"""How outputs and reports look in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .outputs import BatchReport

MAX_ROWS = 20
"""Rows of outputs that are shown."""
MAX_CHARACTERS = 400
"""Characters of a text that are shown."""


def outputs_table(outputs: Sequence[Any]) -> str:
    """A table of outputs: prompt, answer, and how it ended."""
    rows = [_cells(output) for output in outputs[:MAX_ROWS]]
    more = f"<p>and {len(outputs) - MAX_ROWS} more</p>" if len(outputs) > MAX_ROWS else ""
    return _table(["", "prompt", "output", "ended", "tokens"], rows) + more


def report_table(report: BatchReport) -> str:
    """A table of what a batch run came to."""
    rows = [[escape(name), escape(_number(value))] for name, value in report.to_dict().items()]
    return _table(["batch run", ""], rows)


def _cells(output: Any) -> list[str]:
    tokens = f"{output.usage.prompt_tokens} + {output.usage.completion_tokens}"
    head = [escape(output.request_id), _text(output.prompt or "")]
    if output.error is not None:
        return [*head, f"<b>{_text(str(output.error))}</b>", escape(output.error.code), ""]
    answers = output.outputs if isinstance(output.outputs, list) else [output.outputs]
    reasons = [getattr(answer, "finish_reason", "") for answer in answers]
    return [*head, "<hr>".join(_answer(answer) for answer in answers), escape(", ".join(reasons)), tokens]


def _answer(answer: Any) -> str:
    return _text(answer.text if hasattr(answer, "text") else repr(answer))


def _text(text: str) -> str:
    shown = text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + "…"
    return f'<div style="white-space: pre-wrap; text-align: left">{escape(shown)}</div>'


def _number(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
