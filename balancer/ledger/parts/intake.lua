-- What a submit brings, read and checked before anything else; and what the roles that it names allow.
local at, lanes, tasks, roles = 4, {}, {}, {}
local function arg()
  at = at + 1
  return ARGV[at] or bad('tasks: the call ends within a task')
end
-- What a producer said of how much work a task is, and who should have it: prior_ms|basis|group|features|agent|for_ms.
local function read_hints(t, hints)
  local prior_ms, effort, agent, for_ms = string.match(hints, '^(%d+)|([me]|%x*|%x*)|([%w._%-]*)|(%d+)$')
  if not effort or #effort > 27 or #agent > 64 then bad('hints: ' .. hints) end
  t.prior_ms = int(prior_ms, 1, 1000000000000, 'prior_ms')
  if effort ~= 'm||' then t.effort = effort end
  int(for_ms, 0, 2592000000, 'prefer_ms')
  if agent ~= '' then t.prefer = agent .. '|' .. for_ms end
end
for i = 1, int(ARGV[4], 1, 200, 'lanes') do
  lanes[i] = { id = arg(), role = arg(), category = arg(), cost = int(arg(), 1, 1000, 'cost'), def = arg(), prior_ms = int(arg(), 1, 1000000000000, 'prior_ms'), refs = 0 }
  lanes[i].requires = string.match(lanes[i].def, '"requires":(%b{})')
end
while at < #ARGV do
  local t = { id = arg(), l = lanes[int(arg(), 1, #lanes, 'lane')], d = arg(), body = arg(), not_before_us = 0 }
  local asked, hints, parents = arg(), arg(), arg()
  if parents ~= '0' then
    t.parents = {}
    for i = 1, int(parents, 0, 1000, 'parents') do t.parents[i] = arg() end
  end
  if asked ~= '' then
    local o, not_before_us = string.match(asked, '^(.*)|(%d+)$')
    if not o or (o ~= '' and not string.match(o, '^%a+|%d+|%d+|%x*$')) then bad('options: ' .. asked) end
    if o ~= '' then
      local expires_us, max_wait_ms = string.match(o, '|(%d+)|(%d+)|')
      int(expires_us, 0, 9007199254740991, 'expires_us')
      int(max_wait_ms, 0, 31536000000, 'max_wait_ms')
    end
    t.o, t.not_before_us = o ~= '' and o or nil, int(not_before_us, 0, 9007199254740991, 'not_before_us')
  end
  t.role, t.lane = t.l.role, t.l.id
  local priority, failures, timeout_ms = string.match(t.d, '^(%a+)|(%d+)|(%d+)|%x+$')
  if not RANKS[priority or ''] or tonumber(failures) > 100 or tonumber(timeout_ms) > 2592000000 then bad('d: ' .. t.d) end
  t.prior_ms, t.priority = t.l.prior_ms, priority
  if hints ~= '' then read_hints(t, hints) end
  tasks[#tasks + 1] = t
end
if #tasks > 200 then bad('tasks: at most 200 a call') end
for _, t in ipairs(tasks) do t.kind = kind_of(t, t.l.category) end
read_cells()
for _, t in ipairs(tasks) do t.e = estimate_of(t.kind, t.prior_ms) end

-- What a role bounds, and how much of it waits. A role that has accepted a task is known.
local function role_of(name)
  local r = roles[name]
  if r then return r end
  local n = redis.call('HMGET', k_role(name), 'accepted', 'returned', 'assigned', 'dropped', 'paused')
  local most = redis.call('HMGET', K.settings, 'max_cost:' .. name, 'max_cost', 'max_pending:' .. name, 'max_pending', 'order_by')
  order_by(most[5])
  r = { name = name, known = n[1], waiting = (n[1] or 0) + (n[2] or 0) - (n[3] or 0) - (n[4] or 0), detail = n[5] and 'paused' or '' }
  r.max_cost, r.max_pending = most[1] or most[2], tonumber(most[3] or most[4])
  roles[name] = r
  return r
end

-- Depth, limit, age of the oldest, and the time in which a hundredth of the limit comes free at the pace of late.
local function fullness(r)
  if not r.age_ms then
    local head, n = redis.call('ZRANGE', k_pending(r.name), 0, 0, 'WITHSCORES'), redis.call('ZCARD', k_pending(r.name))
    r.age_ms = head[2] and math.max(0, math.floor((now_us - head[2]) / 1000)) or 0
    r.retry_ms = n == 0 and 1000 or math.min(60000, math.max(100, math.floor(r.age_ms / n * math.ceil(r.max_pending / 100))))
  end
  return string.format('%d %d %d %d', r.waiting, r.max_pending, r.age_ms, r.retry_ms)
end
