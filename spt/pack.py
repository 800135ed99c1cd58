"""Runs that train together: one frozen backbone, one batch of all their batches, everything else each run's own.

Each run is the program that it is alone, in a thread of its own, and one of them has its turn at a time. Where a run
calls the encoder it gives the turn away; once all have called, it computes all their batches stacked, each run's rows
with its own prefixes and its own random numbers, and each goes on with its rows of the output: heads, losses and
their gradients, clipping, optimizers, schedules, evaluations, checkpoints and records know nothing of the others. The
gradients of the encoder's output come together the same way. A run that ends, early or in an error, is no longer waited
for.
"""

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from threading import Semaphore, Thread
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers.modeling_outputs import BaseModelOutputWithPooling

from spt.dropout import dropout
from spt.encoder import sharing_copy
from spt.errors import SptError
from spt.model import TaskModel
from spt.preemption import Preempted, listening
from spt.prefix import JointPrefixes, Prefix, Share, prefixes
from spt.record import hardware

TOKENS = 4096  # that the encoder computes at once on a CPU: larger batches leave its caches


@dataclass
class Surroundings:
    """What a run finds around it and may change: it is back when the run has its turn again."""

    random: dict[str, Any]
    streams: tuple[Any, Any]
    hydra: Any

    @classmethod
    def now(cls) -> "Surroundings":
        """As they are."""
        return cls(random_states(), (sys.stdout, sys.stderr), HydraConfig.instance().cfg)

    def restore(self) -> None:
        """Make them what they were."""
        set_random_states(self.random)
        sys.stdout, sys.stderr = self.streams
        HydraConfig.instance().cfg = self.hydra


def random_states() -> dict[str, Any]:
    """The states of the process's random generators."""
    return {**_torch_states(), "numpy": np.random.get_state(), "python": random.getstate()}


def set_random_states(states: dict[str, Any]) -> None:
    """Bring the process's random generators to what `random_states` returned."""
    _set_torch_states(states)
    np.random.set_state(states["numpy"])
    random.setstate(states["python"])


def _torch_states() -> dict[str, Tensor]:
    cuda = {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_initialized() else {}
    return {"torch": torch.get_rng_state(), **cuda}


def _set_torch_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])


@dataclass
class Call:
    """A run's call of the encoder: texts [rows, length] and what else it takes, and in which modes it computes."""

    texts: dict[str, Tensor]
    options: dict[str, Any]
    training: bool
    gradients: bool
    autocast: bool

    @property
    def modes(self) -> tuple:
        """What calls that are computed at once have in common."""
        return (self.training, self.gradients, self.autocast, sorted(self.options.items()))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and length."""
        rows, length = self.texts["attention_mask"].shape
        return rows, length

    @property
    def device(self) -> str:
        """The kind of device."""
        return self.texts["attention_mask"].device.type


class Member:
    """One of the runs that train together, in a thread of its own."""

    def __init__(self, pack: "Pack", name: str, run: Callable[[], JobReturn]):
        self.pack, self._run = pack, run
        self.model: TaskModel | None = None
        self.call: Call | None = None  # what it waits for, ...
        self.answer: BaseModelOutputWithPooling | None = None
        self.shares: list[tuple[Tensor, Tensor]] = []  # its rows of the joint output, and the leaves it got for them
        self.has_gradients = False  # ... or this
        self.ended = False
        self.thrown: BaseException | None = None  # into it where it waits, or by it at its end
        self.returned: JobReturn | None = None
        self.surroundings = Surroundings.now()
        self._turn, self._turn_back = Semaphore(0), Semaphore(0)
        self._thread = Thread(target=self._live, name=name, daemon=True)
        self._thread.start()

    def take_turn(self) -> None:
        """Let the run go on until it waits or ends.

        Raises:
            BaseException: what is not the run's to deal with, as its end by a signal.
        """
        self._turn.release()
        self._turn_back.acquire()
        if self.ended:
            self._thread.join()
            if self.thrown is not None:
                raise self.thrown

    def encode(self, inputs: dict[str, Any]) -> BaseModelOutputWithPooling:
        """The encoder's output, computed with those of the other runs."""
        assert self.model is not None
        texts = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        options = {name: value for name, value in inputs.items() if name not in texts}
        autocast = torch.is_autocast_enabled(texts["attention_mask"].device.type)
        self.call = Call(texts, options, self.model.training, torch.is_grad_enabled(), autocast)
        self._wait()
        assert self.answer is not None
        return self.answer

    def backward(self) -> None:
        """Carry the gradients of the encoder's output on into the prefixes, together with the other runs'."""
        if self.shares:
            self.has_gradients = True
            self._wait()

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Draw random numbers from this run's generators."""
        own = self.surroundings.random
        _set_torch_states(own)
        self.pack.drawing = True
        try:
            yield
        finally:
            self.pack.drawing = False
            own |= _torch_states()

    def _wait(self) -> None:
        self.surroundings = Surroundings.now()
        self._turn_back.release()
        self._turn.acquire()
        self.surroundings.restore()
        if self.thrown is not None:
            error, self.thrown = self.thrown, None
            raise error

    def _live(self) -> None:
        _member.set(self)
        self._turn.acquire()
        torch.set_num_threads(1)  # of OpenMP: threads of many members would crowd out those of the encoder
        try:
            if self.thrown is None:
                self.surroundings.restore()
                self.returned = self._run()
        except BaseException as error:
            self.thrown = error
        self.ended, self.call, self.has_gradients = True, None, False
        self._turn_back.release()


_member: ContextVar[Member | None] = ContextVar("member", default=None)


def member() -> Member | None:
    """The run whose thread this is, where it trains together with others."""
    return _member.get()


class Pack:
    """Runs that train together, by the names that stand before what they say."""

    def __init__(self, runs: Mapping[str, Callable[[], JobReturn]]):
        hardware()  # as it is for all, before each member counts one thread
        self.threads = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        self.shared: dict[str, Any] = {}
        self.encoder: JointEncoder | None = None
        self.drawing = False  # whether random numbers are one run's at the moment
        self.members = [Member(self, name, run) for name, run in runs.items()]

    def run(self) -> list[JobReturn]:
        """All of them to their ends.

        Raises:
            Preempted: where the machine is wanted back; each run has kept where it was.
        """
        ours, preempted = Surroundings.now(), None
        try:
            with listening():
                while living := [member for member in self.members if not member.ended]:
                    for member in living:
                        try:
                            member.take_turn()
                        except Preempted as end:  # the others come to the same, each at the end of its step
                            preempted = end
                    ours.restore()
                    self._answer([member for member in living if member.has_gradients], self._backward)
                    for calling in self._calling():
                        self._answer(calling, self._forward)
                if preempted is not None:
                    raise preempted
        except BaseException as error:
            for member in self.members:
                if not member.ended:
                    member.thrown = error
                    with suppress(BaseException):
                        member.take_turn()
            raise
        finally:
            ours.restore()
            torch.set_num_threads(self.threads)
        return [member.returned for member in self.members]  # type: ignore[misc]

    def _answer(self, members: list[Member], compute: Callable[[list[Member]], None]) -> None:
        """Compute what the runs wait for; an error is theirs."""
        try:
            compute(members)
        except Exception as error:
            for member in members:
                member.thrown = error
        for member in members:
            member.call, member.has_gradients = None, False

    def _backward(self, members: list[Member]) -> None:
        pairs = [(rows, leaf.grad) for member in members for rows, leaf in member.shares if leaf.grad is not None]
        for member in members:
            member.shares = []
        if pairs:
            outputs, gradients = zip(*pairs, strict=True)
            torch.autograd.backward(outputs, gradients)

    def _calling(self) -> list[list[Member]]:
        """The runs that wait for the encoder, in groups to compute at once: in the same modes, of like lengths."""
        waiting = sorted((m for m in self.members if m.call is not None), key=lambda m: _call(m).shape[1])
        found: list[list[Member]] = []
        for member in waiting:
            call = _call(member)
            for group in found:
                first = _call(group[0])
                rows = sum(_call(other).shape[0] for other in (*group, member))
                if first.modes == call.modes and (call.device != "cpu" or rows * call.shape[1] <= TOKENS):
                    group.append(member)
                    break
            else:
                found.append([member])
        return found

    def _forward(self, members: list[Member]) -> None:
        if self.encoder is None:
            self.encoder = JointEncoder(members[0])
        shares, start = [], 0
        for member in members:
            rows, length = _call(member).shape
            shares.append(Share(slice(start, start + rows), length, member.drawing))
            start += rows
        encoded = self.encoder(members, shares)
        for member, share in zip(members, shares, strict=True):
            hidden, pooled = encoded.last_hidden_state[share.rows, : share.length], encoded.get("pooler_output")
            outputs = [hidden] if pooled is None else [hidden, pooled[share.rows]]
            leaves = [output.detach().requires_grad_(output.requires_grad) for output in outputs]
            member.shares += [pair for pair in zip(outputs, leaves, strict=True) if pair[0].requires_grad]
            member.answer = BaseModelOutputWithPooling(*leaves)


def _call(member: Member) -> Call:
    assert member.call is not None
    return member.call


class JointEncoder:
    """An encoder with the weights of a run's, in which the rows of each run have its own prefixes and dropouts."""

    def __init__(self, member: Member):
        assert member.model is not None
        self.pack = member.pack
        self.encoder = sharing_copy(member.model.encoder)
        self.layers: list[JointPrefixes] = []
        for name, module in list(self.encoder.named_modules()):
            if isinstance(module, Prefix):
                parent, _, place = name.rpartition(".")
                self.layers.append(JointPrefixes(module.index))
                setattr(self.encoder.get_submodule(parent), place, self.layers[-1])

    def __call__(self, members: list[Member], shares: list[Share]) -> Any:
        """The output for the texts of all calls, padded to the longest."""
        calls = [_call(member) for member in members]
        first, longest = calls[0], max(share.length for share in shares)
        pads = {"input_ids": self.encoder.config.pad_token_id or 0}
        texts = {
            name: torch.cat(
                [
                    F.pad(call.texts[name], (0, longest - share.length), value=pads.get(name, 0))
                    for call, share in zip(calls, shares, strict=True)
                ]
            )
            for name in first.texts
        }
        carried = [prefixes(member.model) for member in members]  # type: ignore[arg-type]
        for layer in self.layers:
            layer.theirs = [(its[layer.index], share) for its, share in zip(carried, shares, strict=True)]
        self.encoder.train(first.training)
        with (
            torch.set_grad_enabled(first.gradients),
            torch.autocast(first.device, torch.get_autocast_dtype(first.device), enabled=first.autocast),
            OwnDropouts(self.pack, shares, longest),
        ):
            return self.encoder(**first.options, **texts)


class OwnDropouts(TorchFunctionMode):
    """The encoder's own dropouts on a joint batch: each run's are drawn as if its texts were alone."""

    def __init__(self, pack: "Pack", shares: list[Share], longest: int):
        super().__init__()
        self.pack, self.shares, self.longest = pack, shares, longest

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self.pack.drawing:
            if func is dropout or (func is F.dropout and kwargs["training"] and kwargs["p"] > 0):
                texts, rate = args if func is dropout else (*args, kwargs["p"])
                along = {3: (1,), 4: (2, 3)}.get(texts.dim(), ())  # hidden states, attention weights
                return self._apart(lambda input: func(input, rate), {"input": (texts, along)}, along)
            if func is F.scaled_dot_product_attention and kwargs.get("dropout_p", 0) > 0:
                states = {name: (tensor, (2,)) for name, tensor in zip(("query", "key", "value"), args, strict=True)}
                mask = kwargs.pop("attn_mask", None)
                masks = {} if mask is None else {"attn_mask": (mask, (2, 3))}
                return self._apart(partial(func, **kwargs), {**states, **masks}, (2,))
        return func(*args, **kwargs)

    def _apart(
        self, func: Callable[..., Tensor], tensors: dict[str, tuple[Tensor, tuple[int, ...]]], along: tuple[int, ...]
    ) -> Tensor:
        """`func` of each run's part of the tensors, each with its dimensions that are as long as the texts."""
        outputs = []
        for share in self.shares:
            with share.drawing():
                output = func(**{name: self._part(tensor, share, dims) for name, (tensor, dims) in tensors.items()})
            missing = [self.longest - share.length if dim in along else 0 for dim in reversed(range(output.dim()))]
            outputs.append(F.pad(output, [size for pad in missing for size in (0, pad)]))
        return torch.cat(outputs)

    def _part(self, tensor: Tensor, share: Share, along: tuple[int, ...]) -> Tensor:
        if len(tensor) != self.shares[-1].rows.stop:
            raise SptError(
                f"a dropout on {list(tensor.shape)}, which runs that train together would have in common: "
                "hydra/launcher=basic trains them one by one"
            )
        tensor = tensor[share.rows]
        for dim in along:
            tensor = tensor.narrow(dim, 0, min(share.length, tensor.shape[dim]))
        return tensor
