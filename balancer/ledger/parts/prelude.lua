-- Before every script: checks the pool, owns the clock, names the keys, gathers counters and events.
local P = string.sub(KEYS[1], 1, -5)
local META = redis.call('HMGET', KEYS[1], 'schema', 'min_reader', 'genesis', 'clock', 'clock_us', 'order', 'memory_full', 'settings_ver')
if not META[3] then return redis.error_reply('SAFE_STOP there is no pool at ' .. KEYS[1]) end
if META[3] ~= ARGV[1] then return redis.error_reply('SAFE_STOP the pool is not the one that was opened') end
-- Not told by comparing alone: nothing is larger or smaller than "nan".
if not string.match(ARGV[2], '^%d+$') or tonumber(META[2]) > tonumber(ARGV[2]) or tonumber(META[1]) < tonumber(ARGV[2]) then
  return redis.error_reply('SCHEMA the pool is of version ' .. META[1] .. ' and needs ' .. META[2] .. ', this process is of version ' .. ARGV[2])
end

-- New work is refused while Redis' memory is nearly used up.
local MEMORY_FULL = META[7]
-- Which agent of a class comes first: `load` (the free index itself), or by turn: `grant` (least recently granted), `draw` (at random).
-- A pool that went by turns once goes on keeping them: `load|turns`.
local ORDER, HAS_TURNS = string.match(META[6], '^%a+'), META[6] ~= 'load'
local K = {
  settings = P .. 'settings', roles = P .. 'roles', lanedef = P .. 'lanedef', laneref = P .. 'laneref',
  scheduled = P .. 'scheduled', expiry = P .. 'expiry', blocked = P .. 'blocked', release = P .. 'release', rescore = P .. 'rescore', failed = P .. 'failed', leases = P .. 'leases',
  completed = P .. 'completed', dead = P .. 'dead', cancelled = P .. 'cancelled', classdef = P .. 'classdef',
  classn = P .. 'classn', alive = P .. 'alive', gone = P .. 'gone', agent_timers = P .. 'agent_timers',
  pool = P .. 'pool', heartbeats = P .. 'heartbeats', completions = P .. 'completions', events = P .. 'events',
  rejected = P .. 'rejected', wake = P .. 'wake', drain_lock = P .. 'drain_lock', est = P .. 'est', est_old = P .. 'est_old',
}
local function k_task(id) return P .. 'task:' .. id end
local function k_body(id) return P .. 'body:' .. id end
local function k_result(id) return P .. 'result:' .. id end
local function k_hist(id) return P .. 'hist:' .. id end
local function k_parents(id) return P .. 'parents:' .. id end
local function k_children(id) return P .. 'children:' .. id end
local function k_dedup(hash) return P .. 'dedup:' .. hash end
local function k_pending(role) return P .. 'pending:' .. role end
local function k_lane(lid) return P .. 'lane:' .. lid end
local function k_lanes(role) return P .. 'lanes:' .. role end
local function k_agent(id) return P .. 'agent:' .. id end
local function k_held(id) return P .. 'held:' .. id end
local function k_inbox(id) return P .. 'inbox:' .. id end
local function k_free(cid) return P .. 'free:' .. cid end
local function k_turn(cid) return P .. 'turn:' .. cid end
local function k_fc(role) return P .. 'fc:' .. role end
local function k_capacity(role) return P .. 'capacity:' .. role end
local function k_role(role) return P .. 'role:' .. role end

-- Refuses an argument. Only called before the first write.
local function bad(text) error('BAD_ARG ' .. text, 0) end

-- What pcall caught: text, or a table from Redis 7 on.
local function error_text(e) return tostring(type(e) == 'table' and e.err or e) end

-- Plain digits within bounds: "nan", "1e3" and "0x10" are not numbers here.
local function int(text, low, high, name)
  local n = string.match(text or '', '^%-?%d+$') and tonumber(text)
  if not n or n < low or n > high then bad(name .. ': ' .. tostring(text) .. ' is not a whole number from ' .. low .. ' to ' .. high) end
  return n
end

-- 48 bits that follow from a text: two polynomials over primes, as texts that differ little must not collide in both, and as numbers stay
-- exact below 2^53. (redis.sha1hex is not everywhere.) Twin of _spread.
local function spread(text)
  local high, low = 7, 7
  for i = 1, #text do
    local byte = string.byte(text, i)
    high, low = (7368787 * high + byte) % 16777213, (10495213 * low + byte) % 16777199
  end
  return 16777216 * high + low
end

-- Numbers that leave as text are formatted: concatenation would keep 14 digits only.
local function str(n) return string.format('%d', n) end

-- A number that goes into a command is formatted there, each time anew: small ones are made text once a call.
local TEXTS = {}
local function text(n)
  local made = TEXTS[n]
  if not made then
    made = str(n)
    TEXTS[n] = made
  end
  return made
end

local now_us
if META[4] == 'virtual' then
  now_us = int(ARGV[3], 0, 9007199254740991, 'now_us')
elseif ARGV[3] ~= '' then
  bad('now_us: only a virtual pool takes its time from the caller')
else
  local t = redis.call('TIME')
  now_us = t[1] * 1000000 + t[2]
end
local now_ms = math.floor(now_us / 1000)

-- The pool clock never repeats, so a bulk keeps its order.
local clock_us = tonumber(META[5])
local function tick_us()
  clock_us = math.max(now_us, clock_us + 1)
  return clock_us
end

-- Gathers what goes into one command for its key: score and member, or member alone.
local function put(buffer, key, score, member)
  local list = buffer[key]
  if not list then
    list = {}
    buffer[key] = list
  end
  if score then list[#list + 1] = score end
  list[#list + 1] = member
end

-- Counters of roles and pool, gathered and written once per call.
local COUNTS, TOTAL = {}, {}
local function count(role, field, delta)
  if delta == 0 then return end
  local own = COUNTS[role]
  if not own then
    own = {}
    COUNTS[role] = own
  end
  own[field] = (own[field] or 0) + delta
  TOTAL[field] = (TOTAL[field] or 0) + delta
end

local function add_to(key, fields)
  for field, delta in pairs(fields) do
    if delta ~= 0 then redis.call('HINCRBY', key, field, str(delta)) end
  end
end

-- One stream entry a call: a field for each name, in it a line "task agent detail" for each transition, "-" for none.
local EVENTS = {}
local function event(name, task, agent, detail) put(EVENTS, name, nil, task .. ' ' .. agent .. ' ' .. detail) end

local function save_events()
  if next(EVENTS) == nil then return end
  local entry = { 'XADD', K.events, 'MAXLEN', '~', '20000', '*' }
  for name, lines in pairs(EVENTS) do
    entry[#entry + 1] = name
    entry[#entry + 1] = table.concat(lines, '\n')
  end
  redis.call(unpack(entry))
end

local WAKE = false
local function save_common()
  save_events()
  for role, fields in pairs(COUNTS) do add_to(k_role(role), fields) end
  add_to(K.pool, TOTAL)
  if clock_us > tonumber(META[5]) then redis.call('HSET', KEYS[1], 'clock_us', str(clock_us)) end
  if WAKE and redis.call('EXISTS', K.wake) == 0 then redis.call('RPUSH', K.wake, '1') end
end
