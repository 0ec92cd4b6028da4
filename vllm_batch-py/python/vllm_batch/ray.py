"""Ray Data: a pool of actors, each with the model in its process.

    import ray
    from vllm_batch.ray import BatchPredictor

    answered = ray.data.read_parquet("reviews/").map_batches(
        BatchPredictor,
        fn_constructor_kwargs={"model": "HuggingFaceTB/SmolLM2-135M-Instruct", "prompt": "Is this positive? {review}"},
        compute=ray.data.ActorPoolStrategy(size=2),
        num_cpus=4,
        batch_format="pyarrow",
    )

docs/python.md says what happens when an actor dies. Nothing of Ray is imported here.
"""

from .predictor import BatchPredictor

__all__ = ["BatchPredictor"]
