"""The seed policy's tokenizer: one token a printable character, as a `tokenizers` JSON file."""

import json
import string

PAD, EOS, BOS, UNK = 0, 1, 2, 3
SPECIALS = ("<pad>", "<eos>", "<bos>", "<unk>")
CHARACTERS = "".join(chr(code) for code in range(32, 127)) + "\n"
VOCABULARY = 128
"""Rows of the embedding; a multiple of 32, so that the last ids are spare."""

assert set(string.ascii_letters + string.digits) <= set(CHARACTERS)


def character_tokenizer() -> str:
    """A `tokenizer.json` that maps every printable ASCII character to one id, and anything else to `<unk>`."""
    vocabulary = {token: index for index, token in enumerate((*SPECIALS, *CHARACTERS))}
    special = [
        {
            "id": index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for index, token in enumerate(SPECIALS)
    ]
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": special,
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": r"[\s\S]"},
                "behavior": "Isolated",
                "invert": False,
            },
            "post_processor": None,
            "decoder": {"type": "Fuse"},
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
        },
        indent=1,
    )
