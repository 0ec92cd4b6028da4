"""``map_in_pandas`` in real processes of Spark, where it is installed, which needs Java."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest

from vllm_batch import SamplingParams
from vllm_batch.predictor import BatchPredictor
from vllm_batch.spark import map_in_pandas

sql: Any = pytest.importorskip("pyspark.sql", reason="Spark is not installed: pip install pyspark==4.3.0")
pytestmark = [
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java"),
    # What Spark warns of on its way is not ours.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    """Spark on this machine, with two processes of Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        builder = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
        with builder.getOrCreate() as session:
            yield session


def test_two_processes_answer_as_one_does(session: Any, demo_model: Path) -> None:
    reviews = pandas.DataFrame({"id": range(12), "food": ["soup", "bread", "tea", "rice"] * 3})
    question: dict[str, Any] = {
        "prompt": "What does {food} taste like?",
        "sampling_params": SamplingParams(temperature=1.0, max_tokens=8),
        "seed_from": "{id}",
    }
    alone = BatchPredictor(demo_model, max_model_len=256, **question)(reviews)
    ask = map_in_pandas(demo_model, engine_options={"max_model_len": 256}, **question)
    columns = "id long, food string, output string, error string"
    answered = session.createDataFrame(reviews).repartition(4).mapInPandas(ask, columns).orderBy("id").collect()
    assert [row.asDict() for row in answered] == alone.to_dict("records")
