-- Pace: how fast an agent was seen to be, against what it declares. Twin of core/pace.py.
-- It keeps `pace` "n mean tries share categories" and `pace:{category}` "n mean", in ten-thousandths: the mean of ln(expected / real
-- duration), and the share of tries that did not fail.
local PACED, PACE_FIELDS = {}, {}

-- What is read of an agent together with its pace at a category.
local function pace_fields(category)
  local fields = PACE_FIELDS[category]
  if not fields then
    fields = { unpack(AGENT_FIELDS, 1, HAS_TURNS and 11 or 10) }
    fields.pace, fields.own, fields.name = #fields + 1, #fields + 2, 'pace:' .. category
    fields[fields.pace], fields[fields.own] = 'pace', fields.name
    PACE_FIELDS[category] = fields
  end
  return fields
end

-- Whether a try of a call with so many is looked at for its agent's pace: where there are many, one in eight suffices. Nonces are drawn at random.
local function shows_pace(nonce, tries) return tries <= 32 or string.byte(nonce) < 50 end

local function load_paced(id, category)
  local fields = pace_fields(category)
  local a = load_agent(id, fields)
  if not a or a.paces then return a end
  local pace, own_text = a.read[fields.pace], a.read[fields.own]
  -- What came before it in the call may have loaded it without.
  if #a.read < fields.own then pace, own_text = unpack(redis.call('HMGET', k_agent(id), 'pace', fields.name), 1, 2) end
  local n, mean, tries, share, categories = string.match(pace or '', '^(%d+) (%-?%d+) (%d+) (%d+) (%d+)$')
  a.pace, a.paces = { n = 0, mean = 0, tries = 0, share = 1, categories = 0 }, {}
  if n then a.pace = { n = tonumber(n), mean = mean / 10000, tries = tonumber(tries), share = share / 10000, categories = tonumber(categories) } end
  a.own_text, a.own_of = own_text, category
  PACED[#PACED + 1] = a
  return a
end

-- The pace at a category; false where there is no room for one more.
local function pace_at(a, category)
  local own = a.paces[category]
  if own ~= nil then return own end
  local known = a.own_text
  if category ~= a.own_of then known = redis.call('HGET', k_agent(a.id), 'pace:' .. category) end
  if known then
    local n, mean = string.match(known, '^(%d+) (%-?%d+)$')
    own = { n = tonumber(n), mean = mean / 10000 }
  elseif a.pace.categories < 32 then
    own, a.pace.categories = { n = 0, mean = 0 }, a.pace.categories + 1
  end
  a.paces[category] = own or false
  return own
end

local function observe(p, x)
  local n = p.n < 200 and p.n + 1 or 200
  p.n, p.mean = n, p.mean + (x - p.mean) / n
end

-- A try ended: 1 well, 0 not.
local function note_try(a, outcome)
  local p = a.pace
  p.tries = p.tries < 50 and p.tries + 1 or 50
  p.share, a.is_noted = p.share + (outcome - p.share) / p.tries, true
  a.has_failed = a.has_failed or outcome == 0
end

-- ln(expected / real duration) was x, which scatters by `var` anyhow.
local function note_pace(a, category, x, var)
  local own = pace_at(a, category)
  observe(a.pace, x)
  if own then observe(own, x) end
  a.var = var
end

-- The step that a level amounts to; it stays where it is while the level is near.
local function step_at(step, level)
  if level - step <= 0.6 and step - level <= 0.6 then return step end
  return math.max(-8, math.min(4, math.floor(level + 0.5)))
end

-- How many steps faster than declared it should count: all over, and at the categories of this call that have enough tries. Nil where
-- that moves none of its steps: nearly always.
local function levels_of(a, steps)
  local p, was, levels = a.pace, steps[''] or 0, {}
  local weight, lost = math.max(4, 16 * a.var / 0.09), 0
  if p.share < 1 then lost = math.log((p.tries * p.share + 10) / (p.tries + 10)) end
  local all = p.n * p.mean / (p.n + weight)
  local level = (all + lost) / LOG_STEP
  local moves = step_at(was, level) ~= was
  for category, own in pairs(a.paces) do
    if own and own.n >= 8 then
      levels[category] = ((own.n * own.mean + weight * all) / (own.n + weight) + lost) / LOG_STEP
      moves = moves or step_at(steps[category] or was, levels[category]) ~= (steps[category] or was)
    end
  end
  if moves then return level, levels end
end

-- The steps that follow from these: at most three categories differ from all others.
local function next_steps(steps, all, levels)
  local was, new = steps[''] or 0, {}
  local base = step_at(was, all)
  for category, level in pairs(levels) do new[category] = step_at(steps[category] or was, level) end
  for category, step in pairs(steps) do
    if category ~= '' and not new[category] then new[category] = step end
  end
  local others = {}
  for category, step in pairs(new) do others[#others + 1] = { category, math.abs(step - base) } end
  table.sort(others, function(one, other)
    if one[2] ~= other[2] then return one[2] > other[2] end
    return is_before(one[1], other[1])
  end)
  for i, other in ipairs(others) do
    if i > 3 or other[2] == 0 then new[other[1]] = nil end
  end
  if base ~= 0 then new[''] = base end
  return new
end

local function whole(x) return math.floor(10000 * x + 0.5) end

-- To be called before save_agents, which writes `extra`.
local function save_paces()
  for _, a in ipairs(PACED) do
    if a.is_noted then
      local is_trusted = judge_gate(a)
      local p, extra = a.pace, {}
      extra[1], extra[2] = 'pace', string.format('%d %d %d %d %d', p.n, whole(p.mean), p.tries, whole(p.share), p.categories)
      for category, own in pairs(a.paces) do
        if own then extra[#extra + 1], extra[#extra + 2] = pace_fields(category).name, string.format('%d %d', own.n, whole(own.mean)) end
      end
      a.extra = extra
      if a.var and a.state == 'live' and is_trusted and (p.n >= 8 or p.tries >= 8) then
        local steps = class_of(a.class).steps
        local all, levels = levels_of(a, steps)
        if all then move_class(a, next_steps(steps, all, levels)) end
      end
    end
  end
end
