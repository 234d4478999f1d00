-- Classes: how fast their agents are said to be, and which class an agent moves to when it is seen to be otherwise. Twin of class_definition.
local CLASSES = {}

local function class_of(cid)
  local c = CLASSES[cid]
  if c then return c end
  local def = redis.call('HGET', K.classdef, cid) or ''
  c = { is_known = def ~= '', declared = {}, special = {}, steps = {}, logs = {} }
  for name, speed in string.gmatch(string.match(def, '"speeds":(%b{})') or '', '"([^"]*)":([%w.+-]+)') do c.declared[name] = tonumber(speed) end
  for name in string.gmatch(string.match(def, '"specializations":(%b[])') or '', '"([^"]*)"') do c.special[name] = true end
  for name, steps in string.gmatch(string.match(def, '"learned":(%b{})') or '', '"([^"]*)":(%-?%d+)') do c.steps[name] = tonumber(steps) end
  CLASSES[cid] = c
  return c
end

-- ln of the speed at a category: as declared, and with what was learned. Twin of AgentClass.speed_of.
local LOG_STEP = math.log(1.25)
local function log_speeds(cid, category)
  local c = class_of(cid)
  local logs = c.logs[category]
  if not logs then
    local speed = c.declared[category]
    if not speed then speed = (c.declared[''] or 1) * (c.special[category] and 1.25 or 1) end
    logs = { math.log(speed), math.log(speed) + LOG_STEP * (c.steps[category] or c.steps[''] or 0) }
    c.logs[category] = logs
  end
  return logs[1], logs[2]
end

-- Category -> steps, as a definition and an agent keep them: "":-1,"bug":2.
local function read_steps(text)
  local steps = {}
  for name, n in string.gmatch(text or '', '"([^"]*)":(%-?%d+)') do steps[name] = tonumber(n) end
  return steps
end

local function pack_steps(steps)
  local parts = {}
  for name, n in pairs(steps) do parts[#parts + 1] = '"' .. name .. '":' .. str(n) end
  table.sort(parts, is_before)
  return table.concat(parts, ',')
end

-- The class that a declared one becomes with these steps, and its definition.
local function learned_class(cid, def, steps)
  if steps == '' then return cid, def end
  local part = '"learned":{' .. steps .. '}'
  return string.format('%s+s%012x', cid, spread(part)), string.sub(def, 1, -2) .. ',' .. part .. '}'
end

-- Whether an agent may leave this class for that one: the declared one is always open, and where there are 200 the count may not grow.
local function has_room(from, cid)
  if not string.find(cid, '+', 1, true) or redis.call('HEXISTS', K.classn, cid) == 1 then return true end
  return redis.call('HLEN', K.classn) < 200 or redis.call('HGET', K.classn, from) == '1'
end

-- The agent moves to the class of those that are as fast.
local function move_class(a, steps)
  local plain = string.gsub(redis.call('HGET', K.classdef, a.class) or '', ',"learned":%b{}}$', '}')
  local packed = pack_steps(steps)
  local cid, def = learned_class(string.match(a.class, '^[^+]+'), plain, packed)
  if plain == '' or cid == a.class then return end
  if not has_room(a.class, cid) then return end
  class_members(a.class, -1)
  class_members(cid, 1)
  redis.call('HSET', K.classdef, cid, def)
  a.class = cid
  redis.call('HSET', k_agent(a.id), 'class', cid, 'learned', packed)
end

-- Twin of core/pace.py: the figures that were slower come a step nearer to what is declared.
local function ease(steps)
  local new, base = {}, steps[''] or 0
  if base < 0 then base = base + 1 end
  for name, n in pairs(steps) do
    if n < 0 then n = n + 1 end
    if name ~= '' and n ~= base then new[name] = n end
  end
  if base ~= 0 then new[''] = base end
  return new
end

-- Who counts as slow is tried seldom, so it cannot show that it no longer is. After half an hour without a try, or twenty times as long as
-- those of its role take, it comes a step nearer to what it declares, and what was seen of it counts half.
local function eased(a, cid, learned)
  if a.n > 0 or not string.find(learned, ':-', 1, true) then return learned end
  local idle_us = now_us - math.max(a.freed_us, tonumber(redis.call('HGET', k_agent(a.id), 'pace_us') or 0))
  if idle_us < 1800000000 or idle_us < 20 * tonumber(redis.call('HGET', k_role(a.role), 'service_us') or 0) then return learned end
  local packed = pack_steps(ease(read_steps(learned)))
  if not has_room(a.class, (learned_class(cid, '', packed))) then return learned end
  local function half(n) return str(math.floor(n / 2)) end
  for _, name in ipairs(redis.call('HKEYS', k_agent(a.id))) do
    if name == 'pace' or string.find(name, '^pace:') then
      local n, mean, rest = string.match(redis.call('HGET', k_agent(a.id), name), '^(%d+)( %-?%d+)(.*)$')
      redis.call('HSET', k_agent(a.id), name, half(n) .. mean .. (string.gsub(rest, '%d+', half, 1)))
    end
  end
  redis.call('HSET', k_agent(a.id), 'learned', packed, 'pace_us', str(now_us))
  return packed
end

-- What was learned of an agent stays with it while it declares the same speeds, over restarts too; else it was seen as somebody else.
local function keep_pace(a, b, learned, specs, speeds)
  if a.role == b.role and specs == b.specs and (speeds or '') == b.speeds then
    b.class, b.def = learned_class(b.class, b.def, eased(a, b.class, learned or ''))
    return
  end
  for _, name in ipairs(redis.call('HKEYS', k_agent(a.id))) do
    if name == 'learned' or string.find(name, '^pace') then redis.call('HDEL', k_agent(a.id), name) end
  end
end
