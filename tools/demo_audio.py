"""Makes the recordings of `make demo`, `examples/audio/new_job_<tone>.wav`, and of the tests, `lost_keys_<tone>.wav`: a sentence
in two tones each.

The voice is espeak-ng's and only the tone's four settings differ, so what the agent hears in one recording and not in the
other is how the words were said. The demo's speaker is the one of twelve whose two tones the bundled model names and answers
rightly; with other voices it takes some happy sentences for angry ones, and sad ones for plain. 22,050 Hz, mono, 16 bit,
silence around the words.
"""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import soundfile

from textpro.streaming.espeak_worker import Espeak, EspeakVoice

SENTENCES = {"lost_keys": "I lost my keys", "new_job": "I got the job"}
SPEAKERS = {"lost_keys": None, "new_job": "Lee"}
"""Variants of the voice; Lee is one that no training hears."""
VOICES = {
    "happy": EspeakVoice(rate=200, pitch=80, range=90, amplitude=140),
    "sad": EspeakVoice(rate=120, pitch=25, range=15, amplitude=55),
}
LEAD_MS, TAIL_MS = 400, 900
FOLDER = Path(__file__).resolve().parent.parent / "examples" / "audio"


def write_recordings(folder: Path) -> None:
    """Writes one wav file for each sentence and tone into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    espeak = Espeak()
    for (name, sentence), (tone, voice) in product(SENTENCES.items(), VOICES.items()):
        words = espeak.synthesize(sentence, replace(voice, variant=SPEAKERS[name])).pcm
        lead, tail = (np.zeros(espeak.sample_rate * ms // 1000, np.int16) for ms in (LEAD_MS, TAIL_MS))
        pcm = np.concatenate([lead, words, tail])
        soundfile.write(folder / f"{name}_{tone}.wav", pcm, espeak.sample_rate, subtype="PCM_16")


if __name__ == "__main__":
    write_recordings(FOLDER)
