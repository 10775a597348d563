"""Kernels, each beside the torch function that defines it: `fuse_prosody` builds the rows that the backbone
reads."""

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

__all__ = [
    "Layout",
    "ProjectorWeights",
    "check_arguments",
    "check_values",
    "fuse_prosody",
    "fuse_prosody_reference",
    "fuse_prosody_training",
    "fuse_prosody_triton",
]
