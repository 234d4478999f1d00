-- recount: one agent's counters are counted again from its open leases; a difference is mended and told.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 agent
-- Returns {outcome, used before, used, n before, n}
-- Outcomes exact, mended, unknown
-- Keeps   the leases are the truth; sums of class, role and pool follow by the difference
-- Uses    agent
local a = load_agent(ARGV[4])
if not a then return { 'unknown', 0, 0, 0, 0 } end
local used, n = 0, 0
for _, record in ipairs(redis.call('HVALS', k_held(a.id))) do
  used = used + tonumber(string.match(record, '^%S+ (%d+)'))
  n = n + 1
end
local before = { a.used, a.n }
local outcome = used == a.used and n == a.n and 'exact' or 'mended'
a.used, a.n = used, n
if outcome == 'mended' then event('recounted', '-', a.id, before[1] .. ' ' .. used) end
save_agents()
save_common()
return { outcome, before[1], used, before[2], n }
