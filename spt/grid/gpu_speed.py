"""The speed of a GPU in training, for the estimate of `spt.reproduce --dry-run`."""

import time

import torch
from torch import nn
from transformers import BertConfig, BertModel

from spt.grid.run_costs import Encoder

BATCH, LENGTH, STEPS = 32, 128, 3


def achieved_tflops() -> float:
    """The float32 operations per second, in 10^12, of training prefixes on BERT-base's size.

    Measured are the last two of three steps of 32 x 128 tokens: the forward pass, and the backward pass to the
    activations. Weights are random.
    """
    return measured_tflops(torch.device("cuda"), BertConfig())


def measured_tflops(device: torch.device, config: BertConfig) -> float:
    """What `achieved_tflops` measures, on any device and for any size of encoder."""
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
    encoder = Encoder(config.num_hidden_layers, config.hidden_size, config.intermediate_size)
    return 2 * encoder.forward_flops(BATCH * LENGTH, LENGTH) / (sum(times[1:]) / (STEPS - 1)) / 1e12
