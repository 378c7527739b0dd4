// What was received, in one append-only file a journal: DATA/DEVICE/JOURNAL.log. One entry a line, in order of arrival:
//
//   R <the record's exact bytes>         Q {sequence, hash, reason, body?}   kept aside or withheld, counts as handled
//   N {nonce}    of the last hello       L {first, last}                     declared lost    U {lows}    taken back
//   F {sequence, hash, reason, body, dropped?}   another record for this sequence; dropped: the R entry is no longer it
//
// Lines that nobody knows a place for are in DATA/DEVICE/unplaced.jsonl. Everything given to one `commit` is written and fsynced before it returns. A torn last line (power cut) was never
// acknowledged and is cut off at the next start. The index is in memory: this is an example, not a data warehouse.

import { closeSync, existsSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { GENESIS, MAX_QUARANTINED, MAX_RANGES, readRecord } from './wire.mjs';

const MOST_UNPLACED = 1000;
const FILE_NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;

export class Store {
  constructor(folder, fleet) {
    this.folder = folder;
    this.fleet = fleet;
    this.journals = new Map();
    this.unplaced = new Map(); // device -> Unplaced
    if (!existsSync(folder)) {
      mkdirSync(folder, { recursive: true });
    }
    for (const device of readdirSync(folder)) {
      for (const file of readdirSync(join(folder, device))) {
        if (file.endsWith('.log')) this.journal(device, file.slice(0, -'.log'.length));
      }
    }
  }

  /** One journal of one device; begun when it is not there. */
  journal(device, name) {
    const place = `${device}/${name}`;
    if (!this.journals.has(place)) {
      if (!FILE_NAME.test(device) || !FILE_NAME.test(name)) throw new Error(`${place} is no journal's name`);
      this.journals.set(place, new Journal(this.folder, this.fleet, device, name, this.unplacedOf(device)));
    }
    return this.journals.get(place);
  }

  unplacedOf(device) {
    if (!this.unplaced.has(device)) this.unplaced.set(device, new Unplaced(this.folder, device));
    return this.unplaced.get(device);
  }

  /** Take a batch; the journals that it touched, durable. */
  take(device, lines) {
    const source = `/fleets/${this.fleet}/devices/${device}`;
    const read = lines.map((line) => readRecord(line, source));
    const touched = new Set();
    const waiting = this.unplacedOf(device);
    placeAmongNeighbours(read);
    for (const line of read) {
      if (line.journal === undefined || line.sequence === undefined) {
        waiting.keep(line);
        continue;
      }
      const journal = this.journal(device, line.journal);
      touched.add(journal);
      journal.take(line);
      const before = waiting.lines.get(line.previous);
      if (before !== undefined && line.sequence > 1) {
        journal.take({ ...before, sequence: line.sequence - 1 });
        waiting.drop(before.hash);
      }
    }
    for (const journal of touched) journal.commit();
    waiting.commit();
    return [...touched];
  }

  /** Note a hello; the journal, durable. */
  greet(device, hello) {
    const journal = this.journal(device, hello.journal);
    journal.greet(hello);
    journal.commit();
    return journal;
  }
}

/** A batch is one contiguous range of one journal, so its readable lines say where the others belong. */
function placeAmongNeighbours(read) {
  const anchors = new Set(read.flatMap((line, at) => (line.reason ? [] : [`${line.sequence - at} ${line.journal}`])));
  if (anchors.size !== 1) return;
  const [offset, journal] = [...anchors][0].split(/ (.*)/s);
  read.forEach((line, at) => {
    if (line.reason && Number(offset) + at >= 1) Object.assign(line, { journal, sequence: Number(offset) + at });
  });
}

/** Unreadable lines of a device that nobody knows a place for, until the record after one names its hash. */
class Unplaced {
  constructor(folder, device) {
    this.lines = new Map(); // hash -> { hash, reason, body }
    this.changed = false;
    mkdirSync(join(folder, device), { recursive: true });
    this.path = join(folder, device, 'unplaced.jsonl');
    if (!existsSync(this.path)) return;
    for (const line of lines(readFileSync(this.path))) {
      const { hash, reason, body } = JSON.parse(line.toString('utf8'));
      this.lines.set(hash, { hash, reason, body: Buffer.from(body, 'base64') });
    }
  }

  keep({ hash, reason, body }) {
    if (this.lines.has(hash) || this.lines.size >= MOST_UNPLACED) return;
    this.lines.set(hash, { hash, reason, body: Buffer.from(body) });
    this.changed = true;
  }

  drop(hash) {
    this.changed = this.lines.delete(hash) || this.changed;
  }

  /** Written anew beside the old one and renamed: there are few of them. */
  commit() {
    if (!this.changed) return;
    const entries = [...this.lines.values()].map((line) => `${JSON.stringify({ ...line, body: line.body.toString('base64') })}\n`);
    const file = openSync(`${this.path}.new`, 'w');
    writeSync(file, entries.join(''));
    fsyncSync(file);
    closeSync(file);
    renameSync(`${this.path}.new`, this.path);
    syncFolder(join(this.path, '..'));
    this.changed = false;
  }
}

class Journal {
  constructor(folder, fleet, device, name, unplaced) {
    Object.assign(this, { fleet, device, name, unplaced, nonce: '', through: 0, hash: GENESIS });
    this.held = new Map(); // sequence -> { hash, previous?, reason?, body: is it here }
    this.aside = new Set(); // those of them with a reason
    this.top = 0;
    this.lost = []; // [first, last]
    this.forks = new Set();
    this.duplicates = 0;
    this.pending = [];
    mkdirSync(join(folder, device), { recursive: true });
    this.path = join(folder, device, `${name}.log`);
    const isNew = !existsSync(this.path);
    this.file = openSync(this.path, 'a+');
    if (isNew) syncFolder(join(folder, device));
    this.replay();
  }

  // Taking

  take(line) {
    const held = this.held.get(line.sequence);
    if (held === undefined) {
      this.keep(line);
    } else if (!held.body && line.reason === undefined) {
      // Withheld once, arrived after all: the record counts, not what a hello claimed about it.
      this.keep(line);
      if (held.hash !== line.hash) this.goBackTo(line.sequence - 1);
    } else if (held.hash === line.hash) {
      this.duplicates += 1;
    } else {
      this.fork(line.sequence, line.hash, 'another record has this sequence', line.body);
    }
  }

  keep({ sequence, hash, previous, reason, body }) {
    this.hold(sequence, { hash, previous, reason, body: body !== undefined });
    if (reason === undefined) {
      this.pending.push(Buffer.concat([Buffer.from('R '), body, Buffer.from('\n')]));
    } else {
      this.note('Q', { sequence, hash, reason, body: body?.toString('base64') });
    }
  }

  hold(sequence, record) {
    this.held.set(sequence, record);
    this.aside.delete(sequence);
    if (record.reason !== undefined) this.aside.add(sequence);
    this.top = Math.max(this.top, sequence);
  }

  drop(sequence) {
    this.held.delete(sequence);
    this.aside.delete(sequence);
  }

  greet({ nonce, first, withheld, lost }) {
    if (nonce !== this.nonce) this.note('N', { nonce });
    this.nonce = nonce;
    for (const record of withheld) {
      if (!this.held.has(record.sequence)) this.keep(record);
    }
    const wrong = this.lost.filter(([low, high]) => high >= first && (low <= first || lost.length === 0));
    if (wrong.length > 0) {
      const lows = wrong.map(([low]) => low);
      this.note('U', { lows });
      this.takeBack(lows);
    }
    this.advance();
    for (const [begin, end] of [[1, first - 1], ...lost]) {
      for (const [low, high] of this.gaps(Math.max(this.through, begin - 1), end + 1)) {
        if (this.lost.some((known) => known[0] === low && known[1] === high)) continue;
        this.note('L', { first: low, last: high });
        this.lost.push([low, high]);
      }
    }
  }

  takeBack(lows) {
    this.lost = this.lost.filter(([low]) => !lows.includes(low));
    this.goBackTo(Math.min(...lows) - 1);
  }

  /** Of a hello's marks, the newest that is the same here; 0 when none is. */
  newestAgreed(marks) {
    return Math.max(0, ...marks.map(([sequence, hash]) => (this.held.get(sequence)?.hash === hash ? sequence : 0)));
  }

  goBackTo(through) {
    if (this.through <= through) return;
    this.through = through;
    this.hash = through === 0 ? GENESIS : (this.held.get(through)?.hash ?? '');
  }

  /** Move `through` over the gap-free, chained part. */
  advance() {
    for (;;) {
      const next = this.through + 1;
      const record = this.held.get(next);
      const lost = this.lost.find(([first, last]) => first <= next && next <= last);
      if (record === undefined && lost !== undefined) {
        [this.through, this.hash] = [lost[1], ''];
        continue;
      }
      if (record === undefined) return;
      if (this.hash !== '' && record.previous !== undefined && record.previous !== this.hash) {
        this.fork(next, record.hash, 'its previous hash is not that of the record before', undefined, true);
        return;
      }
      [this.through, this.hash] = [next, record.hash];
    }
  }

  fork(sequence, hash, reason, body, dropped = false) {
    this.forks.add(sequence);
    if (dropped) this.drop(sequence);
    this.note('F', { sequence, hash, reason, body: body?.toString('base64'), dropped });
  }

  note(kind, value) {
    this.pending.push(Buffer.from(`${kind} ${JSON.stringify(value)}\n`));
  }

  /** Durable on return. */
  commit() {
    this.advance();
    if (this.pending.length === 0) return;
    const bytes = Buffer.concat(this.pending);
    for (let written = 0; written < bytes.length; ) written += writeSync(this.file, bytes, written);
    fsyncSync(this.file);
    this.pending = [];
  }

  // Telling

  /** The claims of an acknowledgement (docs/wire.md). */
  claims({ hello, agreed }) {
    const resend = hello ? [] : this.missing();
    const quarantined = [...this.aside]
      .filter((sequence) => sequence <= this.through)
      .slice(-MAX_QUARANTINED)
      .map((sequence) => [String(sequence), this.held.get(sequence).reason]);
    const { fleet, device, name: journal, nonce, through } = this;
    const claims = { fleet, device, journal, nonce, through, hash: through === 0 ? '' : this.hash, hello, resend };
    claims.quarantined = Object.fromEntries(quarantined);
    claims.iat = Math.floor(Date.now() / 1000);
    if (this.forks.has(through + 1)) claims.fork = through + 1;
    if (agreed !== undefined) claims.agreed = agreed;
    return claims;
  }

  missing() {
    if (this.forks.has(this.through + 1)) return [];
    // The record behind a gap may name the hash of a line without a place: ask for that one as well.
    const more = this.unplaced.lines.size > 0 ? 1 : 0;
    return this.gaps(this.through, this.top)
      .slice(0, MAX_RANGES)
      .map(([first, last]) => [first, last + more]);
  }

  ahead() {
    if (this.top <= this.through) return [];
    return [...this.held.keys()].filter((sequence) => sequence > this.through);
  }

  /** The ranges that are not held between two sequences, both exclusive. */
  gaps(after, before) {
    const gaps = [];
    let last = after;
    for (const sequence of this.ahead().filter((each) => each > after && each < before).sort((a, b) => a - b)) {
      if (sequence > last + 1) gaps.push([last + 1, sequence - 1]);
      last = sequence;
    }
    if (before > last + 1) gaps.push([last + 1, before - 1]);
    return gaps;
  }

  /** The records' exact bytes in order of their sequence, read back from the file. */
  bodies() {
    const found = new Map();
    for (const line of lines(readFileSync(this.path))) {
      if (line[0] === 0x52) {
        const record = readRecord(line.subarray(2), `/fleets/${this.fleet}/devices/${this.device}`);
        found.set(record.sequence, record);
      }
    }
    return [...found.values()]
      .filter((record) => this.held.get(record.sequence)?.hash === record.hash)
      .sort((a, b) => a.sequence - b.sequence);
  }

  replay() {
    const bytes = readFileSync(this.path);
    const whole = bytes.lastIndexOf(0x0a) + 1;
    if (whole < bytes.length) {
      ftruncateSync(this.file, whole);
      fsyncSync(this.file);
    }
    const source = `/fleets/${this.fleet}/devices/${this.device}`;
    for (const line of lines(bytes.subarray(0, whole))) {
      const kind = String.fromCharCode(line[0]);
      const entry = line.subarray(2);
      if (kind === 'R') {
        const { sequence, hash, previous } = readRecord(entry, source);
        const before = this.held.get(sequence);
        this.hold(sequence, { hash, previous, body: true });
        if (before !== undefined && before.hash !== hash) this.goBackTo(sequence - 1);
      } else {
        this.replayNote(kind, JSON.parse(entry.toString('utf8')));
      }
    }
    this.advance();
    this.pending = [];
  }

  replayNote(kind, told) {
    if (kind === 'Q') this.hold(told.sequence, { hash: told.hash, reason: told.reason, body: told.body !== undefined });
    if (kind === 'N') this.nonce = told.nonce;
    if (kind === 'L') this.lost.push([told.first, told.last]);
    if (kind === 'U') this.takeBack(told.lows);
    if (kind === 'F') {
      this.forks.add(told.sequence);
      if (told.dropped) this.drop(told.sequence);
    }
  }

  close() {
    closeSync(this.file);
  }
}

function* lines(bytes) {
  for (let from = 0; from < bytes.length; ) {
    const end = bytes.indexOf(0x0a, from);
    if (end < 0) return;
    yield bytes.subarray(from, end);
    from = end + 1;
  }
}

function syncFolder(path) {
  const folder = openSync(path, 'r');
  fsyncSync(folder);
  closeSync(folder);
}
