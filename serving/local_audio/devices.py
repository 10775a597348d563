"""Which microphones and loudspeakers there are, and which one is meant: by index, by part of the name, or the
system's default. PortAudio does the work, through `sounddevice`; its list is a picture of the moment in which
it was initialised, hence `look_again`. Choosing is a function of the list alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from rich.table import Table

from ...models.errors import DeviceError, InputError

NO_PORTAUDIO = (
    "PortAudio, which microphone and loudspeaker need, is not there ({reason}); "
    "install it (Debian and Ubuntu: apt install libportaudio2; macOS: brew install portaudio)."
)

_ALSA_SAYS = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p)
_say_nothing = _ALSA_SAYS(lambda *_: None)


class Way(Enum):
    """The direction of sound, and what a device of that direction is called."""

    INPUT = "microphone"
    OUTPUT = "loudspeaker"

    @property
    def option(self) -> str:
        """The option that chooses such a device."""
        return f"--{self.name.lower()}-device"


@dataclass(frozen=True, slots=True)
class AudioDevice:
    """One device as PortAudio lists it; `system` is the sound system it belongs to, `sample_rate` its own in Hz."""

    index: int
    name: str
    system: str
    inputs: int  # channels
    outputs: int
    is_default_input: bool
    is_default_output: bool
    sample_rate: int

    def has(self, way: Way) -> bool:
        """Whether sound goes this way through it."""
        return (self.inputs if way is Way.INPUT else self.outputs) > 0

    def is_default(self, way: Way) -> bool:
        """Whether it is the system's choice."""
        return self.is_default_input if way is Way.INPUT else self.is_default_output

    def to_dict(self) -> dict[str, object]:
        """JSON values."""
        return asdict(self)


def sound_library() -> Any:
    """The module `sounddevice`, initialised. DeviceError if PortAudio is absent or does not start."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise DeviceError(NO_PORTAUDIO.format(reason=error)) from None
    except Exception as error:  # PortAudioError, which has no name before the import is complete
        raise DeviceError(f"PortAudio does not start ({error}); check the sound system.") from None
    _quiet_alsa()
    return sounddevice


def look_again() -> None:
    """Let PortAudio list the devices anew. Every stream must be closed. DeviceError if it does not start."""
    library = sound_library()
    try:
        while library._initialized:
            library._terminate()
        library._initialize()
    except library.PortAudioError as error:
        raise DeviceError(f"PortAudio does not start again ({error}).") from None


def audio_devices() -> tuple[AudioDevice, ...]:
    """All devices. DeviceError if there is none."""
    library = sound_library()
    systems = library.query_hostapis()
    default_input, default_output = library.default.device
    found = tuple(
        AudioDevice(
            index=index,
            name=device["name"],
            system=systems[device["hostapi"]]["name"],
            inputs=device["max_input_channels"],
            outputs=device["max_output_channels"],
            is_default_input=index == default_input,
            is_default_output=index == default_output,
            sample_rate=round(device["default_samplerate"]),
        )
        for index, device in enumerate(library.query_devices())
    )
    if not found:
        raise DeviceError(
            "there is no microphone or loudspeaker: plug one in and check that the sound system runs "
            "(Linux: PipeWire, PulseAudio or ALSA; in a container, pass the device through)."
        )
    return found


def choose(devices: Sequence[AudioDevice], way: Way, wanted: str | None = None) -> AudioDevice:
    """The device that is meant by an index or a part of a name, case aside; the system's default for None.

    DeviceError if there is no such device at all, InputError with the names that fit if `wanted` names none
    or several. A name listed by several sound systems means the one of the default device's system.
    """
    fitting = [device for device in devices if device.has(way)]
    if not fitting:
        raise DeviceError(f"there is no {way.value}: plug one in and check that the sound system knows it.")
    default = next((device for device in fitting if device.is_default(way)), None)
    if wanted is None:
        if default is None:
            raise DeviceError(f"there is no default {way.value}; choose one with {way.option}: {_names(fitting)}.")
        return default
    if wanted.strip().isdecimal():
        named = [device for device in fitting if device.index == int(wanted)]
    else:
        named = _named(fitting, wanted, default)
    if len(named) == 1:
        return named[0]
    if named:
        raise InputError(f"{way.option} {wanted}: several fit, {_names(named)}; give the index or more of the name.")
    raise InputError(f"{way.option} {wanted}: there is no such {way.value}; expected one of {_names(fitting)}.")


def _named(fitting: Sequence[AudioDevice], wanted: str, default: AudioDevice | None) -> list[AudioDevice]:
    part = wanted.strip().casefold()
    named = [device for device in fitting if part and part in device.name.casefold()]
    narrowings = (
        [device for device in named if device.name.casefold() == part],
        [device for device in named if default is not None and device.system == default.system],
    )
    for narrowed in narrowings:
        named = narrowed or named
    return named


def _names(devices: Iterable[AudioDevice]) -> str:
    return ", ".join(f"{device.index} ({device.name}, {device.system})" for device in devices)


def devices_table(devices: Iterable[AudioDevice]) -> Table:
    """The list for people; what is the default is said in words."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("index", "name", "system", "in", "out", "rate", "default"):
        table.add_column(column, overflow="fold", justify="right" if column in ("index", "in", "out", "rate") else "left")
    for device in devices:
        defaults = ", ".join(way.value for way in Way if device.is_default(way))
        numbers = (device.index, device.inputs, device.outputs, device.sample_rate)
        index, inputs, outputs, rate = map(str, numbers)
        table.add_row(index, device.name, device.system, inputs, outputs, rate, defaults)
    return table


def remembered(devices: Iterable[AudioDevice], way: Way, device: AudioDevice) -> str:
    """What will choose this device again when the list is made anew: its name, or its index if others share it."""
    same = [other for other in devices if other.has(way) and other.name == device.name]
    return device.name if len(same) == 1 else str(device.index)


def _quiet_alsa() -> None:
    """ALSA writes a line about every underrun to stderr, through the terminal's view; they are counted anyway."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libasound.so.2").snd_lib_error_set_handler(_say_nothing)


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Meanwhile, what C libraries write to file descriptor 2 goes nowhere: PortAudio and ALSA comment on every
    setting that is tried, and what fails is said by an exception anyway."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
