"""Recording a forward as a CUDA graph, which replays its hundreds of launches as one. It reads its inputs where they lay when
it was recorded; `engine/graphs.py` and `whisper_passes.py` keep buffers for that."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Forward = Callable[[], Tensor]
Capture = Callable[[Forward], Forward]
"""Makes of a forward its replay; on a CPU the tests give one that only runs the forward, over the same buffers."""


class CudaCapture:
    """Records forwards as CUDA graphs of a device that share one pool of memory: no two of them run at once. Calling it
    runs the forward too, so that every kernel is compiled before it is recorded."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._side = torch.cuda.Stream(device)  # one for all: each stream has a workspace of its own

    def __call__(self, forward: Forward) -> Forward:
        """The replay of a forward; its result lies where the recorded one lay, until the next replay of any."""
        # The stream is named, so that a recording that breaks off does not leave this thread on another one.
        with torch.cuda.device(self._device), torch.cuda.stream(torch.cuda.current_stream(self._device)):
            self._side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._side):
                forward()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._side, capture_error_mode="thread_local"):
                result = forward()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay
