-- What a view says about the lanes and agents of a role. Uses what agent.lua knows of agents.
local LANES_A_PAGE, AGENTS_A_ROLE = 64, 512
-- Which page of lanes; set by the script.
local PAGE

-- The answer, one flat list.
local reply, said = { str(now_ms), redis.call('HGET', KEYS[1], 'hb_mark_ms'), 0, 0, ORDER, META[8] }, 6
local function say(word)
  said = said + 1
  reply[said] = word
end
local function say_all(words)
  for i = 1, #words do reply[said + i] = words[i] end
  said = said + #words
end

-- Agents that the role's lanes and heads name, and how many of one class a lane bars at most.
local named, known, barred
local function name(id)
  if known[id] or #named >= AGENTS_A_ROLE then return end
  known[id] = true
  named[#named + 1] = id
end

local function say_heads(lid, most_heads)
  local heads = redis.call('ZRANGE', k_lane(lid), 0, most_heads - 1, 'WITHSCORES')
  say(#heads / 2)
  for i = 1, #heads, 2 do
    local f = redis.call('HMGET', k_task(heads[i]), 'd', 'e', 'p')
    local how = string.sub(f[1] or '', 1, 1)
    if f[3] then
      how = how .. f[3]
      name(string.match(f[3], '^[^|]*'))
    end
    reply[said + 1], reply[said + 2], reply[said + 3], reply[said + 4] = heads[i], heads[i + 1], f[2] or '', how
    said = said + 4
  end
end

local function say_lanes(role, units)
  local ids = redis.call('ZRANGE', k_lanes(role), PAGE * LANES_A_PAGE, (PAGE + 1) * LANES_A_PAGE - 1)
  local most_heads = math.min(units, math.max(4, math.ceil(2 * units / #ids)))
  named, known, barred = {}, {}, 0
  for _, lid in ipairs(ids) do
    local tried = tonumber(string.match(lid, '%+tried(%d+)%.') or 0)
    barred = math.max(barred, tried)
    local names = tried > 0 and string.match(redis.call('HGET', K.lanedef, lid) or '', '"tried":%[(.-)%]') or ''
    for id in string.gmatch(names, '"([^"]+)"') do name(id) end
  end
  say(#ids)
  for _, lid in ipairs(ids) do
    say(lid)
    say(redis.call('ZCARD', k_lane(lid)))
    say_heads(lid, most_heads)
  end
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
    f[5] = f[5] or '0'
    -- As text a number keeps all its digits.
    if ORDER == 'grant' then f[5] = str(math.max(now_us, clock_us) - tonumber(f[5])) end
    say(id)
    say_all(f)
  end
end

local function say_classes(classes, units)
  local each = math.max(math.ceil(1.5 * units / #classes), math.min(4, math.floor(AGENTS_A_ROLE / #classes)))
  if barred > 0 then each = math.max(each, math.min(barred + 4, math.floor(4 * AGENTS_A_ROLE / #classes))) end
  say(#classes)
  for _, cid in ipairs(classes) do
    local ids, extra = first_in_turn(cid, each, barred)
    say(cid)
    say(redis.call('ZCARD', k_free(cid)))
    say(#ids)
    say(extra)
    say_agents(ids)
  end
end

local function say_named(role)
  local accepting = {}
  for _, id in ipairs(named) do
    local a = load_agent(id)
    if a and a.role == role and accepts(a) then accepting[#accepting + 1] = id end
  end
  say(#accepting)
  for _, id in ipairs(accepting) do
    say(load_agent(id).class)
    say_agents({ id })
  end
end
