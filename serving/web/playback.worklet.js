/**
 * The loudspeaker's side of client.js, on the audio thread: a queue of samples at 24 kHz, each piece belonging to an item.
 *
 * In: {item, samples}, {item, end: true}, {pause}, {cut: true}. Out: {item, ms, ended, loud} as an item begins, each 100 ms
 * of it and at its end; and {cut: true, item, ms} in answer to a cut, item null if nothing was left to play. `loud` is the
 * root mean square since the last report.
 */
const RATE = 24000;
const REPORT = RATE / 10;

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.step = RATE / sampleRate; // source samples for one sample of this context
    this.paused = false;
    this.reset();
    this.port.onmessage = ({ data }) => this.take(data);
  }

  reset() {
    this.queue = []; // {item, samples} or {item, end}
    this.at = 0; // in the first piece, a fraction where rates differ
    this.item = null;
    this.played = 0;
    this.reported = 0;
    this.power = 0;
  }

  take(data) {
    if (data.cut) {
      const item = this.item ?? this.queue[0]?.item ?? null;
      this.port.postMessage({ cut: true, item, ms: this.milliseconds() });
      this.reset();
      this.paused = false;
    } else if ("pause" in data) {
      this.paused = data.pause;
    } else {
      this.queue.push(data);
    }
  }

  process(inputs, [channels]) {
    const [first] = channels;
    for (let index = 0; index < first.length; index += 1) first[index] = this.paused ? 0 : this.next();
    for (const other of channels.slice(1)) other.set(first);
    return true;
  }

  next() {
    let piece = this.queue[0];
    while (piece !== undefined && (piece.end || this.at >= piece.samples.length)) {
      if (piece.end && this.item === piece.item) this.finish();
      if (!piece.end) this.at -= piece.samples.length;
      this.queue.shift();
      piece = this.queue[0];
    }
    if (piece === undefined) return 0;
    if (this.item !== piece.item) {
      this.item = piece.item;
      this.played = 0;
      this.report(false);
    }
    const sample = piece.samples[Math.floor(this.at)];
    this.at += this.step;
    this.played += this.step;
    this.power += sample * sample;
    if (this.played - this.reported >= REPORT) this.report(false);
    return sample;
  }

  finish() {
    this.report(true);
    this.item = null;
    this.played = 0;
    this.reported = 0;
    this.at = 0;
  }

  report(ended) {
    const count = Math.max(this.played - this.reported, 1);
    this.port.postMessage({ item: this.item, ms: this.milliseconds(), ended, loud: Math.sqrt(this.power / count) });
    this.reported = this.played;
    this.power = 0;
  }

  milliseconds() {
    return Math.floor((this.played * 1000) / RATE);
  }
}

registerProcessor("textpro-playback", Playback);
