// An agent in Node 18 or newer. For each task it calls the default export of MODULE, async (task, signal) => result;
// `signal` is aborted when the try no longer counts. docs/protocol.md says why each step is there.
//   node examples/agent.mjs AGENT ROLE MODULE [UNITS]    BALANCER_REDIS_URL, BALANCER_POOL, INTERVAL_MS, TTL_MS
import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { client, entries, insist } from './redis.mjs';
const { env, argv: [, , agent, role, path, units = '1'] } = process;
const url = env.BALANCER_REDIS_URL ?? 'redis://127.0.0.1:6379/0', pool = `wb:{${env.BALANCER_POOL ?? 'default'}}`;
const interval = Number(env.INTERVAL_MS ?? 5000), ttl = Number(env.TTL_MS ?? 15000), inbox = `${pool}:inbox:${agent}`;
const { default: work } = await import(resolve(path)), [call, reading] = [client(url), client(url)];
const boot = randomBytes(16).toString('hex'), held = new Set(), running = new Map(); // leases in the inbox; their tries
const me = { v: 1, agent, boot, role, max_concurrent: units, interval_ms: interval, ttl_ms: ttl };
let seq = 0, mode = 'running', start = 1, last = '0-0', first, accepted, time; // the time of Redis, ms
const add = (stream, entry) => call('XADD', `${pool}:${stream}`, '*', ...Object.entries(entry).flat());
const everything = async () => entries(await call('XRANGE', inbox, '-', '+'));
async function beat() {
  const now = performance.now(), before = [...held];
  const id = await add('heartbeats', { ...me, seq: ++seq, mode, start, held: before });
  [accepted, first, time] = [now, first ?? now, parseInt(id)];
  if (now - first > ttl) start = 0;
  const there = (await everything()).map((entry) => entry.lease);
  for (const lease of before) if (!there.includes(lease)) held.delete(lease), running.get(lease)?.abort('taken back');
}
async function run({ task, attempt, lease, category, timeout_ms: timeout, body }) {
  const abort = new AbortController(), began = performance.now();
  running.set(lease, abort);
  const timer = setTimeout(() => abort.abort('run timeout'), Math.min(timeout, 2 ** 31 - 1));
  const aborted = new Promise((_, no) => abort.signal.addEventListener('abort', () => no(abort.signal.reason)));
  const given = async () => ({ ...JSON.parse(body || '{}'), id: task, attempt: Number(attempt), category });
  const end = await Promise.race([given().then((it) => work(it, abort.signal)), aborted]).then(
    (result) => ({ status: 'completed', result: JSON.stringify(result) ?? '' }),
  ).catch((error) => ({ status: error === 'cancelled' ? error : 'failed', error: String(error).slice(0, 2000) }));
  clearTimeout(timer);
  const said = { v: 1, agent, task, attempt, lease, ...end, duration_ms: Math.round(performance.now() - began) };
  await insist(() => held.has(lease) && add('completions', said)); // nothing, if it was taken back
  running.delete(lease);
}
function take(entry) { // what is new in the inbox
  last = entry.id;
  if (entry.kind === 'retire' && entry.deadline_ms > time) mode = 'stopping';
  if (entry.kind === 'cancel') running.get(entry.lease)?.abort('cancelled');
  if ((entry.kind ?? 'task') !== 'task' || held.has(entry.lease)) return;
  if (entry.boot !== boot) return start || process.exit(3); // confirmed, and another boot's: another has taken over
  start = 0;
  run(entry, held.add(entry.lease));
}
for (const name of ['SIGTERM', 'SIGINT']) process.on(name, () => { mode = 'stopping'; beat().catch(() => {}); });
const found = await insist(everything), resumed = found.filter(({ kind = 'task' }) => kind === 'task');
resumed.forEach((entry) => held.add(entry.lease));
await insist(beat);
resumed.forEach(run);
found.forEach(take);
// Others may do it by now:
setInterval(() => running.size && performance.now() - accepted > ttl - Math.min(2000, ttl / 4) && process.exit(4), 100);
setTimeout(async () => { for (;;) await sleep(interval).then(() => insist(beat)); });
for (let rows = []; mode === 'running' || running.size || rows; rows && entries(rows[0][1]).forEach(take))
  rows = await insist(() => reading('XREAD', 'BLOCK', mode === 'running' ? 1000 : 100, 'STREAMS', inbox, last));
await insist(() => beat(mode = 'stopped')).finally(() => process.exit(0));
