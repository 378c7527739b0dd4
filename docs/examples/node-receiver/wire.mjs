// The wire as docs/wire.md tells it: topics, batches, records, hello, signed acknowledgements. No network, no files.

import { createHash, createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';
import { inflateSync } from 'node:zlib';

export const GENESIS = '0'.repeat(64);
export const MAX_UNPACKED_BYTES = 1048576;
export const MAX_LINES = 1000;
export const MAX_RANGES = 100;
export const MAX_QUARANTINED = 200;
const MAX_REASON = 300;
const MEDIA_TYPE = 'application/cloudevents+jsonl';

export const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** { device, rest } of a topic that a device of this fleet published to; undefined for any other one. */
export function sender(topic, root, fleet) {
  const prefix = `${root}/${fleet}/`;
  if (!topic.startsWith(prefix)) return undefined;
  const [device, up, ...rest] = topic.slice(prefix.length).split('/');
  return up === 'up' && /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(device) ? { device, rest } : undefined;
}

/** The lines of a batch as exact bytes. Throws when the payload as a whole cannot be taken apart. */
export function unpack(payload, contentType, codecInTopic) {
  const codec = contentType === undefined ? (codecInTopic ?? 'plain') : codecOf(contentType);
  let bytes = payload;
  if (codec === 'zlib') {
    const { buffer, engine } = inflateSync(payload, { maxOutputLength: MAX_UNPACKED_BYTES, info: true });
    if (engine.bytesWritten !== payload.length) throw new Error('bytes follow the compressed ones');
    bytes = buffer;
  } else if (codec !== 'plain') {
    throw new Error(`codec ${codec} is not known`);
  }
  if (bytes.length > MAX_UNPACKED_BYTES) throw new Error(`${bytes.length} bytes are too many`);
  if (bytes.at(-1) === 0x0a) bytes = bytes.subarray(0, -1);
  if (bytes.length === 0) throw new Error('the batch is empty');
  const lines = [];
  for (let from = 0; from <= bytes.length; ) {
    const end = bytes.indexOf(0x0a, from);
    lines.push(bytes.subarray(from, end < 0 ? bytes.length : end));
    from = end < 0 ? bytes.length + 1 : end + 1;
  }
  if (lines.length > MAX_LINES) throw new Error(`${lines.length} lines are too many`);
  return lines;
}

function codecOf(contentType) {
  const [mediaType, ...parameters] = contentType.split(';').map((part) => part.trim());
  if (mediaType.toLowerCase() !== MEDIA_TYPE) throw new Error(`content type ${mediaType} is not ${MEDIA_TYPE}`);
  return parameters.find((part) => part.startsWith('encoding='))?.slice('encoding='.length) ?? 'plain';
}

/** { journal, sequence, previous, hash, body, reason }; with a reason it is no record of this device. */
export function readRecord(body, source) {
  const hash = sha256(body);
  let event;
  try {
    event = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    return { hash, body, reason: 'not JSON' };
  }
  if (event === null || typeof event !== 'object' || Array.isArray(event)) {
    return { hash, body, reason: 'not a JSON object' };
  }
  const short = (value, most) => typeof value === 'string' && value.length >= 1 && value.length <= most;
  const journal = short(event.journal, 64) ? event.journal : undefined;
  const number = typeof event.sequence === 'string' && /^[1-9][0-9]{0,15}$/.test(event.sequence);
  const sequence = number && Number.isSafeInteger(Number(event.sequence)) ? Number(event.sequence) : undefined;
  const previous = /^[0-9a-f]{64}$/.test(event.previous) ? event.previous : undefined;
  const faults = [
    journal === undefined && 'journal is not a short text',
    sequence === undefined && 'sequence is not a decimal string from 1',
    previous === undefined && 'previous is not a hex SHA-256',
    event.specversion !== '1.0' && 'specversion is not 1.0',
    !short(event.id, 256) && 'id is not a short text',
    !short(event.type, 256) && 'type is not a short text',
    event.source !== source && `source is not ${source}`,
  ].filter(Boolean);
  const reason = faults.length > 0 ? faults.join('; ').slice(0, MAX_REASON) : undefined;
  return { journal, sequence, previous: reason ? undefined : previous, hash, body, reason };
}

/** The journals of a hello, each with the nonce. Throws when it is none. */
export function readHello(payload) {
  const message = JSON.parse(payload.toString('utf8'));
  const text = (value) => typeof value === 'string' && value.length >= 1 && value.length <= 64;
  const count = (value) => Number.isSafeInteger(value) && value >= 0;
  if (!text(message.nonce) || !Array.isArray(message.journals)) throw new Error('a hello needs nonce and journals');
  return message.journals.slice(0, 8).map((each) => {
    if (!text(each.journal) || !count(each.first) || !count(each.last)) throw new Error('a journal is malformed');
    const withheld = Object.entries(each.withheld ?? {}).map(([name, record]) => {
      const sequence = Number(name);
      if (!count(sequence) || sequence < 1 || !/^[0-9a-f]{64}$/.test(record.hash)) throw new Error('withheld is malformed');
      return { sequence, hash: record.hash, reason: String(record.reason ?? '').slice(0, MAX_REASON) };
    });
    const lost = (each.lost ?? []).slice(0, 1000);
    if (!lost.every(([low, high]) => count(low) && count(high) && 1 <= low && low <= high)) throw new Error('lost is malformed');
    const marks = Object.entries(each.marks ?? {}).map(([name, hash]) => [Number(name), hash]);
    const { journal, first, last } = each;
    return { nonce: message.nonce, journal, first, last, withheld, lost, marks };
  });
}

/** Signs acknowledgements with the service key of a PEM file. */
export class Signer {
  constructor(pem) {
    this.key = createPrivateKey(pem);
    const jwk = createPublicKey(this.key).export({ format: 'jwk' });
    this.alg = algorithmOf(jwk);
    this.kid = thumbprint(jwk);
  }

  jws(claims, typ) {
    const header = { alg: this.alg, kid: this.kid, typ };
    const signed = [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
    // r || s, not DER (RFC 7518, 3.4); Ed25519 hashes for itself.
    const signature = sign(this.alg === 'ES256' ? 'sha256' : null, Buffer.from(signed), {
      key: this.key,
      dsaEncoding: 'ieee-p1363',
    });
    return `${signed}.${signature.toString('base64url')}`;
  }
}

/** The claims of a compact JWS by this public key (JWK); undefined when it is not. */
export function verified(jws, jwk, typ) {
  try {
    const [header, claims, signature] = jws.split('.').map((part) => Buffer.from(part, 'base64url'));
    const said = JSON.parse(header);
    const alg = algorithmOf(jwk);
    if (said.typ !== typ || said.alg !== alg || said.kid !== thumbprint(jwk)) return undefined;
    const key = { key: createPublicKey({ key: jwk, format: 'jwk' }), dsaEncoding: 'ieee-p1363' };
    const signed = Buffer.from(jws.slice(0, jws.lastIndexOf('.')));
    return verify(alg === 'ES256' ? 'sha256' : null, signed, key, signature) ? JSON.parse(claims) : undefined;
  } catch {
    return undefined;
  }
}

function algorithmOf(jwk) {
  if (jwk.kty === 'EC' && jwk.crv === 'P-256') return 'ES256';
  if (jwk.kty === 'OKP' && jwk.crv === 'Ed25519') return 'Ed25519';
  throw new Error('the key must be P-256 or Ed25519');
}

/** RFC 7638. */
export function thumbprint(jwk) {
  const members = jwk.kty === 'EC' ? ['crv', 'kty', 'x', 'y'] : ['crv', 'kty', 'x'];
  const canonical = JSON.stringify(Object.fromEntries(members.map((name) => [name, jwk[name]])));
  return createHash('sha256').update(canonical).digest('base64url');
}
