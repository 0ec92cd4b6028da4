"""Writes tiny random models, with what transformers computes for them in f32, to vllm_batch/tests/data/arch.

These are the variants that the other fixtures there do not have: biases, other rotary scalings, heads of other shapes,
layers of several kinds. Each folder gets `config.json` in the style of checkpoints on the hub, `model.safetensors`, and
`expected.safetensors` with prompts (`p0.input_ids`), the logits after each token, and, where the length of a sequence
does not change its rotary embedding, 12 greedy tokens with their margins.

pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0; python scripts/make_fixtures.py
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

BASE = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GREEDY = 12
LENGTHS = [1, 40, 75]
PHI4_MINI = {
    "model_type": "phi3",
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "partial_rotary_factor": 0.75,
    "tie_word_embeddings": True,
    "full_attn_mod": 1,
    "interpolate_factor": 1,
}
LONGROPE = {
    "type": "longrope",
    "short_factor": [1.0, 1.01, 1.1, 1.3, 1.7, 2.0],
    "long_factor": [1.0, 1.2, 2.5, 4.0, 8.0, 15.0],
}

# name: (configuration, lengths of the prompts)
FIXTURES = {
    "llama_linear_mha_biases": (
        {
            "model_type": "llama",
            "num_key_value_heads": 4,
            "attention_bias": True,
            "mlp_bias": True,
            "hidden_act": "silu",
            "rope_theta": 10000.0,
            "rope_scaling": {"type": "linear", "factor": 4.0},
        },
        LENGTHS,
    ),
    # The frequencies are those of a sequence of 128 tokens, the longest that the tests allow.
    "llama_dynamic": (
        {
            "model_type": "llama",
            "max_position_embeddings": 48,
            "rope_theta": 10000.0,
            "rope_scaling": {"rope_type": "dynamic", "factor": 3.0},
        },
        [128],
    ),
    "mistral_mqa_head_dim": (
        {"model_type": "mistral", "num_key_value_heads": 1, "head_dim": 24, "sliding_window": None, "rope_theta": 1e6},
        LENGTHS,
    ),
    "qwen2_yarn_windows": (
        {
            "model_type": "qwen2",
            "num_hidden_layers": 3,
            "use_sliding_window": True,
            "sliding_window": 20,
            "max_window_layers": 1,
            "max_position_embeddings": 32,
            "rope_theta": 1000000.0,
            "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32, "type": "yarn"},
        },
        LENGTHS,
    ),
    "qwen3_biases_yarn_mscale": (
        {
            "model_type": "qwen3",
            "head_dim": 16,
            "attention_bias": True,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 50000.0,
                "factor": 8.0,
                "beta_fast": 24.0,
                "beta_slow": 2.0,
                "mscale": 1.2,
                "mscale_all_dim": 0.7,
                "truncate": False,
                "original_max_position_embeddings": 64,
            },
        },
        LENGTHS,
    ),
    "qwen3_moe_mixed": (
        {
            "model_type": "qwen3_moe",
            "num_hidden_layers": 4,
            "head_dim": 16,
            "num_experts": 5,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 24,
            "norm_topk_prob": False,
            "decoder_sparse_step": 2,
            "mlp_only_layers": [1],
            "rope_theta": 1000000.0,
        },
        LENGTHS,
    ),
    "gemma2_no_caps": (
        {
            "model_type": "gemma2",
            "head_dim": 8,
            "query_pre_attn_scalar": 12,
            "sliding_window": 20,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_activation": "gelu_pytorch_tanh",
        },
        LENGTHS,
    ),
    "gemma3_old_style": (
        {
            "model_type": "gemma3_text",
            "num_hidden_layers": 4,
            "head_dim": 16,
            "query_pre_attn_scalar": 20,
            "sliding_window": 20,
            "sliding_window_pattern": 3,
            "rope_theta": 1000000.0,
            "rope_local_base_freq": 5000.0,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "final_logit_softcapping": 15.0,
        },
        LENGTHS,
    ),
    # Every prompt is longer than the original context, or none is.
    "phi4_mini_long": (
        {**PHI4_MINI, "original_max_position_embeddings": 32, "rope_scaling": LONGROPE, "sliding_window": 50},
        [33, 75],
    ),
    "phi4_mini_short": (
        {**PHI4_MINI, "original_max_position_embeddings": 128, "rope_scaling": LONGROPE, "sliding_window": None},
        LENGTHS,
    ),
    "smollm3_windows": (
        {
            "model_type": "smollm3",
            "num_hidden_layers": 4,
            "no_rope_layer_interval": 2,
            "use_sliding_window": True,
            "sliding_window": 20,
            "attention_bias": True,
            "tie_word_embeddings": False,
        },
        LENGTHS,
    ),
    "granite_tied_biases": (
        {
            "model_type": "granite",
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": True,
            "embedding_multiplier": 3.0,
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.4,
            "logits_scaling": 1.5,
        },
        LENGTHS,
    ),
    "olmo2_mha_tied": (
        {"model_type": "olmo2", "num_key_value_heads": 4, "tie_word_embeddings": True, "attention_bias": True},
        LENGTHS,
    ),
    "gemma3_multimodal": (
        {
            "model_type": "gemma3",
            "text_config": {
                "model_type": "gemma3_text",
                "hidden_size": 32,
                "head_dim": 8,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "vocab_size": 96,
                "sliding_window": 20,
                "sliding_window_pattern": 2,
                "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            },
            "vision_config": {
                "model_type": "siglip_vision_model",
                "hidden_size": 8,
                "intermediate_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 1,
                "image_size": 4,
                "patch_size": 2,
            },
            "mm_tokens_per_image": 4,
            "image_token_index": 0,
        },
        LENGTHS,
    ),
}


def randomize(model, generator):
    """Weights of a size at which layers and logits are neither flat nor saturated."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            parameter.data += 0.2 * noise
        elif parameter.dim() == 1:
            parameter.data = 0.3 * noise
        else:
            parameter.data = noise / parameter.shape[-1] ** 0.5


def greedy(model, input_ids):
    tokens, margins = [], []
    for _ in range(GREEDY):
        logits = model(torch.tensor([input_ids + tokens]), use_cache=False).logits[0, -1]
        best = torch.topk(logits, 2).values
        tokens.append(int(logits.argmax()))
        margins.append(float(best[0] - best[1]))
    return tokens, margins


@torch.no_grad()
def make(folder, changes, lengths, seed):
    has_images = "text_config" in changes
    config = changes if has_images else {**BASE, **changes}
    generator = torch.Generator().manual_seed(seed)
    parsed = AutoConfig.for_model(**json.loads(json.dumps(config)))
    kind = AutoModelForImageTextToText if has_images else AutoModelForCausalLM
    model = kind.from_config(parsed, dtype=torch.float32, attn_implementation="eager").eval()
    randomize(model, generator)
    expected = {}
    for i, length in enumerate(lengths):
        input_ids = torch.randint(3, BASE["vocab_size"], (length,), generator=generator).tolist()
        expected[f"p{i}.input_ids"] = torch.tensor(input_ids)
        expected[f"p{i}.logits"] = model(torch.tensor([input_ids]), use_cache=False).logits[0].contiguous()
        if length < 128:
            tokens, margins = greedy(model, input_ids)
            expected[f"p{i}.greedy"] = torch.tensor(tokens)
            expected[f"p{i}.margin"] = torch.tensor(margins)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    for left in ("config.json", "generation_config.json"):
        (folder / left).unlink(missing_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file(expected, folder / "expected.safetensors")
    spread = max(float(expected[f"p{i}.logits"].std()) for i in range(len(lengths)))
    print(f"{folder.name}: logits spread over {spread:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    default = pathlib.Path(__file__).parents[1] / "vllm_batch/tests/data/arch"
    parser.add_argument("--output", type=pathlib.Path, default=default)
    arguments = parser.parse_args()
    for seed, (name, (changes, lengths)) in enumerate(FIXTURES.items()):
        make(arguments.output / name, changes, lengths, seed)


if __name__ == "__main__":
    main()
