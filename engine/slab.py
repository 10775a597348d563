"""The one block of memory that holds the keys and values of all contexts: fixed slots of `slot_len`
positions, allocated once. Nothing in it is ever moved or cleared; a context's own length says what counts.
Slot 0 belongs to nobody: padding rows of a step write there, and its first position stays zero, so that a
padded read finds finite numbers."""

import torch

from ..models.errors import CapacityError, InputError


class Slab:
    """keys, values: [layers, slots + 1, slot_len, kv_heads, head_dim]; owned by the engine's thread."""

    def __init__(
        self,
        *,
        layers: int,
        slots: int,
        slot_len: int,
        kv_heads: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if slots < 1 or slot_len < 1:
            raise InputError(
                f"a slab needs at least one slot and one position, got slots={slots}, slot_len={slot_len}"
            )
        shape = (layers, slots + 1, slot_len, kv_heads, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.slots = slots
        self.slot_len = slot_len
        self._free = list(range(slots, 0, -1))

    @property
    def free(self) -> int:
        """Number of slots that `take` can still hand out."""
        return len(self._free)

    @property
    def bytes(self) -> int:
        """Size of keys and values together."""
        return 2 * self.keys.numel() * self.keys.element_size()

    def take(self) -> int:
        """Number of a slot (1 or more) that is the caller's until `give_back`. Raises CapacityError when
        none is free."""
        if not self._free:
            raise CapacityError(
                f"all {self.slots} slots of the slab are taken: close or evict a context first"
            )
        return self._free.pop()

    def give_back(self, slot: int) -> None:
        """Return a slot that `take` handed out. Raises InputError for any other number."""
        if slot in self._free or not 1 <= slot <= self.slots:
            raise InputError(
                f"slot {slot} is not taken: only a number that take() returned can be given back, once"
            )
        self._free.append(slot)

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of slot `source` to slot `target`."""
        self.keys[:, target, :length].copy_(self.keys[:, source, :length])
        self.values[:, target, :length].copy_(self.values[:, source, :length])
