"""The one walk through a network: what each call of a layer puts out, weighs and computes.

Names are the exporter's (toolkit/graphs/naming.py): a leaf module is its path (`features.3`; called
again: `relu#2`), a functional call `<owner path>/<op>` (`layer1.0/add`, `/flatten`; again:
`/flatten#2`). A module built on torch's `meta` device is walked without computing anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from toolkit.modules.calls import Calls


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


@dataclass(frozen=True, kw_only=True)
class WiredRows:
    """The rows of a walk, and by a row's name the values that its call was given and made, in order.

    A value goes by the call that made it (`lstm`, its second output `lstm:1`), by the path of a parameter or
    a buffer, or is `input`; `?` where no call made it. `answers` are those that the network returns.
    `settings` tells what a functional call was given beside tensors.
    """

    rows: tuple[ModuleRow, ...]
    reads: Mapping[str, tuple[str, ...]]
    writes: Mapping[str, tuple[str, ...]]
    answers: tuple[str, ...]
    settings: Mapping[str, str]


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
    return wired_walk(module, input_shape).rows


def wired_walk(module: nn.Module, input_shape: tuple[int, ...]) -> WiredRows:
    """Walk as `walk` does; return the rows with the values that their calls were given and made."""
    import torch

    from toolkit.errors import MISFITS, ShapeError
    from toolkit.modules.calls import tensors_of

    tensor = next(module.parameters(), None)
    given = torch.zeros(
        input_shape,
        dtype=tensor.dtype if tensor is not None else torch.float32,
        device=tensor.device if tensor is not None else None,
    )
    try:
        answer, calls = _run(module, given, None, training=False, recorded=False)
    except MISFITS as error:
        shape = "×".join(map(str, input_shape))
        raise ShapeError(f"a {shape} input does not pass through the network: {error}") from None
    answers = calls.values(tensors_of(answer))
    return WiredRows(
        rows=tuple(calls.rows),
        reads=calls.reads,
        writes=calls.writes,
        answers=answers,
        settings=calls.settings,
    )


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
    return tuple(_run(module, inputs, on_output, training=training, recorded=training)[1].rows)


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
) -> tuple[Any, Calls]:
    """Run a module; return what it answers and its calls."""
    import torch

    from toolkit.modules.calls import Calls

    modes = {part: part.training for part in module.modules()}
    with torch.set_grad_enabled(recorded):
        inputs = inputs.clone()  # some networks change their input in place
    calls = Calls(module, inputs, on_output)
    try:
        if any(mode is not training for mode in modes.values()):
            module.train(training)  # some networks throw away there what they have worked out
        with calls, torch.set_grad_enabled(recorded):
            answer = module(inputs)
    finally:
        for part, mode in modes.items():
            part.training = mode
    return answer, calls
