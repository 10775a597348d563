"""Timing for the benchmarks of kernels: cold L2 cache, launches counted, and what the device reaches at
most."""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What this device reached in this run: bytes/s of a large copy, FLOP/s of a large product; 0 where not
    measured."""

    bytes_per_s: float
    flops_per_s: float


def captured(call: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """The call as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call()

    def replay() -> torch.Tensor:
        graph.replay()
        return out

    return replay


def time_on_gpu(call: Callable[[], object], repeats: int, flush: torch.Tensor) -> tuple[list[float], list[float]]:
    """Microseconds (device, call), each with a flushed L2. While the flush runs the host may already launch
    the call, so a device time holds launch gaps only where launching takes longer than flushing."""
    on_device, calls = [], []
    for _ in range(10):
        call()
    for _ in range(repeats):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        flush.zero_()
        start.record()
        call()
        stop.record()
        torch.cuda.synchronize()
        on_device.append(start.elapsed_time(stop) * 1e3)
        flush.zero_()
        torch.cuda.synchronize()
        begin = time.perf_counter()
        call()
        torch.cuda.synchronize()
        calls.append((time.perf_counter() - begin) * 1e6)
    return on_device, calls


def time_on_cpu(call: Callable[[], object], repeats: int) -> list[float]:
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append((time.perf_counter() - begin) * 1e6)
    return times


def count_launches(call: Callable[[], object]) -> int:
    """Kernels, copies and fills on the device in one call, from the trace of the torch profiler."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as trace:
        call()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        trace.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    return sum(event.get("cat") in {"kernel", "gpu_memcpy", "gpu_memset"} for event in events)


def measure_ceiling(dtype: torch.dtype) -> Ceiling:
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    left = torch.randn(8192, 8192, device="cuda").to(dtype)
    small = torch.empty(1, device="cuda")
    copy, _ = time_on_gpu(lambda: target.copy_(source), 20, small)
    product, _ = time_on_gpu(lambda: left @ left, 20, small)
    return Ceiling(2 * 2**30 / (min(copy) * 1e-6), 2 * 8192**3 / (min(product) * 1e-6))


def flush_bytes() -> int:
    """Four times the L2 cache, 256 MiB at least."""
    return max(4 * torch.cuda.get_device_properties(0).L2_cache_size, 2**28)
