"""Trains a small SentencePiece BPE of Llama's kind on docstrings of Python's standard library, and writes it with the
ids that SentencePiece itself finds.

pip install sentencepiece==0.2.3; python make_vocabulary.py
"""

import argparse
import email.message
import io
import json
import pathlib
import tempfile

import sentencepiece

TEXTS = [
    "The message is the payload",
    " a leading space",
    "  two  spaces   and three",
    "trailing ",
    "",
    " ",
    "line one\nline two\n\n\tindented",
    "naïve café – “quotes” 日本語 🙂",
    "self.assertEqual(headers['To'], 'x@example.org')",
    "Unusualwordsandnumbers 1234567890",
    "▁already▁visible",
    "ttttttttthhhhheeeee",
]

corpus = "\n".join(
    filter(None, (getattr(thing, "__doc__", None) for owner in (email.message.Message, argparse, argparse.ArgumentParser, str, io, dict) for thing in vars(owner).values()))
)
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder)
    (path / "corpus.txt").write_text(corpus)
    sentencepiece.SentencePieceTrainer.train(
        input=str(path / "corpus.txt"),
        model_prefix=str(path / "model"),
        model_type="bpe",
        vocab_size=600,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["<tool>"],
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(path / "model.model"))


def kind(i):
    checks = ((2, model.is_unknown), (3, model.is_control), (5, model.is_unused), (6, model.is_byte))
    user_defined = model.id_to_piece(i) == "<tool>"
    return 4 if user_defined else next((number for number, check in checks if check(i)), 1)


ids = range(model.get_piece_size())
vocabulary = {
    "tokens": [model.id_to_piece(i) for i in ids],
    "token_types": [kind(i) for i in ids],
    "scores": [model.get_score(i) for i in ids],
    "cases": [{"text": text, "ids": model.encode(text), "decoded": model.decode(model.encode(text))} for text in TEXTS],
}
pathlib.Path(__file__).with_name("vocabulary.json").write_text(json.dumps(vocabulary, ensure_ascii=False) + "\n")
