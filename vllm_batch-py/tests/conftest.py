"""What the tests share: a scripted model, the demo model, and the golden files of the library."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vllm_batch import LLM
from vllm_batch.testing import ScriptedLLM

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of batch files and their rows."""
    return REPOSITORY / "vllm_batch/tests/data/batch"


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The demo model's file, where the examples keep it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = cache / "vllm_batch/SmolLM2-135M-Instruct.Q4_1.gguf"
    assert path.is_file(), f"{path} is missing: `cargo run --release --example run_batch` fetches it"
    return path


@pytest.fixture(scope="session")
def demo(demo_model: Path) -> Iterator[LLM]:
    """The demo model, loaded once."""
    with LLM(demo_model, max_num_seqs=16, max_model_len=512) as llm:
        yield llm


@pytest.fixture
def echo() -> Iterator[ScriptedLLM]:
    """A model that answers with the prompt."""
    with ScriptedLLM() as llm:
        yield llm
