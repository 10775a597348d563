"""Cases for the Triton launches over the slab and what there is to measure of them. Run as a program under
TRITON_INTERPRET=1 (which must be set before Triton is imported, hence a process of its own), it prints the measurements of
Triton's interpreter as JSON."""

import json
import sys
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F

BOUNDS = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 8e-3}


@dataclass(frozen=True)
class Arguments:
    query: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    slots: torch.Tensor
    positions: torch.Tensor
    scale: float

    def call(self, function) -> torch.Tensor:
        return function(*(getattr(self, field.name) for field in fields(self)))

    def to(self, device: str) -> "Arguments":
        tensors = (self.query, self.keys, self.values, self.slots, self.positions)
        return Arguments(*(tensor.to(device) for tensor in tensors), self.scale)


@dataclass(frozen=True)
class Case:
    """Rows of `lengths`, each in a slot of its own but for `together`, which are the last rows of one; `padding` rows see the
    first position of slot 0, which is zero."""

    lengths: tuple[int, ...]
    group: int = 7
    dim: int = 64
    kv_heads: int = 2
    slot_len: int = 300
    together: int = 1
    padding: int = 0

    def arguments(self, dtype: torch.dtype = torch.float32) -> Arguments:
        """Whatever no row sees is NaN; the query is a view, as the model's is."""
        random = torch.Generator().manual_seed(len(self.lengths) + self.group)
        rows = len(self.lengths) * self.together + self.padding
        shape = (len(self.lengths) + 3, self.slot_len, self.kv_heads, self.dim)
        keys = torch.full(shape, float("nan"), dtype=dtype)
        values = keys.clone()
        keys[0, 0] = values[0, 0] = 0
        own = (torch.randperm(shape[0] - 1, generator=random) + 1).tolist()
        slots, positions = [], []
        for slot, length in zip(own, self.lengths, strict=False):
            for store in (keys, values):
                store[slot, :length] = torch.randn(length, *shape[2:], generator=random).to(dtype)
            slots += [slot] * self.together
            positions += range(length - self.together, length)
        order = torch.randperm(len(slots), generator=random).tolist()
        slots = [slots[row] for row in order] + [0] * self.padding
        positions = [positions[row] for row in order] + [0] * self.padding
        heads = self.kv_heads * self.group
        query = torch.randn(heads, rows, self.dim, generator=random).to(dtype).transpose(0, 1)
        return Arguments(query, keys, values, torch.tensor(slots), torch.tensor(positions), self.dim**-0.5)


CASES = {
    "one row, one key": Case((1,)),
    "lengths on both sides of a split's end": Case((127, 128, 129, 256, 257, 299, 300)),
    "wide heads": Case((300, 1, 33, 190), dim=128),
    "one query head for each kv head": Case((64, 5, 211), group=1, kv_heads=3),
    "four query heads": Case((2, 130, 300), group=4, dim=128, kv_heads=1),
    "more query heads than a tile": Case((131, 7), group=17, kv_heads=1),
    "a width that is no power of two": Case((150, 20), dim=80, group=2),
    "a model of the tests": Case((3, 1, 2), group=2, dim=16, slot_len=5),
    "rows of an append": Case((130, 40), together=6),
    "padding": Case((17, 140), padding=5),
    "padding alone": Case((), padding=2),
    "a long slot, whose splits are longer": Case((4200, 257), group=4, kv_heads=1, slot_len=4200),
}

IN_EVERY_DTYPE = ("lengths on both sides of a split's end", "wide heads")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def attended_row_by_row(arguments: Arguments) -> torch.Tensor:
    """The oracle: each row by itself, in float64, over the keys that it sees and no others."""
    rows = []
    group = arguments.query.shape[1] // arguments.keys.shape[2]
    for query, slot, position in zip(arguments.query, arguments.slots.tolist(), arguments.positions.tolist(), strict=True):
        keys, values = (
            store[slot, : position + 1].double().repeat_interleave(group, 1).transpose(0, 1)  # [heads, length, dim]
            for store in (arguments.keys, arguments.values)
        )
        one = F.scaled_dot_product_attention(query.double()[:, None], keys, values, scale=arguments.scale)
        rows.append(one[:, 0])
    return torch.stack(rows)


def rms_ratio(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Root mean square of the error over that of the expected values, or over 1 where all of them are zero."""
    assert actual.shape == expected.shape
    size = expected.double().norm().item() or expected.numel() ** 0.5
    return (actual.double() - expected.double()).norm().item() / size


def measure_store(device: str = "cpu", dtype: torch.dtype = torch.float32) -> bool:
    """Rows go where they are sent, exactly; other places, and places outside, are left alone."""
    from textpro.kernels.store_rows import store_rows

    key, value = torch.randn(2, 3, 6, 40, device=device).to(dtype).transpose(1, 2).unbind()  # [6, 3, 40]
    buffers = torch.full((2, 6, 5, 3, 40), 7.0, dtype=dtype, device=device)
    expected = buffers.clone()
    places = torch.tensor([3, 12, 9, -1, 20, 19], device=device)
    keys, values = buffers[:, 1:5]
    store_rows(key, value, keys, values, places)
    for row, place in enumerate(places.tolist()):
        if 0 <= place < 20:
            expected[0, 1:5].view(20, 3, 40)[place] = key[row]
            expected[1, 1:5].view(20, 3, 40)[place] = value[row]
    return torch.equal(buffers, expected)


def measure_neighbours(device: str = "cpu", dtype: torch.dtype = torch.float32) -> bool:
    """A row alone is bit for bit what it is among others."""
    from textpro.kernels.split_attention import split_attention

    crowd = Case((17, 140, 300, 128), padding=2).arguments(dtype).to(device)
    together = crowd.call(split_attention)
    alone = [
        Arguments(crowd.query[row : row + 1], crowd.keys, crowd.values, crowd.slots[row : row + 1],
                  crowd.positions[row : row + 1], crowd.scale).call(split_attention)
        for row in range(len(together))
    ]  # fmt: skip
    return torch.equal(together, torch.cat(alone))


def measure_model() -> float:
    """Largest difference of a step's logits, by the buffers of the graphs and the interpreted kernels, to the span by span
    way, over the size of the logits."""
    import importlib

    from textpro.engine.context import Context
    from textpro.engine.graphs import StepGraphs
    from textpro.engine.step import Piece, run_step
    from tiny_backbone import make_backbone, make_entries, make_slab

    backbone, _ = make_backbone()
    results = []
    for kernels in (False, True):
        slab = make_slab(backbone, slots=3, slot_len=140)
        contexts = [Context(slab.slot_len) for _ in range(3)]
        for seed, (context, length) in enumerate(zip(contexts, (131, 3, 20), strict=True)):
            context.attach(slab.take())
            context.append(make_entries(length, seed))
            run_step(backbone, slab, [Piece(context, length - 2)])
        module = importlib.import_module("textpro.kernels.slab_attention")
        takes, module.takes_triton = module.takes_triton, [lambda tensor: False, lambda tensor: True][kernels]
        graphs = StepGraphs(backbone, slab, lambda forward: forward, rows=(8,)) if kernels else None
        with torch.inference_mode():
            if graphs is not None:
                list(graphs.record())
            logits = run_step(backbone, slab, [Piece(context, 2) for context in contexts], graphs and graphs.run)
        module.takes_triton = takes
        results.append(torch.stack([logits[context] for context in contexts]))
    return ((results[0] - results[1]).abs().max() / results[0].abs().max()).item()


def interpret_all_cases() -> None:
    """Runs in a process with TRITON_INTERPRET=1; one line of JSON on stdout."""
    from textpro.kernels.split_attention import split_attention

    report = {"store": measure_store(), "neighbours": measure_neighbours(), "model": measure_model()}
    for name, case in CASES.items():
        for dtype in DTYPES[: 2 if name in IN_EVERY_DTYPE else 1]:
            arguments = case.arguments(dtype)
            report[f"{name}, {str(dtype)[6:]}"] = rms_ratio(arguments.call(split_attention), attended_row_by_row(arguments))
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    interpret_all_cases()
