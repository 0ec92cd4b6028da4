"""``vllm-batch curate``: records to suggestions, to review and back, to training data, all in one folder.

Everything goes on where it was when the program runs again: what is answered is not asked again, and what is on the review server
is not brought there again.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..base import BaseLLM
from ..errors import CurationError, SchemaError
from ..outputs import Progress
from ..params import to_json
from .datasets import Exported, export, export_formats
from .label_studio import ImportReport, LabelStudio
from .pipeline import Curated, curate
from .records import Harvest, Record
from .registry import SchemaRegistry
from .schema import RequestOptions, TaskSchema

__all__ = ["Report", "add_options", "run"]

TOKEN = "LABEL_STUDIO_API_KEY"
"""The variable of the environment that Label Studio's own programs read."""


@dataclass(slots=True)
class Report:
    """What a run came to."""

    suggestions: str
    """The report of the models' part."""
    rejected: int
    """Records that go no further."""
    project: str | None
    """Where people review."""
    imported: ImportReport | None
    reviewed: int
    """Records that somebody has worked on."""
    training: Exported | None
    left_out: list[dict[str, str]] = field(default_factory=list)
    """Without a server, records that are not among the tasks: ``id`` and ``message``."""

    def to_dict(self) -> dict[str, Any]:
        """The report as one JSON object."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [self.suggestions]
        if self.imported is not None:
            new, present, left_out = self.imported.imported, self.imported.present, len(self.imported.rejected)
            lines.append(f"{self.project}: {new} new, {present} there before, {left_out} left out")
        if self.left_out:
            lines.append(f"{len(self.left_out)} records are no tasks, the first one since: {self.left_out[0]['message']}")
        if self.training is not None:
            lines.append(f"{self.training.num_rows} rows of {self.reviewed} reviewed records")
        return "\n".join(lines)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command, but for those of the model and of what is told."""
    _add_record_options(parser)
    _add_answer_options(parser)
    _add_review_options(parser)
    _add_training_options(parser)


def _add_record_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("files").add_argument
    add("-i", "--input", required=True, metavar="FILE", help="records, one JSON object a line: id, fields, perhaps metadata")
    add("-o", "--output", required=True, metavar="FOLDER", help="where everything goes; it belongs to this run alone")
    add("--schema", required=True, metavar="NAME|FILE", help="what is asked: a schema of the library, or a file")


def _add_answer_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("answers").add_argument
    add("--n", type=int, default=1, metavar="N", help="answers to each record; several make scores by vote [default: %(default)s]")
    add("--temperature", type=float, help="[default: 0 for one answer, 1 for several]")
    add("--max-tokens", type=int, metavar="TOKENS", help="the most tokens of an answer [default: as many as it can take]")
    add("--whole-answers", action="store_true", help="hold texts and lists to lengths that fit --max-tokens")
    add("--batch-id", metavar="NAME", help="a name for the run, kept with each answer")


def _add_review_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("review").add_argument
    add("--label-studio", metavar="URL", help="the server where people review [default: page.xml and tasks.json for a project by hand]")
    add("--label-studio-token", metavar="TOKEN", help=f"its token [default: ${TOKEN}]")
    add("--annotations-per-task", type=int, default=1, metavar="N", help="people who answer each record [default: %(default)s]")
    add("--hide-suggestions", action="store_true", help="people do not see what the model said")


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("training data").add_argument
    add("--format", choices=export_formats(), default="openai_chat", help="[default: %(default)s]")
    add(
        "--answers",
        choices=["gold", "single_response"],
        default="gold",
        help="which are the right ones: those of gold records, or those of the one person who answered [default: %(default)s]",
    )
    add("--validation", type=float, default=0.0, metavar="SHARE", help="rows for validation [default: %(default)s]")
    add("--test", type=float, default=0.0, metavar="SHARE", help="rows for tests [default: %(default)s]")
    add("--salt", default="", help="another salt splits otherwise")


def run(
    llm: BaseLLM, options: argparse.Namespace, use_tqdm: bool, on_progress: Callable[[Progress], object] | None
) -> Report:
    """Does what the options say.

    Raises:
        VllmBatchError: a schema, a record, a file or the server cannot be used.
        Interrupted: Ctrl-C.
    """
    # What is wrong with the options is told before the model has worked.
    folder, schema, server = Path(options.output), _schema(options.schema), _server(options)
    asked = RequestOptions(
        n=options.n,
        temperature=options.temperature,
        max_tokens=options.max_tokens,
        whole_answers=options.whole_answers,
    )
    curated = curate(
        llm,
        schema,
        options.input,
        folder=folder,
        options=asked,
        batch_id=options.batch_id,
        use_tqdm=use_tqdm,
        on_progress=on_progress,
    )
    report = Report(str(curated.report), curated.report.rejected, None, None, 0, None)
    harvested = _by_hand(curated, folder, report) if server is None else _on_server(server, curated, options, report)
    reviewed = [one.record for one in harvested]
    report.reviewed = len(reviewed)
    if reviewed:
        _write_lines(folder / "reviewed.jsonl", reviewed)
        report.training = _train(schema, reviewed, folder / "training", options)
    return report


def _schema(named: str) -> TaskSchema:
    known = SchemaRegistry.builtin().get(named)
    if known is None and not os.path.exists(named):
        raise SchemaError(f"{named} is neither a schema of the library nor a file", "unknown_schema")
    return TaskSchema.from_file(named) if known is None else known


def _server(options: argparse.Namespace) -> LabelStudio | None:
    token = options.label_studio_token or os.environ.get(TOKEN, "")
    return LabelStudio(options.label_studio, token) if options.label_studio else None


def _on_server(
    server: LabelStudio, curated: Curated, options: argparse.Namespace, report: Report
) -> Sequence[Harvest]:
    """Brings the suggestions to the server, and what people said back."""
    project = server.ensure_project(
        curated.schema,
        SchemaRegistry.builtin(),
        annotations_per_task=options.annotations_per_task,
        show_predictions=not options.hide_suggestions,
    )
    report.project = f"{server.url}/projects/{project.id}"
    cursor = Path(options.output) / f"import-{project.id}.jsonl"
    report.imported = server.import_records(project.id, curated.schema, curated.records, cursor=cursor)
    return server.harvest(project.id, curated.schema, originals=curated.records)


def _by_hand(curated: Curated, folder: Path, report: Report) -> Sequence[Harvest]:
    """Writes what a project is set up from by hand, and reads its JSON export, if it is there."""
    (folder / "page.xml").write_text(curated.schema.label_studio_config(), encoding="utf-8")
    (folder / "tasks.json").write_text(to_json(list(_tasks(curated, report))), encoding="utf-8")
    path = folder / "export.json"
    exported = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return curated.schema.harvest_all(exported, originals=curated.records)


def _tasks(curated: Curated, report: Report) -> Iterator[dict[str, Any]]:
    """A task for each record that can be shown."""
    for record in curated.records:
        try:
            yield curated.schema.label_studio_task(record)
        except CurationError as error:
            report.left_out.append({"id": record["id"], "message": str(error)})


def _train(schema: TaskSchema, reviewed: Sequence[Record], folder: Path, options: argparse.Namespace) -> Exported:
    splits = (options.validation, options.test)
    return export(
        schema, reviewed, options.format, folder, answers=options.answers, splits=splits, salt=options.salt
    )


def _write_lines(path: Path, records: Sequence[Record]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(to_json(record) + "\n" for record in records)
