"""Telephone sound, against libsndfile's µ-law and A-law."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from textpro.serving.telephone.g711 import Law, decode, encode


@pytest.mark.parametrize(("law", "subtype"), [("mulaw", "ULAW"), ("alaw", "ALAW")])
def test_bytes_become_the_samples_that_libsndfile_reads(law: Law, subtype: str) -> None:
    data = bytes(range(256))
    read, _ = soundfile.read(io.BytesIO(data), dtype="int16", format="RAW", subtype=subtype, samplerate=8000, channels=1)
    assert decode(data, law).tolist() == read.tolist()


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_every_sample_becomes_the_nearest_value_of_the_law(law: Law) -> None:
    pcm = np.arange(-32768, 32768).astype(np.int16)
    values = np.unique(decode(bytes(range(256)), law).astype(int))
    nearest = np.abs(values[None, :] - pcm[::37, None].astype(int)).min(axis=1)
    found = np.abs(decode(encode(pcm[::37], law), law).astype(int) - pcm[::37])
    assert found.tolist() == nearest.tolist()
