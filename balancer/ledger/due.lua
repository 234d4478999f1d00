-- due: tasks whose retry time has come go back into the queue.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us
-- Returns {moved, more (0, 1)}
-- Outcomes -
-- Keeps   a failed try is ready at its retry time, however late this runs
-- Uses    waiting, task
local due = redis.call('ZRANGEBYSCORE', K.failed, '-inf', str(now_us), 'WITHSCORES', 'LIMIT', 0, 200)
for i = 1, #due, 2 do
  local id, at = due[i], tonumber(due[i + 1])
  redis.call('ZREM', K.failed, id)
  local t = load_task(id)
  local _, _, _, delay_us = facts(t)
  t.ready, t.order = str(at), str(at + delay_us)
  redis.call('HSET', k_task(id), 'state', 'pending', 'ready_us', t.ready, 'order_us', t.order)
  place(t)
  event('ready', id, '-', 'retry')
end
save_tasks()
save_common()
return { #due / 2, #due == 400 and 1 or 0 }
