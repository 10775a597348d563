"""Milliseconds of work of the bundled model. Written by `tools/measure_costs.py`; measure again rather than edit."""

MEASURED_ON = "a first guess for two busy cores"

FIXED_MS = {
    "encode": 12.0,
    "verify": 8.0,
    "extend": 30.0,
    "prosody": 6.0,
    "append": 9.0,
    "truncate": 0.1,
    "token": 8.0,
    "first chunk": 15.0,
    "chunk": 1.0,
}

UNIT_MS = {"append": 0.3}
