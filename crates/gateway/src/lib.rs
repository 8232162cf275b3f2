//! Enforcement on every request and every live WebSocket.
