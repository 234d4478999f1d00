-- tick: notices a stopped or jumping clock and heartbeats that nobody applied, trims them, says what time alone has made due.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 grace_ms after a gap | 5 gap_ms that counts as one | 6 keep_ms of heartbeats | 7 forget_ms: after that an agent that is gone is forgotten
--      8 used_memory | 9 maxmemory (0: no limit, or not known) | 10 high_permille of it at which new work is refused
-- Returns {grace (0, 1), tries or scheduled tasks due (0, 1), leases due (0, 1), parents to release (0, 1), {agents to look at}, waiting tasks to expire (0, 1), memory full (0, 1), tasks to score again (0, 1), settings_ver}
-- Outcomes -
-- Keeps   nobody is judged by a clock that jumped: no verdict until the grace has passed; memory is full until a twentieth below the mark
-- Uses    agent
local grace_ms, gap_ms, keep_ms = int(ARGV[4], 0, 604800000, 'grace_ms'), int(ARGV[5], 0, 9007199254740991, 'gap_ms'), int(ARGV[6], 1000, 604800000, 'keep_ms')
local forget_ms = int(ARGV[7], 1000, 604800000, 'forget_ms')
local used, limit = int(ARGV[8], 0, 9007199254740991, 'used_memory'), int(ARGV[9], 0, 9007199254740991, 'maxmemory')
local high = int(ARGV[10], 1, 1000, 'high_permille')
local meta = redis.call('HMGET', KEYS[1], 'last_tick_ms', 'grace_until_ms', 'hb_mark_ms', 'memory_full')
local last_ms, grace_until_ms = tonumber(meta[1]), tonumber(meta[2])
local gap, unheard = now_ms - last_ms, now_ms - tonumber(meta[3])

-- The removal goes first: after it the rest runs even when Redis is out of memory.
redis.call('XTRIM', K.heartbeats, 'MINID', '~', str(math.max(0, now_ms - keep_ms)))
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.gone, '-inf', str(now_ms - forget_ms), 'LIMIT', 0, 20)) do forget_agent(id) end
-- After a jump backwards, heartbeats lie in the future: they count as just now.
local ahead = redis.call('ZRANGEBYSCORE', K.alive, str(now_ms + 2000), '+inf', 'LIMIT', 0, 200)
for _, id in ipairs(ahead) do
  redis.call('ZADD', K.alive, str(now_ms), id)
  redis.call('ZADD', K.agent_timers, str(now_ms), id)
  redis.call('HSET', k_agent(id), 'beat_ms', str(now_ms))
end
if last_ms > 0 and (gap > gap_ms or gap < -2000) then
  grace_until_ms = now_ms + math.max(grace_ms, math.min(math.abs(gap), 300000))
elseif grace_until_ms - now_ms > 300000 + grace_ms then
  grace_until_ms = now_ms + grace_ms
end
-- Heartbeats that could not be sent or applied (memory full, no consumer) say nothing about their agents.
if unheard > gap_ms and unheard < now_ms then grace_until_ms = math.max(grace_until_ms, now_ms + grace_ms) end
redis.call('HSET', KEYS[1], 'last_tick_ms', str(now_ms), 'grace_until_ms', str(grace_until_ms))

-- Judged from what is stored, by whichever balancer ticks: the answer does not flap between them, nor around the mark.
local was_full, permille = meta[4] ~= false, limit > 0 and 1000 * used / limit or 0
local full = permille >= high or (was_full and permille > high - 50)
if full ~= was_full then
  if full then redis.call('HSET', KEYS[1], 'memory_full', str(now_ms)) else redis.call('HDEL', KEYS[1], 'memory_full') end
  event(full and 'memory_full' or 'memory_freed', '-', '-', str(used) .. ' of ' .. str(limit))
  save_events()
end

local function due(key, upto) return #redis.call('ZRANGEBYSCORE', key, '-inf', upto, 'LIMIT', 0, 1) end
return {
  now_ms < grace_until_ms and 1 or 0, math.max(due(K.failed, str(now_us)), due(K.scheduled, str(now_us))), due(K.leases, str(now_us)), redis.call('EXISTS', K.release),
  redis.call('ZRANGEBYSCORE', K.agent_timers, '-inf', str(now_ms), 'LIMIT', 0, 200), due(K.expiry, str(now_us)), full and 1 or 0,
  redis.call('EXISTS', K.rescore), META[8],
}
