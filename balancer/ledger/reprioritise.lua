-- reprioritise: waiting tasks get another priority, and with it another place.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 priority | task ids
-- Returns per task: outcome, state
-- Outcomes moved, already, assigned, finished, unknown
-- Keeps   the ready time, and the identity of the task: submitted again as it was, it is a duplicate
-- Uses    waiting, task
if #ARGV < 5 or #ARGV > 204 then bad('tasks: from 1 to 200') end
if not RANKS[ARGV[4]] then bad('priority: ' .. ARGV[4]) end

local function move(t)
  local _, max_failures, timeout_ms = facts(t)
  local d = table.concat({ ARGV[4], str(max_failures), str(timeout_ms), string.match(t.d, '%x+$') }, '|')
  if d == t.d then return 'already' end
  t.d = d
  redis.call('HSET', k_task(t.id), 'd', d)
  if t.state == 'pending' then
    t.order = order_of(t)
    redis.call('HSET', k_task(t.id), 'order_us', t.order)
    put(PLACED, k_lane(t.lane), t.order, t.id)
    LANES[t.lane] = t.role
  end
  event('reprioritised', t.id, '-', ARGV[4])
  return 'moved'
end

local reply = {}
for i = 5, #ARGV do
  local t = load_task(ARGV[i])
  local outcome = 'unknown'
  if t then outcome = t.state == 'assigned' and 'assigned' or not WAITING[t.state] and 'finished' or move(t) end
  reply[#reply + 1] = outcome
  reply[#reply + 1] = t and t.state or ''
end
save_tasks()
save_common()
return reply
