"""The network as a training starts with it: built, its weights drawn, and tried on the data's shape."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import nn

from toolkit.errors import MISFITS, CnnkitError, is_out_of_memory
from toolkit.figures import shape_text
from toolkit.models import ModelSpec
from toolkit.modules.operations import FunctionCall, Operations
from toolkit.outputs import logits_of
from toolkit.recipes import Init
from toolkit.telling import Tell, silent
from toolkit.training import Job, seeding
from toolkit.training.data.prepare import PreparedData
from toolkit.training.diagnostics import RECTIFYING
from toolkit.training.process.failures import is_of_the_gpu
from toolkit.transfer import load_pretrained


def fresh_network(
    job: Job,
    prepared: PreparedData,
    *,
    attempt: int = 0,
    narrow: Sequence[str] = (),
    by_classes: Collection[str] = (),
    tell: Tell = silent,
) -> nn.Module:
    """Build a job's network with the weights that an attempt starts with, on the CPU.

    The `narrow` layers start open; `by_classes` tell which layer is the head, whose pretrained weights are
    of other classes (toolkit/heads.py).
    """
    seeding.reseed("cpu", job.seed, seeding.WEIGHTS, attempt)
    module = job.model.build(prepared.preprocessing.channels, len(prepared.dataset.classes))
    initialise(module, job.recipe.init)
    open_start(module, narrow)
    if job.pretrained:
        classes = prepared.dataset.classes
        given = (job.model.name, module, job.pretrained, classes)
        tell(load_pretrained(*given, freeze=job.freeze, by_classes=by_classes))
    return module


def insist_that_it_fits(
    module: nn.Module, model: ModelSpec, prepared: PreparedData, device: torch.device
) -> tuple[FunctionCall, ...]:
    """Show a network two empty pictures; return the operations that it computes its scores with.

    Raises CnnkitError if it cannot take or judge the data's.
    """
    size, classes = prepared.preprocessing.size, len(prepared.dataset.classes)
    shape, own = (prepared.preprocessing.channels, *size), model.input_shape[1:]
    advice = f"; its own size is {shape_text(own)}, which leaving out --size gives it" if size != own else ""
    watching = Operations(module)
    try:
        with torch.no_grad(), watching:
            scores = logits_of(module.eval()(torch.zeros(2, *shape, device=device)))
    except MISFITS as error:
        if is_out_of_memory(error) or is_of_the_gpu(error):
            raise
        why = " ".join(str(error).split()) or type(error).__name__
        raise CnnkitError(
            f"{model.name} cannot take pictures of {shape_text(shape)} ({why}){advice}"
        ) from None
    answered = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
    if answered != (2, classes):
        what = f"shape {answered}" if isinstance(answered, tuple) else f"a {answered} without logits in it"
        raise CnnkitError(
            f"{model.name} answers two pictures with {what}, and {classes} classes need "
            f"(2, {classes}): build the last layer with as many outputs as it is asked for"
        )
    return tuple(watching.found)


def initialise(module: nn.Module, init: Init) -> None:
    """Start the weights of convolutions and dense layers as a recipe's `init` says, from torch's generator.

    `default` keeps what the layers drew themselves: PyTorch's uniform start.
    """
    for layer in module.modules():
        if init == "default" or not isinstance(layer, (nn.Conv2d, nn.Linear)):
            continue
        if init == "xavier-uniform":
            nn.init.xavier_uniform_(layer.weight)
        else:
            nn.init.kaiming_uniform_(layer.weight, a=0, mode="fan_in", nonlinearity="relu")


def narrow_layers(operations: Sequence[FunctionCall]) -> tuple[str, ...]:
    """Return the layers between two ReLUs that have no more channels than there are answers."""
    weighted: dict[str, int] = {}
    behind: set[str] = set()
    before: set[str] = set()
    answers, last = 0, None
    rectified = False
    for operation in operations:
        if operation.channels is not None:
            answers, last = operation.channels, operation.layer
            if last is not None:
                weighted[last] = answers
                if rectified:
                    behind.add(last)
        elif operation.name == "add":
            last = None  # what comes of a sum is open where either of its parts is
        elif operation.name in RECTIFYING and weighted:
            rectified = True
            if last is not None:
                before.add(last)
    return tuple(n for n, channels in weighted.items() if n in behind & before and channels <= answers)


def open_start(module: nn.Module, narrow: Sequence[str]) -> None:
    """Start a network's narrow layers so that each of their channels answers to some pictures.

    What comes into them is positive and much alike from picture to picture, so a channel's sign is that of
    the sum of its weights, and the usual start shuts half of the channels on every picture. Where there are
    as few as classes (the last block of NiN) those are lost for good. Here their weights sum to 0 above a
    bias of 1, and 1×1 convolutions of as many channels as come in start near the identity. All others start
    as Kaiming et al. (2015) have it: with Xavier's weights each ReLU halves what comes through, and at the
    low rates that such a network is given here it stays where it is for most of a run. A network without
    narrow layers is left as it is.
    """
    if narrow:
        initialise(module, "kaiming-uniform")
    with torch.no_grad():
        for name in narrow:
            layer = module.get_submodule(name)
            assert isinstance(layer, (nn.Conv2d, nn.Linear))  # as narrow_layers says
            weight = layer.weight
            same = weight[0].numel() == len(weight)
            if same:
                weight.mul_(0.1).view(len(weight), -1).diagonal().add_(1)
            else:
                weight.sub_(weight.mean(1, keepdim=True))  # at each place of a kernel: some see only padding
            if layer.bias is not None:
                layer.bias.fill_(0 if same else 1)
