"""Writes the inputs from which the targets that load models start.

Usage: make_seeds.py TARGET FOLDER        (called by scripts/fuzz.sh)
"""

import json
import pathlib
import struct
import sys

DATA = pathlib.Path(__file__).parents[1] / "tests" / "data"
# As in fuzz_targets/model_config.rs.
WEIGHTS = (
    "llama llama3_rope mistral_swa smollm3 qwen2 qwen3 qwen3_moe gemma2 gemma3 phi3 phi4_mini_long olmo2 granite bert"
).split()
HIDDEN, HEADS, KV_HEADS, HEAD_DIM, INNER, EXPERTS = 64, 4, 2, 16, 96, 4
F32, Q4_0, Q8_0 = (0, 1, 4), (2, 32, 18), (8, 32, 34)
ARCHITECTURES = ["llama", "smollm3", "qwen2", "qwen3", "qwen3moe", "gemma2", "gemma3", "phi3", "olmo2", "granite"]


def model_configs():
    folders = [path.parent for path in DATA.glob("*/*/config.json")]
    for folder in folders:
        config = json.loads((folder / "config.json").read_text())
        kinds = [i for i, name in enumerate(WEIGHTS) if folder.name.startswith(name)] or [0]
        path = folder / "generation_config.json"
        generation = json.loads(path.read_text()) if path.is_file() else {"eos_token_id": [2, 3]}
        tokenizer = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": "{{ messages[0].content }}"}
        lines = [json.dumps(part) for part in (config, generation, tokenizer)]
        yield folder.name, chr(ord("a") + kinds[-1]).encode() + "\n".join(lines).encode()


def safetensors_headers():
    for folder in [DATA / "arch" / "llama", DATA / "arch" / "llama_dynamic", DATA / "encoders" / "bert"]:
        file = (folder / "model.safetensors").read_bytes()
        (size,) = struct.unpack_from("<Q", file)
        yield folder.name, file[: size + 8] + struct.pack("<I", len(file) - size - 8)


def string(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def value(value):
    """The type of a value and its bytes."""
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, int):
        return 4, struct.pack("<I", value)
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    if isinstance(value, str):
        return 8, string(value)
    kind = value_type(value[0])
    elements = b"".join(value_bytes(element) for element in value)
    return 9, struct.pack("<IQ", kind, len(value)) + elements


def value_type(element):
    return value(element)[0]


def value_bytes(element):
    return value(element)[1]


def byte_level():
    """GPT-2's characters for bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    characters = [chr(byte if byte in shown else next(others)) for byte in range(256)]
    tokens = ["<s>", "</s>", *characters, "th", "the"]
    return {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": tokens,
        "token_type": [3, 3] + [1] * (len(tokens) - 2),
        "merges": ["t h", "th e"],
        "bos_token_id": 0,
        "eos_token_id": 1,
    }


def pieces():
    """A vocabulary of SentencePiece."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "t", "h", "e", "he", "the", "▁the"]
    return {
        "model": "llama",
        "tokens": tokens,
        "token_type": [2, 3, 3] + [6] * 256 + [1] * 7,
        "scores": [-float(i) for i in range(len(tokens))],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
        "add_bos_token": True,
        "add_space_prefix": False,
    }


def metadata(architecture, tokenizer):
    own = {
        "vocab_size": len(tokenizer["tokens"]),
        "context_length": 64,
        "embedding_length": HIDDEN,
        "block_count": 1,
        "feed_forward_length": INNER,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.key_length": HEAD_DIM,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 10000.0,
    }
    if architecture == "qwen3moe":
        own |= {"expert_count": EXPERTS, "expert_used_count": 2, "expert_feed_forward_length": INNER}
    if architecture in ("gemma2", "gemma3", "phi3"):
        own["attention.sliding_window"] = 16
    if architecture == "qwen2":
        own |= {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 16}
    general = {"general.architecture": architecture, "tokenizer.chat_template": "{{ messages[0].content }}"}
    mine = {f"{architecture}.{key}": value for key, value in own.items()}
    return general | mine | {f"tokenizer.ggml.{key}": value for key, value in tokenizer.items()}


def tensors(architecture, vocabulary):
    """Names, with dimensions in the file's order."""
    query, key = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    layer = {"attn_output.weight": (query, HIDDEN)}
    if architecture == "phi3":
        layer |= {"attn_qkv.weight": (HIDDEN, query + 2 * key), "ffn_up.weight": (HIDDEN, 2 * INNER)}
    else:
        layer |= {"attn_q.weight": (HIDDEN, query), "attn_k.weight": (HIDDEN, key), "attn_v.weight": (HIDDEN, key)}
    if architecture == "qwen2":
        layer |= {"attn_q.bias": (query,), "attn_k.bias": (key,), "attn_v.bias": (key,)}
    if architecture == "qwen3moe":
        layer |= {"ffn_gate_inp.weight": (HIDDEN, EXPERTS), "ffn_down_exps.weight": (INNER, HIDDEN, EXPERTS)}
        layer |= {f"ffn_{part}_exps.weight": (HIDDEN, INNER, EXPERTS) for part in ("gate", "up")}
    elif architecture != "phi3":
        layer |= {"ffn_gate.weight": (HIDDEN, INNER), "ffn_up.weight": (HIDDEN, INNER)}
    if architecture != "qwen3moe":
        layer["ffn_down.weight"] = (INNER, HIDDEN)
    if architecture != "olmo2":
        layer |= {"attn_norm.weight": (HIDDEN,), "ffn_norm.weight": (HIDDEN,)}
    if architecture in ("gemma2", "gemma3", "olmo2"):
        layer |= {"post_attention_norm.weight": (HIDDEN,), "post_ffw_norm.weight": (HIDDEN,)}
    if architecture in ("qwen3", "qwen3moe", "gemma3"):
        layer |= {"attn_q_norm.weight": (HEAD_DIM,), "attn_k_norm.weight": (HEAD_DIM,)}
    if architecture == "olmo2":
        layer |= {"attn_q_norm.weight": (query,), "attn_k_norm.weight": (key,)}
    whole = {"token_embd.weight": (HIDDEN, vocabulary), "output_norm.weight": (HIDDEN,)}
    return whole | {f"blk.0.{name}": shape for name, shape in layer.items()}


def gguf(architecture, tokenizer, matrix):
    """A file without its tensors' data, and how many bytes that has."""
    values, infos, end = metadata(architecture, tokenizer), b"", 0
    shapes = tensors(architecture, len(tokenizer["tokens"]))
    for name, shape in shapes.items():
        kind, block, size = matrix if len(shape) > 1 and "ffn_gate_inp" not in name else F32
        count = 1
        for dim in shape:
            count *= dim
        infos += string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + struct.pack("<IQ", kind, end)
        end += -(-count // block * size // 32) * 32
    pairs = b"".join(string(key) + struct.pack("<I", value_type(one)) + value_bytes(one) for key, one in values.items())
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(values)) + pairs + infos
    return head + bytes(-len(head) % 32) + struct.pack("<I", end)


def ggufs():
    for i, architecture in enumerate(ARCHITECTURES):
        tokenizer = pieces() if architecture.startswith("gemma") or architecture in ("llama", "phi3") else byte_level()
        yield architecture, gguf(architecture, tokenizer, (F32, Q4_0, Q8_0)[i % 3])


if __name__ == "__main__":
    seeds = {"gguf": ggufs, "safetensors_header": safetensors_headers, "model_config": model_configs}
    target, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    for seed_name, seed in seeds[target]():
        (folder / f"seed-{seed_name}").write_bytes(seed)
