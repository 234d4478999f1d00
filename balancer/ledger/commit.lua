-- commit: proposals become assignments, each checked again against what is true now.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 token of the drain lock to give back when all are assigned, or '' | per proposal: task, agent, nonce, estimate_ms|strategy or estimate_ms|strategy|draw (48 bits in hex; counts in pools of that order), why, lane that it was planned in or ''
-- Returns per proposal: outcome, attempt
-- Outcomes assigned, already, not_pending, moved, not_accepting, full, no_agent, wrong_role, lacks_skill
-- Keeps   used + cost <= max at every grant, and a task that must be alone takes all of an agent that holds nothing; what was judged
--      of the task's lane holds for the task, and its agent has the skills that it requires; inbox, held, leases and counters change together
-- Uses    agent, waiting, task
local PROPOSALS = (#ARGV - 4) / 6
if PROPOSALS < 1 or PROPOSALS > 128 or PROPOSALS % 1 ~= 0 then bad('proposals: from 1 to 128, six arguments each') end
local is_drawn = false
for i = 5, #ARGV, 6 do
  local estimate_ms, draw = string.match(ARGV[i + 3], '^([^|]*)|[%w._%-]+(|?%x*)$')
  -- A plan may have been made before the pool's order changed.
  is_drawn = is_drawn or draw ~= ''
  if draw ~= '' and #(draw or '') ~= 13 then bad('estimate_ms|strategy: ' .. ARGV[i + 3]) end
  int(estimate_ms, 0, 9007199254740991, 'estimate_ms')
end

-- What all tasks of a lane share, read with its first one. The others are read without it: a shorter read is a faster one.
local KINDS = {}
local function kind_of(t)
  local kind = KINDS[t.lane]
  if not kind then
    local f = redis.call('HMGET', k_task(t.id), 'role', 'category', 'cost', 'r')
    kind = { role = f[1], category = f[2], cost = tonumber(f[3]), is_alone = is_alone(t.lane), requires = f[4], granted = 0 }
    KINDS[t.lane] = kind
  end
  return kind
end

local function load_waiting(id)
  local f = redis.call('HMGET', k_task(id), 'state', 'lane', 'd', 'nonce', 'attempt')
  if not f[1] then return false end
  return { id = id, state = f[1], lane = f[2], d = f[3], nonce = f[4], attempt = tonumber(f[5] or 0) }
end

-- Whether an agent has what a lane requires, as it declares it now: {"skill":level,...} against skill:level,...
local function has_skills(a, requires)
  local levels = {}
  for skill, level in string.gmatch(redis.call('HGET', k_agent(a.id), 'skills') or '', '([^:,]+):(%d+)') do levels[skill] = tonumber(level) end
  for skill, level in string.gmatch(requires, '"([^"]+)":(%d+)') do
    if (levels[skill] or 0) < tonumber(level) then return false end
  end
  return true
end

local function judge(t, agent_id, nonce, lane)
  if not t then return 'not_pending' end
  if t.nonce == nonce then return 'already' end
  if t.state ~= 'pending' or t.granted then return 'not_pending' end
  if lane ~= '' and lane ~= t.lane then return 'moved' end
  local a, kind = load_agent(agent_id), kind_of(t)
  if not a then return 'no_agent' end
  if a.role ~= kind.role then return 'wrong_role' end
  if not accepts(a) then return 'not_accepting' end
  if kind.requires and not has_skills(a, kind.requires) then return 'lacks_skill' end
  t.units = kind.cost
  if kind.is_alone then
    if a.n > 0 or kind.cost > a.max then return 'full' end
    t.units = a.max
  end
  if a.used + t.units > a.max or a.n >= 1000 then return 'full' end
  return 'assigned'
end

-- How long a task may run that was submitted without a run timeout: so many times what nine of ten such tasks take on an agent of this
-- speed. A day while little is known of them: a try that is ended teaches nothing, so a wrong limit would stay wrong. Twin of core/limits.py.
local LIMITS
local function limit_of(t, facts)
  LIMITS = LIMITS or redis.call('HMGET', K.settings, 'timeout_permille', 'min_timeout_s')
  local mean_ms, p90_ms, n = string.match(redis.call('HGET', k_task(t.id), 'e') or '', '^(%d+)|(%d+)|(%d+)|')
  local permille = tonumber(LIMITS[1] or 0)
  if permille == 0 or tonumber(n or 0) < 20 then return '86400000' end
  local here_ms = p90_ms * string.match(facts, '^%d+') / math.max(1, mean_ms)
  return str(math.floor(math.max(1000 * LIMITS[2], math.min(2592000000, permille * here_ms / 1000))))
end

local tasks, grants, reply = {}, {}, {}
for i = 5, #ARGV, 6 do
  local id, agent_id, nonce = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local t = tasks[id]
  if t == nil then
    t = load_waiting(id)
    tasks[id] = t
  end
  local outcome = judge(t, agent_id, nonce, ARGV[i + 5])
  if outcome == 'assigned' then
    local a, facts, draw = load_agent(agent_id), ARGV[i + 3], ''
    t.granted, t.nonce, t.attempt = true, nonce, t.attempt + 1
    a.used, a.n = a.used + t.units, a.n + 1
    if is_drawn then facts, draw = string.match(facts, '^(%d+|[%w._%-]+)|?(%x*)$') end
    if HAS_TURNS then take_turn(a, draw, nonce) end
    grants[#grants + 1] = { t = t, a = a, kind = KINDS[t.lane], facts = facts, why = ARGV[i + 4] }
  end
  reply[#reply + 1] = outcome
  reply[#reply + 1] = t and t.attempt or 0
end
if #grants == 0 then return reply end

local bodies, timeouts, ends, at = {}, {}, {}, str(now_us)
for i, g in ipairs(grants) do
  g.t.role = g.kind.role
  take(g.t)
  bodies[i] = k_body(g.t.id)
end
bodies = redis.call('MGET', unpack(bodies))
for i, g in ipairs(grants) do
  local t, a, kind = g.t, g.a, g.kind
  local priority, timeout_ms = string.match(t.d, '^(%a+)|%d+|(%d+)|')
  if timeout_ms == '0' then timeout_ms = limit_of(t, g.facts) end
  local attempt, units = text(t.attempt), text(t.units)
  local entry = redis.call('XADD', k_inbox(a.id), '*', 'v', '1', 'task', t.id, 'attempt', attempt, 'lease', t.nonce, 'boot', a.boot,
    'role', kind.role, 'category', kind.category, 'priority', priority, 'cost', units, 'timeout_ms', timeout_ms,
    'estimate_ms', string.match(g.facts, '^%d+'), 'body', bodies[i] or '')
  redis.call('HSET', k_held(a.id), t.nonce, t.id .. ' ' .. units .. ' ' .. attempt .. ' ' .. entry)
  redis.call('HSET', k_task(t.id), 'state', 'assigned', 'attempt', attempt, 'nonce', t.nonce, 'agent', a.id,
    'grant', at .. '|' .. str(a.freed_us) .. '|' .. g.facts, 'why', g.why)
  ends[timeout_ms] = ends[timeout_ms] or str(now_us + 1000 * tonumber(timeout_ms))
  put(timeouts, K.leases, ends[timeout_ms], t.id)
  event('assigned', t.id, a.id, attempt)
  kind.granted = kind.granted + 1
end
for _, kind in pairs(KINDS) do count(kind.role, 'assigned', kind.granted) end
redis.call('ZADD', K.leases, unpack(timeouts[K.leases]))
save_tasks()
save_agents()
save_common()
if #grants == PROPOSALS and ARGV[4] ~= '' and redis.call('GET', K.drain_lock) == ARGV[4] then redis.call('DEL', K.drain_lock) end
return reply
