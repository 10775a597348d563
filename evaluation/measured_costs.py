"""Milliseconds of work of the bundled model. Written by `tools/measure_costs.py`; measure again rather than edit."""

MEASURED_ON = "x86_64, 2 threads on 2 cores, torch 2.13.0+cpu, quantile 0.5, 2026-11-22, load 2.1"

FIXED_MS = {
    "append": 11.996,
    "chunk": 0.001,
    "encode": 7.455,
    "extend": 2.68,
    "first chunk": 3.106,
    "prosody": 2.298,
    "token": 7.341,
    "truncate": 0.356,
    "verify": 4.712,
}

UNIT_MS = {
    "append": 0.247,
}
