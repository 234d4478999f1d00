-- What a view says about the lanes and agents of a role. Uses what agent.lua knows of agents.
local LANES_A_PAGE, AGENTS_A_ROLE = 64, 512
-- Most agents that are named: those on whom tasks failed, and with those whom tasks would rather have.
local MOST_TRIED, MOST_NAMED = 128, 256
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

-- Agents that the role's lanes and heads name, as far as they accept work; and by class how many of those with free units one lane
-- bars at most.
local named, looked_up, accepting, barred
local function name(role, id, most)
  local a = named[id]
  if a ~= nil or looked_up >= most then return a end
  local f = redis.call('HMGET', k_agent(id), 'used', 'max', 'role', 'class', 'mode', 'state', 'admin', 'freed_us', 'beat_ms', 'd', 'turn')
  a = { id = id, used = tonumber(f[1]), max = tonumber(f[2]), class = f[4], mode = f[5], state = f[6], admin = f[7] or '', facts = { f[1], f[8], f[9], f[10] }, turn = f[11] }
  a = f[3] == role and accepts(a) and a
  named[id], looked_up = a, looked_up + 1
  if a then accepting[#accepting + 1] = a end
  return a
end

-- The agents on whom the tasks of lanes failed. Where they are more than a picture holds, those of other lanes are named in each view.
local function name_tried(role, ids)
  local looked = 0
  for n = 1, #ids do
    local lid, here = ids[(PIVOT + n) % #ids + 1], {}
    local has_tried = looked_up < MOST_TRIED and looked < 8 * MOST_TRIED and string.find(lid, '+tried', 1, true)
    local names = has_tried and string.match(redis.call('HGET', K.lanedef, lid) or '', '"tried":%[(.-)%]') or ''
    for id in string.gmatch(names, '"([^"]+)"') do
      local a = name(role, id, MOST_TRIED)
      looked = looked + 1
      if a and free_of(a) > 0 then
        here[a.class] = (here[a.class] or 0) + 1
        barred[a.class] = math.max(barred[a.class] or 0, here[a.class])
      end
    end
  end
end

local function say_heads(role, heads)
  say(#heads / 2)
  for i = 1, #heads, 2 do
    local f = redis.call('HMGET', k_task(heads[i]), 'd', 'e', 'p')
    local how = string.sub(f[1] or '', 1, 1)
    if f[3] then
      how = how .. f[3]
      -- Where agents go by turns, nobody looks at what a task would rather have.
      if ORDER == 'load' then name(role, string.match(f[3], '^[^|]*'), MOST_NAMED) end
    end
    reply[said + 1], reply[said + 2], reply[said + 3], reply[said + 4] = heads[i], heads[i + 1], f[2] or '', how
    said = said + 4
  end
end

local function say_lanes(role, units)
  local ids = redis.call('ZRANGE', k_lanes(role), PAGE * LANES_A_PAGE, (PAGE + 1) * LANES_A_PAGE - 1)
  local sizes = {}
  for n, lid in ipairs(ids) do sizes[n] = redis.call('ZCARD', k_lane(lid)) end
  named, looked_up, accepting, barred = {}, 0, {}, {}
  name_tried(role, ids)
  local heads = read_heads(ids, sizes, units)
  say(#ids)
  for n, lid in ipairs(ids) do
    say(lid)
    say(sizes[n])
    say_heads(role, heads[n])
  end
end

-- The facts of an agent: used, freed_us, beat_ms, d; and in pools that go by turns how near its turn is.
local function say_facts(id, f, turn)
  say(id)
  say_all(f)
  if ORDER == 'load' then return end
  -- As text a number keeps all its digits.
  say(ORDER == 'grant' and str(math.max(now_us, clock_us) - tonumber(turn or 0)) or turn or '0')
end

local function say_classes(classes, units)
  local each = math.max(math.ceil(1.5 * units / #classes), math.min(4, math.floor(AGENTS_A_ROLE / #classes)))
  say(#classes)
  for _, cid in ipairs(classes) do
    -- As many more as one lane bars, so that those hide nobody.
    local ids, extra = first_in_turn(cid, each, barred[cid] or 0)
    say(cid)
    say(redis.call('ZCARD', k_free(cid)))
    say(#ids)
    say(extra)
    for _, id in ipairs(ids) do
      if ORDER == 'load' then
        say_facts(id, redis.call('HMGET', k_agent(id), 'used', 'freed_us', 'beat_ms', 'd'))
      else
        local f = redis.call('HMGET', k_agent(id), 'used', 'freed_us', 'beat_ms', 'd', 'turn')
        say_facts(id, f, table.remove(f))
      end
    end
  end
end

local function say_named()
  say(#accepting)
  for _, a in ipairs(accepting) do
    say(a.class)
    say_facts(a.id, a.facts, a.turn)
  end
end
