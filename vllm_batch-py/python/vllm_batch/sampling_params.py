"""Where vLLM has ``SamplingParams`` and its parts."""

from .params import RepetitionDetectionParams, SamplingParams, StructuredOutputsParams

__all__ = ["RepetitionDetectionParams", "SamplingParams", "StructuredOutputsParams"]
