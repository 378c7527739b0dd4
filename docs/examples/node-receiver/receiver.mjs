// A fleet backend in a few hundred lines, written from docs/wire.md alone.
//
//   node receiver.mjs --broker mqtts://HOST:8883 --fleet FLEET --data DIR --key service-ack.pem --ca ... --cert ... --certkey ...
//   node receiver.mjs --fleet FLEET --data DIR --verify [--device-key device.jwk]
//
// Everything is stored before it is acknowledged, to the broker (PUBACK) and to the device (signed).

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Store } from './store.mjs';
import { GENESIS, Signer, readHello, sender, sha256, unpack, verified } from './wire.mjs';

const ASK_AGAIN_MS = 2000;

const { values: options } = parseArgs({
  options: {
    broker: { type: 'string' },
    fleet: { type: 'string' },
    data: { type: 'string' },
    key: { type: 'string' },
    root: { type: 'string', default: 'roamkey/v1' },
    mqtt: { type: 'string', default: '5' },
    ca: { type: 'string' },
    cert: { type: 'string' },
    certkey: { type: 'string' },
    verify: { type: 'boolean', default: false },
    'device-key': { type: 'string' },
  },
});
for (const name of ['fleet', 'data', ...(options.verify ? [] : ['broker', 'key'])]) {
  if (options[name] === undefined) {
    console.error(`--${name} is missing`);
    process.exit(64);
  }
}

if (options.verify) {
  process.exit(audit() ? 0 : 1);
} else {
  await receive();
}

async function receive() {
  const { default: mqtt } = await import('mqtt');
  const signer = new Signer(readFileSync(options.key));
  const store = new Store(options.data, options.fleet);
  const asked = new Map();
  const file = (name) => (options[name] === undefined ? undefined : readFileSync(options[name]));
  const client = mqtt.connect(options.broker, {
    protocolVersion: options.mqtt === '3.1.1' ? 4 : 5,
    clientId: `node-receiver-${options.fleet}-${process.pid}`,
    clean: true,
    resubscribe: false,
    reconnectPeriod: 500,
    queueQoSZero: false,
    ca: file('ca'),
    cert: file('cert'),
    key: file('certkey'),
  });

  const acknowledge = (journal, { hello, agreed }) => {
    const claims = journal.claims({ hello, agreed });
    const place = `${journal.device}/${journal.name}`;
    if (claims.resend.length > 0) {
      // The same gap is asked for again only after a while: what is on its way fills it.
      if (Date.now() - (asked.get(place) ?? 0) < ASK_AGAIN_MS) claims.resend = [];
      else {
        asked.set(place, Date.now());
        setTimeout(() => journal.missing().length > 0 && acknowledge(journal, { hello: false }), ASK_AGAIN_MS + 1);
      }
    }
    const topic = `${options.root}/${options.fleet}/${journal.device}/down/ack`;
    client.publish(topic, signer.jws(claims, 'roamkey-ack+jwt'), { qos: 1 });
  };

  // Called for each message before its PUBACK, one at a time: PUBACK follows `done`, and so the fsync.
  client.handleMessage = (packet, done) => {
    const from = sender(packet.topic, options.root, options.fleet);
    try {
      if (from?.rest[0] === 'records') {
        const lines = unpack(packet.payload, packet.properties?.contentType, from.rest[1]);
        for (const journal of store.take(from.device, lines)) acknowledge(journal, { hello: false });
      } else if (from?.rest[0] === 'hello') {
        for (const hello of readHello(packet.payload)) {
          const journal = store.greet(from.device, hello);
          const agreed = hello.marks.length > 0 ? journal.newestAgreed(hello.marks) : undefined;
          acknowledge(journal, { hello: true, agreed });
        }
      }
    } catch (error) {
      if (error.syscall !== undefined) throw error; // the disk: nothing is acknowledged, and the process ends
      console.error(`${packet.topic}: ${error.message}`);
    }
    done();
  };
  client.on('connect', async () => {
    const topics = [`${options.root}/${options.fleet}/+/up/records/#`, `${options.root}/${options.fleet}/+/up/hello`];
    await client.subscribeAsync(topics, { qos: 1 });
    for (const journal of store.journals.values()) acknowledge(journal, { hello: false });
    console.log('ready');
  });
  client.on('error', (error) => console.error(`broker: ${error.message}`));
  process.on('SIGTERM', () => client.end(false, () => process.exit(0)));
}

/** Print what is stored and whether its chain holds, with nothing but the file; true when all is well. */
function audit() {
  const jwk = options['device-key'] === undefined ? undefined : JSON.parse(readFileSync(options['device-key'], 'utf8'));
  const store = new Store(options.data, options.fleet);
  const told = [...store.journals.values()].map((journal) => {
    const records = journal.bodies();
    let [checkpoints, chain, before] = [0, true, { sequence: 0, hash: GENESIS }];
    for (const record of records) {
      if (record.sequence === before.sequence + 1 && record.previous !== before.hash) chain = false;
      const event = JSON.parse(record.body.toString('utf8'));
      if (event.type === 'io.roamkey.checkpoint') {
        const claims = jwk === undefined ? undefined : verified(event.data.jws, jwk, 'roamkey-checkpoint+jws');
        const fits = claims?.journal === journal.name && claims.sequence === record.sequence - 1 && claims.hash === record.previous;
        if (jwk !== undefined && !fits) chain = false;
        checkpoints += 1;
      }
      before = record;
    }
    return {
      device: journal.device,
      journal: journal.name,
      stored: records.length,
      distinct: new Set(records.map((record) => sha256(record.body))).size,
      through: journal.through,
      hash: journal.hash,
      missing: journal.missing(),
      lost: journal.lost,
      forks: [...journal.forks],
      quarantined: journal.aside.size,
      checkpoints,
      chain,
    };
  });
  console.log(JSON.stringify(told));
  return told.every((each) => each.chain && each.forks.length === 0 && each.missing.length === 0);
}
