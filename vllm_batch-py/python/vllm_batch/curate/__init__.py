"""Curation: a schema says what is asked of records; models suggest answers, people review them, and both become training data.

    from vllm_batch import LLM
    from vllm_batch.curate import SchemaRegistry, curate, export

    schema = SchemaRegistry.builtin().get("email_evaluation")
    suggested = curate(LLM("model.gguf"), schema, records)
    export(schema, reviewed, "trl_messages", "training")

Records are dicts, as :class:`Record` says. docs/python.md shows the way from records to training data.
"""

from .datasets import DatasetProblem, DatasetReport, Exported, aexport, avalidate_dataset, export, export_formats, validate_dataset
from .label_studio import ImportReport, LabelStudio, Project
from .pipeline import Curated, CurationReport, acurate, curate
from .records import Agent, Harvest, Record, Response, Suggestion, SuggestionSet, answers_of, rows
from .registry import MigrationReport, SchemaDiff, SchemaFile, SchemaRegistry
from .review import AgreementReport, GoldDecision, GoldSet, Selected, agreement, decide_gold, mark_gold, select_for_review
from .schema import Answers, RecordRequest, RequestOptions, TaskSchema

__all__ = [
    "Agent",
    "AgreementReport",
    "Answers",
    "Curated",
    "CurationReport",
    "DatasetProblem",
    "DatasetReport",
    "Exported",
    "GoldDecision",
    "GoldSet",
    "Harvest",
    "ImportReport",
    "LabelStudio",
    "MigrationReport",
    "Project",
    "Record",
    "RecordRequest",
    "RequestOptions",
    "Response",
    "SchemaDiff",
    "SchemaFile",
    "SchemaRegistry",
    "Selected",
    "Suggestion",
    "SuggestionSet",
    "TaskSchema",
    "acurate",
    "aexport",
    "agreement",
    "answers_of",
    "avalidate_dataset",
    "curate",
    "decide_gold",
    "export",
    "export_formats",
    "mark_gold",
    "rows",
    "select_for_review",
    "validate_dataset",
]
