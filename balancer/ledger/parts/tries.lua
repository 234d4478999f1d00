-- Tries that ended otherwise than well: what follows, where the task goes from there, what is remembered of it.
-- The back-off between failures, from the arguments of the call; and the soonest retry that this call made due.
local BACKOFF, SOONEST_US
local function read_backoff(at)
  BACKOFF = {
    base_us = int(ARGV[at], 0, 86400000000, 'base_us'), cap_us = int(ARGV[at + 1], 0, 86400000000, 'cap_us'),
    draw = int(ARGV[at + 2], 0, 1000000, 'draw'),
  }
end

-- Full jitter: a share, drawn by the caller, of base x 2^(failures - 1), of the cap at most. Each try of a call takes another share.
local function backoff_us(failures)
  local most_us = math.min(BACKOFF.cap_us, BACKOFF.base_us * 2 ^ (failures - 1))
  local delay_us = math.max(1000, math.floor(most_us * BACKOFF.draw / 1000000))
  BACKOFF.draw = (BACKOFF.draw + 618034) % 1000001
  SOONEST_US = math.min(SOONEST_US or delay_us, delay_us)
  return delay_us
end

-- One line a try: agent, granted, ended, how. The last ten are kept.
local function remember_try(t, how)
  local line = table.concat({ t.agent, str(t.granted_us), str(now_us), how }, ' ')
  if redis.call('RPUSH', k_hist(t.id), line) > 10 then redis.call('LTRIM', k_hist(t.id), -10, -1) end
end

-- The end of a task that was being cancelled, however its try ended. Its lease is closed.
local function end_cancelled(t, took_ms)
  local reason = redis.call('HGET', k_task(t.id), 'cancel') or 'cancelled'
  redis.call('HDEL', k_task(t.id), 'cancel')
  finish(t, 'cancelled', reason, took_ms)
  event('cancelled', t.id, t.agent, (string.gsub(reason, '%c', ' ')))
  return 'cancelled'
end

-- Whether the next loss would be the last. Where one loss is the limit, nobody is suspected before it.
local function is_last_life(losses, max_losses) return losses > 0 and losses >= max_losses - 1 end

-- The lane of a task that must be alone, that failed on agents, or that agents gave back; and plain again with none of it.
-- tried: list of agents; avoid: text of the definition. Twin of lane_definition.
local function enter_lane(t, alone, tried, avoid)
  local lid, requires = string.match(t.lane, '^[^+]+'), t.requires and '"requires":' .. t.requires .. ',' or ''
  local def = string.format('{"category":"%s","cost":%d,%s"role":"%s","v":1', t.category, t.cost, requires, t.role)
  if alone then lid, def = lid .. '+alone', def .. ',"alone":true' end
  if tried and #tried > 0 then
    local names = '"tried":["' .. table.concat(tried, '","') .. '"]'
    lid, def = string.format('%s+tried%d.%012x', lid, #tried, spread(names)), def .. ',' .. names
  end
  if avoid then lid, def = lid .. '+' .. string.format('%012x', spread(avoid)), def .. ',' .. avoid end
  t.lane = lid
  REFS[lid], DEFS[lid] = (REFS[lid] or 0) + 1, def .. '}'
end

local function change_lane(t, alone, tried, avoid)
  REFS[t.lane] = (REFS[t.lane] or 0) - 1
  enter_lane(t, alone, tried, avoid)
end

-- The agents that a list of a task's lane names; empty for lanes that have no such list.
local function named_in_lane(t, list)
  local names = {}
  if string.find(t.lane, '+', 1, true) then
    local def = redis.call('HGET', K.lanedef, t.lane) or ''
    for name in string.gmatch(string.match(def, '"' .. list .. '":%[(.-)%]') or '', '"([^"]+)"') do names[#names + 1] = name end
  end
  return names
end

-- The last thousand lanes are for new kinds of work: beyond these a task stays where it is, and nobody is barred from it.
local function has_room_for_lane() return redis.call('HLEN', K.lanedef) < 9000 end

-- By bytes: what Lua compares by itself depends on the server's locale.
local function is_before(one, other)
  for i = 1, math.min(#one, #other) do
    local a, b = string.byte(one, i), string.byte(other, i)
    if a ~= b then return a < b end
  end
  return #one < #other
end

-- A try failed: its agent joins those who do not get the task again before everyone who could had it.
local function mark_tried(t)
  local tried = named_in_lane(t, 'tried')
  for _, name in ipairs(tried) do
    if name == t.agent then return end
  end
  if not has_room_for_lane() then return end
  tried[#tried + 1] = t.agent
  table.sort(tried, is_before)
  change_lane(t, is_alone(t.lane), tried)
end

-- A try failed: the next one after a delay, or the end.
local function fail_try(t, reason)
  local failures, _, max_failures = t.failures + 1, facts(t)
  count(t.role, 'failed_attempts', 1)
  if failures >= max_failures then
    redis.call('HSET', k_task(t.id), 'failures', failures)
    finish(t, 'dead', reason, str(math.floor((now_us - t.granted_us) / 1000)))
    return 'dead'
  end
  mark_tried(t)
  redis.call('HSET', k_task(t.id), 'state', 'failed', 'lane', t.lane, 'reason', reason, 'failures', failures, 'close', t.close)
  redis.call('ZADD', K.failed, str(now_us + backoff_us(failures)), t.id)
  begin_wait(t, 'failed')
  return 'retry'
end

-- For how long others go first, in steps that tasks share: each lane is looked at by every plan.
local STEP_MS = { rejected = 5000, released = 1000 }

-- An agent gave a task back unharmed: nothing is counted, and it goes back to its place. One that says cancelled of a task that
-- nobody cancelled has released it.
local function give_back_task(t, status)
  local how = status == 'rejected' and status or 'released'
  if has_room_for_lane() then
    local names = { t.agent }
    for _, name in ipairs(named_in_lane(t, 'avoid')) do
      if #names < 3 and name ~= t.agent then names[#names + 1] = name end
    end
    local until_ms = (math.floor(now_ms / STEP_MS[how]) + 2) * STEP_MS[how]
    local avoid = string.format('"avoid":["%s"],"until_ms":%d', table.concat(names, '","'), until_ms)
    change_lane(t, is_alone(t.lane), named_in_lane(t, 'tried'), avoid)
  end
  redis.call('HSET', k_task(t.id), 'state', 'pending', 'lane', t.lane, 'close', t.close)
  place_again(t)
  count(t.role, how, 1)
  event(how, t.id, t.agent, '-')
  return 'requeued'
end
