/**
 * A browser's side of the Realtime protocol, for `textpro-agent serve`: socket, microphone, loudspeaker, events.
 *
 *     import { RealtimeClient } from "/client.js";
 *     const client = new RealtimeClient();
 *     client.addEventListener("response.output_audio_transcript.delta", ({ detail }) => console.log(detail.delta));
 *     button.onclick = () => client.connect().then(() => client.startMicrophone());
 *
 * Every event of the server is dispatched under its own type, with the event as `detail`, and once more as "event". Beside
 * them come, with these details:
 *
 *     state       {state, reason, retryMs, again}   idle, connecting, open, waiting (to try again), refused or closed;
 *                                                   open `again`: "resumed" where the conversation goes on, else "anew"
 *     microphone  {on, muted, talking, reason}      whenever one of them has changed
 *     input       {pcm: Int16Array, sent, endMs}    40 ms of the microphone at 24 kHz, silence while muted; where it ends
 *                                                   in the sound of the session
 *     playback    {itemId, ms, ended, loud, cut}    what the loudspeaker has played of an item of the agent
 *     latency     {itemId, ms, after}               from the end of "speech", "typing" or "talking" to what came first
 *
 * Browsers give microphone and loudspeaker only to pages of https or localhost, and sound only after a click or a key.
 */

import { Sound } from "./sound.js";

const KEY_PROTOCOL = "openai-insecure-api-key.";
const RESUME_PROTOCOL = "textpro-resume.";
const BACK_OFF_MS = [500, 1000, 2000, 4000, 8000, 15000];
const NO_RETRY = new Set([400, 401, 403, 404]);
const MIN_COMMIT_MS = 100;
const KEPT_MS = 20000; // of the microphone, for a server that missed it
const PIECE_MS = 40;

/** The events of this server that no other one has; without them the client speaks the plain protocol. */
export const EXTENSIONS = [
  "turn_start", "update", "prosody", "eager_turn_end", "turn_resumed", "turn_end", "turn_dropped", "duck", "unduck",
  "backchannel", "reply_start", "reply_done", "tool_call", "tool_result", "confirmation_request", "confirmation_answer",
  "metrics", "failed",
];

export class RealtimeClient extends EventTarget {
  #url; #key; #session; #detection; #extensions; // as asked for
  #socket = null; #state = "idle"; #wanted = null; #ready = null; #tries = 0; #timer = 0; #opened = 0;
  #sound = new Sound({ input: (pcm) => this.#hear(pcm), played: (data) => this.#played(data), lost: () => this.#lost() });
  #muted = false; #manual = false; #talking = false;
  #inputMs = 0; #heardAt = 0; #talkedMs = 0; #kept = []; // what the session was given of the microphone, and when
  #active = null; #dropped = new Set(); #ending = null;
  #items = new Map(); // items of this connection, with the milliseconds that were played of them before it
  #token = null; #resumed = null;

  /**
   * @param {object} options
   * @param {string|URL} options.url where the server is; without it, where this file comes from
   * @param {string|function(): Promise<string>} options.key an API key or client secret, or what gives one for each connection
   * @param {object} options.session fields of the session (instructions, tools, ...) beside those that this client sets
   * @param {string[]|null} options.extensions see EXTENSIONS; null for servers that do not know them
   */
  constructor({ url = new URL("v1/realtime", import.meta.url), key = null, session = {}, extensions = EXTENSIONS } = {}) {
    super();
    this.#url = new URL(url, location.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#key = key;
    this.#extensions = extensions;
    const audio = { input: { transcription: { model: "any" }, turn_detection: { type: "semantic_vad" } } };
    const silent = Sound.isAllowed ? {} : { output_modalities: ["text"] };
    const asked = { events: extensions, playback: "acknowledged", prosody: true, resume: true };
    const extra = extensions === null ? {} : { textpro: asked };
    this.#session = merge({ type: "realtime", audio, ...silent, ...extra }, session);
    this.#detection = this.#session.audio.input.turn_detection;
  }

  /** Whether this page may use microphone and loudspeaker. */
  static get hasSound() { return Sound.isAllowed; }

  /** Input and output devices as [{id, label}]; labels are empty until the microphone was allowed. */
  static async devices() {
    const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    const of = (kind) => all.filter((one) => one.kind === kind).map(({ deviceId, label }) => ({ id: deviceId, label }));
    return { microphones: of("audioinput"), speakers: of("audiooutput") };
  }

  get state() { return this.#state; }
  get listening() { return this.#sound.isListening; }
  get muted() { return this.#muted; }
  get talking() { return this.#talking; }
  get pushToTalk() { return this.#manual; }

  /** What to connect with from now on. */
  set key(value) { this.#key = value; }

  /** While muted the server hears silence, so that a turn that was begun can end. */
  set muted(value) {
    this.#muted = value;
    this.#tellMicrophone();
  }

  /** The user says when a turn begins and ends (`press`, `release`), instead of the server. */
  set pushToTalk(value) {
    this.#manual = value;
    this.#talking = false;
    this.configure({ audio: { input: { turn_detection: value ? null : this.#detection } } });
    this.#tellMicrophone();
  }

  /** Connect, and again whenever the connection is lost. Resolves when the session is open; rejects where it is refused. */
  connect() {
    if (this.#state === "open") return Promise.resolve();
    if (this.#wanted === null) {
      this.#wanted = new AbortController();
      const { signal } = this.#wanted;
      addEventListener("online", () => this.#state === "waiting" && this.#open(), { signal });
      addEventListener("offline", () => this.#drop("this device is offline"), { signal });
      addEventListener("pagehide", () => this.close(), { signal });
    }
    this.#ready ??= deferred();
    if (this.#state !== "connecting") this.#open();
    return this.#ready.promise;
  }

  /** End the connection, the microphone and the sound. */
  close() {
    this.stopMicrophone();
    this.#sound.cut();
    this.#end("closed", null);
  }

  /** Open the microphone, cleaned of echo by the browser; throws the browser's error where it may not or cannot. */
  async startMicrophone({ deviceId = null } = {}) {
    await this.#sound.listen(deviceId);
    this.#tellMicrophone();
  }

  /** Give the microphone back. */
  stopMicrophone() {
    this.#talking = false;
    this.#sound.stop();
    this.#tellMicrophone();
  }

  /** Play through this device, where the browser can choose. */
  async setSpeaker(deviceId) {
    await this.#sound.choose(deviceId);
  }

  /** Change fields of the session, now and on each later connection. */
  configure(session) {
    this.#session = merge(this.#session, session);
    if (this.#state === "open") this.send({ type: "session.update", session: { type: "realtime", ...session } });
  }

  /** A typed turn; what the agent says is cut off. */
  async say(text) {
    this.#sound.wake();
    await this.interrupt();
    const content = [{ type: "input_text", text }];
    this.send({ type: "conversation.item.create", item: { type: "message", role: "user", content } });
    this.#answer("typing");
  }

  /** Push-to-talk: the user begins to speak; what the agent says is cut off. */
  press() {
    if (!this.#manual || this.#talking || !this.listening) return;
    this.interrupt();
    this.#talking = true;
    this.#talkedMs = 0;
    this.#tellMicrophone();
  }

  /** Push-to-talk: the user has finished. */
  release() {
    if (!this.#talking) return;
    this.#talking = false;
    this.#tellMicrophone();
    if (this.#talkedMs >= MIN_COMMIT_MS && this.send({ type: "input_audio_buffer.commit" })) this.#answer("talking");
  }

  /** Stop what the agent says, at once; the server learns what was heard of it. */
  async interrupt() {
    if (this.#active !== null) {
      this.#dropped.add(this.#active);
      this.send({ type: "response.cancel", response_id: this.#active });
      this.#active = null;
    }
    await this.#cut();
  }

  /** The user's yes or no to a call that waits for it. */
  confirm(callId, accepted) {
    this.send({ type: "textpro.confirm", call_id: callId, accepted });
  }

  /** Any event of the protocol. False where there is no connection. */
  send(event) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(event));
    return true;
  }

  // The connection.

  async #open() {
    clearTimeout(this.#timer);
    this.#become("connecting");
    const wanted = this.#wanted;
    let key;
    try {
      key = typeof this.#key === "function" ? await this.#key() : this.#key;
    } catch (error) {
      if (!wanted.signal.aborted) this.#drop(`there is no key: ${error.message}`);
      return;
    }
    if (wanted.signal.aborted) return;
    const protocols = ["realtime"];
    if (key) protocols.push(KEY_PROTOCOL + key);
    if (this.#token) protocols.push(RESUME_PROTOCOL + this.#token);
    let socket;
    try {
      socket = new WebSocket(this.#url, protocols);
    } catch (error) {
      this.#end("refused", `no connection can be made: ${error.message}`);
      return;
    }
    this.#socket = socket;
    let welcomed = false;
    socket.onopen = () => this.#greet();
    socket.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      if (event.type === "session.updated" && !welcomed) {
        welcomed = true;
        this.#welcome();
      }
      this.#receive(event);
    };
    socket.onclose = ({ code, reason }) => {
      if (welcomed) this.#drop(reason || `the connection was lost (${code})`);
      else this.#explain(socket, reason);
    };
  }

  /** What is said first on each connection: how the session is to be. */
  #greet() {
    this.#resumed = null;
    this.#items.clear();
    this.#dropped.clear();
    this.send({ type: "session.update", session: this.#session });
  }

  #welcome() {
    this.#tries = 0;
    this.#opened += 1;
    if (this.#resumed === null) {
      if (this.#opened > 1) this.#kept = []; // else it was said while connecting
      this.#kept.forEach((piece, at) => (piece.end = (at + 1) * PIECE_MS));
      this.#inputMs = this.#kept.length * PIECE_MS;
    }
    for (const { pcm, end } of this.#kept) if (end > this.#resumed) this.#append(pcm);
    if (this.#active === null) for (const item of this.#items.keys()) this.#sound.end(item);
    this.#become("open", { again: this.#opened > 1 && (this.#resumed === null ? "anew" : "resumed") });
    this.#ready?.resolve();
    this.#ready = null;
  }

  /** The session has waited, and has heard so much of the microphone; it sends what was not played. */
  #resume({ input_audio_ms: received, audio, response }) {
    this.#resumed = received;
    this.#active = response?.status === "in_progress" ? response.id : null;
    for (const { item_id: item, audio_start_ms: ms } of audio) this.#items.set(item, ms);
  }

  /** There is no connection now: try again later, each time a little later. */
  #drop(reason) {
    this.#hangUp(4000); // 1000 would tell the server that the session is over
    this.#sound.pause(true);
    const longest = BACK_OFF_MS[Math.min(this.#tries, BACK_OFF_MS.length - 1)];
    const retryMs = Math.round(longest * (0.5 + Math.random() / 2));
    this.#tries += 1;
    this.#timer = setTimeout(() => this.#open(), retryMs);
    this.#become("waiting", { reason, retryMs });
  }

  #end(state, reason) {
    this.#hangUp(1000);
    this.#token = null;
    this.#wanted?.abort();
    this.#wanted = null;
    this.#ready?.reject(new Error(reason ?? "closed"));
    this.#ready = null;
    this.#become(state, { reason });
  }

  #hangUp(code) {
    clearTimeout(this.#timer);
    if (this.#socket !== null) {
      this.#socket.onclose = this.#socket.onmessage = null;
      this.#socket.close(code);
    }
    this.#socket = this.#active = this.#ending = null;
  }

  /** Browsers do not say why a handshake failed, so the server is asked by plain HTTP. */
  async #explain(socket, closeReason) {
    let status = 0;
    let reason = closeReason || "the server cannot be reached";
    try {
      const key = typeof this.#key === "string" && this.#key;
      const url = this.#url.href.replace("ws", "http");
      const answer = await fetch(url, { cache: "no-store", headers: key ? { Authorization: `Bearer ${key}` } : {} });
      status = answer.status;
      reason = status === 426 ? "the server takes no more sessions now" : (await answer.json()).error.message;
    } catch {
      // out of reach, or of another site: the words above stand
    }
    if (this.#socket !== socket) return;
    if (NO_RETRY.has(status)) this.#end("refused", reason);
    else this.#drop(reason);
  }

  #become(state, more = {}) {
    this.#state = state;
    this.#tell("state", { state, reason: null, retryMs: null, again: false, ...more });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  // What the server says.

  #receive(event) {
    switch (event.type) {
      case "session.created":
        this.#sound.cut(); // what an earlier connection left
        break;
      case "textpro.resume_token":
        this.#token = event.token;
        break;
      case "textpro.resumed":
        this.#resume(event);
        break;
      case "input_audio_buffer.speech_started":
        if (this.#detection?.interrupt_response !== false) this.#cut();
        break;
      case "input_audio_buffer.speech_stopped":
        this.#ending = { at: this.#heardAt - (this.#inputMs - event.audio_end_ms), after: "speech" };
        break;
      case "response.created":
        if (event.response.conversation_id !== null) this.#active = event.response.id;
        break;
      case "response.output_text.delta":
        this.#measure(event.item_id);
        break;
      case "response.output_audio.delta":
        if (this.#dropped.has(event.response_id)) break;
        if (!this.#items.has(event.item_id)) this.#items.set(event.item_id, 0);
        this.#sound.play(event.item_id, new Int16Array(fromBase64(event.delta).buffer));
        break;
      case "response.output_audio.done":
        this.#sound.end(event.item_id);
        break;
      case "response.done":
        if (this.#active === event.response.id) this.#active = null;
        if (event.response.status === "cancelled" && !this.#dropped.has(event.response.id)) this.#cut();
        break;
      case "textpro.duck":
      case "textpro.unduck":
      case "textpro.reply_done":
        this.#sound.pause(event.type === "textpro.duck");
        break;
    }
    this.#tell(event.type, event);
    this.#tell("event", event);
  }

  #answer(after) {
    this.send({ type: "response.create" });
    this.#ending = { at: performance.now(), after };
  }

  #measure(itemId) {
    if (this.#ending === null) return;
    const { at, after } = this.#ending;
    this.#ending = null;
    this.#tell("latency", { itemId, ms: Math.max(0, Math.round(performance.now() - at)), after });
  }

  // Sound.

  #hear(pcm) {
    if (this.#muted) pcm.fill(0);
    const wanted = this.#wanted !== null && (this.#talking || !this.#manual);
    const sent = wanted && this.#state === "open";
    if (wanted) {
      this.#inputMs += PIECE_MS;
      this.#talkedMs += PIECE_MS;
      this.#heardAt = performance.now();
      this.#kept.push({ pcm, end: this.#inputMs });
      if (this.#kept.length > KEPT_MS / PIECE_MS) this.#kept.shift();
    }
    if (sent) this.#append(pcm);
    this.#tell("input", { pcm, sent, endMs: this.#inputMs });
  }

  #append(pcm) {
    this.send({ type: "input_audio_buffer.append", audio: toBase64(new Uint8Array(pcm.buffer)) });
  }

  #played({ item, ms: sinceThen, ended, loud }) {
    const ms = sinceThen + (this.#items.get(item) ?? 0);
    if (sinceThen === 0) this.#measure(item);
    else if (this.#items.has(item) && this.#extensions !== null) {
      this.send({ type: "textpro.playback", item_id: item, audio_end_ms: ms });
    }
    this.#tell("playback", { itemId: item, ms, ended, loud, cut: false });
  }

  async #cut() {
    const cut = await this.#sound.cut();
    if (cut === null) return;
    const { item } = cut;
    if (this.#items.has(item)) {
      const ms = cut.ms + this.#items.get(item);
      this.#items.delete(item);
      this.send({ type: "conversation.item.truncate", item_id: item, content_index: 0, audio_end_ms: ms });
      this.#tell("playback", { itemId: item, ms, ended: true, loud: 0, cut: true });
    }
  }

  #lost() {
    this.#talking = false;
    this.#tellMicrophone("the microphone was taken away");
  }

  #tellMicrophone(reason = null) {
    this.#tell("microphone", { on: this.listening, muted: this.#muted, talking: this.#talking, reason });
  }
}

function deferred() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  made.promise.catch(() => {}); // whoever does not wait is told by the event "state"
  return made;
}

/** Objects are merged key by key; anything else, null and arrays too, is replaced. */
function merge(into, update) {
  const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
  const result = { ...into };
  for (const [key, value] of Object.entries(update)) {
    result[key] = isObject(value) && isObject(result[key]) ? merge(result[key], value) : value;
  }
  return result;
}

function toBase64(bytes) {
  return btoa(String.fromCharCode(...bytes));
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
}
