-- retire: an agent whose deadline has come, or that stopped on its way out, gives back what it holds and is gone.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 agent
-- Returns {outcome, requeued, more (0, 1)}
-- Outcomes retired, not_due, unknown
-- Keeps   nothing is counted against the tasks: no loss, no failure; they go back to their places
-- Uses    agent, waiting, task, tries
local id = ARGV[4]
local a = load_agent(id)
if not a then return { 'unknown', 0, 0 } end
if not must_retire(a) then return { 'not_due', 0, 0 } end
-- A removal goes first: after it the rest runs even when Redis is out of memory.
redis.call('ZREM', K.agent_timers, id)
if a.state == 'live' then
  redis.call('ZREM', K.alive, id)
  redis.call('ZADD', K.gone, str(now_ms), id)
  class_members(a.class, -1)
  a.state = 'stopped'
  redis.call('HSET', k_agent(id), 'state', 'stopped')
end

local held, requeued = redis.call('HGETALL', k_held(id)), 0
for i = 1, math.min(#held, 300), 2 do
  local t = load_task((string.match(held[i + 1], '^%S+')))
  close_lease(t, a, 'revoked')
  remember_try(t, 'released')
  count(t.role, 'reclaimed', 1)
  if t.cancel then
    end_cancelled(t, '0')
  else
    redis.call('HSET', k_task(t.id), 'state', 'pending', 'close', t.close)
    place_again(t)
  end
  event('reclaimed', t.id, id, held[i])
  requeued = requeued + 1
end
local left = 2 * requeued < #held
if left then
  redis.call('ZADD', K.agent_timers, str(now_ms), id)
else
  -- What it was told stays in its inbox: a process that was frozen reads it when it wakes.
  redis.call('HSET', k_agent(id), 'admin', (string.gsub(a.admin, '^retiring', 'retired')))
  event('agent_retired', '-', id, '-')
end
save_tasks()
save_agents()
save_common()
return { 'retired', requeued, left and 1 or 0 }
