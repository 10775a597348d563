"""The OpenAI Realtime protocol: the codec as a state machine without I/O, and the connection that moves its bytes."""
