"""A model of two layers with random weights that answers in whole words: the server is tested, not what it says."""

from __future__ import annotations

import sys

WORDS = [
    "apples",
    "and",
    "boxes",
    "cost",
    "dollars",
    "each",
    "far",
    "has",
    "left",
    "many",
    "more",
    "now",
    "of",
    "pens",
    "then",
    "total",
    "zero",
]
TEMPLATE = "{% for message in messages %}{{ message.role }} {{ message.content }} {% endfor %}assistant"


def build(folder: str) -> None:
    """Write model and tokenizer as ``from_pretrained`` reads them."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["<end>", "<unknown>", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", pad_token="<end>", unk_token="<unknown>")
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.5,
        bos_token_id=None,
        # No word ends a reply, so that none is empty: the request's limit does.
        eos_token_id=None,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    build(sys.argv[1])
