-- Boots: which of two heartbeats is newer, what a restarted agent goes on with, whether there is room for its role.
local function newer(entry, than)
  local ms, seq = string.match(entry, '^(%d+)%-(%d+)$')
  local ms2, seq2 = string.match(than, '^(%d+)%-(%d+)$')
  ms, seq, ms2, seq2 = tonumber(ms), tonumber(seq), tonumber(ms2), tonumber(seq2)
  return ms > ms2 or (ms == ms2 and seq > seq2)
end

-- The leases that a restarted agent resumes are bound to its new boot and count one loss; reclaim takes the rest.
local function rebind(b, a, max_losses)
  local held = redis.call('HGETALL', k_held(a.id))
  for i = 1, #held, 2 do
    local task_id, facts = string.match(held[i + 1], '^(%S+)( .* )%S+$')
    local losses = tonumber(redis.call('HGET', k_task(task_id), 'losses') or 0) + 1
    if b.held[held[i]] and losses < max_losses then
      redis.call('HSET', k_held(a.id), held[i], task_id .. facts .. b.boot)
      redis.call('HSET', k_task(task_id), 'losses', losses)
    end
  end
end

local function enter_role(role)
  if redis.call('SADD', K.roles, role) == 0 or redis.call('SCARD', K.roles) <= 256 then return true end
  redis.call('SREM', K.roles, role)
  return false
end
