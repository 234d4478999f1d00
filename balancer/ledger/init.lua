-- init: a pool comes into being, once. Stands alone: there is no pool to check yet.
-- KEYS 1 meta
-- ARGV 1 genesis | 2 schema | 3 clock (real, virtual) | 4 settings JSON | 5 order of agents (load, grant, draw) | 6 what orders the queue | 7.. pairs of settings field, value
-- Returns {outcome, genesis, schema, min_reader, clock, settings_ver, settings JSON}; only `created` writes
-- Outcomes created, exists, not_empty
-- Keeps   the settings of an existing pool, whatever this call brings
for i = 7, #ARGV, 2 do
  -- Only what can bound anything: nothing is larger than "nan".
  local n = string.match(ARGV[i + 1] or '', '^%d+$') and tonumber(ARGV[i + 1])
  if not n or n > 1000000000 then return redis.error_reply('BAD_ARG ' .. ARGV[i] .. ': ' .. tostring(ARGV[i + 1]) .. ' is not a whole number up to 1000000000') end
end
if ARGV[2] ~= string.match(ARGV[2] or '', '^%d%d?%d?$') then return redis.error_reply('BAD_ARG schema: ' .. tostring(ARGV[2])) end
local P = string.sub(KEYS[1], 1, -5)
local genesis = redis.call('HGET', KEYS[1], 'genesis')
local outcome = 'exists'
if not genesis then
  if redis.call('EXISTS', P .. 'settings', P .. 'roles', P .. 'leases', P .. 'completed') > 0 then return { 'not_empty' } end
  if not string.match(ARGV[6] or '', '^[%a_]+|[01]' .. string.rep('|[%d.e+-]+', 4) .. '$') then return redis.error_reply('BAD_ARG order_by: ' .. tostring(ARGV[6])) end
  outcome = 'created'
  redis.call('HSET', KEYS[1], 'schema', ARGV[2], 'min_reader', ARGV[2], 'genesis', ARGV[1], 'epoch', 1, 'clock', ARGV[3],
    'clock_us', 0, 'hb_mark_ms', 0, 'last_tick_ms', 0, 'grace_until_ms', 0, 'order', ARGV[5], 'settings_ver', 1)
  redis.call('HSET', P .. 'settings', 'json', ARGV[4], 'order_by', ARGV[6])
  for i = 7, #ARGV, 2 do redis.call('HSET', P .. 'settings', ARGV[i], ARGV[i + 1]) end
  for _, stream in ipairs({ 'heartbeats', 'completions' }) do
    redis.call('XGROUP', 'CREATE', P .. stream, 'balancer', '0', 'MKSTREAM')
  end
end
local meta = redis.call('HMGET', KEYS[1], 'genesis', 'schema', 'min_reader', 'clock', 'settings_ver')
return { outcome, meta[1], meta[2], meta[3], meta[4], meta[5], redis.call('HGET', P .. 'settings', 'json') }
