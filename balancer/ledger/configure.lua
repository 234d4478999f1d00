-- configure: what decides in the pool is another from now on. What waits is scored again, page by page, by rescore.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 settings_ver that the change was made from | 5 settings JSON | 6 order of agents | 7 what orders the queue | 8.. pairs of settings field, value
-- Returns {outcome, settings_ver}
-- Outcomes ok, already, conflict
-- Keeps   of two changes made from the same settings one counts; tasks and agents stay as they are
local seen, json, agents, order_by = int(ARGV[4], 1, 9007199254740991, 'settings_ver'), ARGV[5], ARGV[6], ARGV[7]
if agents ~= 'load' and agents ~= 'grant' and agents ~= 'draw' then bad('order: ' .. tostring(agents)) end
if not string.match(order_by or '', '^[%a_]+|[01]' .. string.rep('|[%d.e+-]+', 4) .. '$') then bad('order_by: ' .. tostring(order_by)) end
local stored = { 'HSET', K.settings, 'json', json, 'order_by', order_by }
for i = 8, #ARGV, 2 do
  int(ARGV[i + 1], 0, 1000000000, ARGV[i])
  stored[#stored + 1], stored[#stored + 2] = ARGV[i], ARGV[i + 1]
end

local known = redis.call('HMGET', K.settings, 'json', 'order_by')
if known[1] == json then return { 'already', META[8] } end
if tonumber(META[8]) ~= seen then return { 'conflict', META[8] } end
redis.call('DEL', K.settings)
redis.call(unpack(stored))
-- Turns are kept on: whoever goes back to them finds them right.
if agents ~= ORDER then redis.call('HSET', KEYS[1], 'order', agents == 'load' and 'load|turns' or agents) end
local ver = str(seen + 1)
redis.call('HSET', KEYS[1], 'settings_ver', ver)
if order_by ~= known[2] then
  local until_us = str(math.max(now_us, clock_us))
  for _, role in ipairs(redis.call('SMEMBERS', K.roles)) do redis.call('HSET', K.rescore, role, until_us .. '|0|') end
end
event('configured', '-', '-', ver)
WAKE = true
save_common()
return { 'ok', ver }
