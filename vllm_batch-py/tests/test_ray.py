"""``BatchPredictor`` in a pool of real actors: the answers of one process, each row once, also when an actor dies."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from vllm_batch import SamplingParams
from vllm_batch.ray import BatchPredictor

ray: Any = pytest.importorskip("ray", reason="Ray is not installed; .ci/wheel.txt has it")
pytest.importorskip("ray.data", reason="Ray Data is not installed; .ci/wheel.txt has it")

# What Ray warns of on its way is not ours.
pytestmark = pytest.mark.filterwarnings("ignore")

ROWS = [
    {"id": number, "food": food, "stars": stars}
    for number, (food, stars) in enumerate((food, stars) for food in ("soup", "bread", "tea", "rice") for stars in range(6))
]
SAMPLED = SamplingParams(temperature=1.0, max_tokens=16)
LABEL = {
    "type": "object",
    "properties": {"label": {"enum": ["good", "bad"]}, "sure": {"type": "boolean"}},
    "required": ["label", "sure"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Ray on this machine, with as many processors as there are actors."""
    memory = 100 << 20
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=memory)
        # The classes of this file: actors cannot import it.
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield
        ray.shutdown()


def ask(predictor: type, table: pyarrow.Table, batch_format: str | None = "pyarrow", **arguments: Any) -> list[dict[str, Any]]:
    """The rows that come out of two actors, in the order of their ids."""
    answered = (
        ray.data.from_arrow(table)
        .repartition(6)
        .map_batches(
            predictor,
            fn_constructor_kwargs=arguments,
            compute=ray.data.ActorPoolStrategy(size=2),
            num_cpus=0.5,
            batch_size=2,
            batch_format=batch_format,
        )
    )
    return sorted(answered.take_all(), key=lambda row: int(row["id"]))


def question(model: Path, **rest: Any) -> dict[str, Any]:
    prompt = "Is food with {stars} of 5 stars good or bad? It was {food}."
    return {"model": str(model), "prompt": prompt, "sampling_params": SAMPLED, "max_model_len": 256, **rest}


@pytest.mark.parametrize("rest", [{}, {"schema": LABEL}, {"seed_from": "{id}"}], ids=["text", "schema", "ids"])
def test_two_actors_answer_as_one_process_does(demo_model: Path, rest: dict[str, Any]) -> None:
    table = pyarrow.Table.from_pylist(ROWS)
    alone = BatchPredictor(**question(demo_model, **rest))(table).to_pylist()
    assert ask(BatchPredictor, table, **question(demo_model, **rest)) == alone
    assert [row["error"] for row in alone] == [None] * len(ROWS)


class Dying(BatchPredictor):
    """Kills its process in its second batch, once."""

    def __init__(self, marker: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._marker, self._batches = Path(marker), 0

    def __call__(self, batch: Any) -> Any:
        self._batches += 1
        answered = super().__call__(batch)
        if self._batches == 2 and not self._marker.exists():
            self._marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return answered


def test_an_actor_that_is_killed_loses_no_row(demo_model: Path, tmp_path: Path) -> None:
    table, marker = pyarrow.Table.from_pylist(ROWS), tmp_path / "killed"
    alone = BatchPredictor(**question(demo_model))(table).to_pylist()
    assert ask(Dying, table, marker=str(marker), **question(demo_model)) == alone
    assert marker.exists()


@pytest.mark.parametrize("batch_format", ["pyarrow", "pandas", "default"])
def test_a_row_that_fails_fails_alone(demo_model: Path, batch_format: str) -> None:
    rows = [{"id": number, "word": word} for number, word in enumerate(["tree", "word " * 200, "house"])]
    arguments = {**question(demo_model), "prompt": "Spell {word}", "max_model_len": 64}
    answered = ask(BatchPredictor, pyarrow.Table.from_pylist(rows), batch_format, **arguments)
    assert [(row["id"], row["word"]) for row in answered] == [(row["id"], row["word"]) for row in rows]
    assert [row["output"] is None for row in answered] == [False, True, False]
    assert [row["error"] and row["error"].split(":")[0] for row in answered] == [None, "context_length_exceeded", None]


class Threads(BatchPredictor):
    """Says how many threads it has."""

    def __call__(self, batch: Any) -> Any:
        return super().__call__(batch).append_column("threads", pyarrow.array([os.environ["OMP_NUM_THREADS"]] * len(batch)))


def test_an_actor_has_the_processors_that_ray_gives_it(demo_model: Path) -> None:
    table = pyarrow.Table.from_pylist(ROWS[:2])
    pool = ray.data.ActorPoolStrategy(size=1)
    for num_cpus in (1, 2):
        answered = ray.data.from_arrow(table).map_batches(
            Threads, fn_constructor_kwargs=question(demo_model), compute=pool, num_cpus=num_cpus, batch_format="pyarrow"
        )
        assert {row["threads"] for row in answered.take_all()} == {str(num_cpus)}
