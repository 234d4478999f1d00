-- commit: proposals become assignments, each checked again against what is true now.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 token of the drain lock to give back when all are assigned, or '' | per proposal: task, agent, nonce, estimate_ms|strategy or estimate_ms|strategy|draw (48 bits in hex, in pools of that order), why
-- Returns per proposal: outcome, attempt
-- Outcomes assigned, already, not_pending, not_accepting, full, no_agent, wrong_role
-- Keeps   used + cost <= max at every grant, and a task that must be alone takes all of an agent that holds nothing; inbox, held, leases and counters change together
-- Uses    agent, waiting, task
local PROPOSALS = (#ARGV - 4) / 5
if PROPOSALS < 1 or PROPOSALS > 128 or PROPOSALS % 1 ~= 0 then bad('proposals: from 1 to 128, five arguments each') end
for i = 5, #ARGV, 5 do
  local estimate_ms, draw = string.match(ARGV[i + 3], '^([^|]*)|[%w._%-]+(|?%x*)$')
  if draw ~= '' and (ORDER ~= 'draw' or #(draw or '') ~= 13) then bad('estimate_ms|strategy: ' .. ARGV[i + 3]) end
  int(estimate_ms, 0, 9007199254740991, 'estimate_ms')
end

local function judge(t, agent_id, nonce)
  if not t then return 'not_pending' end
  if t.nonce == nonce then return 'already' end
  if t.state ~= 'pending' or t.granted then return 'not_pending' end
  local a = load_agent(agent_id)
  if not a then return 'no_agent' end
  if a.role ~= t.role then return 'wrong_role' end
  if not accepts(a) then return 'not_accepting' end
  t.units = t.cost
  if is_alone(t.lane) then
    if a.n > 0 or t.cost > a.max then return 'full' end
    t.units = a.max
  end
  if a.used + t.units > a.max or a.n >= 1000 then return 'full' end
  return 'assigned'
end

local tasks, grants, reply = {}, {}, {}
for i = 5, #ARGV, 5 do
  local id, agent_id, nonce = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local t = tasks[id]
  if t == nil then
    t = load_task(id, 8) or false
    tasks[id] = t
  end
  local outcome = judge(t, agent_id, nonce)
  if outcome == 'assigned' then
    local a = load_agent(agent_id)
    t.granted, t.nonce, t.attempt = true, nonce, t.attempt + 1
    a.used, a.n = a.used + t.units, a.n + 1
    local facts, draw = ARGV[i + 3], ''
    if ORDER == 'draw' then facts, draw = string.match(facts, '^(%d+|[%w._%-]+)|?(%x*)$') end
    if HAS_TURNS then take_turn(a, draw, nonce) end
    grants[#grants + 1] = { t = t, a = a, facts = facts, why = ARGV[i + 4] }
  end
  reply[#reply + 1] = outcome
  reply[#reply + 1] = t and t.attempt or 0
end
if #grants == 0 then return reply end

local bodies, timeouts, at = {}, {}, str(now_us)
for i, g in ipairs(grants) do
  take(g.t)
  bodies[i] = k_body(g.t.id)
end
bodies = redis.call('MGET', unpack(bodies))
for i, g in ipairs(grants) do
  local t, a = g.t, g.a
  local priority, _, timeout_ms = facts(t)
  local entry = redis.call('XADD', k_inbox(a.id), '*', 'v', '1', 'task', t.id, 'attempt', t.attempt, 'lease', t.nonce, 'boot', a.boot,
    'role', t.role, 'category', t.category, 'priority', priority, 'cost', t.units, 'timeout_ms', str(timeout_ms),
    'estimate_ms', string.match(g.facts, '^%d+'), 'body', bodies[i] or '')
  redis.call('HSET', k_held(a.id), t.nonce, table.concat({ t.id, t.units, t.attempt, entry }, ' '))
  redis.call('HSET', k_task(t.id), 'state', 'assigned', 'attempt', t.attempt, 'nonce', t.nonce, 'agent', a.id,
    'grant', table.concat({ at, str(a.freed_us), g.facts }, '|'), 'why', g.why)
  put(timeouts, K.leases, str(now_us + 1000 * timeout_ms), t.id)
  event('assigned', t.id, a.id, t.attempt)
  count(t.role, 'assigned', 1)
end
redis.call('ZADD', K.leases, unpack(timeouts[K.leases]))
save_tasks()
save_agents()
save_common()
if #grants == PROPOSALS and ARGV[4] ~= '' and redis.call('GET', K.drain_lock) == ARGV[4] then redis.call('DEL', K.drain_lock) end
return reply
