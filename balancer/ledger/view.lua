-- view: a bounded picture of what could be decided now; with a token, under the drain lock. Writes nothing else.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 page of lanes, from 0 | 5 most units to plan for | 6 token to take the drain lock with, or '' | 7 lock_ms | 8 where a view in drawn order starts
-- Returns one flat list (each nested one would cost the server a write of its own): now_ms, hb_mark_ms, more lanes (0, 1), roles, order of agents, then
--      per role: name, units, lanes, per lane: id, size, heads, per head: task, order; classes, per class: id, size, agents, how many of them are not in turn, per agent: id, facts. `busy` when another drainer has the lock; it is taken only where roles are busy
-- Outcomes -
-- Keeps   at most 64 lanes, 256 classes and 512 agents a role; every lane that has work is on some page; every busy role that is not paused gets a unit
local page, most = int(ARGV[4], 0, 1000, 'page'), int(ARGV[5], 1, 128, 'units')
local token, lock_ms, pivot = ARGV[6], int(ARGV[7], 1, 60000, 'lock_ms'), int(ARGV[8], 0, 281474976710655, 'pivot')
local ORDER = META[6]
if token ~= '' and (redis.call('GET', K.drain_lock) or token) ~= token then return 'busy' end
local LANES_A_PAGE, CLASSES, AGENTS_A_ROLE = 64, 256, 512

-- A role that has both work on this page and free units, and is not paused, or nil.
local function look_at(role)
  local size = redis.call('ZCARD', k_lanes(role))
  if size <= page * LANES_A_PAGE then return nil end
  local fc = redis.call('ZREVRANGE', k_fc(role), 0, CLASSES - 1, 'WITHSCORES')
  local units, classes = 0, {}
  for i = 1, #fc, 2 do
    classes[#classes + 1] = fc[i]
    units = units + tonumber(fc[i + 1])
  end
  if units == 0 or redis.call('HEXISTS', k_role(role), 'paused') == 1 then return nil end
  return { role = role, lanes = size, classes = classes, units = math.min(units, redis.call('ZCARD', k_pending(role))) }
end

local reply, said = { str(now_ms), redis.call('HGET', KEYS[1], 'hb_mark_ms'), 0, 0, ORDER }, 5
local function say(word)
  said = said + 1
  reply[said] = word
end
local function say_all(words)
  for i = 1, #words do reply[said + i] = words[i] end
  said = said + #words
end

local function say_lanes(role, units)
  local ids = redis.call('ZRANGE', k_lanes(role), page * LANES_A_PAGE, (page + 1) * LANES_A_PAGE - 1)
  local most_heads = math.min(units, math.max(4, math.ceil(2 * units / #ids)))
  say(#ids)
  for _, lid in ipairs(ids) do
    local heads = redis.call('ZRANGE', k_lane(lid), 0, most_heads - 1, 'WITHSCORES')
    say(lid)
    say(redis.call('ZCARD', k_lane(lid)))
    say(#heads / 2)
    say_all(heads)
  end
end

-- The first agents of a class in turn, behind them the least loaded: whoever is next may be too full for a large cost.
local function first_in_turn(cid, most)
  local ids, shown, extra = {}, {}, 0
  if ORDER == 'grant' then ids = redis.call('ZRANGE', k_turn(cid), 0, most - 1) end
  if ORDER == 'draw' then
    ids = redis.call('ZRANGEBYSCORE', k_turn(cid), str(pivot), '+inf', 'LIMIT', 0, most)
    local rest = redis.call('ZRANGEBYSCORE', k_turn(cid), '-inf', '(' .. str(pivot), 'LIMIT', 0, most - #ids)
    for _, id in ipairs(rest) do ids[#ids + 1] = id end
  end
  for _, id in ipairs(ids) do shown[id] = true end
  for _, id in ipairs(redis.call('ZRANGE', k_free(cid), 0, math.min(4, most) - 1)) do
    if not shown[id] then
      ids[#ids + 1] = id
      extra = extra + 1
    end
  end
  return ids, extra
end

local function say_agents(ids)
  if ORDER == 'load' then
    for _, id in ipairs(ids) do
      say(id)
      say_all(redis.call('HMGET', k_agent(id), 'used', 'freed_us', 'beat_ms', 'd'))
    end
    return
  end
  for _, id in ipairs(ids) do
    local f = redis.call('HMGET', k_agent(id), 'used', 'freed_us', 'beat_ms', 'd', 'turn')
    -- As text a number keeps all its digits.
    if ORDER == 'grant' then f[5] = str(math.max(now_us, clock_us) - tonumber(f[5])) end
    say(id)
    say_all(f)
  end
end

local function say_classes(classes, units)
  local each = math.max(math.ceil(1.5 * units / #classes), math.min(4, math.floor(AGENTS_A_ROLE / #classes)))
  say(#classes)
  for _, cid in ipairs(classes) do
    local ids, extra
    if ORDER == 'load' then ids, extra = redis.call('ZRANGE', k_free(cid), 0, each - 1), 0 else ids, extra = first_in_turn(cid, each) end
    say(cid)
    say(redis.call('ZCARD', k_free(cid)))
    say(#ids)
    say(extra)
    say_agents(ids)
  end
end

local busy, left = {}, most
for _, role in ipairs(redis.call('SMEMBERS', K.roles)) do
  busy[#busy + 1] = look_at(role)
end
-- Roles share no agents, so each gets its part of the units to plan for; what a small one leaves goes to the next.
table.sort(busy, function(a, b) return a.units < b.units end)
reply[4] = #busy
if token ~= '' and #busy > 0 then redis.call('SET', K.drain_lock, token, 'PX', lock_ms) end
for n, r in ipairs(busy) do
  local units = math.max(1, math.min(r.units, math.ceil(left / (#busy - n + 1))))
  left = left - units
  say(r.role)
  say(units)
  say_lanes(r.role, units)
  say_classes(r.classes, units)
  if r.lanes > (page + 1) * LANES_A_PAGE then reply[3] = 1 end
end
return reply
