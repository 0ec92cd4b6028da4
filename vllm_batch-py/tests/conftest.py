"""What the tests share: a scripted model, the demo model, and the golden files of the library."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
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
def tiny_model() -> Path:
    """The folder of a model that loads in a millisecond and says nothing of sense."""
    return REPOSITORY / "vllm_batch/tests/data/arch/llama"


@pytest.fixture(scope="session")
def tiny_adapter() -> Path:
    """The folder of an adapter for the tiny model."""
    return REPOSITORY / "vllm_batch/tests/data/lora"


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


@pytest.fixture
def resident() -> Callable[[], int]:
    """Says how many bytes of memory this process has."""

    def read() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    return read


@pytest.fixture
def interrupt_when() -> Iterator[Callable[[Callable[[], bool]], None]]:
    """Sends what Ctrl-C sends once a condition holds."""
    threads: list[threading.Thread] = []
    is_over = threading.Event()

    def run(condition: Callable[[], bool]) -> None:
        while not condition():
            if is_over.wait(0.001):
                return
        os.kill(os.getpid(), signal.SIGINT)

    def start(condition: Callable[[], bool]) -> None:
        # Python loses an interrupt that comes while a finalizer runs, such as that of another test's event loop.
        gc.collect()
        threads.append(threading.Thread(target=run, args=[condition]))
        threads[-1].start()

    yield start
    # The condition never holds where the work failed first.
    is_over.set()
    for thread in threads:
        thread.join()
