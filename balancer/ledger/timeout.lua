-- timeout: tries that ran past their run timeout have failed.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4-6 back-off: base_us, cap_us, draw | 7 grace_ms beyond the run timeout | 8 learning (0, 1)
-- Returns {retry, dead, cancelled, more (0, 1)}
-- Outcomes retry, dead, cancelled
-- Keeps   the agent had its grace to report the timeout itself; during a pool's grace period its report may not have been read
-- Uses    agent, waiting, task, tries, classes, gate, steps, pace
read_backoff(4)
local LEARNS = int(ARGV[8], 0, 1, 'learning') == 1
local grace_ms = int(ARGV[7], 0, 86400000, 'grace_ms')
if now_ms < tonumber(redis.call('HGET', KEYS[1], 'grace_until_ms')) then return { 0, 0, 0, 0 } end
local over = redis.call('ZRANGEBYSCORE', K.leases, '-inf', str(now_us - 1000 * grace_ms), 'LIMIT', 0, 50)
local n = { retry = 0, dead = 0, cancelled = 0 }
for _, id in ipairs(over) do
  local t = load_task(id)
  local a = LEARNS and load_paced(t.agent, t.category) or load_agent(t.agent)
  close_lease(t, a, 'revoked')
  if LEARNS and not t.cancel then note_try(a, 0) end
  remember_try(t, 'timeout')
  local outcome = t.cancel and end_cancelled(t, '0') or fail_try(t, 'timeout')
  n[outcome] = n[outcome] + 1
  if not t.cancel then event('failed', id, t.agent, 'timeout') end
end
save_paces()
save_tasks()
save_agents()
save_common()
return { n.retry, n.dead, n.cancelled, #over == 50 and 1 or 0 }
