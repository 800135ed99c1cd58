"""The speed of a GPU in training, for the estimate of `spt.reproduce --dry-run`."""

import time

import torch
from torch import nn
from transformers import BertConfig, BertModel

from spt.grid.run_costs import forward_flops

BATCH, LENGTH, STEPS = 32, 128, 3


def achieved_tflops(device: str = "cuda", config: BertConfig | None = None) -> float:
    """The float32 operations per second, in 10^12, of training prefixes on an encoder, by default of BERT-base's size.

    The last two of three steps of 32 x 128 tokens are timed: the forward pass, and the backward pass to the
    activations. Weights are random.
    """
    config = config or BertConfig()
    model: nn.Module = BertModel(config).requires_grad_(False)
    model.to(device)
    inputs = torch.randn(BATCH, LENGTH, config.hidden_size, device=device, requires_grad=True)
    times = []
    for _ in range(STEPS):
        started = time.perf_counter()
        output = model(inputs_embeds=inputs).last_hidden_state.mean()
        output.backward()
        output.item()  # waits for the device
        times.append(time.perf_counter() - started)
    sizes = (config.num_hidden_layers, config.hidden_size, config.intermediate_size)
    return 2 * forward_flops(*sizes, BATCH * LENGTH, LENGTH) / (sum(times[1:]) / (STEPS - 1)) / 1e12
