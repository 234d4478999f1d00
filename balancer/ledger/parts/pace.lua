-- Pace: how fast an agent was seen to be, against what it declares. Twin of core/pace.py.
-- It keeps `pace` "n mean tries share categories" and `pace:{category}` "n mean", in ten-thousandths: the mean of ln(expected / real
-- duration), and the share of tries that did not fail.
local PACED, PACE_FIELDS = {}, nil

-- What is read of an agent together with its pace at a category; how many fields that is.
local function pace_fields(category)
  local fields = PACE_FIELDS
  if not fields then
    fields = { unpack(AGENT_FIELDS, 1, HAS_TURNS and 11 or 10) }
    fields[#fields + 1] = 'pace'
    fields.own = #fields + 1
    PACE_FIELDS = fields
  end
  fields[fields.own] = 'pace:' .. category
  return fields
end

-- Whether a try of a large call is looked at for its agent's pace: one in sixteen suffices. Nonces are drawn at random.
local function shows_pace(nonce) return string.byte(nonce) < 49 end

local function load_paced(id, category)
  local fields = pace_fields(category)
  local a, own = load_agent(id, fields), fields.own
  if not a or a.paces then return a end
  local pace, own_text = a.read[own - 1], a.read[own]
  -- What came before it in the call may have loaded it without.
  if #a.read < own then pace, own_text = unpack(redis.call('HMGET', k_agent(id), 'pace', fields[own]), 1, 2) end
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

local function whole(x) return math.floor(10000 * x + 0.5) end

-- Whether what was seen of a class is held against it: it is gated, or slower than declared.
local function is_lowered(cid)
  if not string.find(cid, '+', 1, true) then return false end
  for _, step in pairs(class_of(cid).steps) do
    if step < 0 then return true end
  end
  return GATES[cid]
end

-- To be called before save_agents, which writes `extra`.
local function save_paces()
  for _, a in ipairs(PACED) do
    if a.is_noted then
      local is_trusted = judge_gate(a)
      local p, extra = a.pace, {}
      extra[1], extra[2] = 'pace', string.format('%d %d %d %d %d', p.n, whole(p.mean), p.tries, whole(p.share), p.categories)
      for category, own in pairs(a.paces) do
        if own then extra[#extra + 1], extra[#extra + 2] = 'pace:' .. category, string.format('%d %d', own.n, whole(own.mean)) end
      end
      a.extra = extra
      if a.var and a.state == 'live' and is_trusted and (p.n >= 8 or p.tries >= 8) then
        local steps = class_of(a.class).steps
        local all, levels = levels_of(a, steps)
        if all then move_class(a, next_steps(steps, all, levels)) end
      end
      if is_lowered(a.class) then extra[#extra + 1], extra[#extra + 2] = 'pace_us', str(now_us) end
    end
  end
end
