-- Agents: loaded once, changed as plain fields, saved once; index, class sums and counters follow from the difference.
local AGENTS, AGENT_IDS = {}, {}

local function cap_of(a) return a.state == 'live' and a.max or 0 end
local function free_of(a)
  if a.state ~= 'live' or a.mode ~= 'running' then return 0 end
  return math.max(0, a.max - a.used)
end

local function load_agent(id)
  local a = AGENTS[id]
  if a ~= nil then return a end
  local f = redis.call('HMGET', k_agent(id), 'role', 'class', 'max', 'used', 'n', 'boot', 'mode', 'state', 'freed_us', 'beat_ms', 'ttl_ms')
  a = false
  if f[1] then
    a = {
      id = id, role = f[1], class = f[2], max = tonumber(f[3]), used = tonumber(f[4]), n = tonumber(f[5]), boot = f[6],
      mode = f[7], state = f[8], freed_us = tonumber(f[9]), beat_ms = tonumber(f[10]), ttl_ms = tonumber(f[11]),
    }
    a.old = { role = a.role, class = a.class, cap = cap_of(a), free = free_of(a), used = a.used, n = a.n, live = a.state == 'live' and 1 or 0, freed_us = a.freed_us }
    AGENT_IDS[#AGENT_IDS + 1] = id
  end
  AGENTS[id] = a
  return a
end

-- One lease less. Only called where HDEL of its nonce answered 1, so a repeat changes nothing.
local function give_back(a, cost)
  a.used = a.used - cost
  a.n = a.n - 1
  a.freed_us = now_us
end

-- Writes one agent; `add` gathers what its class gained in free units.
local function save_agent(a, add)
  local old, free, live = a.old, free_of(a), a.state == 'live' and 1 or 0
  if a.used ~= old.used or a.n ~= old.n or a.freed_us ~= old.freed_us then
    redis.call('HSET', k_agent(a.id), 'used', a.used, 'n', a.n, 'freed_us', str(a.freed_us))
  end
  if old.free > 0 and (free == 0 or a.class ~= old.class) then redis.call('ZREM', k_free(old.class), a.id) end
  if free > 0 and (free ~= old.free or a.class ~= old.class or a.freed_us ~= old.freed_us) then
    local rank = math.floor(1000 * a.used / a.max) * 4398046511104 + math.floor(a.freed_us / 1000)
    redis.call('ZADD', k_free(a.class), str(rank), a.id)
  end
  add(old.role, old.class, -old.free)
  add(a.role, a.class, free)
  if free > old.free then WAKE = true end
  for field, value in pairs({ capacity = old.cap, used = old.used, running = old.n, agents = old.live }) do
    count(old.role, field, -value)
  end
  for field, value in pairs({ capacity = cap_of(a), used = a.used, running = a.n, agents = live }) do
    count(a.role, field, value)
  end
end

local function save_agents()
  local sums = {}
  local function add(role, cid, delta)
    sums[role] = sums[role] or {}
    sums[role][cid] = (sums[role][cid] or 0) + delta
  end
  for _, id in ipairs(AGENT_IDS) do
    if AGENTS[id] then save_agent(AGENTS[id], add) end
  end
  for role, classes in pairs(sums) do
    for cid, delta in pairs(classes) do
      if delta ~= 0 and tonumber(redis.call('ZINCRBY', k_fc(role), delta, cid)) <= 0 then redis.call('ZREM', k_fc(role), cid) end
    end
  end
end

local function class_members(cid, delta)
  if redis.call('HINCRBY', K.classn, cid, delta) <= 0 then
    redis.call('HDEL', K.classn, cid)
    redis.call('HDEL', K.classdef, cid)
  end
end
