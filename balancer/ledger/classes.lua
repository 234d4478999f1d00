-- Classes: how fast their agents are said to be, and which class an agent moves to when it is seen to be otherwise. Twin of class_definition.
local CLASSES = {}

local function class_of(cid)
  local c = CLASSES[cid]
  if c then return c end
  local def = redis.call('HGET', K.classdef, cid) or ''
  c = { declared = {}, special = {}, steps = {}, logs = {} }
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

-- What was learned of an agent stays with it while it declares the same speeds, over restarts too; else it was seen as somebody else.
local function keep_pace(a, b, learned, specs, speeds)
  if a.role == b.role and specs == b.specs and (speeds or '') == b.speeds then
    b.class, b.def = learned_class(b.class, b.def, learned or '')
    return
  end
  for _, name in ipairs(redis.call('HKEYS', k_agent(a.id))) do
    if name == 'learned' or string.find(name, '^pace') then redis.call('HDEL', k_agent(a.id), name) end
  end
end
