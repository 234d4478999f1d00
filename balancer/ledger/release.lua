-- release: children of finished parents learn it; a failure goes down the graph level by level.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us
-- Returns {ready, dead, skipped, more (0, 1)}
-- Outcomes ready, dead, skipped
-- Keeps   a child is told once per parent: only while it is blocked, and the parent is in its set
-- Uses    cells, effort, waiting, task
local budget, ready, dead, skipped = 200, 0, 0, 0
-- For so long after it became ready, a child would rather have the agent that did its parent.
local PREFERRED_MS = '600000'

local function tell(child, parent, parent_state, parent_agent)
  redis.call('ZREM', k_children(parent), child)
  local t = load_task(child)
  if not t or t.state ~= 'blocked' then return end
  local policy = parent_state == 'completed' and 'run' or options(t)
  -- A child that dies keeps what it waited for: a retry waits for that again.
  if redis.call(policy == 'run' and 'SREM' or 'SISMEMBER', k_parents(child), parent) == 0 then return end
  if policy ~= 'run' then
    local is_skipped = policy == 'skip'
    redis.call('ZREM', K.blocked, child)
    finish(t, is_skipped and 'cancelled' or 'dead', 'parent_failed', '0')
    event(is_skipped and 'cancelled' or 'dead', child, '-', 'parent_failed ' .. parent)
    if is_skipped then skipped = skipped + 1 else dead = dead + 1 end
  elseif redis.call('EXISTS', k_parents(child)) == 0 then
    redis.call('ZREM', K.blocked, child)
    if parent_state == 'completed' and parent_agent then redis.call('HSETNX', k_task(child), 'p', parent_agent .. '|' .. PREFERRED_MS) end
    renew(t)
    event(make_ready(t) == 'pending' and 'ready' or 'scheduled', child, '-', parent)
    ready = ready + 1
  end
end

while budget > 0 do
  local parent = redis.call('ZRANGE', K.release, 0, 0)[1]
  if not parent then break end
  local children = redis.call('ZRANGE', k_children(parent), 0, budget - 1)
  if #children == 0 then
    redis.call('ZREM', K.release, parent)
    budget = budget - 1
  else
    local state, agent = unpack(redis.call('HMGET', k_task(parent), 'state', 'agent'))
    for _, child in ipairs(children) do tell(child, parent, state, agent) end
    budget = budget - #children
  end
end
save_tasks()
save_common()
return { ready, dead, skipped, redis.call('EXISTS', K.release) }
