#!/usr/bin/env python3
"""Writes the model of a GGUF file, widened to f32, as a folder that transformers and vLLM read.

Both take quantised GGUF files only by widening them (transformers) or not at all without a GPU (vLLM), so that this is what
they can be given. Needs `pip install torch transformers accelerate gguf`. Usage: export_model.py MODEL.gguf FOLDER
"""
import os
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(source, folder):
    place, file = os.path.split(os.path.abspath(source))
    widened = AutoModelForCausalLM.from_pretrained(place, gguf_file=file, dtype=torch.float32)
    # A model that came from a GGUF file refuses to be saved, and says of itself that it is still quantised.
    del widened.config.quantization_config
    plain = AutoModelForCausalLM.from_config(widened.config, dtype=torch.float32)
    plain.load_state_dict(widened.state_dict())
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(place, gguf_file=file).save_pretrained(folder)


main(*sys.argv[1:])
