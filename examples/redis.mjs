// As much of a Redis client as an agent needs: no dependencies, one connection, made anew when it was lost.
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** A function that sends one command and gives its reply; it rejects when that was lost: who knows what was done. */
export function client(address) {
  const url = new URL(address);
  let socket, unread, waiting;

  function send(words) {
    const parts = words.map(String).map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
    return new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      socket.write(`*${words.length}\r\n${parts.join('')}`);
    });
  }
  function open() {
    [socket, unread, waiting] = [connect(Number(url.port || 6379), url.hostname), Buffer.alloc(0), []];
    socket.on('data', (chunk) => {
      unread = Buffer.concat([unread, chunk]);
      for (let reply; unread.length && (reply = parse(unread, 0)); unread = unread.subarray(reply.end)) {
        const { resolve, reject } = waiting.shift();
        (reply.value instanceof Error ? reject : resolve)(reply.value);
      }
    });
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', () => {
      socket = undefined;
      waiting.forEach(({ reject }) => reject(new Error('the connection was lost')));
    });
    const [user, password] = [decodeURIComponent(url.username) || 'default', decodeURIComponent(url.password)];
    if (password) send(['AUTH', user, password]).catch(() => {}); // what follows says NOAUTH
    if (url.pathname.length > 1) send(['SELECT', url.pathname.slice(1)]).catch(() => {});
  }
  return (...words) => {
    if (!socket) open();
    return send(words);
  };
}

/** The entries of a reply to XRANGE, or of one stream of XREAD, as objects: fields, and the id as `id`. */
export const entries = (rows) => rows.map(([id, list]) => {
  const pairs = list.flatMap((name, at) => (at % 2 ? [] : [[name, list[at + 1]]]));
  return { ...Object.fromEntries(pairs), id };
});

/** What `step` gives, once it does not fail. */
export async function insist(step) {
  for (;;) try { return await step(); } catch { await sleep(500); }
}

// One reply of RESP2 and where it ends; undefined while it is incomplete.
function parse(data, at) {
  const line = data.indexOf('\r\n', at), next = line + 2;
  if (line < 0) return undefined;
  const kind = String.fromCharCode(data[at]), text = data.toString('utf8', at + 1, line), size = Number(text);
  if (kind === '-') return { value: new Error(text), end: next };
  if (kind !== '$' && kind !== '*') return { value: text, end: next };
  if (size < 0) return { value: null, end: next };
  const end = next + size;
  if (kind === '$' && data.length < end + 2) return undefined;
  if (kind === '$') return { value: data.toString('utf8', next, end), end: end + 2 };
  const list = { value: [], end: next };
  for (let one; list.value.length < size; list.end = one.end) {
    if (!(one = parse(data, list.end))) return undefined;
    list.value.push(one.value);
  }
  return list;
}
