/**
 * The microphone's side of client.js, on the audio thread: mono samples at any rate become pieces of 40 ms, 16-bit at 24 kHz.
 *
 * Where the rates differ, each output sample is the mean of the input it covers, which is filter enough for speech.
 */
const RATE = 24000;
const PIECE = 960;

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.step = sampleRate / RATE; // input samples for one output sample
    this.due = this.step; // input that the output sample begun still lacks
    this.sum = 0;
    this.piece = new Int16Array(PIECE);
    this.filled = 0;
  }

  process([[channel]]) {
    for (const sample of channel ?? []) {
      let rest = 1;
      while (this.due <= rest) {
        this.put((this.sum + sample * this.due) / this.step);
        rest -= this.due;
        this.sum = 0;
        this.due = this.step;
      }
      this.sum += sample * rest;
      this.due -= rest;
    }
    return true;
  }

  put(value) {
    this.piece[this.filled++] = Math.round(Math.max(-1, Math.min(1, value)) * 32767);
    if (this.filled === PIECE) {
      this.port.postMessage(this.piece, [this.piece.buffer]);
      this.piece = new Int16Array(PIECE);
      this.filled = 0;
    }
  }
}

registerProcessor("textpro-capture", Capture);
