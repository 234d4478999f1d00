-- unlock: gives back the advisory drain lock, unless another drainer has it by now.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 token
-- Returns outcome
-- Outcomes released, not_ours
-- Keeps   nobody's lock but the caller's
if redis.call('GET', K.drain_lock) ~= ARGV[4] then return 'not_ours' end
redis.call('DEL', K.drain_lock)
return 'released'
