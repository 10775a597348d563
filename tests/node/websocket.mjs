// Node before 22 has no WebSocket of its own: programs that expect one get that of the package ws.
import { WebSocket } from 'ws';

globalThis.WebSocket ??= WebSocket;
