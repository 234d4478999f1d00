-- Classes: how fast their agents are said to be, and which class an agent moves to when it is seen to be otherwise. Twin of class_definition.
local CLASSES = {}

local function class_of(cid)
  local c = CLASSES[cid]
  if c then return c end
  local def = redis.call('HGET', K.classdef, cid) or ''
  c = { is_known = def ~= '', declared = {}, special = {}, steps = {}, at = {} }
  for name, speed in string.gmatch(string.match(def, '"speeds":(%b{})') or '', '"([^"]*)":([%w.+-]+)') do c.declared[name] = tonumber(speed) end
  for name in string.gmatch(string.match(def, '"specializations":(%b[])') or '', '"([^"]*)"') do c.special[name] = true end
  for name, steps in string.gmatch(string.match(def, '"learned":(%b{})') or '', '"([^"]*)":(%-?%d+)') do c.steps[name] = tonumber(steps) end
  CLASSES[cid] = c
  return c
end

-- The speed at a category and its ln, with what was learned; and ln of what is declared; nil for a class that is gone. Twin of AgentClass.speed_of.
local LOG_STEP = math.log(1.25)
local function speeds_at(cid, category)
  local c = CLASSES[cid] or class_of(cid)
  local at = c.at[category]
  if not at and c.is_known then
    local speed = c.declared[category]
    if not speed then speed = (c.declared[''] or 1) * (c.special[category] and 1.25 or 1) end
    local log_declared = math.log(speed)
    local log_speed = log_declared + LOG_STEP * (c.steps[category] or c.steps[''] or 0)
    at = { log_declared = log_declared, log_speed = log_speed, speed = math.exp(log_speed) }
    c.at[category] = at
  end
  return at
end

-- Category -> steps as text, as a definition and an agent keep them: "":-1,"bug":2.
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

-- The class that an agent declared, and its definition; '' when the last of its class has stopped.
local function declared_class(a)
  local def = string.gsub(redis.call('HGET', K.classdef, a.class) or '', ',"learned":%b{}}$', '}')
  return string.match(a.class, '^[^+]+'), (string.gsub(def, ',"gate":"%a+"}$', '}'))
end

local function enter_class(a, cid, def, learned)
  class_members(a.class, -1)
  class_members(cid, 1)
  redis.call('HSET', K.classdef, cid, def)
  a.class = cid
  redis.call('HSET', k_agent(a.id), 'class', cid, 'learned', learned)
end

-- The agent moves to the class of those that are as fast.
local function move_class(a, steps)
  local declared, plain = declared_class(a)
  local packed = pack_steps(steps)
  local cid, def = learned_class(declared, plain, packed)
  if plain == '' or cid == a.class or not has_room(a.class, cid) then return end
  enter_class(a, cid, def, packed)
end
