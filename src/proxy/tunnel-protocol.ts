// What the two ends of a tunnel agree on (docs/adr/0010-tunnel.md). Binary messages carry the bytes of one connection in
// order; an empty one ends its direction, as a TCP FIN would. Both ends may ping.

/** Sec-WebSocket-Protocol; the number rises when an older end would misunderstand a newer one. */
export const TUNNEL_PROTOCOL = 'v1.tunnel.sallyport.dev';
export const TUNNEL_PATH = '/connect/';
/**
 * Header, both ways. The answer names the replica that serves the tunnel; a request that names one is answered 421 by any
 * other, so that what belongs together (a session and its cancel request) comes to one place.
 */
export const REPLICA_HEADER = 'sallyport-replica';
/** Header of the answer: the id of the session that the tunnel carries, for renewals. */
export const SESSION_HEADER = 'sallyport-session';
/**
 * `POST /renew/<session>` with `RenewalProof` as JSON hands that session a newer token, where its policy wants people to
 * prove again who they are. What comes back is a `Renewal`: 200 for Renewed and Cut, 403, 404, 409 or 429 for Refused.
 * Needs the replica that has the session (`REPLICA_HEADER`). The token is in the body: the API server takes headers off.
 */
export const RENEW_PATH = '/renew/';
/** A token and a ticket, and what JSON puts around them. */
export const RENEW_BYTES = 20 * 1024;
/** Largest message either end may send, bytes. */
export const TUNNEL_MESSAGE_BYTES = 1024 * 1024;
/** API servers and load balancers cut connections that say nothing, some after a minute. */
export const TUNNEL_PING_MS = 20_000;
/** Without anything from the other end for so long it is gone: three pings. */
export const TUNNEL_SILENCE_MS = 70_000;
