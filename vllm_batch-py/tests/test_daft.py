"""The pattern of docs/python.md for Daft: a class that Daft makes once in each process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vllm_batch import SamplingParams
from vllm_batch.predictor import BatchPredictor

daft: Any = pytest.importorskip("daft", reason="Daft is not installed; .ci/wheel.txt has it")
# What Daft warns of on its way is not ours.
pytestmark = pytest.mark.filterwarnings("ignore")

PROMPT = "What does {food} taste like?"
SAMPLED = SamplingParams(temperature=1.0, max_tokens=8)
FOOD = ["soup", "bread", "tea", "rice", "soup", "word " * 300]


def test_a_class_of_daft_answers_as_one_process_does(demo_model: Path) -> None:
    answer = daft.DataType.struct({"output": daft.DataType.string(), "error": daft.DataType.string()})

    @daft.cls(max_concurrency=2, use_process=True)
    class Ask:
        def __init__(self, model: str) -> None:
            self.predict = BatchPredictor(model, PROMPT, sampling_params=SAMPLED, max_model_len=256)

        @daft.method.batch(return_dtype=answer, batch_size=2)  # type: ignore[untyped-decorator]
        def __call__(self, food: Any) -> list[dict[str, Any]]:
            rows = self.predict([{"food": text} for text in food.to_pylist()])
            return [{"output": row["output"], "error": row["error"]} for row in rows]

    frame = daft.from_pydict({"id": list(range(len(FOOD))), "food": FOOD}).into_batches(2)
    answered = frame.with_column("answer", Ask(str(demo_model))(daft.col("food"))).sort("id").to_pydict()
    alone = BatchPredictor(demo_model, PROMPT, sampling_params=SAMPLED, max_model_len=256)({"food": FOOD})
    assert [row["output"] for row in answered["answer"]] == alone["output"]
    assert [row["error"] for row in answered["answer"]] == alone["error"]
    assert alone["error"][:5] == [None] * 5 and alone["error"][5].startswith("context_length_exceeded")
