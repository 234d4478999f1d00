-- beat: heartbeats are applied; agents join, change, come back, go.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 caught_up (0, 1) | 5 max_losses | per heartbeat: kind (beat, bad), entry, agent, boot, seq, start (0, 1),
--      role, type, specializations, class, class definition, max, interval_ms, ttl_ms, mode, held, nonces... | bad: reason as agent, raw as boot
-- Returns per heartbeat: outcome
-- Outcomes joined, ok, changed, new_boot, stale, other_boot, too_many_agents, too_many_roles, bad
-- Keeps   a heartbeat never changes used or n; older entries, seqs and boots change nothing
-- Uses    agent, task
local max_losses, at, beats = int(ARGV[5], 1, 100, 'max_losses'), 5, {}
local function arg()
  at = at + 1
  return ARGV[at] or bad('heartbeats: the call ends within one')
end
while at < #ARGV do
  local b = { kind = arg(), entry = arg(), agent = arg(), boot = arg(), seq = int(arg(), 0, 9007199254740991, 'seq'), start = arg() == '1', role = arg(), type = arg(), specs = arg(),
    class = arg(), def = arg(), max = int(arg(), 0, 1000, 'max'), interval_ms = arg(), ttl_ms = int(arg(), 0, 604800000, 'ttl_ms'), mode = arg(), held = {} }
  for _ = 1, int(arg(), 0, 1000, 'held') do b.held[arg()] = true end
  beats[#beats + 1] = b
end
if #beats > 500 then bad('heartbeats: at most 500 a call') end

local function newer(entry, than)
  local ms, seq = string.match(entry, '^(%d+)%-(%d+)$')
  local ms2, seq2 = string.match(than, '^(%d+)%-(%d+)$')
  ms, seq, ms2, seq2 = tonumber(ms), tonumber(seq), tonumber(ms2), tonumber(seq2)
  return ms > ms2 or (ms == ms2 and seq > seq2)
end

local function new_agent(b)
  if redis.call('ZCARD', K.alive) + redis.call('ZCARD', K.gone) >= 50000 then return nil, 'too_many_agents' end
  if redis.call('SADD', K.roles, b.role) == 1 and redis.call('SCARD', K.roles) > 256 then
    redis.call('SREM', K.roles, b.role)
    return nil, 'too_many_roles'
  end
  local a = { id = b.agent, role = b.role, class = b.class, max = 0, used = 0, n = 0, boot = '', mode = b.mode, state = 'new', freed_us = 0 }
  a.old = { role = b.role, class = b.class, cap = 0, free = 0, used = 0, n = 0, live = 0, freed_us = 0 }
  AGENTS[b.agent] = a
  AGENT_IDS[#AGENT_IDS + 1] = b.agent
  return a
end

-- The leases that a restarted agent resumes are bound to its new boot and count one loss; reclaim takes the rest.
local function rebind(b, a)
  local held = redis.call('HGETALL', k_held(a.id))
  for i = 1, #held, 2 do
    local task_id, facts = string.match(held[i + 1], '^(%S+)( .* )%S+$')
    local losses = tonumber(redis.call('HGET', k_task(task_id), 'losses') or 0) + 1
    if b.held[held[i]] and losses < max_losses then
      redis.call('HSET', k_held(a.id), held[i], task_id .. facts .. b.boot)
      redis.call('HSET', k_task(task_id), 'losses', losses)
    end
  end
end

local alive, timers, newest = {}, {}, 0
local function apply(b)
  local known = redis.call('HMGET', k_agent(b.agent), 'entry', 'seq', 'boots', 'type', 'interval_ms')
  local a, why = load_agent(b.agent), nil
  if not a then
    a, why = new_agent(b)
    if not a then return why end
  end
  local boots = known[3] or ''
  if known[1] then
    if not newer(b.entry, known[1]) then return 'stale' end
    if a.boot == b.boot and b.seq <= tonumber(known[2]) then return 'stale' end
    if a.boot ~= b.boot then
      if string.find(boots, b.boot, 1, true) then return 'stale' end
      if not b.start and a.state == 'live' then return 'other_boot' end
    end
  end
  local outcome, was_live = 'ok', a.state == 'live'
  local declared = a.class ~= b.class or a.mode ~= b.mode or a.ttl_ms ~= b.ttl_ms or known[4] ~= b.type or known[5] ~= b.interval_ms
  local due_ms
  if a.boot ~= b.boot then
    outcome = known[1] and 'new_boot' or 'joined'
    if a.n > 0 then
      rebind(b, a)
      due_ms = now_ms
    end
    boots = string.sub(a.boot .. ' ' .. boots, 1, 132)
    a.boot = b.boot
  elseif not was_live and b.mode ~= 'stopped' then
    outcome = 'joined'
  elseif declared then
    outcome = 'changed'
  end
  if a.role ~= b.role then redis.call('SADD', K.roles, b.role) end
  local is_live = b.mode ~= 'stopped'
  if was_live and not (is_live and a.class == b.class) then class_members(a.class, -1) end
  if is_live and not (was_live and a.class == b.class) then
    class_members(b.class, 1)
    redis.call('HSET', K.classdef, b.class, b.def)
  end
  if is_live and (not was_live or b.max > a.max or (a.mode ~= 'running' and b.mode == 'running')) then a.freed_us = now_us end
  a.role, a.class, a.max, a.mode, a.ttl_ms, a.state = b.role, b.class, b.max, b.mode, b.ttl_ms, is_live and 'live' or 'stopped'
  local ms = tonumber(string.match(b.entry, '^%d+'))
  a.beat_ms = ms > now_ms + 2000 and now_ms or ms
  newest = math.max(newest, a.beat_ms)
  if outcome == 'ok' then
    redis.call('HSET', k_agent(a.id), 'entry', b.entry, 'seq', str(b.seq), 'beat_ms', str(a.beat_ms))
  else
    redis.call('HSET', k_agent(a.id), 'entry', b.entry, 'seq', str(b.seq), 'beat_ms', str(a.beat_ms), 'role', a.role, 'type', b.type, 'specs', b.specs, 'class', a.class,
      'max', a.max, 'used', a.used, 'n', a.n, 'boot', a.boot, 'boots', boots, 'interval_ms', b.interval_ms, 'ttl_ms', str(b.ttl_ms), 'mode', a.mode, 'state', a.state, 'freed_us', str(a.freed_us))
    event('agent_' .. outcome, '', a.id, a.mode)
  end
  if is_live then
    put(alive, K.alive, str(a.beat_ms), a.id)
    put(timers, K.agent_timers, str(due_ms or a.beat_ms + a.ttl_ms), a.id)
    if not was_live then redis.call('ZREM', K.gone, a.id) end
  else
    redis.call('ZREM', K.alive, a.id)
    redis.call('ZADD', K.gone, str(now_ms), a.id)
    redis.call('ZADD', K.agent_timers, str(now_ms), a.id)
  end
  return outcome
end

local reply = {}
for i, b in ipairs(beats) do
  local outcome = 'bad'
  if b.kind == 'beat' then
    -- A key of the wrong type must not wedge the rest; its agent is left as it was.
    local fine, answer = pcall(apply, b)
    outcome = fine and answer or 'bad'
    if not fine then
      b.boot, b.agent, AGENTS[b.agent] = b.agent, error_text(answer), false
    end
  end
  if outcome == 'bad' or outcome == 'too_many_agents' or outcome == 'too_many_roles' then
    redis.call('XADD', K.rejected, 'MAXLEN', '~', '10000', '*', 'stream', 'heartbeats', 'entry', b.entry, 'reason', outcome == 'bad' and b.agent or outcome, 'raw', b.boot)
  end
  if outcome ~= 'ok' then redis.call('HINCRBY', K.pool, 'heartbeats_' .. outcome, 1) end
  reply[i] = outcome
end
if alive[K.alive] then redis.call('ZADD', K.alive, unpack(alive[K.alive])) end
if timers[K.agent_timers] then redis.call('ZADD', K.agent_timers, unpack(timers[K.agent_timers])) end
if ARGV[4] == '1' then newest = now_ms end
if newest > tonumber(redis.call('HGET', KEYS[1], 'hb_mark_ms')) or newest == now_ms then redis.call('HSET', KEYS[1], 'hb_mark_ms', str(newest)) end
save_agents()
save_common()
return reply
