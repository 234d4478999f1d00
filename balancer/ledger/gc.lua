-- gc: finished tasks beyond their time or their number are forgotten, the oldest first.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 retention_us | 5 how many finished tasks are kept at most
-- Returns {forgotten, more (0, 1)}
-- Outcomes -
-- Keeps   a parent is remembered until its children were told
local retention_us, most = int(ARGV[4], 0, 9007199254740991, 'retention_us'), int(ARGV[5], 0, 1000000000, 'retention_count')
local PAGE = 200

local oldest, over = {}, -most
for _, state in ipairs({ 'completed', 'dead', 'cancelled' }) do
  over = over + redis.call('ZCARD', K[state])
  local rows = redis.call('ZRANGE', K[state], 0, PAGE - 1, 'WITHSCORES')
  for i = 1, #rows, 2 do oldest[#oldest + 1] = { id = rows[i], at_us = tonumber(rows[i + 1]), state = state, place = #oldest } end
end
table.sort(oldest, function(a, b) return a.at_us < b.at_us or (a.at_us == b.at_us and a.place < b.place) end)

local function forget(id, state)
  local f = redis.call('HMGET', k_task(id), 'role', 'o')
  redis.call('ZREM', K[state], id)
  local dedup = f[2] and string.match(f[2], '|(%x+)$')
  if dedup and redis.call('GET', k_dedup(dedup)) == id then redis.call('UNLINK', k_dedup(dedup)) end
  redis.call('UNLINK', k_task(id), k_body(id), k_result(id), k_hist(id), k_parents(id), k_children(id))
  count(f[1], 'forgotten_' .. state, 1)
end

local forgotten, looked = 0, 0
for i = 1, math.min(#oldest, PAGE) do
  local one = oldest[i]
  if i > over and one.at_us > now_us - retention_us then break end
  looked = i
  if not redis.call('ZSCORE', K.release, one.id) then
    forget(one.id, one.state)
    forgotten = forgotten + 1
  end
end
save_common()
return { forgotten, looked == PAGE and forgotten > 0 and 1 or 0 }
