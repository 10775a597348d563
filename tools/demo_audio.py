"""Makes the recordings of `make demo`, `examples/audio/lost_keys_<tone>.wav`: one sentence in two tones.

The voice is espeak-ng's American one and only the tone's four settings differ, so what the agent hears in one
recording and not in the other is how the words were said. 22,050 Hz, mono, 16 bit, silence around the words.
"""

from pathlib import Path

import numpy as np
import soundfile

from textpro.streaming.espeak_worker import Espeak, EspeakVoice

SENTENCE = "I lost my keys"
VOICES = {
    "happy": EspeakVoice(rate=200, pitch=80, range=90, amplitude=140),
    "sad": EspeakVoice(rate=120, pitch=25, range=15, amplitude=55),
}
LEAD_MS, TAIL_MS = 400, 900
FOLDER = Path(__file__).resolve().parent.parent / "examples" / "audio"


def write_recordings(folder: Path) -> None:
    """Writes one wav file for each tone into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    espeak = Espeak()
    for tone, voice in VOICES.items():
        words = espeak.synthesize(SENTENCE, voice).pcm
        lead, tail = (np.zeros(espeak.sample_rate * ms // 1000, np.int16) for ms in (LEAD_MS, TAIL_MS))
        pcm = np.concatenate([lead, words, tail])
        soundfile.write(folder / f"lost_keys_{tone}.wav", pcm, espeak.sample_rate, subtype="PCM_16")


if __name__ == "__main__":
    write_recordings(FOLDER)
