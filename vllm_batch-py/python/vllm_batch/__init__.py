"""Large batches of prompts on a model in this process, with the names of vLLM.

    from vllm_batch import LLM, SamplingParams

    llm = LLM("HuggingFaceTB/SmolLM2-135M-Instruct")
    for output in llm.generate(["The sky is", "Grass is"], SamplingParams(temperature=0, max_tokens=16)):
        print(output.outputs[0].text)

Schemas, suggestions, review and training data are in ``vllm_batch.curate``. What differs from vLLM is in docs/python.md.
"""

from ._native import Tokenizer, __version__
from .batch import run_batch
from .errors import (
    CurationError,
    EngineError,
    FailedRequestsWarning,
    Interrupted,
    LabelStudioError,
    LoadError,
    RequestError,
    RunError,
    SchemaError,
    VllmBatchError,
)
from .base import BaseLLM
from .llm import LLM, RemoteLLM
from .outputs import (
    BatchReport,
    CompletionOutput,
    EmbeddingOutput,
    EmbeddingRequestOutput,
    LabelScore,
    Logprob,
    OutputList,
    Progress,
    RequestOutput,
    ScoringOutput,
    ScoringRequestOutput,
    Usage,
)
from .params import PoolingParams, RepetitionDetectionParams, SamplingParams, StructuredOutputsParams
from .rows import ChatOptions, Conversation, Prompt
from .work import Completed

__all__ = [
    "LLM",
    "BaseLLM",
    "BatchReport",
    "ChatOptions",
    "Completed",
    "CompletionOutput",
    "Conversation",
    "CurationError",
    "EmbeddingOutput",
    "EmbeddingRequestOutput",
    "EngineError",
    "FailedRequestsWarning",
    "Interrupted",
    "LabelScore",
    "LabelStudioError",
    "LoadError",
    "Logprob",
    "OutputList",
    "PoolingParams",
    "Progress",
    "Prompt",
    "RemoteLLM",
    "RepetitionDetectionParams",
    "RequestError",
    "RequestOutput",
    "RunError",
    "SamplingParams",
    "SchemaError",
    "ScoringOutput",
    "ScoringRequestOutput",
    "StructuredOutputsParams",
    "Tokenizer",
    "Usage",
    "VllmBatchError",
    "__version__",
    "run_batch",
]
