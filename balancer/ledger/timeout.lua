-- timeout: tries that ran past their run timeout have failed.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 retry_delay_us | 5 grace_ms beyond the run timeout
-- Returns {retry, dead, more (0, 1)}
-- Outcomes retry, dead
-- Keeps   the agent had its grace to report the timeout itself; during a pool's grace period its report may not have been read
-- Uses    agent, waiting, task
local retry_delay_us, grace_ms = int(ARGV[4], 0, 86400000000, 'retry_delay_us'), int(ARGV[5], 0, 86400000, 'grace_ms')
if now_ms < tonumber(redis.call('HGET', KEYS[1], 'grace_until_ms')) then return { 0, 0, 0 } end
local over = redis.call('ZRANGEBYSCORE', K.leases, '-inf', str(now_us - 1000 * grace_ms), 'LIMIT', 0, 100)
local n = { retry = 0, dead = 0 }
for _, id in ipairs(over) do
  local t = load_task(id)
  close_lease(t, load_agent(t.agent), 'revoked')
  local outcome = fail_try(t, 'timeout', retry_delay_us)
  n[outcome] = n[outcome] + 1
  event('failed', id, t.agent, 'timeout')
end
save_tasks()
save_agents()
save_common()
return { n.retry, n.dead, #over == 100 and 1 or 0 }
