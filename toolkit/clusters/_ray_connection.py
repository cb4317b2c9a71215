"""Ray's clusters: connected to, or started on this machine; who is in them, and whether they fit this one.

The one place that speaks to Ray of connections, for sweeps, ranks and serving alike: versions, silence,
addresses and errors. Imports Ray when connecting, and not before.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from toolkit.errors import CnnkitError, UnavailableError, needs_extra
from toolkit.machine.cpu import Cpu
from toolkit.telling import Tell, silent

T = TypeVar("T")

_ANSWER_S = 5.0
_NODE_ANSWER_S = 60.0
# what an HTTP/2 client says first, with its empty settings; a gRPC server, as Ray's head is, sends its own
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_SETTINGS_FRAME = 4
# a resource that only the head node has
_OF_THE_HEAD = "node:__internal_head__"
# what decides a weight's last bit; libraries of networks count where both machines have them
COMPARED = ("cnnkit", "torch", "numpy", "pillow")
LIBRARIES = ("torchvision", "timm")


class UnfitMachineError(CnnkitError):
    """A machine of a cluster that cannot take work which others can: for its releases, or want of room."""


@dataclass(frozen=True, kw_only=True)
class RayMachine:
    """One machine of a cluster, with all that it has, in use or not; `name` is what people are told.

    `heads` tells of the head node.
    """

    id: str
    name: str
    cpus: float
    gpus: float
    memory_bytes: int
    heads: bool = False


@contextlib.contextmanager
def connected(
    address: str | None = None, *, tell: Tell = silent, verbose: bool = False
) -> Iterator[str | None]:
    """Connect to the Ray at `address`, or start one on this machine; part from it, or end it, on the way out.

    `address` is HOST:PORT of a head node, with a node of the cluster on this machine, or ray://HOST:PORT of
    its client server; None is $RAY_ADDRESS, else a Ray that runs here, else one that is started. Yielded is
    the address that this came to, None where no address was said: the Ray is this machine's. Within,
    `ray` may be used; what Ray itself says is shown only when `verbose`. Raises MissingExtraError,
    UnavailableError.
    """
    hushed(verbose=verbose)
    with needs_extra("ray"):
        import ray
    address = resolved(address)
    if address:
        _insist_on_an_answer(address)
    level = logging.WARNING if verbose else logging.CRITICAL
    with _last_words(address):
        with _own_signals(), _in_words(address), _quiet(verbose):
            ray.init(
                address=address,
                include_dashboard=False if address is None else None,
                log_to_driver=verbose,
                logging_level=level,
            )
        if not verbose:
            _silence_listener()
        try:
            tell(_introduced(address, nodes()))
            yield address
        finally:
            ray.shutdown()


def resolved(address: str | None) -> str | None:
    """Return the address that is meant, $RAY_ADDRESS where none was typed; None for this machine's Ray."""
    address = address or os.environ.get("RAY_ADDRESS")
    return None if address == "auto" else address


def runs_here() -> bool:
    """Tell whether a Ray runs here that is taken where no address is said. Raises MissingExtraError."""
    with needs_extra("ray"):
        from ray._private import services

    return services.canonicalize_bootstrap_address(None) is not None  # as ray.init looks for one


def began_here() -> bool:
    """Tell whether the Ray that this process is connected to was started by it, and ends with it."""
    from ray._private import worker

    node: Any = worker._global_node
    return node is not None and bool(node.is_head())


def nodes() -> tuple[RayMachine, ...]:
    """Return the machines of the cluster that answer, in the order of their names."""
    import ray

    every: Callable[[], list[dict[str, Any]]] = ray.nodes  # which says nothing of its types
    found = [node for node in every() if node["Alive"]]
    names = [str(node["NodeManagerHostname"]) for node in found]

    def named(node: Mapping[str, Any], name: str) -> RayMachine:
        # several nodes of one machine, as tests have them, are told apart
        name = name if names.count(name) == 1 else f"{name}/{node['NodeID'][:6]}"
        has = node["Resources"]
        return RayMachine(
            id=node["NodeID"],
            name=name,
            cpus=has.get("CPU", 0.0),
            gpus=has.get("GPU", 0.0),
            memory_bytes=int(has.get("memory", 0)),
            heads=_OF_THE_HEAD in has,
        )

    return tuple(sorted(map(named, found, names), key=lambda node: (node.name, node.id)))


def insist_on_one_release(machines: tuple[RayMachine, ...], packages: tuple[str, ...] = COMPARED) -> None:
    """Raise UnfitMachineError where a machine lacks cnnkit, or has another release of a package named."""
    # a function within a function is sent as it is, so that it runs where no cnnkit can be imported
    asked = (*packages, *LIBRARIES)
    mine = _probe()(asked)
    for machine, found in _asked(machines, _probe(), asked).items():
        _compare(machine.name, found, mine)


def processors(machines: Sequence[RayMachine]) -> Mapping[RayMachine, Cpu]:
    """Return each machine's processor. Raises UnfitMachineError."""

    def look() -> Cpu:
        from toolkit.machine.cpu import cpu

        return cpu()

    return _asked(machines, look)


def unlike(found: Mapping[RayMachine, Cpu]) -> str | None:
    """Say which machine computes bf16 itself and which does not; None where they are alike in that."""
    fast = {one.fast_bf16: f"{machine.name} ({one.name})" for machine, one in found.items()}
    return f"{fast[True]} computes bf16 itself, and {fast[False]} does not" if len(fast) == 2 else None


def _asked(machines: Sequence[RayMachine], do: Callable[..., T], *given: Any) -> Mapping[RayMachine, T]:
    """Have each machine answer. Raises UnfitMachineError where one runs nothing."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(do)
    asked = {}
    for machine in machines:
        there = NodeAffinitySchedulingStrategy(machine.id, soft=False)
        asked[machine] = task.options(scheduling_strategy=there).remote(*given)
    found = {}
    for machine, reference in asked.items():
        try:
            found[machine] = ray.get(reference, timeout=_NODE_ANSWER_S)
        except ray.exceptions.RayError as error:
            raise UnfitMachineError(
                f"{machine.name} of the cluster runs no work: {first_line(error)}"
            ) from None
    return found


def first_line(error: BaseException) -> str:
    """Return what an error of Ray says, without the traces that it brings along."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def last_line(error: BaseException) -> str:
    """Return what an error within work of Ray's was, which stands at the end of its trace."""
    return str(error).strip().splitlines()[-1]


def answers(address: str) -> bool:
    """Tell whether something that speaks gRPC, as Ray's head does, answers at HOST:PORT."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S) as stream:
            stream.sendall(_GREETING)
            frame = stream.recv(4)
    except OSError:
        return False
    return len(frame) == 4 and frame[3] == _SETTINGS_FRAME


def _probe() -> Callable[[tuple[str, ...]], Mapping[str, str | None]]:
    def releases(packages: tuple[str, ...]) -> Mapping[str, str | None]:
        import importlib.metadata

        found: dict[str, str | None] = {}
        for name in packages:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = None
        return found

    return releases


def _compare(name: str, there: Mapping[str, str | None], here: Mapping[str, str | None]) -> None:
    if there["cnnkit"] is None and here["cnnkit"] is not None:
        raise UnfitMachineError(
            f"{name} has no cnnkit: pip install cnnkit=={here['cnnkit']} there, as it is here"
        )
    wrong = [
        package
        for package in here
        if there[package] != here[package]
        and (package not in LIBRARIES or None not in (there[package], here[package]))
    ]
    if wrong:
        other = [f"{package} {there[package] or 'missing'}" for package in wrong]
        mine = ", ".join(f"{package} {here[package]}" for package in wrong)
        raise UnfitMachineError(
            f"{name} has {', '.join(other)}, and this machine {mine}: results would differ; install the same "
            "releases"
        )


def hushed(*, verbose: bool) -> None:
    """Tell Ray, before it is imported, to count nobody's use of it and to say nothing by itself."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # silences a notice about what later releases do with CUDA_VISIBLE_DEVICES; no cell here relies on that
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not verbose:
        # errors of its own come to stderr otherwise, also once there are files for them
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")


@contextlib.contextmanager
def _quiet(verbose: bool) -> Iterator[None]:
    """Keep off stderr what Ray writes there while it connects, before it has files for that.

    One line it writes whatever it is told: that it was told to write less.
    """
    if verbose:
        yield
        return
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def _last_words(address: str | None) -> Iterator[None]:
    """Have a process beside this one say what happened where Ray ends this one.

    It does so, silently and with status 1, as soon as its node on this machine is gone.
    """
    said = (
        f"error: this command was ended, by a kill or by Ray, whose {_place(address)} is gone; once there is "
        "a cluster again, the same command goes on, a training with --resume\n"
    )
    words = [sys.executable, "-ISc", "import sys; sys.stdin.read() or sys.stderr.write(sys.argv[1])", said]
    with subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True) as beside:
        try:
            yield
        finally:
            beside.communicate(b"parted")


def _place(address: str | None) -> str:
    return f"node on this machine, or the head at {address}," if address else "node on this machine"


def _silence_listener() -> None:
    """Keep the end of a node off stdout, where Ray's listening thread prints it whatever it is told."""
    from ray._private import worker

    def drop(data: Mapping[str, Any], ignore_prefix: bool) -> None:
        """Print nothing."""

    worker.print_to_stdstream = drop


def _insist_on_an_answer(address: str) -> None:
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise CnnkitError(
            f"no address of Ray {address!r}: HOST:PORT of a head node, where 6379 is the usual port, or "
            "ray://HOST:10001"
        )
    if not answers(address):
        raise UnavailableError(
            f"no Ray answers at {address}; `ray start --head` starts one there, `ray status` shows it; "
            "without an address, one is started on this machine"
        )


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what this process does when asked to end: Ray takes that over when it connects."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _in_words(address: str | None) -> Iterator[None]:
    """Turn what keeps Ray from connecting into one line. Raises UnavailableError."""
    where = f"the Ray at {address}" if address else "Ray on this machine"
    try:
        yield
    except (RuntimeError, ConnectionError, OSError, ValueError, AssertionError) as error:
        text = " ".join(str(error).split())
        if "ersion mismatch" in text:
            told = text.partition("The cluster was started with:")[2].replace(" This", "; this").strip()
            raise UnavailableError(
                f"{where} is of another version than this machine's: there {told or text}; install one"
            ) from None
        if "client connection timeout" in text:  # which is all that a client hears where its token is missing
            text += "; where it asks for a token: RAY_AUTH_MODE=token and the head's ~/.ray/auth_token"
        raise UnavailableError(f"{where} cannot be used: {text[:300] or type(error).__name__}") from None


def _introduced(address: str | None, machines: tuple[RayMachine, ...]) -> str:
    cpus, gpus = (sum(getattr(one, what) for one in machines) for what in ("cpus", "gpus"))
    count, place = len(machines), f"at {address}" if address else "on this machine"
    has = f"{count} machine{'' if count == 1 else 's'}, CPUs {cpus:g}{f', GPUs {gpus:g}' if gpus else ''}"
    return f"Ray {version('ray')} {place}: {has}"
