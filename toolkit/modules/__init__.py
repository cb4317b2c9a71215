"""The one walk through a network: what each call of a layer puts out, weighs and computes.

Names are the exporter's (toolkit/graphs/naming.py): a leaf module is its path (`features.3`; called
again: `relu#2`), a functional call `<owner path>/<op>` (`layer1.0/add`, `/flatten`; again:
`/flatten#2`). A module built on torch's `meta` device is walked without computing anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ModuleRow:
    """One call of a layer, in the order of execution.

    `call` counts from 1. `output_shape` is the first output's, with the batch. `parameters` and
    `weights_bytes` (parameters and buffers) stand on the first call that uses them and are 0 on
    later ones. `macs` are the multiply-adds of convolutions, dense and recurrent layers, attention and matrix
    products; other operations have none. None where an operation's are not worked out, which `uncounted`
    names. `activation_bytes` is the new memory of all outputs: 0 for a view and for
    an operation in place. `read_bytes` and `written_bytes` are the tensors that it was given, parameters
    aside, and those that it wrote, in place or not: both 0 for a view, and for what computes nothing.
    `depthwise` tells that a convolution is in it each of whose filters reads one channel of several.
    """

    name: str
    call: int
    type: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int | None
    weights_bytes: int
    activation_bytes: int
    read_bytes: int
    written_bytes: int
    uncounted: str | None = None
    depthwise: bool = False


def shadow(build: Callable[[int, int], nn.Module], channels: int, classes: int) -> nn.Module:
    """Build a network without memory for its weights: shapes only, on torch's `meta` device.

    One whose author computes with values while it is built is built with memory first.
    """
    import torch

    try:
        with torch.device("meta"):
            return build(channels, classes)
    except (RuntimeError, NotImplementedError):  # what a tensor without values cannot do
        return _without_values(build(channels, classes))


def _without_values(module: nn.Module) -> nn.Module:
    """Move a module to torch's `meta` device; weights of two names stay one, which `.to` alone breaks up."""
    firsts: dict[int, str] = {}
    tied = []
    for path, tensor in module.named_parameters(remove_duplicate=False):
        first = firsts.setdefault(id(tensor), path)
        if first != path:
            tied.append((path, first))
    module.to("meta")
    for path, first in tied:
        owner, _, name = path.rpartition(".")
        setattr(module.get_submodule(owner), name, module.get_parameter(first))
    return module


def walk(module: nn.Module, input_shape: tuple[int, ...]) -> tuple[ModuleRow, ...]:
    """Run zeros of (N, C, H, W) through a module in eval mode; return a row for each call.

    The module's own mode, weights and device stay as they are. Raises ShapeError when the shape
    does not pass through.
    """
    import torch

    from toolkit.errors import MISFITS, ShapeError

    tensor = next(module.parameters(), None)
    given = torch.zeros(
        input_shape,
        dtype=tensor.dtype if tensor is not None else torch.float32,
        device=tensor.device if tensor is not None else None,
    )
    try:
        return visit(module, given)
    except MISFITS as error:
        shape = "×".join(map(str, input_shape))
        raise ShapeError(f"a {shape} input does not pass through the network: {error}") from None


def visit(
    module: nn.Module,
    inputs: Tensor,
    on_output: Callable[[ModuleRow, Tensor], None] | None = None,
    *,
    training: bool = False,
) -> tuple[ModuleRow, ...]:
    """Run a module on a batch; return a row a call, and show each call's first output as it comes.

    With `training` it runs as a training step's forward pass does: recorded by autograd, and batch
    norms take note of the batch. Else nothing in the module changes.
    """
    return _run(module, inputs, on_output, training=training, recorded=training)[1]


def outputs(module: nn.Module, inputs: Tensor) -> tuple[Any, dict[str, Tensor]]:
    """Run a module on a batch in eval mode; return what it answers, and each call's first output by its name.

    Autograd records the run, so that gradients of the answer by each output can be asked for.
    """
    found: dict[str, Tensor] = {}

    def keep(row: ModuleRow, output: Tensor) -> None:
        found[row.name] = output

    return _run(module, inputs, keep, training=False, recorded=True)[0], found


def _run(
    module: nn.Module,
    inputs: Tensor,
    on_output: Callable[[ModuleRow, Tensor], None] | None,
    *,
    training: bool,
    recorded: bool,
) -> tuple[Any, tuple[ModuleRow, ...]]:
    """Run a module; return what it answers and a row a call."""
    import torch

    from toolkit.modules.calls import Calls

    modes = {part: part.training for part in module.modules()}
    calls = Calls(module, inputs, on_output)
    try:
        if any(mode is not training for mode in modes.values()):
            module.train(training)  # some networks throw away there what they have worked out
        with calls, torch.set_grad_enabled(recorded):
            answer = module(inputs)
    finally:
        for part, mode in modes.items():
            part.training = mode
    return answer, tuple(calls.rows)
