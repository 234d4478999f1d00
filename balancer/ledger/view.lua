-- view: a bounded picture of what could be decided now. Reads only.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 page of lanes, from 0 | 5 most units to plan for
-- Returns {now_ms, hb_mark_ms, more lanes (0, 1), {{role, {{lane, size, {task, order, ...}}...}, {{class, size, {agent facts}...}...}, units}...}}
-- Outcomes -
-- Keeps   at most 64 lanes, 256 classes and 512 agents a role; every lane that has work is on some page; every busy role gets a unit
local page, most = int(ARGV[4], 0, 1000, 'page'), int(ARGV[5], 1, 128, 'units')
local LANES_A_PAGE, CLASSES, AGENTS_A_ROLE = 64, 256, 512

-- A role that has both work on this page and free units, or nil.
local function look_at(role)
  local size = redis.call('ZCARD', k_lanes(role))
  if size <= page * LANES_A_PAGE then return nil end
  local fc = redis.call('ZREVRANGE', k_fc(role), 0, CLASSES - 1, 'WITHSCORES')
  local units, classes = 0, {}
  for i = 1, #fc, 2 do
    classes[#classes + 1] = fc[i]
    units = units + tonumber(fc[i + 1])
  end
  if units == 0 then return nil end
  return { role = role, lanes = size, classes = classes, units = math.min(units, redis.call('ZCARD', k_pending(role))) }
end

local function lanes_of(role, units)
  local out, ids = {}, redis.call('ZRANGE', k_lanes(role), page * LANES_A_PAGE, (page + 1) * LANES_A_PAGE - 1)
  local heads = math.min(units, math.max(4, math.ceil(2 * units / #ids)))
  for i, lid in ipairs(ids) do
    out[i] = { lid, redis.call('ZCARD', k_lane(lid)), redis.call('ZRANGE', k_lane(lid), 0, heads - 1, 'WITHSCORES') }
  end
  return out
end

local function classes_of(classes, units)
  local out, each = {}, math.max(math.ceil(1.5 * units / #classes), math.min(4, math.floor(AGENTS_A_ROLE / #classes)))
  for _, cid in ipairs(classes) do
    local agents = {}
    for i, id in ipairs(redis.call('ZRANGE', k_free(cid), 0, each - 1)) do
      local facts = redis.call('HMGET', k_agent(id), 'used', 'beat_ms', 'interval_ms', 'ttl_ms', 'freed_us', 'type')
      facts[7] = id
      agents[i] = facts
    end
    out[#out + 1] = { cid, redis.call('ZCARD', k_free(cid)), agents }
  end
  return out
end

local busy, more, roles, left = {}, 0, {}, most
for _, role in ipairs(redis.call('SMEMBERS', K.roles)) do
  busy[#busy + 1] = look_at(role)
end
-- Roles share no agents, so each gets its part of the units to plan for; what a small one leaves goes to the next.
table.sort(busy, function(a, b) return a.units < b.units end)
for n, r in ipairs(busy) do
  local units = math.max(1, math.min(r.units, math.ceil(left / (#busy - n + 1))))
  left = left - units
  roles[n] = { r.role, lanes_of(r.role, units), classes_of(r.classes, units), units }
  if r.lanes > (page + 1) * LANES_A_PAGE then more = 1 end
end
return { str(now_ms), redis.call('HGET', KEYS[1], 'hb_mark_ms'), more, roles }
