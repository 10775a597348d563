// A typed turn by the npm package `openai`, which connects by wss only: node openai_realtime.mjs ws|native https://HOST/v1
// `ws` is its client for Node, `native` the one that takes the runtime's own WebSocket, as in a browser. Prints one line of JSON.
import OpenAI from 'openai';

const [kind, baseURL] = process.argv.slice(2);
const client = new OpenAI({ apiKey: process.env.TEXTPRO_KEY, baseURL });
const connection =
  kind === 'ws'
    ? new (await import('openai/realtime/ws')).OpenAIRealtimeWS({ model: 'any' }, client)
    : new (await import('openai/realtime/websocket')).OpenAIRealtimeWebSocket({ model: 'any' }, client);

const report = { events: [], text: '', url: String(connection.url) };
const content = [{ type: 'input_text', text: 'what is two plus two' }];
connection.on('event', (event) => report.events.push(event.type));
connection.on('error', (error) => {
  console.error(error);
  process.exit(1);
});
connection.on('session.created', () => {
  connection.send({ type: 'session.update', session: { type: 'realtime', output_modalities: ['text'] } });
  connection.send({ type: 'conversation.item.create', item: { type: 'message', role: 'user', content } });
  connection.send({ type: 'response.create' });
});
connection.on('response.output_text.delta', (event) => (report.text += event.delta));
connection.on('response.done', (event) => {
  report.status = event.response.status;
  connection.close();
  console.log(JSON.stringify(report));
});
