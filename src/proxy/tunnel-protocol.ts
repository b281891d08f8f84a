// What the two ends of a tunnel agree on (docs/adr/0010-tunnel.md). Binary messages carry the bytes of one connection in
// order; an empty one ends its direction, as a TCP FIN would. Both ends may ping.

/** Sec-WebSocket-Protocol; the number rises when an older end would misunderstand a newer one. */
export const TUNNEL_PROTOCOL = 'v1.tunnel.sallyport.dev';
export const TUNNEL_PATH = '/connect/';
/** Largest message either end may send, bytes. */
export const TUNNEL_MESSAGE_BYTES = 1024 * 1024;
/** API servers and load balancers cut connections that say nothing, some after a minute. */
export const TUNNEL_PING_MS = 20_000;
/** Without anything from the other end for so long it is gone: three pings. */
export const TUNNEL_SILENCE_MS = 70_000;
