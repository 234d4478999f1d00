-- Agents: loaded once, changed as plain fields, saved once; index, class sums and counters follow from the difference.
local AGENTS, AGENT_IDS, FREE, NOTHING = {}, {}, {}, {}
local AGENT_FIELDS = { 'used', 'n', 'freed_us', 'role', 'class', 'max', 'boot', 'mode', 'state', 'admin', 'turn' }

local function cap_of(a) return a.state == 'live' and a.max or 0 end
-- Whether it may be given anything: what we know, what it says of itself, what an operator said about it.
local function accepts(a) return a.state == 'live' and a.mode == 'running' and a.admin == '' end
local function free_of(a)
  if not accepts(a) then return 0 end
  return math.max(0, a.max - a.used)
end
-- Its units, used or not, as long as it accepts work: who waits for a better agent counts on them.
local function open_of(a) return accepts(a) and a.max or 0 end

-- The fields that grants and completions need stand first: a small hash is searched from its front. `fields`: these and more, all of them kept in `read`.
local function load_agent(id, fields)
  local a = AGENTS[id]
  if a ~= nil then return a end
  local f = redis.call('HMGET', k_agent(id), unpack(fields or AGENT_FIELDS, 1, fields and #fields or HAS_TURNS and 11 or 10))
  a = false
  if f[4] then
    a = {
      id = id, used = tonumber(f[1]), n = tonumber(f[2]), freed_us = tonumber(f[3]), role = f[4], class = f[5], max = tonumber(f[6]),
      boot = f[7], mode = f[8], state = f[9], admin = f[10] or '', turn = tonumber(f[11] or 0), read = f,
    }
    a.old = { role = a.role, class = a.class, cap = cap_of(a), open = open_of(a), free = free_of(a), used = a.used, n = a.n, live = a.state == 'live' and 1 or 0, freed_us = a.freed_us, turn = a.turn }
    AGENT_IDS[#AGENT_IDS + 1] = id
  end
  AGENTS[id] = a
  return a
end

-- A lease record is "task cost attempt entry" and flags. Orphaned: its agent has restarted and does not go on with it.
local function is_orphaned(record) return string.find(record, ' orphaned', 1, true) ~= nil end

-- What an operator said stands in `admin`: '', paused, or retiring|deadline_ms|inbox entry, and retired|... after it.
local function retires_ms(a) return tonumber(string.match(a.admin, '^retiring|(%d+)')) end
-- Whether it has to give back all that it holds: its deadline has come, or it stopped before that.
local function must_retire(a)
  local at_ms = retires_ms(a)
  return at_ms ~= nil and (a.state == 'stopped' or at_ms <= now_ms)
end
-- Takes what the agent was told about its retirement out of its inbox.
local function untell(a)
  local entry = string.match(a.admin, '^%a+|%d+|(.+)$')
  if entry then redis.call('XDEL', k_inbox(a.id), entry) end
end

-- An agent's turn after a grant, or when it joins: the end of the line, or a place at random: what the caller drew (48 bits in hex),
-- else what follows from a boot or a nonce. Turns above 0 are of the order `grant`, those below of `draw`; 0 is none.
local function take_turn(a, draw, text)
  if ORDER == 'grant' then a.turn = tick_us() end
  if ORDER == 'draw' then a.turn = (draw ~= '' and tonumber(draw, 16) or spread(text)) - 281474976710656 end
end
-- Whether an agent has a turn of the pool's order. When that has changed, whatever comes of an agent next gives it one.
local function has_turn(a) return ORDER == 'load' or a.turn ~= 0 and (a.turn > 0) == (ORDER == 'grant') end

-- One lease less. Only called where HDEL of its nonce answered 1, so a repeat changes nothing.
local function give_back(a, cost)
  a.used = a.used - cost
  a.n = a.n - 1
  a.freed_us = now_us
end

-- What an agent adds to the counters of its role, `sign` 1 or -1.
local function add_agent(role, sign, cap, used, n, live)
  count(role, 'capacity', sign * cap)
  count(role, 'used', sign * used)
  count(role, 'running', sign * n)
  count(role, 'agents', sign * live)
end

-- What classes gained, by the key of their sums; roles in which it changed who accepts work.
local SUMS, MOVED = {}, {}
local function add(key, cid, delta)
  local sums = SUMS[key]
  if not sums then
    sums = {}
    SUMS[key] = sums
  end
  sums[cid] = (sums[cid] or 0) + delta
end

local function save_agent(a)
  local old, free, cap, open, live = a.old, free_of(a), cap_of(a), open_of(a), a.state == 'live' and 1 or 0
  if HAS_TURNS and not has_turn(a) then take_turn(a, '', a.id .. a.boot) end
  if a.turn ~= old.turn then redis.call('HSET', k_agent(a.id), 'turn', str(a.turn)) end
  if open ~= old.open or a.class ~= old.class then
    add(k_capacity(old.role), old.class, -old.open)
    add(k_capacity(a.role), a.class, open)
    MOVED[old.role], MOVED[a.role] = true, true
  end
  local same = a.class == old.class and a.freed_us == old.freed_us and a.used == old.used and a.n == old.n and a.turn == old.turn and not a.extra
  if same and free == old.free and live == old.live then return end
  if a.freed_us ~= old.freed_us or a.extra then
    redis.call('HSET', k_agent(a.id), 'used', text(a.used), 'n', text(a.n), 'freed_us', str(a.freed_us), unpack(a.extra or NOTHING))
  elseif a.used ~= old.used or a.n ~= old.n then
    redis.call('HSET', k_agent(a.id), 'used', text(a.used), 'n', text(a.n))
  end
  if old.free > 0 and (free == 0 or a.class ~= old.class) then
    redis.call('ZREM', k_free(old.class), a.id)
    if HAS_TURNS then redis.call('ZREM', k_turn(old.class), a.id) end
  end
  if free > 0 and (free ~= old.free or a.class ~= old.class or a.freed_us ~= old.freed_us or a.turn ~= old.turn) then
    local rank = math.floor(1000 * a.used / a.max) * 4398046511104 + math.floor(a.freed_us / 1000)
    put(FREE, k_free(a.class), str(rank), a.id)
    if a.turn ~= 0 and HAS_TURNS then put(FREE, k_turn(a.class), str(a.turn), a.id) end
  end
  add(k_fc(old.role), old.class, -old.free)
  add(k_fc(a.role), a.class, free)
  if free > old.free then WAKE = true end
  if a.role == old.role then
    add_agent(a.role, 1, cap - old.cap, a.used - old.used, a.n - old.n, live - old.live)
  else
    add_agent(old.role, -1, old.cap, old.used, old.n, old.live)
    add_agent(a.role, 1, cap, a.used, a.n, live)
  end
end

local function save_agents()
  for _, id in ipairs(AGENT_IDS) do
    if AGENTS[id] then save_agent(AGENTS[id]) end
  end
  for key, ranks in pairs(FREE) do redis.call('ZADD', key, unpack(ranks)) end
  for key, classes in pairs(SUMS) do
    for cid, delta in pairs(classes) do
      if delta ~= 0 and tonumber(redis.call('ZINCRBY', key, delta, cid)) <= 0 then redis.call('ZREM', key, cid) end
    end
  end
  for role in pairs(MOVED) do redis.call('HINCRBY', k_role(role), 'fleet_ver', 1) end
end

-- An agent that is gone and holds nothing leaves no trace. False when it still holds a lease.
local function forget_agent(id)
  if redis.call('EXISTS', k_held(id)) == 1 then return false end
  redis.call('ZREM', K.gone, id)
  redis.call('DEL', k_agent(id), k_inbox(id))
  return true
end

local function class_members(cid, delta)
  if redis.call('HINCRBY', K.classn, cid, delta) <= 0 then
    redis.call('HDEL', K.classn, cid)
    redis.call('HDEL', K.classdef, cid)
  end
end
