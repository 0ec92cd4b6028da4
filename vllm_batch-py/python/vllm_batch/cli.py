"""The program ``vllm-batch``: ``run-batch`` with the options of the Rust example of that name, ``curate``, and ``serve``.

Exit codes: 0 all rows were answered, 1 the run failed, 2 wrong options, 3 the run is complete but some rows or records failed,
4 the deadline came first, 130 cancelled with Ctrl-C. What was done is kept in every case.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from . import __version__
from .batch import run_batch
from .curate import command
from .errors import Interrupted, VllmBatchError
from .llm import LLM
from .outputs import BatchReport, Progress

__all__ = ["main"]

SERVER = "vllm_batch-http"
"""The program of the HTTP server, which is installed apart from this package."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program, and returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["serve"]:
        # All that follows is the server's own.
        return _serve(arguments[1:])
    options = _parser().parse_args(arguments)
    code: int = options.run(options)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("vllm-batch", description="Large batches of prompts on a model in this process.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    text = "answer a file of OpenAI batch requests"
    batch = commands.add_parser("run-batch", help=text, description=text[0].upper() + text[1:] + ".")
    _add_file_options(batch)
    _add_engine_options(batch)
    batch.set_defaults(run=_run_batch)
    text = "ask a model about records, have the answers reviewed, and write training data"
    curate = commands.add_parser("curate", help=text, description=text[0].upper() + text[1:] + ".")
    command.add_options(curate)
    _add_report_options(curate)
    _add_engine_options(curate)
    curate.set_defaults(run=_curate)
    commands.add_parser("serve", help=f"serve OpenAI's Batch API over HTTP, with the options of the program {SERVER}")
    return parser


def _add_file_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("files and rows").add_argument
    add("-i", "--input", "--input-file", required=True, metavar="FILE", help="requests, one JSON object a line")
    add("-o", "--output", "--output-file", required=True, metavar="FILE", help="answers, one JSON object a line, as they come")
    add("--errors", metavar="FILE", help="rows that failed [default: the output's name with .errors.jsonl]")
    add(
        "--contract",
        choices=["lenient", "openai", "vllm"],
        default="lenient",
        help="which rules the input follows: every line fails alone, OpenAI's (one bad line refuses the file), or those of "
        "`vllm run-batch` (one output file, errors in it) [default: %(default)s]",
    )
    add("--deadline", type=float, metavar="SECONDS", help="stop after so many seconds [default: never]")
    add(
        "--resume",
        type=_boolean,
        nargs="?",
        const=True,
        default=True,
        metavar="true|false",
        help="go on where an earlier run stopped; with =false an existing output is refused [default: true]",
    )
    add(
        "--plan",
        choices=["prefix", "fifo"],
        default="prefix",
        help="in which order rows run: those whose prompts begin alike together, or as in the file [default: %(default)s]",
    )
    add("--no-deduplicate", action="store_true", help="compute rows that ask for the same anew")
    add("--progress-interval", type=int, default=200, metavar="MILLISECONDS", help="the least time between two reports of progress")
    _add_report_options(parser)


def _add_report_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what is told").add_argument
    add("--progress", choices=["bar", "json", "none"], help="a bar, JSON lines on standard error, or nothing [default: a bar on a terminal]")
    add("--report", choices=["text", "json"], default="text", help="what the run came to [default: %(default)s]")


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("model").add_argument
    add("--model", required=True, help="a model's folder, a .gguf file, or a hub id such as owner/name")
    add("--served-model-name", action="append", default=[], metavar="NAME", help="a name that requests may use for the model")
    add(
        "--dtype",
        choices=["auto", "float32", "float16", "bfloat16", "q8_0", "q4_0"],
        default="auto",
        help="how weights are kept in memory [default: %(default)s]",
    )
    add("--max-model-len", type=int, metavar="TOKENS", help="context length [default: the model's, or what fits the KV cache]")
    add("--max-num-seqs", type=int, metavar="N", help="the most requests that run at the same time [default: 64]")
    add("--max-num-batched-tokens", type=int, metavar="TOKENS", help="the most tokens that one step computes [default: 512]")
    add("--auto-tune", action="store_true", help="choose the two options above by measuring the machine")
    add("--kv-cache-memory", type=int, default=512, metavar="MIB", help="memory for keys and values [default: %(default)s]")
    add(
        "--kv-cache-dtype",
        choices=["auto", "float32", "float16"],
        default="auto",
        help="how keys and values are kept in memory [default: %(default)s]",
    )
    add("--no-enable-prefix-caching", action="store_true", help="compute every prompt anew")
    add("--num-speculative-tokens", type=int, metavar="N", help="the most tokens that are guessed ahead; 0 for none [default: 7]")
    add("--prompt-lookup-max", type=int, metavar="N", help="the most tokens that are looked up for a guess")
    add("--prompt-lookup-min", type=int, metavar="N", help="the fewest tokens that must match")
    add("--pooling-type", choices=["LAST", "MEAN", "CLS"], help="which hidden states embeddings are made of")
    add("--tool-call-parser", metavar="NAME", help="how the model writes calls of functions")
    add("--reasoning-parser", metavar="NAME", help="how the model marks what it says to itself")
    add(
        "--lora-modules",
        type=_named_folder,
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME=FOLDER",
        help="adapters in PEFT's format, and the names by which requests ask for them",
    )
    add("--threads", type=int, metavar="N", help="threads that compute [default: one for each processor]")
    add("--seed", type=int, default=0, help="for requests without a seed of their own [default: %(default)s]")
    add(
        "--chat-template-date",
        type=_day,
        metavar="YYYY-MM-DD",
        help="the day that all prompts of the file say if their template asks for it [default: that of the run]",
    )


def _run_batch(options: argparse.Namespace) -> int:
    show = _show(options)
    try:
        report = run_batch(
            options.input,
            options.output,
            model=options.model,
            errors_file=options.errors,
            contract=options.contract,
            resume=options.resume,
            deadline=options.deadline,
            plan=options.plan,
            deduplicate=not options.no_deduplicate,
            use_tqdm=show == "bar",
            on_progress=_print_progress if show == "json" else None,
            progress_interval=options.progress_interval / 1000,
            **_engine(options),
        )
    except Interrupted as interrupt:
        report = interrupt.partial
    except (VllmBatchError, TypeError, OverflowError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report.to_dict()) if options.report == "json" else report)
    return _exit_code(report)


def _curate(options: argparse.Namespace) -> int:
    show = _show(options)
    try:
        with LLM(options.model, **_engine(options)) as llm:
            report = command.run(llm, options, show == "bar", _print_progress if show == "json" else None)
    except Interrupted as interrupt:
        print(interrupt, file=sys.stderr)
        return 130
    except (VllmBatchError, OSError, ValueError, TypeError, OverflowError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report.to_dict()) if options.report == "json" else report)
    return 3 if report.rejected else 0


def _show(options: argparse.Namespace) -> str:
    show: str = options.progress or ("bar" if sys.stderr.isatty() else "none")
    return show


def _engine(options: argparse.Namespace) -> dict[str, Any]:
    guesses = {
        "num_speculative_tokens": options.num_speculative_tokens,
        "prompt_lookup_max": options.prompt_lookup_max,
        "prompt_lookup_min": options.prompt_lookup_min,
    }
    return {
        "dtype": options.dtype,
        "max_model_len": options.max_model_len,
        "max_num_seqs": options.max_num_seqs,
        "max_num_batched_tokens": options.max_num_batched_tokens,
        "auto_tune": options.auto_tune,
        "kv_cache_memory_bytes": options.kv_cache_memory << 20,
        "kv_cache_dtype": options.kv_cache_dtype,
        "enable_prefix_caching": not options.no_enable_prefix_caching,
        "speculative_config": None if options.num_speculative_tokens == 0 else guesses,
        "pooling_type": options.pooling_type,
        "tool_call_parser": options.tool_call_parser,
        "reasoning_parser": options.reasoning_parser,
        "threads": options.threads,
        "seed": options.seed,
        "chat_template_time": options.chat_template_date,
        "served_model_name": options.served_model_name,
        "lora_modules": dict(options.lora_modules),
    }


def _exit_code(report: BatchReport) -> int:
    failed = report.failed + report.skipped_failed
    return {"cancelled": 130, "expired": 4}.get(report.status, 3 if failed else 0)


def _print_progress(progress: Progress) -> None:
    print(json.dumps(asdict(progress)), file=sys.stderr, flush=True)


def _serve(arguments: Sequence[str]) -> int:
    program = shutil.which(SERVER)
    if program is None:
        print(f"error: the server is a program of its own, and {SERVER} is not on the PATH", file=sys.stderr)
        return 1
    os.execv(program, [program, *arguments])


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, found {text}")
    return text == "true"


def _named_folder(text: str) -> tuple[str, str]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"expected NAME=FOLDER, found {text}")
    return name, folder


def _day(text: str) -> datetime.datetime:
    day = datetime.date.fromisoformat(text)
    return datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.timezone.utc)


if __name__ == "__main__":
    sys.exit(main())
