-- submit: tasks enter the pool; the ready ones enter the queue.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 lanes | per lane: id, role, category, cost, definition, prior_ms
--      then per task: id, lane number, d (packed facts), body, '' or options|not_before_us, '' or hints, parents, parent ids...
-- Returns per task: outcome, detail (of a duplicate: state, and the id of the task that holds the dedup key); then settings_ver
-- Outcomes accepted, scheduled, blocked, duplicate, conflict, queue_full, redis_full, unknown_parent, dead_parent, skipped, expired, cost_over_max, too_many_lanes, too_many_roles, too_many_children
-- Keeps   a task id names one definition for ever, a dedup key one task; a parent exists before its child, so there is no cycle
-- Uses    cells, effort, waiting, task, intake
local new_lanes
for _, l in ipairs(lanes) do
  l.r = role_of(l.role)
  if l.cost > tonumber(l.r.max_cost) then
    l.refused = { 'cost_over_max', l.r.max_cost }
  elseif redis.call('HEXISTS', K.lanedef, l.id) == 1 then
    l.known = true
  else
    new_lanes = (new_lanes or redis.call('HLEN', K.lanedef)) + 1
    if new_lanes > 10000 then l.refused = { 'too_many_lanes', '10000' } end
  end
end

local function known_as(t)
  local known = redis.call('HMGET', k_task(t.id), 'd', 'state')
  if known[1] then
    return string.match(known[1], '%x+$') == string.match(t.d, '%x+$') and 'duplicate' or 'conflict', known[2]
  end
  if not t.o then return nil end
  local _, _, _, hash = options(t)
  if hash == '' then return nil end
  t.dedup = k_dedup(hash)
  local first = redis.call('GET', t.dedup)
  local state = first and redis.call('HGET', k_task(first), 'state')
  if state then return 'duplicate', state .. ' ' .. first end
end

local function refused(t)
  local r = t.l.r
  if t.l.refused then return t.l.refused[1], t.l.refused[2] end
  if not r.known and redis.call('SISMEMBER', K.roles, r.name) == 0 and redis.call('SCARD', K.roles) >= 256 then return 'too_many_roles', '256' end
  if MEMORY_FULL then return 'redis_full', '' end
  if r.waiting >= r.max_pending then return 'queue_full', fullness(r) end
end

-- Sets t.open, the parents that have not completed; a task whose end is decided already says so.
local function look_at_parents(t)
  local policy, failed = options(t), nil
  for _, parent in ipairs(t.parents) do
    local state = redis.call('HGET', k_task(parent), 'state')
    if not state then return 'unknown_parent', parent end
    local has_failed = state == 'dead' or state == 'cancelled'
    if has_failed and policy ~= 'run' then failed = failed or parent end
    if state ~= 'completed' and not (has_failed and policy == 'run') then
      if not has_failed and redis.call('ZCARD', k_children(parent)) >= 10000 then return 'too_many_children', parent end
      t.open = t.open or {}
      t.open[#t.open + 1] = parent
    end
  end
  if failed then return policy == 'skip' and 'skipped' or 'dead_parent', failed end
end

local function judge(t)
  local outcome, detail = known_as(t)
  if not outcome then outcome, detail = refused(t) end
  if not outcome and t.parents then outcome, detail = look_at_parents(t) end
  if outcome then return outcome, detail end
  if t.o then
    local _, expires_us = options(t)
    if expires_us > 0 and expires_us <= now_us then return 'expired', '' end
  end
  return t.open and 'blocked' or t.not_before_us > now_us and 'scheduled' or 'accepted', t.l.r.detail
end

local STATE = { accepted = 'pending', scheduled = 'scheduled', blocked = 'blocked', dead_parent = 'dead', skipped = 'cancelled', expired = 'dead' }
local function store(t, outcome)
  local accepted, r = tick_us(), t.l.r
  t.accepted, t.ready = str(accepted), str(accepted)
  t.order = order_of(t)
  redis.call('HSET', k_task(t.id), 'state', STATE[outcome], 'role', t.role, 'category', t.l.category, 'cost', t.l.cost,
    'lane', t.lane, 'accepted_us', t.accepted, 'ready_us', t.ready, 'order_us', t.order, 'd', t.d, 'e', t.e)
  if t.effort then redis.call('HSET', k_task(t.id), 'l', t.effort) end
  if t.prefer then redis.call('HSET', k_task(t.id), 'p', t.prefer) end
  if t.l.requires then redis.call('HSET', k_task(t.id), 'r', t.l.requires) end
  if t.o then redis.call('HSET', k_task(t.id), 'o', t.o) end
  if t.not_before_us > now_us then redis.call('HSET', k_task(t.id), 'not_before_us', str(t.not_before_us)) end
  if t.dedup then redis.call('SET', t.dedup, t.id) end
  if t.body ~= '' then redis.call('SET', k_body(t.id), t.body) end
  if not r.known then redis.call('SADD', K.roles, t.role) end
  r.known = true
  count(t.role, 'accepted', 1)
end

local function block(t)
  redis.call('ZADD', K.blocked, t.accepted, t.id)
  redis.call('SADD', k_parents(t.id), unpack(t.open))
  for _, parent in ipairs(t.open) do
    redis.call('ZADD', k_children(parent), t.accepted, t.id)
    redis.call('HSET', k_task(parent), 'kids', 1)
  end
  begin_wait(t, 'blocked')
end

local START = { accepted = place, scheduled = schedule, blocked = block }
local reply = {}
for _, t in ipairs(tasks) do
  local outcome, detail = judge(t)
  if STATE[outcome] then
    store(t, outcome)
    if START[outcome] then
      START[outcome](t)
      t.l.refs, t.l.r.waiting = t.l.refs + 1, t.l.r.waiting + 1
    else
      redis.call('HINCRBY', K.laneref, t.lane, 1)
      if t.open and STATE[outcome] == 'dead' then redis.call('SADD', k_parents(t.id), unpack(t.open)) end
      finish(t, STATE[outcome], outcome == 'expired' and 'expired' or 'parent_failed', '0')
    end
    event('submitted', t.id, '-', outcome)
  end
  reply[#reply + 1] = outcome
  reply[#reply + 1] = detail
end
for _, l in ipairs(lanes) do
  if l.refs > 0 then
    if not l.known then redis.call('HSET', K.lanedef, l.id, l.def) end
    redis.call('HINCRBY', K.laneref, l.id, l.refs)
  end
end
save_tasks()
save_common()
reply[#reply + 1] = META[8]
return reply
