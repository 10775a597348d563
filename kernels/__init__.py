"""Kernels, each beside the torch function that defines it: `fuse_prosody` builds the rows that the backbone
reads, `slab_attention` attends rows over the keys and values of their conversations."""

from .fuse_prosody import (
    Layout,
    ProjectorWeights,
    check_arguments,
    check_values,
    fuse_prosody,
    fuse_prosody_reference,
    fuse_prosody_training,
    fuse_prosody_triton,
)
from .slab_attention import slab_attention, slab_attention_reference, store_in_slab

__all__ = [
    "Layout",
    "ProjectorWeights",
    "check_arguments",
    "check_values",
    "fuse_prosody",
    "fuse_prosody_reference",
    "fuse_prosody_training",
    "fuse_prosody_triton",
    "slab_attention",
    "slab_attention_reference",
    "store_in_slab",
]
