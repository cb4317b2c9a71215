"""NVIDIA's driver by ctypes: devices, memory and a stream, with no CUDA package to install.

Only functions of the stable driver interface (`libcuda.so.1`, which comes with the driver) are
called. Pointers and handles are plain integers, as TensorRT's bindings take them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.errors import OutOfMemoryError, UnavailableError

LIBRARY = "libcuda.so.1"
# CUdevice_attribute: compute capability, major and minor
_MAJOR, _MINOR = 75, 76
# a CUresult
OUT_OF_MEMORY = 2

# every driver function used here, with its argument types; all return a CUresult
_P, _I, _S, _U = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint
_DEVICE_POINTER = ctypes.c_uint64
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (_U,),
    "cuDriverGetVersion": (_P,),
    "cuDeviceGetCount": (_P,),
    "cuDeviceGet": (_P, _I),
    "cuDeviceGetName": (ctypes.c_char_p, _I, _I),
    "cuDeviceGetAttribute": (_P, _I, _I),
    "cuDeviceTotalMem_v2": (_P, _I),
    "cuDevicePrimaryCtxRetain": (_P, _I),
    "cuDevicePrimaryCtxRelease_v2": (_I,),
    "cuCtxSetCurrent": (_P,),
    "cuMemAlloc_v2": (_P, _S),
    "cuMemFree_v2": (_DEVICE_POINTER,),
    "cuMemcpyHtoDAsync_v2": (_DEVICE_POINTER, _P, _S, _P),
    "cuMemcpyDtoHAsync_v2": (_P, _DEVICE_POINTER, _S, _P),
    "cuStreamCreate": (_P, _U),
    "cuStreamSynchronize": (_P,),
    "cuStreamDestroy_v2": (_P,),
    "cuEventCreate": (_P, _U),
    "cuEventRecord": (_P, _P),
    "cuEventElapsedTime": (_P, _P, _P),
    "cuEventDestroy_v2": (_P,),
    "cuGetErrorString": (_I, _P),
}


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU: its index, name, compute capability (`SM89`) and memory."""

    index: int
    name: str
    capability: str
    memory_bytes: int


@cache
def _driver() -> ctypes.CDLL | None:
    """Return the driver's library with its signatures set; None where there is none."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, _I
    return library


@cache
def _start() -> int:
    """Start the driver, which must be here; return its CUresult, 0 where it runs."""
    driver = _driver()
    assert driver is not None
    return int(driver.cuInit(0))


def _words(status: int) -> str:
    """Return what the driver, which must be here, says of a CUresult."""
    driver, text = _driver(), ctypes.c_char_p()
    assert driver is not None
    driver.cuGetErrorString(status, ctypes.byref(text))
    return f"{text.value.decode()} (error {status})" if text.value else f"error {status}"


def driver_trouble() -> str | None:
    """Say why no GPU can be used through the driver; None where it runs.

    A container without the GPUs' fabric, or a driver of another release than its kernel module, has the
    library and does not start it.
    """
    if _driver() is None:
        return "no NVIDIA driver is loaded here"
    return f"the NVIDIA driver does not start: {_words(_start())}" if _start() else None


def _call(name: str, *arguments: Any) -> None:
    """Call one driver function. Raises UnavailableError with the driver's own words."""
    trouble = driver_trouble()
    if trouble is not None:
        raise UnavailableError(f"{trouble}; `cnnkit doctor` says what is here")
    status = getattr(_driver(), name)(*arguments)
    if status == OUT_OF_MEMORY:
        raise OutOfMemoryError(f"the NVIDIA driver refused {name}: {_words(status)}")
    if status != 0:
        raise UnavailableError(f"the NVIDIA driver refused {name}: {_words(status)}")


def driver_version() -> str | None:
    """Return the newest CUDA that the driver serves, started or not, as `13.0`; None without a driver."""
    driver, version = _driver(), _I()
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def device_count() -> int:
    """Count the GPUs that the driver can use; 0 where there is none or no driver."""
    driver = _driver()
    count = _I()
    if driver is None or _start() or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def gpus() -> tuple[Gpu, ...]:
    """Return every GPU that the driver can use."""
    return tuple(_gpu(index) for index in range(device_count()))


def _gpu(index: int) -> Gpu:
    device, major, minor, memory = _I(), _I(), _I(), _S()
    name = ctypes.create_string_buffer(256)
    _call("cuDeviceGet", ctypes.byref(device), index)
    _call("cuDeviceGetName", name, 256, device)
    _call("cuDeviceGetAttribute", ctypes.byref(major), _MAJOR, device)
    _call("cuDeviceGetAttribute", ctypes.byref(minor), _MINOR, device)
    _call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    return Gpu(
        index=index,
        name=name.value.decode(errors="replace"),
        capability=f"SM{major.value}{minor.value}",
        memory_bytes=memory.value,
    )


class Device:
    """A GPU's primary context with one stream and named buffers that grow when they must."""

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self._buffers: dict[str, tuple[int, int]] = {}
        handle, context, stream = _I(), ctypes.c_void_p(), ctypes.c_void_p()
        _call("cuDeviceGet", ctypes.byref(handle), index)
        self._handle = handle.value
        # the primary context is the one that TensorRT's CUDA runtime uses, too
        _call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._handle)
        self._context = context
        self.activate()
        _call("cuStreamCreate", ctypes.byref(stream), 0)
        self._stream: ctypes.c_void_p | None = stream

    @property
    def stream(self) -> int:
        """The stream's handle, as TensorRT takes it."""
        return int((self._stream.value if self._stream else 0) or 0)

    def activate(self) -> None:
        """Make this GPU the calling thread's; a context belongs to a thread."""
        _call("cuCtxSetCurrent", self._context)

    def buffer(self, name: str, size_bytes: int) -> int:
        """Return the address of a buffer of at least that size, kept under its name."""
        address, capacity = self._buffers.get(name, (0, 0))
        if capacity < size_bytes or address == 0:
            if address:
                _call("cuMemFree_v2", self._buffers.pop(name)[0])
            made = ctypes.c_uint64()
            _call("cuMemAlloc_v2", ctypes.byref(made), max(size_bytes, 1))
            self._buffers[name] = (made.value, max(size_bytes, 1))
        return self._buffers[name][0]

    def upload(self, name: str, array: NDArray[Any]) -> int:
        """Copy a contiguous array to the buffer of that name on the stream; return its address."""
        address = self.buffer(name, array.nbytes)
        _call("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, self._stream)
        return address

    def download(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Queue the copy of a buffer into a new array; it is filled after `synchronise`."""
        array = np.empty(shape, dtype)
        address = self._buffers[name][0]
        _call("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, self._stream)
        return array

    def synchronise(self) -> None:
        """Wait until everything on the stream is done."""
        _call("cuStreamSynchronize", self._stream)

    def mark(self) -> ctypes.c_void_p:
        """Put an event on the stream; `elapsed_ms` needs two, and `forget` frees it."""
        event = ctypes.c_void_p()
        _call("cuEventCreate", ctypes.byref(event), 0)
        _call("cuEventRecord", event, self._stream)
        return event

    def elapsed_ms(self, first: ctypes.c_void_p, second: ctypes.c_void_p) -> float:
        """Return the milliseconds between two events that the stream has passed, by the GPU's clock."""
        found = ctypes.c_float()
        _call("cuEventElapsedTime", ctypes.byref(found), first, second)
        return found.value

    def forget(self, events: Iterable[ctypes.c_void_p]) -> None:
        """Free events."""
        for event in events:
            _call("cuEventDestroy_v2", event)

    def close(self) -> None:
        """Free buffers, stream and context; closing twice is harmless."""
        if self._stream is None:
            return
        self.activate()
        for address, _ in self._buffers.values():
            _call("cuMemFree_v2", address)
        self._buffers.clear()
        _call("cuStreamDestroy_v2", self._stream)
        self._stream = None
        _call("cuDevicePrimaryCtxRelease_v2", self._handle)
