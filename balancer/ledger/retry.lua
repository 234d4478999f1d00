-- retry: dead tasks get a new life: no failures, no losses, a place from now on. Their history stays.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | task ids
-- Returns per task: outcome, state before
-- Outcomes retried, already, finished, unknown
-- Keeps   children that were not told of the death wait on; a time to expire that has passed is forgotten
-- Uses    cells, effort, waiting, task, tries
if #ARGV < 4 or #ARGV > 203 then bad('tasks: from 1 to 200') end

local function live_again(t)
  -- The removals go first: after them the rest runs even when Redis is out of memory.
  redis.call('ZREM', K.release, t.id)
  redis.call('ZREM', K.dead, t.id)
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
  make_ready(t)
  event('retried', t.id, '-', '-')
end

local reply = {}
for i = 4, #ARGV do
  local t, outcome = load_task(ARGV[i]), 'retried'
  if not t then
    outcome = 'unknown'
  elseif t.state == 'dead' then
    live_again(t)
  else
    outcome = (t.state == 'completed' or t.state == 'cancelled') and 'finished' or 'already'
  end
  reply[#reply + 1] = outcome
  reply[#reply + 1] = t and t.state or ''
end
save_tasks()
save_common()
return reply
