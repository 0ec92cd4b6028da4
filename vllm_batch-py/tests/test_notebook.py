"""The notebook among the examples runs from its first cell to its last, and shows what it is stored with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]

nbclient: Any = pytest.importorskip("nbclient", reason="nbclient is not installed; .ci/wheel.txt has it")
nbformat: Any = pytest.importorskip("nbformat", reason="nbformat is not installed; .ci/wheel.txt has it")
for library in ("ipykernel", "matplotlib", "pydantic"):
    pytest.importorskip(library, reason=f"{library} is not installed; .ci/wheel.txt has it")
pytest.importorskip("vllm_batch.curate", reason="the wheel has no curation")

# What Jupyter warns of on its way is not ours.
pytestmark = pytest.mark.filterwarnings("ignore")


def kinds(book: Any) -> list[list[str]]:
    """What each cell shows: numbers may differ between machines, what they are shown as may not."""
    return [[output.output_type for output in cell.get("outputs", ())] for cell in book.cells]


@pytest.mark.usefixtures("demo_model")
def test_the_notebook_runs() -> None:
    book = nbformat.read(REPOSITORY / "examples/batch_and_curate.ipynb", as_version=4)
    stored = kinds(book)
    nbclient.NotebookClient(book, timeout=600, kernel_name="python3").execute()
    assert kinds(book) == stored and ["display_data"] in stored
