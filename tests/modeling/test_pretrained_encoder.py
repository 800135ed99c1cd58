"""Loading encoders and tokenizers from a folder."""

import pytest
from tokenizers import ByteLevelBPETokenizer
from transformers import ByT5Tokenizer, GPT2Tokenizer, ViTConfig, ViTModel

import spt
from spt.modeling.pretrained_encoder import load_backbone
from tests.families import family


@pytest.fixture
def decoder(tmp_path):
    """A tiny GPT-2 whose byte-level tokenizer has no padding token and does not separate pairs, like GPT-2's own."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(["ann saw bea in rome"] * 5, vocab_size=300, special_tokens=["<|endoftext|>"])
    trained.save_model(str(tmp_path))
    GPT2Tokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")).save_pretrained(tmp_path)
    family("GPT-2", vocab_size=300).save_pretrained(tmp_path)
    return str(tmp_path)


def test_a_decoders_pairs_are_separated_and_padded_on_the_right(decoder):
    encoder, tokenizer = load_backbone(decoder)
    batch = tokenizer(["ann saw", "bea"], ["bea", "rome"], padding=True, return_tensors="pt")
    assert tokenizer.decode(batch["input_ids"][0]) == "ann saw<|endoftext|>bea"
    assert tokenizer.decode(tokenizer("ann saw")["input_ids"]) == "ann saw"
    assert (batch["attention_mask"][1, -1], batch["attention_mask"][1, 0]) == (0, 1)
    model = spt.attach(spt.TaskModel(encoder, "sentence", num_labels=2, pooling="last"), spt.PrefixConfig())
    assert model(**batch).logits.shape == (2, 2)


def test_a_decoders_words_keep_their_positions(decoder):
    _, tokenizer = load_backbone(decoder, split_into_words=True)
    encoded = tokenizer([["ann", "saw", "rome"]], is_split_into_words=True)
    assert tokenizer.decode(encoded["input_ids"][0]) == " ann saw rome"
    assert sorted(set(encoded.word_ids(0))) == [0, 1, 2]


def test_a_token_added_without_an_embedding_is_refused(decoder):
    _, tokenizer = load_backbone(decoder)
    tokenizer.add_tokens([f"[new {number}]" for number in range(300 - len(tokenizer) + 1)])
    tokenizer.save_pretrained(decoder)
    with pytest.raises(spt.SptError, match=r"'\[new \d+\]' has the number 300, .* for 300: it was added without"):
        load_backbone(decoder)


def test_a_tokenizer_in_python_alone_is_refused(tmp_path):
    family("BERT").save_pretrained(tmp_path)
    ByT5Tokenizer().save_pretrained(tmp_path)
    with pytest.raises(spt.SptError, match=r"ByT5Tokenizer, is written in Python alone .* tokenizer\.json"):
        load_backbone(str(tmp_path))


def test_a_model_of_images_is_refused(decoder):
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    ViTModel(ViTConfig(**small, image_size=8, patch_size=4)).save_pretrained(decoder)
    with pytest.raises(spt.SptError, match="ViTModel has no embeddings of tokens"):
        load_backbone(decoder)
