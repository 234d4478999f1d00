-- view: a bounded picture of what could be decided now; with a token, under the drain lock. Writes nothing else.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 page of lanes, from 0 | 5 most units to plan for | 6 token to take the drain lock with, or '' | 7 lock_ms | 8 where what is read in turn starts, 48 bits
-- Returns one flat list (each nested one would cost the server a write of its own): now_ms, hb_mark_ms, more lanes (0, 1), roles, order of agents, settings_ver, then
--      per role: name, units, service_us, fleet_ver ('' for none), lanes, per lane: id, size, heads, per head: task, order, e, first letter of its priority and p; classes, per class: id, size, agents, how many of them are not in turn, per agent: id, facts; agents that lanes or heads name and that accept work, each: class, id, facts. `busy` when another drainer has the lock; it is taken only where roles are busy
-- Outcomes -
-- Keeps   at most 64 lanes, 256 classes and 640 agents a role (512 where lanes bar none on whom tasks failed), and 256 that are named; every lane that has work is on some page; every class with free units, and every agent on whom tasks failed, is in some view, as the pivot is drawn; every busy role that is not paused gets a unit
-- Uses    agent, in_turn, heads, picture
PAGE, PIVOT = int(ARGV[4], 0, 1000, 'page'), int(ARGV[8], 0, 281474976710655, 'pivot')
local most, token, lock_ms = int(ARGV[5], 1, 128, 'units'), ARGV[6], int(ARGV[7], 1, 60000, 'lock_ms')
if token ~= '' and (redis.call('GET', K.drain_lock) or token) ~= token then return 'busy' end

-- A role that has both work on this page and free units, and is not paused, or nil.
local function look_at(role)
  local size = redis.call('ZCARD', k_lanes(role))
  if size <= PAGE * LANES_A_PAGE then return nil end
  local fc = free_classes(role)
  local units, classes = 0, {}
  for i = 1, #fc, 2 do
    classes[#classes + 1] = fc[i]
    units = units + tonumber(fc[i + 1])
  end
  if units == 0 then return nil end
  local f = redis.call('HMGET', k_role(role), 'paused', 'service_us', 'fleet_ver')
  if f[1] then return nil end
  return {
    role = role, service_us = f[2] or '', fleet_ver = f[3] or '', lanes = size, classes = classes,
    units = math.min(units, redis.call('ZCARD', k_pending(role))),
  }
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
  say(r.service_us)
  say(r.fleet_ver)
  say_lanes(r.role, units)
  say_classes(r.classes, units)
  say_named()
  if r.lanes > (PAGE + 1) * LANES_A_PAGE then reply[3] = 1 end
end
return reply
