"""Models that are not a plain encoder: each is supported, or refused with a message that says what to pass instead."""

import peft
import pytest
import torch
from torch import nn
from torch.ao.quantization import quantize_dynamic
from transformers import (
    BertForSequenceClassification,
    BertModel,
    CLIPConfig,
    CLIPModel,
    GPT2LMHeadModel,
    T5Config,
    T5Model,
    ViTConfig,
    ViTModel,
)

import spt
from tests.conftest import batch, tiny_encoder
from tests.families import family

CONFIG = spt.PrefixConfig(prefix_length=3)
SHAPE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
LORA = peft.LoraConfig(target_modules=["query"])


def on_meta() -> BertModel:
    with torch.device("meta"):
        return BertModel(tiny_encoder().config)


def with_weights_of(dtype: torch.dtype) -> BertModel:
    """An encoder whose matrices have another type and whose modules do not compute with it."""
    encoder = tiny_encoder()
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            module.weight = nn.Parameter(module.weight.data.to(dtype), requires_grad=False)
    return encoder


class Quantized(nn.Parameter):
    """A weight as quantization libraries make it: of a class of its own, without the mark of a loaded weight."""


def with_quantized_class() -> BertModel:
    encoder = tiny_encoder()
    for parameter in encoder.parameters():
        parameter._is_hf_initialized = True
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            module.weight = Quantized(module.weight.data, requires_grad=False)
    return encoder


def classification() -> BertForSequenceClassification:
    return BertForSequenceClassification(tiny_encoder().config)


# How to make it, and what `attach` and `save_adapter` say.
HEADS = ("has a head of its own: pass its encoder, model.base_model",) * 2
REFUSED = {
    "a classifier": (classification, *HEADS),
    "a language model": (lambda: GPT2LMHeadModel(family("GPT-2").config), *HEADS),
    "PEFT's model": (lambda: peft.get_peft_model(tiny_encoder(), LORA), *("pass the BertModel in it",) * 2),
    "PEFT's LoRA": (lambda: peft.get_peft_model(tiny_encoder(), LORA).base_model.model, *("adapter of PEFT",) * 2),
    "a wrapped model": (lambda: nn.DataParallel(tiny_encoder()), *("pass the BertModel in it",) * 2),
    "a name": (lambda: "bert-base-cased", *("str is neither .* pass what AutoModel.from_pretrained returns",) * 2),
    "an encoder-decoder": (
        lambda: T5Model(T5Config(d_model=32, d_kv=8, num_layers=1, num_heads=4)), "is an encoder-decoder", None
    ),
    "a model of images": (lambda: ViTModel(ViTConfig(**SHAPE, image_size=8, patch_size=4)), "text encoders", None),
    "no weights": (on_meta, "meta device.* load them with from_pretrained", "embeddings.* is on the meta device"),
    "bytes": (with_weights_of.__get__(torch.int8), "weights of type int8: load it without quantization", None),
    "8-bit floats": (with_weights_of.__get__(torch.float8_e4m3fn), "weights of type float8_e4m3fn: load it", None),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_another_model_is_refused(case, tmp_path):
    make, attaching, saving = REFUSED[case]
    with pytest.raises(spt.SptError, match=attaching):
        spt.attach(make(), CONFIG)
    if saving is not None:
        with pytest.raises(spt.SptError, match=saving):
            spt.save_adapter(make(), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (classification, "pass its encoder, model.base_model"),
        (lambda: spt.TaskModel(tiny_encoder(), "sentence", 2), "model.encoder"),
        (lambda: nn.DataParallel(tiny_encoder()), "pass the BertModel in it"),
        (lambda: CLIPModel(CLIPConfig(text_config=SHAPE, vision_config=SHAPE)), "takes its text encoder"),
    ],
)  # fmt: skip
def test_a_task_model_takes_an_encoder(make, message):
    with pytest.raises(spt.SptError, match=message):
        spt.TaskModel(make(), "sentence", 2, pooling="mean")


def test_the_encoder_of_a_model_with_a_head_takes_prefixes():
    encoder = classification().bert
    own = classification()
    assert spt.attached(spt.attach(own.base_model, CONFIG)) == CONFIG == spt.attached(spt.attach(encoder, CONFIG))
    assert own(**batch()).logits.shape == (3, 2)


def test_quantized_weights_stay_frozen_and_adapters_fit_them(tmp_path):
    """Prefixes trained on quantized weights load on those weights and on others, whatever a sample of them would be."""
    model = spt.attach(spt.TaskModel(with_quantized_class(), "sentence", 2), CONFIG).eval()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("prefix" in name or name.startswith("classifier") for name in trained)
    folder = spt.save_adapter(model, tmp_path)
    for make in (with_quantized_class, tiny_encoder):
        loaded = spt.load_adapter(spt.TaskModel(make(), "sentence", 2), folder).eval()
        assert torch.equal(loaded(**batch()).logits, model(**batch()).logits)


@pytest.mark.filterwarnings("ignore")
def test_dynamic_quantization_of_a_trained_model():
    model = spt.attach(spt.TaskModel(tiny_encoder(), "sentence", 2), CONFIG).eval()
    quantized = quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    torch.testing.assert_close(quantized(**batch()).logits, model(**batch()).logits, atol=0.1, rtol=0.1)
