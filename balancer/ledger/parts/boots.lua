-- Boots: which of two heartbeats is newer, what a restarted agent goes on with, whether there is room for its role.
local function newer(entry, than)
  local ms, seq = string.match(entry, '^(%d+)%-(%d+)$')
  local ms2, seq2 = string.match(than, '^(%d+)%-(%d+)$')
  ms, seq, ms2, seq2 = tonumber(ms), tonumber(seq), tonumber(ms2), tonumber(seq2)
  return ms > ms2 or (ms == ms2 and seq > seq2)
end

local function enter_role(role)
  if redis.call('SADD', K.roles, role) == 0 or redis.call('SCARD', K.roles) <= 256 then return true end
  redis.call('SREM', K.roles, role)
  return false
end

local function is_retired(a) return string.find(a.admin, '^retired') ~= nil end

-- Whoever was retired comes back as somebody new.
local function unretire(a)
  untell(a)
  a.admin = ''
end

-- Why a heartbeat of a known agent changes nothing; nil where it counts.
local function refusal(b, a, entry, seq, boots)
  if not newer(b.entry, entry) then return 'stale' end
  if a.boot == b.boot and b.seq <= seq then return 'stale' end
  if a.boot ~= b.boot and string.find(boots, b.boot, 1, true) then return 'stale' end
  if a.boot ~= b.boot and not b.start and a.state == 'live' then return 'other_boot' end
  if a.boot == b.boot and is_retired(a) then return 'retired' end
  -- What the one before it held at its deadline goes back first, uncounted. The new boot says start again.
  if a.boot ~= b.boot and a.n > 0 and must_retire(a) then return 'retired' end
  if a.role ~= b.role and not enter_role(b.role) then return 'too_many_roles' end
  return nil
end

-- When to look at an agent that is not heard again, in ms from its heartbeat; once the numbers of its packed declaration
-- "ttl_ms|interval_ms|type" are checked.
local function patience_of(d)
  local ttl_ms, interval_ms = string.match(d, '^([^|]*)|([^|]*)|')
  return late_ms(int(ttl_ms, 0, 604800000, 'ttl_ms'), int(interval_ms, 0, 86400000, 'interval_ms'))
end

-- The leases that a restarted agent resumes count one loss each; the others are orphaned until reclaim takes them back. One whose
-- next loss would be its last is not resumed beside others: it goes alone next time. Whether one that the boot names is among those:
-- its process runs it by now, and until the next heartbeat nobody knows whether it has survived that.
local function rebind(b, a, max_losses)
  local held, refused = redis.call('HGETALL', k_held(a.id)), false
  for i = 1, #held, 2 do
    local nonce, record = held[i], held[i + 1]
    local task_id, orphaned = string.match(record, '^%S+'), is_orphaned(record)
    local f = redis.call('HMGET', k_task(task_id), 'losses', 'grant')
    local losses = tonumber(f[1] or 0) + 1
    if b.held[nonce] and losses < max_losses and not is_last_life(losses, max_losses) then
      if orphaned then redis.call('HSET', k_held(a.id), nonce, (string.gsub(record, ' orphaned', '', 1))) end
      redis.call('HSET', k_task(task_id), 'losses', losses)
      remember_try({ id = task_id, agent = a.id, granted_us = tonumber(string.match(f[2], '^%d+')) }, 'resumed')
    else
      refused = refused or b.held[nonce]
      if not orphaned then redis.call('HSET', k_held(a.id), nonce, record .. ' orphaned') end
    end
  end
  return refused
end

-- An agent that holds a task which must be alone has more units now: it takes them all.
local function widen_alone(a, max)
  local held = redis.call('HGETALL', k_held(a.id))
  local task_id, rest = string.match(held[2], '^(%S+) %d+( .*)$')
  if not is_alone(redis.call('HGET', k_task(task_id), 'lane')) then return end
  redis.call('HSET', k_held(a.id), held[1], task_id .. ' ' .. max .. rest)
  a.used = max
end
