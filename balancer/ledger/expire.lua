-- expire: tasks that have waited beyond their time are dead.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us
-- Returns {expired, more (0, 1)}
-- Outcomes -
-- Keeps   a task that an agent holds goes on; it expires when it comes back to wait
-- Uses    waiting, task
local due, expired = redis.call('ZRANGEBYSCORE', K.expiry, '-inf', str(now_us), 'LIMIT', 0, 200), 0
for _, id in ipairs(due) do
  redis.call('ZREM', K.expiry, id)
  local t = load_task(id)
  if t and WAITING[t.state] then
    stop_waiting(t)
    finish(t, 'dead', 'expired', '0')
    event('dead', id, '-', 'expired')
    expired = expired + 1
  end
end
save_tasks()
save_common()
return { expired, #due == 200 and 1 or 0 }
