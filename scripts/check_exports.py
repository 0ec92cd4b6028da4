#!/usr/bin/env python3
"""Loads training data with the libraries that read it: datasets, TRL, Argilla.

    cargo run --release --example training_data -- FOLDER
    python3 scripts/check_exports.py FOLDER [--require datasets,trl,argilla] [--partial]

What is not installed is left out with a note, unless it is required. With --partial, formats may be missing in the folder.
"""

import argparse
import importlib.util
import json
import pathlib
import sys
import tempfile
import unittest.mock

TABLES = {
    "trl_prompt_completion": {"prompt", "completion"},
    "trl_messages": {"messages"},
    "trl_preference": {"prompt", "chosen", "rejected"},
    "trl_kto": {"prompt", "completion", "label"},
    "alpaca": {"instruction", "input", "output"},
    "alpaca_preference": {"instruction", "input", "chosen", "rejected"},
    "sharegpt": {"conversations", "system"},
    "sharegpt_preference": {"conversations", "system", "chosen", "rejected"},
    "axolotl": {"messages"},
    "distilabel": {"prompt", "prompt_id", "messages"},
    "icl_messages": {"messages"},
}
SOURCE = {"id", "record_id", "split", "schema", "schema_sha256", "model", "prompt_sha256", "annotators",
          "num_annotators", "agreement", "gold", "strength", "truncated"}


PARTIAL = False


def schemas(folder, name):
    if PARTIAL and not (folder / name).is_dir():
        return []
    found = sorted(path for path in (folder / name).iterdir() if path.is_dir())
    assert found, f"nothing in {folder / name}"
    return found


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def check_datasets(folder):
    """Each table loads by its card, with all splits, and keeps its columns and rows."""
    import datasets

    datasets.disable_progress_bars()
    count = 0
    for name, columns in TABLES.items():
        for path in schemas(folder, name):
            # A cache of its own: datasets takes folders of the same name for one.
            with tempfile.TemporaryDirectory() as cache:
                loaded = datasets.load_dataset(str(path), cache_dir=cache, keep_in_memory=True)
            for split, table in loaded.items():
                rows = lines(path / "data" / f"{split}.jsonl")
                assert set(table.column_names) == columns | SOURCE, (path, table.column_names)
                assert table.num_rows == len(rows), path
                assert [row["id"] for row in rows] == table["id"][:], path
                for key in sorted(columns):
                    assert table[0][key] == rows[0][key], (path, key)
                count += 1
            # The splits of a dataset must have the same features.
            assert len({str(table.features) for table in loaded.values()}) == 1, path
    for kind in schemas(folder, "parquet"):
        for path in sorted(kind.iterdir()):
            with tempfile.TemporaryDirectory() as cache:
                loaded = datasets.load_dataset(str(path), cache_dir=cache, keep_in_memory=True)
            for split, table in loaded.items():
                # The same rows as in the other files, down to the types.
                rows = lines(folder / kind.name / path.name / "data" / f"{split}.jsonl")
                assert table.to_list() == rows, (path, split)
                count += 1
    for name in ("openai_chat", "openai_dpo", "argilla", "icl_json"):
        for path in schemas(folder, name):
            for file in sorted((path / "data").glob("*.jsonl")):
                assert lines(file), file
    return f"{count} tables"


def check_trl(folder):
    """TRL tells what each row is, and takes its prompt apart from its answer."""
    from trl.data_utils import is_conversational, maybe_extract_prompt, maybe_unpair_preference_dataset

    from datasets import Dataset

    count = 0
    for name in ("trl_prompt_completion", "trl_messages", "trl_preference", "trl_kto"):
        for path in schemas(folder, name):
            rows = lines(path / "data" / "train.jsonl")
            for row in rows:
                assert is_conversational(row), path
                data = {key: row[key] for key in TABLES[name]}
                assert maybe_extract_prompt(dict(data)) == data, path
                templated(data)
                count += 1
            if name == "trl_preference":
                pairs = Dataset.from_list([{key: row[key] for key in TABLES[name]} for row in rows])
                assert maybe_unpair_preference_dataset(pairs).num_rows == 2 * len(rows)
    return f"{count} rows"


def templated(data):
    """The row through a chat template, as TRL's trainers have it."""
    from trl.data_utils import apply_chat_template

    class Tokenizer:
        chat_template = "x"

        def apply_chat_template(self, messages, **kwargs):
            text = "".join(f"<{one['role']}>{one['content']}" for one in messages)
            return text + ("<assistant>" if kwargs.get("add_generation_prompt") else "")

    result = apply_chat_template(data, Tokenizer())
    for key in ("completion", "chosen", "rejected"):
        if key in data:
            assert result[key] == data[key][0]["content"], (key, result[key])


def check_argilla(folder):
    """Argilla's own models take settings and records, and its settings take each answer."""
    import argilla

    # Without a server: what is checked is what the client itself checks.
    argilla.Argilla._default_client = unittest.mock.MagicMock()
    count = 0
    for path in schemas(folder, "argilla"):
        settings = json.loads((path / "settings.json").read_text(encoding="utf-8"))
        fields = [argilla.TextField(name=one["name"], title=one["title"], required=one["required"]) for one in settings["fields"]]
        questions = {one["name"]: question(argilla, one) for one in settings["questions"]}
        argilla.Settings(guidelines=settings["guidelines"], fields=fields, questions=list(questions.values())).validate()
        allowed = {name: options(one) for name, one in ((one["name"], one) for one in settings["questions"])}
        for file in sorted((path / "data").glob("*.jsonl")):
            for row in lines(file):
                for answer in row["suggestions"] + row["responses"]:
                    values = answer["value"] if isinstance(answer["value"], list) else [answer["value"]]
                    names = allowed[answer["question_name"]]
                    assert names is None or all(value in names for value in values), (path, answer)
                    argilla.Suggestion(answer["question_name"], answer["value"])
                record = argilla.Record(
                    id=row["id"], fields=row["fields"], metadata=row["metadata"],
                    suggestions=[argilla.Suggestion(one["question_name"], one["value"], score=one["score"], agent=one["agent"],
                                                    type=one["type"]) for one in row["suggestions"]],
                    responses=[argilla.Response(one["question_name"], one["value"], one["user_id"], status=one["status"])
                               for one in row["responses"]],
                )
                assert record.id == row["id"]
                count += 1
    return f"{count} records"


def options(question):
    found = question["settings"].get("options")
    return None if found is None else [one["value"] for one in found]


def question(argilla, one):
    settings = one["settings"]
    common = {"name": one["name"], "title": one["title"], "description": one["description"], "required": one["required"]}
    labels = {option["value"]: option.get("text", str(option["value"])) for option in settings.get("options", [])}
    kinds = {
        "label_selection": lambda: argilla.LabelQuestion(labels=labels, **common),
        "multi_label_selection": lambda: argilla.MultiLabelQuestion(labels=labels, **common),
        "rating": lambda: argilla.RatingQuestion(values=list(labels), **common),
        "span": lambda: argilla.SpanQuestion(field=settings["field"], labels=labels, **common),
        "text": lambda: argilla.TextQuestion(**common),
    }
    return kinds[settings["type"]]()


CHECKS = {"datasets": check_datasets, "trl": check_trl, "argilla": check_argilla}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--require", default="", help="libraries that must be there, separated by commas")
    parser.add_argument("--partial", action="store_true", help="not all formats need be there")
    args = parser.parse_args()
    global PARTIAL
    PARTIAL = args.partial
    required = [name for name in args.require.split(",") if name]
    for name, check in CHECKS.items():
        if importlib.util.find_spec(name) is None:
            if name in required:
                sys.exit(f"{name} is not installed")
            print(f"{name}: not installed, not checked")
            continue
        print(f"{name}: {check(args.folder)}")


if __name__ == "__main__":
    main()
