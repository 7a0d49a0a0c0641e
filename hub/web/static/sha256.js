// SHA-256 (FIPS 180-4) of a Blob, a megabyte at a time. The browser's own where it may be used: pages that did not come
// by HTTPS from another machine have none.
"use strict";
const sha256 = (() => {
  const primes = [];
  for (let n = 2; primes.length < 64; n += 1) if (primes.every((p) => n % p)) primes.push(n);
  const fraction = (root) => primes.map((p) => { const x = p ** (1 / root); return Math.floor((x - Math.floor(x)) * 2 ** 32) | 0; });
  const K = Int32Array.from(fraction(3)), START = Int32Array.from(fraction(2).slice(0, 8));
  const w = new Int32Array(64);
  const block = (state, view, at) => {
    for (let i = 0; i < 16; i += 1) w[i] = view.getInt32(at + 4 * i);
    for (let i = 16; i < 64; i += 1) {
      const a = w[i - 15], b = w[i - 2];
      const s0 = ((a >>> 7) | (a << 25)) ^ ((a >>> 18) | (a << 14)) ^ (a >>> 3);
      const s1 = ((b >>> 17) | (b << 15)) ^ ((b >>> 19) | (b << 13)) ^ (b >>> 10);
      w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i += 1) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g; g = f; f = e; e = (d + t1) | 0; d = c; c = b; b = a; a = (t1 + t2) | 0;
    }
    [a, b, c, d, e, f, g, h].forEach((value, i) => { state[i] = (state[i] + value) | 0; });
  };
  const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const STEP = 1 << 20;
  return async (blob, signal) => {
    if (globalThis.crypto?.subtle && blob.size <= 32 * STEP) {
      return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer())));
    }
    const state = START.slice();
    for (let at = 0; at <= blob.size; at += STEP) {
      signal?.throwIfAborted();
      const piece = new Uint8Array(await blob.slice(at, at + STEP).arrayBuffer());
      let bytes = piece;
      if (at + STEP > blob.size) { // the last piece: a one, zeros, and the length in bits
        bytes = new Uint8Array(Math.ceil((piece.length + 9) / 64) * 64);
        bytes.set(piece);
        bytes[piece.length] = 0x80;
        new DataView(bytes.buffer).setBigUint64(bytes.length - 8, BigInt(blob.size) * 8n);
      }
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      for (let k = 0; k < bytes.length; k += 64) block(state, view, k);
    }
    const out = new DataView(new ArrayBuffer(32));
    state.forEach((value, i) => out.setInt32(4 * i, value));
    return hex(new Uint8Array(out.buffer));
  };
})();
