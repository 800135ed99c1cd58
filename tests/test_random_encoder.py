"""The encoder with random weights, for rehearsals at real size."""

import torch
from transformers import AutoModel

from scripts.make_random_encoder import VOCABULARY, make
from spt.modeling.pretrained_encoder import load_tokenizer

TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def test_an_encoder_is_made_of_a_text_and_a_seed(tmp_path):
    (tmp_path / "texts.txt").write_text("It rained all night.\nThe road was wet.\n")
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        make(tmp_path / name, tmp_path / "texts.txt", seed, **TINY)
    one, again, two = (AutoModel.from_pretrained(tmp_path / name).state_dict() for name in ("one", "again", "two"))
    weight = "embeddings.word_embeddings.weight"
    assert one[weight].shape == (VOCABULARY, 8)
    assert torch.equal(one[weight], again[weight]) and not torch.equal(one[weight], two[weight])
    tokenizer = load_tokenizer(str(tmp_path / "one"))
    assert len(tokenizer) == VOCABULARY and tokenizer.decode(tokenizer("The road").input_ids[1:-1]) == "The road"
