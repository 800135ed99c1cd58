"""Loading encoders and tokenizers from a folder."""

import json

import pytest
import torch
from omegaconf import OmegaConf
from tokenizers import ByteLevelBPETokenizer, Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AlbertTokenizer,
    ByT5Tokenizer,
    CamembertTokenizer,
    GPT2Tokenizer,
    MPNetTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    RobertaTokenizer,
    ViTConfig,
    ViTModel,
    XLMRobertaTokenizer,
)
from transformers.utils import logging as transformers_logging

import spt
from spt.modeling.pretrained_encoder import backbone_settings, load_backbone, load_tokenizer
from spt.paths import CONF
from spt.tasks import ChoiceTask, SentenceTask, TokenTask
from tests.families import family
from tests.test_configs import composed, options


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


def test_an_empty_text_without_a_token_is_refused(decoder):
    _, tokenizer = load_backbone(decoder)
    task = SentenceTask(name="own", labels=["no", "yes"], metrics=["accuracy"], templates=[["{text}"]], files={})
    with pytest.raises(spt.SptError, match="a text is empty"):
        task.encode([{"texts": ["ann saw"]}, {"texts": [""]}], tokenizer, None)


SENTENCES = ["Ann didn't see the old apple in Rome .", "Zürich , U.S. is cold and Bea sat"] * 5
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def unigram(*special):
    """A vocabulary of pieces with scores, as XLM-R, CamemBERT and ALBERT have."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    options = {"vocab_size": 80, "special_tokens": list(special), "unk_token": "<unk>", "show_progress": False}
    tokenizer.train_from_iterator(SENTENCES, trainers.UnigramTrainer(**options))
    return [tuple(piece) for piece in json.loads(tokenizer.to_str())["model"]["vocab"]]


def byte_level(kind):
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(SENTENCES, 330, show_progress=False, special_tokens=[*SPECIAL, "<|endoftext|>"])
    model = json.loads(trained.to_str())["model"]
    return kind(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]])


def modernbert():
    """Of no class of its own: all it does is in its tokenizer.json."""
    tokenizer = byte_level(RobertaTokenizer).backend_tokenizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, cls_token="<s>", sep_token="</s>", pad_token="<pad>")


def mpnet():
    letters = sorted({letter for sentence in SENTENCES for letter in sentence.lower()} - {" "})
    pieces = [*SPECIAL, "[UNK]", *letters, *(f"##{letter}" for letter in letters)]
    return MPNetTokenizer(vocab={piece: number for number, piece in enumerate(pieces)})


TOKENIZERS = {
    "XLM-RoBERTa": ("xlm-roberta", lambda: XLMRobertaTokenizer(vocab=unigram(*SPECIAL))),
    "CamemBERT": ("camembert", lambda: CamembertTokenizer(vocab=unigram(*SPECIAL))),
    "ALBERT": ("albert", lambda: AlbertTokenizer(vocab=unigram("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"))),
    "MPNet": ("mpnet", mpnet),
    "ModernBERT": ("modernbert", modernbert),
    "RoBERTa": ("roberta", lambda: byte_level(RobertaTokenizer)),
    "Qwen2": ("qwen2", lambda: byte_level(Qwen2Tokenizer)),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_words_and_choices_in_the_tokens_of_each_family(name, tmp_path):
    """Words become the tokens that they are in running text, each with one first token; choices are read whole."""
    model_type, build = TOKENIZERS[name]
    build().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))

    files = {"train": [], "validation": []}
    words = ["Ann", "didn't", "see", "Zürich", ",", "U.S.", "apple"]
    tokenizer = load_tokenizer(str(tmp_path), split_into_words=True)
    task = TokenTask(name="n", labels=["A"], metrics=["f1"], files=files)
    tags = ["B-A" if word[0].isupper() else "O" for word in words]
    split = task.encode([{"tokens": words, "tags": tags}], tokenizer, limit=64)
    tokens = split.inputs[0]["input_ids"]
    text = load_tokenizer(str(tmp_path))(" " + " ".join(words))["input_ids"]
    assert tokens == text and split.lost_words == 0
    firsts = [word for word in split.inputs[0]["words"] if word != -1]
    assert firsts == list(range(len(words)))
    labels = [label for label in split.inputs[0]["labels"] if label != -100]
    assert [task.classes[label] for label in labels] == tags

    choice = ChoiceTask(
        name="c", labels=["0", "1"], metrics=["accuracy"], files=files, context="{premise}", choices=["{a}", "{b}"]
    )
    tokenizer = load_tokenizer(str(tmp_path))
    row = {"premise": "the old apple", "a": "is cold", "b": "sat in Rome", "label": 1}
    split = choice.encode([choice.example(row)], tokenizer, limit=64)
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in split.inputs[0]["input_ids"]]
    assert ["".join(text.lower().split()) for text in texts] == ["theoldappleiscold", "theoldapplesatinrome"]


def test_deberta_v3_with_its_spm_model_alone(tmp_path):
    """The files of microsoft/deberta-v3-base: the tokenizer is made of spm.model by sentencepiece and protobuf."""
    sentencepiece = pytest.importorskip("sentencepiece")
    pieces = {"pad": "[PAD]", "bos": "[CLS]", "eos": "[SEP]", "unk": "[UNK]"}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_prefix=str(tmp_path / "spm"), vocab_size=320, hard_vocab_limit=False,
        byte_fallback=True, minloglevel=2, **{f"{name}_id": number for number, name in enumerate(pieces)},
        **{f"{name}_piece": piece for name, piece in pieces.items()},
    )  # fmt: skip
    family("DeBERTa-v2/v3", vocab_size=400, pad_token_id=0).save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}')
    assert not list(tmp_path.glob("tokenizer.json"))

    encoder, tokenizer = load_backbone(str(tmp_path), attn_implementation="eager", split_into_words=True)
    expected = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spm.model"))
    assert tokenizer(SENTENCES[0])["input_ids"][1:-1] == expected.encode(SENTENCES[0])
    # Fast tokenizers have one unknown token where sentencepiece spells a letter outside the vocabulary in bytes.
    assert tokenizer("漢")["input_ids"][-2] == tokenizer.unk_token_id and len(expected.encode("漢")) == 4
    batch = tokenizer([["Ann", "sat"], ["cold", "U.S.", ","]], is_split_into_words=True, padding=True)
    assert [sorted({*batch.word_ids(row)} - {None}) for row in (0, 1)] == [[0, 1], [0, 1, 2]]

    model = spt.attach(spt.TaskModel(encoder, "token", num_labels=3), spt.PrefixConfig(prefix_length=3))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    inputs = {name: torch.tensor(rows) for name, rows in batch.items()}
    labels = torch.ones_like(inputs["input_ids"])
    losses = []
    for _ in range(2):
        loss = model(**inputs, labels=labels).loss + spt.selective_loss(model)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    assert losses[1] < losses[0]


def test_models_without_safetensors_on_main_are_pinned_to_their_pull_request():
    """A revision is that of the file's own name_or_path, and not of a folder or another model in its place."""
    files = {name: OmegaConf.load(CONF / "model" / f"{name}.yaml") for name in options("model")}
    revisions = {name: file.get("revision", "main") for name, file in files.items()}
    pinned = {name: revision for name, revision in revisions.items() if revision != "main"}
    assert pinned == {
        "deberta-base": "315ff8e6747aba12a2074c165fcc7e47d2cec9b4",
        "deberta-v3-base": "82d8d18a7b88346261ba15d8b1044900a452cf90",
        "deberta-v3-large": "d0eb112b2451491fbbaf55b168c85825ba1d7ad1",
        "electra-base": "622038df5bb2999b99d614f9f604dcc6f08cb3d7",
        "electra-large": "refs/pr/2",
    }
    model = {**composed("model=deberta-base").model}
    assert backbone_settings(model)["revision"] == pinned["deberta-base"]
    for other in ("models/deberta-base", "org/deberta"):
        assert "revision" not in backbone_settings(model | {"name_or_path": other})
        assert "revision" not in backbone_settings(model | {"name_or_path": other, "name": "mine"})
    branch = {"name": "mine", "name_or_path": "org/electra", "revision": pinned["electra-large"]}
    assert backbone_settings(branch)["revision"] == pinned["electra-large"]
    assert backbone_settings(model | {"name_or_path": "org/deberta", "revision": "v2"})["revision"] == "v2"
    assert backbone_settings({"name": "roberta-large"}) == {}  # of a damaged adapter


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


def test_loading_leaves_transformers_as_talkative_as_it_was():
    before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    try:
        transformers_logging.set_verbosity_info()
        transformers_logging.enable_progress_bar()
        load_backbone("pkg://spt/demo/encoder")
        assert transformers_logging.get_verbosity() == transformers_logging.INFO
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        transformers_logging.set_verbosity(before[0])
        if not before[1]:
            transformers_logging.disable_progress_bar()
