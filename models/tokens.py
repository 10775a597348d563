"""Reserved tokens of the bundled model and the words they stand for.

The bundled recognizer and backbone share one byte-level BPE whose first ids are these tokens, so that a token id means
the same in both. Released checkpoints bring tokenizers of their own; then `MARKER` is Qwen's `<|repo_name|>` and the
names come from `textpro_config.json`.
"""

END_OF_TEXT = "<|endoftext|>"
PAD = "<|pad|>"
START_OF_TRANSCRIPT = "<|startoftranscript|>"
START_OF_PREVIOUS = "<|startofprev|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
MARKER = "<|prosody|>"
TOOL_CALL, TOOL_CALL_END = "<tool_call>", "</tool_call>"
TOOL_RESPONSE, TOOL_RESPONSE_END = "<tool_response>", "</tool_response>"
THINK, THINK_END = "<think>", "</think>"
"""Around what a model writes for itself; the bundled one never does."""
CUT_OFF = "<|cut_off|>"
IDLE = "<|idle|>"

RESERVED = (
    END_OF_TEXT,
    PAD,
    START_OF_TRANSCRIPT,
    START_OF_PREVIOUS,
    TURN_START,
    TURN_END,
    MARKER,
    TOOL_CALL,
    TOOL_CALL_END,
    TOOL_RESPONSE,
    TOOL_RESPONSE_END,
    CUT_OFF,
    IDLE,
    *(f"<|reserved_{index}|>" for index in range(16)),
)
"""In the order of their ids, from 0."""
