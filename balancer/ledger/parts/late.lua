-- Late: agents that have been silent for too long to be given anything, long before they are lost. Twin of core/health.py.
local LEAST_HEALTH
-- From which silence on, in ms, an agent's health is below what the pool asks for; its TTL where it stays healthy enough until then.
local function late_ms(ttl_ms, interval_ms)
  LEAST_HEALTH = LEAST_HEALTH or tonumber(redis.call('HGET', K.settings, 'min_health') or 5000)
  local is_long = ttl_ms >= 900000
  local late = is_long and 60000 or 1.5 * interval_ms
  if LEAST_HEALTH <= 8000 then late = math.max(late, is_long and 300000 or ttl_ms * 2 / 3) end
  if LEAST_HEALTH <= 5000 then late = math.max(late, is_long and 900000 or ttl_ms) end
  if LEAST_HEALTH <= 2000 then late = ttl_ms end
  return math.min(math.ceil(late), ttl_ms)
end
