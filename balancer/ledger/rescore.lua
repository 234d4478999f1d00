-- rescore: one page of tasks that wait gets the place that the settings of today and what is known by now give it.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us
-- Returns {role ('' when nothing is left to do), tasks that were looked at, more (0, 1)}
-- Outcomes -
-- Keeps   a task's ready time; where the last page ended stands in Redis, so any replica goes on, and a page that comes twice changes nothing
-- Uses    cells, effort, waiting, task
local PAGE, role, looked, last = 200, redis.call('HKEYS', K.rescore)[1], 0, nil
if not role then return { '', 0, 0 } end
local until_us, at_us, at_id = string.match(redis.call('HGET', K.rescore, role), '^(%d+)|(%d+)|(.*)$')
-- The removal goes first: after it the rest runs even when Redis is out of memory.
redis.call('HDEL', K.rescore, role)

-- Pages go by (ready time, id), which no task changes. When the last one is gone, those ready in the same microsecond are seen again.
local pending = k_pending(role)
local start = redis.call('ZCOUNT', pending, '-inf', '(' .. at_us)
if tonumber(redis.call('ZSCORE', pending, at_id) or '') == tonumber(at_us) then start = redis.call('ZRANK', pending, at_id) + 1 end
local page = redis.call('ZRANGE', pending, start, start + PAGE - 1, 'WITHSCORES')
for i = 1, #page, 2 do
  local id, ready_us = page[i], tonumber(page[i + 1])
  -- What became ready after the settings changed has its place by them.
  if ready_us > tonumber(until_us) then
    last = nil
    break
  end
  local f = redis.call('HMGET', k_task(id), 'd', 'e', 'lane', 'order_us', 'category', 'l')
  if f[1] then
    local t = { id = id, d = f[1], e = f[2], lane = f[3], role = role, category = f[5], effort = f[6], ready = str(ready_us) }
    renew(t, true)
    local order = order_of(t)
    if order ~= f[4] then
      redis.call('HSET', k_task(id), 'order_us', order)
      put(PLACED, k_lane(t.lane), order, id)
      LANES[t.lane] = role
    end
  end
  looked, last = looked + 1, str(ready_us) .. '|' .. id
end
if last and looked == PAGE then redis.call('HSET', K.rescore, role, until_us .. '|' .. last) end
save_tasks()
save_common()
return { role, looked, redis.call('EXISTS', K.rescore) }
