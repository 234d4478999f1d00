-- audit_tasks: the facts of some tasks at one instant. Reads only.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | task ids
-- Returns per task: {id, {task hash}, {collections that hold it}, lease record or '', open parents, when it expires or '', task of its dedup key or ''}
-- Outcomes -
-- Keeps   at most 200 tasks
if #ARGV < 4 or #ARGV > 203 then bad('tasks: from 1 to 200') end
local out = {}
for i = 4, #ARGV do
  local id = ARGV[i]
  local f = redis.call('HMGET', k_task(id), 'role', 'lane', 'agent', 'nonce', 'o')
  local homes, record, first = {}, '', ''
  for _, name in ipairs({ 'scheduled', 'blocked', 'failed', 'leases', 'completed', 'dead', 'cancelled' }) do
    if redis.call('ZSCORE', K[name], id) then homes[#homes + 1] = name end
  end
  if f[1] then
    if redis.call('ZSCORE', k_pending(f[1]), id) then homes[#homes + 1] = 'pending' end
    if redis.call('ZSCORE', k_lane(f[2]), id) then homes[#homes + 1] = 'lane' end
    if f[3] then record = redis.call('HGET', k_held(f[3]), f[4]) or '' end
    local hash = f[5] and string.match(f[5], '%x+$')
    if hash then first = redis.call('GET', k_dedup(hash)) or '' end
  end
  out[#out + 1] = { id, redis.call('HGETALL', k_task(id)), homes, record, redis.call('SCARD', k_parents(id)), redis.call('ZSCORE', K.expiry, id) or '', first }
end
return out
