/**
 * Microphone and loudspeaker of client.js: 16-bit pieces of 40 ms at 24 kHz in, pieces of items of the agent out.
 */

export const RATE = 24000;
const CUT_WAIT_MS = 150;
const CLEANING = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };

export class Sound {
  #context = null; #player = null; #capture = null; #cut = null; #on;

  /** @param {{input: function, played: function, lost: function}} on called with a piece, a report of playback, nothing */
  constructor(on) {
    this.#on = on;
  }

  /** Whether this page may use microphone and loudspeaker. */
  static get isAllowed() {
    return "AudioWorkletNode" in globalThis && isSecureContext;
  }

  get isListening() {
    return this.#capture !== null;
  }

  /** Make ready to play; browsers allow it after a click or a key. */
  wake() {
    if (!Sound.isAllowed) return null;
    if (this.#context === null) {
      this.#context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
      this.#player = this.#makePlayer(this.#context);
    }
    if (this.#context.state === "suspended") this.#context.resume();
    return this.#context;
  }

  /** Open the microphone; throws the browser's error where it may not or cannot. */
  async listen(deviceId) {
    if (!Sound.isAllowed) throw new Error("the microphone needs a page of https or localhost");
    this.stop();
    const choice = deviceId ? { deviceId: { exact: deviceId } } : {};
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { ...CLEANING, ...choice } });
    let context = this.wake();
    let source;
    try {
      source = context.createMediaStreamSource(stream);
    } catch {
      context = new AudioContext(); // some browsers take a microphone only at its own rate
      source = context.createMediaStreamSource(stream);
    }
    await context.audioWorklet.addModule(new URL("capture.worklet.js", import.meta.url));
    const mono = { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" };
    const node = new AudioWorkletNode(context, "textpro-capture", mono);
    node.port.onmessage = ({ data }) => this.#on.input(data);
    source.connect(node);
    this.#capture = { stream, source, node, context };
    stream.getAudioTracks()[0].onended = () => {
      this.stop();
      this.#on.lost();
    };
  }

  /** Give the microphone back. */
  stop() {
    if (this.#capture === null) return;
    const { stream, source, node, context } = this.#capture;
    this.#capture = null;
    source.disconnect();
    node.port.onmessage = null;
    for (const track of stream.getTracks()) track.stop();
    if (context !== this.#context) context.close();
  }

  /** Play 16-bit samples that belong to an item, after what waits already. */
  play(item, pcm) {
    const samples = Float32Array.from(pcm, (value) => value / 32768);
    this.#post({ item, samples });
  }

  /** The item has no more samples. */
  end(item) {
    this.#post({ item, end: true });
  }

  /** Keep still, or go on. */
  pause(pause) {
    this.#post({ pause });
  }

  /** Drop what plays and waits. Gives {item, ms} of what was playing, or null if nothing was. */
  cut() {
    if (this.#player === null) return Promise.resolve(null);
    if (this.#cut === null) {
      const cut = (this.#cut = {});
      cut.promise = new Promise((resolve) => (cut.resolve = resolve));
      setTimeout(() => this.#cut === cut && this.#wasCut(null), CUT_WAIT_MS); // a suspended device does not answer
      this.#post({ cut: true });
    }
    return this.#cut.promise;
  }

  /** Play through this device, where the browser can choose. */
  async choose(deviceId) {
    await this.wake()?.setSinkId?.(deviceId);
  }

  async #makePlayer(context) {
    await context.audioWorklet.addModule(new URL("playback.worklet.js", import.meta.url));
    const player = new AudioWorkletNode(context, "textpro-playback", { numberOfInputs: 0, outputChannelCount: [1] });
    player.port.onmessage = ({ data }) => (data.cut ? this.#wasCut(data) : this.#on.played(data));
    player.connect(context.destination);
    return player;
  }

  #post(message) {
    this.#player?.then((player) => player.port.postMessage(message));
  }

  #wasCut(data) {
    this.#cut?.resolve(data?.item ? data : null);
    this.#cut = null;
  }
}
