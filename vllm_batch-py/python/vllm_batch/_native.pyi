"""The native part; use `vllm_batch` instead. Parameters and bodies come as JSON, options as dicts with every field."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from .outputs import BatchReport, Progress

__all__ = ["Cancellation", "run_batch", "InFlight", "Engine", "Request", "Task", "Script", "Tokenizer", "__version__"]

__version__: str

@final
class Task:
    @staticmethod
    def generate(params: str) -> Task: ...
    @staticmethod
    def embed(params: str) -> Task: ...
    @staticmethod
    def score(params: str) -> Task: ...

@final
class Request:
    def __new__(
        cls, request_id: str, prompt: str | Sequence[int], task: Task, priority: int = 0, model: str | None = None
    ) -> Request: ...
    @staticmethod
    def chat(request_id: str, body: str, task: Task, priority: int = 0, model: str | None = None) -> Request: ...
    @staticmethod
    def pairs(request_id: str, body: str) -> list[Request]: ...
    @property
    def request_id(self) -> str: ...

@final
class InFlight:
    def submit(self, key: int, request: Request) -> None: ...
    def wait(self, into: list[tuple[int, Any]], seconds: float) -> None: ...
    def poll(self, into: list[tuple[int, Any]], notify: Callable[[], object]) -> None: ...
    def cancel(self) -> None: ...
    def __len__(self) -> int: ...

@final
class Engine:
    @staticmethod
    def load(model: str, options: Mapping[str, Any]) -> Engine: ...
    @staticmethod
    def remote(url: str, options: Mapping[str, Any]) -> Engine: ...
    @staticmethod
    def scripted(script: Callable[[Any], str] | None, options: Mapping[str, Any]) -> tuple[Engine, Script]: ...
    @property
    def served_model_names(self) -> list[str]: ...
    @property
    def revision(self) -> str: ...
    @property
    def max_model_len(self) -> int: ...
    @property
    def max_num_seqs(self) -> int: ...
    @property
    def supported_tasks(self) -> list[str]: ...
    @property
    def is_open(self) -> bool: ...
    def tokenizer(self) -> Tokenizer | None: ...
    def open(self) -> InFlight: ...
    def close(self) -> None: ...

@final
class Script:
    def release(self, requests: int) -> None: ...
    def release_all(self) -> None: ...
    def stats(self) -> tuple[int, int, int, int, int]: ...

@final
class Tokenizer:
    """A model's tokenizer, with the names of Hugging Face's."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""

    def __len__(self) -> int: ...
    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The token ids of a text. Special tokens that are written in it become their ids."""

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of token ids."""

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """The id of a token."""

    def convert_ids_to_tokens(self, token_id: int) -> str | None:
        """The token of an id."""

    def get_vocab(self) -> dict[str, int]:
        """All tokens, with their ids."""

@final
class Cancellation:
    def __new__(cls) -> Cancellation: ...
    def cancel(self) -> None: ...

def run_batch(
    engine: Engine,
    options: Mapping[str, Any],
    cancellation: Cancellation,
    on_progress: Callable[[Progress], object] | None,
) -> tuple[BatchReport, BaseException | None]: ...
