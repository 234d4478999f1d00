-- audit_agents: the facts of some agents at one instant. Reads only.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | agent ids
-- Returns per agent: {id, {agent hash}, {held hash}, {inbox: nonces, "cancel " before those of cancels}, rank or '', turn or '', alive or '', gone or ''}
-- Outcomes -
-- Keeps   at most 100 agents
if #ARGV < 4 or #ARGV > 103 then bad('agents: from 1 to 100') end
local out = {}
for i = 4, #ARGV do
  local id, leases = ARGV[i], {}
  local hash = redis.call('HGETALL', k_agent(id))
  local class = redis.call('HGET', k_agent(id), 'class')
  for _, entry in ipairs(redis.call('XRANGE', k_inbox(id), '-', '+', 'COUNT', 1100)) do
    local said = {}
    for j = 1, #entry[2], 2 do said[entry[2][j]] = entry[2][j + 1] end
    if said.lease then leases[#leases + 1] = (said.kind and said.kind .. ' ' or '') .. said.lease end
  end
  out[#out + 1] = {
    id, hash, redis.call('HGETALL', k_held(id)), leases, class and redis.call('ZSCORE', k_free(class), id) or '',
    class and redis.call('ZSCORE', k_turn(class), id) or '',
    redis.call('ZSCORE', K.alive, id) or '', redis.call('ZSCORE', K.gone, id) or '',
  }
end
return out
