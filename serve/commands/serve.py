"""`cnnkit serve`: the page and the API of one or several models, on one port."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.core import ParameterSource

from serve.commands._site import serve_site
from serve.hosting import HOSTINGS, HostingPlace, replicas_of
from serve.settings import USUAL_DELAY_MS, BatchingSettings, OpeningSettings, ServeSettings
from toolkit.catalog import place_words
from toolkit.cli import parameters, printing
from toolkit.cli.options import (
    backend_option,
    device_option,
    model_file_option,
    precision_option,
    root_option,
    seed_option,
    threads_option,
    untrained_option,
)
from toolkit.cli.overruling import takes_choice
from toolkit.passports import Precision


def _check_place(text: str) -> str:
    HostingPlace.of(text)
    return text


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@backend_option("[default: the usual one].")
@click.option("--host", default=ServeSettings.host, show_default=True, help="Address to listen on.")
@click.option(
    *("--port", "--http-port", "port"),
    type=click.IntRange(0, 65535),
    default=ServeSettings.port,
    show_default=True,
    help="0: any free one.",
)
@click.option(
    "--model-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Every artifact under a folder instead of MODELs, as a cluster mounts it.",
)
@click.option("--page/--no-page", default=True, help="--no-page: the API alone, without Gradio.")
@click.option(
    "--web", "as_site", is_flag=True, help="The folder of `export --format web` instead: browsers run it."
)
@click.option("--auth", metavar="USER:PASSWORD", envvar="CNNKIT_AUTH", help="Ask for this name and password.")
@click.option("--token", envvar="CNNKIT_TOKEN", help="Ask programs for this bearer token.")
@click.option(
    "--max-batch",
    type=click.IntRange(1),
    default=BatchingSettings.max_batch,
    show_default=True,
    help="Rows run together.",
)
@click.option(
    "--max-delay",
    type=parameters.FiniteRange(0),
    help="Milliseconds that callers in company wait for more "
    f"[default: {USUAL_DELAY_MS:g}, or what a choice's curve saves].",
)
@click.option(
    "--max-waiting",
    type=click.IntRange(1),
    default=BatchingSettings.max_waiting,
    show_default=True,
    help="Rows in the queue, and pictures to decode; the next is answered 429.",
)
@click.option(
    "--deadline",
    type=parameters.FiniteRange(0, min_open=True),
    default=ServeSettings.deadline_s,
    show_default=True,
    help="Seconds for a request, body and all, then 504.",
)
@click.option(
    "--public-name",
    "public_names",
    multiple=True,
    metavar="NAME",
    help="Host name that people use, https:// before it where they do; with a proxy in front.",
)
@click.option("--root-path", default="", metavar="/PATH", help="Path that a proxy shows the server under.")
@click.option(
    "--trust-proxy",
    multiple=True,
    metavar="ADDRESS",
    help="Address or network of a proxy whose X-Forwarded headers count.",
)
@click.option(
    "--keep-alive",
    type=parameters.FiniteRange(1),
    default=ServeSettings.keep_alive_s,
    show_default=True,
    help="Seconds that a connection may wait for its next request: longer than the proxy keeps it.",
)
@click.option(
    "--stop-delay",
    type=parameters.FiniteRange(0),
    default=ServeSettings.stop_delay_s,
    show_default=True,
    help="Seconds to answer on, not ready, before a stop: as long as a balancer takes to see it.",
)
@click.option(
    "--grpc-port", type=click.IntRange(0, 65535), help="Port for the protocol over gRPC; 0: any free one."
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    default=ServeSettings.processes,
    show_default=True,
    help="Processes that answer on the port; each opens the models.",
)
@click.option(
    "--on",
    cls=parameters.Listed,
    listing=lambda: place_words(HOSTINGS),
    metavar="PLACE",
    callback=parameters.checked(_check_place),
    help="Where it runs [default: this machine].",
)
@click.option(
    "--replicas",
    callback=parameters.checked(replicas_of),
    metavar="N|MIN-MAX",
    help="Of a cluster: replicas that answer, as many as the queue asks for [default: 1].",
)
@click.option("--model-control", is_flag=True, help="Let the API load and unload models of the folder.")
@click.option("--log-requests", is_flag=True, help="A line of JSON for each request, on standard output.")
@precision_option
@device_option
@threads_option
@untrained_option
@seed_option
@model_file_option
@root_option
def serve(
    *,
    models: tuple[str, ...],
    backend: str | None,
    host: str,
    port: int,
    model_dir: Path | None,
    page: bool,
    as_site: bool,
    auth: str | None,
    token: str | None,
    max_batch: int,
    max_delay: float | None,
    max_waiting: int,
    deadline: float,
    public_names: tuple[str, ...],
    root_path: str,
    trust_proxy: tuple[str, ...],
    keep_alive: float,
    stop_delay: float,
    log_requests: bool,
    model_control: bool,
    grpc_port: int | None,
    processes: int,
    on: str | None,
    replicas: tuple[int, int] | None,
    precision: Precision | None,
    device: str,
    threads: int | None,
    untrained: bool,
    seed: int,
    model_file: Path | None,
    root: Path,
) -> None:
    """Serve MODELs (default: the newest): a page for people, an API for programs."""
    if as_site:
        _refuse_beside_web(models)
        serve_site(next(iter(models), None), host=host, port=port, root=root, tell=printing.say)
        return
    from serve import server
    from toolkit.backends import DEFAULT_BACKEND

    _refuse_empty("auth", auth)
    _refuse_empty("token", token)
    if auth is not None and not all(auth.partition(":")[::2]):
        raise click.UsageError("--auth takes USER:PASSWORD")
    if model_dir is not None and models:
        raise click.UsageError(f"--model-dir serves all that is in {model_dir}: leave {models[0]} away")
    for name, word in {"root": "--artifacts", "untrained": "--untrained", "seed": "--seed"}.items():
        typed = click.get_current_context().get_parameter_source(name)
        if model_dir is not None and typed is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--model-dir serves all that is in {model_dir}: leave {word} away")
    settings = ServeSettings(
        backend=DEFAULT_BACKEND if backend is None else backend,
        opening=OpeningSettings(
            root=model_dir or root,
            precision=precision or "fp32",
            insists=precision is not None,
            untrained=untrained,
            seed=seed,
            device=device,
            threads=threads,
            model_file=model_file,
        ),
        host=host,
        port=port,
        page=page,
        batching=BatchingSettings(max_batch=max_batch, delay_ms=max_delay, max_waiting=max_waiting),
        deadline_s=deadline,
        auth=auth,
        token=token,
        public_names=public_names,
        root_path=root_path,
        trust_proxy=trust_proxy,
        keep_alive_s=keep_alive,
        stop_delay_s=stop_delay,
        log_requests=log_requests,
        model_control=model_control,
        grpc_port=grpc_port,
        choices=takes_choice(backend=backend, device=device),
        model_dir=model_dir,
        processes=processes,
        on=on,
        replicas=replicas,
    )
    server.serve(*models, settings=settings, tell=printing.say)


def _refuse_beside_web(models: tuple[str, ...]) -> None:
    """Refuse what a folder of files knows nothing of: people would rely on it."""
    if len(models) > 1:
        raise click.UsageError("--web takes one MODEL")
    context = click.get_current_context()
    typed = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    known = {"models", "as_site", "host", "port", "root"}
    others = [n for n in context.params if n not in known and context.get_parameter_source(n) in typed]
    if others:
        word = f"--{others[0].replace('_', '-')}"
        raise click.UsageError(f"--web goes with --host, --port and --artifacts, not with {word}")


def _refuse_empty(option: str, value: str | None) -> None:
    """Refuse what was meant to keep people out and holds nothing: most often a variable that is not set."""
    variable = f"CNNKIT_{option.upper()}"
    # click takes an empty variable for none at all
    unset = value is None and os.environ.get(variable) == ""
    if unset or value == "":
        given = variable if unset else f"--{option}"
        raise click.UsageError(f"{given} is empty, so that nobody would be asked; fill it or leave it out")


ORDER = 110
COMMAND = serve
