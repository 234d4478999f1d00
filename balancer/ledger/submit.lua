-- submit: tasks enter the pool; the ready ones enter the queue.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 lanes | per lane: id, role, category, cost, definition
--      then per task: id, lane number, d (packed facts), body, parents, parent ids...
-- Returns per task: outcome, detail
-- Outcomes accepted, blocked, duplicate, conflict, unknown_parent, dead_parent, cost_over_max, too_many_lanes, too_many_roles, too_many_children
-- Keeps   a task id names one definition for ever; a parent exists before its child, so there is no cycle
-- Uses    waiting, task
local at, lanes, tasks = 4, {}, {}
local function arg()
  at = at + 1
  return ARGV[at] or bad('tasks: the call ends within a task')
end
for i = 1, int(ARGV[4], 1, 200, 'lanes') do
  local l = { id = arg(), role = arg(), category = arg(), cost = int(arg(), 1, 1000, 'cost'), def = arg(), refs = 0 }
  lanes[i] = l
end
while at < #ARGV do
  local t = { id = arg(), l = lanes[int(arg(), 1, #lanes, 'lane')], d = arg(), body = arg(), parents = {} }
  t.role, t.lane = t.l.role, t.l.id
  for i = 1, int(arg(), 0, 1000, 'parents') do t.parents[i] = arg() end
  t.delay_us = tonumber(string.match(t.d, '^%a+|%d+|%d+|(%-?%d+)|%x+$')) or bad('d: ' .. t.d)
  tasks[#tasks + 1] = t
end
if #tasks > 200 then bad('tasks: at most 200 a call') end

local new_lanes = redis.call('HLEN', K.lanedef)
for _, l in ipairs(lanes) do
  local max_cost = redis.call('HMGET', K.settings, 'max_cost:' .. l.role, 'max_cost')
  if l.cost > tonumber(max_cost[1] or max_cost[2]) then
    l.refused = { 'cost_over_max', max_cost[1] or max_cost[2] }
  elseif redis.call('HEXISTS', K.lanedef, l.id) == 0 then
    new_lanes = new_lanes + 1
    if new_lanes > 10000 then l.refused = { 'too_many_lanes', '10000' } end
  end
end

local function judge(t)
  local known = redis.call('HMGET', k_task(t.id), 'd', 'state')
  if known[1] then
    if string.match(known[1], '%x+$') == string.match(t.d, '%x+$') then return 'duplicate', known[2] end
    return 'conflict', known[2]
  end
  if t.l.refused then return t.l.refused[1], t.l.refused[2] end
  if not t.l.has_role and redis.call('SISMEMBER', K.roles, t.role) == 0 and redis.call('SCARD', K.roles) >= 256 then return 'too_many_roles', '256' end
  t.open = {}
  for _, parent in ipairs(t.parents) do
    local state = redis.call('HGET', k_task(parent), 'state')
    if not state then return 'unknown_parent', parent end
    if state == 'dead' or state == 'cancelled' then
      t.dead_parent = parent
    elseif state ~= 'completed' then
      if redis.call('ZCARD', k_children(parent)) >= 10000 then return 'too_many_children', parent end
      t.open[#t.open + 1] = parent
    end
  end
  if t.dead_parent then return 'dead_parent', t.dead_parent end
  if #t.open > 0 then return 'blocked', '' end
  return 'accepted', ''
end

local STATE = { accepted = 'pending', blocked = 'blocked', dead_parent = 'dead' }
local function store(t, outcome)
  local accepted = tick_us()
  t.accepted, t.ready, t.order = str(accepted), str(accepted), str(accepted + t.delay_us)
  redis.call('HSET', k_task(t.id), 'state', STATE[outcome], 'role', t.role, 'category', t.l.category, 'cost', t.l.cost,
    'lane', t.lane, 'accepted_us', t.accepted, 'ready_us', t.ready, 'order_us', t.order, 'd', t.d)
  if t.body ~= '' then redis.call('SET', k_body(t.id), t.body) end
  count(t.role, 'accepted', 1)
end

local reply = {}
for _, t in ipairs(tasks) do
  local outcome, detail = judge(t)
  if STATE[outcome] then
    local l = t.l
    store(t, outcome)
    if not l.has_role then redis.call('SADD', K.roles, t.role) end
    l.has_role = true
    if outcome == 'dead_parent' then
      redis.call('HINCRBY', K.laneref, l.id, 1)
      finish(t, 'dead', 'parent_failed', '0')
    else
      l.refs = l.refs + 1
      if outcome == 'accepted' then place(t) end
      if outcome == 'blocked' then
        redis.call('ZADD', K.blocked, t.accepted, t.id)
        redis.call('SADD', k_parents(t.id), unpack(t.open))
        for _, parent in ipairs(t.open) do
          redis.call('ZADD', k_children(parent), t.accepted, t.id)
          redis.call('HSET', k_task(parent), 'kids', 1)
        end
      end
    end
    event('submitted', t.id, '-', outcome)
  end
  reply[#reply + 1] = outcome
  reply[#reply + 1] = detail
end
for _, l in ipairs(lanes) do
  if l.refs > 0 then
    redis.call('HSET', K.lanedef, l.id, l.def)
    redis.call('HINCRBY', K.laneref, l.id, l.refs)
  end
end
save_tasks()
save_common()
return reply
