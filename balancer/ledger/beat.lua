-- beat: heartbeats are applied; agents join, change, come back, go.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 caught_up (0, 1) | 5 max_losses | per heartbeat: kind (beat, bad), entry, agent, boot, seq, start (0, 1),
--      role, d (packed declaration), specializations, skills, speeds, class, class definition, max, mode, held, nonces... | bad: reason as agent, raw as boot
-- Returns per heartbeat: outcome
-- Outcomes joined, ok, changed, new_boot, stale, other_boot, too_many_agents, too_many_roles, retired, bad
-- Keeps   a heartbeat never changes n, and used only for a task that must be alone; older entries, seqs and boots change nothing
-- Uses    agent, waiting, task, tries, late, boots, classes, gate, kept
local max_losses, at, beats = int(ARGV[5], 1, 100, 'max_losses'), 5, {}
local function arg()
  at = at + 1
  return ARGV[at] or bad('heartbeats: the call ends within one')
end
while at < #ARGV do
  local b = { kind = arg(), entry = arg(), agent = arg(), boot = arg(), seq = int(arg(), 0, 9007199254740991, 'seq'), start = arg() == '1', role = arg(), d = arg(), specs = arg(),
    skills = arg(), speeds = arg(), class = arg(), def = arg(), max = int(arg(), 0, 1000, 'max'), mode = arg(), held = {} }
  for _ = 1, int(arg(), 0, 1000, 'held') do b.held[arg()] = true end
  if not string.match(b.entry, '^%d+%-%d+$') then bad('entry: ' .. b.entry .. ' is not a stream id') end
  if b.kind ~= 'bad' and b.kind ~= 'beat' then bad('kind: ' .. b.kind) end
  if b.kind == 'beat' and not string.find(' running stopping stopped ', ' ' .. b.mode .. ' ', 1, true) then bad('mode: ' .. b.mode) end
  if b.kind == 'beat' then b.patience_ms = patience_of(b.d) end
  beats[#beats + 1] = b
end
if #beats > 100 then bad('heartbeats: at most 100 a call') end

-- Agent -> score, written once at the end: of two heartbeats in a call, the last decides.
local alive, timers, fresh = {}, {}, 0

local function new_agent(b)
  -- A full pool forgets who has been gone longest.
  if redis.call('ZCARD', K.alive) + redis.call('ZCARD', K.gone) + fresh >= 50000 then
    local oldest = redis.call('ZRANGE', K.gone, 0, 0)[1]
    if not oldest or AGENTS[oldest] or not forget_agent(oldest) then return nil, 'too_many_agents' end
  end
  if not enter_role(b.role) then return nil, 'too_many_roles' end
  fresh = fresh + 1
  local a = { id = b.agent, role = b.role, class = b.class, max = 0, used = 0, n = 0, boot = '', mode = b.mode, state = 'new', admin = '', freed_us = 0, turn = 0 }
  a.old = { role = b.role, class = b.class, cap = 0, open = 0, free = 0, used = 0, n = 0, live = 0, freed_us = 0, turn = 0 }
  take_turn(a, '', b.agent .. b.boot)
  AGENTS[b.agent] = a
  AGENT_IDS[#AGENT_IDS + 1] = b.agent
  return a
end

-- A look that is due at leases of an earlier boot stays due: heartbeats may come faster than looks.
local function is_due(a)
  return a.n > 0 and (timers[a.id] or tonumber(redis.call('ZSCORE', K.agent_timers, a.id) or '') or now_ms + 1) <= now_ms
end

-- Skills and speeds stand in an agent's hash only where it has any.
local function note_figures(id, b)
  for _, name in ipairs({ 'skills', 'speeds' }) do
    if b[name] ~= '' then redis.call('HSET', k_agent(id), name, b[name]) else redis.call('HDEL', k_agent(id), name) end
  end
end

local newest = 0
local function apply(b)
  local known = redis.call('HMGET', k_agent(b.agent), 'entry', 'seq', 'boots', 'd', 'learned', 'specs', 'speeds')
  local a, why = load_agent(b.agent), nil
  if not a then a, why = new_agent(b) end
  if not a then return why end
  local boots = known[3] or ''
  why = known[1] and refusal(b, a, known[1], tonumber(known[2]), boots)
  if why then return why end
  if known[1] then keep_pace(a, b, unpack(known, 5, 7)) end
  local outcome, was_live = 'ok', a.state == 'live'
  local declared = a.class ~= b.class or a.mode ~= b.mode or known[4] ~= b.d
  local due = is_due(a)
  if a.boot ~= b.boot then
    outcome = known[1] and 'new_boot' or 'joined'
    if is_retired(a) or must_retire(a) then unretire(a) end
    if a.n > 0 then
      if rebind(b, a, max_losses) and b.mode == 'running' then b.mode = 'silent' end
      due = true
    end
    boots = string.sub(a.boot .. ' ' .. boots, 1, 132)
    a.boot = b.boot
  elseif not was_live and b.mode ~= 'stopped' then
    outcome = 'joined'
  elseif declared then
    outcome = 'changed'
  end
  local is_live = b.mode ~= 'stopped'
  if a.n == 1 and b.max > a.max then widen_alone(a, b.max) end
  if was_live and not (is_live and a.class == b.class) then class_members(a.class, -1) end
  if is_live and not (was_live and a.class == b.class) then
    class_members(b.class, 1)
    redis.call('HSET', K.classdef, b.class, b.def)
  end
  if is_live and (not was_live or b.max > a.max or (a.mode ~= 'running' and a.mode ~= 'late' and b.mode == 'running')) then a.freed_us = now_us end
  a.role, a.class, a.max, a.mode, a.state = b.role, b.class, b.max, b.mode, is_live and 'live' or 'stopped'
  local ms = tonumber(string.match(b.entry, '^%d+'))
  a.beat_ms = ms > now_ms + 2000 and now_ms or ms
  newest = math.max(newest, a.beat_ms)
  if outcome == 'ok' then
    redis.call('HSET', k_agent(a.id), 'entry', b.entry, 'seq', str(b.seq), 'beat_ms', str(a.beat_ms))
  else
    -- In the order in which they are looked for most.
    redis.call('HSET', k_agent(a.id), 'used', a.used, 'n', a.n, 'freed_us', str(a.freed_us), 'role', a.role, 'class', a.class, 'max', a.max, 'boot', a.boot,
      'mode', a.mode, 'state', a.state, 'admin', a.admin, 'beat_ms', str(a.beat_ms), 'd', b.d, 'entry', b.entry, 'seq', str(b.seq), 'boots', boots, 'specs', b.specs)
    note_figures(a.id, b)
    event('agent_' .. outcome, '-', a.id, a.mode)
  end
  if is_live then
    alive[a.id], timers[a.id] = a.beat_ms, due and now_ms or math.min(a.beat_ms + b.patience_ms, retires_ms(a) or math.huge)
    if not was_live then redis.call('ZREM', K.gone, a.id) end
  else
    alive[a.id], timers[a.id] = nil, now_ms
    redis.call('ZREM', K.alive, a.id)
    redis.call('ZADD', K.gone, str(now_ms), a.id)
  end
  return outcome
end

local reply = {}
for i, b in ipairs(beats) do
  local outcome = 'bad'
  if b.kind == 'beat' then
    -- A key of the wrong type must not wedge the rest.
    local fine, answer = pcall(apply, b)
    outcome = fine and answer or 'bad'
    if not fine then b.boot, b.agent = b.agent, error_text(answer) end
  end
  if outcome == 'bad' or outcome == 'too_many_agents' or outcome == 'too_many_roles' then
    redis.call('XADD', K.rejected, 'MAXLEN', '~', '10000', '*', 'stream', 'heartbeats', 'entry', b.entry, 'reason', outcome == 'bad' and b.agent or outcome, 'raw', b.boot)
  end
  if outcome ~= 'ok' then redis.call('HINCRBY', K.pool, 'heartbeats_' .. outcome, 1) end
  reply[i] = outcome
end
local scores = {}
for id, ms in pairs(alive) do put(scores, K.alive, str(ms), id) end
for id, ms in pairs(timers) do put(scores, K.agent_timers, str(ms), id) end
for key, members in pairs(scores) do redis.call('ZADD', key, unpack(members)) end
if ARGV[4] == '1' then newest = now_ms end
if newest > tonumber(redis.call('HGET', KEYS[1], 'hb_mark_ms')) or newest == now_ms then redis.call('HSET', KEYS[1], 'hb_mark_ms', str(newest)) end
save_agents()
save_common()
return reply
