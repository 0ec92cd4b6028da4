"""Writes an adapter for the tiny model of ../arch/llama with PEFT, and the hidden states that it comes to.

Needs peft, transformers and torch. `expected.safetensors` holds token ids and, for each token, the hidden state after the
final norm, with the adapter and without it, in f32.
"""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
IDS = torch.tensor([[3, 77, 500, 12, 12, 431, 9, 260, 8, 45, 3, 2, 118, 300, 301, 302, 17, 5, 6, 7]])

torch.manual_seed(11)
model = AutoModelForCausalLM.from_pretrained(HERE.parent / "arch" / "llama", dtype=torch.float32)
with torch.no_grad():
    plain = model.model(IDS).last_hidden_state[0]
config = LoraConfig(r=4, lora_alpha=12, target_modules=["q_proj", "v_proj", "o_proj", "down_proj"], use_rslora=True)
model = get_peft_model(model, config)
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.copy_(torch.randn_like(parameter) * 0.15)
    changed = model.base_model.model.model(IDS).last_hidden_state[0]
model.peft_config["default"].base_model_name_or_path = "llama"
model.save_pretrained(HERE)
(HERE / "README.md").unlink()
save_file({"input_ids": IDS[0], "plain": plain.contiguous(), "changed": changed.contiguous()}, HERE / "expected.safetensors")
