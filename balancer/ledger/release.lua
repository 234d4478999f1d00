-- release: children of finished parents learn it; a failure goes down the graph level by level.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us
-- Returns {ready, dead, skipped, more (0, 1)}
-- Outcomes ready, dead, skipped
-- Keeps   a child is told once per parent: only the removal of that parent from its set counts
-- Uses    cells, effort, waiting, task
local budget, ready, dead, skipped = 200, 0, 0, 0
-- For so long after it became ready, a child would rather have the agent that did its parent.
local PREFERRED_MS = '600000'

local function tell(child, parent, parent_state, parent_agent)
  redis.call('ZREM', k_children(parent), child)
  if redis.call('SREM', k_parents(child), parent) == 0 then return end
  local t = load_task(child)
  local policy = parent_state == 'completed' and 'run' or options(t)
  if policy ~= 'run' then
    local is_skipped = policy == 'skip'
    redis.call('ZREM', K.blocked, child)
    redis.call('DEL', k_parents(child))
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
