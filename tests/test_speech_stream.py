"""WhisperPro piece by piece equals WhisperPro at once: encoder, decoder, CTC path and prosody, on a small random model."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textpro.models.errors import CapacityError
from textpro.models.speech_stream import Encode, Extend, Prosody, StreamingWhisperPro, Verify
from textpro.models.whisperpro import WhisperPro, WhisperProConfig, prosody_visible

CONFIG = WhisperProConfig(
    vocab_size=60, d_model=32, encoder_layers=2, decoder_layers=3, heads=4, ffn_dim=48, n_mels=16, block_frames=4, max_frames=32
)  # fmt: skip

NOTHING = np.zeros((0, CONFIG.n_mels), np.float32)


@pytest.fixture(scope="module")
def model() -> WhisperPro:
    torch.manual_seed(3)
    model = WhisperPro(CONFIG)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.12)
    return model.eval()


def mel_of(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((2 * frames, CONFIG.n_mels)).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(
    frames=st.integers(1, 32),
    cuts=st.lists(st.integers(0, 64), max_size=6),
    flushes=st.lists(st.booleans(), min_size=7, max_size=7),
)
def test_encoding_in_any_pieces_equals_encoding_at_once(model, frames, cuts, flushes):
    mel = mel_of(frames)
    speech = StreamingWhisperPro(model)
    stream = speech.open_stream()
    edges = sorted({min(cut, 2 * frames) for cut in cuts} | {2 * frames})
    with torch.inference_mode():
        for edge, flush in zip(edges, flushes, strict=False):
            last = edge == 2 * frames
            speech.encode(Encode(stream, mel[stream_mel_done(stream) : edge], NOTHING if flush or last else None))
        states = model.encode(torch.from_numpy(mel.T)[None], torch.tensor([frames]))[0]
        cross = model.whisper.decoder.layers[2].encoder_attn.k_proj(states).view(frames, 4, 8).transpose(0, 1)
        best = model.ctc(states).argmax(-1).numpy()
    assert stream.frames == frames
    torch.testing.assert_close(stream.cross_keys[2][:, :frames], cross, atol=1e-4, rtol=1e-4)
    assert (stream.ctc_best[:frames] == best).all()


def stream_mel_done(stream) -> int:
    """Mel frames that the stream keeps when the next piece comes: those waiting, without a provisional block."""
    stream.drop_provisional()
    return stream.mel.shape[1]


def test_verify_and_extend_give_the_greedy_tokens_of_the_whole_model(model):
    frames = 30
    speech = StreamingWhisperPro(model)
    stream = speech.open_stream()
    with torch.inference_mode():
        speech.encode(Encode(stream, mel_of(frames), NOTHING))
        states = model.encode(torch.from_numpy(mel_of(frames).T)[None], torch.tensor([frames]))
        greedy = [CONFIG.start_of_transcript]
        for _ in range(12):
            tokens = torch.tensor([greedy])
            hidden = model.decode(tokens, states, torch.full((1, len(greedy)), frames))
            greedy.append(int(model.token_logits(hidden[0, -1]).argmax()))
        draft = (*greedy[1:5], (greedy[5] + 1) % 60, 7)
        verified = speech.verify(Verify(stream, (CONFIG.start_of_transcript,), draft))
        assert verified.agreed == 4 and verified.next_token == greedy[5]
        rest = speech.extend(Extend(stream, 5, verified.next_token, 6))
    until_end = greedy[5:11]
    if CONFIG.end_of_text in until_end:
        until_end = until_end[: until_end.index(CONFIG.end_of_text)]
    assert list(rest.tokens) == until_end


@settings(max_examples=15, deadline=None)
@given(split=st.integers(1, 6), ends=st.lists(st.integers(0, 19), min_size=6, max_size=6))
def test_prosody_computed_in_two_parts_equals_prosody_at_once(model, split, ends):
    frames, tokens = 20, [2, 31, 32, 33, 34, 35, 36]
    word_ends = torch.tensor([[0, *sorted(ends)]])
    visible = prosody_visible(word_ends, torch.tensor([frames]), CONFIG.block_frames)
    speech = StreamingWhisperPro(model)
    stream = speech.open_stream()
    with torch.inference_mode():
        speech.encode(Encode(stream, mel_of(frames, 5), NOTHING))
        states = model.encode(torch.from_numpy(mel_of(frames, 5).T)[None], torch.tensor([frames]))
        whole = model.decode(torch.tensor([tokens]), states, visible, CONFIG.prosody_layer)[0].numpy()
        seen = visible[0].tolist()
        parts = [
            speech.prosody(Prosody(stream, 0, tuple(tokens[:split]), tuple(seen[:split]))),
            speech.prosody(Prosody(stream, split, tuple(tokens[split:]), tuple(seen[split:]))),
        ]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-4)


def test_audio_past_the_window_is_refused_by_name(model):
    speech = StreamingWhisperPro(model)
    result = speech.run([Encode(speech.open_stream(), mel_of(33), NOTHING)])[0]
    assert isinstance(result, CapacityError) and "window of 32" in str(result)
