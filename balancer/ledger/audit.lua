-- audit: the totals of a pool at one instant. Reads only; balancer/core/invariants.py judges.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us
-- Returns {last event id, {collection, size, ...}, {pool counters}, {{role, {counters}, pending, free units, units that accept work}...}}
-- Outcomes -
-- Keeps   one instant: nothing can move between two of these numbers
local sizes, roles = {}, {}
for _, name in ipairs({ 'scheduled', 'expiry', 'blocked', 'failed', 'leases', 'completed', 'dead', 'cancelled', 'release', 'alive', 'gone' }) do
  sizes[#sizes + 1] = name
  sizes[#sizes + 1] = redis.call('ZCARD', K[name])
end
local function sum(key)
  local units, classes = 0, redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 2, #classes, 2 do units = units + tonumber(classes[i]) end
  return units
end
for _, role in ipairs(redis.call('SMEMBERS', K.roles)) do
  roles[#roles + 1] = { role, redis.call('HGETALL', k_role(role)), redis.call('ZCARD', k_pending(role)), sum(k_fc(role)), sum(k_capacity(role)) }
end
local last = '0-0'
if redis.call('EXISTS', K.events) == 1 then
  local info = redis.call('XINFO', 'STREAM', K.events)
  for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end
end
return { last, sizes, redis.call('HGETALL', K.pool), roles }
