-- role_set: an operator holds a role's queue, lets it go on, or cancels what waits in it, page by page.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 role | 5 verb (pause, resume, purge)
--      purge: 6 state (scheduled, failed, blocked, pending) | 7 offset | 8 moment_us: tasks accepted later stay; empty is now
-- Returns {outcome}; purge: {outcome, cancelled, next offset or -1 at the end, moment_us}
-- Outcomes ok, already, unknown
-- Keeps   a paused role takes work in and hands none out; purged work is cancelled, it does not vanish
-- Uses    waiting, task
local role, verb = ARGV[4], ARGV[5]
if verb ~= 'pause' and verb ~= 'resume' and verb ~= 'purge' then bad('verb: ' .. tostring(verb)) end
if verb == 'purge' and not WAITING[ARGV[6] or ''] then bad('state: ' .. tostring(ARGV[6])) end
if redis.call('SISMEMBER', K.roles, role) == 0 then return { 'unknown', 0, -1, str(now_us) } end

if verb ~= 'purge' then
  local paused = redis.call('HEXISTS', k_role(role), 'paused') == 1
  if paused == (verb == 'pause') then return { 'already' } end
  if verb == 'pause' then
    redis.call('HSET', k_role(role), 'paused', str(now_ms))
  else
    redis.call('HDEL', k_role(role), 'paused')
    WAKE = true
  end
  event(verb == 'pause' and 'queue_paused' or 'queue_resumed', '-', '-', role)
  save_common()
  return { 'ok' }
end

local PAGE, state, offset = 200, ARGV[6], int(ARGV[7], 0, 9007199254740991, 'offset')
local moment_us = ARGV[8] == '' and math.max(now_us, clock_us) or int(ARGV[8], 0, 9007199254740991, 'moment_us')
local page = redis.call('ZRANGE', state == 'pending' and k_pending(role) or K[state], offset, offset + PAGE - 1)
local cancelled = 0
for _, id in ipairs(page) do
  local f = redis.call('HMGET', k_task(id), 'role', 'accepted_us')
  if f[1] == role and tonumber(f[2]) <= moment_us then
    local t = load_task(id)
    stop_waiting(t)
    finish(t, 'cancelled', 'purged', '0')
    event('cancelled', id, '-', 'purged')
    cancelled = cancelled + 1
  end
end
save_tasks()
save_common()
return { 'ok', cancelled, #page < PAGE and -1 or offset + PAGE - cancelled, str(moment_us) }
