"""OpenVINO: runs ONNX files and its own IR on the CPU, in the precision that it is told and in no other.

Left to itself, OpenVINO computes fp32 files in bf16 where the processor can, and says nothing. So it is
always told, and what it compiled is read back and held against the name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import ClassVar

from toolkit.artifacts import Artifact
from toolkit.backends import Availability, Backend, BackendSetting, Engine, EngineOptions
from toolkit.backends._openvino_engine import OpenVinoEngine
from toolkit.backends._openvino_files import GRAPH_FILE, IR, PACKAGE, import_openvino, lacks, release
from toolkit.graphs import GRAPH
from toolkit.passports import Format, Precision

__all__ = ["BACKEND", "GRAPH_FILE", "IR"]

HOW_TO_GET = "pip install 'cnnkit[openvino]'"


class OpenVino(Backend):
    """OpenVINO on the CPU."""

    name = "openvino"
    title = "OpenVINO"
    summary = "OpenVINO on the CPU, in bf16, too"
    platform = "openvino"
    formats: ClassVar[Mapping[Format, str | None]] = {GRAPH: GRAPH, IR: IR}
    computes: ClassVar[Mapping[Precision, Precision]] = {"bf16": "fp32"}
    order = 2
    settings: ClassVar[Mapping[str, BackendSetting]] = {
        "streams": BackendSetting(
            choices=("1", "2", "4", "8"),
            default="1",
            help="Among how many of OpenVINO's streams a batch's rows are divided.",
            tries=("2", "4", "8"),
        )
    }

    def variants(self, artifact: Artifact, *, threads: int, batch: int) -> Iterator[Mapping[str, str]]:
        for one in super().variants(artifact, threads=threads, batch=batch):
            streams = int(one.get("streams", "1"))
            # a stream needs a thread, and rows that it does not share
            if streams == 1 or (streams <= threads and batch % streams == 0 and batch >= 2 * streams):
                yield one

    def availability(self) -> Availability:
        if find_spec(PACKAGE) is None:
            return Availability(available=False, why_not="OpenVINO is not installed", how_to_get=HOW_TO_GET)
        return Availability(available=True, version=release(), devices=("cpu",))

    def import_runtime(self) -> None:
        import_openvino()

    def lacks(self, precision: Precision) -> str | None:
        return lacks(precision)

    def open(self, artifact: Artifact, options: EngineOptions) -> Engine:
        self.require()
        self.device_for(options)
        self.setting(options, "streams")
        return OpenVinoEngine(artifact, options)


BACKEND = OpenVino()
