"""NVIDIA's driver through cuda-python: streams, modules, launches, graphs. No Triton and no torch at run time."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from qcompiler.errors import LoweringError

__all__ = ["Driver", "missing_driver"]


def _bindings() -> Any:
    try:
        from cuda.bindings import driver
    except ImportError:
        raise LoweringError("cuda-python is not installed", hint="pip install 'qcompiler[cuda]'") from None
    return driver


def missing_driver() -> str:
    """Why there is no device to launch on; empty where there is one."""
    try:
        Driver()
    except LoweringError as error:
        return error.what
    return ""


class Driver:
    """The first device, in its primary context, which onnxruntime uses too.

    ``capability`` is 10 * major + minor. Raises LoweringError without cuda-python, driver or device.
    """

    def __init__(self) -> None:
        self._cuda = _bindings()
        try:
            self._call("cuInit", 0)
            count = int(self._call("cuDeviceGetCount"))
        except RuntimeError as error:  # what cuda-python raises where there is no libcuda
            raise LoweringError(f"there is no NVIDIA driver: {error}") from None
        if not count:
            raise LoweringError("there is no device")
        device = self._call("cuDeviceGet", 0)
        context = self._call("cuDevicePrimaryCtxRetain", device)
        self._call("cuCtxSetCurrent", context)
        names = self._cuda.CUdevice_attribute
        major = self._call("cuDeviceGetAttribute", names.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device)
        minor = self._call("cuDeviceGetAttribute", names.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device)
        self.capability = 10 * int(major) + int(minor)
        self.name = bytes(self._call("cuDeviceGetName", 128, device)).split(b"\0")[0].decode()
        self.stream = self._call("cuStreamCreate", 1)  # not blocking: beside the default stream

    def _call(self, name: str, *arguments: Any) -> Any:
        """A call of the driver; what it gives beside its status. Raises LoweringError with the driver's words."""
        status, *given = getattr(self._cuda, name)(*arguments)
        if int(status):
            said = self._cuda.cuGetErrorString(status)
            text = said[1].decode() if not int(said[0]) and said[1] else str(status)
            raise LoweringError(f"{name}: {text}")
        return given[0] if given else None

    def function(self, cubin: bytes, entry: str, shared: int) -> Any:
        """The function ``entry`` of a cubin, allowed ``shared`` bytes. Raises LoweringError for another card's."""
        module = self._call("cuModuleLoadData", cubin)
        function = self._call("cuModuleGetFunction", module, entry.encode())
        if shared > 48 << 10:
            which = self._cuda.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._call("cuFuncSetAttribute", function, which, shared)
        return function

    def launch(
        self, function: Any, grid: tuple[int, int, int], warps: int, shared: int, arguments: Sequence[Any]
    ) -> None:
        """Start ``function`` on the stream. Pointers are given as themselves, sizes as :class:`ctypes.c_int32`."""
        sizes = [isinstance(item, ctypes.c_int32) for item in arguments]
        kinds = tuple(ctypes.c_int32 if size else ctypes.c_void_p for size in sizes)
        values = tuple(item.value if size else item for item, size in zip(arguments, sizes, strict=True))
        self._call("cuLaunchKernel", function, *grid, 32 * warps, 1, 1, shared, self.stream, (values, kinds), 0)

    def synchronize(self) -> None:
        """Wait for everything on the stream."""
        self._call("cuStreamSynchronize", self.stream)

    def captured(self, work: Any) -> Any:
        """What ``work`` starts on the stream, as a graph that is started at once; nothing of it runs now."""
        mode = self._cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuStreamBeginCapture", self.stream, mode)
        try:
            work()
        finally:
            graph = self._call("cuStreamEndCapture", self.stream)
        made = self._call("cuGraphInstantiate", graph, 0)
        self._call("cuGraphDestroy", graph)
        return made

    def release(self, graph: Any) -> None:
        """Let go of a graph of :meth:`captured`."""
        self._call("cuGraphExecDestroy", graph)

    def replay(self, graph: Any) -> None:
        """Start a graph of :meth:`captured`."""
        self._call("cuGraphLaunch", graph, self.stream)

    def seconds(self, work: Any, runs: int) -> float:
        """Seconds of one of ``runs`` of ``work`` on the stream, by the card's own clock."""
        start, end = self._call("cuEventCreate", 0), self._call("cuEventCreate", 0)
        self._call("cuEventRecord", start, self.stream)
        for _ in range(runs):
            work()
        self._call("cuEventRecord", end, self.stream)
        self._call("cuEventSynchronize", end)
        return float(self._call("cuEventElapsedTime", start, end)) * 1e-3 / runs
