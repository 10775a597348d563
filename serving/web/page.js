/**
 * The page at `/`: its controls drive a RealtimeClient, and what the client tells is shown by Transcript and VoicePanel.
 */

import { RealtimeClient } from "./client.js";
import { Transcript } from "./transcript.js";
import { VoicePanel } from "./voice.js";

const ACTIVITIES = {
  idle: "Not connected", connecting: "Connecting …", closed: "Not connected", ready: "Ready", muted: "Muted",
  listening: "Listening", hearing: "Hearing you", thinking: "Thinking", speaking: "Speaking", held: "Hold the button to talk",
};
const AGAIN = {
  resumed: "Connected again; the conversation goes on.",
  anew: "Connected again. What was said before is not remembered.",
};
const SHOWN_LATENCIES = 5;

const at = (id) => document.getElementById(id);
const client = new RealtimeClient();
const transcript = new Transcript(at("log"), announce);
const voice = new VoicePanel(document.querySelector("aside"));
const activity = { hearing: false, thinking: false, speaking: false };
const span = { from: 0, to: 0, now: 0 }; // of the user's last turn, and how far it is, in the sound of the session
const latencies = [];
const choices = new Map();
let server = "";

// What the client tells.

client.addEventListener("state", ({ detail }) => {
  const { state, reason, retryMs, again } = detail;
  if (state !== "open") Object.assign(activity, { hearing: false, thinking: false, speaking: false });
  at("retry").hidden = state !== "waiting" && state !== "refused";
  if (state === "waiting") server = `Reconnecting in ${Math.max(1, Math.round(retryMs / 1000))} s: ${reason}`;
  if (state === "refused") server = reason;
  if (state === "open" && again !== "resumed") {
    transcript.restart();
    voice.points = [];
  }
  if (state === "open" && again) transcript.note(AGAIN[again]);
  if (state === "waiting" || state === "refused") fault(server);
  else if (state === "open") fault("");
  if (state === "open") announce("Connected.");
  show();
});

client.addEventListener("microphone", ({ detail: { reason, talking } }) => {
  if (reason) fault(reason);
  if (client.pushToTalk) span[talking ? "from" : "to"] = span.now;
  show();
});

client.addEventListener("input", ({ detail: { pcm, sent, endMs } }) => {
  span.now = endMs;
  if (sent && at("prosody").checked) voice.hear(pcm, endMs);
});

client.addEventListener("playback", ({ detail: { ended } }) => {
  activity.speaking = !ended;
  if (!ended) activity.thinking = false;
  show();
});

client.addEventListener("latency", ({ detail: { ms, after } }) => {
  const words = { speech: "after you stopped", typing: "after you sent", talking: "after you let go" };
  const text = `${(ms / 1000).toFixed(2)} s ${words[after]}`;
  transcript.time(text);
  activity.thinking = false;
  latencies.push({ ms, text });
  const shown = latencies.slice(-SHOWN_LATENCIES);
  const longest = Math.max(...shown.map((one) => one.ms), 1);
  at("latencies").replaceChildren(...shown.map((one) => {
    const line = document.createElement("li");
    line.textContent = one.text;
    line.style.setProperty("--at", one.ms / longest);
    return line;
  }));
  show();
});

const SAID = {
  error: ({ error }) => fault(error.message),
  "response.output_audio_transcript.delta": ({ delta, item_id: item }) => transcript.say(delta, item),
  "response.output_text.delta": ({ delta, item_id: item }) => transcript.say(delta, item),
  "textpro.resumed": ({ items, speech }) => {
    activity.hearing = speech !== null;
    transcript.catchUp(items, speech !== null);
  },
  "input_audio_buffer.speech_started": ({ audio_start_ms: ms }) => (span.from = ms),
  "input_audio_buffer.speech_stopped": ({ audio_end_ms: ms }) => (span.to = ms),
  "textpro.turn_start": ({ turn_id: id }) => {
    activity.hearing = true;
    transcript.begin(id);
  },
  "textpro.update": ({ turn_id: id, committed, tentative }) => transcript.update(id, committed, tentative),
  "textpro.prosody": (event) => {
    voice.show(event);
    transcript.sound(event.turn_id, event);
  },
  "textpro.eager_turn_end": ({ p_end: pEnd }) => voice.judge(pEnd),
  "textpro.turn_resumed": ({ turn_id: id }) => {
    Object.assign(activity, { hearing: true, thinking: false });
    transcript.resume(id);
  },
  "textpro.turn_end": ({ turn_id: id, text, p_end: pEnd }) => {
    Object.assign(activity, { hearing: false, thinking: true });
    transcript.end(id, text, pEnd, voice.between(span.from, span.to));
  },
  "textpro.turn_dropped": ({ turn_id: id }) => {
    activity.hearing = false;
    transcript.drop(id);
  },
  "textpro.backchannel": ({ text }) => transcript.note(`You said “${text}”, and it went on.`),
  "textpro.reply_start": ({ turn_id: id }) => transcript.start(id),
  "textpro.reply_done": ({ turn_id: id, text, heard_text: heard, interrupted }) => {
    transcript.finish(id, text, heard, interrupted);
  },
  "textpro.tool_call": ({ name, arguments: given }) => transcript.note(`Calls ${name} ${JSON.stringify(given)}`),
  "textpro.tool_result": ({ name, result }) => transcript.note(`${name} gives ${JSON.stringify(result)}`),
  "textpro.confirmation_request": ({ call_id: id, question }) => {
    choices.set(id, transcript.ask(question, (accepted) => client.confirm(id, accepted)));
  },
  "textpro.confirmation_answer": ({ call_id: id, accepted }) => {
    choices.get(id)?.replaceChildren(accepted ? "Answered: yes" : "Answered: no");
  },
};

for (const [type, act] of Object.entries(SAID)) {
  client.addEventListener(type, ({ detail }) => {
    act(detail);
    show();
  });
}

// What the user does.

at("mic").onclick = async () => {
  if (client.listening) {
    client.stopMicrophone();
    return;
  }
  fault("");
  try {
    await Promise.all([client.connect(), client.startMicrophone({ deviceId: at("microphones").value })]);
    await listDevices();
  } catch (error) {
    fault(error.name === "NotAllowedError" ? "The browser was not allowed to use the microphone; typing works." : error.message);
  }
};

at("mute").onclick = () => (client.muted = !client.muted);
at("ptt").onclick = () => {
  client.pushToTalk = !client.pushToTalk;
  if (client.pushToTalk && client.listening) at("hold").focus();
};
at("stop").onclick = () => client.interrupt();
at("retry").onclick = () => client.connect().catch(() => {});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !at("settings").open) client.interrupt();
});

/** Hold to talk, or press shortly to begin and once more to end. */
let pressedAt = 0;
function press() {
  if (client.talking) {
    client.release();
    pressedAt = 0;
  } else {
    client.press();
    pressedAt = performance.now();
  }
}
function release() {
  if (client.talking && performance.now() - pressedAt > 350) client.release();
}
at("hold").onpointerdown = (event) => {
  event.target.setPointerCapture?.(event.pointerId);
  press();
};
at("hold").onpointerup = release;
at("hold").onpointercancel = release;
at("hold").onkeydown = (event) => {
  if ([" ", "Enter"].includes(event.key) && !event.repeat) {
    event.preventDefault();
    press();
  }
};
at("hold").onkeyup = (event) => {
  if ([" ", "Enter"].includes(event.key)) release();
};
at("hold").oncontextmenu = () => false;

at("typing").onsubmit = async (event) => {
  event.preventDefault();
  const text = at("entry").value.trim();
  if (text === "") return;
  fault("");
  try {
    await client.connect();
    at("entry").value = "";
    transcript.type(text);
    activity.thinking = true;
    await client.say(text);
  } catch (error) {
    fault(error.message);
  }
  show();
};

at("prosody").onchange = () => {
  const wanted = at("prosody").checked;
  localStorage.setItem("textpro.prosody", wanted ? "on" : "off");
  client.configure({ textpro: { prosody: wanted } });
  if (!wanted) voice.forget();
  show();
};

at("open-settings").onclick = async () => {
  await listDevices();
  at("settings").showModal();
};
at("key").onchange = () => (client.key = at("key").value.trim() || null);
at("microphones").onchange = () => {
  if (client.listening) client.startMicrophone({ deviceId: at("microphones").value }).catch((error) => fault(error.message));
};
at("speakers").onchange = () => client.setSpeaker(at("speakers").value).catch((error) => fault(error.message));
navigator.mediaDevices?.addEventListener("devicechange", listDevices);

async function listDevices() {
  const { microphones, speakers } = await RealtimeClient.devices();
  fill(at("microphones"), microphones);
  fill(at("speakers"), speakers);
  at("speakers").disabled = !("setSinkId" in (globalThis.AudioContext?.prototype ?? {}));
}

function fill(select, devices) {
  const chosen = select.value;
  const named = devices.filter(({ id }) => id !== "" && id !== "default");
  const options = [new Option("The browser's choice", ""), ...named.map(({ id, label }, index) => new Option(label || `Device ${index + 1}`, id))];
  select.replaceChildren(...options);
  select.value = named.some(({ id }) => id === chosen) ? chosen : "";
}

// What is shown.

function show() {
  const doing = current();
  at("status").dataset.state = doing;
  at("status-text").textContent = ACTIVITIES[doing] ?? (doing === "refused" ? "Refused" : server.split(":")[0]);
  const { listening, pushToTalk, talking, muted } = client;
  at("mic").classList.toggle("on", listening);
  at("mic").lastElementChild.textContent = listening ? "Turn microphone off" : "Start talking";
  at("mic").disabled = !RealtimeClient.hasSound;
  at("hold").hidden = !(pushToTalk && listening);
  at("hold").lastElementChild.textContent = talking ? "Listening: let go to send" : "Hold to talk";
  at("hold").setAttribute("aria-pressed", String(talking));
  at("mute").disabled = !listening;
  at("mute").setAttribute("aria-pressed", String(muted));
  at("ptt").setAttribute("aria-pressed", String(pushToTalk));
  at("stop").disabled = !activity.speaking;
  at("voice").hidden = !at("prosody").checked;
  at("prosody-off").hidden = at("prosody").checked;
}

function current() {
  if (client.state !== "open") return client.state;
  if (activity.hearing || client.talking) return "hearing";
  if (activity.speaking) return "speaking";
  if (activity.thinking) return "thinking";
  if (!client.listening) return "ready";
  if (client.muted) return "muted";
  return client.pushToTalk ? "held" : "listening";
}

function fault(text) {
  at("fault").textContent = text;
}

function announce(text) {
  at("announcer").textContent = text;
}

if (localStorage.getItem("textpro.prosody") === "off") {
  at("prosody").checked = false;
  client.configure({ textpro: { prosody: false } });
}
if (!RealtimeClient.hasSound) fault("Microphone and sound need a page of https or localhost; typing works.");
listDevices();
voice.draw();
show();
