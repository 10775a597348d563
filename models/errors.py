"""The one exception tree. A message says what was wrong, what was expected and what to do about it."""


class TextProError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(TextProError):
    """A caller or a client handed over something that cannot be used."""


class AudioError(InputError):
    """Audio that cannot be read, or not at this rate, length or shape."""


class CheckpointError(TextProError):
    """A model folder lacks something, or holds something that does not fit."""


class CapacityError(TextProError):
    """No slot, no time or no room is left for another session or for more context."""


class EngineError(TextProError):
    """The engine could not do a piece of work; the session that asked for it ends with this reason."""


class DeviceError(TextProError):
    """A microphone, speaker, GPU or helper program is missing or failed."""
