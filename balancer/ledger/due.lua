-- due: tasks whose time has come go into the queue: retries, and scheduled ones.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us
-- Returns {moved, more (0, 1)}
-- Outcomes -
-- Keeps   a task is ready at its time, however late this runs
-- Uses    cells, effort, waiting, task
local CAP, moved = 100, 0
local function move(state, why)
  local due = redis.call('ZRANGEBYSCORE', K[state], '-inf', str(now_us), 'WITHSCORES', 'LIMIT', 0, CAP - moved)
  for i = 1, #due, 2 do
    local id, at = due[i], tonumber(due[i + 1])
    redis.call('ZREM', K[state], id)
    local t = load_task(id)
    t.ready = str(at)
    renew(t)
    t.order = order_of(t)
    redis.call('HSET', k_task(id), 'state', 'pending', 'ready_us', t.ready, 'order_us', t.order)
    place(t)
    event('ready', id, '-', why)
    if state == 'scheduled' then count(t.role, 'scheduled', -1) end
  end
  moved = moved + #due / 2
end
move('failed', 'retry')
if moved < CAP then move('scheduled', 'time') end
save_tasks()
save_common()
return { moved, moved == CAP and 1 or 0 }
