-- retry: dead tasks get a new life: no failures, no losses, a place from now on. Their history stays.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | task ids
-- Returns per task: outcome, state before
-- Outcomes retried, already, finished, unknown, dead_parent, too_many_children
-- Keeps   children that were not told of the death wait on; a time to expire that has passed is forgotten; a task whose parents have not completed waits for them
-- Uses    cells, effort, waiting, task, tries
if #ARGV < 4 or #ARGV > 203 then bad('tasks: from 1 to 200') end

-- Sets t.open, the parents that are yet to complete, and t.over, those that do not matter any more; or says why it cannot live.
local function look_at_parents(t)
  local policy = options(t)
  t.open, t.over = {}, {}
  for _, parent in ipairs(redis.call('SMEMBERS', k_parents(t.id))) do
    local state = redis.call('HGET', k_task(parent), 'state')
    local has_failed = not state or state == 'dead' or state == 'cancelled'
    if has_failed and policy ~= 'run' then return 'dead_parent' end
    local is_open = not has_failed and state ~= 'completed'
    if is_open and redis.call('ZCARD', k_children(parent)) >= 10000 then return 'too_many_children' end
    table.insert(is_open and t.open or t.over, parent)
  end
end

local function block_again(t)
  local accepted = redis.call('HGET', k_task(t.id), 'accepted_us')
  redis.call('HSET', k_task(t.id), 'state', 'blocked')
  redis.call('ZADD', K.blocked, accepted, t.id)
  for _, parent in ipairs(t.open) do
    redis.call('ZADD', k_children(parent), accepted, t.id)
    redis.call('HSET', k_task(parent), 'kids', 1)
  end
  begin_wait(t, 'blocked')
end

local function live_again(t)
  -- The removals go first: after them the rest runs even when Redis is out of memory.
  redis.call('ZREM', K.release, t.id)
  redis.call('ZREM', K.dead, t.id)
  if #t.over > 0 then redis.call('SREM', k_parents(t.id), unpack(t.over)) end
  redis.call('HDEL', k_task(t.id), 'failures', 'losses', 'ended_us', 'reason', 'took_ms')
  local policy, expires_us, max_wait_ms, dedup = options(t)
  if expires_us > 0 and expires_us <= now_us then
    t.o = table.concat({ policy, 0, str(max_wait_ms), dedup }, '|')
    redis.call('HSET', k_task(t.id), 'o', t.o)
  end
  enter_lane(t)
  redis.call('HSET', k_task(t.id), 'lane', t.lane)
  count(t.role, 'retried', 1)
  renew(t)
  if #t.open > 0 then block_again(t) else make_ready(t) end
  event('retried', t.id, '-', '-')
end

local reply = {}
for i = 4, #ARGV do
  local t, outcome = load_task(ARGV[i]), 'retried'
  if not t then
    outcome = 'unknown'
  elseif t.state == 'dead' then
    outcome = look_at_parents(t) or outcome
    if outcome == 'retried' then live_again(t) end
  else
    outcome = (t.state == 'completed' or t.state == 'cancelled') and 'finished' or 'already'
  end
  reply[#reply + 1] = outcome
  reply[#reply + 1] = t and t.state or ''
end
save_tasks()
save_common()
return reply
