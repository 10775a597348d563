// A conversation by @openai/agents-realtime, written as its users write it:
//   node agents_realtime.mjs typed|spoken|called|interrupted|cancelled|refused ws://HOST/v1/realtime [SPEECH]
// SPEECH is raw 16-bit mono at 24 kHz. What happened is printed as one line of JSON.
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { RealtimeAgent, RealtimeSession, tool } from '@openai/agents-realtime';
import { z } from 'zod';

const [scenario, url, speech] = process.argv.slice(2);
const events = [];
const report = { errors: [], calls: [], audioMs: 0, interruptions: 0 };

const setLight = tool({
  name: 'set_light',
  description: 'Turn the light in a room on or off.',
  parameters: z.object({ room: z.string(), state: z.enum(['on', 'off']) }),
  execute: async (given) => {
    report.calls.push(given);
    return { ok: true };
  },
});

const session = new RealtimeSession(new RealtimeAgent({ name: 'assistant', instructions: '', tools: [setLight] }), {
  transport: 'websocket',
  config: { outputModalities: [['typed', 'refused'].includes(scenario) ? 'text' : 'audio'] },
});

session.on('error', (error) => report.errors.push(error.error));
session.on('audio', (event) => (report.audioMs += event.data.byteLength / 48));
session.on('audio_interrupted', () => (report.interruptions += 1));
session.on('transport_event', (event) => events.push(event));

// Resolves to the count-th event of a type since the beginning, when it has come.
async function told(type, count = 1) {
  for (;;) {
    const found = events.filter((event) => event.type === type);
    if (found.length >= count) return found[count - 1];
    await new Promise((resolve) => session.once('transport_event', resolve));
  }
}

async function speak(pace) {
  const sound = readFileSync(speech);
  for (let at = 0; at < sound.length; at += 4800) {
    const piece = new Uint8Array(sound.subarray(at, at + 4800));
    session.sendAudio(piece.buffer);
    await pause(100 / pace);
  }
}

const scenarios = {
  async typed() {
    session.sendMessage('what is two plus two');
    await told('response.done');
  },
  async spoken() {
    await speak(4);
    await told('response.done');
  },
  async called() {
    session.sendMessage('turn on the light in the kitchen');
    await told('response.done', 2); // the call, then the words about its result
  },
  async interrupted() {
    session.sendMessage('what can you do');
    await told('response.output_audio.delta');
    await speak(1);
    await told('response.done', 2);
    await told('conversation.item.retrieved', 2); // after the truncation and after the transcript, as the session asks
  },
  async cancelled() {
    session.sendMessage('what can you do');
    await told('response.output_audio.delta');
    session.interrupt();
    await told('response.done');
    session.sendMessage('what is two plus two');
    await told('response.done', 2);
  },
  async refused() {
    session.transport.sendEvent({ type: 'conversation.item.delete', item_id: 'item_of_another', event_id: 'mine' });
    await told('error');
    session.sendMessage('what is two plus two');
    await told('response.done');
  },
};

await session.connect({ apiKey: 'unused', url });
await scenarios[scenario]();
await pause(0); // the session's own listeners come after these
report.history = session.history;
report.events = events.map((event) => event.type);
report.truncated = events.find((event) => event.type === 'conversation.item.truncated');
report.responses = events.filter((event) => event.type === 'response.done').map((event) => event.response);
report.audioMs = Math.round(report.audioMs);
session.close();
console.log(JSON.stringify(report));
